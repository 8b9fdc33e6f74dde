/* kept.c: `--session FILE`: a session that is restored if it is there, and saved at the end; `--prompt-cache FILE`, where the
 * tokens alone are wanted. What the files are, and who else has them, is in kept_file.c.
 */
#include "kept.h"

enum { KEY_SESSION = 0x700, KEY_REPLAY };
enum { CONTEXT_DEFAULT = 4096, CONTEXT_MOST = 1 << 24 }; /* as `-c` says it */

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
     "Go on with the session in FILE, if it is there, and save it there at the end. It keeps its "
     "settings but for what is typed; a system prompt, and other types of the cache, it refuses",
     1},
    {"session-replay", KEY_REPLAY, NULL, 0,
     "Compute the session again where other adapters, types of the cache or other kernels computed "
     "it",
     1},
    {0},
};
const struct argp cli_kept_argp = {.options = kept_options, .parser = parse_kept};

/* ---- what was typed ---- */

/* No type of a cache: none was typed. */
static const graft_kv_type NOT_TYPED = (graft_kv_type)-1;

void kept_sampling_init(struct cli_sampling *sampling)
{
    cli_sampling_init(sampling);
    sampling->session.cache_k = sampling->session.cache_v = NOT_TYPED;
}

static void settle_types(graft_session_options *o, const graft_session_options *otherwise)
{
    o->cache_k = o->cache_k == NOT_TYPED ? otherwise->cache_k : o->cache_k;
    o->cache_v = o->cache_v == NOT_TYPED ? otherwise->cache_v : o->cache_v;
}

/* The settings of a file, overlaid by what was typed. Its context is taken as if it had been typed as well: -c can ask for as
 * much, and until it is used a position costs a few bytes. */
static graft_session_options overlaid(const graft_session_options *saved,
                                      const struct cli_sampling *sampling)
{
    const graft_session_options *typed = &sampling->session;
    graft_session_options o = *typed;
    settle_types(&o, saved);
    o.sampling = saved->sampling;
    cli_overlay_sampling(&o.sampling, sampling);
    o.n_ctx = typed->n_ctx > 0 ? typed->n_ctx : saved->n_ctx <= CONTEXT_MOST ? saved->n_ctx : 0;
    o.stops = typed->n_stops > 0 ? typed->stops : saved->stops;
    o.n_stops = typed->n_stops > 0 ? typed->n_stops : saved->n_stops;
    o.stop_ids = saved->stop_ids;
    o.n_stop_ids = saved->n_stop_ids;
    o.ignore_eos = typed->ignore_eos || saved->ignore_eos;
    o.show_special = typed->show_special || saved->show_special;
    return o;
}

