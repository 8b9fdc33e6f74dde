/* fuse.c: a fused model from the paths of a base and of adapters, with its certificate.
 *
 * The conversion does the work; before its output becomes visible the output is opened and compared with the
 * adapters beside the base, and what belongs to it is written: the sidecar, and the certificate, which is put together
 * from what the two found.
 */
#include "adapter/fuse/fuse_internal.h"

#include <stdlib.h>

/* A call under way. */
struct fusion {
    graft_runtime *runtime;
    const graft_fuse_options *options;
    const graft_fuse_member *members;
    size_t n_members;
    const char *out;
    struct model *model;
    struct mix *mix;
    struct tokens tokens;
    bool measured;
    struct divergence divergence, with_sidecar;
    struct sidecar sidecar;
    struct outputs outputs;
    char *certificate;
    struct convert_fuse convert;
};

/* ---- the mix ------------------------------------------------------------------------------ */

static graft_status refuse_twice(const struct mix_part *parts, size_t i,
                                 const graft_fuse_member *members, graft_error *error)
{
    for (size_t k = 0; k < i; k++)
        if (adapter_same(parts[k].adapter, parts[i].adapter)) {
            error_set(error, GRAFT_INVALID_ARGUMENT, "it is given twice: add the weights");
            error_at_file(error, members[i].path);
            return GRAFT_INVALID_ARGUMENT;
        }
    return GRAFT_OK;
}

graft_status fuse_open_mix(const struct model *model, const graft_fuse_member *members,
                           size_t n_members, struct mix **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    struct mix_part *parts = mem_calloc(mem, n_members + 1, sizeof *parts);
    graft_status status = parts ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory");
    for (size_t i = 0; i < n_members && status == GRAFT_OK; i++) {
        const struct adapter_options how = {.rescale = members[i].scale != 0,
                                            .scale = members[i].scale,
                                            .strict_base = members[i].strict_base};
        parts[i].weight = members[i].weight;
        status = adapter_open(model, members[i].path, &how, &parts[i].adapter, error);
        if (status == GRAFT_OK)
            status = refuse_twice(parts, i, members, error);
    }
    if (status == GRAFT_OK)
        status = mix_make(model, parts, (int)n_members, out, error);
    for (size_t i = 0; i < n_members && parts; i++)
        adapter_release(&parts[i].adapter);
    mem_free(mem, parts);
    return status;
}

graft_status fuse_in_place(struct model *model, const graft_fuse_member *members, size_t n_members,
                           graft_error *error)
{
    struct mix *mix = NULL;
    graft_status status = fuse_open_mix(model, members, n_members, &mix, error);
    if (status == GRAFT_OK)
        status = model_fuse(model, mix_deltas(mix), FUSE_FALLBACK, error);
    mix_release(&mix);
    return status;
}

/* ---- the comparison ----------------------------------------------------------------------- */

static graft_status take_text(struct fusion *f, graft_error *error)
{
    const graft_fuse_options *o = f->options;
    const struct tokenizer *t = f->model->tokenizer;
    const char *text = o->text ? o->text : FUSE_TEXT;
    f->tokens.mem = &f->runtime->mem;
    if (o->kl_tokens == 0 || !t)
        return GRAFT_OK;
    graft_status status =
        tokenizer_encode(t, text, o->text ? o->text_size : strlen(FUSE_TEXT),
                         tokenizer_adds_bos(t) ? TOKENIZE_BOS : 0, &f->tokens, error);
    if (f->tokens.count > (size_t)o->kl_tokens)
        f->tokens.count = (size_t)o->kl_tokens;
    return status;
}

static graft_status compare(struct fusion *f, const struct model *fused,
                            const struct delta_set *mix, struct divergence *out, graft_error *error)
{
    return fuse_divergence(f->model, mix_deltas(f->mix), fused, mix, f->tokens.ids, f->tokens.count,
                           f->options, out, error);
}

/* ---- the sidecar -------------------------------------------------------------------------- */

static graft_status lost(void *user, const struct fuse_record *record, const float *values,
                         graft_error *error)
{
    struct fusion *f = user;
    return sidecar_add(&f->sidecar, record, values, error);
}

/* The sidecar of a fused model, and how far the two are from the adapters. */
static graft_status add_sidecar(struct fusion *f, const struct model *fused, graft_error *error)
{
    const graft_fuse_member member = {.path = f->options->sidecar, .weight = 1};
    struct mix *mix = NULL;
    graft_status status = outputs_add_sidecar(&f->outputs, &f->sidecar, error);
    if (status != GRAFT_OK || !f->measured)
        return status;
    status = fuse_open_mix(fused, &member, 1, &mix, error);
    if (status == GRAFT_OK)
        status = compare(f, fused, mix_deltas(mix), &f->with_sidecar, error);
    mix_release(&mix);
    return status;
}

/* ---- the certificate ---------------------------------------------------------------------- */

static json_t *describe_tensor(const struct fuse_record *r)
{
    return json_pack("{s:s, s:s, s:s, s:[I, I], s:f, s:f, s:f, s:f}", "name", r->name, "planned",
                     graft_type_name(r->planned), "type", graft_type_name(r->type), "shape",
                     (json_int_t)r->n_out, (json_int_t)r->n_in, "norm", r->norm, "delta_norm",
                     r->delta, "relative_error", r->norm > 0 ? r->error / r->norm : 0, "retained",
                     r->kept);
}

static json_t *describe_divergence(const struct fusion *f, const struct divergence *d)
{
    if (!f->measured)
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:I, s:s}", "mean", d->mean, "max", d->most, "same_top",
                     (double)d->same_top / (double)d->positions, "positions",
                     (json_int_t)d->positions, "text", f->options->text ? "given" : "built-in");
}

