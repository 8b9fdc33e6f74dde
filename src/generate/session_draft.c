/* session_draft.c: a session's guesses: asked for before a pass, counted after it. */
#include "generate/generate_internal.h"

void session_close_draft(struct graft_session *s)
{
    if (s->drafter != NULL) {
        drafter_follow(s->drafter, s->line.tokens, s->line.n_tokens);
    }
    drafter_close(&s->drafter);
    speculation_close(&s->speculation);
    s->passes = s->guessed_tokens = 0;
}

graft_status session_set_draft(struct graft_session *s, const struct model *draft,
                               const graft_draft_options *options, graft_error *error)
{
    struct speculation *speculation = NULL;
    struct drafter *drafter = NULL;
    if (s->sampler == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the model is a classifier: it generates no text");
    }
    if (options != NULL) {
        graft_status status = speculation_open(s->model, draft, options, &speculation, error);
        if (status == GRAFT_OK) {
            status = speculation_join(speculation, &s->line, &drafter, error);
        }
        if (status != GRAFT_OK) {
            speculation_close(&speculation);
            return status;
        }
    }
    session_close_draft(s);
    s->speculation = speculation;
    s->drafter = drafter;
    return GRAFT_OK;
}

void session_guess(struct graft_session *s)
{
    if (s->drafter == NULL) {
        return;
    }
    struct guess guess = {&s->line, s->drafter, s->chunk - 1};
    graft_error error = {0};
    /* What goes wrong is in the log; there are no guesses then. */
    (void)speculation_guess(s->speculation, &guess, 1, 1, 1, &error);
}

void session_verified(struct graft_session *s, double seconds)
{
    const struct timeline *t = &s->line;
    if (t->planned_tokens == 1 && t->roles[t->n_tokens - 1] == ROLE_DECODE) {
        speculation_learn(s->speculation, 1 + t->planned_drafts, seconds);
    }
    speculation_verified(s->speculation, t, s->drafter);
    s->passes++;
    s->guessed_tokens += (uint64_t)t->n_ahead;
}

void session_draft_info(const struct graft_session *s, graft_draft_info *out)
{
    *out = (graft_draft_info){.passes = s->passes, .tokens = s->guessed_tokens};
    if (s->drafter != NULL) {
        speculation_count(s->drafter, out);
    }
}
