/* bind.c: the modules of a spec → sites of a model, with every check that a shape or a name allows.
 *
 * What fails here is mostly an adapter for another base, so errors say what the two would have to agree on.
 */
#include "adapter/adapter_internal.h"

#include "model/arch/arch.h"

enum { NAME_SIZE = 160, DIRECTORY_LIMIT = 16 << 20 };

/* ---- directory ---------------------------------------------------------------------------- */

static int slot_layers(const struct model *model, int slot)
{
    return slot < SLOT_ATTN_NORM ? 1 : model->config.n_layer;
}

graft_status directory_open(struct directory *out, const struct model *model, bool gguf,
                            graft_error *error)
{
    struct directory d = {.model = model};
    int n_layer = model->config.n_layer;
    arena_init(&d.arena, &model->runtime->mem, DIRECTORY_LIMIT);
    str_map_init(&d.index, &model->runtime->mem);
    d.names = arena_alloc(&d.arena, (size_t)SLOT_COUNT * (size_t)n_layer * sizeof *d.names);
    bool ok = d.names != NULL;
    for (int slot = 0; slot < SLOT_COUNT && ok; slot++)
        for (int layer = 0; layer < slot_layers(model, slot) && ok; layer++) {
            char name[NAME_SIZE];
            if (!arch_module(model->config.arch, gguf ? NAMING_GGUF : NAMING_HF, slot, layer, name,
                             sizeof name))
                continue;
            size_t length = strlen(name);
            char *copy = arena_strndup(&d.arena, name, length);
            ok = copy && str_map_put(&d.index, copy, length, slot * n_layer + layer, NULL);
            d.names[d.n_names++] = copy;
        }
    if (!ok) {
        directory_close(&d);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the names of %d layers", n_layer);
    }
    *out = d;
    return GRAFT_OK;
}

void directory_close(struct directory *d)
{
    str_map_free(&d->index);
    arena_free(&d->arena);
}

/* ---- checks ------------------------------------------------------------------------------- */

static graft_status wrong_shape(const struct tensor_info *t, int64_t rows, int64_t columns,
                                const char *cause, graft_error *error)
{
    const int64_t want[] = {rows, columns};
    int dims = columns ? 2 : 1;
    char found[96] = "", expected[48];
    size_t used = 0;
    for (int i = 0; i < t->n_dims && i < 4; i++)
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%lld", i ? ", " : "",
                                 (long long)t->shape[i]);
    snprintf(expected, sizeof expected, columns ? "%lld, %lld" : "%lld", (long long)rows,
             (long long)columns);
    graft_status status =
        tensor_refused(t, GRAFT_SHAPE, error, "is [%s], expected [%s]: %s", found, expected, cause);
    error_shapes(error, dims, want, t->n_dims, t->shape);
    return status;
}

static bool is_float(graft_type type)
{
    return type == GRAFT_TYPE_F32 || type == GRAFT_TYPE_F16 || type == GRAFT_TYPE_BF16;
}

static graft_status check_type(const struct tensor_info *t, bool float_only, graft_error *error)
{
    bool mlx = t->type == GRAFT_TYPE_MLX4 || t->type == GRAFT_TYPE_MLX8;
    if (is_float(t->type) || (!float_only && !mlx && kernels_have_type(t->type)))
        return GRAFT_OK;
    return tensor_refused(t, GRAFT_UNSUPPORTED, error, "it is of type %s, which is none for this",
                          graft_type_name(t->type));
}

static graft_status wrong_factor(const struct tensor_info *t, bool rank_first, int64_t rank,
                                 int64_t n, const char *cause, graft_error *error)
{
    return wrong_shape(t, rank_first ? rank : n, rank_first ? n : rank, cause, error);
}

