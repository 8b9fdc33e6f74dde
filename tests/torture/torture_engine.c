/* torture_engine.c: an engine that is stepped by hand, so that a seed chooses every interleaving: streams come, swap their
 * mixes, fork, are cancelled or not read for a while, adapters are published anew and evicted under them, blocks run out. What
 * each stream said is then compared, token and log-probability, with one session that does alone what the stream did.
 * `--long` does 100,000 operations.
 */
#include "api/api_internal.h"
#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "generate/engine/engine_internal.h"
#include "unit/must.h"

/* From ENOUGH on every kind of thing has happened often; a sanitizer looks for something else, and slowly. */
enum { ENOUGH = 10000 };
#if defined(__SANITIZE_THREAD__)
static int operations = ENOUGH / 4;
#else
static int operations = ENOUGH;
#endif

enum { CONTENTS = 5, NAMES = 3, LIVE = 12, ACTIONS = 24, WORDS = 420, MEMBERS = 2, KEPT = 6 };
enum { VOCAB = 320 };

static graft_runtime *runtime;
static graft_model *model;
static graft_adapter *content[CONTENTS]; /* opened by path: what solo runs use */
static size_t bytes_of_one;

/* ---- what a stream did ---------------------------------------------------------------------------- */

struct blend {
    int n;
    int what[MEMBERS]; /* contents */
    float weight[MEMBERS];
};

enum act { APPEND, SWAP, SAMPLE };
struct action {
    enum act act;
    size_t at; /* tokens of the timeline then */
    size_t n;  /* APPEND: tokens, from `first` of the actor's words on */
    size_t first;
    struct blend blend;
    graft_kv_policy policy;
    graft_sampling sampling;
};

struct actor {
    struct graft_stream *stream;
    struct action actions[ACTIONS];
    int n_actions;
    graft_token_id words[WORDS]; /* of all prompts */
    size_t n_words;
    graft_token_id said[WORDS];
    float logprobs[WORDS];
    size_t n_said, from; /* tokens of the answers before the stream's own: of whom it forked */
    bool swaps;          /* a swap is on its way */
    bool lazy;           /* is not read for now */
};

static struct rng rng;
static struct actor actors[LIVE];
static struct {
    uint64_t streams, tokens, swaps, forks, cancelled, published, hits, pauses, evictions, loads;
} seen;

static uint32_t below(uint32_t n)
{
    return rng_u32(&rng) % n;
}

/* ---- alone ---------------------------------------------------------------------------------------- */

static graft_mix *blend_mix(const struct blend *b, graft_adapter *const *adapters)
{
    graft_member members[MEMBERS];
    graft_mix *mix = NULL;
    for (int i = 0; i < b->n; i++)
        members[i] = (graft_member){adapters[i], b->weight[i]};
    if (b->n)
        MUST(graft_mix_open(model, members, (size_t)b->n, &mix, error));
    return mix;
}

static graft_mix *mix_alone(const struct blend *b)
{
    graft_adapter *adapters[MEMBERS];
    for (int i = 0; i < b->n; i++)
        adapters[i] = content[b->what[i]];
    return blend_mix(b, adapters);
}

static void act_alone(graft_session *s, const struct actor *a, const struct action *action)
{
    graft_mix *mix = NULL;
    switch (action->act) {
    case APPEND:
        MUST(graft_session_prompt(s, a->words + action->first, action->n, NULL, NULL, error));
        break;
    case SWAP:
        mix = mix_alone(&action->blend);
        MUST(graft_session_set_mix(s, mix, action->policy, error));
        graft_mix_close(&mix);
        break;
    case SAMPLE:
        MUST(graft_session_set_sampling(s, &action->sampling, error));
        break;
    }
}

/* Which interleaving it was that went wrong. */
static void tell(const struct actor *a, size_t said, const graft_token *token)
{
    static const char *const ACTS[] = {"append", "swap", "sample"};
    print_error("token %zu of %zu (from %zu): said %d, alone %d\n", said, a->n_said, a->from,
                (int)a->said[said - a->from], (int)token->id);
    for (int i = 0; i < a->n_actions; i++) {
        const struct action *x = &a->actions[i];
        print_error("  at %zu %s", x->at, ACTS[x->act]);
        if (x->act == APPEND)
            print_error(" %zu tokens", x->n);
        if (x->act == SWAP)
            print_error(" to %d members (%d, %d), policy %d", x->blend.n, x->blend.what[0],
                        x->blend.what[1], (int)x->policy);
        print_error("\n");
    }
}

