/* model.h: an open base model: configuration, weights, tokenizer, template, KV cache, forward pass.
 *
 * A model is immutable after open and may be shared by any number of threads; a workspace and a KV
 * sequence belong to one caller at a time. Nothing here knows sampling or sessions. The forward pass is
 * batch-shaped: every use (one token, a prompt, many sequences, verification of drafts) is a list of
 * rows given to model_forward.
 */
#ifndef GRAFT_MODEL_H
#define GRAFT_MODEL_H

#include "base/base.h"
#include "formats/formats.h"
#include "kernels/kernels.h"
#include "model/template/template.h"
#include "model/tokenizer/tokenizer.h"

/* ---- configuration ------------------------------------------------------------------------ */

enum { MAX_EOS = 16 };

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

struct rope_config {
    enum rope_kind kind;
    double theta;
    double factor;               /* all kinds but PLAIN */
    double low_freq, high_freq;  /* LLAMA3 */
    double original_ctx;         /* LLAMA3, YARN */
    double beta_fast, beta_slow; /* YARN; defaults 32 and 1 */
    double attention_factor;     /* YARN: multiplies cos and sin; 0: 0.1 ln(factor) + 1 */
    bool fractional_bounds;      /* YARN: the correction range is not rounded ("truncate": false) */
    bool interleaved;            /* GGUF order of llama-family q and k rows */
};

/* The linear layers of a block, in the order in which they are applied. */
enum linear_id {
    LINEAR_Q,
    LINEAR_K,
    LINEAR_V,
    LINEAR_O,
    LINEAR_GATE,
    LINEAR_UP,
    LINEAR_DOWN,
    LINEAR_COUNT
};

/* How MLX quantised a module: bits 4 or 8, group 32, 64 or 128; bits 0: not at all. */
struct mlx_quant {
    int bits, group;
};
struct mlx_override {
    const char *module; /* "model.layers.3.mlp.down_proj" */
    struct mlx_quant quant;
};

struct arch; /* arch/arch.h: one vtable per architecture */

struct config {
    const struct arch *arch;
    char architecture[64]; /* "Qwen2ForCausalLM" */
    int n_layer, d_model, d_ff, n_head, n_kv, d_head, n_vocab;
    int n_ctx; /* positions the model was made for */
    float norm_eps;
    struct rope_config rope;
    bool tied;               /* head shares the embedding */
    bool qk_norm;            /* Qwen3: RMSNorm on each head of q and k */
    unsigned biases;         /* bit 1 << linear_id: that linear has a bias in every block */
    int32_t *windows;        /* [n_layer]: sliding window, 0 = full attention */
    int n_labels;            /* classifier: rows of the score head; 0: a language model */
    char **labels;           /* [n_labels], or NULL */
    graft_token_id bos, pad; /* -1: none */
    graft_token_id eos[MAX_EOS];
    int n_eos;
    bool has_mlx; /* quantised the MLX way: */
    struct mlx_quant mlx;
    struct mlx_override *mlx_overrides; /* [n_mlx_overrides], sorted by module */
    size_t n_mlx_overrides;
};

/* Sampling defaults of generation_config.json; a negative value: not given. */
struct generation_defaults {
    double temperature, top_p, min_p, repetition_penalty;
    int top_k;
    bool do_sample_given, do_sample;
};

/* ---- weights ------------------------------------------------------------------------------ */

struct layer {
    float *attn_norm, *mlp_norm; /* [d_model] */
    float *q_norm, *k_norm;      /* [d_head] or NULL */
    struct matrix linear[LINEAR_COUNT];
    float *bias[LINEAR_COUNT]; /* [n_out] of its linear, or NULL */
};

struct model {
    graft_runtime *runtime;
    char *path;
    struct config config;
    struct generation_defaults generation;
    struct tensor_set tensors; /* maps the weights; of one that is packed the bytes may be lost */
    struct arena arena;        /* norms and biases as floats, names */
    uint8_t *packed;           /* rows of the weights that are packed; NULL: none is */
    struct matrix embed, head; /* head: tied, lm_head or the score head */
    float *final_norm;         /* [d_model] */
    struct layer *layers;
    float *rope_freq;            /* [d_head / 2], scaling applied */
    float rope_mscale;           /* YARN's factor on cos and sin; 1 otherwise */
    struct tokenizer *tokenizer; /* NULL: the model has none */
    struct chat_template *chat;  /* NULL: none */
    void **fused;                /* [n_fused] weights with a mix in them: model_fuse */
    size_t n_fused;
    uint64_t fused_bytes; /* of them, and of vectors */
};

