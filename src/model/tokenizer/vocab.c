/* vocab.c: the table of tokens, and the printable form of bytes.
 *
 * Ids index an array; texts live in one arena in which short strings are packed, since a vocabulary
 * has 150,000 of them. Text → id is base's hash map over the same strings.
 *
 * Byte-level vocabularies (GPT-2) store each byte as one printable character: printable Latin-1
 * bytes as themselves, the other 68 as U+0100 and up in order.
 */
#include "tokenizer_internal.h"

enum { STORE_BLOCK = 64 << 10, STORE_LIMIT = 1 << 30 };

void vocab_init(struct vocab *v, struct mem *mem)
{
    memset(v, 0, sizeof *v);
    v->mem = mem;
    arena_init(&v->strings, mem, STORE_LIMIT);
    str_map_init(&v->index, mem);
}

void vocab_free(struct vocab *v)
{
    str_map_free(&v->index);
    arena_free(&v->strings);
    mem_free(v->mem, v->tokens);
    v->tokens = NULL;
    v->count = v->capacity = 0;
}

bool vocab_reserve(struct vocab *v, int32_t count)
{
    if (count > v->capacity) {
        int32_t capacity = v->capacity < 512 ? 512 : v->capacity;
        while (capacity < count)
            capacity += capacity / 2;
        struct token *grown = mem_resize(v->mem, v->tokens, (size_t)capacity * sizeof *grown);
        if (!grown)
            return false;
        v->tokens = grown;
        v->capacity = capacity;
    }
    for (; v->count < count; v->count++) {
        v->tokens[v->count] = (struct token){.type = TOKEN_UNUSED};
    }
    return true;
}

char *vocab_store(struct vocab *v, const char *bytes, size_t size)
{
    if (size >= v->store_left) {
        size_t block = size + 1 > STORE_BLOCK / 4 ? size + 1 : STORE_BLOCK;
        char *fresh = arena_alloc_packed(&v->strings, block);
        if (!fresh)
            return NULL;
        if (block != STORE_BLOCK) { /* a long string gets a block of its own */
            memcpy(fresh, bytes, size);
            fresh[size] = 0;
            return fresh;
        }
        v->store = fresh;
        v->store_left = block;
    }
    char *place = v->store;
    if (size)
        memcpy(place, bytes, size);
    place[size] = 0;
    v->store += size + 1;
    v->store_left -= size + 1;
    return place;
}

graft_status vocab_set(struct vocab *v, int32_t id, const char *text, size_t length,
                       graft_error *error)
{
    if (length > MAX_TOKEN_BYTES)
        return error_set(error, GRAFT_LIMIT, "token %d has %zu bytes", id, length);
    if (id < 0 || id >= MAX_VOCAB)
        return error_set(error, GRAFT_LIMIT, "token id %d is out of range", id);
    if (!vocab_reserve(v, id + 1))
        goto no_memory;
    struct token *token = &v->tokens[id];
    if (token->text) {
        if (token->length == length && memcmp(token->text, text, length) == 0)
            return GRAFT_OK;
        return error_set(error, GRAFT_FORMAT, "token id %d is given to '%.40s' and to '%.40s'", id,
                         token->text, text);
    }
    const char *copy = vocab_store(v, text, length);
    if (!copy || !str_map_put(&v->index, copy, length, id, NULL))
        goto no_memory;
    token->text = copy;
    token->length = (uint32_t)length;
    token->type = TOKEN_NORMAL;
    return GRAFT_OK;
no_memory:
    return error_set(error, GRAFT_NO_MEMORY, "out of memory for %d tokens", id + 1);
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t length)
{
    return str_map_get(&v->index, text, length);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int byte_token_value(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Bytes that stand for themselves: 21..7E, A1..AC, AE..FF. */
uint32_t byte_char(uint8_t byte)
{
    if (byte < 0x21)
        return 0x100u + byte;
    if (byte < 0x7F)
        return byte;
    if (byte < 0xA1)
        return 0x100u + 33 + (byte - 0x7Fu);
    return byte == 0xAD ? 0x143 : byte;
}

int byte_from_char(uint32_t code)
{
    if (code < 0x100)
        return byte_char((uint8_t)code) == code ? (int)code : -1;
    if (code < 0x121)
        return (int)code - 0x100;
    if (code < 0x143)
        return (int)code - 0x121 + 0x7F;
    return code == 0x143 ? 0xAD : -1;
}

bool bytes_from_chars(const char *text, size_t length, char *out, size_t *size)
{
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code;
        int step = utf8_decode(text + i, length - i, &code);
        int byte = step ? byte_from_char(code) : -1;
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
        i += (size_t)step;
    }
    *size = n;
    return true;
}

bool chars_from_bytes(const char *bytes, size_t size, struct buf *out)
{
    for (size_t i = 0; i < size; i++) {
        char code[4];
        int n = utf8_encode(byte_char((uint8_t)bytes[i]), code);
        if (!buf_append(out, code, (size_t)n))
            return false;
    }
    return true;
}
