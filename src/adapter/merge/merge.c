/* merge.c: a merge from its inputs to its files.
 *
 * Ranks are settled before anything is written, values when the writer asks for them: one module is in memory at a time.
 */
#include "adapter/merge/merge_internal.h"

#include <math.h>

struct job {
    const struct merge_plan *plan;
    struct merge_inputs inputs;
    struct draft draft;
    struct merge_result result; /* of module `at` */
    int at;                     /* −1: none */
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to merge adapters");
}

/* ---- factors of sums ---------------------------------------------------------------------- */

static double sum_of_weights(const struct merge_plan *plan)
{
    double sum = 0;
    for (size_t i = 0; i < plan->n; i++)
        sum += plan->inputs[i].weight;
    return sum;
}

static void fixed_factors(const struct merge_plan *plan, struct merge_site *site)
{
    const bool elects = merge_elects_signs(plan->method);
    const double whole = plan->normalize ? sum_of_weights(plan) : 1;
    for (size_t i = 0; i < plan->n; i++) {
        site->factors[i] =
            merge_uses_weights(plan->method) ? plan->inputs[i].weight / whole : 1 / (double)plan->n;
        site->factors[i] *= elects ? 1 : plan->lambda;
    }
}

/* Those that depend on the changes themselves. lengths [n]: what ‖ΔW‖² of each input is so far. */
static graft_status measured_factors(struct job *job, struct merge_site *site, double *inner,
                                     double *lengths, graft_error *error)
{
    const struct merge_plan *plan = job->plan;
    const size_t n = plan->n;
    struct changes c;
    graft_status status = changes_open(&c, &job->inputs, site, error);
    if (status == GRAFT_OK)
        status = changes_inner(&c, inner, error);
    changes_close(&c);
    if (status != GRAFT_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        lengths[i] += fmax(inner[i * n + i], 0);
    if (plan->method == MERGE_SLERP)
        merge_slerp_factors(inner, plan->t, site->factors);
    else
        for (size_t i = 0; i < n; i++)
            site->factors[i] = merge_stock_factor(inner, n);
    for (size_t i = 0; i < n; i++)
        site->factors[i] *= plan->lambda;
    return GRAFT_OK;
}

static graft_status refuse_zero(const struct merge_plan *plan, const double *lengths,
                                graft_error *error)
{
    for (size_t i = 0; i < plan->n && plan->method == MERGE_SLERP; i++)
        if (!(lengths[i] > 0))
            return error_set(error, GRAFT_NUMERIC,
                             "%.200s changes nothing at all, so there is no angle to it",
                             plan->inputs[i].name);
    return GRAFT_OK;
}

static graft_status find_factors(struct job *job, graft_error *error)
{
    const struct merge_plan *plan = job->plan;
    const bool measured = plan->method == MERGE_SLERP || plan->method == MERGE_MODEL_STOCK;
    double *inner = mem_calloc(job->inputs.mem, plan->n * plan->n + plan->n, sizeof *inner);
    graft_status status = inner ? GRAFT_OK : no_memory(error);
    for (int i = 0; i < job->inputs.n_sites && status == GRAFT_OK; i++) {
        struct merge_site *site = &job->inputs.sites[i];
        char name[MODULE_NAME_SIZE] = "";
        (void)merge_site_name(&job->inputs, site, name);
        if (site->whole && (measured || merge_is_dense(plan->method) || plan->method == MERGE_SVD))
            status =
                error_set(error, GRAFT_UNSUPPORTED,
                          "%s is held whole, which %s does not merge: average, linear, cat and "
                          "task_arithmetic do",
                          name, merge_method_name(plan->method));
        else if (measured)
            status = measured_factors(job, site, inner, inner + plan->n * plan->n, error);
        else
            fixed_factors(plan, site);
    }
    if (status == GRAFT_OK && measured)
        status = refuse_zero(plan, inner + plan->n * plan->n, error);
    mem_free(job->inputs.mem, inner);
    return status;
}

/* ---- ranks -------------------------------------------------------------------------------- */

/* Made from rows, not from factors. */
static bool is_made_of_rows(const struct merge_plan *plan, const struct merge_site *site)
{
    return merge_is_dense(plan->method) || (plan->method == MERGE_SVD && site->dora);
}

/* At most the rank that the site has so far. */
static graft_status rank_by_energy(struct job *job, struct merge_site *site, graft_error *error)
{
    struct changes c;
    int64_t n = 0;
    double *squares = mem_calloc(job->inputs.mem, (size_t)site->rank + 1, sizeof *squares);
    graft_status status = changes_open(&c, &job->inputs, site, error);
    if (status == GRAFT_OK && !squares)
        status = no_memory(error);
    if (status == GRAFT_OK)
        status = merge_spectrum(&c, squares, &n, error);
    if (status == GRAFT_OK)
        site->out_rank = merge_least_rank(squares, n, job->plan->energy, site->out_rank);
    changes_close(&c);
    mem_free(job->inputs.mem, squares);
    return status;
}

/* Is the result of a module less than the sum, or can be? */
static bool loses(const struct merge_plan *plan, const struct merge_site *site)
{
    return is_made_of_rows(plan, site) || site->out_rank < site->rank;
}

static graft_status refuse_energy(const struct job *job, const struct merge_site *site,
                                  graft_error *error)
{
    char name[MODULE_NAME_SIZE] = "";
    (void)merge_site_name(&job->inputs, site, name);
    return error_set(error, GRAFT_UNSUPPORTED,
                     "%s has magnitudes (DoRA), of which svd knows no energy beforehand: give it a "
                     "rank, or take linear",
                     name);
}

static graft_status find_ranks(struct job *job, graft_error *error)
{
    const struct merge_plan *plan = job->plan;
    graft_status status = GRAFT_OK;
    bool lossy = false;
    for (int i = 0; i < job->inputs.n_sites && status == GRAFT_OK; i++) {
        struct merge_site *site = &job->inputs.sites[i];
        const int64_t least = site->n_in < site->n_out ? site->n_in : site->n_out;
        int64_t rank =
            plan->method == MERGE_SVD && plan->energy == 0 ? site->most_rank : site->rank;
        if (site->whole)
            continue;
        if (plan->rank > 0)
            rank = is_made_of_rows(plan, site) || plan->rank < site->rank ? plan->rank : site->rank;
        site->out_rank = rank < least || plan->method == MERGE_CAT ? rank : least;
        if (plan->energy > 0)
            status = is_made_of_rows(plan, site) ? refuse_energy(job, site, error)
                                                 : rank_by_energy(job, site, error);
        lossy |= loses(plan, site);
    }
    for (int i = 0; i < job->inputs.n_sites; i++)
        job->inputs.sites[i].weighed = lossy;
    return status;
}

/* ---- values ------------------------------------------------------------------------------- */

static graft_status compute(struct job *job, int i, graft_error *error)
{
    struct merge_site *site = &job->inputs.sites[i];
    struct changes c = {0};
    job->at = -1;
    merge_result_close(&job->result, job->inputs.mem);
    graft_status status =
        merge_result_open(&job->result, job->inputs.mem, &job->draft.modules[i], error);
    if (status != GRAFT_OK)
        return status;
    if (site->whole) {
        status = merge_whole(&job->inputs, site, &job->result, error);
    } else {
        status = changes_open(&c, &job->inputs, site, error);
        if (status == GRAFT_OK)
            status = is_made_of_rows(job->plan, site)
                         ? merge_dense(job->plan, &c, &job->result, error)
                         : merge_sum(&c, &job->result, error);
        if (status == GRAFT_OK && site->biased)
            status = merge_bias(job->plan, &c, &job->result, error);
        changes_close(&c);
    }
    site->all = job->result.all;
    site->kept = job->result.kept;
    job->at = status == GRAFT_OK ? i : -1;
    return status;
}

static graft_status read_merged(const struct draft *draft, int i, enum part part, float *out,
                                graft_error *error)
{
    struct job *job = (struct job *)(uintptr_t)draft->source;
    graft_status status = job->at == i ? GRAFT_OK : compute(job, i, error);
    if (status == GRAFT_OK)
        merge_result_read(&job->result, &draft->modules[i], part, out);
    return status;
}

/* ---- what is told of it ------------------------------------------------------------------- */

static double all_discarded(const struct job *job)
{
    double all = 0, kept = 0;
    for (int i = 0; i < job->inputs.n_sites; i++) {
        all += job->inputs.sites[i].all;
        kept += job->inputs.sites[i].kept;
    }
    return merge_lost(all, kept);
}

static json_t *describe_inputs(const struct job *job)
{
    const struct merge_plan *plan = job->plan;
    json_t *list = json_array();
    for (size_t i = 0; i < plan->n; i++) {
        const struct merge_member *m = &job->inputs.members[i];
        const json_t *version = json_object_get(m->import.source.card, "version");
        char hex[65];
        hex_write(m->digest, sizeof m->digest, hex);
        const char *name = plan->inputs[i].name;
        json_t *one =
            json_pack("{s:o, s:s}", "name", json_any_text(name, strlen(name)), "digest", hex);
        if (json_is_string(version))
            json_put(&one, "version", json_copy((json_t *)(uintptr_t)version));
        if (merge_uses_weights(plan->method))
            json_put(&one, "weight", json_number_of(plan->inputs[i].weight));
        if (merge_uses_density(plan->method))
            json_put(&one, "density", json_number_of(plan->inputs[i].density));
        if (plan->method == MERGE_DELLA || plan->method == MERGE_DELLA_LINEAR)
            json_put(&one, "epsilon", json_number_of(plan->inputs[i].epsilon));
        if (plan->method == MERGE_BREADCRUMBS || plan->method == MERGE_BREADCRUMBS_TIES)
            json_put(&one, "gamma", json_number_of(plan->inputs[i].gamma));
        if (plan->inputs[i].scale != 0)
            json_put(&one, "scale", json_number_of(plan->inputs[i].scale));
        json_append(&list, one);
    }
    return list;
}

/* A text where JSON has no whole numbers any more. */
static json_t *seed_of(const struct merge_plan *plan)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)plan->seed);
    return plan->seed <= INT64_MAX ? json_integer((json_int_t)plan->seed) : json_string(text);
}