/* Does in one session what the stream did, and compares. */
static void check_alone(const struct actor *a)
{
    static graft_session *s;
    graft_session_options o = graft_session_options_default();
    o.ignore_eos = true;
    o.n_ctx = 2 * WORDS;
    if (a == NULL) {
        graft_session_close(&s);
        return;
    }
    if (s == NULL)
        MUST(graft_session_open(model, &o, &s, error));
    MUST(graft_session_trim(s, 0, error));
    MUST(graft_session_set_mix(s, NULL, GRAFT_KV_REPLAY, error));
    size_t said = 0;
    int next = 0;
    while (said < a->from + a->n_said || next < a->n_actions) {
        if (next < a->n_actions && graft_session_length(s) == a->actions[next].at) {
            act_alone(s, a, &a->actions[next++]);
            continue;
        }
        if (said == a->from + a->n_said)
            return; /* it was cancelled, or not read, before it came to the rest */
        graft_token token;
        MUST(graft_session_next(s, &token, error));
        if (said >= a->from) {
            if (token.id != a->said[said - a->from] || token.logprob != a->logprobs[said - a->from])
                tell(a, said, &token);
            assert_int_equal(token.id, a->said[said - a->from]);
            assert_memory_equal(&token.logprob, &a->logprobs[said - a->from], sizeof token.logprob);
        }
        said++;
    }
}

/* ---- adapters that come and go -------------------------------------------------------------------- */

static graft_registry *registry;
static int number;            /* of versions */
static int kept[NAMES][KEPT]; /* their numbers, the active one last */
static int contents_of(int version)
{
    return version % CONTENTS;
}

static void folder_of(int i, char out[512])
{
    snprintf(out, 512, "%s/adapter-%d", test_dir, i);
}

/* The name gets a new active version, of other content; old ones go, if nobody holds them. */
static void publish(int name)
{
    char folder[512], version[40], text[16], address[64];
    graft_card card = graft_card_default();
    folder_of(contents_of(++number), folder);
    snprintf(text, sizeof text, "skill-%d", name);
    snprintf(version, sizeof version, "1.0.%d", number);
    card.name = text;
    card.version = version;
    MUST(graft_registry_add(registry, folder, &card, GRAFT_PLACE_PUBLISH, NULL, error));
    snprintf(address, sizeof address, "%s@1.0.%d", text, kept[name][0]);
    if (kept[name][0])
        (void)graft_registry_remove(registry, address, NULL);
    memmove(kept[name], kept[name] + 1, (KEPT - 1) * sizeof(int));
    kept[name][KEPT - 1] = number;
    seen.published++;
}

/* A mix of what is active now; *b says what that is. */
static graft_mix *acquire_mix(struct blend *b)
{
    static const float WEIGHTS[] = {1, 1, 1, 1, 1, 1, 0.5f, -1};
    graft_adapter *adapters[MEMBERS] = {NULL};
    int first = (int)below(NAMES);
    b->n = below(2) ? 1 : (int)below(MEMBERS + 1);
    for (int i = 0; i < b->n; i++) {
        char name[16];
        graft_adapter_id id;
        int version = 0;
        snprintf(name, sizeof name, "skill-%d", (first + i) % NAMES);
        MUST(graft_registry_acquire(registry, name, &adapters[i], NULL, &id, error));
        assert_int_equal(sscanf(id.version, "1.0.%d", &version), 1);
        b->what[i] = contents_of(version);
        b->weight[i] = WEIGHTS[below(ARRAY_LEN(WEIGHTS))];
    }
    if (b->n == 2 && b->what[0] == b->what[1])
        b->n = 1; /* one adapter under two names is one member */
    graft_mix *mix = blend_mix(b, adapters);
    for (int i = 0; i < MEMBERS; i++)
        graft_adapter_close(&adapters[i]);
    return mix;
}

/* ---- the engine ----------------------------------------------------------------------------------- */

static struct graft_engine *engine;

