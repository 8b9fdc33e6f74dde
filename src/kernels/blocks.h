/* blocks.h: the quantised block formats, taken apart.
 *
 * One function per type turns a block into its integer codes, scales and offsets, without
 * arithmetic on them beyond what the format itself prescribes. The scalar products, and the
 * dequantisers of every tier, are built on these; so they are the one place where the bit layouts of
 * GGUF and MLX stand (split.h has the layout of packed rows). Nothing is assumed of alignment.
 *
 * Blocks of 32:   w[j] = d · q[j] + m
 * Blocks of 256:  w[j] = (d · scale[j / 16]) · q[j] − dmin · min[j / 16]
 */
#ifndef GRAFT_KERNELS_BLOCKS_H
#define GRAFT_KERNELS_BLOCKS_H

#include "kernels/split.h"

/* A tier that converts half precision in hardware says so before it includes this file. */
#ifndef LOAD_F16
#define LOAD_F16(p) f16_to_f32(load_u16(p))
#endif

struct codes32 {
    int16_t q[Q8_BLOCK];
    float d, m;
};

struct codes256 {
    int16_t q[Q8K_BLOCK];
    int16_t scale[16], min[16]; /* one of each per 16 values */
    float d, dmin;
};

static inline const uint8_t *block_at(const struct matrix *w, int64_t row, int64_t index,
                                      int64_t bytes)
{
    return (const uint8_t *)w->data + (size_t)row * w->row_bytes + (size_t)(index * bytes);
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* Low nibbles are values 0..15, high nibbles 16..31. */
static inline void nibbles_halves(const uint8_t *qs, int16_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = (int16_t)(qs[j] & 15);
        q[j + 16] = (int16_t)(qs[j] >> 4);
    }
}

/* Bit j of the word at qh is bit 4 of value j. */
static inline void fifth_bits(const uint8_t *qh, int16_t *q)
{
    uint32_t bits = load_u32(qh);
    for (int j = 0; j < 32; j++)
        q[j] = (int16_t)(q[j] | ((bits >> j & 1) << 4));
}

static inline void unpack_q4_0(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    struct split_place at = {.factor = index * 18, .low = index * 18 + 2};
    if (w->layout == LAYOUT_SPLIT)
        at = split_place(GRAFT_TYPE_Q4_0, index);
    const uint8_t *b = block_at(w, row, 0, 0);
    c->d = LOAD_F16(b + at.factor);
    c->m = 0;
    nibbles_halves(b + at.low, c->q);
    for (int j = 0; j < 32; j++)
        c->q[j] = (int16_t)(c->q[j] - 8);
}

static inline void unpack_q4_1(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    const uint8_t *b = block_at(w, row, index, 20);
    c->d = LOAD_F16(b);
    c->m = LOAD_F16(b + 2);
    nibbles_halves(b + 4, c->q);
}

static inline void unpack_q5_0(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    const uint8_t *b = block_at(w, row, index, 22);
    c->d = LOAD_F16(b);
    c->m = 0;
    nibbles_halves(b + 6, c->q);
    fifth_bits(b + 2, c->q);
    for (int j = 0; j < 32; j++)
        c->q[j] = (int16_t)(c->q[j] - 16);
}

static inline void unpack_q5_1(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    const uint8_t *b = block_at(w, row, index, 24);
    c->d = LOAD_F16(b);
    c->m = LOAD_F16(b + 2);
    nibbles_halves(b + 8, c->q);
    fifth_bits(b + 4, c->q);
}

static inline void unpack_q8_0(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    struct split_place at = {index * 34, index * 34 + 2, index * 34 + 18};
    uint8_t added = 0;
    if (w->layout == LAYOUT_SPLIT) {
        at = split_place(GRAFT_TYPE_Q8_0, index);
        added = 128;
    }
    const uint8_t *b = block_at(w, row, 0, 0);
    c->d = LOAD_F16(b + at.factor);
    c->m = 0;
    for (int j = 0; j < 16; j++) {
        c->q[j] = (int8_t)(b[at.low + j] ^ added);
        c->q[j + 16] = (int8_t)(b[at.high + j] ^ added);
    }
}

/* An MLX scale or bias of the group that holds block `index` of `row`. */
static inline float mlx_factor(const struct matrix *w, const void *factors, int64_t row,
                               int64_t index)
{
    int64_t at = row * (w->n_in / w->group) + index * Q8_BLOCK / w->group;
    const uint8_t *p = factors;
    if (w->scale_type == GRAFT_TYPE_F32)
        return load_f32(p + at * 4);
    if (w->scale_type == GRAFT_TYPE_F16)
        return LOAD_F16(p + at * 2);
    return bf16_to_f32(load_u16(p + at * 2));
}

static inline void unpack_mlx4(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    const uint8_t *b = block_at(w, row, index, 16);
    c->d = mlx_factor(w, w->scales, row, index);
    c->m = mlx_factor(w, w->biases, row, index);
    for (int j = 0; j < 16; j++) {
        c->q[2 * j] = (int16_t)(b[j] & 15);
        c->q[2 * j + 1] = (int16_t)(b[j] >> 4);
    }
}