/* What one has to know to do it again. */
static json_t *describe_plan(const struct job *job)
{
    const struct merge_plan *plan = job->plan;
    json_t *json = json_pack("{s:s, s:o}", "method", merge_method_name(plan->method), "inputs",
                             describe_inputs(job));
    if (plan->rank > 0)
        json_put(&json, "rank", json_integer(plan->rank));
    if (plan->energy > 0)
        json_put(&json, "energy", json_number_of(plan->energy));
    if (plan->lambda != 1)
        json_put(&json, "lambda", json_number_of(plan->lambda));
    if (plan->method == MERGE_SLERP)
        json_put(&json, "t", json_number_of(plan->t));
    if (plan->normalize)
        json_put(&json, "normalize", json_true());
    if (merge_elects_signs(plan->method)) {
        json_put(&json, "sign", json_string(plan->by_frequency ? "frequency" : "total"));
        json_put(&json, "ties_divide",
                 json_string(plan->undivided   ? "none"
                             : plan->by_weight ? "weight"
                                               : "count"));
    }
    if (merge_uses_density(plan->method))
        json_put(&json, "seed", seed_of(plan));
    return json;
}

/* Once all modules were computed, and before the card is written. */
static graft_status complete_card(const void *user, const char *dir, graft_error *error)
{
    const struct job *job = user;
    json_t *merge = json_object_get(job->draft.card, "merge");
    (void)dir;
    return json_object_set_new(merge, "discarded_energy", json_number_of(all_discarded(job))) == 0
               ? GRAFT_OK
               : no_memory(error);
}

