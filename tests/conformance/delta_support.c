/* delta_support.c: see delta_support.h. */
#include "delta_support.h"

#include "model/arch/arch.h"

#include <math.h>

static double uniform(struct rng *rng) /* (−1, 1) */
{
    return 2 * rng_uniform(rng) - 1;
}

/* ---- weights by site ---------------------------------------------------------------------- */

/* "weight" or "bias" of a site; NULL when there is none. */
static struct oracle_tensor *site_tensor(struct oracle_model *weights, const struct model *m,
                                         int site, const char *suffix)
{
    char module[160], name[176];
    bool head = site == model_head_site(m);
    int slot = head ? SLOT_HEAD : SLOT_LINEAR + site % LINEAR_COUNT;
    assert_true(
        arch_module(m->config.arch, NAMING_HF, slot, site / LINEAR_COUNT, module, sizeof(module)));
    snprintf(name, sizeof(name), "%s.%s", module, suffix);
    for (size_t i = 0; i < weights->n_tensors; i++)
        if (!strcmp(weights->tensors[i].name, name))
            return &weights->tensors[i];
    return NULL;
}

static double *factor_values(const struct matrix *f)
{
    size_t n = (size_t)(f->n_out * f->n_in);
    float *row = malloc((size_t)f->n_in * sizeof(*row));
    double *out = malloc(n * sizeof(*out));
    for (int64_t r = 0; r < f->n_out; r++) {
        kernels_tier(0)->dequantize[f->type](f, r, 0, f->n_in, row);
        for (int64_t i = 0; i < f->n_in; i++)
            out[r * f->n_in + i] = (double)row[i];
    }
    free(row);
    return out;
}

/* W + scale · B A, [n_out, n_in] */
static double *adapted_weights(const struct oracle_tensor *w, const struct lowrank *l)
{
    int64_t rank = l->a.n_out, n_out = w->shape[0], n_in = w->shape[1];
    double *a = factor_values(&l->a), *tiles = factor_values(&l->b);
    double *out = malloc((size_t)(n_out * n_in) * sizeof(*out));
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t i = 0; i < n_in; i++) {
            double sum = 0;
            for (int64_t r = 0; r < rank; r++)
                sum += tiles[(o / LOWRANK_TILE * rank + r) * LOWRANK_TILE + o % LOWRANK_TILE] *
                       a[r * n_in + i];
            out[o * n_in + i] = (double)w->values[o * n_in + i] + (double)l->scale * sum;
        }
    free(a);
    free(tiles);
    return out;
}

