/* runtime.c: the record that carries threads, kernels, memory and log to every layer.
 *
 * Owns the choice of the tier and of the number of threads. The only thing read from the process is
 * the environment variable GRAFT_TIER and the set of processors, both once at open; nothing is
 * changed in it, but for the permission that Linux wants to be asked for before AMX is used, where it may be.
 */
#include "api/api_internal.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    THREADS_MAX = 1024,
    SMALL_REGION = 256 * 1024 /* ten microseconds of one core: less than it takes to wake another */
};

/* What the layers see comes first; the rest is for graft_runtime_describe. */
struct runtime_box {
    struct graft_runtime runtime;
    int cores;
    char tiers[256];
    const char *refusal; /* why the best tier that was asked for is not there, or NULL */
};

void graft_runtime_options_init(graft_runtime_options *options, size_t struct_size)
{
    graft_runtime_options defaults = {.log_level = GRAFT_LOG_WARN};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* Who wants none but a lower tier has nothing asked of the system for the list's sake. */
static void list_tiers(char *out, size_t size, bool asked)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; used < size; i++) {
        const struct kernels *k = asked ? kernels_tier(i) : NULL;
        const char *name = asked ? (k != NULL ? k->tier : NULL) : kernels_tier_name(i);
        if (name == NULL) {
            return;
        }
        int n = snprintf(out + used, size - used, "%s%s", i > 0 ? " " : "", name);
        used += n > 0 ? (size_t)n : 0;
    }
}

static graft_status choose_tier(struct runtime_box *box, const char *wanted, graft_error *error)
{
    const char *from = "";
    if (wanted == NULL && (wanted = getenv("GRAFT_TIER")) != NULL) {
        from = "GRAFT_TIER: ";
        wanted = wanted[0] != '\0' ? wanted : NULL;
    }
    box->runtime.kernels = kernels_find(wanted);
    box->refusal = kernels_refusal(wanted);
    list_tiers(box->tiers, sizeof box->tiers, box->refusal != NULL);
    if (box->runtime.kernels == NULL && wanted != NULL) {
        return error_set(error, GRAFT_UNSUPPORTED, "%s\"%s\" is %s; this processor runs: %s", from,
                         wanted,
                         kernels_is_tier_name(wanted) ? "a tier that this processor cannot run"
                                                      : "no processor tier",
                         box->tiers);
    }
    return GRAFT_OK;
}

static graft_status check_options(const graft_runtime_options *o, graft_error *error)
{
    const graft_allocator *a = &o->allocator;
    int given = (a->alloc != NULL) + (a->resize != NULL) + (a->release != NULL);
    if (given != 0 && given != 3) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "an allocator has all of alloc, resize and release, or none");
    }
    if (o->threads < 0 || o->threads > THREADS_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "threads must be from 0 to %d",
                         THREADS_MAX);
    }
    return GRAFT_OK;
}

/* The box is the allocator's too, though it cannot be counted by the record that it holds. */
static void free_box(struct runtime_box *box)
{
    struct mem mem;
    mem_init(&mem, &box->runtime.mem.allocator);
    mem_free(&mem, box);
}

static void bind_workers(const graft_runtime *r)
{
    int workers = pool_threads(r->pool) - 1, bound = pool_bind(r->pool);
    if (bound < workers) {
        runtime_log(r, GRAFT_LOG_WARN, "affinity: %d of %d workers have a processor of their own",
                    bound, workers);
    }
}

graft_status graft_runtime_open(const graft_runtime_options *options, graft_runtime **out,
                                graft_error *error)
{
    REQUIRE(out);
    graft_runtime_options o = graft_runtime_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        status = check_options(&o, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    struct mem mem;
    mem_init(&mem, &o.allocator);
    struct runtime_box *box = mem_calloc(&mem, 1, sizeof *box);
    if (box == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a runtime");
    }
    graft_runtime *r = &box->runtime;
    mem_init(&r->mem, &o.allocator);
    r->log = o.log;
    r->log_user = o.log_user;
    r->log_level = o.log_level;
    r->pid = (int)getpid();
    r->small_region = SMALL_REGION;
    box->cores = processors_allowed();
    status = choose_tier(box, o.tier, error);
    if (status == GRAFT_OK) {
        int threads = o.threads > 0              ? o.threads
                      : box->cores < THREADS_MAX ? box->cores
                                                 : THREADS_MAX;
        status = pool_open(&r->pool, &r->mem, threads, error);
    }
    if (status != GRAFT_OK) {
        free_box(box);
        return status;
    }
    if (o.affinity) {
        bind_workers(r);
    }
    if (box->refusal != NULL) {
        runtime_log(r, GRAFT_LOG_WARN, "no tier amx: %s", box->refusal);
    }
    runtime_log(r, GRAFT_LOG_INFO, "graft %s: tier %s, %d threads", graft_version(),
                r->kernels->tier, pool_threads(r->pool));
    *out = r;
    return GRAFT_OK;
}

void graft_runtime_close(graft_runtime **runtime)
{
    if (runtime == NULL || *runtime == NULL) {
        return;
    }
    graft_runtime *r = *runtime;
    *runtime = NULL;
    pool_close(&r->pool);
    free_box((struct runtime_box *)r);
}

graft_status graft_runtime_describe(const graft_runtime *runtime, graft_runtime_info *out,
                                    graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    const struct runtime_box *box = (const struct runtime_box *)runtime;
    *out = (graft_runtime_info){.threads = pool_threads(runtime->pool),
                                .cores = box->cores,
                                .tier = runtime->kernels->tier,
                                .tiers = box->tiers,
                                .processor = kernels_processor(),
                                .bytes_in_use = atomic_load(&runtime->mem.bytes_in_use)};
    return GRAFT_OK;
}

void graft_free(graft_runtime *runtime, void *block)
{
    if (runtime != NULL) {
        mem_free(&runtime->mem, block);
    }
}
