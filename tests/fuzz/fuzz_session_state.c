/* fuzz_session_state.c: hostile records of sessions: what is taken keeps all bounds that sessions count on, and writes the
 * bytes that it was read from; and nothing is left behind.
 */
#include "generate/generate_internal.h"
#include "generate/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check(const struct session_state *s)
{
    const graft_session_options *o = &s->options;
    require(s->tier && s->base && s->architecture && s->model_path && s->adapters);
    require(sampling_check(&o->sampling, NULL) == GRAFT_OK);
    require(o->n_ctx > 0 && o->n_ctx <= CONTEXT_MAX && s->n_tokens <= (size_t)o->n_ctx);
    require(o->cache_k <= GRAFT_KV_Q8 && o->cache_v <= GRAFT_KV_Q8);
    for (size_t i = 0; i < o->n_stops; i++)
        require(strlen(o->stops[i]) <= STOP_MAX_BYTES);
    for (size_t i = 0; i < o->n_stop_ids; i++)
        require(o->stop_ids[i] >= 0);
    for (size_t i = 0; i < s->n_tokens; i++)
        require(s->tokens[i] >= 0 && s->roles[i] < ROLE_COUNT);
    require(s->n_held <= s->n_tokens && s->answer_begin <= s->n_tokens);
    require(s->text.n_given <= s->text.n_held && s->text.detokenizer.n_held <= 3);
    require(s->n_note <= STATE_NOTE_MAX);
}

/* A text that goes on from there gives out what it has without reading beyond it. */
static void go_on(struct mem *mem, const struct session_state *s)
{
    struct text text = {0};
    const char *out;
    size_t n;
    graft_session_options none = s->options;
    none.n_stops = 0; /* stop texts need a tokenizer */
    require(text_open(&text, mem, NULL, &none, NULL) != GRAFT_OK ||
            text_resume(&text, &s->text, NULL) != GRAFT_OK ||
            (s->text.n_held == 0 && text_flush(&text, &out, &n, NULL) == GRAFT_OK && n == 0));
    text_close(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    struct arena arena;
    struct session_state state;
    graft_error error = {0};
    mem_init(&mem, NULL);
    arena_init(&arena, &mem, 2 * (size_t)STATE_RECORD_MAX);
    if (state_parse(data, size, &arena, &state, &error) == GRAFT_OK) {
        struct buf again;
        check(&state);
        go_on(&mem, &state);
        buf_init(&again, &mem, STATE_RECORD_MAX);
        require(state_write(&state, &again, NULL) == GRAFT_OK);
        require(again.size == size && memcmp(again.data, data, size) == 0);
        buf_free(&again);
    } else {
        require(error.message[0]);
    }
    arena_free(&arena);
    require(atomic_load(&mem.bytes_in_use) == 0);
    return 0;
}
