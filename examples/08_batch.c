/* 08_batch.c: questions to different adapters, first one after the other, then in one batch: the same answers, sooner.
 *
 * Introduces: graft_engine_options, graft_request.mix and .base, graft_stream_next, GRAFT_BUSY: an engine that has enough to
 * do, graft_engine_info.
 *
 * Usage: 08_batch MODEL ADAPTER ADAPTER
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <graft/graft.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MIXES = 4, QUESTIONS = 4, N = MIXES * QUESTIONS, MAX_TOKENS = 40, MAX_TEXT = 1024 };
static const char *const QUESTION[QUESTIONS] = {"How should we store an invoice?",
                                                "Is it safe to share a report?",
                                                "How do we sort the users?", "What is a loop?"};
static const char *const MIX[MIXES] = {"base", "a", "b", "0.5 a + 0.5 b"};

struct text {
    char bytes[MAX_TEXT];
    size_t size;
};

struct demo {
    graft_runtime *runtime;
    graft_model *model;
    graft_adapter *a, *b;
    graft_mix *mixes[MIXES]; /* the first is NULL: the base */
    graft_engine *engine;
    graft_stream *streams[N];
    struct text alone[N], together[N]; /* request i asks question i / MIXES of mix i % MIXES */
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "08_batch: %s%s%s\n",
            error->message[0] != '\0' ? error->message : graft_status_text(status),
            error->file[0] != '\0' ? ": " : "", error->file);
    return 1;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void take_text(struct text *text, const graft_token *token)
{
    if (text->size + token->text_size < MAX_TEXT) {
        memcpy(text->bytes + text->size, token->text, token->text_size);
        text->size += token->text_size;
    }
}

/* A question in the model's chat format. */
static graft_status question_ids(const struct demo *d, int i, graft_token_id **ids, size_t *n,
                                 graft_error *error)
{
    const graft_message message = {"user", QUESTION[i / MIXES]};
    char *text = NULL;
    size_t size;
    graft_status status = graft_chat_render(d->model, &message, 1, true, &text, &size, error);
    if (status == GRAFT_OK) {
        status = graft_tokenize(graft_model_tokenizer(d->model), text, size, GRAFT_TOKENIZE_SPECIAL,
                                ids, n, error);
    }
    graft_free(d->runtime, text);
    return status;
}

/* ---- one after the other ---- */

static bool keep(void *user, const graft_token *token)
{
    take_text(user, token);
    return true;
}

