/* merge.c: the public functions that merge adapters: check, translate, call inward. */
#include "adapter/merge/merge.h"
#include "api/api_internal.h"

void graft_merge_options_init(graft_merge_options *options, size_t struct_size)
{
    graft_merge_options defaults = {.method = "linear",
                                    .density = 0.5,
                                    .epsilon = 0.15,
                                    .gamma = 0.01,
                                    .lambda = 1,
                                    .slerp_t = 0.5,
                                    .sign = "total",
                                    .ties_divide = "count",
                                    .type = "f32",
                                    .name = "merged",
                                    .version = "0.1.0"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

const char *graft_merge_method_at(size_t i)
{
    return i < MERGE_METHOD_COUNT ? merge_method_name((enum merge_method)i) : NULL;
}

static bool read_division(const char *text, struct merge_plan *out)
{
    out->undivided = strcmp(text, "none") == 0;
    out->by_weight = out->undivided || strcmp(text, "weight") == 0;
    return out->by_weight || strcmp(text, "count") == 0;
}

static graft_status read_choice(const char *what, const char *text, const char *no, const char *yes,
                                bool *out, graft_error *error)
{
    *out = strcmp(text, yes) == 0;
    return *out || strcmp(text, no) == 0
               ? GRAFT_OK
               : error_set(error, GRAFT_INVALID_ARGUMENT, "%s \"%.40s\": it is %s or %s", what,
                           text, no, yes);
}

static graft_status unknown_method(const char *name, graft_error *error)
{
    char known[400] = "";
    size_t used = 0;
    for (size_t i = 0; graft_merge_method_at(i) != NULL; i++) {
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                                 graft_merge_method_at(i));
    }
    return error_set(error, GRAFT_INVALID_ARGUMENT, "no method \"%.40s\"; there are %s", name,
                     known);
}

static graft_status read_options(const graft_merge_options *o, struct adapter_recipe *card,
                                 struct merge_plan *out, graft_error *error)
{
    const graft_type type = graft_type_from_name(o->type);
    *out = (struct merge_plan){.rank = o->rank,
                               .energy = o->energy,
                               .lambda = o->lambda,
                               .t = o->slerp_t,
                               .normalize = o->normalize,
                               .seed = o->seed,
                               .card = card};
    if (!merge_method_from(o->method, &out->method)) {
        return unknown_method(o->method, error);
    }
    if (type != GRAFT_TYPE_F32 && type != GRAFT_TYPE_F16 && type != GRAFT_TYPE_BF16) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no type \"%.40s\": f32, f16 or bf16",
                         o->type);
    }
    if ((unsigned)o->format > GRAFT_ADAPTER_GGUF) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "format is none of PEFT, MLX and GGUF");
    }
    out->save = (struct save_options){.format = (enum adapter_format)o->format,
                                      .retype = true,
                                      .type = type,
                                      .progress = {o->progress, o->progress_user}};
    graft_status status =
        read_choice("sign", o->sign, "total", "frequency", &out->by_frequency, error);
    if (status == GRAFT_OK && !read_division(o->ties_divide, out)) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "ties_divide \"%.40s\": it is count, weight or none", o->ties_divide);
    }
    return status;
}

static void read_input(const graft_merge_input *in, const graft_merge_options *o,
                       struct merge_input *out)
{
    *out = (struct merge_input){.path = in->path,
                                .name = in->name != NULL ? in->name : in->path,
                                .weight = in->weight,
                                .density = isnan(in->density) ? o->density : in->density,
                                .epsilon = isnan(in->epsilon) ? o->epsilon : in->epsilon,
                                .gamma = isnan(in->gamma) ? o->gamma : in->gamma,
                                .scale = in->scale};
}

static graft_status read_card(const graft_merge_options *o, struct adapter_recipe *out,
                              graft_error *error)
{
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    recipe.name = o->name;
    recipe.version = o->version;
    recipe.description = o->description;
    recipe.tags = o->tags;
    recipe.n_tags = o->n_tags;
    recipe.base = o->base;
    graft_status status = recipe_read(&recipe, out, error);
    return status == GRAFT_OK ? recipe_check(out, error) : status;
}

static graft_status merge(graft_model *model, const graft_merge_input *inputs, size_t n,
                          const char *out, const graft_merge_options *o, char **report,
                          graft_error *error)
{
    struct adapter_recipe card;
    struct merge_plan plan;
    struct mem *mem = &model->model->runtime->mem;
    json_t *json = NULL;
    graft_status status = read_card(o, &card, error);
    if (status == GRAFT_OK) {
        status = read_options(o, &card, &plan, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    struct merge_input *inner = mem_calloc(mem, n + 1, sizeof *inner);
    if (inner == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu adapters", n);
    }
    for (size_t i = 0; i < n; i++) {
        read_input(&inputs[i], o, &inner[i]);
    }
    plan.inputs = inner;
    plan.n = n;
    status = merge_write(model->model, &plan, out, report != NULL ? &json : NULL, error);
    mem_free(mem, inner);
    if (status == GRAFT_OK && report != NULL &&
        report_text(model->model->runtime, json, report, error) != GRAFT_OK) {
        status = error_set(error, GRAFT_NO_MEMORY,
                           "the merge is written, but there is no memory for its report");
    }
    json_decref(json);
    return status;
}

graft_status graft_merge(graft_model *model, const graft_merge_input *inputs, size_t n,
                         const char *out, const graft_merge_options *options, char **report,
                         graft_error *error)
{
    REQUIRE(model);
    REQUIRE(inputs);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_merge_options o = graft_merge_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    REQUIRE(o.method);
    REQUIRE(o.sign);
    REQUIRE(o.ties_divide);
    REQUIRE(o.type);
    REQUIRE(o.name);
    REQUIRE(o.version);
    for (size_t i = 0; i < n; i++) {
        REQUIRE(inputs[i].path);
    }
    return merge(model, inputs, n, out, &o, report, error);
}

/* ---- files ---- */

graft_status graft_merge_config_open(graft_runtime *runtime, const char *path,
                                     graft_merge_config **out, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(out);
    const graft_merge_options defaults = graft_merge_options_default();
    return merge_config_open(&runtime->mem, path, &defaults, out, error);
}

void graft_merge_config_close(graft_merge_config **config)
{
    if (config != NULL) {
        merge_config_close(config);
    }
}

const graft_merge_input *graft_merge_config_inputs(const graft_merge_config *config, size_t *n)
{
    *n = config != NULL ? config->n_inputs : 0;
    return config != NULL ? config->inputs : NULL;
}

const graft_merge_options *graft_merge_config_options(const graft_merge_config *config)
{
    return config != NULL ? &config->options : NULL;
}

const char *graft_merge_config_base(const graft_merge_config *config)
{
    return config != NULL ? config->base : NULL;
}
