/* bind.c: the modules of a spec → sites of a model, with every check that a shape or a name allows.
 *
 * What fails here is mostly an adapter for another base, so errors say what the two would have to agree on.
 */
#include "adapter/adapter_internal.h"

#include "model/arch/arch.h"

enum { NAME_SIZE = 160, DIRECTORY_LIMIT = 16 << 20 };

/* ---- directory ---------------------------------------------------------------------------- */

static int slot_layers(const struct model *model, int slot)
{
    return slot < SLOT_ATTN_NORM ? 1 : model->config.n_layer;
}

graft_status directory_open(struct directory *out, const struct model *model, bool gguf,
                            graft_error *error)
{
    struct directory d = {.model = model};
    int n_layer = model->config.n_layer;
    bool ok = true;
    arena_init(&d.arena, &model->runtime->mem, DIRECTORY_LIMIT);
    str_map_init(&d.index, &model->runtime->mem);
    for (int slot = 0; slot < SLOT_COUNT && ok; slot++)
        for (int layer = 0; layer < slot_layers(model, slot) && ok; layer++) {
            char name[NAME_SIZE];
            if (!arch_module(model->config.arch, gguf ? NAMING_GGUF : NAMING_HF, slot, layer, name,
                             sizeof name))
                continue;
            size_t length = strlen(name);
            char *copy = arena_strndup(&d.arena, name, length);
            ok = copy && str_map_put(&d.index, copy, length, slot * n_layer + layer, NULL);
        }
    if (!ok) {
        directory_close(&d);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the names of %d layers", n_layer);
    }
    *out = d;
    return GRAFT_OK;
}

void directory_close(struct directory *d)
{
    str_map_free(&d->index);
    arena_free(&d->arena);
}

/* ---- checks ------------------------------------------------------------------------------- */

static graft_status wrong_shape(const struct tensor_info *t, int64_t rows, int64_t columns,
                                const char *cause, graft_error *error)
{
    const int64_t want[] = {rows, columns};
    int dims = columns ? 2 : 1;
    char found[96] = "", expected[48];
    size_t used = 0;
    for (int i = 0; i < t->n_dims && i < 4; i++)
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%lld", i ? ", " : "",
                                 (long long)t->shape[i]);
    snprintf(expected, sizeof expected, columns ? "%lld, %lld" : "%lld", (long long)rows,
             (long long)columns);
    graft_status status =
        tensor_refused(t, GRAFT_SHAPE, error, "is [%s], expected [%s]: %s", found, expected, cause);
    error_shapes(error, dims, want, t->n_dims, t->shape);
    return status;
}

static graft_status other_width(const struct tensor_info *t, int64_t rows, int64_t columns,
                                const char *what, int64_t there, int64_t here, graft_error *error)
{
    char cause[128];
    snprintf(cause, sizeof cause, "made for another base: %lld %s there, %lld here",
             (long long)there, what, (long long)here);
    return wrong_shape(t, rows, columns, cause, error);
}

static bool is_float(graft_type type)
{
    return type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16;
}

static graft_status check_type(const struct tensor_info *t, bool float_only, graft_error *error)
{
    bool mlx = t->type == GRAFT_TYPE_MLX4 || t->type == GRAFT_TYPE_MLX8;
    if (is_float(t->type) || (!float_only && !mlx && kernels_have_type(t->type)))
        return GRAFT_OK;
    return tensor_refused(t, GRAFT_UNSUPPORTED, error, "it is of type %s, which is none for this",
                          graft_type_name(t->type));
}

