/* trainable.h: an adapter whose values change: made from a recipe or from files, trained, written.
 *
 * Owns one flat buffer of values and one of gradients, and knows which of them are what: so optimisers, checkpoints
 * and penalties are loops over floats, and files never see how training holds them (B transposed, rows in the order of
 * the model's weights). Knows nothing of data, losses or steps.
 *
 * Linear layers only, the head among them. Embeddings and whole modules can be trained by the pass (training.h) and
 * have no files of their own here yet: an adapter with such is refused by name.
 */
#ifndef GRAFT_TRAINABLE_H
#define GRAFT_TRAINABLE_H

#include "adapter/save/save.h"
#include "model/training/training.h"

/* What begins: all of a recipe, or an adapter as it is, to be continued. */
struct trainable_options {
    const struct adapter_recipe *recipe; /* NULL: `path` */
    const char *path;                    /* as adapter_open; its rank, scale and targets stay */
    double dropout;                      /* negative: the recipe's, or what the adapter says */
    bool dora; /* of a recipe: with magnitudes, which begin as the norms of the weights */
    bool bias; /* of a recipe: with biases beside B, which begin as 0 */
};

/* One tensor: values[at .. at + n). `at` is a multiple of 16. */
struct trainable_part {
    int64_t at, n;
    bool vector; /* a magnitude or a bias: no weight decay */
    bool fast;   /* B or a vector: what LoRA+ has a rate of its own for */
};

struct trainable_files;
struct trainable {
    const struct model *model;
    struct train_set set;  /* points into values and gradients */
    float *values, *grads; /* [n_values], zeros between the parts */
    int64_t n_values;
    int64_t n_trained; /* of these */
    struct trainable_part *parts;
    int n_parts;
    struct trainable_files *files;
};

/* INVALID_ARGUMENT, and what adapter_open says. The model must outlive it. */
graft_status trainable_open(const struct model *model, const struct trainable_options *options,
                            struct trainable **out, graft_error *error);
void trainable_close(struct trainable **trainable);
void trainable_zero_grads(struct trainable *trainable);

struct trainable_output {
    enum adapter_format
        format; /* ADAPTER_PEFT or ADAPTER_MLX: a folder, absent or empty; ADAPTER_GGUF: a file */
    graft_type type;     /* F32, F16 or BF16 */
    const json_t *about; /* "training" of the card; NULL: none */
};
/* Writes `values` [n_values] (NULL: its own) whole or not at all. UNSUPPORTED: what the format cannot hold. */
graft_status trainable_write(const struct trainable *trainable, const float *values,
                             const char *path, const struct trainable_output *output,
                             graft_error *error);

#endif
