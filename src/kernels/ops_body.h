/* ops_body.h: norms, silu, add, softmax and rotate-half RoPE of a vector tier, written in the words
 * of its ..._vec.h. Included once per tier, after TIER is defined.
 */
#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

void BODY(_rmsnorm)(const float *x, const float *weight, int64_t n, float eps, float *out)
{
    vd sum = vd_zero(); /* squares of large activations lose digits in float */
    for (int64_t i = 0; i < n; i += VF) {
        vf v = v_load_some(x + i, n - i);
        sum = vd_fma(v, v, sum);
    }
    vf scale = v_set1((float)(1.0 / sqrt(vd_sum(sum) / (double)n + (double)eps)));
    for (int64_t i = 0; i < n; i += VF) {
        vf v = v_mul(v_load_some(x + i, n - i), scale);
        v_store_some(out + i, v_mul(v, v_load_some(weight + i, n - i)), n - i);
    }
}

void BODY(_rope)(float *x, const float *cos, const float *sin, int d_head)
{
    int64_t half = d_head / 2;
    float *y = x + half;
    for (int64_t i = 0; i < half; i += VF) {
        int64_t left = half - i;
        vf a = v_load_some(x + i, left), b = v_load_some(y + i, left);
        vf c = v_load_some(cos + i, left), s = v_load_some(sin + i, left);
        v_store_some(x + i, v_sub(v_mul(a, c), v_mul(b, s)), left);
        v_store_some(y + i, v_add(v_mul(b, c), v_mul(a, s)), left);
    }
}

void BODY(_silu_mul)(const float *gate, const float *up, int64_t n, float *out)
{
    vf one = v_set1(1.0f);
    for (int64_t i = 0; i < n; i += VF) {
        vf g = v_load_some(gate + i, n - i);
        vf silu = v_div(g, v_add(one, v_exp(v_sub(v_zero(), g))));
        v_store_some(out + i, v_mul(silu, v_load_some(up + i, n - i)), n - i);
    }
}

void BODY(_add)(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF)
        v_store_some(x + i, v_add(v_load_some(x + i, n - i), v_load_some(y + i, n - i)), n - i);
}

void BODY(_mul)(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF)
        v_store_some(x + i, v_mul(v_load_some(x + i, n - i), v_load_some(y + i, n - i)), n - i);
}

void BODY(_gain_add)(float *factor, const float *gain, float weight, int64_t n)
{
    vf w = v_set1(weight), one = v_set1(1.0f);
    for (int64_t i = 0; i < n; i += VF) {
        vf more = v_sub(v_load_some(gain + i, n - i), one);
        v_store_some(factor + i, v_fma(w, more, v_load_some(factor + i, n - i)), n - i);
    }
}

/* A NaN may be lost in the maximum, but not in the sum. */
static float largest_of(const float *x, int64_t n)
{
    vf largest = v_set1(-INFINITY);
    int64_t i = 0;
    for (; i + VF <= n; i += VF)
        largest = v_max(largest, v_load(x + i));
    float top = v_largest(largest);
    for (; i < n; i++)
        top = x[i] > top ? x[i] : top;
    return top;
}

double BODY(_softmax)(float *x, int64_t n)
{
    float top = largest_of(x, n);
    vf shift = v_set1(top), one = v_set1(1.0f);
    vd sum = vd_zero();
    for (int64_t i = 0; i < n; i += VF) {
        v_store_some(x + i, v_exp(v_sub(v_load_some(x + i, n - i), shift)), n - i);
        sum = vd_fma(v_load_some(x + i, n - i), one, sum);
    }
    double total = vd_sum(sum);
    vf share = v_set1((float)(1.0 / total));
    for (int64_t i = 0; i < n; i += VF)
        v_store_some(x + i, v_mul(v_load_some(x + i, n - i), share), n - i);
    return isnan(total) ? total : (double)top + kernel_log(total);
}
