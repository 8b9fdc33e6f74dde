/* batch.h: what the parts of `graft batch` share.
 *
 * A file of requests becomes a file of results, whatever happens in between: lines are read one by one, results appended
 * whole, and starting again goes on with what has no result yet. What a line asks for is batch_request.c's, which lines there are
 * and which have results batch_index.c's, the file of results batch_output.c's, adapters in use batch_adapters.c's;
 * batch_run.c joins them to an engine. Private to the command line.
 */
#ifndef GRAFT_CLI_BATCH_H
#define GRAFT_CLI_BATCH_H

#include "cli.h"

#include <pthread.h>

/* ---- a file, line by line (batch_lines.c) --------------------------------------------------- */

enum { BATCH_REQUEST_BYTES = 16 << 20, BATCH_RESULT_BYTES = 256 << 20, BATCH_CHUNK = 1 << 16 };
struct batch_lines {
    int file;
    const char *path;
    struct buf text;       /* of the line in hand, without its end */
    char *chunk;           /* [BATCH_CHUNK] */
    size_t at, end;        /* what is left of it */
    size_t number;         /* of the line in hand, from 1 */
    uint64_t begin, after; /* bytes of the file before it, and with it */
    bool too_long;         /* it has more bytes than the limit, and is passed over */
    bool whole;            /* it ended with a newline */
};
/* `file` is borrowed, and read from its beginning. */
graft_status batch_lines_open(struct batch_lines *l, int file, const char *path, size_t limit,
                              graft_error *error);
/* GRAFT_END behind the last one. */
graft_status batch_lines_next(struct batch_lines *l, graft_error *error);
bool batch_line_is_blank(const struct batch_lines *l);
void batch_lines_close(struct batch_lines *l);

/* ---- which requests there are (batch_index.c) ------------------------------------------------ */

enum batch_state { BATCH_BLANK, BATCH_OPEN, BATCH_DONE, BATCH_FAILED };
enum { BATCH_KEY = 15 };
/* What is kept of a line: 16 bytes, so that millions of lines fit. */
struct batch_entry {
    uint8_t key[BATCH_KEY]; /* of a SHA-256 of its custom_id; zero: it has none */
    uint8_t state;
};
struct batch_index {
    struct batch_entry *lines; /* [n], room for capacity */
    size_t n, capacity;
    uint32_t *table; /* [n_table], line + 1 by key; 0: empty */
    size_t n_table;
    size_t open, done, failed; /* lines in each state */
};
/* Reads all lines of a file of requests. */
graft_status batch_index_read(struct batch_index *index, int file, const char *path,
                              graft_error *error);
void batch_index_close(struct batch_index *index);
/* The first line with this key; SIZE_MAX: none. */
size_t batch_index_find(const struct batch_index *index, const uint8_t key[BATCH_KEY]);
void batch_index_set(struct batch_index *index, size_t line, enum batch_state state);
/* The key of the object's custom_id; zero: it has none that can be used. */
void batch_key_of(const json_t *object, uint8_t key[BATCH_KEY]);
bool batch_key_is_none(const uint8_t key[BATCH_KEY]);

/* ---- what a line asks for (batch_request.c) -------------------------------------------------- */

/* What requests begin with that say nothing else. */
struct batch_defaults {
    const graft_model *model;
    graft_runtime *runtime;
    graft_model_info info;
    const char *typed;     /* the model's name as it was typed; NULL: none */
    graft_request request; /* sampling, stops, ends, most tokens */
    bool seed_given;       /* else each request has a seed of its own, made of its custom_id */
    const char *system_prompt;
    bool adds_bos;
};

