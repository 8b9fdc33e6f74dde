/* trainable.c: where an adapter's values lie while it is trained, and the way from and to drafts, which are what files are
 * read and written as.
 */
#include "adapter/trainable/trainable.h"
#include "adapter/save/save_internal.h"
#include "adapter/trainable/begin.h"
#include "adapter/trainable/micro.h"
#include "adapter/trainable/whole.h"

enum { GRAIN = 16 };

struct trainable_files {
    struct draft
        draft;  /* what it is as files; its base may point into itself, so it stays where it is */
    char *base; /* the recipe's own, if it says one */
    struct import from; /* what was continued; closed once it is read */
    struct micro micro; /* zeroed without */
    int64_t *at;        /* [n_modules, PART_COUNT]: where a part lies, −1: there is none */
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the values of an adapter");
}

static struct mem *mem_of(const struct trainable *t)
{
    return &t->model->runtime->mem;
}

static const char *const INITS[] = {
#define INIT_TEXT(name, text) text,
    INIT_LIST(INIT_TEXT)
#undef INIT_TEXT
};

const char *init_name(enum adapter_init init)
{
    return (unsigned)init < ADAPTER_INITS ? INITS[init] : NULL;
}

bool init_find(const char *name, enum adapter_init *out)
{
    for (int i = 0; i < ADAPTER_INITS; i++)
        if (!strcmp(name, INITS[i])) {
            *out = (enum adapter_init)i;
            return true;
        }
    return false;
}

/* ---- places ------------------------------------------------------------------------------- */

static int64_t *place_of(const struct trainable *t, int module)
{
    return t->files->at + (ptrdiff_t)module * PART_COUNT;
}

static int64_t part_values(const struct draft_module *m, enum part part)
{
    if (part == PART_WEIGHT)
        return m->n_out * m->n_in;
    return part == PART_A ? m->rank * m->n_in : part == PART_B ? m->rank * m->n_out : m->n_out;
}

/* Ranks whose factors stay as they began: the last ones. */
static int64_t frozen_ranks(const struct trainable *t, const struct draft_module *m)
{
    const struct micro *micro = &t->files->micro;
    if (!module_is_linear(m))
        return 0;
    if (micro->trained)
        return m->rank - micro->trained[m - t->files->draft.modules];
    return t->init >= INIT_PISSA ? m->rank / 2 : 0;
}

/* Online adaptation is of factors of linears: all else is held, magnitudes and biases too. */
static bool is_held(const struct trainable *t, const struct draft_module *m, enum part part)
{
    const struct micro *micro = &t->files->micro;
    return micro->trained &&
           (part > PART_B || !module_is_linear(m) || frozen_ranks(t, m) == m->rank);
}

static bool has_part(const struct draft_module *m, enum part part)
{
    if (m->whole)
        return part == PART_WEIGHT;
    return part == PART_A || part == PART_B || (part == PART_MAGNITUDE && m->dora) ||
           (part == PART_LORA_BIAS && m->biased);
}

static bool is_vector(const struct draft_module *m, enum part part)
{
    return part == PART_MAGNITUDE || part == PART_LORA_BIAS ||
           (part == PART_WEIGHT && module_is_norm(m));
}

static void list_parts(struct trainable *t)
{
    const struct draft *draft = &t->files->draft;
    for (int i = 0; i < draft->n_modules; i++)
        for (int part = 0; part < PART_COUNT; part++) {
            const struct draft_module *m = &draft->modules[i];
            place_of(t, i)[part] = -1;
            if (!has_part(m, (enum part)part))
                continue;
            const int64_t n = part_values(m, (enum part)part), frozen = frozen_ranks(t, m);
            const bool factor = part == PART_A || part == PART_B;
            int64_t trained = factor ? n / m->rank * (m->rank - frozen) : n;
            if (is_held(t, m, (enum part)part))
                trained = 0;
            place_of(t, i)[part] = t->n_values;
            t->parts[t->n_parts++] =
                (struct trainable_part){.at = t->n_values,
                                        .n = trained,
                                        .vector = is_vector(m, (enum part)part),
                                        .fast = part != PART_A && part != PART_WEIGHT};
            t->n_values += (n + GRAIN - 1) / GRAIN * GRAIN;
            t->n_trained += trained;
        }
}

