/* measure.c: samples, and what is made of them.
 *
 * The cases of a bench are sampled in turn, with a sample of the limit before each case and after the
 * last: a share is taken of the two limits around its sample, a ratio of two samples of one turn. On a
 * machine that others use too the speeds go up and down together, and shares and ratios do not.
 */
#include "bench/bench_internal.h"

#include <math.h>

enum { SAMPLES_DEFAULT = 9, SAMPLES_LEAST = 3 };
/* Time for each case when the number of samples is ours. Samples are short and many: what a machine does to
 * one of them in a tenth of a second it does to its neighbours too. */
static const double CASE_SECONDS = 5;
static const double LIMIT_PART = 0.1, LIMIT_SECONDS = 0.3;

int bench_samples(const struct bench *b)
{
    return b->options->samples > 0 ? b->options->samples : SAMPLES_DEFAULT;
}

double wall_seconds(double since)
{
    return time_seconds() - since;
}

graft_status bench_progress(const struct bench *b, uint64_t done, uint64_t total, const char *what,
                            graft_error *error)
{
    const graft_bench_options *o = b->options;
    const double units = 1e6; /* of the whole */
    if (b->part_to > 0) {
        double share = b->part_from + (b->part_to - b->part_from) * (double)done / (double)total;
        done = (uint64_t)(units * share);
        total = (uint64_t)units;
    }
    if (o->progress && !o->progress(o->progress_user, done, total, what))
        return error_set(error, GRAFT_CANCELLED, "cancelled");
    return GRAFT_OK;
}

static const char *clock_name(enum bench_clock clock)
{
    return clock == CLOCK_WALL ? "wall" : "processor";
}

static void give(const struct bench *b, graft_bench_result *r)
{
    r->bench = b->options->bench;
    r->subject = b->subject;
    b->callback(b->user, r);
}

void bench_report(const struct bench *b, const char *name, const char *unit, enum bench_clock clock,
                  double *values, int n)
{
    give(b, &(graft_bench_result){.name = name,
                                  .unit = unit,
                                  .value = samples_median(values, n),
                                  .spread = samples_spread(values, n),
                                  .samples = n,
                                  .seconds = NAN,
                                  .clock = clock_name(clock),
                                  .limit_share = NAN,
                                  .baseline_value = NAN,
                                  .ratio = NAN,
                                  .checked = b->checked,
                                  .share_spread = NAN,
                                  .ratio_spread = NAN});
}

void bench_report_beside(const struct bench *b, const char *name, const char *unit, double *values,
                         int n, const char *baseline, double baseline_value)
{
    double value = samples_median(values, n);
    give(b, &(graft_bench_result){.name = name,
                                  .unit = unit,
                                  .value = value,
                                  .spread = samples_spread(values, n),
                                  .samples = n,
                                  .seconds = NAN,
                                  .clock = clock_name(CLOCK_WALL),
                                  .limit_share = NAN,
                                  .share_spread = NAN,
                                  .baseline = baseline,
                                  .baseline_value = baseline_value,
                                  .ratio = value / baseline_value,
                                  .ratio_spread = samples_spread(values, n),
                                  .checked = b->checked});
}

/* ---- cases -------------------------------------------------------------------------------- */

struct samples {
    double value[SAMPLES_MAX], share[SAMPLES_MAX], ratio[SAMPLES_MAX], seconds[SAMPLES_MAX];
    double extra[SAMPLES_MAX], extra_times[SAMPLES_MAX]; /* seconds; times what reading takes */
    double took;                                         /* the last run of the case, on the wall */
};

struct series {
    struct bench *b;
    const struct bench_case *cases;
    int n;                   /* cases */
    struct samples *samples; /* [n] */
    uint64_t done, total;    /* of the progress, as it was said last */
};

/* The mean over a tenth of the time that the sample beside it took: whatever else runs on the machine
 * comes and goes in slices, of which both should see a fair part. */