enum { BATCH_STOPS = 64, BATCH_MEMBERS = 64, BATCH_CHOICES = 128, BATCH_TOP = 20 };
struct batch_member {
    char *name; /* address without a weight, path or query */
    float weight;
};
struct batch_request {
    json_t *json;            /* the line, from which texts are borrowed; NULL: it is no JSON */
    const json_t *custom_id; /* NULL: none */
    const char *model;       /* as the request says it; NULL: nothing */
    bool chat, logprobs;
    int n; /* answers that are wanted; the seed of each is one more than of that before */
    graft_request request; /* points into this very record */
    graft_token_id *ids;
    const char *stops[BATCH_STOPS];
    struct batch_member members[BATCH_MEMBERS]; /* [n_members]; 0: the base */
    size_t n_members;
    char *form; /* what the answer is held to: a JSON schema, or GBNF; NULL: what all are */
    bool is_schema;
};
/* Reads a line. What it asks for and graft does not do is refused by name. *out is to be closed in any case, and stays where
 * it is. */
graft_status batch_request_read(const struct batch_defaults *defaults, const char *line,
                                size_t size, struct batch_request *out, graft_error *error);
void batch_request_close(struct batch_request *request);

/* ---- adapters in use (batch_adapters.c) ------------------------------------------------------ */

struct batch_adapter {
    char *source; /* which one it is: a path, or name, version and digest in the registry */
    graft_adapter *handle;
    size_t bytes;
    int users; /* requests */
};
struct batch_adapters {
    graft_runtime *runtime;
    graft_model *model;
    struct cli_adapters how; /* type, strict_base */
    size_t budget;
    graft_registry *registry; /* NULL until the first name is asked for */
    struct batch_adapter **open;
    size_t n_open, capacity;
    size_t n_mixes;              /* taken and not given back */
    size_t bytes, most, largest; /* in use now, at most so far; of one adapter */
    uint64_t opened;
};
struct batch_mix {
    graft_mix *mix; /* NULL: the base */
    struct batch_adapter *members[BATCH_MEMBERS];
    char *labels[BATCH_MEMBERS]; /* NAME@VERSION, the name of one that ships, or a path */
    float weights[BATCH_MEMBERS];
    size_t n;
};
/* The mix that a request asks for. GRAFT_BUSY: there is no room for its adapters beside those in use; when some of these
 * were given back it is time to ask again. */
graft_status batch_adapters_take(struct batch_adapters *a, const struct batch_request *request,
                                 struct batch_mix *out, graft_error *error);
void batch_adapters_give(struct batch_adapters *a, struct batch_mix *mix);
void batch_adapters_close(struct batch_adapters *a);

/* ---- what answers are held to (batch_forms.c) -------------------------------------------------- */

/* Those that were compiled last, as many requests have the same one. */
enum { BATCH_FORMS = 16 };
struct batch_forms {
    struct batch_form {
        char *text; /* NULL: a free place */
        bool is_schema;
        graft_constraint *constraint;
        uint64_t used;
    } kept[BATCH_FORMS];
    uint64_t uses;
};
/* *out is borrowed until the next call. */
graft_status batch_forms_find(struct batch_forms *forms, graft_model *model,
                              const struct batch_request *request, const graft_constraint **out,
                              graft_error *error);
void batch_forms_close(struct batch_forms *forms);

/* ---- results (batch_result.c) ---------------------------------------------------------------- */

/* A token of an answer, for logprobs. */
struct batch_token {
    size_t begin, end; /* of the text that came with it, in the answer */
    graft_token_id id;
    float logprob;
};
struct batch_answer {
    struct buf text;
    struct buf tokens; /* struct batch_token each, where logprobs are wanted */
    struct buf tops;   /* n_top of graft_alternative for each of them */
    size_t n_top;
    graft_finish finish;
    graft_stream_info info;
};
/* One object, OpenAI's of a batch's results. NULL: no memory. */
json_t *batch_result(const struct batch_defaults *defaults, size_t line,
                     const struct batch_request *request, const struct batch_mix *mix,
                     const struct batch_answer *answers); /* [request->n] */
json_t *batch_failure(size_t line, const struct batch_request *request, const char *code,
                      const char *message);
/* As a line, appended; takes `result` over. LIMIT: more than BATCH_RESULT_BYTES, which nothing would read again. */
graft_status batch_result_line(json_t *result, struct buf *out);
/* OpenAI's word for what went wrong. */
const char *batch_code(graft_status status);
extern const char
    BATCH_ID[]; /* what the id of a result begins with, before the number of the line */

