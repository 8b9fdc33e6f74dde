/* costs.c: what passes cost by their number of rows, from measured times.
 *
 * A point for each number of rows up to 16, and ever fewer beyond; between and beyond them estimates are straight lines. Times
 * are noisy: a point moves by a share of the difference, and by little where the difference is large, but for its first few
 * times. What all passes seem to have become slower or faster by counts for the points that are not measured meanwhile.
 */
#include "generate/draft/draft_internal.h"

#include <math.h>

/* A time that differs by more from what was expected is most likely noise. */
static const double FAR = 0.3;
/* What one more row costs while nobody knows: weights are read once for all of them. */
static const double PRIOR_ROW = 0.03;

enum {
    COST_MEMORY = 16, /* passes */
    EACH_ROW = 16     /* up to so many rows there is a point for each number */
};

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
    if (c->seen[i] < COST_FEW && ratio < 1 - FAR) {
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

uint32_t cost_age(const struct cost_curve *c, int rows)
{
    int i = nearest_point(rows);
    return c->seen[i] == 0 ? UINT32_MAX : c->passes - c->last[i];
}

bool cost_is_guess(const struct cost_curve *c, int rows)
{
    int i = COST_POINTS - 1;
    while (i >= 0 && c->seen[i] == 0) {
        i--;
    }
    return i < nearest_point(rows);
}

uint32_t cost_seen(const struct cost_curve *c, int rows)
{
    return c->seen[nearest_point(rows)];
}
