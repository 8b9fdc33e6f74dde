/* check_self_attention.c: attention of training: forward against double precision, backward of the scalar tier
 * against derivatives taken in double by finite differences, and of every other tier against the scalar one. */
#include "kernels/check.h"

#include <math.h>

/* Weights err by the rounding of scores of size 4 or so, times a few exponentials. */
static const double FORWARD_TOLERANCE = 3e-6;
/* The same, times gradients of up to some tens, of which hundreds are added. */
static const double BACKWARD_TOLERANCE = 1e-5;
static const double STEP = 1e-5;

enum { Q, K, V, DOUT, INPUTS };
enum { OUT, LSE, DQ, DK, DV, OUTPUTS };

struct shape {
    int n_tok, n_group, d_head;
    int64_t window;
};

/* One example; rows stand a little further apart than they are wide. */
struct example {
    struct shape shape;
    struct fenced in[INPUTS];
    double *in_double[INPUTS]; /* copies */
    int64_t floats[OUTPUTS];
    int64_t q_stride, kv_stride, out_stride, lse_stride;
    float scale;
};

static struct example example_make(struct shape s)
{
    struct example e = {.shape = s, .scale = (float)(1 / sqrt(s.d_head))};
    const int64_t heads = (int64_t)s.n_group * s.d_head, last = s.n_tok - 1;
    e.q_stride = heads + 3;
    e.kv_stride = s.d_head + 5;
    e.out_stride = heads + 1;
    e.lse_stride = s.n_group + 2;
    e.floats[DQ] = last * e.q_stride + heads;
    e.floats[DK] = e.floats[DV] = last * e.kv_stride + s.d_head;
    e.floats[OUT] = last * e.out_stride + heads;
    e.floats[LSE] = last * e.lse_stride + s.n_group;
    const int64_t n[INPUTS] = {
        [Q] = e.floats[DQ], [K] = e.floats[DK], [V] = e.floats[DV], [DOUT] = e.floats[OUT]};
    for (int i = 0; i < INPUTS; i++) {
        e.in[i] = fenced_alloc((size_t)n[i] * sizeof(float), 0);
        float *x = e.in[i].data;
        check_fill_uniform(x, n[i]);
        for (int64_t j = 0; j < n[i]; j++)
            x[j] *= i == Q || i == K ? 2 : 1; /* some weights are large */
        e.in_double[i] = test_malloc((size_t)n[i] * sizeof(double));
        for (int64_t j = 0; j < n[i]; j++)
            e.in_double[i][j] = x[j];
    }
    return e;
}

static void example_free(struct example *e)
{
    for (int i = 0; i < INPUTS; i++) {
        fenced_free(&e->in[i]);
        test_free(e->in_double[i]);
    }
}

/* What a tier makes of it. */
struct results {
    struct padded x[OUTPUTS];
};

static struct results results_make(const struct example *e, const struct kernels *k)
{
    struct results r;
    for (int i = 0; i < OUTPUTS; i++)
        r.x[i] = padded_alloc(e->floats[i]);
    const struct shape *s = &e->shape;
    const int64_t scratch = self_attention_scratch_floats(s->n_tok, s->n_group, s->d_head);
    struct self_attention_args a = {.q = e->in[Q].data,
                                    .k = e->in[K].data,
                                    .v = e->in[V].data,
                                    .out = r.x[OUT].data,
                                    .lse = r.x[LSE].data,
                                    .q_stride = e->q_stride,
                                    .kv_stride = e->kv_stride,
                                    .out_stride = e->out_stride,
                                    .lse_stride = e->lse_stride,
                                    .window = s->window,
                                    .n_tok = s->n_tok,
                                    .n_group = s->n_group,
                                    .d_head = s->d_head,
                                    .scale = e->scale};
    struct fenced room = fenced_alloc((size_t)scratch * sizeof(float), 0);
    memset(room.data, 0xFF, (size_t)scratch * sizeof(float)); /* NaN */
    a.scratch = room.data;
    k->self_attention(&a);
    a.dout = e->in[DOUT].data;
    a.dq = r.x[DQ].data;
    a.dk = r.x[DK].data;
    a.dv = r.x[DV].data;
    k->self_attention_backward(&a);
    fenced_free(&room);
    return r;
}

