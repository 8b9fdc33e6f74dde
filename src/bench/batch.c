/* batch.c: many streams of one engine, each with its own adapter, beside one stream alone.
 *
 * A sample is n tokens of each stream, from a prompt of one token, so that all of it is decoding: engine, picks and readers
 * included. What each stream says is compared with what it says alone.
 */
#include "bench/talk.h"

enum { STREAMS = 16, CASES = 5 };

struct batch;
struct batch_case {
    struct batch *all;
    int n_streams, n_adapters; /* 0: the base; 1: all the first; else stream i has the i-th */
};
struct batch {
    struct adapter *adapter[STREAMS];
    struct mix *mix[STREAMS];
    struct graft_engine *engine;
    graft_token_id prompt[STREAMS], *known; /* [3, STREAMS, n]: base, first adapter, own adapter */
    bool have[3][STREAMS];
    graft_token_id *said; /* [n] */
    size_t n;
    struct batch_case of[CASES];
    struct bench_case cases[CASES];
};

static graft_status compare(struct batch *a, const struct batch_case *c, int stream,
                            graft_error *error)
{
    int kind = c->n_adapters == 0 ? 0 : c->n_adapters == 1 || stream == 0 ? 1 : 2;
    graft_token_id *known = a->known + (size_t)(kind * STREAMS + stream) * a->n;
    return talk_same(known, &a->have[kind][stream], a->said, a->n, error);
}

static graft_status run_batch(struct bench *b, void *context, struct seconds *seconds,
                              graft_error *error)
{
    (void)b;
    const struct batch_case *c = context;
    struct batch *a = c->all;
    struct graft_stream *streams[STREAMS] = {NULL};
    graft_status status = GRAFT_OK;
    double begun = time_seconds();
    for (int i = 0; i < c->n_streams && status == GRAFT_OK; i++) {
        struct mix *mix = c->n_adapters > 0 ? a->mix[i % c->n_adapters] : NULL;
        const struct talk talk = {.prompt = &a->prompt[i], .n_prompt = 1, .n = a->n, .mix = mix};
        status = talk_submit(a->engine, &talk, &streams[i], error);
    }
    for (int i = 0; i < c->n_streams && status == GRAFT_OK; i++) {
        status = talk_read(streams[i], false, a->said, a->n, error);
        if (status == GRAFT_OK)
            status = compare(a, c, i, error);
    }
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    for (int i = 0; i < STREAMS; i++)
        stream_close(&streams[i]);
    return status;
}

/* What each stream says when it is alone, before anything is timed. */
static graft_status say_alone(struct bench *b, struct batch *a, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < 3 * STREAMS && status == GRAFT_OK; i++) {
        int kind = i / STREAMS, stream = i % STREAMS;
        struct mix *mix = kind == 0 ? NULL : a->mix[kind == 1 ? 0 : stream];
        const struct talk talk = {
            .prompt = &a->prompt[stream], .n_prompt = 1, .n = a->n, .mix = mix};
        struct graft_stream *s = NULL;
        status = bench_progress(b, (uint64_t)i, 3 * STREAMS, "answers alone", error);
        if (status == GRAFT_OK)
            status = talk_submit(a->engine, &talk, &s, error);
        if (status == GRAFT_OK)
            status = talk_read(s, false, a->known + (size_t)i * a->n, a->n, error);
        stream_close(&s);
        a->have[kind][stream] = true;
    }
    return status;
}

static double case_bytes(const struct bench *b, const struct batch *a, const struct batch_case *c)
{
    double bytes = model_token_bytes(b->model);
    for (int i = 0; i < c->n_adapters; i++)
        bytes += (double)adapter_info(a->adapter[i])->bytes;
    return bytes * (double)a->n;
}

static void list_cases(struct bench *b, struct batch *a)
{
    static const struct {
        const char *name;
        int n_streams, n_adapters, baseline;
    } LIST[CASES] = {{"1 stream, base", 1, 0, -1},
                     {"1 stream, an adapter", 1, 1, 0},
                     {"16 streams, base", STREAMS, 0, 0},
                     {"16 streams, one adapter", STREAMS, 1, 1},
                     {"16 streams, 16 adapters", STREAMS, STREAMS, 1}};
    for (int i = 0; i < CASES; i++) {
        a->of[i] = (struct batch_case){a, LIST[i].n_streams, LIST[i].n_adapters};
        a->cases[i] = (struct bench_case){.unit = "tokens/s",
                                          .work = (double)a->n * LIST[i].n_streams,
                                          .clock = CLOCK_WALL,
                                          .limit = LIMIT_READ,
                                          .limit_work = case_bytes(b, a, &a->of[i]),
                                          .baseline = LIST[i].baseline,
                                          .run = run_batch,
                                          .context = &a->of[i]};
        snprintf(a->cases[i].name, sizeof a->cases[i].name, "%s", LIST[i].name);
    }
}

static graft_status open_batch(struct bench *b, struct batch *a, graft_error *error)
{
    struct synth_adapter how = synth_adapter_of(b->options);
    a->n = (size_t)b->options->tokens;
    a->known = mem_calloc(b->mem, 3 * STREAMS * a->n, sizeof *a->known);
    a->said = mem_calloc(b->mem, a->n, sizeof *a->said);
    if (!a->known || !a->said)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for answers");
    graft_status status = talk_engine(b, a->n + 1, STREAMS, &a->engine, error);
    for (int i = 0; i < STREAMS && status == GRAFT_OK; i++) {
        how.seed = (uint64_t)i + 1;
        a->prompt[i] = (graft_token_id)((i + 1) * 104729 % b->model->config.n_vocab);
        status = bench_progress(b, (uint64_t)i, STREAMS, "adapters", error);
        if (status == GRAFT_OK)
            status = synth_adapter_open(b, &how, &a->adapter[i], error);
        if (status == GRAFT_OK)
            status = mix_make(b->model, &(struct mix_part){a->adapter[i], 1}, 1, &a->mix[i], error);
    }
    return status;
}

graft_status bench_batch(struct bench *b, graft_error *error)
{
    struct batch *a = mem_calloc(b->mem, 1, sizeof *a);
    if (!a)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for streams");
    graft_status status = open_batch(b, a, error);
    if (status == GRAFT_OK)
        status = check_model_with(b, a->adapter[0], error);
    b->checked = "each stream says what it says alone; 8 outputs of every linear of every type";
    if (status == GRAFT_OK)
        status = say_alone(b, a, error);
    if (status == GRAFT_OK) {
        list_cases(b, a);
        status = bench_measure(b, a->cases, CASES, error);
    }
    engine_close(&a->engine);
    for (int i = 0; i < STREAMS; i++) {
        mix_release(&a->mix[i]);
        adapter_release(&a->adapter[i]);
    }
    mem_free(b->mem, a->known);
    mem_free(b->mem, a->said);
    mem_free(b->mem, a);
    return status;
}
