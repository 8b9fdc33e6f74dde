/* bench.c: the public functions that measure: check, fill in defaults, call inward. */
#include "bench/bench.h"
#include "api/api_internal.h"

enum {
    ROWS_LIMIT = 64,
    TOKENS_LIMIT = 4096,
    SAMPLES_LIMIT = 256,
    CONTEXT_LIMIT = 1 << 20,
    RANK_LIMIT = 1024
};

void graft_bench_options_init(graft_bench_options *options, size_t struct_size)
{
    graft_bench_options defaults = {.shape = "qwen2.5-0.5b",
                                    .type = "q8_0",
                                    .pack = "auto",
                                    .rank = 16,
                                    .adapter_type = "bf16"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

static graft_status check_list(const char *name, const int *values, int n, int least, int most,
                               graft_error *error)
{
    if (n < 0 || n > GRAFT_BENCH_LIST_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "at most %d %s", GRAFT_BENCH_LIST_MAX,
                         name);
    }
    for (int i = 0; i < n; i++) {
        if (values[i] < least || values[i] > most) {
            return error_set(error, GRAFT_INVALID_ARGUMENT, "%s must be from %d to %d", name, least,
                             most);
        }
    }
    return GRAFT_OK;
}

static graft_status check(const graft_bench_options *o, graft_error *error)
{
    if (o->samples < 0 || o->samples > SAMPLES_LIMIT) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "samples must be from 0 to %d",
                         SAMPLES_LIMIT);
    }
    if (o->tokens < 0 || o->tokens > TOKENS_LIMIT) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "tokens must be from 0 to %d",
                         TOKENS_LIMIT);
    }
    if ((unsigned)o->cache_k > GRAFT_KV_Q8 || (unsigned)o->cache_v > GRAFT_KV_Q8) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no such type of cache");
    }
    if (o->rank < 1 || o->rank > RANK_LIMIT) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "rank must be from 1 to %d", RANK_LIMIT);
    }
    graft_status status = adapter_retype(&(struct adapter_options){0}, o->adapter_type, error);
    if (status == GRAFT_OK) {
        status = check_list("contexts", o->contexts, o->n_contexts, 1, CONTEXT_LIMIT, error);
    }
    return status == GRAFT_OK ? check_list("rows", o->rows, o->n_rows, 1, ROWS_LIMIT, error)
                              : status;
}

static void fill_defaults(graft_bench_options *o)
{
    if (o->tokens == 0) {
        o->tokens = bench_tokens(o->bench);
    }
    if (o->pack == NULL) {
        o->pack = "auto";
    }
    if (o->n_contexts == 0) {
        o->contexts[0] = 128;
        o->contexts[1] = 4096;
        o->n_contexts = 2;
    }
    if (o->n_rows == 0) {
        o->rows[0] = 1;
        o->n_rows = 1;
    }
}

static graft_status read_options(graft_bench_options *o, const graft_bench_options *given,
                                 graft_error *error)
{
    *o = graft_bench_options_default();
    graft_status status = options_read(o, sizeof *o, given, error);
    if (status == GRAFT_OK && (o->shape == NULL || o->type == NULL || o->adapter_type == NULL)) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "shape, type and adapter_type must not be NULL");
    }
    return status == GRAFT_OK ? check(o, error) : status;
}

graft_status graft_bench_run(graft_runtime *runtime, const graft_bench_options *options,
                             graft_bench_fn callback, void *user, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(options);
    REQUIRE(callback);
    CHECK_RUNTIME(runtime);
    graft_bench_options o;
    char *found = NULL;
    graft_status status = read_options(&o, options, error);
    if (status == GRAFT_OK && o.bench == NULL) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "bench must not be NULL");
    }
    if (status == GRAFT_OK && o.model != NULL) {
        status = model_resolve(&runtime->mem, o.model, &found, error);
    }
    if (status == GRAFT_OK) {
        fill_defaults(&o);
        o.model = found;
        status = bench_run(runtime, &o, callback, user, error);
    }
    mem_free(&runtime->mem, found);
    return status;
}

graft_status graft_bench_write(graft_runtime *runtime, const graft_bench_options *options,
                               const char *path, char **subject, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    CHECK_RUNTIME(runtime);
    graft_bench_options o;
    char *found = NULL;
    graft_status status = read_options(&o, options, error);
    if (status == GRAFT_OK && o.model != NULL) {
        status = model_resolve(&runtime->mem, o.model, &found, error);
    }
    if (status == GRAFT_OK) {
        o.model = found;
        o.pack = "none"; /* only its shapes are wanted */
        status = bench_write(runtime, &o, path, subject, error);
    }
    mem_free(&runtime->mem, found);
    return status;
}

const char *graft_bench_shapes(void)
{
    return bench_shapes();
}

const graft_bench_kind *graft_bench_kind_at(size_t i)
{
    return bench_kind_at(i);
}
