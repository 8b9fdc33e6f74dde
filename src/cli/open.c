/* open.c: from what was typed to an open runtime, model and session. */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_log(void *user, graft_log_level level, const char *line)
{
    (void)user;
    fprintf(stderr, "graft: %s%s\n", level == GRAFT_LOG_WARN ? "warning: " : "", line);
}

int cli_open_runtime(const struct cli_common *common, graft_runtime **out)
{
    graft_runtime_options options = graft_runtime_options_default();
    options.threads = common->threads;
    options.affinity = common->affinity;
    options.log = print_log;
    options.log_level = common->verbose ? GRAFT_LOG_DEBUG : GRAFT_LOG_WARN;
    graft_error error = {0};
    if (graft_runtime_open(&options, out, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    return CLI_OK;
}

/* ---- where shipped models and adapters are: beside the program in the build tree, or where install put them ---- */

static char *shipped_model(const char *name)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) {
        return NULL;
    }
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    static const char *const places[] = {"../models", "../share/graft/models", "../../models"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct buf path;
        buf_init(&path, NULL, PATH_MAX);
        buf_printf(&path, "%s/%s/%s", exe, places[i], name);
        char *text = buf_take(&path, NULL);
        char *real = text != NULL && path_is_dir(text) ? realpath(text, NULL) : NULL;
        mem_free(NULL, text);
        if (real != NULL) {
            char *copy = mem_strdup(NULL, real);
            free(real); /* from realpath */
            return copy;
        }
    }
    return NULL;
}

char *cli_model_path(const char *name)
{
    if (name != NULL && (name[0] == '\0' || path_exists(name) || strchr(name, '/') != NULL)) {
        return mem_strdup(NULL, name);
    }
    char *shipped = shipped_model(name != NULL ? name : "tiny");
    if (shipped != NULL) {
        return shipped;
    }
    if (name == NULL) {
        cli_fail_text("the model that ships (models/tiny) is not installed; name one with -m");
        return NULL;
    }
    return mem_strdup(NULL, name);
}

char *cli_shipped_adapter(const char *name)
{
    char path[CLI_WORD];
    int n = snprintf(path, sizeof path, "adapters/%s", name);
    bool plain = name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
    return plain && n < CLI_WORD ? shipped_model(path) : NULL;
}

char *cli_shipped(const char *folder)
{
    return shipped_model(folder);
}

