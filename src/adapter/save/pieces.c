/* pieces.c: the tensors of an output: values read, scaled, filled up, transposed, brought into the order of rows and
 * into the type that the format wants.
 */
#include "adapter/save/save_internal.h"

#include <math.h>

enum { MAX_PARTS = 4 }; /* of a module */

graft_status pieces_open(struct pieces *out, const struct draft *draft,
                         const struct save_options *options, graft_error *error)
{
    struct pieces p = {.mem = &draft->model->runtime->mem};
    p.type = options->retype && !draft->blocks ? options->type : draft->type;
    if (p.type != GRAFT_TYPE_F32 && p.type != GRAFT_TYPE_F16 && p.type != GRAFT_TYPE_BF16)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "factors are written as f32, f16 or bf16, not %s",
                         graft_type_name(p.type));
    p.items = mem_calloc(p.mem, (size_t)draft->n_modules * MAX_PARTS + 1, sizeof *p.items);
    if (!p.items)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %d modules", draft->n_modules);
    *out = p;
    return GRAFT_OK;
}

void pieces_free(struct pieces *pieces)
{
    mem_free(pieces->mem, pieces->items);
    *pieces = (struct pieces){0};
}

/* Factors, and weights that are held whole but for norms. */
static bool is_matrix(const struct piece *p, const struct draft *draft)
{
    return p->part == PART_A || p->part == PART_B ||
           (p->part == PART_WEIGHT && !module_is_norm(&draft->modules[p->module]));
}

void pieces_add(struct pieces *pieces, const struct draft *draft, const struct piece *piece)
{
    const struct draft_module *m = &draft->modules[piece->module];
    struct piece *p = &pieces->items[pieces->n++];
    *p = *piece;
    p->rows = 1;
    p->columns = m->n_out;
    if (p->part == PART_A || p->part == PART_B) {
        int64_t rows = p->part == PART_A ? p->rank : m->n_out;
        int64_t columns = p->part == PART_A ? m->n_in : p->rank;
        p->rows = p->turned ? columns : rows;
        p->columns = p->turned ? rows : columns;
    } else if (is_matrix(p, draft)) {
        p->rows = m->n_out;
        p->columns = m->n_in;
    }
    p->matrix = is_matrix(p, draft);
}

static void declare(struct piece *p, graft_type type)
{
    p->decl = (struct tensor_decl){
        .name = p->name, .type = type, .n_dims = p->matrix ? 2 : 1, .shape = {p->columns}};
    if (p->matrix) {
        p->decl.shape[0] = p->rows;
        p->decl.shape[1] = p->columns;
    }
    p->type = p->own_type ? *p->own_type : type;
    p->decl.type = p->type;
    if (type_traits(p->type)->block_values > 1) {
        size_t bytes = 0;
        (void)type_row_bytes(p->type, p->columns, &bytes);
        p->decl.type = GRAFT_TYPE_U8;
        p->decl.shape[1] = (int64_t)bytes;
    }
}

static bool is_power_of_two(double x)
{
    int exponent;
    return x == 0 || fabs(frexp(x, &exponent)) == 0.5;
}

void pieces_settle(struct pieces *pieces, const struct save_options *options)
{
    for (size_t i = 0; i < pieces->n && !options->retype; i++)
        if (!is_power_of_two(pieces->items[i].factor))
            pieces->type = GRAFT_TYPE_F32;
    for (size_t i = 0; i < pieces->n; i++)
        declare(&pieces->items[i], pieces->type);
}

/* ---- values ------------------------------------------------------------------------------- */

static size_t piece_values(const struct piece *p)
{
    return (size_t)p->rows * (size_t)p->columns;
}

/* Row of the draft that becomes row `row` of the piece. */
static int64_t row_from(const struct piece *p, int d_head, int64_t row)
{
    if (!p->interleaved)
        return row;
    int64_t in = row % d_head;
    return row - in + in % 2 * (d_head / 2) + in / 2;
}

static void transform(const struct piece *p, const struct draft *draft, const float *in, float *out)
{
    const struct draft_module *m = &draft->modules[p->module];
    const bool a = p->part == PART_A, b = p->part == PART_B;
    int64_t rows = a ? m->rank : m->n_out, columns = b ? m->rank : p->matrix ? m->n_in : 1;
    int64_t stride = p->matrix ? p->columns : 1;
    memset(out, 0, piece_values(p) * sizeof *out);
    for (int64_t row = 0; row < rows; row++) {
        const float *from = in + row_from(p, draft->model->config.d_head, row) * columns;
        for (int64_t column = 0; column < columns; column++) {
            float value = (float)(p->factor * (double)from[column]);
            out[p->turned ? column * stride + row : row * stride + column] = value;
        }
    }
}

