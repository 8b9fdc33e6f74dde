/* adapter_add.c: `graft adapter add`: adapters into the home, one or a folder of them. */
#include "adapter.h"

enum {
    KEY_NAME = 0x200,
    KEY_VERSION,
    KEY_DESCRIPTION,
    KEY_TAGS,
    KEY_STAGE,
    KEY_PUBLISH,
    KEY_JSON,
    KEY_SCALE
};
enum { MAX_TAGS = 64 };

struct add_args {
    const char *path;
    const char *model; /* NULL: none */
    graft_card card;
    const char *tags[MAX_TAGS];
    graft_place place;
    bool described; /* by an option that is about one adapter */
    bool json;
};

static void set_place(struct add_args *a, struct argp_state *state, graft_place place)
{
    if (a->place != GRAFT_PLACE_ADD && a->place != place) {
        argp_error(state, "--stage or --publish, not both");
    }
    a->place = place;
}

/* Words with commas between, cut in place. */
static void read_tags(struct add_args *a, struct argp_state *state, char *arg)
{
    char *left = NULL;
    a->card.n_tags = 0;
    for (char *word = strtok_r(arg, ", ", &left); word != NULL;
         word = strtok_r(NULL, ", ", &left)) {
        if (a->card.n_tags == MAX_TAGS) {
            argp_error(state, "--tags: at most %d words", MAX_TAGS);
        }
        a->tags[a->card.n_tags++] = word;
    }
    if (a->card.n_tags == 0) {
        argp_error(state, "--tags: the list is empty");
    }
    a->card.tags = a->tags;
}

static error_t parse_card(int key, char *arg, struct argp_state *state)
{
    struct add_args *a = state->input;
    a->described = true;
    switch (key) {
    case KEY_NAME:
        a->card.name = cli_parse_name(state, "--name", arg);
        return 0;
    case KEY_VERSION:
        a->card.version = cli_parse_name(state, "--adapter-version", arg);
        return 0;
    case KEY_DESCRIPTION:
        a->card.description = arg;
        return 0;
    case KEY_TAGS:
        read_tags(a, state, arg);
        return 0;
    case KEY_STAGE:
        set_place(a, state, GRAFT_PLACE_STAGE);
        return 0;
    default:
        set_place(a, state, GRAFT_PLACE_PUBLISH);
        return 0;
    }
}

