/* import.c: adapters of any format as drafts.
 *
 * The adapter is opened on the model first, which makes every check there is; what is read here are the values as
 * they are stored, not as they are held.
 */
#include "adapter/save/save_internal.h"

/* ---- values ------------------------------------------------------------------------------- */

static struct matrix stored(const struct tensor_info *t)
{
    struct matrix m = {.type = t->type,
                       .n_out = t->n_dims == 2 ? t->shape[0] : 1,
                       .n_in = t->shape[t->n_dims - 1],
                       .data = t->data};
    (void)type_row_bytes(t->type, m.n_in, &m.row_bytes);
    return m;
}

/* Row of the file that is row `row` of the draft: q and k of some GGUFs. */
static int64_t row_in_file(const struct import *from, const struct draft_module *m, int64_t row)
{
    const struct config *c = &from->model->config;
    bool rope = m->slot == SLOT_LINEAR + LINEAR_Q || m->slot == SLOT_LINEAR + LINEAR_K;
    if (from->spec.format != ADAPTER_GGUF || !c->arch->gguf_interleaved || !rope)
        return row;
    int64_t in = row % c->d_head, half = c->d_head / 2;
    return row - in + in % half * 2 + in / half;
}

static const struct tensor_info *part_of(const struct import *from, const struct draft_module *m,
                                         enum part part)
{
    const bool named = m->slot == SLOT_EMBED && from->spec.format != ADAPTER_MLX;
    if (named && part == PART_A)
        return m->source->parts[PART_EMBED_A];
    return m->source->parts[named && part == PART_B ? PART_EMBED_B : part];
}

/* Do rows of the file's A run along what comes in, not along the ranks? */
static bool a_is_turned(const struct import *from, const struct draft_module *m)
{
    return from->spec.format == ADAPTER_MLX ||
           (from->spec.format == ADAPTER_GGUF && m->slot == SLOT_EMBED);
}

static graft_status read_stored(const struct draft *draft, int i, enum part part, float *out,
                                graft_error *error)
{
    const struct import *from = draft->source;
    const struct draft_module *m = &draft->modules[i];
    const struct matrix w = stored(part_of(from, m, part));
    const struct kernels *k = from->model->runtime->kernels;
    const int64_t n = type_traits(w.type)->block_values;
    float block[LOWRANK_TILE];
    const bool factor =
        part == PART_A || part == PART_B || (part == PART_WEIGHT && !module_is_norm(m));
    (void)error;
    const bool turned = (part == PART_A && a_is_turned(from, m)) ||
                        (part == PART_B && from->spec.format == ADAPTER_MLX) ||
                        (part == PART_B && from->spec.quantised && w.n_in == m->n_out &&
                         type_traits(w.type)->block_values > 1);
    if (!factor) {
        k->dequantize[w.type](&w, 0, 0, m->n_out, out);
    } else if (!turned) {
        for (int64_t row = 0; row < w.n_out; row++)
            k->dequantize[w.type](&w, part == PART_B ? row_in_file(from, m, row) : row, 0, w.n_in,
                                  out + row * w.n_in);
    } else {
        for (int64_t row = 0; row < w.n_out; row++)
            for (int64_t column = 0; column < w.n_in; column += n) {
                k->dequantize[w.type](&w, row, column, n, block);
                for (int64_t j = 0; j < n; j++)
                    out[(column + j) * w.n_out + row] = block[j];
            }
    }
    return GRAFT_OK;
}

/* ---- modules ------------------------------------------------------------------------------ */

/* What there is no word for in a draft. */
static graft_status refuse_ties(const struct import *from, const struct module *m, int slot,
                                graft_error *error)
{
    const bool tied = from->model->config.tied, mlx = from->spec.format == ADAPTER_MLX;
    const char *what = NULL;
    if (slot == SLOT_EMBED && mlx && m->parts[PART_A] && (tied || m->parts[PART_MAGNITUDE]))
        what = "has factors of an embedding as MLX means them";
    else if (slot == SLOT_EMBED && m->parts[PART_WEIGHT] && tied &&
             !spec_is_saved(&from->spec, m->name))
        what = "is the tied embedding, which modules_to_save does not name";
    else if (m->parts[PART_WEIGHT] && (m->parts[PART_A] || m->parts[PART_EMBED_A]))
        what = "is saved whole and has factors";
    if (!what)
        return GRAFT_OK;
    return error_set(error, GRAFT_UNSUPPORTED,
                     "%s %s, which conversions and training do not carry: fuse the adapter into "
                     "the model, or leave it in its format",
                     m->name, what);
}

static struct draft_module whole_module(const struct model *model, int slot, int layer)
{
    struct draft_module m = {.slot = slot, .layer = layer, .whole = true, .n_in = 1};
    if (module_is_norm(&m)) {
        m.n_out = model_norm_width(model, slot_norm(model, slot, layer));
    } else {
        m.n_in = slot_weight(model, slot, layer)->n_in;
        m.n_out = slot_weight(model, slot, layer)->n_out;
    }
    return m;
}

