/* rule.c: the patterns of adapter configurations: module names or regular expressions.
 *
 * Python's `re` wrote them, PCRE2 reads them; for what stands in such files the two agree. A pattern that is
 * spelt like a name never reaches PCRE2, which makes configurations with a rank for each of hundreds of
 * modules cheap. Size and steps are bounded: an adapter is untrusted.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "adapter/adapter_internal.h"

#include <pcre2.h>

enum { MAX_PATTERN = 4096, MATCH_STEPS = 20000, MATCH_DEPTH = 1000, GROUP_NEST = 32 };

struct rule {
    struct mem *mem;
    char *name; /* a plain name, or NULL */
    bool suffix;
    pcre2_general_context *general;
    pcre2_match_context *context;
    pcre2_code *code;
    pcre2_match_data *data; /* scratch: a spec belongs to one thread */
};

static void *pcre_malloc(size_t size, void *mem)
{
    return mem_alloc(mem, size);
}

static void pcre_free(void *block, void *mem)
{
    mem_free(mem, block);
}

/* A dot stands for itself in a name; as an expression it would match it, too. */
static bool is_plain(const char *text)
{
    static const char NAME[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
    return text[strspn(text, NAME)] == '\0';
}

bool name_ends_in(const char *name, const char *module)
{
    size_t n = strlen(name), m = strlen(module);
    return n >= m && !strcmp(name + n - m, module) && (n == m || name[n - m - 1] == '.');
}

static graft_status compile(struct rule *p, const char *text, graft_error *error)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    p->general = pcre2_general_context_create(pcre_malloc, pcre_free, p->mem);
    p->context = p->general ? pcre2_match_context_create(p->general) : NULL;
    pcre2_compile_context *options = p->general ? pcre2_compile_context_create(p->general) : NULL;
    struct buf whole;
    buf_init(&whole, p->mem, 2 * MAX_PATTERN);
    buf_printf(&whole, p->suffix ? "(?:.*\\.)?(?:%s)" : "%s", text);
    if (options && p->context && whole.status == GRAFT_OK) {
        pcre2_set_parens_nest_limit(options, GROUP_NEST);
        pcre2_set_match_limit(p->context, MATCH_STEPS);
        pcre2_set_depth_limit(p->context, MATCH_DEPTH);
        p->code = pcre2_compile((PCRE2_SPTR)whole.data, whole.size,
                                PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_UTF |
                                    PCRE2_NEVER_BACKSLASH_C,
                                &code, &at, options);
    }
    p->data = p->code ? pcre2_match_data_create(1, p->general) : NULL;
    pcre2_compile_context_free(options);
    buf_free(&whole);
    if (p->data)
        return GRAFT_OK;
    char message[160] = "";
    if (code <= 0 || p->code || code == PCRE2_ERROR_HEAP_FAILED)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a pattern");
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return error_set(error, GRAFT_FORMAT, "the regular expression '%.120s': %s", text, message);
}

graft_status rule_open(struct mem *mem, const char *text, bool suffix, struct rule **out,
                       graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (strlen(text) > MAX_PATTERN)
        return error_set(error, GRAFT_LIMIT, "a pattern of %zu bytes", strlen(text));
    struct rule *p = mem_calloc(mem, 1, sizeof *p);
    if (!p)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a pattern");
    *p = (struct rule){.mem = mem, .suffix = suffix};
    if (!is_plain(text))
        status = compile(p, text, error);
    else if (!(p->name = mem_strdup(mem, text)))
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a pattern");
    if (status != GRAFT_OK)
        rule_close(&p);
    else
        *out = p;
    return status;
}

void rule_close(struct rule **rule)
{
    struct rule *p = *rule;
    *rule = NULL;
    if (!p)
        return;
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->context);
    pcre2_general_context_free(p->general);
    mem_free(p->mem, p->name);
    mem_free(p->mem, p);
}

graft_status rule_matches(const struct rule *p, const char *name, bool *out, graft_error *error)
{
    if (p->name) {
        *out = p->suffix ? name_ends_in(name, p->name) : !strcmp(name, p->name);
        return GRAFT_OK;
    }
    int n = pcre2_match(p->code, (PCRE2_SPTR)name, strlen(name), 0, 0, p->data, p->context);
    if (n == PCRE2_ERROR_NOMEMORY || n == PCRE2_ERROR_HEAPLIMIT)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to match a pattern");
    if (n < 0 && n != PCRE2_ERROR_NOMATCH)
        return error_set(error, GRAFT_LIMIT, "a regular expression takes too long on %s", name);
    *out = n >= 0;
    return GRAFT_OK;
}
