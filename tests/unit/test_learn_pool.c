/* test_learn_pool.c: a pool of learners: one that comes back is as fresh as one just opened, bit by bit; nothing of a tenant is
 * left in memory; going out and coming back allocates nothing, from any thread.
 *
 * The linker hands this program every call of malloc and its like that graft makes (-Wl,--wrap), and here they are counted.
 */
#include "unit/learn_fixture.h"

#include "learn/learn_internal.h"
#include "model/training/training_internal.h"
#include "unit/counted_malloc.h"
#include "unit/failing_allocator.h"

#include <graft/graft.h>

#include <pthread.h>
#include <sched.h>

/* ---- words ---------------------------------------------------------------------------------- */

enum { ANSWER_TOKENS = 12 };

/* An answer that only this tenant gives. */
static void tokens_of(int tenant, graft_token_id out[ANSWER_TOKENS])
{
    for (int i = 0; i < ANSWER_TOKENS; i++)
        out[i] = 300 + 37 * tenant + (i * i + tenant) % 29;
}

static void hear_from(struct learner *l, int tenant, const char *session)
{
    graft_token_id tokens[ANSWER_TOKENS];
    tokens_of(tenant, tokens);
    const struct learner_feedback quality = {
        .tokens = tokens, .n = ANSWER_TOKENS, .n_prompt = 3, .quality = 0.75, .session = session};
    struct learner_feedback reward = quality;
    reward.n = ANSWER_TOKENS - 2;
    reward.rewarded = true;
    reward.reward = 1 + tenant;
    MUST(learner_add_tokens(l, &quality, error));
    MUST(learner_add_tokens(l, &reward, error));
}

static struct learner_verdict learn_from(struct learner *l, int tenant)
{
    struct learner_verdict v = {.number = 0};
    bool learned = false;
    hear_from(l, tenant, "of-a-tenant");
    MUST(learner_step(l, &v, &learned, error));
    assert_true(learned);
    return v;
}

/* So much may be worse that everything is kept. */
static struct learner_options forgiving(void)
{
    struct learner_options o = options_of(HELD);
    o.tolerance = 1e9;
    o.steps = 2;
    return o;
}

static void assert_same(const struct learner *a, const struct learner *b)
{
    const size_t bytes = (size_t)a->trainable->n_values * sizeof(float);
    assert_int_equal(a->trainable->n_values, b->trainable->n_values);
    assert_memory_equal(a->trainable->values, b->trainable->values, bytes);
    assert_memory_equal(a->optimiser.m, b->optimiser.m, bytes);
    assert_memory_equal(a->optimiser.v, b->optimiser.v, bytes);
    assert_int_equal(a->optimiser.steps, b->optimiser.steps);
    const struct learner_state x = state_of(a), y = state_of(b);
    assert_int_equal(x.taken, y.taken);
    assert_int_equal(x.refused, y.refused);
    assert_int_equal(x.sessions, y.sessions);
    assert_int_equal(x.waiting, y.waiting);
    assert_int_equal(x.kept, y.kept);
    assert_int_equal(x.dropped, y.dropped);
    assert_int_equal(x.held_out, y.held_out);
    assert_int_equal(x.trained, y.trained);
    assert_int_equal(x.rewards, y.rewards);
    assert_true(x.baseline == y.baseline && x.began == y.began && x.now == y.now);
    assert_int_equal(x.changed, y.changed);
}

static const char *an_adapter(const struct model *model, bool dora)
{
    static char made[512];
    make_adapter(model, fresh_path("made"), dora);
    snprintf(made, sizeof made, "%s", at("made"));
    return made;
}

/* ---- fresh ---------------------------------------------------------------------------------- */

