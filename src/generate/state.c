/* state.c: another session that is where a session is: forks.
 *
 * A fork opens a session with the same settings in the same pool, shares the blocks and goes on from the same place in the
 * text. Logits are not taken along: whoever goes on first computes the last token again, which has the same bits.
 */
#include "generate/generate_internal.h"

/* ---- settings ---- */

static graft_kv_type public_type(enum kv_type type)
{
    return type == KV_F32 ? GRAFT_KV_F32 : type == KV_Q8 ? GRAFT_KV_Q8 : GRAFT_KV_F16;
}

/* What a session would be opened with to be like this one; `stops` has room for all, strings are borrowed. */
static graft_session_options settings_of(const struct graft_session *s,
                                         const char *stops[STOPS_MAX])
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

/* ---- forks ---- */

graft_status session_fork(const struct graft_session *from, struct graft_session **out,
                          graft_error *error)
{
    const char *stops[STOPS_MAX];
    const graft_session_options settings = settings_of(from, stops);
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
    if (status != GRAFT_OK) {
        session_close(&s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}
