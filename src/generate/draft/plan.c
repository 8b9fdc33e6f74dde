/* plan.c: how many tokens each stream of a step drafts.
 *
 * A draft adds a row to the pass, and gains the token with the probability that all before it and it are right. All drafts
 * of all streams whose gain is above some level make a plan; the level whose plan has the most tokens a second is taken, for
 * streams that look up alone, and with those that ask the draft model. So streams share the rows that are cheap by what they
 * gain from them, and a pass of the draft model is paid by all whom it serves.
 *
 * No plan is taken unless it is faster by more than a little. What does not pay is tried again ever more rarely, and the less
 * often the more a trial costs; where drafts pay, plans beside the best one are looked at now and then, as often as that is
 * cheap, since times change while contexts grow, and of what is not tried nothing is learned. Drafts that cost more than they gain
 * have to wait, and the less long the more a well-known model promises: answers have passages at which any guess fails. Nothing is
 * allocated; levels are evaluated one by one.
 */
#include "generate/draft/draft_internal.h"

#include <math.h>

/* Share that a plan must promise to gain: below it noise decides. */
static const double LEAST_GAIN = 0.04;
/* Share of the tokens that trials may cost, and looks; and one look, in tokens of each stream. */
static const double TRIAL_SHARE = 0.005, LOOK_SHARE = 0.01, LOOK_LOSS = 2;
/* What drafts may have cost before they have to wait, in tokens of each stream; what is forgiven with each step, and of the
 * share of speed that a well-known model promises. */
static const double DEBT_MOST = 1.5, DEBT_SHARE = 0.01, PROMISE_SHARE = 0.2;
/* What a pass of the draft model costs while nobody knows, of one of the model. */
static const double PRIOR_DRAFT = 0.1;
/* The levels that are looked at for many streams. */
static const double LEVEL_RATIO = 0.9;

enum {
    FEW_STREAMS = 4,                   /* up to so many, all gains are levels */
    LEVELS = FEW_STREAMS * DRAFT_MOST, /* else: down to a gain of 0.03 */
    LOOK_NEW = 4, /* steps between looks at what was never measured, while drafts pay */
    LOOK_LEAST = 16,
    LOOK_MOST = 256, /* and at what was */
    WELL_KNOWN = 32  /* tries of a model */
};

/* A step and all streams that may draft in it. */
struct scene {
    struct adapt_turn *turns; /* [n] */
    int n, rows;
    double tokens;
    struct draft_costs *costs;
    double plain; /* seconds of the step without drafts */
};

struct plan {
    bool model;   /* streams may ask the draft model */
    double level; /* gains from here on are taken */
    int drafts, lanes;
    double tokens, seconds;
};

struct plans {
    struct plan all[2 * LEVELS + 1]; /* the first one is that without drafts */
    int n;
};

/* ---- plans ---- */

static double pass_seconds(const struct draft_costs *costs, int lanes)
{
    double seconds = cost_estimate(&costs->draft, lanes);
    return seconds > 0 || lanes == 0 ? seconds : PRIOR_DRAFT * cost_estimate(&costs->target, 1);
}

/* What the stream drafts from, where it may ask the model or not; NULL: nothing. */
static const struct adapt_offer *offer_of(const struct adapt_turn *t, bool model)
{
    const struct adapt_offer *lookup = t->lookup.n > 0 ? &t->lookup : NULL;
    if (!model || t->model.n == 0) {
        return lookup;
    }
    bool better = lookup == NULL || t->model.tokens[t->model.n] > lookup->tokens[lookup->n];
    return better ? &t->model : lookup;
}

static double gain(const struct adapt_offer *o, int k)
{
    return o->tokens[k] - o->tokens[k - 1];
}

static int drafts_above(const struct adapt_offer *o, double level)
{
    int k = 0;
    while (k < o->n && gain(o, k + 1) >= level) {
        k++;
    }
    return k;
}

static struct plan evaluate(const struct scene *s, bool model, double level)
{
    struct plan p = {.model = model, .level = level, .tokens = s->tokens};
    int lanes[DRAFT_MOST] = {0};
    for (int i = 0; i < s->n; i++) {
        const struct adapt_offer *o = offer_of(&s->turns[i], model);
        int k = o != NULL ? drafts_above(o, level) : 0;
        if (k > 0) {
            p.drafts += k;
            p.tokens += o->tokens[k] - 1;
            for (int j = 0; o->source == DRAFT_MODEL && j < k; j++) {
                lanes[j]++;
            }
        }
    }
    p.lanes = lanes[0];
    p.seconds = fmax(cost_estimate(&s->costs->target, s->rows + p.drafts), s->plain);
    for (int j = 0; j < DRAFT_MOST && lanes[j] > 0; j++) {
        p.seconds += pass_seconds(s->costs, lanes[j]);
    }
    return p;
}

