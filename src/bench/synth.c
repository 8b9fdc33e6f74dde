/* synth.c: a model of a given shape with random weights, as GGUF.
 *
 * What the weights are does not change the speed, so making them should take no time: for each type one
 * run of random values is quantised (by all workers), and every row of every tensor is a stretch of it
 * that begins at a block drawn for that row. The values are scaled so that activations neither vanish
 * nor saturate: products of normed states have about unit variance.
 */
#include "bench/bench_internal.h"
#include "model/arch/arch.h"
#include "model/convert/convert.h"

#include <math.h>

enum {
    SUPPLY_VALUES = 1 << 20, /* per type */
    SUPPLY_ROW = 8192,       /* quantised at once: whole blocks of every type */
    STEP_VALUES = 32,        /* rows of plain types begin at multiples of this */
    CHUNK_BYTES = 8 << 20,
    NAME_SIZE = 64,
    SEED = 20240917
};

/* Quantised values of one type, from which rows are cut. */
struct supply {
    graft_type type;
    uint8_t *bytes;
    int64_t step_values; /* a row begins at a multiple of it */
    size_t step_bytes;
    float scale;
    atomic_bool failed;
};

struct synth {
    graft_runtime *runtime;
    struct mem *mem;
    const struct shape *shape;
    const struct recipe *recipe;
    struct config config;
    const graft_bench_options *options;
    struct file_writer *file;
    struct supply supplies[GRAFT_TYPE_COUNT];
    uint64_t bytes_done, bytes_total;
    uint64_t n_tensors; /* so far: the stream of the next one's random numbers */
};

/* One tensor: a matrix [n_out, n_in], or a vector of n_in floats. */
struct tensor {
    char name[NAME_SIZE];
    graft_type type;
    int64_t n_out, n_in; /* n_out 0: a vector */
    float centre, width; /* of a vector's values */
    const float *values; /* or these */
};

/* ---- the list ----------------------------------------------------------------------------- */

typedef graft_status (*tensor_fn)(struct synth *s, const struct tensor *t, void *user,
                                  graft_error *error);

static graft_status each_matrix(struct synth *s, int slot, int layer, int64_t n_out, int64_t n_in,
                                tensor_fn fn, void *user, graft_error *error)
{
    struct tensor t = {.type = recipe_type(s->recipe, &s->config, slot, layer, n_in),
                       .n_out = n_out,
                       .n_in = n_in};
    char module[NAME_SIZE - 8];
    arch_module(s->config.arch, NAMING_GGUF, slot, layer, module, sizeof module);
    snprintf(t.name, sizeof t.name, "%s.weight", module);
    return fn(s, &t, user, error);
}

static graft_status each_vector(struct synth *s, int slot, int layer, const char *suffix, int64_t n,
                                tensor_fn fn, void *user, graft_error *error)
{
    bool norm = !strcmp(suffix, "weight"); /* around 1; biases around 0 */
    struct tensor t = {
        .type = GRAFT_TYPE_F32, .n_in = n, .centre = norm ? 1.0f : 0.0f, .width = 0.1f};
    char module[NAME_SIZE - 8];
    arch_module(s->config.arch, NAMING_GGUF, slot, layer, module, sizeof module);
    snprintf(t.name, sizeof t.name, "%s.%s", module, suffix);
    return fn(s, &t, user, error);
}

static graft_status each_of_layer(struct synth *s, int layer, tensor_fn fn, void *user,
                                  graft_error *error)
{
    const struct config *c = &s->config;
    int64_t d_q = (int64_t)c->n_head * c->d_head, d_kv = (int64_t)c->n_kv * c->d_head;
    const int64_t shapes[LINEAR_COUNT][2] = {
        [LINEAR_Q] = {d_q, c->d_model},        [LINEAR_K] = {d_kv, c->d_model},
        [LINEAR_V] = {d_kv, c->d_model},       [LINEAR_O] = {c->d_model, d_q},
        [LINEAR_GATE] = {c->d_ff, c->d_model}, [LINEAR_UP] = {c->d_ff, c->d_model},
        [LINEAR_DOWN] = {c->d_model, c->d_ff},
    };
    graft_status status =
        each_vector(s, SLOT_ATTN_NORM, layer, "weight", c->d_model, fn, user, error);
    if (status == GRAFT_OK)
        status = each_vector(s, SLOT_MLP_NORM, layer, "weight", c->d_model, fn, user, error);
    for (int i = 0; i < LINEAR_COUNT && status == GRAFT_OK; i++) {
        status =
            each_matrix(s, SLOT_LINEAR + i, layer, shapes[i][0], shapes[i][1], fn, user, error);
        if (status == GRAFT_OK && c->biases & 1u << i)
            status = each_vector(s, SLOT_LINEAR + i, layer, "bias", shapes[i][0], fn, user, error);
    }
    return status;
}

