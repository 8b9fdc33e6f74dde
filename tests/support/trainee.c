/* trainee.c: see trainee.h. */
#include "support/trainee.h"

#include <math.h>

/* ---- tensors ------------------------------------------------------------------------------ */

void trainee_open(struct trainee *out, const struct model *model)
{
    *out = (struct trainee){.model = model};
    out->set.sites = calloc((size_t)model_n_sites(model), sizeof(*out->set.sites));
    out->set.norms = calloc((size_t)model_n_norms(model), sizeof(*out->set.norms));
    out->capacity = 8 * (size_t)model_n_sites(model) + 64;
    out->tensors = calloc(out->capacity, sizeof(*out->tensors));
    assert_true(out->set.sites && out->set.norms && out->tensors);
}

void trainee_free(struct trainee *t)
{
    for (size_t i = 0; i < t->n_tensors; i++) {
        free(t->tensors[i].trained.value);
        free(t->tensors[i].trained.grad);
    }
    free(t->tensors);
    free(t->set.sites);
    free(t->set.norms);
    *t = (struct trainee){0};
}

size_t trainee_count(const struct trainee_tensor *t)
{
    return (size_t)(t->rows * (t->cols ? t->cols : 1));
}

static size_t place(const struct trainee_tensor *t, size_t i)
{
    size_t cols = (size_t)t->cols;
    return t->turned ? i % cols * (size_t)t->rows + i / cols : i;
}

float *trainee_value(const struct trainee_tensor *t, size_t i)
{
    return &t->trained.value[place(t, i)];
}

float trainee_gradient(const struct trainee_tensor *t, size_t i)
{
    return t->trained.grad[place(t, i)];
}

void trainee_zero_gradients(struct trainee *t)
{
    for (size_t i = 0; i < t->n_tensors; i++)
        memset(t->tensors[i].trained.grad, 0, trainee_count(&t->tensors[i]) * sizeof(float));
}

static struct trainee_tensor *add(struct trainee *t, const char *name, int64_t rows, int64_t cols,
                                  bool turned, struct trained *where)
{
    assert_true(t->n_tensors < t->capacity);
    struct trainee_tensor *out = &t->tensors[t->n_tensors++];
    *out = (struct trainee_tensor){.rows = rows, .cols = cols, .turned = turned};
    snprintf(out->name, sizeof(out->name), "%s", name);
    out->trained.value = calloc(trainee_count(out), sizeof(float));
    out->trained.grad = calloc(trainee_count(out), sizeof(float));
    assert_true(out->trained.value && out->trained.grad);
    *where = out->trained;
    return out;
}

static double uniform(struct rng *rng)
{
    return 2 * rng_uniform(rng) - 1;
}

static void fill(struct trainee_tensor *t, struct rng *rng, double amplitude, double offset)
{
    for (size_t i = 0; i < trainee_count(t); i++)
        t->trained.value[i] = (float)(offset + amplitude * uniform(rng));
}

/* ---- adapters ----------------------------------------------------------------------------- */

static int module_site(const struct model *m, const char *name)
{
    static const char *const WORDS[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                        "gate_proj", "up_proj", "down_proj"};
    const char *layer = strstr(name, "layers.");
    for (int i = 0; layer && i < LINEAR_COUNT; i++)
        if (strstr(name, WORDS[i]))
            return model_site((int)strtol(layer + 7, NULL, 10), (enum linear_id)i);
    assert_true(strstr(name, "lm_head") || strstr(name, "score"));
    return model_head_site(m);
}

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static void set_scale(struct train_delta *d, const json_t *config)
{
    double alpha = json_number_value(json_object_get(config, "lora_alpha"));
    bool root = json_is_true(json_object_get(config, "use_rslora"));
    d->scale = (float)(alpha / (root ? sqrt((double)d->rank) : (double)d->rank));
}

void trainee_add_adapter(struct trainee *t, const struct oracle_model *adapter)
{
    for (size_t i = 0; i < adapter->n_tensors; i++) {
        const struct oracle_tensor *from = &adapter->tensors[i];
        int64_t rows = from->shape[0], cols = from->n_dims == 2 ? from->shape[1] : 0;
        bool embed = has(from->name, "embed_tokens"), b = has(from->name, "_B") && cols;
        int site = embed ? 0 : module_site(t->model, from->name);
        struct train_delta *d = embed ? &t->set.embed_delta : &t->set.sites[site].delta;
        struct trained *where = embed ? &t->set.embed : &t->set.sites[site].weight;
        if (has(from->name, "lora_magnitude_vector"))
            where = &d->magnitude;
        else if (has(from->name, "lora_B.bias"))
            where = &d->bias;
        else if (has(from->name, "lora_"))
            where = b ? &d->b : &d->a;
        struct trainee_tensor *to = add(t, from->name, rows, cols, b, where);
        for (size_t k = 0; k < from->count; k++)
            *trainee_value(to, k) = from->values[k];
        if (where == &d->a) {
            d->rank = rows;
            set_scale(d, adapter->config);
        }
    }
}

/* ---- piece by piece ----------------------------------------------------------------------- */

static void add_delta(struct trainee *t, struct train_delta *d, const char *module, int64_t n_in,
                      int64_t n_out, const struct trainee_plan *plan, double norm)
{
    char name[160];
    struct rng rng;
    rng_init(&rng, 17, hash_bytes(module, strlen(module), 0));
    d->rank = plan->rank;
    d->scale = plan->scale;
    d->dropout = plan->dropout;
#define NAME(part) (snprintf(name, sizeof(name), "%s.%s", module, part), name)
    fill(add(t, NAME("a"), plan->rank, n_in, false, &d->a), &rng, sqrt(3 / (double)n_in), 0);
    fill(add(t, NAME("b"), n_out, plan->rank, true, &d->b), &rng, 0.5, 0);
    if (plan->magnitude)
        fill(add(t, NAME("magnitude"), n_out, 0, false, &d->magnitude), &rng, 0.3 * norm, norm);
    if (plan->bias)
        fill(add(t, NAME("delta_bias"), n_out, 0, false, &d->bias), &rng, 0.3, 0);
}

