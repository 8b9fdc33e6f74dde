/* gguf.c: a conversion into one GGUF file.
 *
 * From a GGUF the metadata is carried over as it is; from a directory it is written from the parsed
 * configuration and the tokenizer.
 */
#include "convert_internal.h"

static void put_key(struct gguf_writer *w, const char *arch, const char *key, uint32_t value)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    gguf_put_u32(w, name, value);
}

static void put_float(struct gguf_writer *w, const char *arch, const char *key, double value)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    gguf_put_f32(w, name, (float)value);
}

static void put_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string(w, key, text, strlen(text));
}

static void put_rope(struct gguf_writer *w, const struct config *config)
{
    const char *arch = config->arch->gguf;
    const struct rope_config *rope = &config->rope;
    char key[96];
    put_key(w, arch, "rope.dimension_count", (uint32_t)config->d_head);
    put_float(w, arch, "rope.freq_base", rope->theta);
    if (rope->kind != ROPE_LINEAR && rope->kind != ROPE_YARN)
        return; /* llama3 is a tensor: rope_freqs.weight */
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    put_text(w, key, rope->kind == ROPE_LINEAR ? "linear" : "yarn");
    put_float(w, arch, "rope.scaling.factor", rope->factor);
    if (rope->kind == ROPE_YARN) {
        put_key(w, arch, "rope.scaling.original_context_length", (uint32_t)rope->original_ctx);
        put_float(w, arch, "rope.scaling.yarn_beta_fast", rope->beta_fast);
        put_float(w, arch, "rope.scaling.yarn_beta_slow", rope->beta_slow);
    }
}

static int widest_window(const struct config *config)
{
    int window = 0;
    for (int i = 0; i < config->n_layer; i++)
        if (config->windows && config->windows[i] > window)
            window = config->windows[i];
    return window;
}

static void put_config(struct gguf_writer *w, const struct config *config)
{
    const char *arch = config->arch->gguf;
    put_key(w, arch, "context_length", (uint32_t)config->n_ctx);
    put_key(w, arch, "embedding_length", (uint32_t)config->d_model);
    put_key(w, arch, "block_count", (uint32_t)config->n_layer);
    put_key(w, arch, "feed_forward_length", (uint32_t)config->d_ff);
    put_key(w, arch, "attention.head_count", (uint32_t)config->n_head);
    put_key(w, arch, "attention.head_count_kv", (uint32_t)config->n_kv);
    put_key(w, arch, "attention.key_length", (uint32_t)config->d_head);
    put_key(w, arch, "attention.value_length", (uint32_t)config->d_head);
    put_float(w, arch, "attention.layer_norm_rms_epsilon", (double)config->norm_eps);
    put_key(w, arch, "vocab_size", (uint32_t)config->n_vocab);
    if (widest_window(config) > 0)
        put_key(w, arch, "attention.sliding_window", (uint32_t)widest_window(config));
    put_rope(w, config);
}

/* Windows in some layers only have no standard key. */
static graft_status check_expressible(const struct config *config, graft_error *error)
{
    int window = widest_window(config);
    if (!config->arch->gguf)
        return error_set(error, GRAFT_UNSUPPORTED, "GGUF has no architecture for %s",
                         config->architecture);
    for (int i = 0; i < config->n_layer; i++)
        if (window > 0 && config->windows[i] != window)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "GGUF cannot say that only some layers have a sliding window");
    return GRAFT_OK;
}

/* The model's own name: the last part of its path. */
static void put_general(struct conversion *c, struct gguf_writer *w)
{
    put_text(w, "general.architecture", c->model->config.arch->gguf);
    put_text(w, "general.type", "model");
    put_text(w, "general.name", path_base(c->model->path));
    gguf_put_u32(w, "general.file_type", recipe_file_type(c->recipe));
    gguf_put_u32(w, "general.quantization_version", 2);
}

static graft_status put_metadata(struct conversion *c, struct gguf_writer *w, graft_error *error)
{
    const struct gguf *source = c->model->tensors.gguf;
    if (source) {
        for (size_t i = 0; i < source->n_values; i++)
            if (strcmp(source->values[i].key, "general.file_type") &&
                strcmp(source->values[i].key, "general.alignment"))
                gguf_put_value(w, &source->values[i]);
        gguf_put_u32(w, "general.file_type", recipe_file_type(c->recipe));
        return GRAFT_OK;
    }
    graft_status status = check_expressible(&c->model->config, error);
    if (status != GRAFT_OK)
        return status;
    put_general(c, w);
    put_config(w, &c->model->config);
    if (!c->model->tokenizer)
        return error_set(error, GRAFT_NOT_FOUND, "the model has no tokenizer to write into a GGUF");
    return tokenizer_write_gguf(c->model->tokenizer, c->model->config.n_vocab, w, error);
}

static graft_status declare_items(struct conversion *c, struct gguf_writer *w, graft_error *error)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK; i++) {
        const struct item *item = &c->plan.items[i];
        struct tensor_decl decl = {.name = item->name, .type = item->type, .n_dims = 1};
        decl.shape[0] = item->n;
        if (item->matrix) {
            decl.n_dims = 2;
            decl.shape[0] = item->matrix->n_out;
            decl.shape[1] = item->matrix->n_in;
        }
        status = gguf_declare(w, &decl, error);
    }
    return status;
}

graft_status convert_to_gguf(struct conversion *c, graft_error *error)
{
    struct gguf_writer writer;
    struct file_writer file = {0};
    gguf_writer_init(&writer, &c->runtime->mem);
    graft_status status = put_metadata(c, &writer, error);
    if (status == GRAFT_OK)
        status = declare_items(c, &writer, error);
    if (status == GRAFT_OK)
        status = file_writer_open(&file, &c->runtime->mem, c->out, error);
    if (status != GRAFT_OK) {
        gguf_writer_free(&writer);
        return status;
    }
    status = gguf_write_head(&writer, &file, error);
    for (size_t i = 0; i < c->plan.count && status == GRAFT_OK; i++) {
        status = item_write(c, &c->plan.items[i], &file, error);
        if (status == GRAFT_OK)
            status = gguf_write_tensor(&file, "", 0, error); /* pads */
    }
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    gguf_writer_free(&writer);
    return status;
}
