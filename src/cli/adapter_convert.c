/* adapter_convert.c: `graft adapter convert`: an adapter in another format. */
#include "adapter.h"

enum { KEY_TYPE = 0x400, KEY_FORMAT };

struct convert_args {
    struct cli_common common;
    struct cli_subject in;
    struct cli_output out;
    const char *type, *format;
};

static error_t parse_convert(int key, char *arg, struct argp_state *state)
{
    struct convert_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->in;
        state->child_inputs[1] = &a->out;
        state->child_inputs[2] = &a->common;
        return 0;
    case KEY_TYPE:
        if (strcmp(arg, "f32") != 0 && strcmp(arg, "f16") != 0 && strcmp(arg, "bf16") != 0) {
            argp_error(state, "--type: \"%s\" is none of f32, f16, bf16", arg);
        }
        a->type = arg;
        return 0;
    case KEY_FORMAT:
        if (strcmp(arg, "peft") != 0 && strcmp(arg, "mlx") != 0 && strcmp(arg, "gguf") != 0) {
            argp_error(state, "--format: \"%s\" is none of peft, mlx, gguf", arg);
        }
        a->format = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option convert_options[] = {
    {"format", KEY_FORMAT, "F", 0, "peft, mlx or gguf; default: gguf when OUT ends so, else peft",
     1},
    {"type", KEY_TYPE, "TYPE", 0,
     "f32, f16 or bf16; default: as stored, f32 where scales go into the values", 1},
    {0},
};
static const struct argp_child convert_children[] = {{&cli_subject_argp, 0, NULL, 0},
                                                     {&cli_output_argp, 0, NULL, 0},
                                                     {&cli_common_argp, 0, NULL, 0},
                                                     {0}};
static const struct argp convert_argp = {
    .options = convert_options,
    .parser = parse_convert,
    .children = convert_children,
    .args_doc = "ADAPTER",
    .doc =
        "Write an adapter in another format, with the same effect: scales are folded so that the "
        "other format's rule gives the same ones. What it cannot hold is an error.\v"
        "Examples:\n"
        "  graft adapter convert my-coder -o my-coder.gguf --type f16\n"
        "  graft adapter convert my-coder -o my-coder-mlx --format mlx\n"
        "  graft adapter convert coder@1.0.0 -o coder.gguf\n"};

static bool ends_in_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

static int convert(const struct convert_args *a, const struct cli_session *s, const char *format)
{
    static const char *const formats[] = {"peft", "mlx", "gguf"};
    graft_adapter_convert_options options = graft_adapter_convert_options_default();
    struct cli_progress progress;
    graft_error error = {0};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (strcmp(formats[i], format) == 0) {
            options.format = (graft_adapter_format)i;
        }
    }
    options.type = a->type;
    options.scale = a->in.scale;
    options.progress = cli_progress_step;
    options.progress_user = &progress;
    cli_progress_begin(&progress, "writing", a->common.quiet);
    graft_status status =
        graft_adapter_convert(s->model, a->in.path, a->out.path, &options, &error);
    cli_progress_end(&progress);
    if (status != GRAFT_OK) {
        return cli_fail_writing(&error);
    }
    return a->common.json
               ? cli_print_json(json_pack("{s:o, s:s}", "output",
                                          json_any_text(a->out.path, strlen(a->out.path)), "format",
                                          format))
               : CLI_OK;
}

int verb_adapter_convert(int argc, char **argv)
{
    struct convert_args args = {0};
    struct cli_session s;
    argp_parse(&convert_argp, argc, argv, 0, NULL, &args);
    const char *format = args.format != NULL           ? args.format
                         : ends_in_gguf(args.out.path) ? "gguf"
                                                       : "peft";
    cli_catch_interrupt();
    int status = cli_open_subject(&args.common, true, &args.in, &s);
    if (status == CLI_OK) {
        status = convert(&args, &s, format);
        cli_close_subject(&args.in, &s);
    }
    return status;
}
