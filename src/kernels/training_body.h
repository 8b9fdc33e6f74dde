/* training_body.h: what training asks of a vector tier but for products and attention, in the words of its ..._vec.h:
 * gradients of norms and activations, the optimiser's step, saved activations. Included once per tier, after TIER.
 * The method is that of scalar_training.c.
 */
#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

void BODY(_rmsnorm_backward)(const float *x, const float *weight, const float *dy, int64_t n,
                             float eps, float *dx, float *dweight)
{
    vd squares = vd_zero(), along = vd_zero();
    for (int64_t i = 0; i < n; i += VF) {
        vf v = v_load_some(x + i, n - i);
        vf d = v_mul(v_load_some(dy + i, n - i), v_load_some(weight + i, n - i));
        squares = vd_fma(v, v, squares);
        along = vd_fma(d, v, along);
    }
    double s = 1.0 / sqrt(vd_sum(squares) / (double)n + (double)eps);
    vf scale = v_set1((float)s), back = v_set1((float)(-s * s * s * vd_sum(along) / (double)n));
    for (int64_t i = 0; i < n; i += VF) {
        vf v = v_load_some(x + i, n - i), d = v_mul(v_load_some(dy + i, n - i), scale);
        vf sum = v_fma(d, v_load_some(weight + i, n - i), v_load_some(dx + i, n - i));
        v_store_some(dx + i, v_fma(v, back, sum), n - i);
        if (dweight)
            v_store_some(dweight + i, v_fma(d, v, v_load_some(dweight + i, n - i)), n - i);
    }
}

void BODY(_silu_mul_backward)(const float *gate, const float *up, const float *dout, int64_t n,
                              float *dgate, float *dup)
{
    const vf one = v_set1(1.0f);
    for (int64_t i = 0; i < n; i += VF) {
        vf g = v_load_some(gate + i, n - i), u = v_load_some(up + i, n - i);
        vf d = v_load_some(dout + i, n - i);
        vf s = v_div(one, v_add(one, v_exp(v_sub(v_zero(), g))));
        vf slope = v_mul(s, v_fma(g, v_sub(one, s), one));
        v_store_some(dgate + i, v_mul(v_mul(d, u), slope), n - i);
        v_store_some(dup + i, v_mul(d, v_mul(g, s)), n - i);
    }
}

void BODY(_scale)(float *x, float s, int64_t n)
{
    const vf factor = v_set1(s);
    for (int64_t i = 0; i < n; i += VF)
        v_store_some(x + i, v_mul(v_load_some(x + i, n - i), factor), n - i);
}

void BODY(_bf16_store)(const float *x, int64_t n, uint16_t *out)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        v_store_bf16(out + i, v_load(x + i));
    for (; i < n; i++)
        out[i] = f32_to_bf16(x[i]);
}

void BODY(_bf16_load)(const uint16_t *in, int64_t n, float *x)
{
    convert_from_bf16((const uint8_t *)in, n, x);
}

double BODY(_sum_squares)(const float *x, int64_t n)
{
    vd even = vd_zero(), odd = vd_zero(); /* two chains: one would wait for itself */
    for (int64_t i = 0; i < n; i += 2 * VF) {
        vf v = v_load_some(x + i, n - i);
        even = vd_fma(v, v, even);
        if (i + VF < n) {
            v = v_load_some(x + i + VF, n - i - VF);
            odd = vd_fma(v, v, odd);
        }
    }
    return vd_sum(even) + vd_sum(odd);
}

void BODY(_adamw)(const struct adamw_args *a)
{
    const vf beta1 = v_set1((float)a->beta1), beta2 = v_set1((float)a->beta2);
    const vf rest1 = v_set1((float)(1 - a->beta1)), rest2 = v_set1((float)(1 - a->beta2));
    const vf correct1 = v_set1(a->correct1), correct2 = v_set1(a->correct2);
    const vf scale = v_set1(a->scale), decay = v_set1(a->decay);
    const vf rate = v_set1(a->lr), eps = v_set1(a->eps);
    for (int64_t i = 0; i < a->n; i += VF) {
        const int64_t left = a->n - i;
        vf g = v_mul(v_load_some(a->g + i, left), scale), p = v_load_some(a->p + i, left);
        vf m = v_fma(beta1, v_load_some(a->m + i, left), v_mul(rest1, g));
        vf v = v_fma(beta2, v_load_some(a->v + i, left), v_mul(v_mul(rest2, g), g));
        vf size = v_add(v_sqrt(v_mul(v, correct2)), eps);
        p = v_sub(p, v_mul(decay, p));
        p = v_sub(p, v_div(v_mul(rate, v_mul(m, correct1)), size));
        v_store_some(a->m + i, m, left);
        v_store_some(a->v + i, v, left);
        v_store_some(a->p + i, p, left);
    }
}
