/* The thread pool: who runs, in which state, and what it does to the host. Also run under tsan. */
#include "test_support.h"

#include "failing_allocator.h"

#include <fenv.h>
#include <float.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { WORKERS_MAX = 8 };

struct ran {
    int workers[WORKERS_MAX]; /* times each ran; plain on purpose: tsan watches the hand-over */
    int n_workers;
    long total;
};

static void count_run(void *context, int worker, int n_workers)
{
    struct ran *ran = context;
    ran->workers[worker]++;
    if (worker == 0)
        ran->n_workers = n_workers;
}

static void every_worker_runs_once_per_region(void **state)
{
    (void)state;
    for (int threads = 1; threads <= WORKERS_MAX; threads += threads < 3 ? 1 : 5) {
        struct pool *pool;
        struct ran ran = {{0}, 0, 0};
        assert_int_equal(pool_open(&pool, NULL, threads, NULL), GRAFT_OK);
        assert_int_equal(pool_threads(pool), threads);
        for (int region = 0; region < 500; region++)
            pool_run(pool, count_run, &ran);
        assert_int_equal(ran.n_workers, threads);
        for (int i = 0; i < threads; i++)
            assert_int_equal(ran.workers[i], 500);
        pool_close(&pool);
        assert_null(pool);
    }
}

/* Worker 0 does not end before worker 1 has begun: its share must run on its own thread. */
struct meeting {
    atomic_int arrived;
    pthread_t threads[2];
    int blocked[2];
};

static void meet(void *context, int worker, int n_workers)
{
    struct meeting *meeting = context;
    sigset_t set;
    (void)n_workers;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    meeting->blocked[worker] = sigismember(&set, SIGTERM);
    meeting->threads[worker] = pthread_self();
    atomic_fetch_add(&meeting->arrived, 1);
    while (atomic_load(&meeting->arrived) < 2)
        sched_yield();
}

static void sleeping_workers_wake_up(void **state)
{
    (void)state;
    struct pool *pool;
    assert_int_equal(pool_open(&pool, NULL, 2, NULL), GRAFT_OK);
    for (int region = 0; region < 20; region++) {
        struct meeting meeting = {0};
        usleep(2000); /* far longer than anybody spins */
        pool_run(pool, meet, &meeting);
        assert_false(pthread_equal(meeting.threads[0], meeting.threads[1]));
    }
    pool_close(&pool);
    pool_close(&pool);
}

struct places {
    struct meeting meeting;
    cpu_set_t sets[2];
};

static void note_place(void *context, int worker, int n_workers)
{
    struct places *places = context;
    meet(&places->meeting, worker, n_workers);
    sched_getaffinity(0, sizeof(cpu_set_t), &places->sets[worker]);
}

/* Number 0 for the first; -1: there are not so many. */
static int nth_processor(const cpu_set_t *set, int number)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, set) && number-- == 0)
            return cpu;
    return -1;
}

static void bound_workers_keep_to_a_processor_and_the_caller_does_not(void **state)
{
    (void)state;
    struct places places = {0};
    struct pool *pool;
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    int second = nth_processor(&allowed, 1);
    assert_int_equal(pool_open(&pool, NULL, 2, NULL), GRAFT_OK);
    pool_run(pool, note_place, &places);
    assert_true(CPU_EQUAL(&places.sets[1], &allowed)); /* as long as nobody asks */
    assert_int_equal(pool_bind(pool), second >= 0);
    places = (struct places){0};
    pool_run(pool, note_place, &places);
    assert_true(CPU_EQUAL(&places.sets[0], &allowed));
    if (second >= 0) {
        assert_int_equal(CPU_COUNT(&places.sets[1]), 1);
        assert_true(CPU_ISSET(second, &places.sets[1]));
    } else {
        assert_true(CPU_EQUAL(&places.sets[1], &allowed));
    }
    pool_close(&pool);
}

static void workers_without_a_processor_of_their_own_run_anywhere(void **state)
{
    (void)state;
    struct ran ran = {{0}, 0, 0};
    struct pool *pool;
    int processors = processors_allowed(), threads = processors + 2;
    if (threads > WORKERS_MAX)
        skip();
    assert_int_equal(pool_open(&pool, NULL, threads, NULL), GRAFT_OK);
    assert_int_equal(pool_bind(pool), processors - 1);
    pool_run(pool, count_run, &ran);
    for (int i = 0; i < threads; i++)
        assert_int_equal(ran.workers[i], 1);
    pool_close(&pool);
}