/* ---- the file of results (batch_output.c) ---------------------------------------------------- */

enum batch_again { BATCH_GO_ON, BATCH_RETRY, BATCH_OVERWRITE };
struct batch_output {
    int file;
    const char *path;
    enum batch_again again;
    bool made, begun; /* it was not there before; something may be written */
    bool drops;       /* it has lines that go when it begins */
    uint64_t end;     /* of its last whole line */
    bool ordered;     /* its lines are in the order of their requests; that of the last one: */
    size_t last;
    double synced;
};
/* Opens it, alone, and marks in the index what has a result, with RETRY only what did not fail. Changes nothing in it. STATE: it
 * has results of other requests, or something else; BUSY: another program writes it. */
graft_status batch_output_open(struct batch_output *o, const char *path, struct batch_index *index,
                               enum batch_again again, graft_error *error);
/* Before the first result: drops a last line that was not written to its end and what was wrong with lines that are not as they
 * were, with RETRY what failed, with OVERWRITE all. */
graft_status batch_output_begin(struct batch_output *o, const struct batch_index *index,
                                graft_error *error);
/* Appends one line, of the request in `line` (from 0). */
graft_status batch_output_add(struct batch_output *o, size_t line, const char *text, size_t size,
                              graft_error *error);
/* Puts results that are not in the order of their requests into it. */
graft_status batch_output_order(struct batch_output *o, const struct batch_index *index,
                                graft_error *error);
/* One that was made, and never begun, is gone. */
graft_status batch_output_close(struct batch_output *o, graft_error *error);

/* ---- what it came to (batch_summary.c) ------------------------------------------------------- */

/* Of this run. */
struct batch_sums {
    size_t answered; /* results written */
    size_t cut_off;  /* answers that end before what they are held to is complete */
    uint64_t prompt_tokens, cached_tokens, tokens; /* of all answers */
    uint64_t passes, drafted, accepted;
    double seconds;
};
struct batch_told {
    const char *input;
    const struct batch_output *output; /* open or closed */
    bool drafts;                       /* there were guesses */
    const struct batch_index *index;
    const struct batch_sums *sums;
    const struct batch_adapters *adapters;
};
/* Says it on stderr, and with --json on stdout. The exit status. */
int batch_tell(const struct batch_told *t, const struct cli_common *common);

/* ---- all of it (batch.c), and requests under way (batch_run.c) -------------------------------- */

struct batch_args {
    struct cli_common common;
    struct cli_sampling sampling;
    const char *input, *output;
    enum batch_again again;
    bool in_order;
    size_t budget;
    graft_engine_options engine;
};
struct batch {
    const struct batch_args *args;
    struct cli_session s;
    int input;
    struct batch_defaults defaults;
    struct batch_index index;
    struct batch_lines lines;
    struct batch_output output;
    struct batch_adapters adapters;
    struct batch_forms forms;
    graft_constraint *constraint; /* what all answers are held to that say nothing; NULL: nothing */
    graft_engine *engine;
    struct slot **slots; /* [n_slots], in the order of their lines, room for capacity */
    size_t n_slots, capacity;
    struct slot *held;            /* the last of them, when it could not begin yet */
    size_t running, most_running; /* streams */
    bool read;                    /* all lines were */
    struct cli_progress progress;
    double begun;
    struct batch_sums sums;
    /* Where the engine's thread says that an answer is complete, or that more to its request may begin. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct choice *ended;
    bool heard;
};
/* Once the model and the defaults are there. `draft` NULL: no guesses. */
graft_status batch_run_open(struct batch *b, const graft_draft_options *draft, graft_error *error);
/* Answers what has no result, until all is answered or somebody interrupts. */
graft_status batch_run(struct batch *b, graft_error *error);
/* What is under way ends, and the engine. */
void batch_run_close(struct batch *b);

#endif
