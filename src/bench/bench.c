/* bench.c: one run: the model, the limits, the bench that was asked for.
 *
 * A random model is written into a file that has no name in any folder (memfd), and opened like any
 * other: mapped, checked, bound. Nothing is left behind whatever happens.
 */
#include "bench/bench_internal.h"
#include "model/arch/arch.h"
#include "model/convert/convert.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct {
    const char *name;
    graft_status (*run)(struct bench *b, graft_error *error);
    bool needs_model, needs_limits;
} BENCHES[] = {
    {"limits", bench_limits, false, true},  {"decode", bench_decode, true, true},
    {"prefill", bench_prefill, true, true}, {"attention", bench_attention, true, true},
    {"linear", bench_linear, true, true},   {"load", bench_load, true, true},
};

const char *bench_shapes(void)
{
    return shape_names();
}

/* ---- random models ------------------------------------------------------------------------ */

static graft_status check_names(const graft_bench_options *o, const struct shape **shape,
                                graft_error *error)
{
    char known[256];
    *shape = shape_find(o->shape);
    if (!*shape)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no shape \"%s\"; known are %s", o->shape,
                         shape_names());
    if (o->type[0] && recipe_find(o->type))
        return GRAFT_OK;
    recipe_list(known, sizeof known);
    return error_set(error, GRAFT_INVALID_ARGUMENT, "no type \"%s\"; known are %s", o->type, known);
}

static graft_status open_random(struct bench *b, graft_error *error)
{
    const struct shape *shape;
    char path[64];
    graft_status status = check_names(b->options, &shape, error);
    if (status != GRAFT_OK)
        return status;
    b->memory_file = memfd_create("graft-bench", MFD_CLOEXEC);
    int copy = b->memory_file < 0 ? -1 : dup(b->memory_file);
    struct file_writer writer = {.file = copy < 0 ? NULL : fdopen(copy, "wb"), .mem = b->mem};
    if (!writer.file) {
        if (copy >= 0)
            close(copy);
        return error_set(error, GRAFT_IO, "no file in memory: errno %d", errno);
    }
    status = synth_write(b->runtime, shape, b->options->type, &writer, b->options, error);
    if (fclose(writer.file) != 0 && status == GRAFT_OK)
        status = error_set(error, GRAFT_IO, "random weights do not fit memory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", b->memory_file);
    b->path = mem_strdup(b->mem, path);
    if (status == GRAFT_OK && !b->path)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    return status;
}

/* "tiny q8_0 (…)": what every figure is about. */
static void describe(struct bench *b)
{
    const graft_bench_options *o = b->options;
    const char *head = b->model ? graft_type_name(b->model->head.type) : "";
    if (!b->model)
        snprintf(b->subject, sizeof b->subject, "this machine");
    else if (o->model)
        snprintf(b->subject, sizeof b->subject, "%s (head %s)", path_base(o->model), head);
    else
        snprintf(b->subject, sizeof b->subject, "%s %s (random weights, head %s)", o->shape,
                 o->type, head);
}

static graft_status open_model(struct bench *b, graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (!b->options->model)
        status = open_random(b, error);
    else if (!(b->path = mem_strdup(b->mem, b->options->model)))
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    if (status == GRAFT_OK)
        status = model_open(b->runtime, b->path, NULL, &b->model, error);
    if (status == GRAFT_OK && b->model->config.arch->score)
        status = error_set(error, GRAFT_UNSUPPORTED, "classifiers decode nothing");
    return status;
}

/* ---- one run ------------------------------------------------------------------------------ */

static void open_scalar(struct bench *b)
{
    b->scalar = (struct graft_runtime){.pool = b->runtime->pool,
                                       .kernels = kernels_find("scalar"),
                                       .log_level = GRAFT_LOG_ERROR,
                                       .pid = b->runtime->pid};
    mem_init(&b->scalar.mem, &b->runtime->mem.allocator);
}

