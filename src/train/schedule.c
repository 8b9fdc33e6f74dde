/* schedule.c: the learning rate of a step.
 *
 * As Hugging Face counts: the rate of step s (from 0) rises linearly from 0 over the warmup, so that the very first is 0
 * where there is one; then x goes from 0 to 1 over the steps that are left, and the rate is lr · f(x).
 */
#include "train/train_internal.h"

#include <math.h>

const char *schedule_name(enum schedule_kind kind)
{
    static const char *const NAMES[] = {
#define SCHEDULE_NAME(name, text) text,
        SCHEDULE_LIST(SCHEDULE_NAME)
#undef SCHEDULE_NAME
    };
    return kind >= 0 && kind < SCHEDULE_KINDS ? NAMES[kind] : NULL;
}

bool schedule_find(const char *name, enum schedule_kind *out)
{
    if (!strcmp(name, "wsd"))
        name = schedule_name(SCHEDULE_STABLE);
    for (int i = 0; i < SCHEDULE_KINDS; i++)
        if (!strcmp(name, schedule_name((enum schedule_kind)i))) {
            *out = (enum schedule_kind)i;
            return true;
        }
    return false;
}

static double cosine(double x)
{
    return (1 + cos(3.14159265358979323846 * x)) / 2;
}

/* Up to lr over the first PEAK of the way, from START of it, and down to END, both as half a cosine (Smith and Topin
 * 2018, with the numbers that PyTorch's OneCycleLR begins with). */
static double one_cycle(double x)
{
    const double PEAK = 0.3, START = 1 / 25.0, END = 1 / 25.0 / 1e4;
    if (x < PEAK)
        return START + (1 - START) * (1 - cosine(x / PEAK));
    return END + (1 - END) * cosine((x - PEAK) / (1 - PEAK));
}

/* 1, and over the last `fall` of all steps in a line to what would be 0 one step later. */
static double stable(const struct schedule *s, int64_t step)
{
    double steps = fmax(1, ceil(s->fall * (double)s->steps));
    return fmin(1, fmax(0, (double)(s->steps - step) / steps));
}

double schedule_rate(const struct schedule *s, int64_t step)
{
    if (step < s->warmup)
        return s->rate * (double)step / (double)s->warmup;
    int64_t left = s->steps - s->warmup;
    double x = (double)(step - s->warmup) / (double)(left > 0 ? left : 1);
    x = x < 1 ? x : 1;
    switch (s->kind) {
    case SCHEDULE_LINEAR:
        return s->rate * (1 - x);
    case SCHEDULE_COSINE:
        return s->rate * cosine(x);
    case SCHEDULE_EXPONENTIAL:
        return s->rate * pow(0.01, x);
    case SCHEDULE_STEP:
        return s->rate * pow(0.5, floor(4 * x));
    case SCHEDULE_STABLE:
        return s->rate * stable(s, step);
    case SCHEDULE_ONE_CYCLE:
        return s->rate * one_cycle(x);
    default:
        return s->rate;
    }
}
