/* check_split.c: packed rows against those of the file: every product and dequantiser that takes both gives the
 * same bits, for odd sizes, few and many rows of activations, and outputs split anywhere. (That those of the
 * file are right is checked elsewhere.) */
#include "kernels/check.h"

enum { ROWS_MOST = 40 };

/* The same weights in both layouts, activations for them in a format, and room for outputs. */
struct pair {
    struct weights file, split;
    int n_tok;
    float *x;      /* [n_tok, n_in], or [n_tok, n_out] for dy */
    uint8_t *acts; /* x in the format of decode */
};

static struct pair pair_make(graft_type type, int64_t n_out, int64_t n_in, int n_tok, size_t slack)
{
    struct pair p = {.file = weights_make(type, n_out, n_in, slack, 0, GRAFT_TYPE_F32),
                     .n_tok = n_tok};
    const enum act_format format = act_format_for(type, ROLE_DECODE);
    const size_t bytes = act_row_bytes(format, n_in);
    const int64_t widest = n_in > n_out ? n_in : n_out;
    p.split = weights_split(&p.file.matrix, slack);
    p.x = test_malloc((size_t)(n_tok * widest) * sizeof *p.x);
    p.acts = test_malloc((size_t)n_tok * bytes);
    check_fill_uniform(p.x, n_tok * widest);
    for (int t = 0; t < n_tok; t++)
        scalar_kernels.act_quantize[format](p.x + t * n_in, n_in, p.acts + (size_t)t * bytes);
    return p;
}

static void pair_free(struct pair *p)
{
    weights_free(&p->file);
    weights_free(&p->split);
    test_free(p->x);
    test_free(p->acts);
}

/* What writes [n_tok, width] into y, columns begin..end. */
typedef void product(const struct kernels *k, const struct pair *p, const struct matrix *w,
                     int64_t begin, int64_t end, float *y);

static void decode(const struct kernels *k, const struct pair *p, const struct matrix *w,
                   int64_t begin, int64_t end, float *y)
{
    k->linear_decode[w->type](w, p->acts, p->n_tok, begin, end, y, w->n_out,
                              check_scratch(decode_scratch_bytes(w->n_in)));
}

static void prefill(const struct kernels *k, const struct pair *p, const struct matrix *w,
                    int64_t begin, int64_t end, float *y)
{
    k->linear_prefill(k, w, p->x, p->n_tok, begin, end, y, w->n_out,
                      check_scratch(prefill_scratch_bytes(w->n_in)));
}

static void transposed(const struct kernels *k, const struct pair *p, const struct matrix *w,
                       int64_t begin, int64_t end, float *y)
{
    const struct transposed_args a = {.w = w,
                                      .dy = p->x,
                                      .n_tok = p->n_tok,
                                      .i_begin = begin,
                                      .i_end = end,
                                      .dx = y,
                                      .dx_stride = w->n_in,
                                      .scratch = check_scratch(prefill_scratch_bytes(w->n_in))};
    k->linear_transposed(k, &a);
}

/* The product of packed rows, whole and in two parts, has the bits of the other. */
static void check_same_bits(const struct kernels *k, const struct pair *p, product *run,
                            int64_t width, int64_t cut)
{
    const char *name = graft_type_name(p->file.matrix.type);
    const int64_t n = p->n_tok * width;
    struct padded want = padded_alloc(n), got = padded_alloc(n), parts = padded_alloc(n);
    run(k, p, &p->file.matrix, 0, width, want.data);
    run(k, p, &p->split.matrix, 0, width, got.data);
    run(k, p, &p->split.matrix, 0, cut, parts.data);
    run(k, p, &p->split.matrix, cut, width, parts.data);
    check_same(got.data, want.data, n, name, k->tier);
    check_same(parts.data, want.data, n, name, k->tier);
    padded_check(&got);
    padded_check(&parts);
    padded_free(&want);
    padded_free(&got);
    padded_free(&parts);
}

static void check_rows(const struct kernels *k, const struct pair *p)
{
    const struct matrix *w = &p->file.matrix;
    float *want = test_malloc((size_t)w->n_in * sizeof *want);
    float *got = test_malloc((size_t)w->n_in * sizeof *got);
    for (int64_t row = 0; row < w->n_out; row++)
        for (int64_t first = 0; first < w->n_in; first += 96) { /* begins anywhere in a group */
            int64_t n = w->n_in - first;
            k->dequantize[w->type](w, row, first, n, want);
            k->dequantize[w->type](&p->split.matrix, row, first, n, got);
            check_same(got, want, n, graft_type_name(w->type), k->tier);
        }
    test_free(want);
    test_free(got);
}

static void check_pair(const struct pair *p)
{
    const struct matrix *w = &p->file.matrix;
    FOR_EACH_TIER(k)
    {
        check_rows(k, p);
        if (k->splits[w->type] || k == &scalar_kernels)
            check_same_bits(k, p, decode, w->n_out, w->n_out / 3);
    }
    FOR_EACH_PANEL_TIER(k)
    {
        const int64_t grain = transposed_grain(w);
        check_same_bits(k, p, prefill, w->n_out, w->n_out / 3);
        check_same_bits(k, p, transposed, w->n_in, w->n_in / 2 / grain * grain);
    }
}

static void packed_rows_give_the_bits_of_those_of_the_file(void **state)
{
    static const struct {
        int64_t n_out, blocks;
        int n_tok;
    } SHAPES[] = {{1, 1, 1},    {3, 2, 1},         {5, 3, 2},   {9, 5, 3},    {7, 15, 4},
                  {18, 16, 1},  {21, 17, 5},       {37, 28, 1}, {11, 31, 16}, {4, 32, 9},
                  {13, 33, 33}, {6, 49, 2},        {8, 64, 7},  {19, 65, 1},  {2, 127, 8},
                  {6, 152, 1},  {5, 40, ROWS_MOST}};
    (void)state;
    int n_types = 0;
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++) {
        if (!kernels_have_type((graft_type)type) || !split_row_bytes((graft_type)type, 256))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(SHAPES); i++)
            for (size_t slack = 0; slack < 2; slack++) {
                struct pair p = pair_make((graft_type)type, SHAPES[i].n_out, SHAPES[i].blocks * 32,
                                          SHAPES[i].n_tok, slack);
                check_pair(&p);
                pair_free(&p);
            }
        n_types++;
    }
    assert_int_equal(n_types, 2);
}

static void tiers_ask_only_for_layouts_that_there_are(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    for (int type = 0; type < GRAFT_TYPE_COUNT; type++)
        assert_true(!k->splits[type] || split_row_bytes((graft_type)type, 256) > 0);
    assert_int_equal(split_row_bytes(GRAFT_TYPE_Q4_0, 896), 512);
    assert_int_equal(split_row_bytes(GRAFT_TYPE_Q8_0, 896), 960);
    assert_int_equal(split_row_bytes(GRAFT_TYPE_F16, 896), 0);
}

const struct CMUnitTest check_split_tests[] = {
    cmocka_unit_test(packed_rows_give_the_bits_of_those_of_the_file),
    cmocka_unit_test(tiers_ask_only_for_layouts_that_there_are),
    {0},
};
