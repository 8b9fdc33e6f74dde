/* adapter_files.c: the public functions on adapters as files: check, translate, call inward. */
#include "adapter/compare/compare.h"
#include "adapter/report/report.h"
#include "adapter/save/save.h"
#include "api/api_internal.h"

/* ---- presets ---- */

static size_t count(const char *const *list)
{
    size_t n = 0;
    while (n < PRESET_LISTS && list[n] != NULL) {
        n++;
    }
    return n;
}

bool graft_preset_at(size_t i, graft_preset *out)
{
    const struct adapter_preset *p = preset_at(i);
    if (p == NULL || out == NULL) {
        return false;
    }
    *out = (graft_preset){.name = p->name,
                          .description = p->description,
                          .rank = p->rank,
                          .alpha = p->alpha,
                          .dropout = p->dropout,
                          .targets = p->targets,
                          .n_targets = count(p->targets),
                          .tags = p->tags,
                          .n_tags = count(p->tags)};
    return true;
}

/* ---- recipes ---- */

void graft_adapter_recipe_init(graft_adapter_recipe *recipe, size_t struct_size)
{
    static const char *const targets[] = {"q_proj", "v_proj"};
    graft_adapter_recipe defaults = {.rank = 8,
                                     .alpha = 16,
                                     .targets = targets,
                                     .n_targets = ARRAY_LEN(targets),
                                     .type = "f32",
                                     .name = "adapter",
                                     .version = "0.1.0"};
    options_give(recipe, struct_size, &defaults, sizeof defaults);
}

graft_status graft_adapter_recipe_preset(graft_adapter_recipe *recipe, const char *preset,
                                         graft_error *error)
{
    REQUIRE(recipe);
    REQUIRE(preset);
    const struct adapter_preset *p = preset_find(preset);
    if (p == NULL) {
        char known[160] = "";
        size_t used = 0;
        for (size_t i = 0; preset_at(i) != NULL; i++) {
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                                     preset_at(i)->name);
        }
        return error_set(error, GRAFT_NOT_FOUND, "no preset \"%.60s\"; there are %s", preset,
                         known);
    }
    recipe->name = p->name;
    recipe->description = p->description;
    recipe->rank = p->rank;
    recipe->alpha = p->alpha;
    recipe->dropout = p->dropout;
    recipe->targets = p->targets;
    recipe->n_targets = count(p->targets);
    recipe->tags = p->tags;
    recipe->n_tags = count(p->tags);
    return GRAFT_OK;
}

graft_status recipe_read(const graft_adapter_recipe *recipe, struct adapter_recipe *out,
                         graft_error *error)
{
    graft_adapter_recipe r = graft_adapter_recipe_default();
    graft_status status = options_read(&r, sizeof r, recipe, error);
    if (status != GRAFT_OK) {
        return status;
    }
    REQUIRE(r.name);
    REQUIRE(r.version);
    REQUIRE(r.type);
    for (size_t i = 0; i < r.n_targets; i++) {
        REQUIRE(r.targets[i]);
    }
    for (size_t i = 0; i < r.n_tags; i++) {
        REQUIRE(r.tags[i]);
    }
    for (size_t i = 0; i < r.n_modules_to_save; i++) {
        REQUIRE(r.modules_to_save[i]);
    }
    if (r.num_layers < 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "num_layers is %d; it must be at least 0",
                         r.num_layers);
    }
    graft_type type = graft_type_from_name(r.type);
    if (type == GRAFT_TYPE_COUNT) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no type \"%.40s\": f32, f16 or bf16",
                         r.type);
    }
    *out = (struct adapter_recipe){.name = r.name,
                                   .version = r.version,
                                   .description = r.description,
                                   .base = r.base,
                                   .targets = r.targets,
                                   .n_targets = r.n_targets,
                                   .saved = r.modules_to_save,
                                   .n_saved = r.n_modules_to_save,
                                   .n_layers = r.num_layers,
                                   .tags = r.tags,
                                   .n_tags = r.n_tags,
                                   .rank = r.rank,
                                   .alpha = r.alpha,
                                   .dropout = r.dropout,
                                   .rslora = r.rslora,
                                   .seed = r.seed,
                                   .type = type,
                                   .progress = {r.progress, r.progress_user}};
    return GRAFT_OK;
}

