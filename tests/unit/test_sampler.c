/* test_sampler.c: the pick of a token, against a straightforward reference: sort everything, use libm,
 * keep what top-k, top-p and min-p keep. Support and frequencies must agree; the rest is single rules.
 */
#include "generate/generate.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>

#include "unit/failing_allocator.h"

static graft_sampling plain(float temperature)
{
    graft_sampling o = sampling_default();
    o.temperature = temperature;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static struct sampler *open_sampler(int n_vocab)
{
    struct sampler *s = NULL;
    graft_error error = {0};
    graft_status status = sampler_open(NULL, kernels_find("scalar"), n_vocab, &s, &error);
    if (status != GRAFT_OK) {
        print_error("%s\n", error.message);
    }
    assert_int_equal(status, GRAFT_OK);
    return s;
}

static struct pick pick(const graft_sampling *options, const float *logits, int n_vocab,
                        const graft_token_id *history, size_t n_history)
{
    struct sampler *s = open_sampler(n_vocab);
    struct pick p = {.id = -1};
    assert_int_equal(sampler_pick(s, options, logits, NULL, history, n_history, &p, NULL),
                     GRAFT_OK);
    sampler_close(&s);
    assert_null(s);
    return p;
}

static graft_token_id pick_id(const graft_sampling *options, const float *logits, int n_vocab,
                              const graft_token_id *history, size_t n_history)
{
    return pick(options, logits, n_vocab, history, n_history).id;
}

/* ---- greedy ---- */

static void greedy_takes_the_best(void **state)
{
    (void)state;
    float logits[] = {-3, 1, 7, 2, -INFINITY};
    graft_sampling o = plain(0);
    assert_int_equal(pick_id(&o, logits, 5, NULL, 0), 2);
}

static void among_equals_greedy_takes_the_lowest_id(void **state)
{
    (void)state;
    float logits[] = {-3, 7, 2, 7, 7};
    graft_sampling o = plain(0);
    assert_int_equal(pick_id(&o, logits, 5, NULL, 0), 1);
}

static void logprob_is_that_of_the_raw_distribution(void **state)
{
    (void)state;
    float logits[] = {1, 2, 3, 4};
    graft_token_id history[] = {3, 3};
    graft_sampling o = plain(0);
    o.repetition_penalty = 100;
    o.top_k = 1;
    struct pick p = pick(&o, logits, 4, history, 2);
    double sum = exp(1) + exp(2) + exp(3) + exp(4);
    assert_int_equal(p.id, 2);
    assert_true(fabs((double)p.probability - exp(3) / sum) < 1e-6);
    assert_true(fabs((double)p.logprob - (3 - log(sum))) < 1e-6);
    o.temperature = 5;
    p = pick(&o, logits, 4, history, 2);
    assert_int_equal(p.id, 2);
    assert_true(fabs((double)p.logprob - (3 - log(sum))) < 1e-6);
}

/* ---- penalties ---- */

static void repetition_divides_positive_logits_once_per_token(void **state)
{
    (void)state;
    float logits[] = {2.0f, 1.9f};
    graft_token_id history[] = {0, 0, 0};
    graft_sampling o = plain(0);
    o.repetition_penalty = 1.5f;
    assert_int_equal(pick_id(&o, logits, 2, history, 3), 1);
    o.repetition_penalty = 1.03f; /* 1.942 once, 1.83 if it counted three times */
    assert_int_equal(pick_id(&o, logits, 2, history, 3), 0);
}

static void repetition_multiplies_negative_logits(void **state)
{
    (void)state;
    float logits[] = {-1.0f, -1.5f};
    graft_token_id history[] = {0};
    graft_sampling o = plain(0);
    o.repetition_penalty = 2;
    assert_int_equal(pick_id(&o, logits, 2, history, 1), 1);
    o.repetition_penalty = 0.5f; /* below 1 it rewards: -0.5 */
    assert_int_equal(pick_id(&o, logits, 2, history, 1), 0);
}

static void presence_counts_once_and_frequency_each_time(void **state)
{
    (void)state;
    float logits[] = {2.0f, 1.5f};
    graft_token_id history[] = {0, 0, 0};
    graft_sampling o = plain(0);
    o.presence_penalty = 0.4f;
    assert_int_equal(pick_id(&o, logits, 2, history, 3), 0);
    o.presence_penalty = 0.6f;
    assert_int_equal(pick_id(&o, logits, 2, history, 3), 1);
    o.presence_penalty = 0;
    o.frequency_penalty = 0.2f;
    assert_int_equal(pick_id(&o, logits, 2, history, 2), 0);
    assert_int_equal(pick_id(&o, logits, 2, history, 3), 1);
}

static void penalties_look_at_the_window_only(void **state)
{
    (void)state;
    float logits[] = {2.0f, 1.9f, 1.0f};
    graft_token_id history[] = {0, 2, 2};
    graft_sampling o = plain(0);
    o.repetition_penalty = 1.5f;
    o.penalty_window = 2;
    assert_int_equal(pick_id(&o, logits, 3, history, 3), 0);
    o.penalty_window = 3;
    assert_int_equal(pick_id(&o, logits, 3, history, 3), 1);
    o.penalty_window = 0; /* all */
    assert_int_equal(pick_id(&o, logits, 3, history, 3), 1);
}

static void penalties_leave_nothing_behind_for_the_next_pick(void **state)
{
    (void)state;
    float logits[] = {2.0f, 1.9f};
    graft_token_id history[] = {0};
    graft_sampling o = plain(0);
    o.repetition_penalty = 1.5f;
    struct sampler *s = open_sampler(2);
    struct pick p;
    assert_int_equal(sampler_pick(s, &o, logits, NULL, history, 1, &p, NULL), GRAFT_OK);
    assert_int_equal(p.id, 1);
    assert_int_equal(sampler_pick(s, &o, logits, NULL, history, 0, &p, NULL), GRAFT_OK);
    assert_int_equal(p.id, 0);
    sampler_close(&s);
}

static void extreme_penalties_stay_finite(void **state)
{
    (void)state;
    float logits[] = {1e30f, -1e30f, 0};
    graft_token_id history[] = {0, 1, 2};
    graft_sampling o = plain(1);
    o.repetition_penalty = 1e-30f;
    o.presence_penalty = -1e38f;
    assert_int_equal(pick_id(&o, logits, 3, history, 3), 0);
    o.repetition_penalty = 1e30f;
    o.frequency_penalty = 3e38f;
    struct pick p = pick(&o, logits, 3, history, 3);
    assert_in_range(p.id, 0, 2);
}

/* ---- the reference ---- */

struct ranked {
    double logit;
    int id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit) {
        return x->logit > y->logit ? -1 : 1;
    }
    return x->id < y->id ? -1 : 1;
}

