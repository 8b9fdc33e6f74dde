/* gguf.c: a conversion into one GGUF file.
 *
 * From a GGUF the metadata is carried over as it is; from a directory it is written from the parsed
 * configuration and the tokenizer.
 */
#include "convert_internal.h"

#include <math.h>
#include <stdlib.h>

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

/* GGUF has YaRN's factor on cos and sin as a multiple of the usual one. */
static void put_yarn(struct gguf_writer *w, const char *arch, const struct rope_config *rope)
{
    double usual = rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1;
    put_key(w, arch, "rope.scaling.original_context_length", (uint32_t)rope->original_ctx);
    put_float(w, arch, "rope.scaling.yarn_beta_fast", rope->beta_fast);
    put_float(w, arch, "rope.scaling.yarn_beta_slow", rope->beta_slow);
    if (rope->attention_factor > 0 && rope->attention_factor != usual)
        put_float(w, arch, "rope.scaling.attn_factor", rope->attention_factor / usual);
}

static void put_rope(struct gguf_writer *w, const struct config *config)
{
    const char *arch = config->arch->gguf;
    const struct rope_config *rope = &config->rope;
    char key[96];
    put_key(w, arch, "rope.dimension_count", (uint32_t)config->d_head);
    put_float(w, arch, "rope.freq_base", rope->theta);
    if (rope->kind != ROPE_LINEAR && rope->kind != ROPE_YARN)
        return; /* Llama 3's is a tensor: ROPE_FACTORS */
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    put_text(w, key, rope->kind == ROPE_LINEAR ? "linear" : "yarn");
    put_float(w, arch, "rope.scaling.factor", rope->factor);
    if (rope->kind == ROPE_YARN)
        put_yarn(w, arch, rope);
}

static int widest_window(const struct config *config)
{
    int window = 0;
    for (int i = 0; i < config->n_layer; i++)
        window = config->windows[i] > window ? config->windows[i] : window;
    return window;
}

/* Which layers slide is said only where not all do. */
static graft_status put_windows(struct conversion *c, struct gguf_writer *w, graft_error *error)
{
    const struct config *config = &c->model->config;
    int window = widest_window(config), n = 0;
    if (window == 0)
        return GRAFT_OK;
    char key[96];
    int32_t *pattern = mem_calloc(&c->runtime->mem, (size_t)config->n_layer, sizeof *pattern);
    if (!pattern)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory");
    for (int i = 0; i < config->n_layer; i++)
        n += pattern[i] = config->windows[i] > 0;
    put_key(w, config->arch->gguf, "attention.sliding_window", (uint32_t)window);
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", config->arch->gguf);
    if (n < config->n_layer)
        gguf_put_i32s(w, key, pattern, (uint64_t)config->n_layer);
    mem_free(&c->runtime->mem, pattern);
    runtime_log(c->runtime, GRAFT_LOG_WARN,
                "llama.cpp ignores the sliding window of %s: it will differ from graft after %d "
                "tokens",
                config->architecture, window);
    return GRAFT_OK;
}

static graft_status put_config(struct conversion *c, struct gguf_writer *w, graft_error *error)
{
    const struct config *config = &c->model->config;
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
    put_rope(w, config);
    return put_windows(c, w, error);
}

graft_status gguf_check_expressible(const struct conversion *c, graft_error *error)
{
    const struct config *config = &c->model->config;
    if (!config->arch->gguf)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "%s has no form in GGUF (its score head has no place there); a Hugging "
                         "Face directory holds it",
                         config->architecture);
    if (config->rope.fractional_bounds)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "GGUF cannot say that YaRN's bounds are not rounded (truncate: false)");
    if (config->rope.kind == ROPE_LLAMA3 && strcmp(config->arch->gguf, "llama"))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "GGUF has llama3 rope scaling for the llama architecture only");
    return GRAFT_OK;
}

/* The model's own name: the last part of its path; in the Hugging Face cache
 * (models--ORG--NAME/snapshots/REVISION) that of the repository. */
static void put_name(struct gguf_writer *w, const char *path)
{
    char *real = realpath(path, NULL);
    if (!real)
        return;
    const char *name = path_base(real);
    char *snapshots = strstr(real, "/snapshots/");
    if (snapshots) {
        *snapshots = '\0';
        name = path_base(real);
        for (const char *dashes; (dashes = strstr(name, "--")) != NULL;)
            name = dashes + 2;
    }
    put_text(w, "general.name", name);
    free(real);
}

static void put_general(struct conversion *c, struct gguf_writer *w)
{
    put_text(w, "general.architecture", c->model->config.arch->gguf);
    put_text(w, "general.type", "model");
    put_name(w, c->model->path);
}

/* A model without a tokenizer (it runs on ids) still has its special ones. */
static graft_status put_tokenizer(struct conversion *c, struct gguf_writer *w, graft_error *error)
{
    const struct config *config = &c->model->config;
    if (c->model->tokenizer)
        return tokenizer_write_gguf(c->model->tokenizer, config->n_vocab, w, error);
    runtime_log(c->runtime, GRAFT_LOG_WARN,
                "%s has no tokenizer, and neither will the GGUF: graft runs it on token ids, other "
                "programs refuse it",
                c->model->path);
    if (config->bos >= 0)
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)config->bos);
    if (config->n_eos > 0)
        gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)config->eos[0]);
    if (config->pad >= 0)
        gguf_put_u32(w, "tokenizer.ggml.padding_token_id", (uint32_t)config->pad);
    return GRAFT_OK;
}

/* Facts about a file, not about a model. */
static bool is_files_own(const char *key)
{
    static const char *const KEYS[] = {"general.file_type", "general.quantization_version",
                                       "general.alignment"};
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        if (!strcmp(key, KEYS[i]))
            return true;
    return false;
}

static graft_status put_metadata(struct conversion *c, struct gguf_writer *w, graft_error *error)
{
    const struct gguf *source = c->model->tensors.gguf;
    graft_status status = GRAFT_OK;
    if (source) {
        for (size_t i = 0; i < source->n_values; i++)
            if (!is_files_own(source->values[i].key))
                gguf_put_value(w, &source->values[i]);
    } else {
        put_general(c, w);
        status = put_config(c, w, error);
        if (status == GRAFT_OK)
            status = put_tokenizer(c, w, error);
    }
    gguf_put_u32(w, "general.file_type", recipe_file_type(c->recipe));
    gguf_put_u32(w, "general.quantization_version", 2);
    return status;
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
        status = file_writer_settle(&file, error);
    if (status == GRAFT_OK)
        status = conversion_written(c, file.temporary, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    gguf_writer_free(&writer);
    return status;
}