static void a_learner_that_came_back_learns_as_one_just_opened(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    for (int dora = 0; dora < 2; dora++) {
        const char *path = an_adapter(model, dora);
        const struct learner_options options = forgiving();
        struct learner *fresh = NULL;
        struct learner_pool *pool = NULL;
        int number;
        MUST(learner_open(model, path, &options, &fresh, error));
        MUST(learner_pool_open(model, path, &options, 2, &pool, error));
        for (int tenant = 1; tenant <= 3; tenant++) { /* and one that leaves feedback behind */
            MUST(learner_pool_acquire(pool, &number, error));
            struct learner *l = learner_pool_at(pool, number);
            assert_true(learn_from(l, tenant).kept);
            assert_true(learn_from(l, tenant).number == 2);
            hear_from(l, tenant, "more");
            MUST(learner_pool_release(pool, number, error));
        }
        MUST(learner_pool_acquire(pool, &number, error));
        struct learner *l = learner_pool_at(pool, number);
        assert_same(l, fresh);
        for (int round = 0; round < 2; round++) {
            const struct learner_verdict a = learn_from(l, 9), b = learn_from(fresh, 9);
            assert_true(a.number == b.number && a.examples == b.examples && a.kept == b.kept);
            assert_true(a.loss == b.loss && a.before == b.before && a.after == b.after);
            assert_same(l, fresh);
        }
        char *bytes[2];
        size_t size[2];
        for (int i = 0; i < 2; i++) {
            MUST(learner_write(i ? fresh : l, fresh_path("out"), NULL, error));
            MUST(file_read(NULL, at("out/adapter_model.safetensors"), 1 << 24, &bytes[i], &size[i],
                           error));
        }
        assert_int_equal(size[0], size[1]);
        assert_memory_equal(bytes[0], bytes[1], size[0]);
        mem_free(NULL, bytes[0]);
        mem_free(NULL, bytes[1]);
        learner_pool_close(&pool);
        learner_close(&fresh);
    }
    model_close(&model);
}

static void all_learners_of_a_pool_are_alike(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    const struct learner_options options = forgiving();
    struct learner_pool *pool = NULL;
    int numbers[3];
    MUST(learner_pool_open(model, an_adapter(model, true), &options, 3, &pool, error));
    for (int i = 0; i < 3; i++) {
        MUST(learner_pool_acquire(pool, &numbers[i], error));
        learn_from(learner_pool_at(pool, numbers[i]), 4);
        assert_same(learner_pool_at(pool, numbers[i]), learner_pool_at(pool, numbers[0]));
    }
    learner_pool_close(&pool);
    model_close(&model);
}

/* ---- nothing left ---------------------------------------------------------------------------- */

static bool is_zero(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        if (at[i])
            return false;
    return true;
}

