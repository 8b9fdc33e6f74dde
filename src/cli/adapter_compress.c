/* adapter_compress.c: `graft adapter compress`: an adapter with fewer ranks, and what that costs. */
#include "adapter.h"

#include <math.h>

enum { KEY_RANK = 0x400, KEY_ENERGY, KEY_TYPE, KEY_FORMAT, MOST_RANK = 65536 };

struct compress_args {
    struct cli_common common;
    struct cli_subject in;
    struct cli_output out;
    int rank;
    double energy;
    const char *type;
    graft_adapter_format format;
    bool format_given;
};

static error_t parse_compress(int key, char *arg, struct argp_state *state)
{
    struct compress_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->in;
        state->child_inputs[1] = &a->out;
        state->child_inputs[2] = &a->common;
        return 0;
    case KEY_RANK:
        a->rank = (int)cli_parse_int(state, "--rank", arg, 1, MOST_RANK);
        return 0;
    case KEY_ENERGY:
        a->energy = cli_parse_number(state, "--energy", arg, 1e-6, 1);
        return 0;
    case KEY_TYPE:
        a->type = cli_parse_adapter_type(state, arg);
        return 0;
    case KEY_FORMAT:
        a->format = cli_parse_adapter_format(state, arg);
        a->format_given = true;
        return 0;
    case ARGP_KEY_END:
        if (a->rank == 0 && a->energy == 0) {
            argp_error(state, "how far? give --rank K, or --energy SHARE, or both");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option compress_options[] = {
    {"rank", KEY_RANK, "K", 0, "Ranks of each module at most", 1},
    {"energy", KEY_ENERGY, "SHARE", 0,
     "As few ranks as keep this share of each module's change (of its squares); 1: what is "
     "rounding goes",
     1},
    {"format", KEY_FORMAT, "F", 0, "peft, mlx or gguf; default: gguf when OUT ends so, else peft",
     1},
    {"type", KEY_TYPE, "TYPE", 0, "f32, f16 or bf16; default: as stored", 1},
    {0},
};
static const struct argp_child compress_children[] = {{&cli_subject_argp, 0, NULL, 0},
                                                      {&cli_output_argp, 0, NULL, 0},
                                                      {&cli_common_argp, 0, NULL, 0},
                                                      {0}};
static const struct argp compress_argp = {
    .options = compress_options,
    .parser = parse_compress,
    .children = compress_children,
    .args_doc = "ADAPTER",
    .doc =
        "Write an adapter with fewer ranks: of each module's change the best approximation there "
        "is. Told are the ranks, the share of the energy that was discarded, the error that was "
        "measured on what was written, and the bytes; by kind the worst, with -v every "
        "module.\v"
        "Examples:\n"
        "  graft adapter compress my-coder -o my-coder-4 --rank 4\n"
        "  graft adapter compress my-coder -o smaller --energy 0.99\n"
        "  graft adapter compress coder@1.0.0 -o smaller.gguf --rank 8 --energy 0.999\n"};

/* ---- the report --------------------------------------------------------------------------- */

/* Modules of one kind: what the ranks span, the worst of the rest. */
struct kind {
    const char *name;
    long long modules, bytes_before, bytes;
    long long before[2], now[2]; /* least, most */
    double lost, error;
};

static void span(long long range[2], long long value, bool first)
{
    range[0] = first || value < range[0] ? value : range[0];
    range[1] = first || value > range[1] ? value : range[1];
}

static void count_module(struct kind *k, const json_t *one)
{
    const bool first = k->modules++ == 0;
    span(k->before, json_integer_value(json_object_get(one, "rank_before")), first);
    span(k->now, json_integer_value(json_object_get(one, "rank")), first);
    k->lost = fmax(k->lost, json_number_value(json_object_get(one, "discarded_energy")));
    k->error = fmax(k->error, json_number_value(json_object_get(one, "error")));
    k->bytes_before += json_integer_value(json_object_get(one, "bytes_before"));
    k->bytes += json_integer_value(json_object_get(one, "bytes"));
}

static void range_text(const long long range[2], char out[48])
{
    if (range[0] == range[1]) {
        snprintf(out, 48, "%lld", range[0]);
    } else {
        snprintf(out, 48, "%lld-%lld", range[0], range[1]);
    }
}

static void print_row(const struct kind *k, const char *name, int width)
{
    char before[48], now[48], sizes[2][CLI_SIZE_TEXT];
    range_text(k->before, before);
    range_text(k->now, now);
    cli_size_text((uint64_t)k->bytes_before, sizes[0]);
    cli_size_text((uint64_t)k->bytes, sizes[1]);
    printf("%-*s %7lld %7s %7s %9.3g %% %8.4f %12s %12s\n", width, name, k->modules, before, now,
           100 * k->lost, k->error, sizes[0], sizes[1]);
}

static void print_head(int width)
{
    printf("%-*s %7s %7s %7s %11s %8s %12s %12s\n", width, "module", "modules", "ranks", "now",
           "discarded", "error", "bytes", "now");
}

static bool is_whole(const json_t *one)
{
    return json_object_get(one, "rank") == NULL;
}

static void print_modules(const json_t *modules)
{
    const json_t *one;
    size_t i;
    print_head(44);
    json_array_foreach(modules, i, one)
    {
        struct kind k = {.name = json_string_value(json_object_get(one, "module"))};
        if (is_whole(one)) {
            printf("%-44s  held whole\n", k.name);
            continue;
        }
        count_module(&k, one);
        print_row(&k, k.name, 44);
    }
}

static void print_kinds(const json_t *modules)
{
    struct kind kinds[16] = {{NULL, 0, 0, 0, {0, 0}, {0, 0}, 0, 0}};
    const json_t *one;
    size_t i, n = 0;
    json_array_foreach(modules, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "kind"));
        size_t at = 0;
        while (at < n && strcmp(kinds[at].name, name) != 0) {
            at++;
        }
        if (is_whole(one) || at == ARRAY_LEN(kinds)) {
            continue;
        }
        kinds[at].name = name;
        n = at == n ? n + 1 : n;
        count_module(&kinds[at], one);
    }
    print_head(16);
    for (i = 0; i < n; i++) {
        print_row(&kinds[i], kinds[i].name, 16);
    }
}

