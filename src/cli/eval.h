/* eval.h: the parts of `graft eval`: what is measured of adapters on files of examples (eval.c), how one example is
 * asked and its answer judged (eval_measure.c, eval_answer.c), and the table of what came out (eval_table.c).
 *
 * The answers and the table know nothing of models.
 */
#ifndef GRAFT_CLI_EVAL_H
#define GRAFT_CLI_EVAL_H

#include "data.h"

/* ---- answers (eval_answer.c) ---- */

/* The text without white space at its ends, in place. */
struct eval_text {
    const char *at;
    size_t size;
};
struct eval_text eval_trim(const char *text, size_t size);
bool eval_same(struct eval_text a, struct eval_text b);
/* Whether an answer that has begun so may still come to be the reference (trimmed), blanks at its ends aside. */
bool eval_may_become(struct eval_text reference, const char *text, size_t size);

/* A regular expression (PCRE2) that finds what counts in an answer. */
struct eval_pattern;
/* INVALID_ARGUMENT: it is none, with the place. */
graft_status eval_pattern_open(const char *text, struct eval_pattern **out, graft_error *error);
void eval_pattern_close(struct eval_pattern **pattern);
/* The first match: its first group that took part, else all of it, trimmed. NOT_FOUND: nothing matches; LIMIT: it takes
 * too long. */
graft_status eval_pattern_find(struct eval_pattern *pattern, const char *text, size_t size,
                               struct eval_text *out, graft_error *error);
/* Equal as texts, or both decimal numbers of one value: 1,000 and $1000.0 are. */
bool eval_agree(struct eval_text a, struct eval_text b);

/* ---- the table (eval_table.c) ---- */

/* X(name, text, heading), in the order in which they are shown. */
#define EVAL_METRIC_LIST(X)                                                                        \
    X(LOSS, "loss", "loss (nats per token)")                                                       \
    X(PERPLEXITY, "perplexity", "perplexity")                                                      \
    X(ACCURACY, "accuracy", "accuracy of classes (%)")                                             \
    X(EXACT, "exact", "exact answers (%)")                                                         \
    X(REGEX, "regex", "answers that agree by the pattern (%)")
enum eval_metric {
#define EVAL_METRIC_ENUM(name, text, heading) EVAL_##name,
    EVAL_METRIC_LIST(EVAL_METRIC_ENUM)
#undef EVAL_METRIC_ENUM
        EVAL_METRICS
};

/* Σ sum / Σ weight with its standard error by example (examples are drawn one by one, tokens of one are not):
 * NaN with fewer than two. mean NaN: nothing was measured. */
struct eval_mean {
    double mean, error;
};
/* Examples of weight 0 do not count. `minus` (may be NULL): taken from the sums, for a difference in pairs. */
struct eval_mean eval_mean_of(const double *sum, const double *minus, const double *weight,
                              size_t n);

struct eval_cell {
    bool done;
    struct eval_mean of[EVAL_METRICS], change[EVAL_METRICS]; /* against the base; NaN: none */
};

struct eval_column {
    const char *path;
    const char *part; /* "valid", "all", … */
    int64_t records, dropped, truncated;
    int64_t count;                     /* examples of the part */
    int64_t examples, tokens, learned; /* that were measured */
    int64_t questions, found;          /* asked; of them with a match in the reference */
};

struct eval_table {
    const char *model;
    const char *const *rows; /* [n_rows] names; NULL: the base model */
    struct eval_column *columns;
    struct eval_cell *cells; /* [n_rows, n_columns] */
    size_t n_rows, n_columns;
    const char *pattern; /* NULL: none */
    int max_tokens;
    bool interrupted;
};
struct eval_cell *eval_cell_at(const struct eval_table *t, size_t row, size_t column);
/* Whether any cell has it. */
bool eval_has(const struct eval_table *t, enum eval_metric metric);
/* The cell has the best value of its column, and others have worse ones. */
bool eval_is_best(const struct eval_table *t, size_t row, size_t column, enum eval_metric metric);
/* For people; no line is longer than `width` where that is possible. */
void eval_print(const struct eval_table *t, FILE *out, size_t width);
/* For machines; NULL: no memory. */
json_t *eval_json(const struct eval_table *t);

/* ---- one file under one mix (eval_measure.c) ---- */

/* The examples that are measured, and what each of them needs. */
struct eval_item {
    graft_example example;
    int asked;                          /* tokens of the question; 0: it is not asked */
    char *answer;                       /* the reference; graft_free */
    struct eval_text reference, wanted; /* wanted: what the pattern finds in it; at NULL: nothing */
};
struct eval_items {
    graft_runtime *runtime;
    struct eval_item *items;
    size_t n;
    int longest;             /* tokens of a session that serves them all */
    graft_token_id ends[16]; /* special tokens that end references */
    size_t n_ends;
    uint64_t work; /* of one measurement, in tokens or so */
};

struct eval_how {
    bool answers; /* ask for them */
    struct eval_pattern *pattern;
    int max_tokens;
    int n_labels; /* 0: no classifier */
};
/* What is measured of each example: sums, and what they are divided by. */
struct eval_sums {
    double *sum[EVAL_METRICS], *weight[EVAL_METRICS]; /* [n]; PERPLEXITY's are not used */
};
graft_status eval_sums_make(struct eval_sums *out, size_t n);
void eval_sums_free(struct eval_sums *sums);

/* false: stop. */
typedef bool (*eval_step_fn)(void *user, uint64_t work);
/* CANCELLED: step said so. */
graft_status eval_measure(graft_session *session, const struct eval_items *items,
                          const struct eval_how *how, struct eval_sums *out, eval_step_fn step,
                          void *user, graft_error *error);
/* Finds question and reference of each item, and sums up what they need. */
graft_status eval_items_prepare(struct eval_items *items, const graft_model *model,
                                const struct eval_how *how, graft_error *error);
void eval_items_free(struct eval_items *items);

#endif
