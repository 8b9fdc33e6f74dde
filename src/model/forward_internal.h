/* forward_internal.h: the state of one forward pass, shared by the files that compute it.
 *
 * Rows of a pass are reordered once: decode rows first, then prefill rows, else in the caller's order.
 * All activations are [row, width] in that order. Among the rows of a role, those of one mix stand together:
 * a segment. Work is done in regions of the runtime's pool; a
 * region splits outputs (or whole items) among workers and never a sum, so the thread count cannot be
 * seen in the results. Everything that computes runs inside a region: there the floating-point state is
 * graft's own, not the caller's.
 */
#ifndef GRAFT_FORWARD_INTERNAL_H
#define GRAFT_FORWARD_INTERNAL_H

#include "model/arch/arch.h"
#include "model/delta_internal.h"
#include "model/kv_internal.h"

enum {
    FEW_ROWS = 4,      /* up to here every worker prepares the inputs for itself: no extra region */
    OUTPUT_GRAIN = 16, /* outputs are split at multiples of a cache line */
    SPAN_BYTES =
        512 << 10,   /* of outputs that a worker finishes before the next: they stay in cache */
    OUTPUT_SPAN = 64 /* of which there is a multiple, whatever the number of rows */
};

/* Rows about to meet weights. Prefill rows are read from x, decode rows from act[] in the format that
 * the weight's type takes (ACT_F32: from x). */
struct linear_input {
    const float *x; /* [n_rows, n_in] */
    int64_t n_in;
    int n_rows, n_decode;
    void *act[ACT_COUNT]; /* [n_decode] rows */
};

/* One weight with its outputs. */
struct linear {
    const struct matrix *weight;
    const float *bias; /* [n_out] or NULL */
    float *y;          /* [n_rows, n_out] */
    int site;          /* where deltas find it */
};

/* Bit set of the activation formats that decode rows need for a weight; ACT_F32 needs none. */
unsigned linear_formats(const struct matrix *weight);
/* Row `row` of in->x into in->act, for the formats given; prefill rows need nothing. */
void linear_prepare(const struct kernels *k, const struct linear_input *in, unsigned formats,
                    int row);
/* Scratch of a worker for products with rows of n_in, in bytes. */
size_t linear_scratch_bytes(int64_t n_in);

/* Rows begin..end of one role, with one mix that is not the base model. */
struct segment {
    const struct delta_set *deltas;
    enum role role;
    int begin, end;
    /* for the group of linears in hand: */
    int jobs, jobs_end;
    int64_t n_ranks;               /* of its jobs, stacked */
    float *u;                      /* [end - begin, n_ranks]: weight · scale · A x */
    int64_t item_rows, item_ranks; /* an item is a piece of u */
    int64_t first_item, items_end;
};

/* The rows that a group of linears is for. */
struct linear_rows {
    int n, n_decode;
    struct segment *segments;
    int n_segments;
};

/* One delta of the group in hand for the rows of a segment. */
struct delta_job {
    const struct lowrank *lowrank;
    float weight;
    int linear;         /* of the group */
    int64_t first_rank; /* in the segment's u */
};

/* What a worker needs for itself. */
struct worker {
    void *scratch;    /* linear_scratch_bytes */
    float *attention; /* attention_scratch_floats */
    const void **k_blocks, **v_blocks;
    float *few_x;             /* [FEW_ROWS, widest input] */
    void *few_act[ACT_COUNT]; /* [FEW_ROWS] rows */
};

struct pass_row {
    const struct row *row;
    int64_t blocks_before; /* of its sequence; -1 but for the first row of a sequence */
};

/* Rows of a pass at consecutive positions of one sequence, of one role: attention takes them at once. */
struct row_tile {
    int first, n;
};

struct workspace {
    const struct model *model;
    struct mem *mem;
    struct arena arena;
    int max_rows, n_workers;
    int64_t block_capacity;   /* of each worker's block lists */
    const void **block_lists; /* [n_workers, 2, block_capacity] */
    struct worker *workers;   /* [n_workers] */
    struct pass_row *rows;    /* [max_rows] */
    struct segment *segments; /* [2, max_rows]: of the pass, of the head */
    int *row_segment;         /* [max_rows] by the caller's row */
    float
        *whole_logits; /* [max_rows, model_n_logits]: of heads that adapters hold; NULL: none yet */
    float *u;          /* [u_capacity]: inner products of deltas */
    int64_t u_capacity;
    struct delta_job *jobs;     /* [job_capacity] */
    struct lowrank_part *stack; /* [job_capacity]: the A of the jobs */
    int64_t job_capacity;
    struct row_tile *tiles; /* [max_rows], n_tiles of this pass */
    int n_tiles;
    float *parts; /* [part_capacity]: attention states that are joined later */
    int64_t part_capacity;
    atomic_int *parts_done;        /* [SHARED_TILES * n_workers] by tile and KV head */
    int *wanted;                   /* [max_rows] pass rows whose final state is wanted */
    int *logit_slot, *hidden_slot; /* [max_rows] by the caller's row; -1: not asked for */
    int n_rows;                    /* of the last pass that succeeded */
    float *x, *h;                  /* [max_rows, d_model]: residual stream; scratch */
    float *q, *att;                /* [max_rows, n_head * d_head] */
    float *k, *v;                  /* [max_rows, n_kv * d_head] */
    float *gate, *up;              /* [max_rows, d_ff] */
    float *cos, *sin;              /* [max_rows, d_head / 2] */
    float *hidden;                 /* [max_rows, d_model] */
    float *logits;                 /* [max_rows, model_n_logits] */
    void *act[ACT_COUNT];          /* [max_rows] rows of the widest input */
};
/* With fewer tiles than so many per worker, workers may share one. */
enum { SHARED_TILES = 4 };
/* Room for sequences of n blocks. */
bool workspace_grow_lists(struct workspace *ws, int64_t n_blocks);
bool workspace_grow_parts(struct workspace *ws, int64_t n_floats);
/* Room for deltas: n_u inner products and n_jobs jobs. */
bool workspace_grow_deltas(struct workspace *ws, int64_t n_u, int64_t n_jobs);
bool workspace_grow_whole(struct workspace *ws);

