/* stream.c: what it costs to be given tokens one by one, beside a loop that only computes them.
 *
 * The loop is a pass and a pick for each token and nothing else: no text, no record, no stop. Beside it, in alternation, the ways
 * to have them: a session asked for the next token, a session that calls back, a stream of an engine that is waited for, and
 * one that is polled by its descriptor. All say the same tokens, or there is no figure.
 */
#include "bench/talk.h"

enum { PROMPT = 8, WAYS = 5, LENGTHS = 4, PROBE = 4 };
static const char *const NAMES[WAYS] = {"plain loop", "session, next", "session, callback",
                                        "engine, waited for", "engine, polled"};

struct streaming;
struct stream_case {
    struct streaming *all;
    int way;
    size_t n;
};
struct streaming {
    graft_token_id prompt[PROMPT], known[TALK_MAX], said[TALK_MAX];
    bool have;
    struct kv_pool *pool;
    struct kv_seq *seq;
    struct workspace *ws;
    struct sampler *sampler;
    struct graft_session *session;
    struct graft_engine *engine;
    graft_sampling sampling;
    struct stream_case of[WAYS];
    struct bench_case cases[WAYS];
};

/* ---- the ways ---- */

static graft_status plain_loop(struct bench *b, struct streaming *s, size_t n, graft_error *error)
{
    struct row rows[PROMPT];
    int n_rows = PROMPT;
    graft_token_id history[PROMPT] = {0};
    graft_status status = GRAFT_OK;
    kv_seq_trim(s->seq, 0);
    for (int i = 0; i < PROMPT; i++)
        rows[i] = (struct row){.token = s->prompt[i],
                               .pos = i,
                               .seq = s->seq,
                               .role = ROLE_PREFILL,
                               .want_logits = i == PROMPT - 1};
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        struct pick pick = {0};
        status = model_forward(b->model, rows, n_rows, s->ws, error);
        if (status == GRAFT_OK)
            status = sampler_pick(s->sampler, &s->sampling, workspace_logits(s->ws, n_rows - 1),
                                  NULL, history, 0, &pick, error);
        s->said[i] = pick.id;
        rows[0] = (struct row){.token = pick.id,
                               .pos = (int32_t)(PROMPT + i),
                               .seq = s->seq,
                               .role = ROLE_DECODE,
                               .want_logits = true};
        n_rows = 1;
    }
    return status;
}

static graft_status session_loop(struct streaming *s, size_t n, graft_error *error)
{
    graft_status status = session_trim(s->session, 0, error);
    if (status == GRAFT_OK)
        status = session_prompt(s->session, s->prompt, PROMPT, NULL, NULL, error);
    for (size_t i = 0; i < n && status == GRAFT_OK; i++) {
        graft_token token;
        status = session_next(s->session, &token, error);
        s->said[i] = status == GRAFT_OK ? token.id : -1;
    }
    return status;
}

struct taker {
    graft_token_id *said;
    size_t n;
};

static bool take(void *user, const graft_token *token)
{
    struct taker *taker = user;
    if (token->id >= 0)
        taker->said[taker->n++] = token->id;
    return true;
}

static graft_status session_callback(struct streaming *s, size_t n, graft_error *error)
{
    struct taker taker = {s->said, 0};
    graft_status status = session_trim(s->session, 0, error);
    if (status == GRAFT_OK)
        status = session_prompt(s->session, s->prompt, PROMPT, NULL, NULL, error);
    return status == GRAFT_OK ? session_generate(s->session, n, take, &taker, error) : status;
}

static graft_status engine_loop(struct streaming *s, size_t n, bool polled, graft_error *error)
{
    struct graft_stream *stream = NULL;
    const struct talk talk = {.prompt = s->prompt, .n_prompt = PROMPT, .n = n};
    graft_status status = talk_submit(s->engine, &talk, &stream, error);
    if (status == GRAFT_OK)
        status = talk_read(stream, polled, s->said, n, error);
    stream_close(&stream);
    return status;
}

static graft_status run_way(struct bench *b, void *context, struct seconds *seconds,
                            graft_error *error)
{
    const struct stream_case *c = context;
    struct streaming *s = c->all;
    graft_status status;
    double begun = time_seconds();
    switch (c->way) {
    case 0:
        status = plain_loop(b, s, c->n, error);
        break;
    case 1:
        status = session_loop(s, c->n, error);
        break;
    case 2:
        status = session_callback(s, c->n, error);
        break;
    default:
        status = engine_loop(s, c->n, c->way == 4, error);
    }
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    return status == GRAFT_OK ? talk_same(s->known, &s->have, s->said, c->n, error) : status;
}

