/* diff.c: how two adapters differ, module by module, and by kind and layer.
 *
 * Norms, distance and cosine come from the inner products of ΔW. How much two spaces overlap is ‖Q1 Q2ᵀ‖² over the lesser of
 * their dimensions, Q orthonormal: 1 where one holds the other, 0 where they are orthogonal, r / n for random ones. The spaces
 * are those of the changes, found from their singular vectors, not those that A and B happen to span; under DoRA those of
 * h s B A, since the gains alone reach every direction.
 */
#include "adapter/compare/compare.h"
#include "adapter/merge/merge_internal.h"

#include <math.h>

static const double WEAK = 1e-6; /* singular values below this part of the largest are rounding */

/* Sums over modules. */
struct sums {
    double aa, ab, bb;    /* ⟨ΔW, ΔW⟩ */
    double columns, rows; /* of overlaps, of which there are n_spaces */
    int64_t n_spaces, modules;
};

struct pair {
    struct sums sums; /* of one module */
    bool whole, both;
    double bias[3]; /* norms, and the distance */
};

struct job {
    struct merge_inputs inputs;
    struct sums total, *kinds, *layers; /* [SLOT_COUNT], [n_layer]: of the modules in blocks */
    int64_t only[2], both, ranks, scales, doras;
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to compare adapters");
}

static double distance_of(const struct sums *s)
{
    return sqrt(fmax(s->aa - 2 * s->ab + s->bb, 0));
}

static void add_sums(struct sums *to, const struct sums *from)
{
    to->aa += from->aa;
    to->ab += from->ab;
    to->bb += from->bb;
    to->columns += from->columns;
    to->rows += from->rows;
    to->n_spaces += from->n_spaces;
    to->modules++;
}

/* ---- spaces ------------------------------------------------------------------------------- */

/* Orthonormal rows; n of each. */
struct spaces {
    float *rows, *columns; /* [rank, n_in], [rank, n_out] */
    int64_t n;
};

static void normalise(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)x[k] * (double)x[k];
    for (int64_t k = 0; k < n; k++)
        x[k] = sum > 0 ? (float)((double)x[k] / sqrt(sum)) : 0;
}

/* The directions of input i alone, strongest first: rows of A and columns of B as long as √σ. */
static graft_status find_spaces(const struct changes *c, struct merge_site *site, size_t i,
                                struct spaces *out, graft_error *error)
{
    struct mem *mem = c->inputs->mem;
    const int64_t rank = c->begins[i + 1] - c->begins[i];
    struct merge_result result = {.a = NULL};
    for (size_t k = 0; k < c->inputs->n; k++)
        site->factors[k] = k == i;
    site->out_rank = rank;
    result.a = out->rows = mem_calloc(mem, (size_t)(rank * site->n_in), sizeof *out->rows);
    result.b = mem_calloc(mem, (size_t)(rank * site->n_out), sizeof *result.b);
    out->columns = mem_calloc(mem, (size_t)(rank * site->n_out), sizeof *out->columns);
    graft_status status =
        result.a && result.b && out->columns ? merge_sum(c, &result, error) : no_memory(error);
    double first = 0;
    for (int64_t r = 0; r < rank && status == GRAFT_OK; r++) {
        double sum = 0; /* σ */
        for (int64_t k = 0; k < site->n_in; k++)
            sum += (double)out->rows[r * site->n_in + k] * (double)out->rows[r * site->n_in + k];
        first = r ? first : sum;
        if (!(sum > WEAK * first))
            break;
        for (int64_t o = 0; o < site->n_out; o++)
            out->columns[r * site->n_out + o] = result.b[o * rank + r];
        normalise(out->rows + r * site->n_in, site->n_in);
        normalise(out->columns + r * site->n_out, site->n_out);
        out->n++;
    }
    mem_free(mem, result.b);
    return status;
}

static graft_status overlap(const struct changes *c, const struct tall *x, const struct tall *y,
                            double *out, graft_error *error)
{
    double *gram = mem_calloc(c->inputs->mem, (size_t)(x->k * y->k), sizeof *gram), sum = 0;
    if (!gram)
        return no_memory(error);
    tall_gram(c->inputs->model->runtime->pool, x, y, gram);
    for (int64_t k = 0; k < x->k * y->k; k++)
        sum += gram[k] * gram[k];
    *out = fmin(sum / (double)(x->k < y->k ? x->k : y->k), 1);
    mem_free(c->inputs->mem, gram);
    return GRAFT_OK;
}

