/* 01_generate.c: open a model and pull tokens from it one by one.
 *
 * Introduces: graft_runtime_open, graft_model_open, graft_model_describe, graft_session_open,
 * graft_session_prompt_text, graft_session_next, graft_session_finish, graft_error, and closing.
 *
 * Usage: 01_generate [MODEL [PROMPT]]      MODEL: directory, GGUF file; default: models/tiny
 */
#include <graft/graft.h>

#include <stdio.h>
#include <string.h>

enum { MAX_TOKENS = 120 };

/* Every call that fails says why in the caller's own record. */
static int fail(const graft_error *error)
{
    fprintf(stderr, "01_generate: %s%s%s\n", error->message, error->file[0] != '\0' ? ": " : "",
            error->file);
    return 1;
}

static int generate(const graft_model *model, const char *prompt, graft_error *error)
{
    /* Options are filled with their defaults first; then change what should differ. */
    graft_session_options options = graft_session_options_default();
    options.sampling = graft_sampling_for(model); /* what the model itself recommends */
    options.sampling.temperature = 0; /* the best token each time: the same text every run */

    graft_session *session = NULL;
    if (graft_session_open(model, &options, &session, error) != GRAFT_OK) {
        return fail(error);
    }
    graft_status status = graft_session_prompt_text(session, prompt, strlen(prompt), error);
    fputs(prompt, stdout);
    graft_token token;
    for (int n = 0; status == GRAFT_OK && n < MAX_TOKENS; n++) {
        status = graft_session_next(session, &token, error);
        if (status == GRAFT_OK || status == GRAFT_END) { /* END: what was still held back */
            fwrite(token.text, 1, token.text_size, stdout);
        }
    }
    printf("\n[%zu tokens, %s]\n", graft_session_length(session),
           graft_finish_name(graft_session_finish(session)));
    graft_session_close(&session);
    return status == GRAFT_OK || status == GRAFT_END ? 0 : fail(error);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "models/tiny";
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    graft_runtime *runtime = NULL; /* threads, memory, log: where the work is done */
    graft_model *model = NULL;     /* weights and tokenizer: may be shared by threads */
    graft_error error;
    graft_error_init(&error);

    if (graft_runtime_open(NULL, &runtime, &error) != GRAFT_OK) {
        return fail(&error);
    }
    int result = 1;
    graft_model_info info;
    if (graft_model_open(runtime, path, NULL, &model, &error) != GRAFT_OK ||
        graft_model_describe(model, &info, &error) != GRAFT_OK) {
        fail(&error);
    } else {
        fprintf(stderr, "%s: %s, %.1f million parameters\n", path, info.architecture,
                (double)info.n_params / 1e6);
        result = generate(model, prompt, &error);
    }
    /* Close in the other order; closing what was never opened does nothing. */
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return result;
}
