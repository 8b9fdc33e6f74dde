/* adapt.c: how many tokens to draft, from measured times and from what was accepted.
 *
 * A draft of k tokens makes a pass of k + 1 rows of one row, and gains what of it is accepted. Both are estimated: times by
 * number of rows (an engine has one curve), acceptance by source and by place in the draft (each stream has its own and
 * begins with what others had). The k with the most tokens a second is taken, and none unless one pays by more than a little.
 * What does not pay is tried again ever more rarely, and the less often the more a trial costs; so is what pays
 * compared with its neighbours and with no draft, since times change while a context grows.
 */
#include "generate/draft/draft.h"

#include <math.h>

/* Share that a draft must promise to gain: below it noise decides. */
static const double LEAST_GAIN = 0.04;
/* Share of the tokens that trials may cost. */
static const double TRIAL_SHARE = 0.005, LOOK_SHARE = 0.01;
/* And one look, in tokens. */
static const double LOOK_LOSS = 2;
/* What drafts may have cost a stream before they have to wait, in tokens, and what is forgiven with each step. */
static const double DEBT_MOST = 1.5, DEBT_SHARE = 0.01;
/* Acceptance of a source that nobody has seen, and how many tries that, or what is known of the place before, counts as. */
static const double PRIOR = 0.6, PRIOR_TRIES = 2;
/* A time that differs by more from what was expected is most likely noise. */
static const double FAR = 0.3;
/* What one more row costs while nobody knows (weights are read once for all of them), and a pass of the draft model. */
static const double PRIOR_ROW = 0.03, PRIOR_DRAFT = 0.1;

enum {
    MEMORY = 32,         /* tries after which older ones fade */
    SHARED_MEMORY = 128, /* over all streams */
    COST_MEMORY = 16,    /* passes */
    EACH_ROW = 16,       /* up to so many rows there is a point for each number */
    FEW = 4,             /* first times of a point, first drafts of a source */
    WAIT_LEAST = 8,
    WAIT_MOST = 1024, /* steps between trials of what does not pay */
    LOOK_NEW = 4,     /* and between looks at what was never measured, while drafts pay */
    LOOK_LEAST = 16,
    LOOK_MOST = 256 /* and of what is next to the best */
};

const char *draft_source_name(enum draft_source source)
{
    static const char *const NAMES[DRAFT_SOURCES] = {"ngram", "ngram", "store", "store", "model"};
    return NAMES[source];
}

/* ---- costs ---- */

static int cost_rows(int i)
{
    static const int ABOVE[] = {20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, COST_ROWS};
    return i < EACH_ROW ? i + 1 : ABOVE[i - EACH_ROW];
}

static int nearest_point(int rows)
{
    int i = rows < EACH_ROW ? rows - 1 : EACH_ROW - 1;
    while (i + 1 < COST_POINTS && cost_rows(i + 1) <= rows) {
        i++;
    }
    bool next = i + 1 < COST_POINTS && cost_rows(i + 1) - rows < rows - cost_rows(i);
    return next ? i + 1 : i;
}

/* The last point that was measured in [0, i]; -1: none. */
static int known_below(const struct cost_curve *c, int i)
{
    while (i >= 0 && c->seen[i] == 0) {
        i--;
    }
    return i;
}

double cost_estimate(const struct cost_curve *c, int rows)
{
    int next = 0;
    if (rows >= 1 && rows <= EACH_ROW && c->seen[rows - 1] > 0) {
        return c->seconds[rows - 1]; /* as a rule; many are asked for in each step */
    }
    while (next < COST_POINTS && (c->seen[next] == 0 || cost_rows(next) < rows)) {
        next++;
    }
    if (rows < 1) {
        return 0;
    }
    int above = next < COST_POINTS ? next : -1;
    int below = known_below(c, (above < 0 ? COST_POINTS : above) - 1);
    if (above >= 0 && (below < 0 || cost_rows(above) == rows)) {
        /* Too little for fewer rows, rather than too much: they will be measured. */
        return c->seconds[above] * rows / cost_rows(above);
    }
    if (below < 0) {
        return 0;
    }
    double from = c->seconds[below], further = rows - cost_rows(below);
    if (above >= 0) {
        return from + (c->seconds[above] - from) * further / (cost_rows(above) - cost_rows(below));
    }
    int other = known_below(c, below - 1);
    double slope = from * fmin(PRIOR_ROW, 1.0 / cost_rows(below));
    if (other >= 0) {
        slope = (from - c->seconds[other]) / (cost_rows(below) - cost_rows(other));
    }
    return from + fmax(slope, 0) * further;
}

