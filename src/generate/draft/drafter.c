/* drafter.c: all that proposes for one stream, and which of it a step takes.
 *
 * Lookups cost next to nothing, so they are made first, and with their results in hand it is known which of them come from
 * a long match. Each source that has something is asked what it would gain (adapt.c), and the one with the most tokens a
 * second is taken; the second model is only asked to draft where it is that one. The store learns what the stream
 * generates as it goes.
 */
#include "generate/draft/draft.h"

/* What a row of a prompt costs the draft model, of a step without drafts, while nobody knows. */
static const double FEED_SHARE = 0.01;

struct drafter {
    struct mem *mem;
    struct ngram *ngram; /* or NULL */
    struct ngram_store *store;
    struct draft_lane *lane;
    struct adapt adapt;
    int first;
    bool fixed;
    size_t learned; /* tokens that the store has, or shall not have */
    /* The step at hand: */
    enum draft_source source;
    graft_token_id ids[DRAFT_MOST];
    int n_ids;
    bool asked; /* the model was, for ids */
    struct draft_counts counts[DRAFT_SOURCES];
};

/* What a source has for the step at hand. */
struct offer {
    enum draft_source source;
    graft_token_id ids[DRAFT_MOST];
    int n;
};

graft_status drafter_open(struct mem *mem, const struct drafter_options *options,
                          struct drafter **out, graft_error *error)
{
    if (options->most < 0 || options->most > DRAFT_MOST || options->first > options->most ||
        (options->first < 1 && options->most > 0)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "drafts of %d tokens, at most %d: from 1 to %d are possible",
                         options->first, options->most, DRAFT_MOST);
    }
    struct drafter *d = mem_calloc(mem, 1, sizeof *d);
    if (d == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for drafts");
    }
    d->mem = mem;
    d->first = options->first;
    d->fixed = options->fixed;
    adapt_init(&d->adapt, options->first, options->most);
    graft_status status = GRAFT_OK;
    if (options->ngram) {
        status = ngram_open(mem, options->n_ctx, &d->ngram, error);
    }
    if (status == GRAFT_OK && options->model != NULL) {
        status = draft_lane_open(options->model, options->n_ctx, &d->lane, error);
    }
    if (status != GRAFT_OK) {
        drafter_close(&d);
        return status;
    }
    d->store = options->store != NULL ? ngram_store_share(options->store) : NULL;
    *out = d;
    return GRAFT_OK;
}

void drafter_close(struct drafter **drafter)
{
    struct drafter *d = *drafter;
    if (d != NULL) {
        ngram_close(&d->ngram);
        ngram_store_close(&d->store);
        draft_lane_close(&d->lane);
        mem_free(d->mem, d);
    }
    *drafter = NULL;
}

void drafter_begin_answer(struct drafter *d, size_t n)
{
    d->learned = n;
    adapt_begin_answer(&d->adapt);
}

void drafter_trim(struct drafter *d, size_t n)
{
    d->learned = d->learned < n ? d->learned : n;
    d->n_ids = 0;
    if (d->ngram != NULL) {
        ngram_trim(d->ngram, n);
    }
    if (d->lane != NULL) {
        draft_lane_trim(d->lane, n);
    }
}

void drafter_set_store(struct drafter *d, struct ngram_store *store, size_t n)
{
    struct ngram_store *was = d->store;
    d->store = store != NULL ? ngram_store_share(store) : NULL;
    d->learned = n;
    ngram_store_close(&was);
}

void drafter_follow(struct drafter *d, const graft_token_id *tokens, size_t n)
{
    if (d->ngram != NULL) {
        ngram_follow(d->ngram, tokens, n);
    }
    if (d->store != NULL && d->learned < n) {
        ngram_store_add(d->store, tokens, d->learned, n);
    }
    d->learned = d->learned > n ? d->learned : n;
}

/* ---- planning ---- */

/* What lookups, and the model, have to offer: best guesses first. Returns how many. */
static int collect(struct drafter *d, const graft_token_id *tokens, size_t n, int k_max,
                   struct offer offers[3])
{
    int n_offers = 0, length;
    struct offer *o = offers;
    if (d->ngram != NULL && (o->n = ngram_propose(d->ngram, k_max, o->ids, &length)) > 0) {
        o->source = length == NGRAM_MAX ? DRAFT_NGRAM_LONG : DRAFT_NGRAM_SHORT;
        o = &offers[++n_offers];
    }
    if (d->store != NULL &&
        (o->n = ngram_store_propose(d->store, tokens, n, k_max, o->ids, &length)) > 0) {
        o->source = length == NGRAM_MAX ? DRAFT_STORE_LONG : DRAFT_STORE_SHORT;
        o = &offers[++n_offers];
    }
    if (d->lane != NULL) {
        o->source = DRAFT_MODEL;
        o->n = k_max;
        n_offers++;
    }
    return n_offers;
}

