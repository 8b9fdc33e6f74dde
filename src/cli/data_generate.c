/* data_generate.c: `graft data generate`: made-up vectors of the five tasks, as a file.
 *
 * The examples, and what the tasks are, are the library's; here they are asked for task by task, timed without the file, and
 * told, in a line or as JSON.
 */
#include "data.h"

enum { KEY_TASK = 0x900, KEY_DIM, KEY_SEED, KEY_TARGETS, KEY_JSON };

struct generate_args {
    const char *path;
    const char *task; /* NULL: all */
    int64_t n;
    int dim;
    uint64_t seed;
    bool targets, json;
};

static bool is_task(const char *name)
{
    for (int i = 0; graft_vectors_task(i) != NULL; i++) {
        if (strcmp(name, graft_vectors_task(i)) == 0) {
            return true;
        }
    }
    return strcmp(name, "all") == 0;
}

static error_t parse_generate(int key, char *arg, struct argp_state *state)
{
    struct generate_args *a = state->input;
    switch (key) {
    case 'o':
        a->path = cli_parse_name(state, "--output", arg);
        return 0;
    case KEY_TASK:
        if (!is_task(arg)) {
            argp_error(state,
                       "--task: \"%s\" is none of coder, researcher, security, architect, "
                       "reviewer, all",
                       arg);
        }
        a->task = strcmp(arg, "all") == 0 ? NULL : arg;
        return 0;
    case 'n':
        a->n = cli_parse_int(state, "-n", arg, 1, 1 << 24);
        return 0;
    case KEY_DIM:
        a->dim = (int)cli_parse_int(state, "--dim", arg, 1, 65536);
        return 0;
    case KEY_SEED:
        a->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    case KEY_TARGETS:
        a->targets = true;
        return 0;
    case KEY_JSON:
        a->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->path == NULL) {
            argp_error(state, "where to? give -o FILE");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option generate_options[] = {
    {"output", 'o', "FILE", 0, "The file to write, JSONL", 1},
    {"task", KEY_TASK, "TASK", 0,
     "coder, researcher, security, architect, reviewer, or all (default)", 1},
    {"count", 'n', "N", 0, "Examples of each task; default 1000", 1},
    {"dim", KEY_DIM, "D", 0, "Values of a vector; default 768", 1},
    {"seed", KEY_SEED, "N", 0, "Default 0", 1},
    {"targets", KEY_TARGETS, NULL, 0, "With the vectors that should come out", 1},
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 2},
    {0},
};
static const struct argp generate_argp = {
    .options = generate_options,
    .parser = parse_generate,
    .doc = "Make up examples that are vectors: an input, how good it is by a formula of what lies "
           "in it, its task and domain. The same seed gives the same examples.\v"
           "Examples:\n"
           "  graft data generate --task coder -n 100 --dim 64 --targets -o vectors.jsonl\n"
           "  graft data generate -n 10 --seed 7 -o vectors.jsonl\n"};

/* Seconds that the examples took, without the file. */
static graft_status generate(const struct generate_args *a, graft_vectors *v, double *seconds,
                             graft_error *error)
{
    const double begun = time_seconds();
    graft_status status = GRAFT_OK;
    for (int i = 0; graft_vectors_task(i) != NULL && status == GRAFT_OK; i++) {
        const char *task = graft_vectors_task(i);
        if (a->task == NULL || strcmp(task, a->task) == 0) {
            status = graft_vectors_generate(v, task, a->n, a->seed, a->targets, error);
        }
    }
    *seconds = time_seconds() - begun;
    return status;
}

static int tell(const struct generate_args *a, const graft_vectors *v, double seconds)
{
    double quality = 0;
    const int64_t n = graft_vectors_count(v);
    for (int64_t i = 0; i < n; i++) {
        graft_vector_example e;
        if (graft_vectors_example(v, i, &e, NULL) == GRAFT_OK) {
            quality += (double)e.quality / (double)n;
        }
    }
    if (a->json) {
        return cli_print_json(json_pack(
            "{s:o, s:s, s:I, s:i, s:I, s:b, s:f, s:f}", "output",
            json_any_text(a->path, strlen(a->path)), "task", a->task != NULL ? a->task : "all",
            "examples", (json_int_t)n, "dim", a->dim, "seed", (json_int_t)a->seed, "targets",
            a->targets, "quality", quality, "seconds", seconds));
    }
    printf("%s: %lld examples of %d values, made in %.1f ms, of quality %.2f on average\n", a->path,
           (long long)n, a->dim, 1e3 * seconds, quality);
    return CLI_OK;
}

int verb_data_generate(int argc, char **argv)
{
    struct generate_args args = {.n = 1000, .dim = 768};
    const struct cli_common common = {.threads = 1};
    graft_runtime *runtime = NULL;
    graft_vectors *v = NULL;
    graft_error error = {0};
    double seconds = 0;
    argp_parse(&generate_argp, argc, argv, 0, NULL, &args);
    int done = cli_open_runtime(&common, &runtime);
    if (done != CLI_OK) {
        return done;
    }
    graft_status status = graft_vectors_open(runtime, args.dim, args.dim, &v, &error);
    if (status == GRAFT_OK) {
        status = generate(&args, v, &seconds, &error);
    }
    if (status == GRAFT_OK) {
        status = graft_vectors_write(v, args.path, &error);
    }
    done = status == GRAFT_OK ? tell(&args, v, seconds) : cli_fail(&error);
    graft_vectors_close(&v);
    graft_runtime_close(&runtime);
    return done;
}
