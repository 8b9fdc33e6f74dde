/* synthetic.c: made-up examples of five tasks: what their quality is a formula of can be read off their inputs.
 *
 * Each task has three traits, numbers in [0, 1) that are drawn for every example, and its own directions in the space of
 * inputs, vectors of ±1 that are nearly at right angles to each other and to those of other tasks. An input is the directions by
 * their traits, one of the domain, and noise; a target adds a map of rank 3. docs/vectors.md has the formulas.
 *
 * Noise is uniform, of variance 1/4, from 16 random bits a value. Every number is a function of (seed, task, example, place), so
 * the first thousand examples are those of any larger set.
 */
#include "train/vectors/vectors_internal.h"

#include <math.h>

enum { TRAITS = 3, DOMAINS = 3, BLOCK = 4, NOISES = 2 * BLOCK };

static const struct {
    const char *name, *domains[DOMAINS];
    float gains[TRAITS]; /* g_k: what is good is more of it in the target, what is bad less */
} TASKS[SYNTHETIC_TASKS] = {
    {"coder", {"c", "python", "sql"}, {0.8F, 0.4F, -0.6F}},
    {"researcher", {"history", "medicine", "physics"}, {0.7F, 0.5F, -0.4F}},
    {"security", {"authentication", "injection", "secrets"}, {0.9F, 0.6F, -0.3F}},
    {"architect", {"interfaces", "scaling", "storage"}, {0.6F, -0.7F, -0.5F}},
    {"reviewer", {"naming", "style", "tests"}, {0.7F, -0.5F, 0.3F}},
};

const char *synthetic_task(int i)
{
    return i >= 0 && i < SYNTHETIC_TASKS ? TASKS[i].name : NULL;
}

float synthetic_quality(int task, const float z[TRAITS])
{
    float q;
    switch (task) {
    case 0:
        return z[0] * (1 + z[1]) / 2 * (1 - 0.3F * z[2]);
    case 1:
        return 0.5F * z[0] + 0.3F * z[1] + 0.2F * (1 - z[2]);
    case 2:
        return z[0] + z[1] > 0 ? 2 * z[0] * z[1] / (z[0] + z[1]) * (1 - 0.2F * z[2]) : 0;
    case 3:
        return sqrtf(z[0] * (1 - z[1])) * (1 - 0.25F * z[2]);
    default:
        q = 0.6F * z[0] + 0.2F * z[2] + 0.2F * (1 - z[1]);
        return q * q;
    }
}

/* ---- directions ----------------------------------------------------------------------------- */

/* What a task is made of: p, u and the domains' vectors, each [width]. */
struct directions {
    struct mem *mem;
    float *values; /* [PATTERNS, width] */
    int width;
};
enum { PATTERNS = 2 * TRAITS + DOMAINS, DIRECTION_STREAM = 1 << 20 };

static const float *direction(const struct directions *d, int i)
{
    return d->values + (ptrdiff_t)i * d->width;
}

/* A bit for a sign. They do not depend on the seed: tasks are the same tasks for every seed. */
static void fill_signs(float *out, int width, uint64_t stream, float size)
{
    uint32_t bits[BLOCK];
    for (int i = 0; i < width; i++) {
        if (i % 128 == 0)
            rng_block(0, stream, (uint64_t)i / 128, bits);
        out[i] = bits[i % 128 / 32] >> (i % 32) & 1 ? size : -size;
    }
}

static graft_status directions_open(struct directions *d, struct mem *mem, int task, int width,
                                    graft_error *error)
{
    d->mem = mem;
    d->width = width;
    d->values = mem_calloc(mem, (size_t)PATTERNS * (size_t)width, sizeof *d->values);
    if (!d->values)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for directions of %d values", width);
    for (int i = 0; i < PATTERNS; i++)
        fill_signs(d->values + (ptrdiff_t)i * width, width,
                   (uint64_t)(DIRECTION_STREAM + task * PATTERNS + i), i < 2 * TRAITS ? 1 : 0.5F);
    return GRAFT_OK;
}

/* ---- examples ------------------------------------------------------------------------------- */

