/* torture_sessions.c: sessions on a model, with adapters of one registry that threads of several processes add to, swap,
 * pin, evict and remove from at once. Whatever happens, a session says bit by bit what a session alone says with the
 * versions that it acquired; what nobody holds any more is given back to the last byte; and whoever opens the registry
 * in the midst of it finds it whole. `--long` does the numbers of the project's promise.
 */
#include <graft/graft.h>

#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "torture/require.h"
#include "unit/must.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int operations = 640;

enum { PROCESSES = 4, THREADS = 8, NAMES = 4, HELD = 2, CONTENTS = 4 };
enum { N = 12, STEPS = 6, HALF = 3 };
static const graft_token_id PROMPT[N] = {5, 17, 300, 42, 8, 77, 12, 90, 33, 4, 250, 61};

/* What a session says. */
struct speech {
    graft_token_id ids[STEPS];
    float logprobs[STEPS];
};

/* Of sessions that were alone: with one adapter, and with another from the middle on. */
static struct speech of_one[CONTENTS], of_two[CONTENTS][CONTENTS];
static size_t bytes_of_one;

/* A call that must not fail, in any thread. */
#define DO(call)                                                                                   \
    do {                                                                                           \
        graft_error do_error = {0}, *error = &do_error;                                            \
        graft_status do_status = (call);                                                           \
        REQUIRE(do_status == GRAFT_OK, "%s: %s: %s", #call, graft_status_text(do_status),          \
                error->message);                                                                   \
    } while (0)

/* ---- words ---------------------------------------------------------------------------------------- */

static void folder_of(int content, char out[512])
{
    snprintf(out, 512, "%s/adapter-%d", test_dir, content);
}

static graft_session *session_with(graft_model *model, graft_adapter *adapter)
{
    graft_session_options o = graft_session_options_default();
    graft_session *s = NULL;
    o.sampling.temperature = 0;
    o.ignore_eos = true;
    DO(graft_session_open(model, &o, &s, error));
    DO(graft_session_apply_adapter(s, adapter, 1, GRAFT_KV_CONTINUE, error));
    DO(graft_session_prompt(s, PROMPT, N, NULL, NULL, error));
    return s;
}

static void swap_to(graft_model *model, graft_session *s, graft_adapter *adapter)
{
    graft_mix *mix = NULL;
    DO(graft_mix_open(model, &(graft_member){adapter, 1}, 1, &mix, error));
    DO(graft_session_set_mix(s, mix, GRAFT_KV_REPLAY, error));
    graft_mix_close(&mix);
}

static void say(graft_session *s, struct speech *out, int from, int to)
{
    for (int i = from; i < to; i++) {
        graft_token token;
        DO(graft_session_next(s, &token, error));
        out->ids[i] = token.id;
        out->logprobs[i] = token.logprob;
    }
}

static graft_runtime *open_runtime(int threads)
{
    graft_runtime_options o = graft_runtime_options_default();
    graft_runtime *runtime = NULL;
    o.threads = threads;
    DO(graft_runtime_open(&o, &runtime, error));
    return runtime;
}

static graft_registry *open_registry(graft_runtime *runtime, graft_model *model, const char *home)
{
    graft_registry_options o = graft_registry_options_default();
    graft_registry *registry = NULL;
    o.home = home;
    o.budget = 2 * bytes_of_one + bytes_of_one / 2;
    DO(graft_registry_open(runtime, model, &o, &registry, error));
    return registry;
}

/* ---- what sessions say alone ---------------------------------------------------------------------- */

static void write_contents(void)
{
    struct oracle_model base, a;
    oracle_model_make(&base, oracle_config("llama"), 1);
    oracle_write_hf(&base, at("base"), GRAFT_TYPE_F32);
    for (int i = 0; i < CONTENTS; i++) {
        char folder[512];
        folder_of(i, folder);
        oracle_adapter_make(&a, "lora", 7 + i, &base);
        oracle_adapter_write(&a, folder, GRAFT_TYPE_F32);
        oracle_model_free(&a);
    }
    oracle_model_free(&base);
}

