/* router.c: the public functions on routers: check, read the files of prompts, call inward.
 */
#include "generate/router/router.h"
#include "api/api_internal.h"

struct graft_router {
    graft_runtime *runtime;
    struct router *router;
    int64_t held_out, held_out_right;
};

void graft_router_options_init(graft_router_options *options, size_t struct_size)
{
    const struct router_options o = router_defaults();
    graft_router_options defaults = {
        .l2 = o.l2, .held_out_share = o.held_out_share, .seed = o.seed};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* Takes the inner router over, also on failure. */
static graft_status wrap(graft_runtime *runtime, struct router *router, graft_router **out,
                         graft_error *error)
{
    struct graft_router *r = mem_calloc(&runtime->mem, 1, sizeof *r);
    if (r == NULL) {
        router_close(&router);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a router");
    }
    const struct router_table *t = router_table_of(router);
    r->runtime = runtime;
    r->router = router;
    for (int i = 0; i < t->n_labels * t->n_labels; i++) {
        r->held_out += t->confusion[i];
        r->held_out_right += i / t->n_labels == i % t->n_labels ? t->confusion[i] : 0;
    }
    *out = r;
    return GRAFT_OK;
}

static graft_status read_prompts(struct router_prompts *prompts, const char *const *paths,
                                 size_t n_paths, graft_error *error)
{
    graft_status status =
        n_paths > 0 ? GRAFT_OK
                    : error_set(error, GRAFT_INVALID_ARGUMENT, "there is no file of prompts");
    for (size_t i = 0; i < n_paths && status == GRAFT_OK; i++) {
        REQUIRE(paths[i]);
        status = router_prompts_read(prompts, paths[i], error);
    }
    return status;
}

graft_status graft_router_train(graft_model *model, const char *const *paths, size_t n_paths,
                                const graft_router_options *options, graft_router **out,
                                graft_error *error)
{
    REQUIRE(model);
    REQUIRE(paths);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_router_options o = graft_router_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    const struct router_options inner = {.l2 = o.l2,
                                         .held_out_share = o.held_out_share,
                                         .seed = o.seed,
                                         .progress = o.progress,
                                         .progress_user = o.progress_user};
    struct router_prompts prompts;
    struct router *router = NULL;
    router_prompts_init(&prompts, &model->runtime->mem);
    status = read_prompts(&prompts, paths, n_paths, error);
    if (status == GRAFT_OK) {
        status = router_train(model->model, &prompts, &inner, &router, error);
    }
    router_prompts_free(&prompts);
    return status == GRAFT_OK ? wrap(model->runtime, router, out, error) : status;
}

graft_status graft_router_open(graft_runtime *runtime, graft_model *model, const char *path,
                               graft_router **out, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    struct router *router = NULL;
    graft_status status =
        router_open(&runtime->mem, model != NULL ? model->model : NULL, path, &router, error);
    return status == GRAFT_OK ? wrap(runtime, router, out, error) : status;
}

graft_status graft_router_write(const graft_router *router, const char *path, graft_error *error)
{
    REQUIRE(router);
    REQUIRE(path);
    CHECK_RUNTIME(router->runtime);
    return router_table_write(router_table_of(router->router), path, error);
}

void graft_router_close(graft_router **router)
{
    if (router != NULL && *router != NULL) {
        struct graft_router *r = *router;
        *router = NULL;
        router_close(&r->router);
        mem_free(&r->runtime->mem, r);
    }
}

graft_status graft_router_describe(const graft_router *router, graft_router_info *out,
                                   graft_error *error)
{
    REQUIRE(router);
    REQUIRE(out);
    CHECK_RUNTIME(router->runtime);
    const struct router_table *t = router_table_of(router->router);
    *out = (graft_router_info){
        .labels = (const char *const *)t->labels,
        .n_labels = (size_t)t->n_labels,
        .width = t->width,
        .base = json_string_value(json_object_get(t->base, "fingerprint")),
        .l2 = t->l2,
        .held_out_share = t->held_out_share,
        .seed = t->seed,
        .iterations = t->iterations,
        .examples = t->examples,
        .examples_right = t->right,
        .held_out = router->held_out,
        .held_out_right = router->held_out_right,
        .confusion = t->confusion,
    };
    return GRAFT_OK;
}

graft_status graft_router_route(graft_router *router, const char *prompt, size_t size, size_t top_k,
                                double temperature, graft_route *routes, graft_error *error)
{
    REQUIRE(router);
    REQUIRE(prompt);
    REQUIRE(routes);
    CHECK_RUNTIME(router->runtime);
    const struct router_table *t = router_table_of(router->router);
    struct router_pick picks[ROUTER_MAX_LABELS];
    if (top_k > ROUTER_MAX_LABELS) {
        top_k = 0; /* as wrong, and an int */
    }
    graft_status status =
        router_pick_best(router->router, prompt, size, (int)top_k, temperature, picks, error);
    for (size_t k = 0; status == GRAFT_OK && k < top_k; k++) {
        routes[k] = (graft_route){t->labels[picks[k].label], picks[k].probability, picks[k].weight};
    }
    return status;
}

graft_status graft_router_evaluate(graft_router *router, const char *const *paths, size_t n_paths,
                                   graft_progress_fn progress, void *progress_user,
                                   int64_t *confusion, graft_error *error)
{
    REQUIRE(router);
    REQUIRE(paths);
    REQUIRE(confusion);
    CHECK_RUNTIME(router->runtime);
    struct router_prompts prompts;
    router_prompts_init(&prompts, &router->runtime->mem);
    graft_status status = read_prompts(&prompts, paths, n_paths, error);
    if (status == GRAFT_OK) {
        status =
            router_evaluate(router->router, &prompts, progress, progress_user, confusion, error);
    }
    router_prompts_free(&prompts);
    return status;
}
