/* merge.c: `graft merge`: several adapters into one, from the command line or from a file. */
#include "adapter.h"

#include <math.h>
#include <stdlib.h>

enum {
    KEY_METHOD = 0x600,
    KEY_RANK,
    KEY_ENERGY,
    KEY_DENSITY,
    KEY_EPSILON,
    KEY_GAMMA,
    KEY_LAMBDA,
    KEY_T,
    KEY_NORMALIZE,
    KEY_SIGN,
    KEY_DIVIDE,
    KEY_SEED,
    KEY_FORMAT,
    KEY_TYPE,
    KEY_NAME,
    KEY_VERSION,
    KEY_DESCRIPTION
};
enum { MAX_INPUTS = 64 };

struct merge_args {
    struct cli_common common;
    struct cli_output out;
    const char *words[MAX_INPUTS]; /* as typed */
    size_t n_words;
    graft_merge_options typed; /* NaN, −1 and NULL: not typed */
    bool normalize, seed_given, format_given;
};

/* What is merged: inputs with paths to be given back. */
struct merge_job {
    graft_merge_config *config; /* NULL: none */
    graft_merge_input inputs[MAX_INPUTS];
    char *names[MAX_INPUTS], *paths[MAX_INPUTS];
    size_t n;
    graft_merge_options options;
};

/* ---- options ------------------------------------------------------------------------------ */

/* Whatever a number can be: the library says what it must be, in one line. */
static double any_number(const char *option, const char *arg)
{
    double value;
    if (!decimal_parse(arg, &value)) {
        cli_fail_text("%s: \"%s\" is no number", option, arg);
        exit(CLI_FAILED);
    }
    return value;
}