/* Probability of each id. *margin: how near a decision of top-p or min-p was (relative). */
static void reference(const graft_sampling *o, const float *logits, int n, double *p,
                      double *margin)
{
    struct ranked *r = malloc((size_t)n * sizeof *r);
    for (int i = 0; i < n; i++) {
        r[i] = (struct ranked){(double)logits[i], i};
        p[i] = 0;
    }
    qsort(r, (size_t)n, sizeof *r, by_rank);
    int kept = o->top_k > 0 && o->top_k < n ? o->top_k : n;
    double *q = malloc((size_t)n * sizeof *q), sum = 0;
    for (int i = 0; i < kept; i++) {
        q[i] = exp((r[i].logit - r[0].logit) / (double)o->temperature);
        sum += q[i];
    }
    *margin = 1;
    double cumulative = 0;
    int m = 0;
    for (; m < kept; m++) {
        if (o->top_p < 1) {
            *margin = fmin(*margin, m == 0 ? 1 : fabs(cumulative / sum - (double)o->top_p));
            if (m > 0 && cumulative / sum >= (double)o->top_p) {
                break;
            }
        }
        if (o->min_p > 0) {
            double ratio = q[m] / q[0];
            *margin = fmin(*margin, m == 0 ? 1 : fabs(ratio - (double)o->min_p));
            if (ratio < (double)o->min_p) {
                break;
            }
        }
        cumulative += q[m];
    }
    for (int i = 0; i < m; i++) {
        p[r[i].id] = q[i] / cumulative;
    }
    free(q);
    free(r);
}