/* A [rank, n_in] and B [n_out, rank], or both transposed. */
static graft_status check_pair(const struct build *b, const struct tensor_info *ta,
                               const struct tensor_info *tb, graft_error *error)
{
    bool mlx = b->transposed;
    int64_t n_in = b->n_in, n_out = b->n_out;
    if (ta->n_dims != 2)
        return wrong_shape(ta, mlx ? n_in : b->rank, mlx ? b->rank : n_in, "a factor is a matrix",
                           error);
    if (tb->n_dims != 2)
        return wrong_shape(tb, mlx ? b->rank : n_out, mlx ? n_out : b->rank, "a factor is a matrix",
                           error);
    int64_t in = ta->shape[mlx ? 0 : 1], rank = ta->shape[mlx ? 1 : 0];
    int64_t out = tb->shape[mlx ? 1 : 0], rank_b = tb->shape[mlx ? 0 : 1];
    bool turned = rank == n_in && rank_b == n_out && in == out;
    if (turned && (in != n_in || out != n_out))
        return wrong_shape(ta, mlx ? n_in : in, mlx ? in : n_in,
                           mlx ? "it looks transposed, as PEFT stores it"
                               : "it looks transposed, as MLX stores it",
                           error);
    if (in != n_in)
        return other_width(ta, mlx ? n_in : rank, mlx ? rank : n_in, "inputs", in, n_in, error);
    if (out != n_out)
        return other_width(tb, mlx ? rank : n_out, mlx ? n_out : rank, "outputs", out, n_out,
                           error);
    if (rank != rank_b)
        return wrong_shape(tb, mlx ? rank : n_out, mlx ? n_out : rank, "its A is of another rank",
                           error);
    if (rank < 1)
        return tensor_refused(ta, GRAFT_FORMAT, error, "its rank is 0");
    return GRAFT_OK;
}

static graft_status check_vector(const struct tensor_info *t, int64_t n, graft_error *error)
{
    if (!t)
        return GRAFT_OK;
    if (t->n_dims != 1)
        return wrong_shape(t, n, 0, "it should be a vector", error);
    if (t->shape[0] != n)
        return other_width(t, n, 0, "outputs", t->shape[0], n, error);
    return check_type(t, true, error);
}

/* ---- modules ------------------------------------------------------------------------------ */

static const struct tensor_info *first_part(const struct module *m)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (m->parts[i])
            return m->parts[i];
    return NULL;
}

/* The block that a name speaks of, or −1. */
static long long named_block(const char *name)
{
    const char *p = strstr(name, "layers.");
    p = p ? p + 7 : !strncmp(name, "blk.", 4) ? name + 4 : NULL;
    return p && *p >= '0' && *p <= '9' ? strtoll(p, NULL, 10) : -1;
}

static graft_status no_such_module(const struct model *model, const struct module *m,
                                   graft_error *error)
{
    long long block = named_block(m->name);
    if (block >= model->config.n_layer)
        return tensor_refused(first_part(m), GRAFT_SHAPE, error,
                              "made for another base: it changes block %lld, and this one has %d "
                              "(counted from 0)",
                              block, model->config.n_layer);
    return tensor_refused(first_part(m), GRAFT_UNSUPPORTED, error,
                          "%s (%s) has no module %s: made for another base",
                          model->config.architecture, path_base(model->path), m->name);
}

static graft_type held_type(const struct tensor_info *t, int64_t row,
                            const struct adapter_options *options)
{
    if (!options || !options->retype)
        return kernels_have_factor(t->type) ? t->type : GRAFT_TYPE_F32;
    return row % type_traits(options->type)->block_values ? GRAFT_TYPE_BF16 : options->type;
}

/* GGUFs of some architectures hold q and k rows in another order than all else. */
static enum row_order row_order(const struct model *model, const struct spec *spec, int slot)
{
    bool here = model->config.rope.interleaved;
    bool there = spec->format == ADAPTER_GGUF && model->config.arch->gguf_interleaved;
    if ((slot != SLOT_LINEAR + LINEAR_Q && slot != SLOT_LINEAR + LINEAR_K) || here == there)
        return ROWS_STAY;
    return here ? ROWS_INTERLEAVE : ROWS_HALVES;
}

int64_t source_row(const struct build *b, int64_t row)
{
    int64_t d = b->d_head, head = row / d, i = row % d;
    if (b->order == ROWS_INTERLEAVE) /* row 2 · plane + part comes from part · d / 2 + plane */
        return head * d + i % 2 * (d / 2) + i / 2;
    if (b->order == ROWS_HALVES)
        return head * d + i % (d / 2) * 2 + i / (d / 2);
    return row;
}

