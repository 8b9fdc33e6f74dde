/* training_internal.h: the state of a training pass, shared by the files that compute it.
 *
 * Linears that read one input are a group, in the order of a layer: q k v; o; gate up; down; behind the last layer
 * the head. The output of a linear before gains and base biases is called z, since that is what the gradient of a
 * magnitude needs: y = gain ⊙ z + bias is computed from it wherever y is needed.
 *
 * Regions of the pool split outputs, columns of inputs, tokens or (example, KV head), so that each sum is in one
 * hand and in one order.
 */
#ifndef GRAFT_TRAINING_INTERNAL_H
#define GRAFT_TRAINING_INTERNAL_H

#include "model/forward_internal.h"
#include "model/training/training.h"

/* One site as products need it. */
struct site {
    const struct train_site *set;
    const struct matrix *weight; /* the base's, or own */
    struct matrix own;           /* the trained one, over its value */
    const float *bias;           /* [n_out] the trained one, or the base's, or NULL */
    int64_t rank;
    struct matrix a, b;             /* over the values: [rank, n_in], [rank, n_out] */
    struct matrix a_tiles, b_tiles; /* the same in tiles of LOWRANK_TILE columns, for lowrank_up */
    float *gain, *inverse;          /* [n_out] DoRA: magnitude / norm, 1 / norm; NULL: none */
    double *squares;                /* [n_out] ‖w‖² of each row of the weight */
    bool have_squares;
};

enum { GROUP_LINEARS = 3 };
enum group_id { GROUP_QKV, GROUP_O, GROUP_MLP, GROUP_DOWN, GROUP_COUNT };

struct group {
    struct site *sites[GROUP_LINEARS];
    int n, index; /* index: by layer and id, keys dropout */
    int64_t n_in;
    int64_t n_ranks, first_rank[GROUP_LINEARS]; /* of the stacked A */
    int64_t first_u;                            /* of its u in that of the layer */
    float dropout;
    enum panel_format format; /* of products with factors */
};

/* The embedding. */
struct embedding {
    struct matrix own;
    const struct matrix *weight;
    int64_t rank;
    struct matrix b, b_tiles; /* [rank, d_model] */
    float *gain, *inverse;    /* [d_model] */
    double *squares;          /* [d_model], over the vocabulary */
    bool have_squares;
    float *u; /* [max_tok, rank]: scale · a of the batch */
};

/* What a layer leaves for the way back. */
enum kept {
    KEPT_X, /* [d_model] what goes in */
    KEPT_Q, /* z of the linears */
    KEPT_K,
    KEPT_V,
    KEPT_ATT, /* [n_head · d_head] */
    KEPT_LSE, /* [n_head] */
    KEPT_O,   /* z, where a magnitude is trained */
    KEPT_MID, /* [d_model] between attention and MLP */
    KEPT_GATE,
    KEPT_UP,
    KEPT_DOWN, /* z, likewise */
    KEPT_U,    /* [ranks of the layer] */
    KEPT_COUNT
};

struct train_worker {
    void *scratch;           /* prefill_scratch_bytes */
    float *attention;        /* self_attention_scratch_floats */
    float *row, *second_row; /* the widest */
};

struct train_tape {
    const struct model *model;
    const struct train_set *set;
    struct train_options options;
    const struct kernels *kernels; /* the tier's, or of `half` */
    struct kernels rounded;
    struct pool *pool;
    struct mem *mem;
    struct arena arena;
    size_t bytes, kept_bytes;
    int n_workers;

    struct site *sites;   /* [n_sites] */
    struct group *groups; /* [n_layer * GROUP_COUNT + 1] */
    struct embedding embedding;
    int first_layer;    /* the first that gradients must pass; n_layer: none */
    bool embed_trained; /* and then they go on below layer 0 */

    void **kept;             /* [n_layer, KEPT_COUNT]: floats or, halved, bf16; NULL: not kept */
    float *held[KEPT_COUNT]; /* [max_tok, width]: of the layer in hand */
    float *room[KEPT_COUNT]; /* where those are that are not held where they are kept */

    /* [max_tok, ...] */
    float *x, *dx;              /* d_model: the residual stream; what the loss says of it */
    float *h, *dh;              /* d_model: what a group reads; what the loss says of it */
    float *y;                   /* d_model */
    float *q, *k, *v;           /* as attention takes them */
    float *dq, *dk, *dv, *datt; /* what the loss says of them */
    float *wide, *second_wide;  /* d_ff */
    float *dropped;             /* widest input; NULL: nobody drops */
    uint8_t *mask;              /* [max_tok, mask_bytes] */
    int64_t mask_bytes;
    float *du;                    /* as u of a group */
    float *cos, *sin, *minus_sin; /* [d_head / 2] */
    int *example;                 /* [max_tok] */
    int32_t *pos;                 /* [max_tok] in its example */