static void random_logits(struct rng *rng, float *logits, int n, bool coarse)
{
    for (int i = 0; i < n; i++) {
        double x = 12 * (rng_uniform(rng) - 0.5) * rng_uniform(rng);
        logits[i] = coarse ? (float)round(x) : (float)x; /* coarse: many ties */
    }
}

static graft_sampling random_options(struct rng *rng)
{
    static const float TOP_P[] = {1, 0.99f, 0.9f, 0.5f, 0.01f};
    static const float MIN_P[] = {0, 0, 0.01f, 0.1f, 0.5f};
    static const int TOP_K[] = {0, 1, 3, 20, 1000};
    graft_sampling o = plain(0.3f + 2 * (float)rng_uniform(rng));
    o.top_p = TOP_P[rng_u32(rng) % 5];
    o.min_p = MIN_P[rng_u32(rng) % 5];
    o.top_k = TOP_K[rng_u32(rng) % 5];
    return o;
}

static void draws_stay_in_the_support_of_the_reference(void **state)
{
    (void)state;
    enum { N_MAX = 200, CASES = 300, DRAWS = 60 };
    struct rng rng;
    rng_init(&rng, 7, 7);
    float logits[N_MAX];
    double p[N_MAX], margin;
    int checked = 0;
    for (int c = 0; c < CASES; c++) {
        int n = 1 + (int)(rng_u32(&rng) % N_MAX);
        random_logits(&rng, logits, n, c % 3 == 0);
        graft_sampling o = random_options(&rng);
        reference(&o, logits, n, p, &margin);
        if (margin < 1e-5) {
            continue; /* a float may fall on the other side */
        }
        checked++;
        for (int d = 0; d < DRAWS; d++) {
            o.seed = (uint64_t)d;
            assert_true(p[pick_id(&o, logits, n, NULL, 0)] > 0);
        }
    }
    assert_true(checked > CASES / 2);
}

/* Draws by position from one sampler; Pearson's statistic against the reference. */
static double chi_square(const graft_sampling *o, const float *logits, int n, int draws, int *cells)
{
    double p[64], margin, sum = 0;
    int count[64] = {0};
    graft_token_id history[1] = {0};
    reference(o, logits, n, p, &margin);
    assert_true(margin > 1e-5);
    *cells = 0;
    for (int d = 0; d < draws; d++) {
        graft_sampling with = *o;
        with.seed = 1000 + (uint64_t)d;
        count[pick_id(&with, logits, n, history, 1)]++;
    }
    for (int i = 0; i < n; i++) {
        if (p[i] > 0) {
            double expected = p[i] * draws;
            sum += (count[i] - expected) * (count[i] - expected) / expected;
            (*cells)++;
        } else {
            assert_int_equal(count[i], 0);
        }
    }
    return sum;
}

static void frequencies_follow_the_distribution(void **state)
{
    (void)state;
    float logits[] = {0.1f, 1.2f, -0.7f, 2.0f, 0.9f, 0.9f, -1.5f, 1.6f, 0.0f, 0.4f};
    graft_sampling o[5];
    for (int i = 0; i < 5; i++) {
        o[i] = plain(1);
    }
    o[1].temperature = 0.5f;
    o[2].top_k = 4;
    o[3].top_p = 0.8f;
    o[4].min_p = 0.3f;
    for (int i = 0; i < 5; i++) {
        int cells;
        double x = chi_square(&o[i], logits, 10, 20000, &cells);
        /* mean cells-1, deviation sqrt(2(cells-1)): six of them is far beyond chance */
        assert_true(x < cells - 1 + 6 * sqrt(2.0 * (cells - 1)));
    }
}

