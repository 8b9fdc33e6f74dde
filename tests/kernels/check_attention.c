/* check_attention.c: cache formats and attention over blocks, against double precision. */
#include "kernels/check.h"

#include <math.h>

/* Softmax weights err by the rounding of scores of size 4 or so, times a few exponentials. */
static const double ATTENTION_TOLERANCE = 3e-6;

/* ---- cache formats ------------------------------------------------------------------------ */

static void check_kv_format(const struct kernels *k, enum kv_type type, int d_head)
{
    size_t bytes = kv_head_bytes(type, d_head);
    struct fenced x = fenced_alloc((size_t)d_head * 4, 0);
    struct fenced want = fenced_alloc(bytes, 0), got = fenced_alloc(bytes, 0);
    struct padded back = padded_alloc(d_head);
    float expected[512], *xs = x.data;
    check_fill_uniform(xs, d_head);
    scalar_kernels.kv_store[type](xs, d_head, want.data);
    k->kv_store[type](xs, d_head, got.data);
    assert_memory_equal(got.data, want.data, bytes);
    scalar_kernels.kv_load[type](want.data, d_head, expected);
    k->kv_load[type](want.data, d_head, back.data);
    padded_check(&back);
    assert_memory_equal(back.data, expected, (size_t)d_head * sizeof *expected);
    for (int i = 0; i < d_head; i++) {
        static const double tolerance[] = {[KV_F32] = 0, [KV_F16] = 0x1p-11, [KV_Q8] = 0.51 / 127};
        check_near(expected[i], xs[i], type == KV_F16 ? fabsf(xs[i]) + 1e-6 : 1, tolerance[type],
                   "kv", k->tier, i);
    }
    padded_free(&back);
    fenced_free(&x);
    fenced_free(&want);
    fenced_free(&got);
}

static void cache_formats_keep_their_precision_on_every_tier(void **state)
{
    (void)state;
    static const int heads[] = {1, 3, 8, 15, 32, 33, 64, 80, 100, 128, 256};
    FOR_EACH_TIER(k)
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        for (int type = 0; type < KV_TYPE_COUNT; type++)
            check_kv_format(k, type, heads[i]);
}

static void cache_keeps_values_that_are_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    FOR_EACH_TIER(k)
    for (int type = 0; type < KV_TYPE_COUNT; type++)
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
            float x[40] = {1, bad[i], 2}, back[40];
            uint8_t row[40 * 4];
            k->kv_store[type](x, 40, row);
            k->kv_load[type](row, 40, back);
            assert_true(!isfinite(back[1]) && back[35] == 0);
        }
}

/* ---- attention ---------------------------------------------------------------------------- */

enum { BLOCKS = 20, HEAD_MAX = 256 };

struct cache {
    int d_head;
    enum kv_type type;
    struct fenced blocks[BLOCKS];
    const void *table[BLOCKS];
};

static void cache_put(struct cache *c, int64_t p, const float *x)
{
    size_t bytes = kv_head_bytes(c->type, c->d_head);
    scalar_kernels.kv_store[c->type](
        x, c->d_head, (uint8_t *)c->blocks[p / KV_BLOCK].data + (size_t)(p % KV_BLOCK) * bytes);
}

static struct cache cache_make(enum kv_type type, int d_head, int64_t positions)
{
    struct cache c = {.d_head = d_head, .type = type};
    size_t bytes = kv_head_bytes(type, d_head);
    for (int64_t b = 0; b * KV_BLOCK < positions; b++) {
        c.blocks[b] = fenced_alloc(KV_BLOCK * bytes, 0);
        c.table[b] = c.blocks[b].data;
        memset(c.blocks[b].data, 0xFF, KV_BLOCK * bytes); /* what is not stored yet is NaN */
    }
    for (int64_t p = 0; p < positions; p++) {
        float x[HEAD_MAX];
        check_fill_uniform(x, d_head);
        cache_put(&c, p, x);
    }
    return c;
}

static void cache_free(struct cache *c)
{
    for (size_t b = 0; b < ARRAY_LEN(c->blocks); b++)
        fenced_free(&c->blocks[b]);
}

static void cache_read(const struct cache *c, int64_t p, float *x)
{
    const uint8_t *block = c->table[p / KV_BLOCK];
    scalar_kernels.kv_load[c->type](
        block + (size_t)(p % KV_BLOCK) * kv_head_bytes(c->type, c->d_head), c->d_head, x);
}

