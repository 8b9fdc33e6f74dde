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

struct cache {
    int d_head;
    enum kv_type type;
    int64_t positions;
    struct fenced blocks[8];
    const void *table[8];
};

static struct cache cache_make(enum kv_type type, int d_head, int64_t positions)
{
    struct cache c = {.d_head = d_head, .type = type, .positions = positions};
    size_t bytes = kv_head_bytes(type, d_head);
    for (int64_t b = 0; b * KV_BLOCK < positions; b++) {
        c.blocks[b] = fenced_alloc(KV_BLOCK * bytes, 0);
        c.table[b] = c.blocks[b].data;
        memset(c.blocks[b].data, 0xFF, KV_BLOCK * bytes); /* what is not stored yet is NaN */
    }
    for (int64_t p = 0; p < positions; p++) {
        float x[512];
        check_fill_uniform(x, d_head);
        scalar_kernels.kv_store[type](
            x, d_head, (uint8_t *)c.blocks[p / KV_BLOCK].data + (size_t)(p % KV_BLOCK) * bytes);
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

static void attend_in_double(const struct attention_args *a, const struct cache *keys,
                             const struct cache *values, int h, double *out)
{
    double sum = 0, largest = -INFINITY, scores[8 * KV_BLOCK];
    float row[512];
    for (int64_t p = a->first; p <= a->last; p++) {
        double dot = 0;
        cache_read(keys, p, row);
        for (int i = 0; i < a->d_head; i++)
            dot += (double)a->q[h * a->d_head + i] * row[i];
        scores[p] = dot * (double)a->scale;
        largest = fmax(largest, scores[p]);
    }
    memset(out, 0, (size_t)a->d_head * sizeof *out);
    for (int64_t p = a->first; p <= a->last; p++) {
        double weight = exp(scores[p] - largest);
        cache_read(values, p, row);
        sum += weight;
        for (int i = 0; i < a->d_head; i++)
            out[i] += weight * row[i];
    }
    for (int i = 0; i < a->d_head; i++)
        out[i] /= sum;
}

static void check_attention(const struct kernels *k, struct attention_args *a,
                            const struct cache *keys, const struct cache *values)
{
    int64_t n = (int64_t)a->n_group * a->d_head;
    struct fenced q = fenced_alloc((size_t)n * 4, 0);
    struct fenced scratch = fenced_alloc(attention_scratch_floats(a->n_group, a->d_head) * 4, 0);
    struct padded out = padded_alloc(n);
    check_fill_uniform(q.data, n);
    a->q = q.data;
    a->out = out.data;
    a->scratch = scratch.data;
    k->attention(k, a);
    padded_check(&out);
    for (int h = 0; h < a->n_group; h++) {
        double want[512];
        attend_in_double(a, keys, values, h, want);
        for (int i = 0; i < a->d_head; i++)
            check_near(out.data[h * a->d_head + i], want[i], 1, ATTENTION_TOLERANCE, "attention",
                       k->tier, i);
    }
    /* One head of the group alone gives the same bits as in the group. */
    struct attention_args alone = *a;
    float single[512];
    int h = a->n_group - 1;
    alone.n_group = 1;
    alone.q = a->q + h * a->d_head;
    alone.out = single;
    k->attention(k, &alone);
    assert_memory_equal(single, out.data + h * a->d_head, (size_t)a->d_head * sizeof *single);
    padded_free(&out);
    fenced_free(&q);
    fenced_free(&scratch);
}

static void attention_is_right_for_every_format_and_range(void **state)
{
    (void)state;
    static const int heads[] = {8, 20, 64, 80, 128};
    static const int64_t ranges[][2] = {{0, 0},   {0, 6},    {0, 63},   {0, 64},   {5, 70},
                                        {63, 64}, {64, 127}, {17, 213}, {128, 128}};
    for (size_t d = 0; d < ARRAY_LEN(heads); d++)
        for (int type = 0; type < KV_TYPE_COUNT * KV_TYPE_COUNT; type++) {
            struct cache keys = cache_make(type % KV_TYPE_COUNT, heads[d], 214);
            struct cache values = cache_make(type / KV_TYPE_COUNT, heads[d], 214);
            struct attention_args a = {.d_head = heads[d],
                                       .scale = (float)(1 / sqrt(heads[d])),
                                       .k_type = keys.type,
                                       .v_type = values.type,
                                       .k_blocks = keys.table,
                                       .v_blocks = values.table};
            for (size_t r = 0; r < ARRAY_LEN(ranges); r++)
                FOR_EACH_TIER(k)
                {
                    a.first = ranges[r][0];
                    a.last = ranges[r][1];
                    a.n_group = 1 + (int)(r * 3 % 8);
                    check_attention(k, &a, &keys, &values);
                }
            cache_free(&keys);
            cache_free(&values);
        }
}

static void attention_survives_bad_numbers_and_empty_ranges(void **state)
{
    (void)state;
    struct cache c = cache_make(KV_F32, 16, 10);
    float q[32], out[32], scratch[4096];
    struct attention_args a = {.q = q,
                               .out = out,
                               .n_group = 2,
                               .d_head = 16,
                               .scale = 1,
                               .first = 0,
                               .last = 9,
                               .k_blocks = c.table,
                               .v_blocks = c.table,
                               .scratch = scratch};
    assert_true(attention_scratch_floats(2, 16) <= ARRAY_LEN(scratch));
    FOR_EACH_TIER(k)
    {
        check_fill_uniform(q, 32);
        q[3] = NAN;
        k->attention(k, &a);
        assert_true(isnan(out[0]) && isfinite(out[16]));
        q[3] = 100; /* scores far apart: the maximum moves and old sums vanish */
        k->attention(k, &a);
        assert_true(isfinite(out[0]));
        a.last = -1;
        k->attention(k, &a);
        for (int i = 0; i < 32; i++)
            assert_true(out[i] == 0);
        a.last = 9;
    }
    cache_free(&c);
}

const struct CMUnitTest check_attention_tests[] = {
    cmocka_unit_test(cache_formats_keep_their_precision_on_every_tier),
    cmocka_unit_test(cache_keeps_values_that_are_not_finite),
    cmocka_unit_test(attention_is_right_for_every_format_and_range),
    cmocka_unit_test(attention_survives_bad_numbers_and_empty_ranges),
    {0},
};
