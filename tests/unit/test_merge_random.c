/* test_merge_random.c: laws that every method of merging obeys, on random modules, ranks, scales, weights and densities at
 * full rank: one adapter alone comes back, the order of the inputs does not matter, and weights, lambda and the changes
 * themselves scale the result as they ought to. Which elements are kept and who is elected is in test_merge_laws.c.
 */
#include "unit/merge_laws.h"
#include "unit/merge_runtimes.h"

enum { TRIALS = 16, MOST = 5, MOST_RANK = 9, LEAST_SIDE = 2, MOST_SIDE = 70 };

/* ---- trials ------------------------------------------------------------------------------- */

/* All that belongs to an input and moves along with it. */
struct one {
    int64_t rank;
    double scale;
    uint8_t digest[32];
    struct merge_input said;
    float a[MOST_RANK * MOST_SIDE], bt[MOST_RANK * MOST_SIDE];
};

struct trial {
    struct rng rng;
    int number;
    struct merge_plan plan; /* inputs and n are those below */
    size_t n;
    int64_t n_out, n_in;
    struct one ones[MOST];
};

/* Weights are sixteenths: sums of them, by which elections divide, are nothing exactly or not at all, in any order. */
static double any_weight(struct rng *rng, bool negative)
{
    const double weight = (double)any_count(rng, 1, 32) / 16;
    return negative && rng_uniform(rng) < 0.3 ? -weight : weight;
}

static struct merge_input any_input(struct trial *t, bool negative)
{
    struct merge_input in = {.name = "any",
                             .weight = any_weight(&t->rng, negative),
                             .density = any_number(&t->rng, 0.2, 1),
                             .gamma = any_number(&t->rng, 0, 0.3)};
    in.epsilon = any_number(&t->rng, 0, 0.9) * fmin(in.density, 1 - in.density);
    return in;
}

/* Changes of any shape, of which some resemble the first input's: those of Model Stock all do, else nothing is left. A module
 * that an input does not have has rank 0. */
static void fill(struct trial *t, size_t i)
{
    struct one *one = &t->ones[i];
    const struct one *first = &t->ones[0];
    const bool alike = i > 0 && (t->plan.method == MERGE_MODEL_STOCK || t->number % 5 > 2);
    const bool lacks = i > 0 && t->plan.method != MERGE_SLERP && rng_uniform(&t->rng) < 0.1;
    one->rank = lacks ? 0 : any_count(&t->rng, 1, MOST_RANK);
    one->scale = any_number(&t->rng, 0.05, 4);
    for (int k = 0; k < 32; k++)
        one->digest[k] = (uint8_t)any_count(&t->rng, 0, 255);
    for (int64_t r = 0; r < one->rank; r++) {
        const bool same = alike && r < first->rank;
        for (int64_t k = r * t->n_in; k < (r + 1) * t->n_in; k++)
            one->a[k] =
                (float)any_number(&t->rng, -1, 1) * (same ? 0.3f : 1) + (same ? first->a[k] : 0);
        for (int64_t k = r * t->n_out; k < (r + 1) * t->n_out; k++)
            one->bt[k] =
                (float)any_number(&t->rng, -1, 1) * (same ? 0.3f : 1) + (same ? first->bt[k] : 0);
    }
}

static void make_trial(struct trial *t, enum merge_method method, int number, uint64_t law)
{
    rng_init(&t->rng, law, (uint64_t)method << 32 | (uint64_t)number);
    t->number = number;
    t->n = method == MERGE_SLERP ? 2 : (size_t)any_count(&t->rng, 1, MOST);
    t->n_out = any_count(&t->rng, LEAST_SIDE, MOST_SIDE);
    do
        t->n_in = any_count(&t->rng, LEAST_SIDE, MOST_SIDE);
    while (t->n_in == t->n_out);
    t->plan = (struct merge_plan){.method = method,
                                  .lambda = any_number(&t->rng, -2, 2),
                                  .t = rng_uniform(&t->rng),
                                  .normalize = number % 5 == 1,
                                  .by_frequency = number % 4 > 1,
                                  .by_weight = number % 3 > 0,
                                  .undivided = number % 3 == 2,
                                  .seed = (uint64_t)any_count(&t->rng, 0, 1000)};
    for (size_t i = 0; i < t->n; i++) {
        fill(t, i);
        t->ones[i].said = any_input(t, !t->plan.normalize);
    }
}

