/* tokenizer.c: the public functions on tokenizers: check, find the file, call inward. */
#include "api/api_internal.h"

enum { TOKENIZER_JSON_LIMIT = 512 << 20 };

/* ---- open ---- */

static graft_status open_gguf(struct mem *mem, const char *path, struct tokenizer **out,
                              graft_error *error)
{
    struct file_map map = {0};
    struct gguf gguf = {0};
    graft_status status = file_map_open(&map, mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK) {
        status = gguf_parse(&gguf, mem, map.data, map.size, error);
    }
    if (status == GRAFT_OK) {
        status = tokenizer_open_gguf(mem, &gguf, out, error);
    }
    gguf_free(&gguf);
    file_map_close(&map);
    return status;
}

static graft_status open_json(struct mem *mem, const char *path, struct tokenizer **out,
                              graft_error *error)
{
    char *text;
    size_t size;
    graft_status status = file_read(mem, path, TOKENIZER_JSON_LIMIT, &text, &size, error);
    if (status == GRAFT_OK) {
        status = tokenizer_parse_json(mem, text, size, NULL, out, error);
        mem_free(mem, text);
    }
    return status;
}

/* A directory with the files of a tokenizer, or, as for a model, with one GGUF file. */
static graft_status open_dir(struct mem *mem, const char *path, struct tokenizer **out,
                             graft_error *error)
{
    struct tensor_set set = {0};
    graft_status status = tokenizer_open_dir(mem, path, out, error);
    if (status != GRAFT_NOT_FOUND ||
        tensor_set_open(&set, mem, path, MAP_SHARED_FILE, NULL) != GRAFT_OK) {
        return status;
    }
    if (set.gguf != NULL) {
        status = tokenizer_open_gguf(mem, set.gguf, out, error);
    }
    tensor_set_close(&set);
    return status;
}

static graft_status open_path(struct mem *mem, const char *path, struct tokenizer **out,
                              graft_error *error)
{
    graft_status status;
    if (path_is_dir(path)) {
        status = open_dir(mem, path, out, error);
    } else if (text_ends_with(path, ".json")) {
        status = open_json(mem, path, out, error);
    } else {
        status = open_gguf(mem, path, out, error);
    }
    if (status != GRAFT_OK) {
        error_at_file(error, path);
    }
    return status;
}

graft_status graft_tokenizer_open(graft_runtime *runtime, const char *path, graft_tokenizer **out,
                                  graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    struct mem *mem = &runtime->mem;
    graft_tokenizer *t = mem_calloc(mem, 1, sizeof *t);
    if (t == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a tokenizer");
    }
    t->runtime = runtime;
    char *found = NULL;
    graft_status status = model_resolve(mem, path, &found, error);
    if (status == GRAFT_OK) {
        status = open_path(mem, found, &t->tokenizer, error);
    }
    mem_free(mem, found);
    if (status != GRAFT_OK) {
        mem_free(mem, t);
        return status;
    }
    *out = t;
    return GRAFT_OK;
}

void graft_tokenizer_close(graft_tokenizer **tokenizer)
{
    if (tokenizer == NULL || *tokenizer == NULL) {
        return;
    }
    graft_tokenizer *t = *tokenizer;
    *tokenizer = NULL;
    tokenizer_close(&t->tokenizer);
    mem_free(&t->runtime->mem, t);
}

/* ---- text ↔ ids ---- */

graft_status graft_tokenize(const graft_tokenizer *tokenizer, const char *text, size_t size,
                            int flags, graft_token_id **ids, size_t *n, graft_error *error)
{
    REQUIRE(tokenizer);
    REQUIRE(ids);
    REQUIRE(n);
    if (size > 0) {
        REQUIRE(text);
    }
    if ((flags & ~(GRAFT_TOKENIZE_BOS | GRAFT_TOKENIZE_SPECIAL)) != 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "unknown flags %#x", (unsigned)flags);
    }
    CHECK_RUNTIME(tokenizer->runtime);
    struct mem *mem = &tokenizer->runtime->mem;
    struct tokens tokens = {.mem = mem};
    int inner = (flags & GRAFT_TOKENIZE_BOS ? TOKENIZE_BOS : 0) |
                (flags & GRAFT_TOKENIZE_SPECIAL ? TOKENIZE_SPECIAL : 0);
    graft_status status =
        tokenizer_encode(tokenizer->tokenizer, size > 0 ? text : "", size, inner, &tokens, error);
    if (status == GRAFT_OK && tokens.ids == NULL && (tokens.ids = mem_alloc(mem, 0)) == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for tokens");
    }
    if (status != GRAFT_OK) {
        tokens_free(&tokens);
        return status;
    }
    *ids = tokens.ids;
    *n = tokens.count;
    return GRAFT_OK;
}

graft_status graft_detokenize(const graft_tokenizer *tokenizer, const graft_token_id *ids, size_t n,
                              bool with_special, char **text, size_t *size, graft_error *error)
{
    REQUIRE(tokenizer);
    REQUIRE(text);
    REQUIRE(size);
    if (n > 0) {
        REQUIRE(ids);
    }
    CHECK_RUNTIME(tokenizer->runtime);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer_size(tokenizer->tokenizer)) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "token %d at position %zu is not in the vocabulary of %d", (int)ids[i],
                             i, (int)tokenizer_size(tokenizer->tokenizer));
        }
    }
    struct buf buf;
    buf_init(&buf, &tokenizer->runtime->mem, SIZE_MAX);
    graft_status status = tokenizer_decode(tokenizer->tokenizer, ids, n, with_special, &buf, error);
    if (status == GRAFT_OK) {
        buf_append(&buf, "", 0); /* a text of its own even when there is nothing in it */
        size_t taken_size;
        char *taken = buf_take(&buf, &taken_size);
        if (taken == NULL) {
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for the text of %zu tokens", n);
        } else {
            *text = taken;
            *size = taken_size;
        }
    }
    buf_free(&buf);
    return status;
}

const char *graft_token_bytes(const graft_tokenizer *tokenizer, graft_token_id id, size_t *size)
{
    size_t n = 0;
    const char *bytes = tokenizer != NULL ? tokenizer_piece(tokenizer->tokenizer, id, &n) : "";
    if (size != NULL) {
        *size = n;
    }
    return bytes;
}

graft_status graft_tokenizer_describe(const graft_tokenizer *tokenizer, graft_tokenizer_info *out,
                                      graft_error *error)
{
    REQUIRE(tokenizer);
    REQUIRE(out);
    CHECK_RUNTIME(tokenizer->runtime);
    const struct tokenizer *t = tokenizer->tokenizer;
    *out = (graft_tokenizer_info){.kind = tokenizer_kind(t),
                                  .size = tokenizer_size(t),
                                  .bos = tokenizer_bos(t),
                                  .eos = tokenizer_eos(t),
                                  .pad = tokenizer_pad(t),
                                  .adds_bos = tokenizer_adds_bos(t)};
    return GRAFT_OK;
}
