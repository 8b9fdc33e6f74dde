/* merge_support.h: small changes made by hand, merged without files, for tests. Failures abort through cmocka. */
#ifndef GRAFT_MERGE_SUPPORT_H
#define GRAFT_MERGE_SUPPORT_H

#include "adapter/merge/merge_internal.h"

/* One module and its inputs; a and bt are the test's to fill by input_at. */
struct bench_site {
    struct merge_inputs inputs;
    struct merge_site site;
    struct changes changes;
    struct merge_result result;
    struct draft drafts[64];
};
/* ranks [n]: of the inputs; scales 1, factors 1. */
void bench_site_open(struct bench_site *b, const struct model *model, int64_t n_out, int64_t n_in,
                     const int64_t *ranks, size_t n);
void bench_site_close(struct bench_site *b);
/* Input i as a matrix of full rank: rank n_in, A the identity. */
void bench_site_set(struct bench_site *b, size_t i, const float *dw);
/* Room for a result of that rank. */
void bench_site_want(struct bench_site *b, int64_t rank);
/* B A of the result, malloc'ed. */
float *bench_site_product(const struct bench_site *b);

#endif
