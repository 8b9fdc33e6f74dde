/* presets.c: what an adapter of each preset takes: bytes in memory, and time of a decoded token.
 *
 * Its time is what a step under it takes longer than one of the base model: steps alternate, a sample is the median of many
 * differences. The head is not run. At width 768 the presets have targets to be compared with.
 */
#include "adapter/save/save.h"
#include "bench/bench_internal.h"

enum { PAIRS_MOST = 200, PAIRS_LEAST = 5, CONTEXT = KV_BLOCK, TARGET_WIDTH = 768, WARM = 20 };
static const double SAMPLE_SECONDS = 0.3;

static const struct {
    const char *preset;
    double kilobytes, microseconds;
} TARGETS[] = {{"coder", 200, 50},
               {"researcher", 100, 30},
               {"security", 350, 80},
               {"architect", 180, 60},
               {"reviewer", 100, 30}};

struct presets {
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seq;
};

static graft_status step(struct bench *b, struct presets *p, const struct mix *mix, double *seconds,
                         graft_error *error)
{
    kv_seq_trim(p->seq, CONTEXT);
    const struct row row = {.token = 1,
                            .pos = CONTEXT,
                            .seq = p->seq,
                            .role = ROLE_DECODE,
                            .deltas = mix_deltas(mix),
                            .want_hidden = true};
    double begun = time_seconds();
    graft_status status = model_forward(b->model, &row, 1, p->ws, error);
    *seconds = wall_seconds(begun);
    return status;
}

/* Median of the differences, in seconds. */
static graft_status sample(struct bench *b, struct presets *p, const struct mix *mix, int n_pairs,
                           double *out, graft_error *error)
{
    double more[PAIRS_MOST], base, with;
    graft_status status = GRAFT_OK;
    for (int i = 0; i < n_pairs && status == GRAFT_OK; i++) {
        status = step(b, p, NULL, &base, error);
        if (status == GRAFT_OK)
            status = step(b, p, mix, &with, error);
        if (status == GRAFT_OK)
            more[i] = with - base;
    }
    if (status == GRAFT_OK)
        *out = samples_median(more, n_pairs);
    return status;
}

/* As many as a sample has time for. */
static graft_status count_pairs(struct bench *b, struct presets *p, const struct mix *mix, int *out,
                                graft_error *error)
{
    double taken[WARM];
    graft_status status = GRAFT_OK;
    for (int i = 0; i < WARM && status == GRAFT_OK; i++)
        status = step(b, p, mix, &taken[i], error);
    if (status != GRAFT_OK)
        return status;
    double pairs = SAMPLE_SECONDS / (2 * samples_median(taken, WARM));
    *out = pairs < PAIRS_LEAST ? PAIRS_LEAST : pairs > PAIRS_MOST ? PAIRS_MOST : (int)pairs;
    return GRAFT_OK;
}

static void report(const struct bench *b, const char *preset, const char *what, const char *unit,
                   double *values, int n, double target)
{
    char name[CASE_NAME_SIZE];
    snprintf(name, sizeof name, "%s, %s", preset, what);
    if (b->model->config.d_model == TARGET_WIDTH)
        bench_report_beside(b, name, unit, values, n, "target", target);
    else
        bench_report(b, name, unit, CLOCK_WALL, values, n);
}

static graft_status measure(struct bench *b, struct presets *p, const struct adapter *adapter,
                            const struct mix *mix, int which, graft_error *error)
{
    double microseconds[SAMPLES_MAX], kilobytes = (double)adapter_info(adapter)->bytes / 1e3;
    int n = bench_samples(b), n_pairs = 0;
    const char *name = TARGETS[which].preset;
    graft_status status = count_pairs(b, p, mix, &n_pairs, error);
    for (int i = 0; i < n && status == GRAFT_OK; i++) {
        status = bench_progress(b, (uint64_t)(which * n + i),
                                (uint64_t)((int)ARRAY_LEN(TARGETS) * n), name, error);
        if (status == GRAFT_OK)
            status = sample(b, p, mix, n_pairs, &microseconds[i], error);
        if (status == GRAFT_OK)
            microseconds[i] *= 1e6;
    }
    if (status == GRAFT_OK) {
        report(b, name, "memory", "KB", &kilobytes, 1, TARGETS[which].kilobytes);
        report(b, name, "time of a token", "µs", microseconds, n, TARGETS[which].microseconds);
    }
    return status;
}

static graft_status run_preset(struct bench *b, struct presets *p, int which, graft_error *error)
{
    const struct adapter_preset *preset = preset_find(TARGETS[which].preset);
    struct synth_adapter how = synth_adapter_of(b->options);
    struct adapter *adapter = NULL;
    struct mix *mix = NULL;
    how.rank = preset->rank;
    how.targets = preset->targets;
    graft_status status = synth_adapter_open(b, &how, &adapter, error);
    if (status == GRAFT_OK)
        status = mix_make(b->model, &(struct mix_part){adapter, 1}, 1, &mix, error);
    if (status == GRAFT_OK)
        status = check_model_with(b, adapter, error);
    if (status == GRAFT_OK)
        status = measure(b, p, adapter, mix, which, error);
    mix_release(&mix);
    adapter_release(&adapter);
    return status;
}

graft_status bench_presets(struct bench *b, graft_error *error)
{
    struct presets p = {.ws = NULL};
    graft_status status = workspace_open(b->model, KV_BLOCK, &p.ws, error);
    if (status == GRAFT_OK)
        status = bench_kv_open(b, 2, p.ws, &p.pool, &p.seq, error);
    for (int i = 0; i < (int)ARRAY_LEN(TARGETS) && status == GRAFT_OK; i++)
        status = run_preset(b, &p, i, error);
    kv_seq_close(&p.seq);
    kv_pool_close(&p.pool);
    workspace_close(&p.ws);
    return status;
}
