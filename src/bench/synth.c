/* synth.c: the tensors of a random model of a given shape, and their values.
 *
 * What the weights are does not change the speed, so making them should take no time: for each type one
 * run of random values is quantised (by all workers), and every row of every tensor is a stretch of it
 * that begins at a block drawn for that row. The values are scaled so that activations neither vanish
 * nor saturate: products of normed states have about unit variance. MLX words are drawn as they are, their
 * scales and biases so that the weights come out alike.
 */
#include "bench/synth_internal.h"

#include <math.h>

enum {
    SUPPLY_VALUES = 1 << 20, /* per type */
    SUPPLY_ROW = 8192,       /* quantised at once: whole blocks of every type */
    STEP_VALUES = 32,        /* rows of plain types begin at multiples of this */
    CHUNK_BYTES = 8 << 20,
    SEED = 20240917
};

/* ---- the list ----------------------------------------------------------------------------- */

static void name_tensor(const struct synth *s, int slot, int layer, const char *suffix,
                        struct synth_tensor *t)
{
    char module[TENSOR_NAME_SIZE - 16];
    arch_module(s->config.arch, s->naming, slot, layer, module, sizeof module);
    snprintf(t->name, sizeof t->name, "%s.%s", module, suffix);
}

static graft_status each_matrix(struct synth *s, int slot, int layer, int64_t n_out, int64_t n_in,
                                synth_tensor_fn fn, void *user, graft_error *error)
{
    static const struct {
        const char *suffix;
        int supply;
    } MLX_PARTS[] = {{"scales", SUPPLY_SCALES}, {"biases", SUPPLY_BIASES}};
    struct synth_tensor t = {.n_out = n_out, .n_in = n_in, .stream = s->stream++};
    t.type = s->recipe ? recipe_type(s->recipe, &s->config, slot, layer, n_in) : s->mlx;
    t.supply = (int)t.type;
    name_tensor(s, slot, layer, "weight", &t);
    graft_status status = fn(s, &t, user, error);
    for (size_t i = 0; i < ARRAY_LEN(MLX_PARTS) && !s->recipe && status == GRAFT_OK; i++) {
        t.type = GRAFT_TYPE_F16;
        t.supply = MLX_PARTS[i].supply;
        name_tensor(s, slot, layer, MLX_PARTS[i].suffix, &t);
        status = fn(s, &t, user, error);
    }
    return status;
}

static graft_status each_vector(struct synth *s, int slot, int layer, const char *suffix, int64_t n,
                                synth_tensor_fn fn, void *user, graft_error *error)
{
    bool norm = !strcmp(suffix, "weight"); /* around 1; biases around 0 */
    struct synth_tensor t = {.type = GRAFT_TYPE_F32,
                             .n_in = n,
                             .stream = s->stream++,
                             .centre = norm ? 1.0f : 0.0f,
                             .width = 0.1f};
    name_tensor(s, slot, layer, suffix, &t);
    return fn(s, &t, user, error);
}

