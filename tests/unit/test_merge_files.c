/* test_merge_files.c: laws of merging through files of every kind: one adapter gives itself back, the order of inputs does not
 * count, weights scale, sums are those of the dense changes on every base, ranks are the best there are, and the same bytes
 * for any number of threads.
 */
#include "merge_fixture.h"

static bool is_dense(enum merge_method method)
{
    return merge_is_dense(method) || method == MERGE_SVD;
}

static void merged_effect(const struct merging *m, const struct base *b, struct effect *out)
{
    merging_run(m, b->model, "merged", NULL);
    effect_open(out, b, at("merged"));
}

static void check_off(double off, double bound, const struct merging *m, const char *what)
{
    if (!(off <= bound))
        fail_msg("%s, %s: off by %.3g", merge_method_name(m->plan.method), what, off);
}

/* ---- one adapter -------------------------------------------------------------------------- */

static void one_adapter_gives_itself_back(void **state)
{
    (void)state;
    static const char *const VARIANTS[] = {"lora",     "patterns", "lora-bias",
                                           "mlx-dora", "rsdora",   "embed"};
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++)
        for (int method = 0; method < MERGE_METHOD_COUNT; method++) {
            struct merging m;
            struct effect want, got;
            char variants[64];
            const bool dora = strstr(VARIANTS[v], "dora") != NULL;
            snprintf(variants, sizeof variants, "%s%s", VARIANTS[v],
                     method == MERGE_SLERP ? " lora" : "");
            merging_open(&m, &b, variants);
            m.plan.method = (enum merge_method)method;
            m.plan.t = 0;
            m.plan.rank = dora && is_dense(m.plan.method) ? 4096 : 0; /* all there is */
            effect_open(&want, &b, m.paths[0]);
            merged_effect(&m, &b, &got);
            check_off(effect_off(&got, &want), 2e-5, &m, VARIANTS[v]);
            effect_close(&want);
            effect_close(&got);
            merging_close(&m);
        }
    base_close(&b);
}

static void chance_gives_an_adapter_back_on_average(void **state)
{
    (void)state;
    enum { SEEDS = 12 };
    static const enum merge_method METHODS[] = {MERGE_DARE_LINEAR, MERGE_DELLA};
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++) {
        struct merging m;
        struct effect want, mean = {0};
        merging_open(&m, &b, "lora");
        m.plan.method = METHODS[i];
        m.plan.rank = 4096;
        m.inputs[0].density = 0.8;
        m.inputs[0].epsilon = 0.1;
        effect_open(&want, &b, m.paths[0]);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct effect one;
            m.plan.seed = seed;
            merged_effect(&m, &b, &one);
            /* One draw is off by √(1/p − 1). */
            assert_true(effect_off(&one, &want) > 0.3);
            effect_add_all(&mean, &one, 1.0 / SEEDS);
            effect_close(&one);
        }
        check_off(effect_off(&mean, &want), 1.3 * sqrt((1 / 0.8 - 1) / SEEDS), &m, "the mean");
        effect_close(&want);
        effect_close(&mean);
        merging_close(&m);
    }
    base_close(&b);
}

/* ---- inputs ------------------------------------------------------------------------------- */

static void set_inputs(struct merging *m)
{
    static const struct merge_input LIKE[MOST_INPUTS] = {
        {.weight = 0.9, .density = 0.5, .epsilon = 0.2, .gamma = 0.1},
        {.weight = 0.4, .density = 0.7, .epsilon = 0.1, .gamma = 0.05},
        {.weight = 1.3, .density = 0.6, .epsilon = 0.3, .gamma = 0}};
    for (size_t i = 0; i < m->plan.n; i++) {
        m->inputs[i].weight = LIKE[i].weight;
        m->inputs[i].density = LIKE[i].density;
        m->inputs[i].epsilon = LIKE[i].epsilon;
        m->inputs[i].gamma = LIKE[i].gamma;
    }
    m->plan.rank =
        is_dense(m->plan.method) ? 4096 : 0; /* no approximation, which would hide what differs */
}