static void open_engine(void)
{
    static const size_t KV[] = {12, 20, 40, 400};
    graft_engine_options o = engine_options_default();
    struct kv_pool_options kv = {KV_F16, KV_F16, 1};
    struct kv_pool *pool = NULL;
    MUST(kv_pool_open(model->model, &kv, &pool, error));
    o.kv_bytes = KV[below(4)] * kv_pool_block_bytes(pool);
    kv_pool_close(&pool);
    o.max_streams = 1 + (int)below(8);
    o.batch_rows = 1 + (int)below(96);
    o.prompt_rows = 1 + (int)below(64);
    o.ring = 2 + (int)below(30);
    o.n_ctx = WORDS;
    o.keep_prefixes = below(5) > 0;
    graft_draft_options d = graft_draft_options_default();
    d.store = below(2) ? "" : NULL;
    d.fixed = below(2);
    d.k = 1 + (int)below(4);
    d.model = below(2) ? model : NULL; /* it drafts for itself, but for adapters */
    o.draft = below(3) ? &d : NULL;
    MUST(engine_make(model->model, o.draft != NULL && d.model != NULL ? model->model : NULL, &o,
                     &engine, error));
}

/* Few texts, so that beginnings are shared; longer than a block or two. */
static size_t add_words(struct actor *a, size_t n)
{
    size_t first = a->n_words;
    uint32_t text = below(3), fork = below(4) ? 1000 : below(100);
    for (size_t i = 0; i < n; i++)
        a->words[a->n_words++] =
            (graft_token_id)((text * 7919 + i * 104729 + (i >= fork ? 31 : 0)) % VOCAB);
    return first;
}

static void note(struct actor *a, struct action action)
{
    assert_true(a->n_actions < ACTIONS);
    a->actions[a->n_actions++] = action;
}

static graft_sampling some_sampling(void)
{
    graft_sampling o = graft_sampling_default();
    o.temperature = below(2) ? 1 : 0;
    o.seed = below(50);
    o.repetition_penalty = below(4) ? 1 : 1.2f;
    return o;
}

static void begin(struct actor *a)
{
    *a = (struct actor){0};
    graft_request r = {.sampling = some_sampling(), .ignore_eos = true};
    struct action swap = {.act = SWAP};
    graft_mix *mix = acquire_mix(&swap.blend);
    r.n_prompt = 1 + below(200);
    size_t first = add_words(a, r.n_prompt);
    r.prompt = a->words + first;
    r.max_tokens = 1 + below(100);
    r.priority = (int)below(3);
    r.owner = below(3);
    note(a, swap);
    note(a, (struct action){.act = SAMPLE, .sampling = r.sampling});
    note(a, (struct action){.act = APPEND, .first = first, .n = r.n_prompt});
    MUST(engine_submit(engine, &(struct submission){&r, mix_of(mix), NULL, NULL}, &a->stream,
                       error));
    graft_mix_close(&mix);
    seen.streams++;
}

static bool is_live(const struct actor *a)
{
    return a->stream != NULL && a->stream->state != STREAM_OVER;
}

/* The stream goes on from another, which goes on too. */
static void fork_actor(struct actor *a, const struct actor *from)
{
    size_t at = from->stream->line.n_tokens, n = below(3) ? below(40) : 0;
    size_t answered = at - from->n_words;
    if (from->swaps || from->n_actions + 3 > ACTIONS || at + n + 60 > WORDS ||
        at < from->actions[from->n_actions - 1].at)
        return;
    *a = *from;
    a->stream = NULL;
    a->n_said = 0;
    a->from = answered;
    a->lazy = false;
    graft_request r = {.sampling = some_sampling(), .ignore_eos = true, .fork = from->stream};
    size_t first = add_words(a, n);
    r.prompt = a->words + first;
    r.n_prompt = n;
    r.max_tokens = 1 + below(50);
    struct action swap = {.act = SWAP, .at = at};
    graft_mix *mix = below(2) ? acquire_mix(&swap.blend) : NULL;
    r.base = mix == NULL && below(4) == 0;
    if (mix != NULL || r.base)
        note(a, swap);
    note(a, (struct action){.act = SAMPLE, .at = at, .sampling = r.sampling});
    note(a, (struct action){.act = APPEND, .at = at, .first = first, .n = n});
    MUST(engine_submit(engine, &(struct submission){&r, mix_of(mix), NULL, NULL}, &a->stream,
                       error));
    graft_mix_close(&mix);
    seen.forks++;
}

