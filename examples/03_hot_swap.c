/* 03_hot_swap.c: one story, told by several skills in turn: adapters come and go while text streams.
 *
 * Introduces: graft_adapter_open, graft_adapter_describe, graft_session_apply_adapter, graft_session_remove_adapter,
 * graft_session_set_mix, GRAFT_KV_CONTINUE and GRAFT_KV_REPLAY, graft_session_has_adapter; adapters by name:
 * graft_registry_open, graft_registry_acquire.
 *
 * Usage: 03_hot_swap MODEL ADAPTER ADAPTER      a path has a '/', else it is a name in the registry of GRAFT_HOME
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <graft/graft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLICE = 24 }; /* tokens between two swaps */
static const char BEGINNING[] = "Once upon a time";

struct demo {
    graft_runtime *runtime;
    graft_model *model;
    graft_registry *registry; /* NULL until a name is asked for */
    graft_session *session;
    graft_adapter *skills[2];
    int n_vocab;
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "03_hot_swap: %s%s%s\n",
            error->message[0] != '\0' ? error->message : graft_status_text(status),
            error->file[0] != '\0' ? ": " : "", error->file);
    return 1;
}

static double microseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* ---- opening ---- */

/* The version that is active now. Handles from a registry are handles like any others. */
static graft_status open_name(struct demo *d, const char *name, graft_adapter **out,
                              graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (d->registry == NULL) {
        graft_registry_options options = graft_registry_options_default();
        options.home = getenv("GRAFT_HOME");
        status = graft_registry_open(d->runtime, d->model, &options, &d->registry, error);
    }
    return status == GRAFT_OK ? graft_registry_acquire(d->registry, name, out, NULL, NULL, error)
                              : status;
}

/* Every check is made here: an adapter that is open fits the model and stays as it is, whatever becomes of its
 * files. */
static graft_status open_skill(struct demo *d, const char *what, graft_adapter **out,
                               graft_error *error)
{
    graft_adapter_info info;
    double begun = microseconds();
    graft_status status = strchr(what, '/') != NULL
                              ? graft_adapter_open(d->model, what, NULL, out, error)
                              : open_name(d, what, out, error);
    double took = microseconds() - begun;
    if (status == GRAFT_OK) {
        status = graft_adapter_describe(*out, &info, error);
    }
    if (status == GRAFT_OK) {
        fprintf(stderr, "[%s: %s, rank %d, %.1f KB, opened in %.1f ms]\n", what, info.format,
                info.most_rank, (double)info.bytes / 1e3, took / 1e3);
    }
    return status;
}

static graft_status open_session(const struct demo *d, graft_session **out, graft_error *error)
{
    graft_session_options options = graft_session_options_default();
    options.sampling.temperature = 0; /* the same text every run */
    options.ignore_eos = true;        /* the story goes on after its end */
    return graft_session_open(d->model, &options, out, error);
}

static graft_status open_all(struct demo *d, char **argv, graft_error *error)
{
    graft_model_info info;
    graft_status status = graft_runtime_open(NULL, &d->runtime, error);
    if (status == GRAFT_OK) {
        status = graft_model_open(d->runtime, argv[1], NULL, &d->model, error);
    }
    if (status == GRAFT_OK) {
        status = graft_model_describe(d->model, &info, error);
        d->n_vocab = info.n_vocab;
    }
    for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
        status = open_skill(d, argv[2 + i], &d->skills[i], error);
    }
    return status == GRAFT_OK ? open_session(d, &d->session, error) : status;
}

/* ---- the story ---- */

static bool show(void *user, const graft_token *token)
{
    (void)user;
    fwrite(token->text, 1, token->text_size, stdout);
    fflush(stdout);
    return true;
}

static graft_status tell(struct demo *d, const char *who, graft_error *error)
{
    printf("\n[%s]", who);
    return graft_session_generate(d->session, SLICE, show, NULL, error);
}

static void say_swapped(const char *what, double begun)
{
    fprintf(stderr, "[%s in %.1f µs]\n", what, microseconds() - begun);
}

/* A swap is a call between two tokens. With CONTINUE the new skill reads what the others have remembered (the cache
 * of keys and values), and the next token costs what every token costs. */
