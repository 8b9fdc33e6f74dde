/* data_internal.h: what a record goes through on its way to examples, and how a dataset keeps them.
 *
 * bytes → records.c (where each begins and ends) → formats.c, messages.c (what it says) → chat.c, sheets.c (a text with
 * the spans to be learned) → encode.c (tokens with marks) → build.c (examples, issues) → dataset.c (parts). The first
 * four are pure. Internal to this folder.
 */
#ifndef GRAFT_TRAIN_DATA_INTERNAL_H
#define GRAFT_TRAIN_DATA_INTERNAL_H

#include "train/data/data.h"

/* ---- why a record is left out ------------------------------------------------------------- */

/* FORMAT means that the record (or one example of it) is dropped, and why; any other failure ends the reading. */
struct why {
    graft_error error;
    char fix[240];
};
/* Returns FORMAT. Message: one line without the place. */
graft_status why_drop(struct why *why, const char *fix, const char *format, ...) PRINTF_LIKE(3, 4);
graft_status why_no_memory(struct why *why);

struct text {
    const char *data; /* not terminated */
    size_t size;
};

/* ---- records.c: where records begin and end ------------------------------------------------ */

enum { RECORD_BYTES = 64 << 20 };
struct records {
    struct text bytes;
    size_t at;
    int64_t line; /* of the byte at `at`, from 1 */
    bool array, ended;
};
void records_begin(struct records *r, const char *bytes, size_t size);
/* The next record's bytes and line. *broken is NULL or says what is wrong with the file there (the record is then no
 * record). False: there are no more. */
bool records_next(struct records *r, struct text *out, int64_t *line, const char **broken);

/* ---- formats.c, messages.c: what a record says ---------------------------------------------- */

/* How records are to be read; NULL keys: the known ones. */
struct record_rules {
    const char *prompt_key, *completion_key, *text_key;
    enum data_verdicts verdicts;
    bool as_chat; /* pairs and instructions become conversations */
    int n_labels; /* > 0: texts with classes, and nothing else */
    const char *const *labels;
};
/* A conversation, or a prompt and what completes it (a text alone has no prompt), or a text with its class. */
struct record {
    enum data_format format;
    bool chat;
    json_t *root; /* what texts are borrowed from */
    json_t *messages,
        *tools;   /* chat: {role, content, …} as templates want them; tools may be NULL */
    size_t given; /* messages before it are not learned */
    struct text prompt, completion;
    struct buf built; /* a prompt that is made of several members */
    int label;
    double quality, weight;
    struct text task, domain; /* size 0: none */
    bool rewarded;            /* these if verdicts are read */
    double reward;
    struct text session;
};
/* Reads the JSON of one record. Whatever happens, record_free. */
graft_status record_read(struct mem *mem, const struct record_rules *rules, const char *text,
                         size_t size, struct record *out, struct why *why);
void record_free(struct record *r);

/* Appends one message of a file to a conversation; `number` names it, from 1. */
graft_status message_add(json_t *conversation, const json_t *message, size_t number,
                         struct why *why);
/* Appends {role, content}; nothing for an empty content when `optional`. */
graft_status message_add_text(json_t *conversation, const char *role, struct text content,
                              bool optional, struct why *why);
/* The text of a content: a string, or typed blocks of which all are text. */
graft_status content_text(const json_t *content, struct buf *out, size_t number, struct why *why);
/* Tools as templates want them (a new reference, NULL: none): a list, a list as JSON text, or Anthropic's. */
graft_status tools_read(const json_t *tools, json_t **out, struct why *why);

/* ---- chat.c, sheets.c: a text and what of it is learned -------------------------------------- */

enum { CHAT_MESSAGES = 4096, CHAT_BYTES = 64 << 20 /* rendered for one conversation */ };

struct span {
    size_t begin, end;
};
struct sheet {
    const char *text;
    size_t size;
    const struct span *spans; /* ascending, apart */
    size_t n_spans;
    bool bos;   /* put BOS first if the text does not begin with it */
    bool close; /* learn EOS behind the last span unless that ends with the end of a turn */
    int label;  /* ≥ 0: what is learned is this class, at the last token */
};
/* What makes sheets: constant while a dataset is read. */
struct sheet_maker {
    struct mem *mem;
    const struct tokenizer *tokenizer;
    const struct chat_template *chat; /* of conversations; never NULL */
    enum data_loss loss;
    bool adds_bos;     /* the template leaves BOS to the tokenizer */
    struct text *ends; /* [n_ends] tokens that end a turn */
    size_t n_ends;
};
graft_status sheet_maker_open(struct sheet_maker *m, struct mem *mem, const struct tokenizer *t,
                              graft_error *error);
void sheet_maker_close(struct sheet_maker *m);
typedef graft_status (*sheet_fn)(void *user, const struct sheet *sheet, struct why *why);
/* Hands the sheets of a record to `emit`, one after the other; a failure of `emit` ends it. *reopened counts answers
 * that stand behind another opening than the template writes. */
graft_status sheets_make(const struct sheet_maker *m, const struct record *r, sheet_fn emit,
                         void *user, int64_t *reopened, struct why *why);
