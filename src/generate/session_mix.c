/* session_mix.c: the mix of a session, and what becomes of its cache when that changes.
 *
 * A swap is a pointer: nothing is copied, packed or computed, and what steps need is reserved before it. Under
 * REPLAY the timeline becomes one prompt again, so that what follows is what a session would say that had the new
 * mix from its first token.
 */
#include "generate/generate_internal.h"

const struct delta_set *session_deltas(const struct graft_session *s)
{
    return s->mix != NULL && !s->mix_off ? mix_deltas(s->mix) : NULL;
}

/* After the deltas of the rows to come have changed. The logits in hand are those of the mix before. */
static void rows_changed(struct graft_session *s, graft_kv_policy policy)
{
    if (policy == GRAFT_KV_REPLAY) {
        kv_seq_trim(s->seq, 0);
        memset(s->roles, ROLE_PREFILL, s->n_tokens);
    }
    s->logits_row = -1;
}

graft_status session_reserve(struct graft_session *s, const struct mix *mix, graft_error *error)
{
    return workspace_reserve(s->workspace, mix != NULL ? mix_deltas(mix) : NULL, error);
}

/* Of what rows bring along. */
static const uint8_t *digest_in_force(const struct graft_session *s)
{
    return mix_digest(s->mix_off ? NULL : s->mix);
}

/* By content: whether an adapter was closed and opened again meanwhile must not be heard. */
void session_set_mix(struct graft_session *s, struct mix *mix, graft_kv_policy policy)
{
    const uint8_t *before = digest_in_force(s);
    struct mix *old = s->mix;
    s->mix = mix_acquire(mix);
    if (memcmp(digest_in_force(s), before, 32) != 0) {
        rows_changed(s, policy);
    }
    mix_release(&old);
}

struct mix *session_mix(const struct graft_session *s)
{
    return s->mix;
}

void session_enable_mix(struct graft_session *s, bool on, graft_kv_policy policy)
{
    const struct delta_set *before = session_deltas(s);
    s->mix_off = !on;
    if (session_deltas(s) != before) {
        rows_changed(s, policy);
    }
}

bool session_mix_enabled(const struct graft_session *s)
{
    return !s->mix_off;
}
