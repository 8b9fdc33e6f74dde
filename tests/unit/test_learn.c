/* test_learn.c: online adaptation: what rewards do to an answer, that the guard takes back what makes held-out answers
 * worse, that an adapter grows once and is otherwise held, and that a version is published whole or not at all.
 */
#include "unit/learn_fixture.h"

#include "unit/failing_allocator.h"
#include "unit/random_model.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- rewards -------------------------------------------------------------------------------- */

/* The loss of an answer before and after a reward for it. */
static struct learner_verdict reward(const char *text)
{
    struct desk d;
    char record[256];
    struct learner_options options = options_of(ANSWER);
    options.tolerance = 1e9; /* here it is the loss that matters, not the guard */
    snprintf(record, sizeof record, "%.*s,\"reward\":%s}\n", (int)strlen(ANSWER) - 2, ANSWER, text);
    desk_new(&d);
    desk_learn(&d, &options);
    struct learner_verdict v = teach(d.learner, record);
    desk_close(&d);
    return v;
}

static void rewards_make_answers_likelier_and_punishments_less_likely(void **state)
{
    (void)state;
    struct learner_verdict good = reward("2.5"), bad = reward("-0.25");
    assert_true(good.kept && bad.kept);
    assert_true(good.before == bad.before);
    assert_true(good.after < good.before - 0.01);
    assert_true(bad.after > bad.before + 0.01);
    assert_true(good.loss > 0 && bad.loss < 0);
}

static void the_baseline_is_the_mean_of_what_was_before_and_then_follows(void **state)
{
    (void)state;
    struct desk d;
    double want = 0;
    struct learner_options options = options_of(HELD);
    const graft_token_id tokens[] = {5, 6, 7};
    struct learner_feedback f = {.tokens = tokens, .n = 3, .n_prompt = 2, .rewarded = true};
    options.buffer = 200;
    desk_new(&d);
    desk_learn(&d, &options);
    for (int i = 1; i <= 100; i++) {
        f.reward = i % 7 - 2;
        MUST(learner_add_tokens(d.learner, &f, error));
        want += (f.reward - want) / (i < 64 ? i : 64);
        assert_true(fabs(state_of(d.learner).baseline - want) < 1e-12);
    }
    assert_int_equal(state_of(d.learner).rewards, 100);
    assert_int_equal(state_of(d.learner).waiting, 100);
    desk_close(&d);
}

static void rewards_that_are_all_alike_teach_nothing(void **state)
{
    (void)state;
    struct desk d;
    struct learner_options options = options_of(HELD);
    const graft_token_id tokens[] = {5, 6, 7, 8};
    const struct learner_feedback f = {
        .tokens = tokens, .n = 4, .n_prompt = 1, .rewarded = true, .reward = 0.5};
    struct learner_verdict v;
    bool learned;
    options.buffer = 1;
    options.tolerance = 1e9;
    desk_new(&d);
    desk_learn(&d, &options);
    MUST(learner_add_tokens(d.learner, &f, error)); /* its baseline is still 0 */
    assert_int_equal(state_of(d.learner).kept, 1);
    const double now = state_of(d.learner).now;
    MUST(learner_add_tokens(d.learner, &f, error));
    assert_int_equal(state_of(d.learner).dropped, 1);
    assert_true(state_of(d.learner).now == now);
    MUST(learner_step(d.learner, &v, &learned, error));
    assert_false(learned);
    desk_close(&d);
}

/* An answer of little quality moves little beside one of much. */
static void quality_is_the_weight_of_an_answer(void **state)
{
    (void)state;
    static const char FORMAT[] =
        "{\"prompt\":\"Who is Tom?\",\"completion\":\"A cat from the red house.\",\"quality\":%s}\n"
        "{\"prompt\":\"Who is Ann?\",\"completion\":\"zq vxw kjj qqz wvx\",\"quality\":%s}\n";
    double after[2];
    for (int i = 0; i < 2; i++) {
        struct desk d;
        char records[512];
        struct learner_options options = options_of(ANSWER);
        options.tolerance = 1e9;
        snprintf(records, sizeof records, FORMAT, i ? "1" : "0.02", i ? "0.02" : "1");
        desk_new(&d);
        desk_learn(&d, &options);
        after[i] = teach(d.learner, records).after;
        desk_close(&d);
    }
    assert_true(after[1] < after[0] - 0.02);
}

