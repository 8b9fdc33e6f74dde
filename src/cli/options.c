/* options.c: the options that verbs share, as argp children: names that the field already uses. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* ---- numbers ---- */

int64_t cli_parse_int(struct argp_state *state, const char *option, const char *arg, int64_t min,
                      int64_t max)
{
    char *end;
    errno = 0;
    long long value = strtoll(arg, &end, 10);
    if (end == arg || *end != '\0' || errno != 0 || value < min || value > max) {
        argp_error(state, "%s: \"%s\" is not a whole number from %lld to %lld", option, arg,
                   (long long)min, (long long)max);
    }
    return value;
}

double cli_parse_number(struct argp_state *state, const char *option, const char *arg, double min,
                        double max)
{
    char *end;
    errno = 0;
    double value = strtod(arg, &end);
    if (end == arg || *end != '\0' || !(value >= min && value <= max)) {
        argp_error(state, "%s: \"%s\" is not a number from %g to %g", option, arg, min, max);
    }
    return value;
}

size_t cli_parse_bytes(struct argp_state *state, const char *option, const char *arg)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(arg, &end);
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    double bytes = unit != NULL ? value * pow(1024, (double)(unit - units + 1)) : value;
    bool whole = end != arg && end[unit != NULL] == '\0';
    if (!whole || !(bytes >= 0 && bytes < 1e18)) {
        argp_error(state,
                   "%s: \"%s\" is no size: a number of bytes, or with K, M, G or T behind it",
                   option, arg);
    }
    return (size_t)bytes;
}

/* 0 stands for "not given" in all that follows. */
double cli_parse_scale(struct argp_state *state, const char *arg)
{
    double scale = cli_parse_number(state, "--adapter-scale", arg, -1e6, 1e6);
    if ((float)scale == 0) {
        argp_error(state, "--adapter-scale: \"%s\" is not a number other than 0", arg);
    }
    return scale;
}

const char *cli_parse_name(struct argp_state *state, const char *option, const char *arg)
{
    if (arg[0] == '\0') {
        argp_error(state, "%s: the name is empty", option);
    }
    return arg;
}

/* ---- where to ---- */

