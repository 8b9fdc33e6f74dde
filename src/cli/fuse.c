/* fuse.c: `graft fuse`: write a model with adapters in its weights, and say what of them got through. */
#include "cli.h"

enum {
    KEY_TYPE = 0x200,
    KEY_FORMAT,
    KEY_FALLBACK,
    KEY_COMPENSATE,
    KEY_TEXT,
    KEY_TOKENS,
    KEY_SIDECAR,
    KEY_RANK
};

struct fuse_args {
    struct cli_common common;
    struct cli_output out;
    const char *format, *text;
    bool rank_given;
    graft_fuse_options options;
};

static void check_end(const struct fuse_args *a, struct argp_state *state)
{
    if (a->common.adapters.n == 0) {
        argp_error(state, "which adapter? give -a ADAPTER");
    }
    if (a->common.adapters.type != NULL) {
        argp_error(state,
                   "--adapter-type: the adapters' factors are not kept, so they have no type");
    }
    if (a->rank_given && a->options.sidecar == NULL) {
        argp_error(state, "--sidecar-rank: there is no sidecar; give --sidecar");
    }
}

static error_t parse_fuse(int key, char *arg, struct argp_state *state)
{
    struct fuse_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common.adapters;
        state->child_inputs[1] = &a->out;
        state->child_inputs[2] = &a->common;
        return 0;
    case KEY_TYPE:
        a->options.type = arg;
        return 0;
    case KEY_FORMAT:
        if (strcmp(arg, "gguf") != 0 && strcmp(arg, "hf") != 0 && strcmp(arg, "mlx") != 0) {
            argp_error(state, "--format: \"%s\" is none of gguf, hf and mlx", arg);
        }
        a->format = arg;
        return 0;
    case KEY_FALLBACK:
        a->options.fallback = cli_parse_number(state, "--fallback", arg, 0, 0.9999);
        return 0;
    case KEY_COMPENSATE:
        a->options.compensate = true;
        return 0;
    case KEY_SIDECAR:
        a->options.sidecar = cli_parse_name(state, "--sidecar", arg);
        return 0;
    case KEY_RANK:
        a->options.sidecar_rank = (int)cli_parse_int(state, "--sidecar-rank", arg, 1, 4096);
        a->rank_given = true;
        return 0;
    case KEY_TEXT:
        a->text = cli_parse_name(state, "--text", arg);
        return 0;
    case KEY_TOKENS:
        a->options.kl_tokens = (int)cli_parse_int(state, "--kl-tokens", arg, 0, 1 << 24);
        return 0;
    case ARGP_KEY_END:
        check_end(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option fuse_options[] = {
    {"type", KEY_TYPE, "TYPE", 0, "As for quantize; default: q8_0, for hf bf16, for mlx mlx4", 1},
    {"format", KEY_FORMAT, "F", 0, "gguf, hf or mlx; default: gguf, or hf when OUT is a directory",
     1},
    {"fallback", KEY_FALLBACK, "SHARE", 0,
     "Matrices in fewer than 8 bits that would retain less of their change get 8; 0: none does "
     "(default 0.9)",
     3},
    {"compensate", KEY_COMPENSATE, NULL, 0,
     "Round so that the error stays out of the directions in which the adapters read", 3},
    {"sidecar", KEY_SIDECAR, "DIR", 0,
     "Write what is lost all the same as an adapter for OUT (PEFT)", 3},
    {"sidecar-rank", KEY_RANK, "R", 0, "The rank of what --sidecar writes (default 16)", 3},
    {"text", KEY_TEXT, "FILE", 0, "Compare with the adapters beside the base on this text", 3},
    {"kl-tokens", KEY_TOKENS, "N", 0,
     "Compare on so many tokens of the text; 0: do not (default 512)", 3},
    {0},
};
static const struct argp_child fuse_children[] = {{&cli_members_argp, 0, NULL, 0},
                                                  {&cli_output_argp, 0, NULL, 0},
                                                  {&cli_common_argp, 0, NULL, 0},
                                                  {0}};
static const struct argp fuse_argp = {
    .options = fuse_options,
    .parser = parse_fuse,
    .children = fuse_children,
    .doc =
        "Write a complete model with adapters in its weights, and a certificate of what of them "
        "the type let through: for every matrix that changed the relative error of its weights and "
        "the share of the change that is retained, for the model the divergence (KL) from the "
        "adapters beside the base. It is printed, and written as OUT.fuse.json.\v"
        "Examples:\n"
        "  graft fuse -m DIR -a ADAPTER -o fused.gguf --type q8_0\n"
        "  graft fuse -m DIR -a ADAPTER=0.5 -o FUSED --format hf\n"
        "  graft fuse -m DIR -a coder@1.0.0 -o fused.gguf\n"
        "  graft fuse -m model.gguf -a ADAPTER -o fused.gguf --type q4_0 --compensate\n"};

/* ---- the certificate ---------------------------------------------------------------------- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_tensor(const json_t *tensor)
{
    const char *type = json_string_value(json_object_get(tensor, "type"));
    const char *planned = json_string_value(json_object_get(tensor, "planned"));
    printf("%-48s %-6s %11.3g %10.1f %%%s%s\n", json_string_value(json_object_get(tensor, "name")),
           type, number(tensor, "relative_error"), 100 * number(tensor, "retained"),
           strcmp(type, planned) != 0 ? "  instead of " : "",
           strcmp(type, planned) != 0 ? planned : "");
}

static void print_divergence(const char *who, const json_t *kl)
{
    if (!json_is_object(kl)) {
        puts("not compared with the adapters beside the base");
        return;
    }
    printf("KL of %s from the adapters beside the base: mean %.3g, most %.3g nats; the same "
           "likeliest token at %.1f %% of %.0f positions\n",
           who, number(kl, "mean"), number(kl, "max"), 100 * number(kl, "same_top"),
           number(kl, "positions"));
}

static int print_certificate(const char *text, bool as_json)
{
    json_t *json = json_loads(text, 0, NULL);
    const json_t *tensor;
    size_t i;
    if (json == NULL) {
        return cli_fail_text("out of memory");
    }
    if (as_json) {
        return cli_print_json(json);
    }
    printf("%-48s %-6s %11s %12s\n", "tensor", "type", "error", "retained");
    json_array_foreach(json_object_get(json, "tensors"), i, tensor)
    {
        print_tensor(tensor);
    }
    print_divergence("the output", json_object_get(json, "kl"));
    if (json_is_object(json_object_get(json, "sidecar"))) {
        print_divergence("it with the sidecar",
                         json_object_get(json_object_get(json, "sidecar"), "kl"));
    }
    json_decref(json);
    return CLI_OK;
}

/* ---- the work ----------------------------------------------------------------------------- */

static int fuse(struct fuse_args *a, graft_runtime *runtime, const char *path)
{
    graft_fuse_member members[CLI_ADAPTERS];
    struct cli_progress progress;
    graft_error error = {0};
    char *certificate = NULL;
    int result = cli_fuse_members(runtime, &a->common.adapters, members);
    if (result != CLI_OK) {
        return result;
    }
    a->options.progress = cli_progress_step;
    a->options.progress_user = &progress;
    cli_catch_interrupt();
    cli_progress_begin(&progress, "fusing", a->common.quiet);
    graft_status status = graft_fuse(runtime, path, members, (size_t)a->common.adapters.n,
                                     a->out.path, &a->options, &certificate, &error);
    cli_progress_end(&progress);
    cli_fuse_members_free(members);
    if (status == GRAFT_CANCELLED) {
        return cli_fail_text("interrupted, nothing was written");
    }
    if (status != GRAFT_OK) {
        cli_fail(&error);
        /* No such type, or not in that format; where a file is named, it is the file's fault. */
        return status == GRAFT_INVALID_ARGUMENT && error.file[0] == '\0' ? CLI_USAGE : CLI_FAILED;
    }
    result = print_certificate(certificate, a->common.json);
    graft_free(runtime, certificate);
    return result;
}

/* The library sees to the model and the adapters; of a text it knows the words alone. */
static int spare_text(const struct fuse_args *a)
{
    static const char *const ends[] = {"", ".fuse.json"};
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    for (size_t i = 0; a->text != NULL && i < ARRAY_LEN(ends) && status == GRAFT_OK; i++) {
        struct buf path;
        buf_init(&path, NULL, SIZE_MAX);
        buf_printf(&path, "%s%s", a->out.path, ends[i]);
        status = path.status == GRAFT_OK ? path_refuse_same(path.data, a->text, &error)
                                         : error_set(&error, GRAFT_NO_MEMORY, "out of memory");
        buf_free(&path);
    }
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

int verb_fuse(int argc, char **argv)
{
    struct fuse_args args = {.options = graft_fuse_options_default()};
    argp_parse(&fuse_argp, argc, argv, 0, NULL, &args);
    bool hf =
        args.format != NULL ? strcmp(args.format, "hf") == 0 : cli_means_directory(args.out.path);
    bool mlx = args.format != NULL && strcmp(args.format, "mlx") == 0;
    args.options.format = mlx ? GRAFT_FORMAT_MLX : hf ? GRAFT_FORMAT_HF : GRAFT_FORMAT_GGUF;
    char *text = NULL;
    graft_runtime *runtime = NULL;
    int status = CLI_OK;
    if (args.text != NULL) {
        const struct cli_input input = {.file = args.text};
        status = cli_read_input(&input, &text, &args.options.text_size);
        args.options.text = text;
    }
    if (status == CLI_OK) {
        status = cli_open_runtime(&args.common, &runtime);
    }
    char *path = status == CLI_OK ? cli_model_path(args.common.model) : NULL;
    if (status == CLI_OK) {
        status = path != NULL ? spare_text(&args) : CLI_FAILED;
    }
    if (status == CLI_OK) {
        status = fuse(&args, runtime, path);
    }
    mem_free(NULL, path);
    mem_free(NULL, text);
    graft_runtime_close(&runtime);
    return status;
}
