/* test_draft_adapt.c: how many tokens are drafted, on machines and models that are made up: times of passes by their rows,
 * with noise, and what share of the drafts is right. Clocks are simulated, so that every run has the same numbers.
 */
#include "unit/test_support.h"

#include "generate/draft/draft.h"

#include <math.h>

/* ---- what is simulated ---------------------------------------------------------------------- */

/* A pass of n rows takes 1 + row (n - 1), and `stair` more for each four rows begun after the first. */
struct machine {
    const char *name;
    double row, stair;
};
static const struct machine MACHINES[] = {
    {"bound by memory", 0.025, 0}, {"nearly so", 0.05, 0},
    {"between", 0.2, 0},           {"more by computing", 0.4, 0},
    {"by computing", 0.75, 0},     {"nothing but computing", 1, 0},
    {"rows by fours", 0.01, 0.5},  {"rows by fours, dear", 0.01, 1},
};

struct scene {
    const struct machine *machine;
    double acceptance; /* of each draft, if those before it were right */
    double draft;      /* seconds for each drafted token: 0: a lookup */
    double growth;     /* how much longer passes take for each token of context */
    bool quiet;        /* no noise */
};
static const double ACCEPTANCES[] = {0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95};
static const double DRAFTS[] = {0, 0.05, 0.15, 0.4};
enum { RUNS = 3, ANY = -1 };

static double pass_seconds(const struct scene *s, int rows, int context)
{
    double seconds = 1 + s->machine->row * (rows - 1) + s->machine->stair * ((rows - 1) / 4);
    return seconds * (1 + s->growth * context);
}

/* Within a fifth as a rule, and one time in a hundred something else ran. */
static double measured(const struct scene *s, double seconds, struct rng *rng)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += rng_uniform(rng) - 0.5;
    }
    double odd = rng_uniform(rng) < 0.01 ? 3 : 1;
    return s->quiet ? seconds : seconds * (1 + 0.17 * sum) * odd;
}

static int choose_from(struct adapt *a, struct draft_costs *costs, enum draft_source source,
                       double catch_up)
{
    struct adapt_turn t = {.adapt = a, .catch_up = catch_up};
    struct adapt_offer *o = source == DRAFT_MODEL ? &t.model : &t.lookup;
    o->source = source;
    o->n = a->most;
    adapt_expect(a, costs, source, o->n, o->tokens);
    adapt_plan(&t, 1, costs, 1, 1);
    assert_true(t.k == 0 || t.chosen == o);
    return t.k;
}

/* How many times as fast as without drafts one stream of `tokens` is, with k drafts a step or as many as adapt says. */
static double run_stream(const struct scene *s, struct draft_costs *costs, int tokens, int k,
                         uint64_t seed)
{
    const enum draft_source source = s->draft > 0 ? DRAFT_MODEL : DRAFT_NGRAM_LONG;
    struct rng noise, luck;
    struct adapt a;
    double seconds = 0, plain = 0;
    adapt_init(&a, 4, DRAFT_MOST);
    rng_init(&noise, seed, 1);
    rng_init(&luck, seed, 2);
    for (int n = 0; n < tokens;) {
        int drafted = k == ANY ? choose_from(&a, costs, source, 0) : k;
        for (int i = 0; i < drafted && s->draft > 0; i++) {
            seconds += s->draft;
            cost_learn(&costs->draft, 1, measured(s, s->draft, &noise));
        }
        double pass = pass_seconds(s, 1 + drafted, n);
        seconds += pass;
        cost_learn(&costs->target, 1 + drafted, measured(s, pass, &noise));
        int right = 0;
        while (right < drafted && rng_uniform(&luck) < s->acceptance) {
            right++;
        }
        adapt_learn(&a, costs, source, drafted, right);
        for (int i = 0; i <= right; i++) {
            plain += pass_seconds(s, 1, n++);
        }
    }
    return plain / seconds;
}

/* Mean of some runs; of streams that begin with nothing known, or after another. */
static double mean_speed(const struct scene *s, int tokens, int k, bool warm)
{
    double sum = 0;
    uint64_t runs = tokens < 100 ? 5 * RUNS : RUNS; /* luck weighs more */
    for (uint64_t i = 0; i < runs; i++) {
        struct draft_costs costs = {0};
        if (warm) {
            run_stream(s, &costs, 512, ANY, 1000 + i);
        }
        sum += run_stream(s, &costs, tokens, k, i);
    }
    return sum / (double)runs;
}

typedef void (*scene_check)(const struct scene *s);