static error_t parse_output(int key, char *arg, struct argp_state *state)
{
    struct cli_output *o = state->input;
    switch (key) {
    case 'o':
        o->path = cli_parse_name(state, "--output", arg);
        return 0;
    case ARGP_KEY_END:
        if (o->path == NULL && !o->optional) {
            argp_error(state, "where to? give -o %s", o->what != NULL ? o->what : "OUT");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option output_options[] = {
    {"output", 'o', "OUT", 0, "What to write: a GGUF file, or a directory, absent or empty", 1},
    {0},
};
const struct argp cli_output_argp = {.options = output_options, .parser = parse_output};

static const struct argp_option folder_options[] = {
    {"output", 'o', "DIR", 0, "What to write: a directory, absent or empty", 1},
    {0},
};
const struct argp cli_output_folder_argp = {.options = folder_options, .parser = parse_output};

bool cli_means_directory(const char *path)
{
    return path_is_dir(path) || path[strlen(path) - 1] == '/';
}

/* ---- every verb with a model ---- */

enum {
    KEY_JSON = 0x100,
    KEY_NO_MMAP,
    KEY_AFFINITY,
    KEY_PACK,
    KEY_TEMP,
    KEY_TOP_K,
    KEY_TOP_P,
    KEY_MIN_P,
    KEY_REPEAT,
    KEY_PRESENCE,
    KEY_FREQUENCY,
    KEY_WINDOW,
    KEY_SYSTEM,
    KEY_STOP,
    KEY_IGNORE_EOS,
    KEY_SPECIAL,
    KEY_CACHE_K,
    KEY_CACHE_V,
};

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    struct cli_common *c = state->input;
    switch (key) {
    case 'm':
        c->model = cli_parse_name(state, "--model", arg);
        return 0;
    case 't':
        c->threads = (int)cli_parse_int(state, "--threads", arg, 1, 1024);
        return 0;
    case 'v':
        c->verbose = true;
        return 0;
    case 'q':
        c->quiet = true;
        return 0;
    case KEY_JSON:
        c->json = true;
        return 0;
    case KEY_AFFINITY:
        c->affinity = true;
        return 0;
    case KEY_NO_MMAP:
        c->copy = true;
        return 0;
    case KEY_PACK:
        c->pack = cli_parse_name(state, "--pack", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option common_options[] = {
    {NULL, 0, NULL, 0, "Common:", 9},
    {"model", 'm', "MODEL", 0, "Directory, GGUF file or name; default: the model that ships", 9},
    {"threads", 't', "N", 0, "Threads; default: one per core", 9},
    {"affinity", KEY_AFFINITY, NULL, 0, "Keep each worker thread to a processor of its own", 9},
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 9},
    {"no-mmap", KEY_NO_MMAP, NULL, 0, "Read the weights into memory instead of mapping them", 9},
    {"pack", KEY_PACK, "WHICH", 0,
     "Weights to rearrange for speed: auto (default), none, or names of tensors: 'blk.*.ffn_*,...'",
     9},
    {"verbose", 'v', NULL, 0, "Say what happens, and the speed, on stderr", 9},
    {"quiet", 'q', NULL, 0, "No progress bar, no speed line", 9},
    {0},
};
const struct argp cli_common_argp = {.options = common_options, .parser = parse_common};

/* ---- context and cache ---- */

graft_kv_type cli_parse_kv_type(struct argp_state *state, const char *option, const char *arg)
{
    if (strcmp(arg, "f16") == 0) {
        return GRAFT_KV_F16;
    }
    if (strcmp(arg, "f32") == 0) {
        return GRAFT_KV_F32;
    }
    if (strcmp(arg, "q8") != 0 && strcmp(arg, "q8_0") != 0) {
        argp_error(state, "%s: \"%s\" is none of f16, f32, q8", option, arg);
    }
    return GRAFT_KV_Q8;
}

static const char *const adapter_formats[] = {"peft", "mlx", "gguf"};

graft_adapter_format cli_parse_adapter_format(struct argp_state *state, const char *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(adapter_formats); i++) {
        if (strcmp(arg, adapter_formats[i]) == 0) {
            return (graft_adapter_format)i;
        }
    }
    argp_error(state, "--format: \"%s\" is none of peft, mlx, gguf", arg);
    return GRAFT_ADAPTER_PEFT;
}

graft_adapter_format cli_adapter_format(const graft_adapter_format *typed, const char *out)
{
    return typed != NULL                  ? *typed
           : text_ends_with(out, ".gguf") ? GRAFT_ADAPTER_GGUF
                                          : GRAFT_ADAPTER_PEFT;
}

const char *cli_parse_adapter_type(struct argp_state *state, const char *arg)
{
    if (strcmp(arg, "f32") != 0 && strcmp(arg, "f16") != 0 && strcmp(arg, "bf16") != 0) {
        argp_error(state, "--type: \"%s\" is none of f32, f16, bf16", arg);
    }
    return arg;
}

static error_t parse_context(int key, char *arg, struct argp_state *state)
{
    graft_session_options *s = state->input;
    switch (key) {
    case 'c':
        s->n_ctx = (int)cli_parse_int(state, "--ctx-size", arg, 0, 1 << 24);
        return 0;
    case KEY_CACHE_K:
        s->cache_k = cli_parse_kv_type(state, "--cache-type-k", arg);
        return 0;
    case KEY_CACHE_V:
        s->cache_v = cli_parse_kv_type(state, "--cache-type-v", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option context_options[] = {
    {NULL, 0, NULL, 0, "Context:", 5},
    {"ctx-size", 'c', "N", 0, "Most tokens of prompt and answer; default: min(model, 4096)", 5},
    {"cache-type-k", KEY_CACHE_K, "TYPE", 0, "Keys are kept as f16 (default), f32 or q8", 5},
    {"cache-type-v", KEY_CACHE_V, "TYPE", 0, "Values are kept so, too", 5},
    {0},
};
const struct argp cli_context_argp = {.options = context_options, .parser = parse_context};

/* ---- sampling ---- */

void cli_sampling_init(struct cli_sampling *s)
{
    *s = (struct cli_sampling){.temperature = NAN,
                               .top_p = NAN,
                               .min_p = NAN,
                               .repeat = NAN,
                               .presence = NAN,
                               .frequency = NAN,
                               .top_k = -1,
                               .window = -1,
                               .session = graft_session_options_default(),
                               .max_tokens = -1};
}

static void add_stop(struct cli_sampling *s, struct argp_state *state, const char *text)
{
    if (text[0] == '\0' || s->session.n_stops == ARRAY_LEN(s->stops)) {
        argp_error(state, "--stop: at most %zu texts, none of them empty", ARRAY_LEN(s->stops));
    }
    s->stops[s->session.n_stops++] = text;
    s->session.stops = s->stops;
}

static error_t parse_penalties(int key, char *arg, struct argp_state *state)
{
    struct cli_sampling *s = state->input;
    switch (key) {
    case KEY_REPEAT:
        s->repeat = cli_parse_number(state, "--repeat-penalty", arg, 1e-3, 1e3);
        return 0;
    case KEY_PRESENCE:
        s->presence = cli_parse_number(state, "--presence-penalty", arg, -100, 100);
        return 0;
    case KEY_FREQUENCY:
        s->frequency = cli_parse_number(state, "--frequency-penalty", arg, -100, 100);
        return 0;
    case KEY_WINDOW:
        s->window = cli_parse_int(state, "--repeat-last-n", arg, 0, INT32_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_sampling(int key, char *arg, struct argp_state *state)
{
    struct cli_sampling *s = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &s->session;
        state->child_inputs[1] = &s->draft;
        state->child_inputs[2] = &s->constraint;
        return 0;
    case 'n':
        s->max_tokens = cli_parse_int(state, "--predict", arg, -1, INT32_MAX);
        return 0;
    case 's':
        s->seed = (uint64_t)cli_parse_int(state, "--seed", arg, 0, INT64_MAX);
        s->seed_given = true;
        return 0;
    case KEY_TEMP:
        s->temperature = cli_parse_number(state, "--temp", arg, 0, 100);
        return 0;
    case KEY_TOP_K:
        s->top_k = cli_parse_int(state, "--top-k", arg, 0, INT32_MAX);
        return 0;
    case KEY_TOP_P:
        s->top_p = cli_parse_number(state, "--top-p", arg, 1e-6, 1);
        return 0;
    case KEY_MIN_P:
        s->min_p = cli_parse_number(state, "--min-p", arg, 0, 1);
        return 0;
    case KEY_SYSTEM:
        s->system_prompt = arg;
        return 0;
    case KEY_STOP:
        add_stop(s, state, arg);
        return 0;
    case KEY_IGNORE_EOS:
        s->session.ignore_eos = true;
        return 0;
    case KEY_SPECIAL:
        s->session.show_special = true;
        return 0;
    default:
        return parse_penalties(key, arg, state);
    }
}

static const struct argp_option sampling_options[] = {
    {NULL, 0, NULL, 0, "Generation:", 3},
    {"predict", 'n', "N", 0, "Most tokens to generate; default: until the model ends", 3},
    {"max-tokens", 0, NULL, OPTION_ALIAS, NULL, 3},
    {"n-predict", 0, NULL, OPTION_ALIAS, NULL, 3},
    {"system-prompt", KEY_SYSTEM, "TEXT", 0, "The system message, where the chat template has one",
     3},
    {"stop", KEY_STOP, "TEXT", 0, "End before this text; repeatable", 3},
    {"ignore-eos", KEY_IGNORE_EOS, NULL, 0, "Go on past end tokens", 3},
    {"special", KEY_SPECIAL, NULL, 0, "Show special tokens", 3},
    {NULL, 0, NULL, 0, "Sampling (default: the model's own, else temp 0.8):", 4},
    {"seed", 's', "N", 0, "Same seed, same text; default: another each time", 4},
    {"temp", KEY_TEMP, "T", 0, "Temperature; 0 is greedy", 4},
    {"temperature", 0, NULL, OPTION_ALIAS, NULL, 4},
    {"top-k", KEY_TOP_K, "K", 0, "Keep the K best tokens; 0: all", 4},
    {"top-p", KEY_TOP_P, "P", 0, "Keep the best tokens that together have probability P", 4},
    {"min-p", KEY_MIN_P, "P", 0, "Drop tokens below P times the best", 4},
    {"repeat-penalty", KEY_REPEAT, "X", 0, "Divide the logits of tokens seen; 1: off", 4},
    {"repetition-penalty", 0, NULL, OPTION_ALIAS, NULL, 4},
    {"presence-penalty", KEY_PRESENCE, "X", 0, "Subtracted once from tokens seen", 4},
    {"frequency-penalty", KEY_FREQUENCY, "X", 0, "Subtracted per occurrence", 4},
    {"repeat-last-n", KEY_WINDOW, "N", 0, "How far back penalties look; 0: all", 4},
    {0},
};
static const struct argp_child sampling_children[] = {{&cli_context_argp, 0, NULL, 0},
                                                      {&cli_draft_argp, 0, NULL, 0},
                                                      {&cli_constraint_argp, 0, NULL, 0},
                                                      {0}};
const struct argp cli_sampling_argp = {
    .options = sampling_options, .parser = parse_sampling, .children = sampling_children};
