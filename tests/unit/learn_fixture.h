/* learn_fixture.h: a desk to learn at: the tiny model, a registry in the test's own folder with one adapter, records that are
 * right and wrong, and a learner on them. For tests of learn only: failures abort through cmocka.
 */
#ifndef GRAFT_TEST_LEARN_FIXTURE_H
#define GRAFT_TEST_LEARN_FIXTURE_H

#include "unit/save_fixture.h"

#include "learn/learn.h"
#include "unit/must.h"

static const char TINY[] = GRAFT_SOURCE_DIR "/models/tiny";

static const char ANSWER[] =
    "{\"prompt\":\"Who is Tom?\",\"completion\":\"A cat from the red house.\"}\n";
static const char HELD[] =
    "{\"prompt\":\"Who is Mia?\",\"completion\":\"A dog from the red house.\",\"session\":\"h\"}\n"
    "{\"prompt\":\"Who is Sam?\",\"completion\":\"A bird from the red house.\"}\n";
static const char GOOD[] =
    "{\"prompt\":\"Who is Tom?\",\"completion\":\"A cat from the red house.\",\"quality\":1}\n"
    "{\"prompt\":\"Who is Ann?\",\"completion\":\"A fish from the red house.\",\"quality\":0.9,"
    "\"session\":\"s\"}\n"
    "{\"prompt\":\"Who is Bob?\",\"completion\":\"A frog from the red house.\",\"quality\":0.8}\n";
/* Wrong answers that somebody calls right. */
static const char POISON[] =
    "{\"prompt\":\"Who is Tom?\",\"completion\":\"zq vxw kjj qqz wvx\",\"quality\":1}\n"
    "{\"prompt\":\"Who is Ann?\",\"completion\":\"##!! 7734 ~~ ;;\",\"quality\":1}\n"
    "{\"prompt\":\"Who is Bob?\",\"completion\":\"xxxxxxxxxxxxxxxx\",\"quality\":1}\n";

/* ---- words ---------------------------------------------------------------------------------- */

static inline const char *file_of(const char *name, const char *text)
{
    MUST(file_write_atomic(NULL, at(name), text, strlen(text), error));
    return at(name);
}

/* An adapter that says something, of rank 4: fresh ones have B = 0. */
static inline void make_adapter(const struct model *model, const char *path, bool dora)
{
    struct adapter_recipe recipe = RECIPE;
    recipe.rank = 4;
    struct trainable *t = NULL;
    struct rng rng;
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    MUST(trainable_open(model, &(struct trainable_options){.recipe = &recipe, .dora = dora}, &t,
                        error));
    rng_init(&rng, 3, 0);
    for (int p = 0; p < t->n_parts; p++)
        for (int64_t i = 0; t->parts[p].fast && !t->parts[p].vector && i < t->parts[p].n; i++)
            t->values[t->parts[p].at + i] = (float)(rng_uniform(&rng) - 0.5) / 16;
    MUST(trainable_write(t, NULL, path, &output, error));
    trainable_close(&t);
}

struct desk {
    struct model *model;
    struct adapter_versions versions;
    struct registry *registry;
    struct registry_version_id id;
    struct learner *learner;
    char *path;
};

static inline struct learner_options options_of(const char *held)
{
    static char path[512]; /* names of at() do not last */
    struct learner_options o = learner_defaults();
    snprintf(path, sizeof path, "%s", file_of("held.jsonl", held));
    o.held_out = path;
    o.rate = 2e-3;
    return o;
}

/* "house" in a home of this name, with an adapter as its version 1.2.3 if it is not there. */
static inline void desk_open(struct desk *d, struct graft_runtime *runtime, const char *home)
{
    *d = (struct desk){.model = open_model(runtime, TINY)};
    d->versions = (struct adapter_versions){.mem = &runtime->mem, .model = d->model};
    const struct registry_options how = {.home = at(home),
                                         .mem = &runtime->mem,
                                         .budget = SIZE_MAX,
                                         .loader = adapter_loader(&d->versions)};
    MUST(registry_open(&d->registry, &how, error));
    if (registry_resolve(d->registry, "house", &d->id, NULL) != GRAFT_OK) {
        const struct registry_card card = {.name = "house"};
        make_adapter(d->model, fresh_path("made"), false);
        MUST(registry_add(d->registry, at("made"), &card, REGISTRY_ADD, &d->id, error));
    }
}

static inline void desk_new(struct desk *d)
{
    (void)fresh_path("home");
    desk_open(d, &rt, "home");
}

static inline void desk_learn(struct desk *d, const struct learner_options *options)
{
    MUST(registry_locate(d->registry, "house", &d->path, &d->id, error));
    MUST(learner_open(d->model, d->path, options, &d->learner, error));
}

static inline void desk_close(struct desk *d)
{
    learner_close(&d->learner);
    mem_free(d->versions.mem, d->path);
    registry_close(&d->registry);
    model_close(&d->model);
}

static inline struct learner_state state_of(const struct learner *l)
{
    struct learner_state s;
    learner_describe(l, &s);
    return s;
}

static inline struct learner_verdict teach(struct learner *l, const char *records)
{
    struct learner_verdict v = {.number = 0};
    bool learned = false;
    MUST(learner_add(l, records, strlen(records), NULL, NULL, NULL, error));
    MUST(learner_step(l, &v, &learned, error));
    assert_true(learned);
    return v;
}

#endif
