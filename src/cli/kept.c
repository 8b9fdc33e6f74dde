/* kept.c: `--session FILE`: a session that is restored if it is there, and saved at the end. */
#include "kept.h"

enum { KEY_SESSION = 0x700, KEY_REPLAY };

static error_t parse_kept(int key, char *arg, struct argp_state *state)
{
    struct cli_kept *k = state->input;
    switch (key) {
    case KEY_SESSION:
        k->path = cli_parse_name(state, "--session", arg);
        return 0;
    case KEY_REPLAY:
        k->replay = true;
        return 0;
    case ARGP_KEY_END:
        if (k->replay && k->path == NULL) {
            argp_error(state, "--session-replay needs --session");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option kept_options[] = {
    {"session", KEY_SESSION, "FILE", 0,
     "Go on with the session in FILE, if it is there, and save it there at the end", 1},
    {"session-replay", KEY_REPLAY, NULL, 0,
     "Compute the session again where other adapters or another processor tier computed it", 1},
    {0},
};
const struct argp cli_kept_argp = {.options = kept_options, .parser = parse_kept};

/* ---- opening ---- */

static graft_status restore(struct cli_session *s, const struct cli_kept *kept, bool routed,
                            struct cli_sampling *sampling, graft_error *error)
{
    graft_restore_options o = graft_restore_options_default();
    o.n_ctx = sampling->session.n_ctx;
    o.replay = kept->replay || routed; /* what is routed is replayed anyway */
    if (kept->cache) {
        sampling->session.sampling = cli_sampling_of(s->model, sampling);
        o.settings = &sampling->session;
    }
    graft_status status = graft_session_restore(s->model, kept->path, &o, &s->session, error);
    if (status != GRAFT_OK) {
        return status;
    }
    graft_sampling now = graft_session_sampling(s->session);
    cli_overlay_sampling(&now, sampling);
    sampling->session.sampling = now;
    sampling->seed = now.seed;
    return graft_session_set_sampling(s->session, &now, error);
}

int kept_open(struct cli_session *s, struct cli_kept *kept, const struct cli_common *common,
              struct cli_sampling *sampling)
{
    graft_error error = {0};
    if (kept->path == NULL || !path_exists(kept->path)) {
        return cli_open_session(s, sampling);
    }
    graft_status status = restore(s, kept, common->adapters.automatic.on, sampling, &error);
    if (status != GRAFT_OK) {
        bool fits = status != GRAFT_STATE || kept->replay;
        return cli_fail_hint(
            &error,
            fits ? NULL : "give the same -m and -a, or --session-replay to compute it again");
    }
    kept->restored = true;
    return cli_equip_session(s, sampling);
}

int kept_conversation(const struct cli_session *s, const struct cli_kept *kept,
                      const char *system_prompt, struct conversation *out)
{
    int status = kept->restored ? conversation_from_note(out, s->session) : CLI_OK;
    if (status == CLI_OK && system_prompt != NULL && out->n > 0) {
        return cli_fail_text("the conversation in %s has begun: it keeps its system prompt",
                             kept->path);
    }
    if (status == CLI_OK && system_prompt != NULL) {
        status = conversation_add(out, "system", mem_strdup(NULL, system_prompt));
    }
    return status;
}

/* ---- saving ---- */

int kept_save(struct cli_session *s, const struct conversation *c, const char *path)
{
    graft_error error = {0};
    int status = c != NULL ? conversation_to_note(c, s->session) : CLI_OK;
    if (status != CLI_OK) {
        return status;
    }
    graft_session_resume(s->session);
    return graft_session_save(s->session, path, &error) == GRAFT_OK ? CLI_OK : cli_fail(&error);
}