/* ---- the guard ------------------------------------------------------------------------------ */

struct seen {
    size_t n;
    int standby;
};

static bool look(void *user, const struct registry_name *name)
{
    struct seen *seen = user;
    seen->n = name->n_versions;
    seen->standby = name->standby;
    return false;
}

static size_t versions_of(struct registry *registry, int *standby)
{
    struct seen seen = {0, 0};
    MUST(registry_list(registry, "house", look, &seen, error));
    *standby = seen.standby;
    return seen.n;
}

static void poison_is_taken_back_and_nothing_is_published(void **state)
{
    (void)state;
    struct desk d;
    int standby;
    struct registry_version_id before, now;
    struct learner_options options = options_of(HELD);
    options.steps = 20;
    options.rate = 1e-2;
    desk_new(&d);
    before = d.id;
    desk_learn(&d, &options);
    struct learner_verdict v = teach(d.learner, POISON);
    assert_false(v.kept);
    assert_true(v.after > v.before);
    struct learner_state s = state_of(d.learner);
    assert_true(s.now == s.began && !s.changed);
    graft_error why = {0};
    assert_int_equal(learner_publish(d.learner, d.registry, &d.id, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "nothing was learned"));
    MUST(registry_resolve(d.registry, "house", &now, error));
    assert_string_equal(now.version, before.version);
    assert_memory_equal(now.digest, before.digest, 32);
    assert_int_equal(versions_of(d.registry, &standby), 1);
    assert_int_equal(standby, REGISTRY_NO_SLOT);
    MUST(registry_verify(d.registry, "house", error));

    /* What was taken back is gone from values and moments: good feedback now does what it does alone. */
    struct learner_verdict after_poison = teach(d.learner, GOOD);
    learner_close(&d.learner);
    MUST(learner_open(d.model, d.path, &options, &d.learner, error));
    struct learner_verdict alone = teach(d.learner, GOOD);
    assert_true(after_poison.kept && after_poison.after == alone.after);
    desk_close(&d);
}

static void good_feedback_is_published_as_it_was_measured(void **state)
{
    (void)state;
    struct desk d;
    int standby;
    const struct learner_options options = options_of(HELD);
    desk_new(&d);
    desk_learn(&d, &options);
    assert_string_equal(d.id.version, "1.2.3");
    struct learner_verdict v = teach(d.learner, GOOD);
    assert_true(v.kept && v.after < v.before - 0.02);
    MUST(learner_publish(d.learner, d.registry, &d.id, error));
    assert_string_equal(d.id.version, "1.2.4");
    assert_int_equal(versions_of(d.registry, &standby), 2);
    assert_int_equal(standby, REGISTRY_NO_SLOT);
    assert_false(state_of(d.learner).changed);
    assert_int_equal(learner_publish(d.learner, d.registry, &d.id, NULL), GRAFT_STATE);

    struct registry_version_id now;
    MUST(registry_resolve(d.registry, "house", &now, error));
    assert_string_equal(now.version, "1.2.4");
    learner_close(&d.learner);
    mem_free(d.versions.mem, d.path);
    desk_learn(&d, &options);
    assert_true(state_of(d.learner).began == v.after);
    MUST(registry_rollback(d.registry, "house", &now, error));
    assert_string_equal(now.version, "1.2.3");
    (void)teach(d.learner, GOOD);
    graft_error why = {0};
    assert_int_equal(learner_publish(d.learner, d.registry, &d.id, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "became active"));
    desk_close(&d);
}

/* Each of two buffers rises by less than the tolerance; together they rise by more, and could not be published. */
static void the_tolerance_does_not_add_up_over_buffers(void **state)
{
    (void)state;
    struct desk d;
    struct learner_options options = options_of(ANSWER);
    const double worse[] = {-1, -4};
    options.steps = 2;
    options.tolerance = 1;
    desk_new(&d);
    desk_learn(&d, &options);
    for (size_t i = 0; i < ARRAY_LEN(worse); i++) {
        char record[256];
        snprintf(record, sizeof record, "%.*s,\"reward\":%g}\n", (int)strlen(ANSWER) - 2, ANSWER,
                 worse[i]);
        struct learner_verdict v = teach(d.learner, record);
        assert_true(v.after > v.before && v.after < v.before + options.tolerance);
    }
    struct learner_state s = state_of(d.learner);
    assert_true(s.kept == 1 && s.dropped == 1);
    assert_true(s.now > s.began && s.now <= s.began + options.tolerance);
    MUST(learner_publish(d.learner, d.registry, &d.id, error));
    desk_close(&d);
}