static void speak_alone(graft_model *model, graft_adapter *first, graft_adapter *second,
                        struct speech *out)
{
    graft_session *s = session_with(model, first);
    say(s, out, 0, HALF);
    if (second)
        swap_to(model, s, second);
    say(s, out, HALF, STEPS);
    graft_session_close(&s);
}

static bool same(const struct speech *a, const struct speech *b)
{
    return !memcmp(a, b, sizeof *a);
}

/* In a runtime that is gone before anybody forks. */
static int setup(void **state)
{
    graft_adapter *adapter[CONTENTS] = {NULL};
    graft_model *model = NULL;
    graft_adapter_info info;
    test_dir_open(state);
    write_contents();
    graft_runtime *runtime = open_runtime(1);
    MUST(graft_model_open(runtime, at("base"), NULL, &model, error));
    for (int i = 0; i < CONTENTS; i++) {
        char folder[512];
        folder_of(i, folder);
        MUST(graft_adapter_open(model, folder, NULL, &adapter[i], error));
        speak_alone(model, adapter[i], NULL, &of_one[i]);
        for (int j = 0; j < i; j++)
            assert_false(same(&of_one[i], &of_one[j]));
    }
    for (int i = 0; i < CONTENTS; i++)
        for (int j = 0; j < CONTENTS; j++)
            speak_alone(model, adapter[i], adapter[j], &of_two[i][j]);
    MUST(graft_adapter_describe(adapter[0], &info, error));
    bytes_of_one = info.bytes;
    for (int i = 0; i < CONTENTS; i++)
        graft_adapter_close(&adapter[i]);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return 0;
}

/* ---- one thread ----------------------------------------------------------------------------------- */

/* In memory that all processes share. */
struct board {
    atomic_ullong numbers; /* of versions, never used twice */
    atomic_int working;    /* threads that are not done */
    atomic_int answers,
        swapped; /* sessions that were heard to the end; and changed in the middle */
    atomic_int changes, refusals; /* of the registry: done, and made impossible by others */
};

/* A session in the middle of its answer. */
struct slot {
    graft_session *session;
    int first, second; /* contents; second -1: the same to the end */
    int said;
    struct speech speech;
};

struct worker {
    pthread_t thread;
    graft_registry *registry;
    graft_model *model;
    struct board *board;
    struct rng rng;
    struct slot slots[HELD];
    uint64_t seen; /* the newest generation this thread has met */
    int operations;
};

static uint32_t below(struct worker *w, uint32_t n)
{
    return rng_u32(&w->rng) % n;
}

/* What a version holds is said by its number. */
static int content_of(const graft_adapter_id *id)
{
    unsigned long long number = 0;
    REQUIRE(sscanf(id->version, "1.0.%llu", &number) == 1, "version %s", id->version);
    return (int)(number % CONTENTS);
}

/* Others remove and replace what they like. */
static bool happened(struct worker *w, graft_status status, const char *what,
                     const graft_error *error)
{
    REQUIRE(status == GRAFT_OK || status == GRAFT_STATE || status == GRAFT_NOT_FOUND,
            "%s: %s: %s (%s)", what, graft_status_text(status), error->message, error->file);
    atomic_fetch_add(status == GRAFT_OK ? &w->board->changes : &w->board->refusals, 1);
    return status == GRAFT_OK;
}

struct pick {
    uint32_t random;
    char version[65];
};

static bool pick_version(void *user, const graft_registry_entry *entry)
{
    struct pick *pick = user;
    snprintf(pick->version, sizeof pick->version, "%s",
             entry->versions[pick->random % entry->n_versions].version);
    return true;
}