static double norm(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* ---- adapters ----------------------------------------------------------------------------- */

static float *random_values(struct rng *rng, int64_t n, double amplitude)
{
    float *values = malloc((size_t)n * sizeof(*values));
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(amplitude * uniform(rng));
    return values;
}

static struct matrix empty_factor(graft_type type, int64_t rows, int64_t columns)
{
    const struct type_traits *traits = type_traits(type);
    size_t row = (size_t)(columns / traits->block_values) * traits->block_bytes;
    return (struct matrix){.type = type,
                           .n_out = rows,
                           .n_in = columns,
                           .data = malloc((size_t)rows * row),
                           .row_bytes = row};
}

static struct matrix random_a(struct rng *rng, graft_type type, int64_t rank, int64_t n_in,
                              double amplitude)
{
    if (n_in % type_traits(type)->block_values)
        type = GRAFT_TYPE_BF16;
    struct matrix a = empty_factor(type, rank, n_in);
    float *values = random_values(rng, rank * n_in, amplitude);
    for (int64_t r = 0; r < rank; r++)
        assert_true(quantize_row(type, values + r * n_in, n_in,
                                 (uint8_t *)a.data + (size_t)r * a.row_bytes));
    free(values);
    return a;
}

static struct matrix random_b(struct rng *rng, graft_type type, int64_t rank, int64_t n_out,
                              double amplitude)
{
    struct matrix b = empty_factor(type, lowrank_b_rows(rank, n_out), LOWRANK_TILE);
    float *values = random_values(rng, n_out * rank, amplitude);
    assert_true(lowrank_pack_b(type, values, n_out, rank, (void *)b.data));
    free(values);
    return b;
}

static void make_gain(struct adapter *out, struct rng *rng, const struct oracle_tensor *w, int site)
{
    struct lowrank *l = &out->own[site];
    int64_t n_out = w->shape[0], n_in = w->shape[1];
    double *adapted = adapted_weights(w, l), *magnitude = malloc((size_t)n_out * sizeof(double));
    float *gain = malloc((size_t)n_out * sizeof(*gain));
    for (int64_t o = 0; o < n_out; o++) {
        double length = norm(adapted + o * n_in, n_in);
        magnitude[o] = length * (1 + 0.3 * uniform(rng));
        gain[o] = (float)(magnitude[o] / length);
    }
    l->gain = gain;
    out->magnitudes[site] = magnitude;
    free(adapted);
}

void adapter_make(struct adapter *out, const struct model *m, struct oracle_model *weights,
                  const struct adapter_plan *plan)
{
    int n = model_n_sites(m);
    struct rng rng;
    rng_init(&rng, 77, (uint64_t)plan->seed);
    *out = (struct adapter){.own = calloc((size_t)n, sizeof(*out->own)),
                            .places = calloc((size_t)n, sizeof(*out->places)),
                            .magnitudes = calloc((size_t)n, sizeof(*out->magnitudes)),
                            .n_sites = n};
    for (int site = 0; site < n; site++) {
        const struct matrix *w = model_site_weight(m, site);
        struct lowrank *l = &out->own[site];
        if ((site == model_head_site(m) && !plan->head) ||
            (plan->sparse && (site + plan->seed) % 3 == 0))
            continue;
        /* B A is about as large as a third of W */
        double amplitude = 1.7 / sqrt(sqrt((double)w->n_in * plan->rank) * (double)plan->scale);
        *l =
            (struct lowrank){.a = random_a(&rng, plan->type, plan->rank, w->n_in, amplitude / 1.5),
                             .b = random_b(&rng, plan->type, plan->rank, w->n_out, amplitude / 1.5),
                             .scale = plan->scale};
        if (plan->dora)
            make_gain(out, &rng, site_tensor(weights, m, site, "weight"), site);
        if (plan->biased && site_tensor(weights, m, site, "bias")) {
            float *bias = malloc((size_t)w->n_out * sizeof(*bias));
            for (int64_t o = 0; o < w->n_out; o++)
                bias[o] = (float)(0.3 * uniform(&rng));
            l->bias = bias;
        }
        out->places[site] = l;
    }
}

void adapter_free(struct adapter *adapter)
{
    for (int site = 0; site < adapter->n_sites; site++) {
        free((void *)adapter->own[site].a.data);
        free((void *)adapter->own[site].b.data);
        free((void *)adapter->own[site].gain);
        free((void *)adapter->own[site].bias);
        free(adapter->magnitudes[site]);
    }
    free(adapter->own);
    free(adapter->places);
    free(adapter->magnitudes);
}

/* ---- mixes -------------------------------------------------------------------------------- */

struct delta_set *mix_open(const struct model *m, const struct adapter *adapters,
                           const float *weights, int n)
{
    struct delta_member members[8];
    struct delta_set *set = NULL;
    graft_error error = {0};
    for (int i = 0; i < n; i++)
        members[i] = (struct delta_member){.lowranks = adapters[i].places, .weight = weights[i]};
    if (delta_set_open(m, members, n, &set, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return set;
}

/* sum[n_out, n_in] += w (W' − W), bias += what comes with it */
static void add_member(const struct oracle_tensor *t, struct oracle_tensor *bias,
                       const struct adapter *adapter, int site, double w, double *sum)
{
    const struct lowrank *l = adapter->places[site];
    int64_t n_out = t->shape[0], n_in = t->shape[1];
    double *adapted = adapted_weights(t, l);
    for (int64_t o = 0; o < n_out; o++) {
        double *row = adapted + o * n_in, g = 1;
        if (adapter->magnitudes[site])
            g = adapter->magnitudes[site][o] / norm(row, n_in);
        for (int64_t i = 0; i < n_in; i++)
            sum[o * n_in + i] += w * (g * row[i] - (double)t->values[o * n_in + i]);
        if (l->bias)
            bias->values[o] += (float)(w * g * (double)l->scale * (double)l->bias[o]);
    }
    free(adapted);
}

void mix_into_weights(const struct model *m, struct oracle_model *weights,
                      const struct adapter *adapters, const float *member_weights, int n)
{
    for (int site = 0; site < model_n_sites(m); site++) {
        struct oracle_tensor *t = site_tensor(weights, m, site, "weight");
        struct oracle_tensor *bias = site_tensor(weights, m, site, "bias");
        if (!t)
            continue; /* a tied head */
        double *sum = calloc(t->count, sizeof(*sum));
        for (int i = 0; i < n; i++)
            if (adapters[i].places[site])
                add_member(t, bias, &adapters[i], site, (double)member_weights[i], sum);
        for (size_t i = 0; i < t->count; i++)
            t->values[i] = (float)((double)t->values[i] + sum[i]);
        free(sum);
    }
}

/* ---- runs --------------------------------------------------------------------------------- */

float *run_mix(const struct model *m, const graft_token_id *tokens, int n, enum role role,
               int chunk, const struct delta_set *deltas)
{
    graft_error error = {0};
    size_t width = (size_t)model_n_logits(m);
    const struct kv_pool_options options = {KV_F32, KV_F32, 64};
    struct kv_pool *pool = NULL;
    struct kv_seq *seq = NULL;
    struct workspace *ws = NULL;
    struct row rows[256];
    float *out = malloc((size_t)n * width * sizeof(*out));
    assert_true(chunk <= (int)ARRAY_LEN(rows));
    if (kv_pool_open(m, &options, &pool, &error) != GRAFT_OK ||
        kv_seq_open(pool, &seq, &error) != GRAFT_OK ||
        workspace_open(m, chunk, &ws, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    for (int done = 0, count; done < n; done += count) {
        count = n - done < chunk ? n - done : chunk;
        for (int i = 0; i < count; i++)
            rows[i] = (struct row){.token = tokens[done + i],
                                   .pos = done + i,
                                   .seq = seq,
                                   .role = role,
                                   .want_logits = true,
                                   .deltas = deltas};
        if (model_forward(m, rows, count, ws, &error) != GRAFT_OK)
            fail_msg("%s", error.message);
        for (int i = 0; i < count; i++)
            memcpy(out + (size_t)(done + i) * width, workspace_logits(ws, i), width * sizeof(*out));
    }
    workspace_close(&ws);
    kv_seq_close(&seq);
    kv_pool_close(&pool);
    return out;
}
