/* fuzz_config.c: hostile configurations: config.json, generation_config.json, or GGUF metadata when the bytes
 * begin like a GGUF. What is accepted must be within the bounds that the rest of graft relies on.
 */
#include "model/arch/arch.h"
#include "model/model_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_config(const struct config *c)
{
    require(c->arch && c->architecture[0]);
    require(c->n_layer > 0 && c->d_model > 0 && c->d_ff > 0 && c->n_vocab > 0 && c->n_ctx > 0);
    require(c->n_kv > 0 && c->n_head % c->n_kv == 0);
    require(c->d_head > 0 && c->d_head % 2 == 0 && c->d_head <= 4096);
    require((int64_t)c->n_head * c->d_head <= 1 << 20);
    require(c->n_eos >= 0 && c->n_eos <= MAX_EOS);
    require(!c->arch->score || c->n_labels > 0);
    require(c->norm_eps >= 0);
    for (int i = 0; i < c->n_layer; i++)
        require(c->windows[i] >= 0);
    for (int i = 0; c->labels && i < c->n_labels; i++)
        require(c->labels[i] != NULL);
    for (size_t i = 1; i < c->n_mlx_overrides; i++)
        require(strcmp(c->mlx_overrides[i - 1].module, c->mlx_overrides[i].module) < 0);
    double freq[2048], mscale;
    config_rope_frequencies(c, freq, &mscale);
}

static void try_gguf(struct arena *arena, const uint8_t *data, size_t size)
{
    struct gguf g;
    struct config config;
    if (gguf_parse(&g, NULL, data, size, NULL) != GRAFT_OK)
        return;
    if (config_parse_gguf(&config, arena, &g, NULL) == GRAFT_OK)
        check_config(&config);
    gguf_free(&g);
}

static void try_json(struct arena *arena, const uint8_t *data, size_t size)
{
    json_t *json = NULL;
    graft_error error = {0};
    struct config config = {0};
    struct generation_defaults generation;
    if (json_parse((const char *)data, size, &json, &error) != GRAFT_OK)
        return;
    graft_status status = config_parse_hf(&config, arena, json, &error);
    if (status == GRAFT_OK)
        check_config(&config);
    else
        require(error.status == status && error.message[0]);
    generation_parse(&generation, &config, json, NULL);
    require(config.n_eos <= MAX_EOS);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    arena_init(&arena, NULL, 1 << 26);
    if (size >= 4 && !memcmp(data, "GGUF", 4))
        try_gguf(&arena, data, size);
    else
        try_json(&arena, data, size);
    arena_free(&arena);
    return 0;
}