/* Without regard to cost: long matches, then the model, then short ones. */
static const struct offer *surest(const struct offer *offers, int n)
{
    static const int RANKS[DRAFT_SOURCES] = {[DRAFT_NGRAM_LONG] = 5,
                                             [DRAFT_STORE_LONG] = 4,
                                             [DRAFT_MODEL] = 3,
                                             [DRAFT_NGRAM_SHORT] = 2,
                                             [DRAFT_STORE_SHORT] = 1};
    const struct offer *best = NULL;
    for (int i = 0; i < n; i++) {
        if (best == NULL || RANKS[offers[i].source] > RANKS[best->source]) {
            best = &offers[i];
        }
    }
    return best;
}

/* The offer with the most tokens a second, and *k of it; NULL: none pays. */
static const struct offer *fastest(struct drafter *d, const struct draft_costs *costs,
                                   const struct offer *offers, int n,
                                   const struct adapt_step *others, int *k)
{
    const struct offer *best = NULL;
    double most = 0;
    for (int i = 0; i < n; i++) {
        double speed;
        int its = adapt_choose(&d->adapt, costs, offers[i].source, offers[i].n, others, &speed);
        if (its > 0 && (best == NULL || speed > most)) {
            best = &offers[i];
            most = speed;
            *k = its;
        }
    }
    return best;
}

/* Seconds until the model knows all tokens but those that a step adds. */
static double catch_up(const struct drafter *d, const struct draft_costs *costs, size_t n)
{
    size_t seen = d->lane != NULL ? draft_lane_length(d->lane) : n;
    double row = costs->feed > 0 ? costs->feed : cost_estimate(&costs->target, 1) * FEED_SHARE;
    return seen + DRAFT_MOST + 1 < n ? row * (double)(n - seen) : 0;
}

bool drafter_plan(struct drafter *d, const struct draft_costs *costs, const graft_token_id *tokens,
                  size_t n, const graft_sampling *sampling, int k_max, struct adapt_step *step,
                  struct draft_request *request)
{
    struct offer offers[3];
    struct adapt_step others = *step;
    int k = d->first;
    others.rows--;
    others.tokens--;
    others.catch_up = catch_up(d, costs, n);
    d->n_ids = 0;
    d->asked = false;
    drafter_follow(d, tokens, n);
    k_max = k_max < d->adapt.most ? k_max : d->adapt.most;
    if (k_max < 1) {
        return false;
    }
    int n_offers = collect(d, tokens, n, k_max, offers);
    const struct offer *o =
        d->fixed ? surest(offers, n_offers) : fastest(d, costs, offers, n_offers, &others, &k);
    if (o == NULL) {
        return false;
    }
    k = k < o->n ? k : o->n;
    d->source = o->source;
    step->rows += k;
    step->tokens += adapt_expect(&d->adapt, costs, o->source, k) - 1;
    if (o->source != DRAFT_MODEL) {
        memcpy(d->ids, o->ids, (size_t)k * sizeof *d->ids);
        d->n_ids = k;
        return false;
    }
    d->asked = true;
    step->lanes++;
    step->passes = step->passes > k ? step->passes : k;
    *request = (struct draft_request){.lane = d->lane,
                                      .tokens = tokens,
                                      .n_tokens = n,
                                      .sampling = sampling,
                                      .k = k,
                                      .out = d->ids};
    return true;
}

void drafter_take(struct drafter *d, const struct draft_request *request)
{
    d->n_ids = request->n_out;
}

const graft_token_id *drafter_proposal(const struct drafter *d, int *n)
{
    *n = d->n_ids;
    return d->ids;
}

void drafter_verified(struct drafter *d, struct draft_costs *costs, int verified, int accepted)
{
    struct draft_counts *c = &d->counts[d->source];
    if (d->n_ids > 0) {
        c->drafts++;
        c->drafted += (uint64_t)d->n_ids;
        c->accepted += (uint64_t)accepted;
        adapt_learn(&d->adapt, costs, d->source, verified, accepted);
    } else if (d->asked) {
        adapt_learn(&d->adapt, costs, d->source, 1, 0); /* one that fails is as one that is wrong */
    }
    d->n_ids = 0;
    d->asked = false;
}

const struct draft_counts *drafter_counts(const struct drafter *d, enum draft_source source)
{
    return &d->counts[source];
}