graft_status graft_adapter_recipe_check(const graft_adapter_recipe *recipe, graft_error *error)
{
    REQUIRE(recipe);
    struct adapter_recipe inner;
    graft_status status = recipe_read(recipe, &inner, error);
    return status == GRAFT_OK ? recipe_check(&inner, error) : status;
}

graft_status graft_adapter_estimate(graft_model *model, const graft_adapter_recipe *recipe,
                                    uint64_t *n_params, uint64_t *n_bytes, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(n_params);
    REQUIRE(n_bytes);
    struct adapter_recipe inner;
    graft_status status = recipe_read(recipe, &inner, error);
    return status == GRAFT_OK ? recipe_estimate(model->model, &inner, n_params, n_bytes, error)
                              : status;
}

graft_status graft_adapter_create(graft_model *model, const char *dir,
                                  const graft_adapter_recipe *recipe, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(dir);
    CHECK_RUNTIME(model->runtime);
    struct adapter_recipe inner;
    graft_status status = recipe_read(recipe, &inner, error);
    return status == GRAFT_OK ? adapter_create(model->model, dir, &inner, error) : status;
}

/* ---- conversion ---- */

void graft_adapter_convert_options_init(graft_adapter_convert_options *options, size_t struct_size)
{
    graft_adapter_convert_options defaults = {.format = GRAFT_ADAPTER_PEFT};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* What an adapter is written as; type NULL: as it is stored. */
static graft_status read_format(graft_adapter_format format, const char *type, double scale,
                                struct save_options *out, graft_error *error)
{
    static const enum adapter_format formats[] = {ADAPTER_PEFT, ADAPTER_MLX, ADAPTER_GGUF};
    if ((unsigned)format >= ARRAY_LEN(formats)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "format is none of PEFT, MLX, GGUF");
    }
    *out = (struct save_options){
        .format = formats[format], .retype = type != NULL, .rescale = scale != 0, .scale = scale};
    out->type = type != NULL ? graft_type_from_name(type) : GRAFT_TYPE_COUNT;
    if (type != NULL && out->type != GRAFT_TYPE_F32 && out->type != GRAFT_TYPE_F16 &&
        out->type != GRAFT_TYPE_BF16) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "adapters are written as f32, f16 or bf16, not \"%.40s\"", type);
    }
    return GRAFT_OK;
}

