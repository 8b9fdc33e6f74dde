/* session.c: the public functions on sessions: check, call inward. */
#include "api/api_internal.h"

/* ---- options ---- */

void graft_sampling_init(graft_sampling *sampling, size_t struct_size)
{
    graft_sampling defaults = sampling_default();
    options_give(sampling, struct_size, &defaults, sizeof defaults);
}

graft_sampling graft_sampling_for(const graft_model *model)
{
    return model != NULL ? sampling_for_model(model->model) : sampling_default();
}

void graft_session_options_init(graft_session_options *options, size_t struct_size)
{
    graft_session_options defaults = {.sampling = sampling_default(), .prefill_chunk = 256};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* ---- open and close ---- */

graft_status graft_session_open(const graft_model *model, const graft_session_options *options,
                                graft_session **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_session_options o = graft_session_options_default();
    graft_session *session = NULL;
    o.sampling = sampling_for_model(model->model);
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        status = sampling_read(&o.sampling, error);
    }
    if (status == GRAFT_OK) {
        status = session_open(model->model, &o, &session, error);
    }
    if (status == GRAFT_OK) {
        struct mix *mix = model_default_mix(model);
        status = session_reserve(session, mix, error);
        if (status == GRAFT_OK) {
            session_set_mix(session, mix, GRAFT_KV_CONTINUE);
            *out = session;
        } else {
            session_close(&session);
        }
        mix_release(&mix);
    }
    return status;
}

void graft_session_close(graft_session **session)
{
    if (session != NULL) {
        session_close(session);
    }
}

/* Every entry below begins so. */
#define CHECK_SESSION()                                                                            \
    REQUIRE(session);                                                                              \
    CHECK_RUNTIME(session_model(session)->runtime)

/* ---- generation ---- */

graft_status graft_session_prompt(graft_session *session, const graft_token_id *ids, size_t n,
                                  graft_progress_fn progress, void *progress_user,
                                  graft_error *error)
{
    CHECK_SESSION();
    if (n > 0) {
        REQUIRE(ids);
    }
    return session_prompt(session, ids, n, progress, progress_user, error);
}

graft_status graft_session_prompt_text(graft_session *session, const char *text, size_t size,
                                       graft_error *error)
{
    CHECK_SESSION();
    if (size > 0) {
        REQUIRE(text);
    }
    return session_prompt_text(session, size > 0 ? text : "", size, error);
}

graft_status graft_session_next(graft_session *session, graft_token *out, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(out);
    return session_next(session, out, error);
}

graft_status graft_session_generate(graft_session *session, size_t max_tokens,
                                    graft_token_fn callback, void *user, graft_error *error)
{
    CHECK_SESSION();
    return session_generate(session, max_tokens, callback, user, error);
}

graft_finish graft_session_finish(const graft_session *session)
{
    return session != NULL ? session_finish(session) : GRAFT_FINISH_NONE;
}

const char *graft_finish_name(graft_finish finish)
{
    static const char *const NAMES[] = {
        [GRAFT_FINISH_NONE] = "none",           [GRAFT_FINISH_EOS] = "eos",
        [GRAFT_FINISH_STOP] = "stop",           [GRAFT_FINISH_LENGTH] = "length",
        [GRAFT_FINISH_CANCELLED] = "cancelled", [GRAFT_FINISH_TIMEOUT] = "timeout",
        [GRAFT_FINISH_FAILED] = "failed"};
    return (unsigned)finish < ARRAY_LEN(NAMES) ? NAMES[finish] : "unknown";
}

void graft_session_resume(graft_session *session)
{
    if (session != NULL) {
        session_resume(session);
    }
}

graft_status graft_session_trim(graft_session *session, size_t n, graft_error *error)
{
    CHECK_SESSION();
    return session_trim(session, n, error);
}

/* ---- what it holds ---- */

size_t graft_session_length(const graft_session *session)
{
    size_t n = 0;
    graft_session_tokens(session, &n);
    return n;
}

const graft_token_id *graft_session_tokens(const graft_session *session, size_t *n)
{
    size_t count = 0;
    const graft_token_id *ids = session != NULL ? session_tokens(session, &count) : NULL;
    if (n != NULL) {
        *n = count;
    }
    return ids;
}

int graft_session_context(const graft_session *session)
{
    return session != NULL ? session_context(session) : 0;
}

size_t graft_session_kv_bytes(const graft_session *session)
{
    return session != NULL ? session_kv_bytes(session) : 0;
}

graft_status graft_session_set_sampling(graft_session *session, const graft_sampling *sampling,
                                        graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(sampling);
    graft_status status = sampling_read(sampling, error);
    return status == GRAFT_OK ? session_set_sampling(session, sampling, error) : status;
}

graft_sampling graft_session_sampling(const graft_session *session)
{
    return session != NULL ? session_sampling(session) : sampling_default();
}

graft_status graft_session_top(const graft_session *session, size_t n, graft_token_id *ids,
                               float *logprobs, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(ids);
    REQUIRE(logprobs);
    return session_top(session, n, ids, logprobs, error);
}

/* ---- evaluation ---- */

graft_status graft_session_logits(graft_session *session, const graft_token_id *ids, size_t n,
                                  graft_row_role role, float *out, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(ids);
    REQUIRE(out);
    if (role != GRAFT_ROLE_PREFILL && role != GRAFT_ROLE_DECODE) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "role is neither PREFILL nor DECODE");
    }
    enum role inner = role == GRAFT_ROLE_DECODE ? ROLE_DECODE : ROLE_PREFILL;
    return session_logits(session, ids, n, inner, out, error);
}

graft_status graft_session_score(graft_session *session, const graft_token_id *ids, size_t n,
                                 float *out, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(ids);
    REQUIRE(out);
    return session_score(session, ids, n, out, error);
}

graft_status graft_session_score_texts(graft_session *session, const graft_token_id *ids,
                                       const size_t *starts, size_t n_texts, const uint8_t *wanted,
                                       float *out, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(ids);
    REQUIRE(starts);
    REQUIRE(out);
    const struct score_texts texts = {ids, starts, n_texts, wanted};
    return session_score_texts(session, &texts, out, error);
}

graft_status graft_session_embedding(graft_session *session, const graft_token_id *ids, size_t n,
                                     graft_pooling pooling, float *out, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(ids);
    REQUIRE(out);
    if (pooling != GRAFT_POOL_MEAN && pooling != GRAFT_POOL_LAST) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "pooling is neither MEAN nor LAST");
    }
    return session_embedding(session, ids, n, pooling, out, error);
}

graft_status graft_session_classify(graft_session *session, const graft_token_id *ids, size_t n,
                                    float *out, graft_error *error)
{
    CHECK_SESSION();
    REQUIRE(ids);
    REQUIRE(out);
    return session_classify(session, ids, n, out, error);
}
