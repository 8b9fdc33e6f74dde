/* convert.c: opens the source, chooses the recipe, and hands over to the writer of the container. */
#include "convert_internal.h"

graft_status conversion_written(const struct conversion *c, const char *path, graft_error *error)
{
    const struct convert_fuse *fuse = c->fuse;
    return fuse && fuse->written ? fuse->written(fuse->user, path, error) : GRAFT_OK;
}

static graft_status check(const struct conversion *c, graft_error *error)
{
    char known[256];
    if (c->options->format == GRAFT_FORMAT_MLX)
        return c->recipe
                   ? GRAFT_OK
                   : error_set(error, GRAFT_INVALID_ARGUMENT,
                               "an MLX directory holds mlx4 or mlx8, not \"%s\"", c->type_name);
    if (!c->recipe) {
        recipe_list(known, sizeof known);
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no type \"%s\"; known are %s",
                         c->type_name, known);
    }
    if (c->naming == NAMING_HF && !recipe_is_plain(c->recipe))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a Hugging Face directory holds f32, f16 or bf16, not %s", c->type_name);
    return GRAFT_OK;
}

static graft_status convert(struct conversion *c, graft_error *error)
{
    graft_status status = model_refuse_output(c->model, c->out, error);
    c->config = c->model->config;
    if (status == GRAFT_OK && c->naming == NAMING_GGUF)
        status = gguf_check_expressible(c, error);
    if (status == GRAFT_OK && c->fuse)
        status = fused_config(c, error);
    if (status == GRAFT_OK)
        status = plan_build(c, error);
    c->bytes_total = c->plan.bytes;
    if (status == GRAFT_OK && c->fuse)
        status = fused_choose_types(c, error);
    if (status == GRAFT_OK)
        status = c->naming == NAMING_HF ? convert_to_hf(c, error) : convert_to_gguf(c, error);
    return status;
}

static graft_status begin(struct conversion *c, graft_runtime *runtime, const char *out,
                          const graft_convert_options *options, graft_error *error)
{
    *c = (struct conversion){.runtime = runtime, .options = options, .out = out};
    static const char *const DEFAULTS[] = {
        [GRAFT_FORMAT_GGUF] = "q8_0", [GRAFT_FORMAT_HF] = "bf16", [GRAFT_FORMAT_MLX] = "mlx4"};
    bool mlx = options->format == GRAFT_FORMAT_MLX;
    c->naming = options->format == GRAFT_FORMAT_GGUF ? NAMING_GGUF : NAMING_HF;
    c->type_name = options->type ? options->type : DEFAULTS[options->format];
    c->recipe = mlx ? recipe_find_mlx(c->type_name) : recipe_find(c->type_name);
    arena_init(&c->arena, &runtime->mem, SIZE_MAX);
    return check(c, error);
}

static void end(struct conversion *c)
{
    mem_free(&c->runtime->mem, c->rope_factors);
    plan_free(&c->plan);
    arena_free(&c->arena);
}

graft_status model_convert(graft_runtime *runtime, const char *in, const char *out,
                           const graft_convert_options *options, graft_error *error)
{
    struct conversion c;
    char *found = NULL;
    graft_status status = begin(&c, runtime, out, options, error);
    if (status == GRAFT_OK)
        status = model_resolve(&runtime->mem, in, &found, error);
    if (status == GRAFT_OK)
        status = model_open(runtime, found, NULL, &c.model, error);
    if (status == GRAFT_OK)
        status = convert(&c, error);
    end(&c);
    model_close(&c.model);
    mem_free(&runtime->mem, found);
    return status;
}

graft_status model_convert_fused(struct model *model, const char *out,
                                 const graft_convert_options *options, struct convert_fuse *fuse,
                                 graft_error *error)
{
    struct conversion c;
    graft_status status = begin(&c, model->runtime, out, options, error);
    c.model = model;
    c.fuse = fuse;
    if (status == GRAFT_OK)
        status = convert(&c, error);
    end(&c);
    return status;
}
