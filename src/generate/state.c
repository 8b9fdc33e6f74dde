/* state.c: another session that is where a session is: forks; and the note that goes along.
 *
 * A fork opens a session with the same settings in the same pool, shares the blocks and goes on from the same place in the
 * text. Logits are not taken along: whoever goes on first computes the last token again, which has the same bits.
 */
#include "generate/state.h"
#include "generate/generate_internal.h"

/* ---- settings ---- */

static graft_kv_type public_type(enum kv_type type)
{
    return type == KV_F32 ? GRAFT_KV_F32 : type == KV_Q8 ? GRAFT_KV_Q8 : GRAFT_KV_F16;
}

graft_session_options session_settings(const struct graft_session *s, const char *stops[STOPS_MAX])
{
    const struct timeline *t = &s->line;
    for (size_t i = 0; i < t->text.n_stops; i++) {
        stops[i] = t->text.stops[i].text;
    }
    return (graft_session_options){.struct_size = sizeof(graft_session_options),
                                   .sampling = t->sampling,
                                   .n_ctx = (int)t->n_ctx,
                                   .cache_k = public_type(s->k_type),
                                   .cache_v = public_type(s->v_type),
                                   .prefill_chunk = s->chunk,
                                   .stops = stops,
                                   .n_stops = t->text.n_stops,
                                   .stop_ids = t->stop_ids,
                                   .n_stop_ids = t->n_stop_ids,
                                   .ignore_eos = t->ignore_eos,
                                   .show_special = t->text.show_special};
}

/* ---- notes ---- */

graft_status session_set_note(struct graft_session *s, const void *note, size_t size,
                              graft_error *error)
{
    if (size > STATE_NOTE_MAX) {
        return error_set(error, GRAFT_LIMIT, "a note of %zu bytes; it may have %d", size,
                         STATE_NOTE_MAX);
    }
    uint8_t *copy = size > 0 ? mem_alloc(s->mem, size) : NULL;
    if (size > 0 && copy == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a note of %zu bytes", size);
    }
    if (size > 0) {
        memcpy(copy, note, size);
    }
    mem_free(s->mem, s->note);
    s->note = copy;
    s->n_note = size;
    return GRAFT_OK;
}

const void *session_note(const struct graft_session *s, size_t *size)
{
    *size = s->n_note;
    return s->note;
}

/* ---- forks ---- */

graft_status session_fork(const struct graft_session *from, struct graft_session **out,
                          graft_error *error)
{
    const char *stops[STOPS_MAX];
    const graft_session_options settings = session_settings(from, stops);
    struct graft_session *s = NULL;
    graft_status status = session_open_beside(from->model, &settings, from, &s, error);
    if (status == GRAFT_OK) {
        status = session_reserve(s, session_mix(from), error);
    }
    if (status == GRAFT_OK) {
        status = timeline_fork(&s->line, &from->line, error);
    }
    if (status == GRAFT_OK) {
        status = timeline_fork_answer(&s->line, &from->line, error);
    }
    if (status == GRAFT_OK) {
        status = session_set_note(s, from->note, from->n_note, error);
    }
    if (status != GRAFT_OK) {
        session_close(&s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}