/* What row `row`, head `head` of the tile should give. */
static void attend_in_double(const struct attention_args *a, const struct cache *keys,
                             const struct cache *values, int row, int head, double *out)
{
    int64_t pos = a->pos + row, first = a->window && pos >= a->window ? pos - a->window + 1 : 0;
    const float *q = a->q + row * a->q_stride + (int64_t)head * a->d_head;
    double sum = 0, largest = -INFINITY, scores[BLOCKS * KV_BLOCK];
    float x[HEAD_MAX];
    for (int64_t p = first; p <= pos; p++) {
        double dot = 0;
        cache_read(keys, p, x);
        for (int i = 0; i < a->d_head; i++)
            dot += (double)q[i] * x[i];
        scores[p] = dot * (double)a->scale;
        largest = fmax(largest, scores[p]);
    }
    memset(out, 0, (size_t)a->d_head * sizeof *out);
    for (int64_t p = first; p <= pos; p++) {
        double weight = exp(scores[p] - largest);
        cache_read(values, p, x);
        sum += weight;
        for (int i = 0; i < a->d_head; i++)
            out[i] += weight * x[i];
    }
    for (int i = 0; i < a->d_head; i++)
        out[i] /= sum;
}

/* A tile with its own queries and outputs, rows a little further apart than they are wide. */
struct tile {
    struct attention_args a;
    struct fenced q, scratch, state;
    struct padded out;
};

static struct tile tile_make(const struct cache *keys, const struct cache *values, int n_row,
                             int n_group)
{
    int d = keys->d_head;
    size_t n = (size_t)n_row * (size_t)n_group;
    int64_t stride = (int64_t)n_group * d + 3, floats = (n_row - 1) * stride + n_group * d;
    struct tile t = {.q = fenced_alloc((size_t)floats * 4, 0),
                     .scratch = fenced_alloc((size_t)attention_scratch_floats(n_group, d) * 4, 0),
                     .state = fenced_alloc(2 * n * 4, 0),
                     .out = padded_alloc(floats)};
    float *state = t.state.data;
    check_fill_uniform(t.q.data, floats);
    t.a = (struct attention_args){.q = t.q.data,
                                  .out = t.out.data,
                                  .m = state,
                                  .l = state + n,
                                  .q_stride = stride,
                                  .out_stride = stride,
                                  .n_row = n_row,
                                  .n_group = n_group,
                                  .d_head = d,
                                  .scale = (float)(1 / sqrt(d)),
                                  .k_type = keys->type,
                                  .v_type = values->type,
                                  .k_blocks = keys->table,
                                  .v_blocks = values->table,
                                  .scratch = t.scratch.data};
    return t;
}

static void tile_free(struct tile *t)
{
    padded_check(&t->out);
    fenced_free(&t->q);
    fenced_free(&t->scratch);
    fenced_free(&t->state);
    padded_free(&t->out);
}

static const float *tile_out(const struct tile *t, int row, int head)
{
    return t->a.out + row * t->a.out_stride + (int64_t)head * t->a.d_head;
}

/* Row `row` of the tile, in a tile of its own, gives the same bits. */
static void check_row_alone(const struct kernels *k, enum role role, const struct tile *t, int row)
{
    float out[8 * HEAD_MAX];
    struct attention_args a = t->a;
    a.q += row * a.q_stride;
    a.out = out;
    a.n_row = 1;
    a.pos += row;
    attention_run_tile(k, role, &a);
    check_same(out, tile_out(t, row, 0), (int64_t)a.n_group * a.d_head, "a row alone", k->tier);
}

static void check_tile(const struct kernels *k, enum role role, struct tile *t,
                       const struct cache *keys, const struct cache *values)
{
    const struct attention_args *a = &t->a;
    attention_run_tile(k, role, a);
    for (int r = 0; r < a->n_row; r++) {
        check_row_alone(k, role, t, r);
        for (int h = 0; h < a->n_group; h++) {
            double want[HEAD_MAX];
            attend_in_double(a, keys, values, r, h, want);
            for (int i = 0; i < a->d_head; i++)
                check_near(tile_out(t, r, h)[i], want[i], 1, ATTENTION_TOLERANCE, "attention",
                           k->tier, i);
        }
        for (int64_t i = (int64_t)a->n_group * a->d_head; r + 1 < a->n_row && i < a->out_stride;
             i++)
            assert_true(padded_is_untouched(a->out + r * a->out_stride + i));
    }
}