static void print_report(const json_t *report, bool all)
{
    char before[CLI_SIZE_TEXT], now[CLI_SIZE_TEXT];
    const json_t *modules = json_object_get(report, "modules");
    if (all) {
        print_modules(modules);
    } else {
        print_kinds(modules);
    }
    cli_size_text((uint64_t)json_integer_value(json_object_get(report, "bytes_before")), before);
    cli_size_text((uint64_t)json_integer_value(json_object_get(report, "bytes")), now);
    printf("%s of %s; %.3g %% of the energy discarded, error %.4f of the whole change\n", now,
           before, 100 * json_number_value(json_object_get(report, "discarded_energy")),
           json_number_value(json_object_get(report, "error")));
}

/* ---- the work ----------------------------------------------------------------------------- */

static int compress(const struct compress_args *a, const struct cli_session *s)
{
    graft_adapter_compress_options options = graft_adapter_compress_options_default();
    struct cli_progress progress;
    graft_error error = {0};
    char *text = NULL;
    json_t *report = NULL;
    options.rank = a->rank;
    options.energy = a->energy;
    options.format = cli_adapter_format(a->format_given ? &a->format : NULL, a->out.path);
    options.type = a->type;
    options.scale = a->in.scale;
    options.progress = cli_progress_step;
    options.progress_user = &progress;
    cli_progress_begin(&progress, "writing", a->common.quiet);
    graft_status status =
        graft_adapter_compress(s->model, a->in.path, a->out.path, &options, &text, &error);
    cli_progress_end(&progress);
    if (status == GRAFT_OK) {
        status = json_parse(text, strlen(text), &report, &error);
    }
    graft_free(s->runtime, text);
    if (status != GRAFT_OK) {
        return cli_fail_writing(&error);
    }
    if (a->common.json) {
        json_object_set_new(report, "output", json_any_text(a->out.path, strlen(a->out.path)));
        return cli_print_json(report);
    }
    if (!a->common.quiet) {
        print_report(report, a->common.verbose);
    }
    json_decref(report);
    return CLI_OK;
}

int verb_adapter_compress(int argc, char **argv)
{
    struct compress_args args = {.rank = 0};
    struct cli_session s;
    argp_parse(&compress_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    int status = cli_open_subject(&args.common, true, &args.in, &s);
    if (status == CLI_OK) {
        status = compress(&args, &s);
        cli_close_subject(&args.in, &s);
    }
    return status;
}