/* An embedding is a table: its factors go from tokens to its width. */
static struct draft_module lowrank_module(const struct import *from, const struct module *m,
                                          int slot, int layer)
{
    const struct matrix *w = slot_weight(from->model, slot, layer);
    const bool embedding = slot == SLOT_EMBED;
    struct draft_module out = {.slot = slot,
                               .layer = layer,
                               .n_in = embedding ? w->n_out : w->n_in,
                               .n_out = embedding ? w->n_in : w->n_out,
                               .dora = m->parts[PART_MAGNITUDE] != NULL,
                               .biased = m->parts[PART_LORA_BIAS] != NULL,
                               .source = m};
    out.rank = part_of(from, &out, PART_A)->shape[a_is_turned(from, &out)];
    return out;
}

static graft_status add_module(struct import *from, const struct directory *d,
                               const struct module *m, graft_error *error)
{
    const struct model *model = from->model;
    const int32_t at = str_map_get(&d->index, m->name, strlen(m->name));
    if (at < 0)
        return error_set(error, GRAFT_INTERNAL, "%s was there a moment ago", m->name);
    const int slot = at / model->config.n_layer, layer = at % model->config.n_layer;
    graft_status status = refuse_ties(from, m, slot, error);
    if (status != GRAFT_OK)
        return status;
    struct draft_module out = m->parts[PART_WEIGHT] ? whole_module(model, slot, layer)
                                                    : lowrank_module(from, m, slot, layer);
    out.source = m;
    if (!out.whole)
        status = spec_scale(&from->spec, m->name, out.rank, &out.scale, error);
    if (status == GRAFT_OK)
        from->draft.modules[from->draft.n_modules++] = out;
    return status;
}

static graft_status add_modules(struct import *from, graft_error *error)
{
    struct directory d;
    struct mem *mem = &from->model->runtime->mem;
    from->draft.modules = mem_calloc(mem, from->spec.n_modules, sizeof *from->draft.modules);
    if (!from->draft.modules)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu modules", from->spec.n_modules);
    graft_status status = directory_open(&d, from->model, from->spec.format == ADAPTER_GGUF, error);
    if (status != GRAFT_OK)
        return status;
    for (size_t i = 0; i < from->spec.n_modules && status == GRAFT_OK; i++)
        status = add_module(from, &d, &from->spec.modules[i], error);
    directory_close(&d);
    draft_sort(&from->draft);
    return status;
}

/* ---- whole -------------------------------------------------------------------------------- */

static double stored_dropout(const struct source *source)
{
    const json_t *value = json_object_get(source->config, "lora_dropout");
    if (!value)
        value = json_object_get(json_object_get(source->config, "lora_parameters"), "dropout");
    double dropout = json_number_value(value);
    return dropout >= 0 && dropout < 1 ? dropout : 0;
}

/* "name" of "a/path/name.gguf" or "a/path/name/". */
static void name_of(const char *path, char out[NAME_SIZE])
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    size_t n = end - begin < NAME_SIZE - 1 ? end - begin : NAME_SIZE - 1;
    memcpy(out, path + begin, n);
    out[n] = '\0';
    char *dot = strrchr(out, '.');
    if (dot && (!strcmp(dot, ".gguf") || !strcmp(dot, ".safetensors")))
        *dot = '\0';
}

static graft_status describe(struct import *from, const char *path, graft_error *error)
{
    struct draft *draft = &from->draft;
    char name[NAME_SIZE];
    name_of(path, name);
    draft->model = from->model;
    draft_set_base(draft, from->spec.base);
    draft->dropout = stored_dropout(&from->source);
    draft->rslora = from->spec.rslora;
    draft->inference = true;
    draft->read = read_stored;
    draft->source = from;
    const struct draft_module *first = draft_lowrank(draft);
    draft->type =
        part_of(from, first ? first : &draft->modules[0], first ? PART_A : PART_WEIGHT)->type;
    if (type_traits(draft->type)->block_values > 1)
        draft->type = GRAFT_TYPE_BF16;
    return card_update(from->model, from->source.card, name, draft->base, &draft->card, error);
}

graft_status import_open(struct import *from, const char *path,
                         const struct adapter_options *options, graft_error *error)
{
    struct mem *mem = &from->model->runtime->mem;
    graft_status status = adapter_open(from->model, path, options, &from->adapter, error);
    if (status == GRAFT_OK)
        status = source_open(&from->source, mem, path, error);
    if (status == GRAFT_OK)
        status = source_parse(&from->source, options, &from->spec, error);
    if (status == GRAFT_OK)
        status = add_modules(from, error);
    return status == GRAFT_OK ? describe(from, path, error) : status;
}

void import_close(struct import *from)
{
    json_decref(from->draft.card);
    mem_free(&from->model->runtime->mem, from->draft.modules);
    spec_free(&from->spec);
    source_close(&from->source);
    adapter_release(&from->adapter);
}

graft_status import_refuse_output(const struct import *from, const char *out, graft_error *error)
{
    graft_status status = model_refuse_output(from->model, out, error);
    return status == GRAFT_OK ? source_refuse_output(&from->source, out, error) : status;
}

graft_status adapter_convert(const struct model *model, const char *in, const char *out,
                             const struct save_options *options, graft_error *error)
{
    const struct adapter_options how = {.rescale = options->rescale, .scale = options->scale};
    struct import from = {.model = model};
    graft_status status = import_open(&from, in, &how, error);
    from.draft.progress = options->progress;
    if (status == GRAFT_OK)
        status = import_refuse_output(&from, out, error);
    if (status == GRAFT_OK)
        status = write_adapter(&from.draft, out, options, error);
    import_close(&from);
    return status;
}
