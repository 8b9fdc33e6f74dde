/* trainable.h: what is trained: an adapter, made from a recipe or from files, or a model as a whole; and its way to files.
 *
 * Owns one flat buffer of values and one of gradients, and knows which of them are what: so optimisers, checkpoints
 * and penalties are loops over floats, and files never see how training holds them (B transposed, rows in the order of
 * the model's weights). Knows nothing of data, losses or steps.
 *
 * An adapter has factors of linear layers, the head among them, and of the embedding; beside them norms, the embedding
 * and the head may be held whole.
 */
#ifndef GRAFT_TRAINABLE_H
#define GRAFT_TRAINABLE_H

#include "adapter/save/save.h"
#include "model/training/training.h"

/* Where factors begin: X(name, text). PiSSA and OLoRA begin as a part of the weight: what is trained is y = W x + s (B A − B0 A0) x,
 * with A0 and B0 what A and B began as. It is one delta of twice the rank whose second half, A0 and −B0, is frozen; so the
 * base stays as it is, and the files hold a plain adapter of that rank. */
#define INIT_LIST(X)                                                                               \
    X(DEFAULT, "default")   /* A uniform in ±1/√n_in (Kaiming, a = √5), B = 0 */              \
    X(GAUSSIAN, "gaussian") /* A from N(0, 1 / rank²), B = 0 */                                   \
    X(PISSA, "pissa")       /* leading singular directions */                                      \
    X(OLORA, "olora")       /* the first columns of Q and rows of R of W = Q R */
enum adapter_init {
#define INIT_ENUM(name, text) INIT_##name,
    INIT_LIST(INIT_ENUM)
#undef INIT_ENUM
        ADAPTER_INITS
};
const char *init_name(enum adapter_init init); /* NULL: there is none */
bool init_find(const char *name, enum adapter_init *out);

/* Online adaptation (micro.c): of an adapter that is continued a few ranks are trained, fresh ones the first time, and the
 * rest of it is held, magnitudes and biases too. */
enum { MICRO_RANKS = 2 };
struct trainable_micro {
    int rank;                   /* 1 to MICRO_RANKS */
    const char *const *targets; /* [n_targets] "q_proj"; none: every linear that the adapter has */
    size_t n_targets;
    uint64_t seed; /* of the fresh ones */
};

/* What begins: all of a recipe, an adapter as it is, to be continued, or the weights of the model themselves. */
struct trainable_options {
    bool whole; /* every parameter of the model, from what it is now; none of what follows */
    const struct adapter_recipe *recipe; /* NULL: `path` */
    const char *path;                    /* as adapter_open; its rank, scale and targets stay */
    double dropout;                      /* negative: the recipe's, or what the adapter says */
    bool dora; /* of a recipe: with magnitudes, which begin as the norms of the weights */
    bool bias; /* of a recipe: with biases beside B, which begin as 0 */
    enum adapter_init
        init; /* of a recipe; its progress is told of PiSSA and OLoRA, in values of weights */
    const struct trainable_micro *micro; /* of `path`; NULL: all of it is trained */
};

/* What is trained of one tensor: values[at .. at + n). `at` is a multiple of 16. */
struct trainable_part {
    int64_t at, n;
    int64_t rows, cols; /* of a matrix within a block, trained whole: what Muon is for; else 0 */
    bool vector;        /* a magnitude, a bias or a norm: no weight decay */
    bool fast;          /* B or a vector of an adapter: what LoRA+ has a rate of its own for */
};

struct trainable_files;
struct trainable {
    const struct model *model;
    struct train_set set; /* points into values and gradients */
    float *values,
        *grads; /* [n_values]; between the parts frozen halves and zeros, without gradients */
    int64_t n_values;
    int64_t n_trained; /* of these */
    struct trainable_part *parts;
    int n_parts;
    enum adapter_init init;
    bool whole;            /* the model, no adapter */
    struct trained *norms; /* [model_n_norms]; NULL: none is trained */
    struct trainable_files *files;
};

/* INVALID_ARGUMENT, CANCELLED, and what adapter_open says. The model must outlive it. */
graft_status trainable_open(const struct model *model, const struct trainable_options *options,
                            struct trainable **out, graft_error *error);
void trainable_close(struct trainable **trainable);
/* Whether frozen halves have gradients all the same, for those who want to know what they matter; not at first. */
void trainable_frozen_grads(struct trainable *trainable, bool wanted);
void trainable_zero_grads(struct trainable *trainable);
/* As it is written where nothing is said: F32 for an adapter; for a model its own type, BF16 for one that is quantised. */
graft_type trainable_type(const struct trainable *trainable);

/* A buffer [n_values] of an adapter in the order of files and back: part by part at the same places, B as [n_out, rank], and
 * rows as Hugging Face has them, whatever container the base is. */
void trainable_to_files(const struct trainable *trainable, const float *values, float *out);
void trainable_from_files(const struct trainable *trainable, const float *values, float *out);

/* What is known of an adapter beside its numbers, borrowed: graft.json as it was, or a new one. */
const json_t *trainable_card(const struct trainable *trainable);

struct trainable_output {
    enum adapter_format
        format; /* ADAPTER_PEFT or ADAPTER_MLX: a folder, absent or empty; ADAPTER_GGUF: a file. Of a model ADAPTER_PEFT is
                    a Hugging Face directory, and there is no ADAPTER_MLX */
    graft_type type; /* F32, F16 or BF16 */
    const json_t *
        about; /* "training" of the card, which "init" and "micro" are added to; of a model training.json of its
                           directory; NULL: none */
    const char *version; /* of the card; NULL: as it was */
    /* What else belongs into a folder, before it appears; NULL: nothing. */
    graft_status (*beside)(const void *user, const char *dir, graft_error *error);
    const void *user;
};
/* Whether the format has a place for all of it: known before anything is trained. UNSUPPORTED. */
graft_status trainable_check_format(const struct trainable *trainable, enum adapter_format format,
                                    graft_error *error);
/* Writes `values` [n_values] (NULL: its own) whole or not at all. UNSUPPORTED: what the format cannot hold. */
graft_status trainable_write(const struct trainable *trainable, const float *values,
                             const char *path, const struct trainable_output *output,
                             graft_error *error);

#endif
