/* fuzz_gguf.c: hostile GGUF files. What parses must hold what the head promises: values and tensors
 * inside the file and readable, every name found again, typed access without a misread.
 */
#include "formats/formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static uint8_t touch(const uint8_t *bytes, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return sum;
}

static void check_value(const struct gguf *g, const struct gguf_value *v)
{
    struct gguf_cursor cursor;
    const char *text;
    size_t length;
    int64_t whole;
    double number;
    bool flag;
    volatile uint8_t sum = touch(v->data, v->size);
    require(gguf_find(g, v->key) == v);
    require(v->is_array || v->count == 1);
    gguf_get_int(g, v->key, INT64_MIN, INT64_MAX, &whole, NULL);
    gguf_get_number(g, v->key, &number, NULL);
    gguf_get_bool(g, v->key, &flag, NULL);
    if (!gguf_get_string(g, v->key, &text, &length, NULL))
        sum = (uint8_t)(sum + touch((const uint8_t *)text, length));
    for (uint64_t i = 0; v->type != GGUF_STRING && v->type != GGUF_BOOL && i < v->count; i++)
        require(gguf_item_number(v, i, &number));
    require(!gguf_item_number(v, v->count, &number));
    if (!gguf_strings(v, &cursor))
        return;
    while (gguf_next_string(&cursor, &text, &length))
        sum = (uint8_t)(sum + touch((const uint8_t *)text, length));
    require(cursor.next == v->data + v->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf g;
    graft_error error;
    volatile uint8_t sum = 0;
    graft_error_init(&error);
    if (gguf_parse(&g, NULL, data, size, &error)) {
        require(error.message[0] != '\0' && !strchr(error.message, '\n'));
        return 0;
    }
    for (size_t i = 0; i < g.n_values; i++)
        check_value(&g, &g.values[i]);
    for (size_t i = 0; i < g.n_tensors; i++) {
        const struct tensor_info *tensor = &g.tensors[i];
        require(gguf_find_tensor(&g, tensor->name) == tensor);
        require(tensor->data >= data + g.data_offset);
        require(tensor->size <= size - (size_t)(tensor->data - data));
        sum = (uint8_t)(sum + touch(tensor->data, tensor->size));
    }
    gguf_free(&g);
    return 0;
}
