/* weights.c: tensors of a file → the matrices and vectors of a model.
 *
 * Matrices stay where they are mapped; norms and biases, which are small and used as floats, are
 * converted into the model's arena. Every tensor has to be there with the expected shape and a type
 * that graft computes with, and none may be left over: a tensor that nobody asked for means that the
 * model is not what its configuration says.
 */
#include "model/config_internal.h"
#include "model/model_internal.h"

enum { NAME_SIZE = 160 };

struct binder {
    struct model *model;
    enum naming naming;
    bool *used; /* [tensor_set_count] */
    graft_error *error;
};

/* "module.suffix" of a slot; false: the architecture has none. */
static bool tensor_name(const struct binder *b, int slot, int layer, const char *suffix, char *out)
{
    char module[NAME_SIZE - 16];
    if (!arch_module(b->model->config.arch, b->naming, slot, layer, module, sizeof(module)))
        return false;
    snprintf(out, NAME_SIZE, "%s.%s", module, suffix);
    return true;
}

/* Looks a tensor up and marks it as used. */
static const struct tensor_info *take(struct binder *b, const char *name)
{
    const struct tensor_set *set = &b->model->tensors;
    int32_t i = str_map_get(&set->index, name, strlen(name));
    if (i < 0)
        return NULL;
    b->used[i] = true;
    return tensor_set_at(set, (size_t)i);
}

static graft_status missing(struct binder *b, const char *name)
{
    graft_status status = error_set(b->error, GRAFT_FORMAT, "tensor %s is missing", name);
    error_at_tensor(b->error, name);
    error_at_file(b->error, b->model->path);
    return status;
}

/* Names tensor and file of an error that was just set. */
static graft_status at_tensor(struct binder *b, const struct tensor_info *t, graft_status status)
{
    const struct tensor_set *set = &b->model->tensors;
    error_at_tensor(b->error, t->name);
    int32_t i = str_map_get(&set->index, t->name, strlen(t->name));
    if (i >= 0)
        error_at_file(b->error, tensor_set_file(set, (size_t)i));
    return status;
}

static void shape_text(const int64_t *shape, int n_dims, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < n_dims && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
}

static graft_status check_shape(struct binder *b, const struct tensor_info *t, int n_dims,
                                const int64_t *shape)
{
    bool equal = t->n_dims == n_dims;
    for (int i = 0; equal && i < n_dims; i++)
        equal = t->shape[i] == shape[i];
    if (equal)
        return GRAFT_OK;
    char want[64], have[160];
    shape_text(shape, n_dims, want, sizeof(want));
    shape_text(t->shape, t->n_dims, have, sizeof(have));
    graft_status status =
        error_set(b->error, GRAFT_SHAPE, "tensor %s is [%s], expected [%s]", t->name, have, want);
    error_shapes(b->error, n_dims, shape, t->n_dims, t->shape);
    return at_tensor(b, t, status);
}

static graft_status bad_type(struct binder *b, const struct tensor_info *t)
{
    return at_tensor(b, t,
                     error_set(b->error, GRAFT_UNSUPPORTED,
                               "tensor %s is of type %s, which graft does not compute with",
                               t->name, graft_type_name(t->type)));
}

static bool is_float(graft_type type)
{
    return type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16;
}

/* A vector of n values as floats. */
static graft_status bind_vector(struct binder *b, int slot, int layer, const char *suffix,
                                int64_t n, float **out)
{
    char name[NAME_SIZE] = "";
    const struct tensor_info *t = NULL;
    if (tensor_name(b, slot, layer, suffix, name))
        t = take(b, name);
    if (!t)
        return missing(b, name);
    graft_status status = check_shape(b, t, 1, &n);
    if (status != GRAFT_OK)
        return status;
    if (!is_float(t->type))
        return bad_type(b, t);
    float *values = arena_alloc(&b->model->arena, (size_t)n * sizeof(float));
    if (!values)
        return error_set(b->error, GRAFT_NO_MEMORY, "no memory for tensor %s", name);
    const struct matrix row = {
        .type = t->type, .n_out = 1, .n_in = n, .data = t->data, .row_bytes = t->size};
    b->model->runtime->kernels->dequantize[t->type](&row, 0, 0, n, values);
    *out = values;
    return GRAFT_OK;
}