struct model_options {
    enum map_mode map;
    bool need_tokenizer; /* a missing tokenizer is then an error */
    const char *pack;    /* as in graft_model_options; NULL: nothing */
};

/* Opens a directory or file. Everything is validated (names, shapes, types) before it returns; SHAPE
 * errors carry both shapes. `options` NULL: mapped, tokenizer optional. */
graft_status model_open(graft_runtime *runtime, const char *path,
                        const struct model_options *options, struct model **out,
                        graft_error *error);
void model_close(struct model **model);

/* ---- its files (files.c) ---- */

/* What a Hugging Face directory may hold beside weights and config.json; NULL-terminated. */
extern const char *const MODEL_SIDE_FILES[];
/* The path of a file beside the model's weights, there or not; NULL: no memory. */
char *model_file_beside(const struct model *model, const char *name);
/* IO when `out` is one of the files that the model is made of, under whatever name: what is read is not written over. */
graft_status model_refuse_output(const struct model *model, const char *out, graft_error *error);

/* What "auto" makes of a tensor of a model that is not packed: the bytes of its packed rows; 0: it stays as it
 * is. */
size_t model_packed_bytes(const struct model *model, const struct tensor_info *tensor);
/* SHA-256 of what a pass computes with, as far as can be said quickly: all norms and biases, the angles of positions, the
 * types of the weights and one row of each. Equal for a model however it was opened (packed, mapped, on whatever tier), another
 * one for every other file, fine-tuned, quantised or fused. NO_MEMORY. */
graft_status model_digest(const struct model *model, uint8_t out[32], graft_error *error);
/* Weights of all kinds; a head that is the embedding counts once. */
uint64_t model_parameters(const struct model *model);

/* The configuration alone, without weights, from an HF config.json or GGUF metadata. Pure parsers. */
graft_status config_parse_hf(struct config *out, struct arena *arena, const json_t *json,
                             graft_error *error);
graft_status config_parse_gguf(struct config *out, struct arena *arena, const struct gguf *g,
                               graft_error *error);
/* Angle per position of each rotation plane, scaling applied: freq is [d_head / 2], *mscale multiplies
 * cos and sin (1 but for YARN). A model divides further by the tensor rope_freqs.weight of a GGUF. */
void config_rope_frequencies(const struct config *config, double *freq, double *mscale);
/* Where a name such as "org/name" lives in the local Hugging Face cache (HF_HUB_CACHE, HF_HOME,
 * XDG_CACHE_HOME, ~/.cache/huggingface/hub); NOT_FOUND tells how to download it. An existing path is
 * returned as it is. */
graft_status model_resolve(struct mem *mem, const char *name, char **path, graft_error *error);

/* What Hugging Face gives a chat template besides the messages, where `variables` (an object) has no member of
 * that name: tools and documents (none), add_generation_prompt (false), the special tokens of `t` (may be NULL).
 * NO_MEMORY. */
graft_status chat_fill_variables(const struct tokenizer *t, json_t *variables, graft_error *error);

/* ---- KV cache ----------------------------------------------------------------------------- */

/* Keys and values live in blocks of KV_BLOCK positions × all layers × n_kv heads. A pool owns the blocks
 * and hands them to sequences; blocks are reference counted, so that sequences may share a prefix.
 * Layout of one block: for each layer, for each KV head, K [KV_BLOCK, kv_head_bytes], then V likewise.
 * A sequence belongs to one thread at a time; sequences of one pool may belong to several. */
struct kv_pool;
struct kv_pool_options {
    enum kv_type k_type, v_type;
    int64_t max_blocks; /* LIMIT past it */
};
graft_status kv_pool_open(const struct model *model, const struct kv_pool_options *options,
                          struct kv_pool **out, graft_error *error);
