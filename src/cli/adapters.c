/* adapters.c: adapters on the command line: -a and its aliases, and what chat's commands do.
 *
 * ADAPTER is a path or a name, with =WEIGHT behind it where it is not 1. A path is opened once in the life of the program.
 * A name is asked for each time, so that what another process has published is seen; versions that are no longer
 * applied are let go. A name that nobody registered may be that of an adapter that ships.
 */
#include "cli.h"

#include <stdlib.h>
#include <time.h>

enum {
    KEY_PATH = 0x300,
    KEY_LORA,
    KEY_LORA_SCALED,
    KEY_TYPE,
    KEY_SCALE,
    KEY_FUSE,
    KEY_STRICT,
    KEY_COMPOSE
};

/* ---- what was typed ---- */

static struct cli_use *new_use(struct cli_adapters *a, struct argp_state *state, const char *option,
                               const char *text, char mark)
{
    if (text[0] == '\0' || text[0] == mark) {
        argp_error(state, "%s: the name is empty", option);
    }
    if (a->n == CLI_ADAPTERS) {
        argp_error(state, "%s: at most %d adapters", option, CLI_ADAPTERS);
    }
    return &a->uses[a->n++];
}

/* auto[=WEIGHT]: no adapter of that name, but the one that the router picks. */
static bool take_auto(struct cli_adapters *a, struct argp_state *state, const char *text)
{
    static const char name[] = "auto";
    const size_t size = sizeof name - 1;
    if (strncmp(text, name, size) != 0 || (text[size] != '\0' && text[size] != '=')) {
        return false;
    }
    a->automatic.on = true;
    a->automatic.weight = 1;
    if (text[size] == '=' && !cli_read_weight(text + size + 1, &a->automatic.weight)) {
        argp_error(state, "--adapter: auto: \"%s\" is no weight: a decimal number is",
                   text + size + 1);
    }
    return true;
}

static void add_use(struct cli_adapters *a, struct argp_state *state, const char *text)
{
    char why[CLI_WHY];
    if (take_auto(a, state, text)) {
        return;
    }
    if (!cli_read_use(text, new_use(a, state, "--adapter", text, '='), why)) {
        argp_error(state, "--adapter: %s", why);
    }
}

static void add_file(struct cli_adapters *a, struct argp_state *state, const char *text)
{
    char why[CLI_WHY];
    struct cli_use *use = new_use(a, state, "--lora", text, '\0');
    *use = (struct cli_use){.name = text, .size = strlen(text), .weight = 1};
    if (!cli_check_name(use->name, use->size, why)) {
        argp_error(state, "--lora: %s", why);
    }
}

/* FILE:WEIGHT; the weight is never left out. */
static void add_scaled(struct cli_adapters *a, struct argp_state *state, const char *text)
{
    char why[CLI_WHY];
    struct cli_use *use = new_use(a, state, "--lora-scaled", text, ':');
    const char *at = strrchr(text, ':');
    if (at == NULL) {
        argp_error(state, "--lora-scaled: %s has no weight: give FILE:WEIGHT", text);
        return;
    }
    *use = (struct cli_use){.name = text, .size = (size_t)(at - text)};
    if (!cli_read_weight(at + 1, &use->weight)) {
        argp_error(state, "--lora-scaled: %.*s: \"%s\" is no weight: a decimal number is",
                   (int)use->size, text, at + 1);
    }
    if (!cli_check_name(use->name, use->size, why)) {
        argp_error(state, "--lora-scaled: %s", why);
    }
}

const char *cli_parse_held_type(struct argp_state *state, const char *arg)
{
    static const char *const types[] = {"bf16", "int8", "q8_0", "q4", "q4_0", "f16", "f32"};
    size_t i = 0;
    while (i < ARRAY_LEN(types) && strcmp(types[i], arg) != 0) {
        i++;
    }
    if (i == ARRAY_LEN(types)) {
        argp_error(state, "--adapter-type: \"%s\" is none of bf16, int8, q4, f16, f32", arg);
    }
    return arg;
}