/* Packed words [n_out, n_in / (32 / bits)] with scales and biases [n_out, n_in / group]. */
static graft_status bind_mlx(struct binder *b, const struct tensor_info *words, const char *module,
                             struct matrix *w)
{
    struct mlx_quant quant = mlx_lookup(&b->model->config, module);
    if (!quant.bits)
        return at_tensor(b, words,
                         error_set(b->error, GRAFT_FORMAT,
                                   "%s is quantised although the configuration says it is not",
                                   module));
    if (w->n_in % quant.group)
        return at_tensor(b, words,
                         error_set(b->error, GRAFT_FORMAT,
                                   "%s: rows of %lld values are no multiple of the group of %d",
                                   module, (long long)w->n_in, quant.group));
    int64_t shape[2] = {w->n_out, w->n_in * quant.bits / 32};
    graft_status status = check_shape(b, words, 2, shape);
    shape[1] = w->n_in / quant.group;
    const void **parts[2] = {&w->scales, &w->biases};
    static const char *const SUFFIXES[2] = {"scales", "biases"};
    for (int i = 0; status == GRAFT_OK && i < 2; i++) {
        char name[NAME_SIZE + 16];
        snprintf(name, sizeof(name), "%s.%s", module, SUFFIXES[i]);
        const struct tensor_info *t = take(b, name);
        if (!t)
            return missing(b, name);
        status = check_shape(b, t, 2, shape);
        if (status == GRAFT_OK && (!is_float(t->type) || (i && t->type != w->scale_type)))
            status = bad_type(b, t);
        w->scale_type = t->type;
        *parts[i] = t->data;
    }
    w->type = quant.bits == 4 ? GRAFT_TYPE_MLX4 : GRAFT_TYPE_MLX8;
    w->group = quant.group;
    return status;
}

static graft_status bind_matrix(struct binder *b, int slot, int layer, int64_t n_out, int64_t n_in,
                                struct matrix *out)
{
    char name[NAME_SIZE] = "";
    const struct tensor_info *t = NULL;
    if (tensor_name(b, slot, layer, "weight", name))
        t = take(b, name);
    if (!t)
        return missing(b, name);
    struct matrix w = {.type = t->type, .n_out = n_out, .n_in = n_in, .data = t->data};
    graft_status status;
    if (t->type == GRAFT_TYPE_U32 && b->model->config.has_mlx) {
        name[strlen(name) - strlen(".weight")] = '\0';
        status = bind_mlx(b, t, name, &w);
    } else {
        const int64_t shape[2] = {n_out, n_in};
        status = check_shape(b, t, 2, shape);
        if (status == GRAFT_OK && !kernels_have_type(t->type))
            status = bad_type(b, t);
    }
    if (status == GRAFT_OK && !type_row_bytes(w.type, n_in, &w.row_bytes))
        status = at_tensor(b, t,
                           error_set(b->error, GRAFT_FORMAT,
                                     "tensor %s: rows of %lld values do not fit blocks of %s",
                                     t->name, (long long)n_in, graft_type_name(w.type)));
    if (status == GRAFT_OK)
        *out = w;
    return status;
}

/* ---- a block ------------------------------------------------------------------------------ */

static graft_status bind_linears(struct binder *b, int layer, struct layer *l)
{
    const struct config *c = &b->model->config;
    int64_t d_q = (int64_t)c->n_head * c->d_head, d_kv = (int64_t)c->n_kv * c->d_head;
    const struct {
        int64_t n_out, n_in;
    } shapes[LINEAR_COUNT] = {
        [LINEAR_Q] = {d_q, c->d_model},        [LINEAR_K] = {d_kv, c->d_model},
        [LINEAR_V] = {d_kv, c->d_model},       [LINEAR_O] = {c->d_model, d_q},
        [LINEAR_GATE] = {c->d_ff, c->d_model}, [LINEAR_UP] = {c->d_ff, c->d_model},
        [LINEAR_DOWN] = {c->d_model, c->d_ff},
    };
    graft_status status = GRAFT_OK;
    for (int i = 0; status == GRAFT_OK && i < LINEAR_COUNT; i++) {
        status =
            bind_matrix(b, SLOT_LINEAR + i, layer, shapes[i].n_out, shapes[i].n_in, &l->linear[i]);
        if (status == GRAFT_OK && c->biases & 1u << i)
            status = bind_vector(b, SLOT_LINEAR + i, layer, "bias", shapes[i].n_out, &l->bias[i]);
    }
    return status;
}

static graft_status bind_layer(struct binder *b, int layer)
{
    const struct config *c = &b->model->config;
    struct layer *l = &b->model->layers[layer];
    graft_status status =
        bind_vector(b, SLOT_ATTN_NORM, layer, "weight", c->d_model, &l->attn_norm);
    if (status == GRAFT_OK)
        status = bind_vector(b, SLOT_MLP_NORM, layer, "weight", c->d_model, &l->mlp_norm);
    if (status == GRAFT_OK && c->qk_norm)
        status = bind_vector(b, SLOT_Q_NORM, layer, "weight", c->d_head, &l->q_norm);
    if (status == GRAFT_OK && c->qk_norm)
        status = bind_vector(b, SLOT_K_NORM, layer, "weight", c->d_head, &l->k_norm);
    return status == GRAFT_OK ? bind_linears(b, layer, l) : status;
}