static void results_free(struct results *r)
{
    for (int i = 0; i < OUTPUTS; i++)
        padded_free(&r->x[i]);
}

/* How an output lies: rows of `width` that are `stride` apart. */
static void output_rows(const struct example *e, int output, int64_t *width, int64_t *stride)
{
    const int64_t heads = (int64_t)e->shape.n_group * e->shape.d_head;
    *width = output == LSE                  ? e->shape.n_group
             : output < LSE || output == DQ ? heads
                                            : e->shape.d_head;
    *stride = output == OUT   ? e->out_stride
              : output == LSE ? e->lse_stride
              : output == DQ  ? e->q_stride
                              : e->kv_stride;
}

/* Nothing is written between rows and around them. */
static void check_untouched(const struct example *e, const struct results *r)
{
    for (int output = 0; output < OUTPUTS; output++) {
        int64_t width, stride;
        output_rows(e, output, &width, &stride);
        padded_check(&r->x[output]);
        for (int t = 0; t + 1 < e->shape.n_tok; t++)
            for (int64_t i = width; i < stride; i++)
                assert_true(padded_is_untouched(r->x[output].data + t * stride + i));
    }
}

/* ---- in double ---------------------------------------------------------------------------- */

/* out [d_head] and lse of one query. */
static double query_in_double(const struct example *e, int t, int h, double *out)
{
    const struct shape *s = &e->shape;
    const double *q = e->in_double[Q] + t * e->q_stride + h * s->d_head;
    const int64_t first = s->window && t >= s->window ? t - s->window + 1 : 0;
    double scores[1024], largest = -INFINITY, sum = 0;
    for (int64_t j = first; j <= t; j++) {
        const double *k = e->in_double[K] + j * e->kv_stride;
        scores[j] = 0;
        for (int i = 0; i < s->d_head; i++)
            scores[j] += q[i] * k[i];
        scores[j] *= (double)e->scale;
        largest = fmax(largest, scores[j]);
    }
    memset(out, 0, (size_t)s->d_head * sizeof *out);
    for (int64_t j = first; j <= t; j++) {
        const double *v = e->in_double[V] + j * e->kv_stride, weight = exp(scores[j] - largest);
        sum += weight;
        for (int i = 0; i < s->d_head; i++)
            out[i] += weight * v[i];
    }
    for (int i = 0; i < s->d_head; i++)
        out[i] /= sum;
    return largest + log(sum);
}

/* Σ dout · out */
static double loss_in_double(const struct example *e)
{
    const struct shape *s = &e->shape;
    double out[256], sum = 0;
    for (int t = 0; t < s->n_tok; t++)
        for (int h = 0; h < s->n_group; h++) {
            const double *dout = e->in_double[DOUT] + t * e->out_stride + h * s->d_head;
            query_in_double(e, t, h, out);
            for (int i = 0; i < s->d_head; i++)
                sum += dout[i] * out[i];
        }
    return sum;
}

static void check_forward(const struct example *e, const struct results *r, const struct kernels *k)
{
    const struct shape *s = &e->shape;
    double want[256];
    for (int t = 0; t < s->n_tok; t++)
        for (int h = 0; h < s->n_group; h++) {
            double lse = query_in_double(e, t, h, want);
            const float *out = r->x[OUT].data + t * e->out_stride + h * s->d_head;
            check_near(r->x[LSE].data[t * e->lse_stride + h], lse, fmax(fabs(lse), 1),
                       FORWARD_TOLERANCE, "lse", k->tier, t);
            for (int i = 0; i < s->d_head; i++)
                check_near(out[i], want[i], 1, FORWARD_TOLERANCE, "self_attention", k->tier, i);
        }
}

