/* synth_adapter.c: random adapters as PEFT writes them: one rank, some or all linears of every block, factors in bf16.
 *
 * They lie in a folder of their own under TMPDIR and are opened like any other; the folder may be removed
 * at once, since adapters are copied.
 */
#include "bench/bench_internal.h"
#include "model/arch/arch.h"

#include <fcntl.h>

enum { NAME_SIZE = 112, PARTS = 3 };
static const char WEIGHTS[] = "adapter_model.safetensors", CONFIG[] = "adapter_config.json";

struct synth_adapter synth_adapter_of(const graft_bench_options *options)
{
    struct adapter_options held = {0};
    (void)adapter_retype(&held, options->adapter_type, NULL); /* api/ has refused what is no name */
    return (struct synth_adapter){.rank = options->rank,
                                  .dora = options->dora,
                                  .retype = held.retype,
                                  .type = held.type,
                                  .seed = 1};
}

struct plan {
    struct bench *b;
    const struct synth_adapter *adapter;
    struct tensor_decl *decls; /* [n] */
    char (*names)[NAME_SIZE];
    size_t n;
};

static void declare(struct plan *p, int layer, int id, const char *part, graft_type type,
                    int64_t rows, int64_t columns)
{
    char module[NAME_SIZE / 2];
    (void)arch_module(p->b->model->config.arch, NAMING_HF, SLOT_LINEAR + id, layer, module,
                      sizeof module);
    snprintf(p->names[p->n], NAME_SIZE, "base_model.model.%s.%s", module, part);
    struct tensor_decl *d = &p->decls[p->n];
    *d = (struct tensor_decl){.name = p->names[p->n], .type = type, .n_dims = columns ? 2 : 1};
    d->shape[0] = rows;
    d->shape[1] = columns;
    p->n++;
}

/* Is it among those asked for? */
static bool is_target(const struct plan *p, int id)
{
    const char *const *targets = p->adapter->targets;
    char module[NAME_SIZE / 2];
    (void)arch_module(p->b->model->config.arch, NAMING_HF, SLOT_LINEAR + id, 0, module,
                      sizeof module);
    for (int i = 0; targets && targets[i]; i++)
        if (!strcmp(strrchr(module, '.') + 1, targets[i]))
            return true;
    return !targets;
}

static void declare_all(struct plan *p)
{
    const struct model *m = p->b->model;
    for (int layer = 0; layer < m->config.n_layer; layer++)
        for (int id = 0; id < LINEAR_COUNT; id++) {
            const struct matrix *w = &m->layers[layer].linear[id];
            int rank = p->adapter->rank;
            if (!is_target(p, id))
                continue;
            declare(p, layer, id, "lora_A.weight", GRAFT_TYPE_BF16, rank, w->n_in);
            declare(p, layer, id, "lora_B.weight", GRAFT_TYPE_BF16, w->n_out, rank);
            if (p->adapter->dora)
                declare(p, layer, id, "lora_magnitude_vector", GRAFT_TYPE_F32, w->n_out, 0);
        }
}

/* Factors about 0, small beside the weights; magnitudes about 1. */
static graft_status write_tensor(const struct plan *p, const struct tensor_decl *d, uint64_t stream,
                                 struct file_writer *file, graft_error *error)
{
    enum { CHUNK = 4096 };
    int64_t n = d->shape[0] * (d->n_dims == 2 ? d->shape[1] : 1);
    struct rng rng;
    graft_status status = GRAFT_OK;
    rng_init(&rng, p->adapter->seed, stream);
    for (int64_t i = 0; i < n && status == GRAFT_OK; i += CHUNK) {
        float values[CHUNK];
        uint16_t halves[CHUNK];
        int64_t count = n - i < CHUNK ? n - i : CHUNK;
        for (int64_t j = 0; j < count; j++) {
            float x = (float)(2 * rng_uniform(&rng) - 1);
            values[j] = d->n_dims == 1 ? 1 + 0.1f * x : 0.02f * x;
            halves[j] = f32_to_bf16(values[j]);
        }
        if (d->type == GRAFT_TYPE_F32)
            status = file_writer_write(file, values, (size_t)count * sizeof *values, error);
        else
            status = file_writer_write(file, halves, (size_t)count * sizeof *halves, error);
    }
    return status;
}