static error_t parse_add(int key, char *arg, struct argp_state *state)
{
    struct add_args *a = state->input;
    if (key >= KEY_NAME && key <= KEY_PUBLISH) {
        return parse_card(key, arg, state);
    }
    switch (key) {
    case KEY_JSON:
        a->json = true;
        return 0;
    case 'm':
        a->model = cli_parse_name(state, "--model", arg);
        return 0;
    case KEY_SCALE:
        argp_error(state,
                   "an adapter is registered with the scale of its files: write them with "
                   "`graft adapter convert PATH --adapter-scale %s -o DIR` and add DIR",
                   arg);
        return 0;
    case ARGP_KEY_ARG:
        if (a->path != NULL) {
            argp_error(state, "unexpected argument \"%s\"", arg);
        }
        a->path = cli_parse_name(state, "PATH", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->path == NULL) {
            argp_error(state, "which adapter? give its directory or GGUF file");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option add_options[] = {
    {"name", KEY_NAME, "NAME", 0, "Default: what its graft.json says, else that of the file", 1},
    {"adapter-version", KEY_VERSION, "X.Y.Z", 0, "Default: as its graft.json, else the next", 1},
    {"description", KEY_DESCRIPTION, "TEXT", 0, "One line for people", 1},
    {"tags", KEY_TAGS, "LIST", 0, "Words to find it by, with commas between", 1},
    {"model", 'm', "MODEL", 0,
     "Open it on this model with every check first; what names no base counts as made for it", 1},
    {"stage", KEY_STAGE, NULL, 0, "Put it on standby", 2},
    {"publish", KEY_PUBLISH, NULL, 0,
     "Make it active; default: only the first version of a name is", 2},
    {"adapter-scale", KEY_SCALE, "X", OPTION_HIDDEN, NULL, 3},
    {"json", KEY_JSON, NULL, 0, "One JSON object on stdout, for machines", 3},
    {0},
};
static const struct argp add_argp = {
    .options = add_options,
    .parser = parse_add,
    .args_doc = "PATH",
    .doc = "Copy an adapter (PEFT or MLX directory, GGUF file), or every adapter in a folder, into "
           "the "
           "home (GRAFT_HOME), under a name and a version that never changes.\v"
           "Examples:\n"
           "  graft adapter add my-coder --name coder --tags code,c\n"
           "  graft adapter add my-coder --name coder --adapter-version 1.1.0 --stage\n"
           "  graft adapter add my-coder --name coder -m DIR --publish\n"
           "  graft adapter add my-adapters/\n"};

/* ---- one ---- */

static bool well_formed(const struct cli_store *store, const graft_card *card, graft_error *error)
{
    char address[256];
    graft_adapter_id id;
    if (card->name == NULL && card->version == NULL) {
        return true;
    }
    snprintf(address, sizeof address, "%s%s%s", card->name != NULL ? card->name : "name",
             card->version != NULL ? "@" : "", card->version != NULL ? card->version : "");
    return graft_registry_resolve(store->registry, address, &id, error) != GRAFT_INVALID_ARGUMENT &&
           strpbrk(address, "=/") == NULL;
}

static int add_one(const struct cli_store *store, const struct add_args *a)
{
    graft_adapter_id id;
    graft_error error = {0};
    graft_registry_info before = {0};
    if (graft_registry_describe(store->registry, &before, &error) != GRAFT_OK ||
        graft_registry_add(store->registry, a->path, &a->card, a->place, &id, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    bool changed = id.generation != before.generation;
    if (!a->json && changed) {
        printf("added %s@%s\n", id.name, id.version);
    } else if (!changed) {
        fprintf(stderr, "graft: %s@%s has this content already: nothing changed%s\n", id.name,
                id.version,
                a->card.n_tags > 0 || a->card.description != NULL ? ", tags and description neither"
                                                                  : "");
    }
    return cli_print_entry(store, id.name, a->json);
}

/* ---- many ---- */

struct many {
    bool json;
    int failed;
    json_t *added, *refused;
};

static void note_one(void *user, const char *path, graft_status status, const graft_error *error,
                     const graft_adapter_id *id)
{
    struct many *m = user;
    char address[160] = "";
    if (status == GRAFT_OK) {
        snprintf(address, sizeof address, "%s@%s", id->name, id->version);
        json_append(&m->added, json_string(address));
    } else {
        m->failed++;
        cli_fail(error);
        json_append(&m->refused, json_any_text(path, strlen(path)));
    }
    if (!m->json && status == GRAFT_OK) {
        printf("added %s\n", address);
    }
}

static int add_many(const struct cli_store *store, const struct add_args *a)
{
    struct many m = {.json = a->json, .added = json_array(), .refused = json_array()};
    graft_error error = {0};
    size_t added = 0;
    graft_status status =
        graft_registry_add_many(store->registry, a->path, note_one, &m, &added, &error);
    if (status != GRAFT_OK || !a->json) {
        json_decref(m.added);
        json_decref(m.refused);
    } else if (cli_print_json(json_pack("{s:o, s:o}", "added", m.added, "refused", m.refused)) !=
               CLI_OK) {
        return CLI_FAILED;
    }
    if (status == GRAFT_NOT_FOUND) {
        return cli_fail_hint(&error,
                             "an adapter is a folder with adapter_config.json, or a GGUF file");
    }
    if (status != GRAFT_OK) {
        return cli_fail(&error);
    }
    return m.failed == 0 ? CLI_OK
                         : cli_fail_text("%d of %zu adapters were left out", m.failed,
                                         added + (size_t)m.failed);
}

/* A folder that is no adapter itself. */
static bool holds_adapters(const char *path)
{
    char *config = path_join(NULL, path, "adapter_config.json");
    bool yes = config != NULL && path_is_dir(path) && !path_exists(config);
    mem_free(NULL, config);
    return yes;
}

static int add(const struct cli_store *store, const struct add_args *a)
{
    graft_error error = {0};
    if (!well_formed(store, &a->card, &error)) {
        cli_fail_text("%s", error.status == GRAFT_INVALID_ARGUMENT
                                ? error.message
                                : "a name has neither '=' nor '/'");
        return CLI_USAGE;
    }
    if (!holds_adapters(a->path)) {
        return add_one(store, a);
    }
    return a->described ? cli_fail_text("%s is no adapter but may hold some: --name and the like "
                                        "are for one",
                                        a->path)
                        : add_many(store, a);
}

int verb_adapter_add(int argc, char **argv)
{
    struct add_args args = {.card = graft_card_default()};
    const struct cli_adapters how = {.strict_base = true};
    struct cli_common common = {.threads = 1};
    struct cli_session s = {0};
    argp_parse(&add_argp, argc, argv, 0, NULL, &args);
    common.model = args.model;
    int status = cli_make_home();
    if (status == CLI_OK) {
        status = args.model == NULL ? cli_open_runtime(&common, &s.runtime)
                                    : cli_open_model(&common, &s);
    }
    if (status == CLI_OK) {
        status = cli_open_registry(s.runtime, s.model, &how, &s.registry);
    }
    if (status == CLI_OK) {
        const struct cli_store store = {s.runtime, s.registry};
        status = add(&store, &args);
    }
    cli_close(&s);
    return status;
}