/* Some gradients, taken anywhere. */
static void check_slopes(struct example *e, const struct results *r, const struct kernels *k)
{
    static const int inputs[] = {Q, K, V}, outputs[] = {DQ, DK, DV};
    for (int probe = 0; probe < 36; probe++) {
        const int which = probe % 3;
        int64_t width, stride;
        output_rows(e, outputs[which], &width, &stride);
        int64_t at = check_below(e->shape.n_tok) * stride + check_below((int)width);
        double *x = e->in_double[inputs[which]] + at, before = *x;
        *x = before + STEP;
        double above = loss_in_double(e);
        *x = before - STEP;
        double slope = (above - loss_in_double(e)) / (2 * STEP);
        *x = before;
        check_near(r->x[outputs[which]].data[at], slope, fmax(fabs(slope), 1), BACKWARD_TOLERANCE,
                   which == 0   ? "dq"
                   : which == 1 ? "dk"
                                : "dv",
                   k->tier, at);
    }
}

/* Off by a part of the largest: single gradients are differences of much larger sums. */
static void check_against_scalar(const struct example *e, const struct results *got,
                                 const struct results *want, const struct kernels *k)
{
    static const char *const names[OUTPUTS] = {"out", "lse", "dq", "dk", "dv"};
    for (int output = DQ; output < OUTPUTS; output++) {
        int64_t width, stride;
        double largest = 0;
        output_rows(e, output, &width, &stride);
        for (int t = 0; t < e->shape.n_tok; t++)
            for (int64_t i = 0; i < width; i++)
                largest = fmax(largest, fabs((double)want->x[output].data[t * stride + i]));
        for (int t = 0; t < e->shape.n_tok; t++)
            for (int64_t i = 0; i < width; i++)
                check_near(got->x[output].data[t * stride + i],
                           want->x[output].data[t * stride + i], largest + 1e-3, BACKWARD_TOLERANCE,
                           names[output], k->tier, t * stride + i);
    }
}

static const struct shape shapes[] = {
    {1, 1, 1, 0},    {3, 1, 4, 0},   {5, 2, 33, 0},          {67, 7, 64, 0},
    {70, 1, 20, 0},  {40, 4, 80, 7}, {131, 3, 32, 0},        {150, 2, 16, 5},
    {130, 5, 8, 64}, {9, 70, 16, 0}, {30, 2, 16, INT64_MAX},
};

static void self_attention_is_right_and_its_backward_the_derivative(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct example e = example_make(shapes[i]);
        struct results scalar = results_make(&e, &scalar_kernels);
        check_slopes(&e, &scalar, &scalar_kernels);
        FOR_EACH_TIER(k)
        {
            struct results r = results_make(&e, k);
            check_untouched(&e, &r);
            check_forward(&e, &r, k);
            check_against_scalar(&e, &r, &scalar, k);
            results_free(&r);
        }
        results_free(&scalar);
        example_free(&e);
    }
}

/* A NaN among the keys reaches the queries that see it. */
static void self_attention_keeps_nan(void **state)
{
    (void)state;
    FOR_EACH_TIER(k)
    {
        struct example e = example_make((struct shape){20, 2, 16, 0});
        ((float *)e.in[K].data)[7 * e.kv_stride + 3] = NAN;
        struct results r = results_make(&e, k);
        assert_true(isnan(r.x[OUT].data[7 * e.out_stride]));
        assert_true(isnan(r.x[OUT].data[19 * e.out_stride]));
        assert_true(isnan(r.x[LSE].data[19 * e.lse_stride]));
        assert_true(isnan(r.x[DQ].data[19 * e.q_stride]));
        assert_false(isnan(r.x[OUT].data[6 * e.out_stride]));
        results_free(&r);
        example_free(&e);
    }
}

const struct CMUnitTest check_self_attention_tests[] = {
    cmocka_unit_test(self_attention_is_right_and_its_backward_the_derivative),
    cmocka_unit_test(self_attention_keeps_nan),
    {0},
};