static int site_of(const struct trainable *t, const struct draft_module *m)
{
    return m->slot == SLOT_HEAD ? model_head_site(t->model)
                                : model_site(m->layer, (enum linear_id)(m->slot - SLOT_LINEAR));
}

static struct trained trained_at(const struct trainable *t, int i, enum part part)
{
    const int64_t at = place_of(t, i)[part];
    if (at < 0)
        return (struct trained){NULL, NULL};
    bool held = is_held(t, &t->files->draft.modules[i], part);
    return (struct trained){t->values + at, held ? NULL : t->grads + at};
}

/* Where a module has its weight when it is held whole. */
static struct trained *whole_at(struct trainable *t, const struct draft_module *m)
{
    if (module_is_norm(m))
        return &t->norms[slot_norm(t->model, m->slot, m->layer)];
    return m->slot == SLOT_EMBED ? &t->set.embed : &t->set.sites[model_head_site(t->model)].weight;
}

static struct train_delta *delta_at(struct trainable *t, const struct draft_module *m)
{
    return m->slot == SLOT_EMBED ? &t->set.embed_delta : &t->set.sites[site_of(t, m)].delta;
}

static void fill_set(struct trainable *t, double dropout)
{
    const struct draft *draft = &t->files->draft;
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (m->whole) {
            *whole_at(t, m) = trained_at(t, i, PART_WEIGHT);
            continue;
        }
        *delta_at(t, m) =
            (struct train_delta){.rank = m->rank,
                                 .frozen = frozen_ranks(t, m),
                                 .scale = (float)m->scale,
                                 .dropout = m->slot == SLOT_EMBED ? 0 : (float)dropout,
                                 .a = trained_at(t, i, PART_A),
                                 .b = trained_at(t, i, PART_B),
                                 .magnitude = trained_at(t, i, PART_MAGNITUDE),
                                 .bias = trained_at(t, i, PART_LORA_BIAS)};
    }
}

static graft_status make_room(struct trainable *t, graft_error *error)
{
    struct mem *mem = mem_of(t);
    const size_t n = (size_t)t->files->draft.n_modules;
    t->files->at = mem_calloc(mem, n * PART_COUNT, sizeof *t->files->at);
    t->parts = mem_calloc(mem, n * PART_COUNT, sizeof *t->parts);
    t->set.sites = mem_calloc(mem, (size_t)model_n_sites(t->model), sizeof *t->set.sites);
    t->norms = mem_calloc(mem, (size_t)model_n_norms(t->model), sizeof *t->norms);
    if (!t->files->at || !t->parts || !t->set.sites || !t->norms)
        return no_memory(error);
    t->set.norms = t->norms;
    list_parts(t);
    t->values = mem_calloc(mem, (size_t)t->n_values, sizeof *t->values);
    t->grads = mem_calloc(mem, (size_t)t->n_values, sizeof *t->grads);
    return t->values && t->grads ? GRAFT_OK : no_memory(error);
}

/* ---- values ------------------------------------------------------------------------------- */

/* The row of Hugging Face's weight that is row `row` of the model's: they differ for q and k of some GGUFs. */
static int64_t hf_row(const struct trainable *t, const struct draft_module *m, int64_t row)
{
    const struct config *c = &t->model->config;
    bool rope = m->slot == SLOT_LINEAR + LINEAR_Q || m->slot == SLOT_LINEAR + LINEAR_K;
    if (!rope || !c->rope.interleaved)
        return row;
    int64_t in = row % c->d_head;
    return row - in + in % 2 * (c->d_head / 2) + in / 2;
}

/* A part between a draft's order [n_out, rank] and the order of training [rank, n_out]. */
static void turn(const struct trainable *t, const struct draft_module *m, enum part part,
                 float *trained, float *drafted, bool to_draft)
{
    int64_t ranks = part == PART_B ? m->rank : 1;
    if (part == PART_A || part == PART_WEIGHT) {
        size_t bytes = (size_t)part_values(m, part) * sizeof *trained;
        memcpy(to_draft ? drafted : trained, to_draft ? trained : drafted, bytes);
        return;
    }
    for (int64_t o = 0; o < m->n_out; o++)
        for (int64_t r = 0; r < ranks; r++) {
            float *in_draft = drafted + hf_row(t, m, o) * ranks + r;
            float *in_training = trained + r * m->n_out + o;
            if (to_draft)
                *in_draft = *in_training;
            else
                *in_training = *in_draft;
        }
}

