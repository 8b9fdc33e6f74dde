/* open_dir.c: the tokenizer files of a Hugging Face directory. */
#include "tokenizer_internal.h"

enum { JSON_LIMIT = 256 << 20, TEMPLATE_LIMIT = 1 << 20 };

/* Reads DIR/NAME as JSON when it is there; else *out stays NULL. */
static graft_status read_optional(struct mem *mem, const char *dir, const char *name, json_t **out,
                                  graft_error *error)
{
    char *path = path_join(mem, dir, name);
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a path");
    graft_status status =
        path_exists(path) ? json_read(mem, path, JSON_LIMIT, out, error) : GRAFT_OK;
    mem_free(mem, path);
    return status;
}

/* Names DIR/NAME, or at least DIR, in an error that was just set. */
static void error_at(struct mem *mem, const char *dir, const char *name, graft_error *error)
{
    char *path = path_join(mem, dir, name);
    error_at_file(error, path ? path : dir);
    mem_free(mem, path);
}

/* Reads DIR/NAME; NOT_FOUND, without an error set, when it is not there. */
static graft_status read_text(struct mem *mem, const char *dir, const char *name, size_t limit,
                              char **out, size_t *size, graft_error *error)
{
    char *path = path_join(mem, dir, name);
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a path");
    graft_status status =
        path_exists(path) ? file_read(mem, path, limit, out, size, error) : GRAFT_NOT_FOUND;
    mem_free(mem, path);
    return status;
}

/* added_tokens.json, {"text": id}: puts what tokenizer_config.json does not list into its
 * added_tokens_decoder. Tokens that special_tokens_map.json names are special. */
static graft_status join_added(json_t *config, const json_t *added, const json_t *map,
                               graft_error *error)
{
    json_t *decoder = json_object_get(config, "added_tokens_decoder");
    if (!json_is_object(added) || decoder)
        return GRAFT_OK;
    decoder = json_object();
    bool ok = decoder && json_object_set_new(config, "added_tokens_decoder", decoder) == 0;
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)added, text, id)
    {
        bool special = false;
        size_t i;
        json_t *other;
        json_array_foreach(json_object_get(map, "additional_special_tokens"), i, other)
        {
            const char *name = json_string_value(
                json_is_object(other) ? json_object_get(other, "content") : other);
            special |= name && strcmp(name, text) == 0;
        }
        static const char *const roles[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
        for (size_t k = 0; k < ARRAY_LEN(roles); k++) {
            json_t *node = json_object_get(map, roles[k]);
            const char *name =
                json_string_value(json_is_object(node) ? json_object_get(node, "content") : node);
            special |= name && strcmp(name, text) == 0;
        }
        char key[24];
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(id));
        ok = ok &&
             json_object_set_new(decoder, key,
                                 json_pack("{s:s, s:b}", "content", text, "special", special)) == 0;
    }
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory for added tokens");
}

/* The settings files beside the vocabulary, as one configuration. */
static graft_status read_config(struct mem *mem, const char *dir, json_t **out, graft_error *error)
{
    json_t *config = NULL, *map = NULL, *added = NULL;
    graft_status status = read_optional(mem, dir, "tokenizer_config.json", &config, error);
    if (!status)
        status = read_optional(mem, dir, "special_tokens_map.json", &map, error);
    if (!status)
        status = read_optional(mem, dir, "added_tokens.json", &added, error);
    if (!status && config && !json_is_object(config))
        status = error_set(error, GRAFT_FORMAT, "tokenizer_config.json is not an object");
    if (!status && !config)
        config = json_object();
    if (!status && json_is_object(map) && json_object_update_missing(config, map) != 0)
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory for a tokenizer");
    if (!status)
        status = join_added(config, added, map, error);
    json_decref(map);
    json_decref(added);
    if (status)
        json_decref(config);
    else
        *out = config;
    return status;
}

static graft_status open_json(struct mem *mem, const char *dir, const json_t *config,
                              struct tokenizer **out, graft_error *error)
{
    char *text = NULL;
    size_t size = 0;
    graft_status status = read_text(mem, dir, "tokenizer.json", JSON_LIMIT, &text, &size, error);
    if (!status)
        status = tokenizer_parse_json(mem, text, size, config, out, error);
    if (status && status != GRAFT_NOT_FOUND)
        error_at(mem, dir, "tokenizer.json", error);
    mem_free(mem, text);
    return status;
}

static graft_status open_vocab_merges(struct mem *mem, const char *dir, const json_t *config,
                                      struct tokenizer **out, graft_error *error)
{
    char *vocab = NULL, *merges = NULL;
    size_t vocab_size = 0, merges_size = 0;
    graft_status status = read_text(mem, dir, "vocab.json", JSON_LIMIT, &vocab, &vocab_size, error);
    if (!status)
        status = read_text(mem, dir, "merges.txt", JSON_LIMIT, &merges, &merges_size, error);
    if (!status)
        status = tokenizer_parse_vocab_merges(mem, vocab, vocab_size, merges, merges_size, config,
                                              out, error);
    mem_free(mem, vocab);
    mem_free(mem, merges);
    return status;
}

/* chat_template.jinja is what newer models ship; it stands above the configuration's template. */
static graft_status read_template_file(struct tokenizer *t, const char *dir, graft_error *error)
{
    char *text = NULL;
    size_t size = 0;
    graft_status status =
        read_text(t->mem, dir, "chat_template.jinja", TEMPLATE_LIMIT, &text, &size, error);
    if (status == GRAFT_NOT_FOUND)
        return GRAFT_OK;
    if (!status) {
        mem_free(t->mem, t->chat_template);
        t->chat_template = text;
    }
    return status;
}

graft_status tokenizer_open_dir(struct mem *mem, const char *dir, struct tokenizer **out,
                                graft_error *error)
{
    json_t *config = NULL;
    struct tokenizer *t = NULL;
    graft_status status = read_config(mem, dir, &config, error);
    if (!status)
        status = open_json(mem, dir, config, &t, error);
    if (status == GRAFT_NOT_FOUND)
        status = open_vocab_merges(mem, dir, config, &t, error);
    if (status == GRAFT_NOT_FOUND)
        status = error_set(error, GRAFT_NOT_FOUND,
                           "no tokenizer.json, and no vocab.json with merges.txt");
    if (!status)
        status = read_template_file(t, dir, error);
    json_decref(config);
    if (status) {
        error_at_file(error, dir);
        tokenizer_close(&t);
    } else {
        *out = t;
    }
    return status;
}
