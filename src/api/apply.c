/* apply.c: the public functions that put adapters on sessions, and on the sessions to come. */
#include "api/api_internal.h"

#include <math.h>

static const struct model *mix_model(const struct mix *mix)
{
    int n;
    return adapter_model(mix_parts(mix, &n)[0].adapter);
}

/* ---- mixes that differ from another in one member ---- */

/* `mix` (NULL: the base model) with the adapter at its end, or with another weight where it is. */
static graft_status mix_with(const struct model *model, const struct mix *mix,
                             struct adapter *adapter, float weight, struct mix **out,
                             graft_error *error)
{
    struct mix_part members[MIX_MAX];
    int n = 0, at = 0;
    const struct mix_part *old = mix != NULL ? mix_parts(mix, &n) : NULL;
    while (at < n && !adapter_same(old[at].adapter, adapter)) {
        at++;
    }
    if (at == MIX_MAX) {
        return error_set(error, GRAFT_LIMIT, "%d adapters are applied: that is the most", n);
    }
    if (n > 0) {
        memcpy(members, old, (size_t)n * sizeof *old);
    }
    members[at] = (struct mix_part){adapter, weight};
    return mix_make(model, members, at < n ? n : n + 1, out, error);
}

/* Without it; *out NULL when nothing is left. `adapter` NULL: without any. */
static graft_status mix_without(const struct model *model, const struct mix *mix,
                                const struct adapter *adapter, struct mix **out, graft_error *error)
{
    struct mix_part members[MIX_MAX];
    int n = 0, kept = 0;
    const struct mix_part *old = mix != NULL ? mix_parts(mix, &n) : NULL;
    for (int i = 0; i < n && adapter != NULL; i++) {
        if (!adapter_same(old[i].adapter, adapter)) {
            members[kept++] = old[i];
        }
    }
    if (adapter != NULL && kept == n) {
        return error_set(error, GRAFT_NOT_FOUND, "the adapter %s is not applied",
                         adapter_info(adapter)->path);
    }
    *out = NULL;
    return kept > 0 ? mix_make(model, members, kept, out, error) : GRAFT_OK;
}

static bool mix_has(const struct mix *mix, const struct adapter *adapter)
{
    int n = 0;
    const struct mix_part *members = mix != NULL ? mix_parts(mix, &n) : NULL;
    for (int i = 0; i < n; i++) {
        if (adapter == NULL || adapter_same(members[i].adapter, adapter)) {
            return true;
        }
    }
    return false;
}

static struct adapter *mix_last(const struct mix *mix)
{
    int n = 0;
    const struct mix_part *members = mix != NULL ? mix_parts(mix, &n) : NULL;
    return n > 0 ? adapter_acquire(members[n - 1].adapter) : NULL;
}

static graft_status check_weight(float weight, graft_error *error)
{
    return isfinite(weight)
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT, "the weight is not a finite number");
}

static graft_status check_model(const struct model *have, const struct model *want,
                                graft_error *error)
{
    return have == want ? GRAFT_OK
                        : error_set(error, GRAFT_INVALID_ARGUMENT,
                                    "it was opened for another model: open it for this one");
}

/* ---- the model's ---- */

struct mix *model_default_mix(const struct graft_model *model)
{
    struct graft_model *m = (struct graft_model *)(uintptr_t)model;
    pthread_mutex_lock(&m->lock);
    struct mix *mix = mix_acquire(m->mix);
    pthread_mutex_unlock(&m->lock);
    return mix;
}