/* A number that fill_report sets, or the 0 that it is. */
static json_t *room_for_energy(bool lossy)
{
    return lossy ? json_real(0) : json_integer(0);
}

/* Made before anything is written, so that memory cannot run out once it is; energies come last, by fill_report. */
static json_t *make_report(const struct job *job)
{
    json_t *list = json_array(), *json = describe_plan(job);
    int64_t least = INT64_MAX, most = 0;
    bool lossy = false;
    for (int i = 0; i < job->inputs.n_sites; i++) {
        const struct merge_site *site = &job->inputs.sites[i];
        char name[MODULE_NAME_SIZE] = "";
        (void)merge_site_name(&job->inputs, site, name);
        json_t *one = json_pack("{s:s}", "module", name);
        if (site->whole)
            json_put(&one, "whole", json_true());
        if (!site->whole) {
            least = site->out_rank < least ? site->out_rank : least;
            most = site->out_rank > most ? site->out_rank : most;
            json_put(&one, "rank", json_integer(site->out_rank));
            json_put(&one, "rank_before", json_integer(site->rank));
            json_put(&one, "discarded_energy", room_for_energy(loses(job->plan, site)));
            lossy |= loses(job->plan, site);
            json_put(&one, "dora", json_boolean(job->draft.modules[i].dora));
        }
        json_append(&list, one);
    }
    json_put(&json, "least_rank", json_integer(least == INT64_MAX ? 0 : least));
    json_put(&json, "most_rank", json_integer(most));
    json_put(&json, "discarded_energy", room_for_energy(lossy));
    json_put(&json, "modules", list);
    return json;
}