static inline void unpack_mlx8(const struct matrix *w, int64_t row, int64_t index,
                               struct codes32 *c)
{
    const uint8_t *b = block_at(w, row, index, 32);
    c->d = mlx_factor(w, w->scales, row, index);
    c->m = mlx_factor(w, w->biases, row, index);
    for (int j = 0; j < 32; j++)
        c->q[j] = b[j];
}

/* ---- blocks of 256 ------------------------------------------------------------------------ */

static inline void no_mins(struct codes256 *c)
{
    c->dmin = 0;
    memset(c->min, 0, sizeof c->min);
}

/* 16 bytes of 4-bit scale and min, 64 bytes of 2-bit codes, d, dmin. Each half of 128 values lies
 * in 32 bytes: bits 0-1 are values 0..31, bits 2-3 the next 32, and so on. */
static inline void unpack_q2_k(const struct matrix *w, int64_t row, int64_t index,
                               struct codes256 *c)
{
    const uint8_t *b = block_at(w, row, index, 84);
    c->d = LOAD_F16(b + 80);
    c->dmin = LOAD_F16(b + 82);
    for (int s = 0; s < 16; s++) {
        c->scale[s] = (int16_t)(b[s] & 15);
        c->min[s] = (int16_t)(b[s] >> 4);
    }
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++)
            c->q[g * 32 + j] = (int16_t)(b[16 + g / 4 * 32 + j] >> g % 4 * 2 & 3);
}

/* 32 bytes of third bits, 64 bytes of low bits laid out as in Q2_K, 12 bytes of 6-bit scales, d.
 * The third bit of value 32 g + j is bit g of byte j; where it is clear the code is 4 lower. Of
 * scale s the low 4 bits stand in the nibbles of the first 8 bytes, the high 2 in the last 4. */
static inline void unpack_q3_k(const struct matrix *w, int64_t row, int64_t index,
                               struct codes256 *c)
{
    const uint8_t *b = block_at(w, row, index, 110);
    const uint8_t *sc = b + 96;
    c->d = LOAD_F16(b + 108);
    no_mins(c);
    for (int s = 0; s < 16; s++) {
        int low = s < 8 ? sc[s] & 15 : sc[s - 8] >> 4;
        int high = sc[8 + s % 4] >> s / 4 * 2 & 3;
        c->scale[s] = (int16_t)((low | high << 4) - 32);
    }
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++) {
            int low = b[32 + g / 4 * 32 + j] >> g % 4 * 2 & 3;
            int high = b[j] >> g & 1;
            c->q[g * 32 + j] = (int16_t)((low | high << 2) - 4);
        }
}

/* The eight 6-bit scales and mins of Q4_K and Q5_K in 12 bytes: the first four of each are the low
 * six bits of bytes 0..3 and 4..7; of the others the low nibbles stand in bytes 8..11 and the top
 * two bits above the first four. */
static inline void scales_k4(const uint8_t *p, struct codes256 *c)
{
    for (int s = 0; s < 8; s++) {
        int scale = s < 4 ? p[s] & 63 : (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
        int min = s < 4 ? p[s + 4] & 63 : p[s + 4] >> 4 | p[s] >> 6 << 4;
        c->scale[2 * s] = c->scale[2 * s + 1] = (int16_t)scale;
        c->min[2 * s] = c->min[2 * s + 1] = (int16_t)min;
    }
}

/* d, dmin, 12 bytes of scales, 128 bytes of codes: 32 bytes hold 64 values, low nibbles first. */
static inline void unpack_q4_k(const struct matrix *w, int64_t row, int64_t index,
                               struct codes256 *c)
{
    const uint8_t *b = block_at(w, row, index, 144);
    c->d = LOAD_F16(b);
    c->dmin = LOAD_F16(b + 2);
    scales_k4(b + 4, c);
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++)
            c->q[g * 32 + j] = (int16_t)(b[16 + g / 2 * 32 + j] >> g % 2 * 4 & 15);
}

/* As Q4_K with 32 bytes of fifth bits before the codes: bit g of byte j is of value 32 g + j. */
static inline void unpack_q5_k(const struct matrix *w, int64_t row, int64_t index,
                               struct codes256 *c)
{
    const uint8_t *b = block_at(w, row, index, 176);
    c->d = LOAD_F16(b);
    c->dmin = LOAD_F16(b + 2);
    scales_k4(b + 4, c);
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++) {
            int low = b[48 + g / 2 * 32 + j] >> g % 2 * 4 & 15;
            c->q[g * 32 + j] = (int16_t)(low | (b[16 + j] >> g & 1) << 4);
        }
}

/* 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 int8 scales, d. Of each half of 128
 * values, groups 0 and 1 are the low nibbles of 64 bytes and groups 2 and 3 the high ones; the high
 * pair of group g is at bit 2 g of 32 bytes. */
static inline void unpack_q6_k(const struct matrix *w, int64_t row, int64_t index,
                               struct codes256 *c)
{
    const uint8_t *b = block_at(w, row, index, 210);
    c->d = LOAD_F16(b + 208);
    no_mins(c);
    for (int s = 0; s < 16; s++)
        c->scale[s] = (int8_t)b[192 + s];
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++) {
            int low = b[g / 4 * 64 + g % 2 * 32 + j] >> g % 4 / 2 * 4 & 15;
            int high = b[128 + g / 4 * 32 + j] >> g % 4 * 2 & 3;
            c->q[g * 32 + j] = (int16_t)((low | high << 4) - 32);
        }
}

#endif