void trainee_add_delta(struct trainee *t, int site, const struct trainee_plan *plan)
{
    const struct matrix *w = model_site_weight(t->model, site);
    char module[32];
    snprintf(module, sizeof(module), "site %d", site);
    add_delta(t, &t->set.sites[site].delta, module, w->n_in, w->n_out, plan, 1);
}

void trainee_add_embed_delta(struct trainee *t, const struct trainee_plan *plan)
{
    const struct config *c = &t->model->config;
    add_delta(t, &t->set.embed_delta, "embedding", c->n_vocab, c->d_model, plan, 2);
}

static void copy_matrix(const struct model *m, const struct matrix *w, float *out)
{
    for (int64_t row = 0; row < w->n_out; row++)
        m->runtime->kernels->dequantize[w->type](w, row, 0, w->n_in, out + row * w->n_in);
}

void trainee_add_weight(struct trainee *t, int site)
{
    const struct matrix *w = model_site_weight(t->model, site);
    char name[32];
    snprintf(name, sizeof(name), "weight %d", site);
    copy_matrix(t->model, w,
                add(t, name, w->n_out, w->n_in, false, &t->set.sites[site].weight)->trained.value);
}

void trainee_add_bias(struct trainee *t, int site)
{
    const struct layer *l = &t->model->layers[site / LINEAR_COUNT];
    int64_t n = model_site_weight(t->model, site)->n_out;
    char name[32];
    snprintf(name, sizeof(name), "bias %d", site);
    struct trainee_tensor *to = add(t, name, n, 0, false, &t->set.sites[site].bias);
    memcpy(to->trained.value, l->bias[site % LINEAR_COUNT], (size_t)n * sizeof(float));
}

void trainee_add_norm(struct trainee *t, int norm)
{
    int64_t n = model_norm_width(t->model, norm);
    char name[32];
    snprintf(name, sizeof(name), "norm %d", norm);
    struct trainee_tensor *to = add(t, name, n, 0, false, &t->set.norms[norm]);
    memcpy(to->trained.value, model_norm_weight(t->model, norm), (size_t)n * sizeof(float));
}

void trainee_add_embed(struct trainee *t, bool tied)
{
    const struct matrix *w = &t->model->embed;
    copy_matrix(t->model, w,
                add(t, "embedding", w->n_out, w->n_in, false, &t->set.embed)->trained.value);
    if (tied)
        t->set.sites[model_head_site(t->model)].weight = t->set.embed;
}

/* ---- tapes -------------------------------------------------------------------------------- */

struct train_tape *open_tape(const struct trainee *t, const struct train_options *options)
{
    graft_error error = {0};
    struct train_tape *tape = NULL;
    if (train_tape_open(t->model, &t->set, options, &tape, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return tape;
}

void refresh_tape(struct train_tape *tape)
{
    graft_error error = {0};
    if (train_tape_refresh(tape, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
}

struct train_result run_tape(struct train_tape *tape, const struct train_batch *batch,
                             bool backward)
{
    graft_error error = {0};
    struct train_result result;
    if (train_tape_run(tape, batch, backward, &result, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    return result;
}

/* ---- lessons ------------------------------------------------------------------------------ */

void lesson_open(struct lesson *out, int max_tok, int max_examples)
{
    *out = (struct lesson){.tokens = calloc((size_t)max_tok, sizeof(*out->tokens)),
                           .targets = calloc((size_t)max_tok, sizeof(*out->targets)),
                           .starts = calloc((size_t)max_examples + 1, sizeof(*out->starts)),
                           .weights = calloc((size_t)max_tok, sizeof(*out->weights))};
    out->batch = (struct train_batch){.tokens = out->tokens,
                                      .starts = out->starts,
                                      .targets = out->targets,
                                      .weights = out->weights,
                                      .seed = 5,
                                      .dropout = true};
}

void lesson_free(struct lesson *lesson)
{
    free(lesson->tokens);
    free(lesson->targets);
    free(lesson->starts);
    free(lesson->weights);
}

void lesson_add(struct lesson *l, const graft_token_id *tokens, const int32_t *labels, int n)
{
    int first = l->batch.n_tok;
    memcpy(l->tokens + first, tokens, (size_t)n * sizeof(*tokens));
    for (int i = 0; i < n; i++) {
        bool counts = i + 1 < n && labels[i + 1] != -100;
        l->targets[first + i] = counts ? labels[i + 1] : 0;
        l->weights[first + i] = counts ? 1 : 0;
    }
    l->batch.n_tok += n;
    l->starts[++l->batch.n_examples] = l->batch.n_tok;
}

void lesson_add_random(struct lesson *l, const struct model *m, int n, int seed)
{
    int first = l->batch.n_tok;
    graft_token_id *tokens = calloc((size_t)n, sizeof(*tokens));
    struct rng rng;
    rng_init(&rng, (uint64_t)seed, 3);
    for (int i = 0; i < n; i++)
        tokens[i] = (graft_token_id)(rng_u32(&rng) % (unsigned)m->config.n_vocab);
    lesson_add(l, tokens, tokens, n);
    for (int i = 0; i < n; i++)
        l->weights[first + i] *= (float)(1 + 0.5 * uniform(&rng));
    free(tokens);
}