static graft_status swap_in_the_middle(struct demo *d, graft_error *error)
{
    printf("%s", BEGINNING);
    graft_status status =
        graft_session_prompt_text(d->session, BEGINNING, strlen(BEGINNING), error);
    if (status == GRAFT_OK) {
        status = tell(d, "the base model", error);
    }
    double begun = microseconds();
    if (status == GRAFT_OK) {
        status = graft_session_apply_adapter(d->session, d->skills[0], 1, GRAFT_KV_CONTINUE, error);
        say_swapped("the first skill applied", begun);
    }
    if (status == GRAFT_OK) {
        status = tell(d, "the first skill", error);
    }
    begun = microseconds();
    if (status == GRAFT_OK) { /* a second one on top: a mix of both */
        status =
            graft_session_apply_adapter(d->session, d->skills[1], 0.5f, GRAFT_KV_CONTINUE, error);
        say_swapped("half of the second on top", begun);
    }
    if (status == GRAFT_OK) {
        status = tell(d, "the first, and half of the second", error);
    }
    begun = microseconds();
    if (status == GRAFT_OK) { /* REPLAY: as if it had told the story from the beginning */
        status = graft_session_remove_adapter(d->session, d->skills[0], GRAFT_KV_REPLAY, error);
        say_swapped("the first removed", begun);
    }
    return status == GRAFT_OK ? tell(d, "half of the second, from its own memory", error) : status;
}

/* ---- nothing is left behind ---- */

/* Log probabilities of every token of the vocabulary, in order of their ids. */
static graft_status next_scores(const struct demo *d, graft_session *session, float *scores,
                                graft_error *error)
{
    graft_token token;
    size_t n = (size_t)d->n_vocab;
    graft_token_id *ids = malloc(n * sizeof *ids);
    float *sorted = malloc(n * sizeof *sorted);
    graft_status status = ids != NULL && sorted != NULL ? GRAFT_OK : GRAFT_NO_MEMORY;
    if (status == GRAFT_OK) {
        status = graft_session_next(session, &token, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_top(session, n, ids, sorted, error);
    }
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        scores[ids[i]] = sorted[i];
    }
    free(ids);
    free(sorted);
    return status;
}

/* Another session reads the same tokens and never sees an adapter. */
static graft_status untouched_scores(const struct demo *d, const graft_token_id *ids, size_t n,
                                     float *scores, graft_error *error)
{
    graft_session *session = NULL;
    graft_status status = open_session(d, &session, error);
    if (status == GRAFT_OK) {
        status = graft_session_prompt(session, ids, n, NULL, NULL, error);
    }
    if (status == GRAFT_OK) {
        status = next_scores(d, session, scores, error);
    }
    graft_session_close(&session);
    return status;
}

static graft_status compare_with_base(struct demo *d, bool *same, graft_error *error)
{
    size_t n, size = (size_t)d->n_vocab * sizeof(float);
    float *after = malloc(size), *never = malloc(size);
    graft_status status = after != NULL && never != NULL ? GRAFT_OK : GRAFT_NO_MEMORY;
    if (status == GRAFT_OK) { /* NULL: no adapter at all */
        status = graft_session_set_mix(d->session, NULL, GRAFT_KV_REPLAY, error);
    }
    if (status == GRAFT_OK) { /* before the token that next_scores appends */
        const graft_token_id *ids = graft_session_tokens(d->session, &n);
        status = untouched_scores(d, ids, n, never, error);
    }
    if (status == GRAFT_OK) {
        status = next_scores(d, d->session, after, error);
    }
    if (status == GRAFT_OK) {
        *same = memcmp(after, never, size) == 0 && !graft_session_has_adapter(d->session, NULL);
    }
    free(after);
    free(never);
    return status;
}

static graft_status run(struct demo *d, char **argv, bool *same, graft_error *error)
{
    graft_status status = open_all(d, argv, error);
    if (status == GRAFT_OK) {
        status = swap_in_the_middle(d, error);
    }
    if (status == GRAFT_OK) {
        status = compare_with_base(d, same, error);
    }
    if (status == GRAFT_OK) {
        printf("\n[all of them off: the base model's numbers are %s]\n",
               *same ? "back, bit for bit" : "NOT back");
    }
    return status;
}

int main(int argc, char **argv)
{
    struct demo demo = {0};
    bool same = false;
    graft_error error;
    graft_error_init(&error);
    if (argc != 4) {
        fprintf(stderr, "usage: 03_hot_swap MODEL ADAPTER ADAPTER\n");
        return 2;
    }
    graft_status status = run(&demo, argv, &same, &error);
    graft_session_close(&demo.session);
    graft_adapter_close(&demo.skills[0]);
    graft_adapter_close(&demo.skills[1]);
    graft_registry_close(&demo.registry);
    graft_model_close(&demo.model);
    graft_runtime_close(&demo.runtime);
    return status != GRAFT_OK ? fail(status, &error) : same ? 0 : 1;
}
