/* compress.c: an adapter with fewer ranks.
 *
 * Ranks are settled first, from the singular values of each module's change, so that the card can say what is lost; values
 * come when the writer asks for them, one module at a time. What was written is opened again and held against what
 * it was made of: rounding to the type of the files is part of the error that is told.
 */
#include "adapter/compare/compare.h"
#include "adapter/merge/merge_internal.h"

#include <math.h>

enum { MOST_RANK = 65536 };

/* What becomes of a module of the draft. */
struct fate {
    struct merge_site *site;
    bool reduced;
    double all, kept; /* ‖ΔW‖², under DoRA of h s B A; and what of it stays */
};

struct job {
    const struct compress_options *options;
    struct merge_inputs inputs;
    const struct draft *from; /* the input's */
    struct draft draft;       /* as it is written */
    struct fate *fates;       /* [n_modules] */
    struct merge_result result;
    int at; /* the module that the result is of; −1: none */
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to compress an adapter");
}

static graft_status check_options(const struct compress_options *o, graft_error *error)
{
    if (!o->rank && o->energy == 0)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "how far? a rank, or the share of the energy that stays");
    if (o->rank < 0 || o->rank > MOST_RANK)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "rank %lld: it is 1 to %d",
                         (long long)o->rank, MOST_RANK);
    if (o->energy != 0 && !(o->energy > 0 && o->energy <= 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "energy %g: it is a share, above 0 and at most 1", o->energy);
    return GRAFT_OK;
}

/* ---- ranks -------------------------------------------------------------------------------- */

static graft_status settle_one(struct job *job, int i, double *squares, graft_error *error)
{
    struct fate *f = &job->fates[i];
    struct draft_module *m = &job->draft.modules[i];
    struct changes c;
    int64_t n = 0;
    f->site->factors[0] = 1;
    graft_status status = changes_open(&c, &job->inputs, f->site, error);
    if (status == GRAFT_OK)
        status = merge_spectrum(&c, squares, &n, error);
    changes_close(&c);
    if (status != GRAFT_OK)
        return status;
    const int64_t most = job->options->rank > 0 ? job->options->rank : n;
    const double energy = job->options->energy > 0 ? job->options->energy : 2;
    const int64_t rank = merge_least_rank(squares, n, energy, most);
    for (int64_t k = 0; k < n; k++) {
        f->all += squares[k];
        f->kept += k < rank ? squares[k] : 0;
    }
    f->reduced = rank < m->rank && (job->options->energy > 0 || job->options->rank < m->rank);
    if (f->reduced) {
        m->rank = f->site->out_rank = rank;
        m->scale = 1;
    } else {
        f->kept = f->all;
    }
    return GRAFT_OK;
}

static graft_status settle_ranks(struct job *job, graft_error *error)
{
    struct mem *mem = job->inputs.mem;
    int64_t most = 0;
    graft_status status = GRAFT_OK;
    for (int i = 0; i < job->from->n_modules; i++)
        most = job->from->modules[i].rank > most ? job->from->modules[i].rank : most;
    double *squares = mem_calloc(mem, (size_t)most + 1, sizeof *squares);
    if (!squares)
        return no_memory(error);
    for (int i = 0; i < job->inputs.n_sites; i++)
        job->fates[job->inputs.sites[i].modules[0]].site = &job->inputs.sites[i];
    for (int i = 0; i < job->from->n_modules && status == GRAFT_OK; i++)
        if (!job->from->modules[i].whole)
            status = settle_one(job, i, squares, error);
    mem_free(mem, squares);
    if (status == GRAFT_OK && !draft_lowrank(job->from))
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "the adapter has no factors, which alone can have fewer ranks");
    return status;
}

/* ---- values ------------------------------------------------------------------------------- */

static graft_status compute(struct job *job, int i, graft_error *error)
{
    const struct draft_module *m = &job->draft.modules[i];
    struct changes c = {0};
    job->at = -1;
    merge_result_close(&job->result, job->inputs.mem);
    graft_status status = merge_result_open(&job->result, job->inputs.mem, m, error);
    if (status == GRAFT_OK)
        status = changes_open(&c, &job->inputs, job->fates[i].site, error);
    if (status == GRAFT_OK)
        status = merge_sum(&c, &job->result, error);
    if (status == GRAFT_OK && m->biased)
        status = merge_bias(NULL, &c, &job->result, error);
    changes_close(&c);
    job->at = status == GRAFT_OK ? i : -1;
    return status;
}