static void note_thread(void *context, int worker, int n_workers)
{
    pthread_t *threads = context;
    (void)n_workers;
    threads[worker] = pthread_self();
}

/* Makes a pool whose worker shares the caller's processor and gets it only when that is idle. */
static void *open_lazy_pool(void *argument)
{
    struct pool **pool = argument;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    struct sched_param none = {0};
    if (sched_setaffinity(0, sizeof(here), &here) != 0 ||
        sched_setscheduler(0, SCHED_IDLE, &none) != 0 || pool_open(pool, NULL, 2, NULL) != GRAFT_OK)
        return NULL;
    return argument;
}

static void the_caller_runs_the_shares_of_those_who_come_late(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    pthread_t maker;
    void *made;
    int taken = 0;
    assert_int_equal(pthread_create(&maker, NULL, open_lazy_pool, &pool), 0);
    pthread_join(maker, &made);
    if (!made)
        skip(); /* no right to be idle */
    for (int region = 0; region < 2000; region++) {
        pthread_t threads[2];
        pool_run(pool, note_thread, threads);
        assert_true(pthread_equal(threads[0], pthread_self()));
        taken += pthread_equal(threads[1], pthread_self()) != 0;
    }
    assert_true(taken > 0);
    pool_close(&pool);
}

static void work_slowly(void *context, int worker, int n_workers)
{
    struct ran *ran = context;
    if (worker)
        usleep(3000);
    ran->workers[worker]++;
    (void)n_workers;
}

static void the_caller_waits_for_the_slowest(void **state)
{
    (void)state;
    struct pool *pool;
    struct ran ran = {{0}, 0, 0};
    assert_int_equal(pool_open(&pool, NULL, 3, NULL), GRAFT_OK);
    for (int region = 1; region <= 10; region++) {
        pool_run(pool, work_slowly, &ran);
        assert_true(ran.workers[1] == region && ran.workers[2] == region);
    }
    pool_close(&pool);
}

struct caller {
    struct pool *pool;
    struct ran *ran;
};

static void add_alone(void *context, int worker, int n_workers)
{
    struct ran *ran = context;
    (void)n_workers;
    if (worker == 0) {
        long seen = ran->total;
        sched_yield();
        ran->total = seen + 1; /* lost if two regions ran at once */
    }
}

static void *call_often(void *argument)
{
    struct caller *caller = argument;
    for (int i = 0; i < 300; i++)
        pool_run(caller->pool, add_alone, caller->ran);
    return NULL;
}

static void calls_from_several_threads_take_turns(void **state)
{
    (void)state;
    struct ran ran = {{0}, 0, 0};
    struct caller caller = {.ran = &ran};
    pthread_t threads[3];
    assert_int_equal(pool_open(&caller.pool, NULL, 2, NULL), GRAFT_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &caller), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ran.total, 900);
    pool_close(&caller.pool);
}

static void several_pools_live_side_by_side(void **state)
{
    (void)state;
    struct pool *pools[4];
    struct ran ran = {{0}, 0, 0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pool_open(&pools[i], NULL, i + 1, NULL), GRAFT_OK);
    for (int round = 0; round < 50; round++)
        for (int i = 0; i < 4; i++)
            pool_run(pools[i], count_run, &ran);
    assert_int_equal(ran.workers[0], 200);
    assert_int_equal(ran.workers[3], 50);
    for (int i = 0; i < 4; i++)
        pool_close(&pools[i]);
}

static volatile float tiny = FLT_MIN;

static void halve_the_smallest(void *context, int worker, int n_workers)
{
    float *out = context;
    (void)n_workers;
    out[worker] = tiny / 2;
}

static void denormals_are_flushed_inside_and_the_caller_keeps_its_state(void **state)
{
    (void)state;
#if defined(__x86_64__) || defined(__aarch64__)
    struct pool *pool;
    float out[2] = {1, 1};
    assert_int_equal(pool_open(&pool, NULL, 2, NULL), GRAFT_OK);
    assert_int_equal(fesetround(FE_UPWARD), 0);
    pool_run(pool, halve_the_smallest, out);
    int rounding = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(rounding, FE_UPWARD);
    assert_true(out[0] == 0 && out[1] == 0);
    assert_true(tiny / 2 > 0); /* not out here */
    pool_close(&pool);
#else
    skip();
#endif
}