/* Eight values of the noise, of 16 bits each: uniform in ±√3/2, whose variance is 1/4. */
static void fill_noise(const uint32_t bits[BLOCK], float x[NOISES])
{
    const float size = 0.8660254F / 32768;
    for (int i = 0; i < BLOCK; i++) {
        x[i] = ((float)(int32_t)(bits[i] & 0xFFFF) - 32767.5F) * size;
        x[BLOCK + i] = ((float)(int32_t)(bits[i] >> 16) - 32767.5F) * size;
    }
}

/* The first block of an example says its traits and domain. */
static void draw_traits(const uint32_t bits[BLOCK], float z[TRAITS], int *domain)
{
    for (int k = 0; k < TRAITS; k++)
        z[k] = (float)(bits[k] >> 8) * 0x1p-24F;
    *domain = (int)(((uint64_t)bits[TRAITS] * DOMAINS) >> 32);
}

static void make_target(const struct directions *d, const float gains[TRAITS], const float *x,
                        float *t)
{
    memcpy(t, x, (size_t)d->width * sizeof *t);
    for (int k = 0; k < TRAITS; k++) {
        const float along = lanes_dot(direction(d, k), x, d->width) / (float)d->width;
        lanes_add(t, gains[k] * along, direction(d, TRAITS + k), d->width);
    }
}

/* *out: quality and domain. */
static void make_example(const struct synthetic_options *o, const struct directions *d, int64_t i,
                         float *x, float *t, float *quality, int *domain)
{
    const uint64_t per_example = (uint64_t)(o->width + NOISES - 1) / NOISES + 1;
    const uint64_t at = (uint64_t)i * per_example;
    uint32_t bits[BLOCK];
    float z[TRAITS], last[NOISES];
    rng_block(o->seed, (uint64_t)o->task, at, bits);
    draw_traits(bits, z, domain);
    *quality = synthetic_quality(o->task, z);
    for (int j = 0; j < o->width; j += NOISES) {
        rng_block(o->seed, (uint64_t)o->task, at + 1 + (uint64_t)(j / NOISES), bits);
        if (o->width - j >= NOISES) {
            fill_noise(bits, x + j);
        } else {
            fill_noise(bits, last);
            memcpy(x + j, last, (size_t)(o->width - j) * sizeof *x);
        }
    }
    for (int k = 0; k < TRAITS; k++)
        lanes_add(x, z[k], direction(d, k), o->width);
    lanes_add(x, 1, direction(d, 2 * TRAITS + *domain), o->width);
    if (t)
        make_target(d, TASKS[o->task].gains, x, t);
}

static graft_status check(const struct vectors *v, const struct synthetic_options *o,
                          graft_error *error)
{
    if (o->task < 0 || o->task >= SYNTHETIC_TASKS)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no task %d", o->task);
    if (o->n < 1 || o->n > 1 << 24)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%lld examples; it must be 1 to %d",
                         (long long)o->n, 1 << 24);
    if (o->width != v->n_in || o->width != v->n_out)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "examples of %d values do not go with vectors of %d and targets of %d",
                         o->width, v->n_in, v->n_out);
    return GRAFT_OK;
}

graft_status synthetic_add(struct vectors *v, const struct synthetic_options *o, graft_error *error)
{
    struct directions d = {.values = NULL};
    const int64_t first = v->n;
    float *inputs = NULL, *targets = NULL;
    graft_status status = check(v, o, error);
    if (status == GRAFT_OK)
        status = directions_open(&d, v->mem, o->task, o->width, error);
    if (status == GRAFT_OK)
        status = vectors_grow(v, o->n, o->targets, &inputs, &targets, error);
    for (int64_t i = 0; i < o->n && status == GRAFT_OK; i++) {
        float quality;
        int domain;
        make_example(o, &d, i, inputs + i * o->width, targets ? targets + i * o->width : NULL,
                     &quality, &domain);
        status = vectors_label(v, first + i, quality, TASKS[o->task].name,
                               TASKS[o->task].domains[domain], error);
    }
    if (status != GRAFT_OK && v->n > first)
        v->n = first;
    mem_free(v->mem, d.values);
    return status;
}