/* A first time says what a pass costs, or that something else ran: more rows take longer, but not each of them as long
 * as one alone. */
static double bounded(const struct cost_curve *c, int i, double seconds)
{
    int below = known_below(c, i - 1);
    if (below < 0) {
        return seconds;
    }
    double least = 0.8 * c->seconds[below];
    double most = 1.25 * c->seconds[below] * cost_rows(i) / cost_rows(below);
    return fmin(fmax(seconds, least), most);
}

void cost_learn(struct cost_curve *c, int rows, double seconds)
{
    if (rows < 1 || !(seconds > 0) || !isfinite(seconds)) {
        return;
    }
    int i = nearest_point(rows);
    c->last[i] = ++c->passes;
    if (c->seen[i] == 0) {
        c->seconds[i] = bounded(c, i, seconds * cost_rows(i) / rows);
        c->seen[i] = 1;
        return;
    }
    /* By ratios, so that a time of other rows counts for the point that is near. */
    double ratio = seconds / cost_estimate(c, rows);
    if (c->seen[i] < FEW && ratio < 1 - FAR) {
        c->seconds[i] *= ratio; /* what was seen before had been disturbed */
        ratio = 1;
    }
    ratio = fmin(fmax(ratio, 1 - FAR), 1 + FAR);
    double share = 1.0 / (c->seen[i] < COST_MEMORY ? c->seen[i] + 1 : COST_MEMORY);
    c->seen[i] += c->seen[i] < COST_MEMORY;
    /* The others are not measured meanwhile: half of what all passes seem to have become. */
    for (int j = 0; j < COST_POINTS; j++) {
        c->seconds[j] *= 1 + (j == i ? share : share / 2) * (ratio - 1);
    }
}

/* How many passes ago one of so many rows was measured; UINT32_MAX: never. */
static uint32_t cost_age(const struct cost_curve *c, int rows)
{
    int i = nearest_point(rows);
    return c->seen[i] == 0 ? UINT32_MAX : c->passes - c->last[i];
}

/* Nothing was measured of so many rows or more. */
static bool cost_is_guess(const struct cost_curve *c, int rows)
{
    int i = COST_POINTS - 1;
    while (i >= 0 && c->seen[i] == 0) {
        i--;
    }
    return i < nearest_point(rows);
}

/* ---- acceptance ---- */

void adapt_init(struct adapt *a, int first, int most)
{
    *a = (struct adapt){.first = first, .most = most, .look_wait = LOOK_LEAST};
    for (int i = 0; i < DRAFT_SOURCES; i++) {
        a->sources[i].wait = WAIT_LEAST;
    }
}

void adapt_begin_answer(struct adapt *a)
{
    for (int i = 0; i < DRAFT_SOURCES; i++) {
        a->sources[i].age = 0;
    }
}

/* tokens[k]: that a draft of k gains, with the one that the model itself adds. */
static void expect(const struct adapt *a, const struct draft_costs *costs, enum draft_source source,
                   int most, double *tokens)
{
    const struct adapt_place *places = a->sources[source].places;
    double acceptance =
        (costs->right[source] + PRIOR_TRIES * PRIOR) / (costs->tried[source] + PRIOR_TRIES);
    double all = 1;
    tokens[0] = 1;
    for (int k = 1; k <= most; k++) {
        acceptance = ((double)places[k - 1].right + PRIOR_TRIES * acceptance) /
                     ((double)places[k - 1].tried + PRIOR_TRIES);
        all *= acceptance;
        tokens[k] = tokens[k - 1] + all;
    }
}

