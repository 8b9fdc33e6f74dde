/* merge_fixture.h: merges of files for tests: adapters of the reference's recipes on a base, and what an adapter does to each
 * module of it as a dense matrix in doubles, computed from the definitions and the base's own weights.
 */
#ifndef GRAFT_TEST_MERGE_FIXTURE_H
#define GRAFT_TEST_MERGE_FIXTURE_H

#include "save_fixture.h"

#include "merge_laws.h"

enum { LAYERS = 3, MOST_INPUTS = 4 };

/* A base of its own seed and container, small because full ranks are asked of it: NULL `gguf` a Hugging Face folder, else a
 * file of that type. */
static inline void base_make(struct base *b, const char *arch, const char *name, int seed,
                             const graft_type *gguf)
{
    static const struct {
        const char *key;
        int value;
    } SMALL[] = {{"hidden_size", 64},        {"intermediate_size", 104}, {"num_attention_heads", 4},
                 {"num_key_value_heads", 2}, {"head_dim", 16},           {"vocab_size", 151}};
    json_t *config = oracle_config(arch);
    for (size_t i = 0; i < ARRAY_LEN(SMALL); i++)
        json_object_set_new(config, SMALL[i].key, json_integer(SMALL[i].value));
    oracle_model_make(&b->oracle, config, seed);
    if (gguf)
        oracle_write_gguf(&b->oracle, fresh_path(name), *gguf);
    else
        oracle_write_hf(&b->oracle, fresh_path(name), GRAFT_TYPE_F32);
    b->model = open_model(&rt, at(name));
}

/* An adapter beside it; `name` with .gguf: a GGUF of llama. Returns its path, malloc'ed. */
static inline char *put_as(const struct base *b, const char *variant, int seed, const char *name,
                           graft_type type)
{
    struct oracle_model a;
    oracle_adapter_make(&a, variant, seed, &b->oracle);
    if (strstr(name, ".gguf"))
        oracle_adapter_write_gguf(&a, fresh_path(name), "llama", b->model->config.d_head);
    else
        oracle_adapter_write(&a, fresh_path(name), type);
    oracle_model_free(&a);
    return strdup(at(name));
}

/* ---- plans -------------------------------------------------------------------------------- */

struct merging {
    struct merge_plan plan;
    struct merge_input inputs[MOST_INPUTS];
    char *paths[MOST_INPUTS];
};

/* Adapters of these variants, separated by blanks, weight and density 1. */
static inline void merging_open(struct merging *m, const struct base *b, const char *variants)
{
    char copy[128], *left = NULL;
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", variants);
    *m = (struct merging){.plan = {.lambda = 1, .t = 0.3, .seed = 5}};
    for (char *v = strtok_r(copy, " ", &left); v; v = strtok_r(NULL, " ", &left), n++) {
        char name[64];
        snprintf(name, sizeof name, "in-%zu%s", n, strstr(v, "@gguf") ? ".gguf" : "");
        const graft_type type = strstr(v, "@bf16") ? GRAFT_TYPE_BF16 : GRAFT_TYPE_F32;
        v[strcspn(v, "@")] = '\0';
        m->paths[n] = put_as(b, v, 11 + (int)n, name, type);
        m->inputs[n] = (struct merge_input){.path = m->paths[n],
                                            .name = m->paths[n] + strlen(m->paths[n]) - 4,
                                            .weight = 1,
                                            .density = 1};
    }
    m->plan.n = n;
    m->plan.inputs = m->inputs;
}

static inline void merging_close(struct merging *m)
{
    for (size_t i = 0; i < MOST_INPUTS; i++)
        free(m->paths[i]);
}

static inline void merging_run(const struct merging *m, const struct model *model, const char *name,
                               json_t **report)
{
    graft_error error = {0};
    if (merge_write(model, &m->plan, fresh_path(name), report, &error) != GRAFT_OK)
        fail_msg("%s: %s", merge_method_name(m->plan.method), error.message);
}

/* ---- what adapters do --------------------------------------------------------------------- */

struct effect_part {
    int64_t n_out, n_in;
    double *w;     /* [n_out, n_in]: W' − W; NULL: nothing */
    double *gains; /* [n_out]: of DoRA, else 1 */
    double *bias;  /* [n_out] */
};
struct effect {
    struct effect_part parts[SLOT_COUNT][LAYERS];
};

static inline void effect_of_factors(struct effect_part *e, const struct import *from, int i,
                                     const float *base)
{
    const struct draft *draft = &from->draft;
    const struct draft_module *m = &draft->modules[i];
    float *a = malloc((size_t)(m->rank * m->n_in) * 4),
          *b = malloc((size_t)(m->rank * m->n_out) * 4);
    float *vector = calloc((size_t)m->n_out, 4);
    draft->read(draft, i, PART_A, a, NULL);
    draft->read(draft, i, PART_B, b, NULL);
    add_dense(e->w, m->scale, a, b, m->n_out, m->n_in, m->rank, m->rank, 1);
    if (m->dora)
        draft->read(draft, i, PART_MAGNITUDE, vector, NULL);
    for (int64_t o = 0; o < m->n_out && m->dora; o++) {
        double *row = e->w + o * m->n_in, sum = 0;
        for (int64_t k = 0; k < m->n_in; k++) {
            row[k] += (double)base[o * m->n_in + k];
            sum += row[k] * row[k];
        }
        e->gains[o] = (double)vector[o] / sqrt(sum);
        for (int64_t k = 0; k < m->n_in; k++)
            row[k] = e->gains[o] * row[k] - (double)base[o * m->n_in + k];
    }
    if (m->biased)
        draft->read(draft, i, PART_LORA_BIAS, vector, NULL);
    for (int64_t o = 0; o < m->n_out && m->biased; o++)
        e->bias[o] = m->scale * e->gains[o] * (double)vector[o];
    free(a);
    free(b);
    free(vector);
}

