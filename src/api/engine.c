/* engine.c: the public functions on engines and their streams: check, call inward. */
#include "generate/engine/engine.h"
#include "api/api_internal.h"

/* ---- engines ---- */

void graft_engine_options_init(graft_engine_options *options, size_t struct_size)
{
    graft_engine_options defaults = engine_options_default();
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_engine_open(const graft_model *model, const graft_engine_options *options,
                               graft_engine **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_engine_options o = engine_options_default();
    graft_draft_options draft;
    const struct model *draft_model = NULL;
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK && o.draft != NULL) {
        status = draft_options_read(o.draft, &draft, error);
        o.draft = &draft;
    }
    if (status == GRAFT_OK) {
        status = draft_model_of(model->model, o.draft, &draft_model, error);
    }
    return status == GRAFT_OK ? engine_open(model->model, draft_model, &o, model, out, error)
                              : status;
}

void graft_engine_close(graft_engine **engine)
{
    if (engine != NULL) {
        engine_close(engine);
    }
}

graft_status graft_engine_describe(graft_engine *engine, graft_engine_info *out, graft_error *error)
{
    REQUIRE(engine);
    REQUIRE(out);
    CHECK_RUNTIME(engine_model(engine)->runtime);
    engine_describe(engine, out);
    return GRAFT_OK;
}

void graft_engine_forget_prefixes(graft_engine *engine)
{
    if (engine != NULL) {
        engine_forget_prefixes(engine);
    }
}

/* ---- requests ---- */

static graft_request request_default(void)
{
    return (graft_request){.struct_size = sizeof(graft_request), .sampling = sampling_default()};
}

void graft_request_init(graft_request *request, size_t struct_size)
{
    graft_request defaults = request_default();
    options_give(request, struct_size, &defaults, sizeof defaults);
}

/* A reference to the mix that the answer begins with. */
static graft_status request_mix(const graft_engine *engine, const graft_request *r,
                                struct mix **out, graft_error *error)
{
    int n = 0;
    const struct mix_part *parts = mix_parts(mix_of(r->mix), &n);
    *out = NULL;
    if (r->mix != NULL && r->base) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "both a mix and the base model asked for");
    }
    if (n > 0 && adapter_model(parts[0].adapter) != engine_model(engine)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the mix was made for another model than the engine's");
    }
    if (r->mix != NULL) {
        *out = mix_acquire(mix_of(r->mix));
    } else if (!r->base && r->fork == NULL) {
        *out = model_default_mix(engine_owner(engine));
    }
    return GRAFT_OK;
}

graft_status graft_engine_submit(graft_engine *engine, const graft_request *request,
                                 graft_stream **out, graft_error *error)
{
    REQUIRE(engine);
    REQUIRE(request);
    REQUIRE(out);
    CHECK_RUNTIME(engine_model(engine)->runtime);
    graft_request r = request_default();
    struct mix *mix = NULL;
    graft_status status = options_read(&r, sizeof r, request, error);
    if (status == GRAFT_OK && r.n_prompt > 0) {
        REQUIRE(r.prompt);
    }
    if (status == GRAFT_OK) {
        status = sampling_read(&r.sampling, error);
    }
    if (status == GRAFT_OK && r.fork != NULL && stream_engine(r.fork) != engine) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the stream to go on from is of another engine");
    }
    if (status == GRAFT_OK) {
        status = request_mix(engine, &r, &mix, error);
    }
    struct submission submission = {.request = &r, .mix = mix};
    if (status == GRAFT_OK) {
        status = constraint_of(r.constraint, engine_model(engine), &submission.grammar,
                               &submission.vocabulary, error);
    }
    if (status == GRAFT_OK) {
        status = engine_submit(engine, &submission, out, error);
    }
    mix_release(&mix);
    return status;
}

/* ---- streams ---- */

/* Every entry below begins so. */
#define CHECK_STREAM()                                                                             \
    REQUIRE(stream);                                                                               \
    CHECK_RUNTIME(engine_model(stream_engine(stream))->runtime)

graft_status graft_stream_next(graft_stream *stream, graft_token *out, graft_error *error)
{
    CHECK_STREAM();
    REQUIRE(out);
    return stream_take(stream, true, out, error);
}

graft_status graft_stream_poll(graft_stream *stream, graft_token *out, graft_error *error)
{
    CHECK_STREAM();
    REQUIRE(out);
    return stream_take(stream, false, out, error);
}

graft_status graft_stream_descriptor(graft_stream *stream, int *out, graft_error *error)
{
    CHECK_STREAM();
    REQUIRE(out);
    return stream_descriptor(stream, out, error);
}

void graft_stream_cancel(graft_stream *stream)
{
    if (stream != NULL) {
        stream_cancel(stream);
    }
}

void graft_stream_close(graft_stream **stream)
{
    if (stream != NULL) {
        stream_close(stream);
    }
}

graft_finish graft_stream_finish(const graft_stream *stream)
{
    return stream != NULL ? stream_finish(stream) : GRAFT_FINISH_NONE;
}

graft_status graft_stream_set_mix(graft_stream *stream, graft_mix *mix, graft_kv_policy policy,
                                  graft_error *error)
{
    CHECK_STREAM();
    int n = 0;
    const struct mix_part *parts = mix_parts(mix_of(mix), &n);
    if (n > 0 && adapter_model(parts[0].adapter) != engine_model(stream_engine(stream))) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the mix was made for another model than the engine's");
    }
    if ((unsigned)policy > GRAFT_KV_REPLAY) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no such policy: %d", (int)policy);
    }
    stream_set_mix(stream, mix_of(mix), policy);
    return GRAFT_OK;
}

graft_status graft_stream_describe(const graft_stream *stream, graft_stream_info *out,
                                   graft_error *error)
{
    CHECK_STREAM();
    REQUIRE(out);
    stream_describe(stream, out);
    return GRAFT_OK;
}
