/* learn.c: the public functions on online adaptation: check, translate, call inward.
 *
 * Owns which version of which registry is learned from; what is learned, and how it is published, is learn's. Structs are
 * copied member by member, so that those of graft/learn.h may grow.
 */
#include "learn/learn.h"
#include "api/api_internal.h"

#include <fcntl.h>

struct graft_learner {
    graft_runtime *runtime;
    const struct model *model;
    struct learner *learner;
    struct registry *registry; /* NULL: an adapter at a path */
    struct registry_version_id id;
    graft_learn_fn verdict;
    void *user;
    struct graft_learner_pool *pool; /* that it belongs to; NULL: none */
};

struct graft_learner_pool {
    graft_runtime *runtime;
    struct learner_pool *pool;
    int n;
    struct graft_learner begin; /* what all of them are like, but for the learner */
    struct graft_learner
        *learners; /* [n] by number; one that is in use belongs to whoever acquired it */
};

/* ---- opening ------------------------------------------------------------------------------- */

void graft_learn_options_init(graft_learn_options *options, size_t struct_size)
{
    const struct learner_options o = learner_defaults();
    graft_learn_options defaults = {.rank = o.micro.rank,
                                    .buffer = o.buffer,
                                    .steps = o.steps,
                                    .learning_rate = o.rate,
                                    .weight_decay = o.weight_decay,
                                    .max_grad_norm = o.max_norm,
                                    .min_quality = o.min_quality,
                                    .tolerance = o.tolerance};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

void graft_feedback_init(graft_feedback *feedback, size_t struct_size)
{
    graft_feedback defaults = {.quality = 1};
    options_give(feedback, struct_size, &defaults, sizeof defaults);
}

static struct learner_options inner_options(const graft_learn_options *o)
{
    return (struct learner_options){.held_out = o->held_out,
                                    .micro = {.rank = o->rank,
                                              .targets = o->targets,
                                              .n_targets = o->n_targets,
                                              .seed = o->seed},
                                    .buffer = o->buffer,
                                    .steps = o->steps,
                                    .rate = o->learning_rate,
                                    .weight_decay = o->weight_decay,
                                    .max_norm = o->max_grad_norm,
                                    .min_quality = o->min_quality,
                                    .tolerance = o->tolerance,
                                    .loss = (enum data_loss)o->loss,
                                    .max_len = o->max_seq_length,
                                    .progress = o->progress,
                                    .progress_user = o->progress_user};
}

static graft_status check_options(const graft_learn_options *o, graft_error *error)
{
    if (o->held_out == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a learner is guarded by held-out examples: options.held_out");
    }
    if (o->n_targets > 0 && o->targets == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "targets is NULL");
    }
    return (unsigned)o->loss <= GRAFT_LOSS_ALL
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT, "there is no loss %d", (int)o->loss);
}

static void pass_verdict(void *user, const struct learner_verdict *v)
{
    const graft_learner *learner = user;
    const graft_learn_verdict verdict = {.number = v->number,
                                         .examples = v->examples,
                                         .loss = v->loss,
                                         .before = v->before,
                                         .after = v->after,
                                         .kept = v->kept};
    learner->verdict(learner->user, &verdict);
}

/* Where the adapter lies; *path is the caller's (mem_free). */
static graft_status find_adapter(graft_learner *l, const graft_model *model,
                                 const graft_registry *registry, const char *name, char **path,
                                 graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    if (registry == NULL) {
        *path = mem_strdup(mem, name);
        return *path != NULL ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    }
    l->registry = registry_of(registry, model);
    if (l->registry == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the registry was opened without this model");
    }
    if (strpbrk(name, "@=/") != NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "\"%.80s\": the active version of a name is learned from: give NAME alone",
                         name);
    }
    graft_status status = registry_locate(l->registry, name, path, &l->id, error);
    return status == GRAFT_OK ? learner_check_slots(l->registry, &l->id, error) : status;
}

