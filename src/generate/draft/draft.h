/* draft.h: what proposes tokens before the model has been asked, and how many of them pay.
 *
 * Whoever verifies takes a proposed token if and only if it is the one that the model would have picked at that
 * position, so nothing here can change a text: not what is proposed, nor how much, nor the times that the decision
 * was made with. Proposals come from the sequence itself (ngram), from what was generated under the same mix before
 * (store), or from a second, smaller model (model). *adapt* is arithmetic: from measured times and what was accepted it
 * says how many tokens to draft, often none. A *drafter* is all of it for one stream. Verification is not here.
 */
#ifndef GRAFT_DRAFT_H
#define GRAFT_DRAFT_H

#include "base/base.h"
#include "model/model.h"

#include <graft/session.h>

enum { DRAFT_MOST = 8 }; /* tokens drafted at once, at most */

/* ---- the sequence itself -------------------------------------------------------------------- */

/* An index of all n-grams of one growing sequence. Belongs to one thread at a time. */
struct ngram;
enum { NGRAM_MIN = 2, NGRAM_MAX = 4 }; /* lengths that are looked up */
/* For sequences of up to `capacity` tokens (what comes after is not looked at); all memory is taken here, about
 * 32 bytes a token. NO_MEMORY. */
graft_status ngram_open(struct mem *mem, size_t capacity, struct ngram **out, graft_error *error);
void ngram_close(struct ngram **ngram); /* NULL allowed */
/* The sequence is tokens[0..n): takes in what is new, in O(new). An n below what was seen forgets the rest; where
 * the sequence changed and grew again, ngram_trim comes first. */
void ngram_follow(struct ngram *g, const graft_token_id *tokens, size_t n);
/* Forgets positions from n on, as if they had never been seen. */
void ngram_trim(struct ngram *g, size_t n);
/* What followed the last time that the sequence had the end it has now: of ends of NGRAM_MAX to NGRAM_MIN tokens the
 * longest that was seen before. A copy that reaches the end of the sequence goes on with itself, so that a repetition is
 * proposed whole. Returns how many tokens of out [k] are set; *length (may be NULL) is that of the end. */
int ngram_propose(const struct ngram *g, int k, graft_token_id *out, int *length);

/* ---- what was generated before -------------------------------------------------------------- */

/* How n-grams went on in what was generated under one mix, by how often. Safe from any thread: sessions and streams share
 * it, and each that holds it has a reference. Memory is taken when it is opened, 16 bytes an entry; once full, what is
 * seen rarely makes room. An entry is an n-gram and a token behind it; each token learned touches one for each length. */
struct ngram_store;
struct ngram_store_options {
    uint8_t mix[32];    /* mix_digest: what is learned under one mix says little of another */
    int n_vocab;        /* of the model */
    size_t max_entries; /* rounded up to a power of two; at least 64, at most 2^26 */
};
enum { STORE_ENTRIES = 1 << 16 }; /* a default: 1 MB, some 20,000 tokens */
/* INVALID_ARGUMENT, NO_MEMORY. */
graft_status ngram_store_open(struct mem *mem, const struct ngram_store_options *options,
                              struct ngram_store **out, graft_error *error);
struct ngram_store *ngram_store_share(struct ngram_store *store); /* one reference more */
void ngram_store_close(struct ngram_store **store);               /* gives one back; NULL allowed */
/* Learns that tokens[first..n) came, each behind the tokens before it. */
void ngram_store_add(struct ngram_store *s, const graft_token_id *tokens, size_t first, size_t n);
/* What most often followed the end of tokens[0..n), then what followed that: up to k tokens, as far as there are any.
 * *length (may be NULL) is that of the first n-gram found. */
int ngram_store_propose(struct ngram_store *s, const graft_token_id *tokens, size_t n, int k,
                        graft_token_id *out, int *length);
size_t ngram_store_entries(struct ngram_store *s);
/* Replaces the file as a whole, or leaves it as it was. IO, NOT_FOUND (its folder), NO_MEMORY. */
graft_status ngram_store_save(struct ngram_store *s, const char *path, graft_error *error);
/* Opens a store with what a file holds, which is untrusted and checked whole. NOT_FOUND; FORMAT; UNSUPPORTED: another version;
 * STATE: it was learned under another mix, or with another vocabulary. What does not fit max_entries is left out, the rare first. */
graft_status ngram_store_load(struct mem *mem, const char *path,
                              const struct ngram_store_options *options, struct ngram_store **out,
                              graft_error *error);
/* The parser alone: pure, fuzzed. */
graft_status ngram_store_parse(struct mem *mem, const uint8_t *bytes, size_t size,
                               const struct ngram_store_options *options, struct ngram_store **out,
                               graft_error *error);

/* ---- what passes cost ------------------------------------------------------------------------ */