graft_status graft_model_apply_adapter(graft_model *model, graft_adapter *adapter, float weight,
                                       graft_error *error)
{
    REQUIRE(model);
    REQUIRE(adapter);
    CHECK_RUNTIME(model->runtime);
    struct mix *mix = NULL, *old;
    graft_status status = check_weight(weight, error);
    if (status == GRAFT_OK) {
        status = check_model(adapter_model(adapter_of(adapter)), model->model, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    pthread_mutex_lock(&model->lock);
    status = mix_with(model->model, model->mix, adapter_of(adapter), weight, &mix, error);
    old = model->mix;
    model->mix = status == GRAFT_OK ? mix : old;
    pthread_mutex_unlock(&model->lock);
    if (status == GRAFT_OK) {
        mix_release(&old);
    }
    return status;
}

graft_status graft_model_remove_adapter(graft_model *model, const graft_adapter *adapter,
                                        graft_error *error)
{
    REQUIRE(model);
    CHECK_RUNTIME(model->runtime);
    struct mix *mix = NULL, *old;
    pthread_mutex_lock(&model->lock);
    graft_status status = mix_without(model->model, model->mix, adapter_of(adapter), &mix, error);
    old = model->mix;
    model->mix = status == GRAFT_OK ? mix : old;
    pthread_mutex_unlock(&model->lock);
    if (status == GRAFT_OK) {
        mix_release(&old);
    }
    return status;
}

bool graft_model_has_adapter(const graft_model *model, const graft_adapter *adapter)
{
    struct mix *mix = model != NULL ? model_default_mix(model) : NULL;
    bool has = mix_has(mix, adapter_of(adapter));
    mix_release(&mix);
    return has;
}

graft_adapter *graft_model_current_adapter(const graft_model *model)
{
    struct mix *mix = model != NULL ? model_default_mix(model) : NULL;
    struct adapter *adapter = mix_last(mix);
    mix_release(&mix);
    return adapter_handle(adapter);
}

graft_status graft_model_set_mix(graft_model *model, graft_mix *mix, graft_error *error)
{
    REQUIRE(model);
    CHECK_RUNTIME(model->runtime);
    graft_status status =
        mix != NULL ? check_model(mix_model(mix_of(mix)), model->model, error) : GRAFT_OK;
    if (status == GRAFT_OK) {
        pthread_mutex_lock(&model->lock);
        struct mix *old = model->mix;
        model->mix = mix_acquire(mix_of(mix));
        pthread_mutex_unlock(&model->lock);
        mix_release(&old);
    }
    return status;
}

/* ---- a session's ---- */

/* What every function below begins with. */
static graft_status check_session(const graft_session *session, graft_kv_policy policy,
                                  graft_error *error)
{
    REQUIRE(session);
    CHECK_RUNTIME(session_model(session)->runtime);
    return (unsigned)policy <= GRAFT_KV_REPLAY
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the policy is neither CONTINUE nor REPLAY");
}

static graft_status swap_to(graft_session *session, struct mix *mix, graft_kv_policy policy,
                            graft_error *error)
{
    graft_status status = session_reserve(session, mix, error);
    if (status == GRAFT_OK) {
        session_set_mix(session, mix, policy);
    }
    return status;
}

graft_status graft_session_apply_adapter(graft_session *session, graft_adapter *adapter,
                                         float weight, graft_kv_policy policy, graft_error *error)
{
    graft_status status = check_session(session, policy, error);
    if (status != GRAFT_OK) {
        return status;
    }
    REQUIRE(adapter);
    status = check_weight(weight, error);
    const struct model *model = session_model(session);
    if (status == GRAFT_OK) {
        status = check_model(adapter_model(adapter_of(adapter)), model, error);
    }
    struct mix *mix = NULL;
    if (status == GRAFT_OK) {
        status = mix_with(model, session_mix(session), adapter_of(adapter), weight, &mix, error);
    }
    if (status == GRAFT_OK) {
        status = swap_to(session, mix, policy, error);
        mix_release(&mix);
    }
    return status;
}

graft_status graft_session_remove_adapter(graft_session *session, const graft_adapter *adapter,
                                          graft_kv_policy policy, graft_error *error)
{
    graft_status status = check_session(session, policy, error);
    struct mix *mix = NULL;
    if (status == GRAFT_OK) {
        status = mix_without(session_model(session), session_mix(session), adapter_of(adapter),
                             &mix, error);
    }
    if (status == GRAFT_OK) {
        status = swap_to(session, mix, policy, error);
        mix_release(&mix);
    }
    return status;
}

bool graft_session_has_adapter(const graft_session *session, const graft_adapter *adapter)
{
    return session != NULL && mix_has(session_mix(session), adapter_of(adapter));
}

graft_adapter *graft_session_current_adapter(const graft_session *session)
{
    return session != NULL ? adapter_handle(mix_last(session_mix(session))) : NULL;
}

graft_status graft_session_set_mix(graft_session *session, graft_mix *mix, graft_kv_policy policy,
                                   graft_error *error)
{
    graft_status status = check_session(session, policy, error);
    if (status == GRAFT_OK && mix != NULL) {
        status = check_model(mix_model(mix_of(mix)), session_model(session), error);
    }
    return status == GRAFT_OK ? swap_to(session, mix_of(mix), policy, error) : status;
}

graft_mix *graft_session_mix(const graft_session *session)
{
    return session != NULL ? mix_handle(mix_acquire(session_mix(session))) : NULL;
}

graft_status graft_session_enable_adapters(graft_session *session, bool on, graft_kv_policy policy,
                                           graft_error *error)
{
    graft_status status = check_session(session, policy, error);
    if (status == GRAFT_OK) {
        session_enable_mix(session, on, policy);
    }
    return status;
}

graft_status graft_session_with_mix(graft_session *session, graft_mix *mix, graft_kv_policy policy,
                                    graft_scope_fn work, void *user, graft_error *error)
{
    graft_status status = check_session(session, policy, error);
    if (status != GRAFT_OK) {
        return status;
    }
    REQUIRE(work);
    struct mix *before = mix_acquire(session_mix(session));
    bool enabled = session_mix_enabled(session);
    status = graft_session_set_mix(session, mix, policy, error);
    if (status == GRAFT_OK) {
        session_enable_mix(session, true, policy);
        status = work(user, session, error);
        session_set_mix(session, before, policy);
        session_enable_mix(session, enabled, policy);
    }
    mix_release(&before);
    return status;
}