static graft_status other_width(const struct tensor_info *t, bool rank_first, int64_t rank,
                                const char *what, int64_t there, int64_t here, graft_error *error)
{
    char cause[128];
    snprintf(cause, sizeof cause, "made for another base: %lld %s there, %lld here",
             (long long)there, what, (long long)here);
    return wrong_factor(t, rank_first, rank, here, cause, error);
}

/* The factors against the shape of what they change and against each other. */
static graft_status check_pair(const struct build *b, graft_error *error)
{
    const struct tensor_info *ta = b->from_a, *tb = b->from_b;
    const bool first_a = b->a_rank_first, first_b = b->b_rank_first;
    if (ta->n_dims != 2)
        return wrong_factor(ta, first_a, b->rank, b->n_in, "a factor is a matrix", error);
    if (tb->n_dims != 2)
        return wrong_factor(tb, first_b, b->rank, b->n_out, "a factor is a matrix", error);
    int64_t in = ta->shape[first_a], rank = ta->shape[!first_a];
    int64_t out = tb->shape[first_b], rank_b = tb->shape[!first_b];
    if (rank == b->n_in && rank_b == b->n_out && in == out && (in != b->n_in || out != b->n_out))
        return wrong_factor(ta, first_a, in, b->n_in,
                            first_b ? "it looks transposed, as PEFT stores it"
                                    : "it looks transposed, as MLX stores it",
                            error);
    if (in != b->n_in)
        return other_width(ta, first_a, rank, b->site == EMBED_SITE ? "tokens" : "inputs", in,
                           b->n_in, error);
    if (out != b->n_out)
        return other_width(tb, first_b, rank, "outputs", out, b->n_out, error);
    if (rank != rank_b)
        return wrong_factor(tb, first_b, rank, b->n_out, "its A is of another rank", error);
    if (rank < 1)
        return tensor_refused(ta, GRAFT_FORMAT, error, "its rank is 0");
    return GRAFT_OK;
}

static graft_status check_vector(const struct tensor_info *t, int64_t n, graft_error *error)
{
    if (!t)
        return GRAFT_OK;
    if (t->n_dims != 1)
        return wrong_shape(t, n, 0, "it should be a vector", error);
    if (t->shape[0] != n)
        return wrong_shape(t, n, 0, "made for another base", error);
    return check_type(t, true, error);
}

/* ---- modules ------------------------------------------------------------------------------ */

static const struct tensor_info *first_part(const struct module *m)
{
    for (int i = 0; i < PART_COUNT; i++)
        if (m->parts[i])
            return m->parts[i];
    return NULL;
}

/* The digits of the block that a name speaks of; NULL: of none. */
static const char *named_block(const char *name)
{
    const char *p = strstr(name, "layers.");
    p = p ? p + 7 : !strncmp(name, "blk.", 4) ? name + 4 : NULL;
    return p && *p >= '0' && *p <= '9' ? p : NULL;
}

static graft_status no_such_module(const struct model *model, const struct module *m,
                                   graft_error *error)
{
    const char *block = named_block(m->name);
    /* a number beyond every integer is told as it stands; strtoll gives the greatest one for it */
    if (block && strtoll(block, NULL, 10) >= model->config.n_layer)
        return tensor_refused(first_part(m), GRAFT_SHAPE, error,
                              "made for another base: it changes block %.*s, and this one has %d "
                              "(counted from 0)",
                              (int)strspn(block, "0123456789"), block, model->config.n_layer);
    return tensor_refused(first_part(m), GRAFT_UNSUPPORTED, error,
                          "%s (%s) has no module %s: made for another base",
                          model->config.architecture, path_base(model->path), m->name);
}

static graft_type held_type(const struct tensor_info *t, int64_t row,
                            const struct adapter_options *options)
{
    if (!options || !options->retype)
        return kernels_have_factor(t->type) ? t->type : GRAFT_TYPE_F32;
    return row % type_traits(options->type)->block_values ? GRAFT_TYPE_BF16 : options->type;
}

