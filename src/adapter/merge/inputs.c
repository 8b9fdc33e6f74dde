/* inputs.c: the adapters of a merge, opened, and the modules that any of them changes.
 *
 * Opening makes every check there is and computes what DoRA needs; then only the files stay open, so that memory is that of
 * one module at a time.
 */
#include "adapter/merge/merge_internal.h"

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to merge adapters");
}

/* ---- one adapter -------------------------------------------------------------------------- */

int64_t merge_base_row(const struct model *model, const struct merge_site *site, int64_t row)
{
    const struct config *c = &model->config;
    const bool rotated =
        site->slot == SLOT_LINEAR + LINEAR_Q || site->slot == SLOT_LINEAR + LINEAR_K;
    if (!rotated || !c->rope.interleaved)
        return row;
    const int64_t in = row % c->d_head, half = c->d_head / 2;
    return row - in + in % half * 2 + in / half;
}

static const struct build *build_of(const struct adapter *adapter, const struct draft_module *m)
{
    const struct model *model = adapter->model;
    const int site = m->slot == SLOT_HEAD
                         ? model_head_site(model)
                         : model_site(m->layer, (enum linear_id)(m->slot - SLOT_LINEAR));
    for (int i = 0; i < adapter->n_builds; i++)
        if (adapter->builds[i].site == site)
            return &adapter->builds[i];
    return NULL;
}

static graft_status refuse(const struct draft *draft, int i, const char *path, const char *what,
                           graft_error *error)
{
    char name[MODULE_NAME_SIZE] = "";
    (void)draft_name(draft, i, NAMING_HF, name);
    error_set(error, GRAFT_UNSUPPORTED, "%s %s", name, what);
    error_at_file(error, path);
    return GRAFT_UNSUPPORTED;
}

static graft_status take_gains(struct merge_inputs *in, struct merge_member *m, const char *path,
                               graft_error *error)
{
    const struct draft *draft = &m->import.draft;
    m->gains = arena_alloc(&in->arena, (size_t)draft->n_modules * sizeof *m->gains);
    if (!m->gains)
        return no_memory(error);
    memset(m->gains, 0, (size_t)draft->n_modules * sizeof *m->gains);
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *module = &draft->modules[i];
        if (!module->dora)
            continue;
        if (module->slot == SLOT_EMBED)
            return refuse(draft, i, path,
                          "has magnitudes of an embedding (DoRA), which do not merge: fuse this "
                          "adapter, or train it without",
                          error);
        const struct merge_site at = {.slot = module->slot, .layer = module->layer};
        const struct build *build = build_of(m->import.adapter, module);
        float *gain = arena_alloc(&in->arena, (size_t)module->n_out * sizeof *gain);
        if (!gain)
            return no_memory(error);
        if (!build || !build->lowrank.gain)
            return error_set(error, GRAFT_INTERNAL, "a magnitude was lost");
        for (int64_t row = 0; row < module->n_out; row++)
            gain[row] = build->lowrank.gain[merge_base_row(in->model, &at, row)];
        m->gains[i] = gain;
    }
    return GRAFT_OK;
}

static graft_status open_member(struct merge_inputs *in, struct merge_member *m,
                                const struct merge_input *input, graft_error *error)
{
    const struct adapter_options options = {
        .rescale = input->scale != 0, .scale = input->scale, .strict_base = true};
    m->import.model = in->model;
    graft_status status = import_open(&m->import, input->path, &options, error);
    if (status == GRAFT_OK)
        status = take_gains(in, m, input->path, error);
    if (status != GRAFT_OK)
        return status;
    memcpy(m->digest, adapter_info(m->import.adapter)->digest, sizeof m->digest);
    adapter_release(&m->import.adapter);
    return GRAFT_OK;
}

/* ---- sites -------------------------------------------------------------------------------- */

static int by_place(const void *left, const void *right)
{
    const struct merge_site *a = left, *b = right;
    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    return (a->slot > b->slot) - (a->slot < b->slot);
}

static struct merge_site *site_of(struct merge_inputs *in, const struct draft_module *m)
{
    for (int i = 0; i < in->n_sites; i++)
        if (in->sites[i].slot == m->slot && in->sites[i].layer == m->layer)
            return &in->sites[i];
    struct merge_site *site = &in->sites[in->n_sites];
    *site = (struct merge_site){
        .slot = m->slot, .layer = m->layer, .n_in = m->n_in, .n_out = m->n_out, .whole = m->whole};
    site->modules = arena_alloc(&in->arena, in->n * sizeof *site->modules);
    site->factors = arena_alloc(&in->arena, in->n * sizeof *site->factors);
    if (!site->modules || !site->factors)
        return NULL;
    for (size_t i = 0; i < in->n; i++) {
        site->modules[i] = -1;
        site->factors[i] = 0;
    }
    in->n_sites++;
    return site;
}

static graft_status add_module(struct merge_inputs *in, size_t input, int i, const char *path,
                               graft_error *error)
{
    const struct draft *draft = &in->members[input].import.draft;
    const struct draft_module *m = &draft->modules[i];
    struct merge_site *site = site_of(in, m);
    if (!site)
        return no_memory(error);
    if (site->whole != m->whole)
        return refuse(draft, i, path,
                      "is held whole by one adapter and has factors in another: fuse one of them "
                      "into the base first",
                      error);
    site->modules[input] = i;
    site->rank += m->rank;
    site->most_rank = m->rank > site->most_rank ? m->rank : site->most_rank;
    site->dora |= m->dora;
    site->biased |= m->biased;
    return GRAFT_OK;
}

graft_status merge_inputs_open(struct merge_inputs *out, const struct model *model,
                               const struct merge_plan *plan, graft_error *error)
{
    size_t modules = 0;
    *out = (struct merge_inputs){.model = model, .mem = &model->runtime->mem, .n = plan->n};
    arena_init(&out->arena, out->mem, SIZE_MAX);
    out->members = mem_calloc(out->mem, plan->n, sizeof *out->members);
    if (!out->members)
        return no_memory(error);
    for (size_t i = 0; i < plan->n; i++) {
        graft_status status = open_member(out, &out->members[i], &plan->inputs[i], error);
        if (status != GRAFT_OK)
            return status;
        modules += (size_t)out->members[i].import.draft.n_modules;
    }
    out->sites = mem_calloc(out->mem, modules + 1, sizeof *out->sites);
    if (!out->sites)
        return no_memory(error);
    for (size_t i = 0; i < plan->n; i++)
        for (int j = 0; j < out->members[i].import.draft.n_modules; j++) {
            graft_status status = add_module(out, i, j, plan->inputs[i].path, error);
            if (status != GRAFT_OK)
                return status;
        }
    qsort(out->sites, (size_t)out->n_sites, sizeof *out->sites, by_place);
    return GRAFT_OK;
}

void merge_inputs_close(struct merge_inputs *inputs)
{
    if (!inputs->model)
        return;
    for (size_t i = 0; inputs->members && i < inputs->n; i++)
        if (inputs->members[i].import.model)
            import_close(&inputs->members[i].import);
    mem_free(inputs->mem, inputs->members);
    mem_free(inputs->mem, inputs->sites);
    arena_free(&inputs->arena);
    *inputs = (struct merge_inputs){0};
}

bool merge_site_name(const struct merge_inputs *inputs, const struct merge_site *site,
                     char out[MODULE_NAME_SIZE])
{
    return arch_module(inputs->model->config.arch, NAMING_HF, site->slot, site->layer, out,
                       MODULE_NAME_SIZE);
}