/* Everything that numbers of a tenant are in. */
static void check_buffers(const struct learner *l, bool used)
{
    const struct train_tape *t = l->tape;
    const size_t values = (size_t)l->trainable->n_values * sizeof(float), tok = (size_t)l->room;
    const struct {
        const char *name;
        const void *bytes;
        size_t size;
    } all[] = {{"gradients", l->trainable->grads, values},
               {"m", l->optimiser.m, values},
               {"v", l->optimiser.v, values},
               {"sums", l->optimiser.sums, sizeof(double)},
               {"kept values", l->kept.values, values},
               {"batch tokens", l->batch.tokens, tok * sizeof *l->batch.tokens},
               {"batch targets", l->batch.targets, tok * sizeof *l->batch.targets},
               {"batch weights", l->batch.weights, tok * sizeof *l->batch.weights},
               {"batch starts", l->batch.starts, tok * sizeof *l->batch.starts},
               {"lessons", l->buffer, (size_t)l->options.buffer * sizeof *l->buffer},
               {"stream", t->x, tok * (size_t)l->model->config.d_model * sizeof *t->x},
               {"its gradient", t->dx, tok * (size_t)l->model->config.d_model * sizeof *t->dx},
               {"hidden", t->hidden, (size_t)l->model->config.d_model * sizeof *t->hidden},
               {"logits", t->logits, (size_t)l->model->config.n_vocab * sizeof *t->logits},
               {"nll", t->nll, sizeof *t->nll},
               {"kept activations", t->kept[KEPT_X],
                tok * (size_t)l->model->config.d_model * sizeof(float)},
               {"positions", t->pos, tok * sizeof *t->pos}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (is_zero(all[i].bytes, all[i].size) == used)
            fail_msg("%s: %s", all[i].name, used ? "nothing is seen of the tenant" : "not zero");
    assert_int_equal(is_zero(l->kept.m, values), true); /* before the first step */
    assert_int_equal(l->optimiser.steps != 0, used);
    assert_int_equal(l->names.used != 0, used);
    assert_int_equal(l->sessions.count != 0, used);
    assert_int_equal(l->listener != NULL, used);
}

static void listen_to_it(void *user, const struct learner_verdict *verdict)
{
    (void)user, (void)verdict;
}

static void all_buffers_are_zero_after_a_release(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    const struct learner_options options = forgiving();
    struct learner_pool *pool = NULL;
    int number;
    MUST(learner_pool_open(model, an_adapter(model, false), &options, 1, &pool, error));
    struct learner *l = learner_pool_at(pool, 0);
    check_buffers(l, false); /* nor is there anything of the held-out examples */
    MUST(learner_pool_acquire(pool, &number, error));
    learner_listen(l, listen_to_it, NULL);
    learn_from(l, 1);
    hear_from(l, 1, "waiting");
    check_buffers(l, true);
    MUST(learner_pool_release(pool, number, error));
    check_buffers(l, false);
    learner_pool_close(&pool);
    model_close(&model);
}

/* An allocator that knows its blocks, and looks for some bytes in them: in those that are there when asked, and in those that
 * are freed while it looks. */
struct watcher {
    pthread_mutex_t lock;
    struct block {
        char *at;
        size_t size;
    } blocks[4096];
    int n, found;
    const void *wanted; /* NULL: it does not look */
    size_t wanted_size;
};

static void *watch_alloc(void *user, size_t bytes)
{
    struct watcher *w = user;
    char *at = malloc(bytes);
    pthread_mutex_lock(&w->lock);
    assert_true(w->n < (int)ARRAY_LEN(w->blocks));
    w->blocks[w->n++] = (struct block){at, bytes};
    pthread_mutex_unlock(&w->lock);
    return at;
}

/* What is looked for begins at a multiple of 4. Bytes between those that were handed out may not be read by anybody else. */
__attribute__((no_sanitize("address", "thread"))) static bool holds(const struct watcher *w,
                                                                    const struct block *block)
{
    const char *wanted = w->wanted;
    const uint32_t first = *(const uint32_t *)w->wanted;
    const size_t ahead = (size_t)(-(uintptr_t)block->at & 3);
    for (size_t i = ahead; i + w->wanted_size <= block->size; i += 4) {
        size_t n = sizeof first;
        if (*(const uint32_t *)(const void *)(block->at + i) != first)
            continue;
        while (n < w->wanted_size && block->at[i + n] == wanted[n])
            n++;
        if (n == w->wanted_size)
            return true;
    }
    return false;
}

static struct block forget_block(struct watcher *w, void *at)
{
    struct block block = {NULL, 0};
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < w->n && !block.at; i++)
        if (w->blocks[i].at == at) {
            block = w->blocks[i];
            w->blocks[i] = w->blocks[--w->n];
        }
    w->found += block.at && w->wanted && holds(w, &block);
    pthread_mutex_unlock(&w->lock);
    return block;
}

static void watch_release(void *user, void *at)
{
    (void)forget_block(user, at);
    free(at);
}

static void *watch_resize(void *user, void *at, size_t bytes)
{
    char *to = watch_alloc(user, bytes);
    if (!at)
        return to;
    const struct block old = forget_block(user, at);
    memcpy(to, old.at, old.size < bytes ? old.size : bytes);
    free(at);
    return to;
}

