/* eval_answer.c: whether an answer is the one that was wanted: as a text, or in what a regular expression finds of it.
 *
 * Patterns are PCRE2's and not those of the C library, whose extended expressions know no \d and silently take it for
 * the letter d. Texts come from models, so matching is bounded.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "eval.h"

#include <pcre2.h>
#include <stdlib.h>

enum { MATCH_STEPS = 1000000, NUMBER_SIZE = 64 };

struct eval_pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct eval_text eval_trim(const char *text, size_t size)
{
    while (size > 0 && is_blank(text[size - 1])) {
        size--;
    }
    while (size > 0 && is_blank(*text)) {
        text++;
        size--;
    }
    return (struct eval_text){text, size};
}

bool eval_same(struct eval_text a, struct eval_text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

bool eval_may_become(struct eval_text reference, const char *text, size_t size)
{
    while (size > 0 && is_blank(*text)) {
        text++;
        size--;
    }
    size_t both = size < reference.size ? size : reference.size;
    if (both > 0 && memcmp(text, reference.at, both) != 0) {
        return false;
    }
    return eval_trim(text + both, size - both).size == 0;
}

graft_status eval_pattern_open(const char *text, struct eval_pattern **out, graft_error *error)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    struct eval_pattern *p = mem_calloc(NULL, 1, sizeof *p);
    if (p == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a pattern");
    }
    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    p->data = p->code != NULL ? pcre2_match_data_create_from_pattern(p->code, NULL) : NULL;
    p->context = p->data != NULL ? pcre2_match_context_create(NULL) : NULL;
    if (p->context != NULL) {
        pcre2_set_match_limit(p->context, MATCH_STEPS);
        *out = p;
        return GRAFT_OK;
    }
    bool wrong = p->code == NULL && code != PCRE2_ERROR_HEAP_FAILED;
    eval_pattern_close(&p);
    if (!wrong) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a pattern");
    }
    char message[160] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%.200s\": %s (at character %zu)", text,
                     message, at);
}

void eval_pattern_close(struct eval_pattern **pattern)
{
    struct eval_pattern *p = *pattern;
    *pattern = NULL;
    if (p != NULL) {
        pcre2_match_context_free(p->context);
        pcre2_match_data_free(p->data);
        pcre2_code_free(p->code);
        mem_free(NULL, p);
    }
}

/* Bytes that are no UTF-8 match nothing: they are what is left of a text that was cut. */
static bool is_bad_text(int code)
{
    return code <= PCRE2_ERROR_UTF8_ERR1 && code >= PCRE2_ERROR_UTF8_ERR21;
}

graft_status eval_pattern_find(struct eval_pattern *pattern, const char *text, size_t size,
                               struct eval_text *out, graft_error *error)
{
    int n =
        pcre2_match(pattern->code, (PCRE2_SPTR)text, size, 0, 0, pattern->data, pattern->context);
    if (n == PCRE2_ERROR_NOMATCH || is_bad_text(n)) {
        return GRAFT_NOT_FOUND;
    }
    if (n == PCRE2_ERROR_NOMEMORY) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to match a pattern");
    }
    if (n < 0) {
        return error_set(error, GRAFT_LIMIT, "--regex: the pattern takes too long on an answer");
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pattern->data);
    int group = 1;
    while (group < n && ends[2 * group] == PCRE2_UNSET) {
        group++;
    }
    group = group < n ? group : 0;
    PCRE2_SIZE begin = ends[2 * group], end = ends[2 * group + 1];
    /* \K in a look-around can put the end of a match before its beginning */
    *out = eval_trim(text + begin, end > begin ? end - begin : 0);
    return GRAFT_OK;
}

/* A decimal number as people write it: a sign, a currency, commas between thousands. */
static bool read_number(struct eval_text text, double *out)
{
    char digits[NUMBER_SIZE];
    size_t n = 0;
    bool any = false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.at[i];
        bool digit = c >= '0' && c <= '9';
        any = any || digit;
        if ((c == '$' && !any) || (c == ',' && any)) {
            continue;
        }
        if ((!digit && c != '.' && !((c == '-' || c == '+') && n == 0)) || n + 1 == sizeof digits) {
            return false;
        }
        digits[n++] = c;
    }
    digits[n] = '\0';
    char *end;
    *out = strtod(digits, &end);
    return any && *end == '\0';
}

bool eval_agree(struct eval_text a, struct eval_text b)
{
    double x, y;
    return eval_same(a, b) || (read_number(a, &x) && read_number(b, &y) && x == y);
}