static void for_all_scenes(scene_check check)
{
    for (size_t m = 0; m < ARRAY_LEN(MACHINES); m++) {
        for (size_t a = 0; a < ARRAY_LEN(ACCEPTANCES); a++) {
            for (size_t d = 0; d < ARRAY_LEN(DRAFTS); d++) {
                struct scene s = {&MACHINES[m], ACCEPTANCES[a], DRAFTS[d], 0, false};
                check(&s);
            }
        }
    }
}

static void expect_speed(const struct scene *s, const char *what, double speed, double least)
{
    if (!(speed >= least)) {
        fail_msg(
            "%s, %.2f accepted, drafts of %.2f, %s: %.3f times as fast, at least %.3f expected",
            s->machine->name, s->acceptance, s->draft, what, speed, least);
    }
}

/* ---- alone ---------------------------------------------------------------------------------- */

static double best_fixed(const struct scene *s)
{
    double best = 1, tokens = 1, all = 1;
    for (int k = 1; k <= DRAFT_MOST; k++) {
        all *= s->acceptance;
        tokens += all;
        best = fmax(best, tokens / (pass_seconds(s, 1 + k, 0) + k * s->draft));
    }
    return best;
}

static void check_speeds(const struct scene *s)
{
    double speed = mean_speed(s, 3000, ANY, false);
    expect_speed(s, "the first stream", mean_speed(s, 512, ANY, false), 0.97);
    expect_speed(s, "a later stream", mean_speed(s, 512, ANY, true), 0.98);
    expect_speed(s, "a long stream", speed, 0.985);
    expect_speed(s, "beside the best fixed number", speed / best_fixed(s), 0.88);
}

static void
drafting_loses_less_than_three_in_a_hundred_and_gains_what_the_best_number_does(void **state)
{
    (void)state;
    for_all_scenes(check_speeds);
}

static void check_short(const struct scene *s)
{
    expect_speed(s, "the first answer, a short one", mean_speed(s, 64, ANY, false), 0.94);
    expect_speed(s, "a short answer", mean_speed(s, 64, ANY, true), 0.96);
}

static void short_answers_profit_from_what_streams_before_them_found_out(void **state)
{
    (void)state;
    for_all_scenes(check_short);
}

static void a_growing_context_is_not_mistaken_for_dear_rows(void **state)
{
    (void)state;
    struct scene s = {&MACHINES[0], 0.8, 0, 0.001, false}; /* four times as slow at the end */
    double fixed = mean_speed(&s, 3000, 4, false);
    expect_speed(&s, "a growing context", mean_speed(&s, 3000, ANY, false) / fixed, 0.95);
    s.acceptance = 0;
    expect_speed(&s, "a growing context", mean_speed(&s, 3000, ANY, false), 0.98);
}

static int choose(struct adapt *a, struct draft_costs *costs)
{
    return choose_from(a, costs, DRAFT_NGRAM_LONG, 0);
}

static void learn_machine(struct draft_costs *costs, double row)
{
    for (int i = 0; i < 8; i++) {
        for (int rows = 1; rows <= 1 + DRAFT_MOST; rows++) {
            cost_learn(&costs->target, rows, 1 + row * (rows - 1));
        }
    }
}

static void a_stream_begins_with_the_number_it_was_given(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt a;
    adapt_init(&a, 4, DRAFT_MOST);
    assert_int_equal(choose(&a, &costs),
                     0); /* nothing is known: a step without drafts is measured */
    cost_learn(&costs.target, 1, 3);
    assert_int_equal(choose(&a, &costs), 0); /* and once more: something else may have run */
    cost_learn(&costs.target, 1, 1);
    assert_int_equal(choose(&a, &costs), 1); /* what a row costs is found out at the least price */
    learn_machine(&costs, 0.02);
    assert_int_equal(choose(&a, &costs), 4);
    adapt_init(&a, 3, DRAFT_MOST);
    assert_int_equal(choose(&a, &costs), 3);
    adapt_init(&a, 4, 2);
    assert_int_equal(choose(&a, &costs), 2);
    adapt_init(&a, 4, 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(choose(&a, &costs), 0);
    }
}

static void what_does_not_pay_is_tried_ever_more_rarely(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt a;
    int drafts[2] = {0};
    learn_machine(&costs, 0.3);
    adapt_init(&a, 4, DRAFT_MOST);
    for (int i = 0; i < 4000; i++) {
        int k = choose(&a, &costs);
        adapt_learn(&a, &costs, DRAFT_NGRAM_LONG, k, 0);
        drafts[i >= 2000] += k;
    }
    assert_in_range(drafts[0], 8, 40);
    assert_in_range(drafts[1], 1, 10);
}