static void swap(struct actor *a)
{
    struct action action = {.act = SWAP, .at = a->stream->line.n_tokens, .policy = below(2)};
    if (a->swaps || a->n_actions == ACTIONS || a->stream->fork != NULL)
        return;
    graft_mix *mix = acquire_mix(&action.blend);
    stream_set_mix(a->stream, mix_of(mix), action.policy);
    graft_mix_close(&mix);
    note(a, action);
    a->swaps = true;
    seen.swaps++;
}

/* Takes what there is; at the end compares and goes. */
static void hear(struct actor *a)
{
    graft_token token;
    graft_error error = {0};
    graft_status status;
    while ((status = stream_take(a->stream, false, &token, &error)) == GRAFT_OK) {
        a->said[a->n_said] = token.id;
        a->logprobs[a->n_said++] = token.logprob;
        seen.tokens++;
    }
    if (status == GRAFT_BUSY)
        return;
    if (status != GRAFT_END)
        print_error("%s\n", error.message);
    assert_int_equal(status, GRAFT_END);
    seen.cancelled += stream_finish(a->stream) == GRAFT_FINISH_CANCELLED;
    stream_close(&a->stream);
    check_alone(a);
}

static void step(void)
{
    engine_step(engine);
    for (int i = 0; i < LIVE; i++)
        actors[i].swaps = false;
}

static void close_engine(void)
{
    graft_engine_info info;
    bool all = false;
    for (int i = 0; i < LIVE; i++)
        actors[i].lazy = false;
    while (!all) {
        step();
        all = true;
        for (int i = 0; i < LIVE; i++)
            if (actors[i].stream != NULL) {
                hear(&actors[i]);
                all = all && actors[i].stream == NULL;
            }
    }
    engine_step(engine);
    engine_describe(engine, &info);
    seen.hits += info.prefix_hits;
    seen.pauses += info.pauses;
    seen.evictions += info.prefix_evictions;
    assert_int_equal(info.running + info.waiting, 0);
    assert_int_equal(info.failed, 0);
    assert_int_equal(info.submitted, info.finished + info.cancelled);
    prefixes_forget(&engine->prefixes);
    assert_int_equal(kv_pool_blocks_used(engine->pool), 0);
    engine_close(&engine);
}

/* ---- interleavings -------------------------------------------------------------------------------- */

static void operate(void)
{
    struct actor *a = &actors[below(LIVE)], *b = &actors[below(LIVE)];
    uint32_t what = below(100);
    if (what < 57) {
        step();
    } else if (what < 72) {
        if (a->stream == NULL)
            begin(a);
        else if (!a->lazy)
            hear(a);
    } else if (what < 80) {
        if (is_live(a))
            swap(a);
    } else if (what < 87) {
        if (a->stream == NULL && is_live(b) && b->stream->fork == NULL)
            fork_actor(a, b);
    } else if (what < 88) {
        if (is_live(a))
            stream_cancel(a->stream);
    } else if (what < 93) {
        a->lazy = !a->lazy;
    } else if (what < 95) {
        publish((int)below(NAMES));
    } else if (what < 97) {
        char name[16];
        snprintf(name, sizeof name, "skill-%u", below(NAMES));
        (void)graft_registry_evict(registry, name, NULL);
    } else if (what < 98) {
        if (below(8) == 0)
            engine_forget_prefixes(engine);
    } else {
        for (int i = 0; i < LIVE; i++)
            if (actors[i].stream != NULL && !actors[i].lazy)
                hear(&actors[i]);
    }
}

static void streams_say_what_they_would_say_alone_whatever_happens(void **state)
{
    (void)state;
    graft_registry_info info;
    rng_init(&rng, 20261122, 1);
    open_engine();
    for (int i = 0; i < operations; i++) {
        if (i % 1000 == 999) {
            close_engine();
            open_engine();
        }
        operate();
    }
    close_engine();
    check_alone(NULL);
    MUST(graft_registry_describe(registry, &info, error));
    seen.loads = info.loads;
    print_message("%llu streams, %llu tokens, %llu swaps, %llu forks, %llu cancelled, %llu "
                  "published, %llu loads, "
                  "%llu blocks found, %llu evicted, %llu pauses\n",
                  (unsigned long long)seen.streams, (unsigned long long)seen.tokens,
                  (unsigned long long)seen.swaps, (unsigned long long)seen.forks,
                  (unsigned long long)seen.cancelled, (unsigned long long)seen.published,
                  (unsigned long long)seen.loads, (unsigned long long)seen.hits,
                  (unsigned long long)seen.evictions, (unsigned long long)seen.pauses);
    if (operations < ENOUGH)
        return;
    assert_true(seen.streams > 100 && seen.swaps > 100 && seen.forks > 20 && seen.cancelled > 20);
    assert_true(seen.hits > 20 && seen.pauses > 20 && seen.evictions > 20);
    assert_true(seen.published > 20 && seen.loads > 20);
}

