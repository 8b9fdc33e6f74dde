/* Registries on one home under load: threads of several processes that all publish, swap, hold, evict and remove
 * at once; and processes that are killed at any moment. `--long` does the numbers of the project's promise.
 */
#include "torture/registry_script.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct {
    int operations, kills;
} scale = {.operations = 1200, .kills = 25};

enum { PROCESSES = 4, THREADS = 8, SHARED_NAMES = 5, HELD = 4 };

/* ---- threads and processes ---------------------------------------------------------------------- */

/* In memory that all processes share. */
struct board {
    atomic_ullong next; /* numbers of versions, never used twice */
    atomic_ullong
        floor[PROCESSES]; /* what has been published under the name of that process alone */
    atomic_ullong acquired, published; /* by anybody */
};

struct worker {
    pthread_t thread;
    struct registry *registry;
    struct board *board;
    const char *folder;
    int process, number, operations;
    struct rng rng;
    struct registry_lease held[HELD];
    uint64_t seen; /* the newest generation this thread has met */
};

/* What a version holds is said by its name and number alone: a session that got other bytes would notice. */
static void check_lease(const struct registry_lease *lease)
{
    char text[160];
    snprintf(text, sizeof(text), "%s %s", lease->id.name, lease->id.version);
    REQUIRE(!strcmp(((const struct fake *)lease->handle)->text, text), "%s holds \"%.40s\"", text,
            ((const struct fake *)lease->handle)->text);
}

static void let_go(struct registry_lease *lease)
{
    if (lease->registry)
        check_lease(lease);
    registry_release(lease);
}

static void shared_name(struct worker *w, char name[16])
{
    snprintf(name, 16, "shared-%u", rng_u32(&w->rng) % SHARED_NAMES);
}

/* Some version of the name, as the index has it now; false: the name is gone. */
struct pick {
    uint32_t random;
    char version[REGISTRY_NAME_MAX + 1];
};

static bool pick_version(void *user, const struct registry_name *name)
{
    struct pick *pick = user;
    snprintf(pick->version, sizeof(pick->version), "%s",
             name->versions[pick->random % name->n_versions].version);
    return true;
}

static bool some_address(struct worker *w, char address[128])
{
    char name[16];
    struct pick pick = {.random = rng_u32(&w->rng)};
    shared_name(w, name);
    if (registry_list(w->registry, name, pick_version, &pick, NULL) != GRAFT_OK)
        return false;
    snprintf(address, 128, "%s@%s", name, pick.version);
    return true;
}

static void acquire(struct worker *w, const char *address)
{
    struct registry_lease lease;
    graft_error error = {0};
    graft_status status = registry_acquire(w->registry, address, &lease, &error);
    /* Others remove what they like. */
    REQUIRE(status == GRAFT_OK || status == GRAFT_NOT_FOUND, "%s: %s", address, error.message);
    if (status != GRAFT_OK)
        return;
    REQUIRE(lease.id.generation >= w->seen, "%s went back", address);
    w->seen = lease.id.generation;
    check_lease(&lease);
    atomic_fetch_add(&w->board->acquired, 1);
    struct registry_lease *slot = &w->held[rng_u32(&w->rng) % HELD];
    let_go(slot);
    *slot = lease;
}

static unsigned long long publish(struct worker *w, const char *name, enum registry_place place)
{
    char folder[160], version[40], text[80];
    graft_error error = {0};
    unsigned long long number = atomic_fetch_add(&w->board->next, 1) + 1;
    snprintf(folder, sizeof(folder), "%s/p%d-t%d", w->folder, w->process, w->number);
    snprintf(version, sizeof(version), "1.0.%llu", number);
    snprintf(text, sizeof(text), "%s %s", name, version);
    script_adapter(folder, text);
    struct registry_card card = {.name = name, .version = version};
    graft_status status = registry_add(w->registry, folder, &card, place, NULL, &error);
    REQUIRE(status == GRAFT_OK, "%s: %s", text, error.message);
    atomic_fetch_add(&w->board->published, 1);
    return number;
}