static graft_status read_reduced(const struct draft *draft, int i, enum part part, float *out,
                                 graft_error *error)
{
    struct job *job = (struct job *)(uintptr_t)draft->source;
    const struct draft_module *m = &draft->modules[i];
    if (!job->fates[i].reduced)
        return job->from->read(job->from, i, part, out, error);
    graft_status status = job->at == i ? GRAFT_OK : compute(job, i, error);
    if (status == GRAFT_OK)
        merge_result_read(&job->result, m, part, out);
    return status;
}

/* ---- what is told of it ------------------------------------------------------------------- */

static double all_lost(const struct job *job)
{
    double all = 0, kept = 0;
    for (int i = 0; i < job->from->n_modules; i++) {
        all += job->fates[i].all;
        kept += job->fates[i].kept;
    }
    return merge_lost(all, kept);
}

/* What one has to know to do it again, and how much is lost. */
static json_t *describe(const struct job *job)
{
    char hex[65];
    hex_write(job->inputs.members[0].digest, sizeof job->inputs.members[0].digest, hex);
    json_t *json = json_pack("{s:s}", "from", hex);
    if (job->options->rank)
        json_put(&json, "rank", json_integer(job->options->rank));
    if (job->options->energy != 0)
        json_put(&json, "energy", json_number_of(job->options->energy));
    json_put(&json, "discarded_energy", json_number_of(all_lost(job)));
    return json;
}

/* The first ranks are no longer those that learned last. */
static graft_status make_card(struct job *job, graft_error *error)
{
    job->draft.card = json_deep_copy(job->from->card);
    json_t *training = json_object_get(job->draft.card, "training");
    (void)json_object_del(training, "micro");
    json_put(&job->draft.card, "compress", describe(job));
    return job->draft.card ? GRAFT_OK : no_memory(error);
}

static uint64_t bytes_of(const struct draft_module *m)
{
    uint64_t bytes = 0;
    for (int part = 0; part < PART_COUNT; part++)
        bytes += m->source->parts[part] ? m->source->parts[part]->size : 0;
    return bytes;
}

/* ‖ΔW' − ΔW‖ and ‖ΔW‖, of what lies in the files. */
static graft_status measure(const struct merge_inputs *both, const struct merge_site *site,
                            double *error_norm, double *norm, graft_error *error)
{
    struct changes c;
    double inner[4];
    graft_status status = changes_open(&c, both, site, error);
    if (status == GRAFT_OK)
        status = changes_inner(&c, inner, error);
    changes_close(&c);
    if (status == GRAFT_OK) {
        *error_norm = sqrt(fmax(inner[0] - 2 * inner[1] + inner[3], 0));
        *norm = sqrt(fmax(inner[0], 0));
    }
    return status;
}

struct totals {
    double error, norm; /* squares */
    uint64_t before, after;
};

static graft_status tell_one(const struct job *job, const struct merge_inputs *both, int at,
                             json_t **list, struct totals *t, graft_error *error)
{
    const struct merge_site *site = &both->sites[at];
    const int i = site->modules[0], j = site->modules[1];
    const struct draft_module *before = &job->from->modules[i];
    const struct draft_module *after = &both->members[1].import.draft.modules[j];
    const uint64_t old_bytes = bytes_of(before), new_bytes = bytes_of(after);
    char name[MODULE_NAME_SIZE] = "", kind[MODULE_NAME_SIZE] = "";
    (void)merge_site_name(both, site, name);
    (void)slot_short_name(both->model, site->slot, kind);
    json_t *one = json_pack("{s:s, s:s, s:I, s:I}", "module", name, "kind", kind, "bytes_before",
                            (json_int_t)old_bytes, "bytes", (json_int_t)new_bytes);
    t->before += old_bytes;
    t->after += new_bytes;
    graft_status status = GRAFT_OK;
    if (!site->whole) {
        double off = 0, norm = 0;
        status = measure(both, site, &off, &norm, error);
        t->error += off * off;
        t->norm += norm * norm;
        json_put(&one, "rank_before", json_integer(before->rank));
        json_put(&one, "rank", json_integer(after->rank));
        json_put(&one, "discarded_energy",
                 json_number_of(merge_lost(job->fates[i].all, job->fates[i].kept)));
        json_put(&one, "error", json_number_of(norm > 0 ? off / norm : 0));
    }
    json_append(list, one);
    return status;
}

