/* 06_merge.c: two skills in one adapter: exactly, in half the ranks, element by element, and as a mix that needs no merge.
 *
 * Introduces: graft_merge, graft_merge_input_default, graft_merge_options_default, graft_merge_method_at.
 *
 * Usage: 06_merge MODEL ADAPTER ADAPTER OUT
 *
 * OUT is a folder that does not exist yet; the merged adapters go into it. Each answers the same question, beside a mix of
 * the two with the same weights, which says what the exact merge says.
 */
#include <graft/graft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WORDS = 24, PATH = 4096 };
static const char QUESTION[] = "How should we store an invoice?";

struct demo {
    graft_runtime *runtime;
    graft_model *model;
    const char *paths[2];
    const char *out;
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "06_merge: %s%s%s\n",
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

static graft_status ask(const struct demo *d, graft_session *session, graft_error *error)
{
    const graft_message question = {"user", QUESTION};
    char *text = NULL;
    graft_token_id *ids = NULL;
    size_t size = 0, n = 0;
    graft_status status = graft_chat_render(d->model, &question, 1, true, &text, &size, error);
    if (status == GRAFT_OK) {
        status = graft_tokenize(graft_model_tokenizer(d->model), text, size, GRAFT_TOKENIZE_SPECIAL,
                                &ids, &n, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_prompt(session, ids, n, NULL, NULL, error);
    }
    graft_free(d->runtime, text);
    graft_free(d->runtime, ids);
    return status == GRAFT_OK ? graft_session_generate(session, WORDS, show, NULL, error) : status;
}

static graft_status answer(const struct demo *d, graft_mix *mix, graft_error *error)
{
    graft_session_options options = graft_session_options_default();
    graft_session *session = NULL;
    options.sampling.temperature = 0;
    graft_status status = graft_session_open(d->model, &options, &session, error);
    if (status == GRAFT_OK) {
        status = graft_session_set_mix(session, mix, GRAFT_KV_REPLAY, error);
    }
    if (status == GRAFT_OK) {
        status = ask(d, session, error);
    }
    putchar('\n');
    graft_session_close(&session);
    return status;
}

/* The weights are those of the merges below. */
static graft_status answer_of_mix(const struct demo *d, graft_error *error)
{
    graft_adapter *a = NULL, *b = NULL;
    graft_mix *mix = NULL;
    graft_status status = graft_adapter_open(d->model, d->paths[0], NULL, &a, error);
    if (status == GRAFT_OK) {
        status = graft_adapter_open(d->model, d->paths[1], NULL, &b, error);
    }
    if (status == GRAFT_OK) {
        const graft_member members[] = {{a, 0.7f}, {b, 0.3f}};
        status = graft_mix_open(d->model, members, 2, &mix, error);
    }
    if (status == GRAFT_OK) {
        printf("mix, nothing written: ");
        status = answer(d, mix, error);
    }
    graft_mix_close(&mix);
    graft_adapter_close(&a);
    graft_adapter_close(&b);
    return status;
}

static graft_status answer_of_file(const struct demo *d, const char *path, graft_error *error)
{
    graft_adapter *merged = NULL;
    graft_mix *mix = NULL;
    graft_status status = graft_adapter_open(d->model, path, NULL, &merged, error);
    if (status == GRAFT_OK) {
        const graft_member member = {merged, 1};
        status = graft_mix_open(d->model, &member, 1, &mix, error);
    }
    if (status == GRAFT_OK) {
        status = answer(d, mix, error);
    }
    graft_mix_close(&mix);
    graft_adapter_close(&merged);
    return status;
}

/* ---- merges ---- */

/* What a report says behind a key; it is JSON, and a program would parse it. */
static double number_in(const char *report, const char *key)
{
    const char *at = strstr(report, key);
    return at != NULL ? strtod(at + strlen(key), NULL) : 0;
}

static graft_status merge(const struct demo *d, const char *method, int rank, graft_error *error)
{
    graft_merge_input inputs[] = {graft_merge_input_default(d->paths[0]),
                                  graft_merge_input_default(d->paths[1])};
    graft_merge_options options = graft_merge_options_default();
    char path[PATH], *report = NULL;
    inputs[0].weight = 0.7;
    inputs[1].weight = 0.3;
    options.method = method;
    options.rank = rank; /* 0: as many as the method needs */
    snprintf(path, sizeof path, "%s/%s-%d", d->out, method, rank);
    graft_status status = graft_merge(d->model, inputs, 2, path, &options, &report, error);
    if (status == GRAFT_OK) {
        printf("%s, rank %.0f, %.1f %% discarded: ", method, number_in(report, "\"most_rank\":"),
               100 * number_in(strstr(report, "\"most_rank\":"), "\"discarded_energy\":"));
        status = answer_of_file(d, path, error);
    }
    graft_free(d->runtime, report);
    return status;
}

static graft_status run(struct demo *d, const char *model, graft_error *error)
{
    graft_status status = graft_runtime_open(NULL, &d->runtime, error);
    if (status == GRAFT_OK) {
        status = graft_model_open(d->runtime, model, NULL, &d->model, error);
    }
    printf("methods:");
    for (size_t i = 0; graft_merge_method_at(i) != NULL; i++) {
        printf(" %s", graft_merge_method_at(i));
    }
    putchar('\n');
    if (status == GRAFT_OK) {
        status = answer_of_mix(d, error);
    }
    if (status == GRAFT_OK) {
        status = merge(d, "linear", 0, error); /* exact: as the mix */
    }
    if (status == GRAFT_OK) {
        status = merge(d, "linear", 8, error); /* the best there is of rank 8 */
    }
    if (status == GRAFT_OK) {
        status = merge(d, "ties", 0, error);
    }
    return status;
}

int main(int argc, char **argv)
{
    graft_error error;
    graft_error_init(&error);
    if (argc != 5) {
        fprintf(stderr, "usage: 06_merge MODEL ADAPTER ADAPTER OUT\n");
        return 2;
    }
    struct demo demo = {.paths = {argv[2], argv[3]}, .out = argv[4]};
    if (mkdir(demo.out, 0777) != 0) {
        fprintf(stderr, "06_merge: cannot make %s\n", demo.out);
        return 1;
    }
    graft_status status = run(&demo, argv[1], &error);
    graft_model_close(&demo.model);
    graft_runtime_close(&demo.runtime);
    return status == GRAFT_OK ? 0 : fail(status, &error);
}
