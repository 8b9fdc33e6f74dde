/* amx_prefill.c: the products through panels on the tiles of AMX: 32 tokens times 32 outputs in four
 * tiles, two of activations, two of weights. The loops around it are those of prefill_bf16_body.h.
 *
 * Tiles are configured and released in every call. That costs about as much as loading them once,
 * and leaves nothing behind: a thread that sleeps between two regions has no tiles to be saved, and
 * whoever lent it finds no foreign state.
 *
 * Included with AMX_EMULATED, TIER and the words defined (tests/kernels), the same code runs on a C
 * emulation of the tiles.
 */
#include "amx_tiles.h"
#include "kernels/panels.h"

#if !defined(AMX_EMULATED)
#define TIER amx
#include "avx512bf16.h"
#define bf16_row avx512bf16_row
#define bf16_round avx512bf16_round
#define bf16_split avx512bf16_split
#define bf16_turn avx512bf16_turn
#define bf16_pairs avx512bf16_pairs
#define bf16_columns avx512bf16_columns
#define bf16_round_pairs avx512bf16_round_pairs
#define BF16_FLOATS(name) KERNEL_CAT(avx512, name)
#endif

/* A panel (32 KB) stays in the first cache, while activations come from the second. */
enum { BF16_CHUNK = BF16_WIDTH / 2, BF16_PARTS = 2, X_PITCH = BF16_CHUNK + BF16_GAP };
/* Distances in bytes: rows of activations, rows of a panel. */
enum { X_STRIDE = 2 * X_PITCH, PANEL_STRIDE = 4 * BF16_OUTPUTS };

/* What there is of 32 tokens and 32 outputs, from y to a place of full size. */
static void take_part(const struct bf16_tile *p, int token, int rows, float *part)
{
    for (int t = 0; t < rows; t++)
        memcpy(part + t * BF16_OUTPUTS, p->y + (token + t) * p->y_stride,
               (size_t)p->n_row * sizeof *part);
}

/* And back. */
static void give_part(const struct bf16_tile *p, int token, int rows, const float *part)
{
    for (int t = 0; t < rows; t++, part += BF16_OUTPUTS) {
        float *y = p->y + (token + t) * p->y_stride;
        if (p->keep)
            for (int64_t o = 0; o < p->n_row; o++)
                y[o] *= p->keep[o];
        if (p->gain)
            for (int64_t o = 0; o < p->n_row; o++)
                y[o] += p->gain[o] * part[o];
        else if (p->scaled)
            for (int64_t o = 0; o < p->n_row; o++)
                y[o] += part[o];
        else
            memcpy(y, part, (size_t)p->n_row * sizeof *y);
    }
}

/* Tokens token..token+32 into sums[32, stride / 4]. */
static void multiply_32(const struct bf16_tile *p, int token, float *sums, int64_t stride)
{
    float *lower = sums + TILE_ROWS * (stride / (int64_t)sizeof *sums);
    if (p->fresh) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums, stride);
        TILE_LOAD(1, sums + TILE_FLOATS, stride);
        TILE_LOAD(2, lower, stride);
        TILE_LOAD(3, lower + TILE_FLOATS, stride);
    }
    for (int term = 0; term < p->n_terms; term++) {
        const uint16_t *x = p->x[term] + token * X_PITCH, *w = p->panel[term];
        for (int64_t j = 0; j < p->n; j += TILE_HALVES) {
            TILE_LOAD(4, x + j, X_STRIDE);
            TILE_LOAD(6, w + j * BF16_OUTPUTS, PANEL_STRIDE);
            TILE_LOAD(7, w + j * BF16_OUTPUTS + TILE_HALVES, PANEL_STRIDE);
            TILE_LOAD(5, x + j + TILE_ROWS * X_PITCH, X_STRIDE);
            TILE_DOT(0, 4, 6);
            TILE_DOT(1, 4, 7);
            TILE_DOT(2, 5, 6);
            TILE_DOT(3, 5, 7);
        }
    }
    TILE_STORE(0, sums, stride);
    TILE_STORE(1, sums + TILE_FLOATS, stride);
    TILE_STORE(2, lower, stride);
    TILE_STORE(3, lower + TILE_FLOATS, stride);
}

/* The same for 16 tokens. */
static void multiply_16(const struct bf16_tile *p, int token, float *sums, int64_t stride)
{
    if (p->fresh) {
        TILE_ZERO(0);
        TILE_ZERO(1);
    } else {
        TILE_LOAD(0, sums, stride);
        TILE_LOAD(1, sums + TILE_FLOATS, stride);
    }
    for (int term = 0; term < p->n_terms; term++) {
        const uint16_t *x = p->x[term] + token * X_PITCH, *w = p->panel[term];
        for (int64_t j = 0; j < p->n; j += TILE_HALVES) {
            TILE_LOAD(4, x + j, X_STRIDE);
            TILE_LOAD(6, w + j * BF16_OUTPUTS, PANEL_STRIDE);
            TILE_LOAD(7, w + j * BF16_OUTPUTS + TILE_HALVES, PANEL_STRIDE);
            TILE_DOT(0, 4, 6);
            TILE_DOT(1, 4, 7);
        }
    }
    TILE_STORE(0, sums, stride);
    TILE_STORE(1, sums + TILE_FLOATS, stride);
}

static void bf16_multiply(const struct bf16_tile *p)
{
    _Alignas(64) float part[2 * TILE_ROWS * BF16_OUTPUTS];
    for (int t = 0; t < p->n_tok; t += 2 * TILE_ROWS) {
        int left = p->n_tok - t, rows = left < 2 * TILE_ROWS ? left : 2 * TILE_ROWS;
        bool whole = rows == 2 * TILE_ROWS && p->n_row == BF16_OUTPUTS && !p->scaled;
        float *sums = whole ? p->y + t * p->y_stride : part;
        int64_t stride = (whole ? p->y_stride : BF16_OUTPUTS) * (int64_t)sizeof *sums;
        if (!whole) {
            memset(part, 0, sizeof part);
            if (!p->fresh)
                take_part(p, t, rows, part);
        }
        if (left > TILE_ROWS)
            multiply_32(p, t, sums, stride);
        else
            multiply_16(p, t, sums, stride);
        if (!whole)
            give_part(p, t, rows, part);
    }
}

#define BF16_ROWS TILE_ROWS
#define bf16_begin tiles_configure
#define bf16_end tiles_release
#include "kernels/prefill_bf16_body.h"

#define BF16_K BF16_STEP /* A tile is as wide. */
#include "kernels/lowrank_bf16_body.h"

#define OUTER_FORMAT PANEL_SPLIT
#define bf16_few(a) false
#include "kernels/outer_bf16_body.h"