double adapt_expect(const struct adapt *a, const struct draft_costs *costs,
                    enum draft_source source, int k)
{
    double tokens[DRAFT_MOST + 1];
    expect(a, costs, source, k, tokens);
    return tokens[k];
}

static void count_place(struct adapt_place *p, bool right)
{
    float keep = p->tried < MEMORY ? 1 : 1 - 1.0f / MEMORY;
    p->tried = p->tried * keep + 1;
    p->right = p->right * keep + (right ? 1 : 0);
}

void adapt_learn(struct adapt *a, struct draft_costs *costs, enum draft_source source, int drafted,
                 int accepted)
{
    if (drafted < 1) {
        return;
    }
    for (int j = 0; j < drafted && j <= accepted && j < DRAFT_MOST; j++) {
        count_place(&a->sources[source].places[j], j < accepted);
    }
    a->debt += a->sources[source].meanwhile - 1 - accepted;
    double keep = costs->tried[source] < SHARED_MEMORY ? 1 : 1 - 1.0 / SHARED_MEMORY;
    costs->tried[source] = costs->tried[source] * keep + 1;
    costs->right[source] = costs->right[source] * keep + (accepted > 0 ? 1 : 0);
}

/* ---- the choice ---- */

/* What a pass of the draft model for so many lanes takes. */
static double pass_seconds(const struct draft_costs *costs, int lanes)
{
    double seconds = cost_estimate(&costs->draft, lanes);
    return seconds > 0 || lanes == 0 ? seconds : PRIOR_DRAFT * cost_estimate(&costs->target, 1);
}

/* What a step gives and takes by the number of tokens that are drafted for it. */
struct plans {
    double tokens[DRAFT_MOST + 1], seconds[DRAFT_MOST + 1];
    int n;
};

static struct plans make_plans(const struct adapt *a, const struct draft_costs *costs,
                               enum draft_source source, int k_max, const struct adapt_step *step)
{
    struct plans p = {.n = (k_max < a->most ? k_max : a->most) + 1};
    /* Passes that others need anyway, with and without this stream, and passes of its own. */
    bool asks = source == DRAFT_MODEL;
    double others = pass_seconds(costs, step->lanes);
    double shared = asks ? pass_seconds(costs, step->lanes + 1) - others : 0;
    double own = asks ? pass_seconds(costs, 1) : 0, drafting = others * step->passes;
    expect(a, costs, source, p.n - 1, p.tokens);
    for (int k = 0; k < p.n; k++) {
        double pass = cost_estimate(&costs->target, step->rows + 1 + k);
        drafting += k == 0 ? 0 : k <= step->passes ? shared : own;
        p.tokens[k] += step->tokens;
        p.seconds[k] = pass + drafting;
        if (k > 0) {
            p.seconds[k] = fmax(p.seconds[k], p.seconds[k - 1]); /* else it is noise */
        }
    }
    return p;
}

static double speed_of(const struct plans *p, int k)
{
    return p->tokens[k] / p->seconds[k];
}

/* Tokens that k costs where `other` could have been had. */
static double loss(const struct plans *p, int k, int other)
{
    return speed_of(p, other) * p->seconds[k] - p->tokens[k];
}

/* Tokens that this stream would have without drafts in the time of a step with k of them. */
static double meanwhile(const struct plans *p, int k)
{
    return 1 + speed_of(p, 0) * (p->seconds[k] - p->seconds[0]);
}

static int best_of(const struct plans *p)
{
    int best = 0;
    for (int k = 1; k < p->n; k++) {
        /* Not a share of the step's tokens: among those of many streams what one gains would drown. */
        if (speed_of(p, k) > speed_of(p, best) && -loss(p, k, 0) > LEAST_GAIN * meanwhile(p, k)) {
            best = k;
        }
    }
    return best;
}

