/* training.h: the training pass of a model: a forward pass that remembers, and the way back.
 *
 * Owns gradients: of low-rank deltas, magnitudes and biases, of modules trained whole, through frozen weights of
 * any type as they lie in the file. Does not own what they are for: data, optimisers, schedules and files are
 * the business of the train layer. The caller owns every trained value and gradient; this layer knows where they
 * belong. There is no KV cache here: a batch is whole examples, which do not see each other.
 *
 * What is computed follows model.h's lowranks and module changes at weight 1, so an adapter that was trained here
 * says the same when it is opened. Products go by panels as in prefill, those with factors by the panels of the
 * weight beside them. Results have the same bits for any number of threads: a region splits outputs, tokens or
 * (example, KV head), never a sum.
 */
#ifndef GRAFT_TRAINING_H
#define GRAFT_TRAINING_H

#include "model/model.h"

/* ---- what is trained ---------------------------------------------------------------------- */

/* A trained tensor. value NULL: there is none. grad, of the same shape, is added to; NULL: it is used, not trained. */
struct trained {
    float *value, *grad;
};

/* A low-rank delta beside a weight: y = gain ⊙ (W x + scale · (B A drop(x) + bias)), gain = magnitude / ‖W + scale · B A‖
 * by row, or 1 without a magnitude. The norm counts as a constant on the way back, as in DoRA's paper and in PEFT. */
struct train_delta {
    int64_t rank; /* 0: no factors (and none of what follows counts) */
    int64_t
        frozen; /* of these ranks the last, which count and get no gradients; may change between passes; 0 for embeddings */
    float scale; /* alpha / rank, or alpha / sqrt(rank) */
    float
        dropout; /* probability, of the inputs of A; 0 for embeddings. Sites that share an input share it. */
    struct trained a;         /* [rank, n_in] */
    struct trained b;         /* [rank, n_out]: B transposed */
    struct trained magnitude; /* [n_out]; NULL: no DoRA */
    struct trained bias;      /* [n_out]; NULL: none */
};

/* At one site (model_site, model_head_site). Rows are in the order of the site's weight, which in GGUFs of the llama
 * family is not that of Hugging Face. */
struct train_site {
    struct train_delta delta;
    struct trained
        weight; /* [n_out, n_in] in place of the base's: full training, a saved head or score head */
    struct trained bias; /* [n_out] in place of the base's */
};

/* All that is trained of a model. A member that is zero is not. */
struct train_set {
    struct train_site *sites; /* [model_n_sites] */
    struct trained *norms;    /* [model_n_norms]: in place of the base's; NULL: none */
    struct trained
        embed; /* [n_vocab, d_model] in place of the base's. A tied model that is trained whole has the
                                 same value and grad here and as weight of the head's site. */
    struct train_delta
        embed_delta; /* a [rank, n_vocab], b [rank, d_model], magnitude [d_model] with the norm over the
                                       vocabulary, as in PEFT. The head has a site of its own, tied or not. */
};

/* ---- the tape ----------------------------------------------------------------------------- */

struct train_options {
    int max_tok; /* tokens of a batch at most */
    bool
        checkpoint; /* keep only what goes into each layer, and compute the layer again on the way back. The same bits,
                        unless `half`. */
    bool
        half; /* keep activations as bf16; and where the tier has a unit for it, products with weights of a float
                      type take bf16 factors, as those with quantised weights always do */
    int loss_rows; /* rows of logits that exist at a time; 0: 64, and more where the head's weight is trained */
};

/* Memory for a pass, all of it taken at open. Belongs to one thread at a time; uses the runtime's pool. */
struct train_tape;
/* `model` and the arrays in *set must outlive the tape, and which parts there are must stay as it is; values and
 * gradients are the caller's to change between calls. INVALID_ARGUMENT: a scale, rank or dropout that cannot be, or a
 * magnitude, bias or norm where the model has no such module. */
graft_status train_tape_open(const struct model *model, const struct train_set *set,
                             const struct train_options *options, struct train_tape **out,
                             graft_error *error);
void train_tape_close(struct train_tape **tape);
/* Forgets all that passes left, so that nothing of it can be found in the tape's memory, which it keeps; then as
 * train_tape_refresh. Allocates nothing. */
graft_status train_tape_wipe(struct train_tape *tape, graft_error *error);
/* Bytes that the tape takes (pages that no batch needed so far are not resident), and of these what is kept from the way
 * forth to the way back. */
size_t train_tape_bytes(const struct train_tape *tape);
size_t train_tape_kept_bytes(const struct train_tape *tape);
/* The same of a tape that would be opened: for estimates. */
graft_status train_tape_measure(const struct model *model, const struct train_set *set,
                                const struct train_options *options, size_t *bytes,
                                size_t *kept_bytes, graft_error *error);

/* After every change of values, and before the first pass: lays out factors for products and computes the norms of DoRA.
 * NUMERIC: a row of W + scale · B A is zero under a magnitude. */
graft_status train_tape_refresh(struct train_tape *tape, graft_error *error);

/* ---- a pass ------------------------------------------------------------------------------- */

struct train_batch {
    int n_tok, n_examples;
    const graft_token_id *tokens; /* [n_tok] */
    const int
        *starts; /* [n_examples + 1]: example e is tokens starts[e]..starts[e + 1], at least one */
    const int32_t *
        targets; /* [n_tok]: what follows token t; of a classifier the class. Read where the weight is not 0. */
    const float *
        weights; /* [n_tok]: 0: not trained; may be negative. Of a classifier, at the token that the score is
                               taken from. */
    uint64_t seed, step;      /* dropout is keyed by (seed, step, example, input, position) */
    const uint64_t *examples; /* [n_examples]: numbers across the run; NULL: 0, 1, ... */
    bool dropout;             /* false: none, whatever the deltas say (evaluation) */
};

struct train_result {
    double nll;        /* Σ weights[t] · (−log p(targets[t])) */
    double weight;     /* Σ weights[t] */
    double plain_nll;  /* Σ −log p(targets[t]) over the tokens whose weight is not 0 */
    int64_t n_targets; /* those tokens */
    int64_t n_right;   /* of these, where the target is the likeliest, the first among equals */
};

/* Forth; with `backward` also back, adding the gradients of result->nll to the set's. What is not a number shows in the
 * result and is no error. INVALID_ARGUMENT: tokens, targets, starts that cannot be, or more than max_tok tokens.
 * Allocates nothing. */
graft_status train_tape_run(struct train_tape *tape, const struct train_batch *batch, bool backward,
                            struct train_result *result, graft_error *error);

#endif