/* NAME, or some version of it as the index has it now; false: the name is gone. */
static bool some_address(struct worker *w, bool versioned, char address[128])
{
    char name[16];
    struct pick pick = {.random = rng_u32(&w->rng)};
    snprintf(name, sizeof name, "skill-%u", below(w, NAMES));
    snprintf(address, 128, "%s", name);
    if (!versioned)
        return true;
    if (graft_registry_list(w->registry, name, pick_version, &pick, NULL) != GRAFT_OK)
        return false;
    snprintf(address, 128, "%s@%s", name, pick.version);
    return true;
}

static graft_adapter *acquire(struct worker *w, int *content)
{
    char address[128];
    graft_adapter *adapter = NULL;
    graft_adapter_id id;
    graft_error error = {0};
    if (!some_address(w, below(w, 2), address))
        return NULL;
    graft_status status = graft_registry_acquire(w->registry, address, &adapter, NULL, &id, &error);
    if (!happened(w, status, address, &error))
        return NULL;
    REQUIRE(id.generation >= w->seen, "%s went back", address);
    w->seen = id.generation;
    *content = content_of(&id);
    return adapter;
}

static void begin_answer(struct worker *w, struct slot *slot)
{
    graft_adapter *adapter = acquire(w, &slot->first);
    if (!adapter)
        return;
    slot->session = session_with(w->model, adapter);
    slot->second = -1;
    slot->said = 0;
    graft_adapter_close(&adapter); /* the session holds it */
}

static void swap_answer(struct worker *w, struct slot *slot)
{
    graft_adapter *adapter = acquire(w, &slot->second);
    if (!adapter) {
        slot->second = -1;
        return;
    }
    swap_to(w->model, slot->session, adapter);
    graft_adapter_close(&adapter);
    atomic_fetch_add(&w->board->swapped, 1);
}

static void end_answer(struct worker *w, struct slot *slot)
{
    const struct speech *alone =
        slot->second < 0 ? &of_one[slot->first] : &of_two[slot->first][slot->second];
    REQUIRE(same(&slot->speech, alone), "contents %d, %d: a session says what it does not alone",
            slot->first, slot->second);
    graft_session_close(&slot->session);
    atomic_fetch_add(&w->board->answers, 1);
}

/* A few words, so that answers lie across what others do meanwhile. */
static void go_on(struct worker *w, struct slot *slot)
{
    if (!slot->session) {
        begin_answer(w, slot);
        return;
    }
    if (slot->said == HALF && slot->second < 0 && below(w, 2))
        swap_answer(w, slot);
    int end = slot->said < HALF ? HALF : STEPS;
    int to = slot->said + 1 + (int)below(w, 2);
    to = to < end ? to : end;
    say(slot->session, &slot->speech, slot->said, to);
    slot->said = to;
    if (to == STEPS)
        end_answer(w, slot);
}

static void add(struct worker *w)
{
    static const graft_place PLACES[] = {GRAFT_PLACE_ADD, GRAFT_PLACE_STAGE, GRAFT_PLACE_PUBLISH};
    char folder[512], version[40], name[128];
    unsigned long long number = atomic_fetch_add(&w->board->numbers, 1) + 1;
    graft_card card = graft_card_default();
    some_address(w, false, name);
    folder_of((int)(number % CONTENTS), folder);
    snprintf(version, sizeof version, "1.0.%llu", number);
    card.name = name;
    card.version = version;
    DO(graft_registry_add(w->registry, folder, &card, PLACES[below(w, 3)], NULL, error));
    atomic_fetch_add(&w->board->changes, 1);
}

static void resolve(struct worker *w)
{
    char address[128];
    graft_adapter_id id;
    graft_error error = {0};
    some_address(w, false, address);
    graft_status status = graft_registry_resolve(w->registry, address, &id, &error);
    if (happened(w, status, address, &error)) {
        REQUIRE(id.generation >= w->seen, "%s went back", address);
        w->seen = id.generation;
    }
}

enum change { STAGE, PUBLISH, ACTIVATE, EVICT, PREFETCH, REMOVE, PROMOTE, ROLLBACK, PIN, CHANGES };