static void nucleus_of_a_large_vocabulary_equals_the_reference(void **state)
{
    (void)state;
    enum { N = 150000 };
    float *logits = malloc(N * sizeof *logits);
    double *p = malloc(N * sizeof *p), margin;
    struct rng rng;
    rng_init(&rng, 3, 1);
    random_logits(&rng, logits, N, false);
    graft_sampling o = plain(0.9f);
    o.top_p = 0.7f;
    reference(&o, logits, N, p, &margin);
    struct sampler *s = open_sampler(N);
    graft_token_id history[300] = {0};
    for (size_t i = 0; i < 300; i++) {
        struct pick picked;
        assert_int_equal(sampler_pick(s, &o, logits, NULL, history, i, &picked, NULL), GRAFT_OK);
        assert_true(p[picked.id] > 0);
    }
    sampler_close(&s);
    free(logits);
    free(p);
}

static void nucleus_reaches_into_a_flat_tail(void **state)
{
    (void)state;
    enum { N = 1001, DRAWS = 2000 };
    float logits[N] = {0};
    double p[N], margin;
    bool seen[N] = {false};
    int tail = 0;
    logits[500] = logf(N - 1); /* half of the mass; the others share the rest */
    graft_sampling o = plain(1);
    o.top_p = 0.5999f;
    reference(&o, logits, N, p, &margin);
    struct sampler *s = open_sampler(N);
    graft_token_id history[DRAWS] = {0};
    for (size_t i = 0; i < DRAWS; i++) {
        struct pick picked;
        assert_int_equal(sampler_pick(s, &o, logits, NULL, history, i, &picked, NULL), GRAFT_OK);
        assert_true(p[picked.id] > 0);
        tail += picked.id != 500 && !seen[picked.id];
        seen[picked.id] = true;
    }
    sampler_close(&s);
    assert_in_range(tail, 120, 200); /* of 200 in the nucleus, in some 330 draws from them */
}

static void tiny_temperature_is_greedy(void **state)
{
    (void)state;
    float logits[] = {-3, 7, 2, 6.999f, 1e5f};
    graft_sampling o = plain(FLT_MIN);
    for (o.seed = 0; o.seed < 50; o.seed++) {
        assert_int_equal(pick_id(&o, logits, 5, NULL, 0), 4);
        assert_int_equal(pick_id(&o, logits, 4, NULL, 0), 1);
    }
}

static void tiny_top_p_keeps_the_best_alone(void **state)
{
    (void)state;
    float logits[64] = {0};
    graft_sampling o = plain(1);
    o.top_p = 1e-7f;
    for (o.seed = 0; o.seed < 50; o.seed++) {
        assert_int_equal(pick_id(&o, logits, 64, NULL, 0), 0);
    }
}

/* ---- masks ---- */

/* A mask takes tokens away before anything is cut, greedy or not; 32 tokens and more. */
static void only_what_the_mask_allows_is_picked(void **state)
{
    (void)state;
    enum { N = 70 };
    struct rng rng;
    rng_init(&rng, 21, 0);
    float logits[N], masked[N];
    for (int round = 0; round < 300; round++) {
        uint32_t mask[3] = {rng_u32(&rng) & rng_u32(&rng), rng_u32(&rng) & rng_u32(&rng), 1};
        random_logits(&rng, logits, N, round % 2 == 0);
        for (int i = 0; i < N; i++) {
            masked[i] = mask[i / 32] >> (i % 32) & 1 ? logits[i] : -INFINITY;
        }
        graft_sampling o = round % 3 == 0 ? plain(0) : random_options(&rng);
        struct sampler *s = open_sampler(N);
        struct pick with = {0}, as_if = {0};
        for (uint64_t seed = 0; seed < 10; seed++) {
            o.seed = seed;
            assert_int_equal(sampler_pick(s, &o, logits, mask, NULL, 0, &with, NULL), GRAFT_OK);
            assert_int_equal(sampler_pick(s, &o, masked, NULL, NULL, 0, &as_if, NULL), GRAFT_OK);
            assert_int_equal(with.id, as_if.id);
            assert_true(mask[with.id / 32] >> (with.id % 32) & 1);
        }
        sampler_close(&s);
    }
    const uint32_t none[3] = {0, 0, 0};
    struct sampler *s = open_sampler(N);
    struct pick p;
    graft_sampling o = plain(0);
    assert_int_equal(sampler_pick(s, &o, logits, none, NULL, 0, &p, NULL), GRAFT_NUMERIC);
    sampler_close(&s);
}

