/* 07_stream_async.c: several answers at once, read by one thread that waits for all of them with poll(2).
 *
 * Introduces: graft_engine_open, graft_engine_close, graft_request_default, graft_engine_submit, graft_stream_descriptor,
 * graft_stream_poll, graft_stream_finish, graft_stream_describe, graft_stream_close, graft_engine_describe.
 *
 * Usage: 07_stream_async [MODEL [PROMPT...]]      each PROMPT is a stream; default model: models/tiny
 */
#include <graft/graft.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { MAX_STREAMS = 16, MAX_TOKENS = 60, MAX_TEXT = 2048 };

struct reader {
    graft_stream *stream; /* NULL: over */
    char text[MAX_TEXT];
    size_t size;
};

struct demo {
    graft_runtime *runtime;
    graft_model *model;
    graft_engine *engine;
    struct reader readers[MAX_STREAMS];
    struct pollfd waits[MAX_STREAMS]; /* poll passes over descriptors below 0 */
    int n, open;
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "07_stream_async: %s%s%s\n",
            error->message[0] != '\0' ? error->message : graft_status_text(status),
            error->file[0] != '\0' ? ": " : "", error->file);
    return 1;
}

/* Hands a prompt over, which takes no time: the engine's own thread computes. */
static graft_status begin(struct demo *d, const char *prompt, graft_error *error)
{
    struct reader *reader = &d->readers[d->n];
    graft_request request = graft_request_default();
    graft_token_id *ids = NULL;
    graft_status status = graft_tokenize(graft_model_tokenizer(d->model), prompt, strlen(prompt),
                                         GRAFT_TOKENIZE_BOS, &ids, &request.n_prompt, error);
    if (status == GRAFT_OK) {
        request.prompt = ids;
        request.max_tokens = MAX_TOKENS;
        request.sampling = graft_sampling_for(d->model);
        request.sampling.seed = (uint64_t)d->n + 1;
        status = graft_engine_submit(d->engine, &request, &reader->stream, error);
    }
    graft_free(d->runtime, ids); /* the stream has a copy */
    if (status == GRAFT_OK) {
        d->waits[d->n].events = POLLIN;
        status = graft_stream_descriptor(reader->stream, &d->waits[d->n].fd, error);
        d->n++;
        d->open++;
    }
    return status;
}

static void take_text(struct reader *reader, const graft_token *token)
{
    if (reader->size + token->text_size < MAX_TEXT) {
        memcpy(reader->text + reader->size, token->text, token->text_size);
        reader->size += token->text_size;
    }
}

static void tell_end(const struct demo *d, int i)
{
    const graft_stream *stream = d->readers[i].stream;
    graft_stream_info info;
    if (graft_stream_describe(stream, &info, NULL) == GRAFT_OK) {
        fprintf(stderr, "[%d: %s, %zu tokens in %zu passes, the first after %.0f ms]\n", i + 1,
                graft_finish_name(graft_stream_finish(stream)), info.tokens, info.passes,
                1e3 * info.first_token);
    }
}

/* Takes all that a stream has by now; never waits. */
static graft_status drain(struct demo *d, int i, graft_error *error)
{
    struct reader *reader = &d->readers[i];
    graft_token token;
    graft_status status;
    while ((status = graft_stream_poll(reader->stream, &token, error)) == GRAFT_OK) {
        take_text(reader, &token);
    }
    if (status == GRAFT_BUSY) { /* nothing more for now: poll(2) says when */
        return GRAFT_OK;
    }
    if (status == GRAFT_END) { /* brings text that was held back */
        take_text(reader, &token);
        tell_end(d, i);
    }
    graft_stream_close(&reader->stream);
    d->waits[i].fd = -1;
    d->open--;
    return status == GRAFT_END ? GRAFT_OK : status;
}

/* The loop of any program that waits for events; sockets and timers would stand beside the streams. */
static graft_status read_all(struct demo *d, graft_error *error)
{
    graft_status status = GRAFT_OK;
    while (d->open > 0 && status == GRAFT_OK) {
        if (poll(d->waits, (nfds_t)d->n, -1) < 0) {
            perror("poll");
            return GRAFT_IO;
        }
        for (int i = 0; i < d->n && status == GRAFT_OK; i++) {
            if (d->waits[i].fd >= 0 && d->waits[i].revents != 0) {
                status = drain(d, i, error);
            }
        }
    }
    return status;
}

static graft_status run(struct demo *d, const char *path, int n, const char *const *prompts,
                        graft_error *error)
{
    graft_status status = graft_runtime_open(NULL, &d->runtime, error);
    if (status == GRAFT_OK) {
        status = graft_model_open(d->runtime, path, NULL, &d->model, error);
    }
    if (status == GRAFT_OK) {
        status = graft_engine_open(d->model, NULL, &d->engine, error);
    }
    for (int i = 0; i < n && i < MAX_STREAMS && status == GRAFT_OK; i++) {
        status = begin(d, prompts[i], error);
    }
    return status == GRAFT_OK ? read_all(d, error) : status;
}

/* What came, in the order in which it was asked for; each answer is what a session alone would say. */
static void show(const struct demo *d, const char *const *prompts)
{
    graft_engine_info info;
    for (int i = 0; i < d->n; i++) {
        printf("%d: %s%.*s\n", i + 1, prompts[i], (int)d->readers[i].size, d->readers[i].text);
    }
    if (graft_engine_describe(d->engine, &info, NULL) == GRAFT_OK && info.passes > 0) {
        fprintf(stderr, "[%llu tokens in %llu passes]\n", (unsigned long long)info.tokens,
                (unsigned long long)info.passes);
    }
}

int main(int argc, char **argv)
{
    static const char *const prompts[] = {
        "Once upon a time there was a cat", "The old clock in the tower",
        "In summer, Clara got a guitar.", "One morning the river was gone"};
    static struct demo demo;
    graft_error error;
    graft_error_init(&error);
    const char *const *asked = argc > 2 ? (const char *const *)argv + 2 : prompts;
    graft_status status =
        run(&demo, argc > 1 ? argv[1] : "models/tiny", argc > 2 ? argc - 2 : 4, asked, &error);
    if (status == GRAFT_OK) {
        show(&demo, asked);
    }
    for (int i = 0; i < demo.n; i++) {
        graft_stream_close(&demo.readers[i].stream); /* streams first, then the engine */
    }
    graft_engine_close(&demo.engine);
    graft_model_close(&demo.model);
    graft_runtime_close(&demo.runtime);
    return status == GRAFT_OK ? 0 : fail(status, &error);
}
