/* isolation.c: what a stream feels of others: how long it waits for its next token while they come and go.
 *
 * One stream answers steadily. In the midst of it others arrive: none, fifteen with an adapter each, a long prompt in pieces beside
 * it, the same prompt in one piece. What counts are the gaps between its tokens from then on. What it says must be the same in
 * all cases, or there is no figure.
 */
#include "bench/talk.h"

#include <semaphore.h>

enum { OTHERS = 15, QUIET = 16, PROMPT = 512, CASES = 4, GAPS_MAX = 1 << 16 };
static const char *const NAMES[CASES] = {"alone", "15 others with an adapter each",
                                         "a prompt of 512 in pieces of 64",
                                         "a prompt of 512 in one piece"};

struct isolation {
    struct adapter *adapter[OTHERS];
    struct mix *mix[OTHERS];
    struct graft_engine *engine[2]; /* prompts in pieces, and not */
    graft_token_id prompt[PROMPT], *known, *said;
    bool have;
    size_t n;
    double *gaps[CASES]; /* seconds, [n_gaps] */
    int n_gaps[CASES];
};

static graft_status add_others(struct isolation *s, int kind, struct graft_stream *others[OTHERS],
                               graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (kind >= 2) {
        const struct talk talk = {.prompt = s->prompt, .n_prompt = PROMPT, .n = 1};
        return talk_submit(s->engine[kind == 3], &talk, &others[0], error);
    }
    for (int i = 0; kind == 1 && i < OTHERS && status == GRAFT_OK; i++) {
        const struct talk talk = {
            .prompt = &s->prompt[i], .n_prompt = 1, .n = s->n, .mix = s->mix[i]};
        status = talk_submit(s->engine[0], &talk, &others[i], error);
    }
    return status;
}

/* The steady stream, as the engine's thread hears it. */
struct hearing {
    struct isolation *s;
    int kind;
    bool keep; /* its gaps count */
    size_t n;
    double last;
    sem_t quiet, over; /* posted when others are to come, and at the end */
};

static bool hear(void *user, const graft_token *token)
{
    struct hearing *h = user;
    struct isolation *s = h->s;
    double now = time_seconds();
    if (token->id >= 0 && h->n < s->n) {
        s->said[h->n] = token->id;
        if (h->keep && h->n > QUIET && s->n_gaps[h->kind] < GAPS_MAX) {
            s->gaps[h->kind][s->n_gaps[h->kind]++] = now - h->last;
        }
        h->n++;
    }
    h->last = now;
    if (token->id < 0 || h->n == QUIET + 1) {
        sem_post(&h->quiet);
    }
    if (token->id < 0) {
        sem_post(&h->over);
    }
    return true;
}

static void await(sem_t *what)
{
    while (sem_wait(what) != 0) { /* a signal came */
    }
}

/* Once; the gaps are added to those of the case. */
static graft_status run_once(struct isolation *s, int kind, bool keep, graft_error *error)
{
    struct graft_stream *steady = NULL, *others[OTHERS] = {NULL};
    struct hearing h = {.s = s, .kind = kind, .keep = keep};
    const struct talk talk = {
        .prompt = s->prompt, .n_prompt = 8, .n = s->n, .callback = hear, .user = &h};
    sem_init(&h.quiet, 0, 0); /* none can fail on Linux with these values */
    sem_init(&h.over, 0, 0);
    graft_status status = talk_submit(s->engine[kind == 3], &talk, &steady, error);
    if (status == GRAFT_OK) {
        await(&h.quiet);
        status = add_others(s, kind, others, error);
        await(&h.over);
    }
    if (status == GRAFT_OK) {
        status = talk_read(steady, false, NULL, 0, error); /* says whether it failed */
    }
    stream_close(&steady);
    for (int i = 0; i < OTHERS; i++) {
        stream_close(&others[i]);
    }
    sem_destroy(&h.over);
    sem_destroy(&h.quiet);
    return status == GRAFT_OK ? talk_same(s->known, &s->have, s->said, s->n, error) : status;
}