/* ---- what is held --------------------------------------------------------------------------- */

static struct trainable *open_trainable(const struct model *model, const char *path)
{
    struct trainable *t = NULL;
    MUST(
        trainable_open(model, &(struct trainable_options){.path = path, .dropout = -1}, &t, error));
    return t;
}

/* The last ranks of every module of `b` are the last of `a`, its vectors are the same, and it has `more` ranks. */
static void assert_holds(const struct model *model, const char *a, const char *b, int64_t held,
                         int64_t more)
{
    struct trainable *old = open_trainable(model, a), *new = open_trainable(model, b);
    int seen = 0;
    for (int i = 0; i < model_n_sites(model); i++) {
        const struct train_delta *x = &old->set.sites[i].delta, *y = &new->set.sites[i].delta;
        const struct matrix *w = model_site_weight(model, i);
        if (!x->rank)
            continue;
        assert_int_equal(y->rank, x->rank + more);
        assert_true(y->scale == x->scale);
        const int64_t from = x->rank - held, to = y->rank - held;
        assert_memory_equal(x->a.value + from * w->n_in, y->a.value + to * w->n_in,
                            (size_t)(held * w->n_in) * sizeof(float));
        assert_memory_equal(x->b.value + from * w->n_out, y->b.value + to * w->n_out,
                            (size_t)(held * w->n_out) * sizeof(float));
        if (x->magnitude.value)
            assert_memory_equal(x->magnitude.value, y->magnitude.value,
                                (size_t)w->n_out * sizeof(float));
        assert_memory_not_equal(y->b.value, x->b.value, (size_t)w->n_out * sizeof(float));
        seen++;
    }
    assert_true(seen > 0);
    trainable_close(&old);
    trainable_close(&new);
}

/* Learns from the adapter at `in` and writes `out`. */
static void learn_files(const struct model *model, const char *in, const char *out, int rank,
                        const char *target)
{
    struct learner_options options = options_of(HELD);
    struct learner *l = NULL;
    options.micro.rank = rank;
    options.micro.targets = &target;
    options.micro.n_targets = target != NULL;
    MUST(learner_open(model, in, &options, &l, error));
    assert_true(teach(l, GOOD).kept);
    MUST(learner_write(l, fresh_path(out), NULL, error));
    learner_close(&l);
}

static void an_adapter_grows_once_and_its_own_ranks_are_held(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    char one[512], two[512], three[512], made[512];
    snprintf(made, sizeof made, "%s", fresh_path("made"));
    snprintf(one, sizeof one, "%s", at("one"));
    snprintf(two, sizeof two, "%s", at("two"));
    snprintf(three, sizeof three, "%s", at("three"));
    for (int dora = 0; dora < 2; dora++) {
        make_adapter(model, fresh_path("made"), dora);
        learn_files(model, made, "one", 1, NULL);
        assert_holds(model, made, one, 4, 1);
        learn_files(model, one, "two", 2, NULL); /* one more, and then no more */
        assert_holds(model, one, two, 4, 1);
        learn_files(model, two, "three", 2, NULL);
        assert_holds(model, two, three, 4, 0);
        learn_files(model, three, "two", 1, NULL);
        assert_holds(model, three, two, 4, 0);
    }
    model_close(&model);
}

/* A norm held whole beside factors; and beside none but those of the embedding. */
static void modules_held_whole_stay(void **state)
{
    (void)state;
    static const char *const SAVED[] = {"norm"}, *const EMBED[] = {"embed_tokens"};
    struct model *model = open_model(&rt, TINY);
    struct adapter_recipe recipe = RECIPE;
    struct trainable *t = NULL;
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    const struct learner_options options = options_of(HELD);
    char made[512];
    recipe.saved = SAVED;
    recipe.n_saved = 1;
    for (int alone = 0; alone < 2; alone++) {
        recipe.targets = alone ? EMBED : TARGETS;
        recipe.n_targets = alone ? 1 : 2;
        MUST(trainable_open(model, &(struct trainable_options){.recipe = &recipe}, &t, error));
        MUST(trainable_write(t, NULL, fresh_path("made"), &output, error));
        trainable_close(&t);
        snprintf(made, sizeof made, "%s", at("made"));
        if (alone) {
            struct learner *l = NULL;
            graft_error why = {0};
            assert_int_equal(learner_open(model, made, &options, &l, &why), GRAFT_INVALID_ARGUMENT);
            assert_non_null(strstr(why.message, "no factors of linear layers"));
            continue;
        }
        learn_files(model, made, "one", 2, NULL);
        struct trainable *old = open_trainable(model, made),
                         *new = open_trainable(model, at("one"));
        int seen = 0;
        for (int i = 0; i < model_n_norms(model); i++)
            if (old->norms[i].value) {
                assert_memory_equal(old->norms[i].value, new->norms[i].value,
                                    (size_t)model->config.d_model * sizeof(float));
                seen++;
            }
        assert_int_equal(seen, 1);
        trainable_close(&old);
        trainable_close(&new);
    }
    model_close(&model);
}

