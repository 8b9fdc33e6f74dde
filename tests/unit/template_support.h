/* template_support.h: what the tests of chat templates share: one context, render and compare. */
#ifndef GRAFT_TEMPLATE_SUPPORT_H
#define GRAFT_TEMPLATE_SUPPORT_H

#include "unit/test_support.h"

#include "model/template/template.h"

/* The names that the examples use. */
#define TEMPLATE_CONTEXT                                                                           \
    "{\"n\": 7, \"neg\": -3, \"f\": 2.5, \"s\": \"Hello World\", \"u\": \"Größe ß Ω 😀\", "  \
    "\"e\": \"\", \"none_\": null, \"yes\": true, \"no\": false, \"xs\": [3, 1, 2], "              \
    "\"ws\": [\"b\", \"A\", \"c\"], \"d\": {\"b\": 1, \"a\": {\"x\": [1, 2]}, "                    \
    "\"items\": \"key\"}, \"html\": \"<a & 'b'>\", \"rows\": "                                     \
    "[{\"n\": \"x\", \"v\": 2, \"g\": \"u\"}, {\"n\": \"Y\", \"v\": 1, \"g\": \"v\"}, "            \
    "{\"n\": \"z\", \"v\": 3, \"g\": \"U\"}], \"nul\": \"a\\u0000b\", "                            \
    "\"mixed\": [1, null, 2.0, true, \"s\", [], {}]}"

struct example {
    const char *source, *expected;
    size_t expected_size; /* 0: up to the NUL */
};

static inline json_t *context_from(const char *text)
{
    json_t *context = NULL;
    assert_int_equal(json_parse(text, strlen(text), &context, NULL), GRAFT_OK);
    return context;
}

/* Compiles and renders; *out is to be freed where the status is OK. */
static inline graft_status render_source(const char *source, size_t size, const json_t *context,
                                         const struct template_limits *limits, char **out,
                                         size_t *out_size, graft_error *error)
{
    struct chat_template *t = NULL;
    graft_error_init(error);
    *out = NULL;
    graft_status status = template_compile(NULL, source, size, &t, error);
    if (status == GRAFT_OK)
        status = template_render(t, NULL, context, 1700000000, limits, out, out_size, error);
    template_free(&t);
    return status;
}

/* expected_size 0: up to the NUL. */
static inline void check_render(const char *source, const char *context_text, const char *expected,
                                size_t expected_size)
{
    json_t *context = context_from(context_text);
    graft_error error;
    char *text;
    size_t size = 0;
    graft_status status =
        render_source(source, strlen(source), context, NULL, &text, &size, &error);
    if (expected_size == 0)
        expected_size = strlen(expected);
    if (status != GRAFT_OK)
        fail_msg("%s\n  %s", source, error.message);
    if (size != expected_size || memcmp(text, expected, size) != 0)
        fail_msg("%s\n  expected: %s\n  rendered: %s", source, expected, text);
    assert_int_equal(text[size], 0);
    mem_free(NULL, text);
    json_decref(context);
}

static inline void check_all(void **state, const struct example *examples, size_t count)
{
    (void)state;
    for (size_t i = 0; i < count; i++)
        check_render(examples[i].source, TEMPLATE_CONTEXT, examples[i].expected,
                     examples[i].expected_size);
}

struct bad_example {
    const char *source, *message; /* the message holds this */
    graft_status status;          /* OK: any of FORMAT, UNSUPPORTED */
};

static inline void check_all_fail(const struct bad_example *examples, size_t count)
{
    json_t *context = context_from(TEMPLATE_CONTEXT);
    for (size_t i = 0; i < count; i++) {
        graft_error error;
        char *text;
        size_t size;
        graft_status status = render_source(examples[i].source, strlen(examples[i].source), context,
                                            NULL, &text, &size, &error);
        if (status == GRAFT_OK)
            fail_msg("%s\n  rendered: %s", examples[i].source, text);
        if (strstr(error.message, examples[i].message) == NULL)
            fail_msg("%s\n  expected: %s\n  said: %s", examples[i].source, examples[i].message,
                     error.message);
        assert_int_equal(error.status, status);
        assert_int_equal(status,
                         examples[i].status == GRAFT_OK ? GRAFT_FORMAT : examples[i].status);
    }
    json_decref(context);
}

#endif
