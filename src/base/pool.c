/* pool.c: the threads that share one piece of work.
 *
 * A region is published by bumping `generation`; the share of each worker is run once, which
 * lowers `remaining`; the caller is worker 0 and returns when that is zero. Whoever waits spins for a
 * short while (regions follow each other within microseconds in a forward pass) and then sleeps on
 * a futex.
 *
 * A spin takes the processor from whoever could use it: another pool, or the one waited for. So nobody
 * spins when the pool has more threads than processors, and after a wait that lasted longer than a spin
 * (the host did something else, or the processors are shared) the next spin is a short one.
 *
 * A worker that other programs keep from its processor comes late. So a share is claimed before it
 * is run, and the caller, done with its own, takes those that nobody has begun: at worst the work
 * is done as if there were one thread. Shares are cut by index, so results do not depend on who ran
 * them.
 *
 * Sleeping is a handshake: the sleeper says so, then looks again; the waker changes the word, then
 * looks for sleepers. Both in one total order (seq_cst), so one of the two sees the other.
 */
#include "base_internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum {
    THREADS_MAX = 1024,
    CACHE_LINE = 64,
    SPIN_TURNS = 16,    /* between two looks at the clock */
    SPIN_RETRY = 16,    /* one spin in so many is long though the waits are: have they changed? */
    AWAIT_TURNS = 2000, /* before a share that waits for another gives its processor away */
    UP_SHARE =
        32 /* what is small while workers sleep is so many times what is small while they spin */
};

/* Seconds. The long one is twice what it costs to sleep and be woken; the short one bridges the gaps
 * within a forward pass. */
#define SPIN_LONG 35e-6
#define SPIN_SHORT 4e-6

/* How long a waiter spins. */
struct patience {
    bool spins; /* else it sleeps at once */
    int misses; /* waits since the last that was no longer than a long spin */
};

/* A word that one side waits on until it changes. */
struct signal_word {
    _Alignas(CACHE_LINE) atomic_uint value;
    atomic_uint sleepers;
};

struct worker {
    _Alignas(CACHE_LINE) atomic_uint claimed; /* generation of the last share that was begun */
    struct pool *pool;
    pthread_t thread;
    int index;
    struct patience patience;
};

struct pool {
    struct signal_word generation; /* of the region that runs or ran last */
    struct signal_word remaining;  /* workers that have not finished it */
    pool_work work;
    void *context;
    atomic_bool stop; /* read by workers that come late to a region that is over */
    int threads, started, pid;
    struct mem *mem;
    pthread_mutex_t lock;     /* held during a region */
    struct patience patience; /* the caller's, under the lock */
    struct worker workers[];
};

/* ---- waiting ------------------------------------------------------------------------------ */

static void spin_pause(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static void word_sleep(struct signal_word *word, unsigned seen)
{
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == seen)
        syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&word->sleepers, 1);
}

static void word_wake(struct signal_word *word)
{
    if (atomic_load(&word->sleepers))
        syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, THREADS_MAX, NULL, NULL, 0);
}

static unsigned word_spin(const struct signal_word *word, unsigned seen)
{
    unsigned value = seen;
    for (int turn = 0; turn < SPIN_TURNS && value == seen; turn++) {
        spin_pause();
        value = atomic_load_explicit(&word->value, memory_order_acquire);
    }
    return value;
}

/* Returns the first value other than `seen`. */
static unsigned word_await_change(struct signal_word *word, unsigned seen,
                                  struct patience *patience)
{
    unsigned value = atomic_load_explicit(&word->value, memory_order_acquire);
    double start = time_seconds(), waited = 0;
    double spin = patience->misses % SPIN_RETRY ? SPIN_SHORT : SPIN_LONG;
    while (value == seen && patience->spins && waited < spin) {
        value = word_spin(word, seen);
        waited = time_seconds() - start;
    }
    if (value == seen) {
        word_sleep(word, seen);
        value = atomic_load(&word->value);
        waited = time_seconds() - start;
    }
    patience->misses = waited > SPIN_LONG ? patience->misses % SPIN_RETRY + 1 : 0;
    return value;
}

/* ---- floating-point state ----------------------------------------------------------------- */

/* Round to nearest, exceptions masked, denormals flushed; returns what was there before. */
static uint64_t fp_enter(void)
{
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(0x1F80 | 0x8040);
    return before;
#elif defined(__aarch64__)
    uint64_t before, flush = (uint64_t)1 << 24 | (uint64_t)1 << 19; /* FZ, FZ16 */
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" ::"r"(flush));
    return before;
#else
    return 0;
#endif
}

static void fp_leave(uint64_t before)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(before));
#else
    (void)before;
#endif
}

static void run_share(pool_work work, void *context, int worker, int n_workers)
{
    uint64_t before = fp_enter();
    work(context, worker, n_workers);
    fp_leave(before);
}

/* Every share of the generation before has been claimed, or that region would not have ended. A
 * worker that comes when its share is done finds a later number. */
static bool claim(struct worker *worker, unsigned generation)
{
    unsigned before = generation - 1;
    return atomic_compare_exchange_strong(&worker->claimed, &before, generation);
}

static void run_claimed(struct pool *pool, struct worker *worker)
{
    run_share(pool->work, pool->context, worker->index, pool->threads);
    if (atomic_fetch_sub(&pool->remaining.value, 1) == 1)
        word_wake(&pool->remaining);
}