static void only_the_targets_change(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    char made[512];
    make_adapter(model, fresh_path("made"), false);
    snprintf(made, sizeof made, "%s", at("made"));
    learn_files(model, made, "one", 2, "v_proj");
    struct trainable *old = open_trainable(model, made), *new = open_trainable(model, at("one"));
    const int q = model_site(0, LINEAR_Q), v = model_site(0, LINEAR_V);
    const struct train_delta *x = &old->set.sites[q].delta, *y = &new->set.sites[q].delta;
    assert_int_equal(y->rank, x->rank);
    assert_memory_equal(x->b.value, y->b.value,
                        (size_t)(x->rank * model_site_weight(model, q)->n_out) * sizeof(float));
    assert_int_equal(new->set.sites[v].delta.rank, old->set.sites[v].delta.rank + 2);
    trainable_close(&old);
    trainable_close(&new);

    const char *none = "down_proj";
    struct learner_options options = options_of(HELD);
    struct learner *l = NULL;
    graft_error why = {0};
    options.micro.targets = &none;
    options.micro.n_targets = 1;
    assert_int_equal(learner_open(model, made, &options, &l, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "has no \"down_proj\" to go on with; it has"));
    assert_non_null(strstr(why.message, "v_proj"));
    model_close(&model);
}

static void threads_cannot_be_seen(void **state)
{
    (void)state;
    char *bytes[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        struct graft_runtime some;
        runtime_start(&some, i + 1, NULL);
        struct model *model = open_model(&some, TINY);
        char made[512];
        make_adapter(model, fresh_path("made"), false);
        snprintf(made, sizeof made, "%s", at("made"));
        learn_files(model, made, "one", 2, NULL);
        MUST(file_read(NULL, at("one/adapter_model.safetensors"), 1 << 24, &bytes[i], &size[i],
                       error));
        model_close(&model);
        runtime_stop(&some);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    mem_free(NULL, bytes[0]);
    mem_free(NULL, bytes[1]);
}

/* ---- crashes and Ctrl-C --------------------------------------------------------------------- */

static bool die_when_staged(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user, (void)done, (void)total;
    if (!strcmp(what, "publishing"))
        raise(SIGKILL);
    return true;
}

static bool stop_at(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)done, (void)total;
    return strcmp(what, user) != 0;
}

