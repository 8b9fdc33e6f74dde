/* trainee.h: what a test trains: a train_set with memory of its own, made from the tensors of a PEFT adapter or
 * piece by piece. For tests only: failures abort through cmocka.
 */
#ifndef TRAINEE_H
#define TRAINEE_H

#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"
#include "model/training/training.h"

/* One tensor, as its file has it: [rows, cols], a vector has cols 0. B lies the other way round in the set. */
struct trainee_tensor {
    char name[160];
    int64_t rows, cols;
    bool turned;
    struct trained trained;
};
struct trainee {
    const struct model *model;
    struct train_set set;
    struct trainee_tensor *tensors;
    size_t n_tensors, capacity;
};

/* Nothing is trained yet. */
void trainee_open(struct trainee *out, const struct model *model);
void trainee_free(struct trainee *trainee);
/* Everything in an adapter of oracle_adapter.h that is PEFT's: factors, magnitudes, biases, saved modules. */
void trainee_add_adapter(struct trainee *trainee, const struct oracle_model *adapter);

/* Random factors at a site: B not 0. magnitude: DoRA, with values near the norms; bias: with one. */
struct trainee_plan {
    int64_t rank;
    float scale, dropout;
    bool magnitude, bias;
};
void trainee_add_delta(struct trainee *trainee, int site, const struct trainee_plan *plan);
void trainee_add_embed_delta(struct trainee *trainee, const struct trainee_plan *plan);
/* Whole weights, biases and norms, as the model has them. */
void trainee_add_weight(struct trainee *trainee, int site);
void trainee_add_bias(struct trainee *trainee, int site);
void trainee_add_norm(struct trainee *trainee, int norm);
/* The embedding; with `tied` it is the head as well. */
void trainee_add_embed(struct trainee *trainee, bool tied);

size_t trainee_count(const struct trainee_tensor *tensor);
/* A value and a gradient by their place in the file. */
float *trainee_value(const struct trainee_tensor *tensor, size_t i);
float trainee_gradient(const struct trainee_tensor *tensor, size_t i);
void trainee_zero_gradients(struct trainee *trainee);

/* Fail the test where graft does not return OK. */
struct train_tape *open_tape(const struct trainee *trainee, const struct train_options *options);
void refresh_tape(struct train_tape *tape);
struct train_result run_tape(struct train_tape *tape, const struct train_batch *batch,
                             bool backward);

/* A batch made of examples with labels, as the reference has them: label i is predicted by token i − 1, −100 not. */
struct lesson {
    struct train_batch batch;
    graft_token_id *tokens;
    int32_t *targets;
    int *starts;
    float *weights;
};
void lesson_open(struct lesson *out, int max_tok, int max_examples);
void lesson_free(struct lesson *lesson);
void lesson_add(struct lesson *lesson, const graft_token_id *tokens, const int32_t *labels, int n);
/* n random tokens of a model, all of them targets but the first, weights near 1. */
void lesson_add_random(struct lesson *lesson, const struct model *model, int n, int seed);

#endif