/* GGUFs of some architectures hold q and k rows in another order than all else. */
static enum row_order row_order(const struct model *model, const struct spec *spec, int slot)
{
    bool here = model->config.rope.interleaved;
    bool there = spec->format == ADAPTER_GGUF && model->config.arch->gguf_interleaved;
    if ((slot != SLOT_LINEAR + LINEAR_Q && slot != SLOT_LINEAR + LINEAR_K) || here == there)
        return ROWS_STAY;
    return here ? ROWS_INTERLEAVE : ROWS_HALVES;
}

int64_t source_row(const struct build *b, int64_t row)
{
    if (b->order == ROWS_STAY)
        return row;
    int64_t d = b->d_head, head = row / d, i = row % d;
    if (b->order == ROWS_INTERLEAVE) /* row 2 · plane + part comes from part · d / 2 + plane */
        return head * d + i % 2 * (d / 2) + i / 2;
    return head * d + i % (d / 2) * 2 + i / (d / 2);
}

/* Checks what was filled in, completes it and puts it on the list. */
static graft_status add_build(struct adapter *adapter, const struct spec *spec, struct build *b,
                              const struct adapter_options *options, graft_error *error)
{
    const bool embedding = b->site == EMBED_SITE;
    if (b->from_a->n_dims == 2)
        b->rank = b->from_a->shape[!b->a_rank_first];
    graft_status status = check_pair(b, error);
    if (status == GRAFT_OK)
        status = check_type(b->from_a, b->a_rank_first == embedding, error);
    if (status == GRAFT_OK)
        status = check_type(b->from_b, b->b_rank_first && !spec->quantised, error);
    if (status == GRAFT_OK)
        status = check_vector(b->from_magnitude, b->by_token ? b->n_in : b->n_out, error);
    if (status == GRAFT_OK)
        status = check_vector(b->from_bias, b->n_out, error);
    if (status == GRAFT_OK)
        status = spec_scale(spec, b->module->name, b->rank, &b->scale, error);
    if (status != GRAFT_OK) {
        error_at_tensor(error, b->from_a->name);
        return status;
    }
    b->a = held_type(b->from_a, embedding ? b->rank : b->n_in, options);
    b->b = is_float(b->from_b->type) || b->b_rank_first || (options && options->retype)
               ? held_type(b->from_b, LOWRANK_TILE, options)
               : GRAFT_TYPE_F32; /* blocks of a row of B do not survive the tiles */
    if (b->b_rank_first && !is_float(b->from_b->type) && b->order != ROWS_STAY &&
        !(options && options->retype))
        b->b =
            GRAFT_TYPE_BF16; /* other rows share a block then: no second rounding to so few bits */
    adapter->builds[adapter->n_builds++] = *b;
    return GRAFT_OK;
}

static graft_status bind_linear(struct adapter *adapter, const struct spec *spec,
                                const struct module *m, int slot, int layer,
                                const struct adapter_options *options, graft_error *error)
{
    const struct model *model = adapter->model;
    int site = slot == SLOT_HEAD ? model_head_site(model)
                                 : model_site(layer, (enum linear_id)(slot - SLOT_LINEAR));
    const struct matrix *w = model_site_weight(model, site);
    bool mlx = spec->format == ADAPTER_MLX;
    struct build b = {.module = m,
                      .site = site,
                      .rank = spec->rank,
                      .n_in = w->n_in,
                      .n_out = w->n_out,
                      .order = row_order(model, spec, slot),
                      .d_head = model->config.d_head,
                      .from_a = m->parts[PART_A],
                      .from_b = m->parts[PART_B],
                      .from_magnitude = m->parts[PART_MAGNITUDE],
                      .from_bias = m->parts[PART_LORA_BIAS],
                      .a_rank_first = !mlx,
                      .b_rank_first = mlx};
    b.b_rank_first = mlx || (spec->quantised && !is_float(b.from_b->type));
    return add_build(adapter, spec, &b, options, error);
}