void cli_parse_composition(struct cli_adapters *a, struct argp_state *state, const char *arg)
{
    char why[CLI_WHY];
    if (!cli_read_composition(arg, &a->composition, &a->t, why)) {
        argp_error(state, "--compose: %s", why);
    }
    a->composed = true;
}

void cli_check_composition(const struct cli_adapters *a, struct argp_state *state)
{
    if (a->composed && a->fuse) {
        argp_error(state, "--fuse: weights go into the model as they are typed, without --compose");
    }
    if (a->composed && a->n == 0) {
        argp_error(state, "--compose: no adapters to compose; give -a");
    }
    if (a->composed && a->composition == GRAFT_COMPOSE_INTERPOLATE && a->n != 2) {
        argp_error(state, "--compose: interpolate is between two adapters, not %d", a->n);
    }
}

static void check_auto(const struct cli_adapters *a, struct argp_state *state)
{
    if (a->automatic.on && !a->routable) {
        argp_error(state, "-a auto: only run and chat have prompts to route");
    }
    if (a->automatic.on && (a->n > 0 || a->fuse || a->composed)) {
        argp_error(state,
                   "-a auto chooses the adapters: no other -a, --fuse or --compose beside it");
    }
    if (a->automatic.options && !a->automatic.on && !a->more_follow) {
        argp_error(state, "--router is for -a auto");
    }
}

static void check_together(const struct cli_adapters *a, struct argp_state *state)
{
    cli_check_composition(a, state);
    if (a->fuse && a->n == 0) {
        argp_error(state, "--fuse: no adapter to fuse; give -a");
    }
    if (a->fuse && a->type != NULL) {
        argp_error(state, "--fuse: the adapters' factors are not kept, so they have no type");
    }
    if (a->n == 0 && !a->automatic.on && !a->more_follow &&
        (a->type != NULL || a->scale != 0 || a->strict_base)) {
        argp_error(state, "%s: no adapter that it is for; give -a",
                   a->type != NULL  ? "--adapter-type"
                   : a->strict_base ? "--strict-base"
                                    : "--adapter-scale");
    }
}

