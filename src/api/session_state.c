/* session_state.c: the public functions that make a session out of another one, or out of a file. */
#include "api/api_internal.h"

graft_status graft_session_fork(const graft_session *session, graft_session **out,
                                graft_error *error)
{
    REQUIRE(session);
    REQUIRE(out);
    CHECK_RUNTIME(session_model(session)->runtime);
    return session_fork(session, out, error);
}

graft_status graft_session_set_note(graft_session *session, const void *note, size_t size,
                                    graft_error *error)
{
    REQUIRE(session);
    CHECK_RUNTIME(session_model(session)->runtime);
    if (size > 0) {
        REQUIRE(note);
    }
    return session_set_note(session, note, size, error);
}

const void *graft_session_note(const graft_session *session, size_t *size)
{
    size_t n = 0;
    const void *note = session != NULL ? session_note(session, &n) : NULL;
    if (size != NULL) {
        *size = n;
    }
    return note;
}

graft_status graft_session_save(const graft_session *session, const char *path, graft_error *error)
{
    REQUIRE(session);
    REQUIRE(path);
    CHECK_RUNTIME(session_model(session)->runtime);
    return session_save(session, path, error);
}

void graft_restore_options_init(graft_restore_options *options, size_t struct_size)
{
    graft_restore_options defaults = {.prefill_chunk = 256};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_session_restore(const graft_model *model, const char *path,
                                   const graft_restore_options *options, graft_session **out,
                                   graft_error *error)
{
    REQUIRE(model);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_restore_options o = graft_restore_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (o.mix != NULL && o.base) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "both a mix and the base model are given");
    }
    graft_session_options settings = graft_session_options_default();
    status = options_read(&settings, sizeof settings, o.settings, error);
    if (status == GRAFT_OK && o.settings != NULL) {
        status = sampling_read(&settings.sampling, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    int n;
    if (o.mix != NULL && adapter_model(mix_parts(mix_of(o.mix), &n)[0].adapter) != model->model) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the mix is of another model");
    }
    struct mix *own = o.mix == NULL && !o.base ? model_default_mix(model) : NULL;
    const struct restore_options inner = {.mix = own != NULL ? own : mix_of(o.mix),
                                          .n_ctx = o.n_ctx,
                                          .prefill_chunk = o.prefill_chunk,
                                          .settings = o.settings != NULL ? &settings : NULL,
                                          .replay = o.replay};
    status = session_restore(model->model, path, &inner, out, error);
    mix_release(&own);
    return status;
}

/* ---- a look into a file ---- */

graft_status graft_session_file_open(graft_runtime *runtime, const char *path,
                                     graft_session_file **out, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    return session_file_open(&runtime->mem, path, out, error);
}

void graft_session_file_close(graft_session_file **file)
{
    if (file != NULL) {
        session_file_close(file);
    }
}

const graft_session_summary *graft_session_file_summary(const graft_session_file *file)
{
    return file != NULL ? session_file_summary(file) : NULL;
}

const graft_session_options *graft_session_file_options(const graft_session_file *file)
{
    return file != NULL ? session_file_options(file) : NULL;
}

const void *graft_session_file_note(const graft_session_file *file, size_t *size)
{
    size_t n = 0;
    const void *note = file != NULL ? session_file_note(file, &n) : NULL;
    if (size != NULL) {
        *size = n;
    }
    return note;
}