/* The name of a process is published by its first thread alone, with growing numbers. */
static void check_floor(struct worker *w, int process)
{
    struct registry_version_id id;
    char name[16];
    graft_error error = {0};
    unsigned long long floor = atomic_load(&w->board->floor[process]), found = 0;
    if (!floor)
        return;
    snprintf(name, sizeof(name), "own-%d", process);
    graft_status status = registry_resolve(w->registry, name, &id, &error);
    REQUIRE(status == GRAFT_OK, "%s: %s", name, error.message);
    REQUIRE(sscanf(id.version, "1.0.%llu", &found) == 1 && found >= floor,
            "%s is %s after 1.0.%llu was published", name, id.version, floor);
}

/* Changes that others may have made impossible in the meantime. */
static void change(struct worker *w, uint32_t what)
{
    char name[16], address[128];
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    shared_name(w, name);
    if (what == 0) {
        status = registry_promote(w->registry, name, NULL, &error);
    } else if (what == 1) {
        status = registry_rollback(w->registry, name, NULL, &error);
    } else if (what == 2) {
        status = registry_pin(w->registry, name, rng_u32(&w->rng) % 4 == 0, &error);
    } else if (what == 3) {
        status = registry_evict(w->registry, name, &error);
    } else if (some_address(w, address)) {
        status = what == 4   ? registry_remove(w->registry, address, &error)
                 : what == 5 ? registry_activate(w->registry, address, &error)
                 : what == 6 ? registry_stage(w->registry, address, &error)
                             : registry_publish(w->registry, address, &error);
    }
    REQUIRE(status == GRAFT_OK || status == GRAFT_STATE || status == GRAFT_NOT_FOUND, "%u %s: %s",
            what, name, error.message);
}

static void operate(struct worker *w)
{
    char name[16], address[128];
    uint32_t what = rng_u32(&w->rng) % 100;
    shared_name(w, name);
    if (what < 45)
        acquire(w, name);
    else if (what < 65 && some_address(w, address))
        acquire(w, address);
    else if (what < 80)
        check_floor(w, (int)(rng_u32(&w->rng) % PROCESSES));
    else if (what < 85)
        let_go(&w->held[rng_u32(&w->rng) % HELD]);
    else if (what < 90)
        publish(w, name, what < 88 ? REGISTRY_PUBLISH : REGISTRY_STAGE);
    else
        change(w, what % 8);
}

static void *work(void *user)
{
    struct worker *w = user;
    char own[16];
    snprintf(own, sizeof(own), "own-%d", w->process);
    for (int i = 0; i < w->operations; i++) {
        if (w->number == 0 && i % 16 == 0)
            atomic_store(&w->board->floor[w->process], publish(w, own, REGISTRY_PUBLISH));
        operate(w);
    }
    for (int i = 0; i < HELD; i++)
        let_go(&w->held[i]);
    return NULL;
}

static void run_process(struct board *board, const char *home, const char *folder, int process)
{
    struct fixture f = {.registry = NULL}; /* for its loader */
    struct worker workers[THREADS] = {{0}};
    pthread_mutex_init(&f.loader.mutex, NULL);
    pthread_cond_init(&f.loader.changed, NULL);
    struct registry *registry = script_open(&f.loader, home, 500);
    for (int i = 0; i < THREADS; i++) {
        workers[i].registry = registry;
        workers[i].board = board;
        workers[i].folder = folder;
        workers[i].process = process;
        workers[i].number = i;
        workers[i].operations = scale.operations / PROCESSES / THREADS;
        rng_init(&workers[i].rng, 7, (uint64_t)(process * THREADS + i));
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "thread");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    registry_close(&registry);
    REQUIRE(atomic_load(&f.loader.opened) == atomic_load(&f.loader.closed), "%d opened, %d closed",
            f.loader.opened, f.loader.closed);
}

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