static void the_order_of_inputs_does_not_count(void **state)
{
    (void)state;
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (int method = 0; method < MERGE_METHOD_COUNT; method++) {
        struct merging m;
        struct effect want, got;
        merging_open(&m, &b,
                     method == MERGE_SLERP ? "mlx-dora lora" : "mlx-dora lora-bias mlx-lora");
        m.plan.method = (enum merge_method)method;
        set_inputs(&m);
        merged_effect(&m, &b, &want);
        const struct merge_input first = m.inputs[0];
        for (size_t i = 0; i + 1 < m.plan.n; i++)
            m.inputs[i] = m.inputs[i + 1];
        m.inputs[m.plan.n - 1] = first;
        m.plan.t = 1 - m.plan.t;
        merged_effect(&m, &b, &got);
        check_off(effect_off(&got, &want), 1e-5, &m, "in another order");
        effect_close(&want);
        effect_close(&got);
        merging_close(&m);
    }
    base_close(&b);
}

static void check_scaled(struct merging *m, const struct base *b, const struct effect *one,
                         double times, const char *what)
{
    struct effect got, want = {0};
    merged_effect(m, b, &got);
    effect_add_all(&want, one, times);
    check_off(effect_off(&got, &want), 2e-5, m, what);
    effect_close(&got);
    effect_close(&want);
}

static void weights_and_lambda_scale(void **state)
{
    (void)state;
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    for (int method = 0; method < MERGE_METHOD_COUNT; method++)
        for (int by_weight = 0; by_weight <= merge_elects_signs((enum merge_method)method);
             by_weight++) {
            struct merging m;
            struct effect one;
            merging_open(&m, &b, "lora-bias lora");
            m.plan.method = (enum merge_method)method;
            m.plan.by_weight = by_weight;
            set_inputs(&m);
            merged_effect(&m, &b, &one);
            m.plan.lambda = -1.5;
            check_scaled(&m, &b, &one, -1.5, "lambda");
            m.plan.lambda = 1;
            m.inputs[0].weight *= 2.5;
            m.inputs[1].weight *= 2.5;
            check_scaled(&m, &b, &one, merge_uses_weights(m.plan.method) && !by_weight ? 2.5 : 1,
                         "weights");
            m.plan.normalize = true;
            check_scaled(&m, &b, &one,
                         merge_uses_weights(m.plan.method) && !by_weight ? 1 / 1.3 : 1,
                         "normalize");
            effect_close(&one);
            merging_close(&m);
        }
    base_close(&b);
}

/* Fresh adapters change nothing. */
static void an_adapter_that_is_zero_adds_nothing(void **state)
{
    (void)state;
    struct base b;
    graft_error error = {0};
    base_make(&b, "llama", "base", 1, NULL);
    for (int method = 0; method < MERGE_METHOD_COUNT; method++) {
        struct merging m;
        struct effect want, got, sum = {0};
        merging_open(&m, &b, "lora lora");
        m.plan.method = (enum merge_method)method;
        m.plan.rank = is_dense(m.plan.method) ? 4096 : 0;
        effect_open(&want, &b, m.paths[0]);
        m.inputs[1].path = create(&b, &RECIPE, "zero");
        const double left = method == MERGE_AVERAGE || method == MERGE_MODEL_STOCK ? 0.5 : 1;
        if (method == MERGE_SLERP) {
            assert_int_equal(merge_write(b.model, &m.plan, at("none"), NULL, &error),
                             GRAFT_NUMERIC);
            assert_non_null(strstr(error.message, "changes nothing at all"));
            assert_false(path_exists(at("none")));
        } else {
            merged_effect(&m, &b, &got);
            effect_add_all(&sum, &want, left);
            check_off(effect_off(&got, &sum), 2e-5, &m, "with zeros");
            effect_close(&got);
            m.plan.n = 1; /* and zeros alone are nothing */
            m.inputs[0].path = m.inputs[1].path;
            struct effect none = {0};
            merged_effect(&m, &b, &got);
            assert_true(effect_off(&got, &none) == 0);
            effect_close(&got);
        }
        effect_close(&sum);
        effect_close(&want);
        merging_close(&m);
    }
    base_close(&b);
}

/* ---- sums --------------------------------------------------------------------------------- */

