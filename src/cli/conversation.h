/* conversation.h: who said what: messages, rendered by the model's template and fed to a session, and kept in its note. Private to
 * the command line.
 */
#ifndef GRAFT_CLI_CONVERSATION_H
#define GRAFT_CLI_CONVERSATION_H

#include "generate.h"

struct conversation {
    graft_message *messages; /* [n]; role: static text; content: owned */
    size_t n, capacity;
};
void conversation_free(struct conversation *c);
/* Takes over `content`; NULL: no memory. The role must last. */
int conversation_add(struct conversation *c, const char *role, char *content);
void conversation_drop(struct conversation *c,
                       size_t keep);                      /* all messages behind the first `keep` */
size_t conversation_system(const struct conversation *c); /* 1: the first one is the system's */

/* Makes the session hold exactly these ids, reusing the beginning that it has already. */
int conversation_feed_ids(struct cli_session *s, const graft_token_id *ids, size_t n, bool quiet,
                          struct answer *answer);
/* The same with what the template makes of the messages, and an answer to come. */
int conversation_feed(struct cli_session *s, const struct conversation *c, bool quiet,
                      struct answer *answer);

/* As the note of the session, and out of it; a session without a note has no messages. */
int conversation_to_note(const struct conversation *c, graft_session *session);
int conversation_from_note(struct conversation *c, const graft_session *session);
/* Whether a note is of a conversation that has these messages, or begins with them. */
bool conversation_begins_note(const struct conversation *c, const char *note, size_t size);

#endif
