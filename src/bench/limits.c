/* limits.c: what the machine can do: bytes read from memory, and operations of the tier, per second.
 *
 * The workers of the runtime do both, so that the figures are those of the threads in use. A sample
 * takes some milliseconds: short enough to stand beside every sample of a case.
 */
#include "bench/bench_internal.h"

#include <math.h>
#include <sys/mman.h>
#include <time.h>

enum { WORKERS_MAX = 1024, PAGE = 4096, HUGE_PAGE = 2 << 20 };
static const size_t MEMORY_BYTES = (size_t)256 << 20;
static const double PEAK_SECONDS = 8e-3;

/* ---- time --------------------------------------------------------------------------------- */

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct timed {
    pool_work work;
    void *context;
    double seconds[WORKERS_MAX];
};

static void timed_share(void *context, int worker, int n_workers)
{
    struct timed *t = context;
    double begun = thread_seconds();
    t->work(t->context, worker, n_workers);
    t->seconds[worker] = thread_seconds() - begun;
}

struct seconds run_timed(struct pool *pool, bool alone, pool_work work, void *context)
{
    struct timed t = {.work = work, .context = context};
    struct seconds s = {{0}};
    double begun = time_seconds();
    if (alone)
        pool_run_alone(timed_share, &t);
    else
        pool_run(pool, timed_share, &t);
    s.by[CLOCK_WALL] = time_seconds() - begun;
    for (int i = 0; i < (alone ? 1 : pool_threads(pool)); i++)
        s.by[CLOCK_WORKERS] = fmax(s.by[CLOCK_WORKERS], t.seconds[i]);
    return s;
}

/* ---- the limits --------------------------------------------------------------------------- */

struct read_work {
    const struct limits *limits;
    _Atomic uint64_t sum; /* keeps the reading from being left out */
};

static void read_share(void *context, int worker, int n_workers)
{
    struct read_work *w = context;
    int64_t begin, end;
    pool_split((int64_t)w->limits->memory_bytes, PAGE, worker, n_workers, &begin, &end);
    w->sum ^= read_bytes(w->limits->memory + begin, (size_t)(end - begin));
}

struct seconds limits_read(const struct limits *l, bool alone)
{
    struct read_work w = {.limits = l};
    struct seconds s = run_timed(l->pool, alone, read_share, &w);
    for (int i = 0; i < CLOCK_KINDS; i++)
        s.by[i] /= (double)l->memory_bytes;
    return s;
}

struct compute_work {
    const struct peak *peak;
    int64_t rounds;
    _Atomic double operations;
};

static void compute_share(void *context, int worker, int n_workers)
{
    struct compute_work *w = context;
    double operations = w->peak->run(w->rounds);
    if (worker == 0)
        atomic_store(&w->operations, operations * n_workers);
}

struct seconds limits_compute(const struct limits *l, int peak, bool alone)
{
    struct compute_work w = {.peak = l->peaks[peak], .rounds = l->rounds[peak]};
    struct seconds s = run_timed(l->pool, alone, compute_share, &w);
    for (int i = 0; i < CLOCK_KINDS; i++)
        s.by[i] /= atomic_load(&w.operations);
    return s;
}

/* Enough rounds to take a while. */
static int64_t count_rounds(const struct limits *l, const struct peak *peak)
{
    struct compute_work w = {.peak = peak, .rounds = 1 << 10};
    while (run_timed(l->pool, true, compute_share, &w).by[CLOCK_WORKERS] < PEAK_SECONDS)
        w.rounds *= 2;
    return w.rounds;
}

graft_status limits_open(struct limits *l, graft_runtime *runtime, graft_error *error)
{
    const struct peak *peak;
    *l = (struct limits){.pool = runtime->pool, .mem = &runtime->mem, .memory_bytes = MEMORY_BYTES};
    l->block = mem_alloc(l->mem, MEMORY_BYTES + HUGE_PAGE);
    if (!l->block)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for measuring");
    /* Large pages, where the system has them: small ones that are scattered read slower, also than the
     * pages of a file, and that would be no limit. Prefetching may go a little beyond the end. */
    l->memory = l->block + (HUGE_PAGE - (uintptr_t)l->block % HUGE_PAGE) % HUGE_PAGE;
    madvise(l->memory, MEMORY_BYTES, MADV_HUGEPAGE);
    memset(l->memory, 1, MEMORY_BYTES); /* pages that were never written are all one page */
    while (l->n_peaks < PEAKS_MAX && (peak = peak_at(runtime->kernels->tier, l->n_peaks)) != NULL) {
        l->rounds[l->n_peaks] = count_rounds(l, peak);
        l->peaks[l->n_peaks++] = peak;
    }
    return GRAFT_OK;
}

int limits_peak_for(const struct limits *l, const struct kernels *k, graft_type type)
{
    for (int i = 0; i < l->n_peaks && kernels_panel_format(k, type) != PANEL_F32; i++)
        if (l->peaks[i]->panels)
            return i;
    return 0;
}

void limits_close(struct limits *l)
{
    mem_free(l->mem, l->block);
    *l = (struct limits){0};
}

/* ---- the bench ---------------------------------------------------------------------------- */

/* "read bandwidth, 1 thread" and the like: the median rate over some samples. */
static graft_status report_rate(struct bench *b, int limit, bool alone, int done, int total,
                                graft_error *error)
{
    const struct peak *peak = limit == LIMIT_READ ? NULL : b->limits.peaks[limit];
    double values[SAMPLES_MAX];
    int n = bench_samples(b), threads = alone ? 1 : pool_threads(b->runtime->pool);
    char name[CASE_NAME_SIZE];
    snprintf(name, sizeof name, "%s, %d thread%s", peak ? peak->name : "read bandwidth", threads,
             threads > 1 ? "s" : "");
    for (int i = 0; i < n; i++) {
        struct seconds s =
            peak ? limits_compute(&b->limits, limit, alone) : limits_read(&b->limits, alone);
        values[i] = 1e-9 / s.by[CLOCK_WORKERS];
        graft_status status =
            bench_progress(b, (uint64_t)(done * n + i + 1), (uint64_t)(total * n), name, error);
        if (status != GRAFT_OK)
            return status;
    }
    bench_report(b, name, peak ? peak->unit : "GB/s", CLOCK_WORKERS, values, n);
    return GRAFT_OK;
}

graft_status bench_limits(struct bench *b, graft_error *error)
{
    graft_status status = GRAFT_OK;
    int done = 0, sides = pool_threads(b->runtime->pool) > 1 ? 2 : 1;
    for (int limit = LIMIT_READ; limit < b->limits.n_peaks; limit++)
        for (int side = 0; side < sides && status == GRAFT_OK; side++)
            status =
                report_rate(b, limit, side == 0, done++, (b->limits.n_peaks + 1) * sides, error);
    return status;
}
