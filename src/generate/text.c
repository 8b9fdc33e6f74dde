/* text.c: from token ids to text that may be given out.
 *
 * Two things are held back: bytes of a character that is not complete (by the detokeniser), and text
 * that may turn out to be the beginning of a stop text. Stop texts are matched byte by byte with one
 * automaton each, so a match does not depend on how the text was cut into tokens and costs the same
 * per byte whatever came before. Of several stop texts the one that is complete first ends the
 * answer; of those that are complete at the same byte, the longest. Knows nothing of sessions.
 */
#include "generate/text.h"

/* What one token may release, far above any real vocabulary; and room from the beginning, for nearly all tokens of
 * any, so that steps allocate nothing. */
enum { TEXT_LIMIT = 64 << 20, TEXT_ROOM = 500 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for the text of the answer");
}

/* ---- stop texts ---- */

static graft_status stop_open(struct stop *stop, struct mem *mem, const char *text,
                              graft_error *error)
{
    size_t size = text == NULL ? 0 : strnlen(text, STOP_MAX_BYTES + 1);
    if (size == 0 || size > STOP_MAX_BYTES) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a stop text must have 1 to %d bytes",
                         STOP_MAX_BYTES);
    }
    uint32_t code;
    for (size_t i = 0; i < size;) {
        int n = utf8_decode(text + i, size - i, &code);
        if (n == 0) {
            return error_set(error, GRAFT_INVALID_ARGUMENT, "a stop text must be UTF-8");
        }
        i += (size_t)n;
    }
    stop->size = size;
    stop->text = mem_strndup(mem, text, size);
    stop->fail = mem_calloc(mem, size, sizeof *stop->fail);
    if (stop->text == NULL || stop->fail == NULL) {
        return no_memory(error);
    }
    size_t border = 0;
    for (size_t i = 1; i < size; i++) {
        while (border > 0 && text[i] != text[border]) {
            border = stop->fail[border - 1];
        }
        border += text[i] == text[border];
        stop->fail[i] = (uint16_t)border;
    }
    return GRAFT_OK;
}

/* True when byte `c` completes the text. */
static bool stop_step(struct stop *stop, char c)
{
    while (stop->matched > 0 && c != stop->text[stop->matched]) {
        stop->matched = stop->fail[stop->matched - 1];
    }
    stop->matched += c == stop->text[stop->matched];
    return stop->matched == stop->size;
}

graft_status text_open(struct text *st, struct mem *mem, const struct tokenizer *tokenizer,
                       const graft_session_options *options, graft_error *error)
{
    *st = (struct text){.mem = mem, .tokenizer = tokenizer, .show_special = options->show_special};
    buf_init(&st->out, mem, TEXT_LIMIT);
    if (options->n_stops == 0) {
        return buf_reserve(&st->out, TEXT_ROOM) ? GRAFT_OK : no_memory(error);
    }
    if (options->stops == NULL || options->n_stops > STOPS_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "at most %d stop texts", STOPS_MAX);
    }
    if (tokenizer == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "stop texts need a tokenizer; the model has none");
    }
    size_t longest = 0;
    st->stops = mem_calloc(mem, options->n_stops, sizeof *st->stops);
    graft_status status = st->stops == NULL ? no_memory(error) : GRAFT_OK;
    for (; status == GRAFT_OK && st->n_stops < options->n_stops; st->n_stops++) {
        struct stop *stop = &st->stops[st->n_stops];
        status = stop_open(stop, mem, options->stops[st->n_stops], error);
        longest = stop->size > longest ? stop->size : longest;
    }
    if (status == GRAFT_OK && ((st->held = mem_alloc(mem, longest + 1)) == NULL ||
                               !buf_reserve(&st->out, longest + TEXT_ROOM))) {
        status = no_memory(error);
    }
    if (status != GRAFT_OK) {
        text_close(st);
    }
    return status;
}

void text_close(struct text *st)
{
    for (size_t i = 0; i < st->n_stops; i++) {
        mem_free(st->mem, st->stops[i].text);
        mem_free(st->mem, st->stops[i].fail);
    }
    mem_free(st->mem, st->stops);
    mem_free(st->mem, st->held);
    buf_free(&st->out);
    *st = (struct text){0};
}

/* ---- the text ---- */

/* Many models have more rows in the head than their tokenizer has tokens: those have no text. */
static bool has_text(const struct text *st, graft_token_id id)
{
    return st->tokenizer != NULL && id < tokenizer_size(st->tokenizer);
}

void text_begin(struct text *st, const graft_token_id *history, size_t n)
{
    /* Only the very first word of a text loses the space that encoding put before it. */
    bool began = false;
    for (size_t i = 0; i < n && !began; i++) {
        began = has_text(st, history[i]) && !tokenizer_is_special(st->tokenizer, history[i]);
    }
    st->detokenizer = (struct detokenizer){.started = began};
    st->n_held = 0;
    st->n_given = 0;
    st->stopped = false;
    for (size_t i = 0; i < st->n_stops; i++) {
        st->stops[i].matched = 0;
    }
}

