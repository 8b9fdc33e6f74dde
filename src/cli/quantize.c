/* quantize.c: `graft quantize`: write a complete model in another type or format. */
#include "cli.h"

enum { KEY_TYPE = 0x200, KEY_FORMAT };

struct quantize_args {
    struct cli_common common;
    struct cli_output out;
    const char *type, *format;
};

static error_t parse_quantize(int key, char *arg, struct argp_state *state)
{
    struct quantize_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->out;
        state->child_inputs[1] = &a->common;
        return 0;
    case KEY_TYPE:
        a->type = arg;
        return 0;
    case KEY_FORMAT:
        if (strcmp(arg, "gguf") != 0 && strcmp(arg, "hf") != 0 && strcmp(arg, "mlx") != 0) {
            argp_error(state, "--format: \"%s\" is none of gguf, hf and mlx", arg);
        }
        a->format = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option quantize_options[] = {
    {"type", KEY_TYPE, "TYPE", 0,
     "f32, f16, bf16 (default of hf); for gguf also q8_0 (default), q6_k, q5_k_m, q5_k_s, q4_k_m, "
     "q4_k_s, q3_k_m, q3_k_s, q2_k, q5_0, q5_1, q4_0, q4_1; for mlx mlx4 (default), mlx8",
     1},
    {"format", KEY_FORMAT, "F", 0, "gguf, hf or mlx; default: gguf, or hf when OUT is a directory",
     1},
    {0},
};
static const struct argp_child quantize_children[] = {
    {&cli_output_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp quantize_argp = {
    .options = quantize_options,
    .parser = parse_quantize,
    .children = quantize_children,
    .doc = "Write a complete model (weights, configuration, tokenizer, chat template) in another "
           "type or format. OUT appears only when all of it is written.\v"
           "Examples:\n"
           "  graft quantize -m Qwen/Qwen2.5-0.5B-Instruct -o qwen.gguf --type q4_k_m\n"
           "  graft quantize -m model.gguf -o DIR --format hf --type bf16\n"};

int verb_quantize(int argc, char **argv)
{
    struct quantize_args args = {0};
    argp_parse(&quantize_argp, argc, argv, 0, NULL, &args);
    bool hf =
        args.format != NULL ? strcmp(args.format, "hf") == 0 : cli_means_directory(args.out.path);
    graft_convert_options options = graft_convert_options_default();
    struct cli_progress progress;
    bool mlx = args.format != NULL && strcmp(args.format, "mlx") == 0;
    options.format = mlx ? GRAFT_FORMAT_MLX : hf ? GRAFT_FORMAT_HF : GRAFT_FORMAT_GGUF;
    options.type = args.type != NULL ? args.type : mlx ? "mlx4" : hf ? "bf16" : "q8_0";
    options.progress = cli_progress_step;
    options.progress_user = &progress;
    graft_runtime *runtime = NULL;
    int status = cli_open_runtime(&args.common, &runtime);
    if (status != CLI_OK) {
        return status;
    }
    cli_catch_interrupt();
    char *path = cli_model_path(args.common.model);
    graft_error error = {0};
    cli_progress_begin(&progress, "writing", args.common.quiet);
    if (path == NULL) {
        status = CLI_FAILED;
    } else if (graft_convert(runtime, path, args.out.path, &options, &error) != GRAFT_OK) {
        cli_progress_end(&progress);
        status = error.status == GRAFT_CANCELLED ? cli_fail_text("interrupted, nothing was written")
                                                 : cli_fail(&error);
        if (error.status == GRAFT_INVALID_ARGUMENT) { /* no such type, or not in that format */
            status = CLI_USAGE;
        }
    }
    cli_progress_end(&progress);
    if (status == CLI_OK && args.common.json) {
        status =
            cli_print_json(json_pack("{s:o, s:s, s:s}", "output",
                                     json_any_text(args.out.path, strlen(args.out.path)), "format",
                                     mlx  ? "mlx"
                                     : hf ? "hf"
                                          : "gguf",
                                     "type", options.type));
    }
    mem_free(NULL, path);
    graft_runtime_close(&runtime);
    return status;
}
