/* amx_tiles.h: the tile instructions of AMX as macros, and a C emulation of them.
 *
 * Tiles are eight numbers; a number must be written as such. All are 16 rows of 64 bytes. With
 * AMX_EMULATED the same names are C: then the kernel file builds for any processor, and the kernel
 * check and the sanitizers see what it reads and writes. The emulation does what Intel's manual says
 * of TDPBF16PS: sums of even and of odd values apart, each step rounded once, denormals 0 in and
 * out, the two added, and then added to the tile.
 *
 * The instructions are written out, since gcc's intrinsics do not say that they read memory.
 */
#ifndef GRAFT_KERNELS_AMX_TILES_H
#define GRAFT_KERNELS_AMX_TILES_H

#include "kernels/kernels_internal.h"

enum { TILE_ROWS = 16, TILE_FLOATS = 16, TILE_HALVES = 32 };

#if !defined(AMX_EMULATED)

/* Palette 1, all tiles of full size. */
static inline void tiles_configure(void)
{
    struct {
        _Alignas(64) uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = TILE_FLOATS * sizeof(float);
        config.rows[i] = TILE_ROWS;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

static inline void tiles_release(void)
{
    __asm__ volatile("tilerelease" ::: "memory");
}

#define TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::: "memory")
/* 16 rows from p, or to it, `stride` bytes apart. */
#define TILE_LOAD(tile, p, stride)                                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"((const void *)(p)),                  \
                     "r"((int64_t)(stride))                                                        \
                     : "memory")
#define TILE_STORE(tile, p, stride)                                                                \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"((void *)(p)),                    \
                     "r"((int64_t)(stride))                                                        \
                     : "memory")
/* sum[m, n] += Σ_k a[m, k] · b[k / 2, n, k % 2] */
#define TILE_DOT(sum, a, b)                                                                        \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::: "memory")

#else

#include <math.h>
#include <stdlib.h>

union tile {
    float floats[TILE_ROWS][TILE_FLOATS];
    uint16_t halves[TILE_ROWS][TILE_HALVES];
};

static _Thread_local struct {
    union tile tile[8];
    bool configured;
} tiles;

/* Tiles exist between configuration and release only: anything else is an illegal instruction. */
static inline union tile *tile_at(int index)
{
    if (!tiles.configured)
        abort();
    return &tiles.tile[index];
}

static inline void tiles_configure(void)
{
    memset(&tiles, 0, sizeof tiles);
    tiles.configured = true;
}

static inline void tiles_release(void)
{
    tiles.configured = false;
}

static inline void tile_zero(int index)
{
    memset(tile_at(index), 0, sizeof(union tile));
}

static inline void tile_load(int index, const void *p, int64_t stride)
{
    for (int m = 0; m < TILE_ROWS; m++)
        memcpy(tile_at(index)->floats[m], (const uint8_t *)p + m * stride, 64);
}

static inline void tile_store(int index, void *p, int64_t stride)
{
    for (int m = 0; m < TILE_ROWS; m++)
        memcpy((uint8_t *)p + m * stride, tile_at(index)->floats[m], 64);
}

static inline float tile_flush(float f)
{
    return fabsf(f) < 0x1p-126f ? copysignf(0, f) : f;
}

/* The values of a tile, denormals as 0; returns the smallest that is not 0. */
static inline float tile_widen(const union tile *tile, float out[TILE_ROWS][TILE_HALVES])
{
    float smallest = INFINITY;
    for (int m = 0; m < TILE_ROWS; m++)
        for (int n = 0; n < TILE_HALVES; n++) {
            out[m][n] = tile_flush(bf16_to_f32(tile->halves[m][n]));
            if (out[m][n] != 0 && fabsf(out[m][n]) < smallest)
                smallest = fabsf(out[m][n]);
        }
    return smallest;
}

/* Each step rounds sum + a · b once. A product of two bf16 is exact in float unless it is tiny, and
 * without tiny ones no sum is denormal. */
static inline void tile_dot(int to, int from_a, int from_b)
{
    float a[TILE_ROWS][TILE_HALVES], b[TILE_ROWS][TILE_HALVES];
    const float smallest = tile_widen(tile_at(from_a), a) * tile_widen(tile_at(from_b), b);
    for (int m = 0; m < TILE_ROWS; m++) {
        float sums[TILE_HALVES] = {0};
        for (int k = 0; k < TILE_ROWS; k++)
            for (int n = 0; n < TILE_HALVES; n++) {
                float x = a[m][2 * k + n % 2], y = b[k][n];
                sums[n] = smallest > 0x1p-90f ? sums[n] + x * y : tile_flush(fmaf(x, y, sums[n]));
            }
        for (int n = 0; n < TILE_FLOATS; n++) {
            float *sum = &tile_at(to)->floats[m][n];
            *sum = tile_flush(tile_flush(*sum) + tile_flush(sums[2 * n] + sums[2 * n + 1]));
        }
    }
}

#define TILE_ZERO(tile) tile_zero(tile)
#define TILE_LOAD(tile, p, stride) tile_load(tile, p, stride)
#define TILE_STORE(tile, p, stride) tile_store(tile, p, stride)
#define TILE_DOT(sum, a, b) tile_dot(sum, a, b)

#endif

#endif
