/* test_speculation.c: guesses change nothing. The shipped model, alone, with an adapter and with a mix, says token by token
 * and bit by bit what it says without guesses, whether they come from the text or from the shipped draft model, greedy and
 * sampling. And what is drawn is distributed as it should be: 100,000 draws against the exact distribution, which a rule that
 * accepts wrongly does not pass.
 */
#include "unit/api_fixture.h"

#define MODELS GRAFT_SOURCE_DIR "/models/"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { DRAWS = 5000, EVERY = 10 }; /* sanitizers are slow, and look for something else */
#else
enum { DRAWS = 100000, EVERY = 1 };
#endif
enum { PROMPTS = 200, TOKENS = 24, MIXES = 3 };

static graft_runtime *runtime;
static graft_model *model, *draft;
static graft_mix *mixes[MIXES]; /* the base; coder; coder and researcher */

static int setup(void **state)
{
    (void)state;
    graft_adapter *adapters[2] = {NULL};
    runtime = open_runtime(2);
    MUST(graft_model_open(runtime, MODELS "tiny", NULL, &model, error));
    MUST(graft_model_open(runtime, MODELS "tiny-draft", NULL, &draft, error));
    MUST(graft_adapter_open(model, MODELS "adapters/coder", NULL, &adapters[0], error));
    MUST(graft_adapter_open(model, MODELS "adapters/researcher", NULL, &adapters[1], error));
    const graft_member both[] = {{adapters[0], 0.7f}, {adapters[1], 0.3f}};
    MUST(graft_mix_open(model, &(graft_member){adapters[0], 1}, 1, &mixes[1], error));
    MUST(graft_mix_open(model, both, 2, &mixes[2], error));
    graft_adapter_close(&adapters[0]);
    graft_adapter_close(&adapters[1]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < MIXES; i++) {
        graft_mix_close(&mixes[i]);
    }
    graft_model_close(&draft);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return 0;
}

/* ---- the same tokens ---- */

static void prompt_of(int i, char out[200])
{
    static const char *const NAMES[] = {"Anna", "Tom",  "Ida",  "Oskar",
                                        "Mara", "Rosa", "Hugo", "Lena"};
    static const char *const THINGS[] = {"letter", "price", "report", "boat", "key"};
    const char *name = NAMES[i / 5 % 8], *thing = THINGS[i / 40 % 5];
    switch (i % 5) {
    case 0:
        snprintf(out, 200, "Tell me a story about %s and a %s.", name, thing);
        break;
    case 1:
        snprintf(out, 200, "Write a Python function that returns the largest %s of %s.", thing,
                 name);
        break;
    case 2:
        snprintf(out, 200, "%s has a red %s. %s has a green %s. Who has the red one?", name, thing,
                 i % 2 ? "Sara" : "Paul", thing);
        break;
    case 3:
        snprintf(out, 200, "Review this code: for (i = 0; i <= n; i++) sum += %s[i]; /* %s */",
                 thing, name);
        break;
    default:
        snprintf(out, 200, "%s's service stores each %s. What is the risk here?", name, thing);
    }
}

/* The rendered chat, in a session that holds nothing else. */
static void begin(graft_session *s, const char *text)
{
    const graft_message message = {"user", text};
    char *rendered = NULL;
    size_t size, n;
    graft_token_id *ids = NULL;
    MUST(graft_chat_render(model, &message, 1, true, &rendered, &size, error));
    MUST(graft_tokenize(graft_model_tokenizer(model), rendered, size, GRAFT_TOKENIZE_SPECIAL, &ids,
                        &n, error));
    MUST(graft_session_trim(s, 0, error));
    MUST(graft_session_prompt(s, ids, n, NULL, NULL, error));
    graft_free(runtime, rendered);
    graft_free(runtime, ids);
}

static struct answer *answer_to(graft_session *s, int prompt)
{
    char text[200];
    struct answer *a = answer_new();
    prompt_of(prompt, text);
    begin(s, text);
    MUST(graft_session_generate(s, TOKENS, answer_take, a, error));
    return a;
}

static graft_session *open_with(graft_mix *mix, float temperature, const graft_draft_options *d)
{
    graft_session_options o = graft_session_options_default();
    o.sampling.temperature = temperature;
    o.sampling.seed = 7;
    o.n_ctx = 400;
    graft_session *s = open_session(model, &o);
    MUST(graft_session_set_mix(s, mix, GRAFT_KV_CONTINUE, error));
    MUST(graft_session_set_draft(s, d, error));
    return s;
}