/* Fresh magnitudes and biases are none of a draft's business; all else is read through it. */
static graft_status read_part(struct trainable *t, int i, enum part part, bool fresh, float *room,
                              graft_error *error)
{
    const struct draft *draft = &t->files->draft;
    const struct draft_module *m = &draft->modules[i];
    float *to = t->values + place_of(t, i)[part];
    if (fresh && part == PART_MAGNITUDE && m->slot == SLOT_EMBED)
        return begin_embed_magnitude(t->model, to, error);
    if (fresh && part == PART_MAGNITUDE)
        return begin_magnitude(t->model, model_site_weight(t->model, site_of(t, m)), to, error);
    if (fresh && (part == PART_LORA_BIAS || (t->init != INIT_DEFAULT && module_is_linear(m))))
        return GRAFT_OK;
    graft_status status = draft->read(draft, i, part, room, error);
    if (status == GRAFT_OK)
        turn(t, m, part, to, room, false);
    return status;
}

static graft_status read_all(struct trainable *t, bool fresh, graft_error *error)
{
    int64_t most = 0;
    for (int i = 0; i < t->files->draft.n_modules; i++)
        for (int part = 0; part < PART_COUNT; part++) {
            int64_t n = part_values(&t->files->draft.modules[i], (enum part)part);
            most = n > most ? n : most;
        }
    float *room = mem_calloc(mem_of(t), (size_t)most, sizeof *room);
    graft_status status = room ? GRAFT_OK : no_memory(error);
    for (int i = 0; i < t->files->draft.n_modules; i++)
        for (int part = 0; part < PART_COUNT && status == GRAFT_OK; part++)
            if (place_of(t, i)[part] >= 0)
                status = read_part(t, i, (enum part)part, fresh, room, error);
    mem_free(mem_of(t), room);
    return status;
}

/* The second half of factors [2 half, ...] as what the first takes away again. */
static void mirror(float *factor, int64_t half, int64_t width, float sign)
{
    for (int64_t k = 0; k < half * width; k++)
        factor[half * width + k] = sign * factor[k];
}

/* Of modules whose rank was doubled for it, or none of that (gaussian). */
static graft_status begin_all(struct trainable *t, const struct save_progress *progress,
                              graft_error *error)
{
    const struct draft *draft = &t->files->draft;
    graft_status status = GRAFT_OK;
    uint64_t done = 0, total = 0;
    for (int i = 0; i < draft->n_modules; i++)
        total += module_is_linear(&draft->modules[i])
                     ? (uint64_t)(draft->modules[i].n_in * draft->modules[i].n_out)
                     : 0;
    for (int i = 0; i < draft->n_modules && status == GRAFT_OK; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (!module_is_linear(m))
            continue;
        const int64_t half = frozen_ranks(t, m);
        const struct beginning begin = {.model = t->model,
                                        .weight = model_site_weight(t->model, site_of(t, m)),
                                        .rank = m->rank - half,
                                        .scale = m->scale,
                                        .seed = draft->seed,
                                        .stream =
                                            (uint64_t)m->layer * SLOT_COUNT + (uint64_t)m->slot,
                                        .a = t->values + place_of(t, i)[PART_A],
                                        .b = t->values + place_of(t, i)[PART_B]};
        status = begin_factors(&begin, t->init, error);
        mirror(begin.a, half, m->n_in, 1);
        mirror(begin.b, half, m->n_out, -1);
        done += (uint64_t)(m->n_in * m->n_out);
        if (status == GRAFT_OK && progress->step &&
            !progress->step(progress->user, done, total, init_name(t->init)))
            status = error_set(error, GRAFT_CANCELLED, "cancelled; nothing was trained");
    }
    return status;
}

/* ---- open --------------------------------------------------------------------------------- */