static struct seconds sample_limit(const struct bench *b, int limit, double beside)
{
    struct seconds sum = {{0}};
    double begun = time_seconds(), least = fmin(beside * LIMIT_PART, LIMIT_SECONDS);
    int n = 0;
    do {
        struct seconds s = limit == LIMIT_READ ? limits_read(&b->limits, false)
                                               : limits_compute(&b->limits, limit, false);
        for (int i = 0; i < CLOCK_KINDS; i++)
            sum.by[i] += s.by[i];
        n++;
    } while (wall_seconds(begun) < least);
    for (int i = 0; i < CLOCK_KINDS; i++)
        sum.by[i] /= n;
    return sum;
}

/* Sample `turn` of one case. The limit after it serves the next case as the one before. */
static graft_status sample_case(const struct series *s, int index, int turn, struct seconds *before,
                                graft_error *error)
{
    const struct bench_case *c = &s->cases[index];
    struct samples *out = &s->samples[index];
    struct seconds taken = {{0}};
    graft_status status = c->run(s->b, c->context, &taken, error);
    if (status != GRAFT_OK)
        return status;
    out->took = taken.by[CLOCK_WALL];
    struct seconds after = sample_limit(s->b, c->limit, out->took);
    double seconds = taken.by[c->clock];
    out->seconds[turn] = seconds;
    double unit_limit = (before->by[c->clock] + after.by[c->clock]) / 2;
    out->value[turn] = c->is_time ? c->work * seconds : c->work / seconds;
    out->share[turn] = c->limit_work * unit_limit / seconds;
    if (c->extra_work > 0) {
        out->extra[turn] = seconds - s->samples[c->extra_to].seconds[turn];
        out->extra_times[turn] = out->extra[turn] / (c->extra_work * unit_limit);
    }
    if (c->baseline >= 0)
        out->ratio[turn] = out->value[turn] / s->samples[c->baseline].value[turn];
    *before = after;
    return GRAFT_OK;
}

/* How many turns there will be where one takes so many seconds. */
static int expected_turns(const struct bench *b, int n, double seconds)
{
    double ours = fmin(CASE_SECONDS * n / seconds + 1, SAMPLES_MAX);
    return b->options->samples > 0 ? b->options->samples : (int)fmax(ours, SAMPLES_LEAST);
}

double bench_expected(const struct bench *b, int n, double seconds)
{
    return (1 + expected_turns(b, n, n * seconds)) * n * seconds;
}

/* Before case i of a turn, the one that warms up being turn 0. `seconds`: of a turn, as far as is known. Where more turns are
 * expected than before it stays where it was. */
static graft_status show_progress(struct series *s, int turn, int i, double seconds,
                                  graft_error *error)
{
    int turns = seconds > 0 ? expected_turns(s->b, s->n, seconds) : SAMPLES_MAX;
    turns = turns > turn ? turns : turn;
    uint64_t done = (uint64_t)(turn * s->n + i), total = (uint64_t)(1 + turns) * (uint64_t)s->n;
    if (done * s->total >= s->done * total) {
        s->done = done;
        s->total = total;
    }
    return bench_progress(s->b, s->done, s->total, turn > 0 ? s->cases[i].name : "warming up",
                          error);
}

/* Turns until there are enough samples. */
static graft_status sample_all(struct series *s, double warm, int *n_samples, graft_error *error)
{
    int wanted = s->b->options->samples, turn = 0;
    bool ours = wanted <= 0;
    double begun = time_seconds();
    for (; turn < (ours ? SAMPLES_MAX : wanted); turn++) {
        struct seconds before = {{0}};
        double spent = wall_seconds(begun), most = CASE_SECONDS * s->n;
        if (ours && turn >= SAMPLES_LEAST && spent > most)
            break;
        for (int i = 0; i < s->n; i++) {
            graft_status status =
                show_progress(s, 1 + turn, i, turn > 0 ? spent / turn : warm, error);
            if (i == 0 || s->cases[i].limit != s->cases[i - 1].limit)
                before = sample_limit(s->b, s->cases[i].limit, s->samples[i].took);
            if (status == GRAFT_OK)
                status = sample_case(s, i, turn, &before, error);
            if (status != GRAFT_OK)
                return status;
        }
    }
    *n_samples = turn;
    return GRAFT_OK;
}