enum { WAYS = 4 };
static graft_draft_options way(int i)
{
    graft_draft_options d = graft_draft_options_default();
    d.ngram = i != 1;
    d.model = i == 1 || i == 3 ? draft : NULL;
    d.store = i == 2 ? "" : NULL;
    d.fixed = i < 3; /* guesses in every step, whether they pay or not */
    return d;
}

static void compare_prompts(float temperature, int step)
{
    uint64_t drafted[WAYS] = {0}, accepted[WAYS] = {0};
    for (int m = 0; m < MIXES; m++) {
        graft_session *plain = open_with(mixes[m], temperature, NULL), *guessing[WAYS];
        for (int w = 0; w < WAYS; w++) {
            graft_draft_options d = way(w);
            guessing[w] = open_with(mixes[m], temperature, &d);
        }
        for (int i = 0; i < PROMPTS; i += step * EVERY) {
            struct answer *a = answer_to(plain, i);
            for (int w = 0; w < WAYS; w++) {
                struct answer *b = answer_to(guessing[w], i);
                assert_same_answer(a, b);
                answer_free(b);
            }
            answer_free(a);
        }
        for (int w = 0; w < WAYS; w++) {
            graft_draft_info info;
            MUST(graft_session_draft_info(guessing[w], &info, error));
            drafted[w] += info.ngram.drafted + info.store.drafted + info.model.drafted;
            accepted[w] += info.ngram.accepted + info.store.accepted + info.model.accepted;
            assert_true(info.tokens >= info.passes);
            graft_session_close(&guessing[w]);
        }
        graft_session_close(&plain);
    }
    for (int w = 0; w < 3; w++) { /* it was no comparison with nothing */
        print_message("guesses of way %d: %llu of %llu right\n", w, (unsigned long long)accepted[w],
                      (unsigned long long)drafted[w]);
        assert_true(drafted[w] > 200 / EVERY && accepted[w] > 20 / EVERY &&
                    accepted[w] < drafted[w]);
    }
}

static void greedy_answers_are_those_without_guesses(void **state)
{
    (void)state;
    compare_prompts(0, 1);
}

static void sampled_answers_are_those_without_guesses(void **state)
{
    (void)state;
    compare_prompts(0.9f, 4);
}

/* ---- the right distribution ---- */

enum { KEPT = 3, LENGTH = 3, CELLS = KEPT * KEPT * KEPT };

/* A tree of what may follow: probabilities of the KEPT tokens that sampling keeps, computed from logits. */
struct tree {
    graft_token_id ids[KEPT];
    double p[KEPT];
    struct tree *next[KEPT];
};