/* A path may hold any bytes; JSON holds UTF-8. */
static json_t *path_json(const char *path)
{
    json_t *json = json_string(path);
    return json ? json : json_string("?");
}

static void add_tensors(const struct fusion *f, json_t **list)
{
    for (size_t i = 0; i < f->convert.n_records; i++) {
        const struct fuse_record *r = &f->convert.records[i];
        double left = f->options->sidecar ? sidecar_left(&f->sidecar, r->place) : -1;
        json_t *tensor = describe_tensor(r);
        if (left >= 0)
            json_put(&tensor, "sidecar_error", json_real(left / r->norm));
        json_append(list, tensor);
    }
}

static json_t *describe_sidecar(const struct fusion *f)
{
    return json_pack("{s:o, s:i, s:o}", "path", path_json(f->options->sidecar), "rank",
                     f->options->sidecar_rank, "kl", describe_divergence(f, &f->with_sidecar));
}

static json_t *certify(const struct fusion *f)
{
    const graft_fuse_options *o = f->options;
    static const char *const NAMES[] = {"gguf", "hf", "mlx"}, *const TYPES[] = {"q8_0", "bf16",
                                                                                "mlx4"};
    json_t *json = json_object(), *adapters = json_array(), *tensors = json_array();
    for (size_t i = 0; i < f->n_members; i++)
        json_append(&adapters, json_pack("{s:o, s:f}", "path", path_json(f->members[i].path),
                                         "weight", (double)f->members[i].weight));
    add_tensors(f, &tensors);
    json_put(&json, "model", path_json(f->model->path));
    json_put(&json, "adapters", adapters);
    json_put(&json, "output", path_json(f->out));
    json_put(&json, "format", json_string(NAMES[o->format]));
    json_put(&json, "type", json_string(o->type ? o->type : TYPES[o->format]));
    json_put(&json, "fallback", json_real(o->fallback));
    json_put(&json, "compensate", json_boolean(o->compensate));
    json_put(&json, "tensors", tensors);
    json_put(&json, "kl", describe_divergence(f, &f->divergence));
    if (o->sidecar)
        json_put(&json, "sidecar", describe_sidecar(f));
    return json;
}

static graft_status add_certificate(struct fusion *f, const char *at, graft_error *error)
{
    json_t *json = certify(f);
    char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    f->certificate = text ? mem_strdup(&f->runtime->mem, text) : NULL;
    free(text); /* jansson's */
    json_decref(json);
    return f->certificate ? outputs_add_certificate(&f->outputs, at, f->certificate, error)
                          : error_set(error, GRAFT_NO_MEMORY, "no memory for a certificate");
}

/* ---- all of it ---------------------------------------------------------------------------- */

static graft_status open_parts(struct fusion *f, const char *model_path, graft_error *error)
{
    char *found = NULL;
    graft_status status = model_resolve(&f->runtime->mem, model_path, &found, error);
    if (status == GRAFT_OK)
        status = model_open(f->runtime, found, NULL, &f->model, error);
    mem_free(&f->runtime->mem, found);
    return status == GRAFT_OK ? fuse_open_mix(f->model, f->members, f->n_members, &f->mix, error)
                              : status;
}

/* The output is at `path`, and not yet where it belongs. */
static graft_status written(void *user, const char *path, graft_error *error)
{
    struct fusion *f = user;
    struct model *fused = NULL;
    graft_status status = take_text(f, error);
    f->measured = f->tokens.count > 0;
    if (status == GRAFT_OK && f->measured)
        status = model_open(f->runtime, path, NULL, &fused, error);
    if (status == GRAFT_OK && f->measured)
        status = compare(f, fused, NULL, &f->divergence, error);
    if (status == GRAFT_OK && f->options->sidecar)
        status = add_sidecar(f, fused, error);
    model_close(&fused);
    return status == GRAFT_OK ? add_certificate(f, path, error) : status;
}

graft_status fuse_write(graft_runtime *runtime, const char *model_path,
                        const graft_fuse_member *members, size_t n_members, const char *out_path,
                        const graft_fuse_options *options, char **certificate, graft_error *error)
{
    struct fusion f = {.runtime = runtime,
                       .options = options,
                       .members = members,
                       .n_members = n_members,
                       .out = out_path,
                       .outputs = {.mem = &runtime->mem,
                                   .out = out_path,
                                   .sidecar = options->sidecar,
                                   .folder = options->format != GRAFT_FORMAT_GGUF}};
    const graft_convert_options convert = {.struct_size = sizeof convert,
                                           .format = options->format,
                                           .type = options->type,
                                           .progress = options->progress,
                                           .progress_user = options->progress_user};
    graft_status status = open_parts(&f, model_path, error);
    f.convert = (struct convert_fuse){.mix = mix_deltas(f.mix),
                                      .fallback = options->fallback,
                                      .compensate = options->compensate,
                                      .lost = options->sidecar ? lost : NULL,
                                      .written = written,
                                      .user = &f};
    if (status == GRAFT_OK)
        status = outputs_open(&f.outputs, f.model, members, n_members, error);
    if (status == GRAFT_OK && options->sidecar)
        status = sidecar_open(&f.sidecar, f.model, options->sidecar_rank, error);
    if (status == GRAFT_OK)
        status = model_convert_fused(f.model, out_path, &convert, &f.convert, error);
    outputs_close(&f.outputs, status == GRAFT_OK);
    if (status == GRAFT_OK && certificate)
        *certificate = f.certificate;
    else
        mem_free(&runtime->mem, f.certificate);
    mem_free(&runtime->mem, f.convert.records);
    sidecar_close(&f.sidecar);
    tokens_free(&f.tokens);
    mix_release(&f.mix);
    model_close(&f.model);
    return status;
}