/* The level with that number; 0: there is none. */
static double level_at(const struct scene *s, bool model, int number)
{
    if (s->n > FEW_STREAMS) {
        return pow(LEVEL_RATIO, number + 1);
    }
    int i = number / DRAFT_MOST, k = number % DRAFT_MOST + 1;
    const struct adapt_offer *o = i < s->n ? offer_of(&s->turns[i], model) : NULL;
    return o != NULL && k <= o->n ? gain(o, k) : 0;
}

static void list_plans(const struct scene *s, struct plans *plans)
{
    plans->all[0] = (struct plan){.level = INFINITY, .tokens = s->tokens, .seconds = s->plain};
    plans->n = 1;
    for (int model = 0; model < 2; model++) {
        for (int i = 0; i < LEVELS; i++) {
            double level = level_at(s, model, i);
            struct plan p = level > 0 ? evaluate(s, model, level) : plans->all[0];
            if (p.drafts > 0 && (!model || p.lanes > 0)) {
                plans->all[plans->n++] = p;
            }
        }
    }
}

static double speed_of(const struct plan *p)
{
    return p->tokens / p->seconds;
}

/* Tokens that one plan costs where another could have been had. */
static double loss(const struct plan *p, const struct plan *other)
{
    return speed_of(other) * p->seconds - p->tokens;
}

static const struct plan *best_plan(const struct plans *plans)
{
    const struct plan *plain = &plans->all[0], *best = plain;
    for (int i = 1; i < plans->n; i++) {
        const struct plan *p = &plans->all[i];
        if (speed_of(p) > speed_of(best) && speed_of(p) > (1 + LEAST_GAIN) * speed_of(plain)) {
            best = p;
        }
    }
    return best;
}

/* The one with the fewest drafts that is like `best` in asking the model. */
static const struct plan *least_plan(const struct plans *plans, const struct plan *best)
{
    const struct plan *least = best;
    for (int i = 1; i < plans->n; i++) {
        const struct plan *p = &plans->all[i];
        least = p->model == best->model && p->drafts < least->drafts ? p : least;
    }
    return least;
}

/* What is thought of a cost that was hardly ever measured may be wrong: a loss that it promises counts for less, so that it
 * is looked at again, and sooner. */
static double sureness(const struct scene *s, int drafts)
{
    double seen = fmin(cost_seen(&s->costs->target, s->rows + drafts), COST_FEW) / COST_FEW;
    return seen > 0 ? seen * seen : 1;
}

/* At times another plan than the best: the one whose cost was measured least often, or not for the longest time. */
static const struct plan *look_around(const struct scene *s, const struct plans *plans,
                                      const struct plan *best)
{
    struct draft_costs *c = s->costs;
    const struct plan *other = best;
    double price = 0; /* of the look, in tokens of each stream */
    uint32_t oldest = 0, seen = COST_FEW, wait = c->look_wait > 0 ? c->look_wait : LOOK_LEAST;
    for (int i = 0; i < plans->n; i++) {
        const struct plan *p = &plans->all[i];
        uint32_t its = cost_seen(&c->target, s->rows + p->drafts);
        uint32_t age = cost_age(&c->target, s->rows + p->drafts);
        double lost = loss(p, best) / s->tokens * sureness(s, p->drafts);
        its = its < COST_FEW ? its : COST_FEW;
        bool sooner = its < seen || (its == seen && age > oldest);
        if (sooner && p->drafts != best->drafts && lost < LOOK_LOSS) {
            oldest = age;
            seen = its;
            other = p;
            price = lost;
        }
    }
    bool sure = seen == COST_FEW;
    double pause = seen == 0 ? LOOK_NEW : fmax(LOOK_NEW, price / LOOK_SHARE);
    if (other == best || ++c->steps < (sure ? wait : pause)) {
        return best;
    }
    c->steps = 0;
    if (sure) {
        c->look_wait = (uint32_t)fmin(fmax(LOOK_LEAST, price / LOOK_SHARE), LOOK_MOST);
    }
    return other;
}

/* ---- trials ---- */

/* Seconds that a trial of k from an offer adds to a plan. */
static double trial_seconds(const struct scene *s, const struct plan *p,
                            const struct adapt_offer *o, int k)
{
    int rows = s->rows + p->drafts;
    double more =
        cost_estimate(&s->costs->target, rows + k) - cost_estimate(&s->costs->target, rows);
    if (o->source == DRAFT_MODEL) {
        more += k * pass_seconds(s->costs, s->n) / s->n; /* all of them try at one time */
    }
    return fmax(more, 0);
}