static void a_kill_leaves_the_old_version_active(void **state)
{
    (void)state;
    struct desk d;
    int status, standby;
    (void)fresh_path("home");
    struct learner_options options = options_of(HELD);
    pid_t child = fork();
    if (child == 0) {
        struct graft_runtime own;
        runtime_start(&own, 1, NULL);
        options.progress = die_when_staged;
        desk_open(&d, &own, "home");
        desk_learn(&d, &options);
        (void)teach(d.learner, GOOD);
        (void)learner_publish(d.learner, d.registry, &d.id, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    desk_open(&d, &rt, "home");
    assert_string_equal(d.id.version, "1.2.3");
    assert_int_equal(versions_of(d.registry, &standby), 2);
    assert_int_equal(standby, 1);
    desk_learn(&d, &options);
    (void)teach(d.learner, GOOD);
    graft_error why = {0};
    assert_int_equal(learner_publish(d.learner, d.registry, &d.id, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "house@1.2.4 is on standby: promote or remove it first"));
    MUST(registry_remove(d.registry, "house@1.2.4", error));
    MUST(learner_publish(d.learner, d.registry, &d.id, error));
    desk_close(&d);
}

static void who_says_no_on_the_way_changes_nothing(void **state)
{
    (void)state;
    struct desk d;
    int standby;
    struct learner_options options = options_of(HELD);
    char stop[16] = "";
    options.progress = stop_at;
    options.progress_user = stop;
    desk_new(&d);
    desk_learn(&d, &options);
    const char *const whats[] = {"learning", "checking"};
    for (size_t i = 0; i < ARRAY_LEN(whats); i++) {
        bool learned;
        struct learner_verdict v;
        snprintf(stop, sizeof stop, "%s", whats[i]);
        MUST(learner_add(d.learner, GOOD, strlen(GOOD), NULL, NULL, NULL, error));
        assert_int_equal(learner_step(d.learner, &v, &learned, NULL), GRAFT_CANCELLED);
        assert_int_equal(state_of(d.learner).waiting, 0);
        assert_false(state_of(d.learner).changed);
    }
    stop[0] = '\0';
    (void)teach(d.learner, GOOD);
    snprintf(stop, sizeof stop, "publishing");
    assert_int_equal(learner_publish(d.learner, d.registry, &d.id, NULL), GRAFT_CANCELLED);
    assert_string_equal(d.id.version, "1.2.3");
    assert_int_equal(versions_of(d.registry, &standby), 1);
    assert_int_equal(standby, REGISTRY_NO_SLOT);
    assert_true(state_of(d.learner).changed);
    desk_close(&d);
}

struct meddler {
    struct desk *desk;
    bool active; /* what it adds becomes active, else it is staged */
};

static bool meddle(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)done, (void)total;
    const struct meddler *m = user;
    const struct registry_card card = {.name = "house", .version = m->active ? "8.0.0" : "9.0.0"};
    struct registry *r = m->desk->registry;
    if (strcmp(what, "publishing") != 0)
        return true;
    MUST(
        registry_add(r, at("made"), &card, m->active ? REGISTRY_ADD : REGISTRY_STAGE, NULL, error));
    if (m->active)
        MUST(registry_activate(r, "house@8.0.0", error));
    return true;
}

static void what_others_do_while_it_is_published_is_never_promoted_over(void **state)
{
    (void)state;
    static const char *const want[] = {"1.2.4 is not staged, 9.0.0 is",
                                       "1.2.3 is no longer active"};
    for (int i = 0; i < 2; i++) {
        struct desk d;
        int standby;
        struct registry_version_id now;
        graft_error why = {0};
        struct meddler meddler = {&d, i};
        struct learner_options options = options_of(HELD);
        options.progress = meddle;
        options.progress_user = &meddler;
        desk_new(&d);
        desk_learn(&d, &options);
        (void)teach(d.learner, GOOD);
        assert_int_equal(learner_publish(d.learner, d.registry, &d.id, &why), GRAFT_STATE);
        assert_non_null(strstr(why.message, want[i]));
        MUST(registry_resolve(d.registry, "house", &now, error));
        assert_string_equal(now.version, i ? "8.0.0" : "1.2.3");
        assert_int_equal(versions_of(d.registry, &standby), 2); /* what was learned is gone */
        assert_int_equal(standby, i ? REGISTRY_NO_SLOT : 1);
        desk_close(&d);
    }
}

/* ---- hostile words -------------------------------------------------------------------------- */

struct heard {
    char reasons[16][200];
    int64_t lines[16];
    int n;
};

static void hear(void *user, const struct data_issue *issue, const char *file)
{
    struct heard *h = user;
    assert_non_null(file);
    assert_true(h->n < 16);
    h->lines[h->n] = issue->line;
    snprintf(h->reasons[h->n++], sizeof h->reasons[0], "%s", issue->reason);
}

static void feedback_that_cannot_be_is_left_out_and_told(void **state)
{
    (void)state;
    struct desk d;
    struct heard h = {.n = 0};
    int64_t taken = 0;
    static const char RECORDS[] = "{\"text\":\"a\",\"quality\":NaN}\n"
                                  "{\"text\":\"a\",\"quality\":1.5}\n"
                                  "{\"text\":\"a\",\"reward\":\"good\"}\n"
                                  "{\"text\":\"a\",\"reward\":1e300}\n"
                                  "{\"text\":\"a\"}\n"
                                  "{\"text\":\"a\",\"quality\":1,\"reward\":1}\n"
                                  "{\"says\":\"a\",\"quality\":1}\n"
                                  "{\"text\":\"a b c\",\"quality\":1,\"session\":\"h\"}\n"
                                  "{\"text\":\"a b c\",\"quality\":1,\"session\":7}\n"
                                  "{\"text\":\"a b c\",\"quality\":0}\n"
                                  "{\"text\":\"a b c\",\"quality\":0.2}\n"
                                  "{\"text\":\"a b c\",\"reward\":-3}\n"
                                  "{\"text\":\"a b c\",\"quality\":1,\"session\":\"x\"}\n";
    static const struct {
        const char *reason;
        int line;
    } WANT[] = {{"it is not JSON", 1},
                {"its \"quality\" is no number from 0 to 1", 2},
                {"its \"reward\" is no number", 3},
                {"its \"reward\" is no number", 4},
                {"it has neither \"quality\" nor \"reward\"", 5},
                {"it has both \"quality\" and \"reward\"", 6},
                {"no format that is known", 7},
                {"\"session\" is not text", 9},
                {"its quality 0 is below 0.5", 10},
                {"its quality 0.2 is below 0.5", 11},
                {"its session is in the held-out file", 8}};
    struct learner_options options = options_of(HELD);
    options.min_quality = 0.5;
    desk_new(&d);
    desk_learn(&d, &options);
    MUST(learner_add(d.learner, RECORDS, strlen(RECORDS), hear, &h, &taken, error));
    assert_int_equal(taken, 2);
    assert_int_equal(h.n, (int)ARRAY_LEN(WANT));
    for (size_t i = 0; i < ARRAY_LEN(WANT); i++) {
        if (!strstr(h.reasons[i], WANT[i].reason))
            fail_msg("issue %zu: %s", i, h.reasons[i]);
        assert_int_equal(h.lines[i], WANT[i].line);
    }
    assert_int_equal(state_of(d.learner).refused, (int)ARRAY_LEN(WANT));
    assert_int_equal(state_of(d.learner).sessions, 1);
    MUST(learner_add(d.learner, "", 0, NULL, NULL, &taken, error));
    assert_int_equal(taken, 0);
    desk_close(&d);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct desk d;
    graft_error why = {0};
    struct learner_options options = options_of(HELD);
    desk_new(&d);
    desk_learn(&d, &options);
    assert_int_equal(learner_read(d.learner, at("none.jsonl"), NULL, NULL, NULL, &why),
                     GRAFT_NOT_FOUND);
    assert_int_equal(learner_read(d.learner, at("home"), NULL, NULL, NULL, &why),
                     GRAFT_INVALID_ARGUMENT);
    const graft_token_id tokens[] = {5, 6, 1 << 30};
    struct learner_feedback f = {.tokens = tokens, .n = 3, .n_prompt = 1, .quality = 1};
    assert_int_equal(learner_add_tokens(d.learner, &f, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "beyond the vocabulary"));
    f.n = 2;
    f.n_prompt = 2;
    assert_int_equal(learner_add_tokens(d.learner, &f, &why), GRAFT_INVALID_ARGUMENT);
    f.n_prompt = 1;
    f.quality = NAN;
    assert_int_equal(learner_add_tokens(d.learner, &f, &why), GRAFT_INVALID_ARGUMENT);
    char session[202];
    memset(session, 's', 201);
    session[201] = '\0';
    f.quality = 1;
    f.session = session;
    assert_int_equal(learner_add_tokens(d.learner, &f, &why), GRAFT_INVALID_ARGUMENT);
    f.session = NULL;
    f.quality = 0;
    MUST(learner_add_tokens(d.learner, &f, error));
    f.quality = 1;
    f.session = "h";
    MUST(learner_add_tokens(d.learner, &f, error));
    assert_int_equal(state_of(d.learner).refused, 2);
    assert_int_equal(state_of(d.learner).waiting, 0);

    struct learner *l = NULL;
    const char *const rewarded = "{\"text\":\"a b c\",\"reward\":1}\n";
    options = options_of(rewarded);
    assert_int_equal(learner_open(d.model, d.path, &options, &l, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "a held-out example is a right answer"));
    options = options_of(HELD);
    options.held_out = TINY;
    assert_int_equal(learner_open(d.model, d.path, &options, &l, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "not a folder"));
    options = options_of(HELD);
    options.micro.rank = 3;
    assert_int_equal(learner_open(d.model, d.path, &options, &l, &why), GRAFT_INVALID_ARGUMENT);
    options = options_of(HELD);
    options.rate = NAN;
    assert_int_equal(learner_open(d.model, d.path, &options, &l, &why), GRAFT_INVALID_ARGUMENT);
    assert_null(l);
    desk_close(&d);
}

static void a_card_is_not_believed_what_cannot_be(void **state)
{
    (void)state;
    static const int64_t said[] = {3, 1LL << 53, (1LL << 53) + 1, INT64_MAX, -1};
    struct model *model = open_model(&rt, TINY);
    const struct learner_options options = options_of(HELD);
    char path[512];
    make_adapter(model, fresh_path("made"), false);
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        struct trainable *t = open_trainable(model, at("made"));
        struct learner *l = NULL;
        json_t *about =
            json_pack("{s:{s:I, s:f}}", "learn", "rewards", (json_int_t)said[i], "baseline", 0.5);
        const struct trainable_output output = {
            .format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32, .about = about};
        snprintf(path, sizeof path, "%s", fresh_path("card"));
        MUST(trainable_write(t, NULL, path, &output, error));
        trainable_close(&t);
        json_decref(about);
        MUST(learner_open(model, path, &options, &l, error));
        assert_int_equal(state_of(l).rewards, i < 2 ? said[i] : 0);
        assert_true(state_of(l).baseline == (i < 2 ? 0.5 : 0));
        learner_close(&l);
    }
    model_close(&model);
}

