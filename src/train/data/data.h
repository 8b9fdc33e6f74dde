/* data.h: training data: from files of examples to tokens that say which of them are learned.
 *
 * Records of many formats (JSONL, JSON arrays, texts) are read, put through the model's chat template, tokenised and
 * masked; the result is a dataset: examples with weights, tasks and domains, split into parts, told in statistics,
 * saved to a file and loaded from one. A plan says which examples make which batch of an epoch. Knows nothing of
 * losses or gradients: a batch is arrays of tokens, targets and weights.
 *
 * A dataset is immutable after open and may be read by any number of threads; it keeps nothing of the model.
 */
#ifndef GRAFT_TRAIN_DATA_H
#define GRAFT_TRAIN_DATA_H

#include "base/base.h"
#include "model/model.h"

#include <graft/model.h>

/* ---- what is wanted ----------------------------------------------------------------------- */

enum data_loss { DATA_LOSS_AUTO, DATA_LOSS_ASSISTANT, DATA_LOSS_COMPLETION, DATA_LOSS_ALL };

/* Where examples come from: X(name, text). The order is that of statistics. */
#define DATA_FORMAT_LIST(X)                                                                        \
    X(MESSAGES, "messages")                                                                        \
    X(PAIR, "prompt/completion")                                                                   \
    X(TEXT, "text")                                                                                \
    X(ALPACA, "alpaca")                                                                            \
    X(SHAREGPT, "sharegpt")                                                                        \
    X(ANTHROPIC, "anthropic")                                                                      \
    X(LABEL, "text/label")                                                                         \
    X(FILE, "text file")
enum data_format {
#define DATA_FORMAT_ENUM(name, text) DATA_FORMAT_##name,
    DATA_FORMAT_LIST(DATA_FORMAT_ENUM)
#undef DATA_FORMAT_ENUM
        DATA_FORMATS
};
const char *data_format_name(enum data_format format);
const char *data_loss_name(enum data_loss loss); /* "assistant"; "auto" */

/* What data has to know of the model; all of it borrowed until dataset_open returns. */
struct data_model {
    const struct tokenizer *tokenizer; /* never NULL */
    const struct chat_template *chat;  /* NULL: none */
    const char *chat_source; /* its text, for the identity of a saved dataset; NULL: none */
    int n_vocab, n_ctx;
    int n_labels;              /* classes of a classifier; 0: a language model */
    const char *const *labels; /* [n_labels] their names, or NULL */
};
/* Fills `out` from an open model (labels and the rest borrowed from it). NOT_FOUND: it has no tokenizer. */
graft_status data_model_of(const struct model *model, struct data_model *out, graft_error *error);

/* What is made of "reward" and "session", and of a "quality" that is missing. Saved datasets keep neither: they are
 * UNSUPPORTED unless IGNORED. */
enum data_verdicts {
    DATA_VERDICTS_IGNORED,
    DATA_VERDICTS_FEEDBACK, /* a record has "quality" or "reward"; with both or none it is dropped */
    DATA_VERDICTS_ANSWERS   /* a record with "reward" is dropped: answers to measure by are right */
};

struct data_options {
    enum data_loss loss;    /* AUTO: assistant for chats, completion for pairs, all for texts */
    int max_len;            /* tokens that an example feeds to the model; 0: min(2048, n_ctx) */
    double min_quality;     /* examples below are left out; 0: none */
    const char *valid_path; /* a file for validation instead of a split; NULL: none */
    double valid_share;     /* of the records that no file gives a part, in [0, 1) */
    uint64_t seed;          /* of the split */
    bool raw;               /* pairs and instructions as plain text, not as a chat */
    const char *prompt_key, *completion_key, *text_key; /* names of members; NULL: the known ones */
    const char *chat_template; /* a file with one, or "chatml", "plain"; NULL: the model's */
    enum data_verdicts verdicts;
    graft_progress_fn progress; /* NULL: none; units: bytes of the sources */
    void *progress_user;
};

/* ---- the dataset -------------------------------------------------------------------------- */

enum data_part { DATA_TRAIN, DATA_VALID, DATA_TEST, DATA_PARTS };

/* One sequence. The model is fed tokens[0..n_tok); what follows token t is tokens[t + 1] (of a classifier's example
 * tokens[n_tok] is the class), and learned[t] says whether that is trained. */
struct data_example {
    const graft_token_id *tokens; /* [n_tok + 1] */
    const uint8_t *learned;       /* [n_tok] 0 or 1 */
    int n_tok, n_learned;         /* n_learned ≥ 1 */
    float weight;                 /* quality · weight; > 0 */
    int task, domain, session;    /* into dataset_name; -1: none. session: if verdicts are read */
    bool rewarded;                /* likewise: */
    float reward;
    int file;       /* into dataset_file */
    int64_t line;   /* where its record begins, from 1 */
    int64_t record; /* its number; the examples of one record are never split apart */
    enum data_format format;
    bool truncated;
};

/* What happened to a record that is not an example as it stands. `fix` says what to do about it. */
enum data_issue_kind { DATA_DROPPED, DATA_TRUNCATED, DATA_ISSUE_KINDS };
struct data_issue {
    enum data_issue_kind kind;
    int file;
    int64_t line;
    const char *reason, *fix;
};

