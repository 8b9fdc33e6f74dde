/* constraint.h: text that is held to a grammar, as masks over the tokens that may come next.
 *
 * A grammar is what GBNF text or a JSON schema compiles to: an automaton over bytes with calls, so that it
 * may recurse. A matcher is a position in one, for one vocabulary. Both are bounded: compiling by the size
 * of the text and by limits on rules and states, a matcher by memory that is taken when it opens and by a
 * depth of nesting; paths that could not end within that depth are never begun, so that a text that is
 * allowed so far can always be finished.
 *
 * Grammars are immutable, reference counted and for any thread; a matcher belongs to one thread at a time.
 */
#ifndef GRAFT_CONSTRAINT_INNER_H
#define GRAFT_CONSTRAINT_INNER_H

#include "base/base.h"
#include "model/tokenizer/tokenizer.h"

/* ---- vocabulary: the bytes of all tokens, ordered for walking ---- */

/* Made once for a tokenizer, of which it keeps nothing; immutable, reference counted, for any thread. Tokens
 * without text, special ones and ends (tokenizer_is_end) are not in it. UNSUPPORTED: the tokenizer puts spaces between
 * tokens, so that no token has a text of its own. */
struct vocabulary;
graft_status vocabulary_open(struct mem *mem, const struct tokenizer *t, int n_vocab,
                             struct vocabulary **out, graft_error *error);
struct vocabulary *vocabulary_acquire(struct vocabulary *v);
void vocabulary_release(struct vocabulary **v); /* NULL allowed */

/* ---- grammar ---- */

struct grammar;
/* GBNF; begins with the rule `root`. FORMAT: it is wrong, with line and column, or a rule is left-recursive, undefined
 * or without end, by name. LIMIT: it is larger than the bounds of docs/constrained-output.md. */
graft_status grammar_from_gbnf(struct mem *mem, const char *text, size_t size, struct grammar **out,
                               graft_error *error);
/* The texts of JSON values that a schema describes. FORMAT: no JSON (line and column), no schema, or one that nothing
 * satisfies; UNSUPPORTED: a keyword that cannot be held to, by name and place; LIMIT as above. */
graft_status grammar_from_schema(struct mem *mem, const char *json, size_t size,
                                 struct grammar **out, graft_error *error);
struct grammar *grammar_acquire(struct grammar *g);
void grammar_release(struct grammar **g); /* NULL allowed */

/* ---- matcher ---- */

struct matcher;
struct matcher_options {
    struct vocabulary *vocabulary; /* a reference is taken */
    const graft_token_id *ends;    /* end an answer beside tokenizer_is_end; copied */
    int n_ends;
};
/* All memory is taken here; the functions below allocate nothing. */
graft_status matcher_open(struct mem *mem, struct grammar *g, const struct matcher_options *options,
                          struct matcher **out, graft_error *error);
void matcher_close(struct matcher **m); /* NULL allowed */
void matcher_reset(struct matcher *m);  /* to the beginning */
/* What it was opened with, borrowed. */
struct grammar *matcher_grammar(const struct matcher *m);
struct vocabulary *matcher_vocabulary(const struct matcher *m);
/* At most `tokens` may still come, an end token included; SIZE_MAX (as at the beginning): any number. What could not be brought
 * to an end within them by single bytes is not begun any more; where it is too late for that, the shortest way is taken. */
void matcher_fit(struct matcher *m, size_t tokens);
/* Bits of the tokens that may come next, [(n_vocab + 31) / 32], bit id % 32 of word id / 32; valid until the next
 * call on the matcher. End tokens only where the text may end. Never all zero: UNSUPPORTED when the vocabulary has no token for
 * what must come, or no end token where nothing else may; LIMIT when the grammar is too ambiguous here. */
graft_status matcher_mask(struct matcher *m, const uint32_t **mask, graft_error *error);
/* false: not allowed, state unchanged. An end token leaves the state as it is. */
bool matcher_accept(struct matcher *m, graft_token_id id);
/* How many leading ids could follow in a row; state unchanged. An end token counts where the text may end, and ends the
 * row. */
int matcher_allowed(struct matcher *m, const graft_token_id *ids, int n);
bool matcher_is_complete(const struct matcher *m); /* the text may end here */

#endif
