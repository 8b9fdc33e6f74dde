/* state_record.c: the record of a session's state as bytes, and back.
 *
 * Little-endian, fields in the order of `put_all` and `get_all`, which stand side by side so that they can be compared. A text is
 * its length (u32), its bytes and a 0; a list is its length (u32) and its items. What a file says is believed only after
 * a check; the length of a list only as far as there are bytes for it.
 */
#include "generate/generate_internal.h"
#include "generate/state.h"

/* ---- putting ---- */

static void put(struct buf *out, uint64_t value, int bytes)
{
    uint8_t at[8];
    bytes_put(at, value, bytes);
    buf_append(out, at, (size_t)bytes);
}

static void put_float(struct buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(out, bits, 4);
}

static void put_bytes(struct buf *out, const void *bytes, size_t size)
{
    put(out, size, 4);
    if (size > 0) {
        buf_append(out, bytes, size);
    }
}

/* Cut where it is for people and too long for that. */
static void put_text(struct buf *out, const char *text)
{
    put_bytes(out, text, strnlen(text, STATE_TEXT_MAX));
    put(out, 0, 1);
}

static void put_ids(struct buf *out, const graft_token_id *ids, size_t n)
{
    put(out, n, 4);
    for (size_t i = 0; i < n && out->status == GRAFT_OK; i++) {
        put(out, (uint32_t)ids[i], 4);
    }
}

static void put_sampling(struct buf *out, const graft_sampling *s)
{
    put_float(out, s->temperature);
    put_float(out, s->top_p);
    put_float(out, s->min_p);
    put_float(out, s->repetition_penalty);
    put_float(out, s->presence_penalty);
    put_float(out, s->frequency_penalty);
    put(out, (uint32_t)s->top_k, 4);
    put(out, (uint32_t)s->penalty_window, 4);
    put(out, s->seed, 8);
}

static void put_options(struct buf *out, const graft_session_options *o)
{
    put_sampling(out, &o->sampling);
    put(out, (uint32_t)o->n_ctx, 4);
    put(out, (uint32_t)o->cache_k, 1);
    put(out, (uint32_t)o->cache_v, 1);
    put(out, o->ignore_eos, 1);
    put(out, o->show_special, 1);
    put(out, o->n_stops, 4);
    for (size_t i = 0; i < o->n_stops; i++) {
        put_text(out, o->stops[i]);
    }
    put_ids(out, o->stop_ids, o->n_stop_ids);
}

static void put_answer(struct buf *out, const struct session_state *s)
{
    static const struct text_state NONE = {0};
    const struct text_state *text = s->answering ? &s->text : &NONE;
    put(out, s->answer_begin, 4);
    put(out, (uint32_t)s->finish, 1);
    put(out, s->answering, 1);
    put(out, text->stopped, 1);
    put(out, text->detokenizer.started, 1);
    put_bytes(out, text->detokenizer.held, (size_t)text->detokenizer.n_held);
    put_bytes(out, text->held, text->n_held);
    put(out, text->n_given, 4);
}

static void put_all(struct buf *out, const struct session_state *s)
{
    put_text(out, s->tier);
    put_text(out, s->base);
    put_text(out, s->architecture);
    put_text(out, s->model_path);
    put_text(out, s->adapters);
    buf_append(out, s->arithmetic, sizeof s->arithmetic);
    buf_append(out, s->weights, sizeof s->weights);
    buf_append(out, s->mix, sizeof s->mix);
    put(out, s->mix_off, 1);
    put_options(out, &s->options);
    put_ids(out, s->tokens, s->n_tokens);
    put_bytes(out, s->roles, s->n_tokens);
    put(out, s->n_held, 4);
    put_answer(out, s);
    put_bytes(out, s->note, s->n_note);
}

graft_status state_write(const struct session_state *state, struct buf *out, graft_error *error)
{
    put_all(out, state);
    if (out->status == GRAFT_LIMIT) {
        return error_set(error, GRAFT_LIMIT, "a session of %zu tokens is too long for a file",
                         state->n_tokens);
    }
    return out->status == GRAFT_OK
               ? GRAFT_OK
               : error_set(error, GRAFT_NO_MEMORY, "no memory to save a session of %zu tokens",
                           state->n_tokens);
}

