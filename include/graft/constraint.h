/* graft/constraint.h: answers that are held to a grammar or to a JSON schema.
 *
 * A constraint is compiled once, from GBNF or from a JSON schema, and says at every step which tokens of a model may come
 * next, by the bytes that they stand for; the end of an answer is allowed only where the text is complete. So what a
 * session generates under it is always the beginning of a text that the grammar allows, and the whole of one when
 * the answer ends with GRAFT_FINISH_EOS. When the context nears its end, what could not be completed any more is not begun, so
 * that an answer is whole unless max_tokens or a stop text cut it off, or there was too little room from the beginning.
 * docs/constrained-output.md says what of GBNF and of JSON Schema there is, and what the bounds are.
 *
 * A constraint is immutable and may be used by any number of sessions, and of streams of engines (graft_request.constraint),
 * on any threads. Close it before its model; sessions and streams keep what they need.
 */
#ifndef GRAFT_PUBLIC_CONSTRAINT_H
#define GRAFT_PUBLIC_CONSTRAINT_H

#include <graft/model.h>
#include <graft/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_constraint graft_constraint;

/* Compiles size bytes of GBNF, of which the rule `root` is the answer. FORMAT: it is wrong, with line and column, or a
 * rule is left-recursive, without end or not there, by name. LIMIT: it is too large. UNSUPPORTED: the model has no tokenizer, or
 * one whose tokens have no text of their own. The first constraint of a model costs some 0.1 s for a vocabulary of 150,000. */
GRAFT_API graft_status graft_constraint_from_gbnf(const graft_model *model, const char *text,
                                                  size_t size, graft_constraint **out,
                                                  graft_error *error);
/* The same from a JSON schema: answers are JSON that it describes. FORMAT also: no value satisfies it. UNSUPPORTED also: a
 * keyword that cannot be held to, by name and place; none but annotations is passed over. */
GRAFT_API graft_status graft_constraint_from_schema(const graft_model *model, const char *json,
                                                    size_t size, graft_constraint **out,
                                                    graft_error *error);
GRAFT_API void graft_constraint_close(graft_constraint **constraint);

/* Holds the answers of a session, from the next token on, to a constraint of its model; NULL: to nothing. An answer that was
 * going on is over. Every answer begins anew: after graft_session_prompt and graft_session_resume; after
 * graft_session_trim what is left of the answer counts. An end token ends such an answer also with ignore_eos. This call takes
 * the memory (some MB), steps allocate nothing. Where the grammar is too ambiguous to follow a step fails with
 * GRAFT_LIMIT, where the vocabulary has no token that it allows with GRAFT_UNSUPPORTED. INVALID_ARGUMENT: the constraint is of another
 * model. */
GRAFT_API graft_status graft_session_set_constraint(graft_session *session,
                                                    const graft_constraint *constraint,
                                                    graft_error *error);

/* Brings answers under a constraint to their end within max_tokens tokens, the end token included; 0 (as at the beginning):
 * within the context. It stops nothing by itself: where the shortest way to an end is longer, the answer takes it and goes on. */
GRAFT_API graft_status graft_session_set_answer_limit(graft_session *session, size_t max_tokens,
                                                      graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
