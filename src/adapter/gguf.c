/* gguf.c: LoRA adapters as GGUF files: metadata and tensor names.
 *
 * The file says alpha and nothing else about the scale; without it, or when it is 0, the factors are used as
 * they are.
 */
#include "adapter/adapter_internal.h"

static bool ends_with(const char *text, const char *end, size_t *before)
{
    size_t n = strlen(text), m = strlen(end);
    *before = n >= m ? n - m : 0;
    return n >= m && !strcmp(text + n - m, end);
}

static graft_status must_be(const struct gguf *g, const char *key, const char *wanted,
                            graft_error *error)
{
    const char *text = NULL;
    size_t length = 0;
    graft_status status = gguf_get_string(g, key, &text, &length, error);
    if (status != GRAFT_OK || (text && length == strlen(wanted) && !memcmp(text, wanted, length)))
        return status;
    return error_set(error, GRAFT_UNSUPPORTED, "%s is \"%.*s\", where \"%s\" was expected", key,
                     length < 40 ? (int)length : 40, text ? text : "", wanted);
}

/* Other keys of adapters than those known to graft would change what the adapter does. */
static graft_status check_keys(const struct gguf *g, graft_error *error)
{
    static const char *const KNOWN[] = {"adapter.type", "adapter.lora.alpha",
                                        "adapter.lora.task_name", "adapter.lora.prompt_prefix"};
    for (size_t i = 0; i < g->n_values; i++) {
        const char *key = g->values[i].key;
        bool known = strncmp(key, "adapter.", 8) != 0;
        for (size_t k = 0; k < ARRAY_LEN(KNOWN); k++)
            known = known || !strcmp(key, KNOWN[k]);
        if (!known)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "the adapter uses \"%.80s\", which graft does not support", key);
    }
    return GRAFT_OK;
}

static graft_status read_metadata(struct spec *spec, const struct gguf *g, graft_error *error)
{
    const char *name = NULL;
    size_t length = 0;
    graft_status status = must_be(g, "general.type", "adapter", error);
    if (status == GRAFT_OK)
        status = must_be(g, "adapter.type", "lora", error);
    if (status == GRAFT_OK)
        status = check_keys(g, error);
    if (status == GRAFT_OK)
        status = gguf_get_number(g, "adapter.lora.alpha", &spec->alpha, error);
    if (status == GRAFT_OK)
        status = gguf_get_string(g, "general.architecture", &name, &length, error);
    if (status != GRAFT_OK)
        return status;
    if (!name || length >= sizeof spec->architecture || memchr(name, 0, length))
        return error_set(error, GRAFT_FORMAT, "general.architecture is missing or no name");
    memcpy(spec->architecture, name, length);
    return GRAFT_OK;
}

static graft_status add_tensor(struct spec *spec, const struct tensor_info *tensor,
                               graft_error *error)
{
    static const char EMBEDDING[] = "token_embd";
    size_t n;
    bool a = ends_with(tensor->name, ".weight.lora_a", &n);
    if (a || ends_with(tensor->name, ".weight.lora_b", &n)) {
        bool embedding = n == sizeof EMBEDDING - 1 && !memcmp(tensor->name, EMBEDDING, n);
        enum part part = embedding ? a ? PART_EMBED_A : PART_EMBED_B : a ? PART_A : PART_B;
        return spec_add(spec, tensor->name, n, part, tensor, error);
    }
    if (ends_with(tensor->name, "norm.weight", &n))
        return spec_add(spec, tensor->name, n + 4, PART_WEIGHT, tensor, error);
    return tensor_refused(tensor, GRAFT_UNSUPPORTED, error,
                          "it is no part of a GGUF adapter that graft knows");
}

graft_status spec_parse_gguf(struct spec *spec, struct mem *mem, const struct gguf *g,
                             graft_error *error)
{
    spec_begin(spec, mem, ADAPTER_GGUF);
    graft_status status = read_metadata(spec, g, error);
    for (size_t i = 0; i < g->n_tensors && status == GRAFT_OK; i++)
        status = add_tensor(spec, &g->tensors[i], error);
    return status == GRAFT_OK ? spec_check_modules(spec, error) : status;
}
