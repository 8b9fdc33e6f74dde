/* adapter_new.c: `graft adapter new`: a fresh adapter, ready to be trained. */
#include "adapter.h"

#include <math.h>

enum {
    KEY_PRESET = 0x400,
    KEY_PRESETS,
    KEY_RANK,
    KEY_ALPHA,
    KEY_DROPOUT,
    KEY_TARGETS,
    KEY_RSLORA,
    KEY_TAGS,
    KEY_NAME,
    KEY_DESCRIPTION,
    KEY_VERSION,
    KEY_TYPE,
    KEY_BASE
};
enum { MAX_LIST = 64 };

/* Comma-separated words, cut in place. */
struct words {
    const char *items[MAX_LIST];
    size_t n;
    char *text;
};

struct new_args {
    struct cli_common common;
    bool list;
    struct cli_output out;
    const char *preset;
    int64_t rank;          /* -1: not given */
    double alpha, dropout; /* NaN: not given */
    uint64_t seed;
    bool rslora;
    struct words targets, tags;
    const char *name, *description, *version, *type, *base; /* NULL: not given */
};

static void read_words(struct argp_state *state, const char *option, const char *arg,
                       struct words *out)
{
    mem_free(NULL, out->text);
    *out = (struct words){.text = mem_strdup(NULL, arg)};
    char *left = NULL;
    for (char *word = out->text != NULL ? strtok_r(out->text, ", ", &left) : NULL; word != NULL;
         word = strtok_r(NULL, ", ", &left)) {
        if (out->n == MAX_LIST) {
            argp_error(state, "%s: at most %d words", option, MAX_LIST);
        }
        out->items[out->n++] = word;
    }
    if (out->n == 0) {
        argp_error(state, "%s: the list is empty", option);
    }
}