/* How often the bytes are in memory now. */
static int look_for(struct watcher *w, const void *bytes, size_t size)
{
    int n = 0;
    w->wanted = bytes;
    w->wanted_size = size;
    for (int i = 0; i < w->n; i++)
        n += holds(w, &w->blocks[i]);
    return n;
}

static void nothing_of_a_tenant_is_in_memory_after_a_release(void **state)
{
    (void)state;
    static struct watcher watcher;
    static const _Alignas(4) char SESSION[] = "tenant-7-and-nobody-else";
    struct model *model = open_model(&rt, TINY);
    const char *path = an_adapter(model, false);
    const struct learner_options options = forgiving();
    const graft_allocator saved = rt.mem.allocator;
    struct learner_pool *pool = NULL;
    int number;
    watcher = (struct watcher){.lock = PTHREAD_MUTEX_INITIALIZER};
    rt.mem.allocator = (graft_allocator){watch_alloc, watch_resize, watch_release, &watcher};
    MUST(learner_pool_open(model, path, &options, 2, &pool, error));
    for (int round = 0; round < 4; round++) {
        graft_token_id tokens[ANSWER_TOKENS];
        float learned[8], moments[8];
        tokens_of(7, tokens);
        MUST(learner_pool_acquire(pool, &number, error));
        struct learner *l = learner_pool_at(pool, number);
        learn_from(l, 7);
        hear_from(l, 7, SESSION);
        memcpy(learned, l->trainable->values + l->trainable->parts[0].at, sizeof learned);
        memcpy(moments, l->optimiser.m + l->trainable->parts[0].at, sizeof moments);
        const struct {
            const void *bytes;
            size_t size;
        } traces[] = {{SESSION, strlen(SESSION)},
                      {tokens + 1, 6 * sizeof *tokens},
                      {learned, sizeof learned},
                      {moments, sizeof moments}};
        watcher.found = 0;
        assert_true(look_for(&watcher, traces[round].bytes, traces[round].size) > 0);
        MUST(learner_pool_release(pool, number, error));
        assert_int_equal(watcher.found, 0); /* in what was freed */
        assert_int_equal(look_for(&watcher, traces[round].bytes, traces[round].size), 0);
        watcher.wanted = NULL;
    }
    learner_pool_close(&pool);
    rt.mem.allocator = saved;
    assert_int_equal(watcher.n, 0);
    model_close(&model);
}

/* ---- out and back --------------------------------------------------------------------------- */

