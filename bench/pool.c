/* pool.c: what the threads of a runtime cost: waking them, and two runtimes at once.
 *
 *   bench/pool [THREADS]      of each pool; default: one per processor
 *
 * First an empty region: straight after another one, after the caller was busy for a while, and when the
 * workers are asleep. Then two pools with a host thread each, once one after the other and once at the
 * same time, in turn. Figures are medians, and those of two pools ratios: they hold on a busy machine.
 */
#include "bench/bench.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES = 11, N_POOLS = 2 };

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void busy(long turns)
{
    for (volatile long i = 0; i < turns; i++)
        ;
}

static double turns_per_microsecond(void)
{
    const long turns = 20000000;
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    busy(turns);
    return 1e-6 * (double)turns / (seconds(CLOCK_THREAD_CPUTIME_ID) - start);
}

/* ---- empty regions ------------------------------------------------------------------------ */

static void do_nothing(void *context, int worker, int n_workers)
{
    (void)context, (void)worker, (void)n_workers;
}

static double empty_region(struct pool *pool, int regions, long gap, unsigned rest)
{
    double spent = 0;
    for (int i = 0; i < regions; i++) {
        busy(gap);
        if (rest)
            usleep(rest);
        double start = seconds(CLOCK_MONOTONIC);
        pool_run(pool, do_nothing, NULL);
        spent += seconds(CLOCK_MONOTONIC) - start;
    }
    return 1e6 * spent / regions;
}

static void bench_empty(struct pool *pool, double per_microsecond)
{
    double next[SAMPLES], soon[SAMPLES], asleep[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        next[i] = empty_region(pool, 2000, 0, 0);
        soon[i] = empty_region(pool, 500, (long)(15 * per_microsecond), 0);
        asleep[i] = empty_region(pool, 20, 0, 2000);
    }
    printf(
        "an empty region: %.2f us after another, %.2f us after 15 us, %.1f us when the workers are "
        "asleep\n",
        samples_median(next, SAMPLES), samples_median(soon, SAMPLES),
        samples_median(asleep, SAMPLES));
}

/* ---- two pools ---------------------------------------------------------------------------- */

/* Regions of shares that are `turns` long, and `gap` turns of the caller alone before each. */
struct load {
    struct pool *pool;
    long turns, gap;
    int regions;
    atomic_llong work; /* nanoseconds of processor time in shares and gaps */
};

static void do_work(struct load *load, long turns)
{
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    busy(turns);
    atomic_fetch_add(&load->work, (long long)(1e9 * (seconds(CLOCK_THREAD_CPUTIME_ID) - start)));
}

static void run_share(void *context, int worker, int n_workers)
{
    struct load *load = context;
    (void)worker, (void)n_workers;
    do_work(load, load->turns);
}

static void *run_load(void *context)
{
    struct load *load = context;
    for (int i = 0; i < load->regions; i++) {
        if (load->gap)
            do_work(load, load->gap);
        pool_run(load->pool, run_share, load);
    }
    return NULL;
}

struct cost {
    double wall, processor,
        waste; /* waste: processor time that was not work, over that which was */
};

static struct cost measure(struct load loads[N_POOLS], bool at_once)
{
    pthread_t threads[N_POOLS];
    double wall = seconds(CLOCK_MONOTONIC), processor = seconds(CLOCK_PROCESS_CPUTIME_ID), work = 0;
    for (int i = 0; i < N_POOLS; i++) {
        atomic_store(&loads[i].work, 0);
        if (pthread_create(&threads[i], NULL, run_load, &loads[i]) != 0)
            abort();
        if (!at_once)
            pthread_join(threads[i], NULL);
    }
    for (int i = 0; at_once && i < N_POOLS; i++)
        pthread_join(threads[i], NULL);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    processor = seconds(CLOCK_PROCESS_CPUTIME_ID) - processor;
    for (int i = 0; i < N_POOLS; i++)
        work += 1e-9 * (double)atomic_load(&loads[i].work);
    return (struct cost){wall, processor, processor / work - 1};
}

static void bench_two(struct pool *pools[N_POOLS], double per_microsecond, int length, int gap)
{
    double wall[SAMPLES], processor[SAMPLES], apart[SAMPLES], at_once[SAMPLES];
    struct load loads[N_POOLS];
    for (int i = 0; i < N_POOLS; i++) {
        loads[i].pool = pools[i];
        loads[i].turns = (long)(length * per_microsecond);
        loads[i].gap = (long)(gap * per_microsecond);
        loads[i].regions = 50000 / (length + gap);
    }
    for (int i = 0; i < SAMPLES; i++) {
        struct cost one = measure(loads, false), both = measure(loads, true);
        wall[i] = both.wall / one.wall;
        processor[i] = both.processor / one.processor;
        apart[i] = 100 * one.waste;
        at_once[i] = 100 * both.waste;
    }
    printf("%6d us %6d us   %5.2f %10.2f   %7.0f %% %8.0f %%\n", length, gap,
           samples_median(wall, SAMPLES), samples_median(processor, SAMPLES),
           samples_median(apart, SAMPLES), samples_median(at_once, SAMPLES));
}

int main(int argc, char **argv)
{
    static const int lengths[] = {20, 100, 500};
    long threads = argc > 1 ? strtol(argv[1], NULL, 10) : sysconf(_SC_NPROCESSORS_ONLN);
    struct pool *pools[N_POOLS];
    graft_error error;
    for (int i = 0; i < N_POOLS; i++)
        if (pool_open(&pools[i], NULL, (int)threads, &error) != GRAFT_OK) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
    double per_microsecond = turns_per_microsecond();
    printf("%d threads a pool, %ld processors\n", pool_threads(pools[0]),
           sysconf(_SC_NPROCESSORS_ONLN));
    bench_empty(pools[0], per_microsecond);
    printf("two pools at once, over one after the other (1: nothing is lost; below 1: one works in "
           "the "
           "other's gaps);\nwaste: processor time beside the work, as a share of the work\n"
           "   share       gap    wall  processor   waste apart   at once\n");
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        bench_two(pools, per_microsecond, lengths[i], 0);
        bench_two(pools, per_microsecond, lengths[i], lengths[i] / 4);
    }
    for (int i = 0; i < N_POOLS; i++)
        pool_close(&pools[i]);
    return 0;
}