/* One more owner, who closes it too. Any thread. */
struct kv_pool *kv_pool_retain(struct kv_pool *pool);
/* The owner's sequences must be closed; the last owner's close frees the blocks. */
void kv_pool_close(struct kv_pool **pool);
size_t kv_pool_block_bytes(const struct kv_pool *pool);
int64_t kv_pool_blocks_used(const struct kv_pool *pool);
int64_t kv_pool_blocks_free(const struct kv_pool *pool); /* of max_blocks */
void kv_pool_allow(struct kv_pool *pool,
                   int64_t more_blocks); /* beyond max_blocks; negative: fewer */

struct kv_seq; /* a block table: the positions 0..length-1 of one timeline */
graft_status kv_seq_open(struct kv_pool *pool, struct kv_seq **out, graft_error *error);
void kv_seq_close(struct kv_seq **seq);
int64_t kv_seq_length(const struct kv_seq *seq);
/* Forget positions ≥ length; blocks no longer needed go back to the pool. */
void kv_seq_trim(struct kv_seq *seq, int64_t length);
/* Make room for positions < length (LIMIT when the pool is full). A shared last block is copied before
 * it is written. */
graft_status kv_seq_reserve(struct kv_seq *seq, int64_t length, graft_error *error);
/* A new sequence that shares the blocks of another. */
graft_status kv_seq_fork(const struct kv_seq *seq, struct kv_seq **out, graft_error *error);
/* A new sequence of `length` positions in blocks of its own, which are copies of the whole blocks of `seq`
 * (at least one) over and over: for measurements, where what is read counts and not what it means. */
graft_status kv_seq_repeat(const struct kv_seq *seq, int64_t length, struct kv_seq **out,
                           graft_error *error);

/* Blocks may be held by others than sequences, so that a prefix outlives the sequence that computed it. A block
 * that somebody holds is never written again. */
struct kv_block;
/* Block `index` of a sequence, all of whose positions are below its length, with one more holder. */
struct kv_block *kv_seq_hold(const struct kv_seq *seq, int64_t index);
void kv_block_let_go(struct kv_pool *pool, struct kv_block *block);
/* Whether its only holder is the caller. */
bool kv_block_is_lone(const struct kv_pool *pool, const struct kv_block *block);
/* Appends a whole block of the same pool to a sequence whose length is a multiple of KV_BLOCK and which has no
 * room reserved beyond it: it is KV_BLOCK longer then, and one more holder. NO_MEMORY. */
graft_status kv_seq_append(struct kv_seq *seq, struct kv_block *block, graft_error *error);

/* ---- keys and values as bytes (kv_copy.c) ----
 * What n positions hold: for each layer and KV head the keys of all n, then the values. */
size_t kv_seq_position_bytes(const struct kv_seq *seq);
/* Of the first n positions (at most KV_BLOCK, all below the length) of block `index`. */
void kv_seq_read(const struct kv_seq *seq, int64_t index, int n, uint8_t *out);
/* Appends n positions (1 to KV_BLOCK) to a sequence whose length is a multiple of KV_BLOCK. Errors of kv_seq_reserve. Any bytes
 * are keys and values: what they say is for who wrote them to know. */
graft_status kv_seq_write(struct kv_seq *seq, int n, const uint8_t *bytes, graft_error *error);

/* ---- low-rank deltas ---------------------------------------------------------------------- */

/* A site is a linear layer that a delta can be added to: the linears of the blocks, then the head (of a
 * classifier: the score head). */
int model_n_sites(const struct model *model);
int model_site(int layer, enum linear_id id);
int model_head_site(const struct model *model);
const struct matrix *model_site_weight(const struct model *model, int site); /* [n_out, n_in] */

/* What an adapter does at one site, as whoever opened it holds it. With g = gain (1 where NULL), a member
 * of weight w adds
 *   w · [(g − 1) ⊙ (W x) + g ⊙ scale · (B (A x) + bias)]
 * so DoRA is g = m / ‖W + scale · B A‖. The bias of W itself is not rescaled. */
struct lowrank {
    struct matrix a;   /* [rank, n_in], of a type with kernels_have_factor */
    struct matrix b;   /* B [n_out, rank] in the tiles of kernels.h: lowrank_pack_b */
    float scale;       /* alpha / rank, or what the format says */
    const float *gain; /* [n_out] or NULL */
    const float *bias; /* [n_out] or NULL */
};

