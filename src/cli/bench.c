/* bench.c: `graft bench`: how fast, beside what the machine can do.
 *
 * The measuring is the library's; here are the options, a table for people and a line of JSON for each
 * figure for machines. `bench model` keeps a random model instead.
 */
#include "cli.h"

#include <math.h>

enum {
    KEY_SHAPE = 0x300,
    KEY_TYPE,
    KEY_CONTEXT,
    KEY_ROWS,
    KEY_SAMPLES,
    KEY_CACHE_K,
    KEY_CACHE_V,
    KEY_RANK,
    KEY_FACTORS,
    KEY_DORA,
    KEY_DRAFT,
};

struct bench_args {
    struct cli_common common;
    graft_bench_options options;
    const char *out, *draft;
    bool shape_given;
};

/* ---- options ---- */

static int parse_list(struct argp_state *state, const char *option, char *arg, int most, int *out)
{
    int n = 0;
    char *rest = arg;
    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        if (n == GRAFT_BENCH_LIST_MAX) {
            argp_error(state, "%s: at most %d numbers", option, GRAFT_BENCH_LIST_MAX);
        }
        out[n++] = (int)cli_parse_int(state, option, word, 1, most);
    }
    return n;
}

static void check_args(const struct bench_args *a, struct argp_state *state)
{
    const char *bench = a->options.bench;
    bool model = bench != NULL && strcmp(bench, "model") == 0;
    if (bench == NULL) {
        argp_error(
            state,
            "which one? limits, decode, prefill, attention, linear, load, adapters, "
            "swap, presets, train, vectors, stream, batch, isolation, speculative, or model");
    }
    if (a->common.model != NULL && a->shape_given) {
        argp_error(state, "give a model (-m) or --shape and --type, not both");
    }
    if (model && a->out == NULL) {
        argp_error(state, "where to? give -o FILE.gguf (mlx4, mlx8: -o DIR)");
    }
    if (model && a->common.model != NULL) {
        argp_error(state, "bench model makes one: give --shape and --type, not -m");
    }
    if (!model && a->out != NULL && (bench == NULL || strcmp(bench, "adapters") != 0)) {
        argp_error(state, "-o goes with bench model and bench adapters");
    }
}

