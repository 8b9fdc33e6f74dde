/* fuse_support.c: see fuse_support.h. */
#include "fuse_support.h"

struct graft_runtime fuse_rt;

int fuse_setup(void **state)
{
    runtime_start(&fuse_rt, 2, exact_tier());
    return test_dir_open(state);
}

int fuse_teardown(void **state)
{
    runtime_stop(&fuse_rt);
    return test_dir_close(state);
}

void fuse_write_case(const struct fuse_case *c)
{
    struct oracle_model model, adapter;
    char variants[64], name[16], *left = NULL;
    int n = 0;
    oracle_model_make(&model, c->wide ? oracle_config_wide(c->arch) : oracle_config(c->arch), 1);
    oracle_round(&model, c->type);
    oracle_write_hf(&model, at("base"), c->type);
    snprintf(variants, sizeof variants, "%s", c->variants);
    for (char *v = strtok_r(variants, " ", &left); v; v = strtok_r(NULL, " ", &left), n++) {
        oracle_adapter_make(&adapter, v, 7 + n, &model);
        snprintf(name, sizeof name, "a%d", n);
        oracle_adapter_write(&adapter, at(name), GRAFT_TYPE_F32);
        oracle_model_free(&adapter);
    }
    oracle_model_free(&model);
}

size_t fuse_members(const struct fuse_case *c, graft_fuse_member members[2])
{
    members[0] = (graft_fuse_member){.path = at("a0"), .weight = c->weights[0]};
    members[1] = (graft_fuse_member){.path = at("a1"), .weight = c->weights[1]};
    return strchr(c->variants, ' ') ? 2 : 1;
}

graft_status fuse_try(const struct fuse_case *c, const char *out, graft_fuse_options *options,
                      json_t **certificate, graft_error *error)
{
    graft_fuse_member members[2];
    size_t n = fuse_members(c, members), length = strlen(out);
    char *text = NULL;
    bool gguf = length > 5 && !strcmp(out + length - 5, ".gguf");
    options->format = gguf ? GRAFT_FORMAT_GGUF : GRAFT_FORMAT_HF;
    graft_status status =
        fuse_write(&fuse_rt, at("base"), members, n, at(out), options, &text, error);
    if (status == GRAFT_OK && certificate)
        *certificate = json_loads(text, 0, NULL);
    mem_free(&fuse_rt.mem, text);
    return status;
}

json_t *fuse_do(const struct fuse_case *c, const char *out, graft_fuse_options *options)
{
    json_t *certificate = NULL;
    graft_error error = {0};
    if (fuse_try(c, out, options, &certificate, &error) != GRAFT_OK)
        fail_msg("%s with %s to %s: %s (%s %s)", c->arch, c->variants, out, error.message,
                 error.file, error.tensor);
    assert_non_null(certificate);
    return certificate;
}

struct fuse_logits fuse_run(const struct fuse_case *c, const char *fused)
{
    graft_token_id tokens[FUSE_TOKENS];
    graft_fuse_member members[2];
    graft_error error = {0};
    struct mix *mix = NULL;
    const struct run how = {ROLE_PREFILL, KV_F32, 8};
    for (int i = 0; i < FUSE_TOKENS; i++)
        tokens[i] = 3 + i * 7 % 300;
    struct model *m = open_model(&fuse_rt, at("base"));
    size_t n = fuse_members(c, members);
    if (fuse_open_mix(m, members, n, &mix, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
    struct fuse_logits l = {.base = run_tokens(m, tokens, FUSE_TOKENS, how),
                            .mixed = run_tokens_with(m, tokens, FUSE_TOKENS, how, mix_deltas(mix)),
                            .count = (size_t)FUSE_TOKENS * (size_t)model_n_logits(m)};
    mix_release(&mix);
    model_close(&m);
    m = open_model(&fuse_rt, at(fused));
    l.fused = run_tokens(m, tokens, FUSE_TOKENS, how);
    model_close(&m);
    return l;
}

void fuse_logits_free(struct fuse_logits *l)
{
    free(l->base);
    free(l->mixed);
    free(l->fused);
}

static const json_t *find(const json_t *certificate, const char *tensor)
{
    const json_t *t;
    size_t i;
    json_array_foreach(json_object_get(certificate, "tensors"), i, t)
    {
        if (!strcmp(json_string_value(json_object_get(t, "name")), tensor))
            return t;
    }
    fail_msg("the certificate has no %s", tensor);
    return NULL;
}

double fuse_number(const json_t *certificate, const char *tensor, const char *key)
{
    const json_t *value = json_object_get(find(certificate, tensor), key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

const char *fuse_type(const json_t *certificate, const char *tensor)
{
    return json_string_value(json_object_get(find(certificate, tensor), "type"));
}
