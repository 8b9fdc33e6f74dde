/* torture_engine_steps.c: what single steps of an engine promise: turns between owners, cancellation, blocks of those that
 * wait, memory of those that are gone. The engine is stepped by hand but for the last.
 */
#include "api/api_internal.h"
#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"
#include "generate/engine/engine_internal.h"
#include "unit/must.h"

#include <sched.h>

enum { VOCAB = 320 };
static graft_runtime *runtime;
static graft_model *model;
static struct graft_engine *engine;
static struct rng rng;

static uint32_t below(uint32_t n)
{
    return rng_u32(&rng) % n;
}

/* Greedy, of a prompt that is always the same. */
static struct graft_stream *submit(const graft_request *sizes)
{
    graft_token_id prompt[200];
    struct graft_stream *s = NULL;
    graft_request r = *sizes;
    for (size_t i = 0; i < r.n_prompt; i++)
        prompt[i] = (graft_token_id)(i * 104729 % VOCAB);
    r.prompt = prompt;
    r.sampling = sampling_default();
    r.sampling.temperature = 0;
    r.ignore_eos = true;
    MUST(engine_submit(engine, &(struct submission){&r, NULL, NULL, NULL}, &s, error));
    return s;
}

/* A pool of four blocks, of which two forks that wait for their turn hold some: the one that runs goes on. */
static void forks_that_wait_give_up_their_blocks(void **state)
{
    (void)state;
    graft_engine_options o = engine_options_default();
    struct kv_pool_options kv = {KV_F16, KV_F16, 1};
    struct kv_pool *pool = NULL;
    struct graft_stream *first, *forks[2] = {NULL};
    graft_token token;
    MUST(kv_pool_open(model->model, &kv, &pool, error));
    o.kv_bytes = 4 * kv_pool_block_bytes(pool);
    kv_pool_close(&pool);
    o.max_streams = 1;
    o.keep_prefixes = false;
    o.ring = 256;
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    first = submit(&(graft_request){.n_prompt = 100, .max_tokens = 150});
    for (int i = 0; i < 2; i++) {
        const graft_request r = {
            .sampling = sampling_default(), .fork = first, .max_tokens = 20, .ignore_eos = true};
        for (int k = 0; k < 5; k++)
            engine_step(engine);
        MUST(engine_submit(engine, &(struct submission){&r, NULL, NULL, NULL}, &forks[i], error));
    }
    for (int steps = 0; forks[1] != NULL; steps++) {
        assert_true(steps < 1000); /* nobody waits for ever */
        engine_step(engine);
        if (first != NULL && stream_take(first, false, &token, NULL) == GRAFT_END)
            stream_close(&first);
        for (int i = 0; i < 2; i++)
            if (forks[i] != NULL && stream_take(forks[i], false, &token, NULL) == GRAFT_END)
                stream_close(&forks[i]);
    }
    assert_null(first);
    stream_close(&forks[0]);
    engine_close(&engine);
}

/* One owner has ten streams before another brings one: that one is next, not eleventh. */
static void an_owner_with_many_streams_keeps_nobody_waiting(void **state)
{
    (void)state;
    enum { MANY = 10 };
    const graft_token_id prompt[] = {1, 2, 3};
    struct graft_stream *streams[MANY + 1];
    graft_engine_options o = engine_options_default();
    graft_token token;
    int waiting = 0;
    o.max_streams = 1;
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    for (int i = 0; i <= MANY; i++) {
        const graft_request r = {.sampling = sampling_default(),
                                 .prompt = prompt,
                                 .n_prompt = ARRAY_LEN(prompt),
                                 .max_tokens = 20,
                                 .ignore_eos = true,
                                 .owner = i < MANY ? 1 : 2};
        MUST(engine_submit(engine, &(struct submission){&r, NULL, NULL, NULL}, &streams[i], error));
        engine_step(engine); /* the first one runs by then */
    }
    for (graft_status status = GRAFT_OK; status != GRAFT_END;)
        if ((status = stream_take(streams[MANY], false, &token, NULL)) == GRAFT_BUSY)
            engine_step(engine);
    for (int i = 0; i < MANY; i++)
        waiting += stream_take(streams[i], false, &token, NULL) == GRAFT_BUSY;
    assert_int_equal(waiting, MANY - 1); /* only the one that ran before it has said anything */
    for (int i = 0; i <= MANY; i++)
        stream_close(&streams[i]);
    engine_close(&engine);
}

