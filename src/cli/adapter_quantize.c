/* adapter_quantize.c: `graft adapter quantize`: an adapter with factors of 8 or 4 bits, and what that costs. */
#include "adapter.h"

enum { KEY_TYPE = 0x400 };

struct quantize_args {
    struct cli_common common;
    struct cli_subject in;
    struct cli_output out;
    const char *type;
};

static error_t parse_quantize(int key, char *arg, struct argp_state *state)
{
    struct quantize_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->in;
        state->child_inputs[1] = &a->out;
        state->child_inputs[2] = &a->common;
        return 0;
    case KEY_TYPE:
        if (strcmp(arg, "int8") != 0 && strcmp(arg, "q4") != 0) {
            argp_error(state, "--type: \"%s\" is neither int8 nor q4", arg);
        }
        a->type = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option quantize_options[] = {
    {"type", KEY_TYPE, "TYPE", 0, "int8 (default) or q4", 1},
    {0},
};
static const struct argp_child quantize_children[] = {{&cli_subject_argp, 0, NULL, 0},
                                                      {&cli_output_folder_argp, 0, NULL, 0},
                                                      {&cli_common_argp, 0, NULL, 0},
                                                      {0}};
static const struct argp quantize_argp = {
    .options = quantize_options,
    .parser = parse_quantize,
    .children = quantize_children,
    .args_doc = "ADAPTER",
    .doc = "Write an adapter with factors of 8 or 4 bits, and tell the relative error of each "
           "module's change. "
           "graft alone reads it; `graft adapter convert` brings it back into 16 bits.\v"
           "Examples:\n"
           "  graft adapter quantize my-coder -o my-coder-8\n"
           "  graft adapter quantize my-coder -o my-coder-4 --type q4\n"
           "  graft adapter quantize coder -o coder-8\n"};

/* Every module with -v, else the worst. */
static void print_errors(const json_t *errors, bool all)
{
    const json_t *one, *worst = NULL;
    size_t i;
    json_array_foreach(errors, i, one)
    {
        double off = json_number_value(json_object_get(one, "error"));
        if (all) {
            printf("%-44s %.5f\n", json_string_value(json_object_get(one, "module")), off);
        }
        if (worst == NULL || off > json_number_value(json_object_get(worst, "error"))) {
            worst = one;
        }
    }
    if (worst != NULL) {
        printf("largest error: %.5f of the change of %s\n",
               json_number_value(json_object_get(worst, "error")),
               json_string_value(json_object_get(worst, "module")));
    }
}

static int quantize(const struct quantize_args *a, const struct cli_session *s)
{
    graft_adapter_quantize_options options = graft_adapter_quantize_options_default();
    struct cli_progress progress;
    graft_error error = {0};
    char *text = NULL;
    json_t *errors = NULL;
    options.type = a->type;
    options.scale = a->in.scale;
    options.progress = cli_progress_step;
    options.progress_user = &progress;
    cli_progress_begin(&progress, "writing", a->common.quiet);
    graft_status status =
        graft_adapter_quantize(s->model, a->in.path, a->out.path, &options, &text, &error);
    cli_progress_end(&progress);
    if (status == GRAFT_OK) {
        status = json_parse(text, strlen(text), &errors, &error);
    }
    graft_free(s->runtime, text);
    if (status != GRAFT_OK) {
        return cli_fail_writing(&error);
    }
    if (a->common.json) {
        return cli_print_json(json_pack("{s:o, s:s, s:o}", "output",
                                        json_any_text(a->out.path, strlen(a->out.path)), "type",
                                        a->type, "errors", errors));
    }
    if (!a->common.quiet) {
        print_errors(errors, a->common.verbose);
    }
    json_decref(errors);
    return CLI_OK;
}

int verb_adapter_quantize(int argc, char **argv)
{
    struct quantize_args args = {.out.what = "DIR", .type = "int8"};
    struct cli_session s;
    argp_parse(&quantize_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    int status = cli_open_subject(&args.common, true, &args.in, &s);
    if (status == CLI_OK) {
        status = quantize(&args, &s);
        cli_close_subject(&args.in, &s);
    }
    return status;
}
