/* synth_internal.h: what the makers of random models share: the list of tensors, and where their values
 * come from. Containers (synth_gguf.c, synth_mlx.c) walk the list twice: to declare, and to write.
 */
#ifndef GRAFT_SYNTH_INTERNAL_H
#define GRAFT_SYNTH_INTERNAL_H

#include "bench/bench_internal.h"
#include "model/arch/arch.h"
#include "model/convert/convert.h"

enum { TENSOR_NAME_SIZE = 96, MLX_GROUP = 64 };

/* Where rows are cut from: by type, and what goes with MLX words. */
enum { SUPPLY_SCALES = GRAFT_TYPE_COUNT, SUPPLY_BIASES, SUPPLY_COUNT };

struct supply {
    uint8_t *bytes;
    int64_t step_values; /* a row begins at a multiple of it */
    size_t step_bytes;
};

struct synth {
    graft_runtime *runtime;
    struct mem *mem;
    const struct shape *shape;
    struct config config;        /* the shape's, with its architecture */
    enum naming naming;          /* of the container */
    const struct recipe *recipe; /* NULL: MLX */
    graft_type mlx;
    const graft_bench_options *options;
    struct file_writer *file;
    struct supply supplies[SUPPLY_COUNT];
    uint64_t bytes_done, bytes_total; /* of matrices */
    uint64_t stream;                  /* of the next tensor's random numbers */
};

/* One tensor: a matrix [n_out, n_in] whose rows come from a supply, or a vector of n_in floats. */
struct synth_tensor {
    char name[TENSOR_NAME_SIZE];
    graft_type type; /* as stored: F16 for what goes with MLX words */
    int supply;
    uint64_t stream;
    int64_t n_out, n_in; /* n_out 0: a vector */
    float centre, width; /* of a vector's values */
    const float *values; /* or these */
};
typedef graft_status (*synth_tensor_fn)(struct synth *s, const struct synth_tensor *t, void *user,
                                        graft_error *error);
/* Every tensor in the order of the file. */
graft_status synth_each(struct synth *s, synth_tensor_fn fn, void *user, graft_error *error);
/* Its data, without padding; a synth_tensor_fn. */
graft_status synth_put(struct synth *s, const struct synth_tensor *t, void *user,
                       graft_error *error);

graft_status synth_gguf(struct synth *s, graft_error *error);
graft_status synth_mlx(struct synth *s, graft_error *error);

#endif
