/* swap.c: what it costs to change the adapter between two tokens, and what resident adapters cost.
 *
 * Two resident adapters take turns on one sequence: a new mix is made and takes the place of the old one, which
 * is given back; then comes a decode step under it, and a plain step without a swap. Then another version of a name is
 * activated by somebody else, and the name is asked for and applied; a step later it is removed. Percentiles are of a
 * thousand of each; a step after a swap is compared with the plain ones of the same run.
 */
#include "bench/bench_internal.h"

#include <math.h>
#include <stdlib.h>

enum { SWAPS = 1000, SETTLED = 100, CONTEXT = 128, OPENS = 9, PERCENT_MOST = 99, RESIDENTS = 16 };

struct swap {
    struct adapter *adapter[2];
    struct mix *mix;
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seed, *seq;
    struct swap_names *names;
    double call[SWAPS], by_name[SWAPS], removal[SWAPS];      /* seconds */
    double after[SWAPS], after_removal[SWAPS], plain[SWAPS]; /* of steps */
    double growth;                                           /* bytes of 900 swaps */
    double base_memory, residents_bytes, residents_memory;   /* bytes: measure_residents */
};

static graft_status step(struct bench *b, struct swap *s, int index, double *seconds,
                         graft_error *error)
{
    kv_seq_trim(s->seq, CONTEXT);
    const struct row row = {.token = (graft_token_id)(index * 7919 % b->model->config.n_vocab),
                            .pos = CONTEXT,
                            .seq = s->seq,
                            .role = ROLE_DECODE,
                            .deltas = mix_deltas(s->mix),
                            .want_logits = true};
    double begun = time_seconds();
    graft_status status = model_forward(b->model, &row, 1, s->ws, error);
    *seconds = wall_seconds(begun);
    return status;
}

/* The adapter alone becomes the mix. */
static graft_status put_on(struct bench *b, struct swap *s, struct adapter *adapter,
                           graft_error *error)
{
    struct mix *mix = NULL, *old = s->mix;
    graft_status status = mix_make(b->model, &(struct mix_part){adapter, 1}, 1, &mix, error);
    if (status == GRAFT_OK) {
        s->mix = mix;
        mix_release(&old);
    }
    return status;
}

static graft_status swap_to(struct bench *b, struct swap *s, int which, double *seconds,
                            graft_error *error)
{
    double begun = time_seconds();
    graft_status status = put_on(b, s, s->adapter[which], error);
    *seconds = wall_seconds(begun);
    return status;
}

/* What the name means now, in place of what is on. */
static graft_status swap_by_name(struct bench *b, struct swap *s, double *seconds,
                                 graft_error *error)
{
    struct adapter *adapter = NULL;
    double begun = time_seconds();
    graft_status status = swap_names_acquire(s->names, &adapter, error);
    if (status == GRAFT_OK)
        status = put_on(b, s, adapter, error);
    adapter_release(&adapter); /* the mix has it */
    *seconds = wall_seconds(begun);
    return status;
}

static double remove_mix(struct swap *s)
{
    double begun = time_seconds();
    mix_release(&s->mix);
    return wall_seconds(begun);
}

/* A size in /proc/self/status, in bytes, but for the memory that limits are measured with; 0: the system does not
 * tell. */
static double process_memory(const struct bench *b, const char *key)
{
    char line[256];
    long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key)))
            kilobytes = strtoll(line + strlen(key), NULL, 10);
    if (file)
        fclose(file);
    return kilobytes ? 1024.0 * (double)kilobytes - (double)b->limits.memory_bytes : 0;
}