/* ---- merging ------------------------------------------------------------------------------ */

/* As a merge of files sets them. */
static void set_factors(struct bench_site *b, const struct merge_plan *plan)
{
    graft_error error = {0};
    double inner[MOST * MOST] = {0}, whole = 0;
    const bool measured = plan->method == MERGE_SLERP || plan->method == MERGE_MODEL_STOCK;
    if (measured)
        must(changes_inner(&b->changes, inner, &error), &error);
    for (size_t i = 0; i < plan->n; i++) {
        whole += plan->inputs[i].weight;
        b->site.factors[i] = merge_stock_factor(inner, plan->n);
    }
    if (plan->method == MERGE_SLERP)
        merge_slerp_factors(inner, plan->t, b->site.factors);
    for (size_t i = 0; i < plan->n; i++) {
        if (merge_uses_weights(plan->method))
            b->site.factors[i] = plan->inputs[i].weight / (plan->normalize ? whole : 1);
        else if (!measured)
            b->site.factors[i] = 1 / (double)plan->n;
        b->site.factors[i] *= merge_elects_signs(plan->method) ? 1 : plan->lambda;
    }
}

/* What becomes of a trial, at the rank that loses nothing [n_out, n_in], malloc'ed. */
static double *merged(const struct trial *t)
{
    graft_error error = {0};
    struct bench_site b;
    int64_t ranks[MOST];
    struct merge_input inputs[MOST];
    for (size_t i = 0; i < t->n; i++) {
        ranks[i] = t->ones[i].rank;
        inputs[i] = t->ones[i].said;
    }
    struct merge_plan plan = t->plan;
    plan.inputs = inputs;
    plan.n = t->n;
    must(merge_check(&plan, &error), &error);
    bench_site_open(&b, &models[t->number / 3 % RUNTIMES], t->n_out, t->n_in, ranks, t->n);
    for (size_t i = 0; i < t->n; i++) {
        const struct one *one = &t->ones[i];
        const int64_t begin = b.changes.begins[i];
        memcpy(b.changes.a + begin * t->n_in, one->a,
               (size_t)(one->rank * t->n_in) * sizeof(float));
        memcpy(b.changes.bt + begin * t->n_out, one->bt,
               (size_t)(one->rank * t->n_out) * sizeof(float));
        memcpy(b.inputs.members[i].digest, one->digest, sizeof one->digest);
        b.changes.scales[i] = one->scale;
    }
    set_factors(&b, &plan);
    const bool dense = merge_is_dense(plan.method), cat = plan.method == MERGE_CAT;
    const int64_t least = t->n_in < t->n_out ? t->n_in : t->n_out;
    bench_site_want(&b, cat || (!dense && b.site.rank < least) ? b.site.rank : least);
    must(dense ? merge_dense(&plan, &b.changes, &b.result, &error)
               : merge_sum(&b.changes, &b.result, &error),
         &error);
    double *out = result_of(&b);
    bench_site_close(&b);
    return out;
}

static double largest_of(const double *x, int64_t count)
{
    double largest = 0;
    for (int64_t k = 0; k < count; k++)
        largest = fmax(largest, fabs(x[k]));
    return largest;
}

/* got = factor want, but for the share `strays` of elements: by how rounding falls, one that is all but voted out, or all
 * but too small, is one or the other. Returns if there was anything to compare. */