static void close_all(struct bench *b)
{
    model_close(&b->model);
    limits_close(&b->limits);
    mem_free(b->mem, b->path);
    if (b->memory_file >= 0)
        close(b->memory_file);
}

graft_status bench_run(graft_runtime *runtime, const graft_bench_options *options,
                       graft_bench_fn callback, void *user, graft_error *error)
{
    struct bench b = {.runtime = runtime,
                      .mem = &runtime->mem,
                      .options = options,
                      .callback = callback,
                      .user = user,
                      .memory_file = -1};
    size_t i = 0;
    while (i < ARRAY_LEN(BENCHES) && strcmp(BENCHES[i].name, options->bench) != 0)
        i++;
    if (i == ARRAY_LEN(BENCHES))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "no bench \"%s\"; known are limits, decode, prefill, attention, linear, "
                         "load",
                         options->bench);
    open_scalar(&b);
    graft_status status = GRAFT_OK;
    if (BENCHES[i].needs_model)
        status = open_model(&b, error);
    if (status == GRAFT_OK)
        status = limits_open(&b.limits, runtime, error);
    if (status == GRAFT_OK) {
        describe(&b);
        status = BENCHES[i].run(&b, error);
    }
    close_all(&b);
    return status;
}

graft_status bench_write(graft_runtime *runtime, const graft_bench_options *options,
                         const char *path, char **subject, graft_error *error)
{
    const struct shape *shape;
    struct file_writer writer = {0};
    graft_status status = check_names(options, &shape, error);
    if (status == GRAFT_OK)
        status = file_writer_open(&writer, &runtime->mem, path, error);
    if (status != GRAFT_OK)
        return status;
    status = synth_write(runtime, shape, options->type, &writer, options, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    if (status != GRAFT_OK || !subject)
        return status;
    struct bench b = {.runtime = runtime, .mem = &runtime->mem, .options = options};
    status = model_open(runtime, path, NULL, &b.model, error); /* what was written can be read */
    if (status == GRAFT_OK) {
        describe(&b);
        *subject = mem_strdup(b.mem, b.subject);
        if (!*subject)
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for a text");
    }
    model_close(&b.model);
    return status;
}

/* ---- what benches with a cache share ------------------------------------------------------ */

struct kv_pool_options bench_kv_options(const struct bench *b, int64_t max_blocks)
{
    static const enum kv_type TYPES[] = {
        [GRAFT_KV_F16] = KV_F16, [GRAFT_KV_F32] = KV_F32, [GRAFT_KV_Q8] = KV_Q8};
    return (struct kv_pool_options){.k_type = TYPES[b->options->cache_k],
                                    .v_type = TYPES[b->options->cache_v],
                                    .max_blocks = max_blocks};
}

graft_status bench_kv_open(struct bench *b, int64_t max_blocks, struct workspace *ws,
                           struct kv_pool **pool, struct kv_seq **seed, graft_error *error)
{
    const struct kv_pool_options options = bench_kv_options(b, max_blocks + 2);
    struct row rows[KV_BLOCK];
    int step = workspace_max_rows(ws) < KV_BLOCK ? workspace_max_rows(ws) : KV_BLOCK;
    graft_status status = kv_pool_open(b->model, &options, pool, error);
    if (status == GRAFT_OK)
        status = kv_seq_open(*pool, seed, error);
    for (int done = 0; done < KV_BLOCK && status == GRAFT_OK; done += step) {
        int n = KV_BLOCK - done < step ? KV_BLOCK - done : step;
        for (int i = 0; i < n; i++)
            rows[i] =
                (struct row){.token = (graft_token_id)((done + i) * 31 % b->model->config.n_vocab),
                             .pos = done + i,
                             .seq = *seed,
                             .role = ROLE_PREFILL};
        status = model_forward(b->model, rows, n, ws, error);
    }
    return status;
}