/* ---- drafts ---- */

/* The same noise on two distributions: how often the picks agree, against what two independent draws would. */
static void equal_noise_makes_near_distributions_agree(void **state)
{
    (void)state;
    enum { N = 40, DRAWS = 4000 };
    struct rng rng;
    rng_init(&rng, 22, 0);
    float a[N], b[N];
    double pa[N], pb[N], margin, overlap = 0;
    random_logits(&rng, a, N, false);
    for (int i = 0; i < N; i++) {
        b[i] = a[i] + 0.3f * (float)(rng_uniform(&rng) - 0.5);
    }
    graft_sampling o = plain(1);
    reference(&o, a, N, pa, &margin);
    reference(&o, b, N, pb, &margin);
    for (int i = 0; i < N; i++) {
        overlap += fmin(pa[i], pb[i]);
    }
    int agree = 0;
    for (int d = 0; d < DRAWS; d++) {
        o.seed = (uint64_t)d;
        agree += pick_id(&o, a, N, NULL, 0) == pick_id(&o, b, N, NULL, 0);
    }
    /* Holds for every pair of distributions: at least overlap / (2 - overlap). */
    assert_true(agree > DRAWS * (overlap / (2 - overlap)) - 4 * sqrt(DRAWS * 0.25));
    assert_true(agree > 0.85 * DRAWS);
}

/* ---- determinism ---- */

static void same_seed_and_position_give_the_same_pick(void **state)
{
    (void)state;
    float logits[32];
    graft_token_id history[64] = {0};
    struct rng rng;
    rng_init(&rng, 5, 0);
    random_logits(&rng, logits, 32, false);
    graft_sampling o = plain(2);
    o.seed = 11;
    struct sampler *s = open_sampler(32);
    graft_token_id first[64];
    struct pick p;
    int other_seed = 0;
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(sampler_pick(s, &o, logits, NULL, history, i, &p, NULL), GRAFT_OK);
        first[i] = p.id;
    }
    for (size_t i = 64; i-- > 0;) { /* in another order, in another sampler */
        assert_int_equal(pick_id(&o, logits, 32, history, i), first[i]);
    }
    o.seed = 12;
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(sampler_pick(s, &o, logits, NULL, history, i, &p, NULL), GRAFT_OK);
        other_seed += p.id != first[i];
    }
    assert_true(other_seed > 10);
    sampler_close(&s);
}

/* ---- errors ---- */

static void logits_that_are_not_numbers_are_an_error(void **state)
{
    (void)state;
    static const float BAD[][3] = {
        {1, NAN, 2}, {NAN, 1, 2}, {1, INFINITY, 2}, {-INFINITY, -INFINITY, -INFINITY}};
    graft_sampling o[2] = {plain(0), plain(1)};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        for (int k = 0; k < 2; k++) {
            struct sampler *s = open_sampler(3);
            struct pick p = {.id = 77};
            graft_error error = {0};
            assert_int_equal(sampler_pick(s, &o[k], BAD[i], NULL, NULL, 0, &p, &error),
                             GRAFT_NUMERIC);
            assert_int_equal(error.status, GRAFT_NUMERIC);
            assert_int_equal(p.id, 77);
            sampler_close(&s);
        }
    }
}

static void values_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    struct {
        graft_sampling o;
        const char *name;
    } bad[16];
    size_t n = 0;