static bool check(const char *law, const struct trial *t, const double *got, const double *want,
                  double factor, double strays)
{
    const int64_t count = t->n_out * t->n_in;
    const double size = fabs(factor) * largest_of(want, count);
    int64_t off = 0;
    double worst = 0;
    for (int64_t k = 0; k < count; k++) {
        const double by = fabs(got[k] - factor * want[k]);
        off += !(by <= 1e-5 * size);
        worst = by > worst || isnan(by) ? by : worst;
    }
    if (off > (int64_t)(strays * (double)count))
        fail_msg("%s of %s, trial %d, %lld x %lld, %zu inputs: %lld are off, by up to %g of %g",
                 law, merge_method_name(t->plan.method), t->number, (long long)t->n_out,
                 (long long)t->n_in, t->n, (long long)off, worst, size);
    return size > 0;
}

/* Merges again what was changed, and compares; frees `want`. */
static bool compare(const char *law, const struct trial *t, double *want, double factor,
                    double strays)
{
    double *got = merged(t);
    const bool any = check(law, t, got, want, factor, strays);
    free(got);
    free(want);
    return any;
}

typedef bool trial_law(struct trial *t); /* returns if there was anything to compare */

/* Where hardly anything is left of the trials, nothing is proved by them. */
static void try_all(trial_law *law, uint64_t number)
{
    struct trial t;
    for (int method = 0; method < MERGE_METHOD_COUNT; method++) {
        int some = 0;
        for (int i = 0; i < TRIALS; i++) {
            make_trial(&t, (enum merge_method)method, i, number);
            some += law(&t);
        }
        assert_in_range(some, TRIALS * 9 / 10, TRIALS);
    }
}

/* ---- identity ----------------------------------------------------------------------------- */

/* Several copies of one adapter agree about everything: their mean, or what they elect, is that adapter. */
static bool one_comes_back(struct trial *t)
{
    const struct one *first = &t->ones[0];
    const bool elects = merge_elects_signs(t->plan.method), twice = t->plan.method == MERGE_SLERP;
    t->n = twice ? 2 : t->number / 4 % 2 ? (size_t)any_count(&t->rng, 2, MOST) : 1;
    t->plan.lambda = 1;
    const bool by_count = elects && !t->plan.by_weight;
    const bool by_weight = elects && t->plan.by_weight && !t->plan.undivided;
    const double weight = t->n == 1   ? 1
                          : by_weight ? any_weight(&t->rng, false)
                          : by_count  ? 1
                                      : 1 / (double)t->n;
    for (size_t i = 0; i < t->n; i++) {
        t->ones[i] = *first;
        t->ones[i].said = (struct merge_input){.name = "copy", .weight = weight, .density = 1};
    }
    /* A count divides, and normalising divides once more. */
    const double again = by_count && t->plan.normalize ? (double)t->n : 1;
    double *want = calloc((size_t)(t->n_out * t->n_in), sizeof *want);
    add_dense(want, first->scale / again, first->a, first->bt, t->n_out, t->n_in, first->rank, 1,
              t->n_out);
    return compare("identity", t, want, 1, 0);
}

static void an_adapter_alone_comes_back(void **state)
{
    (void)state;
    try_all(one_comes_back, 1);
}

/* ---- permutation -------------------------------------------------------------------------- */

static bool order_does_not_matter(struct trial *t)
{
    if (t->n == 1) /* of which there is but one order */
        t->n = (size_t)any_count(&t->rng, 2, MOST);
    for (size_t i = 0; i < t->n; i++) {
        fill(t, i);
        t->ones[i].said = any_input(t, !t->plan.normalize);
    }
    double *want = merged(t);
    for (size_t left = t->n; left > 1; left--) { /* none stays where it is (Sattolo 1986) */
        const size_t with = (size_t)any_count(&t->rng, 0, (int64_t)left - 2);
        const struct one other = t->ones[left - 1];
        t->ones[left - 1] = t->ones[with];
        t->ones[with] = other;
    }
    t->plan.t = 1 - t->plan.t; /* which SLERP alone looks at */
    return compare("permutation", t, want, 1, 0);
}