int cli_open_model(const struct cli_common *common, struct cli_session *out)
{
    *out = (struct cli_session){0};
    int status = cli_open_runtime(common, &out->runtime);
    if (status != CLI_OK) {
        return status;
    }
    char *path = cli_model_path(common->model);
    const struct cli_adapters *adapters = &common->adapters;
    graft_fuse_member members[CLI_ADAPTERS] = {0};
    graft_model_options options = graft_model_options_default();
    options.load = common->copy ? GRAFT_LOAD_COPY : GRAFT_LOAD_MAP;
    options.pack = common->pack;
    options.fuse = members;
    out->fused = adapters->fuse ? adapters : NULL;
    options.n_fuse = adapters->fuse ? (size_t)adapters->n : 0;
    graft_error error = {0};
    if (path == NULL) {
        status = CLI_FAILED;
    } else if (adapters->fuse) {
        status = cli_fuse_members(out->runtime, adapters, members);
    }
    if (status == CLI_OK &&
        graft_model_open(out->runtime, path, &options, &out->model, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    if (status == CLI_OK && !adapters->fuse) {
        status = cli_apply_adapters(out, adapters);
    } else if (status == CLI_OK && common->verbose) {
        fprintf(stderr, "graft: %.1f MiB of fused weights\n",
                (double)graft_model_fused_bytes(out->model) / (1 << 20));
    }
    cli_fuse_members_free(members);
    for (size_t i = 0; status == CLI_OK && common->verbose && i < out->n_adapters; i++) {
        fprintf(stderr, "graft: adapter %s\n", out->adapters[i].name);
    }
    mem_free(NULL, path);
    if (status != CLI_OK) {
        cli_close(out);
    }
    return status;
}

static void overlay(float *value, double typed)
{
    if (!isnan(typed)) {
        *value = (float)typed;
    }
}

/* A new seed each time, unless one was typed: a sampled answer is meant to differ. */
static uint64_t fresh_seed(void)
{
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        seed = (uint32_t)getpid();
    }
    return seed;
}

void cli_overlay_sampling(graft_sampling *p, const struct cli_sampling *sampling)
{
    overlay(&p->temperature, sampling->temperature);
    overlay(&p->top_p, sampling->top_p);
    overlay(&p->min_p, sampling->min_p);
    overlay(&p->repetition_penalty, sampling->repeat);
    overlay(&p->presence_penalty, sampling->presence);
    overlay(&p->frequency_penalty, sampling->frequency);
    p->top_k = sampling->top_k >= 0 ? (int)sampling->top_k : p->top_k;
    p->penalty_window = sampling->window >= 0 ? (int)sampling->window : p->penalty_window;
    p->seed = sampling->seed_given ? sampling->seed : p->seed;
}

graft_sampling cli_sampling_of(const graft_model *model, const struct cli_sampling *sampling)
{
    graft_sampling p = graft_sampling_for(model);
    p.seed = fresh_seed();
    cli_overlay_sampling(&p, sampling);
    return p;
}

int cli_open_session(struct cli_session *s, struct cli_sampling *sampling)
{
    sampling->session.sampling = cli_sampling_of(s->model, sampling);
    sampling->seed = sampling->session.sampling.seed;
    graft_error error = {0};
    if (graft_session_open(s->model, &sampling->session, &s->session, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    return cli_equip_session(s, sampling);
}

int cli_equip_session(struct cli_session *s, const struct cli_sampling *sampling)
{
    int status = cli_set_draft(s, &sampling->draft);
    return status == CLI_OK ? cli_set_constraint(s, &sampling->constraint, sampling->max_tokens)
                            : status;
}

void cli_close(struct cli_session *s)
{
    graft_session_close(&s->session);
    cli_close_adapters(s);
    graft_router_close(&s->router);
    graft_registry_close(&s->registry);
    graft_model_close(&s->draft);
    graft_model_close(&s->model);
    graft_runtime_close(&s->runtime);
}

/* ---- GRAFT_HOME ---- */

/* False: it is not there and cannot be made. */
static bool make_dirs(char *path)
{
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            bool made = mkdir(path, 0700) == 0 || path_is_dir(path);
            *p = '/';
            if (!made) {
                return false;
            }
        }
    }
    return mkdir(path, 0700) == 0 || path_is_dir(path);
}

char *cli_home(bool make)
{
    const char *home = getenv("GRAFT_HOME");
    const char *data = getenv("XDG_DATA_HOME");
    const char *user = getenv("HOME");
    char *path = NULL;
    if (home != NULL && home[0] != '\0') {
        path = mem_strdup(NULL, home);
    } else if (data != NULL && data[0] == '/') {
        path = path_join(NULL, data, "graft");
    } else if (user != NULL && user[0] == '/') {
        path = path_join(NULL, user, ".local/share/graft");
    }
    if (path != NULL && make && !make_dirs(path)) {
        mem_free(NULL, path);
        path = NULL;
    }
    return path;
}

static int no_home(void)
{
    return cli_fail_text("there is no home for adapters: set GRAFT_HOME to a folder that can be "
                         "written");
}

int cli_make_home(void)
{
    char *home = cli_home(true);
    int status = home != NULL ? CLI_OK : no_home();
    mem_free(NULL, home);
    return status;
}

int cli_open_registry(graft_runtime *runtime, graft_model *model, const struct cli_adapters *how,
                      graft_registry **out)
{
    graft_registry_options options = graft_registry_options_default();
    graft_error error = {0};
    char *home = cli_home(false);
    if (home == NULL) {
        return no_home();
    }
    options.home = home;
    if (how != NULL) {
        options.type = how->type;
        options.strict_base = how->strict_base;
    }
    graft_status status = graft_registry_open(runtime, model, &options, out, &error);
    mem_free(NULL, home);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}
