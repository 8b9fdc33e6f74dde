/* check_threads.c: every product of every type and tier on a pool of one and of two threads, split as
 * the model splits them: the bits are the same. (The other parts of the check call the kernels from one
 * thread, outside of a pool.)
 */
#include "kernels/check.h"

enum { N_OUT = 83, N_TOK = 9, GROUP = 64, N_IN_MAX = 1280, THREADS = 2 };

enum product { DECODE, PREFILL, TRANSPOSED, PRODUCTS };

struct threaded {
    const struct kernels *k;
    const struct matrix *w;
    enum product product;
    const void *x; /* rows in the format of the product */
    float *y;
    void *scratch[THREADS];
};

static int64_t width_of(const struct threaded *p)
{
    return p->product == TRANSPOSED ? p->w->n_in : p->w->n_out;
}

static void slice(void *context, int worker, int n_workers)
{
    const struct threaded *p = context;
    int64_t begin, end, width = width_of(p);
    pool_split(width, p->product == TRANSPOSED ? transposed_grain(p->w) : 16, worker, n_workers,
               &begin, &end);
    const struct transposed_args a = {.w = p->w,
                                      .dy = p->x,
                                      .n_tok = N_TOK,
                                      .i_begin = begin,
                                      .i_end = end,
                                      .dx = p->y,
                                      .dx_stride = width,
                                      .scratch = p->scratch[worker]};
    if (p->product == DECODE)
        p->k->linear_decode[p->w->type](p->w, p->x, N_TOK, begin, end, p->y, width,
                                        p->scratch[worker]);
    else if (p->product == PREFILL)
        p->k->linear_prefill(p->k, p->w, p->x, N_TOK, begin, end, p->y, width, p->scratch[worker]);
    else
        p->k->linear_transposed(p->k, &a);
}

static void check_product(struct pool *const pools[THREADS], struct threaded *p)
{
    int64_t n = N_TOK * width_of(p);
    struct padded y[THREADS];
    for (int i = 0; i < THREADS; i++) {
        y[i] = padded_alloc(n);
        p->y = y[i].data;
        pool_run(pools[i], slice, p);
        padded_check(&y[i]);
    }
    assert_memory_equal(y[1].data, y[0].data, (size_t)n * sizeof(float));
    for (int i = 0; i < THREADS; i++)
        padded_free(&y[i]);
}

/* Does a tier decode rows in the layout? All make panels of them. */
static bool decodes(const struct kernels *k, const struct matrix *w)
{
    return w->layout == LAYOUT_FILE || k->splits[w->type] || k == &scalar_kernels;
}

static void check_matrix(struct pool *const pools[THREADS], const struct matrix *w)
{
    const graft_type type = w->type;
    const int64_t n_in = w->n_in;
    size_t decode = decode_scratch_bytes(n_in), panels = prefill_scratch_bytes(n_in);
    float x[N_TOK * N_IN_MAX];
    enum act_format format = act_format_for(type, ROLE_DECODE);
    uint8_t *acts = test_malloc(N_TOK * act_row_bytes(format, n_in));
    struct threaded p = {.w = w};
    for (int i = 0; i < THREADS; i++)
        p.scratch[i] = test_malloc(decode > panels ? decode : panels);
    check_fill_uniform(x, N_TOK * n_in);
    for (int t = 0; t < N_TOK; t++)
        scalar_kernels.act_quantize[format](x + t * n_in, n_in,
                                            acts + (size_t)t * act_row_bytes(format, n_in));
    p.x = acts;
    p.product = DECODE;
    FOR_EACH_TIER(k)
    {
        p.k = k;
        if (decodes(k, w))
            check_product(pools, &p);
    }
    p.x = x;
    FOR_EACH_PANEL_TIER(k)
    for (int product = DECODE + 1; product < PRODUCTS; product++) {
        p.k = k;
        p.product = (enum product)product;
        check_product(pools, &p);
    }
    for (int i = 0; i < THREADS; i++)
        test_free(p.scratch[i]);
    test_free(acts);
}

static void check_type(struct pool *const pools[THREADS], graft_type type)
{
    int64_t step = type_step(type, GROUP), n_in = 1100 / step * step;
    struct weights w = weights_make(type, N_OUT, n_in, 1, GROUP, GRAFT_TYPE_F16);
    check_matrix(pools, &w.matrix);
    if (split_row_bytes(type, n_in)) {
        struct weights split = weights_split(&w.matrix, 1);
        check_matrix(pools, &split.matrix);
        weights_free(&split);
    }
    weights_free(&w);
}

static void one_and_two_threads_give_the_same_bits(void **state)
{
    (void)state;
    struct pool *pools[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pool_open(&pools[i], NULL, i + 1, NULL), GRAFT_OK);
#define CHECK_TYPE(TYPE, name) check_type(pools, GRAFT_TYPE_##TYPE);
    KERNEL_TYPES(CHECK_TYPE)
    for (int i = 0; i < THREADS; i++)
        pool_close(&pools[i]);
}

const struct CMUnitTest check_threads_tests[] = {
    cmocka_unit_test(one_and_two_threads_give_the_same_bits),
    {0},
};