static float type_limit(graft_type type)
{
    if (type == GRAFT_TYPE_F32)
        return 0x1.fffffep127f;
    return type == GRAFT_TYPE_BF16 ? 0x1.fep127f : 65504.0f;
}

static graft_status check_values(const struct piece *p, const float *x, graft_error *error)
{
    const float limit = type_limit(p->type);
    bool ok = true;
    for (size_t i = 0; i < piece_values(p); i++)
        ok &= fabsf(x[i]) <= limit;
    if (ok)
        return GRAFT_OK;
    error_set(error, GRAFT_NUMERIC, "tensor %.150s: a value is beyond what %s can hold%s", p->name,
              graft_type_name(p->type), p->type == GRAFT_TYPE_F32 ? "" : ": choose bf16 or f32");
    error_at_tensor(error, p->name);
    return GRAFT_NUMERIC;
}

struct space {
    float *in, *out;
    uint8_t *bytes;
};

static size_t piece_bytes(const struct piece *p)
{
    const struct type_traits *traits = type_traits(p->type);
    return piece_values(p) / (size_t)traits->block_values * traits->block_bytes;
}

static graft_status write_one(const struct piece *p, const struct draft *draft,
                              const struct space *space, piece_sink write, void *user,
                              graft_error *error)
{
    graft_status status = draft->read(draft, p->module, p->part, space->in, error);
    if (status != GRAFT_OK)
        return status;
    transform(p, draft, space->in, space->out);
    status = check_values(p, space->out, error);
    if (status != GRAFT_OK)
        return status;
    (void)quantize_row(p->type, space->out, (int64_t)piece_values(p), space->bytes);
    return write(user, space->bytes, piece_bytes(p), error);
}

static graft_status write_all(const struct pieces *pieces, const struct draft *draft,
                              const struct space *space, piece_sink write, void *user,
                              graft_error *error)
{
    const struct save_progress *progress = &draft->progress;
    uint64_t done = 0, total = 0;
    for (size_t i = 0; i < pieces->n; i++)
        total += piece_bytes(&pieces->items[i]);
    for (size_t i = 0; i < pieces->n; i++) {
        graft_status status = write_one(&pieces->items[i], draft, space, write, user, error);
        if (status != GRAFT_OK)
            return status;
        done += piece_bytes(&pieces->items[i]);
        if (progress->step && !progress->step(progress->user, done, total, "writing"))
            return error_set(error, GRAFT_CANCELLED, "cancelled, nothing was written");
    }
    return GRAFT_OK;
}

graft_status pieces_write(const struct pieces *pieces, const struct draft *draft, piece_sink write,
                          void *user, graft_error *error)
{
    size_t most = 1;
    for (size_t i = 0; i < pieces->n; i++)
        most = piece_values(&pieces->items[i]) > most ? piece_values(&pieces->items[i]) : most;
    struct space space = {.in = mem_calloc(pieces->mem, most, sizeof(float)),
                          .out = mem_calloc(pieces->mem, most, sizeof(float)),
                          .bytes = mem_calloc(pieces->mem, most, sizeof(float))};
    graft_status status = space.in && space.out && space.bytes
                              ? GRAFT_OK
                              : error_set(error, GRAFT_NO_MEMORY, "no memory for %zu values", most);
    if (status == GRAFT_OK)
        status = write_all(pieces, draft, &space, write, user, error);
    mem_free(pieces->mem, space.in);
    mem_free(pieces->mem, space.out);
    mem_free(pieces->mem, space.bytes);
    return status;
}

graft_status write_adapter(const struct draft *draft, const char *out,
                           const struct save_options *options, graft_error *error)
{
    switch (options->format) {
    case ADAPTER_PEFT:
        return write_peft(draft, out, options, error);
    case ADAPTER_MLX:
        return write_mlx(draft, out, options, error);
    case ADAPTER_GGUF:
        return write_gguf(draft, out, options, error);
    }
    return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no such format of adapters");
}
