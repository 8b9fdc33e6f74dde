/* kv_body.h: the formats of the KV cache, written once for all tiers. Included once per tier, after
 * TIER, LOAD_F16, convert_from_f16, convert_to_f16 and convert_from_i8, which a tier may do with
 * its own instructions: the results are the same bits.
 */
#include <math.h>

#define BODY(name) KERNEL_CAT(TIER, name)

void BODY(_kv_store_f32)(const float *x, int d_head, void *out)
{
    memcpy(out, x, (size_t)d_head * sizeof *x);
}

void BODY(_kv_load_f32)(const void *in, int d_head, float *x)
{
    memcpy(x, in, (size_t)d_head * sizeof *x);
}

void BODY(_kv_store_f16)(const float *x, int d_head, void *out)
{
    convert_to_f16(x, d_head, out);
}

void BODY(_kv_load_f16)(const void *in, int d_head, float *x)
{
    convert_from_f16(in, d_head, x);
}

/* One block of n ≤ 32 values: f16 scale = max|x| / 127, then q = round-half-away(x / scale) with the
 * scale as stored. What is not finite poisons the scale. */
static inline void store_q8_block(const float *x, int n, uint8_t *out)
{
    float largest = 0, poison = 0;
    for (int j = 0; j < n; j++) {
        float a = fabsf(x[j]);
        largest = largest > a ? largest : a;
        poison += x[j] * 0.0f;
    }
    uint16_t half = f32_to_f16(poison == 0 ? largest / 127.0f : poison);
    float scale = f16_to_f32(half);
    memcpy(out, &half, sizeof half);
    memset(out + 2, 0, Q8_BLOCK);
    if (!(scale > 0 && scale <= 65504.0f))
        return;
    for (int j = 0; j < n; j++) {
        float v = x[j] / scale, a = fabsf(v) < 127.0f ? fabsf(v) : 127.0f;
        int whole = (int)a;
        whole += a - (float)whole >= 0.5f;
        out[2 + j] = (uint8_t)(int8_t)(v < 0 ? -whole : whole);
    }
}

void BODY(_kv_store_q8)(const float *x, int d_head, void *out)
{
    uint8_t *p = out;
    for (int i = 0; i < d_head; i += Q8_BLOCK, p += KV_Q8_BYTES)
        store_q8_block(x + i, d_head - i < Q8_BLOCK ? d_head - i : Q8_BLOCK, p);
}

void BODY(_kv_load_q8)(const void *in, int d_head, float *x)
{
    const uint8_t *p = in;
    for (int i = 0; i < d_head; i += Q8_BLOCK, p += KV_Q8_BYTES) {
        int n = d_head - i < Q8_BLOCK ? d_head - i : Q8_BLOCK;
        convert_from_i8(p + 2, n, LOAD_F16(p), x + i);
    }
}
