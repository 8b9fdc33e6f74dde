/* convert_internal.h: shared by the files of convert/.
 *
 * A plan is the list of tensors to write, in order, each with its source in the open model and the
 * type that the recipe gave it. Writers for the two containers walk the plan.
 */
#ifndef GRAFT_CONVERT_INTERNAL_H
#define GRAFT_CONVERT_INTERNAL_H

#include "model/arch/arch.h"
#include "model/convert/convert.h"

enum { MODULE_NAME_MAX = 160 };

/* Where a GGUF keeps Llama 3's scaling: one divisor of the plain frequency per plane. */
#define ROPE_FACTORS "rope_freqs.weight"

/* One tensor to write. Either a matrix or a vector of floats. */
struct item {
    char name[MODULE_NAME_MAX];
    graft_type type;
    const struct matrix *matrix;
    const float *vector;
    int64_t n;       /* values of a vector */
    int n_head_rows; /* > 0: the rows of so many heads change between RoPE orders */
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
    struct plan plan;
    float *rope_factors; /* [d_head / 2] to write as rope_freqs.weight, or NULL */
    uint64_t bytes_done;
};

/* The path of a file beside the source's weights; NULL: no memory. */
char *conversion_source(const struct conversion *c, const char *name);

/* ---- plan.c ---- */

graft_status plan_build(struct conversion *c, graft_error *error);
void plan_free(struct plan *plan);

/* ---- rows.c: the data of one item, in order ---- */

graft_status item_write(struct conversion *c, const struct item *item, struct file_writer *file,
                        graft_error *error);

/* ---- the containers ---- */

/* Says no, with the reason, to what a GGUF has no words for. */
graft_status gguf_check_expressible(const struct conversion *c, graft_error *error);
graft_status convert_to_gguf(struct conversion *c, graft_error *error);
graft_status convert_to_hf(struct conversion *c, graft_error *error);

/* config_write.c: config.json of an HF directory; the caller releases it. The source's own file with
 * another torch_dtype where there is one. */
graft_status config_write_json(const struct conversion *c, json_t **out, graft_error *error);

#endif