static graft_status make_report(const struct job *job, const char *in, const char *out,
                                json_t **report, graft_error *error)
{
    const struct merge_input files[2] = {
        {.path = in, .name = in, .scale = job->options->save.scale}, {.path = out, .name = out}};
    const struct merge_plan plan = {.inputs = files, .n = 2};
    struct merge_inputs both = {.model = NULL};
    struct totals t = {0};
    json_t *list = json_array(), *json = describe(job);
    graft_status status = merge_inputs_open(&both, job->inputs.model, &plan, error);
    for (int i = 0; i < both.n_sites && status == GRAFT_OK; i++)
        status = tell_one(job, &both, i, &list, &t, error);
    json_put(&json, "error", json_number_of(t.norm > 0 ? sqrt(t.error / t.norm) : 0));
    json_put(&json, "bytes_before", json_integer((json_int_t)t.before));
    json_put(&json, "bytes", json_integer((json_int_t)t.after));
    json_put(&json, "modules", list);
    merge_inputs_close(&both);
    if (status == GRAFT_OK && !json)
        status = no_memory(error);
    if (status == GRAFT_OK)
        *report = json;
    else
        json_decref(json);
    return status;
}

/* ---- whole -------------------------------------------------------------------------------- */

static graft_status open_job(struct job *job, const struct model *model, const char *in,
                             graft_error *error)
{
    const struct merge_input input = {
        .path = in, .name = in, .weight = 1, .scale = job->options->save.scale};
    const struct merge_plan plan = {.inputs = &input, .n = 1};
    graft_status status = merge_inputs_open(&job->inputs, model, &plan, error);
    if (status != GRAFT_OK)
        return status;
    struct mem *mem = job->inputs.mem;
    job->from = &job->inputs.members[0].import.draft;
    job->draft = *job->from;
    job->draft.card = NULL;
    job->draft.read = read_reduced;
    job->draft.source = job;
    job->draft.progress = job->options->save.progress;
    const size_t n = (size_t)job->from->n_modules;
    job->draft.modules = mem_calloc(mem, n, sizeof *job->draft.modules);
    job->fates = mem_calloc(mem, n, sizeof *job->fates);
    if (!job->draft.modules || !job->fates)
        return no_memory(error);
    memcpy(job->draft.modules, job->from->modules, n * sizeof *job->draft.modules);
    return GRAFT_OK;
}

static void close_job(struct job *job)
{
    if (!job->inputs.model)
        return;
    struct mem *mem = job->inputs.mem;
    merge_result_close(&job->result, mem);
    json_decref(job->draft.card);
    if (job->from)
        mem_free(mem, job->draft.modules);
    mem_free(mem, job->fates);
    merge_inputs_close(&job->inputs);
}

graft_status adapter_compress(const struct model *model, const char *in, const char *out,
                              const struct compress_options *options, json_t **report,
                              graft_error *error)
{
    struct job job = {.options = options, .at = -1};
    graft_status status = check_options(options, error);
    if (status == GRAFT_OK)
        status = open_job(&job, model, in, error);
    if (status == GRAFT_OK)
        status = import_refuse_output(&job.inputs.members[0].import, out, error);
    if (status == GRAFT_OK)
        status = settle_ranks(&job, error);
    if (status == GRAFT_OK)
        status = make_card(&job, error);
    if (status == GRAFT_OK)
        status = write_adapter(&job.draft, out, &options->save, error);
    if (status == GRAFT_OK && report)
        status = make_report(&job, in, out, report, error);
    close_job(&job);
    return status;
}