static double inner_of(const struct effect *x, const struct effect *y, int slot, int layer)
{
    const struct effect_part *a = &x->parts[slot][layer], *b = &y->parts[slot][layer];
    double sum = 0;
    for (int64_t k = 0; a->w && b->w && k < a->n_out * a->n_in; k++)
        sum += a->w[k] * b->w[k];
    return sum;
}

/* What each input of a module counts, from the dense changes. */
static void factors_of(const struct merging *m, const struct effect *inputs, int slot, int layer,
                       double *out)
{
    const struct merge_plan *plan = &m->plan;
    const size_t n = plan->n;
    double inner[16], weights = 0;
    for (size_t i = 0; i < n; i++)
        weights += m->inputs[i].weight;
    for (size_t i = 0; i < n * n; i++)
        inner[i] = inner_of(&inputs[i / n], &inputs[i % n], slot, layer);
    for (size_t i = 0; i < n; i++)
        out[i] = plan->method == MERGE_AVERAGE
                     ? 1.0 / (double)n
                     : m->inputs[i].weight / (plan->normalize ? weights : 1);
    if (plan->method == MERGE_SLERP) {
        const double cosine = inner[1] / sqrt(inner[0] * inner[3]), angle = acos(cosine);
        const bool line = !(inner[0] > 0 && inner[3] > 0) || fabs(cosine) > 0.9995;
        out[0] = line ? 1 - plan->t : sin((1 - plan->t) * angle) / sin(angle);
        out[1] = line ? plan->t : sin(plan->t * angle) / sin(angle);
    }
    if (plan->method == MERGE_MODEL_STOCK) {
        double cosine = 0, pairs = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++) {
                const double both = sqrt(inner[i * n + i] * inner[j * n + j]);
                cosine += both > 0 ? inner[i * n + j] / both : 0;
                pairs += both > 0;
            }
        cosine = pairs > 0 ? fmax(cosine / pairs, 0) : 1;
        for (size_t i = 0; i < n; i++)
            out[i] = cosine / (1 + (double)(n - 1) * cosine);
    }
    for (size_t i = 0; i < n; i++)
        out[i] *= plan->lambda;
}

static void dense_sum(const struct merging *m, const struct effect *inputs, struct effect *out)
{
    memset(out, 0, sizeof *out);
    for (int at_part = 0; at_part < SLOT_COUNT * LAYERS; at_part++) {
        double factors[MOST_INPUTS];
        factors_of(m, inputs, at_part / LAYERS, at_part % LAYERS, factors);
        for (size_t i = 0; i < m->plan.n; i++)
            effect_add(out, &inputs[i], at_part / LAYERS, at_part % LAYERS, factors[i]);
    }
}

static void check_sum(struct merging *m, const struct base *b, const char *what)
{
    struct effect inputs[MOST_INPUTS], want, got;
    for (size_t i = 0; i < m->plan.n; i++)
        effect_open(&inputs[i], b, m->paths[i]);
    dense_sum(m, inputs, &want);
    merged_effect(m, b, &got);
    /* Angles that are nearly right hang by the last digits of ΔW, and Model Stock multiplies with their cosine. */
    check_off(effect_off(&got, &want), m->plan.method == MERGE_MODEL_STOCK ? 1e-3 : 1e-5, m, what);
    for (size_t i = 0; i < m->plan.n; i++)
        effect_close(&inputs[i]);
    effect_close(&want);
    effect_close(&got);
}

static void check_sums(const struct base *b, const char *variants, const char *what)
{
    static const enum merge_method METHODS[] = {MERGE_AVERAGE, MERGE_LINEAR,
                                                MERGE_CAT,     MERGE_TASK_ARITHMETIC,
                                                MERGE_SLERP,   MERGE_MODEL_STOCK};
    static const double WEIGHTS[MOST_INPUTS] = {0.7, -0.4, 0.9, 0.25};
    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++) {
        struct merging m;
        merging_open(&m, b, variants);
        m.plan.method = METHODS[i];
        m.plan.n = METHODS[i] == MERGE_SLERP ? 2 : m.plan.n;
        m.plan.normalize = METHODS[i] == MERGE_LINEAR;
        m.plan.lambda = METHODS[i] == MERGE_TASK_ARITHMETIC ? 1.7 : 1;
        for (size_t k = 0; k < m.plan.n; k++)
            m.inputs[k].weight = WEIGHTS[k];
        check_sum(&m, b, what);
        merging_close(&m);
    }
}