static void work_done_alone_has_the_same_floating_point_state(void **state)
{
    (void)state;
#if defined(__x86_64__) || defined(__aarch64__)
    struct pool *pool;
    struct ran ran = {{0}, 0, 0};
    float out[2] = {1, 1};
    assert_int_equal(pool_open(&pool, NULL, 2, NULL), GRAFT_OK);
    pool_run_alone(count_run, &ran);
    assert_int_equal(ran.n_workers, 1);
    assert_int_equal(ran.workers[0], 1);
    assert_int_equal(ran.workers[1], 0);
    pool_run_alone(halve_the_smallest, out);
    assert_true(out[0] == 0 && out[1] == 1);
    assert_true(tiny / 2 > 0);
    pool_close(&pool);
#else
    skip();
#endif
}

static void workers_take_no_signals_of_the_host(void **state)
{
    (void)state;
    struct pool *pool;
    struct meeting meeting = {0};
    assert_int_equal(pool_open(&pool, NULL, 2, NULL), GRAFT_OK);
    pool_run(pool, meet, &meeting);
    assert_int_equal(meeting.blocked[0], 0);
    assert_int_equal(meeting.blocked[1], 1);
    pool_close(&pool);
}

static void a_forked_child_can_close_the_pool(void **state)
{
    (void)state;
    struct pool *pool;
    struct ran ran = {{0}, 0, 0};
    assert_int_equal(pool_open(&pool, NULL, 2, NULL), GRAFT_OK);
    pid_t child = fork();
    if (!child) {
        alarm(20);
        pool_close(&pool); /* must not wait for workers that do not exist here */
        _exit(pool ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    pool_run(pool, count_run, &ran);
    assert_int_equal(ran.workers[1], 1);
    pool_close(&pool);
}

/* Shares take items from a counter, and at their end need all of them. */
struct harvest {
    struct pool *pool;
    atomic_llong next, done;
    int items[100];             /* plain on purpose, as above */
    long long sum[WORKERS_MAX]; /* seen by each share */
};

static void harvest_work(void *context, int worker, int n_workers)
{
    struct harvest *h = context;
    long long item, taken = 0;
    (void)n_workers;
    while ((item = atomic_fetch_add(&h->next, 1)) < (int)ARRAY_LEN(h->items)) {
        h->items[item] = (int)item;
        taken++;
    }
    atomic_fetch_add_explicit(&h->done, taken, memory_order_release);
    pool_await(h->pool, &h->done, ARRAY_LEN(h->items));
    h->sum[worker] = 0;
    for (size_t i = 0; i < ARRAY_LEN(h->items); i++)
        h->sum[worker] += h->items[i];
}

static void shares_can_wait_for_what_others_took(void **state)
{
    (void)state;
    for (int threads = 1; threads <= WORKERS_MAX; threads += threads < 3 ? 1 : 5) {
        struct harvest h = {0};
        assert_int_equal(pool_open(&h.pool, NULL, threads, NULL), GRAFT_OK);
        for (int region = 0; region < 300; region++) {
            atomic_store(&h.next, 0);
            atomic_store(&h.done, 0);
            memset(h.items, 0, sizeof h.items);
            pool_run(h.pool, harvest_work, &h);
            for (int i = 0; i < threads; i++)
                assert_int_equal(h.sum[i], 4950);
        }
        pool_close(&h.pool);
    }
}

/* What a host does that has two runtimes: each is called from a thread of its own, all the time. */
struct host {
    pthread_t thread;
    struct pool *pool;
    atomic_int regions, wrong;
    atomic_bool leave;
};

static void *use_pool(void *argument)
{
    struct host *host = argument;
    struct harvest h = {.pool = host->pool};
    while (!atomic_load(&host->leave)) {
        struct ran ran = {{0}, 0, 0};
        atomic_store(&h.next, 0);
        atomic_store(&h.done, 0);
        memset(h.items, 0, sizeof h.items);
        pool_run(host->pool, harvest_work, &h);
        pool_run(host->pool, count_run, &ran);
        for (int i = 0; i < pool_threads(host->pool); i++)
            if (h.sum[i] != 4950 || ran.workers[i] != 1)
                atomic_fetch_add(&host->wrong, 1);
        if (atomic_fetch_add(&host->regions, 1) % 50 == 0)
            usleep(500); /* now and then workers go to sleep */
    }
    return NULL;
}

static void start_hosts(struct host hosts[2])
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&hosts[i].thread, NULL, use_pool, &hosts[i]), 0);
}