static graft_status bind_linear(struct adapter *adapter, const struct spec *spec,
                                const struct module *m, int slot, int layer,
                                const struct adapter_options *options, graft_error *error)
{
    const struct model *model = adapter->model;
    int site = slot == SLOT_HEAD ? model_head_site(model)
                                 : model_site(layer, (enum linear_id)(slot - SLOT_LINEAR));
    const struct matrix *w = model_site_weight(model, site);
    const struct tensor_info *a = m->parts[PART_A], *tb = m->parts[PART_B];
    bool mlx = spec->format == ADAPTER_MLX;
    struct build b = {.module = m,
                      .site = site,
                      .n_in = w->n_in,
                      .n_out = w->n_out,
                      .order = row_order(model, spec, slot),
                      .d_head = model->config.d_head,
                      .transposed = mlx};
    b.rank = a->n_dims == 2 ? a->shape[mlx ? 1 : 0] : spec->rank;
    graft_status status = check_pair(&b, a, tb, error);
    if (status == GRAFT_OK)
        status = check_type(a, mlx, error);
    if (status == GRAFT_OK)
        status = check_type(tb, mlx, error);
    if (status == GRAFT_OK)
        status = check_vector(m->parts[PART_MAGNITUDE], w->n_out, error);
    if (status == GRAFT_OK)
        status = check_vector(m->parts[PART_LORA_BIAS], w->n_out, error);
    if (status == GRAFT_OK)
        status = spec_scale(spec, m->name, b.rank, &b.scale, error);
    if (status != GRAFT_OK) {
        error_at_tensor(error, a->name);
        return status;
    }
    if (b.scale == 0)
        runtime_log(model->runtime, GRAFT_LOG_WARN,
                    "the scale of %s is 0: the adapter does nothing there", m->name);
    b.a = held_type(a, w->n_in, options);
    b.b = is_float(tb->type) || (options && options->retype)
              ? held_type(tb, LOWRANK_TILE, options)
              : GRAFT_TYPE_F32; /* blocks of a row of B do not survive the tiles */
    adapter->builds[adapter->n_builds++] = b;
    return GRAFT_OK;
}

static graft_status bind_module(struct adapter *adapter, const struct spec *spec,
                                const struct directory *d, const struct module *m,
                                const struct adapter_options *options, graft_error *error)
{
    const struct model *model = adapter->model;
    int32_t at = str_map_get(&d->index, m->name, strlen(m->name));
    if (at < 0)
        return no_such_module(model, m, error);
    int slot = at / model->config.n_layer, layer = at % model->config.n_layer;
    const struct module_place place = {.name = m->name,
                                       .layer = slot < SLOT_ATTN_NORM ? -1 : layer,
                                       .n_layer = model->config.n_layer,
                                       .linear = slot >= SLOT_LINEAR};
    if (m->parts[PART_WEIGHT])
        return tensor_refused(m->parts[PART_WEIGHT], GRAFT_UNSUPPORTED, error,
                              "it is a whole module, which graft does not apply");
    bool target = false;
    graft_status status = spec_is_target(spec, &place, &target, error);
    if (status != GRAFT_OK)
        return status;
    if (!target)
        return tensor_refused(first_part(m), GRAFT_FORMAT, error,
                              "by its configuration the adapter does not change %s", m->name);
    if (!m->parts[PART_A] || (slot < SLOT_LINEAR && slot != SLOT_HEAD))
        return tensor_refused(first_part(m), GRAFT_UNSUPPORTED, error,
                              "%s is no linear layer; graft applies low-rank factors to those",
                              m->name);
    return bind_linear(adapter, spec, m, slot, layer, options, error);
}

static graft_status check_architecture(const struct model *model, const struct spec *spec,
                                       graft_error *error)
{
    const struct arch *arch = model->config.arch;
    const char *name = arch->gguf ? arch->gguf : arch->model_type;
    if (spec->format != ADAPTER_GGUF || !strcmp(spec->architecture, name))
        return GRAFT_OK;
    return error_set(error, GRAFT_UNSUPPORTED,
                     "made for another base: architecture %s there, %s here", spec->architecture,
                     name);
}

graft_status bind_modules(struct adapter *adapter, const struct spec *spec,
                          const struct adapter_options *options, graft_error *error)
{
    struct directory d;
    if (options && options->retype && !kernels_have_factor(options->type))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "factors cannot be of type %s",
                         graft_type_name(options->type));
    graft_status status = check_architecture(adapter->model, spec, error);
    if (status != GRAFT_OK)
        return status;
    adapter->builds = mem_calloc(adapter->mem, spec->n_modules, sizeof *adapter->builds);
    if (!adapter->builds)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu modules", spec->n_modules);
    status = directory_open(&d, adapter->model, spec->format == ADAPTER_GGUF, error);
    if (status != GRAFT_OK)
        return status;
    for (size_t i = 0; i < spec->n_modules && status == GRAFT_OK; i++)
        status = bind_module(adapter, spec, &d, &spec->modules[i], options, error);
    directory_close(&d);
    return status;
}