/* ---- the bench ---- */

static graft_status open_streaming(struct bench *b, struct streaming *s, size_t most,
                                   graft_error *error)
{
    const struct kv_pool_options kv =
        bench_kv_options(b, (int64_t)(PROMPT + most + 1) / KV_BLOCK + 1);
    graft_session_options o = {.n_ctx = (int)(PROMPT + most + 1),
                               .cache_k = b->options->cache_k,
                               .cache_v = b->options->cache_v,
                               .prefill_chunk = 256,
                               .ignore_eos = true};
    s->sampling = (graft_sampling){.top_p = 1, .repetition_penalty = 1};
    o.sampling = s->sampling;
    for (int i = 0; i < PROMPT; i++)
        s->prompt[i] = (graft_token_id)((i + 1) * 7919 % b->model->config.n_vocab);
    graft_status status = kv_pool_open(b->model, &kv, &s->pool, error);
    if (status == GRAFT_OK)
        status = kv_seq_open(s->pool, &s->seq, error);
    if (status == GRAFT_OK)
        status = workspace_open(b->model, PROMPT, &s->ws, error);
    if (status == GRAFT_OK)
        status =
            sampler_open(b->mem, b->runtime->kernels, b->model->config.n_vocab, &s->sampler, error);
    if (status == GRAFT_OK)
        status = session_open(b->model, &o, &s->session, error);
    return status == GRAFT_OK ? talk_engine(b, PROMPT + most + 1, 1, &s->engine, error) : status;
}

static void close_streaming(struct streaming *s)
{
    engine_close(&s->engine);
    session_close(&s->session);
    sampler_close(&s->sampler);
    workspace_close(&s->ws);
    kv_seq_close(&s->seq);
    kv_pool_close(&s->pool);
}

static graft_status measure_length(struct bench *b, struct streaming *s, size_t n,
                                   graft_error *error)
{
    s->have = false;
    for (int i = 0; i < WAYS; i++) {
        s->of[i] = (struct stream_case){.all = s, .way = i, .n = n};
        s->cases[i] = (struct bench_case){.unit = "tokens/s",
                                          .work = (double)n,
                                          .clock = CLOCK_WALL,
                                          .limit = LIMIT_READ,
                                          .limit_work = (double)n * model_token_bytes(b->model),
                                          .baseline = i == 0 ? -1 : 0,
                                          .run = run_way,
                                          .context = &s->of[i]};
        snprintf(s->cases[i].name, sizeof s->cases[i].name, "%zu tokens, %s", n, NAMES[i]);
    }
    return bench_measure(b, s->cases, WAYS, error);
}

/* All lengths, each in its part of the progress: a long one may take longer than the others together. */
static graft_status measure_lengths(struct bench *b, struct streaming *s, const size_t *lengths,
                                    int n, graft_error *error)
{
    double begun = time_seconds(), all = 0, seconds[LENGTHS];
    graft_status status = plain_loop(b, s, PROBE, error);
    double token = wall_seconds(begun) / PROBE;
    for (int i = 0; i < n; i++)
        all += seconds[i] = bench_expected(b, WAYS, token * (double)lengths[i]);
    for (int i = 0; i < n && status == GRAFT_OK; i++) {
        b->part_from = b->part_to;
        b->part_to += seconds[i] / all;
        status = measure_length(b, s, lengths[i], error);
    }
    return status;
}

graft_status bench_stream(struct bench *b, graft_error *error)
{
    static const size_t USUAL[LENGTHS] = {10, 50, 100, 1000};
    size_t asked = (size_t)b->options->tokens, most = asked > 0 ? asked : USUAL[LENGTHS - 1];
    struct streaming *s = mem_calloc(b->mem, 1, sizeof *s);
    if (!s)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for streams");
    graft_status status = check_model(b, error);
    b->checked = "all ways say the same tokens; 8 outputs of every linear of every type";
    if (status == GRAFT_OK)
        status = open_streaming(b, s, most, error);
    if (status == GRAFT_OK)
        status = asked > 0 ? measure_lengths(b, s, &asked, 1, error)
                           : measure_lengths(b, s, USUAL, LENGTHS, error);
    close_streaming(s);
    mem_free(b->mem, s);
    return status;
}