struct pass {
    const struct model *model;
    const struct kernels *kernels;
    struct pool *pool;
    struct workspace *ws;
    int n_rows, n_decode;
    bool lone;           /* no sequence has two rows: nobody's keys are needed by another row */
    int n_parts;         /* of the longest decode tile, if workers share tiles; else 1 */
    int64_t part_floats; /* of one part's state */
    int layer;
    struct linear_rows all, head; /* the rows; those of them with logits */
    /* the region that runs */
    const struct linear_group *group;
    struct linear_input input;
    int64_t n_delta_items; /* 0: no deltas in this group */
    bool whole_heads;      /* it is the head, and some rows bring one of their own */
    enum panel_format delta_format;
    int n_wanted, n_logits;
    atomic_llong next_item;
    atomic_int nan_slot; /* a row of logits with a NaN, or -1 */
    atomic_llong next_delta_item, delta_items_done;
};

/* Runs a region of a pass; `multiplies` says roughly how many multiply-adds it is. Small regions stay on
 * the caller: waking the others, and waiting for them on a busy machine, would cost more than it
 * saves. Results do not depend on it, as threads split outputs only. */
void pass_run(struct pass *pass, pool_work work, int64_t multiplies);

/* Linears that share one input, and what follows on the same outputs. */
struct linear_group {
    const struct linear_rows *rows;
    const float *x;    /* [n_rows, n_in] */
    const float *norm; /* RMSNorm weight [n_in] applied to x first; NULL: none */
    int norm_index;    /* where mixes find it */
    int64_t n_in;
    struct linear linears[3];
    int n_linears;
    bool then_silu;  /* linears[0].y = silu(linears[0].y) · linears[1].y */
    float *then_add; /* += linears[0].y; NULL: no */
    bool then_check; /* a NaN in linears[0].y is noted in pass->nan_slot */
};
void group_run(struct pass *pass, const struct linear_group *group);

/* The deltas of a group, in the order in which a group calls these (seam.c). Before the region: lists them
 * and cuts A x into items. */
void seam_begin(struct pass *pass);
/* First of all in a share, where rows are few: asks memory for what the worker is likely to take. */
void seam_ask(const struct pass *pass, int worker, int n_workers);
/* What a worker asks memory for while it multiplies outputs begin..end of a linear for decode rows: their B, and before
 * seam_down the A of the items that it is likely to take. */
enum { AHEAD_PIECES = 128 };
struct seam_ahead {
    struct ahead_piece pieces[AHEAD_PIECES]; /* what is beyond these is not asked for */
    struct ahead ahead;                      /* of them */
};
void seam_list_ahead(const struct pass *pass, int linear, int64_t begin, int64_t end,
                     struct seam_ahead *out);
void seam_list_items(const struct pass *pass, int worker, int n_workers, struct seam_ahead *out);
/* Of so many outputs, how many at once, so that their B, asked for during the product, is at hand after it. */
int64_t seam_span(const struct pass *pass, int64_t n);
/* At the start of a share, or after its first outputs: computes items of A x until none is left. */
void seam_down(struct pass *pass, const struct linear_input *in, void *scratch);
/* y[:, begin..end) of a linear, W x alone until now: ⊙= 1 + Σ w (gain − 1), += Σ w · gain ⊙ scale · (B (A x) + bias),
 * once all items are done. */
void seam_up(struct pass *pass, int linear, int64_t begin, int64_t end, void *scratch);

/* ---- modules that mixes change (modules.c) ---- */

/* A norm's weight for a row: its mix's, or the base's. */
static inline const float *row_norm(const struct pass *p, int64_t row, int norm, const float *base)
{
    const struct delta_set *set = p->ws->rows[row].row->deltas;
    const float *own =
        set && set->modules && set->modules->norms ? set->modules->norms[norm] : NULL;
    return own ? own : base;
}
/* x = the embedding of the row's token as its mix makes it, from the base's. */
void modules_embed(const struct pass *pass, const struct row *row, int worker, float *x);
/* Outputs begin..end of the head for the rows of a segment += those of the heads that its mix brings. */
void modules_head(const struct pass *pass, const struct segment *s, const struct linear *l,
                  int64_t begin, int64_t end, void *scratch);
bool modules_have_head(const struct segment *s);
/* What these take of the factor of W x. */
float modules_head_weight(const struct segment *s);

/* Groups the rows of a pass into tiles, and decides whether workers share them. false: no memory. */
bool attention_plan(struct pass *pass);
/* Rotates, normalises and stores q, k, v of the pass's rows for its layer and attends: q, k, v → att. */
void attention_run(struct pass *pass);

/* cos and sin of pos · freq, times mscale, for n planes. */
void rope_angles(const float *freq, int n, int32_t pos, float mscale, float *cos, float *sin);

#endif
