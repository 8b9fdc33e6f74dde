/* micro.c: which ranks online adaptation trains, and an adapter's values with fresh ones before its own.
 *
 * Fresh ranks begin as fresh adapters do (A uniform in ±1/√n_in, B = 0), so nothing changes at first; their scale is that of
 * the module, so that one plain adapter of a larger rank says all of it.
 */
#include "adapter/trainable/micro.h"

#include <math.h>

/* ---- which ----------------------------------------------------------------------------------- */

static bool is_target(const struct trainable_micro *how, const char *name)
{
    for (size_t i = 0; i < how->n_targets; i++)
        if (!strcmp(how->targets[i], name))
            return true;
    return !how->n_targets;
}

/* Ranks of a module that were micro before; what cannot be is none. */
static int64_t earlier_ranks(const json_t *ranks, const char *name, const struct draft_module *m)
{
    const json_int_t n = json_integer_value(json_object_get(ranks, name));
    return n > 0 && n <= MICRO_RANKS && n < m->rank ? n : 0;
}

static graft_status check_targets(const struct draft *draft, const struct trainable_micro *how,
                                  graft_error *error)
{
    char word[MODULE_NAME_SIZE], known[256];
    for (size_t t = 0; t < how->n_targets; t++) {
        bool found = false;
        size_t used = 0;
        bool said[SLOT_COUNT] = {false};
        known[0] = '\0';
        for (int i = 0; i < draft->n_modules && !found; i++) {
            const int slot = draft->modules[i].slot;
            if (said[slot] || !module_is_linear(&draft->modules[i]) ||
                !slot_short_name(draft->model, slot, word))
                continue;
            said[slot] = true;
            found = !strcmp(word, how->targets[t]);
            if (used < sizeof known)
                used += (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                         used ? ", " : "", word);
        }
        if (!found)
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "the adapter has no \"%.60s\" to go on with; it has %s",
                             how->targets[t], known);
    }
    return GRAFT_OK;
}

/* The card's words of the modules that are trained now; those of others stay as they are. */
static void choose_ranks(struct draft *draft, const struct trainable_micro *how, struct micro *out)
{
    const json_t *before = json_object_get(json_object_get(draft->card, "training"), "micro");
    char word[MODULE_NAME_SIZE];
    for (int i = 0; i < draft->n_modules; i++) {
        struct draft_module *m = &draft->modules[i];
        if (!module_is_linear(m) || !slot_short_name(draft->model, m->slot, word))
            continue;
        const int64_t had = earlier_ranks(before, word, m);
        const int64_t wanted = is_target(how, word) ? (had > how->rank ? had : how->rank) : 0;
        out->trained[i] = wanted;
        out->fresh[i] = wanted > had ? wanted - had : 0;
        m->rank += out->fresh[i];
        if (wanted || had)
            json_put(&out->ranks, word, json_integer(wanted ? wanted : had));
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

static void fill_fresh(const struct draft *draft, int i, int64_t ranks, float *a)
{
    const struct draft_module *m = &draft->modules[i];
    const double bound = 1 / sqrt((double)m->n_in);
    struct rng rng;
    rng_init(&rng, draft->seed,
             ((uint64_t)m->rank << 32) + (uint64_t)m->layer * SLOT_COUNT + (uint64_t)m->slot);
    for (int64_t k = 0; k < ranks * m->n_in; k++)
        a[k] = (float)((2 * rng_uniform(&rng) - 1) * bound);
}

/* B [n_out, rank] of the files, at the front of `b`, with zeros before each row: from the last row on, so that none is
 * written over before it was moved. */
static void spread_rows(float *b, int64_t n_out, int64_t held, int64_t fresh)
{
    for (int64_t o = n_out; o-- > 0;) {
        memmove(b + o * (held + fresh) + fresh, b + o * held, (size_t)held * sizeof *b);
        memset(b + o * (held + fresh), 0, (size_t)fresh * sizeof *b);
    }
}

static graft_status read_wide(const struct draft *draft, int i, enum part part, float *out,
                              graft_error *error)
{
    const struct micro *micro = draft->source;
    const struct draft_module *m = &draft->modules[i];
    const int64_t fresh = micro->fresh[i];
    float *to = part == PART_A ? out + fresh * m->n_in : out;
    graft_status status = micro->files.read(&micro->files, i, part, to, error);
    if (part == PART_A)
        fill_fresh(draft, i, fresh, out);
    else if (part == PART_B && fresh)
        spread_rows(out, m->n_out, m->rank - fresh, fresh);
    return status;
}

/* ---------------------------------------------------------------------------------------------- */

graft_status micro_widen(struct draft *draft, const struct trainable_micro *how, struct micro *out,
                         graft_error *error)
{
    struct mem *mem = &draft->model->runtime->mem;
    const size_t n = (size_t)draft->n_modules;
    bool any = false;
    *out = (struct micro){.files = *draft, .ranks = json_object()};
    out->trained = mem_calloc(mem, n, sizeof *out->trained);
    out->fresh = mem_calloc(mem, n, sizeof *out->fresh);
    out->as_is = mem_calloc(mem, n, sizeof *out->as_is);
    if (!out->trained || !out->fresh || !out->as_is || !out->ranks)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for what is adapted of an adapter");
    memcpy(out->as_is, draft->modules, n * sizeof *out->as_is);
    out->files.modules = out->as_is;
    if (how->rank < 1 || how->rank > MICRO_RANKS)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%d ranks to adapt; it must be 1 to %d",
                         how->rank, MICRO_RANKS);
    graft_status status = check_targets(draft, how, error);
    if (status != GRAFT_OK)
        return status;
    choose_ranks(draft, how, out);
    for (size_t i = 0; i < n; i++)
        any = any || out->trained[i] > 0;
    if (!any)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the adapter has no factors of linear layers to go on with");
    draft->read = read_wide;
    draft->source = out;
    draft->seed = how->seed;
    return out->ranks ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for a card");
}

void micro_free(struct mem *mem, struct micro *micro)
{
    mem_free(mem, micro->trained);
    mem_free(mem, micro->fresh);
    mem_free(mem, micro->as_is);
    json_decref(micro->ranks);
    *micro = (struct micro){.trained = NULL};
}
