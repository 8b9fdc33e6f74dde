/* bench.c: one run: the model, the limits, the bench that was asked for.
 *
 * A random model is written into a file that has no name in any folder (memfd), and opened like any
 * other: mapped, checked, bound. MLX wants a folder: that has a config.json and a link to such a file.
 */
#include "bench/bench_internal.h"
#include "generate/generate.h"
#include "model/arch/arch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char *bench_shapes(void)
{
    return shape_names();
}

/* ---- random models ------------------------------------------------------------------------ */

static graft_status check_names(const graft_bench_options *o, const struct shape **shape,
                                graft_error *error)
{
    *shape = shape_find(o->shape);
    if (!*shape)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no shape \"%s\"; known are %s", o->shape,
                         shape_names());
    return synth_check_type(o->type, error);
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
}

/* DIR/config.json for a shape. */
static graft_status put_config(struct mem *mem, const graft_bench_options *o,
                               const struct shape *shape, const char *dir, graft_error *error)
{
    char *path = path_join(mem, dir, "config.json");
    graft_status status =
        path ? synth_write_config(mem, shape, o->type, path, error) : no_memory(error);
    mem_free(mem, path);
    return status;
}

static graft_status open_memory_file(struct bench *b, const struct shape *shape, graft_error *error)
{
    b->memory_file = memfd_create("graft-bench", MFD_CLOEXEC);
    int copy = b->memory_file < 0 ? -1 : dup(b->memory_file);
    struct file_writer writer = {.file = copy < 0 ? NULL : fdopen(copy, "wb"), .mem = b->mem};
    if (!writer.file) {
        if (copy >= 0)
            close(copy);
        return error_set(error, GRAFT_IO, "no file in memory: errno %d", errno);
    }
    graft_status status =
        synth_write(b->runtime, shape, b->options->type, &writer, b->options, error);
    if (fclose(writer.file) != 0 && status == GRAFT_OK)
        status = error_set(error, GRAFT_IO, "random weights do not fit memory");
    return status;
}

/* A folder with config.json and a link to the file in memory. */
static graft_status open_folder(struct bench *b, const struct shape *shape, const char *file,
                                graft_error *error)
{
    graft_status status = folder_temporary(b->mem, "graft-bench", &b->folder, error);
    if (status != GRAFT_OK)
        return status;
    char *link = path_join(b->mem, b->folder, "model.safetensors");
    status = link ? put_config(b->mem, b->options, shape, b->folder, error) : no_memory(error);
    if (status == GRAFT_OK && symlink(file, link) != 0)
        status = error_set(error, GRAFT_IO, "cannot make the link %s", link);
    mem_free(b->mem, link);
    return status;
}

static graft_status open_random(struct bench *b, graft_error *error)
{
    const struct shape *shape;
    char file[64];
    graft_status status = check_names(b->options, &shape, error);
    if (status == GRAFT_OK)
        status = open_memory_file(b, shape, error);
    if (status != GRAFT_OK)
        return status;
    snprintf(file, sizeof file, "/proc/self/fd/%d", b->memory_file);
    if (synth_is_directory(b->options->type))
        status = open_folder(b, shape, file, error);
    if (status != GRAFT_OK)
        return status;
    b->path = mem_strdup(b->mem, b->folder ? b->folder : file);
    return b->path ? GRAFT_OK : no_memory(error);
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

graft_status bench_open_model(const struct bench *b, struct model **out, graft_error *error)
{
    const struct model_options options = {.map = MAP_SHARED_FILE, .pack = b->options->pack};
    return model_open(b->runtime, b->path, &options, out, error);
}

static graft_status open_model(struct bench *b, graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (!b->options->model)
        status = open_random(b, error);
    else if (!(b->path = mem_strdup(b->mem, b->options->model)))
        status = no_memory(error);
    if (status == GRAFT_OK)
        status = bench_open_model(b, &b->model, error);
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
    if (b->folder)
        folder_remove(AT_FDCWD, b->folder);
    mem_free(b->mem, b->folder);
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
    const struct kind *kind = NULL;
    graft_status status = kind_find(options, &kind, error);
    if (status != GRAFT_OK)
        return status;
    open_scalar(&b);
    if (kind->known.uses & GRAFT_BENCH_MODEL)
        status = open_model(&b, error);
    if (status == GRAFT_OK)
        status = limits_open(&b.limits, runtime, error);
    if (status == GRAFT_OK) {
        describe(&b);
        status = kind->run(&b, error);
    }
    close_all(&b);
    return status;
}

/* An empty one that is there is as good: it is the only kind that rmdir removes. */
static graft_status make_folder(const char *path, graft_error *error)
{
    if (mkdir(path, 0777) == 0 || (rmdir(path) == 0 && mkdir(path, 0777) == 0))
        return GRAFT_OK;
    return error_set(error, GRAFT_IO, "%s: cannot be made, or is a folder that is not empty", path);
}

/* OUT itself, or OUT/model.safetensors beside a config.json. */
static graft_status write_model(graft_runtime *runtime, const graft_bench_options *options,
                                const struct shape *shape, const char *out, graft_error *error)
{
    struct mem *mem = &runtime->mem;
    struct file_writer writer = {0};
    bool folder = synth_is_directory(options->type);
    char *path = folder ? path_join(mem, out, "model.safetensors") : mem_strdup(mem, out);
    graft_status status = path ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK && folder)
        status = make_folder(out, error);
    if (status == GRAFT_OK)
        status = file_writer_open(&writer, mem, path, error);
    if (status == GRAFT_OK)
        status = synth_write(runtime, shape, options->type, &writer, options, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    if (status == GRAFT_OK && folder)
        status = put_config(mem, options, shape, out, error);
    mem_free(mem, path);
    return status;
}

static graft_status write_random(struct bench *b, const char *path, graft_error *error)
{
    const struct shape *shape;
    graft_status status = check_names(b->options, &shape, error);
    if (status == GRAFT_OK)
        status = write_model(b->runtime, b->options, shape, path, error);
    return status == GRAFT_OK ? model_open(b->runtime, path, NULL, &b->model, error) : status;
}

static graft_status write_adapter(struct bench *b, const char *path, graft_error *error)
{
    const struct synth_adapter how = synth_adapter_of(b->options);
    struct adapter *adapter = NULL;
    graft_status status = open_model(b, error);
    if (status == GRAFT_OK)
        status = synth_adapter_keep(b, &how, path, error);
    if (status == GRAFT_OK)
        status = adapter_open(b->model, path, NULL, &adapter, error);
    adapter_release(&adapter);
    return status;
}

graft_status bench_write(graft_runtime *runtime, const graft_bench_options *options,
                         const char *path, char **subject, graft_error *error)
{
    struct bench b = {
        .runtime = runtime, .mem = &runtime->mem, .options = options, .memory_file = -1};
    const bool adapter = options->bench && strcmp(options->bench, "adapters") == 0;
    /* What was written can be read: both open it. */
    graft_status status = adapter ? write_adapter(&b, path, error) : write_random(&b, path, error);
    if (status == GRAFT_OK && subject) {
        describe(&b);
        *subject = mem_strdup(b.mem, b.subject);
        status = *subject ? GRAFT_OK : no_memory(error);
    }
    close_all(&b);
    return status;
}

/* ---- what benches with a cache share ------------------------------------------------------ */

struct kv_pool_options bench_kv_options(const struct bench *b, int64_t max_blocks)
{
    return (struct kv_pool_options){.k_type = cache_type(b->options->cache_k),
                                    .v_type = cache_type(b->options->cache_v),
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