#define BAD(field, value)                                                                          \
    bad[n].o = plain(1);                                                                           \
    bad[n].o.field = value;                                                                        \
    bad[n++].name = #field
    BAD(temperature, -1);
    BAD(temperature, NAN);
    BAD(temperature, INFINITY);
    BAD(top_k, -1);
    BAD(top_p, 0);
    BAD(top_p, 1.5f);
    BAD(min_p, -0.1f);
    BAD(min_p, 2);
    BAD(repetition_penalty, 0);
    BAD(repetition_penalty, NAN);
    BAD(presence_penalty, INFINITY);
    BAD(frequency_penalty, NAN);
    BAD(penalty_window, -1);
#undef BAD
    struct sampler *none = NULL;
    for (size_t i = 0; i < n; i++) {
        graft_error error = {0};
        assert_int_equal(sampling_check(&bad[i].o, &error), GRAFT_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, bad[i].name));
    }
    assert_int_equal(sampler_open(NULL, kernels_find("scalar"), 0, &none, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_null(none);
}

static void lack_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct failing_allocator f;
    struct mem mem;
    struct sampler *s = NULL;
    graft_status status = GRAFT_NO_MEMORY;
    for (size_t n = 1; status != GRAFT_OK; n++) {
        failing_init(&f, &mem, n);
        status = sampler_open(&mem, kernels_find("scalar"), 100, &s, NULL);
        assert_int_equal(status, f.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (status != GRAFT_OK) {
            assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        }
    }
    sampler_close(&s);
    assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
}

/* ---- the best ---- */

static void top_lists_the_best_first_with_their_logprobs(void **state)
{
    (void)state;
    enum { N = 100, K = 17 };
    float logits[N];
    struct rng rng;
    rng_init(&rng, 9, 0);
    random_logits(&rng, logits, N, true);
    struct ranked r[N];
    double sum = 0;
    for (int i = 0; i < N; i++) {
        r[i] = (struct ranked){(double)logits[i], i};
        sum += exp((double)logits[i]);
    }
    qsort(r, N, sizeof *r, by_rank);
    struct sampler *s = open_sampler(N);
    graft_token_id ids[N];
    float logprobs[N];
    static const size_t COUNTS[] = {1, 2, K, N};
    for (size_t c = 0; c < ARRAY_LEN(COUNTS); c++) {
        sampler_top(s, logits, sampler_log_sum(s, logits), COUNTS[c], ids, logprobs);
        for (size_t i = 0; i < COUNTS[c]; i++) {
            assert_int_equal(ids[i], r[i].id);
            assert_true(fabs((double)logprobs[i] - (r[i].logit - log(sum))) < 1e-5);
        }
    }
    sampler_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_best),
        cmocka_unit_test(among_equals_greedy_takes_the_lowest_id),
        cmocka_unit_test(logprob_is_that_of_the_raw_distribution),
        cmocka_unit_test(repetition_divides_positive_logits_once_per_token),
        cmocka_unit_test(repetition_multiplies_negative_logits),
        cmocka_unit_test(presence_counts_once_and_frequency_each_time),
        cmocka_unit_test(penalties_look_at_the_window_only),
        cmocka_unit_test(penalties_leave_nothing_behind_for_the_next_pick),
        cmocka_unit_test(extreme_penalties_stay_finite),
        cmocka_unit_test(draws_stay_in_the_support_of_the_reference),
        cmocka_unit_test(frequencies_follow_the_distribution),
        cmocka_unit_test(nucleus_of_a_large_vocabulary_equals_the_reference),
        cmocka_unit_test(nucleus_reaches_into_a_flat_tail),
        cmocka_unit_test(tiny_temperature_is_greedy),
        cmocka_unit_test(tiny_top_p_keeps_the_best_alone),
        cmocka_unit_test(only_what_the_mask_allows_is_picked),
        cmocka_unit_test(equal_noise_makes_near_distributions_agree),
        cmocka_unit_test(same_seed_and_position_give_the_same_pick),
        cmocka_unit_test(logits_that_are_not_numbers_are_an_error),
        cmocka_unit_test(values_out_of_range_are_refused_by_name),
        cmocka_unit_test(lack_of_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(top_lists_the_best_first_with_their_logprobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
