/* fit.c: the factors of one module from vectors.
 *
 * W x is taken once, and what remains of the targets, r = t − W x, is what scale · B A x is fitted to: the loss of an example is
 * q ‖scale · B A x − r‖² / n_out, forth and back in two products with each factor. B is held transposed, [rank, n_out], so that
 * all loops run along vectors.
 */
#include "formats/formats.h"
#include "train/train.h"
#include "train/vectors/vectors_internal.h"

#include <math.h>

enum { MAX_RANK = 4096, A_STREAM = 1, SPLIT_STREAM = 2, ORDER_STREAM = 3, GRAIN = 16 };

struct fit_options fit_defaults(void)
{
    return (struct fit_options){.rank = 8,
                                .alpha = 16,
                                .epochs = 10,
                                .batch = 32,
                                .rate = 2e-3,
                                .max_norm = 1,
                                .valid_share = 0.2};
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to fit a module");
}

/* ---- the work ------------------------------------------------------------------------------- */

struct work {
    const graft_runtime *runtime;
    struct mem *mem;
    const struct vectors *data;
    const struct fit_options *o;
    int n_in, n_out, rank;
    double scale;
    float *rest;    /* [n, n_out] r */
    int64_t *order; /* [n] examples: those to train on, then those held out */
    int64_t n, held;
    float *values, *grads; /* A [rank, n_in], B [rank, n_out] */
    struct trainable_part parts[2];
    int64_t n_values;
    float *u, *e; /* [rank], [n_out] */
    struct optimiser optimiser;
    int64_t steps;
};

static float *a_of(const struct work *w, float *values)
{
    return values + w->parts[0].at;
}

static float *b_of(const struct work *w, float *values)
{
    return values + w->parts[1].at;
}

/* e = scale · B A x − r, u = A x; the loss but for the quality. */
static double forward(const struct work *w, int64_t i)
{
    const float *x = vectors_at(w->data, i).input, *rest = w->rest + i * w->n_out;
    double sum = 0;
    for (int o = 0; o < w->n_out; o++)
        w->e[o] = -rest[o];
    for (int r = 0; r < w->rank; r++) {
        w->u[r] = lanes_dot(a_of(w, w->values) + (ptrdiff_t)r * w->n_in, x, w->n_in);
        lanes_add(w->e, (float)w->scale * w->u[r], b_of(w, w->values) + (ptrdiff_t)r * w->n_out,
                  w->n_out);
    }
    sum = (double)lanes_dot(w->e, w->e, w->n_out);
    return sum / w->n_out;
}

/* dL/de = 2 q e / n_out; dB_r = scale u_r dL/de, dA_r = scale (B_r · dL/de) x. */
static void backward(const struct work *w, int64_t i, float quality)
{
    const float *x = vectors_at(w->data, i).input;
    const float k = (float)(2 * (double)quality * w->scale / w->n_out);
    for (int r = 0; r < w->rank; r++) {
        const float *b = b_of(w, w->values) + (ptrdiff_t)r * w->n_out;
        const float back = k * lanes_dot(b, w->e, w->n_out);
        lanes_add(b_of(w, w->grads) + (ptrdiff_t)r * w->n_out, k * w->u[r], w->e, w->n_out);
        lanes_add(a_of(w, w->grads) + (ptrdiff_t)r * w->n_in, back, x, w->n_in);
    }
}

/* Σ q loss / Σ q over order[first .. last); NAN: nothing has a weight. */
static double loss_of(const struct work *w, int64_t first, int64_t last)
{
    double sum = 0, weight = 0;
    for (int64_t k = first; k < last; k++) {
        const double q = (double)vectors_at(w->data, w->order[k]).quality;
        sum += q * forward(w, w->order[k]);
        weight += q;
    }
    return weight > 0 ? sum / weight : NAN;
}

static graft_status take_step(struct work *w, int64_t first, int64_t last, graft_error *error)
{
    double weight = 0, loss = 0;
    memset(w->grads, 0, (size_t)w->n_values * sizeof *w->grads);
    for (int64_t k = first; k < last; k++) {
        const float q = vectors_at(w->data, w->order[k]).quality;
        loss += (double)q * forward(w, w->order[k]);
        backward(w, w->order[k], q);
        weight += (double)q;
    }
    const double norm = optimiser_norm(&w->optimiser, w->runtime, w->grads) / weight;
    if (!isfinite(loss) || !isfinite(norm))
        return error_set(error, GRAFT_NUMERIC,
                         "the loss or gradient of step %lld is no number: lower the learning rate, "
                         "or look for huge values",
                         (long long)w->steps + 1);
    const double clip = w->o->max_norm > 0 ? fmin(1, w->o->max_norm / (norm + 1e-6)) : 1;
    optimiser_step(&w->optimiser, w->runtime, w->parts, 2, w->values, w->grads, w->o->rate,
                   clip / weight);
    w->steps++;
    return GRAFT_OK;
}