static error_t parse_members(int key, char *arg, struct argp_state *state)
{
    struct cli_adapters *a = state->input;
    switch (key) {
    case 'a':
    case KEY_PATH:
        add_use(a, state, arg);
        return 0;
    case KEY_LORA:
        add_file(a, state, arg);
        return 0;
    case KEY_LORA_SCALED:
        add_scaled(a, state, arg);
        return 0;
    case KEY_TYPE:
        a->type = cli_parse_held_type(state, arg);
        return 0;
    case KEY_SCALE:
        a->scale = cli_parse_scale(state, arg);
        return 0;
    case KEY_STRICT:
        a->strict_base = true;
        return 0;
    case ARGP_KEY_END:
        check_auto(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_adapters(int key, char *arg, struct argp_state *state)
{
    struct cli_adapters *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a;
        return 0;
    case KEY_FUSE:
        a->fuse = true;
        return 0;
    case KEY_COMPOSE:
        cli_parse_composition(a, state, arg);
        return 0;
    case ARGP_KEY_END:
        check_together(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option member_options[] = {
    {NULL, 0, NULL, 0, "Adapters:", 2},
    {"adapter", 'a', "ADAPTER[=WEIGHT]", 0,
     "Graft this adapter on: a PEFT or MLX directory, a GGUF file, or NAME[@VERSION] as "
     "registered, else of one that ships; repeatable: a mix",
     2},
    {"adapter-path", KEY_PATH, "ADAPTER", 0, "The same as --adapter", 2},
    {"lora", KEY_LORA, "FILE", 0, "As --adapter, without a weight", 2},
    {"lora-scaled", KEY_LORA_SCALED, "FILE:WEIGHT", 0, "As --adapter, with a weight", 2},
    {"adapter-type", KEY_TYPE, "TYPE", 0,
     "Hold factors as bf16, int8 or q4; default: as they are stored", 2},
    {"adapter-scale", KEY_SCALE, "X", 0, "The multiplier that an MLX adapter does not give", 2},
    {"strict-base", KEY_STRICT, NULL, 0,
     "Refuse adapters that were made for another base, in place of a warning", 2},
    {0},
};
const struct argp cli_members_argp = {.options = member_options, .parser = parse_members};

static const struct argp_option adapter_options[] = {
    {"compose", KEY_COMPOSE, "WAY", 0,
     "How several become one: weighted (default), average, sequential, most-recent, or "
     "interpolate[=T] between two",
     2},
    {"fuse", KEY_FUSE, NULL, 0, "Bake the adapters into private copies of the weights", 2},
    {0},
};
static const struct argp_child adapter_children[] = {{&cli_members_argp, 0, NULL, 0}, {0}};
const struct argp cli_adapters_argp = {
    .options = adapter_options, .parser = parse_adapters, .children = adapter_children};

/* ---- opening ---- */

static struct cli_adapter *find_open(struct cli_session *s, const char *name, size_t size)
{
    for (size_t i = 0; i < s->n_adapters; i++) {
        if (strlen(s->adapters[i].name) == size && memcmp(s->adapters[i].name, name, size) == 0) {
            return &s->adapters[i];
        }
    }
    return NULL;
}

/* Room for one more, and its name. */
static struct cli_adapter *add_adapter(struct cli_session *s, const char *name, size_t size)
{
    struct cli_adapter *grown =
        mem_resize(NULL, s->adapters, (s->n_adapters + 1) * sizeof *s->adapters);
    if (grown == NULL) {
        return NULL;
    }
    s->adapters = grown;
    s->adapters[s->n_adapters] = (struct cli_adapter){.name = mem_strndup(NULL, name, size)};
    return s->adapters[s->n_adapters].name != NULL ? &s->adapters[s->n_adapters] : NULL;
}

/* Known as `name` from then on. */
static int open_path(struct cli_session *s, const struct cli_adapters *how, const char *name,
                     size_t size, const char *path, graft_adapter **out)
{
    struct cli_adapter *a = find_open(s, name, size);
    if (a == NULL) {
        a = add_adapter(s, name, size);
        if (a == NULL) {
            return cli_fail_text("out of memory");
        }
        graft_adapter_options options = graft_adapter_options_default();
        options.type = how->type;
        options.scale = how->scale;
        options.strict_base = how->strict_base;
        graft_error error = {0};
        if (graft_adapter_open(s->model, path, &options, &a->handle, &error) != GRAFT_OK) {
            mem_free(NULL, a->name);
            return cli_fail(&error);
        }
        s->n_adapters++;
    }
    *out = a->handle;
    return CLI_OK;
}

static int acquire_failed(const graft_error *error)
{
    int status = cli_fail_hint(
        error, error->status == GRAFT_NOT_FOUND
                   ? "`graft adapter list` shows what there is; a path has a '/'"
               : error->status == GRAFT_STATE ? "`graft adapter activate NAME@VERSION` chooses one"
                                              : NULL);
    return error->status == GRAFT_INVALID_ARGUMENT ? CLI_USAGE : status;
}

static bool same_content(const graft_adapter *a, const graft_adapter *b)
{
    graft_adapter_info of_a, of_b;
    return graft_adapter_describe(a, &of_a, NULL) == GRAFT_OK &&
           graft_adapter_describe(b, &of_b, NULL) == GRAFT_OK &&
           strcmp(of_a.digest, of_b.digest) == 0;
}

/* Takes over the handle; *out is the one that stands for this version. */
static int keep_version(struct cli_session *s, const graft_adapter_id *id, graft_adapter *handle,
                        graft_adapter **out)
{
    char name[160];
    size_t size = (size_t)snprintf(name, sizeof name, "%s@%s", id->name, id->version);
    struct cli_adapter *a = find_open(s, name, size);
    if (a != NULL && a->registered && same_content(a->handle, handle)) {
        graft_adapter_close(&handle);
        *out = a->handle;
        return CLI_OK;
    }
    a = add_adapter(s, name, size);
    if (a == NULL) {
        graft_adapter_close(&handle);
        return cli_fail_text("out of memory");
    }
    a->registered = true;
    *out = a->handle = handle;
    s->n_adapters++;
    return CLI_OK;
}

static int refuse_scale(const char *name)
{
    return cli_fail_text("--adapter-scale is for adapters at a path: %s is a name, with the scale "
                         "that it has",
                         name);
}

/* Where the adapter that ships lies which this name means, as nothing is registered under it; NULL: there is none. */
static char *shipped_path(graft_registry *registry, const char *name)
{
    graft_adapter_id id;
    return graft_registry_resolve(registry, name, &id, NULL) == GRAFT_NOT_FOUND
               ? cli_shipped_adapter(name)
               : NULL;
}

static int open_name(struct cli_session *s, const struct cli_adapters *how, const char *name,
                     graft_adapter **out)
{
    graft_adapter *handle = NULL;
    graft_adapter_id id;
    graft_error error = {0};
    int status = CLI_OK;
    if (how->scale != 0) {
        return refuse_scale(name);
    }
    if (s->registry == NULL) {
        status = cli_open_registry(s->runtime, s->model, how, &s->registry);
    }
    char *shipped = status == CLI_OK ? shipped_path(s->registry, name) : NULL;
    if (shipped != NULL) {
        status = open_path(s, how, name, strlen(name), shipped, out);
        mem_free(NULL, shipped);
        return status;
    }
    if (status == CLI_OK &&
        graft_registry_acquire(s->registry, name, &handle, NULL, &id, &error) != GRAFT_OK) {
        status = acquire_failed(&error);
    }
    return status == CLI_OK ? keep_version(s, &id, handle, out) : status;
}

int cli_open_label(struct cli_session *s, const struct cli_adapters *how, const char *name,
                   graft_adapter **out)
{
    graft_adapter_id id;
    int status =
        s->registry == NULL ? cli_open_registry(s->runtime, s->model, how, &s->registry) : CLI_OK;
    if (status != CLI_OK) {
        return status;
    }
    char *shipped = cli_shipped_adapter(name);
    bool known =
        shipped != NULL || graft_registry_resolve(s->registry, name, &id, NULL) != GRAFT_NOT_FOUND;
    mem_free(NULL, shipped);
    return known
               ? open_name(s, how, name, out)
               : cli_fail_text("the router picked \"%s\", and no adapter is registered so; `graft "
                               "adapter list` shows what there is",
                               name);
}

static bool is_path(const char *name)
{
    return strchr(name, '/') != NULL || path_exists(name);
}

/* Where the adapter is that is asked for by what it is for: a name, or the path of one that ships. */
static int find_query(graft_runtime *runtime, graft_registry *registry, const char *query,
                      char **address)
{
    graft_error error = {0};
    char *found = NULL, *shipped = cli_shipped("adapters");
    graft_status status = graft_registry_find(registry, query, shipped, &found, &error);
    mem_free(NULL, shipped);
    if (status != GRAFT_OK) {
        return cli_fail_hint(
            &error, status == GRAFT_NOT_FOUND ? "`graft adapter list` shows what there is" : NULL);
    }
    *address = mem_strdup(NULL, found);
    graft_free(runtime, found);
    return *address != NULL ? CLI_OK : cli_fail_text("out of memory");
}

static int open_query(struct cli_session *s, const struct cli_adapters *how, const char *query,
                      graft_adapter **out)
{
    char *address = NULL;
    int status =
        s->registry == NULL ? cli_open_registry(s->runtime, s->model, how, &s->registry) : CLI_OK;
    if (status == CLI_OK) {
        status = find_query(s->runtime, s->registry, query, &address);
    }
    if (status == CLI_OK && strchr(address, '/') != NULL) {
        const char *name = path_base(address);
        status = how->scale != 0 ? refuse_scale(name)
                                 : open_path(s, how, name, strlen(name), address, out);
    } else if (status == CLI_OK) {
        status = open_name(s, how, address, out);
    }
    mem_free(NULL, address);
    return status;
}

int cli_open_adapter(struct cli_session *s, const struct cli_adapters *how, const char *name,
                     size_t size, graft_adapter **out)
{
    char *text = mem_strndup(NULL, name, size);
    if (text == NULL) {
        return cli_fail_text("out of memory");
    }
    int status = is_path(text)              ? open_path(s, how, name, size, text, out)
                 : cli_is_query(text, size) ? open_query(s, how, text, out)
                                            : open_name(s, how, text, out);
    mem_free(NULL, text);
    return status;
}

static int locate_name(graft_runtime *runtime, const char *name, char **path, graft_adapter_id *id)
{
    graft_registry *registry = NULL;
    graft_error error = {0};
    char *found = NULL;
    char *address = NULL;
    int status = cli_open_registry(runtime, NULL, NULL, &registry);
    if (status == CLI_OK && cli_is_query(name, strlen(name))) {
        status = find_query(runtime, registry, name, &address);
        name = address;
    }
    if (status == CLI_OK) {
        *path = strchr(name, '/') != NULL ? mem_strdup(NULL, name) : shipped_path(registry, name);
    }
    if (*path != NULL) {
        graft_registry_close(&registry);
        mem_free(NULL, address);
        return CLI_OK;
    }
    if (status == CLI_OK && graft_registry_locate(registry, name, &found, id, &error) != GRAFT_OK) {
        status = acquire_failed(&error);
    }
    if (status == CLI_OK) {
        *path = mem_strdup(NULL, found);
        status = *path != NULL ? CLI_OK : cli_fail_text("out of memory");
    }
    graft_free(runtime, found);
    graft_registry_close(&registry);
    mem_free(NULL, address);
    return status;
}

int cli_locate_adapter(graft_runtime *runtime, const char *name, double scale, char **path,
                       graft_adapter_id *id)
{
    *id = (graft_adapter_id){.name = ""};
    *path = NULL;
    if (is_path(name)) {
        *path = mem_strdup(NULL, name);
        return *path != NULL ? CLI_OK : cli_fail_text("out of memory");
    }
    return scale != 0 ? refuse_scale(name) : locate_name(runtime, name, path, id);
}

/* The mix of what is open, by --compose. */
static int apply_members(struct cli_session *s, const struct cli_adapters *how,
                         const graft_member members[CLI_ADAPTERS])
{
    graft_error error = {0};
    graft_mix *mix = NULL;
    graft_composition way = how->composed ? how->composition : GRAFT_COMPOSE_WEIGHTED;
    graft_status status =
        graft_mix_compose(s->model, members, (size_t)how->n, way, how->t, &mix, &error);
    if (status == GRAFT_OK) {
        status = graft_model_set_mix(s->model, mix, &error);
    }
    graft_mix_close(&mix);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

int cli_apply_adapters(struct cli_session *s, const struct cli_adapters *how)
{
    graft_member members[CLI_ADAPTERS];
    for (int i = 0; i < how->n; i++) {
        const struct cli_use *use = &how->uses[i];
        members[i].weight = use->weight;
        int status = cli_open_adapter(s, how, use->name, use->size, &members[i].adapter);
        for (int j = 0; status == CLI_OK && j < i; j++) {
            if (members[j].adapter == members[i].adapter ||
                same_content(members[j].adapter, members[i].adapter)) {
                status = cli_fail_text("%.*s is given twice: add the weights", (int)use->size,
                                       use->name);
            }
        }
        if (status != CLI_OK) {
            return status;
        }
    }
    return how->n > 0 ? apply_members(s, how, members) : CLI_OK;
}

int cli_fuse_members(graft_runtime *runtime, const struct cli_adapters *how,
                     graft_fuse_member members[CLI_ADAPTERS])
{
    int status = CLI_OK;
    memset(members, 0, CLI_ADAPTERS * sizeof *members);
    for (int i = 0; i < how->n && status == CLI_OK; i++) {
        const struct cli_use *use = &how->uses[i];
        graft_adapter_id id;
        char *path = NULL, *name = mem_strndup(NULL, use->name, use->size);
        status = name != NULL ? cli_locate_adapter(runtime, name, how->scale, &path, &id)
                              : cli_fail_text("out of memory");
        members[i] = (graft_fuse_member){.path = path,
                                         .weight = use->weight,
                                         .scale = how->scale,
                                         .strict_base = how->strict_base};
        mem_free(NULL, name);
    }
    if (status != CLI_OK) {
        cli_fuse_members_free(members);
    }
    return status;
}

void cli_fuse_members_free(graft_fuse_member members[CLI_ADAPTERS])
{
    for (int i = 0; i < CLI_ADAPTERS; i++) {
        mem_free(NULL, (char *)(uintptr_t)members[i].path);
        members[i].path = NULL;
    }
}

static bool is_applied(const struct cli_session *s, const graft_adapter *handle)
{
    graft_mix *mix = graft_session_mix(s->session);
    size_t i = 0, n = graft_mix_size(mix);
    while (i < n && graft_mix_member(mix, i).adapter != handle) {
        i++;
    }
    graft_mix_close(&mix);
    return i < n;
}

void cli_drop_unused(struct cli_session *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_adapters; i++) {
        struct cli_adapter *a = &s->adapters[i];
        if (a->registered && !is_applied(s, a->handle)) {
            graft_adapter_close(&a->handle);
            mem_free(NULL, a->name);
        } else {
            s->adapters[kept++] = *a;
        }
    }
    s->n_adapters = kept;
}

void cli_close_adapters(struct cli_session *s)
{
    for (size_t i = 0; i < s->n_adapters; i++) {
        graft_adapter_close(&s->adapters[i].handle);
        mem_free(NULL, s->adapters[i].name);
    }
    mem_free(NULL, s->adapters);
    s->adapters = NULL;
    s->n_adapters = 0;
}

/* ---- swapping ---- */

static const char *name_of(const struct cli_session *s, const graft_adapter *adapter)
{
    for (size_t i = 0; i < s->n_adapters; i++) {
        if (s->adapters[i].handle == adapter) {
            return s->adapters[i].name;
        }
    }
    return "?";
}

graft_adapter *cli_find_applied(const struct cli_session *s, const char *name, size_t size)
{
    for (size_t i = 0; i < s->n_adapters; i++) {
        const struct cli_adapter *a = &s->adapters[i];
        bool same = strncmp(a->name, name, size) == 0 &&
                    (a->name[size] == '\0' || (a->registered && a->name[size] == '@'));
        if (same && is_applied(s, a->handle)) {
            return a->handle;
        }
    }
    return NULL;
}

void cli_print_mix(const struct cli_session *s)
{
    graft_mix *mix = graft_session_mix(s->session);
    size_t n = graft_mix_size(mix);
    const struct cli_adapters *fused = s->fused;
    if (n == 0 || fused != NULL) {
        fputs("the base model", stdout);
    }
    for (int i = 0; fused != NULL && i < fused->n; i++) {
        const struct cli_use *use = &fused->uses[i];
        printf("%s%.*s=%g%s", i > 0 ? " + " : " with ", (int)use->size, use->name,
               (double)use->weight, i + 1 == fused->n ? " fused into it" : "");
    }
    for (size_t i = 0; i < n; i++) {
        graft_member member = graft_mix_member(mix, i);
        printf("%s%s=%g", i > 0 || fused != NULL ? " + " : "", name_of(s, member.adapter),
               (double)member.weight);
    }
    graft_mix_close(&mix);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int swap(struct cli_session *s, const graft_member *members, size_t n, graft_composition way,
                double t, graft_kv_policy policy)
{
    graft_error error = {0};
    graft_mix *mix = NULL;
    double begun = seconds_now();
    graft_status status =
        n > 0 ? graft_mix_compose(s->model, members, n, way, t, &mix, &error) : GRAFT_OK;
    if (status == GRAFT_OK) {
        status = graft_session_set_mix(s->session, mix, policy, &error);
    }
    double took = seconds_now() - begun;
    graft_mix_close(&mix);
    if (status != GRAFT_OK) {
        return cli_fail(&error);
    }
    cli_drop_unused(s);
    putchar('(');
    cli_print_mix(s);
    printf(", swapped in %.0f µs)\n", took * 1e6);
    fflush(stdout); /* whoever drives the chat through a pipe waits for it */
    return CLI_OK;
}

int cli_swap(struct cli_session *s, const graft_member *members, size_t n, graft_kv_policy policy)
{
    return swap(s, members, n, GRAFT_COMPOSE_WEIGHTED, 0, policy);
}

static int add_member(struct cli_session *s, const struct cli_adapters *how,
                      const struct cli_use *use, graft_member *members, size_t *n)
{
    if (*n == CLI_ADAPTERS) {
        return cli_fail_text("at most %d adapters", CLI_ADAPTERS);
    }
    members[*n].weight = use->weight;
    return cli_open_adapter(s, how, use->name, use->size, &members[(*n)++].adapter);
}

/* The members that words ADAPTER[=WEIGHT] name, opened. */
static int read_members(struct cli_session *s, const struct cli_adapters *how, const char *text,
                        graft_member members[CLI_ADAPTERS], size_t *n)
{
    static const char between[] = " \t,";
    struct cli_use use;
    char word[CLI_WORD], why[CLI_WHY];
    int status = CLI_OK;
    if (cli_read_line(text, &use, word)) {
        status = add_member(s, how, &use, members, n);
        text = "";
    }
    for (text += strspn(text, between); *text != '\0' && status == CLI_OK;
         text += strspn(text, between)) {
        status = cli_read_word(&text, word);
        if (status == CLI_OK) {
            status = cli_read_use(word, &use, why) ? add_member(s, how, &use, members, n)
                                                   : cli_fail_text("%s", why);
        }
    }
    if (status == CLI_OK && *n == 0) {
        status = cli_fail_text("no adapter is named; /base takes all of them off");
    }
    return status;
}

int cli_swap_text(struct cli_session *s, const struct cli_adapters *how, const char *text,
                  graft_kv_policy policy)
{
    graft_member members[CLI_ADAPTERS];
    size_t n = 0;
    int status = read_members(s, how, text, members, &n);
    return status == CLI_OK ? cli_swap(s, members, n, policy) : status;
}

int cli_compose_text(struct cli_session *s, const struct cli_adapters *how, const char *text,
                     graft_kv_policy policy)
{
    graft_member members[CLI_ADAPTERS];
    graft_composition way;
    double t;
    char word[CLI_WORD], why[CLI_WHY];
    size_t n = 0;
    int status = cli_read_word(&text, word);
    if (status == CLI_OK && !cli_read_composition(word, &way, &t, why)) {
        status = cli_fail_text("/compose: %s", why);
    }
    if (status == CLI_OK) {
        status = read_members(s, how, text, members, &n);
    }
    return status == CLI_OK ? swap(s, members, n, way, t, policy) : status;
}