static void classifiers_are_refused(void **state)
{
    (void)state;
    const struct learner_options options = options_of(HELD);
    struct learner *l = NULL;
    graft_error why = {0};
    char *dir = random_model_make(&(struct random_model){.classifier = true});
    struct model *model = open_model(&rt, dir);
    assert_int_equal(learner_open(model, at("made"), &options, &l, &why), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(why.message, "a classifier"));
    model_close(&model);
    random_model_remove(dir);
}

/* ---- memory --------------------------------------------------------------------------------- */

static graft_status learn_and_publish(struct desk *d, const struct learner_options *options,
                                      graft_error *error)
{
    struct learner_verdict v;
    bool learned;
    struct learner *l = NULL;
    graft_status status = learner_open(d->model, d->path, options, &l, error);
    if (status == GRAFT_OK)
        status = learner_add(l, GOOD, strlen(GOOD), NULL, NULL, NULL, error);
    if (status == GRAFT_OK)
        status = learner_step(l, &v, &learned, error);
    if (status == GRAFT_OK)
        status = learner_write(l, fresh_path("out"), NULL, error);
    learner_close(&l);
    return status;
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    struct desk d;
    struct learner_options options = options_of(HELD);
    options.steps = 1;
    desk_new(&d);
    MUST(registry_locate(d.registry, "house", &d.path, &d.id, error));
    for (size_t n = 1;; n += 1 + n / 16) { /* each of the first, then ever fewer */
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        graft_error why = {0};
        failing_init(&failing, &with, n);
        failing.ever_after = true;
        rt.mem.allocator = with.allocator;
        graft_status status = learn_and_publish(&d, &options, &why);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %d %s", n, (int)status, why.message);
        if (!failing.failed)
            break;
    }
    desk_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewards_make_answers_likelier_and_punishments_less_likely),
        cmocka_unit_test(the_baseline_is_the_mean_of_what_was_before_and_then_follows),
        cmocka_unit_test(rewards_that_are_all_alike_teach_nothing),
        cmocka_unit_test(quality_is_the_weight_of_an_answer),
        cmocka_unit_test(poison_is_taken_back_and_nothing_is_published),
        cmocka_unit_test(good_feedback_is_published_as_it_was_measured),
        cmocka_unit_test(the_tolerance_does_not_add_up_over_buffers),
        cmocka_unit_test(an_adapter_grows_once_and_its_own_ranks_are_held),
        cmocka_unit_test(modules_held_whole_stay),
        cmocka_unit_test(only_the_targets_change),
        cmocka_unit_test(threads_cannot_be_seen),
        cmocka_unit_test(a_kill_leaves_the_old_version_active),
        cmocka_unit_test(who_says_no_on_the_way_changes_nothing),
        cmocka_unit_test(what_others_do_while_it_is_published_is_never_promoted_over),
        cmocka_unit_test(feedback_that_cannot_be_is_left_out_and_told),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_card_is_not_believed_what_cannot_be),
        cmocka_unit_test(classifiers_are_refused),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