/* A stream that is cancelled says nothing after the step that comes next, wherever it was. */
static void a_stream_ends_within_a_step_of_its_cancellation(void **state)
{
    (void)state;
    graft_token token;
    graft_engine_options o = engine_options_default();
    o.batch_rows = 16; /* the prompt takes ten steps */
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    for (int steps = 0; steps < 20; steps++) {
        struct graft_stream *s = submit(&(graft_request){.n_prompt = 150, .max_tokens = 50});
        for (int i = 0; i < steps; i++)
            engine_step(engine);
        stream_cancel(s);
        engine_step(engine);
        assert_true(s->state == STREAM_OVER);
        assert_int_equal(kv_pool_blocks_used(engine->pool), engine->prefixes.count);
        while (stream_take(s, false, &token, NULL) == GRAFT_OK) {
        }
        assert_int_equal(stream_finish(s), GRAFT_FINISH_CANCELLED);
        stream_close(&s);
    }
    engine_close(&engine);
}

/* kB of memory that is this process's own. */
static long rss_anon(void)
{
    char line[128];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "RssAnon: %ld", &kb);
    if (f)
        fclose(f);
    return kb;
}

/* Ten thousand streams through the engine's own thread, opened and cancelled, some of them in the midst of an answer. */
static void streams_that_were_cancelled_leave_no_memory(void **state)
{
    (void)state;
    enum { STREAMS = 10000, WARM = 1000 };
    graft_engine_options o = engine_options_default();
    graft_token_id prompt[100];
    long before = 0;
    o.kv_bytes =
        1
        << 20; /* so that all of it, and all that may run and wait, was there before the first look */
    o.max_streams = 8;
    o.max_waiting = 8;
    MUST(engine_open(model->model, NULL, &o, NULL, &engine, error));
    for (int i = 0; i < STREAMS; i++) {
        const graft_request r = {.sampling = sampling_default(),
                                 .prompt = prompt,
                                 .n_prompt = 1 + below(100),
                                 .max_tokens = 60,
                                 .ignore_eos = true};
        struct graft_stream *s = NULL;
        graft_token token;
        for (size_t k = 0; k < r.n_prompt; k++)
            prompt[k] = (graft_token_id)below(VOCAB);
        graft_status status;
        while ((status = engine_submit(engine, &(struct submission){&r, NULL, NULL, NULL}, &s,
                                       NULL)) == GRAFT_BUSY)
            sched_yield();
        MUST(status);
        if (i % 8 == 0)
            MUST(stream_take(s, true, &token, error));
        stream_close(&s);
        before = i == WARM ? rss_anon() : before;
    }
    long after = rss_anon();
    graft_engine_info info;
    engine_describe(engine, &info);
    print_message("RssAnon after %d streams %ld kB, after %d %ld kB\n", WARM, before, STREAMS,
                  after);
    assert_int_equal(info.submitted, STREAMS);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(before > 0 && after - before < 1024);
#endif
    engine_close(&engine);
}

static int setup(void **state)
{
    struct oracle_model base;
    graft_runtime_options o = graft_runtime_options_default();
    test_dir_open(state);
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    oracle_model_free(&base);
    o.threads = 2;
    MUST(graft_runtime_open(&o, &runtime, error));
    MUST(graft_model_open(runtime, at("base"), NULL, &model, error));
    rng_init(&rng, 20261122, 2);
    return 0;
}

static int teardown(void **state)
{
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_that_wait_give_up_their_blocks),
        cmocka_unit_test(an_owner_with_many_streams_keeps_nobody_waiting),
        cmocka_unit_test(a_stream_ends_within_a_step_of_its_cancellation),
        cmocka_unit_test(streams_that_were_cancelled_leave_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