static error_t parse_card(int key, char *arg, struct argp_state *state)
{
    struct new_args *a = state->input;
    switch (key) {
    case KEY_TAGS:
        read_words(state, "--tags", arg, &a->tags);
        return 0;
    case KEY_NAME:
        a->name = cli_parse_name(state, "--name", arg);
        return 0;
    case KEY_DESCRIPTION:
        a->description = arg;
        return 0;
    case KEY_VERSION:
        a->version = cli_parse_name(state, "--adapter-version", arg);
        return 0;
    case KEY_BASE:
        a->base = cli_parse_name(state, "--base", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static bool names_gguf(const char *path)
{
    size_t n = path != NULL ? strlen(path) : 0;
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0 && !cli_means_directory(path);
}

static error_t parse_new(int key, char *arg, struct argp_state *state)
{
    struct new_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->out;
        state->child_inputs[1] = &a->common;
        return 0;
    case 's':
        a->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    case KEY_PRESET:
        a->preset = arg;
        return 0;
    case KEY_PRESETS:
        a->list = a->out.optional = true;
        return 0;
    case KEY_RANK:
        a->rank = cli_parse_int(state, "--rank", arg, 1, 65536);
        return 0;
    case KEY_ALPHA:
        a->alpha = cli_parse_number(state, "--alpha", arg, 1e-6, 1e6);
        return 0;
    case KEY_DROPOUT:
        a->dropout = cli_parse_number(state, "--dropout", arg, 0, 0.999999);
        return 0;
    case KEY_TARGETS:
        read_words(state, "--targets", arg, &a->targets);
        return 0;
    case KEY_RSLORA:
        a->rslora = true;
        return 0;
    case KEY_TYPE:
        a->type = arg;
        return 0;
    case ARGP_KEY_END:
        if (names_gguf(a->out.path)) {
            argp_error(state,
                       "%s: what is new is a PEFT directory; graft adapter convert makes a GGUF "
                       "of it",
                       a->out.path);
        }
        return 0;
    default:
        return parse_card(key, arg, state);
    }
}

static const struct argp_option new_options[] = {
    {"preset", KEY_PRESET, "NAME", 0,
     "coder, researcher, security, architect or reviewer; what is given beside it goes first", 1},
    {"presets", KEY_PRESETS, NULL, 0, "List the presets and end", 1},
    {"rank", KEY_RANK, "R", 0, "Rank of every module; default 8", 1},
    {"alpha", KEY_ALPHA, "A", 0, "The scale is A / R; default 16", 1},
    {"rslora", KEY_RSLORA, NULL, 0, "The scale is A / sqrt(R)", 1},
    {"dropout", KEY_DROPOUT, "P", 0, "Of training; default 0", 1},
    {"targets", KEY_TARGETS, "LIST", 0, "Linear layers, as q_proj,v_proj (default), or all-linear",
     1},
    {"seed", 's', "N", 0, "Same seed, same factors; default 0", 1},
    {"type", KEY_TYPE, "TYPE", 0, "f32 (default), f16, bf16", 1},
    {NULL, 0, NULL, 0, "Its card:", 2},
    {"name", KEY_NAME, "NAME", 0, "Default: the preset's, or \"adapter\"", 2},
    {"adapter-version", KEY_VERSION, "X.Y.Z", 0, "Default 0.1.0", 2},
    {"description", KEY_DESCRIPTION, "TEXT", 0, "What it is for", 2},
    {"tags", KEY_TAGS, "LIST", 0, "Words to find it by, with commas between", 2},
    {"base", KEY_BASE, "NAME", 0,
     "What other programs load as its base; default: the model's folder", 2},
    {0},
};
static const struct argp_child new_children[] = {
    {&cli_output_folder_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp new_argp = {
    .options = new_options,
    .parser = parse_new,
    .children = new_children,
    .doc = "Write a fresh adapter as a PEFT directory with a card (graft.json). It changes nothing "
           "until it is trained: B is zero.\v"
           "Examples:\n"
           "  graft adapter new --preset coder -o my-coder\n"
           "  graft adapter new --rank 4 --targets q_proj,v_proj --tags tone -o my-tone\n"
           "  graft adapter new --presets\n"};

/* ---- presets ---- */

static json_t *names(const char *const *items, size_t n)
{
    json_t *json = json_array();
    for (size_t i = 0; i < n; i++) {
        json_append(&json, json_string(items[i]));
    }
    return json;
}

static int list_presets(bool as_json)
{
    graft_preset p;
    json_t *all = json_array();
    for (size_t i = 0; graft_preset_at(i, &p); i++) {
        if (!as_json) {
            printf("%-10s  rank %2d  alpha %2g  dropout %.2f ", p.name, p.rank, p.alpha, p.dropout);
            for (size_t k = 0; k < p.n_targets; k++) {
                printf(" %s", p.targets[k]);
            }
            printf("\n%12s%s\n", "", p.description);
        }
        json_t *one =
            json_pack("{s:s, s:s, s:i, s:f, s:f}", "name", p.name, "description", p.description,
                      "rank", p.rank, "alpha", p.alpha, "dropout", p.dropout);
        json_put(&one, "targets", names(p.targets, p.n_targets));
        json_put(&one, "tags", names(p.tags, p.n_tags));
        json_append(&all, one);
    }
    if (as_json) {
        return cli_print_json(json_pack("{s:o}", "presets", all));
    }
    json_decref(all);
    return CLI_OK;
}

/* ---- the adapter ---- */

static void lay_over(graft_adapter_recipe *r, const struct new_args *a)
{
    r->rank = a->rank >= 0 ? (int)a->rank : r->rank;
    r->alpha = isnan(a->alpha) ? r->alpha : a->alpha;
    r->dropout = isnan(a->dropout) ? r->dropout : a->dropout;
    r->rslora = a->rslora;
    r->seed = a->seed;
    if (a->targets.n > 0) {
        r->targets = a->targets.items;
        r->n_targets = a->targets.n;
    }
    if (a->tags.n > 0) {
        r->tags = a->tags.items;
        r->n_tags = a->tags.n;
    }
    r->name = a->name != NULL ? a->name : r->name;
    r->version = a->version != NULL ? a->version : r->version;
    r->description = a->description != NULL ? a->description : r->description;
    r->type = a->type != NULL ? a->type : r->type;
    r->base = a->base;
}

static int report(const struct new_args *a, const graft_adapter_recipe *r, uint64_t params,
                  uint64_t bytes)
{
    char size[CLI_SIZE_TEXT];
    if (a->common.json) {
        return cli_print_json(json_pack("{s:o, s:s, s:i, s:f, s:I, s:I}", "output",
                                        json_any_text(a->out.path, strlen(a->out.path)), "name",
                                        r->name, "rank", r->rank, "alpha", r->alpha, "parameters",
                                        (json_int_t)params, "bytes", (json_int_t)bytes));
    }
    cli_size_text(bytes, size);
    if (!a->common.quiet) {
        printf("%s: rank %d, %llu parameters, %s\n", a->out.path, r->rank,
               (unsigned long long)params, size);
    }
    return CLI_OK;
}

static int create(const struct new_args *a)
{
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_error error = {0};
    if (a->preset != NULL && graft_adapter_recipe_preset(&recipe, a->preset, &error) != GRAFT_OK) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    lay_over(&recipe, a);
    if (graft_adapter_recipe_check(&recipe, &error) != GRAFT_OK) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    struct cli_session s = {0};
    struct cli_progress progress;
    recipe.progress = cli_progress_step;
    recipe.progress_user = &progress;
    cli_catch_interrupt();
    int status = cli_open_model(&a->common, &s);
    if (status != CLI_OK) {
        return status;
    }
    uint64_t params = 0, bytes = 0;
    graft_status done = graft_adapter_estimate(s.model, &recipe, &params, &bytes, &error);
    if (done == GRAFT_OK) {
        cli_progress_begin(&progress, "writing", a->common.quiet);
        done = graft_adapter_create(s.model, a->out.path, &recipe, &error);
        cli_progress_end(&progress);
    }
    status = done == GRAFT_OK ? report(a, &recipe, params, bytes) : cli_fail_writing(&error);
    cli_close(&s);
    return status;
}

int verb_adapter_new(int argc, char **argv)
{
    struct new_args args = {.out.what = "DIR", .rank = -1, .alpha = NAN, .dropout = NAN};
    argp_parse(&new_argp, argc, argv, 0, NULL, &args);
    int status = args.list ? list_presets(args.common.json) : create(&args);
    mem_free(NULL, args.targets.text);
    mem_free(NULL, args.tags.text);
    return status;
}