static void what_pays_later_is_found_later(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt a;
    int drafted = 0;
    learn_machine(&costs, 0.05);
    adapt_init(&a, 4, DRAFT_MOST);
    for (int i = 0; i < 4000; i++) {
        bool good = i >= 1000;
        int k = choose(&a, &costs);
        adapt_learn(&a, &costs, DRAFT_NGRAM_LONG, k, good ? k : 0);
        drafted += i >= 3000 ? k : 0;
    }
    assert_true(drafted > 6 * 1000);
}

static void a_model_catches_up_once_an_answer_is_long_enough_to_pay_for_it(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt a;
    int begun = 0, drafted = 0;
    learn_machine(&costs, 0.02);
    cost_learn(&costs.draft, 1, 0.05);
    adapt_init(&a, 4, DRAFT_MOST);
    while (choose_from(&a, &costs, DRAFT_MODEL, 20) == 0) {
        begun++;
    }
    assert_in_range(begun, 10, 60);
    assert_true(choose_from(&a, &costs, DRAFT_MODEL, 0) > 0);
    adapt_begin_answer(&a);
    assert_int_equal(choose_from(&a, &costs, DRAFT_MODEL, 20), 0);
    /* And what does not pay is not tried while it would cost more than a trial may. */
    costs = (struct draft_costs){0};
    learn_machine(&costs, 0.9);
    cost_learn(&costs.draft, 1, 0.05);
    for (int i = 0; i < 2000; i++) {
        int k = choose_from(&a, &costs, DRAFT_MODEL, 20);
        adapt_learn(&a, &costs, DRAFT_MODEL, k, 0);
        drafted += k;
    }
    assert_int_equal(drafted, 0);
}

/* ---- in company ----------------------------------------------------------------------------- */

enum { STREAMS = 8 };

/* Streams whose rows are cheap up to some number; their drafts are right with the probabilities given. */
struct company {
    double row;
    int cheap;
    double acceptance[STREAMS];
    double draft; /* a pass of the draft model for one; each lane more costs a twentieth of it */
};

static double company_pass(const struct company *c, int rows)
{
    return 1 + 0.01 * (rows - 1) + (rows > c->cheap ? c->row * (rows - c->cheap) : 0);
}

/* Plans a step as drafters do; the first n streams have something to draft. */
static void plan_company(struct adapt *adapts, struct draft_costs *costs, bool model, int n, int *k)
{
    struct adapt_turn turns[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        turns[i] = (struct adapt_turn){.adapt = &adapts[i]};
        struct adapt_offer *o = model ? &turns[i].model : &turns[i].lookup;
        o->source = model ? DRAFT_MODEL : DRAFT_NGRAM_LONG;
        o->n = i < n ? DRAFT_MOST : 0;
        adapt_expect(&adapts[i], costs, o->source, o->n, o->tokens);
    }
    adapt_plan(turns, STREAMS, costs, STREAMS, STREAMS);
    for (int i = 0; i < STREAMS; i++) {
        k[i] = turns[i].k;
    }
}

/* Tokens a second, all having k drafts, or as many as are planned. */
static double run_company(const struct company *c, int fixed, long tokens)
{
    const struct scene noisy = {.quiet = false};
    struct draft_costs costs = {0};
    struct adapt adapts[STREAMS];
    struct rng noise, luck;
    double seconds = 0;
    long made = 0;
    rng_init(&noise, 1, 1);
    rng_init(&luck, 1, 2);
    for (int i = 0; i < STREAMS; i++) {
        adapt_init(&adapts[i], 4, DRAFT_MOST);
    }
    while (made < tokens) {
        int k[STREAMS], rows = STREAMS;
        for (int i = 0; i < STREAMS; i++) {
            k[i] = fixed;
        }
        if (fixed == ANY) {
            plan_company(adapts, &costs, c->draft > 0, STREAMS, k);
        }
        for (int j = 0; j < DRAFT_MOST; j++) {
            int lanes = 0;
            for (int i = 0; i < STREAMS; i++) {
                lanes += k[i] > j;
                rows += k[i] > j;
            }
            double pass = lanes > 0 ? c->draft * (0.95 + 0.05 * lanes) : 0;
            cost_learn(&costs.draft, lanes, measured(&noisy, pass, &noise));
            seconds += pass;
        }
        cost_learn(&costs.target, rows, measured(&noisy, company_pass(c, rows), &noise));
        seconds += company_pass(c, rows);
        for (int i = 0; i < STREAMS; i++) {
            int right = 0;
            while (right < k[i] && rng_uniform(&luck) < c->acceptance[i]) {
                right++;
            }
            adapt_learn(&adapts[i], &costs, c->draft > 0 ? DRAFT_MODEL : DRAFT_NGRAM_LONG, k[i],
                        right);
            made += 1 + right;
        }
    }
    return (double)made / seconds;
}

