/* pattern.c: finding a regular expression or a literal in text; the only user of PCRE2.
 *
 * Patterns come with untrusted models: their size, nesting and the steps of a search are bounded,
 * and a search that runs out of them is an error, not a hang. The compiled pattern is shared by all
 * threads; what a search writes is in the caller's match_state. PCRE2's memory is ours, except for
 * its executable code. Without JIT (or when JIT's stack is too small) the interpreter does the work.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer_internal.h"

#include <pcre2.h>

enum {
    MATCH_STEPS = 20000000, /* of one search, in PCRE2's count */
    MATCH_HEAP_KB = 64 << 10,
    GROUP_NEST = 64,
    TRANSLATED_LIMIT = 256 << 10
};

struct pattern {
    struct mem *mem;
    pcre2_general_context *general;
    pcre2_match_context *context;
    pcre2_code *code; /* NULL: text is a literal */
    char *text;       /* as written */
    size_t size;
};

struct match_state {
    struct mem *mem;
    pcre2_general_context *general;
    pcre2_match_data *data;
};

static void *pcre_malloc(size_t size, void *mem)
{
    return mem_alloc(mem, size);
}

static void pcre_free(void *block, void *mem)
{
    mem_free(mem, block);
}

static graft_status compile(struct pattern *p, const char *text, size_t length, graft_error *error)
{
    graft_status status = GRAFT_OK;
    struct buf translated;
    buf_init(&translated, p->mem, TRANSLATED_LIMIT);
    pcre2_compile_context *options = NULL;
    status = regex_translate(text, length, &translated, error);
    if (status)
        goto done;
    p->general = pcre2_general_context_create(pcre_malloc, pcre_free, p->mem);
    options = p->general ? pcre2_compile_context_create(p->general) : NULL;
    p->context = p->general ? pcre2_match_context_create(p->general) : NULL;
    if (!options || !p->context) {
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory for a pattern");
        goto done;
    }
    pcre2_set_parens_nest_limit(options, GROUP_NEST);
    pcre2_set_newline(options, PCRE2_NEWLINE_LF);
    pcre2_set_match_limit(p->context, MATCH_STEPS);
    pcre2_set_heap_limit(p->context, MATCH_HEAP_KB);
    int code = 0;
    PCRE2_SIZE at = 0;
    p->code = pcre2_compile((PCRE2_SPTR)translated.data, translated.size,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, options);
    if (p->code) {
        (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* the interpreter will do */
    } else {
        char message[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        status = code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED
                     ? error_set(error, GRAFT_NO_MEMORY, "out of memory for a pattern")
                     : error_set(error, GRAFT_UNSUPPORTED, "regular expression '%.120s': %s", text,
                                 message);
    }
done:
    if (options)
        pcre2_compile_context_free(options);
    buf_free(&translated);
    return status;
}

graft_status pattern_open(struct mem *mem, const char *text, size_t length, bool literal,
                          struct pattern **out, graft_error *error)
{
    if (length > MAX_PATTERN_BYTES)
        return error_set(error, GRAFT_LIMIT, "a tokenizer pattern has %zu bytes", length);
    if (literal && length == 0)
        return error_set(error, GRAFT_FORMAT, "a tokenizer pattern is empty");
    if (!utf8_valid(text, length))
        return error_set(error, GRAFT_FORMAT, "a tokenizer pattern is not UTF-8");
    struct pattern *p = mem_calloc(mem, 1, sizeof *p);
    if (!p)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for a pattern");
    p->mem = mem;
    p->text = mem_strndup(mem, text, length);
    p->size = length;
    graft_status status =
        p->text ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "out of memory for a pattern");
    if (!status && !literal)
        status = compile(p, text, length, error);
    if (status)
        pattern_close(&p);
    else
        *out = p;
    return status;
}

void pattern_close(struct pattern **pattern)
{
    struct pattern *p = *pattern;
    if (!p)
        return;
    *pattern = NULL;
    if (p->code)
        pcre2_code_free(p->code);
    if (p->context)
        pcre2_match_context_free(p->context);
    if (p->general)
        pcre2_general_context_free(p->general);
    mem_free(p->mem, p->text);
    mem_free(p->mem, p);
}

bool pattern_is_literal(const struct pattern *pattern)
{
    return !pattern->code;
}

const char *pattern_text(const struct pattern *pattern)
{
    return pattern->text;
}

static graft_status find_literal(const struct pattern *p, const char *text, size_t size,
                                 size_t from, size_t *start, size_t *end)
{
    const char *last = text + size;
    for (const char *at = text + from; (size_t)(last - at) >= p->size; at++) {
        at = memchr(at, (uint8_t)p->text[0], (size_t)(last - at) - p->size + 1);
        if (!at)
            break;
        if (memcmp(at, p->text, p->size) == 0) {
            *start = (size_t)(at - text);
            *end = *start + p->size;
            return GRAFT_OK;
        }
    }
    return GRAFT_NOT_FOUND;
}

static graft_status match_state_open(struct mem *mem, struct match_state **out)
{
    struct match_state *s = mem_calloc(mem, 1, sizeof *s);
    if (!s)
        return GRAFT_NO_MEMORY;
    s->mem = mem;
    s->general = pcre2_general_context_create(pcre_malloc, pcre_free, mem);
    s->data = s->general ? pcre2_match_data_create(1, s->general) : NULL;
    *out = s;
    return s->data ? GRAFT_OK : GRAFT_NO_MEMORY;
}

void match_state_free(struct match_state **state)
{
    struct match_state *s = *state;
    if (!s)
        return;
    *state = NULL;
    if (s->data)
        pcre2_match_data_free(s->data);
    if (s->general)
        pcre2_general_context_free(s->general);
    mem_free(s->mem, s);
}

graft_status pattern_find(const struct pattern *p, struct match_state **state, const char *text,
                          size_t size, size_t from, size_t *start, size_t *end, graft_error *error)
{
    if (!p->code)
        return find_literal(p, text, size, from, start, end);
    if (!*state && match_state_open(p->mem, state) != GRAFT_OK) {
        match_state_free(state);
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for matching");
    }
    pcre2_match_data *data = (*state)->data;
    int found =
        pcre2_match(p->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, data, p->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(p->code, (PCRE2_SPTR)text, size, from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, p->context);
    if (found == PCRE2_ERROR_NOMATCH)
        return GRAFT_NOT_FOUND;
    if (found == PCRE2_ERROR_NOMEMORY)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for matching");
    if (found < 0)
        return error_set(error, GRAFT_LIMIT,
                         "the tokenizer's regular expression takes too many steps on this text");
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
    *start = span[0];
    *end = span[1];
    return GRAFT_OK;
}

size_t utf8_valid_prefix(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size) {
        uint64_t word;
        while (size - i >= sizeof word) { /* eight ASCII bytes at a time */
            memcpy(&word, text + i, sizeof word);
            if (word & 0x8080808080808080u)
                break;
            i += sizeof word;
        }
        if (i == size)
            break;
        uint32_t code;
        int step = utf8_decode(text + i, size - i, &code);
        if (!step)
            break;
        i += (size_t)step;
    }
    return i;
}

bool utf8_valid(const char *text, size_t size)
{
    return utf8_valid_prefix(text, size) == size;
}