/* MLX changes what embedding and head share, where they do; the others change the embedding alone. */
static graft_status bind_embedding(struct adapter *adapter, const struct spec *spec,
                                   const struct module *m, const struct adapter_options *options,
                                   graft_error *error)
{
    const struct model *model = adapter->model;
    bool mlx = spec->format == ADAPTER_MLX;
    const struct tensor_info *a = m->parts[mlx ? PART_A : PART_EMBED_A];
    const struct tensor_info *tb = m->parts[mlx ? PART_B : PART_EMBED_B];
    struct build b = {.module = m,
                      .site = EMBED_SITE,
                      .rank = spec->rank,
                      .n_in = model->embed.n_out,
                      .n_out = model->embed.n_in,
                      .from_a = a,
                      .from_b = tb,
                      .from_magnitude = m->parts[PART_MAGNITUDE],
                      .a_rank_first = spec->format == ADAPTER_PEFT,
                      .b_rank_first = mlx,
                      .by_token = mlx};
    if (m->parts[PART_LORA_BIAS])
        return tensor_refused(m->parts[PART_LORA_BIAS], GRAFT_UNSUPPORTED, error,
                              "it is a bias of an embedding, which graft does not apply");
    if (a->n_dims == 2 && a->shape[!b.a_rank_first] > 2 * b.n_out)
        return tensor_refused(a, GRAFT_SHAPE, error,
                              "its rank is more than twice the width of the embedding");
    graft_status status = add_build(adapter, spec, &b, options, error);
    if (status != GRAFT_OK || !mlx || !model->config.tied)
        return status;
    b.site = model_head_site(model);
    b.n_in = model->head.n_in;
    b.n_out = model->head.n_out;
    b.from_a = tb;
    b.from_b = a;
    b.a_rank_first = true;
    b.b_rank_first = b.by_token = false;
    return add_build(adapter, spec, &b, options, error);
}

/* ---- whole modules ------------------------------------------------------------------------ */

static int norm_of(const struct model *model, int slot, int layer)
{
    switch (slot) {
    case SLOT_FINAL_NORM:
        return model_final_norm(model);
    case SLOT_ATTN_NORM:
        return model_norm(layer, NORM_ATTN);
    case SLOT_MLP_NORM:
        return model_norm(layer, NORM_MLP);
    case SLOT_Q_NORM:
        return model_norm(layer, NORM_Q);
    case SLOT_K_NORM:
        return model_norm(layer, NORM_K);
    default:
        return -1;
    }
}

/* PEFT saves embedding and head along with an adapter when it trained them, whether or not it says so. */
static graft_status check_saved(const struct spec *spec, const struct module *m, int slot, int norm,
                                graft_error *error)
{
    const struct tensor_info *t = m->parts[PART_WEIGHT];
    bool ends = slot == SLOT_EMBED || slot == SLOT_HEAD;
    if (spec->format == ADAPTER_PEFT && !ends && !spec_is_saved(spec, m->name))
        return tensor_refused(t, GRAFT_FORMAT, error,
                              "it is a whole module that modules_to_save does not name");
    if (!ends && norm < 0)
        return tensor_refused(t, GRAFT_UNSUPPORTED, error,
                              "it is a whole linear layer; graft applies whole norms, embeddings "
                              "and heads: train it by target_modules, or merge the adapter into "
                              "its base (PEFT: merge_and_unload)");
    if (m->parts[PART_MAGNITUDE])
        return tensor_refused(t, GRAFT_UNSUPPORTED, error, "%s is both saved whole and under DoRA",
                              m->name);
    return check_type(t, true, error);
}