static inline const float *base_weight(const struct base *b, const char *module)
{
    char name[MODULE_NAME_SIZE + 8];
    snprintf(name, sizeof name, "%s.weight", module);
    return oracle_find((struct oracle_model *)(uintptr_t)&b->oracle, name)->values;
}

static inline void effect_open(struct effect *e, const struct base *b, const char *path)
{
    struct import from = {.model = b->model};
    graft_error error = {0};
    memset(e, 0, sizeof *e);
    if (import_open(&from, path, NULL, &error) != GRAFT_OK)
        fail_msg("%s: %s", path, error.message);
    for (int i = 0; i < from.draft.n_modules; i++) {
        const struct draft_module *m = &from.draft.modules[i];
        struct effect_part *part = &e->parts[m->slot][m->layer];
        const size_t n = (size_t)(m->n_out * m->n_in);
        char name[MODULE_NAME_SIZE];
        assert_true(draft_name(&from.draft, i, NAMING_HF, name));
        const float *base = base_weight(b, name);
        part->n_out = m->n_out;
        part->n_in = m->n_in;
        part->w = calloc(n, sizeof(double));
        part->bias = calloc((size_t)m->n_out, sizeof(double));
        part->gains = malloc((size_t)m->n_out * sizeof(double));
        for (int64_t o = 0; o < m->n_out; o++)
            part->gains[o] = 1;
        if (!m->whole) {
            effect_of_factors(part, &from, i, base);
            continue;
        }
        float *weight = malloc(n * sizeof *weight);
        from.draft.read(&from.draft, i, PART_WEIGHT, weight, NULL);
        for (size_t k = 0; k < n; k++)
            part->w[k] = (double)weight[k] - (double)base[k];
        free(weight);
    }
    import_close(&from);
}

static inline void effect_close(struct effect *e)
{
    for (int i = 0; i < SLOT_COUNT * LAYERS; i++) {
        struct effect_part *part = &e->parts[i / LAYERS][i % LAYERS];
        free(part->w);
        free(part->gains);
        free(part->bias);
    }
}

/* sum += factor · one, where `one` has the module. */
static inline void effect_add(struct effect *sum, const struct effect *one, int slot, int layer,
                              double factor)
{
    const struct effect_part *from = &one->parts[slot][layer];
    struct effect_part *to = &sum->parts[slot][layer];
    if (!from->w)
        return;
    if (!to->w) {
        *to = (struct effect_part){.n_out = from->n_out, .n_in = from->n_in};
        to->w = calloc((size_t)(from->n_out * from->n_in), sizeof(double));
        to->bias = calloc((size_t)from->n_out, sizeof(double));
        to->gains = malloc((size_t)from->n_out * sizeof(double));
        for (int64_t o = 0; o < from->n_out; o++)
            to->gains[o] = 1;
    }
    for (int64_t k = 0; k < from->n_out * from->n_in; k++)
        to->w[k] += factor * from->w[k];
    for (int64_t o = 0; o < from->n_out; o++) {
        to->bias[o] += factor * from->bias[o];
        to->gains[o] += factor * (from->gains[o] - 1);
    }
}

static inline void effect_add_all(struct effect *sum, const struct effect *one, double factor)
{
    for (int i = 0; i < SLOT_COUNT * LAYERS; i++)
        effect_add(sum, one, i / LAYERS, i % LAYERS, factor);
}

static inline double part_off(const double *got, const double *want, int64_t n, double size)
{
    double off = 0;
    for (int64_t k = 0; k < n; k++) {
        const double d = (got ? got[k] : 0) - (want ? want[k] : 0);
        off += d * d;
    }
    return sqrt(off) / size;
}

/* The worst ‖got − want‖ / ‖want‖ over modules and biases; where nothing is wanted, over all that is. */
static inline double effect_off(const struct effect *got, const struct effect *want)
{
    double worst = 0, all = 0;
    for (int i = 0; i < SLOT_COUNT * LAYERS; i++) {
        const struct effect_part *w = &want->parts[i / LAYERS][i % LAYERS];
        all = w->w ? fmax(all, norm_of(w->w, w->n_out * w->n_in)) : all;
    }
    for (int i = 0; i < SLOT_COUNT * LAYERS; i++) {
        const struct effect_part *w = &want->parts[i / LAYERS][i % LAYERS];
        const struct effect_part *g = &got->parts[i / LAYERS][i % LAYERS];
        const int64_t n_out = g->w ? g->n_out : w->n_out, n_in = g->w ? g->n_in : w->n_in;
        if (!g->w && !w->w)
            continue;
        const double size = w->w ? norm_of(w->w, n_out * n_in) : 0;
        const double bias = w->w ? norm_of(w->bias, n_out) : 0;
        worst = fmax(worst, part_off(g->w, w->w, n_out * n_in,
                                     size > 0  ? size
                                     : all > 0 ? all
                                               : 1));
        worst = fmax(worst, part_off(g->bias, w->bias, n_out, bias > 0 ? bias : 1));
    }
    return worst;
}

#endif
