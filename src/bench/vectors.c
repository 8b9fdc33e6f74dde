/* vectors.c: what a thousand made-up examples take, of each task.
 *
 * A sample makes a dataset of 1000 inputs of 768 values on one thread, memory and all, and the same with targets. Before
 * there is a figure, the first eight of the thousand are compared with a dataset of eight.
 */
#include "train/vectors/vectors.h"
#include "bench/bench_internal.h"

enum { EXAMPLES = 1000, WIDTH = 768, CHECKED = 8 };

static graft_status make(struct bench *b, int task, int64_t n, bool targets, struct vectors **out,
                         graft_error *error)
{
    const struct synthetic_options options = {
        .task = task, .width = WIDTH, .n = n, .seed = 1, .targets = targets};
    graft_status status = vectors_open(b->mem, WIDTH, WIDTH, out, error);
    return status == GRAFT_OK ? synthetic_add(*out, &options, error) : status;
}

/* The first few of a thousand are those of a dataset of as many. */
static graft_status check_task(struct bench *b, int task, graft_error *error)
{
    struct vectors *all = NULL, *few = NULL;
    graft_status status = make(b, task, EXAMPLES, true, &all, error);
    if (status == GRAFT_OK)
        status = make(b, task, CHECKED, true, &few, error);
    for (int64_t i = 0; i < CHECKED && status == GRAFT_OK; i++) {
        const struct vector_example x = vectors_at(all, i), y = vectors_at(few, i);
        if (memcmp(x.input, y.input, WIDTH * sizeof *x.input) != 0 ||
            memcmp(x.target, y.target, WIDTH * sizeof *x.target) != 0 || x.quality != y.quality)
            status = error_set(error, GRAFT_NUMERIC, "example %d of task %s is another among %d",
                               (int)i, synthetic_task(task), EXAMPLES);
    }
    vectors_close(&all);
    vectors_close(&few);
    return status;
}

/* In turn, so that what else runs on the machine is fair to all. */
static graft_status sample(struct bench *b, int n, double *ms, graft_error *error)
{
    const int cases = 2 * SYNTHETIC_TASKS;
    graft_status status = GRAFT_OK;
    for (int turn = 0; turn < n && status == GRAFT_OK; turn++)
        for (int c = 0; c < cases && status == GRAFT_OK; c++) {
            struct vectors *v = NULL;
            double begun = time_seconds();
            status = make(b, c / 2, EXAMPLES, c % 2, &v, error);
            ms[c * n + turn] = 1e3 * wall_seconds(begun);
            vectors_close(&v);
            if (status == GRAFT_OK)
                status = bench_progress(b, (uint64_t)(turn * cases + c), (uint64_t)(n * cases),
                                        "vectors", error);
        }
    return status;
}

graft_status bench_vectors(struct bench *b, graft_error *error)
{
    const int n = b->options->samples > 0 ? b->options->samples : 25;
    double *ms = mem_calloc(b->mem, (size_t)(2 * SYNTHETIC_TASKS * n), sizeof *ms);
    graft_status status =
        ms ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for samples");
    for (int task = 0; task < SYNTHETIC_TASKS && status == GRAFT_OK; task++)
        status = check_task(b, task, error);
    if (status == GRAFT_OK)
        status = sample(b, n, ms, error);
    for (int c = 0; c < 2 * SYNTHETIC_TASKS && status == GRAFT_OK; c++) {
        char name[CASE_NAME_SIZE];
        snprintf(name, sizeof name, "%d x %d, %s%s", EXAMPLES, WIDTH, synthetic_task(c / 2),
                 c % 2 ? ", with targets" : "");
        bench_report(b, name, "ms", CLOCK_WALL, ms + c * n, n);
    }
    mem_free(b->mem, ms);
    return status;
}
