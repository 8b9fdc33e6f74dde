/* 04_mix.c: several adapters at once: weights that change while the program runs, and scopes.
 *
 * Introduces: graft_mix_open, graft_mix_size, graft_mix_member, graft_session_set_mix, graft_session_mix,
 * graft_session_apply_adapter with another weight, graft_session_enable_adapters, graft_session_with_mix,
 * graft_model_apply_adapter.
 *
 * Usage: 04_mix MODEL ADAPTER ADAPTER
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <graft/graft.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WORDS = 16 }; /* tokens of an answer */
static const char QUESTION[] = "Once upon a time there was a";

struct demo {
    graft_runtime *runtime;
    graft_model *model;
    graft_session *session;
    graft_adapter *a, *b;
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "04_mix: %s%s%s\n",
            error->message[0] != '\0' ? error->message : graft_status_text(status),
            error->file[0] != '\0' ? ": " : "", error->file);
    return 1;
}

/* ---- answers ---- */

static bool show(void *user, const graft_token *token)
{
    (void)user;
    for (size_t i = 0; i < token->text_size; i++) { /* in one line */
        putchar(token->text[i] == '\n' ? ' ' : token->text[i]);
    }
    return true;
}

/* "0.75 a + 0.25 b" */
static void name_mix(const struct demo *d)
{
    graft_mix *mix = graft_session_mix(d->session);
    size_t n = graft_mix_size(mix);
    if (n == 0) {
        printf("base");
    }
    for (size_t i = 0; i < n; i++) {
        graft_member member = graft_mix_member(mix, i);
        printf("%s%g %s", i > 0 ? " + " : "", (double)member.weight,
               member.adapter == d->a ? "a" : "b");
    }
    graft_mix_close(&mix);
}

/* Whatever the session applies answers the question, which is forgotten afterwards. */
static graft_status answer(const struct demo *d, graft_session *session, graft_error *error)
{
    name_mix(d);
    printf(": %s", QUESTION);
    graft_status status = graft_session_trim(session, 0, error);
    if (status == GRAFT_OK) {
        status = graft_session_prompt_text(session, QUESTION, strlen(QUESTION), error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_generate(session, WORDS, show, NULL, error);
    }
    putchar('\n');
    return status;
}

/* ---- weights ---- */

static double microseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* From one skill to the other in steps. A mix copies no weight of anything: it is made as often as you like. What is in
 * the cache is forgotten before each answer, so CONTINUE and REPLAY are the same here. */
static graft_status fade(struct demo *d, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int step = 0; step <= 4 && status == GRAFT_OK; step++) {
        float share = 0.25f * (float)step;
        const graft_member members[] = {{d->a, 1 - share}, {d->b, share}};
        graft_mix *mix = NULL;
        double begun = microseconds();
        status = graft_mix_open(d->model, members, 2, &mix, error);
        if (status == GRAFT_OK) {
            status = graft_session_set_mix(d->session, mix, GRAFT_KV_CONTINUE, error);
        }
        graft_mix_close(&mix); /* the session holds what it applies */
        fprintf(stderr, "[swapped in %.1f µs]\n", microseconds() - begun);
        if (status == GRAFT_OK) {
            status = answer(d, d->session, error);
        }
    }
    return status;
}

/* The same call that applies an adapter gives it another weight, negative ones too: less of a skill than none. */
static graft_status turn_the_knob(struct demo *d, graft_error *error)
{
    graft_status status = graft_session_set_mix(d->session, NULL, GRAFT_KV_CONTINUE, error);
    static const float WEIGHTS[] = {1, 0.5f, -0.5f};
    for (int i = 0; i < 3 && status == GRAFT_OK; i++) {
        status =
            graft_session_apply_adapter(d->session, d->a, WEIGHTS[i], GRAFT_KV_CONTINUE, error);
        if (status == GRAFT_OK) {
            status = answer(d, d->session, error);
        }
    }
    return status;
}

/* ---- scopes ---- */

static graft_status ask(void *user, graft_session *session, graft_error *error)
{
    return answer(user, session, error);
}

/* In a scope another mix is in force, the base model alone here; scopes may lie in one another. */
static graft_status ask_the_base_within(void *user, graft_session *session, graft_error *error)
{
    graft_status status = answer(user, session, error);
    return status == GRAFT_OK
               ? graft_session_with_mix(session, NULL, GRAFT_KV_CONTINUE, ask, user, error)
               : status;
}

static graft_status scopes(struct demo *d, graft_error *error)
{
    const graft_member only_b = {d->b, 1};
    graft_mix *mix = NULL;
    graft_status status = graft_mix_open(d->model, &only_b, 1, &mix, error);
    if (status == GRAFT_OK) {
        status = graft_session_with_mix(d->session, mix, GRAFT_KV_CONTINUE, ask_the_base_within, d,
                                        error);
    }
    graft_mix_close(&mix);
    return status == GRAFT_OK ? answer(d, d->session, error) : status; /* as before the scope */
}

/* Off, the session keeps its mix for when it is on again. */
static graft_status off_and_on(struct demo *d, graft_error *error)
{
    graft_status status =
        graft_session_enable_adapters(d->session, false, GRAFT_KV_CONTINUE, error);
    if (status == GRAFT_OK) {
        printf("switched off, ");
        status = answer(d, d->session, error);
    }
    return status == GRAFT_OK
               ? graft_session_enable_adapters(d->session, true, GRAFT_KV_CONTINUE, error)
               : status;
}

/* ---- the model's own mix ---- */

/* What is applied to the model is what sessions begin with that are opened from then on. */
static graft_status open_session(struct demo *d, graft_error *error)
{
    graft_session_options options = graft_session_options_default();
    options.sampling.temperature = 0;
    options.ignore_eos = true;
    graft_session_close(&d->session);
    return graft_session_open(d->model, &options, &d->session, error);
}

static graft_status begin_with(struct demo *d, graft_error *error)
{
    graft_status status = graft_model_apply_adapter(d->model, d->b, 1, error);
    if (status == GRAFT_OK) {
        status = open_session(d, error);
    }
    return status == GRAFT_OK ? answer(d, d->session, error) : status;
}

static graft_status run(struct demo *d, char **argv, graft_error *error)
{
    static graft_status (*const parts[])(struct demo * d, graft_error * error) = {
        open_session, fade, turn_the_knob, scopes, off_and_on, begin_with};
    graft_status status = graft_runtime_open(NULL, &d->runtime, error);
    if (status == GRAFT_OK) {
        status = graft_model_open(d->runtime, argv[1], NULL, &d->model, error);
    }
    if (status == GRAFT_OK) {
        status = graft_adapter_open(d->model, argv[2], NULL, &d->a, error);
    }
    if (status == GRAFT_OK) {
        status = graft_adapter_open(d->model, argv[3], NULL, &d->b, error);
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == GRAFT_OK; i++) {
        status = parts[i](d, error);
    }
    return status;
}

int main(int argc, char **argv)
{
    struct demo demo = {0};
    graft_error error;
    graft_error_init(&error);
    if (argc != 4) {
        fprintf(stderr, "usage: 04_mix MODEL ADAPTER ADAPTER\n");
        return 2;
    }
    graft_status status = run(&demo, argv, &error);
    graft_session_close(&demo.session);
    graft_adapter_close(&demo.a);
    graft_adapter_close(&demo.b);
    graft_model_close(&demo.model);
    graft_runtime_close(&demo.runtime);
    return status == GRAFT_OK ? 0 : fail(status, &error);
}