/* Nothing where one of them changes nothing. */
static graft_status compare_spaces(const struct changes *c, struct merge_site *site,
                                   struct sums *out, graft_error *error)
{
    struct mem *mem = c->inputs->mem;
    struct spaces s[2] = {{NULL, NULL, 0}, {NULL, NULL, 0}};
    graft_status status = find_spaces(c, site, 0, &s[0], error);
    if (status == GRAFT_OK)
        status = find_spaces(c, site, 1, &s[1], error);
    if (status == GRAFT_OK && s[0].n && s[1].n) {
        status = overlap(c, &(struct tall){s[0].columns, s[0].n, site->n_out},
                         &(struct tall){s[1].columns, s[1].n, site->n_out}, &out->columns, error);
        if (status == GRAFT_OK)
            status = overlap(c, &(struct tall){s[0].rows, s[0].n, site->n_in},
                             &(struct tall){s[1].rows, s[1].n, site->n_in}, &out->rows, error);
        out->n_spaces = 1;
    }
    for (int i = 0; i < 2; i++) {
        mem_free(mem, s[i].rows);
        mem_free(mem, s[i].columns);
    }
    return status;
}

/* ---- a module ----------------------------------------------------------------------------- */

static graft_status compare_biases(const struct changes *c, struct merge_site *site, double out[3],
                                   graft_error *error)
{
    struct mem *mem = c->inputs->mem;
    float *both = mem_calloc(mem, 2 * (size_t)site->n_out, sizeof *both);
    graft_status status = both ? GRAFT_OK : no_memory(error);
    for (size_t i = 0; i < 2 && status == GRAFT_OK; i++) {
        struct merge_result result = {.bias = both + (int64_t)i * site->n_out};
        site->factors[i] = 1;
        site->factors[1 - i] = 0;
        status = merge_bias(NULL, c, &result, error);
    }
    for (int64_t o = 0; o < site->n_out && status == GRAFT_OK; o++) {
        const double a = (double)both[o], b = (double)both[site->n_out + o];
        out[0] += a * a;
        out[1] += b * b;
        out[2] += (a - b) * (a - b);
    }
    mem_free(mem, both);
    return status;
}

static graft_status compare_factors(struct job *job, struct merge_site *site, struct pair *out,
                                    graft_error *error)
{
    struct changes c;
    double inner[4];
    graft_status status = changes_open(&c, &job->inputs, site, error);
    if (status == GRAFT_OK)
        status = changes_inner(&c, inner, error);
    if (status == GRAFT_OK) {
        out->sums.aa = fmax(inner[0], 0);
        out->sums.ab = inner[1];
        out->sums.bb = fmax(inner[3], 0);
    }
    if (status == GRAFT_OK && out->both)
        status = compare_spaces(&c, site, &out->sums, error);
    if (status == GRAFT_OK && site->biased)
        status = compare_biases(&c, site, out->bias, error);
    changes_close(&c);
    return status;
}

/* Of weights that are held whole: what each has beyond the base's. */
static graft_status compare_whole(struct job *job, struct merge_site *site, struct pair *out,
                                  graft_error *error)
{
    struct mem *mem = job->inputs.mem;
    const size_t n = (size_t)(site->n_out * site->n_in);
    float *base = mem_alloc(mem, n * sizeof *base), *part[2];
    struct merge_result result = {.weight = base};
    graft_status status = base ? GRAFT_OK : no_memory(error);
    site->factors[0] = site->factors[1] = 0; /* nothing is added to it */
    if (status == GRAFT_OK)
        status = merge_whole(&job->inputs, site, &result, error);
    for (int i = 0; i < 2; i++) {
        const struct draft *draft = &job->inputs.members[i].import.draft;
        const bool has = site->modules[i] >= 0;
        part[i] = has ? mem_alloc(mem, n * sizeof *part[i]) : base;
        if (status == GRAFT_OK && !part[i])
            status = no_memory(error);
        if (status == GRAFT_OK && has)
            status = draft->read(draft, site->modules[i], PART_WEIGHT, part[i], error);
    }
    for (size_t k = 0; k < n && status == GRAFT_OK; k++) {
        const double a = (double)part[0][k] - (double)base[k];
        const double b = (double)part[1][k] - (double)base[k];
        out->sums.aa += a * a;
        out->sums.ab += a * b;
        out->sums.bb += b * b;
    }
    for (int i = 0; i < 2; i++)
        mem_free(mem, part[i] != base ? part[i] : NULL);
    mem_free(mem, base);
    return status;
}

