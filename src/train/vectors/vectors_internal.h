/* vectors_internal.h: how a dataset of vectors lies in memory, and the products that fit.c and synthetic.c run along vectors.
 *
 * For the files of this folder alone: whoever else has a dataset goes through vectors.h. An example is row i of each array; names
 * are kept once and labels have their numbers.
 */
#ifndef GRAFT_TRAIN_VECTORS_INTERNAL_H
#define GRAFT_TRAIN_VECTORS_INTERNAL_H

#include "train/vectors/vectors.h"

struct vector_label {
    float quality;
    int32_t task, domain; /* into names; −1: none */
    bool has_target;
};

struct vectors {
    struct mem *mem;
    int n_in, n_out;
    int64_t n, capacity;
    float *inputs;  /* [capacity, n_in] */
    float *targets; /* [capacity, n_out]; NULL: no example has one */
    struct vector_label *labels;
    struct arena arena; /* of names */
    struct str_map map;
    const char **names;
    int32_t n_names, names_capacity;
};

/* Σ x[i] y[i], in sixteen sums that are added in pairs: the same for every compiler that vectorises it. */
float lanes_dot(const float *x, const float *y, int64_t n);
/* y[i] += k x[i] */
void lanes_add(float *y, float k, const float *x, int64_t n);

#endif