/* Llama 3's scaling is a tensor in GGUF: one divisor of the plain frequency per plane. */
static graft_status each_rope(struct synth *s, tensor_fn fn, void *user, graft_error *error)
{
    const struct config *c = &s->config;
    double scaled[256], mscale;
    float divisors[256];
    int n = c->d_head / 2;
    if (c->rope.kind != ROPE_LLAMA3)
        return GRAFT_OK;
    config_rope_frequencies(c, scaled, &mscale);
    for (int i = 0; i < n; i++)
        divisors[i] = (float)(pow(c->rope.theta, -2.0 * i / c->d_head) / scaled[i]);
    struct tensor t = {.type = GRAFT_TYPE_F32, .n_in = n, .values = divisors};
    snprintf(t.name, sizeof t.name, "rope_freqs.weight");
    return fn(s, &t, user, error);
}

/* Every tensor in the order of the file. */
static graft_status each_tensor(struct synth *s, tensor_fn fn, void *user, graft_error *error)
{
    const struct config *c = &s->config;
    graft_status status = each_matrix(s, SLOT_EMBED, 0, c->n_vocab, c->d_model, fn, user, error);
    for (int i = 0; i < c->n_layer && status == GRAFT_OK; i++)
        status = each_of_layer(s, i, fn, user, error);
    if (status == GRAFT_OK)
        status = each_vector(s, SLOT_FINAL_NORM, 0, "weight", c->d_model, fn, user, error);
    if (status == GRAFT_OK && !c->tied)
        status = each_matrix(s, SLOT_HEAD, 0, c->n_vocab, c->d_model, fn, user, error);
    return status == GRAFT_OK ? each_rope(s, fn, user, error) : status;
}

/* ---- values ------------------------------------------------------------------------------- */

/* Nearly normal, unit variance: the sum of four uniform numbers. */
static float draw(struct rng *rng)
{
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (double)rng_u32(rng) * 0x1p-32;
    return (float)((sum - 2) * 1.7320508075688772);
}

static void fill_supply(void *context, int worker, int n_workers)
{
    struct supply *supply = context;
    float x[SUPPLY_ROW];
    size_t row_bytes = SUPPLY_ROW / (size_t)supply->step_values * supply->step_bytes;
    int64_t begin, end;
    pool_split(SUPPLY_VALUES / SUPPLY_ROW, 1, worker, n_workers, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        struct rng rng;
        rng_init(&rng, SEED, (uint64_t)row);
        for (int i = 0; i < SUPPLY_ROW; i++)
            x[i] = draw(&rng) * supply->scale;
        if (!quantize_row(supply->type, x, SUPPLY_ROW, supply->bytes + (size_t)row * row_bytes))
            atomic_store(&supply->failed, true);
    }
}

static graft_status open_supply(struct synth *s, graft_type type, graft_error *error)
{
    const struct type_traits *traits = type_traits(type);
    struct supply *supply = &s->supplies[type];
    if (supply->bytes)
        return GRAFT_OK;
    int64_t step = traits->block_values > 1 ? traits->block_values : STEP_VALUES;
    supply->type = type;
    supply->step_values = step;
    supply->step_bytes = (size_t)(step / traits->block_values) * traits->block_bytes;
    supply->scale = 1 / sqrtf((float)s->config.d_model);
    supply->bytes = mem_alloc(s->mem, SUPPLY_VALUES / (size_t)step * supply->step_bytes);
    if (!supply->bytes)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for random weights");
    pool_run(s->runtime->pool, fill_supply, supply);
    if (atomic_load(&supply->failed))
        return error_set(error, GRAFT_INTERNAL, "random values do not fit %s", traits->name);
    return GRAFT_OK;
}

/* ---- writing ------------------------------------------------------------------------------ */

struct chunk {
    const struct supply *supply;
    uint64_t tensor;
    int64_t first, n_rows, row_steps;
    uint8_t *out;
};

/* Each row is the stretch of the supply that its number draws. */
static void cut_rows(void *context, int worker, int n_workers)
{
    const struct chunk *c = context;
    const struct supply *supply = c->supply;
    uint32_t places = (uint32_t)(SUPPLY_VALUES / supply->step_values - c->row_steps + 1);
    size_t row_bytes = (size_t)c->row_steps * supply->step_bytes;
    int64_t begin, end;
    pool_split(c->n_rows, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        uint32_t number[4];
        rng_block(SEED, c->tensor, (uint64_t)(c->first + i), number);
        memcpy(c->out + (size_t)i * row_bytes,
               supply->bytes + number[0] % places * supply->step_bytes, row_bytes);
    }
}

static graft_status report(struct synth *s, size_t bytes, graft_error *error)
{
    s->bytes_done += bytes;
    if (s->options->progress && !s->options->progress(s->options->progress_user, s->bytes_done,
                                                      s->bytes_total, "writing random weights"))
        return error_set(error, GRAFT_CANCELLED, "cancelled");
    return GRAFT_OK;
}