static graft_status bind_saved(struct adapter *adapter, const struct spec *spec,
                               const struct module *m, int slot, int layer,
                               const struct adapter_options *options, graft_error *error)
{
    const struct model *model = adapter->model;
    const struct tensor_info *t = m->parts[PART_WEIGHT];
    const struct matrix *w = slot == SLOT_HEAD ? &model->head : &model->embed;
    struct saved s = {.module = m, .norm = norm_of(model, slot, layer)};
    graft_status status = check_saved(spec, m, slot, s.norm, error);
    if (status != GRAFT_OK)
        return status;
    if (s.norm >= 0) {
        s.matrix = (struct matrix){
            .type = GRAFT_TYPE_F32, .n_out = 1, .n_in = model_norm_width(model, s.norm)};
        status = check_vector(t, s.matrix.n_in, error);
    } else {
        graft_type type = options && options->retype ? options->type : t->type;
        s.matrix = (struct matrix){
            .type = is_float(type) ? type : GRAFT_TYPE_BF16, .n_out = w->n_out, .n_in = w->n_in};
        if (t->n_dims != 2 || t->shape[0] != w->n_out || t->shape[1] != w->n_in)
            status = wrong_shape(t, w->n_out, w->n_in, "made for another base", error);
    }
    s.embed = slot == SLOT_EMBED;
    /* an embedding that was saved along is the tied tensor itself */
    s.head = slot == SLOT_HEAD || (s.embed && model->config.tied && !spec_is_saved(spec, m->name));
    if (status == GRAFT_OK)
        adapter->saved[adapter->n_saved++] = s;
    return status;
}

/* A head alone, where it is the embedding, would part the two; readers disagree on what that means. */
static graft_status check_ties(const struct adapter *adapter, graft_error *error)
{
    const struct saved *embed = NULL, *head = NULL;
    for (int i = 0; i < adapter->n_saved; i++) {
        const struct saved *s = &adapter->saved[i];
        embed = s->embed ? s : embed;
        head = s->head && !s->embed ? s : head;
    }
    if (!head || !adapter->model->config.tied)
        return GRAFT_OK;
    if (!embed)
        return tensor_refused(head->module->parts[PART_WEIGHT], GRAFT_UNSUPPORTED, error,
                              "the base ties its head to the embedding, and the adapter saves the "
                              "head only: save embed_tokens, too");
    if (embed->head)
        return tensor_refused(head->module->parts[PART_WEIGHT], GRAFT_FORMAT, error,
                              "the tied embedding is saved beside it, and modules_to_save does not "
                              "name that");
    return GRAFT_OK;
}

/* ---- all ---------------------------------------------------------------------------------- */

static graft_status bind_lowrank(struct adapter *adapter, const struct spec *spec,
                                 const struct module *m, int slot, int layer,
                                 const struct adapter_options *options, graft_error *error)
{
    const struct module_place place = {.name = m->name,
                                       .layer = slot < SLOT_ATTN_NORM ? -1 : layer,
                                       .n_layer = adapter->model->config.n_layer,
                                       .linear = slot >= SLOT_LINEAR};
    bool target = false, embedding = slot == SLOT_EMBED;
    bool as_embedding = m->parts[PART_EMBED_A] != NULL;
    graft_status status = spec_is_target(spec, &place, &target, error);
    if (status != GRAFT_OK)
        return status;
    if (!target)
        return tensor_refused(first_part(m), GRAFT_FORMAT, error,
                              "by its configuration the adapter does not change %s", m->name);
    if (!embedding && slot < SLOT_LINEAR && slot != SLOT_HEAD)
        return tensor_refused(first_part(m), GRAFT_UNSUPPORTED, error,
                              "%s is no linear layer, and no embedding", m->name);
    if (as_embedding != (embedding && spec->format != ADAPTER_MLX))
        return tensor_refused(first_part(m), GRAFT_FORMAT, error, "%s is %s embedding", m->name,
                              embedding ? "an" : "no");
    return embedding ? bind_embedding(adapter, spec, m, options, error)
                     : bind_linear(adapter, spec, m, slot, layer, options, error);
}

