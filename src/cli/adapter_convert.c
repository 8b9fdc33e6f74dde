/* adapter_convert.c: `graft adapter convert`: an adapter in another format. */
#include "adapter.h"

enum { KEY_TYPE = 0x400, KEY_FORMAT };

struct convert_args {
    struct cli_common common;
    struct cli_subject in;
    struct cli_output out;
    const char *type;
    graft_adapter_format format;
    bool format_given;
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
        a->type = cli_parse_adapter_type(state, arg);
        return 0;
    case KEY_FORMAT:
        a->format = cli_parse_adapter_format(state, arg);
        a->format_given = true;
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

static int convert(const struct convert_args *a, const struct cli_session *s)
{
    static const char *const formats[] = {"peft", "mlx", "gguf"};
    graft_adapter_convert_options options = graft_adapter_convert_options_default();
    struct cli_progress progress;
    graft_error error = {0};
    options.format = cli_adapter_format(a->format_given ? &a->format : NULL, a->out.path);
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
                                          formats[options.format]))
               : CLI_OK;
}

int verb_adapter_convert(int argc, char **argv)
{
    struct convert_args args = {0};
    struct cli_session s;
    argp_parse(&convert_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    int status = cli_open_subject(&args.common, true, &args.in, &s);
    if (status == CLI_OK) {
        status = convert(&args, &s);
        cli_close_subject(&args.in, &s);
    }
    return status;
}
