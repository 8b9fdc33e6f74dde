/* residents.c: what adapters that are only in memory cost a step without any: nothing, if all is well.
 *
 * The same steps of the base model are timed in turn with no adapter in memory and with sixteen. Before either they are
 * opened, and closed again for the one: whatever that does to caches, and to this process's turn on a busy machine, it does
 * to both. Their logits must be equal bit by bit.
 */
#include "bench/bench_internal.h"

enum { RESIDENTS = 16, CONTEXT = 128, STEPS = 16 };

struct residents {
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seed, *seq;
    char *folder; /* of an adapter's files */
    struct adapter *adapter[RESIDENTS];
    float *logits; /* [n_vocab] of the last step of whichever ran first */
    bool have_logits;
};

struct residents_case {
    struct residents *all;
    bool resident;
};

static void close_adapters(struct residents *r)
{
    for (int i = 0; i < RESIDENTS; i++)
        adapter_release(&r->adapter[i]);
}

static graft_status open_adapters(struct bench *b, struct residents *r, graft_error *error)
{
    const struct synth_adapter how = synth_adapter_of(b->options);
    const struct adapter_options options = {.retype = how.retype, .type = how.type};
    graft_status status = GRAFT_OK;
    for (int i = 0; i < RESIDENTS && status == GRAFT_OK; i++)
        status = adapter_open(b->model, r->folder, &options, &r->adapter[i], error);
    return status;
}

static graft_status run_steps(struct bench *b, struct residents *r, int n, graft_error *error)
{
    int n_vocab = b->model->config.n_vocab;
    graft_status status = GRAFT_OK;
    kv_seq_trim(r->seq, CONTEXT);
    for (int i = 0; i < n && status == GRAFT_OK; i++) {
        const struct row row = {.token = (graft_token_id)(i * 7919 % n_vocab),
                                .pos = CONTEXT + i,
                                .seq = r->seq,
                                .role = ROLE_DECODE,
                                .want_logits = true};
        status = model_forward(b->model, &row, 1, r->ws, error);
    }
    return status;
}

static graft_status compare_logits(const struct bench *b, struct residents *r, graft_error *error)
{
    size_t bytes = (size_t)b->model->config.n_vocab * sizeof *r->logits;
    const float *now = workspace_logits(r->ws, 0);
    if (!r->have_logits)
        memcpy(r->logits, now, bytes);
    r->have_logits = true;
    return memcmp(r->logits, now, bytes) == 0
               ? GRAFT_OK
               : error_set(error, GRAFT_NUMERIC,
                           "adapters in memory change what the base model says, so there is no "
                           "figure");
}

/* The first step, which finds caches full of adapters, is not timed. */
static graft_status run_case(struct bench *b, void *context, struct seconds *seconds,
                             graft_error *error)
{
    const struct residents_case *c = context;
    struct residents *r = c->all;
    close_adapters(r);
    graft_status status = open_adapters(b, r, error);
    if (!c->resident)
        close_adapters(r);
    if (status == GRAFT_OK)
        status = run_steps(b, r, 1, error);
    double begun = time_seconds();
    if (status == GRAFT_OK)
        status = run_steps(b, r, STEPS, error);
    seconds->by[CLOCK_WALL] = wall_seconds(begun);
    return status == GRAFT_OK ? compare_logits(b, r, error) : status;
}

static graft_status open_residents(struct bench *b, struct residents *r, graft_error *error)
{
    const struct synth_adapter how = synth_adapter_of(b->options);
    r->logits = mem_calloc(b->mem, (size_t)b->model->config.n_vocab, sizeof *r->logits);
    if (!r->logits)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for logits");
    graft_status status = synth_adapter_write(b, &how, &r->folder, error);
    if (status == GRAFT_OK)
        status = workspace_open(b->model, KV_BLOCK, &r->ws, error);
    if (status == GRAFT_OK)
        status =
            bench_kv_open(b, (CONTEXT + STEPS) / KV_BLOCK + 4, r->ws, &r->pool, &r->seed, error);
    return status == GRAFT_OK ? kv_seq_repeat(r->seed, CONTEXT, &r->seq, error) : status;
}

graft_status bench_residents(struct bench *b, graft_error *error)
{
    struct residents r = {.have_logits = false};
    struct residents_case of[] = {{&r, false}, {&r, true}};
    struct bench_case cases[] = {{.name = "decode, base alone", .baseline = -1},
                                 {.name = "decode, base, 16 in memory", .baseline = 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cases[i].unit = "tokens/s";
        cases[i].work = STEPS;
        cases[i].clock = CLOCK_WALL;
        cases[i].limit = LIMIT_READ;
        cases[i].limit_work = STEPS * model_token_bytes(b->model);
        cases[i].run = run_case;
        cases[i].context = &of[i];
    }
    graft_status status = open_residents(b, &r, error);
    if (status == GRAFT_OK)
        status = check_model(b, error);
    if (status == GRAFT_OK)
        status = bench_measure(b, cases, ARRAY_LEN(cases), error);
    close_adapters(&r);
    synth_adapter_remove(b, &r.folder);
    kv_seq_close(&r.seq);
    kv_seq_close(&r.seed);
    kv_pool_close(&r.pool);
    workspace_close(&r.ws);
    mem_free(b->mem, r.logits);
    return status;
}