static graft_status write_weights(struct plan *p, const char *path, graft_error *error)
{
    struct file_writer file = {0};
    graft_status status = file_writer_open(&file, p->b->mem, path, error);
    if (status == GRAFT_OK)
        status = safetensors_write_header(&file, p->decls, p->n, NULL, error);
    for (size_t i = 0; i < p->n && status == GRAFT_OK; i++)
        status = write_tensor(p, &p->decls[i], i, &file, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    return status;
}

static graft_status write_config(const struct plan *p, const char *path, graft_error *error)
{
    struct buf text;
    const char *const *targets = p->adapter->targets;
    buf_init(&text, p->b->mem, 4096);
    buf_printf(&text,
               "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": %d, "
               "\"lora_alpha\": %d, \"use_dora\": %s, \"target_modules\": ",
               p->adapter->rank, 2 * p->adapter->rank, p->adapter->dora ? "true" : "false");
    buf_puts(&text, targets ? "[" : "\"all-linear\"");
    for (int i = 0; targets && targets[i]; i++)
        buf_printf(&text, "%s\"%s\"", i ? ", " : "", targets[i]);
    buf_puts(&text, targets ? "]}\n" : "}\n");
    graft_status status = text.status;
    if (status == GRAFT_OK)
        status = file_write_atomic(p->b->mem, path, text.data, text.size, error);
    else
        error_set(error, status, "no memory for an adapter's configuration");
    buf_free(&text);
    return status;
}

static graft_status write_files(struct plan *p, const char *folder, graft_error *error)
{
    struct mem *mem = p->b->mem;
    size_t most = (size_t)p->b->model->config.n_layer * LINEAR_COUNT * PARTS;
    char *weights = path_join(mem, folder, WEIGHTS), *config = path_join(mem, folder, CONFIG);
    p->decls = mem_calloc(mem, most, sizeof *p->decls);
    p->names = mem_calloc(mem, most, sizeof *p->names);
    graft_status status = weights && config && p->decls && p->names
                              ? GRAFT_OK
                              : error_set(error, GRAFT_NO_MEMORY, "no memory for an adapter");
    if (status == GRAFT_OK) {
        declare_all(p);
        status = write_weights(p, weights, error);
    }
    if (status == GRAFT_OK)
        status = write_config(p, config, error);
    mem_free(mem, p->decls);
    mem_free(mem, p->names);
    mem_free(mem, weights);
    mem_free(mem, config);
    return status;
}

graft_status synth_adapter_write(struct bench *b, const struct synth_adapter *adapter,
                                 char **folder, graft_error *error)
{
    struct plan plan = {.b = b, .adapter = adapter};
    *folder = NULL;
    graft_status status = folder_temporary(b->mem, "graft-adapter", folder, error);
    if (status == GRAFT_OK)
        status = write_files(&plan, *folder, error);
    if (status != GRAFT_OK)
        synth_adapter_remove(b, folder);
    return status;
}

graft_status synth_adapter_keep(struct bench *b, const struct synth_adapter *adapter,
                                const char *path, graft_error *error)
{
    struct plan plan = {.b = b, .adapter = adapter};
    struct folder_writer folder;
    graft_status status = folder_writer_open(&folder, path, error);
    if (status == GRAFT_OK)
        status = write_files(&plan, folder.work, error);
    if (status == GRAFT_OK)
        status = folder_writer_commit(&folder, error);
    folder_writer_abort(&folder);
    return status;
}

void synth_adapter_remove(struct bench *b, char **folder)
{
    if (*folder)
        folder_remove(AT_FDCWD, *folder);
    mem_free(b->mem, *folder);
    *folder = NULL;
}

graft_status synth_adapter_open(struct bench *b, const struct synth_adapter *how,
                                struct adapter **out, graft_error *error)
{
    char *folder = NULL;
    const struct adapter_options options = {.retype = how->retype, .type = how->type};
    graft_status status = synth_adapter_write(b, how, &folder, error);
    if (status == GRAFT_OK)
        status = adapter_open(b->model, folder, &options, out, error);
    synth_adapter_remove(b, &folder);
    return status;
}