enum { DATA_BUCKETS = 16 }; /* of the histogram: equal shares of 0..longest */
struct data_stats {
    int64_t records;               /* read */
    int64_t examples[DATA_PARTS];  /* that came of them */
    int64_t tokens[DATA_PARTS];    /* fed */
    int64_t learned[DATA_PARTS];   /* trained */
    int64_t formats[DATA_FORMATS]; /* records kept, by format */
    int64_t dropped, truncated;    /* records; examples */
    int64_t below_quality;         /* of the dropped: by min_quality */
    int64_t divided;               /* conversations that became several examples */
    int64_t reopened;              /* answers whose opening the template writes in two ways */
    int64_t tokens_cut;            /* by truncation */
    int longest, longest_file;     /* n_tok, before truncation */
    int64_t longest_line;
    int64_t histogram[DATA_BUCKETS]; /* examples by n_tok */
    int bucket; /* width of one: bucket i holds i·bucket < n_tok ≤ (i+1)·bucket */
};
struct data_group { /* of a task or a domain */
    const char *name;
    int64_t examples, learned;
};

struct dataset;
/* Reads `path`: a file (.jsonl, .json: records; .txt: one text, cut into windows; a saved dataset) or a directory
 * with train, valid and test files of those kinds. Records that cannot be used are issues, not errors; FORMAT: a saved
 * dataset is damaged; INVALID_ARGUMENT: it was made for another tokenizer or with other options, or an option is out of
 * range; CANCELLED: progress said so. A dataset may come out empty. */
graft_status dataset_open(struct mem *mem, const struct data_model *model, const char *path,
                          const struct data_options *options, struct dataset **out,
                          graft_error *error);
/* The same of records in memory; `name` stands for the file. */
graft_status dataset_read(struct mem *mem, const struct data_model *model, const char *name,
                          const char *bytes, size_t size, const struct data_options *options,
                          struct dataset **out, graft_error *error);
void dataset_close(struct dataset **dataset);

int64_t dataset_count(const struct dataset *d, enum data_part part);
/* Example `index` of a part, in the order of the files. Valid as long as the dataset. */
struct data_example dataset_example(const struct dataset *d, enum data_part part, int64_t index);
/* The number of that example across all parts: a name for it that no split changes. */
int64_t dataset_number(const struct dataset *d, enum data_part part, int64_t index);
const struct data_stats *dataset_stats(const struct dataset *d);
enum data_loss dataset_loss(const struct dataset *d); /* as asked for */
/* The chat template: "model", or the name or file that was asked for; "plain" where the model has none. */
const char *dataset_template(const struct dataset *d);
int dataset_max_len(const struct dataset *d);
const char *dataset_file(const struct dataset *d, int file); /* NULL: out of range */
const char *dataset_name(const struct dataset *d,
                         int name); /* of a task or domain; NULL likewise */
/* The first issues (DATA_ISSUES_KEPT at most) in the order in which they were found; NULL: out of range. */
enum { DATA_ISSUES_KEPT = 100000 };
int64_t dataset_issues(const struct dataset *d);
const struct data_issue *dataset_issue(const struct dataset *d, int64_t index);
/* Tasks (or domains) by name, with what the training part has of each; false: there are no more. */
bool dataset_task(const struct dataset *d, int index, struct data_group *out);
bool dataset_domain(const struct dataset *d, int index, struct data_group *out);
/* Names the content: a digest over all examples and their parts, for checkpoints. */
graft_status dataset_digest(const struct dataset *d, uint8_t out[32], graft_error *error);
/* Writes it so that dataset_open reads it back without the sources; the file appears whole or not at all. */
graft_status dataset_save(const struct dataset *d, const char *path, graft_error *error);

/* ---- batches ------------------------------------------------------------------------------ */

/* Which examples make which batch of an epoch: a function of (dataset, part, options), and of nothing else. A row is
 * one example or, packed, as many as fit into max_len tokens; a batch is `rows` rows (the last of an epoch may have
 * fewer). Examples of a row stay sequences of their own. */
struct data_plan_options {
    int rows;     /* of a batch, ≥ 1 */
    bool pack;    /* fill rows up: best fit, the longest example first */
    bool shuffle; /* by (seed, epoch); false: in the order of the files */
    uint64_t seed, epoch;
};
struct data_plan {
    struct mem *mem;
    const struct dataset *dataset;
    enum data_part part;
    int64_t *order;  /* [n_examples] indices into the part, row by row */
    int64_t *starts; /* [n_rows + 1] into order */
    int64_t n_examples, n_rows, n_batches;
    int rows;
    int64_t most_tok, most_examples; /* of any batch */
};
/* The number of rows and batches is the same for every epoch. */
graft_status data_plan_make(struct mem *mem, const struct dataset *d, enum data_part part,
                            const struct data_plan_options *options, struct data_plan *out,
                            graft_error *error);
void data_plan_free(struct data_plan *plan); /* a zeroed one is allowed */

/* Arrays of one batch, examples one behind the other: as train_batch has them. */
struct data_batch {
    int n_tok, n_examples;
    graft_token_id *tokens; /* [n_tok] */
    int32_t *targets;       /* [n_tok] */
    float *weights;         /* [n_tok] 0: not trained */
    int *starts;            /* [n_examples + 1] */
    uint64_t *examples;     /* [n_examples] dataset_number */
    double weight;          /* Σ weights */
    int64_t n_learned;
    struct mem *mem;
    int64_t tok_capacity, example_capacity;
};
/* Room for any batch of plans that are no larger; LIMIT: more than an int counts. */
graft_status data_batch_open(struct mem *mem, int64_t most_tok, int64_t most_examples,
                             struct data_batch *out, graft_error *error);
void data_batch_close(struct data_batch *batch);
/* As it was opened; nothing of what was in it is left in its memory. */
void data_batch_wipe(struct data_batch *batch);
/* Fills it with batch `index` of the plan; allocates nothing. */
void data_batch_fill(struct data_batch *batch, const struct data_plan *plan, int64_t index);

#endif