static void change(struct worker *w, enum change what)
{
    static graft_status (*const CALLS[])(graft_registry *, const char *, graft_error *) = {
        [STAGE] = graft_registry_stage,       [PUBLISH] = graft_registry_publish,
        [ACTIVATE] = graft_registry_activate, [EVICT] = graft_registry_evict,
        [PREFETCH] = graft_registry_prefetch, [REMOVE] = graft_registry_remove};
    static const char *const WHAT[] = {"stage",  "publish", "activate", "evict", "prefetch",
                                       "remove", "promote", "rollback", "pin"};
    char address[128];
    graft_error error = {0};
    graft_status status;
    bool whole_name = what >= PROMOTE || (what == REMOVE && below(w, 16) == 0);
    if (!some_address(w, !whole_name, address))
        return;
    if (what == PROMOTE)
        status = graft_registry_promote(w->registry, address, NULL, &error);
    else if (what == ROLLBACK)
        status = graft_registry_rollback(w->registry, address, NULL, &error);
    else if (what == PIN)
        status = graft_registry_pin(w->registry, address, below(w, 4) == 0, &error);
    else
        status = CALLS[what](w->registry, address, &error);
    happened(w, status, WHAT[what], &error);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    for (int i = 0; i < w->operations; i++) {
        uint32_t what = below(w, 100);
        if (what < 60)
            go_on(w, &w->slots[below(w, HELD)]);
        else if (what < 66)
            resolve(w);
        else if (what < 73)
            add(w);
        else
            change(w, what % CHANGES);
    }
    for (int i = 0; i < HELD; i++)
        while (w->slots[i].session)
            go_on(w, &w->slots[i]);
    atomic_fetch_sub(&w->board->working, 1);
    return NULL;
}

/* ---- one process ---------------------------------------------------------------------------------- */

struct residents {
    size_t n, bytes, n_unpinned;
    int holders;
};

static bool count_residents(void *user, const graft_registry_entry *entry)
{
    struct residents *r = user;
    for (size_t i = 0; i < entry->n_versions; i++) {
        const graft_registry_version *v = &entry->versions[i];
        r->n += v->resident;
        r->bytes += v->resident_bytes;
        r->holders += v->holders;
        r->n_unpinned += v->resident && !v->pinned && !(entry->pinned && (int)i == entry->active);
    }
    return true;
}

/* When nobody does anything any more: what is in memory is in the index and within the budget. */
static void check_memory(graft_registry *registry)
{
    struct residents listed = {0};
    graft_registry_info info;
    graft_adapter_id id;
    (void)graft_registry_resolve(registry, "skill-0", &id, NULL); /* looks at the newest index */
    DO(graft_registry_list(registry, NULL, count_residents, &listed, error));
    DO(graft_registry_describe(registry, &info, error));
    REQUIRE(info.n_held == 0 && listed.holders == 0, "%zu versions are still held", info.n_held);
    REQUIRE(info.n_resident == listed.n && info.bytes == listed.bytes,
            "%zu versions in memory, %zu of the index", info.n_resident, listed.n);
    REQUIRE(info.bytes <= info.budget || !listed.n_unpinned, "%zu bytes, budget %zu", info.bytes,
            info.budget);
    REQUIRE(info.loads - info.closed == info.n_resident, "a version was not closed");
}