static void
streams_together_lose_little_and_gain_nearly_what_the_best_fixed_number_does(void **state)
{
    (void)state;
    static const double ROWS[] = {0.02, 0.1, 0.3};
    static const int CHEAP[] = {1, 17, 33};
    for (int n = 0; n < 54; n++) {
        struct company c = {
            .row = ROWS[n % 3], .cheap = CHEAP[n / 3 % 3], .draft = n / 9 % 2 * 0.1};
        for (int i = 0; i < STREAMS; i++) {
            static const double RIGHT[3][2] = {{0.1, 0.1}, {0.8, 0.8}, {0.1, 0.9}};
            c.acceptance[i] = RIGHT[n / 18][i % 2];
        }
        double plain = run_company(&c, 0, 3000), best = plain;
        for (int k = 1; k <= DRAFT_MOST; k++) {
            best = fmax(best, run_company(&c, k, 3000));
        }
        double found = run_company(&c, ANY, 3000);
        if (found < 0.96 * plain || found < 0.75 * best) {
            fail_msg(
                "rows of %.2f from %d on, drafts of %.1f, acceptance %.1f and %.1f: %.3f of plain, "
                "%.3f of the best",
                c.row, c.cheap, c.draft, c.acceptance[0], c.acceptance[1], found / plain,
                found / best);
        }
    }
}