static void sums_are_those_of_the_dense_changes_on_every_base(void **state)
{
    (void)state;
    static const graft_type f32 = GRAFT_TYPE_F32, q8 = GRAFT_TYPE_Q8_0, q4 = GRAFT_TYPE_Q4_K;
    static const struct {
        const char *arch, *name;
        const graft_type *gguf;
    } BASES[] = {{"llama", "base", NULL},
                 {"llama", "rows.gguf", &f32}, /* q and k interleaved */
                 {"llama", "q8.gguf", &q8},
                 {"llama", "q4.gguf", &q4},
                 {"qwen3", "base3", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(BASES); i++) {
        struct base b;
        base_make(&b, BASES[i].arch, BASES[i].name, 1, BASES[i].gguf);
        check_sums(&b, "lora-all@bf16 lora patterns mlx-lora", BASES[i].name);
        check_sums(&b, "rsdora mlx-dora lora-bias@bf16", BASES[i].name);
        check_sums(&b, "lora-all rsdora dora", BASES[i].name);
        if (!strcmp(BASES[i].arch, "llama"))
            check_sums(&b, "rslora@gguf dora mlx-lora", BASES[i].name);
        base_close(&b);
    }
}

static void whole_modules_and_embeddings_sum_up_too(void **state)
{
    (void)state;
    struct base b;
    base_make(&b, "llama", "base", 1, NULL);
    struct merging m;
    merging_open(&m, &b, "saved lora saved");
    m.plan.method = MERGE_LINEAR;
    m.inputs[0].weight = 0.3;
    m.inputs[2].weight = -0.6;
    check_sum(&m, &b, "saved");
    m.plan.method = MERGE_AVERAGE;
    check_sum(&m, &b, "saved");
    merging_close(&m);
    merging_open(&m, &b, "embed lora embed");
    m.plan.method = MERGE_LINEAR;
    m.inputs[1].weight = -2;
    check_sum(&m, &b, "embed");
    merging_close(&m);
    base_close(&b);
}

/* ---- ranks -------------------------------------------------------------------------------- */

/* Of the part with factors: under DoRA, what is left of the change without the gains of the rows. */
static double *low_rank_part(const struct base *b, const struct effect *all,
                             const struct effect_part *gained, int slot, int layer)
{
    const struct effect_part *part = &all->parts[slot][layer];
    const int64_t count = part->n_out * part->n_in;
    char name[MODULE_NAME_SIZE];
    double *out = malloc((size_t)count * sizeof *out);
    assert_true(arch_module(b->model->config.arch, NAMING_HF, slot, layer, name, MODULE_NAME_SIZE));
    const float *w = base_weight(b, name);
    for (int64_t k = 0; k < count; k++)
        out[k] = part->w[k] - (gained->gains[k / part->n_in] - 1) * (double)w[k];
    return out;
}

static void check_best(const struct merging *m, const struct base *b)
{
    struct effect inputs[MOST_INPUTS], want, got;
    for (size_t i = 0; i < m->plan.n; i++)
        effect_open(&inputs[i], b, m->paths[i]);
    dense_sum(m, inputs, &want);
    merged_effect(m, b, &got);
    for (int i = SLOT_LINEAR * LAYERS; i < SLOT_COUNT * LAYERS; i++) {
        const int slot = i / LAYERS, layer = i % LAYERS;
        const struct effect_part *part = &want.parts[slot][layer];
        if (!part->w)
            continue;
        double *x = low_rank_part(b, &want, part, slot, layer);
        double *y = low_rank_part(b, &got, part, slot, layer);
        const double off = distance(x, y, part->n_out * part->n_in);
        const double best = best_distance(x, part->n_out, part->n_in, m->plan.rank);
        const double size = norm_of(part->w, part->n_out * part->n_in);
        if (!(off <= (1 + 1e-5) * best + 1e-6 * size))
            fail_msg("%s: %.9g, and at best %.9g of %.9g", merge_method_name(m->plan.method), off,
                     best, size);
        free(x);
        free(y);
    }
    for (size_t i = 0; i < m->plan.n; i++)
        effect_close(&inputs[i]);
    effect_close(&want);
    effect_close(&got);
}

static void recompression_is_the_best_under_dora_too(void **state)
{
    (void)state;
    static const graft_type q8 = GRAFT_TYPE_Q8_0;
    struct base b[2];
    base_make(&b[0], "llama", "base", 1, NULL);
    base_make(&b[1], "llama", "q8.gguf", 1, &q8);
    for (int i = 0; i < 8; i++) {
        struct merging m;
        merging_open(&m, &b[i / 4], i % 2 ? "rsdora dora rslora" : "rsdora lora-all");
        m.plan.method = i / 2 % 2 ? MERGE_AVERAGE : MERGE_LINEAR;
        m.plan.rank = 3;
        m.inputs[0].weight = 0.7;
        m.inputs[1].weight = -0.5;
        check_best(&m, &b[i / 4]);
        merging_close(&m);
    }
    base_close(&b[0]);
    base_close(&b[1]);
}

/* Ranks are the least that keep the share, and reports say what is gone. */
static void energies_are_kept_with_the_least_rank(void **state)
{
    (void)state;
    struct base b;
    struct merging m;
    struct effect inputs[3], want;
    json_t *report = NULL, *one;
    size_t k;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora-all rslora lora");
    m.plan.method = MERGE_LINEAR;
    m.plan.energy = 0.8;
    merging_run(&m, b.model, "merged", &report);
    for (size_t i = 0; i < 3; i++)
        effect_open(&inputs[i], &b, m.paths[i]);
    dense_sum(&m, inputs, &want);
    double all = 0, gone = 0;
    json_array_foreach(json_object_get(report, "modules"), k, one)
    {
        const int64_t rank = json_integer_value(json_object_get(one, "rank"));
        const char *name = json_string_value(json_object_get(one, "module"));
        for (int i = 0; i < SLOT_COUNT * LAYERS; i++) {
            const struct effect_part *part = &want.parts[i / LAYERS][i % LAYERS];
            char module[MODULE_NAME_SIZE];
            if (!part->w ||
                !arch_module(b.model->config.arch, NAMING_HF, i / LAYERS, i % LAYERS, module,
                             sizeof module) ||
                strcmp(module, name) != 0)
                continue;
            const double square = pow(norm_of(part->w, part->n_out * part->n_in), 2);
            const double lost = pow(best_distance(part->w, part->n_out, part->n_in, rank), 2);
            const double more = pow(best_distance(part->w, part->n_out, part->n_in, rank - 1), 2);
            assert_true(lost <= 0.2 * square && more > 0.2 * square);
            assert_true(fabs(json_number_value(json_object_get(one, "discarded_energy")) -
                             lost / square) < 1e-6);
            all += square;
            gone += lost;
        }
    }
    assert_true(all > 0 && fabs(json_number_value(json_object_get(report, "discarded_energy")) -
                                gone / all) < 1e-6);
    for (size_t i = 0; i < 3; i++)
        effect_close(&inputs[i]);
    effect_close(&want);
    json_decref(report);
    merging_close(&m);
    base_close(&b);
}

/* Where only some modules lose anything, the share is one of all of them. */
static void discarded_energy_counts_what_is_kept_whole(void **state)
{
    (void)state;
    struct base b;
    struct merging m;
    struct effect inputs[2], want, got;
    json_t *report = NULL;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora-all patterns");
    m.plan.method = MERGE_LINEAR;
    m.plan.rank = 5; /* what patterns leaves alone has just that */
    merging_run(&m, b.model, "merged", &report);
    effect_open(&inputs[0], &b, m.paths[0]);
    effect_open(&inputs[1], &b, m.paths[1]);
    effect_open(&got, &b, at("merged"));
    dense_sum(&m, inputs, &want);
    double all = 0, gone = 0;
    for (int i = 0; i < SLOT_COUNT * LAYERS; i++) {
        const struct effect_part *w = &want.parts[i / LAYERS][i % LAYERS];
        const struct effect_part *g = &got.parts[i / LAYERS][i % LAYERS];
        all += w->w ? pow(norm_of(w->w, w->n_out * w->n_in), 2) : 0;
        gone += w->w ? pow(distance(w->w, g->w, w->n_out * w->n_in), 2) : 0;
    }
    assert_true(gone > 0);
    assert_true(fabs(json_number_value(json_object_get(report, "discarded_energy")) - gone / all) <
                1e-6);
    effect_close(&inputs[0]);
    effect_close(&inputs[1]);
    effect_close(&want);
    effect_close(&got);
    json_decref(report);
    merging_close(&m);
    base_close(&b);
}

/* ---- DoRA element by element -------------------------------------------------------------- */

static void trim(const double *x, int64_t n, int64_t keep, double *out)
{
    double *sizes = malloc((size_t)n * sizeof *sizes);
    for (int64_t k = 0; k < n; k++)
        sizes[k] = fabs(x[k]);
    qsort(sizes, (size_t)n, sizeof *sizes, falling_order);
    for (int64_t k = 0; k < n; k++)
        out[k] = fabs(x[k]) >= sizes[keep - 1] ? x[k] : 0;
    free(sizes);
}

/* TIES of two changes, half of each kept. An element whose rank or vote hangs by the rounding of floats may go the other
 * way. */
static void check_ties(const struct effect_part *x, const struct effect_part *y,
                       const struct effect_part *got)
{
    const int64_t n = got->n_out * got->n_in;
    double *a = calloc((size_t)n, sizeof *a), *b = calloc((size_t)n, sizeof *b);
    if (x->w)
        trim(x->w, n, n / 2, a);
    if (y->w)
        trim(y->w, n, n / 2, b);
    const double typical = norm_of(got->w, n) / sqrt((double)n);
    int others = 0;
    for (int64_t k = 0; k < n; k++) {
        const bool both = a[k] * b[k] > 0, plus = a[k] + b[k] >= 0;
        const double want = both ? (a[k] + b[k]) / 2 : plus ? fmax(a[k], b[k]) : fmin(a[k], b[k]);
        others += fabs(got->w[k] - want) > 1e-3 * typical;
    }
    assert_true(others <= 3);
    free(a);
    free(b);
}

static void elements_of_dora_are_those_of_its_dense_change(void **state)
{
    (void)state;
    static const graft_type q8 = GRAFT_TYPE_Q8_0;
    struct base b;
    struct merging m;
    struct effect inputs[2], got;
    base_make(&b, "llama", "q8.gguf", 1, &q8);
    merging_open(&m, &b, "rsdora dora");
    m.plan.rank = 4096;
    m.inputs[0].density = m.inputs[1].density = 0.5;
    effect_open(&inputs[0], &b, m.paths[0]);
    effect_open(&inputs[1], &b, m.paths[1]);
    m.plan.method = MERGE_TIES;
    merged_effect(&m, &b, &got);
    for (int i = SLOT_LINEAR * LAYERS; i < SLOT_COUNT * LAYERS; i++)
        check_ties(&inputs[0].parts[i / LAYERS][i % LAYERS],
                   &inputs[1].parts[i / LAYERS][i % LAYERS], &got.parts[i / LAYERS][i % LAYERS]);
    effect_close(&got);
    m.plan.method = MERGE_SVD;
    check_sum(&m, &b, "svd of all ranks");
    struct effect sum;
    m.plan.rank = 6;
    dense_sum(&m, inputs, &sum);
    merged_effect(&m, &b, &got);
    for (int i = SLOT_LINEAR * LAYERS; i < SLOT_COUNT * LAYERS; i++) {
        const struct effect_part *w = &sum.parts[i / LAYERS][i % LAYERS];
        const double best = best_distance(w->w, w->n_out, w->n_in, 6);
        const double off = distance(w->w, got.parts[i / LAYERS][i % LAYERS].w, w->n_out * w->n_in);
        if (!(off <= 1.0001 * best))
            fail_msg("svd: %.9g, at best %.9g", off, best);
    }
    effect_close(&sum);
    effect_close(&got);
    effect_close(&inputs[0]);
    effect_close(&inputs[1]);
    merging_close(&m);
    base_close(&b);
}

static void svd_keeps_the_rank_that_it_is_given(void **state)
{
    (void)state;
    struct base b;
    struct merging m;
    json_t *report = NULL;
    base_make(&b, "llama", "base", 1, NULL);
    merging_open(&m, &b, "lora lora");
    m.plan.method = MERGE_SVD;
    static const int64_t RANKS[][2] = {{0, 4}, {3, 3}, {6, 6}, {50, 8}}; /* asked for, and given */
    for (size_t i = 0; i < ARRAY_LEN(RANKS); i++) {
        m.plan.rank = RANKS[i][0];
        merging_run(&m, b.model, "merged", &report);
        assert_int_equal(json_integer_value(json_object_get(report, "least_rank")), RANKS[i][1]);
        assert_int_equal(json_integer_value(json_object_get(report, "most_rank")), RANKS[i][1]);
        json_decref(report);
    }
    merging_close(&m);
    base_close(&b);
}

/* ---- threads ------------------------------------------------------------------------------ */

/* What lies in a file of the result; of the card all but the time. */
static char *content_of(const char *name, const char *file, size_t *size)
{
    char *path = path_join(NULL, at(name), file), *bytes = NULL;
    assert_int_equal(file_read(NULL, path, 1 << 26, &bytes, size, NULL), GRAFT_OK);
    mem_free(NULL, path);
    if (strcmp(file, "graft.json") != 0)
        return bytes;
    json_t *card = json_loadb(bytes, *size, 0, NULL);
    json_object_del(card, "created");
    json_object_del(card, "modified");
    mem_free(NULL, bytes);
    char *text = json_dumps(card, JSON_SORT_KEYS);
    *size = strlen(text);
    char *copy = mem_alloc(NULL, *size + 1);
    memcpy(copy, text, *size + 1);
    free(text);
    json_decref(card);
    return copy;
}

static void any_number_of_threads_makes_the_same_files(void **state)
{
    (void)state;
    static const char *const FILES[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "graft.json"};
    struct base b;
    struct graft_runtime others[2];
    struct model *models[3];
    base_make(&b, "llama", "base", 1, NULL);
    models[0] = b.model;
    for (int i = 0; i < 2; i++) {
        runtime_start(&others[i], 1 + 2 * i, NULL);
        models[1 + i] = open_model(&others[i], at("base"));
    }
    for (int method = 0; method < MERGE_METHOD_COUNT; method++) {
        struct merging m;
        merging_open(&m, &b, "rsdora patterns");
        m.plan.method = (enum merge_method)method;
        set_inputs(&m);
        m.plan.rank = method == MERGE_CAT ? 0 : 5;
        merging_run(&m, models[0], "merged-0", NULL);
        merging_run(&m, models[1], "merged-1", NULL);
        merging_run(&m, models[2], "merged-2", NULL);
        for (size_t k = 0; k < ARRAY_LEN(FILES); k++)
            for (int i = 1; i < 3; i++) {
                size_t size = 0, other = 0;
                char name[16];
                snprintf(name, sizeof name, "merged-%d", i);
                char *x = content_of("merged-0", FILES[k], &size);
                char *y = content_of(name, FILES[k], &other);
                if (size != other || memcmp(x, y, size) != 0)
                    fail_msg("%s: another %s", merge_method_name(m.plan.method), FILES[k]);
                mem_free(NULL, x);
                mem_free(NULL, y);
            }
        merging_close(&m);
    }
    for (int i = 0; i < 2; i++) {
        model_close(&models[1 + i]);
        runtime_stop(&others[i]);
    }
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_adapter_gives_itself_back),
        cmocka_unit_test(chance_gives_an_adapter_back_on_average),
        cmocka_unit_test(the_order_of_inputs_does_not_count),
        cmocka_unit_test(weights_and_lambda_scale),
        cmocka_unit_test(an_adapter_that_is_zero_adds_nothing),
        cmocka_unit_test(sums_are_those_of_the_dense_changes_on_every_base),
        cmocka_unit_test(whole_modules_and_embeddings_sum_up_too),
        cmocka_unit_test(recompression_is_the_best_under_dora_too),
        cmocka_unit_test(energies_are_kept_with_the_least_rank),
        cmocka_unit_test(discarded_energy_counts_what_is_kept_whole),
        cmocka_unit_test(elements_of_dora_are_those_of_its_dense_change),
        cmocka_unit_test(svd_keeps_the_rank_that_it_is_given),
        cmocka_unit_test(any_number_of_threads_makes_the_same_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