/* ---- examples ------------------------------------------------------------------------------- */

static void shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t stream)
{
    struct rng rng;
    rng_init(&rng, seed, stream);
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)(rng_uniform(&rng) * (double)(i + 1)), was = order[i];
        order[i] = order[j];
        order[j] = was;
    }
}

/* Examples of some quality, the held-out ones last. */
static graft_status choose(struct work *w, graft_error *error)
{
    const int64_t all = vectors_count(w->data);
    w->order = mem_calloc(w->mem, (size_t)all + 1, sizeof *w->order);
    if (!w->order)
        return no_memory(error);
    for (int64_t i = 0; i < all; i++) {
        const double q = (double)vectors_at(w->data, i).quality;
        if (q > 0 && q >= w->o->min_quality)
            w->order[w->n++] = i;
    }
    shuffle(w->order, w->n, w->o->seed, SPLIT_STREAM);
    w->held = (int64_t)((double)w->n * w->o->valid_share);
    w->held = w->o->valid_share > 0 && !w->held && w->n > 1 ? 1 : w->held;
    w->n -= w->held;
    return w->n > 0 ? GRAFT_OK
                    : error_set(error, GRAFT_INVALID_ARGUMENT,
                                "there are no examples to fit: all have too little quality");
}

/* r = t − W x; 0 without a target. */
static graft_status take_rests(struct work *w, graft_error *error)
{
    const int64_t all = vectors_count(w->data);
    w->rest = mem_calloc(w->mem, (size_t)(all * w->n_out), sizeof *w->rest);
    if (!w->rest)
        return no_memory(error);
    for (int64_t i = 0; i < all; i++) {
        const struct vector_example e = vectors_at(w->data, i);
        float *rest = w->rest + i * w->n_out;
        for (int o = 0; e.target && o < w->n_out; o++)
            rest[o] = e.target[o] - (w->o->weight ? lanes_dot(w->o->weight + (ptrdiff_t)o * w->n_in,
                                                              e.input, w->n_in)
                                                  : e.input[o]);
    }
    return GRAFT_OK;
}

/* ---- a run ---------------------------------------------------------------------------------- */

static graft_status check_options(const struct vectors *data, const struct fit_options *o,
                                  graft_error *error)
{
    const struct {
        const char *name;
        double value, least, most;
    } ranges[] = {{"the rank", o->rank, 1, MAX_RANK},
                  {"alpha", o->alpha, 1e-6, 1e6},
                  {"the number of epochs", o->epochs, 1, 1e6},
                  {"the batch size", o->batch, 1, 1 << 20},
                  {"the learning rate", o->rate, 1e-12, 1e3},
                  {"weight decay", o->weight_decay, 0, 1e3},
                  {"the largest gradient norm", o->max_norm, 0, 1e30},
                  {"the share for validation", o->valid_share, 0, 0.99},
                  {"the least quality", o->min_quality, 0, 1}};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "%s is %g; it must be %g to %g",
                             ranges[i].name, ranges[i].value, ranges[i].least, ranges[i].most);
    if (!o->weight && vectors_in(data) != vectors_out(data))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "inputs of %d values and targets of %d: without a weight both are of one "
                         "width",
                         vectors_in(data), vectors_out(data));
    return GRAFT_OK;
}

static int64_t padded(int64_t n)
{
    return (n + GRAIN - 1) / GRAIN * GRAIN;
}