/* ---- named cases ---------------------------------------------------------------------------------- */

static struct graft_stream *submit_with(struct actor *a, graft_mix *mix, const struct blend *b,
                                        size_t n_prompt, size_t n)
{
    *a = (struct actor){0};
    graft_request r = {.sampling = sampling_default(), .ignore_eos = true, .max_tokens = n};
    r.sampling.temperature = 0;
    for (size_t i = 0; i < n_prompt; i++)
        a->words[a->n_words++] = (graft_token_id)(i * 104729 % VOCAB);
    r.prompt = a->words;
    r.n_prompt = n_prompt;
    note(a, (struct action){.act = SWAP, .blend = *b});
    note(a, (struct action){.act = SAMPLE, .sampling = r.sampling});
    note(a, (struct action){.act = APPEND, .n = n_prompt});
    MUST(engine_submit(engine, &(struct submission){&r, mix_of(mix), NULL, NULL}, &a->stream,
                       error));
    return a->stream;
}

static size_t finish(struct actor *a)
{
    graft_stream_info info = {0};
    while (a->stream != NULL) {
        engine_step(engine);
        stream_describe(a->stream, &info);
        hear(a);
    }
    return info.cached_tokens;
}

static struct blend only(int what)
{
    return (struct blend){.n = 1, .what = {what}, .weight = {1}};
}

/* The same 150 tokens under two adapters and the base: nobody may find another's blocks. */
static void wrong_adapter_prefix_reuse(void **state)
{
    (void)state;
    struct blend blends[] = {only(0), only(1), {.n = 0}, only(0)};
    blends[3].weight[0] = 0.5f;
    graft_engine_options o = engine_options_default();
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < ARRAY_LEN(blends); i++) {
            graft_mix *mix = mix_alone(&blends[i]);
            submit_with(&actors[0], mix, &blends[i], 150, 20);
            graft_mix_close(&mix);
            assert_int_equal(finish(&actors[0]), round ? 128 : 0);
        }
    engine_close(&engine);
}

/* One folder, opened, written anew with other content and opened again: the same path is not the same adapter. */
static void same_name_reload(void **state)
{
    (void)state;
    char folder[512];
    struct oracle_model base, a;
    graft_engine_options o = engine_options_default();
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    snprintf(folder, sizeof folder, "%s/reloaded", test_dir);
    oracle_model_make(&base, oracle_config("llama"), 1);
    for (int i = 0; i < 2; i++) {
        struct blend b = only(i);
        graft_adapter *adapter = NULL;
        oracle_adapter_make(&a, "lora", 7 + i, &base); /* contents 0 and 1 */
        oracle_adapter_write(&a, folder, GRAFT_TYPE_F32);
        oracle_model_free(&a);
        MUST(graft_adapter_open(model, folder, NULL, &adapter, error));
        graft_mix *mix = blend_mix(&b, &adapter);
        graft_adapter_close(&adapter);
        submit_with(&actors[0], mix, &b, 150, 20);
        graft_mix_close(&mix);
        assert_int_equal(finish(&actors[0]), 0);
    }
    oracle_model_free(&base);
    engine_close(&engine);
}