static void what_cannot_go_out_or_come_back_is_said(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    const char *path = an_adapter(model, false);
    const struct learner_options options = forgiving();
    struct learner_pool *pool = NULL;
    graft_error why = {0};
    int number, other;
    assert_int_equal(learner_pool_open(model, path, &options, 0, &pool, &why),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(learner_pool_open(model, path, &options, 4097, &pool, &why),
                     GRAFT_INVALID_ARGUMENT);
    assert_int_equal(learner_pool_open(model, at("none"), &options, 2, &pool, &why),
                     GRAFT_NOT_FOUND);
    assert_null(pool);
    MUST(learner_pool_open(model, path, &options, 2, &pool, error));
    assert_int_equal(learner_pool_idle(pool), 2);
    MUST(learner_pool_acquire(pool, &number, error));
    MUST(learner_pool_acquire(pool, &other, error));
    assert_int_not_equal(number, other);
    assert_int_equal(learner_pool_idle(pool), 0);
    int none = -7;
    assert_int_equal(learner_pool_acquire(pool, &none, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "all 2 learners of the pool are in use"));
    assert_int_equal(none, -7);
    MUST(learner_pool_release(pool, number, error));
    assert_int_equal(learner_pool_idle(pool), 1);
    assert_int_equal(learner_pool_release(pool, number, &why), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(learner_pool_release(pool, -1, &why), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(learner_pool_release(pool, 2, &why), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(learner_pool_idle(pool), 1);
    learner_pool_close(&pool);
    learner_pool_close(&pool);
    model_close(&model);
}

enum { TENANTS = 8, ROUNDS = 3 };

struct crowd {
    struct learner_pool *pool;
    struct learner *want[TENANTS]; /* what each would learn alone */
    atomic_int served, refused, next;
};

static void *be_tenants(void *user)
{
    struct crowd *c = user;
    const int tenant = atomic_fetch_add(&c->next, 1);
    for (int round = 0; round < ROUNDS; round++) {
        int number;
        while (learner_pool_acquire(c->pool, &number, NULL) != GRAFT_OK) {
            atomic_fetch_add(&c->refused, 1);
            sched_yield();
        }
        struct learner *l = learner_pool_at(c->pool, number);
        struct learner_verdict v;
        bool learned;
        hear_from(l, tenant, "here");
        bool fine = learner_step(l, &v, &learned, NULL) == GRAFT_OK && v.kept;
        fine = fine && !memcmp(l->trainable->values, c->want[tenant]->trainable->values,
                               (size_t)l->trainable->n_values * sizeof(float));
        fine = fine && l->state.sessions == 1 && l->state.taken == 2;
        fine = learner_pool_release(c->pool, number, NULL) == GRAFT_OK && fine;
        atomic_fetch_add(&c->served, fine);
    }
    return NULL;
}

static void eight_threads_share_three_learners_and_none_sees_another(void **state)
{
    (void)state;
    static struct crowd crowd;
    struct model *model = open_model(&rt, TINY);
    const char *path = an_adapter(model, false);
    const struct learner_options options = forgiving();
    pthread_t threads[TENANTS];
    MUST(learner_pool_open(model, path, &options, 3, &crowd.pool, error));
    for (int i = 0; i < TENANTS; i++) {
        MUST(learner_open(model, path, &options, &crowd.want[i], error));
        learn_from(crowd.want[i], i);
    }
    for (int i = 0; i < TENANTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, be_tenants, &crowd), 0);
    for (int i = 0; i < TENANTS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&crowd.served), TENANTS * ROUNDS);
    assert_int_equal(learner_pool_idle(crowd.pool), 3);
    for (int i = 0; i < TENANTS; i++)
        learner_close(&crowd.want[i]);
    learner_pool_close(&crowd.pool);
    model_close(&model);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void lack_of_memory_at_open_leaves_nothing(void **state)
{
    (void)state;
    struct model *model = open_model(&rt, TINY);
    const char *path = an_adapter(model, false);
    const struct learner_options options = forgiving();
    for (size_t n = 1;; n += 1 + n / 8) {
        struct failing_allocator failing;
        struct mem with;
        struct learner_pool *pool = NULL;
        const graft_allocator saved = rt.mem.allocator;
        const size_t before = atomic_load(&rt.mem.bytes_in_use);
        failing_init(&failing, &with, n);
        failing.ever_after = true;
        rt.mem.allocator = with.allocator;
        const graft_status status = learner_pool_open(model, path, &options, 2, &pool, NULL);
        learner_pool_close(&pool);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        if (!failing.failed)
            break;
    }
    model_close(&model);
}

/* ---- in public ------------------------------------------------------------------------------ */

static void count_verdict(void *user, const graft_learn_verdict *verdict)
{
    *(int *)user += verdict->kept;
}

static graft_feedback feedback_of(int tenant, graft_token_id tokens[ANSWER_TOKENS])
{
    graft_feedback f = graft_feedback_default();
    tokens_of(tenant, tokens);
    f.tokens = tokens;
    f.n_tokens = ANSWER_TOKENS;
    f.n_prompt = 3;
    f.session = "of-a-tenant";
    return f;
}

/* What was learned so far, in a session; opened twice it is one adapter. */
static void a_session_runs_on(graft_model *model, const graft_learner *l)
{
    graft_adapter *first = NULL, *second = NULL;
    MUST(graft_learner_adapter(l, &first, error));
    MUST(graft_learner_adapter(l, &second, error));
    graft_session *session = NULL;
    graft_token token;
    graft_session_options o = graft_session_options_default();
    const graft_token_id prompt[] = {5, 6, 7};
    MUST(graft_session_open(model, &o, &session, error));
    MUST(graft_session_apply_adapter(session, first, 1, GRAFT_KV_CONTINUE, error));
    assert_true(graft_session_has_adapter(session, second)); /* they say the same */
    MUST(graft_session_prompt(session, prompt, 3, NULL, NULL, error));
    MUST(graft_session_next(session, &token, error));
    graft_session_close(&session);
    graft_adapter_close(&first);
    graft_adapter_close(&second);
}

static void a_pool_serves_and_going_out_and_back_allocates_nothing(void **state)
{
    (void)state;
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_learner_pool *pool = NULL;
    graft_learner *l = NULL, *other = NULL;
    graft_learner_pool_state now;
    graft_learn_state learned;
    graft_learn_options o = graft_learn_options_default();
    graft_token_id tokens[ANSWER_TOKENS];
    graft_error why = {0};
    char made[512], held[512];
    int kept = 0;
    struct model *inner = open_model(&rt, TINY);
    snprintf(made, sizeof made, "%s", an_adapter(inner, false));
    model_close(&inner);
    snprintf(held, sizeof held, "%s", file_of("held.jsonl", HELD));
    o.held_out = held;
    o.tolerance = 1e9;
    MUST(graft_runtime_open(NULL, &runtime, error));
    MUST(graft_model_open(runtime, TINY, NULL, &model, error));
    MUST(graft_learner_pool_open(model, NULL, made, &o, 2, &pool, error));
    MUST(graft_learner_pool_describe(pool, &now, error));
    assert_int_equal(now.learners, 2);
    assert_int_equal(now.idle, 2);
    assert_true(now.learner_bytes > 1000);
    assert_string_equal(now.version, "");
    for (int round = 0; round < 3; round++) {
        size_t before = atomic_load(&calls);
        MUST(graft_learner_pool_acquire(pool, count_verdict, &kept, &l, error));
        assert_int_equal(atomic_load(&calls) - before, 0);
        MUST(graft_learner_describe(l, &learned, error));
        assert_int_equal(learned.taken + learned.kept + learned.sessions, 0);
        graft_feedback f = feedback_of(round, tokens);
        MUST(graft_learner_add_tokens(l, &f, error));
        assert_true(atomic_load(&calls) > before); /* they are seen */
        MUST(graft_learner_flush(l, error));
        assert_int_equal(kept, round + 1);
        a_session_runs_on(model, l);
        MUST(graft_learner_add_tokens(l, &f, error));
        before = atomic_load(&calls);
        if (round == 1)
            graft_learner_close(&l);
        else
            MUST(graft_learner_pool_release(pool, &l, error));
        assert_int_equal(atomic_load(&calls) - before, 0);
        assert_null(l);
    }
    MUST(graft_learner_pool_acquire(pool, NULL, NULL, &l, error));
    MUST(graft_learner_pool_acquire(pool, NULL, NULL, &other, error));
    graft_learner *none = NULL, *stray;
    assert_int_equal(graft_learner_pool_acquire(pool, NULL, NULL, &none, &why), GRAFT_STATE);
    assert_null(none);
    MUST(graft_learner_open(model, NULL, made, &o, NULL, NULL, &stray, error));
    assert_int_equal(graft_learner_pool_release(pool, &stray, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(stray);
    graft_learner_close(&stray);
    MUST(graft_learner_pool_release(pool, &l, error));
    MUST(graft_learner_pool_release(pool, &other, error));
    assert_int_equal(graft_learner_pool_release(pool, &other, &why), GRAFT_INVALID_ARGUMENT);
    graft_learner_pool_close(&pool);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
}

/* What one tenant taught may become everybody's; whoever has learned from the version before it is refused then, and the
 * learner that comes back begins from the pool's version again. */
static void a_pool_stays_with_the_version_that_it_was_opened_on(void **state)
{
    (void)state;
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_registry *registry = NULL;
    graft_learner_pool *pool = NULL;
    graft_learner *l[2];
    graft_learner_pool_state now;
    graft_learn_state learned;
    graft_adapter_id id;
    graft_registry_options home = graft_registry_options_default();
    graft_learn_options o = graft_learn_options_default();
    graft_token_id tokens[ANSWER_TOKENS];
    graft_error why = {0};
    char made[512], held[512], at_home[512];
    struct model *inner = open_model(&rt, TINY);
    snprintf(made, sizeof made, "%s", an_adapter(inner, false));
    model_close(&inner);
    snprintf(held, sizeof held, "%s", file_of("held.jsonl", HELD));
    snprintf(at_home, sizeof at_home, "%s", fresh_path("pool-home"));
    o.held_out = held;
    o.tolerance = 1e9;
    home.home = at_home;
    graft_card card = graft_card_default();
    card.name = "house";
    MUST(graft_runtime_open(NULL, &runtime, error));
    MUST(graft_model_open(runtime, TINY, NULL, &model, error));
    MUST(graft_registry_open(runtime, model, &home, &registry, error));
    MUST(graft_registry_add(registry, made, &card, GRAFT_PLACE_ADD, &id, error));
    MUST(graft_learner_pool_open(model, registry, "house", &o, 2, &pool, error));
    MUST(graft_learner_pool_describe(pool, &now, error));
    assert_string_equal(now.version, id.version);
    for (int i = 0; i < 2; i++) {
        const graft_feedback f = feedback_of(i, tokens);
        MUST(graft_learner_pool_acquire(pool, NULL, NULL, &l[i], error));
        MUST(graft_learner_add_tokens(l[i], &f, error));
        MUST(graft_learner_flush(l[i], error));
    }
    graft_adapter_id published;
    MUST(graft_learner_publish(l[0], &published, error));
    assert_string_not_equal(published.version, id.version);
    assert_int_equal(graft_learner_publish(l[1], NULL, &why), GRAFT_STATE);
    assert_non_null(strstr(why.message, "became active"));
    MUST(graft_learner_describe(l[0], &learned, error));
    assert_string_equal(learned.version, published.version);
    MUST(graft_learner_pool_release(pool, &l[0], error));
    MUST(graft_learner_pool_acquire(pool, NULL, NULL, &l[0], error));
    MUST(graft_learner_describe(l[0], &learned, error));
    assert_string_equal(learned.version, id.version);
    assert_false(learned.changed);
    graft_learner_close(&l[0]);
    graft_learner_close(&l[1]);
    MUST(graft_learner_pool_describe(pool, &now, error));
    assert_int_equal(now.idle, 2);
    graft_learner_pool_close(&pool);
    graft_registry_close(&registry);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_learner_that_came_back_learns_as_one_just_opened),
        cmocka_unit_test(all_learners_of_a_pool_are_alike),
        cmocka_unit_test(all_buffers_are_zero_after_a_release),
        cmocka_unit_test(nothing_of_a_tenant_is_in_memory_after_a_release),
        cmocka_unit_test(what_cannot_go_out_or_come_back_is_said),
        cmocka_unit_test(eight_threads_share_three_learners_and_none_sees_another),
        cmocka_unit_test(lack_of_memory_at_open_leaves_nothing),
        cmocka_unit_test(a_pool_serves_and_going_out_and_back_allocates_nothing),
        cmocka_unit_test(a_pool_stays_with_the_version_that_it_was_opened_on),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
