/* auto.c: -a auto: the router picks the adapters of each prompt.
 *
 * A label is the name of an adapter in the home, or of one that ships, and never a path; "base" is no adapter. With a top-k above 1
 * the mix is of those that were picked, each with its share, and the share of "base" goes to nobody.
 */
#include "cli.h"

enum { KEY_ROUTER = 0xC00, KEY_TOP_K, KEY_TEMPERATURE };

static error_t parse_auto(int key, char *arg, struct argp_state *state)
{
    struct cli_auto *a = &((struct cli_adapters *)state->input)->automatic;
    switch (key) {
    case ARGP_KEY_INIT:
        a->top_k = 1;
        a->temperature = 1;
        return 0;
    case KEY_ROUTER:
        a->router = cli_parse_name(state, "--router", arg);
        a->options = true;
        return 0;
    case KEY_TOP_K:
        a->top_k = (int)cli_parse_int(state, "--router-top-k", arg, 1, CLI_ADAPTERS);
        a->options = true;
        return 0;
    case KEY_TEMPERATURE:
        a->temperature = cli_parse_number(state, "--router-temperature", arg, 1e-6, 1e6);
        a->options = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option auto_options[] = {
    {"router", KEY_ROUTER, "ROUTER", 0,
     "What -a auto goes by; default: `router` in the home, else the one that ships", 2},
    {"router-top-k", KEY_TOP_K, "K", 0, "-a auto is a mix of the K best adapters; default 1", 2},
    {"router-temperature", KEY_TEMPERATURE, "T", 0, "How even the mix of -a auto is; default 1", 2},
    {0},
};
const struct argp cli_auto_argp = {.options = auto_options, .parser = parse_auto};

/* ---- the router ---- */

/* Where it is that is meant; NULL: nowhere, and that was said. */
static char *router_path(const struct cli_adapters *how)
{
    if (how->automatic.router != NULL) {
        return mem_strdup(NULL, how->automatic.router);
    }
    char *home = cli_home(false);
    char *path = home != NULL ? path_join(NULL, home, "router") : NULL;
    mem_free(NULL, home);
    if (path != NULL && path_exists(path)) {
        return path;
    }
    mem_free(NULL, path);
    path = cli_shipped("router");
    if (path == NULL) {
        cli_fail_text(
            "-a auto needs a router: name one with --router; `graft router train` makes it");
    }
    return path;
}

static int open_router(struct cli_session *s, const struct cli_adapters *how)
{
    graft_error error = {0};
    char *path = router_path(how);
    if (path == NULL) {
        return CLI_FAILED;
    }
    graft_status status = graft_router_open(s->runtime, s->model, path, &s->router, &error);
    mem_free(NULL, path);
    return status == GRAFT_OK
               ? CLI_OK
               : cli_fail_hint(&error,
                               status == GRAFT_SHAPE
                                   ? "--router names another; `graft router train` makes one"
                                   : NULL);
}

/* ---- what it picks ---- */

struct choice {
    graft_route routes[CLI_ADAPTERS];
    size_t n_routes;
    graft_member members[CLI_ADAPTERS];
    size_t n;
};

/* The adapter of a label, among the members with its share. */
static int open_label(struct cli_session *s, const struct cli_adapters *how,
                      const graft_route *route, struct choice *c)
{
    if (strcmp(route->label, GRAFT_ROUTER_BASE) == 0) {
        return CLI_OK;
    }
    graft_member *member = &c->members[c->n++];
    member->weight = how->automatic.weight * (float)route->weight;
    return cli_open_label(s, how, route->label, &member->adapter);
}

static int choose(struct cli_session *s, const struct cli_adapters *how, const char *prompt,
                  size_t size, struct choice *c)
{
    graft_router_info info;
    graft_error error = {0};
    if (graft_router_describe(s->router, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    size_t top_k = (size_t)how->automatic.top_k;
    c->n_routes = top_k < info.n_labels ? top_k : info.n_labels;
    if (graft_router_route(s->router, prompt, size, c->n_routes, how->automatic.temperature,
                           c->routes, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    int status = CLI_OK;
    for (size_t i = 0; i < c->n_routes && status == CLI_OK; i++) {
        status = open_label(s, how, &c->routes[i], c);
    }
    return status;
}

/* In front of the answer, apart from it. */
static void say(const struct choice *c)
{
    fflush(stdout);
    fputs("graft: auto: ", stderr);
    for (size_t i = 0; i < c->n_routes; i++) {
        const graft_route *r = &c->routes[i];
        fprintf(stderr, "%s%s", i > 0 ? " + " : "", r->label);
        if (c->n_routes > 1) {
            fprintf(stderr, "=%.3g", r->weight);
        }
        fprintf(stderr, " (%.1f %%)", 100 * r->probability);
    }
    fputc('\n', stderr);
}

static json_t *choice_json(const struct choice *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_routes; i++) {
        json_append(&list,
                    json_pack("{s:s, s:f, s:f}", "adapter", c->routes[i].label, "probability",
                              c->routes[i].probability, "weight", c->routes[i].weight));
    }
    return list;
}

int cli_route(struct cli_session *s, const struct cli_adapters *how, const char *prompt,
              size_t size, graft_kv_policy policy, bool quiet, json_t **picked)
{
    struct choice c = {.n = 0};
    graft_error error = {0};
    graft_mix *mix = NULL;
    int status = s->router == NULL ? open_router(s, how) : CLI_OK;
    if (status == CLI_OK) {
        status = choose(s, how, prompt, size, &c);
    }
    if (status != CLI_OK) {
        return status;
    }
    graft_status set = c.n > 0 ? graft_mix_open(s->model, c.members, c.n, &mix, &error) : GRAFT_OK;
    if (set == GRAFT_OK) {
        set = graft_session_set_mix(s->session, mix, policy, &error);
    }
    graft_mix_close(&mix);
    if (set != GRAFT_OK) {
        return cli_fail(&error);
    }
    cli_drop_unused(s);
    if (!quiet) {
        say(&c);
    }
    if (picked != NULL) {
        *picked = choice_json(&c);
    }
    return CLI_OK;
}