/* Room for what is taken away again. */
static graft_status double_ranks(struct trainable *t, graft_error *error)
{
    const struct draft *draft = &t->files->draft;
    char name[MODULE_NAME_SIZE];
    for (int i = 0; i < draft->n_modules; i++) {
        struct draft_module *m = &draft->modules[i];
        const int64_t most = m->n_in < m->n_out ? m->n_in : m->n_out;
        if (m->whole)
            continue;
        (void)draft_name(draft, i, NAMING_HF, name);
        if (m->slot == SLOT_EMBED)
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "%s is for linear layers: leave %s out of the targets, or begin as "
                             "\"default\"",
                             init_name(t->init), name);
        if (m->rank > most) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "%s begins as a part of the weight, and %s has %lld directions, fewer "
                             "than rank %lld: lower the rank, leave it out of the targets, or "
                             "begin as \"default\"",
                             init_name(t->init), name, (long long)most, (long long)m->rank);
        }
        m->rank *= 2;
    }
    return GRAFT_OK;
}

static graft_status open_fresh(struct trainable *t, const struct trainable_options *o,
                               graft_error *error)
{
    struct draft *draft = &t->files->draft;
    struct adapter_recipe own = *o->recipe;
    if (own.base) {
        own.base = t->files->base = mem_strdup(mem_of(t), own.base);
        if (!own.base)
            return no_memory(error);
    }
    graft_status status = draft_fresh(draft, t->model, &own, error);
    for (int i = 0; i < draft->n_modules; i++) {
        draft->modules[i].dora = o->dora && !draft->modules[i].whole;
        draft->modules[i].biased = o->bias && module_is_linear(&draft->modules[i]);
    }
    t->init = o->init;
    return status == GRAFT_OK && t->init >= INIT_PISSA ? double_ranks(t, error) : status;
}

/* The draft of an import borrows from it; modules and card move over. */
static graft_status open_old(struct trainable *t, const struct trainable_options *o,
                             graft_error *error)
{
    struct import *from = &t->files->from;
    from->model = t->model;
    graft_status status = import_open(from, o->path, &(struct adapter_options){0}, error);
    if (status == GRAFT_OK)
        t->files->draft = from->draft;
    return status == GRAFT_OK && o->micro
               ? micro_widen(&t->files->draft, o->micro, &t->files->micro, error)
               : status;
}

graft_status trainable_open(const struct model *model, const struct trainable_options *options,
                            struct trainable **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    struct trainable *t = mem_calloc(mem, 1, sizeof *t);
    const bool fresh = options->recipe != NULL;
    if (!t)
        return no_memory(error);
    t->model = model;
    if (options->whole) {
        graft_status opened = whole_open(t, error);
        if (opened == GRAFT_OK)
            *out = t;
        else
            trainable_close(&t);
        return opened;
    }
    t->files = mem_calloc(mem, 1, sizeof *t->files);
    graft_status status = t->files ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK)
        status = fresh ? open_fresh(t, options, error) : open_old(t, options, error);
    if (status == GRAFT_OK)
        status = make_room(t, error);
    if (status == GRAFT_OK)
        status = read_all(t, fresh, error);
    if (status == GRAFT_OK && t->init != INIT_DEFAULT)
        status = begin_all(t, &t->files->draft.progress, error);
    if (status == GRAFT_OK) {
        t->files->draft.progress = (struct save_progress){NULL, NULL}; /* of the beginning alone */
        if (options->dropout >= 0)
            t->files->draft.dropout = options->dropout;
        fill_set(t, t->files->draft.dropout);
        *out = t;
    } else {
        trainable_close(&t);
    }
    return status;
}

void trainable_close(struct trainable **trainable)
{
    struct trainable *t = *trainable;
    if (!t)
        return;
    struct mem *mem = mem_of(t);
    if (t->files) {
        if (t->files->from.model) {
            import_close(&t->files->from);
        } else {
            json_decref(t->files->draft.card);
            mem_free(mem, t->files->draft.modules);
        }
        micro_free(mem, &t->files->micro);
        mem_free(mem, t->files->base);
        mem_free(mem, t->files->at);
        mem_free(mem, t->files);
    }
    mem_free(mem, t->parts);
    mem_free(mem, t->norms);
    mem_free(mem, t->set.sites);
    mem_free(mem, t->values);
    mem_free(mem, t->grads);
    mem_free(mem, t);
    *trainable = NULL;
}