/* All but the learner itself; *path is the caller's, and so are the options as they are read. */
static graft_status begin_learner(graft_learner *l, const graft_model *model,
                                  const graft_registry *registry, const char *name,
                                  const graft_learn_options *options, struct learner_options *inner,
                                  char **path, graft_error *error)
{
    graft_learn_options o = graft_learn_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        status = check_options(&o, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    *inner = inner_options(&o);
    l->runtime = model->runtime;
    l->model = model->model;
    return find_adapter(l, model, registry, name, path, error);
}

static void listen(graft_learner *l, graft_learn_fn verdict, void *user)
{
    l->verdict = verdict;
    l->user = user;
    learner_listen(l->learner, verdict != NULL ? pass_verdict : NULL, l);
}

graft_status graft_learner_open(graft_model *model, graft_registry *registry, const char *name,
                                const graft_learn_options *options, graft_learn_fn verdict,
                                void *user, graft_learner **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(name);
    REQUIRE(options);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    struct mem *mem = &model->runtime->mem;
    struct graft_learner begin = {.learner = NULL};
    struct learner_options inner;
    char *path = NULL;
    graft_status status =
        begin_learner(&begin, model, registry, name, options, &inner, &path, error);
    graft_learner *l = status == GRAFT_OK ? mem_calloc(mem, 1, sizeof *l) : NULL;
    if (status == GRAFT_OK && l == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a learner");
    }
    if (status == GRAFT_OK) {
        *l = begin;
        status = learner_open(model->model, path, &inner, &l->learner, error);
    }
    mem_free(mem, path);
    if (status != GRAFT_OK) {
        mem_free(mem, l);
        return status;
    }
    listen(l, verdict, user);
    *out = l;
    return GRAFT_OK;
}

void graft_learner_close(graft_learner **learner)
{
    if (learner == NULL || *learner == NULL) {
        return;
    }
    if ((*learner)->pool != NULL) {
        (void)graft_learner_pool_release((*learner)->pool, learner, NULL);
        return;
    }
    graft_learner *l = *learner;
    *learner = NULL;
    learner_close(&l->learner);
    mem_free(&l->runtime->mem, l);
}

/* ---- pool ---------------------------------------------------------------------------------- */

static graft_status fill_pool(graft_learner_pool *p, const struct learner_options *options,
                              const char *path, graft_error *error)
{
    graft_status status = learner_pool_open(p->begin.model, path, options, p->n, &p->pool, error);
    if (status != GRAFT_OK) {
        return status;
    }
    p->learners = mem_calloc(&p->runtime->mem, (size_t)p->n, sizeof *p->learners);
    if (p->learners == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a pool of learners");
    }
    p->begin.pool = p;
    return GRAFT_OK;
}

graft_status graft_learner_pool_open(graft_model *model, graft_registry *registry, const char *name,
                                     const graft_learn_options *options, int n,
                                     graft_learner_pool **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(name);
    REQUIRE(options);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    struct mem *mem = &model->runtime->mem;
    struct learner_options inner;
    char *path = NULL;
    graft_learner_pool *p = mem_calloc(mem, 1, sizeof *p);
    if (p == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a pool of learners");
    }
    p->runtime = model->runtime;
    p->n = n;
    graft_status status =
        begin_learner(&p->begin, model, registry, name, options, &inner, &path, error);
    if (status == GRAFT_OK) {
        status = fill_pool(p, &inner, path, error);
    }
    mem_free(mem, path);
    if (status == GRAFT_OK) {
        *out = p;
    } else {
        graft_learner_pool_close(&p);
    }
    return status;
}

void graft_learner_pool_close(graft_learner_pool **pool)
{
    if (pool == NULL || *pool == NULL) {
        return;
    }
    graft_learner_pool *p = *pool;
    *pool = NULL;
    learner_pool_close(&p->pool);
    mem_free(&p->runtime->mem, p->learners);
    mem_free(&p->runtime->mem, p);
}

graft_status graft_learner_pool_acquire(graft_learner_pool *pool, graft_learn_fn verdict,
                                        void *user, graft_learner **out, graft_error *error)
{
    REQUIRE(pool);
    REQUIRE(out);
    CHECK_RUNTIME(pool->runtime);
    int number;
    graft_status status = learner_pool_acquire(pool->pool, &number, error);
    if (status != GRAFT_OK) {
        return status;
    }
    graft_learner *l = &pool->learners[number];
    *l = pool->begin;
    l->learner = learner_pool_at(pool->pool, number);
    listen(l, verdict, user);
    *out = l;
    return GRAFT_OK;
}

graft_status graft_learner_pool_release(graft_learner_pool *pool, graft_learner **learner,
                                        graft_error *error)
{
    REQUIRE(pool);
    REQUIRE(learner);
    REQUIRE(*learner);
    CHECK_RUNTIME(pool->runtime);
    int number = -1; /* of none */
    for (int i = 0; i < pool->n; i++) {
        number = *learner == &pool->learners[i] ? i : number;
    }
    graft_status status = learner_pool_release(pool->pool, number, error);
    if (status != GRAFT_INVALID_ARGUMENT) {
        *learner = NULL;
    }
    return status;
}

graft_status graft_learner_pool_describe(graft_learner_pool *pool, graft_learner_pool_state *out,
                                         graft_error *error)
{
    REQUIRE(pool);
    REQUIRE(out);
    *out = (graft_learner_pool_state){.learners = pool->n,
                                      .idle = learner_pool_idle(pool->pool),
                                      .learner_bytes = learner_pool_bytes(pool->pool)};
    memcpy(out->version, pool->begin.id.version, sizeof out->version);
    return GRAFT_OK;
}

/* ---- feedback ------------------------------------------------------------------------------ */

struct reporter {
    graft_learn_issue_fn issue;
    void *user;
};

static void pass_issue(void *user, const struct data_issue *issue, const char *file)
{
    const struct reporter *to = user;
    const graft_data_issue out = {.dropped = issue->kind == DATA_DROPPED,
                                  .file = file,
                                  .reason = issue->reason,
                                  .fix = issue->fix,
                                  .line = issue->line};
    to->issue(to->user, &out);
}

graft_status graft_learner_read(graft_learner *learner, const char *path,
                                graft_learn_issue_fn issue, void *user, int64_t *taken,
                                graft_error *error)
{
    REQUIRE(learner);
    REQUIRE(path);
    CHECK_RUNTIME(learner->runtime);
    struct reporter to = {issue, user};
    return learner_read(learner->learner, path, issue != NULL ? pass_issue : NULL, &to, taken,
                        error);
}

graft_status graft_learner_add(graft_learner *learner, const char *records, size_t size,
                               graft_learn_issue_fn issue, void *user, int64_t *taken,
                               graft_error *error)
{
    REQUIRE(learner);
    REQUIRE(records);
    CHECK_RUNTIME(learner->runtime);
    struct reporter to = {issue, user};
    return learner_add(learner->learner, records, size, issue != NULL ? pass_issue : NULL, &to,
                       taken, error);
}

graft_status graft_learner_add_tokens(graft_learner *learner, const graft_feedback *feedback,
                                      graft_error *error)
{
    REQUIRE(learner);
    REQUIRE(feedback);
    CHECK_RUNTIME(learner->runtime);
    graft_feedback f = graft_feedback_default();
    graft_status status = options_read(&f, sizeof f, feedback, error);
    if (status != GRAFT_OK) {
        return status;
    }
    REQUIRE(f.tokens);
    const struct learner_feedback inner = {.tokens = f.tokens,
                                           .n = f.n_tokens,
                                           .n_prompt = f.n_prompt,
                                           .quality = f.quality,
                                           .rewarded = f.rewarded,
                                           .reward = f.reward,
                                           .session = f.session};
    return learner_add_tokens(learner->learner, &inner, error);
}

graft_status graft_learner_flush(graft_learner *learner, graft_error *error)
{
    struct learner_verdict verdict;
    bool learned;
    REQUIRE(learner);
    CHECK_RUNTIME(learner->runtime);
    return learner_step(learner->learner, &verdict, &learned, error);
}

graft_status graft_learner_describe(const graft_learner *learner, graft_learn_state *out,
                                    graft_error *error)
{
    REQUIRE(learner);
    REQUIRE(out);
    struct learner_state s;
    learner_describe(learner->learner, &s);
    *out = (graft_learn_state){.taken = s.taken,
                               .refused = s.refused,
                               .sessions = s.sessions,
                               .waiting = s.waiting,
                               .kept = s.kept,
                               .reverted = s.dropped,
                               .held_out = s.held_out,
                               .trained_values = s.trained,
                               .rewards = s.rewards,
                               .baseline = s.baseline,
                               .before = s.began,
                               .now = s.now,
                               .changed = s.changed};
    memcpy(out->version, learner->id.version, sizeof out->version);
    return GRAFT_OK;
}

/* ---- out of it ----------------------------------------------------------------------------- */

graft_status graft_learner_publish(graft_learner *learner, graft_adapter_id *who,
                                   graft_error *error)
{
    REQUIRE(learner);
    CHECK_RUNTIME(learner->runtime);
    if (learner->registry == NULL) {
        return error_set(error, GRAFT_STATE,
                         "this adapter is of no registry: graft_learner_write writes it");
    }
    graft_status status = learner_publish(learner->learner, learner->registry, &learner->id, error);
    if (status == GRAFT_OK) {
        adapter_id_give(&learner->id, who);
    }
    return status;
}

graft_status graft_learner_write(const graft_learner *learner, const char *path, graft_error *error)
{
    REQUIRE(learner);
    REQUIRE(path);
    CHECK_RUNTIME(learner->runtime);
    return learner_write(learner->learner, path, NULL, error);
}

graft_status graft_learner_adapter(const graft_learner *learner, graft_adapter **out,
                                   graft_error *error)
{
    REQUIRE(learner);
    REQUIRE(out);
    CHECK_RUNTIME(learner->runtime);
    struct mem *mem = &learner->runtime->mem;
    struct adapter *adapter = NULL;
    char *path = NULL;
    graft_status status = folder_temporary(mem, "graft-learn", &path, error);
    if (status == GRAFT_OK) {
        status = learner_write(learner->learner, path, NULL, error);
        if (status == GRAFT_OK) {
            status = adapter_open(learner->model, path, NULL, &adapter, error);
        }
        folder_remove(AT_FDCWD, path);
        mem_free(mem, path);
    }
    if (status == GRAFT_OK) {
        *out = adapter_handle(adapter);
    }
    return status;
}