static size_t count_entries(const char *home, const char *folder)
{
    char path[160];
    size_t n = 0;
    snprintf(path, sizeof(path), "%s/registry/%s", home, folder);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void threads_of_processes_see_whole_versions_and_every_publish(void **state)
{
    (void)state;
    struct fixture f;
    struct board *board = shared_memory(sizeof(*board));
    pid_t children[PROCESSES];
    graft_error error = {0};
    fixture_begin(&f, SIZE_MAX);
    fixture_have(&f, "shared-0", "1.0.0", "shared-0 1.0.0", REGISTRY_ADD);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (!children[i]) {
            run_process(board, f.home, f.s.folder, i);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    char *listed = script_listed(f.registry, &error);
    if (!listed)
        fail_msg("%s", error.message);
    mem_free(NULL, listed);
    assert_int_equal(count_entries(f.home, "incoming"), 0);
    assert_true(atomic_load(&board->acquired) > 0 && atomic_load(&board->published) > 0);
    printf("%d operations: %llu acquired, %llu published\n", scale.operations,
           (unsigned long long)atomic_load(&board->acquired),
           (unsigned long long)atomic_load(&board->published));
    munmap(board, sizeof(*board));
    fixture_end(&f);
}

/* ---- kill -9 ------------------------------------------------------------------------------------ */

static void run_script(const char *home, const char *folder, uint64_t from, atomic_ullong *done)
{
    struct fake_loader loader = {.gate = NULL};
    pthread_mutex_init(&loader.mutex, NULL);
    pthread_cond_init(&loader.changed, NULL);
    struct registry *registry = script_open(&loader, home, 0);
    for (uint64_t k = from;; k++) {
        script_step(registry, folder, k);
        atomic_store(done, k + 1);
    }
}

/* Checks that `home` is in the state after some g >= least steps, and returns g. */
static uint64_t check_state(struct fixture *f, uint64_t least)
{
    graft_error error = {0};
    struct registry_stats stats;
    struct registry *registry = fixture_open(f, 0);
    char *listed = script_listed(registry, &error);
    if (!listed)
        fail_msg("%s (%s)", error.message, error.file);
    registry_stats(registry, &stats);
    char *expected = script_expected(stats.generation);
    assert_true(stats.generation >= least);
    assert_string_equal(listed, expected);
    mem_free(NULL, listed);
    mem_free(NULL, expected);
    registry_close(&registry);
    return stats.generation;
}

/* Until the child has done that many steps, so that it is killed in the middle of one and not while it starts. */
static void await_steps(pid_t child, const atomic_ullong *done, uint64_t wanted)
{
    int status;
    while (atomic_load(done) < wanted) {
        assert_int_equal(waitpid(child, &status, WNOHANG), 0);
        usleep(200);
    }
}

static void a_killed_process_leaves_a_state_that_was_published(void **state)
{
    (void)state;
    struct fixture f;
    struct rng rng;
    char folder[128];
    atomic_ullong *done = shared_memory(sizeof(*done));
    uint64_t generation = 0;
    int torn = 0;
    fixture_begin(&f, 0);
    rng_init(&rng, 11, 0);
    snprintf(folder, sizeof(folder), "%s/source", f.s.folder);
    fflush(NULL);
    for (int i = 0; i < scale.kills; i++) {
        atomic_store(done, generation);
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            run_script(f.home, folder, generation, done);
            _exit(1);
        }
        await_steps(child, done, generation + rng_u32(&rng) % 4);
        usleep(rng_u32(&rng) % 10000);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        uint64_t acknowledged = atomic_load(done);
        generation = check_state(&f, acknowledged);
        assert_in_range(generation, acknowledged, acknowledged + 1);
        torn += generation > acknowledged;
    }
    /* What was left in the middle is in nobody's way. */
    struct registry *registry = fixture_open(&f, 0);
    script_step(registry, folder, generation);
    registry_close(&registry);
    assert_int_equal(check_state(&f, generation + 1), generation + 1);
    printf("%d kills, %llu steps, %d of them published and not yet acknowledged\n", scale.kills,
           (unsigned long long)generation, torn);
    munmap(done, sizeof(*done));
    fixture_end(&f);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--long")) {
        scale.operations = 10000;
        scale.kills = 200;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_of_processes_see_whole_versions_and_every_publish),
        cmocka_unit_test(a_killed_process_leaves_a_state_that_was_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
