/* neon_ops.c: the norms, activations, softmax, rotary embedding, cache formats and attention of the
 * aarch64 tiers: the shared bodies, and what has no common form.
 */
#include "neon_vec.h"

#define TIER neon
#include "kernels/kv_body.h"

#include "kernels/ops_body.h"

#include "kernels/attention_body.h"

/* Four planes (x[2i], x[2i+1]) a step, taken apart by the load. */
void neon_rope_interleaved(float *x, const float *cos, const float *sin, int d_head)
{
    int i = 0, planes = d_head / 2;
    for (; i + VF <= planes; i += VF) {
        vf c = v_load(cos + i), s = v_load(sin + i);
        float32x4x2_t v = vld2q_f32(x + 2 * i);
        float32x4x2_t turned = {{v_sub(v_mul(v.val[0], c), v_mul(v.val[1], s)),
                                 v_add(v_mul(v.val[1], c), v_mul(v.val[0], s))}};
        vst2q_f32(x + 2 * i, turned);
    }
    for (; i < planes; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos[i] - b * sin[i];
        x[2 * i + 1] = b * cos[i] + a * sin[i];
    }
}