static void run_process(struct board *board, const char *home, int process, int n_threads)
{
    char base[512];
    struct worker workers[THREADS] = {{0}};
    graft_model *model = NULL;
    graft_runtime *runtime = open_runtime(process == 0 ? 2 : 1);
    snprintf(base, sizeof base, "%s/base", test_dir);
    DO(graft_model_open(runtime, base, NULL, &model, error));
    size_t before = atomic_load(&runtime->mem.bytes_in_use);
    graft_registry *registry = open_registry(runtime, model, home);
    for (int i = 0; i < THREADS; i++) {
        struct worker *w = &workers[i];
        w->registry = registry;
        w->model = model;
        w->board = board;
        w->operations = operations / n_threads;
        rng_init(&w->rng, 5, (uint64_t)(process * THREADS + i));
        REQUIRE(pthread_create(&w->thread, NULL, work, w) == 0, "thread");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    while (atomic_load(&board->working) > 0)
        usleep(1000);
    check_memory(registry);
    graft_registry_close(&registry);
    size_t after = atomic_load(&runtime->mem.bytes_in_use);
    REQUIRE(after == before, "%zu bytes before, %zu after", before, after);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
}

/* ---- all of them ---------------------------------------------------------------------------------- */

static struct board *board_open(int threads)
{
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(board != MAP_FAILED);
    atomic_store(&board->working, threads);
    return board;
}

static void board_close(struct board *board)
{
    printf("%d operations: %d answers, %d of them swapped in the middle; %d calls of the registry, "
           "%d refused\n",
           operations, atomic_load(&board->answers), atomic_load(&board->swapped),
           atomic_load(&board->changes), atomic_load(&board->refusals));
    assert_true(atomic_load(&board->answers) > 0 && atomic_load(&board->swapped) > 0);
    munmap(board, sizeof *board);
}

struct verified {
    graft_registry *registry;
    int n;
};

static bool verify_one(void *user, const graft_registry_entry *entry)
{
    struct verified *v = user;
    for (size_t i = 0; i < entry->n_versions; i++, v->n++) {
        char address[160];
        snprintf(address, sizeof address, "%s@%s", entry->name, entry->versions[i].version);
        DO(graft_registry_verify(v->registry, address, error));
    }
    return true;
}

/* Every file of every version that is left is what was added. */
static void check_index(const char *home)
{
    graft_runtime *runtime = open_runtime(1);
    struct verified v = {.registry = open_registry(runtime, NULL, home)};
    MUST(graft_registry_list(v.registry, NULL, verify_one, &v, error));
    assert_true(v.n > 0);
    graft_registry_close(&v.registry);
    graft_runtime_close(&runtime);
}

static void threads_of_one_process_hear_the_versions_they_hold(void **state)
{
    (void)state;
    char home[512];
    struct board *board = board_open(THREADS);
    snprintf(home, sizeof home, "%s/one", test_dir);
    run_process(board, home, 0, THREADS);
    board_close(board);
    check_index(home);
}

static bool go_past(void *user, const graft_registry_entry *entry)
{
    ++*(int *)user;
    return entry->n_versions > 0;
}

/* Opens the registry again and again until all children are done; one that fails ends the others. */
static void watch(const char *home, const pid_t *children)
{
    int running = PROCESSES, opened = 0, names = 0;
    bool failed = false;
    graft_runtime *runtime = open_runtime(1);
    while (running > 0) {
        int status;
        graft_registry *registry = open_registry(runtime, NULL, home);
        DO(graft_registry_list(registry, NULL, go_past, &names, error));
        graft_registry_close(&registry);
        opened++;
        for (pid_t done; running > 0 && (done = waitpid(-1, &status, WNOHANG)) > 0; running--) {
            bool bad = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
            for (int i = 0; i < PROCESSES && bad && !failed; i++)
                if (children[i] != done)
                    kill(children[i], SIGTERM);
            failed |= bad;
        }
        usleep(500);
    }
    graft_runtime_close(&runtime);
    printf("opened %d times in between\n", opened);
    assert_false(failed);
    assert_true(names > 0);
}

static void threads_of_processes_hear_the_versions_they_hold(void **state)
{
    (void)state;
    char home[512];
    pid_t children[PROCESSES];
    struct board *board = board_open(PROCESSES * THREADS);
    snprintf(home, sizeof home, "%s/many", test_dir);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (!children[i]) {
            run_process(board, home, i, PROCESSES * THREADS);
            _exit(0);
        }
    }
    watch(home, children);
    board_close(board);
    check_index(home);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--long"))
        operations = 10000;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_of_processes_hear_the_versions_they_hold),
        cmocka_unit_test(threads_of_one_process_hear_the_versions_they_hold),
    };
    return cmocka_run_group_tests(tests, setup, test_dir_close);
}
