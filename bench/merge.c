/* merge.c: how long merging takes, and how much memory beside what it reads and writes.
 *
 *   merge make MODEL DIR          four random adapters of rank 16 on all linears of the blocks: DIR/0 .. DIR/3, bf16
 *   merge run MODEL DIR [TIMES]   merges them by several methods into DIR/METHOD; for each a line: method, rank, median
 *                                 seconds, most bytes that were allocated at a time beyond those before, once the adapters
 *                                 were opened and checked, one after the other
 */
#include "adapter/save/save.h"
#include "api/api_internal.h"

#include <graft/graft.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADAPTERS = 4, RANK = 16, PATH = 512, TIMES = 16, HEAD = 64 };

static void must(graft_status status, const graft_error *error)
{
    if (status == GRAFT_OK)
        return;
    fprintf(stderr, "merge: %s (%s)\n", error->message, error->file);
    exit(1);
}

/* ---- memory that is counted ----------------------------------------------------------------- */

static atomic_size_t now, most;

static void count(size_t more)
{
    size_t sum = atomic_fetch_add(&now, more) + more, seen = atomic_load(&most);
    while (sum > seen && !atomic_compare_exchange_weak(&most, &seen, sum)) {
    }
}

/* The size stands in front of a block. */
static void *counted_alloc(void *user, size_t bytes)
{
    (void)user;
    uint8_t *block = aligned_alloc(HEAD, HEAD + (bytes + HEAD - 1) / HEAD * HEAD);
    if (!block)
        return NULL;
    memcpy(block, &bytes, sizeof bytes);
    count(bytes);
    return block + HEAD;
}

static void counted_release(void *user, void *block)
{
    (void)user;
    size_t bytes;
    if (!block)
        return;
    memcpy(&bytes, (uint8_t *)block - HEAD, sizeof bytes);
    atomic_fetch_sub(&now, bytes);
    free((uint8_t *)block - HEAD);
}

static void *counted_resize(void *user, void *block, size_t bytes)
{
    size_t before = 0;
    uint8_t *grown = counted_alloc(user, bytes);
    if (block)
        memcpy(&before, (uint8_t *)block - HEAD, sizeof before);
    if (grown && block)
        memcpy(grown, block, before < bytes ? before : bytes);
    if (grown)
        counted_release(user, block);
    return grown;
}

/* ---- adapters ------------------------------------------------------------------------------- */

static void fill(struct rng *rng, float *x, int64_t n, double size)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(size * (2 * rng_uniform(rng) - 1));
}

static void make_one(const graft_model *opened, const char *dir, uint64_t seed)
{
    const struct model *m = opened->model;
    const int n = m->config.n_layer * LINEAR_COUNT;
    struct adapter_factors *f = calloc((size_t)n, sizeof *f);
    const struct adapter_recipe card = {
        .name = "random", .version = "0.1.0", .base = "random", .rank = RANK, .alpha = RANK};
    struct rng rng;
    graft_error error = {0};
    char folder[PATH];
    rng_init(&rng, seed, 0);
    for (int i = 0; i < n; i++) {
        const struct matrix *w = model_site_weight(m, i);
        f[i] = (struct adapter_factors){.site = i, .rank = RANK};
        f[i].a = malloc((size_t)(RANK * w->n_in) * sizeof(float));
        f[i].b = malloc((size_t)(RANK * w->n_out) * sizeof(float));
        fill(&rng, f[i].a, RANK * w->n_in, 0.05);
        fill(&rng, f[i].b, RANK * w->n_out, 0.05);
    }
    snprintf(folder, sizeof folder, "%s/%d.f32", dir, (int)seed);
    must(adapter_write_factors(m, folder, &card, f, (size_t)n, &error), &error);
    graft_adapter_convert_options o = graft_adapter_convert_options_default();
    char out[PATH];
    o.type = "bf16";
    snprintf(out, sizeof out, "%s/%d", dir, (int)seed);
    must(graft_adapter_convert((graft_model *)(uintptr_t)opened, folder, out, &o, &error), &error);
    for (int i = 0; i < n; i++) {
        free(f[i].a);
        free(f[i].b);
    }
    free(f);
}

/* The first call comes when the adapters are opened. */
static bool begin(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user;
    (void)total;
    (void)what;
    if (done == 0)
        atomic_store(&most, atomic_load(&now));
    return true;
}

/* ---- merges --------------------------------------------------------------------------------- */

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void run_method(graft_model *model, const char *dir, const char *method, int rank, int times)
{
    graft_merge_input inputs[ADAPTERS];
    char paths[ADAPTERS][PATH], out[PATH], command[PATH + 16];
    double seconds[TIMES];
    size_t scratch = 0;
    graft_merge_options o = graft_merge_options_default();
    graft_error error = {0};
    o.method = method;
    o.rank = rank;
    o.progress = begin;
    for (int i = 0; i < ADAPTERS; i++) {
        snprintf(paths[i], PATH, "%s/%d", dir, i);
        inputs[i] = graft_merge_input_default(paths[i]);
    }
    snprintf(out, sizeof out, "%s/%s-%d", dir, method, rank);
    snprintf(command, sizeof command, "rm -rf '%s'", out);
    for (int i = 0; i < times; i++) {
        if (system(command) != 0)
            exit(1);
        const size_t before = atomic_load(&now);
        atomic_store(&most, before);
        const double begun = time_seconds();
        must(graft_merge(model, inputs, ADAPTERS, out, &o, NULL, &error), &error);
        seconds[i] = time_seconds() - begun;
        const size_t used = atomic_load(&most) - before;
        scratch = used > scratch ? used : scratch;
    }
    qsort(seconds, (size_t)times, sizeof *seconds, by_value);
    printf("%s\t%d\t%.3f\t%zu\n", method, rank, seconds[times / 2], scratch);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *method;
        int rank;
    } cases[] = {{"linear", 16}, {"cat", 0}, {"ties", 16}, {"dare_linear", 16}, {"dare_ties", 16}};
    graft_runtime_options options = graft_runtime_options_default();
    graft_model_options how = graft_model_options_default();
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_error error = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: merge make|run MODEL DIR [TIMES]\n");
        return 2;
    }
    const int times = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 3;
    options.allocator = (graft_allocator){counted_alloc, counted_resize, counted_release, NULL};
    how.pack = "none";
    must(graft_runtime_open(&options, &runtime, &error), &error);
    must(graft_model_open(runtime, argv[2], &how, &model, &error), &error);
    if (!strcmp(argv[1], "make"))
        for (uint64_t i = 0; i < ADAPTERS; i++)
            make_one(model, argv[3], i);
    else
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
            run_method(model, argv[3], cases[i].method, cases[i].rank,
                       times < 1       ? 1
                       : times > TIMES ? TIMES
                                       : times);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    return 0;
}