/* Positions and windows around the ends of blocks. */
static const int64_t RANGES[][2] = {{0, 0},    {6, 0},    {63, 0},    {64, 0},  {60, 0},  {70, 66},
                                    {64, 2},   {127, 64}, {62, 1},    {128, 1}, {150, 7}, {3, 90},
                                    {120, 65}, {126, 63}, {190, 128}, {180, 0}};

static void attention_is_right_for_every_format_and_range(void **state)
{
    (void)state;
    static const int heads[] = {8, 20, 40, 64, 80, 96, 100, 128};
    for (size_t d = 0; d < ARRAY_LEN(heads); d++)
        for (int type = 0; type < KV_TYPE_COUNT * KV_TYPE_COUNT; type++) {
            struct cache keys = cache_make(type % KV_TYPE_COUNT, heads[d], 214);
            struct cache values = cache_make(type / KV_TYPE_COUNT, heads[d], 214);
            for (size_t r = 0; r < ARRAY_LEN(RANGES); r++) {
                int n_group = 1 + (int)(r + d) % 8, most = attention_tile_rows(n_group);
                int n_row = 1 + check_below(most < 20 ? most : 20);
                struct tile t = tile_make(&keys, &values, n_row, n_group);
                t.a.pos = RANGES[r][0];
                t.a.window = RANGES[r][1];
                FOR_EACH_TIER(k)
                for (int role = 0; role < ROLE_COUNT; role++)
                    check_tile(k, (enum role)role, &t, &keys, &values);
                tile_free(&t);
            }
            cache_free(&keys);
            cache_free(&values);
        }
}

static void the_fullest_tiles_and_the_widest_groups_fit(void **state)
{
    (void)state;
    static const int groups[] = {1, 2, 3, 7, 9, 16, 63, 64, 65, 71, 130};
    struct cache keys = cache_make(KV_F16, 24, 200), values = cache_make(KV_Q8, 24, 200);
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        int n_row = attention_tile_rows(groups[g]);
        assert_true(n_row >= 1);
        struct tile t = tile_make(&keys, &values, n_row, groups[g]);
        t.a.pos = 200 - n_row;
        FOR_EACH_TIER(k)
        for (int role = 0; role < ROLE_COUNT; role++) {
            double want[HEAD_MAX];
            attention_run_tile(k, (enum role)role, &t.a);
            attend_in_double(&t.a, &keys, &values, n_row - 1, groups[g] - 1, want);
            for (int i = 0; i < 24; i++)
                check_near(tile_out(&t, n_row - 1, groups[g] - 1)[i], want[i], 1,
                           ATTENTION_TOLERANCE, "attention", k->tier, i);
        }
        tile_free(&t);
    }
    cache_free(&keys);
    cache_free(&values);
}

/* Decode rows in parts, each computed by somebody else, joined in their order. */
static void check_parts(const struct kernels *k, struct tile *t)
{
    enum { PARTS = BLOCKS * KV_BLOCK / ATTENTION_CHUNK + 1 };
    struct tile parts[PARTS];
    int64_t begin, end, width = t->a.n_row * t->a.out_stride - 3;
    int n = 0;
    attention_run_tile(k, ROLE_DECODE, &t->a);
    float *want = calloc((size_t)width, sizeof *want);
    memcpy(want, t->a.out, (size_t)width * sizeof *want);
    attention_range(&t->a, &begin, &end);
    for (int64_t c = begin / ATTENTION_CHUNK; c * ATTENTION_CHUNK < end; c++)
        n++;
    for (int i = n - 1; i >= 0; i--) {
        struct cache like = {.d_head = t->a.d_head, .type = t->a.k_type};
        parts[i] = tile_make(&like, &like, t->a.n_row, t->a.n_group);
        struct attention_args a = t->a;
        a.m = parts[i].a.m;
        a.l = parts[i].a.l;
        a.out = parts[i].a.out;
        a.begin = (begin / ATTENTION_CHUNK + i) * ATTENTION_CHUNK;
        a.end = a.begin + ATTENTION_CHUNK;
        k->attention[ROLE_DECODE](&a);
    }
    for (int i = 1; i < n; i++)
        k->attention_join(&parts[0].a, &parts[i].a);
    k->attention_finish(&parts[0].a);
    check_same(parts[0].a.out, want, width, "joined parts", k->tier);
    for (int i = 0; i < n; i++)
        tile_free(&parts[i]);
    free(want);
}