/* What the session without the cache would have. */
static int settings_of_cache(const struct cli_session *s, struct cli_sampling *sampling,
                             graft_session_options *out)
{
    graft_error error = {0};
    graft_model_info info;
    if (graft_model_describe(s->model, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    *out = sampling->session;
    out->sampling = cli_sampling_of(s->model, sampling);
    if (out->n_ctx == 0) {
        out->n_ctx = info.n_ctx < CONTEXT_DEFAULT ? info.n_ctx : CONTEXT_DEFAULT;
    }
    return CLI_OK;
}

/* ---- whose a file is ---- */

/* Whether this command has read or written the file, and nobody replaced it since. */
static bool is_ours(const struct cli_kept *kept, const struct kept_mark *mark)
{
    bool ours = false;
    for (size_t i = 0; mark->there && i < kept->n_ours; i++) {
        ours = ours || kept_same(&kept->ours[i], mark);
    }
    return ours;
}

/* Room for the next one that is read or written: what it was before stays ours, which may have a second name. */
static int reserve_ours(struct cli_kept *kept)
{
    struct kept_mark *grown = mem_resize(NULL, kept->ours, (kept->n_ours + 1) * sizeof *kept->ours);
    if (grown == NULL) {
        return cli_fail_text("out of memory");
    }
    kept->ours = grown;
    return CLI_OK;
}

/* ---- opening ---- */

/* What a file is where another kind was asked for: a line that says what to do; NULL: it is what was asked for, or the
 * library knows best what is wrong with it. */
static const char *mistaken(enum kept_kind wanted, enum kept_kind found)
{
    if (wanted == KEPT_CACHE) {
        return found == KEPT_TALK    ? "it is a conversation, not a prompt cache: give another file"
               : found == KEPT_TEXT  ? "it is a session, not a prompt cache: give another file"
               : found == KEPT_OTHER ? "it is no prompt cache: give another file"
                                     : NULL;
    }
    if (found == KEPT_CACHE) {
        return "it is a prompt cache, not a session: give it to --prompt-cache, or give another "
               "file";
    }
    if (wanted == KEPT_TALK && found == KEPT_TEXT) {
        return "it is a text, not a conversation: `graft run --raw` goes on with it";
    }
    return wanted == KEPT_TEXT && found == KEPT_TALK
               ? "it is a conversation, not a text: it goes on without --raw"
               : NULL;
}

static graft_status restore(struct cli_session *s, const struct cli_kept *kept, bool routed,
                            const graft_session_options *settings, graft_error *error)
{
    graft_restore_options o = graft_restore_options_default();
    o.settings = settings;
    o.replay = kept->replay || routed; /* what is routed is replayed anyway */
    return graft_session_restore(s->model, kept->path, &o, &s->session, error);
}

/* What was not restored: of a cache, which is nothing but a cache, it is warned. */
static int without(struct cli_session *s, const struct cli_kept *kept,
                   struct cli_sampling *sampling, bool same_types, const graft_error *error)
{
    graft_status why = error->status;
    bool spoilt = why == GRAFT_FORMAT || why == GRAFT_STATE || why == GRAFT_LIMIT;
    if (kept->use == KEPT_CACHE && spoilt) {
        cli_warn_hint(error, "the prompt is computed again, and the file replaced");
        return cli_open_session(s, sampling);
    }
    const char *hint = same_types
                           ? "give the same -m and -a, or --session-replay to compute it again"
                           : "leave --cache-type out, or give --session-replay to compute it again";
    return cli_fail_hint(error, why == GRAFT_STATE && !kept->replay ? hint : NULL);
}

/* The session in the file, which is none of something else. `file`: NULL where it is damaged. */
static int open_there(struct cli_session *s, struct cli_kept *kept, const graft_session_file *file,
                      bool routed, struct cli_sampling *sampling)
{
    graft_error error = {0};
    graft_session_options settings = sampling->session;
    const graft_session_options *saved = graft_session_file_options(file);
    int status = CLI_OK;
    if (kept->use == KEPT_CACHE) {
        status = settings_of_cache(s, sampling, &settings);
    } else if (saved != NULL) {
        settings = overlaid(saved, sampling);
    }
    if (status != CLI_OK) {
        return status;
    }
    if (restore(s, kept, routed, &settings, &error) != GRAFT_OK) {
        bool same_types = saved == NULL || (settings.cache_k == saved->cache_k &&
                                            settings.cache_v == saved->cache_v);
        return without(s, kept, sampling, same_types, &error);
    }
    kept->restored = true;
    sampling->session.sampling = settings.sampling;
    sampling->seed = settings.sampling.seed;
    return cli_equip_session(s, sampling);
}

int kept_open(struct cli_session *s, struct cli_kept *kept, const struct cli_common *common,
              struct cli_sampling *sampling)
{
    const graft_session_options defaults = graft_session_options_default();
    graft_session_file *file = NULL;
    enum kept_kind found = KEPT_NOTHING;
    int status = CLI_OK;
    if (kept->path != NULL) {
        if (reserve_ours(kept) != CLI_OK) {
            return CLI_FAILED;
        }
        kept->ours[kept->n_ours++] = kept_look(kept->path);
        status = kept_kind(s->runtime, kept->path, &found, &file);
    }
    const char *mistake = mistaken(kept->use, found);
    if (status == CLI_OK && mistake != NULL) {
        status = cli_fail_text("%s: %s", kept->path, mistake);
    }
    if (status == CLI_OK && kept->path != NULL) {
        status = kept_try(kept->path);
    }
    if (found == KEPT_NOTHING || kept->use == KEPT_CACHE) {
        settle_types(&sampling->session, &defaults);
    }
    if (status == CLI_OK) {
        status = found == KEPT_NOTHING
                     ? cli_open_session(s, sampling)
                     : open_there(s, kept, file, common->adapters.automatic.on, sampling);
    }
    graft_session_file_close(&file);
    return status;
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

/* The note that the file shall have. A text goes on with every answer. */
static int take_note(struct cli_session *s, const struct conversation *c,
                     const struct cli_kept *kept)
{
    graft_error error = {0};
    if (c != NULL) {
        return conversation_to_note(c, s->session);
    }
    return kept->use != KEPT_CACHE ||
                   graft_session_set_note(s->session, KEPT_CACHE_NOTE, strlen(KEPT_CACHE_NOTE),
                                          &error) == GRAFT_OK
               ? CLI_OK
               : cli_fail(&error);
}

static int write_file(struct cli_session *s, struct cli_kept *kept, const char *path)
{
    graft_error error = {0};
    int status = reserve_ours(kept);
    if (status != CLI_OK) {
        return status;
    }
    graft_session_resume(s->session);
    if (graft_session_save(s->session, path, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    kept->ours[kept->n_ours++] = kept_look(path);
    return CLI_OK;
}

/* "talk.session.2" or the next that is free; NULL: no memory. */
static char *free_name(const char *path)
{
    char *name = NULL;
    for (int i = 2; name == NULL || path_exists(name); i++) {
        struct buf text;
        mem_free(NULL, name);
        buf_init(&text, NULL, CLI_WORD * 2);
        buf_printf(&text, "%s.%d", path, i);
        name = buf_take(&text, NULL);
        if (name == NULL) {
            return NULL;
        }
    }
    return name;
}

static int save_elsewhere(struct cli_session *s, struct cli_kept *kept)
{
    char *name = free_name(kept->path);
    int status = name != NULL ? write_file(s, kept, name) : cli_fail_text("out of memory");
    if (status != CLI_OK) {
        mem_free(NULL, name);
        return status;
    }
    cli_fail_text("%s was changed by another program meanwhile and is left as it is: this session "
                  "is in %s",
                  kept->path, name);
    mem_free(NULL, kept->elsewhere);
    kept->path = kept->elsewhere = name;
    return CLI_FAILED;
}

/* Whether the file, which is somebody else's now, has all that was said here: what a program wrote that went on from the same
 * session in which nothing was said here. */
static bool has_all(const struct cli_session *s, const struct conversation *c, const char *path)
{
    size_t size;
    graft_session_file *file = NULL;
    bool has = c != NULL && graft_session_file_open(s->runtime, path, &file, NULL) == GRAFT_OK;
    if (has) {
        const char *note = graft_session_file_note(file, &size);
        has = conversation_begins_note(c, note, size);
    }
    graft_session_file_close(&file);
    return has;
}

int kept_save(struct cli_session *s, const struct conversation *c, struct cli_kept *kept)
{
    int status = take_note(s, c, kept);
    if (status != CLI_OK) {
        return status;
    }
    int lock = kept_lock(kept->path);
    struct kept_mark now = kept_look(kept->path);
    if (!now.there || is_ours(kept, &now)) {
        status = write_file(s, kept, kept->path);
    } else if (kept->use != KEPT_CACHE && !has_all(s, c, kept->path)) {
        status = save_elsewhere(s, kept);
    }
    kept_unlock(lock);
    return status;
}

/* What is at `path` may go, which is somebody else's. */
static int may_replace(const struct cli_session *s, const char *path, bool replace)
{
    enum kept_kind kind;
    int status = kept_kind(s->runtime, path, &kind, NULL);
    if (status != CLI_OK || kind == KEPT_NOTHING) {
        return status;
    }
    if (kind == KEPT_OTHER || kind == KEPT_DAMAGED) {
        return cli_fail_text("%s is there and is no saved session: give another file", path);
    }
    return replace ? CLI_OK
                   : cli_fail_text("%s is there and is another session: give another file, or "
                                   "`/save! %s` to replace it",
                                   path, path);
}

int kept_save_to(struct cli_session *s, const struct conversation *c, struct cli_kept *kept,
                 const char *path, bool replace)
{
    int status = take_note(s, c, kept);
    if (status != CLI_OK) {
        return status;
    }
    int lock = kept_lock(path);
    struct kept_mark now = kept_look(path);
    bool others = now.there && !is_ours(kept, &now);
    if (others && !replace && kept->path != NULL && kept_one_path(path, kept->path)) {
        status = save_elsewhere(s, kept);
    } else {
        status = others ? may_replace(s, path, replace) : CLI_OK;
        status = status == CLI_OK ? write_file(s, kept, path) : status;
    }
    kept_unlock(lock);
    return status;
}

void kept_close(struct cli_kept *kept)
{
    mem_free(NULL, kept->ours);
    mem_free(NULL, kept->elsewhere);
    kept->ours = NULL;
    kept->elsewhere = NULL;
    kept->n_ours = 0;
}
