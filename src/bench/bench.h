/* bench.h: figures of speed, each beside the limit of the machine.
 *
 * Measures models through model_forward and products through the kernel table; changes nothing in
 * either. Owns the random models that it runs when there is no file. The contracts are those of
 * <graft/bench.h>; api/ checks arguments and fills the defaults.
 */
#ifndef GRAFT_BENCH_H
#define GRAFT_BENCH_H

#include "base/base.h"

#include <graft/bench.h>

/* options->model is a path, or NULL. */
graft_status bench_run(graft_runtime *runtime, const graft_bench_options *options,
                       graft_bench_fn callback, void *user, graft_error *error);
graft_status bench_write(graft_runtime *runtime, const graft_bench_options *options,
                         const char *path, char **subject, graft_error *error);
const char *bench_shapes(void);
const graft_bench_kind *bench_kind_at(size_t i); /* NULL past the last */
/* Where options leave `tokens` to the bench: how many; 0: it has several lengths, or none, or there is no such bench. */
int bench_tokens(const char *bench);

/* Figures of n samples, at least one; each sorts them, the least first. A percentile is one of the samples, the
 * median of an even number the mean of two; spread: how far apart the quartiles lie, which half of the samples are
 * between, over the median. */
double samples_median(double *values, int n);
double samples_percentile(double *values, int n, int percent);
double samples_spread(double *values, int n);

#endif