/* ---- life --------------------------------------------------------------------------------- */

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        seen = word_await_change(&pool->generation, seen, &self->patience);
        if (atomic_load(&pool->stop))
            return NULL;
        if (claim(self, seen))
            run_claimed(pool, self);
    }
}

/* The host's signals are the host's business: workers are made with all of them blocked. */
static int start_workers(struct pool *pool)
{
    sigset_t all, before;
    int failure = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->started < pool->threads - 1 && !failure) {
        struct worker *worker = &pool->workers[pool->started];
        worker->pool = pool;
        worker->index = pool->started + 1;
        worker->patience.spins = pool->patience.spins;
        failure = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (!failure)
            pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

graft_status pool_open(struct pool **out, struct mem *mem, int threads, graft_error *error)
{
    if (threads < 1 || threads > THREADS_MAX)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%d threads: not between 1 and %d", threads,
                         THREADS_MAX);
    size_t bytes = sizeof(struct pool) + (size_t)(threads - 1) * sizeof(struct worker);
    struct pool *pool = mem_calloc(mem, 1, bytes);
    if (!pool)
        return error_no_memory(error, bytes);
    pool->mem = mem;
    pool->threads = threads;
    pool->patience.spins = threads <= processors_allowed();
    pool->pid = (int)getpid();
    pthread_mutex_init(&pool->lock, NULL);
    int failure = start_workers(pool);
    if (failure) {
        int got = pool->started + 1;
        pool_close(&pool);
        return error_set(error, GRAFT_LIMIT, "%d threads asked for, the system gave %d", threads,
                         got);
    }
    *out = pool;
    return GRAFT_OK;
}

void pool_close(struct pool **pool_at)
{
    struct pool *pool = *pool_at;
    *pool_at = NULL;
    if (!pool)
        return;
    /* In a child made by fork there are no workers to wait for. */
    if (pool->pid == (int)getpid()) {
        atomic_store(&pool->stop, true);
        atomic_fetch_add(&pool->generation.value, 1);
        word_wake(&pool->generation);
        for (int i = 0; i < pool->started; i++)
            pthread_join(pool->workers[i].thread, NULL);
        pthread_mutex_destroy(&pool->lock);
    }
    mem_free(pool->mem, pool);
}

int pool_bind(struct pool *pool)
{
    int bound = 0;
    for (int i = 0; i < pool->started; i++)
        bound += processor_bind(pool->workers[i].thread, pool->workers[i].index);
    return bound;
}

int pool_threads(const struct pool *pool)
{
    return pool->threads;
}

/* A region; the caller has the lock. */
static void run_region(struct pool *pool, pool_work work, void *context)
{
    pool->work = work;
    pool->context = context;
    unsigned others = (unsigned)pool->threads - 1, generation = 0;
    if (others) {
        atomic_store_explicit(&pool->remaining.value, others, memory_order_relaxed);
        generation = atomic_fetch_add(&pool->generation.value, 1) + 1;
        word_wake(&pool->generation);
    }
    run_share(work, context, 0, pool->threads);
    for (unsigned i = 0; i < others; i++)
        if (claim(&pool->workers[i], generation))
            run_claimed(pool, &pool->workers[i]);
    unsigned left = atomic_load_explicit(&pool->remaining.value, memory_order_acquire);
    while (left)
        left = word_await_change(&pool->remaining, left, &pool->patience);
}

void pool_run(struct pool *pool, pool_work work, void *context)
{
    pthread_mutex_lock(&pool->lock);
    run_region(pool, work, context);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run_alone(pool_work work, void *context)
{
    run_share(work, context, 0, 1);
}

/* Workers who spin come within a microsecond, the more of them the later; to wake them takes thirty. While they work for
 * somebody else, what is done sooner than they would be woken does not wait for them. */
void runtime_region(const graft_runtime *runtime, pool_work work, void *context, int64_t multiplies)
{
    struct pool *pool = runtime->pool;
    int64_t small = runtime->small_region, least = small;
    if (atomic_load_explicit(&pool->generation.sleepers, memory_order_relaxed) == 0 &&
        pool->threads < UP_SHARE)
        least = small * pool->threads / UP_SHARE;
    if (multiplies >= small) {
        pool_run(pool, work, context);
    } else if (multiplies >= least && pthread_mutex_trylock(&pool->lock) == 0) {
        run_region(pool, work, context);
        pthread_mutex_unlock(&pool->lock);
    } else {
        pool_run_alone(work, context);
    }
}

/* Gives the processor away now and then: what is waited for may need this one. */
void pool_await(const struct pool *pool, const atomic_llong *done, long long wanted)
{
    for (int turn = 0; atomic_load_explicit(done, memory_order_acquire) != wanted; turn++) {
        if (pool->patience.spins && turn < AWAIT_TURNS)
            spin_pause();
        else
            sched_yield();
    }
}

void pool_split(int64_t n, int64_t grain, int worker, int n_workers, int64_t *begin, int64_t *end)
{
    if (grain < 1)
        grain = 1;
    int64_t units = n > 0 ? (n - 1) / grain + 1 : 0;
    int64_t each = units / n_workers, extra = units % n_workers;
    int64_t first = each * worker + (worker < extra ? worker : extra);
    int64_t last = first + each + (worker < extra);
    *begin = first < units ? first * grain : (n > 0 ? n : 0);
    *end = last < units ? last * grain : (n > 0 ? n : 0);
}