static graft_status write_matrix(struct synth *s, const struct tensor *t, graft_error *error)
{
    graft_status status = open_supply(s, t->type, error);
    if (status != GRAFT_OK)
        return status;
    const struct supply *supply = &s->supplies[t->type];
    struct chunk c = {
        .supply = supply, .tensor = s->n_tensors, .row_steps = t->n_in / supply->step_values};
    size_t row_bytes = (size_t)c.row_steps * supply->step_bytes;
    int64_t rows = CHUNK_BYTES / (int64_t)row_bytes + 1;
    rows = rows < t->n_out ? rows : t->n_out;
    c.out = mem_calloc(s->mem, (size_t)rows, row_bytes);
    if (!c.out)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for rows of weights");
    for (; c.first < t->n_out && status == GRAFT_OK; c.first += c.n_rows) {
        c.n_rows = t->n_out - c.first < rows ? t->n_out - c.first : rows;
        pool_run(s->runtime->pool, cut_rows, &c);
        size_t bytes = (size_t)c.n_rows * row_bytes;
        status = file_writer_write(s->file, c.out, bytes, error);
        if (status == GRAFT_OK)
            status = report(s, bytes, error);
    }
    mem_free(s->mem, c.out);
    return status;
}

static graft_status write_vector(struct synth *s, const struct tensor *t, graft_error *error)
{
    struct rng rng;
    rng_init(&rng, SEED, s->n_tensors);
    graft_status status = GRAFT_OK;
    for (int64_t i = 0; i < t->n_in && status == GRAFT_OK; i++) {
        float x = t->values ? t->values[i] : t->centre + t->width * draw(&rng);
        status = file_writer_write(s->file, &x, sizeof x, error);
    }
    return status;
}

static graft_status write_tensor(struct synth *s, const struct tensor *t, void *user,
                                 graft_error *error)
{
    (void)user;
    graft_status status = t->n_out ? write_matrix(s, t, error) : write_vector(s, t, error);
    s->n_tensors++;
    return status == GRAFT_OK ? gguf_write_tensor(s->file, "", 0, error) : status; /* pads */
}

static graft_status declare_tensor(struct synth *s, const struct tensor *t, void *user,
                                   graft_error *error)
{
    struct tensor_decl decl = {.name = t->name, .type = t->type, .n_dims = t->n_out ? 2 : 1};
    decl.shape[0] = t->n_out ? t->n_out : t->n_in;
    decl.shape[1] = t->n_in;
    size_t row = 0;
    if (t->n_out && type_row_bytes(t->type, t->n_in, &row))
        s->bytes_total += row * (uint64_t)t->n_out;
    return gguf_declare(user, &decl, error);
}

/* ---- metadata ----------------------------------------------------------------------------- */

static void put_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string(w, key, text, strlen(text));
}

static void put_key(struct gguf_writer *w, const struct synth *s, const char *name, int value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", s->shape->arch, name);
    gguf_put_u32(w, key, (uint32_t)value);
}

static void put_float(struct gguf_writer *w, const struct synth *s, const char *name, float value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", s->shape->arch, name);
    gguf_put_f32(w, key, value);
}

static void put_config(struct gguf_writer *w, const struct synth *s)
{
    const struct config *c = &s->config;
    put_text(w, "general.architecture", s->shape->arch);
    put_text(w, "general.type", "model");
    put_text(w, "general.name", s->shape->name);
    put_text(w, "general.description", "random weights, for measuring");
    gguf_put_u32(w, "general.file_type", recipe_file_type(s->recipe));
    gguf_put_u32(w, "general.quantization_version", 2);
    put_key(w, s, "context_length", c->n_ctx);
    put_key(w, s, "embedding_length", c->d_model);
    put_key(w, s, "block_count", c->n_layer);
    put_key(w, s, "feed_forward_length", c->d_ff);
    put_key(w, s, "attention.head_count", c->n_head);
    put_key(w, s, "attention.head_count_kv", c->n_kv);
    put_key(w, s, "attention.key_length", c->d_head);
    put_key(w, s, "attention.value_length", c->d_head);
    put_float(w, s, "attention.layer_norm_rms_epsilon", c->norm_eps);
    put_key(w, s, "vocab_size", c->n_vocab);
    put_key(w, s, "rope.dimension_count", c->d_head);
    put_float(w, s, "rope.freq_base", (float)c->rope.theta);
}

graft_status synth_write(graft_runtime *runtime, const struct shape *shape, const char *type,
                         struct file_writer *file, const graft_bench_options *options,
                         graft_error *error)
{
    struct synth s = {.runtime = runtime,
                      .mem = &runtime->mem,
                      .shape = shape,
                      .recipe = recipe_find(type),
                      .config = shape->dimensions,
                      .options = options,
                      .file = file};
    struct gguf_writer writer;
    gguf_writer_init(&writer, s.mem);
    s.config.arch = arch_find_gguf(shape->arch, strlen(shape->arch));
    put_config(&writer, &s);
    graft_status status = vocab_put(s.mem, &writer, shape->pre, s.config.n_vocab, error);
    if (status == GRAFT_OK)
        status = each_tensor(&s, declare_tensor, &writer, error);
    if (status == GRAFT_OK)
        status = gguf_write_head(&writer, file, error);
    if (status == GRAFT_OK)
        status = each_tensor(&s, write_tensor, NULL, error);
    for (int i = 0; i < GRAFT_TYPE_COUNT; i++)
        mem_free(s.mem, s.supplies[i].bytes);
    gguf_writer_free(&writer);
    return status;
}
