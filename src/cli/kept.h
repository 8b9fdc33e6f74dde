/* kept.h: sessions that outlive the command: --session FILE, /save, --prompt-cache FILE. Private to the command line.
 */
#ifndef GRAFT_CLI_KEPT_H
#define GRAFT_CLI_KEPT_H

#include "conversation.h"
#include "kept_file.h"

/* An argp child whose input is this. */
struct cli_kept {
    const char *path; /* NULL: nothing is kept */
    bool replay;
    enum kept_kind use; /* TALK, TEXT or CACHE: set before kept_open */
    bool restored;      /* set by kept_open: there was a session in the file */
    struct kept_mark
        *ours; /* [n_ours] of the files that were read or written, as they were then; kept_close */
    size_t n_ours;
    char *elsewhere; /* what `path` became when somebody else had changed the file; kept_close */
};
extern const struct argp cli_kept_argp;
/* Before the options are parsed: what is typed can then be told from what is not. */
void kept_sampling_init(struct cli_sampling *sampling);

/* cli_open_session, or the session in the file if it is there: with its own settings, overlaid by what was typed, whose
 * sampling *sampling then has. As a cache, the tokens alone; what does not fit is warned of and computed again. A file that
 * is something else, or cannot be written at the end, is refused now. */
int kept_open(struct cli_session *s, struct cli_kept *kept, const struct cli_common *common,
              struct cli_sampling *sampling);
/* At the end: saves it with the conversation (NULL: without). The answer in hand is over then. A file that somebody else has
 * changed since is left: unless it has all that was said, the session goes to one beside it, which is said, and a failure. (A
 * cache goes nowhere.) */
int kept_save(struct cli_session *s, const struct conversation *c, struct cli_kept *kept);
/* In between, to this file or another one: what does not fail was written. One that is there is replaced if it is this session's
 * own, or with `replace` any saved session, and refused if it is none. `path` may be kept->path. */
int kept_save_to(struct cli_session *s, const struct conversation *c, struct cli_kept *kept,
                 const char *path, bool replace);
void kept_close(struct cli_kept *kept);
/* The conversation of a session that was opened, with the system prompt that was typed (may be NULL) where it has only begun. */
int kept_conversation(const struct cli_session *s, const struct cli_kept *kept,
                      const char *system_prompt, struct conversation *out);

#endif
