/* delta_support.h: random adapters for the random models, and the dense weights that they stand for. For
 * tests only: failures abort through cmocka.
 */
#ifndef DELTA_SUPPORT_H
#define DELTA_SUPPORT_H

#include "conformance_support.h"
#include "oracle_model.h"

/* What an adapter is like. */
struct adapter_plan {
    int rank;
    graft_type type; /* of the factors; of an A with no whole blocks BF16 */
    float scale;
    bool dora, biased; /* biases at sites whose linear has one */
    bool head;         /* the head too; it must not be tied */
    bool sparse;       /* leaves some sites alone */
    int seed;
};

struct adapter {
    struct lowrank *own;           /* [n_sites] */
    const struct lowrank **places; /* [n_sites] for a delta_member */
    double **magnitudes;           /* [n_sites] DoRA: [n_out] */
    int n_sites;
};

/* `weights`: the values of the model `m`; may be NULL for a plan without DoRA and biases. */
void adapter_make(struct adapter *out, const struct model *m, struct oracle_model *weights,
                  const struct adapter_plan *plan);
void adapter_free(struct adapter *adapter);

/* A mix of adapters; fails the test when it is refused. */
struct delta_set *mix_open(const struct model *m, const struct adapter *adapters,
                           const float *weights, int n);

/* Turns the weights into W + Σ w (W' − W), computed in double, where W' = W + scale · B A, or for DoRA
 * magnitude ⊙ (W + scale · B A) / ‖W + scale · B A‖. */
void mix_into_weights(const struct model *m, struct oracle_model *weights,
                      const struct adapter *adapters, const float *member_weights, int n);

/* Logits of every token under a mix: [n, model_n_logits], malloc'ed. */
float *run_mix(const struct model *m, const graft_token_id *tokens, int n, enum role role,
               int chunk, const struct delta_set *deltas);

#endif