/* A swap between the two, one by name, a removal, and a step after each. */
static graft_status run_turn(struct bench *b, struct swap *s, int i, graft_error *error)
{
    double unused;
    graft_status status = swap_to(b, s, i % 2, &s->call[i], error);
    if (status == GRAFT_OK)
        status = step(b, s, 4 * i, &s->after[i], error);
    if (status == GRAFT_OK)
        status = step(b, s, 4 * i + 1, &s->plain[i], error);
    if (status == GRAFT_OK)
        status = swap_names_activate(s->names, i % 2, error);
    if (status == GRAFT_OK)
        status = swap_by_name(b, s, &s->by_name[i], error);
    if (status == GRAFT_OK)
        status = step(b, s, 4 * i + 2, &unused, error);
    if (status != GRAFT_OK)
        return status;
    s->removal[i] = remove_mix(s);
    status = step(b, s, 4 * i + 3, &s->after_removal[i], error);
    return status == GRAFT_OK ? swap_to(b, s, i % 2, &unused, error) : status;
}

static graft_status run_swaps(struct bench *b, struct swap *s, graft_error *error)
{
    double settled = 0;
    graft_status status = GRAFT_OK;
    for (int i = 0; i < SWAPS && status == GRAFT_OK; i++) {
        if (i == SETTLED)
            settled = process_memory(b, "RssAnon:");
        if (i % 50 == 0)
            status = bench_progress(b, (uint64_t)i, SWAPS, "swaps", error);
        if (status == GRAFT_OK)
            status = run_turn(b, s, i, error);
    }
    s->growth = process_memory(b, "RssAnon:") - settled;
    return status;
}

/* What the process has in memory when many adapters are resident and each has been used, beside what it had without
 * them and their bytes. */
static graft_status measure_residents(struct bench *b, struct swap *s, graft_error *error)
{
    struct adapter *adapter[RESIDENTS] = {NULL};
    double unused;
    graft_status status = step(b, s, 0, &unused, error);
    s->base_memory = process_memory(b, "VmRSS:");
    for (int i = 0; i < RESIDENTS && status == GRAFT_OK; i++) {
        struct synth_adapter how = synth_adapter_of(b->options);
        how.seed = (uint64_t)i + 3;
        status = bench_progress(b, (uint64_t)i, RESIDENTS, "adapters", error);
        if (status == GRAFT_OK)
            status = synth_adapter_open(b, &how, &adapter[i], error);
        if (status == GRAFT_OK)
            status = put_on(b, s, adapter[i], error);
        if (status == GRAFT_OK)
            status = step(b, s, i, &unused, error);
        if (status == GRAFT_OK)
            s->residents_bytes += (double)adapter_info(adapter[i])->bytes;
    }
    s->residents_memory = process_memory(b, "VmRSS:");
    mix_release(&s->mix);
    for (int i = 0; i < RESIDENTS; i++)
        adapter_release(&adapter[i]);
    return status;
}

static void report_one(const struct bench *b, const char *name, const char *unit, double value)
{
    bench_report(b, name, unit, CLOCK_WALL, &value, 1);
}

/* Sorts; in units of 1 / scale seconds. Steps are beside the plain ones, NULL for those themselves and for calls. */
static void report_times(const struct bench *b, const char *what, const char *unit, double scale,
                         double *seconds, const double *plain)
{
    static const struct {
        const char *name;
        int percent;
    } RANKS[] = {{"median", 50}, {"p99", PERCENT_MOST}};
    for (size_t i = 0; i < ARRAY_LEN(RANKS); i++) {
        char name[CASE_NAME_SIZE], beside[CASE_NAME_SIZE];
        double value = scale * samples_percentile(seconds, SWAPS, RANKS[i].percent);
        snprintf(name, sizeof name, "%s, %s", what, RANKS[i].name);
        snprintf(beside, sizeof beside, "plain step, %s", RANKS[i].name);
        if (plain)
            bench_report_beside(b, name, unit, &value, 1, beside,
                                scale * plain[(SWAPS - 1) * RANKS[i].percent / 100]);
        else
            report_one(b, name, unit, value);
    }
}