graft_status chat_sheets(const struct sheet_maker *m, const struct record *r, sheet_fn emit,
                         void *user, int64_t *reopened, struct why *why);
/* Where the answer in text[begin, limit) ends: behind the token that ends its turn; 0: no such token is in it. */
size_t turn_end(const struct sheet_maker *m, const char *text, size_t begin, size_t limit);

/* ---- encode.c: tokens with marks ------------------------------------------------------------- */

struct encoded {
    struct tokens ids;
    struct buf learned; /* a byte per id: whether it is learned when it is the next one */
};
void encoded_init(struct encoded *e, struct mem *mem);
void encoded_clear(struct encoded *e);
void encoded_free(struct encoded *e);
graft_status sheet_encode(const struct sheet_maker *m, const struct sheet *sheet,
                          struct encoded *out, struct why *why);

/* ---- build.c, dataset.c: what is kept -------------------------------------------------------- */

enum { PART_OPEN = DATA_PARTS /* to be split */ };

/* As it is kept in memory and in a saved dataset. */
struct stored {
    uint64_t at; /* of its first token in ids and learned, which hold n_tok + 1 for it */
    int64_t line, record;
    int32_t n_tok, n_learned;
    float weight;
    int32_t task, domain, file;
    uint8_t part, format, truncated;
    uint8_t rewarded; /* these are 0 in a saved dataset: */
    int32_t session;  /* its name + 1 */
    float reward;
    uint8_t zero[4];
};

struct names { /* strings by number */
    struct arena *arena;
    struct str_map map;
    char **text;
    int32_t count, capacity;
};
bool names_find(struct names *n, struct text text, int32_t *out); /* adds it; false: no memory */

enum { DATA_NAMES = 1 << 16, DATA_FILES = 1 << 10 };

struct dataset {
    struct mem *mem;
    struct arena arena;
    struct data_options options;     /* as they count: max_len, loss; strings in the arena */
    uint8_t tokenizer[32], chat[32]; /* digests of what it was made with */
    const char *template;            /* its name */
    const char *made;                /* the options it was made with, as JSON */
    int n_vocab, n_labels, n_ctx;
    const graft_token_id *ids; /* [n_ids] */
    const uint8_t *learned;    /* [n_ids] */
    const struct stored *examples;
    int64_t n_ids, n_examples;
    struct tokens own_ids; /* where they are when they were read… */
    struct buf own_learned;
    struct stored *own_examples;
    int64_t capacity;
    bool loaded;
    struct file_map map;        /* …and when it was loaded */
    int64_t *index[DATA_PARTS]; /* [count] into examples */
    int64_t count[DATA_PARTS];
    struct names files, names; /* names: of tasks and domains */
    struct data_issue *issues;
    int64_t n_issues, issue_capacity;
    struct data_stats stats;
    struct data_group *groups[2]; /* tasks, domains; by name */
    int n_groups[2];
};

/* Reads one source into the dataset; `part` PART_OPEN: to be split. */
struct builder {
    struct dataset *d;
    const struct data_model *model;
    struct sheet_maker maker;
    struct record_rules rules;
    struct encoded scratch;
    int file, part;
    int64_t line, record;
    const struct record *now;
    bool kept;            /* the record at hand gave an example */
    int64_t made;         /* examples of it */
    uint64_t done, total; /* bytes, for progress */
};
graft_status build_file(struct builder *b, const char *path, int part, graft_error *error);
graft_status build_memory(struct builder *b, const char *name, struct text bytes,
                          graft_error *error);
/* The bytes of one source: the part of build_file that fuzzing drives. */
graft_status build_records(struct builder *b, const char *bytes, size_t size, graft_error *error);
graft_status build_text(struct builder *b, const char *bytes, size_t size, graft_error *error);
graft_status builder_open(struct builder *b, struct dataset *d, const struct data_model *model,
                          graft_error *error);
void builder_close(struct builder *b);

graft_status dataset_new(struct mem *mem, struct dataset **out, graft_error *error);
/* Fills options in, and the digests. */
graft_status dataset_bind(struct dataset *d, const struct data_model *model,
                          const struct data_options *options, const char *name, struct text chat,
                          graft_error *error);
graft_status dataset_finish(struct dataset *d, graft_error *error); /* parts, statistics */
graft_status issue_add(struct dataset *d, enum data_issue_kind kind, int file, int64_t line,
                       const struct why *why, graft_error *error);

/* split.c */
graft_status dataset_split(struct dataset *d, graft_error *error);

/* digest.c */
graft_status tokenizer_digest(struct mem *mem, const struct tokenizer *t, uint8_t out[32],
                              graft_error *error);

/* saved.c: keeps the options; a file that begins so is a saved dataset. */
graft_status recipe_write(struct dataset *d, const struct data_options *o, graft_error *error);
bool saved_is(const char *bytes, size_t size);
/* The parser alone: pure, fuzzed. Fills a bound dataset, which borrows the bytes (aligned to 8). Options that were given (none is 0, AUTO, NULL) must be those that it was made with. */
graft_status saved_parse(struct dataset *d, const uint8_t *bytes, size_t size,
                         const struct data_options *given, graft_error *error);
graft_status saved_load(struct dataset *d, const char *path, const struct data_options *given,
                        graft_error *error);

#endif