static void stop_hosts(struct host hosts[2], int regions)
{
    for (int i = 0; i < 2; i++)
        while (atomic_load(&hosts[i].regions) < regions)
            usleep(100);
    for (int i = 0; i < 2; i++) {
        atomic_store(&hosts[i].leave, true);
        pthread_join(hosts[i].thread, NULL);
        assert_int_equal(atomic_load(&hosts[i].wrong), 0);
        pool_close(&hosts[i].pool);
    }
}

/* Each has as many threads as there are processors, and then more. */
static void two_pools_work_at_once(void **state)
{
    (void)state;
    int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (int threads = processors < 5 ? processors : 5; threads <= WORKERS_MAX; threads += 3) {
        struct host hosts[2] = {0};
        for (int i = 0; i < 2; i++)
            assert_int_equal(pool_open(&hosts[i].pool, NULL, threads, NULL), GRAFT_OK);
        start_hosts(hosts);
        stop_hosts(hosts, 2000);
    }
}

static void two_pools_work_at_once_when_the_workers_of_one_come_late(void **state)
{
    (void)state;
    struct host hosts[2] = {0};
    pthread_t maker;
    void *made;
    assert_int_equal(pthread_create(&maker, NULL, open_lazy_pool, &hosts[0].pool), 0);
    pthread_join(maker, &made);
    if (!made)
        skip(); /* no right to be idle */
    assert_int_equal(pool_open(&hosts[1].pool, NULL, 2, NULL), GRAFT_OK);
    start_hosts(hosts);
    stop_hosts(hosts, 2000);
}

/* In the child: the pools of the parent, in the middle of regions, can be closed; new ones work. */
static int close_and_open_again(struct host hosts[2])
{
    alarm(60);
    struct ran ran = {{0}, 0, 0};
    struct pool *own;
    for (int i = 0; i < 2; i++)
        pool_close(&hosts[i].pool);
#if !defined(__SANITIZE_THREAD__) /* which allows no threads here */
    if (pool_open(&own, NULL, 2, NULL) != GRAFT_OK)
        return 1;
    for (int i = 0; i < 100; i++)
        pool_run(own, count_run, &ran);
    pool_close(&own);
    return ran.workers[0] == 100 && ran.workers[1] == 100 ? 0 : 1;
#else
    (void)ran, (void)own;
    return 0;
#endif
}

static void two_pools_work_on_when_the_host_forks(void **state)
{
    (void)state;
    struct host hosts[2] = {0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pool_open(&hosts[i].pool, NULL, 2, NULL), GRAFT_OK);
    start_hosts(hosts);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (!child)
            _exit(close_and_open_again(hosts));
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    stop_hosts(hosts, 2000);
}