static graft_status make_values(struct work *w, graft_error *error)
{
    const int64_t n_a = (int64_t)w->rank * w->n_in, n_b = (int64_t)w->rank * w->n_out;
    const struct optimiser_options adam = {.beta1 = 0.9,
                                           .beta2 = 0.999,
                                           .eps = 1e-8,
                                           .weight_decay = w->o->weight_decay,
                                           .loraplus = 1};
    const double bound = 1 / sqrt((double)w->n_in);
    struct rng rng;
    w->parts[0] = (struct trainable_part){.at = 0, .n = n_a};
    w->parts[1] = (struct trainable_part){.at = padded(n_a), .n = n_b, .fast = true};
    w->n_values = padded(n_a) + padded(n_b);
    w->values = mem_calloc(w->mem, (size_t)w->n_values, sizeof *w->values);
    w->grads = mem_calloc(w->mem, (size_t)w->n_values, sizeof *w->grads);
    w->u = mem_calloc(w->mem, (size_t)w->rank, sizeof *w->u);
    w->e = mem_calloc(w->mem, (size_t)w->n_out, sizeof *w->e);
    if (!w->values || !w->grads || !w->u || !w->e)
        return no_memory(error);
    rng_init(&rng, w->o->seed, A_STREAM);
    for (int64_t i = 0; i < n_a; i++)
        w->values[i] = (float)((2 * rng_uniform(&rng) - 1) * bound);
    return optimiser_open(&w->optimiser, w->mem, w->n_values, &adam, error);
}

static graft_status run(struct work *w, graft_error *error)
{
    const int64_t per_epoch = (w->n + w->o->batch - 1) / w->o->batch;
    graft_status status = GRAFT_OK;
    for (int epoch = 0; epoch < w->o->epochs && status == GRAFT_OK; epoch++) {
        shuffle(w->order, w->n, w->o->seed, ORDER_STREAM + (uint64_t)epoch);
        for (int64_t at = 0; at < w->n && status == GRAFT_OK; at += w->o->batch) {
            const int64_t end = at + w->o->batch < w->n ? at + w->o->batch : w->n;
            status = take_step(w, at, end, error);
            if (status == GRAFT_OK && w->o->progress &&
                !w->o->progress(w->o->progress_user, (uint64_t)w->steps,
                                (uint64_t)(per_epoch * w->o->epochs), "fitting"))
                status = error_set(error, GRAFT_CANCELLED, "cancelled; nothing was written");
        }
    }
    return status;
}

/* A as it is, B with rows first. */
static graft_status give(const struct work *w, struct fit *out, graft_error *error)
{
    const int64_t n_a = (int64_t)w->rank * w->n_in, n_b = (int64_t)w->rank * w->n_out;
    out->a = mem_calloc(w->mem, (size_t)n_a, sizeof *out->a);
    out->b = mem_calloc(w->mem, (size_t)n_b, sizeof *out->b);
    if (!out->a || !out->b)
        return no_memory(error);
    memcpy(out->a, a_of(w, w->values), (size_t)n_a * sizeof *out->a);
    for (int o = 0; o < w->n_out; o++)
        for (int r = 0; r < w->rank; r++)
            out->b[(ptrdiff_t)o * w->rank + r] = b_of(w, w->values)[(ptrdiff_t)r * w->n_out + o];
    out->steps = w->steps;
    return GRAFT_OK;
}

/* Of the examples trained on, and of those held out, which may be none. */
static graft_status take_losses(const struct work *w, double *loss, double *valid,
                                graft_error *error)
{
    *loss = loss_of(w, 0, w->n);
    *valid = loss_of(w, w->n, w->n + w->held);
    if (!isfinite(*loss) || (w->held && !isfinite(*valid)))
        return error_set(error, GRAFT_NUMERIC,
                         "after %lld steps the loss of the examples %s is no number: lower the "
                         "learning rate, or look for huge values",
                         (long long)w->steps, isfinite(*loss) ? "held out" : "trained on");
    return GRAFT_OK;
}

static graft_status fit_all(struct work *w, struct fit *out, graft_error *error)
{
    graft_status status = choose(w, error);
    if (status == GRAFT_OK)
        status = take_rests(w, error);
    if (status == GRAFT_OK)
        status = make_values(w, error);
    if (status == GRAFT_OK)
        status = take_losses(w, &out->first_loss, &out->first_valid, error);
    if (status == GRAFT_OK)
        status = run(w, error);
    if (status == GRAFT_OK)
        status = take_losses(w, &out->last_loss, &out->last_valid, error);
    if (status != GRAFT_OK)
        return status;
    out->examples = w->n;
    out->held = w->held;
    return give(w, out, error);
}

