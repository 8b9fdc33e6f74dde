/* amx_emulated.c: the AMX kernels on the C emulation of tiles, as a tier of the kernel check, on any
 * processor and under sanitizers. The panels come from the scalar dequantisers and from rounding in
 * base, so that what the processor's own instructions make has something to be compared with.
 */
#include "kernels/check.h"
#include "kernels/panels.h"

#define AMX_EMULATED
#define TIER amx_emulated
#define BF16_FLOATS(name) KERNEL_CAT(scalar, name)

/* x[i], where x is aligned to bytes: weights are rounded where they lie. */
static float float_at(const float *x, int64_t i)
{
    float value;
    memcpy(&value, (const uint8_t *)x + (size_t)i * sizeof value, sizeof value);
    return value;
}

static void bf16_round(const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < blocks_of(n, BF16_STEP) * BF16_STEP; i++)
        out[i] = i < n ? f32_to_bf16(float_at(x, i)) : 0;
}

static void bf16_row(const struct matrix *w, int64_t row, int64_t first, int64_t n, uint16_t *out)
{
    float values[PREFILL_CHUNK];
    scalar_kernels.dequantize[w->type](w, row, first, n, values);
    bf16_round(values, n, out);
}

static void split_value(float value, uint16_t *large, uint16_t *small)
{
    *large = f32_to_bf16(value);
    *small = f32_to_bf16(value - bf16_to_f32(*large));
}

static void bf16_split(const float *x, int64_t n, uint16_t *large, uint16_t *small)
{
    for (int64_t i = 0; i < blocks_of(n, BF16_STEP) * BF16_STEP; i++)
        split_value(i < n ? float_at(x, i) : 0, large + i, small + i);
}

static void bf16_turn(const uint16_t *rows, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < 16; r++)
            out[(i / 2 * BF16_OUTPUTS + r) * 2 + i % 2] = rows[r * BF16_ROW_PITCH + i];
}

static void bf16_pairs(const uint16_t *a, const uint16_t *b, uint16_t *out)
{
    for (int64_t i = 0; i < BF16_OUTPUTS; i++) {
        out[2 * i] = a[i];
        out[2 * i + 1] = b[i];
    }
}

static void bf16_columns(const float *x, int64_t x_stride, int64_t n_row, int64_t n, int64_t pitch,
                         uint16_t *large, uint16_t *small)
{
    uint16_t unused;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < 16; i++) {
            const float value = i < n_row ? x[i * x_stride + j] : 0;
            split_value(value, large + j * pitch + i, small ? small + j * pitch + i : &unused);
        }
}

static void bf16_round_pairs(const float *a, const float *b, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < BF16_OUTPUTS; i++) {
        out[2 * i] = i < n ? f32_to_bf16(a[i]) : 0;
        out[2 * i + 1] = i < n && b ? f32_to_bf16(b[i]) : 0;
    }
}

KERNEL_PROTO_BF16(amx_emulated)
#include "kernels/x86/amx_prefill.c"

#define SCALAR_DEQUANTIZE(TYPE, name) [GRAFT_TYPE_##TYPE] = scalar_dequantize_##name,
#define SCALAR_DECODE(TYPE, name) [GRAFT_TYPE_##TYPE] = scalar_linear_decode_##name,

const struct kernels amx_emulated_kernels = {
    KERNEL_TABLE_BF16(amx_emulated), KERNEL_TABLE_REST(scalar, SCALAR_DEQUANTIZE, SCALAR_DECODE),
    .float_panels = PANEL_SPLIT,     .float_deltas = PANEL_SPLIT,
    .quantised_panels = PANEL_BF16,
};
