/* whole.c: every parameter of a model as values that are trained, and a model made of them.
 *
 * What is written goes the way of a conversion: of a copy of the model's description whose weights lie in the values. A
 * tied head is the embedding: one part, with one gradient.
 */
#include "adapter/trainable/whole.h"
#include "model/arch/arch.h"
#include "model/convert/convert.h"

enum { GRAIN = 16 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the values of a model");
}

static struct mem *mem_of(const struct trainable *t)
{
    return &t->model->runtime->mem;
}

/* ---- places ------------------------------------------------------------------------------- */

/* One more part, at its place; the first pass only counts. */
struct places {
    struct trainable *t;
    int n_parts;
    int64_t n_values;
};

static struct trained place(struct places *p, int64_t rows, int64_t cols, bool inner)
{
    struct trainable *t = p->t;
    const int64_t n = rows * (cols ? cols : 1), at = p->n_values;
    if (t->parts)
        t->parts[p->n_parts] = (struct trainable_part){.at = at,
                                                       .n = n,
                                                       .rows = inner ? rows : 0,
                                                       .cols = inner ? cols : 0,
                                                       .vector = cols == 0};
    p->n_parts++;
    p->n_values += (n + GRAIN - 1) / GRAIN * GRAIN;
    if (!t->values)
        return (struct trained){NULL, NULL};
    return (struct trained){t->values + at, t->grads + at};
}

static void place_norm(struct places *p, int norm)
{
    if (model_norm_weight(p->t->model, norm))
        p->t->norms[norm] = place(p, model_norm_width(p->t->model, norm), 0, false);
}

static void place_layer(struct places *p, int layer)
{
    const struct model *m = p->t->model;
    for (int id = 0; id < NORM_COUNT; id++)
        place_norm(p, model_norm(layer, (enum norm_id)id));
    for (int id = 0; id < LINEAR_COUNT; id++) {
        struct train_site *site = &p->t->set.sites[model_site(layer, (enum linear_id)id)];
        const struct matrix *w = &m->layers[layer].linear[id];
        site->weight = place(p, w->n_out, w->n_in, true);
        if (m->layers[layer].bias[id])
            site->bias = place(p, w->n_out, 0, false);
    }
}

static void place_all(struct places *p)
{
    struct trainable *t = p->t;
    const struct model *m = t->model;
    struct train_site *head = &t->set.sites[model_head_site(m)];
    t->set.embed = place(p, m->embed.n_out, m->embed.n_in, false);
    for (int layer = 0; layer < m->config.n_layer; layer++)
        place_layer(p, layer);
    place_norm(p, model_final_norm(m));
    head->weight = m->config.tied ? t->set.embed : place(p, m->head.n_out, m->head.n_in, false);
}

/* ---- values ------------------------------------------------------------------------------- */

struct decoding {
    const struct kernels *kernels;
    const struct matrix *from;
    float *to;
};

static void decode_share(void *context, int worker, int n_workers)
{
    const struct decoding *d = context;
    int64_t begin, end;
    pool_split(d->from->n_out, 1, worker, n_workers, &begin, &end);
    for (int64_t row = begin; row < end; row++)
        d->kernels->dequantize[d->from->type](d->from, row, 0, d->from->n_in,
                                              d->to + row * d->from->n_in);
}

static void decode(const struct trainable *t, const struct matrix *from, float *to)
{
    struct decoding d = {t->model->runtime->kernels, from, to};
    pool_run(t->model->runtime->pool, decode_share, &d);
}

static void read_values(struct trainable *t)
{
    const struct model *m = t->model;
    decode(t, &m->embed, t->set.embed.value);
    for (int site = 0; site < model_n_sites(m); site++) {
        const struct train_site *s = &t->set.sites[site];
        if (s->weight.value != t->set.embed.value)
            decode(t, model_site_weight(m, site), s->weight.value);
        if (s->bias.value)
            memcpy(s->bias.value, m->layers[site / LINEAR_COUNT].bias[site % LINEAR_COUNT],
                   (size_t)model_site_weight(m, site)->n_out * sizeof(float));
    }
    for (int norm = 0; norm < model_n_norms(m); norm++)
        if (t->norms[norm].value)
            memcpy(t->norms[norm].value, model_norm_weight(m, norm),
                   (size_t)model_norm_width(m, norm) * sizeof(float));
}

graft_status whole_open(struct trainable *t, graft_error *error)
{
    struct mem *mem = mem_of(t);
    t->whole = true;
    t->set.sites = mem_calloc(mem, (size_t)model_n_sites(t->model), sizeof *t->set.sites);
    t->norms = mem_calloc(mem, (size_t)model_n_norms(t->model), sizeof *t->norms);
    if (!t->set.sites || !t->norms)
        return no_memory(error);
    t->set.norms = t->norms;
    struct places count = {.t = t};
    place_all(&count);
    t->parts = mem_calloc(mem, (size_t)count.n_parts, sizeof *t->parts);
    t->values = mem_calloc(mem, (size_t)count.n_values, sizeof *t->values);
    t->grads = mem_calloc(mem, (size_t)count.n_values, sizeof *t->grads);
    if (!t->parts || !t->values || !t->grads)
        return no_memory(error);
    t->n_values = count.n_values;
    t->n_parts = count.n_parts;
    struct places places = {.t = t};
    place_all(&places);
    for (int i = 0; i < t->n_parts; i++)
        t->n_trained += t->parts[i].n;
    read_values(t);
    return GRAFT_OK;
}

