/* adapter.c: adapters from open to the last release, and what they tell about themselves.
 *
 * Opening goes through source (files), spec (what they say), bind (whether it fits), factors and gains, and
 * keeps nothing of the first three.
 */
#include "adapter/adapter_internal.h"

enum { NAMES_LIMIT = 16 << 20 };

const char *adapter_format_name(enum adapter_format format)
{
    static const char *const NAMES[] = {"PEFT", "MLX", "GGUF"};
    return NAMES[format];
}

/* ---- description -------------------------------------------------------------------------- */

static int by_site(const void *left, const void *right)
{
    const struct build *a = left, *b = right;
    return (a->site > b->site) - (a->site < b->site);
}

static int64_t parameters(const struct build *b)
{
    return b->rank * (b->n_in + b->n_out) + (b->lowrank.gain ? b->n_out : 0) +
           (b->token_gain ? b->n_in : 0) + (b->lowrank.bias ? b->n_out : 0);
}

static const char *keep(struct adapter *adapter, const char *text, bool *ok)
{
    const char *copy = text ? arena_strndup(&adapter->arena, text, strlen(text)) : NULL;
    *ok = *ok && (copy || !text);
    return copy;
}

static void describe_target(struct adapter *adapter, int i, bool *ok)
{
    const struct build *b = &adapter->builds[i];
    struct adapter_info *info = &adapter->info;
    adapter->targets[i] = (struct adapter_target){.site = b->site,
                                                  .module = keep(adapter, b->module->name, ok),
                                                  .rank = b->rank,
                                                  .scale = b->scale,
                                                  .stored = b->from_a->type,
                                                  .a = b->a,
                                                  .b = b->b,
                                                  .dora = b->from_magnitude != NULL,
                                                  .biased = b->lowrank.bias != NULL};
    if (b->site == EMBED_SITE) {
        adapter->changes.lowrank = &b->lowrank;
        adapter->changes.token_gain = b->token_gain;
    } else {
        adapter->lowranks[b->site] = &b->lowrank;
    }
    info->parameters += parameters(b);
    info->least_rank = i && info->least_rank < b->rank ? info->least_rank : b->rank;
    info->most_rank = info->most_rank > b->rank ? info->most_rank : b->rank;
    info->n_dora += b->from_magnitude != NULL;
    info->n_biased += b->lowrank.bias != NULL;
}

static void describe_saved(struct adapter *adapter, const struct saved *s)
{
    if (s->norm >= 0) {
        adapter->norms[s->norm] = s->matrix.data;
        adapter->changes.norms = adapter->norms;
    }
    if (s->embed)
        adapter->changes.embed = &s->matrix;
    if (s->head)
        adapter->changes.head = &s->matrix;
    adapter->info.parameters += s->matrix.n_out * s->matrix.n_in;
    adapter->info.n_saved++;
}

static graft_status describe(struct adapter *adapter, const struct spec *spec,
                             const struct source *source, const char *path, graft_error *error)
{
    size_t n = (size_t)adapter->n_builds, sites = (size_t)model_n_sites(adapter->model);
    struct adapter_info *info = &adapter->info;
    bool ok = true;
    adapter->targets = mem_calloc(adapter->mem, n + 1, sizeof *adapter->targets);
    adapter->lowranks = mem_calloc(adapter->mem, sites, sizeof *adapter->lowranks);
    adapter->norms =
        mem_calloc(adapter->mem, (size_t)model_n_norms(adapter->model), sizeof *adapter->norms);
    if (!adapter->targets || !adapter->lowranks || !adapter->norms)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to describe an adapter");
    for (int i = 0; i < adapter->n_builds; i++)
        describe_target(adapter, i, &ok);
    for (int i = 0; i < adapter->n_saved; i++)
        describe_saved(adapter, &adapter->saved[i]);
    info->format = spec->format;
    info->path = keep(adapter, path, &ok);
    info->base = keep(adapter, spec->base, &ok);
    info->scale_from = spec_scale_source(spec);
    if (source->tensors.files)
        info->metadata = adapter->metadata = json_incref(source->tensors.files[0].metadata);
    info->card = adapter->card = json_incref(source->card);
    info->bytes += sizeof *adapter + n * (sizeof *adapter->builds + sizeof *adapter->targets) +
                   sites * sizeof *adapter->lowranks + adapter->arena.used;
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory to describe an adapter");
}

/* ---- life --------------------------------------------------------------------------------- */