/* ---- getting ---- */

/* The first failure stays: later reads give zeros. */
struct reader {
    const uint8_t *at;
    size_t left;
    struct arena *arena;
    graft_status status;
    graft_error *error;
};

static void refuse(struct reader *r, graft_status status, const char *what)
{
    if (r->status == GRAFT_OK) {
        r->status = error_set(r->error, status, "%s", what);
    }
    r->left = 0;
}

static const uint8_t *take(struct reader *r, size_t size)
{
    if (r->status != GRAFT_OK || size > r->left) {
        refuse(r, GRAFT_FORMAT, "its record ends in the midst of something");
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += size;
    r->left -= size;
    return at;
}

static uint64_t get(struct reader *r, int bytes)
{
    const uint8_t *at = take(r, (size_t)bytes);
    return at != NULL ? bytes_get(at, bytes) : 0;
}

/* At most `most`, or it is refused as `what`. */
static uint32_t get_up_to(struct reader *r, int bytes, uint32_t most, const char *what)
{
    uint32_t value = (uint32_t)get(r, bytes);
    if (value > most) {
        refuse(r, GRAFT_FORMAT, what);
        return 0;
    }
    return value;
}

static bool get_bool(struct reader *r)
{
    return get_up_to(r, 1, 1, "a yes or no in it is neither") == 1;
}

static float get_float(struct reader *r)
{
    uint32_t bits = (uint32_t)get(r, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const uint8_t *get_bytes(struct reader *r, size_t most, size_t *size, const char *what)
{
    *size = get_up_to(r, 4, (uint32_t)most, what);
    const uint8_t *bytes = take(r, *size);
    *size = bytes != NULL ? *size : 0;
    return bytes;
}

static const char *get_text(struct reader *r)
{
    size_t size;
    const uint8_t *text = get_bytes(r, STATE_TEXT_MAX, &size, "a text in it is too long");
    if (get(r, 1) != 0 || text == NULL || memchr(text, 0, size) != NULL) {
        refuse(r, GRAFT_FORMAT, "a text in it has no end");
        return "";
    }
    return (const char *)text;
}

static graft_token_id *get_ids(struct reader *r, size_t most, size_t *n, const char *what)
{
    *n = get_up_to(r, 4, (uint32_t)most, what);
    const uint8_t *at = take(r, *n * sizeof(graft_token_id));
    graft_token_id *ids = at != NULL ? arena_alloc(r->arena, *n * sizeof *ids) : NULL;
    if (at != NULL && ids == NULL) {
        refuse(r, GRAFT_NO_MEMORY, "no memory for the tokens of a saved session");
    }
    *n = ids != NULL ? *n : 0;
    for (size_t i = 0; i < *n; i++, at += 4) {
        uint32_t id = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        if (id > INT32_MAX) {
            refuse(r, GRAFT_FORMAT, what);
        }
        ids[i] = (graft_token_id)(id & INT32_MAX);
    }
    return ids;
}

static void get_sampling(struct reader *r, graft_sampling *s)
{
    *s = (graft_sampling){.struct_size = sizeof *s};
    s->temperature = get_float(r);
    s->top_p = get_float(r);
    s->min_p = get_float(r);
    s->repetition_penalty = get_float(r);
    s->presence_penalty = get_float(r);
    s->frequency_penalty = get_float(r);
    s->top_k = (int)get_up_to(r, 4, INT32_MAX, "its top_k is negative");
    s->penalty_window = (int)get_up_to(r, 4, INT32_MAX, "its penalty_window is negative");
    s->seed = get(r, 8);
    if (r->status == GRAFT_OK && sampling_check(s, NULL) != GRAFT_OK) {
        refuse(r, GRAFT_FORMAT, "its sampling is out of range");
    }
}

static void get_options(struct reader *r, graft_session_options *o)
{
    *o = (graft_session_options){.struct_size = sizeof *o};
    get_sampling(r, &o->sampling);
    o->n_ctx = (int)get_up_to(r, 4, CONTEXT_MAX, "its context is out of range");
    if (o->n_ctx == 0) {
        refuse(r, GRAFT_FORMAT, "its context is out of range");
    }
    o->cache_k = (graft_kv_type)get_up_to(r, 1, GRAFT_KV_Q8, "its cache is of no known type");
    o->cache_v = (graft_kv_type)get_up_to(r, 1, GRAFT_KV_Q8, "its cache is of no known type");
    o->ignore_eos = get_bool(r);
    o->show_special = get_bool(r);
    o->n_stops = get_up_to(r, 4, STOPS_MAX, "it has too many stop texts");
    const char **stops = arena_alloc(r->arena, (o->n_stops + 1) * sizeof *stops);
    if (stops == NULL) {
        refuse(r, GRAFT_NO_MEMORY, "no memory for the stop texts of a saved session");
        o->n_stops = 0;
    }
    for (size_t i = 0; i < o->n_stops; i++) {
        stops[i] = get_text(r);
    }
    o->stops = stops;
    o->stop_ids = get_ids(r, STATE_STOP_IDS_MAX, &o->n_stop_ids, "a stop token in it is none");
}

/* The text in hand is checked against the stop texts by whoever goes on with it. */
static void get_answer(struct reader *r, struct session_state *s)
{
    struct text_state *text = &s->text;
    s->answer_begin =
        get_up_to(r, 4, (uint32_t)s->n_tokens, "its answer begins behind its last token");
    s->finish = (graft_finish)get_up_to(r, 1, GRAFT_FINISH_CANCELLED, "its answer has no such end");
    s->answering = get_bool(r);
    text->stopped = get_bool(r);
    text->detokenizer.started = get_bool(r);
    size_t n;
    const uint8_t *bytes = get_bytes(r, 3, &n, "its unfinished character is too long");
    if (bytes != NULL) {
        memcpy(text->detokenizer.held, bytes, n);
        text->detokenizer.n_held = (int)n;
    }
    text->held =
        (const char *)get_bytes(r, STOP_MAX_BYTES, &text->n_held, "the text it holds is too long");
    text->n_given = get_up_to(r, 4, (uint32_t)text->n_held, "it gave more text than it holds");
    if (!s->answering &&
        (text->stopped || text->detokenizer.started || n > 0 || text->n_held > 0)) {
        refuse(r, GRAFT_FORMAT, "it holds text of no answer");
    }
}

static void get_roles(struct reader *r, struct session_state *s)
{
    size_t n;
    s->roles = get_bytes(r, s->n_tokens, &n, "it has more roles than tokens");
    if (n != s->n_tokens) {
        refuse(r, GRAFT_FORMAT, "it has fewer roles than tokens");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (s->roles[i] >= ROLE_COUNT) {
            refuse(r, GRAFT_FORMAT, "a token in it has no such role");
        }
    }
}

static void get_digest(struct reader *r, uint8_t out[32])
{
    const uint8_t *at = take(r, 32);
    if (at != NULL) {
        memcpy(out, at, 32);
    }
}

static void get_all(struct reader *r, struct session_state *s)
{
    s->tier = get_text(r);
    s->base = get_text(r);
    s->architecture = get_text(r);
    s->model_path = get_text(r);
    s->adapters = get_text(r);
    get_digest(r, s->arithmetic);
    get_digest(r, s->weights);
    get_digest(r, s->mix);
    s->mix_off = get_bool(r);
    get_options(r, &s->options);
    s->tokens = get_ids(r, (size_t)s->options.n_ctx, &s->n_tokens, "a token in it is none");
    get_roles(r, s);
    s->n_held = get_up_to(r, 4, (uint32_t)s->n_tokens, "its cache holds more than its tokens");
    get_answer(r, s);
    s->note = get_bytes(r, STATE_NOTE_MAX, &s->n_note, "its note is too long");
    if (r->left > 0) {
        refuse(r, GRAFT_FORMAT, "its record goes on behind its end");
    }
}

graft_status state_parse(const uint8_t *bytes, size_t size, struct arena *arena,
                         struct session_state *out, graft_error *error)
{
    struct session_state state = {0};
    struct reader r = {.at = bytes, .left = size, .arena = arena, .error = error};
    get_all(&r, &state);
    if (r.status == GRAFT_OK) {
        *out = state;
    }
    return r.status;
}
