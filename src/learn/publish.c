/* publish.c: what was learned as an adapter in files, and as the next version of a registered name.
 *
 * The version goes to standby first. There it is opened and measured as whoever asks for it would get it, and only then
 * promoted, which is one change of the index: a crash at any point leaves the old version active, and at worst one on
 * standby that nobody asks for. The change is of that version, and from the one that was learned from: whatever others do
 * meanwhile, nothing is promoted that was not measured here. What was active becomes previous, so that a rollback is one
 * change too.
 */
#include "learn/learn_internal.h"

#include <fcntl.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to publish what was learned");
}

/* ---- files --------------------------------------------------------------------------------- */

/* "training" of the card: what it says already, and what was learned since. */
static json_t *make_about(const struct learner *l)
{
    const struct learner_state *s = &l->state;
    const json_t *before = json_object_get(trainable_card(l->trainable), "training");
    json_t *about = json_is_object(before) ? json_deep_copy(before) : json_object();
    json_t *learned = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:f, s:f, s:i, s:i}", "feedback",
        (json_int_t)s->taken, "sessions", (json_int_t)s->sessions, "buffers_kept",
        (json_int_t)s->kept, "buffers_taken_back", (json_int_t)s->dropped, "rewards",
        (json_int_t)s->rewards, "baseline", s->baseline, "held_out", (json_int_t)s->held_out,
        "loss_before", s->began, "loss_after", s->now, "learning_rate", l->options.rate, "steps",
        l->options.steps, "buffer", l->options.buffer);
    json_put(&about, "learn", learned);
    return about;
}

graft_status learner_write(const struct learner *l, const char *path, const char *version,
                           graft_error *error)
{
    json_t *about = make_about(l);
    const struct trainable_output output = {
        .format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32, .about = about, .version = version};
    graft_status status =
        about ? trainable_write(l->trainable, NULL, path, &output, error) : no_memory(error);
    json_decref(about);
    return status;
}

/* ---- the registry -------------------------------------------------------------------------- */

struct slots {
    char standby[REGISTRY_NAME_MAX + 1]; /* "": nothing */
};

static bool look(void *user, const struct registry_name *name)
{
    struct slots *s = user;
    if (name->standby != REGISTRY_NO_SLOT)
        snprintf(s->standby, sizeof s->standby, "%s", name->versions[name->standby].version);
    return false;
}

graft_status learner_check_slots(struct registry *registry, const struct registry_version_id *from,
                                 graft_error *error)
{
    struct registry_version_id now;
    struct slots slots = {""};
    graft_status status = registry_resolve(registry, from->name, &now, error);
    if (status == GRAFT_OK)
        status = registry_list(registry, from->name, look, &slots, error);
    if (status != GRAFT_OK)
        return status;
    if (strcmp(now.version, from->version) != 0)
        return error_set(error, GRAFT_STATE,
                         "%s@%s became active while %s was learned from: learn again", now.name,
                         now.version, from->version);
    if (slots.standby[0])
        return error_set(error, GRAFT_STATE, "%s@%s is on standby: promote or remove it first",
                         now.name, slots.standby);
    return GRAFT_OK;
}

static void address_of(const struct registry_version_id *id, char out[2 * REGISTRY_NAME_MAX + 2])
{
    snprintf(out, 2 * REGISTRY_NAME_MAX + 2, "%s@%s", id->name, id->version);
}

/* The held-out loss of a version as it lies in the registry. */
static graft_status measure_version(struct learner *l, struct registry *registry,
                                    const char *address, double *out, graft_error *error)
{
    struct registry_version_id id;
    struct trainable *trainable = NULL;
    struct train_tape *tape = NULL;
    char *path = NULL;
    graft_status status = registry_locate(registry, address, &path, &id, error);
    const struct trainable_options how = {.path = path, .dropout = -1};
    if (status == GRAFT_OK)
        status = trainable_open(l->model, &how, &trainable, error);
    if (status == GRAFT_OK)
        status = learner_tape(l, trainable, &tape, error);
    l->done = 0;
    l->total = (uint64_t)dataset_stats(l->held)->tokens[DATA_TRAIN];
    if (status == GRAFT_OK)
        status = learner_measure(l, tape, out, error);
    train_tape_close(&tape);
    trainable_close(&trainable);
    mem_free(l->mem, path);
    return status;
}

/* Of what is staged: is it what was measured? Told of it, the caller may still say no. */
static graft_status check_staged(struct learner *l, struct registry *registry, const char *address,
                                 graft_error *error)
{
    const struct learner_options *o = &l->options;
    double loss = 0;
    graft_status status = measure_version(l, registry, address, &loss, error);
    if (status == GRAFT_OK && !(loss <= l->state.began + o->tolerance))
        status = error_set(error, GRAFT_STATE,
                           "%s has a held-out loss of %g, and %g was measured before it was "
                           "written: it is not published",
                           address, loss, l->state.now);
    if (status == GRAFT_OK && o->progress && !o->progress(o->progress_user, 1, 1, "publishing"))
        status = error_set(error, GRAFT_CANCELLED, "cancelled; nothing was published");
    return status;
}

static graft_status stage(struct learner *l, struct registry *registry,
                          const struct registry_version_id *from, struct registry_version_id *out,
                          graft_error *error)
{
    char version[REGISTRY_NAME_MAX + 1];
    char *dir = NULL, *path = NULL;
    graft_status status = registry_next_version(registry, from->name, version, error);
    if (status == GRAFT_OK)
        status = folder_temporary(l->mem, "graft-learn", &dir, error);
    if (status != GRAFT_OK)
        return status;
    const struct registry_card card = {.name = from->name, .version = version};
    path = path_join(l->mem, dir, from->name);
    status = path ? learner_write(l, path, version, error) : no_memory(error);
    if (status == GRAFT_OK)
        status = registry_add(registry, path, &card, REGISTRY_STAGE, out, error);
    if (path)
        folder_remove(AT_FDCWD, path);
    folder_remove(AT_FDCWD, dir);
    mem_free(l->mem, path);
    mem_free(l->mem, dir);
    return status;
}

graft_status learner_publish(struct learner *l, struct registry *registry,
                             struct registry_version_id *id, graft_error *error)
{
    struct registry_version_id staged;
    char address[2 * REGISTRY_NAME_MAX + 2];
    if (!l->state.changed)
        return error_set(error, GRAFT_STATE, "nothing was learned that could be published");
    graft_status status = learner_check_slots(registry, id, error);
    if (status == GRAFT_OK)
        status = stage(l, registry, id, &staged, error);
    if (status != GRAFT_OK)
        return status;
    address_of(&staged, address);
    status = check_staged(l, registry, address, error);
    if (status == GRAFT_OK)
        status = registry_promote_from(registry, address, id, &staged, error);
    if (status != GRAFT_OK) {
        (void)registry_remove(registry, address, NULL);
        return status;
    }
    *id = staged;
    l->state.began = l->state.now;
    l->state.changed = false;
    return GRAFT_OK;
}
