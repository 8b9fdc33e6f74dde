/* swap.c: what it costs to change the adapter between two tokens.
 *
 * Two resident adapters take turns on one sequence: a new mix is made and takes the place of the old one, which
 * is given back; then comes a decode step under it. Plain steps without a swap stand between. Percentiles
 * are of a thousand swaps; a step after a swap is compared with the plain ones of the same run.
 */
#include "bench/bench_internal.h"

#include <math.h>
#include <stdlib.h>

enum { SWAPS = 1000, SETTLED = 100, CONTEXT = 128, OPENS = 9, PERCENT_MOST = 99 };

struct swap {
    struct adapter *adapter[2];
    struct mix *mix;
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seed, *seq;
    double call[SWAPS], after[SWAPS], plain[SWAPS]; /* seconds */
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

static graft_status swap_to(struct bench *b, struct swap *s, int which, double *seconds,
                            graft_error *error)
{
    struct mix *mix = NULL, *old = s->mix;
    double begun = time_seconds();
    graft_status status =
        mix_make(b->model, &(struct mix_part){s->adapter[which], 1}, 1, &mix, error);
    if (status == GRAFT_OK) {
        s->mix = mix;
        mix_release(&old);
    }
    *seconds = wall_seconds(begun);
    return status;
}

/* Memory of the process that is no file's, in bytes; 0: the system does not tell. */
static double anonymous_memory(void)
{
    char line[256];
    long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "RssAnon:", 8))
            kilobytes = strtoll(line + 8, NULL, 10);
    if (file)
        fclose(file);
    return 1024.0 * (double)kilobytes;
}

static graft_status run_swaps(struct bench *b, struct swap *s, double *growth, graft_error *error)
{
    double settled = 0;
    graft_status status = GRAFT_OK;
    for (int i = 0; i < SWAPS && status == GRAFT_OK; i++) {
        if (i == SETTLED)
            settled = anonymous_memory();
        if (i % 50 == 0)
            status = bench_progress(b, (uint64_t)i, SWAPS, "swaps", error);
        if (status == GRAFT_OK)
            status = swap_to(b, s, i % 2, &s->call[i], error);
        if (status == GRAFT_OK)
            status = step(b, s, 2 * i, &s->after[i], error);
        if (status == GRAFT_OK)
            status = step(b, s, 2 * i + 1, &s->plain[i], error);
    }
    *growth = anonymous_memory() - settled;
    return status;
}

static void report_one(const struct bench *b, const char *name, const char *unit, double value)
{
    bench_report(b, name, unit, CLOCK_WALL, &value, 1);
}

static void report(const struct bench *b, struct swap *s, double growth)
{
    report_one(b, "swap, median", "µs", 1e6 * samples_percentile(s->call, SWAPS, 50));
    report_one(b, "swap, p99", "µs", 1e6 * samples_percentile(s->call, SWAPS, PERCENT_MOST));
    report_one(b, "plain step, median", "ms", 1e3 * samples_percentile(s->plain, SWAPS, 50));
    report_one(b, "plain step, p99", "ms", 1e3 * samples_percentile(s->plain, SWAPS, PERCENT_MOST));
    report_one(b, "step after a swap, median", "ms", 1e3 * samples_percentile(s->after, SWAPS, 50));
    report_one(b, "step after a swap, p99", "ms",
               1e3 * samples_percentile(s->after, SWAPS, PERCENT_MOST));
    report_one(b, "memory of 900 swaps", "MB", growth / 1e6);
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

static graft_status open_swap(struct bench *b, struct swap *s, graft_error *error)
{
    graft_status status = workspace_open(b->model, KV_BLOCK, &s->ws, error);
    for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
        struct synth_adapter how = synth_adapter_of(b->options);
        how.seed = (uint64_t)i + 1;
        status = synth_adapter_open(b, &how, &s->adapter[i], error);
    }
    if (status == GRAFT_OK)
        status = bench_kv_open(b, CONTEXT / KV_BLOCK + 4, s->ws, &s->pool, &s->seed, error);
    if (status == GRAFT_OK)
        status = kv_seq_repeat(s->seed, CONTEXT, &s->seq, error);
    return status;
}

graft_status bench_swap(struct bench *b, graft_error *error)
{
    double growth = 0, unused;
    struct swap *s = mem_calloc(b->mem, 1, sizeof *s);
    if (!s)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for swaps");
    graft_status status = open_swap(b, s, error);
    if (status == GRAFT_OK)
        status = swap_to(b, s, 1, &unused, error);
    if (status == GRAFT_OK)
        status = check_model_with(b, s->adapter[0], error);
    if (status == GRAFT_OK)
        status = run_swaps(b, s, &growth, error);
    if (status == GRAFT_OK) {
        report(b, s, growth);
        status = time_opens(b, error);
    }
    mix_release(&s->mix);
    for (int i = 0; i < 2; i++)
        adapter_release(&s->adapter[i]);
    kv_seq_close(&s->seq);
    kv_seq_close(&s->seed);
    kv_pool_close(&s->pool);
    workspace_close(&s->ws);
    mem_free(b->mem, s);
    return status;
}