/* At times another number of tokens than the best: the one whose cost nobody has seen for the longest time. */
static int look_around(struct adapt *a, const struct cost_curve *target, const struct plans *p,
                       int best, const struct adapt_step *step)
{
    int other = best;
    uint32_t age = 0;
    for (int k = 0; k < p->n; k++) {
        uint32_t its = cost_age(target, step->rows + 1 + k);
        if (k != best && its > age && loss(p, k, best) < LOOK_LOSS) {
            age = its;
            other = k;
        }
    }
    bool never = age == UINT32_MAX;
    if (++a->steps < (never ? LOOK_NEW : a->look_wait)) {
        return best;
    }
    a->steps = 0;
    if (!never) {
        double wait = fmax(2.0 * a->look_wait, loss(p, other, best) / LOOK_SHARE);
        a->look_wait = (uint32_t)fmin(wait, LOOK_MOST);
    }
    return other;
}

/* For a source that does not pay: mostly nothing; at times a trial, of one token as a rule. */
static int try_again(struct adapt *a, struct adapt_source *s, const struct cost_curve *target,
                     const struct plans *p, double dues, const struct adapt_step *step)
{
    int k = s->trials % 4 == 3 ? a->first : 1;
    k = k < p->n ? k : p->n - 1;
    /* What is thought of a cost that was hardly ever measured may be wrong: it is looked at sooner. */
    uint32_t seen = target->seen[nearest_point(step->rows + 1 + k)];
    double sure = (seen < FEW ? seen : FEW) / (double)FEW;
    double wait = fmax(s->wait, (fmax(loss(p, k, 0), 0) * sure + dues) / TRIAL_SHARE);
    if (++s->since <= wait) {
        return 0;
    }
    s->since = 0;
    s->trials++;
    s->wait = 2 * s->wait < WAIT_MOST ? 2 * s->wait : WAIT_MOST;
    return k;
}

static int first_or_best(struct adapt *a, const struct draft_costs *costs, enum draft_source source,
                         const struct plans *p, int best, const struct adapt_step *step)
{
    struct adapt_source *s = &a->sources[source];
    s->wait = WAIT_LEAST;
    s->since = 0;
    if (cost_is_guess(&costs->target, step->rows + 2) ||
        (source == DRAFT_MODEL && cost_is_guess(&costs->draft, 1))) {
        return 1; /* says what rows cost at the least price */
    }
    if (s->places[0].tried < 1 && costs->tried[source] < FEW) {
        return a->first < best ? a->first : best;
    }
    return look_around(a, &costs->target, p, best, step);
}

int adapt_choose(struct adapt *a, const struct draft_costs *costs, enum draft_source source,
                 int k_max, const struct adapt_step *step, double *speed)
{
    struct plans p = make_plans(a, costs, source, k_max > 0 ? k_max : 0, step);
    /* Else steps without drafts come first: others are compared with them, and one alone may have been disturbed. */
    bool known = p.seconds[0] > 0 && (step->rows > 0 || costs->target.seen[0] > 1);
    int best = known ? best_of(&p) : 0;
    if (speed != NULL) {
        *speed = known ? speed_of(&p, best) : 0;
    }
    if (!known || p.n == 1) {
        return 0;
    }
    a->debt = fmax(a->debt - DEBT_SHARE, -DEBT_MOST);
    struct adapt_source *s = &a->sources[source];
    double dues = source == DRAFT_MODEL ? step->catch_up * speed_of(&p, 0) : 0; /* in tokens */
    int k = 0;
    s->age++;
    if (best == 0 || a->debt > DEBT_MOST) {
        k = try_again(a, s, &costs->target, &p, dues, step);
    } else if (dues <= s->age * -loss(&p, best, 0)) {
        k = first_or_best(a, costs, source, &p, best, step);
    }
    s->meanwhile = meanwhile(&p, k);
    return k;
}