/* Seconds that a pass takes, by its number of decode rows. What was not measured is estimated from neighbours. */
enum { COST_POINTS = 28, COST_ROWS = 512 };
struct cost_curve {
    double seconds[COST_POINTS];                   /* of passes of cost_rows(i) rows */
    uint32_t seen[COST_POINTS], last[COST_POINTS]; /* how often, and at which of all passes */
    uint32_t passes;
};
/* A pass of `rows` ≥ 1 decode rows, and no other, took that long. Times that are no positive numbers are passed over. */
void cost_learn(struct cost_curve *c, int rows, double seconds);
/* 0: nothing was measured, or no rows. */
double cost_estimate(const struct cost_curve *c, int rows);

/* Where proposals come from. One that was found by a long match is right more often than one by a short one: they
 * are told apart, since acceptance is what decides. */
enum draft_source {
    DRAFT_NGRAM_SHORT,
    DRAFT_NGRAM_LONG,
    DRAFT_STORE_SHORT,
    DRAFT_STORE_LONG,
    DRAFT_MODEL,
    DRAFT_SOURCES
};
const char *draft_source_name(enum draft_source source); /* "ngram", "store", "model" */

/* What all streams of one engine share; zero it to begin. Belongs to one thread at a time. */
struct draft_costs {
    struct cost_curve target; /* with verification, without drafting */
    struct cost_curve draft;  /* passes of the draft model, with its picks */
    double feed;              /* of the draft model, for each row of a prompt; 0: not measured */
    /* How much of what was drafted first was right, over all streams: where a new one begins. */
    double tried[DRAFT_SOURCES], right[DRAFT_SOURCES];
    uint32_t steps, look_wait; /* since the last look at what seemed not best, and between them */
    double debt; /* tokens that drafts have cost; what they gained is not kept for long */
};

/* ---- a second model ------------------------------------------------------------------------- */

/* OK when the two speak of the same tokens: what one calls id 17, the other does, with the same text, special or not, an
 * end or not. Only rows without a token may be more in one. Else INVALID_ARGUMENT with the first difference in one line; the
 * same where one of them is a classifier. */
graft_status draft_model_check(const struct model *target, const struct model *draft,
                               graft_error *error);

/* A model that drafts for any number of streams, and its lanes, one for each of them: which tokens of the stream the
 * draft model has seen. All belong to one thread at a time. A lane draws with the noise of its stream, so that where the two
 * models agree on the distribution they agree on the token. */
struct draft_model;
struct draft_model_options {
    size_t kv_bytes; /* most memory of the cache of all lanes */
    int rows;        /* most rows of a pass: of prompts at once, or of lanes */
};
enum { DRAFT_ROWS = 256 }; /* a default */
/* Borrows both models, which passed the check. LIMIT: kv_bytes has no room for one block. */
graft_status draft_model_open(const struct model *target, const struct model *draft,
                              const struct draft_model_options *options, struct draft_model **out,
                              graft_error *error);
void draft_model_close(struct draft_model **d); /* its lanes must be closed; NULL allowed */
size_t draft_model_kv_bytes(const struct draft_model *d); /* in use */

struct draft_lane;
/* For a stream of at most n_ctx tokens. Blocks are taken as it is used. */
graft_status draft_lane_open(struct draft_model *d, size_t n_ctx, struct draft_lane **out,
                             graft_error *error);
void draft_lane_close(struct draft_lane **lane); /* NULL allowed */
/* Gives back what is beyond n tokens: of a stream that rests, say. Nothing has to be said of a stream that was trimmed:
 * what it has in common with what was seen is found when it is drafted for. */
void draft_lane_trim(struct draft_lane *lane, size_t n);
size_t draft_lane_length(const struct draft_lane *lane); /* tokens that it has seen */

struct draft_request {
    struct draft_lane *lane;      /* no two of one lane */
    const graft_token_id *tokens; /* [n_tokens] the stream */
    size_t n_tokens;
    const graft_sampling *sampling; /* of the stream, checked */
    int k;                          /* tokens wanted */
    graft_token_id *out;            /* [k] */
    int n_out;                      /* how many there are */
    graft_status status; /* why not more: OK but for LIMIT (cache full), NO_MEMORY, NUMERIC */
};
/* Drafts for all requests together: first what their lanes have not seen, then a row of each for every further token. On
 * failure and where a lane has no room, there are fewer tokens or none; those there are may be used all the same, and the
 * next call may be made. What passes took is told to `costs`, unless that is NULL. */
graft_status draft_model_propose(struct draft_model *d, struct draft_request *requests, int n,
                                 struct draft_costs *costs, graft_error *error);

/* ---- how many tokens pay -------------------------------------------------------------------- */