/* ---- what is told of it ------------------------------------------------------------------- */

/* null: not there, or 0 / 0 */
static json_t *number_or_null(double x)
{
    return isfinite(x) ? json_number_of(x) : json_null();
}

static void put_sums(json_t **json, const struct sums *s, bool mean)
{
    const double n = mean ? (double)s->n_spaces : s->n_spaces ? 1 : 0;
    const double lengths = sqrt(s->aa) * sqrt(s->bb);
    json_put(json, "norm_a", json_number_of(sqrt(s->aa)));
    json_put(json, "norm_b", json_number_of(sqrt(s->bb)));
    json_put(json, "distance", json_number_of(distance_of(s)));
    json_put(json, "cosine",
             number_or_null(lengths > 0 ? fmax(-1, fmin(1, s->ab / lengths)) : NAN));
    json_put(json, "columns", number_or_null(s->columns / n));
    json_put(json, "rows", number_or_null(s->rows / n));
}

static bool in_block(int slot)
{
    return slot >= SLOT_ATTN_NORM;
}

static const struct draft_module *module_of(const struct job *job, const struct merge_site *site,
                                            int i)
{
    return site->modules[i] < 0 ? NULL
                                : &job->inputs.members[i].import.draft.modules[site->modules[i]];
}

static json_t *describe_pair(const struct job *job, const struct merge_site *site,
                             const struct pair *p)
{
    static const char *const names[2][3] = {{"rank_a", "scale_a", "dora_a"},
                                            {"rank_b", "scale_b", "dora_b"}};
    char name[MODULE_NAME_SIZE] = "", kind[MODULE_NAME_SIZE] = "";
    (void)merge_site_name(&job->inputs, site, name);
    (void)slot_short_name(job->inputs.model, site->slot, kind);
    json_t *one = json_pack("{s:s, s:s}", "module", name, "kind", kind);
    if (in_block(site->slot))
        json_put(&one, "layer", json_integer(site->layer));
    if (!p->both)
        json_put(&one, "only", json_string(site->modules[0] < 0 ? "b" : "a"));
    if (p->whole)
        json_put(&one, "whole", json_true());
    for (int i = 0; i < 2 && !p->whole; i++) {
        const struct draft_module *m = module_of(job, site, i);
        json_put(&one, names[i][0], m ? json_integer(m->rank) : json_null());
        json_put(&one, names[i][1], m ? json_number_of(m->scale) : json_null());
        json_put(&one, names[i][2], m ? json_boolean(m->dora) : json_null());
    }
    put_sums(&one, &p->sums, false);
    if (site->biased) {
        json_put(&one, "bias_norm_a", json_number_of(sqrt(p->bias[0])));
        json_put(&one, "bias_norm_b", json_number_of(sqrt(p->bias[1])));
        json_put(&one, "bias_distance", json_number_of(sqrt(p->bias[2])));
    }
    return one;
}

static json_t *describe_input(const struct job *job, int i)
{
    const struct merge_member *m = &job->inputs.members[i];
    char hex[65];
    hex_write(m->digest, sizeof m->digest, hex);
    json_t *json = json_pack("{s:s, s:i, s:b}", "digest", hex, "modules", m->import.draft.n_modules,
                             "rslora", m->import.draft.rslora);
    static const char *const keys[] = {"name", "version"};
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        const json_t *value = json_object_get(m->import.source.card, keys[k]);
        if (json_is_string(value))
            json_put(&json, keys[k], json_copy((json_t *)(uintptr_t)value));
    }
    return json;
}

/* The members of graft.json that differ. */
static json_t *differing_keys(const struct job *job)
{
    json_t *list = json_array(), *value;
    const char *key;
    json_t *a = job->inputs.members[0].import.source.card;
    json_t *b = job->inputs.members[1].import.source.card;
    json_object_foreach(a, key, value) if (!json_equal(value, json_object_get(b, key)))
        json_append(&list, json_string(key));
    json_object_foreach(b, key, value) if (!json_object_get(a, key))
        json_append(&list, json_string(key));
    return list;
}

static json_t *list_kinds(const struct job *job)
{
    json_t *list = json_array();
    char kind[MODULE_NAME_SIZE];
    for (int slot = 0; slot < SLOT_COUNT; slot++) {
        const struct sums *s = &job->kinds[slot];
        if (!s->modules || !slot_short_name(job->inputs.model, slot, kind))
            continue;
        json_t *one = json_pack("{s:s, s:I}", "kind", kind, "modules", (json_int_t)s->modules);
        put_sums(&one, s, true);
        json_append(&list, one);
    }
    return list;
}

