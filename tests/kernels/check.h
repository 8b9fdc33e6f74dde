/* check.h: what the parts of the kernel check share.
 *
 * The check runs every entry of every tier on random input of odd sizes, compares it with the scalar
 * tier and with double precision under named tolerances, and compares bits where the contract says
 * so: a row alone and in company, outputs split at odd places. Inputs end at an unreadable page and
 * outputs are surrounded by a pattern, so reading or writing too far is found without a sanitizer.
 */
#ifndef GRAFT_TESTS_KERNELS_CHECK_H
#define GRAFT_TESTS_KERNELS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/kernels_internal.h"

/* ---- random numbers: a fixed seed, so that a failure repeats ------------------------------- */

void check_reseed(void); /* to the beginning: what follows depends on nothing before */
uint32_t check_random(void);
float check_uniform(void); /* (−1, 1) */
int check_below(int n);
void check_fill_uniform(float *x, int64_t n);

/* ---- memory that ends at an unreadable page ----------------------------------------------- */

struct fenced {
    void *data; /* what is asked for; data + bytes is `slack` bytes before the page */
    void *base;
    size_t mapped;
};
struct fenced fenced_alloc(size_t bytes, size_t slack);
void fenced_free(struct fenced *f);
/* Scratch for one product: ends one byte before an unreadable page, holds what the product before left
 * there. The caller does not free it. */
void *check_scratch(size_t bytes);

/* ---- outputs with a pattern all around ----------------------------------------------------- */

struct padded {
    float *data; /* n floats, all of them holding the pattern */
    float *base;
    int64_t n;
};
struct padded padded_alloc(int64_t n);
void padded_check(const struct padded *p); /* the floats around are untouched */
bool padded_is_untouched(const float *p);  /* this float still holds the pattern */
void padded_free(struct padded *p);

/* ---- random weights ------------------------------------------------------------------------ */

/* Random codes in every bit of a block, with scales of a moderate size; the data lies `slack` bytes
 * before an unreadable page, so with an odd slack nothing in it is aligned. */
struct weights {
    struct matrix matrix;
    struct fenced data, scales, biases;
};
struct weights weights_make(graft_type type, int64_t n_out, int64_t n_in, size_t slack, int group,
                            graft_type scale_type);
/* The same weights with rows in LAYOUT_SPLIT. */
struct weights weights_split(const struct matrix *w, size_t slack);
void weights_free(struct weights *w);
bool type_is_mlx(graft_type type);
/* Smallest n_in of a type and step to the next. */
int64_t type_step(graft_type type, int group);

/* ---- comparison ---------------------------------------------------------------------------- */

/* |got − want| ≤ tolerance · magnitude, else prints both and where, and fails. */
void check_near(double got, double want, double magnitude, double tolerance, const char *what,
                const char *tier, int64_t index);
/* Bits are equal; NaNs of any payload count as equal. */
void check_same(const float *got, const float *want, int64_t n, const char *what, const char *tier);

/* What a panel format does to a factor before it is multiplied: nothing, or rounding to bf16; and how
 * far a product of n_in of them may be off then, relative to max|w| · Σ|x|. */
double check_factor(enum panel_format format, double factor);
double check_panel_tolerance(enum panel_format format);

/* ---- the parts: arrays of cmocka tests, ended by one without a function -------------------- */

extern const struct CMUnitTest check_dequantize_tests[];
extern const struct CMUnitTest check_linear_tests[];
extern const struct CMUnitTest check_lowrank_tests[];
extern const struct CMUnitTest check_transposed_tests[];
extern const struct CMUnitTest check_split_tests[];
extern const struct CMUnitTest check_bf16_tests[];
extern const struct CMUnitTest check_threads_tests[];
extern const struct CMUnitTest check_ops_tests[];
extern const struct CMUnitTest check_attention_tests[];
extern const struct CMUnitTest check_training_tests[];
extern const struct CMUnitTest check_self_attention_tests[];
extern const struct CMUnitTest check_quantize_tests[];
extern const struct CMUnitTest check_tier_tests[];

/* Reads all of it, as fast as memory gives. */
uint64_t check_read_memory(const uint8_t *p, size_t bytes);
/* `rounds` times as many multiply-adds as keep a tier's unit for floats, or its matrix unit, busy on
 * registers; out: 8 floats. Returns the operations, two for a product that is added. */
double check_multiply(const char *tier, bool matrix, int64_t rounds, float *out);

/* Times products and attention of a tier (NULL: all but scalar) on 1 to `threads` threads, beside the limits
 * of the machine; only what has `filter` in its type, in "attention" or in "training". Returns an exit status. */
int check_bench(int threads, const char *tier, const char *filter);

/* The AMX kernels on the C emulation of tiles, everything else from the scalar tier. */
extern const struct kernels amx_emulated_kernels;
/* The tiers with products through panels of their own, each also with floats rounded where it rounds other types: of
 * those that run here, and the emulated one.
 * That one is left out where the processor is emulated as well (GRAFT_IN_EMULATOR): it is C alone, and
 * would take most of the time. */
const struct kernels *check_panel_tier(int index);

#define FOR_EACH_PANEL_TIER(k)                                                                     \
    for (int tier_ = 0; tier_ < 16; tier_++)                                                       \
        for (const struct kernels *k = check_panel_tier(tier_); k; k = NULL)
#define FOR_EACH_TIER(k)                                                                           \
    for (int tier_ = 0; tier_ < 16; tier_++)                                                       \
        for (const struct kernels *k = kernels_tier(tier_); k; k = NULL)

#endif