static void parts_of_a_row_are_joined_to_the_bits_of_the_whole(void **state)
{
    (void)state;
    static const int64_t where[][2] = {{505, 0},  {511, 0},    {512, 0},    {1020, 0},
                                       {1100, 0}, {1023, 512}, {1100, 600}, {520, 9}};
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        struct cache c = cache_make((enum kv_type)type, 32, 1110);
        for (size_t i = 0; i < ARRAY_LEN(where); i++) {
            struct tile t = tile_make(&c, &c, 1 + (int)i * 3 % 10, 1 + (int)i % 6);
            t.a.pos = where[i][0];
            t.a.window = where[i][1];
            FOR_EACH_TIER(k)
            {
                check_tile(k, ROLE_DECODE, &t, &c, &c);
                check_tile(k, ROLE_PREFILL, &t, &c, &c);
                check_parts(k, &t);
            }
            tile_free(&t);
        }
        cache_free(&c);
    }
}

static void what_a_row_does_not_see_cannot_spoil_it(void **state)
{
    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++)
        for (int window = 0; window <= 20; window += 20) {
            struct cache c = cache_make((enum kv_type)type, 48, 128);
            struct tile t = tile_make(&c, &c, 12, 3);
            t.a.pos = 90;
            t.a.window = window;
            float bad[48], good[12 * 3 * 48 + 11 * 3];
            for (int i = 0; i < 48; i++)
                bad[i] = i % 2 ? INFINITY : NAN;
            FOR_EACH_TIER(k)
            for (int role = 0; role < ROLE_COUNT; role++) {
                float before[48], first[48];
                cache_read(&c, 97, before);
                cache_read(&c, 73, first); /* seen by rows up to 92 of those with a window */
                attention_run_tile(k, (enum role)role, &t.a);
                memcpy(good, t.a.out, sizeof good);
                cache_put(&c, 97, bad);
                if (window)
                    cache_put(&c, 73, bad);
                attention_run_tile(k, (enum role)role, &t.a);
                for (int r = 0; r < 12; r++) {
                    bool spoilt = r >= 7 || (window && r <= 2);
                    for (int i = 0; spoilt && i < 3 * 48; i++)
                        assert_true(isnan(tile_out(&t, r, 0)[i]));
                    if (!spoilt)
                        check_same(tile_out(&t, r, 0), good + r * t.a.out_stride, 3 * 48,
                                   "a row that does not see it", k->tier);
                }
                cache_put(&c, 97, before);
                cache_put(&c, 73, first);
            }
            tile_free(&t);
            cache_free(&c);
        }
}

static void attention_survives_bad_numbers_and_empty_ranges(void **state)
{
    (void)state;
    struct cache c = cache_make(KV_F32, 16, 10);
    struct tile t = tile_make(&c, &c, 1, 2);
    float *q = t.q.data;
    FOR_EACH_TIER(k)
    for (int role = 0; role < ROLE_COUNT; role++) {
        t.a.pos = 9;
        check_fill_uniform(q, 32);
        q[3] = NAN;
        attention_run_tile(k, (enum role)role, &t.a);
        assert_true(isnan(t.a.out[0]) && isfinite(t.a.out[16]));
        q[3] = 1000; /* scores far apart: the maximum moves and old sums vanish */
        attention_run_tile(k, (enum role)role, &t.a);
        assert_true(isfinite(t.a.out[0]));
        t.a.pos = -1;
        attention_run_tile(k, (enum role)role, &t.a);
        for (int i = 0; i < 32; i++)
            assert_true(t.a.out[i] == 0);
    }
    tile_free(&t);
    cache_free(&c);
}

const struct CMUnitTest check_attention_tests[] = {
    cmocka_unit_test(cache_formats_keep_their_precision_on_every_tier),
    cmocka_unit_test(cache_keeps_values_that_are_not_finite),
    cmocka_unit_test(attention_is_right_for_every_format_and_range),
    cmocka_unit_test(the_fullest_tiles_and_the_widest_groups_fit),
    cmocka_unit_test(parts_of_a_row_are_joined_to_the_bits_of_the_whole),
    cmocka_unit_test(what_a_row_does_not_see_cannot_spoil_it),
    cmocka_unit_test(attention_survives_bad_numbers_and_empty_ranges),
    {0},
};
