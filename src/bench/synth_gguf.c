/* synth_gguf.c: a random model as GGUF, complete enough for other programs: configuration, vocabulary,
 * tensors.
 */
#include "bench/synth_internal.h"

static void put_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string(w, key, text, strlen(text));
}

static void put_key(struct gguf_writer *w, const struct synth *s, const char *name, int value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", s->shape->arch, name);
    gguf_put_u32(w, key, (uint32_t)value);
}

static void put_float(struct gguf_writer *w, const struct synth *s, const char *name, float value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", s->shape->arch, name);
    gguf_put_f32(w, key, value);
}

static void put_config(struct gguf_writer *w, const struct synth *s)
{
    const struct config *c = &s->config;
    put_text(w, "general.architecture", s->shape->arch);
    put_text(w, "general.type", "model");
    put_text(w, "general.name", s->shape->name);
    put_text(w, "general.description", "random weights, for measuring");
    gguf_put_u32(w, "general.file_type", recipe_file_type(s->recipe));
    gguf_put_u32(w, "general.quantization_version", 2);
    put_key(w, s, "context_length", c->n_ctx);
    put_key(w, s, "embedding_length", c->d_model);
    put_key(w, s, "block_count", c->n_layer);
    put_key(w, s, "feed_forward_length", c->d_ff);
    put_key(w, s, "attention.head_count", c->n_head);
    put_key(w, s, "attention.head_count_kv", c->n_kv);
    put_key(w, s, "attention.key_length", c->d_head);
    put_key(w, s, "attention.value_length", c->d_head);
    put_float(w, s, "attention.layer_norm_rms_epsilon", c->norm_eps);
    put_key(w, s, "vocab_size", c->n_vocab);
    put_key(w, s, "rope.dimension_count", c->d_head);
    put_float(w, s, "rope.freq_base", (float)c->rope.theta);
}

static graft_status declare(struct synth *s, const struct synth_tensor *t, void *user,
                            graft_error *error)
{
    struct tensor_decl decl = {.name = t->name, .type = t->type, .n_dims = t->n_out ? 2 : 1};
    decl.shape[0] = t->n_out ? t->n_out : t->n_in;
    decl.shape[1] = t->n_in;
    size_t row = 0;
    if (t->n_out && type_row_bytes(t->type, t->n_in, &row))
        s->bytes_total += row * (uint64_t)t->n_out;
    return gguf_declare(user, &decl, error);
}

static graft_status put_padded(struct synth *s, const struct synth_tensor *t, void *user,
                               graft_error *error)
{
    graft_status status = synth_put(s, t, user, error);
    return status == GRAFT_OK ? gguf_write_tensor(s->file, "", 0, error) : status;
}

graft_status synth_gguf(struct synth *s, graft_error *error)
{
    struct gguf_writer writer;
    gguf_writer_init(&writer, s->mem);
    put_config(&writer, s);
    graft_status status = vocab_put(s->mem, &writer, s->shape->pre, s->config.n_vocab, error);
    if (status == GRAFT_OK)
        status = synth_each(s, declare, &writer, error);
    if (status == GRAFT_OK)
        status = gguf_write_head(&writer, s->file, error);
    s->stream = 0;
    if (status == GRAFT_OK)
        status = synth_each(s, put_padded, NULL, error);
    gguf_writer_free(&writer);
    return status;
}
