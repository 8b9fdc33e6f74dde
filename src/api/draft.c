/* draft.c: the public functions on speculative decoding: check, call inward. */
#include "generate/draft/draft.h"
#include "api/api_internal.h"

static graft_draft_options draft_options_default(void)
{
    return (graft_draft_options){.struct_size = sizeof(graft_draft_options),
                                 .ngram = true,
                                 .k = 4,
                                 .max = DRAFT_MOST,
                                 .kv_bytes = (size_t)256 << 20};
}

void graft_draft_options_init(graft_draft_options *options, size_t struct_size)
{
    graft_draft_options defaults = draft_options_default();
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status draft_options_read(const graft_draft_options *given, graft_draft_options *out,
                                graft_error *error)
{
    *out = draft_options_default();
    return options_read(out, sizeof *out, given, error);
}

static graft_status check_runtimes(const struct model *model, const graft_model *draft,
                                   graft_error *error)
{
    return draft->runtime == model->runtime
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the draft model was opened with another runtime");
}

graft_status draft_model_of(const struct model *model, const graft_draft_options *options,
                            const struct model **out, graft_error *error)
{
    *out = NULL;
    if (options == NULL || options->model == NULL) {
        return GRAFT_OK;
    }
    *out = options->model->model;
    return check_runtimes(model, options->model, error);
}

graft_status graft_draft_check(const graft_model *model, const graft_model *draft,
                               graft_error *error)
{
    REQUIRE(model);
    REQUIRE(draft);
    CHECK_RUNTIME(model->runtime);
    return draft_model_check(model->model, draft->model, error);
}

graft_status graft_session_set_draft(graft_session *session, const graft_draft_options *options,
                                     graft_error *error)
{
    REQUIRE(session);
    const struct model *model = session_model(session), *draft = NULL;
    CHECK_RUNTIME(model->runtime);
    graft_draft_options o;
    graft_status status = draft_options_read(options, &o, error);
    if (status == GRAFT_OK && options != NULL) {
        status = draft_model_of(model, &o, &draft, error);
    }
    return status == GRAFT_OK
               ? session_set_draft(session, draft, options != NULL ? &o : NULL, error)
               : status;
}

graft_status graft_session_draft_info(const graft_session *session, graft_draft_info *out,
                                      graft_error *error)
{
    REQUIRE(session);
    REQUIRE(out);
    CHECK_RUNTIME(session_model(session)->runtime);
    session_draft_info(session, out);
    return GRAFT_OK;
}