static graft_status bind_ends(struct binder *b)
{
    struct model *m = b->model;
    const struct config *c = &m->config;
    graft_status status = bind_matrix(b, SLOT_EMBED, 0, c->n_vocab, c->d_model, &m->embed);
    if (status == GRAFT_OK)
        status = bind_vector(b, SLOT_FINAL_NORM, 0, "weight", c->d_model, &m->final_norm);
    if (status != GRAFT_OK)
        return status;
    if (c->arch->score)
        return bind_matrix(b, SLOT_HEAD, 0, c->n_labels, c->d_model, &m->head);
    if (!c->tied)
        return bind_matrix(b, SLOT_HEAD, 0, c->n_vocab, c->d_model, &m->head);
    m->head = m->embed;
    return GRAFT_OK;
}

/* ---- what is left over -------------------------------------------------------------------- */

/* Tensors that some writers leave behind and that change nothing. */
static bool is_harmless(const struct config *c, const char *name)
{
    static const char BUFFER[] = ".self_attn.rotary_emb.inv_freq";
    size_t n = strlen(name);
    if (n >= sizeof(BUFFER) && !strcmp(name + n - (sizeof(BUFFER) - 1), BUFFER))
        return true;
    return c->tied && !strncmp(name, "lm_head.", 8); /* a copy of the embedding */
}

static graft_status check_leftovers(struct binder *b)
{
    const struct tensor_set *set = &b->model->tensors;
    const struct tensor_info *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < tensor_set_count(set); i++) {
        const struct tensor_info *t = tensor_set_at(set, i);
        if (b->used[i] || is_harmless(&b->model->config, t->name))
            continue;
        first = first ? first : t;
        n++;
    }
    if (!n)
        return GRAFT_OK;
    char more[48] = "";
    if (n > 1)
        snprintf(more, sizeof(more), " (and %zu more)", n - 1);
    return at_tensor(b, first,
                     error_set(b->error, GRAFT_UNSUPPORTED,
                               "tensor %s%s has no place in this %s: its configuration asks for no "
                               "such tensor",
                               first->name, more, b->model->config.architecture));
}

static const char ROPE_FREQS[] = "rope_freqs.weight";

graft_status weights_bind(struct model *m, graft_error *error)
{
    struct mem *mem = &m->runtime->mem;
    size_t n_layer = (size_t)m->config.n_layer;
    struct binder b = {.model = m,
                       .naming = m->tensors.gguf ? NAMING_GGUF : NAMING_HF,
                       .used = mem_calloc(mem, tensor_set_count(&m->tensors) + 1, sizeof(bool)),
                       .error = error};
    m->layers = arena_alloc(&m->arena, n_layer * sizeof(*m->layers));
    graft_status status = GRAFT_OK;
    if (!b.used || !m->layers)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for %zu layers", n_layer);
    else
        memset(m->layers, 0, n_layer * sizeof(*m->layers));
    if (status == GRAFT_OK)
        status = bind_ends(&b);
    for (int i = 0; status == GRAFT_OK && i < m->config.n_layer; i++)
        status = bind_layer(&b, i);
    if (status == GRAFT_OK) {
        if (b.naming == NAMING_GGUF)
            take(&b, ROPE_FREQS);
        status = check_leftovers(&b);
    }
    mem_free(mem, b.used);
    return status;
}

graft_status weights_rope(struct model *m, graft_error *error)
{
    struct mem *mem = &m->runtime->mem;
    int n = m->config.d_head / 2;
    double mscale;
    double *freq = mem_alloc(mem, (size_t)n * sizeof(*freq));
    m->rope_freq = arena_alloc(&m->arena, (size_t)n * sizeof(float));
    if (!freq || !m->rope_freq) {
        mem_free(mem, freq);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the rotary embedding");
    }
    config_rope_frequencies(&m->config, freq, &mscale);
    for (int i = 0; i < n; i++)
        m->rope_freq[i] = (float)freq[i];
    m->rope_mscale = (float)mscale;

    const struct tensor_info *t = m->tensors.gguf ? tensor_set_find(&m->tensors, ROPE_FREQS) : NULL;
    graft_status status = GRAFT_OK;
    if (t) { /* Llama 3's scaling, worked out by the converter: one divisor per plane */
        struct binder b = {.model = m, .error = error};
        const int64_t shape = n;
        status = check_shape(&b, t, 1, &shape);
        if (status == GRAFT_OK && t->type != GRAFT_TYPE_F32)
            status = bad_type(&b, t);
        for (int i = 0; status == GRAFT_OK && i < n; i++) {
            float divisor;
            memcpy(&divisor, t->data + (size_t)i * sizeof(float), sizeof(float));
            if (!(divisor > 0))
                status = at_tensor(&b, t,
                                   error_set(error, GRAFT_FORMAT, "%s: divisor %d is %g",
                                             ROPE_FREQS, i, (double)divisor));
            m->rope_freq[i] = (float)(freq[i] / (double)divisor);
        }
    }
    mem_free(mem, freq);
    return status;
}