void trainable_frozen_grads(struct trainable *t, bool wanted)
{
    if (t->whole)
        return;
    const struct draft *draft = &t->files->draft;
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (!m->whole)
            delta_at(t, m)->frozen = wanted ? 0 : frozen_ranks(t, m);
    }
}

void trainable_zero_grads(struct trainable *t)
{
    memset(t->grads, 0, (size_t)t->n_values * sizeof *t->grads);
}

graft_type trainable_type(const struct trainable *t)
{
    return t->whole ? whole_type(t->model) : GRAFT_TYPE_F32;
}

/* ---- order of files ------------------------------------------------------------------------ */

static void turn_all(const struct trainable *t, float *trained, float *drafted, bool to_draft)
{
    for (int i = 0; i < t->files->draft.n_modules; i++)
        for (int part = 0; part < PART_COUNT; part++) {
            const int64_t at = place_of(t, i)[part];
            if (at >= 0)
                turn(t, &t->files->draft.modules[i], (enum part)part, trained + at, drafted + at,
                     to_draft);
        }
}

void trainable_to_files(const struct trainable *t, const float *values, float *out)
{
    memset(out, 0, (size_t)t->n_values * sizeof *out);
    turn_all(t, (float *)(uintptr_t)values, out, true);
}

void trainable_from_files(const struct trainable *t, const float *values, float *out)
{
    memset(out, 0, (size_t)t->n_values * sizeof *out);
    turn_all(t, out, (float *)(uintptr_t)values, false);
}

const json_t *trainable_card(const struct trainable *t)
{
    return t->files->draft.card;
}

/* ---- write -------------------------------------------------------------------------------- */

struct reading {
    const struct trainable *trainable;
    const float *values;
};

static graft_status read_trained(const struct draft *draft, int i, enum part part, float *out,
                                 graft_error *error)
{
    const struct reading *from = draft->source;
    const struct trainable *t = from->trainable;
    (void)error;
    turn(t, &draft->modules[i], part, (float *)(uintptr_t)from->values + place_of(t, i)[part], out,
         true);
    return GRAFT_OK;
}

static json_t *make_about(const struct trainable *t, const json_t *said)
{
    json_t *json = said ? json_deep_copy(said) : json_object();
    if (t->init != INIT_DEFAULT)
        json_put(&json, "init", json_string(init_name(t->init)));
    if (t->files->micro.ranks)
        json_put(&json, "micro", json_deep_copy(t->files->micro.ranks));
    return json;
}

graft_status trainable_check_format(const struct trainable *t, enum adapter_format format,
                                    graft_error *error)
{
    if (t->whole)
        return whole_check_format(t->model, format, error);
    if (format == ADAPTER_PEFT)
        return GRAFT_OK;
    return format == ADAPTER_MLX ? mlx_check(&t->files->draft, error)
                                 : gguf_check(&t->files->draft, error);
}

graft_status trainable_write(const struct trainable *t, const float *values, const char *path,
                             const struct trainable_output *output, graft_error *error)
{
    if (t->whole)
        return whole_write(t, values ? values : t->values, path, output, error);
    const struct reading from = {t, values ? values : t->values};
    const struct save_options how = {
        .format = output->format, .retype = true, .type = output->type};
    struct draft draft = t->files->draft;
    draft.read = read_trained;
    draft.source = &from;
    draft.inference = true;
    draft.type = output->type;
    draft.beside = output->beside;
    draft.beside_user = output->user;
    draft.card = json_deep_copy(t->files->draft.card);
    if (output->version)
        json_put(&draft.card, "version", json_string(output->version));
    if (output->about || t->init != INIT_DEFAULT || t->files->micro.ranks)
        json_put(&draft.card, "training", make_about(t, output->about));
    graft_status status = draft.card ? write_adapter(&draft, path, &how, error) : no_memory(error);
    json_decref(draft.card);
    return status;
}