static error_t parse_bench(int key, char *arg, struct argp_state *state)
{
    struct bench_args *a = state->input;
    graft_bench_options *o = &a->options;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case 'o':
        a->out = cli_parse_name(state, "--output", arg);
        return 0;
    case 'n':
        o->tokens = (int)cli_parse_int(state, "-n", arg, 1, 4096);
        return 0;
    case KEY_DRAFT:
        a->draft = cli_parse_name(state, "--model-draft", arg);
        return 0;
    case KEY_SHAPE:
        o->shape = arg;
        a->shape_given = true;
        return 0;
    case KEY_TYPE:
        o->type = arg;
        a->shape_given = true;
        return 0;
    case KEY_CONTEXT:
        o->n_contexts = parse_list(state, "--context", arg, 1 << 20, o->contexts);
        return 0;
    case KEY_ROWS:
        o->n_rows = parse_list(state, "--rows", arg, 64, o->rows);
        return 0;
    case KEY_SAMPLES:
        o->samples = (int)cli_parse_int(state, "--samples", arg, 1, 256);
        return 0;
    case KEY_RANK:
        o->rank = (int)cli_parse_int(state, "--rank", arg, 1, 1024);
        return 0;
    case KEY_FACTORS:
        o->adapter_type = arg;
        return 0;
    case KEY_DORA:
        o->dora = true;
        return 0;
    case KEY_CACHE_K:
        o->cache_k = cli_parse_kv_type(state, "--cache-type-k", arg);
        return 0;
    case KEY_CACHE_V:
        o->cache_v = cli_parse_kv_type(state, "--cache-type-v", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (o->bench != NULL) {
            argp_error(state, "one bench at a time: \"%s\" or \"%s\"", o->bench, arg);
        }
        o->bench = arg;
        return 0;
    case ARGP_KEY_END:
        check_args(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option bench_options[] = {
    {"shape", KEY_SHAPE, "S", 0,
     "Random weights in the shape of qwen2.5-0.5b (default), llama-3.2-1b, tinyllama-1.1b, "
     "width-768 or mini",
     1},
    {"type", KEY_TYPE, "T", 0,
     "Type of random weights: q8_0 (default), any other of quantize, mlx4 or mlx8", 1},
    {"tokens", 'n', "N", 0,
     "decode: tokens in a sample, default 4; stream, batch: of an answer; else: rows of the "
     "prompt, default 512",
     1},
    {"model-draft", KEY_DRAFT, "MODEL", 0, "speculative: a smaller model of the same vocabulary",
     1},
    {"context", KEY_CONTEXT, "N,...", 0, "decode, attention: tokens before; default 128,4096", 1},
    {"rows", KEY_ROWS, "N,...", 0, "decode, linear: sequences stepped together, 1 to 64; default 1",
     1},
    {"samples", KEY_SAMPLES, "N", 0,
     "Samples of each case; default as many as a few seconds hold, at most 256", 1},
    {"cache-type-k", KEY_CACHE_K, "TYPE", 0, "Keys are kept as f16 (default), f32 or q8", 1},
    {"cache-type-v", KEY_CACHE_V, "TYPE", 0, "Values likewise", 1},
    {"rank", KEY_RANK, "R", 0, "adapters, swap, train: of the random adapters; default 16", 1},
    {"adapter-type", KEY_FACTORS, "TYPE", 0,
     "Their factors in memory, and of presets: bf16 (default), f16, int8, q4", 1},
    {"dora", KEY_DORA, NULL, 0, "They are DoRA", 1},
    {"output", 'o', "FILE", 0,
     "model: the GGUF file to write; mlx4, mlx8: the directory. adapters: keep one as a PEFT "
     "directory and measure nothing",
     1},
    {0},
};
static const struct argp_child bench_children[] = {{&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp bench_argp = {
    .options = bench_options,
    .parser = parse_bench,
    .children = bench_children,
    .args_doc = "limits|decode|prefill|attention|linear|load|adapters|swap|presets|train|vectors|"
                "stream|batch|model",
    .doc = "Measure speed beside the limits of this machine: what it reads from memory, and what "
           "it multiplies. Without -m the weights are random; the speed does not depend on them. "
           "Figures are medians; every result is checked against the scalar tier first.\v"
           "Examples:\n"
           "  graft bench limits\n"
           "  graft bench decode --shape llama-3.2-1b --type q4_k_m --rows 1,16\n"
           "  graft bench prefill -m model.gguf --json\n"
           "  graft bench adapters --type q4_0 --adapter-type int8\n"
           "  graft bench presets --shape width-768 --adapter-type f16\n"
           "  graft bench train --samples 3\n"
           "  graft bench model --shape qwen2.5-0.5b --type q8_0 -o qwen.gguf\n"};

/* ---- figures ---- */

struct report {
    const struct bench_args *args;
    struct cli_progress progress;
    graft_runtime_info info;
    const char *command;
    int printed;
};

static void set_number(json_t *object, const char *key, double value)
{
    if (!isnan(value)) {
        json_object_set_new(object, key, json_real(value));
    }
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text != NULL) {
        json_object_set_new(object, key, json_any_text(text, strlen(text)));
    }
}

static void print_json(const struct report *p, const graft_bench_result *r)
{
    json_t *object = json_object();
    set_text(object, "bench", r->bench);
    set_text(object, "case", r->name);
    set_text(object, "subject", r->subject);
    set_number(object, "value", r->value);
    set_text(object, "unit", r->unit);
    set_text(object, "limit", r->limit);
    set_number(object, "limit_share", r->limit_share);
    set_number(object, "share_spread", r->share_spread);
    set_text(object, "baseline_case", r->baseline);
    set_number(object, "baseline", r->baseline_value);
    set_number(object, "ratio", r->ratio);
    set_number(object, "ratio_spread", r->ratio_spread);
    set_number(object, "spread", r->spread);
    json_object_set_new(object, "samples", json_integer(r->samples));
    set_number(object, "seconds", r->seconds);
    set_text(object, "clock", r->clock);
    set_text(object, "checked", r->checked);
    set_text(object, "tier", p->info.tier);
    json_object_set_new(object, "threads", json_integer(p->info.threads));
    set_text(object, "command", p->command);
    cli_print_json(object);
}

static void print_row(struct report *p, const graft_bench_result *r)
{
    if (p->printed++ == 0) {
        printf("%s: %s; tier %s, %d thread%s\n", r->bench, r->subject, p->info.tier,
               p->info.threads, p->info.threads > 1 ? "s" : "");
        if (r->checked != NULL) {
            printf("equal to the scalar tier: %s\n", r->checked);
        }
        if (r->samples > 1) {
            printf("medians of %d samples, ", r->samples);
        }
        printf("%s time; spread, of ratios in brackets: between the quartiles\n\n", r->clock);
        printf("  %-34s %20s  %7s\n", "case", "", "spread");
    }
    printf("  %-34s %10.4g %-9s  %5.0f %%", r->name, r->value, r->unit, r->spread * 100);
    if (r->limit != NULL) {
        printf("  %4.2f of %s", r->limit_share, r->limit);
    }
    if (r->baseline != NULL) {
        printf("  %5.3f (%.0f %%) x %s", r->ratio, 100 * r->ratio_spread, r->baseline);
    }
    putchar('\n');
}

static void on_result(void *user, const graft_bench_result *r)
{
    struct report *p = user;
    cli_progress_end(&p->progress);
    if (p->args->common.json) {
        print_json(p, r);
    } else {
        print_row(p, r);
    }
}

/* ---- the verb ---- */

/* What was typed, for whoever wants to have the figure again. */
static char *join_command(int argc, char **argv)
{
    struct buf text;
    buf_init(&text, NULL, 1 << 20);
    for (int i = 0; i < argc; i++) {
        buf_puts(&text, i > 0 ? " " : "");
        buf_puts(&text, argv[i]);
    }
    return buf_take(&text, NULL);
}

static int write_subject(graft_runtime *runtime, const struct report *p,
                         const graft_bench_options *options, graft_error *error)
{
    const struct bench_args *a = p->args;
    char *subject = NULL;
    if (graft_bench_write(runtime, options, a->out, &subject, error) != GRAFT_OK) {
        return CLI_FAILED;
    }
    if (a->common.json) {
        cli_print_json(json_pack("{s:o, s:o}", "output", json_any_text(a->out, strlen(a->out)),
                                 "subject", json_any_text(subject, strlen(subject))));
    } else {
        printf("%s: %s\n", a->out, subject);
    }
    graft_free(runtime, subject);
    return CLI_OK;
}

static int run_bench(graft_runtime *runtime, struct report *p, graft_error *error)
{
    const struct bench_args *a = p->args;
    graft_bench_options o = a->options;
    char *path = a->common.model != NULL ? cli_model_path(a->common.model) : NULL;
    if (a->common.model != NULL && path == NULL) {
        return CLI_FAILED;
    }
    char *draft = a->draft != NULL ? cli_model_path(a->draft) : NULL;
    if (a->draft != NULL && draft == NULL) {
        mem_free(NULL, path);
        return CLI_FAILED;
    }
    o.model = path;
    o.draft = draft;
    o.pack = a->common.pack;
    int status = CLI_FAILED;
    if (a->out != NULL) {
        status = write_subject(runtime, p, &o, error);
    } else if (graft_bench_run(runtime, &o, on_result, p, error) == GRAFT_OK) {
        status = CLI_OK;
    }
    mem_free(NULL, draft);
    mem_free(NULL, path);
    return status;
}

int verb_bench(int argc, char **argv)
{
    struct bench_args args = {.options = graft_bench_options_default()};
    struct report report = {.args = &args};
    char *command = join_command(argc, argv);
    graft_runtime *runtime = NULL;
    graft_error error = {0};
    argp_parse(&bench_argp, argc, argv, 0, NULL, &args);
    int status = cli_open_runtime(&args.common, &runtime);
    if (status != CLI_OK) {
        mem_free(NULL, command);
        return status;
    }
    cli_catch_interrupt();
    report.command = command;
    args.options.progress = cli_progress_step;
    args.options.progress_user = &report.progress;
    graft_runtime_describe(runtime, &report.info, &error);
    cli_progress_begin(&report.progress, "bench", args.common.quiet);
    status = run_bench(runtime, &report, &error);
    cli_progress_end(&report.progress);
    if (error.status != GRAFT_OK) {
        cli_fail(&error);
        status = error.status == GRAFT_INVALID_ARGUMENT ? CLI_USAGE : CLI_FAILED;
    }
    mem_free(NULL, command);
    graft_runtime_close(&runtime);
    return status;
}