static graft_status answer_alone(struct demo *d, graft_session *session, int i, graft_error *error)
{
    graft_token_id *ids = NULL;
    size_t n = 0;
    graft_status status = question_ids(d, i, &ids, &n, error);
    if (status == GRAFT_OK) {
        status = graft_session_trim(session, 0, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_set_mix(session, d->mixes[i % MIXES], GRAFT_KV_CONTINUE, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_prompt(session, ids, n, NULL, NULL, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_generate(session, MAX_TOKENS, keep, &d->alone[i], error);
    }
    graft_free(d->runtime, ids);
    return status;
}

static graft_status answer_one_by_one(struct demo *d, graft_error *error)
{
    graft_session_options options = graft_session_options_default();
    graft_session *session = NULL;
    options.sampling.temperature = 0;
    graft_status status = graft_session_open(d->model, &options, &session, error);
    for (int i = 0; i < N && status == GRAFT_OK; i++) {
        status = answer_alone(d, session, i, error);
    }
    graft_session_close(&session);
    return status;
}

/* ---- in one batch ---- */

/* Reads a stream to its end, waiting for what is not there yet. The others go on meanwhile, until their rings are full. */
static graft_status read_stream(struct demo *d, int i, graft_error *error)
{
    graft_token token;
    graft_status status;
    while ((status = graft_stream_next(d->streams[i], &token, error)) == GRAFT_OK) {
        take_text(&d->together[i], &token);
    }
    if (status == GRAFT_END) {
        take_text(&d->together[i], &token);
        status = GRAFT_OK;
    }
    graft_stream_close(&d->streams[i]);
    return status;
}

/* BUSY: the engine has as many requests as it was told to take. What it has goes on; this one is asked again. */
static graft_status submit(struct demo *d, int i, graft_error *error)
{
    graft_request request = graft_request_default();
    graft_token_id *ids = NULL;
    graft_status status = question_ids(d, i, &ids, &request.n_prompt, error);
    if (status == GRAFT_OK) {
        request.prompt = ids;
        request.mix = d->mixes[i % MIXES];
        request.base = request.mix == NULL; /* else it would be what is applied to the model */
        request.sampling.temperature = 0;
        request.max_tokens = MAX_TOKENS;
        status = graft_engine_submit(d->engine, &request, &d->streams[i], error);
    }
    graft_free(d->runtime, ids);
    return status;
}

static graft_status answer_in_one_batch(struct demo *d, graft_error *error)
{
    graft_engine_options options = graft_engine_options_default();
    options.max_streams = 8; /* in each pass; two more may wait: fewer than there are questions */
    options.max_waiting = 2;
    graft_status status = graft_engine_open(d->model, &options, &d->engine, error);
    int asked = 0, read = 0;
    while (read < N && status == GRAFT_OK) {
        status = asked < N ? submit(d, asked, error) : GRAFT_BUSY;
        if (status == GRAFT_OK) {
            asked++;
        } else if (status == GRAFT_BUSY) {
            status = read_stream(d, read++, error);
        }
    }
    return status;
}

/* ---- both ---- */

static graft_status make_mixes(struct demo *d, graft_error *error)
{
    const graft_member a = {d->a, 1}, b = {d->b, 1}, both[] = {{d->a, 0.5f}, {d->b, 0.5f}};
    graft_status status = graft_mix_open(d->model, &a, 1, &d->mixes[1], error);
    if (status == GRAFT_OK) {
        status = graft_mix_open(d->model, &b, 1, &d->mixes[2], error);
    }
    return status == GRAFT_OK ? graft_mix_open(d->model, both, 2, &d->mixes[3], error) : status;
}

static graft_status open_all(struct demo *d, char **argv, graft_error *error)
{
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
    return status == GRAFT_OK ? make_mixes(d, error) : status;
}

static graft_status run(struct demo *d, char **argv, graft_error *error)
{
    graft_engine_info info;
    graft_status status = open_all(d, argv, error);
    double begun = seconds();
    if (status == GRAFT_OK) {
        status = answer_one_by_one(d, error);
    }
    double between = seconds();
    if (status == GRAFT_OK) {
        status = answer_in_one_batch(d, error);
    }
    double alone = between - begun, together = seconds() - between;
    if (status == GRAFT_OK) {
        status = graft_engine_describe(d->engine, &info, error);
    }
    if (status == GRAFT_OK) {
        fprintf(stderr, "[one by one %.2f s, in one batch %.2f s: %.1f times as fast]\n", alone,
                together, alone / together);
        fprintf(stderr, "[%llu tokens in %llu passes]\n", (unsigned long long)info.tokens,
                (unsigned long long)info.passes);
    }
    return status;
}

/* false: an answer of the batch is another than that of the session. */
static bool show(const struct demo *d)
{
    bool same = true;
    for (int i = 0; i < N; i++) {
        const struct text *a = &d->alone[i], *b = &d->together[i];
        same = same && a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
        if (i % MIXES == 0) {
            printf("> %s\n", QUESTION[i / MIXES]);
        }
        printf("%s: %.*s\n", MIX[i % MIXES], (int)b->size, b->bytes);
    }
    printf("%s\n", same ? "Each answer is that of a session alone."
                        : "Answers differ from those of sessions!");
    return same;
}

int main(int argc, char **argv)
{
    static struct demo demo;
    graft_error error;
    graft_error_init(&error);
    if (argc != 4) {
        fprintf(stderr, "usage: 08_batch MODEL ADAPTER ADAPTER\n");
        return 2;
    }
    graft_status status = run(&demo, argv, &error);
    bool same = status == GRAFT_OK && show(&demo);
    for (int i = 0; i < N; i++) {
        graft_stream_close(&demo.streams[i]);
    }
    graft_engine_close(&demo.engine);
    for (int i = 0; i < MIXES; i++) {
        graft_mix_close(&demo.mixes[i]);
    }
    graft_adapter_close(&demo.a);
    graft_adapter_close(&demo.b);
    graft_model_close(&demo.model);
    graft_runtime_close(&demo.runtime);
    return status != GRAFT_OK ? fail(status, &error) : same ? 0 : 1;
}