graft_status fit_module(graft_runtime *runtime, const struct vectors *data,
                        const struct fit_options *o, struct fit *out, graft_error *error)
{
    graft_status status = check_options(data, o, error);
    if (status != GRAFT_OK)
        return status;
    struct work w = {.runtime = runtime,
                     .mem = &runtime->mem,
                     .data = data,
                     .o = o,
                     .n_in = vectors_in(data),
                     .n_out = vectors_out(data),
                     .rank = o->rank,
                     .scale = o->alpha / o->rank};
    struct fit fit = {
        .mem = w.mem, .n_in = w.n_in, .n_out = w.n_out, .rank = w.rank, .scale = w.scale};
    status = fit_all(&w, &fit, error);
    optimiser_close(&w.optimiser);
    mem_free(w.mem, w.rest);
    mem_free(w.mem, w.order);
    mem_free(w.mem, w.values);
    mem_free(w.mem, w.grads);
    mem_free(w.mem, w.u);
    mem_free(w.mem, w.e);
    if (status == GRAFT_OK)
        *out = fit;
    else
        fit_free(&fit);
    return status;
}

void fit_free(struct fit *fit)
{
    mem_free(fit->mem, fit->a);
    mem_free(fit->mem, fit->b);
    *fit = (struct fit){.mem = NULL};
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool is_module(const char *name)
{
    size_t n = strlen(name);
    bool ok = n > 0 && n <= 200 && name[0] != '.' && name[n - 1] != '.';
    for (size_t i = 0; i < n && ok; i++)
        ok = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
             (name[i] >= '0' && name[i] <= '9') || strchr("._", name[i]);
    return ok;
}

static graft_status write_config(const struct fit *fit, const char *module, const char *dir,
                                 graft_error *error)
{
    json_t *json = json_pack(
        "{s:s, s:s, s:n, s:b, s:i, s:f, s:f, s:[s], s:b, s:s, s:b, s:b}", "peft_type", "LORA",
        "task_type", "CAUSAL_LM", "base_model_name_or_path", "inference_mode", 1, "r", fit->rank,
        "lora_alpha", fit->scale * fit->rank, "lora_dropout", 0.0, "target_modules", module,
        "use_rslora", 0, "bias", "none", "fan_in_fan_out", 0, "init_lora_weights", 1);
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    char *path = path_join(fit->mem, dir, "adapter_config.json");
    graft_status status = text && path
                              ? file_write_atomic(fit->mem, path, text, strlen(text), error)
                              : no_memory(error);
    mem_free(fit->mem, path);
    free(text); /* from jansson */
    json_decref(json);
    return status;
}

static graft_status write_weights(const struct fit *fit, const char *module, const char *dir,
                                  graft_error *error)
{
    struct file_writer file = {0};
    char names[2][256];
    struct tensor_decl decls[2] = {
        {.name = names[0], .type = GRAFT_TYPE_F32, .n_dims = 2, .shape = {fit->rank, fit->n_in}},
        {.name = names[1], .type = GRAFT_TYPE_F32, .n_dims = 2, .shape = {fit->n_out, fit->rank}}};
    snprintf(names[0], sizeof names[0], "base_model.model.%.200s.lora_A.weight", module);
    snprintf(names[1], sizeof names[1], "base_model.model.%.200s.lora_B.weight", module);
    char *path = path_join(fit->mem, dir, "adapter_model.safetensors");
    graft_status status = path ? file_writer_open(&file, fit->mem, path, error) : no_memory(error);
    mem_free(fit->mem, path);
    if (status == GRAFT_OK)
        status = safetensors_write_header(&file, decls, 2, NULL, error);
    if (status == GRAFT_OK)
        status = file_writer_write(&file, fit->a,
                                   (size_t)fit->rank * (size_t)fit->n_in * sizeof *fit->a, error);
    if (status == GRAFT_OK)
        status = file_writer_write(&file, fit->b,
                                   (size_t)fit->rank * (size_t)fit->n_out * sizeof *fit->b, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    return status;
}

graft_status fit_write(const struct fit *fit, const char *module, const char *path,
                       graft_error *error)
{
    struct folder_writer folder = {.open = false};
    if (!is_module(module))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.80s\" is no name of a module: \"model.layers.0.mlp.up_proj\" is one",
                         module);
    graft_status status = folder_writer_open(&folder, path, error);
    if (status == GRAFT_OK)
        status = write_config(fit, module, folder.work, error);
    if (status == GRAFT_OK)
        status = write_weights(fit, module, folder.work, error);
    if (status == GRAFT_OK)
        status = folder_writer_commit(&folder, error);
    folder_writer_abort(&folder);
    return status;
}
