/* graft/data.h: training data: read, put through the model's chat template, tokenised, and marked with what is learned.
 *
 * A dataset is made for one model from a file or a folder (docs/training-data.md has the formats), or loaded from a file
 * that an earlier one was saved to. It keeps nothing of the model but its runtime, is immutable, and may be read by any
 * number of threads. Close it before the runtime.
 */
#ifndef GRAFT_PUBLIC_DATA_H
#define GRAFT_PUBLIC_DATA_H

#include <graft/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_dataset graft_dataset;

/* What is learned of an example. */
typedef enum graft_loss {
    GRAFT_LOSS_AUTO = 0,       /* ASSISTANT of chats, COMPLETION of pairs, ALL of texts */
    GRAFT_LOSS_ASSISTANT = 1,  /* all answers of the assistant, with the end of each */
    GRAFT_LOSS_COMPLETION = 2, /* the completion; of a chat the last answer */
    GRAFT_LOSS_ALL = 3         /* every token */
} graft_loss;

typedef enum graft_part {
    GRAFT_PART_TRAIN = 0,
    GRAFT_PART_VALID = 1,
    GRAFT_PART_TEST = 2
} graft_part;

typedef struct graft_dataset_options {
    size_t struct_size;
    graft_loss loss;
    /* Tokens of an example that are fed to the model, 2 to its positions: longer ones are cut at their end. 0 (default):
     * the smaller of 2048 and the model's positions; of a saved dataset, what it was made with. */
    int max_seq_length;
    double min_quality; /* examples of less "quality" are left out; 0 (default) to 1 */
    const char
        *valid; /* a file for validation; NULL (default): a folder's valid.jsonl, else a split */
    double
        valid_share; /* of the records that is split off for validation; default 0.2, 0: none, below 1 */
    uint64_t seed; /* of the split; default 0 */
    bool
        raw; /* prompts, completions and instructions as plain text; false (default): as a chat, where the model has a template */
    /* Names of the members to take; NULL (default): the well-known ones. */
    const char *prompt_key, *completion_key, *text_key;
    /* A file with a Jinja template, or "chatml" or "plain"; NULL (default): the model's own, or "plain" for conversations
     * where it has none. */
    const char *chat_template;
    graft_progress_fn progress; /* NULL (default): none; units: bytes of the sources */
    void *progress_user;
} graft_dataset_options;

GRAFT_API void graft_dataset_options_init(graft_dataset_options *options, size_t struct_size);
static inline graft_dataset_options graft_dataset_options_default(void)
{
    graft_dataset_options options;
    graft_dataset_options_init(&options, sizeof options);
    return options;
}

/* Reads a file (JSONL or one JSON array; .txt: one text, cut into windows; a saved dataset) or a folder with
 * train.jsonl, valid.jsonl and test.jsonl (or .json, .txt). Records that cannot be used are no errors but issues, so a dataset may
 * be empty. NOT_FOUND, UNSUPPORTED (another container) and FORMAT (a damaged saved dataset) name the file;
 * INVALID_ARGUMENT: an option is out of range, or a saved dataset was made for another tokenizer or with other options;
 * CANCELLED. Any thread. The dataset is the caller's to close. */
GRAFT_API graft_status graft_dataset_open(const graft_model *model, const char *path,
                                          const graft_dataset_options *options, graft_dataset **out,
                                          graft_error *error);
GRAFT_API void graft_dataset_close(graft_dataset **dataset);

/* What is in it, as one JSON object (docs/training-data.md has the members). NUL-terminated; release it with
 * graft_free. */
GRAFT_API graft_status graft_dataset_report(const graft_dataset *dataset, char **json,
                                            graft_error *error);

/* Examples of a part; 0 for NULL or a part that is none. */
GRAFT_API int64_t graft_dataset_count(const graft_dataset *dataset, graft_part part);

/* One sequence; all pointers belong to the dataset. tokens[0..n_tokens) are fed, and tokens[t + 1] follows token t, so
 * there is one more of them (of a classifier the last one is the class). */
typedef struct graft_example {
    const graft_token_id *tokens; /* [n_tokens + 1] */
    const uint8_t *learned;       /* [n_tokens] 1: what follows token t is learned */
    int n_tokens, n_learned;
    float weight;              /* its quality times its weight */
    const char *format;        /* "messages", "prompt/completion", … */
    const char *task, *domain; /* "": none */
    const char *file;
    int64_t line; /* of the record, from 1 */
    bool truncated;
} graft_example;
/* INVALID_ARGUMENT: there is no such example. */
GRAFT_API graft_status graft_dataset_example(const graft_dataset *dataset, graft_part part,
                                             int64_t index, graft_example *out, graft_error *error);

/* A record that was dropped, or an example that was cut: why, and what helps. Texts belong to the dataset. */
typedef struct graft_data_issue {
    bool dropped; /* false: truncated */
    const char *file, *reason, *fix;
    int64_t line;
} graft_data_issue;
/* How many are kept (the first 100,000; the report counts all). */
GRAFT_API int64_t graft_dataset_issues(const graft_dataset *dataset);
/* INVALID_ARGUMENT: there is no such issue. */
GRAFT_API graft_status graft_dataset_issue(const graft_dataset *dataset, int64_t index,
                                           graft_data_issue *out, graft_error *error);

/* Writes it to a file that graft_dataset_open reads without the sources, tokenised as it is. The file appears whole or not
 * at all, and replaces one that exists. */
GRAFT_API graft_status graft_dataset_save(const graft_dataset *dataset, const char *path,
                                          graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