/* ---- write -------------------------------------------------------------------------------- */

graft_type whole_type(const struct model *model)
{
    const graft_type type = model->layers[0].linear[LINEAR_Q].type;
    return type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 ? type : GRAFT_TYPE_BF16;
}

/* The model's description over `values`. */
struct described {
    struct model model;
    const struct trainable *t;
    const float *values;
};

static float *value_at(const struct described *d, const struct trained *trained)
{
    return (float *)(uintptr_t)d->values + (trained->value - d->t->values);
}

static void put_matrix(const struct described *d, struct matrix *w, const struct trained *trained)
{
    *w = (struct matrix){.type = GRAFT_TYPE_F32,
                         .n_out = w->n_out,
                         .n_in = w->n_in,
                         .data = value_at(d, trained),
                         .row_bytes = (size_t)w->n_in * sizeof(float)};
}

static void put_vector(const struct described *d, float **vector, const struct trained *trained)
{
    if (trained->value)
        *vector = value_at(d, trained);
}

static void put_layer(const struct described *d, int layer)
{
    struct layer *l = &d->model.layers[layer];
    const struct trainable *t = d->t;
    float **const norms[NORM_COUNT] = {[NORM_ATTN] = &l->attn_norm,
                                       [NORM_MLP] = &l->mlp_norm,
                                       [NORM_Q] = &l->q_norm,
                                       [NORM_K] = &l->k_norm};
    for (int id = 0; id < NORM_COUNT; id++)
        put_vector(d, norms[id], &t->norms[model_norm(layer, (enum norm_id)id)]);
    for (int id = 0; id < LINEAR_COUNT; id++) {
        const struct train_site *site = &t->set.sites[model_site(layer, (enum linear_id)id)];
        put_matrix(d, &l->linear[id], &site->weight);
        put_vector(d, &l->bias[id], &site->bias);
    }
}

/* d->model.layers is the caller's to free. */
static graft_status describe(struct described *d, graft_error *error)
{
    const struct trainable *t = d->t;
    const size_t n = (size_t)t->model->config.n_layer;
    d->model = *t->model;
    d->model.layers = mem_calloc(mem_of(t), n, sizeof *d->model.layers);
    if (!d->model.layers)
        return no_memory(error);
    memcpy(d->model.layers, t->model->layers, n * sizeof *d->model.layers);
    put_matrix(d, &d->model.embed, &t->set.embed);
    put_matrix(d, &d->model.head, &t->set.sites[model_head_site(t->model)].weight);
    put_vector(d, &d->model.final_norm, &t->norms[model_final_norm(t->model)]);
    for (int layer = 0; layer < t->model->config.n_layer; layer++)
        put_layer(d, layer);
    return GRAFT_OK;
}

struct beside {
    const struct trainable *t;
    const struct trainable_output *output;
};

/* training.json into a directory that nobody sees yet. */
static graft_status write_beside(void *user, const char *path, graft_error *error)
{
    const struct beside *b = user;
    struct mem *mem = mem_of(b->t);
    if (!b->output->about || b->output->format == ADAPTER_GGUF)
        return GRAFT_OK;
    char *file = path_join(mem, path, "training.json");
    char *text = json_dumps(b->output->about, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    struct buf line;
    buf_init(&line, mem, SIZE_MAX);
    buf_printf(&line, "%s\n", text ? text : "");
    graft_status status = file && text && line.status == GRAFT_OK
                              ? file_write_atomic(mem, file, line.data, line.size, error)
                              : no_memory(error);
    free(text); /* jansson's */
    buf_free(&line);
    mem_free(mem, file);
    return status;
}

graft_status whole_check_format(const struct model *model, enum adapter_format format,
                                graft_error *error)
{
    if (format == ADAPTER_MLX)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "a model that is trained whole is written as a Hugging Face directory, "
                         "which mlx-lm opens too: leave the format out");
    if (format == ADAPTER_GGUF && !model->config.arch->gguf)
        return error_set(error, GRAFT_UNSUPPORTED, "%s has no form in GGUF: leave the format out",
                         model->config.architecture);
    return GRAFT_OK;
}

graft_status whole_write(const struct trainable *t, const float *values, const char *path,
                         const struct trainable_output *output, graft_error *error)
{
    struct described d = {.t = t, .values = values};
    struct beside beside = {t, output};
    struct convert_fuse how = {.written = write_beside, .user = &beside};
    const graft_convert_options options = {
        .struct_size = sizeof options,
        .format = output->format == ADAPTER_GGUF ? GRAFT_FORMAT_GGUF : GRAFT_FORMAT_HF,
        .type = output->type == GRAFT_TYPE_F32   ? "f32"
                : output->type == GRAFT_TYPE_F16 ? "f16"
                                                 : "bf16"};
    graft_status status = whole_check_format(t->model, output->format, error);
    if (status == GRAFT_OK)
        status = describe(&d, error);
    if (status == GRAFT_OK)
        status = model_convert_fused(&d.model, path, &options, &how, error);
    mem_free(mem_of(t), d.model.layers);
    return status;
}
