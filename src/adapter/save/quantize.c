/* quantize.c: adapters with factors of 8 or 4 bits, and what that does to each module.
 *
 * The error is of B A, not of A and B: ‖X − Y‖² = ⟨X,X⟩ − 2⟨X,Y⟩ + ⟨Y,Y⟩, and ⟨B A, D C⟩ is the sum over the ranks of
 * (Bᵀ D) ⊙ (A Cᵀ). What is compared was read back from the files.
 */
#include "adapter/save/save_internal.h"

#include <math.h>

struct factors {
    float *a, *b; /* [rank, n_in], [n_out, rank] */
};

static double dot(const float *x, const float *y, int64_t n, int64_t stride_x, int64_t stride_y)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i * stride_x] * (double)y[i * stride_y];
    return sum;
}

static double inner_product(const struct draft_module *m, const struct factors *x,
                            const struct factors *y)
{
    double sum = 0;
    for (int64_t r = 0; r < m->rank; r++)
        for (int64_t s = 0; s < m->rank; s++)
            sum += dot(x->a + r * m->n_in, y->a + s * m->n_in, m->n_in, 1, 1) *
                   dot(x->b + r, y->b + s, m->n_out, m->rank, m->rank);
    return sum;
}

static graft_status read_factors(const struct draft *draft, int i, struct factors *out,
                                 graft_error *error)
{
    const struct draft_module *m = &draft->modules[i];
    struct mem *mem = &draft->model->runtime->mem;
    out->a = mem_calloc(mem, (size_t)(m->rank * m->n_in), sizeof(float));
    out->b = mem_calloc(mem, (size_t)(m->rank * m->n_out), sizeof(float));
    if (!out->a || !out->b)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to compare factors");
    graft_status status = draft->read(draft, i, PART_A, out->a, error);
    return status == GRAFT_OK ? draft->read(draft, i, PART_B, out->b, error) : status;
}

/* 0 where the change is 0 before and after. */
static graft_status compare_one(const struct draft *before, const struct draft *after, int i,
                                double *out, graft_error *error)
{
    struct mem *mem = &before->model->runtime->mem;
    struct factors x = {0}, y = {0};
    graft_status status = read_factors(before, i, &x, error);
    if (status == GRAFT_OK)
        status = read_factors(after, i, &y, error);
    if (status == GRAFT_OK) {
        const struct draft_module *m = &before->modules[i];
        double xx = inner_product(m, &x, &x), yy = inner_product(m, &y, &y);
        double square = xx - 2 * inner_product(m, &x, &y) + yy;
        *out = xx > 0 ? sqrt(fmax(square, 0) / xx) : yy > 0 ? 1 : 0;
    }
    mem_free(mem, x.a);
    mem_free(mem, x.b);
    mem_free(mem, y.a);
    mem_free(mem, y.b);
    return status;
}

static graft_status compare(const struct draft *before, const struct draft *after, json_t **out,
                            graft_error *error)
{
    json_t *list = json_array();
    graft_status status = before->n_modules == after->n_modules
                              ? GRAFT_OK
                              : error_set(error, GRAFT_INTERNAL, "modules were lost");
    const struct save_progress *progress = &before->progress;
    for (int i = 0; i < before->n_modules && status == GRAFT_OK; i++) {
        char name[MODULE_NAME_SIZE];
        double off = 0;
        status = compare_one(before, after, i, &off, error);
        if (draft_name(before, i, NAMING_HF, name))
            json_append(&list, json_pack("{s:s, s:f}", "module", name, "error", off));
        if (status == GRAFT_OK && progress->step &&
            !progress->step(progress->user, (uint64_t)i + 1, (uint64_t)before->n_modules,
                            "comparing"))
            status = error_set(error, GRAFT_CANCELLED,
                               "cancelled: the adapter is written, its errors were not measured");
    }
    if (status == GRAFT_OK && !list)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a list of errors");
    if (status == GRAFT_OK)
        *out = list;
    else
        json_decref(list);
    return status;
}

static graft_status only_linears(const struct draft *draft, graft_error *error)
{
    for (int i = 0; i < draft->n_modules; i++) {
        char name[MODULE_NAME_SIZE];
        if (!module_is_linear(&draft->modules[i]) && draft_name(draft, i, NAMING_HF, name))
            return error_set(error, GRAFT_UNSUPPORTED,
                             "%s %s, and factors of linear layers alone are written in fewer bits: "
                             "leave the adapter as it is",
                             name,
                             draft->modules[i].whole ? "is a whole module"
                                                     : "has factors of an embedding");
    }
    return GRAFT_OK;
}

graft_status adapter_quantize(const struct model *model, const char *in, const char *out,
                              const struct save_options *options, json_t **errors,
                              graft_error *error)
{
    const struct save_options peft = {.format = ADAPTER_PEFT};
    const struct adapter_options how = {.rescale = options->rescale, .scale = options->scale};
    const graft_type type = options->type;
    struct import before = {.model = model}, after = {.model = model};
    if (type != GRAFT_TYPE_Q8_0 && type != GRAFT_TYPE_Q4_0)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "factors are quantised to int8 or q4, not %s", graft_type_name(type));
    graft_status status = import_open(&before, in, &how, error);
    if (status == GRAFT_OK)
        status = only_linears(&before.draft, error);
    before.draft.blocks = &type;
    before.draft.progress = options->progress;
    if (status == GRAFT_OK)
        status = import_refuse_output(&before, out, error);
    if (status == GRAFT_OK)
        status = write_adapter(&before.draft, out, &peft, error);
    if (status == GRAFT_OK)
        status = import_open(&after, out, NULL, error);
    if (status == GRAFT_OK)
        status = compare(&before.draft, &after.draft, errors, error);
    import_close(&before);
    import_close(&after);
    return status;
}