/* Every handle closed, the version evicted and removed while its stream speaks. */
static void unload_during_generation(void **state)
{
    (void)state;
    graft_engine_options o = engine_options_default();
    graft_adapter *adapter = NULL;
    graft_adapter_id id;
    int version = 0;
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    publish(0);
    MUST(graft_registry_acquire(registry, "skill-0", &adapter, NULL, &id, error));
    assert_int_equal(sscanf(id.version, "1.0.%d", &version), 1);
    struct blend b = only(contents_of(version));
    graft_mix *mix = blend_mix(&b, &adapter);
    submit_with(&actors[0], mix, &b, 70, 40);
    graft_mix_close(&mix);
    graft_adapter_close(&adapter);
    for (int i = 0; i < 10; i++)
        engine_step(engine);
    publish(0);
    char address[160];
    snprintf(address, sizeof address, "%s@%s", id.name, id.version);
    (void)graft_registry_evict(registry, address, NULL);
    assert_int_equal(graft_registry_remove(registry, address, NULL), GRAFT_STATE); /* it is held */
    finish(&actors[0]);
    engine_close(&engine);
    MUST(graft_registry_remove(registry, address, error)); /* nobody holds it any more */
    for (int i = 0; i < KEPT; i++)
        kept[0][i] = kept[0][i] == version ? 0 : kept[0][i];
}

/* Twelve streams with an adapter each, under a budget for two: all in one batch, all right, and then gone. */
static void more_adapters_than_fit(void **state)
{
    (void)state;
    graft_engine_options o = engine_options_default();
    graft_registry_info info;
    MUST(engine_make(model->model, NULL, &o, &engine, error));
    for (int i = 0; i < LIVE; i++) {
        graft_adapter *adapter = NULL;
        graft_adapter_id id;
        int version = 0;
        char name[16];
        publish(i % NAMES);
        snprintf(name, sizeof name, "skill-%d", i % NAMES);
        MUST(graft_registry_acquire(registry, name, &adapter, NULL, &id, error));
        assert_int_equal(sscanf(id.version, "1.0.%d", &version), 1);
        struct blend b = only(contents_of(version));
        graft_mix *mix = blend_mix(&b, &adapter);
        submit_with(&actors[i], mix, &b, 40, 30);
        graft_mix_close(&mix);
        graft_adapter_close(&adapter);
    }
    engine_step(engine);
    MUST(graft_registry_describe(registry, &info, error));
    assert_true(info.bytes > info.budget); /* what is held stays */
    for (int i = 0; i < LIVE; i++)
        finish(&actors[i]);
    engine_close(&engine);
    MUST(graft_registry_describe(registry, &info, error));
    assert_true(info.bytes <= info.budget);
    assert_int_equal(info.n_held, 0);
}

/* ---- all ------------------------------------------------------------------------------------------ */

static int setup(void **state)
{
    static const char *const VARIANTS[CONTENTS] = {"lora", "lora", "dora", "rslora", "lora-all"};
    struct oracle_model base, a;
    graft_runtime_options o = graft_runtime_options_default();
    graft_registry_options r = graft_registry_options_default();
    graft_adapter_info info;
    char home[512];
    test_dir_open(state);
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    o.threads = 2;
    MUST(graft_runtime_open(&o, &runtime, error));
    MUST(graft_model_open(runtime, at("base"), NULL, &model, error));
    for (int i = 0; i < CONTENTS; i++) {
        char folder[512];
        folder_of(i, folder);
        oracle_adapter_make(&a, VARIANTS[i], 7 + i, &base);
        oracle_adapter_write(&a, folder, GRAFT_TYPE_F32);
        oracle_model_free(&a);
        MUST(graft_adapter_open(model, folder, NULL, &content[i], error));
    }
    oracle_model_free(&base);
    MUST(graft_adapter_describe(content[0], &info, error));
    bytes_of_one = info.bytes;
    snprintf(home, sizeof home, "%s/home", test_dir);
    r.home = home;
    r.budget = 2 * bytes_of_one + bytes_of_one / 2;
    MUST(graft_registry_open(runtime, model, &r, &registry, error));
    for (int i = 0; i < NAMES; i++)
        publish(i);
    return 0;
}

static int teardown(void **state)
{
    for (int i = 0; i < CONTENTS; i++)
        graft_adapter_close(&content[i]);
    check_alone(NULL);
    graft_registry_close(&registry);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return test_dir_close(state);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--long") == 0)
        operations = 100000;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_adapter_prefix_reuse),
        cmocka_unit_test(same_name_reload),
        cmocka_unit_test(unload_during_generation),
        cmocka_unit_test(more_adapters_than_fit),
        cmocka_unit_test(streams_say_what_they_would_say_alone_whatever_happens),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
