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

/* The lookup with more to gain: its tokens are in ids then. */
static void look_up(struct drafter *d, const struct draft_costs *costs, const struct draft_turn *t,
                    struct adapt_offer *o)
{
    int length, n = 0;
    if (d->ngram != NULL && (o->n = ngram_propose(d->ngram, t->most, d->ids, &length)) > 0) {
        o->source = length == NGRAM_MAX ? DRAFT_NGRAM_LONG : DRAFT_NGRAM_SHORT;
        adapt_expect(&d->adapt, costs, o->source, o->n, o->tokens);
    }
    graft_token_id ids[DRAFT_MOST];
    if (d->store != NULL) {
        n = ngram_store_propose(d->store, t->tokens, t->n_tokens, t->most, ids, &length);
    }
    if (n > 0) {
        struct adapt_offer other = {
            .source = length == NGRAM_MAX ? DRAFT_STORE_LONG : DRAFT_STORE_SHORT, .n = n};
        adapt_expect(&d->adapt, costs, other.source, n, other.tokens);
        if (o->n == 0 || other.tokens[n] > o->tokens[o->n]) {
            *o = other;
            memcpy(d->ids, ids, (size_t)n * sizeof *ids);
        }
    }
}

/* Seconds until the model knows all tokens but those that a step adds. */
static double catch_up(const struct drafter *d, const struct draft_costs *costs, size_t n)
{
    size_t seen = d->lane != NULL ? draft_lane_length(d->lane) : n;
    double row = costs->feed > 0 ? costs->feed : cost_estimate(&costs->target, 1) * FEED_SHARE;
    return seen + DRAFT_MOST + 1 < n ? row * (double)(n - seen) : 0;
}

static void begin_turn(const struct draft_costs *costs, struct draft_turn *t, struct adapt_turn *p)
{
    struct drafter *d = t->drafter;
    d->n_ids = 0;
    d->asked = false;
    drafter_follow(d, t->tokens, t->n_tokens);
    t->asks = false;
    t->most = t->most < d->adapt.most ? t->most : d->adapt.most;
    *p = (struct adapt_turn){.adapt = &d->adapt,
                             .model = {.source = DRAFT_MODEL},
                             .catch_up = catch_up(d, costs, t->n_tokens)};
    if (t->most > 0) {
        look_up(d, costs, t, &p->lookup);
        p->model.n = d->lane != NULL ? t->most : 0;
        adapt_expect(&d->adapt, costs, DRAFT_MODEL, p->model.n, p->model.tokens);
    }
}

/* Without regard to cost: a long match, or else the model, or else a short match. */
static void choose_fixed(const struct drafter *d, struct adapt_turn *p, int most)
{
    bool is_long = p->lookup.source == DRAFT_NGRAM_LONG || p->lookup.source == DRAFT_STORE_LONG;
    p->model.n = d->lane != NULL && most > 0 ? most : 0;
    p->chosen = p->lookup.n > 0 && (is_long || p->model.n == 0) ? &p->lookup
                : p->model.n > 0                                ? &p->model
                                                                : NULL;
    p->k = p->chosen == NULL ? 0 : d->first < p->chosen->n ? d->first : p->chosen->n;
}

int drafters_plan(const struct draft_step *step, struct draft_costs *costs)
{
    int asked = 0;
    for (int i = 0; i < step->n; i++) {
        begin_turn(costs, &step->turns[i], &step->plans[i]);
    }
    adapt_plan(step->plans, step->n, costs, step->rows, step->tokens);
    for (int i = 0; i < step->n; i++) {
        struct draft_turn *t = &step->turns[i];
        struct adapt_turn *p = &step->plans[i];
        struct drafter *d = t->drafter;
        if (d->fixed) {
            choose_fixed(d, p, t->most);
        }
        if (p->k < 1) {
            continue;
        }
        d->source = p->chosen->source;
        d->asked = t->asks = d->source == DRAFT_MODEL;
        d->n_ids = t->asks ? 0 : p->k;
        if (t->asks) {
            step->requests[asked++] = (struct draft_request){.lane = d->lane,
                                                             .tokens = t->tokens,
                                                             .n_tokens = t->n_tokens,
                                                             .sampling = t->sampling,
                                                             .k = p->k,
                                                             .out = d->ids};
        }
    }
    return asked;
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