static void a_pass_of_the_draft_model_is_paid_by_all_whom_it_serves(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt adapts[STREAMS];
    int k[STREAMS];
    /* A draft takes more than half of a step's time: too much for what one of eight gains. */
    for (int i = 0; i < 8; i++) {
        for (int rows = 1; rows <= 80; rows++) {
            cost_learn(&costs.target, rows, 1 + 0.002 * rows);
        }
        for (int lanes = 1; lanes <= STREAMS; lanes++) {
            cost_learn(&costs.draft, lanes, 0.6);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        adapt_init(&adapts[i], 4, DRAFT_MOST);
        for (int j = 0; j < 20; j++) {
            adapt_learn(&adapts[i], &costs, DRAFT_MODEL, 1, j % 5 != 0);
        }
    }
    costs.debt = 0;
    costs.target.passes |= 1; /* no step for trials */
    plan_company(adapts, &costs, true, 1, k);
    assert_int_equal(k[0], 0);
    plan_company(adapts, &costs, true, STREAMS, k);
    for (int i = 0; i < STREAMS; i++) {
        assert_true(k[i] > 0);
    }
}

static void dear_rows_go_to_the_streams_that_gain_most_from_them(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt adapts[STREAMS];
    int k[STREAMS];
    for (int i = 0; i < 8; i++) {
        for (int rows = 1; rows <= 80; rows++) {
            cost_learn(&costs.target, rows, rows <= 16 ? 1 : 1 + 0.2 * (rows - 16));
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        adapt_init(&adapts[i], 4, DRAFT_MOST);
        for (int j = 0; j < 40; j++) {
            adapt_learn(&adapts[i], &costs, DRAFT_NGRAM_LONG, 4, i == 3 ? 4 : 0);
        }
    }
    costs.debt = 0;
    plan_company(adapts, &costs, false, STREAMS, k);
    for (int i = 0; i < STREAMS; i++) {
        assert_true(i == 3 ? k[i] >= 4 : k[i] <= 1);
    }
}

/* ---- curves --------------------------------------------------------------------------------- */

static void times_are_estimated_between_and_beyond_what_was_measured(void **state)
{
    (void)state;
    struct cost_curve c = {0};
    assert_true(cost_estimate(&c, 4) == 0);
    cost_learn(&c, 4, 2);
    assert_true(cost_estimate(&c, 4) == 2);
    assert_true(cost_estimate(&c, 2) == 1); /* too little rather than too much */
    assert_true(cost_estimate(&c, 5) > 2 && cost_estimate(&c, 5) < 2.5);
    cost_learn(&c, 8, 3);
    assert_true(fabs(cost_estimate(&c, 6) - 2.5) < 1e-9);
    assert_true(fabs(cost_estimate(&c, 12) - 4) < 1e-9);
    assert_true(fabs(cost_estimate(&c, 2 * COST_ROWS) - 257) < 1e-6);
    assert_true(cost_estimate(&c, 0) == 0);
}

static void times_that_cannot_be_are_passed_over_and_odd_ones_count_little(void **state)
{
    (void)state;
    struct cost_curve c = {0};
    cost_learn(&c, 1, NAN);
    cost_learn(&c, 1, INFINITY);
    cost_learn(&c, 1, 0);
    cost_learn(&c, 1, -1);
    cost_learn(&c, 0, 1);
    assert_true(cost_estimate(&c, 1) == 0);
    for (int i = 0; i < 20; i++) {
        cost_learn(&c, 1, 1);
    }
    cost_learn(&c, 1, 100);
    assert_true(cost_estimate(&c, 1) < 1.03);
    for (int i = 0; i < 100; i++) {
        cost_learn(&c, 1, 2);
    }
    assert_true(fabs(cost_estimate(&c, 1) - 2) < 0.1);
}

static void a_disturbed_first_time_is_forgotten(void **state)
{
    (void)state;
    struct cost_curve c = {0};
    cost_learn(&c, 1, 10);
    cost_learn(&c, 1, 1);
    assert_true(fabs(cost_estimate(&c, 1) - 1) < 1e-9);
    cost_learn(&c, 5, 100); /* at most as long as each row alone, and a quarter */
    assert_true(cost_estimate(&c, 5) <= 6.25);
}

static void passes_of_all_sizes_tell_of_a_machine_that_became_slower(void **state)
{
    (void)state;
    struct cost_curve c = {0};
    for (int i = 0; i < 20; i++) {
        cost_learn(&c, 1, 1);
        cost_learn(&c, 5, 1.2);
    }
    for (int i = 0; i < 60; i++) {
        cost_learn(&c, 5, 2.4);
    }
    assert_true(cost_estimate(&c, 1) > 1.3 && cost_estimate(&c, 1) < 2);
}

static double expected(const struct adapt *a, const struct draft_costs *costs,
                       enum draft_source source, int k)
{
    double tokens[DRAFT_MOST + 1];
    adapt_expect(a, costs, source, k, tokens);
    return tokens[k];
}

static void acceptance_is_learned_by_place_and_fades(void **state)
{
    (void)state;
    struct draft_costs costs = {0};
    struct adapt a;
    adapt_init(&a, 4, DRAFT_MOST);
    for (int i = 0; i < 200; i++) {
        adapt_learn(&a, &costs, DRAFT_MODEL, 4, 2); /* two right, the third never */
    }
    assert_true(fabs(expected(&a, &costs, DRAFT_MODEL, 2) - 3) < 0.01);
    assert_true(expected(&a, &costs, DRAFT_MODEL, 3) < 3.1);
    double other = expected(&a, &costs, DRAFT_STORE_LONG, 1);
    for (int i = 0; i < 200; i++) {
        adapt_learn(&a, &costs, DRAFT_MODEL, 4, 0);
    }
    assert_true(expected(&a, &costs, DRAFT_MODEL, 4) < 1.03);
    assert_true(expected(&a, &costs, DRAFT_STORE_LONG, 1) == other);
    adapt_init(&a, 4, DRAFT_MOST); /* another stream begins where that one ended */
    assert_true(expected(&a, &costs, DRAFT_MODEL, 1) < 1.3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            drafting_loses_less_than_three_in_a_hundred_and_gains_what_the_best_number_does),
        cmocka_unit_test(short_answers_profit_from_what_streams_before_them_found_out),
        cmocka_unit_test(a_growing_context_is_not_mistaken_for_dear_rows),
        cmocka_unit_test(a_stream_begins_with_the_number_it_was_given),
        cmocka_unit_test(what_does_not_pay_is_tried_ever_more_rarely),
        cmocka_unit_test(what_pays_later_is_found_later),
        cmocka_unit_test(a_model_catches_up_once_an_answer_is_long_enough_to_pay_for_it),
        cmocka_unit_test(
            streams_together_lose_little_and_gain_nearly_what_the_best_fixed_number_does),
        cmocka_unit_test(a_pass_of_the_draft_model_is_paid_by_all_whom_it_serves),
        cmocka_unit_test(dear_rows_go_to_the_streams_that_gain_most_from_them),
        cmocka_unit_test(times_are_estimated_between_and_beyond_what_was_measured),
        cmocka_unit_test(times_that_cannot_be_are_passed_over_and_odd_ones_count_little),
        cmocka_unit_test(a_disturbed_first_time_is_forgotten),
        cmocka_unit_test(passes_of_all_sizes_tell_of_a_machine_that_became_slower),
        cmocka_unit_test(acceptance_is_learned_by_place_and_fades),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