static graft_status bind_module(struct adapter *adapter, const struct spec *spec,
                                const struct directory *d, const struct module *m,
                                const struct adapter_options *options, graft_error *error)
{
    int32_t at = str_map_get(&d->index, m->name, strlen(m->name));
    if (at < 0)
        return no_such_module(adapter->model, m, error);
    int slot = at / adapter->model->config.n_layer, layer = at % adapter->model->config.n_layer;
    graft_status status = GRAFT_OK;
    if (m->parts[PART_WEIGHT])
        status = bind_saved(adapter, spec, m, slot, layer, options, error);
    if (status == GRAFT_OK && (m->parts[PART_A] || m->parts[PART_EMBED_A]))
        status = bind_lowrank(adapter, spec, m, slot, layer, options, error);
    return status;
}

/* Modules of the base that the configuration says are saved have to be in the file. */
static graft_status check_all_saved(const struct spec *spec, const struct directory *d,
                                    graft_error *error)
{
    for (size_t i = 0; spec->saved.n && i < d->n_names; i++) {
        const char *name = d->names[i];
        int32_t at = str_map_get(&spec->index, name, strlen(name));
        if (spec_is_saved(spec, name) && (at < 0 || !spec->modules[at].parts[PART_WEIGHT]))
            return error_set(error, GRAFT_FORMAT,
                             "modules_to_save names %s, and the file does not hold it", name);
    }
    return GRAFT_OK;
}

static graft_status check_architecture(const struct model *model, const struct spec *spec,
                                       graft_error *error)
{
    const struct arch *arch = model->config.arch;
    const char *name = arch->gguf ? arch->gguf : arch->model_type;
    if (spec->format != ADAPTER_GGUF || !strcmp(spec->architecture, name))
        return GRAFT_OK;
    return error_set(error, GRAFT_UNSUPPORTED,
                     "made for another base: architecture %s there, %s here", spec->architecture,
                     name);
}

/* One line, however many modules it is about. */
static void tell_zero_scales(const struct adapter *adapter)
{
    const char *first = NULL;
    int n = 0;
    for (int i = 0; i < adapter->n_builds; i++) {
        const struct build *b = &adapter->builds[i];
        n += b->scale == 0;
        first = b->scale == 0 && !first ? b->module->name : first;
    }
    if (n == 1)
        runtime_log(adapter->model->runtime, GRAFT_LOG_WARN,
                    "the scale of %s is 0: the adapter does nothing there", first);
    else if (n > 1)
        runtime_log(adapter->model->runtime, GRAFT_LOG_WARN,
                    "the scale of %d modules of %d is 0, the first is %s: the adapter does "
                    "nothing there",
                    n, adapter->n_builds, first);
}

graft_status bind_modules(struct adapter *adapter, const struct spec *spec,
                          const struct adapter_options *options, graft_error *error)
{
    struct directory d;
    if (options && options->retype && !kernels_have_factor(options->type))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "factors cannot be of type %s",
                         graft_type_name(options->type));
    graft_status status = check_architecture(adapter->model, spec, error);
    if (status != GRAFT_OK)
        return status;
    /* one more: a tied embedding may be two */
    adapter->builds = mem_calloc(adapter->mem, spec->n_modules + 1, sizeof *adapter->builds);
    adapter->saved = mem_calloc(adapter->mem, spec->n_modules + 1, sizeof *adapter->saved);
    if (!adapter->builds || !adapter->saved)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu modules", spec->n_modules);
    status = directory_open(&d, adapter->model, spec->format == ADAPTER_GGUF, error);
    if (status != GRAFT_OK)
        return status;
    for (size_t i = 0; i < spec->n_modules && status == GRAFT_OK; i++)
        status = bind_module(adapter, spec, &d, &spec->modules[i], options, error);
    if (status == GRAFT_OK)
        status = check_ties(adapter, error);
    if (status == GRAFT_OK)
        status = check_all_saved(spec, &d, error);
    if (status == GRAFT_OK)
        tell_zero_scales(adapter);
    directory_close(&d);
    return status;
}