static void report(const struct bench *b, struct swap *s)
{
    report_times(b, "swap", "µs", 1e6, s->call, NULL);
    report_times(b, "swap by name", "µs", 1e6, s->by_name, NULL);
    report_times(b, "removal", "µs", 1e6, s->removal, NULL);
    report_times(b, "plain step", "ms", 1e3, s->plain, NULL);
    report_times(b, "step after a swap", "ms", 1e3, s->after, s->plain);
    report_times(b, "step after a removal", "ms", 1e3, s->after_removal, s->plain);
    report_one(b, "memory of 900 swaps", "MB", s->growth / 1e6);
    double memory = s->residents_memory / 1e6;
    bench_report_beside(b, "memory with 16 adapters", "MB", &memory, 1,
                        "memory before, and their bytes",
                        (s->base_memory + s->residents_bytes) / 1e6);
}

/* Opening, the file's pages being in memory. */
static graft_status time_opens(struct bench *b, graft_error *error)
{
    double ms[OPENS];
    char *folder = NULL;
    const struct synth_adapter how = synth_adapter_of(b->options);
    const struct adapter_options options = {.retype = how.retype, .type = how.type};
    size_t bytes = 0;
    graft_status status = synth_adapter_write(b, &how, &folder, error);
    for (int i = 0; i < OPENS && status == GRAFT_OK; i++) {
        struct adapter *a = NULL;
        double begun = time_seconds();
        status = adapter_open(b->model, folder, &options, &a, error);
        ms[i] = 1e3 * wall_seconds(begun);
        bytes = status == GRAFT_OK ? adapter_info(a)->bytes : 0;
        adapter_release(&a);
    }
    if (status == GRAFT_OK) {
        char name[CASE_NAME_SIZE];
        snprintf(name, sizeof name, "open, %.1f MB", (double)bytes / 1e6);
        bench_report(b, name, "ms", CLOCK_WALL, ms, OPENS);
    }
    synth_adapter_remove(b, &folder);
    return status;
}

static graft_status open_sequence(struct bench *b, struct swap *s, graft_error *error)
{
    graft_status status = workspace_open(b->model, KV_BLOCK, &s->ws, error);
    if (status == GRAFT_OK)
        status = bench_kv_open(b, CONTEXT / KV_BLOCK + 4, s->ws, &s->pool, &s->seed, error);
    if (status == GRAFT_OK)
        status = kv_seq_repeat(s->seed, CONTEXT, &s->seq, error);
    return status;
}

static graft_status open_adapters(struct bench *b, struct swap *s, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
        struct synth_adapter how = synth_adapter_of(b->options);
        how.seed = (uint64_t)i + 1;
        status = synth_adapter_open(b, &how, &s->adapter[i], error);
    }
    return status == GRAFT_OK ? swap_names_open(b, &s->names, error) : status;
}

static void close_swap(struct bench *b, struct swap *s)
{
    mix_release(&s->mix);
    swap_names_close(&s->names);
    for (int i = 0; i < 2; i++)
        adapter_release(&s->adapter[i]);
    kv_seq_close(&s->seq);
    kv_seq_close(&s->seed);
    kv_pool_close(&s->pool);
    workspace_close(&s->ws);
    mem_free(b->mem, s);
}

graft_status bench_swap(struct bench *b, graft_error *error)
{
    double unused;
    struct swap *s = mem_calloc(b->mem, 1, sizeof *s);
    if (!s)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for swaps");
    graft_status status = open_sequence(b, s, error);
    if (status == GRAFT_OK)
        status = measure_residents(b, s, error);
    if (status == GRAFT_OK)
        status = open_adapters(b, s, error);
    if (status == GRAFT_OK)
        status = check_model_with(b, s->adapter[0], error);
    if (status == GRAFT_OK)
        status = swap_to(b, s, 1, &unused, error);
    if (status == GRAFT_OK)
        status = run_swaps(b, s, error);
    if (status == GRAFT_OK) {
        report(b, s);
        status = time_opens(b, error);
    }
    close_swap(b, s);
    return status;
}