static void fill_report(const struct job *job, json_t *json)
{
    const json_t *list = json_object_get(json, "modules");
    for (int i = 0; i < job->inputs.n_sites; i++) {
        const struct merge_site *site = &job->inputs.sites[i];
        json_t *one = json_object_get(json_array_get(list, (size_t)i), "discarded_energy");
        if (json_is_real(one))
            json_real_set(one, merge_lost(site->all, site->kept));
    }
    if (json_is_real(json_object_get(json, "discarded_energy")))
        json_real_set(json_object_get(json, "discarded_energy"), all_discarded(job));
}

/* ---- whole -------------------------------------------------------------------------------- */

static graft_status make_card(struct job *job, graft_error *error)
{
    const struct merge_plan *plan = job->plan;
    const struct model *model = job->inputs.model;
    const struct import *first = &job->inputs.members[0].import;
    graft_status status;
    if (plan->card) {
        struct adapter_recipe card = *plan->card;
        card.base = card.base ? card.base : first->draft.base;
        status = card_check(&card, error);
        if (status == GRAFT_OK)
            status = card_new(model, &card, &job->draft.card, error);
        draft_set_base(&job->draft, card.base);
    } else {
        job->draft.card = json_deep_copy(first->draft.card);
        status = job->draft.card ? GRAFT_OK : no_memory(error);
        draft_set_base(&job->draft, first->draft.base);
    }
    if (status != GRAFT_OK)
        return status;
    json_t *merge = describe_plan(job);
    if (!merge || json_object_set_new(job->draft.card, "merge", merge) != 0)
        return no_memory(error);
    return GRAFT_OK;
}

/* Formats say once for all modules that there are magnitudes, and biases of B: then each has them, if they change nothing.
 * Not so an embedding, whose magnitudes are of another kind. */