    /* the loss, by rows in hand */
    int *loss_tokens; /* [max_tok]: those with a weight */
    int n_loss;
    float *hidden, *dhidden; /* [loss_rows, d_model] */
    float *logits, *head_z;  /* [loss_rows, n_logits]; head_z: with a magnitude of the head */
    float *head_u;           /* [loss_rows, ranks of the head] */
    double *nll;             /* [loss_rows] */
    bool *right;             /* [loss_rows] */

    float *wa;  /* refresh: W Aᵀ as [rank, n_out] */
    double *aa; /* refresh: A Aᵀ */

    struct train_worker *workers;
    const struct train_batch *batch; /* of the pass that runs */
    atomic_llong next_item;
};

/* Runs a region; small ones stay on the caller, as in pass_run. */
void tape_region(const struct train_tape *t, pool_work work, void *context, int64_t multiplies);

static inline const struct train_site *site_set(const struct train_tape *t, int site)
{
    return &t->set->sites[site];
}
static inline struct group *layer_group(const struct train_tape *t, int layer, enum group_id id)
{
    return &t->groups[layer * GROUP_COUNT + (int)id];
}
static inline struct group *head_group(const struct train_tape *t)
{
    return &t->groups[t->model->config.n_layer * GROUP_COUNT];
}

/* ---- tape.c ---- */

int64_t kept_width(const struct train_tape *t, int layer, enum kept kept);

/* ---- linear.c ---- */

/* y = gain ⊙ z + bias; y may be z. */
void site_finish(const struct train_tape *t, const struct site *s, const float *z, float *y);
/* y of a row: z itself, or computed into `room`. */
const float *site_row(const struct train_tape *t, const struct site *s, const float *z,
                      float *room);

/* A group applied to some rows. */
struct group_pass {
    struct train_tape *tape;
    const struct group *group;
    int n_tok;
    const int *tokens;        /* [n_tok]: which tokens of the batch they are; NULL: 0, 1, ... */
    const float *x;           /* [n_tok, n_in] */
    float *u;                 /* [n_tok, n_ranks] scale · A drop(x) */
    float *z[GROUP_LINEARS];  /* [n_tok, n_out] */
    float *dy[GROUP_LINEARS]; /* back: what the loss says of y; of z after */
    float *dx;                /* back: written; NULL: not wanted */
};
void group_down(struct group_pass *p);    /* u */
void group_forward(struct group_pass *p); /* u and z */
void group_backward(struct group_pass *p);

/* ---- dropout.c ---- */

/* out = drop(x) / (1 − p) for one row, and which values stayed, a bit each. */
void dropout_row(const struct group_pass *p, int row, const float *x, float *out, uint8_t *mask);
/* dx[i] += drop(d[i]) / (1 − p) for i in [begin, end), begin a multiple of 8. */
void dropout_row_backward(const struct group_pass *p, const uint8_t *mask, const float *d,
                          int64_t begin, int64_t end, float *dx);
static inline bool group_drops(const struct group_pass *p)
{
    return p->group->dropout > 0 && p->tape->batch->dropout;
}

/* ---- norm.c ---- */

const float *tape_norm(const struct train_tape *t, int norm);
/* out = norm of the rows of x, of all tokens of the batch */
void norm_forward(struct train_tape *t, int norm, const float *x, float *out);
/* Rows of dy say what of rows of x, added to dx; row i of all is tokens[i] of x and dx (NULL: i). */
void norm_backward(struct train_tape *t, int norm, const float *x, const float *dy, int n,
                   const int *tokens, float *dx);

/* ---- the parts ---- */

/* Fills q, k, v; att and lse too. */
void attention_forward(struct train_tape *t, int layer);
/* From datt: dq, dk, dv of the linears' y. */
void attention_backward(struct train_tape *t, int layer);
/* wide = silu(gate) · up */
void mlp_forward(struct train_tape *t, int layer);
/* second_wide holds what the loss says of wide; becomes that of gate, and wide that of up. */
void mlp_backward(struct train_tape *t, int layer);

void embed_forward(struct train_tape *t); /* x */
void embed_backward(struct train_tape *t);

void layer_forward(struct train_tape *t, int layer);
void layer_backward(struct train_tape *t, int layer);

/* Norm, head and loss of the rows that have a weight; dx, which is 0 before, if `backward`. */
void loss_run(struct train_tape *t, bool backward, struct train_result *result);

#endif