static json_t *list_layers(const struct job *job)
{
    json_t *list = json_array();
    for (int layer = 0; layer < job->inputs.model->config.n_layer; layer++) {
        const struct sums *s = &job->layers[layer];
        if (!s->modules)
            continue;
        json_t *one = json_pack("{s:i, s:I}", "layer", layer, "modules", (json_int_t)s->modules);
        put_sums(&one, s, true);
        json_append(&list, one);
    }
    return list;
}

static json_t *describe(const struct job *job, json_t *modules)
{
    const struct merge_member *m = job->inputs.members;
    json_t *total = json_pack("{s:I}", "modules", (json_int_t)job->total.modules);
    put_sums(&total, &job->total, true);
    json_t *json = json_pack(
        "{s:b, s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:o}, s:o, s:o, s:o, s:o}", "same",
        !memcmp(m[0].digest, m[1].digest, sizeof m[0].digest), "a", describe_input(job, 0), "b",
        describe_input(job, 1), "differences", "only_a", (json_int_t)job->only[0], "only_b",
        (json_int_t)job->only[1], "both", (json_int_t)job->both, "ranks", (json_int_t)job->ranks,
        "scales", (json_int_t)job->scales, "dora", (json_int_t)job->doras, "card",
        differing_keys(job), "total", total, "kinds", list_kinds(job), "layers", list_layers(job),
        "modules", modules);
    return json;
}

/* ---- whole -------------------------------------------------------------------------------- */

static void count_pair(struct job *job, const struct merge_site *site, const struct pair *p)
{
    const struct draft_module *a = module_of(job, site, 0), *b = module_of(job, site, 1);
    add_sums(&job->total, &p->sums);
    add_sums(&job->kinds[site->slot], &p->sums);
    if (in_block(site->slot))
        add_sums(&job->layers[site->layer], &p->sums);
    if (!p->both) {
        job->only[a == NULL]++;
        return;
    }
    job->both++;
    job->ranks += a->rank != b->rank;
    job->scales += a->scale != b->scale;
    job->doras += a->dora != b->dora;
}

static graft_status compare_all(struct job *job, const struct save_progress *progress,
                                json_t **modules, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < job->inputs.n_sites && status == GRAFT_OK; i++) {
        struct merge_site *site = &job->inputs.sites[i];
        struct pair p = {.whole = site->whole,
                         .both = site->modules[0] >= 0 && site->modules[1] >= 0};
        status = site->whole ? compare_whole(job, site, &p, error)
                             : compare_factors(job, site, &p, error);
        if (status != GRAFT_OK)
            return status;
        count_pair(job, site, &p);
        json_append(modules, describe_pair(job, site, &p));
        if (progress->step && !progress->step(progress->user, (uint64_t)i + 1,
                                              (uint64_t)job->inputs.n_sites, "comparing"))
            status = error_set(error, GRAFT_CANCELLED, "cancelled");
    }
    return status;
}

graft_status adapter_diff(const struct model *model, const char *a, const char *b,
                          const struct diff_options *options, json_t **out, graft_error *error)
{
    const struct merge_input inputs[2] = {{.path = a, .name = a, .scale = options->scale_a},
                                          {.path = b, .name = b, .scale = options->scale_b}};
    const struct merge_plan plan = {.inputs = inputs, .n = 2};
    struct mem *mem = &model->runtime->mem;
    struct job job = {.both = 0};
    json_t *modules = json_array(), *json = NULL;
    graft_status status = merge_inputs_open(&job.inputs, model, &plan, error);
    job.kinds = mem_calloc(mem, SLOT_COUNT, sizeof *job.kinds);
    job.layers = mem_calloc(mem, (size_t)model->config.n_layer + 1, sizeof *job.layers);
    if (status == GRAFT_OK && (!job.kinds || !job.layers))
        status = no_memory(error);
    if (status == GRAFT_OK)
        status = compare_all(&job, &options->progress, &modules, error);
    if (status == GRAFT_OK) {
        json = describe(&job, modules);
        modules = NULL; /* taken over, on failure too */
        status = json ? GRAFT_OK : no_memory(error);
    }
    if (status == GRAFT_OK)
        *out = json;
    json_decref(modules);
    mem_free(mem, job.kinds);
    mem_free(mem, job.layers);
    merge_inputs_close(&job.inputs);
    return status;
}