static graft_status build(struct adapter *adapter, const struct spec *spec,
                          const struct source *source, const struct adapter_options *options,
                          const char *path, graft_error *error)
{
    graft_status status = bind_modules(adapter, spec, options, error);
    if (status == GRAFT_OK) {
        qsort(adapter->builds, (size_t)adapter->n_builds, sizeof *adapter->builds, by_site);
        status = build_factors(adapter, error);
    }
    if (status == GRAFT_OK)
        status = build_gains(adapter, error);
    if (status == GRAFT_OK)
        status = describe(adapter, spec, source, path, error);
    if (status == GRAFT_OK)
        status = digest_adapter(adapter, error);
    if (status != GRAFT_OK)
        error_at_file(error, source->weights);
    return status;
}

static void adapter_free(struct adapter *adapter)
{
    struct mem *mem = adapter->mem;
    if (adapter->owner) { /* the parts are not its own */
        void (*gone)(void *user) = adapter->gone;
        void *user = adapter->user;
        adapter_release(&adapter->owner);
        mem_free(mem, adapter);
        gone(user);
        return;
    }
    json_decref(adapter->metadata);
    json_decref(adapter->card);
    delta_set_close(&adapter->alone);
    mem_free(mem, adapter->builds);
    mem_free(mem, adapter->saved);
    mem_free(mem, adapter->norms);
    mem_free(mem, adapter->targets);
    mem_free(mem, adapter->lowranks);
    mem_free(mem, adapter->memory);
    arena_free(&adapter->arena);
    mem_free(mem, adapter);
}

graft_status adapter_open(const struct model *model, const char *path,
                          const struct adapter_options *options, struct adapter **out,
                          graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    struct source source = {0};
    struct spec spec = {0};
    struct adapter *adapter = mem_calloc(mem, 1, sizeof *adapter);
    if (!adapter)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an adapter");
    adapter->model = model;
    adapter->mem = mem;
    atomic_init(&adapter->references, 1);
    arena_init(&adapter->arena, mem, NAMES_LIMIT);
    graft_status status = source_open(&source, mem, path, error);
    if (status == GRAFT_OK)
        status = source_parse(&source, options, &spec, error);
    if (status == GRAFT_OK)
        status = build(adapter, &spec, &source, options, path, error);
    if (status == GRAFT_OK) {
        const struct delta_member member = adapter_member(adapter, 1);
        status = delta_set_open(model, &member, 1, &adapter->alone, error);
    }
    if (status == GRAFT_OK)
        status = mix_digest_alone(adapter, error);
    if (status == GRAFT_OK)
        status = base_check(model, source.card, path, options && options->strict_base, error);
    spec_free(&spec);
    source_close(&source);
    if (status != GRAFT_OK)
        adapter_free(adapter);
    else
        *out = adapter;
    return status;
}

graft_status adapter_share(struct adapter *adapter, void (*gone)(void *user), void *user,
                           struct adapter **out, graft_error *error)
{
    struct adapter *other = mem_calloc(adapter->mem, 1, sizeof *other);
    if (!other)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a handle of an adapter");
    atomic_init(&other->references, 1);
    other->model = adapter->model;
    other->mem = adapter->mem;
    other->n_builds = adapter->n_builds;
    other->targets = adapter->targets;
    other->changes = adapter->changes;
    other->lowranks = adapter->lowranks;
    other->alone = adapter->alone;
    memcpy(other->alone_digest, adapter->alone_digest, sizeof other->alone_digest);
    other->info = adapter->info;
    other->owner = adapter_acquire(adapter);
    other->gone = gone;
    other->user = user;
    *out = other;
    return GRAFT_OK;
}

bool adapter_same(const struct adapter *a, const struct adapter *b)
{
    return a == b ||
           (a->model == b->model && !memcmp(a->info.digest, b->info.digest, sizeof a->info.digest));
}

struct adapter *adapter_acquire(struct adapter *adapter)
{
    atomic_fetch_add_explicit(&adapter->references, 1, memory_order_relaxed);
    return adapter;
}

void adapter_release(struct adapter **adapter)
{
    struct adapter *a = *adapter;
    *adapter = NULL;
    if (a && atomic_fetch_sub_explicit(&a->references, 1, memory_order_acq_rel) == 1)
        adapter_free(a);
}

const struct model *adapter_model(const struct adapter *adapter)
{
    return adapter->model;
}

const struct adapter_info *adapter_info(const struct adapter *adapter)
{
    return &adapter->info;
}

const struct adapter_target *adapter_targets(const struct adapter *adapter, int *n)
{
    *n = adapter->n_builds;
    return adapter->targets;
}

struct delta_member adapter_member(const struct adapter *adapter, float weight)
{
    const struct module_changes *c = &adapter->changes;
    bool any = c->norms || c->embed || c->head || c->lowrank;
    return (struct delta_member){
        .lowranks = adapter->lowranks, .weight = weight, .modules = any ? c : NULL};
}
