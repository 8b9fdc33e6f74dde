/* 09_speculative.c: the same answer sooner: tokens that a small model guesses and the large one verifies.
 *
 * Introduces: graft_draft_check, graft_draft_options_default, graft_session_set_draft, graft_session_draft_info.
 *
 * Usage: 09_speculative MODEL DRAFT [PROMPT]
 *   MODEL and DRAFT share a vocabulary: models/tiny and models/tiny-draft, or two sizes of one family.
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <graft/graft.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TOKENS = 100 };

struct said {
    graft_token_id ids[TOKENS];
    size_t n;
    bool show;
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "09_speculative: %s%s%s\n",
            error->message[0] != '\0' ? error->message : graft_status_text(status),
            error->file[0] != '\0' ? ": " : "", error->file);
    return 1;
}

static bool take(void *user, const graft_token *token)
{
    struct said *said = user;
    if (token->id >= 0) {
        said->ids[said->n++] = token->id;
    }
    if (said->show) {
        fwrite(token->text, 1, token->text_size, stdout);
    }
    return true;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One answer from the beginning, sampled with a fixed seed; *seconds of its tokens. */
static graft_status answer(graft_session *session, const char *prompt, struct said *said,
                           double *seconds, graft_error *error)
{
    graft_status status = graft_session_trim(session, 0, error);
    if (status == GRAFT_OK) {
        status = graft_session_prompt_text(session, prompt, strlen(prompt), error);
    }
    double begun = now();
    if (status == GRAFT_OK) {
        status = graft_session_generate(session, TOKENS, take, said, error);
    }
    *seconds = now() - begun;
    return status;
}

static int compare(graft_session *session, const graft_model *draft, const char *prompt)
{
    struct said plain = {.show = true}, guessed = {.show = false};
    graft_draft_options options = graft_draft_options_default();
    graft_draft_info info;
    graft_error error = {0};
    double seconds[2];
    graft_status status = answer(session, prompt, &plain, &seconds[0], &error);
    options.model = draft; /* and, as it is the default, the text itself */
    if (status == GRAFT_OK) {
        status = graft_session_set_draft(session, &options, &error);
    }
    if (status == GRAFT_OK) {
        status = answer(session, prompt, &guessed, &seconds[1], &error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_draft_info(session, &info, &error);
    }
    if (status != GRAFT_OK) {
        return fail(status, &error);
    }
    bool same =
        plain.n == guessed.n && memcmp(plain.ids, guessed.ids, plain.n * sizeof *plain.ids) == 0;
    printf("\n\nplain:        %zu tokens in %.1f ms\n", plain.n, 1e3 * seconds[0]);
    printf("with guesses: %s tokens in %.1f ms; %.2f tokens a pass, the draft model right in %llu "
           "of %llu\n",
           same ? "the same" : "OTHER", 1e3 * seconds[1],
           info.passes > 0 ? (double)info.tokens / (double)info.passes : 0,
           (unsigned long long)info.model.accepted, (unsigned long long)info.model.drafted);
    return same ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: 09_speculative MODEL DRAFT [PROMPT]\n");
        return 2;
    }
    const char *prompt = argc > 3 ? argv[3] : "One morning, Lena found a small key near the mill.";
    graft_runtime *runtime = NULL;
    graft_model *model = NULL, *draft = NULL;
    graft_session *session = NULL;
    graft_session_options options = graft_session_options_default();
    graft_error error = {0};
    options.sampling.seed = 7;
    graft_status status = graft_runtime_open(NULL, &runtime, &error);
    if (status == GRAFT_OK) {
        status = graft_model_open(runtime, argv[1], NULL, &model, &error);
    }
    if (status == GRAFT_OK) {
        status = graft_model_open(runtime, argv[2], NULL, &draft, &error);
    }
    if (status == GRAFT_OK) {
        status = graft_draft_check(model, draft, &error); /* one line says what differs */
    }
    if (status == GRAFT_OK) {
        status = graft_session_open(model, &options, &session, &error);
    }
    int result = status == GRAFT_OK ? compare(session, draft, prompt) : fail(status, &error);
    graft_session_close(&session);
    graft_model_close(&draft);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return result;
}