static void impossible_pools_are_refused(void **state)
{
    (void)state;
    struct failing_allocator failing;
    struct mem mem;
    struct pool *pool = NULL;
    graft_error error;
    assert_int_equal(pool_open(&pool, NULL, 0, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(pool_open(&pool, NULL, 100000, &error), GRAFT_INVALID_ARGUMENT);
    failing_init(&failing, &mem, 1);
    assert_int_equal(pool_open(&pool, &mem, 2, &error), GRAFT_NO_MEMORY);
    assert_null(pool);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void threads_that_the_system_refuses_are_reported(void **state)
{
    (void)state;
    skip(); /* sanitizers need more address space than the limit */
}
#else
enum { NO_LIMITS = 77 };

/* In a child, because limits stay: no address space is left for the stacks of the workers. */
static int open_without_threads(void)
{
    struct rlimit limit, kept;
    struct pool *pool = NULL;
    graft_error error;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 200u << 20;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 2;
    getrlimit(RLIMIT_AS, &kept);
    if (kept.rlim_cur != limit.rlim_cur)
        return NO_LIMITS; /* an emulator, which sets none of memory */
    graft_status status = pool_open(&pool, NULL, 1000, &error);
    return status == GRAFT_LIMIT && !pool && strstr(error.message, "1000 threads asked for") ? 0
                                                                                             : 1;
}

static void threads_that_the_system_refuses_are_reported(void **state)
{
    (void)state;
    pid_t child = fork();
    if (!child)
        exit(open_without_threads());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_LIMITS)
        skip();
    assert_int_equal(status, 0);
}
#endif

static void a_split_covers_everything_once_on_grain_boundaries(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 200; n += 7) {
        for (int64_t grain = 0; grain < 40; grain += 13) {
            for (int workers = 1; workers < 9; workers++) {
                int64_t next = 0, largest = 0, smallest = INT64_MAX, step = grain ? grain : 1;
                for (int w = 0; w < workers; w++) {
                    int64_t begin, end;
                    pool_split(n, grain, w, workers, &begin, &end);
                    assert_int_equal(begin, next);
                    assert_true(end >= begin && end <= n);
                    assert_true(end == n || end % step == 0);
                    int64_t units = (end - begin + step - 1) / step;
                    largest = units > largest ? units : largest;
                    smallest = units < smallest ? units : smallest;
                    next = end;
                }
                assert_int_equal(next, n);
                assert_true(largest - smallest <= 1);
            }
        }
    }
    int64_t begin = 1, end = 1;
    pool_split(-5, 1, 0, 2, &begin, &end);
    assert_true(begin == 0 && end == 0);
}

/* ---- small regions ---- */

struct held {
    struct pool *pool;
    sem_t begun, release;
};

static void hold(void *context, int worker, int n_workers)
{
    struct held *held = context;
    (void)worker;
    (void)n_workers;
    sem_post(&held->begun);
    sem_wait(&held->release);
}

static void *run_held(void *context)
{
    struct held *held = context;
    pool_run(held->pool, hold, held);
    return NULL;
}

static void what_is_small_does_not_wait_for_the_region_of_another_thread(void **state)
{
    enum { SMALL = 1 << 18 };
    (void)state;
    struct held held;
    struct ran ran = {{0}, 0, 0};
    pthread_t other;
    assert_int_equal(pool_open(&held.pool, NULL, 2, NULL), GRAFT_OK);
    const graft_runtime runtime = {.pool = held.pool, .small_region = SMALL};
    sem_init(&held.begun, 0, 0);
    sem_init(&held.release, 0, 0);
    assert_int_equal(pthread_create(&other, NULL, run_held, &held), 0);
    sem_wait(&held.begun);
    sem_wait(&held.begun); /* nobody sleeps: it looks as if the workers were there at once */
    runtime_region(&runtime, count_run, &ran, SMALL - 1);
    assert_int_equal(ran.workers[0], 1);
    assert_int_equal(ran.n_workers, 1);
    sem_post(&held.release);
    sem_post(&held.release);
    pthread_join(other, NULL);
    runtime_region(&runtime, count_run, &ran, SMALL);
    assert_int_equal(ran.n_workers, 2);
    pool_close(&held.pool);
    sem_destroy(&held.begun);
    sem_destroy(&held.release);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_worker_runs_once_per_region),
        cmocka_unit_test(sleeping_workers_wake_up),
        cmocka_unit_test(the_caller_runs_the_shares_of_those_who_come_late),
        cmocka_unit_test(bound_workers_keep_to_a_processor_and_the_caller_does_not),
        cmocka_unit_test(workers_without_a_processor_of_their_own_run_anywhere),
        cmocka_unit_test(the_caller_waits_for_the_slowest),
        cmocka_unit_test(calls_from_several_threads_take_turns),
        cmocka_unit_test(several_pools_live_side_by_side),
        cmocka_unit_test(denormals_are_flushed_inside_and_the_caller_keeps_its_state),
        cmocka_unit_test(work_done_alone_has_the_same_floating_point_state),
        cmocka_unit_test(workers_take_no_signals_of_the_host),
        cmocka_unit_test(a_forked_child_can_close_the_pool),
        cmocka_unit_test(shares_can_wait_for_what_others_took),
        cmocka_unit_test(two_pools_work_at_once),
        cmocka_unit_test(two_pools_work_at_once_when_the_workers_of_one_come_late),
        cmocka_unit_test(two_pools_work_on_when_the_host_forks),
        cmocka_unit_test(what_is_small_does_not_wait_for_the_region_of_another_thread),
        cmocka_unit_test(impossible_pools_are_refused),
        cmocka_unit_test(threads_that_the_system_refuses_are_reported),
        cmocka_unit_test(a_split_covers_everything_once_on_grain_boundaries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