/* Runs the automata over out[from..): how much of out may be given out. The rest is held, or, after a
 * stop text, gone. */
static size_t release(struct text *st, size_t from)
{
    size_t longest = 0;
    for (size_t i = from; i < st->out.size && !st->stopped; i++) {
        longest = 0;
        size_t complete = 0;
        for (size_t k = 0; k < st->n_stops; k++) {
            struct stop *stop = &st->stops[k];
            if (stop_step(stop, st->out.data[i]) && stop->size > complete) {
                complete = stop->size;
            }
            longest = stop->matched > longest ? stop->matched : longest;
        }
        if (complete > 0) {
            st->stopped = true;
            st->n_held = 0;
            return i + 1 - complete;
        }
    }
    if (from == st->out.size) {
        return 0; /* nothing new: what was held stays held */
    }
    st->n_held = longest;
    if (longest > 0) {
        memcpy(st->held, st->out.data + st->out.size - longest, longest);
    }
    return st->out.size - longest;
}

/* Gives out[0..released) without what a pause gave of it before. */
static void give(struct text *st, size_t released, const char **text, size_t *size)
{
    if (released > st->n_given) {
        st->out.data[released] = '\0';
        *text = st->out.data + st->n_given;
        *size = released - st->n_given;
        st->n_given = 0;
    } else {
        st->n_given -= released; /* the rest of it is still at the beginning of held */
    }
}

/* out = held text, to which a caller appends. */
static bool begin_out(struct text *st)
{
    st->out.size = 0;
    st->out.status = GRAFT_OK;
    return st->n_held == 0 || buf_append(&st->out, st->held, st->n_held);
}

graft_status text_push(struct text *st, graft_token_id id, const char **text, size_t *size,
                       graft_error *error)
{
    *text = "";
    *size = 0;
    if (st->stopped || !has_text(st, id)) {
        return GRAFT_OK;
    }
    if (!begin_out(st)) {
        return no_memory(error);
    }
    struct detokenizer before = st->detokenizer;
    graft_status status =
        detokenizer_push(&st->detokenizer, st->tokenizer, id, st->show_special, &st->out, error);
    if (status == GRAFT_OK && st->out.status != GRAFT_OK) {
        status = error_set(error, st->out.status, "the text of token %d is too long", (int)id);
    }
    if (status != GRAFT_OK) {
        st->detokenizer = before;
        return status;
    }
    give(st, release(st, st->n_held), text, size);
    return GRAFT_OK;
}

void text_pause(struct text *st, const char **text, size_t *size)
{
    *text = "";
    *size = 0;
    if (st->n_held > st->n_given) {
        st->held[st->n_held] = '\0';
        *text = st->held + st->n_given;
        *size = st->n_held - st->n_given;
        st->n_given = st->n_held;
    }
}

graft_status text_flush(struct text *st, const char **text, size_t *size, graft_error *error)
{
    *text = "";
    *size = 0;
    if (st->tokenizer == NULL || st->stopped) {
        return GRAFT_OK;
    }
    struct detokenizer before = st->detokenizer;
    if (!begin_out(st)) {
        return no_memory(error);
    }
    graft_status status = detokenizer_flush(&st->detokenizer, &st->out, error);
    if (status == GRAFT_OK && st->out.status != GRAFT_OK) {
        status = no_memory(error);
    }
    if (status != GRAFT_OK) {
        st->detokenizer = before;
        return status;
    }
    st->n_held = 0;
    give(st, st->out.size, text, size);
    return GRAFT_OK;
}

/* ---- from one text to another ---- */

struct text_state text_state(const struct text *st)
{
    return (struct text_state){.detokenizer = st->detokenizer,
                               .held = st->held,
                               .n_held = st->n_held,
                               .n_given = st->n_given,
                               .stopped = st->stopped};
}

/* What is held is the longest beginning of a stop text at the end of all text so far, so the beginnings of the others are ends
 * of it: running the automata over it brings all of them to where they were. */
graft_status text_resume(struct text *st, const struct text_state *state, graft_error *error)
{
    size_t longest = 0;
    bool complete = false;
    for (size_t k = 0; k < st->n_stops; k++) {
        struct stop *stop = &st->stops[k];
        stop->matched = 0;
        for (size_t i = 0; i < state->n_held && !complete; i++) {
            complete = stop_step(stop, state->held[i]);
        }
        longest = stop->matched > longest ? stop->matched : longest;
    }
    if (complete || longest != state->n_held || state->n_given > state->n_held ||
        !detokenizer_is_sound(&state->detokenizer)) {
        return error_set(error, GRAFT_FORMAT, "the text that it holds back cannot be so");
    }
    if (state->n_held > 0) {
        memcpy(st->held, state->held, state->n_held);
    }
    st->detokenizer = state->detokenizer;
    st->n_held = state->n_held;
    st->n_given = state->n_given;
    st->stopped = state->stopped;
    return GRAFT_OK;
}