static error_t parse_numbers(int key, char *arg, struct argp_state *state)
{
    graft_merge_options *o = &((struct merge_args *)state->input)->typed;
    switch (key) {
    case KEY_ENERGY:
        o->energy = any_number("--energy", arg);
        return 0;
    case KEY_DENSITY:
        o->density = any_number("--density", arg);
        return 0;
    case KEY_EPSILON:
        o->epsilon = any_number("--epsilon", arg);
        return 0;
    case KEY_GAMMA:
        o->gamma = any_number("--gamma", arg);
        return 0;
    case KEY_LAMBDA:
        o->lambda = any_number("--lambda", arg);
        return 0;
    case KEY_T:
        o->slerp_t = any_number("--slerp-t", arg);
        return 0;
    case KEY_RANK:
        o->rank = (int)cli_parse_int(state, "--rank", arg, 1, INT32_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_words(int key, char *arg, struct merge_args *a, struct argp_state *state)
{
    switch (key) {
    case KEY_METHOD:
        a->typed.method = arg;
        return 0;
    case KEY_NORMALIZE:
        a->normalize = true;
        return 0;
    case KEY_SIGN:
        a->typed.sign = arg;
        return 0;
    case KEY_DIVIDE:
        a->typed.ties_divide = arg;
        return 0;
    case KEY_SEED:
        a->typed.seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        a->seed_given = true;
        return 0;
    case KEY_FORMAT:
        a->typed.format = cli_parse_adapter_format(state, arg);
        a->format_given = true;
        return 0;
    case KEY_TYPE:
        a->typed.type = arg;
        return 0;
    case KEY_NAME:
        a->typed.name = arg;
        return 0;
    case KEY_VERSION:
        a->typed.version = arg;
        return 0;
    case KEY_DESCRIPTION:
        a->typed.description = arg;
        return 0;
    default:
        return parse_numbers(key, arg, state);
    }
}

static error_t parse_merge(int key, char *arg, struct argp_state *state)
{
    struct merge_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->out;
        state->child_inputs[1] = &a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->n_words == MAX_INPUTS) {
            argp_error(state, "more than %d adapters", MAX_INPUTS);
        }
        a->words[a->n_words++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->n_words == 0) {
            argp_error(state, "which adapters? name two or more, or a file that does");
        }
        return 0;
    default:
        return parse_words(key, arg, a, state);
    }
}

static const struct argp_option merge_options[] = {
    {"method", KEY_METHOD, "METHOD", 0,
     "average, linear (default), cat, task_arithmetic, slerp, model_stock, svd; ties, dare_linear, "
     "dare_ties, magnitude_prune, della, della_linear, breadcrumbs, breadcrumbs_ties",
     1},
    {"rank", KEY_RANK, "K", 0, "Ranks of the result at most; default: the sum of the inputs'", 1},
    {"energy", KEY_ENERGY, "SHARE", 0, "So many ranks as keep this share of the change (sums)", 1},
    {"normalize", KEY_NORMALIZE, NULL, 0, "Divide the weights by their sum", 1},
    {"lambda", KEY_LAMBDA, "L", 0, "Times the whole result (default 1)", 1},
    {"slerp-t", KEY_T, "T", 0, "slerp: from 0, the first, to 1, the second (default 0.5)", 2},
    {"density", KEY_DENSITY, "D", 0, "Share of values that is kept (default 0.5)", 2},
    {"sign", KEY_SIGN, "HOW", 0, "ties: signs are elected by total (default) or frequency", 2},
    {"ties-divide", KEY_DIVIDE, "BY", 0,
     "ties: by the count of those that agree (default, as PEFT), their weight or none (mergekit)",
     2},
    {"epsilon", KEY_EPSILON, "E", 0, "della: probabilities are the density ± E (default 0.15)", 2},
    {"gamma", KEY_GAMMA, "G", 0, "breadcrumbs: share of the largest that goes too (default 0.01)",
     2},
    {"seed", KEY_SEED, "N", 0, "dare, della: of chance (default 0)", 2},
    {"format", KEY_FORMAT, "F", 0, "peft, mlx or gguf; default: gguf when OUT ends so, else peft",
     3},
    {"type", KEY_TYPE, "TYPE", 0, "f32 (default), f16 or bf16", 3},
    {"name", KEY_NAME, "NAME", 0, "In the card (default: merged)", 3},
    {"adapter-version", KEY_VERSION, "V", 0, "In the card (default: 0.1.0)", 3},
    {"description", KEY_DESCRIPTION, "TEXT", 0, "In the card", 3},
    {0},
};
static const struct argp_child merge_children[] = {
    {&cli_output_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp merge_argp = {
    .options = merge_options,
    .parser = parse_merge,
    .children = merge_children,
    .args_doc = "ADAPTER[=WEIGHT][:density=D][:epsilon=E][:gamma=G]... | CONFIG.yml",
    .doc =
        "Merge adapters of one base into one, by what they do to the weights. Sums stay exact, or "
        "are the best there is of a rank; the others stream what they need. The rank and the share "
        "of the change that was discarded are told, with -v of every module. CONFIG.yml is a merge "
        "in the words of mergekit; options that are given count instead of what it says.\v"
        "Examples:\n"
        "  graft merge coder=0.7 security=0.3 -o both\n"
        "  graft merge coder security -o both --method ties --density 0.3 --rank 16\n"
        "  graft merge coder=0.7:density=0.5 ./mine=0.3 -o both --method dare_ties --seed 1\n"
        "  graft merge coder security -o between --method slerp --slerp-t 0.3\n"
        "  graft merge merge.yml -o both --name both\n"};

/* ---- inputs ------------------------------------------------------------------------------- */

/* Where a word's last ":KEY=VALUE" begins, KEY being one of an input's; NULL: there is none. */
static char *find_parameter(char *word, size_t *key, const char *const keys[], size_t n)
{
    char *colon = strrchr(word, ':');
    for (*key = 0; colon != NULL && *key < n; (*key)++) {
        size_t size = strlen(keys[*key]);
        if (strncmp(colon + 1, keys[*key], size) == 0 && colon[1 + size] == '=') {
            return colon;
        }
    }
    return NULL;
}

/* Cuts them off, as long as the word is no file. */
static int cut_parameters(char *word, graft_merge_input *input)
{
    static const char *const keys[] = {"density", "epsilon", "gamma", "weight"};
    double *const values[] = {&input->density, &input->epsilon, &input->gamma, &input->weight};
    size_t key;
    for (char *at;
         !path_exists(word) && (at = find_parameter(word, &key, keys, ARRAY_LEN(keys))) != NULL;) {
        const char *number = at + strlen(keys[key]) + 2;
        if (!decimal_parse(number, values[key])) {
            return cli_fail_text("%s: \"%s\" is no number", word, number);
        }
        *at = '\0';
    }
    return CLI_OK;
}

static int locate(struct merge_job *job, graft_runtime *runtime, char *name)
{
    graft_merge_input *input = &job->inputs[job->n];
    graft_adapter_id id;
    job->names[job->n] = name;
    int status = cli_locate_adapter(runtime, name, 0, &job->paths[job->n], &id);
    if (status != CLI_OK) {
        mem_free(NULL, name);
        return status;
    }
    input->path = job->paths[job->n];
    input->name = name;
    job->n++;
    return CLI_OK;
}

static int read_word(struct merge_job *job, graft_runtime *runtime, const char *text)
{
    struct cli_use use;
    char why[CLI_WHY], *word = mem_strdup(NULL, text);
    graft_merge_input *input = &job->inputs[job->n];
    *input = graft_merge_input_default(NULL);
    int status = word != NULL ? cut_parameters(word, input) : cli_fail_text("out of memory");
    if (status == CLI_OK && !cli_read_use(word, &use, why)) {
        status = cli_fail_text("%s", why);
    }
    if (status != CLI_OK) {
        mem_free(NULL, word);
        return status;
    }
    if (word[use.size] == '=') {
        (void)decimal_parse(word + use.size + 1, &input->weight); /* it is one: in double */
    }
    word[use.size] = '\0';
    return locate(job, runtime, word);
}

/* One word that is a file of settings: its inputs, and what it says. */
static int read_config(struct merge_job *job, graft_runtime *runtime, const char *path)
{
    graft_error error = {0};
    size_t n;
    if (graft_merge_config_open(runtime, path, &job->config, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    const graft_merge_input *inputs = graft_merge_config_inputs(job->config, &n);
    job->options = *graft_merge_config_options(job->config);
    int status = CLI_OK;
    for (size_t i = 0; i < n && status == CLI_OK; i++) {
        char *name = mem_strdup(NULL, inputs[i].path);
        job->inputs[i] = inputs[i];
        status = name != NULL ? locate(job, runtime, name) : cli_fail_text("out of memory");
    }
    return status;
}

static bool is_config(const struct merge_args *a)
{
    static const char *const ends[] = {".yml", ".yaml", ".json"};
    for (size_t i = 0; i < ARRAY_LEN(ends) && a->n_words == 1; i++) {
        if (text_ends_with(a->words[0], ends[i])) {
            return true;
        }
    }
    return false;
}

/* What was typed counts. */
static void overlay(struct merge_job *job, const struct merge_args *a)
{
    graft_merge_options *o = &job->options;
    const graft_merge_options *typed = &a->typed;
    const double *from[] = {&typed->energy, &typed->density, &typed->epsilon,
                            &typed->gamma,  &typed->lambda,  &typed->slerp_t};
    double *to[] = {&o->energy, &o->density, &o->epsilon, &o->gamma, &o->lambda, &o->slerp_t};
    for (size_t i = 0; i < ARRAY_LEN(to); i++) {
        *to[i] = isnan(*from[i]) ? *to[i] : *from[i];
    }
    const char *const texts[] = {typed->method, typed->sign,    typed->ties_divide, typed->type,
                                 typed->name,   typed->version, typed->description};
    const char **places[] = {&o->method, &o->sign,    &o->ties_divide, &o->type,
                             &o->name,   &o->version, &o->description};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *places[i] = texts[i] != NULL ? texts[i] : *places[i];
    }
    o->rank = typed->rank > 0 ? typed->rank : o->rank;
    o->normalize = o->normalize || a->normalize;
    o->seed = a->seed_given ? typed->seed : o->seed;
    if (a->format_given || job->config == NULL || text_ends_with(a->out.path, ".gguf")) {
        o->format = cli_adapter_format(a->format_given ? &typed->format : NULL, a->out.path);
    }
}

/* ---- the report --------------------------------------------------------------------------- */

static void print_modules(const json_t *modules)
{
    const json_t *one;
    size_t i;
    printf("%-44s %6s %6s %10s\n", "module", "ranks", "rank", "discarded");
    json_array_foreach(modules, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "module"));
        if (json_is_true(json_object_get(one, "whole"))) {
            printf("%-44s  held whole\n", name);
            continue;
        }
        printf("%-44s %6lld %6lld %8.3f %%%s\n", name,
               json_integer_value(json_object_get(one, "rank_before")),
               json_integer_value(json_object_get(one, "rank")),
               100 * json_number_value(json_object_get(one, "discarded_energy")),
               json_is_true(json_object_get(one, "dora")) ? "  DoRA" : "");
    }
}

static void print_report(const struct merge_args *a, const json_t *report)
{
    const json_t *inputs = json_object_get(report, "inputs");
    long long least = json_integer_value(json_object_get(report, "least_rank"));
    long long most = json_integer_value(json_object_get(report, "most_rank"));
    double lost = 100 * json_number_value(json_object_get(report, "discarded_energy"));
    char ranks[64];
    if (a->common.verbose) {
        print_modules(json_object_get(report, "modules"));
    }
    snprintf(ranks, sizeof ranks, least == most ? "rank %lld" : "ranks %lld to %lld", least, most);
    printf("%s of %zu adapters: %s, %.3g %% of the change discarded%s\n",
           json_string_value(json_object_get(report, "method")), json_array_size(inputs), ranks,
           lost, lost > 10 ? " (a higher --rank keeps more)" : "");
}

/* ---- the work ----------------------------------------------------------------------------- */

static int merge(struct merge_args *a, struct merge_job *job, const struct cli_session *s)
{
    struct cli_progress progress;
    graft_error error = {0};
    char *text = NULL;
    job->options.progress = cli_progress_step;
    job->options.progress_user = &progress;
    cli_progress_begin(&progress, "merging", a->common.quiet);
    graft_status status =
        graft_merge(s->model, job->inputs, job->n, a->out.path, &job->options, &text, &error);
    cli_progress_end(&progress);
    if (status != GRAFT_OK) {
        return cli_fail_writing(&error);
    }
    json_t *report = json_loads(text, 0, NULL);
    graft_free(s->runtime, text);
    if (report == NULL) {
        return cli_fail_text("out of memory");
    }
    if (a->common.json) {
        json_object_set_new(report, "output", json_any_text(a->out.path, strlen(a->out.path)));
        return cli_print_json(report);
    }
    if (!a->common.quiet) {
        print_report(a, report);
    }
    json_decref(report);
    return CLI_OK;
}

static int prepare(struct merge_args *a, struct merge_job *job, graft_runtime *runtime)
{
    int status = CLI_OK;
    job->options = graft_merge_options_default();
    if (is_config(a)) {
        status = read_config(job, runtime, a->words[0]);
    }
    for (size_t i = 0; i < a->n_words && job->config == NULL && status == CLI_OK; i++) {
        status = read_word(job, runtime, a->words[i]);
    }
    if (status == CLI_OK && job->n == 1) {
        return cli_fail_text(
            "one adapter is nothing to merge: `graft fuse` writes it into its base, "
            "`graft adapter compress` brings its rank down");
    }
    overlay(job, a);
    return status;
}

static void close_job(struct merge_job *job)
{
    for (size_t i = 0; i < job->n; i++) {
        mem_free(NULL, job->names[i]);
        mem_free(NULL, job->paths[i]);
    }
    graft_merge_config_close(&job->config);
}

int verb_merge(int argc, char **argv)
{
    struct merge_args args = {.typed = {.rank = -1,
                                        .energy = NAN,
                                        .density = NAN,
                                        .epsilon = NAN,
                                        .gamma = NAN,
                                        .lambda = NAN,
                                        .slerp_t = NAN}};
    struct merge_job job = {0};
    struct cli_session s = {0};
    argp_parse(&merge_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    graft_runtime *runtime = NULL;
    struct cli_common silent = args.common;
    silent.verbose = false; /* the model's own says it */
    int status = cli_open_runtime(&silent, &runtime);
    if (status == CLI_OK) {
        status = prepare(&args, &job, runtime);
    }
    if (status == CLI_OK && args.common.model == NULL) {
        args.common.model = graft_merge_config_base(job.config);
    }
    args.common.pack = "none"; /* nothing runs here */
    if (status == CLI_OK) {
        status = cli_open_model(&args.common, &s);
    }
    if (status == CLI_OK) {
        status = merge(&args, &job, &s);
        cli_close(&s);
    }
    close_job(&job);
    graft_runtime_close(&runtime);
    return status;
}