/* For a stream that drafts nothing: mostly nothing; at times a trial, of one token as a rule. */
static bool try_again(const struct scene *s, struct adapt_turn *t, const struct adapt_offer *o,
                      struct plan *p)
{
    if (o->n == 0) {
        return false;
    }
    struct adapt_source *source = &t->adapt->sources[o->source];
    int k = source->trials % 4 == 3 ? t->adapt->first : 1;
    k = k < o->n ? k : o->n;
    double sure = s->n == 1 ? sureness(s, p->drafts + k) : 1;
    double more = trial_seconds(s, p, o, k), lost = speed_of(p) * more - (o->tokens[k] - 1);
    double dues = o->source == DRAFT_MODEL ? t->catch_up * speed_of(p) : 0;
    double wait = fmax(source->wait, (fmax(lost, 0) * sure + dues) / TRIAL_SHARE);
    if (++source->since <= wait || (s->n > 1 && s->costs->target.passes % source->wait != 0)) {
        return false;
    }
    source->since = 0;
    source->trials++;
    source->wait = 2 * source->wait < TRIAL_MOST ? 2 * source->wait : TRIAL_MOST;
    t->chosen = o;
    t->k = k;
    p->drafts += k;
    p->seconds += more;
    return true;
}

/* ---- the choice ---- */

/* Takes an offer back that a stream shall not have yet, or shortens it. */
static void limit(const struct scene *s, struct adapt_turn *t)
{
    struct adapt_offer *both[] = {&t->lookup, &t->model};
    for (int i = 0; i < 2; i++) {
        struct adapt_offer *o = both[i];
        bool unknown = s->costs->tried[o->source] < COST_FEW && o->n > t->adapt->first;
        o->n = unknown ? t->adapt->first : o->n;
    }
    t->adapt->age++;
}

/* Does a model that is behind have to wait? */
static bool is_dear(const struct scene *s, const struct adapt_turn *t)
{
    double dues = t->catch_up * s->tokens / s->plain;
    return dues > 0.5 * t->adapt->age * (t->model.tokens[t->model.n] - 1);
}

static void forgive(struct draft_costs *c, const struct plan *plain, const struct plan *best)
{
    double share = DEBT_SHARE;
    if (best->model && c->tried[DRAFT_MODEL] >= WELL_KNOWN) {
        share += PROMISE_SHARE * (speed_of(best) / speed_of(plain) - 1);
    }
    c->debt = fmax(c->debt - share * plain->tokens, -DEBT_MOST * plain->tokens);
}

static struct plan choose(const struct scene *s)
{
    struct draft_costs *c = s->costs;
    struct plans plans;
    list_plans(s, &plans);
    const struct plan *best = best_plan(&plans);
    forgive(c, &plans.all[0], best);
    if (best->drafts == 0 || c->debt > DEBT_MOST * s->tokens) {
        return plans.all[0];
    }
    if (cost_is_guess(&c->target, s->rows + 1) || (best->model && cost_is_guess(&c->draft, 1))) {
        return *least_plan(&plans, best); /* says what rows cost at the least price */
    }
    struct plan p = *look_around(s, &plans, best);
    c->debt -= s->tokens * (p.seconds - best->seconds) / s->plain; /* looks are paid for already */
    return p;
}

static void hand_out(const struct scene *s, const struct plan *p)
{
    for (int i = 0; i < s->n; i++) {
        struct adapt_turn *t = &s->turns[i];
        const struct adapt_offer *o = offer_of(t, p->model);
        int k = o != NULL ? drafts_above(o, p->level) : 0;
        if (k > 0) {
            t->chosen = o;
            t->k = k;
            t->adapt->sources[o->source].wait = TRIAL_LEAST;
            t->adapt->sources[o->source].since = 0;
        }
    }
}

void adapt_plan(struct adapt_turn *turns, int n, struct draft_costs *costs, int rows, double tokens)
{
    struct scene s = {turns, n, rows, tokens, costs, cost_estimate(&costs->target, rows)};
    for (int i = 0; i < n; i++) {
        turns[i].chosen = NULL;
        turns[i].k = 0;
        limit(&s, &turns[i]);
    }
    /* Steps without drafts come first: others are compared with them, and one alone may have been disturbed. */
    if (!(s.plain > 0) || (rows == 1 && cost_seen(&costs->target, 1) < 2)) {
        return;
    }
    for (int i = 0; i < n; i++) {
        turns[i].model.n = is_dear(&s, &turns[i]) ? 0 : turns[i].model.n;
    }
    struct plan p = choose(&s);
    hand_out(&s, &p);
    for (int i = 0; i < n; i++) {
        struct adapt_turn *t = &turns[i];
        if (t->k == 0 && !try_again(&s, t, &t->lookup, &p)) {
            try_again(&s, t, &t->model, &p);
        }
    }
    costs->debt += tokens * (p.seconds / s.plain - 1);
}
