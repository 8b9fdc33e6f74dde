/* convert_internal.h: shared by the files of convert/.
 *
 * A plan is the list of tensors to write, in order, each with its source in the open model and the
 * type that the recipe gave it. Writers for the two containers walk the plan.
 */
#ifndef GRAFT_CONVERT_INTERNAL_H
#define GRAFT_CONVERT_INTERNAL_H

#include "model/arch/arch.h"
#include "model/bake/bake.h"
#include "model/convert/convert.h"

enum { MODULE_NAME_MAX = 160, MLX_GROUP = 64 };

static inline bool type_is_mlx(graft_type type)
{
    return type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8;
}

/* Where a GGUF keeps Llama 3's scaling: one divisor of the plain frequency per plane. */
#define ROPE_FACTORS "rope_freqs.weight"

/* One tensor to write. Either a matrix or a vector of floats. */
struct item {
    char name[MODULE_NAME_MAX];
    graft_type type;
    const struct matrix *matrix;
    const float *vector;
    int64_t n;                  /* values of a vector */
    int n_head_rows;            /* > 0: the rows of so many heads change between RoPE orders */
    struct fuse_record *record; /* of a matrix that a mix changes, else NULL */
};

struct plan {
    struct mem *mem;
    struct item *items;
    size_t count, capacity;
    uint64_t bytes; /* of all that will be written */
};

struct conversion {
    graft_runtime *runtime;
    struct model *model;
    enum naming naming;    /* of the output */
    const char *type_name; /* as the caller wrote it */
    const struct recipe *recipe;
    const graft_convert_options *options;
    const char *out;
    struct config config; /* of the output: a mix may untie the head and add biases */
    struct convert_fuse *fuse;
    struct arena arena; /* biases of a mix */
    struct plan plan;
    float *rope_factors;              /* [d_head / 2] to write as rope_freqs.weight, or NULL */
    uint64_t bytes_done, bytes_total; /* for progress */
};

/* All of the output is at `path`, and not yet where it belongs. */
graft_status conversion_written(const struct conversion *c, const char *path, graft_error *error);

/* ---- plan.c ---- */

graft_status plan_build(struct conversion *c, graft_error *error);
/* One more item, all zero. */
graft_status plan_add(struct plan *plan, struct item **out, graft_error *error);
void plan_free(struct plan *plan);

/* ---- rows.c: the data of one item, in order ---- */

/* Encoded rows lie in one piece of memory; an MLX type has its scales and biases behind all codes. */
size_t store_bytes(graft_type type, int64_t n_rows, int64_t n_in);
struct matrix store_at(graft_type type, int64_t n_rows, int64_t n_in, void *bytes);
/* Row `at` of it becomes x [n_in]; false: a value does not fit the type. */
bool store_row(const struct matrix *to, int64_t at, const float *x);
/* Columns first..first+n of it, whole blocks. */
bool store_part(const struct matrix *to, int64_t at, int64_t first, int64_t n, const float *x);

/* `file` NULL: fills the item's record and writes nothing. */
graft_status item_write(struct conversion *c, const struct item *item, struct file_writer *file,
                        graft_error *error);

/* A matrix into memory of store_bytes in place of a file. */
graft_status item_make(struct conversion *c, const struct item *item, uint8_t *memory,
                       graft_error *error);

/* ---- fused.c ---- */

/* What the mix does to the configuration: whether the head is tied, and which linears have biases. UNSUPPORTED
 * where the output cannot hold that. */
graft_status fused_config(struct conversion *c, graft_error *error);
/* UNSUPPORTED, with the module's name, where the output as it will be read has biases at other linears than those
 * that the mix needs. */
graft_status fused_check_biases(const struct conversion *c, unsigned readable, graft_error *error);
/* The vectors as they are under the mix, borrowed from it or from the arena; *out NULL: there is none. */
graft_status fused_bias(struct conversion *c, int layer, int id, const float **out,
                        graft_error *error);
const float *fused_norm(const struct conversion *c, int norm);
/* Gives the item a record when the mix changes its place. */
graft_status fused_note(struct conversion *c, struct item *item, int place, graft_error *error);
/* Measures what is quantised below 8 bits, and turns to 8 where too little would be left. */
graft_status fused_choose_types(struct conversion *c, graft_error *error);

/* The rows of one item under the mix. */
struct fused;
graft_status fused_open(struct conversion *c, const struct item *item, struct fused **out,
                        graft_error *error);
void fused_close(struct fused **fused);
/* Row `row` of the base, changed, into row `at` of `to`, which has the item's type; false: it does not fit the
 * type. Each worker by itself. */
bool fused_row(struct fused *f, int worker, int64_t row, const struct matrix *to, int64_t at);
/* Row of W' as floats, for messages. */
const float *fused_values(struct fused *f, int64_t row);
/* All rows are done: sums them up in the record, and hands on what was lost. */
graft_status fused_finish(struct fused *f, bool lost, graft_error *error);

/* ---- compensate.c ---- */

/* Rounding with feedback, for rows of ΔW in the span of a basis. */
struct compensation;
/* `to`: as rows will be stored. basis [rank, n_in]. */
graft_status compensation_open(struct mem *mem, const float *basis, int64_t rank,
                               const struct matrix *to, struct compensation **out,
                               graft_error *error);
void compensation_close(struct compensation **compensation);
size_t compensation_scratch(const struct compensation *c); /* bytes for each worker */
/* Row `at` of `to` becomes x [n_in]; false as quantize_row. */
bool compensation_row(const struct compensation *c, const struct kernels *kernels, const float *x,
                      const struct matrix *to, int64_t at, void *scratch);

/* ---- the containers ---- */

/* Says no, with the reason, to what a GGUF has no words for. */
graft_status gguf_check_expressible(const struct conversion *c, graft_error *error);
graft_status convert_to_gguf(struct conversion *c, graft_error *error);
graft_status convert_to_hf(struct conversion *c, graft_error *error);

/* config_write.c: config.json of an HF directory; the caller releases it. The source's own file with
 * another torch_dtype where there is one. */
graft_status config_write_json(const struct conversion *c, json_t **out, graft_error *error);

#endif
