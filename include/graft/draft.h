/* graft/draft.h: speculative decoding: tokens that are guessed, and verified several at a time.
 *
 * A guess comes from the text itself (what followed the last time that the same few tokens were there), from what was generated
 * under the same mix before, or from a smaller model with the same vocabulary. One pass of the model then has a row for each
 * guess, and those that are what it would have picked are taken. Reading the weights once for several tokens is what
 * makes it faster; how many guesses pay is learned from measured times and from how many were right, and often it is none.
 *
 * The output is the same, token by token, as without: with greedy picks and with sampling (Daliri, Musco, Suresh: "Coupling without
 * communication and drafter-invariant speculative decoding", 2024: the noise of a draw belongs to seed, position and token, and the draft
 * model draws with the same). So nothing of this, not even how busy the machine is, can be seen in a text. Adapters, swaps,
 * constraints and penalties work as ever: guesses only propose. A draft that fails is left out, and the log says why.
 */
#ifndef GRAFT_DRAFT_PUBLIC_H
#define GRAFT_DRAFT_PUBLIC_H

#include <graft/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_draft_options {
    size_t struct_size;
    bool ngram; /* look into the prompt and the answer; default true */
    /* A smaller model with the same vocabulary, of the same runtime; NULL (default): none. It must outlive what it drafts for. */
    const graft_model *model;
    /* Learn what is generated under each mix, and guess from that: NULL (default): no; "": in memory; else a folder,
     * made where it is missing, with a file for each mix that is read and written when sessions and engines open and close. */
    const char *store;
    int k;   /* guesses at first, 1 to max; default 4 */
    int max; /* guesses at most, 1 to 8; default 8 */
    /* k guesses in every step, whatever they cost: for measurements. Default false. */
    bool fixed;
    size_t kv_bytes; /* of the draft model's cache; default 256 MiB */
} graft_draft_options;
GRAFT_API void graft_draft_options_init(graft_draft_options *options, size_t struct_size);
static inline graft_draft_options graft_draft_options_default(void)
{
    graft_draft_options options;
    graft_draft_options_init(&options, sizeof options);
    return options;
}

/* Whether a model can draft for another: what one calls token 17, the other must. INVALID_ARGUMENT with the first difference. */
GRAFT_API graft_status graft_draft_check(const graft_model *model, const graft_model *draft,
                                         graft_error *error);

/* From the next token on; options NULL: no guesses, as at first. INVALID_ARGUMENT: numbers out of range, or a draft model that
 * does not fit, as by graft_draft_check. */
GRAFT_API graft_status graft_session_set_draft(graft_session *session,
                                               const graft_draft_options *options,
                                               graft_error *error);

/* Guesses by where they came from. */
typedef struct graft_draft_counts {
    uint64_t drafted, accepted;
} graft_draft_counts;
typedef struct graft_draft_info {
    graft_draft_counts ngram, store, model;
    uint64_t passes,
        tokens; /* of the model, while guesses were allowed: tokens / passes is what they gain */
} graft_draft_info;
/* Since guesses were allowed; zeros where they are not. */
GRAFT_API graft_status graft_session_draft_info(const graft_session *session, graft_draft_info *out,
                                                graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
