/* session_mix.c: the mix of a session: what steps under it need is reserved first, then it is a pointer. */
#include "generate/generate_internal.h"

graft_status session_reserve(struct graft_session *s, const struct mix *mix, graft_error *error)
{
    graft_status status = timeline_reserve_span(&s->line, error);
    return status == GRAFT_OK ? workspace_reserve(s->workspace, mix_deltas(mix), error) : status;
}

/* The logits in hand are those of the mix before. */
static void rows_changed(struct graft_session *s)
{
    s->logits_row = -1;
    if (s->drafter != NULL) {
        speculation_follow_mix(s->speculation, &s->line, s->drafter);
    }
}

void session_set_mix(struct graft_session *s, struct mix *mix, graft_kv_policy policy)
{
    if (timeline_set_mix(&s->line, mix, policy)) {
        rows_changed(s);
    }
}

struct mix *session_mix(const struct graft_session *s)
{
    return s->line.mix;
}

void session_enable_mix(struct graft_session *s, bool on, graft_kv_policy policy)
{
    if (timeline_enable_mix(&s->line, on, policy)) {
        rows_changed(s);
    }
}

bool session_mix_enabled(const struct graft_session *s)
{
    return !s->line.mix_off;
}