static graft_status each_of_layer(struct synth *s, int layer, synth_tensor_fn fn, void *user,
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
static graft_status each_rope(struct synth *s, synth_tensor_fn fn, void *user, graft_error *error)
{
    const struct config *c = &s->config;
    double scaled[256], mscale;
    float divisors[256];
    int n = c->d_head / 2;
    if (s->naming != NAMING_GGUF || c->rope.kind != ROPE_LLAMA3)
        return GRAFT_OK;
    config_rope_frequencies(c, scaled, &mscale);
    for (int i = 0; i < n; i++)
        divisors[i] = (float)(pow(c->rope.theta, -2.0 * i / c->d_head) / scaled[i]);
    struct synth_tensor t = {.type = GRAFT_TYPE_F32, .n_in = n, .values = divisors};
    snprintf(t.name, sizeof t.name, "rope_freqs.weight");
    return fn(s, &t, user, error);
}

graft_status synth_each(struct synth *s, synth_tensor_fn fn, void *user, graft_error *error)
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

struct fill {
    const struct supply *supply;
    graft_type type;
    float scale; /* standard deviation of the values */
    atomic_bool failed;
};

static void fill_share(void *context, int worker, int n_workers)
{
    struct fill *f = context;
    float x[SUPPLY_ROW];
    size_t row_bytes = SUPPLY_ROW / (size_t)f->supply->step_values * f->supply->step_bytes;
    int64_t begin, end;
    pool_split(SUPPLY_VALUES / SUPPLY_ROW, 1, worker, n_workers, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        struct rng rng;
        rng_init(&rng, SEED, (uint64_t)row);
        for (int i = 0; i < SUPPLY_ROW; i++)
            x[i] = draw(&rng) * f->scale;
        if (!quantize_row(f->type, x, SUPPLY_ROW, f->supply->bytes + (size_t)row * row_bytes))
            atomic_store(&f->failed, true);
    }
}

static graft_status reserve(struct synth *s, int index, int64_t step_values, size_t step_bytes,
                            graft_error *error)
{
    struct supply *supply = &s->supplies[index];
    *supply = (struct supply){.step_values = step_values, .step_bytes = step_bytes};
    supply->bytes = mem_alloc(s->mem, SUPPLY_VALUES / (size_t)step_values * step_bytes);
    return supply->bytes ? GRAFT_OK
                         : error_set(error, GRAFT_NO_MEMORY, "no memory for random weights");
}

static float weight_scale(const struct synth *s)
{
    return 1 / sqrtf((float)s->config.d_model);
}

static graft_status open_blocks(struct synth *s, graft_type type, graft_error *error)
{
    const struct type_traits *traits = type_traits(type);
    int64_t step = traits->block_values > 1 ? traits->block_values : STEP_VALUES;
    graft_status status = reserve(
        s, (int)type, step, (size_t)(step / traits->block_values) * traits->block_bytes, error);
    if (status != GRAFT_OK)
        return status;
    struct fill fill = {.supply = &s->supplies[type], .type = type, .scale = weight_scale(s)};
    pool_run(s->runtime->pool, fill_share, &fill);
    if (atomic_load(&fill.failed))
        return error_set(error, GRAFT_INTERNAL, "random values do not fit %s", traits->name);
    return GRAFT_OK;
}

/* w = scale · q + bias with every q of its range equally likely and the bias in the middle. */
static graft_status open_words(struct synth *s, graft_error *error)
{
    int bits = s->mlx == GRAFT_TYPE_MLX4 ? 4 : 8, levels = 1 << bits;
    float deviation = sqrtf((float)(levels * levels - 1) / 12);
    struct supply *words = &s->supplies[s->mlx], *scales = &s->supplies[SUPPLY_SCALES],
                  *biases = &s->supplies[SUPPLY_BIASES];
    struct rng rng;
    rng_init(&rng, SEED, 0);
    graft_status status = reserve(s, (int)s->mlx, MLX_GROUP, (size_t)(MLX_GROUP * bits / 8), error);
    if (status == GRAFT_OK)
        status = reserve(s, SUPPLY_SCALES, MLX_GROUP, sizeof(uint16_t), error);
    if (status == GRAFT_OK)
        status = reserve(s, SUPPLY_BIASES, MLX_GROUP, sizeof(uint16_t), error);
    for (size_t i = 0; i < SUPPLY_VALUES / MLX_GROUP && status == GRAFT_OK; i++) {
        uint32_t word;
        for (size_t at = 0; at < words->step_bytes; at += sizeof word) {
            word = rng_u32(&rng);
            memcpy(words->bytes + i * words->step_bytes + at, &word, sizeof word);
        }
        float scale = weight_scale(s) / deviation * (float)(0.75 + 0.5 * rng_uniform(&rng));
        uint16_t half = f32_to_f16(scale);
        uint16_t bias = f32_to_f16(-f16_to_f32(half) * (float)(levels - 1) / 2);
        memcpy(scales->bytes + i * sizeof half, &half, sizeof half);
        memcpy(biases->bytes + i * sizeof bias, &bias, sizeof bias);
    }
    return status;
}

static graft_status open_supply(struct synth *s, const struct synth_tensor *t, graft_error *error)
{
    if (s->supplies[t->supply].bytes)
        return GRAFT_OK;
    return s->recipe ? open_blocks(s, t->type, error) : open_words(s, error);
}

/* ---- writing ------------------------------------------------------------------------------ */

struct chunk {
    const struct supply *supply;
    uint64_t stream;
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
        rng_block(SEED, c->stream, (uint64_t)(c->first + i), number);
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

static graft_status put_matrix(struct synth *s, const struct synth_tensor *t, graft_error *error)
{
    graft_status status = open_supply(s, t, error);
    if (status != GRAFT_OK)
        return status;
    const struct supply *supply = &s->supplies[t->supply];
    struct chunk c = {
        .supply = supply, .stream = t->stream, .row_steps = t->n_in / supply->step_values};
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

static graft_status put_vector(struct synth *s, const struct synth_tensor *t, graft_error *error)
{
    struct rng rng;
    rng_init(&rng, SEED, t->stream);
    graft_status status = GRAFT_OK;
    for (int64_t i = 0; i < t->n_in && status == GRAFT_OK; i++) {
        float x = t->values ? t->values[i] : t->centre + t->width * draw(&rng);
        status = file_writer_write(s->file, &x, sizeof x, error);
    }
    return status;
}

graft_status synth_put(struct synth *s, const struct synth_tensor *t, void *user,
                       graft_error *error)
{
    (void)user;
    return t->n_out ? put_matrix(s, t, error) : put_vector(s, t, error);
}

/* ---- all ---------------------------------------------------------------------------------- */

static graft_type mlx_type(const char *name)
{
    return !strcmp(name, "mlx4")   ? GRAFT_TYPE_MLX4
           : !strcmp(name, "mlx8") ? GRAFT_TYPE_MLX8
                                   : GRAFT_TYPE_COUNT;
}

bool synth_is_directory(const char *type)
{
    return mlx_type(type) != GRAFT_TYPE_COUNT;
}

graft_status synth_check_type(const char *type, graft_error *error)
{
    char known[256];
    if (type[0] && (synth_is_directory(type) || recipe_find(type)))
        return GRAFT_OK;
    recipe_list(known, sizeof known);
    return error_set(error, GRAFT_INVALID_ARGUMENT, "no type \"%s\"; known are %s, mlx4, mlx8",
                     type, known);
}

graft_status synth_write(graft_runtime *runtime, const struct shape *shape, const char *type,
                         struct file_writer *file, const graft_bench_options *options,
                         graft_error *error)
{
    bool mlx = synth_is_directory(type);
    struct synth s = {.runtime = runtime,
                      .mem = &runtime->mem,
                      .shape = shape,
                      .naming = mlx ? NAMING_HF : NAMING_GGUF,
                      .recipe = mlx ? NULL : recipe_find(type),
                      .mlx = mlx_type(type),
                      .config = shape->dimensions,
                      .options = options,
                      .file = file};
    s.config.arch = arch_find_gguf(shape->arch, strlen(shape->arch));
    graft_status status = mlx ? synth_mlx(&s, error) : synth_gguf(&s, error);
    for (int i = 0; i < SUPPLY_COUNT; i++)
        mem_free(s.mem, s.supplies[i].bytes);
    return status;
}
