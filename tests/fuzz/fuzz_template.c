/* fuzz_template.c: hostile chat templates, rendered with a small conversation.
 *
 * Whatever the source, rendering ends within its limits, output is whole UTF-8 and NUL-terminated, and
 * a second rendering gives the same text. A line "\x01" in the input separates the template from a JSON
 * context of the fuzzer's own.
 */
#include "model/template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be nice.\"}, {\"role\": \"user\", "
    "\"content\": \"H\\u00e9 <b>\\u0000\"}, {\"role\": \"assistant\", \"content\": null, "
    "\"tool_calls\": [{\"id\": 1, \"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, "
    "true]}}}]}], \"tools\": [{\"type\": \"function\"}], \"add_generation_prompt\": true, "
    "\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"x\": {\"y\": [3, 1, 2]}}";

static json_t *context_of(const uint8_t *data, size_t size, size_t *template_size)
{
    const uint8_t *cut = size > 0 ? memchr(data, 1, size) : NULL;
    json_t *context = NULL;
    *template_size = size;
    if (cut != NULL) {
        *template_size = (size_t)(cut - data);
        json_parse((const char *)cut + 1, size - *template_size - 1, &context, NULL);
    }
    if (json_is_object(context))
        return context;
    json_decref(context);
    context = NULL;
    json_parse(conversation, sizeof conversation - 1, &context, NULL);
    return context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct template_limits limits = {.steps = 200000, .output = 1 << 20, .depth = 100};
    struct chat_template *t = NULL;
    char *text[2] = {NULL, NULL};
    size_t sizes[2], template_size;
    uint32_t code;
    json_t *context = context_of(data, size, &template_size);
    if (template_compile(NULL, (const char *)data, template_size, &t, NULL) == GRAFT_OK &&
        template_render(t, NULL, context, 0, &limits, &text[0], &sizes[0], NULL) == GRAFT_OK) {
        if (text[0][sizes[0]] != 0 ||
            template_render(t, NULL, context, 0, &limits, &text[1], &sizes[1], NULL) != GRAFT_OK)
            abort();
        if (sizes[0] != sizes[1] || memcmp(text[0], text[1], sizes[0]) != 0)
            abort();
        for (size_t i = 0, n; i < sizes[0]; i += n)
            if ((n = (size_t)utf8_decode(text[0] + i, sizes[0] - i, &code)) == 0)
                abort();
    }
    mem_free(NULL, text[0]);
    mem_free(NULL, text[1]);
    template_free(&t);
    json_decref(context);
    return 0;
}