static void report_case(const struct series *s, int index, int n_samples)
{
    const struct bench_case *c = &s->cases[index];
    struct samples *v = &s->samples[index];
    bool compared = c->baseline >= 0;
    give(s->b, &(graft_bench_result){
                   .name = c->name,
                   .unit = c->unit,
                   .value = samples_median(v->value, n_samples),
                   .spread = samples_spread(v->value, n_samples),
                   .samples = n_samples,
                   .seconds = samples_median(v->seconds, n_samples),
                   .clock = clock_name(c->clock),
                   .limit = c->limit == LIMIT_READ ? "read bandwidth"
                                                   : s->b->limits.peaks[c->limit]->name,
                   .limit_share = samples_median(v->share, n_samples),
                   .baseline = compared ? s->cases[c->baseline].name : NULL,
                   .baseline_value =
                       compared ? samples_median(s->samples[c->baseline].value, n_samples) : NAN,
                   .ratio = compared ? samples_median(v->ratio, n_samples) : NAN,
                   .checked = s->b->checked,
                   .share_spread = samples_spread(v->share, n_samples),
                   .ratio_spread = compared ? samples_spread(v->ratio, n_samples) : NAN});
}

/* No share where the samples are too noisy to see any extra time. */
static void report_extra(const struct series *s, int index, int n_samples)
{
    const struct bench_case *c = &s->cases[index];
    struct samples *v = &s->samples[index];
    char name[2 * CASE_NAME_SIZE];
    double times = samples_median(v->extra_times, n_samples);
    double seconds = samples_median(v->extra, n_samples);
    snprintf(name, sizeof name, "%s: more a step", c->name);
    give(s->b, &(graft_bench_result){
                   .name = name,
                   .unit = "ms",
                   .value = 1e3 * seconds / c->extra_steps,
                   .spread = samples_spread(v->extra, n_samples),
                   .samples = n_samples,
                   .seconds = seconds,
                   .clock = clock_name(c->clock),
                   .limit = "read bandwidth",
                   .limit_share = times > 0 ? 1 / times : NAN,
                   .share_spread = times > 0 ? samples_spread(v->extra_times, n_samples) : NAN,
                   .baseline_value = NAN,
                   .ratio = NAN,
                   .ratio_spread = NAN,
                   .checked = s->b->checked});
}

graft_status bench_measure(struct bench *b, const struct bench_case *cases, int n,
                           graft_error *error)
{
    struct series s = {.b = b, .cases = cases, .n = n};
    int n_samples = 0;
    double taken = 0;
    graft_status status = GRAFT_OK;
    s.samples = mem_calloc(b->mem, (size_t)n, sizeof *s.samples);
    if (!s.samples)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for samples");
    for (int i = 0; i < n && status == GRAFT_OK; i++) {
        struct seconds warm = {{0}};
        double begun = time_seconds();
        status = show_progress(&s, 0, i, i > 0 ? taken / i * n : 0, error);
        if (status == GRAFT_OK)
            status = cases[i].run(b, cases[i].context, &warm, error);
        s.samples[i].took = warm.by[CLOCK_WALL];
        taken += wall_seconds(begun);
    }
    if (status == GRAFT_OK)
        status = sample_all(&s, taken, &n_samples, error);
    for (int i = 0; i < n && status == GRAFT_OK; i++) {
        report_case(&s, i, n_samples);
        if (cases[i].extra_work > 0)
            report_extra(&s, i, n_samples);
    }
    mem_free(b->mem, s.samples);
    return status;
}