static graft_status measure(struct bench *b, struct isolation *s, graft_error *error)
{
    int turns = bench_samples(b);
    graft_status status = GRAFT_OK;
    for (int turn = 0; turn <= turns; turn++) {
        for (int kind = 0; kind < CASES && status == GRAFT_OK; kind++) {
            status = bench_progress(b, (uint64_t)(turn * CASES + kind),
                                    (uint64_t)(turns + 1) * CASES, NAMES[kind], error);
            if (status == GRAFT_OK) {
                status = run_once(s, kind, turn > 0, error); /* the first one warms up */
            }
        }
    }
    return status;
}

static void report(const struct bench *b, struct isolation *s)
{
    static const int PERCENT[] = {50, 99};
    double alone[ARRAY_LEN(PERCENT)] = {0};
    for (int kind = 0; kind < CASES; kind++) {
        for (size_t p = 0; p < ARRAY_LEN(PERCENT); p++) {
            char name[CASE_NAME_SIZE + 16];
            double ms = 1e3 * samples_percentile(s->gaps[kind], s->n_gaps[kind], PERCENT[p]);
            snprintf(name, sizeof name, "%s: gap, p%d", NAMES[kind], PERCENT[p]);
            alone[p] = kind == 0 ? ms : alone[p];
            if (kind == 0)
                bench_report(b, name, "ms", CLOCK_WALL, &alone[p], 1);
            else
                bench_report_beside(b, name, "ms", &ms, 1, NAMES[0], alone[p]);
        }
    }
}

static graft_status open_engines(struct bench *b, struct isolation *s, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
        graft_engine_options o = engine_options_default();
        o.keep_prefixes = false;
        o.n_ctx = PROMPT + (int)s->n;
        o.cache_k = b->options->cache_k;
        o.cache_v = b->options->cache_v;
        o.batch_rows = PROMPT + OTHERS + 1;
        o.prompt_rows = i == 0 ? o.prompt_rows : PROMPT;
        status = engine_open(b->model, NULL, &o, NULL, &s->engine[i], error);
    }
    return status;
}

static graft_status open_isolation(struct bench *b, struct isolation *s, graft_error *error)
{
    struct synth_adapter how = synth_adapter_of(b->options);
    s->n = (size_t)b->options->tokens;
    s->known = mem_calloc(b->mem, s->n, sizeof *s->known);
    s->said = mem_calloc(b->mem, s->n, sizeof *s->said);
    bool ok = s->known && s->said;
    for (int i = 0; i < CASES; i++) {
        s->gaps[i] = mem_calloc(b->mem, GAPS_MAX, sizeof(double));
        ok = ok && s->gaps[i];
    }
    for (int i = 0; i < PROMPT; i++)
        s->prompt[i] = (graft_token_id)((i + 1) * 7919 % b->model->config.n_vocab);
    graft_status status =
        ok ? open_engines(b, s, error) : error_set(error, GRAFT_NO_MEMORY, "no memory for gaps");
    for (int i = 0; i < OTHERS && status == GRAFT_OK; i++) {
        how.seed = (uint64_t)i + 1;
        status = bench_progress(b, (uint64_t)i, OTHERS, "adapters", error);
        if (status == GRAFT_OK)
            status = synth_adapter_open(b, &how, &s->adapter[i], error);
        if (status == GRAFT_OK)
            status = mix_make(b->model, &(struct mix_part){s->adapter[i], 1}, 1, &s->mix[i], error);
    }
    return status;
}

graft_status bench_isolation(struct bench *b, graft_error *error)
{
    struct isolation *s = mem_calloc(b->mem, 1, sizeof *s);
    if (!s)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for streams");
    graft_status status = check_model(b, error);
    b->checked = "the stream says the same in all cases; 8 outputs of every linear of every type";
    if (status == GRAFT_OK)
        status = open_isolation(b, s, error);
    if (status == GRAFT_OK)
        status = measure(b, s, error);
    if (status == GRAFT_OK)
        report(b, s);
    engine_close(&s->engine[0]);
    engine_close(&s->engine[1]);
    for (int i = 0; i < OTHERS; i++) {
        mix_release(&s->mix[i]);
        adapter_release(&s->adapter[i]);
    }
    for (int i = 0; i < CASES; i++)
        mem_free(b->mem, s->gaps[i]);
    mem_free(b->mem, s->known);
    mem_free(b->mem, s->said);
    mem_free(b->mem, s);
    return status;
}
