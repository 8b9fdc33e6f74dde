/* conformance_support.h: what the conformance tests of the forward pass share: runtimes of a tier and a
 * thread count, temporary folders, runs of token lists, comparison. For tests only.
 */
#ifndef CONFORMANCE_SUPPORT_H
#define CONFORMANCE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model.h"

#define GOLDENS GRAFT_SOURCE_DIR "/tests/conformance/goldens"

/* A runtime of its own; stop checks that every byte was given back. NULL tier: the fastest. */
void runtime_start(struct graft_runtime *rt, int threads, const struct kernels *tier);
void runtime_stop(struct graft_runtime *rt);

/* The fastest tier whose panels are floats for quantised types too. */
const struct kernels *exact_tier(void);

char *temp_dir(void);              /* a new folder; free() after temp_remove */
void temp_remove(const char *dir); /* with all that is in it */
/* A folder for the tests of one program, or of one test: setup and teardown of cmocka. */
extern char *test_dir;
int test_dir_open(void **state);
int test_dir_close(void **state);
const char *at(const char *name); /* the path of a name in it; eight may be in use at a time */
void write_file(const char *dir, const char *name, const void *bytes, size_t size);

struct model *open_model(struct graft_runtime *rt,
                         const char *path); /* fails the test with the message */

/* How a list of tokens goes through the model. */
struct run {
    enum role role;
    enum kv_type kv;
    int chunk; /* rows per forward call */
};
/* Logits of every token: [n, model_n_logits], malloc'ed. */
float *run_tokens(const struct model *m, const graft_token_id *tokens, int n, struct run how);
/* n greedy continuations. */
void run_greedy(const struct model *m, const graft_token_id *tokens, int n_tokens, struct run how,
                graft_token_id *out, int n);
/* The same under a mix. */
float *run_tokens_with(const struct model *m, const graft_token_id *tokens, int n, struct run how,
                       const struct delta_set *deltas);
void run_greedy_with(const struct model *m, const graft_token_id *tokens, int n_tokens,
                     struct run how, const struct delta_set *deltas, graft_token_id *out, int n);

/* max|got - want| / max|want| */
double relative_error(const float *got, const float *want, size_t n);
/* Of what changed: ‖(got − got0) − (want − want0)‖ / ‖want − want0‖. A wrong scale cannot hide in it. */
double effect_error(const float *got, const float *got0, const float *want, const float *want0,
                    size_t n);
/* Mean over rows of KL(softmax(want) || softmax(got)). */
double mean_kl(const float *got, const float *want, int rows, int n);

/* Values of a .npy; malloc'ed. */
float *load_npy(const char *path, size_t *count);

#endif
