/* adapter.c: the public functions on adapters and mixes: check, call inward, describe. */
#include "api/api_internal.h"

void graft_adapter_options_init(graft_adapter_options *options, size_t struct_size)
{
    graft_adapter_options defaults = {.scale = 0};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* ---- adapters ---- */

graft_status graft_adapter_open(graft_model *model, const char *path,
                                const graft_adapter_options *options, graft_adapter **out,
                                graft_error *error)
{
    REQUIRE(model);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    graft_adapter_options o = graft_adapter_options_default();
    struct adapter_options inner = {0};
    struct adapter *adapter;
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        status = adapter_retype(&inner, o.type, error);
    }
    inner.rescale = o.scale != 0;
    inner.scale = o.scale;
    inner.strict_base = o.strict_base;
    if (status == GRAFT_OK) {
        status = adapter_open(model->model, path, &inner, &adapter, error);
    }
    if (status == GRAFT_OK) {
        *out = adapter_handle(adapter);
    }
    return status;
}

void graft_adapter_close(graft_adapter **adapter)
{
    if (adapter != NULL && *adapter != NULL) {
        struct adapter *a = adapter_of(*adapter);
        *adapter = NULL;
        adapter_release(&a);
    }
}

graft_adapter *graft_adapter_retain(graft_adapter *adapter)
{
    return adapter != NULL ? adapter_handle(adapter_acquire(adapter_of(adapter))) : NULL;
}

graft_status graft_adapter_describe(const graft_adapter *adapter, graft_adapter_info *out,
                                    graft_error *error)
{
    REQUIRE(adapter);
    REQUIRE(out);
    const struct adapter_info *info = adapter_info(adapter_of(adapter));
    int n_targets;
    adapter_targets(adapter_of(adapter), &n_targets);
    *out = (graft_adapter_info){.format = adapter_format_name(info->format),
                                .path = info->path,
                                .base = info->base,
                                .scale_from = info->scale_from,
                                .n_params = (uint64_t)info->parameters,
                                .bytes = info->bytes,
                                .least_rank = (int)info->least_rank,
                                .most_rank = (int)info->most_rank,
                                .n_targets = n_targets,
                                .n_dora = info->n_dora,
                                .n_biased = info->n_biased};
    hex_write(info->digest, sizeof info->digest, out->digest);
    return GRAFT_OK;
}

graft_status graft_adapter_target_at(const graft_adapter *adapter, int i, graft_adapter_target *out,
                                     graft_error *error)
{
    REQUIRE(adapter);
    REQUIRE(out);
    int n;
    const struct adapter_target *targets = adapter_targets(adapter_of(adapter), &n);
    if (i < 0 || i >= n) {
        return error_set(error, GRAFT_NOT_FOUND, "target %d of an adapter with %d", i, n);
    }
    const struct adapter_target *t = &targets[i];
    *out = (graft_adapter_target){.module = t->module,
                                  .rank = (int)t->rank,
                                  .scale = t->scale,
                                  .stored = graft_type_name(t->stored),
                                  .held = graft_type_name(t->a),
                                  .dora = t->dora,
                                  .biased = t->biased};
    return GRAFT_OK;
}

/* ---- mixes ---- */

graft_status graft_mix_open(graft_model *model, const graft_member *members, size_t n,
                            graft_mix **out, graft_error *error)
{
    REQUIRE(model);
    REQUIRE(members);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    struct mix_part inner[MIX_MAX];
    if (n < 1 || n > MIX_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a mix has 1 to %d adapters, not %zu",
                         MIX_MAX, n);
    }
    for (size_t i = 0; i < n; i++) {
        REQUIRE(members[i].adapter);
        for (size_t j = 0; j < i; j++) {
            if (adapter_same(inner[j].adapter, adapter_of(members[i].adapter))) {
                return error_set(error, GRAFT_INVALID_ARGUMENT,
                                 "members %zu and %zu are the same adapter: add their weights",
                                 j + 1, i + 1);
            }
        }
        inner[i] = (struct mix_part){adapter_of(members[i].adapter), members[i].weight};
    }
    struct mix *mix;
    graft_status status = mix_make(model->model, inner, (int)n, &mix, error);
    if (status == GRAFT_OK) {
        *out = mix_handle(mix);
    }
    return status;
}

void graft_mix_close(graft_mix **mix)
{
    if (mix != NULL && *mix != NULL) {
        struct mix *m = mix_of(*mix);
        *mix = NULL;
        mix_release(&m);
    }
}

size_t graft_mix_size(const graft_mix *mix)
{
    int n = 0;
    if (mix != NULL) {
        mix_parts(mix_of(mix), &n);
    }
    return (size_t)n;
}

graft_member graft_mix_member(const graft_mix *mix, size_t i)
{
    int n = 0;
    const struct mix_part *members = mix != NULL ? mix_parts(mix_of(mix), &n) : NULL;
    if (i >= (size_t)n) {
        return (graft_member){NULL, 0};
    }
    return (graft_member){adapter_handle(members[i].adapter), members[i].weight};
}