static graft_sampling narrow(uint64_t seed)
{
    graft_sampling o = sampled(seed).sampling;
    o.top_k = KEPT;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static struct tree *grow(graft_session *s, const graft_token_id *ids, size_t n, int depth)
{
    struct tree *t = calloc(1, sizeof *t);
    float logprobs[KEPT];
    double sum = 0;
    MUST(graft_session_trim(s, 0, error));
    MUST(graft_session_prompt(s, ids, n, NULL, NULL, error));
    MUST(graft_session_top(s, KEPT, t->ids, logprobs, error));
    for (int i = 0; i < KEPT; i++) {
        sum += t->p[i] = exp((double)logprobs[i]);
    }
    for (int i = 0; i < KEPT; i++) {
        graft_token_id more[16];
        t->p[i] /= sum;
        memcpy(more, ids, n * sizeof *ids);
        more[n] = t->ids[i];
        t->next[i] = depth > 1 ? grow(s, more, n + 1, depth - 1) : NULL;
    }
    return t;
}

static void fell(struct tree *t)
{
    for (int i = 0; t != NULL && i < KEPT; i++) {
        fell(t->next[i]);
    }
    free(t);
}

static int branch_of(const struct tree *t, graft_token_id id)
{
    int i = 0;
    while (i < KEPT && t->ids[i] != id) {
        i++;
    }
    assert_true(i < KEPT); /* sampling kept these and no others */
    return i;
}

static int cell_of(const struct tree *t, const graft_token_id ids[LENGTH])
{
    int cell = 0;
    for (int i = 0; i < LENGTH; i++) {
        int branch = branch_of(t, ids[i]);
        cell = cell * KEPT + branch;
        t = t->next[branch];
    }
    return cell;
}

static double probability(const struct tree *t, int cell)
{
    double p = 1;
    for (int unit = CELLS / KEPT; unit > 0; unit /= KEPT) {
        p *= t->p[cell / unit];
        t = t->next[cell / unit];
        cell %= unit;
    }
    return p;
}

/* Pearson's statistic; cells with few expected draws are put together. *df: degrees of freedom. */
static double pearson(const struct tree *t, const int counts[CELLS], int draws, int *df)
{
    double sum = 0, rest = 0, rest_counted = 0;
    *df = -1;
    for (int i = 0; i < CELLS; i++) {
        double expected = probability(t, i) * draws;
        if (expected < 20) {
            rest += expected;
            rest_counted += counts[i];
            continue;
        }
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
        ++*df;
    }
    if (rest > 5) {
        sum += (rest_counted - rest) * (rest_counted - rest) / rest;
        ++*df;
    }
    return sum;
}

/* What chi-square with df degrees of freedom exceeds once in a thousand times (Wilson and Hilferty). */
static double critical(int df)
{
    double a = 2.0 / (9.0 * df), z = 3.0902;
    return df * pow(1 - a + z * sqrt(a), 3);
}

static const graft_token_id START[] = {RM_BOS, 'O', 'n', 'c', 'e'};

/* Two random models over the same bytes: one is asked, the other guesses. */
struct pair {
    struct fixture target;
    char *dir;
    graft_model *draft;
};

static struct pair open_pair(void)
{
    struct pair p = {.target = open_fixture(NULL, 1)};
    p.dir = random_model_make(&(struct random_model){.seed = 1});
    MUST(graft_model_open(p.target.runtime, p.dir, NULL, &p.draft, error));
    return p;
}

static void close_pair(struct pair *p)
{
    graft_model_close(&p->draft);
    random_model_remove(p->dir);
    close_fixture(&p->target);
}

static void count_draws(struct pair *p, const struct tree *t, const graft_draft_options *d,
                        int draws, int counts[CELLS], graft_draft_info *info)
{
    graft_session_options o = graft_session_options_default();
    o.ignore_eos = true;
    o.n_ctx = 32;
    graft_session *s = open_session(p->target.model, &o);
    MUST(graft_session_set_draft(s, d, error));
    MUST(graft_session_prompt(s, START, ARRAY_LEN(START), NULL, NULL, error));
    memset(counts, 0, CELLS * sizeof *counts);
    for (int i = 0; i < draws; i++) {
        graft_token_id ids[LENGTH];
        graft_sampling sampling = narrow((uint64_t)i);
        MUST(graft_session_set_sampling(s, &sampling, error));
        for (int k = 0; k < LENGTH; k++) {
            graft_token token;
            MUST(graft_session_next(s, &token, error));
            ids[k] = token.id;
        }
        counts[cell_of(t, ids)]++;
        MUST(graft_session_trim(s, ARRAY_LEN(START), error));
    }
    MUST(graft_session_draft_info(s, info, error));
    graft_session_close(&s);
}

static void draws_with_guesses_have_the_distribution_of_draws_without(void **state)
{
    (void)state;
    struct pair p = open_pair();
    graft_session *s = open_session(p.target.model, NULL);
    struct tree *t = grow(s, START, ARRAY_LEN(START), LENGTH);
    graft_draft_options d = graft_draft_options_default();
    graft_draft_info info;
    int counts[CELLS], df;
    d.ngram = false;
    d.model = p.draft;
    d.fixed = true;
    d.k = 3;
    count_draws(&p, t, &d, DRAWS, counts, &info);
    double x = pearson(t, counts, DRAWS, &df);
    print_message(
        "%llu of %llu guesses right; chi-square %.1f, %d degrees of freedom, at most %.1f\n",
        (unsigned long long)info.model.accepted, (unsigned long long)info.model.drafted, x, df,
        critical(df));
    assert_true(info.model.accepted > 0 && info.model.accepted < info.model.drafted);
    assert_true(df > 10);
    assert_true(x < critical(df));
    fell(t);
    graft_session_close(&s);
    close_pair(&p);
}

/* The same test with a rule that takes a guess whenever the model finds it likely enough. */
static void a_rule_that_accepts_wrongly_fails_that_test(void **state)
{
    (void)state;
    struct pair p = open_pair();
    graft_session *s = open_session(p.target.model, NULL);
    struct tree *t = grow(s, START, ARRAY_LEN(START), LENGTH);
    struct rng rng;
    int counts[CELLS] = {0}, df;
    rng_init(&rng, 1, 1);
    for (int i = 0; i < DRAWS; i++) {
        const struct tree *at = t;
        int cell = 0;
        for (int k = 0; k < LENGTH; k++) {
            int guess = (int)(rng_u32(&rng) % KEPT), branch = 0;
            double u = rng_uniform(&rng);
            while (branch < KEPT - 1 && u >= at->p[branch]) {
                u -= at->p[branch++];
            }
            branch = at->p[guess] > 0.3 ? guess : branch; /* right would be: guess == branch */
            cell = cell * KEPT + branch;
            at = at->next[branch];
        }
        counts[cell]++;
    }
    assert_true(pearson(t, counts, DRAWS, &df) > critical(df));
    fell(t);
    graft_session_close(&s);
    close_pair(&p);
}

/* ---- what can go wrong ---- */

static void a_model_of_other_words_is_refused(void **state)
{
    (void)state;
    char *dir = random_model_make(&(struct random_model){.classifier = false});
    graft_model *other = NULL;
    graft_draft_options d = graft_draft_options_default();
    graft_session *s = open_session(model, NULL);
    MUST(graft_model_open(runtime, dir, NULL, &other, error));
    d.model = other;
    assert_int_equal(graft_session_set_draft(s, &d, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(graft_draft_check(model, other, NULL), GRAFT_INVALID_ARGUMENT);
    MUST(graft_draft_check(model, draft, error));
    d = graft_draft_options_default();
    d.k = 9;
    assert_int_equal(graft_session_set_draft(s, &d, NULL), GRAFT_INVALID_ARGUMENT);
    d = graft_draft_options_default();
    d.ngram = false;
    assert_int_equal(graft_session_set_draft(s, &d, NULL), GRAFT_INVALID_ARGUMENT);
    graft_session_close(&s);
    graft_model_close(&other);
    random_model_remove(dir);
}

/* A draft model whose cache has one block goes on without, and so does the answer. */
static void a_draft_that_fails_is_left_out(void **state)
{
    (void)state;
    graft_draft_options d = graft_draft_options_default();
    d.ngram = false;
    d.model = draft;
    d.fixed = true;
    graft_session *plain = open_with(NULL, 0, NULL), *s;
    graft_status status = GRAFT_LIMIT;
    for (d.kv_bytes = 1024; status == GRAFT_LIMIT; d.kv_bytes *= 2) {
        s = open_with(NULL, 0, NULL);
        status = graft_session_set_draft(s, &d, NULL);
        if (status == GRAFT_LIMIT) {
            graft_session_close(&s);
        }
    }
    MUST(status);
    struct answer *of[2] = {answer_new(), answer_new()};
    for (int i = 0; i < 2; i++) {
        graft_session *each = i == 0 ? plain : s;
        begin(each,
              "Tom has a red ball. Anna has a key. Tom puts the ball under the tree. Anna goes to "
              "the "
              "garden. Ida has a blue box. Ida puts the key in the box. Then it begins to rain, "
              "and all "
              "of them go home, but for the dog of Rosa, who sleeps. Where is the key of Anna?");
        MUST(graft_session_generate(each, TOKENS, answer_take, of[i], error));
    }
    graft_draft_info info;
    MUST(graft_session_draft_info(s, &info, error));
    assert_same_answer(of[0], of[1]);
    assert_int_equal(info.model.drafted, 0); /* the prompt alone is longer than a block */
    assert_int_equal(info.passes, info.tokens);
    answer_free(of[0]);
    answer_free(of[1]);
    graft_session_close(&s);
    graft_session_close(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_answers_are_those_without_guesses),
        cmocka_unit_test(sampled_answers_are_those_without_guesses),
        cmocka_unit_test(draws_with_guesses_have_the_distribution_of_draws_without),
        cmocka_unit_test(a_rule_that_accepts_wrongly_fails_that_test),
        cmocka_unit_test(a_model_of_other_words_is_refused),
        cmocka_unit_test(a_draft_that_fails_is_left_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