/* The norms of a model: four in each block, then the final one. */
enum norm_id { NORM_ATTN, NORM_MLP, NORM_Q, NORM_K, NORM_COUNT };
int model_n_norms(const struct model *model);
int model_norm(int layer, enum norm_id id);
int model_final_norm(const struct model *model);
const float *model_norm_weight(const struct model *model, int norm); /* NULL: there is none */
int64_t model_norm_width(const struct model *model, int norm);

/* What an adapter does to modules that are no linears; any of it may be NULL. A module that it holds whole counts
 * as its difference to the base's: a member of weight w adds w · (own − base). With e the embedding of a token t,
 * a low-rank one adds, with g = gain ⊙ token_gain[t],
 *   w · [(g − 1) ⊙ e + g ⊙ scale · (B a_t)]
 * An embedding that is also the head is changed here as embedding only: the head has a site of its own. */
struct module_changes {
    const float *const *norms;  /* [model_n_norms] whole weights; NULL: the base's */
    const struct matrix *embed; /* whole, F32, F16 or BF16 as is */
    const struct matrix *head;  /* the head */
    const struct lowrank
        *lowrank; /* of the embedding: a [n_vocab, rank], of rank 2 · d_model at most; b the
                                      tiles of B [d_model, rank]; gain [d_model]; no bias */
    const float *token_gain; /* [n_vocab], of that; NULL: 1 */
};

/* A mix: adapters with weights, laid out for the forward pass. Immutable; it borrows the lowranks, which
 * must outlive it, and costs a few bytes for each of them. Members are applied in the order given; one
 * of weight 0 is left out. */
struct delta_member {
    const struct lowrank *const *lowranks; /* [model_n_sites]; NULL: none at that site */
    float weight;
    const struct module_changes *modules; /* NULL: none */
};
struct delta_set;
/* SHAPE, with both shapes, where a factor does not fit its site; UNSUPPORTED for a type that cannot be a
 * factor; INVALID_ARGUMENT for a weight or scale that is not finite. */
graft_status delta_set_open(const struct model *model, const struct delta_member *members,
                            int n_members, struct delta_set **out, graft_error *error);
void delta_set_close(struct delta_set **set);

/* ---- forward ------------------------------------------------------------------------------ */

struct row {
    graft_token_id token;
    int32_t pos; /* rows of a sequence come in ascending order, the first at
                                          kv_seq_length, without gaps */
    struct kv_seq *seq;
    enum role role;
    bool want_logits;               /* or the class scores of a classifier */
    bool want_hidden;               /* the final, normed state [d_model] */
    const struct delta_set *deltas; /* its mix, of this model; NULL: the base model */
};

/* Scratch for up to max_rows rows, sized at open: a forward pass allocates nothing but KV blocks, and room
 * for the inner products of deltas when rows bring more ranks than any pass before, unless that was reserved. */
struct workspace;
graft_status workspace_open(const struct model *model, int max_rows, struct workspace **out,
                            graft_error *error);
void workspace_close(struct workspace **ws);
/* Makes that room for one row with these deltas (NULL: needs none). After a failure a pass looks for it again. */
graft_status workspace_reserve(struct workspace *ws, const struct delta_set *deltas,
                               graft_error *error);
int workspace_max_rows(const struct workspace *ws);

/* Runs the rows. On success each sequence has grown by its rows; on failure none has. Logits of row i
 * that asked are at workspace_logits(ws, i) [n_vocab] (classifier: [n_labels]), hidden states likewise, valid until the next
 * call. NaN in wanted logits is NUMERIC. Results of a row do not depend on the other rows (see
 * kernels.h). Uses the runtime's pool; calls on one runtime are served one after the other. */
graft_status model_forward(const struct model *model, const struct row *rows, int n_rows,
                           struct workspace *ws, graft_error *error);
const float *workspace_logits(const struct workspace *ws, int row); /* NULL: not asked for */
const float *workspace_hidden(const struct workspace *ws, int row);
int model_n_logits(const struct model *model); /* n_vocab or n_labels */

#endif
