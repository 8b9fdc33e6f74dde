/* kept.h: sessions that outlive the command: --session FILE. Private to the command line.
 */
#ifndef GRAFT_CLI_KEPT_H
#define GRAFT_CLI_KEPT_H

#include "conversation.h"

/* An argp child whose input is this. */
struct cli_kept {
    const char *path; /* NULL: nothing is kept */
    bool replay;
    bool cache;    /* the tokens alone are wanted: settings are those that were typed */
    bool restored; /* set by kept_open: there was a session in the file */
};
extern const struct argp cli_kept_argp;

/* cli_open_session, or the session in the file if it is there: with its own sampling, overlaid by what was typed, which
 * *sampling then has; its stop texts and cache types are those that it was begun with. As a cache, with what was typed. */
int kept_open(struct cli_session *s, struct cli_kept *kept, const struct cli_common *common,
              struct cli_sampling *sampling);
/* Saves it with the conversation (NULL: without). The answer in hand is over then. */
int kept_save(struct cli_session *s, const struct conversation *c, const char *path);
/* The conversation of a session that was opened, with the system prompt that was typed (may be NULL) where it has only begun. */
int kept_conversation(const struct cli_session *s, const struct cli_kept *kept,
                      const char *system_prompt, struct conversation *out);

#endif