static void the_order_of_inputs_does_not_matter(void **state)
{
    (void)state;
    try_all(order_does_not_matter, 2);
}

/* ---- scaling ------------------------------------------------------------------------------ */

/* Above 0; exact: a power of two, so that all numbers are exact multiples. */
static double any_factor(struct trial *t, bool exact)
{
    return exact ? ldexp(1, (int)any_count(&t->rng, 1, 6) * (rng_uniform(&t->rng) < 0.5 ? 1 : -1))
                 : any_number(&t->rng, 0.05, 20);
}

static double strays_of(const struct trial *t, bool exact)
{
    return merge_is_dense(t->plan.method) && !exact ? 0.005 : 0;
}

/* Sums, and elections that a count or nothing divides, follow the weights; a division by weights takes the factor away
 * again. Weights of both signs whose sum is nothing are that for powers of two alone. */
static bool weights_scale(struct trial *t)
{
    const bool elects = merge_elects_signs(t->plan.method), exact = t->number / 4 % 2;
    const bool divide = elects && t->plan.by_weight && !t->plan.undivided;
    for (size_t i = 0; i < t->n && divide && !exact; i++)
        t->ones[i].said.weight = any_number(&t->rng, 0.05, 2);
    double *want = merged(t), factor = any_factor(t, exact);
    if (!elects && rng_uniform(&t->rng) < 0.5)
        factor = -factor;
    for (size_t i = 0; i < t->n; i++)
        t->ones[i].said.weight *= factor;
    if (merge_uses_weights(t->plan.method))
        return compare("weights", t, want, t->plan.normalize || divide ? 1 : factor,
                       strays_of(t, exact));
    for (size_t i = 0; i < t->n; i++)
        t->ones[i].said.weight = any_weight(&t->rng, true);
    double *got = merged(t);
    const bool any = largest_of(want, t->n_out * t->n_in) > 0;
    assert_memory_equal(got, want, (size_t)(t->n_out * t->n_in) * sizeof *got);
    free(got);
    free(want);
    return any;
}

static void weights_scale_the_result_or_do_not_matter(void **state)
{
    (void)state;
    try_all(weights_scale, 3);
}

static bool lambda_scales(struct trial *t)
{
    double *want = merged(t);
    const double factor = any_factor(t, false) * (rng_uniform(&t->rng) < 0.5 ? -1 : 1);
    t->plan.lambda *= factor;
    return compare("lambda", t, want, factor, 0);
}

static void lambda_scales_the_result(void **state)
{
    (void)state;
    try_all(lambda_scales, 4);
}

/* Magnitudes keep their order, masks belong to the digest, and angles stay; a vote that is even elects plus. */
static bool changes_scale(struct trial *t)
{
    const bool exact = t->number / 4 % 2;
    double factor = any_factor(t, exact);
    double *want = merged(t);
    if (!(merge_elects_signs(t->plan.method) && t->plan.by_frequency) && rng_uniform(&t->rng) < 0.5)
        factor = -factor;
    for (size_t i = 0; i < t->n; i++)
        t->ones[i].scale *= factor;
    return compare("changes", t, want, factor, strays_of(t, exact));
}

static void changes_scale_the_result(void **state)
{
    (void)state;
    try_all(changes_scale, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_alone_comes_back),
        cmocka_unit_test(the_order_of_inputs_does_not_matter),
        cmocka_unit_test(weights_scale_the_result_or_do_not_matter),
        cmocka_unit_test(lambda_scales_the_result),
        cmocka_unit_test(changes_scale_the_result),
    };
    return cmocka_run_group_tests(tests, open_runtimes, close_runtimes);
}