graft_status graft_adapter_convert(graft_model *model, const char *in, const char *out,
                                   const graft_adapter_convert_options *options, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(in);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_adapter_convert_options o = graft_adapter_convert_options_default();
    struct save_options inner;
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        status = read_format(o.format, o.type, o.scale, &inner, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    inner.progress = (struct save_progress){o.progress, o.progress_user};
    return adapter_convert(model->model, in, out, &inner, error);
}

/* ---- reports ---- */

enum { MAX_REPORT = 64 << 20 };

static int append(const char *bytes, size_t size, void *buffer)
{
    return buf_append(buffer, bytes, size) ? 0 : -1;
}

graft_status report_text(graft_runtime *runtime, const json_t *report, char **json,
                         graft_error *error)
{
    struct buf text;
    buf_init(&text, &runtime->mem, MAX_REPORT);
    int dumped = json_dump_callback(report, append, &text, JSON_INDENT(2));
    char *taken = dumped == 0 ? buf_take(&text, NULL) : NULL;
    buf_free(&text);
    if (taken == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to describe an adapter");
    }
    *json = taken;
    return GRAFT_OK;
}

void graft_adapter_report_options_init(graft_adapter_report_options *options, size_t struct_size)
{
    graft_adapter_report_options defaults = {.consumer = NULL};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_adapter_report(graft_runtime *runtime, graft_model *model, const char *path,
                                  const graft_adapter_report_options *options, char **json,
                                  graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(json);
    CHECK_RUNTIME(runtime);
    graft_adapter_report_options o = graft_adapter_report_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    enum consumer for_whom = o.consumer != NULL ? consumer_find(o.consumer) : CONSUMER_NONE;
    if (o.consumer != NULL && for_whom == CONSUMER_NONE) {
        return error_set(error, GRAFT_NOT_FOUND,
                         "graft knows nothing of \"%.40s\": vllm, llama.cpp or mlx", o.consumer);
    }
    const struct adapter_options how = {.rescale = o.scale != 0, .scale = o.scale};
    json_t *report = NULL;
    status = adapter_report(runtime, model != NULL ? model->model : NULL, path, &how, for_whom,
                            &report, error);
    if (status == GRAFT_OK) {
        status = report_text(runtime, report, json, error);
    }
    json_decref(report);
    return status;
}

/* ---- fewer bits ---- */

void graft_adapter_quantize_options_init(graft_adapter_quantize_options *options,
                                         size_t struct_size)
{
    graft_adapter_quantize_options defaults = {.type = "int8"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_adapter_quantize(graft_model *model, const char *in, const char *out,
                                    const graft_adapter_quantize_options *options, char **errors,
                                    graft_error *error)
{
    REQUIRE(model);
    REQUIRE(in);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_adapter_quantize_options o = graft_adapter_quantize_options_default();
    struct adapter_options held = {0};
    json_t *list = NULL;
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        REQUIRE(o.type);
        status = adapter_retype(&held, o.type, error);
    }
    if (status == GRAFT_OK) {
        const struct save_options inner = {.type = held.type,
                                           .rescale = o.scale != 0,
                                           .scale = o.scale,
                                           .progress = {o.progress, o.progress_user}};
        status = adapter_quantize(model->model, in, out, &inner, &list, error);
    }
    if (status == GRAFT_OK && errors != NULL) {
        status = report_text(model->runtime, list, errors, error);
    }
    json_decref(list);
    return status;
}

/* ---- fewer ranks, differences ---- */

void graft_adapter_compress_options_init(graft_adapter_compress_options *options,
                                         size_t struct_size)
{
    graft_adapter_compress_options defaults = {.format = GRAFT_ADAPTER_PEFT};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_adapter_compress(graft_model *model, const char *in, const char *out,
                                    const graft_adapter_compress_options *options, char **report,
                                    graft_error *error)
{
    REQUIRE(model);
    REQUIRE(in);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_adapter_compress_options o = graft_adapter_compress_options_default();
    json_t *json = NULL;
    graft_status status = options_read(&o, sizeof o, options, error);
    struct compress_options inner = {.rank = o.rank, .energy = o.energy};
    if (status == GRAFT_OK) {
        status = read_format(o.format, o.type, o.scale, &inner.save, error);
    }
    inner.save.progress = (struct save_progress){o.progress, o.progress_user};
    if (status == GRAFT_OK) {
        status =
            adapter_compress(model->model, in, out, &inner, report != NULL ? &json : NULL, error);
    }
    if (status == GRAFT_OK && report != NULL) {
        status = report_text(model->runtime, json, report, error);
    }
    json_decref(json);
    return status;
}

void graft_adapter_diff_options_init(graft_adapter_diff_options *options, size_t struct_size)
{
    graft_adapter_diff_options defaults = {.scale_a = 0};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_adapter_diff(graft_model *model, const char *a, const char *b,
                                const graft_adapter_diff_options *options, char **json,
                                graft_error *error)
{
    REQUIRE(model);
    REQUIRE(a);
    REQUIRE(b);
    REQUIRE(json);
    CHECK_RUNTIME(model->runtime);
    graft_adapter_diff_options o = graft_adapter_diff_options_default();
    json_t *found = NULL;
    graft_status status = options_read(&o, sizeof o, options, error);
    const struct diff_options inner = {
        .scale_a = o.scale_a, .scale_b = o.scale_b, .progress = {o.progress, o.progress_user}};
    if (status == GRAFT_OK) {
        status = adapter_diff(model->model, a, b, &inner, &found, error);
    }
    if (status == GRAFT_OK) {
        status = report_text(model->runtime, found, json, error);
    }
    json_decref(found);
    return status;
}