/* One stream. */
struct adapt_place {
    float tried, right;
};
struct adapt_source {
    struct adapt_place places[DRAFT_MOST]; /* of the drafts accepted up to there; older ones fade */
    uint32_t wait, since, trials; /* while nothing pays: steps between trials, and since the last */
};
struct adapt {
    int first, most; /* tokens of a draft before anything is known; at most */
    uint32_t age;    /* steps of the answer */
    struct adapt_source sources[DRAFT_SOURCES];
};
/* first in 1..most, most in 0..DRAFT_MOST; most 0: it never drafts. */
void adapt_init(struct adapt *a, int first, int most);
/* What was learned stays; an answer begins. */
void adapt_begin_answer(struct adapt *a);
/* Of `drafted` tokens the first `accepted` were right. */
void adapt_learn(struct adapt *a, struct draft_costs *costs, enum draft_source source, int drafted,
                 int accepted);
/* tokens[k], k up to `most`: that a draft of k gains, with the one that the model itself adds. */
void adapt_expect(const struct adapt *a, const struct draft_costs *costs, enum draft_source source,
                  int most, double *tokens);

/* A stream in a step: what it might draft, and how much it shall. */
struct adapt_offer {
    enum draft_source source;
    int n;                         /* tokens; 0: nothing */
    double tokens[DRAFT_MOST + 1]; /* scratch */
};
struct adapt_turn {
    struct adapt *adapt;
    struct adapt_offer lookup, model;
    /* Seconds that the draft model needs to catch up with this stream. It shall, once the answer is so long that what it
     * would have gained so far is worth as much: one that is as long again pays for it. */
    double catch_up;
    const struct adapt_offer *chosen; /* out: NULL: none */
    int k;                            /* out: tokens of it */
};
/* Decides for all streams of a step at once, which without drafts has so many rows and gains so many tokens: the drafts that
 * give the most tokens a second, and none where that is not more by more than a little, but for trials now and then. */
void adapt_plan(struct adapt_turn *turns, int n, struct draft_costs *costs, int rows,
                double tokens);

/* ---- one stream ----------------------------------------------------------------------------- */

struct drafter_options {
    size_t n_ctx;              /* most tokens of the stream */
    bool ngram;                /* look into the sequence itself */
    struct ngram_store *store; /* or NULL; a reference is taken */
    struct draft_model *model; /* or NULL; borrowed */
    int first, most;           /* as in adapt_init */
    bool fixed;                /* always `first` tokens, whatever they cost: for measurements */
};
struct draft_counts {
    uint64_t drafts, drafted,
        accepted; /* steps with a proposal; tokens; of them, how many were right */
};

/* Whatever a stream is drafted by. A step is: drafters_plan; draft_model_propose, where some asked for it, and drafter_take for
 * each of those; verification of drafter_proposal; drafter_verified. One thread at a time, that of the draft model. */
struct drafter;
graft_status drafter_open(struct mem *mem, const struct drafter_options *options,
                          struct drafter **out, graft_error *error);
void drafter_close(struct drafter **d); /* NULL allowed */
/* The n tokens there are were not generated, or not under the mix of the store: it learns what comes after. */
void drafter_begin_answer(struct drafter *d, size_t n);
/* The stream went back to n tokens. */
void drafter_trim(struct drafter *d, size_t n);
/* Another mix from token n on: its store, or NULL. */
void drafter_set_store(struct drafter *d, struct ngram_store *store, size_t n);
/* Takes in the stream so far: also to be called at the end of an answer, for the store. */
void drafter_follow(struct drafter *d, const graft_token_id *tokens, size_t n);

/* A stream in the step at hand. */
struct draft_turn {
    struct drafter *drafter;
    const graft_token_id *tokens; /* [n_tokens] the stream; borrowed until the step ends, as are: */
    size_t n_tokens;
    const graft_sampling *sampling;
    int most;  /* tokens that it may have drafted */
    bool asks; /* out: it has a request */
};
struct draft_step {
    struct draft_turn *turns;       /* [n] */
    struct adapt_turn *plans;       /* [n] scratch */
    struct draft_request *requests; /* [n] out: to the model, in the order of the turns that ask */
    int n;
    int rows;      /* of the step without drafts, those of streams that draft nothing included */
    double tokens; /* that it gains */
};
/* Plans a step. Streams that do not ask the model have their proposals then. Returns how many requests there are. */
int drafters_plan(const struct draft_step *step, struct draft_costs *costs);
/* As filled by draft_model_propose; where that failed, with what there is. */
void drafter_take(struct drafter *d, const struct draft_request *request);
/* What is proposed for the step at hand: *n may be 0. Valid until the next plan. */
const graft_token_id *drafter_proposal(const struct drafter *d, int *n);
/* Of the proposal, the first `accepted` tokens were right; `verified` of them were looked at (an answer may have ended before). */
void drafter_verified(struct drafter *d, struct draft_costs *costs, int verified, int accepted);
/* Since it was opened. */
const struct draft_counts *drafter_counts(const struct drafter *d, enum draft_source source);

#endif