static graft_status make_alike(struct job *job, graft_error *error)
{
    struct draft *draft = &job->draft;
    const bool dora = draft_is_dora(draft), biased = draft_is_biased(draft);
    for (int i = 0; i < draft->n_modules; i++) {
        struct draft_module *m = &draft->modules[i];
        if (dora && m->slot == SLOT_EMBED && !m->whole)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "the embedding has factors and other modules magnitudes (DoRA), which "
                             "do not merge: fuse one of the adapters into the base first, or take "
                             "svd");
        m->dora |= dora && module_is_linear(m);
        m->biased |= biased && module_is_linear(m);
    }
    return GRAFT_OK;
}

static graft_status make_draft(struct job *job, graft_error *error)
{
    const struct merge_inputs *in = &job->inputs;
    struct draft *draft = &job->draft;
    draft->model = in->model;
    draft->inference = true;
    draft->type = GRAFT_TYPE_F32;
    draft->read = read_merged;
    draft->source = draft->beside_user = job;
    draft->beside = complete_card;
    draft->progress = job->plan->save.progress;
    draft->modules = mem_calloc(in->mem, (size_t)in->n_sites + 1, sizeof *draft->modules);
    if (!draft->modules)
        return no_memory(error);
    for (int i = 0; i < in->n_sites; i++) {
        const struct merge_site *site = &in->sites[i];
        draft->modules[draft->n_modules++] =
            (struct draft_module){.slot = site->slot,
                                  .layer = site->layer,
                                  .rank = site->out_rank,
                                  .n_in = site->n_in,
                                  .n_out = site->n_out,
                                  .scale = site->whole ? 0 : 1,
                                  .dora = site->dora && !is_made_of_rows(job->plan, site),
                                  .biased = site->biased,
                                  .whole = site->whole};
    }
    graft_status status = make_alike(job, error);
    return status == GRAFT_OK ? make_card(job, error) : status;
}

static void warn_of_weights(const struct model *model, const struct merge_plan *plan)
{
    for (size_t i = 0; i < plan->n && !merge_uses_weights(plan->method); i++)
        if (plan->inputs[i].weight != 1) {
            runtime_log(model->runtime, GRAFT_LOG_WARN,
                        "%s looks at no weights: that of %s, and others, do not count",
                        merge_method_name(plan->method), plan->inputs[i].name);
            return;
        }
}

graft_status merge_write(const struct model *model, const struct merge_plan *plan, const char *out,
                         json_t **report, graft_error *error)
{
    struct job job = {.plan = plan, .at = -1};
    json_t *told = NULL;
    graft_status status = merge_check(plan, error);
    if (status == GRAFT_OK)
        warn_of_weights(model, plan);
    if (status == GRAFT_OK)
        status = merge_inputs_open(&job.inputs, model, plan, error);
    for (size_t i = 0; i < plan->n && status == GRAFT_OK; i++)
        status = import_refuse_output(&job.inputs.members[i].import, out, error);
    if (status == GRAFT_OK && plan->save.progress.step &&
        !plan->save.progress.step(plan->save.progress.user, 0, 1, "merging"))
        status = error_set(error, GRAFT_CANCELLED, "cancelled, nothing was written");
    if (status == GRAFT_OK)
        status = find_factors(&job, error);
    if (status == GRAFT_OK)
        status = find_ranks(&job, error);
    if (status == GRAFT_OK)
        status = make_draft(&job, error);
    if (status == GRAFT_OK && report) {
        told = make_report(&job);
        status = told ? GRAFT_OK : no_memory(error);
    }
    if (status == GRAFT_OK)
        status = write_adapter(&job.draft, out, &plan->save, error);
    if (status == GRAFT_OK && report) {
        fill_report(&job, told);
        *report = told;
        told = NULL;
    }
    json_decref(told);
    if (job.inputs.model)
        merge_result_close(&job.result, job.inputs.mem);
    json_decref(job.draft.card);
    mem_free(&model->runtime->mem, job.draft.modules);
    merge_inputs_close(&job.inputs);
    return status;
}
