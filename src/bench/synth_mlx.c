/* synth_mlx.c: a random model quantised the MLX way: the safetensors file of its directory, and the
 * config.json that goes with it. There is no tokenizer: graft runs such a model on ids.
 */
#include "bench/synth_internal.h"

#include <stdlib.h>

struct declared {
    struct arena arena;
    struct tensor_decl *list;
    size_t n, capacity;
};

/* Words of 32 bits, and a scale and a bias for each group of values. */
static void shape_of(const struct synth *s, const struct synth_tensor *t, struct tensor_decl *out)
{
    int bits = s->mlx == GRAFT_TYPE_MLX4 ? 4 : 8;
    *out = (struct tensor_decl){.type = t->type, .n_dims = t->n_out ? 2 : 1};
    out->shape[0] = t->n_out ? t->n_out : t->n_in;
    out->shape[1] = t->n_in / MLX_GROUP;
    if (t->supply == (int)s->mlx) {
        out->type = GRAFT_TYPE_U32;
        out->shape[1] = t->n_in * bits / 32;
    }
}

static graft_status declare(struct synth *s, const struct synth_tensor *t, void *user,
                            graft_error *error)
{
    struct declared *d = user;
    if (d->n == d->capacity) {
        size_t capacity = d->capacity ? 2 * d->capacity : 256;
        struct tensor_decl *grown = mem_resize(s->mem, d->list, capacity * sizeof *grown);
        if (!grown)
            return error_set(error, GRAFT_NO_MEMORY, "no memory for a list of tensors");
        d->list = grown;
        d->capacity = capacity;
    }
    struct tensor_decl *decl = &d->list[d->n];
    shape_of(s, t, decl);
    decl->name = arena_strndup(&d->arena, t->name, strlen(t->name));
    if (!decl->name)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a name");
    if (t->n_out)
        s->bytes_total +=
            (uint64_t)(decl->shape[0] * decl->shape[1]) * type_traits(decl->type)->block_bytes;
    d->n++;
    return GRAFT_OK;
}

graft_status synth_mlx(struct synth *s, graft_error *error)
{
    struct declared d = {.n = 0};
    arena_init(&d.arena, s->mem, SIZE_MAX);
    graft_status status = synth_each(s, declare, &d, error);
    if (status == GRAFT_OK)
        status = safetensors_write_header(s->file, d.list, d.n, NULL, error);
    s->stream = 0;
    if (status == GRAFT_OK)
        status = synth_each(s, synth_put, NULL, error);
    mem_free(s->mem, d.list);
    arena_free(&d.arena);
    return status;
}

/* ---- config.json -------------------------------------------------------------------------- */

static json_t *rope_json(const struct rope_config *rope)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", rope->factor,
                     "low_freq_factor", rope->low_freq, "high_freq_factor", rope->high_freq,
                     "original_max_position_embeddings", (int)rope->original_ctx);
}

graft_status synth_write_config(struct mem *mem, const struct shape *shape, const char *type,
                                const char *path, graft_error *error)
{
    const struct config *c = &shape->dimensions;
    const struct arch *arch = arch_find_gguf(shape->arch, strlen(shape->arch));
    json_t *json = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:{s:i, s:i}}",
        "architectures", arch->name, "model_type", arch->model_type, "hidden_size", c->d_model,
        "intermediate_size", c->d_ff, "num_hidden_layers", c->n_layer, "num_attention_heads",
        c->n_head, "num_key_value_heads", c->n_kv, "head_dim", c->d_head, "vocab_size", c->n_vocab,
        "max_position_embeddings", c->n_ctx, "rms_norm_eps", (double)c->norm_eps, "rope_theta",
        c->rope.theta, "tie_word_embeddings", (int)c->tied, "quantization", "group_size", MLX_GROUP,
        "bits", strcmp(type, "mlx4") ? 8 : 4);
    if (json && c->rope.kind == ROPE_LLAMA3)
        json_object_set_new(json, "rope_scaling", rope_json(&c->rope));
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    graft_status status = text ? file_write_atomic(mem, path, text, strlen(text), error)
                               : error_set(error, GRAFT_NO_MEMORY, "no memory for config.json");
    free(text); /* from jansson */
    json_decref(json);
    return status;
}
