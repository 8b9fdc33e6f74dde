/* test_templates.c: the chat templates of published models against recorded Jinja2 renderings.
 *
 * Data: GRAFT_SHARED_DIR/data/templates; skips where that is absent.
 */
#include "unit/test_support.h"

#include "model/template/template.h"

#include <time.h>

#define TEMPLATES GRAFT_SHARED_DIR "/data/templates"

struct tally {
    int templates, cases;
};

static json_t *load_json(const char *path)
{
    json_t *json = NULL;
    graft_error error;
    if (json_read(NULL, path, (size_t)16 << 20, &json, &error) != GRAFT_OK)
        fail_msg("%s: %s", path, error.message);
    return json;
}

/* The time of "now": seconds, or an ISO date and time taken as UTC. */
static int64_t parse_now(const json_t *now)
{
    struct tm tm = {0};
    if (json_is_integer(now))
        return json_integer_value(now);
    assert_non_null(strptime(json_string_value(now), "%Y-%m-%dT%H:%M:%S", &tm));
    return timegm(&tm);
}

static json_t *case_context(const json_t *file, const json_t *one)
{
    json_t *context = json_object();
    json_t *tools = json_object_get(one, "tools");
    json_object_update(context, json_object_get(file, "special_tokens"));
    json_object_set(context, "messages", json_object_get(one, "messages"));
    json_object_set_new(context, "tools", tools != NULL ? json_incref(tools) : json_null());
    json_object_set_new(context, "documents", json_null());
    json_object_set(context, "add_generation_prompt",
                    json_object_get(one, "add_generation_prompt"));
    json_object_update(context, json_object_get(one, "extra"));
    return context;
}

static void check_case(const struct chat_template *t, const json_t *file, const json_t *one)
{
    json_t *context = case_context(file, one);
    const json_t *expected = json_object_get(one, "expected");
    const char *name = json_string_value(json_object_get(one, "name"));
    const char *wanted_error = json_string_value(json_object_get(one, "expected_error"));
    const char *kind = json_string_value(json_object_get(one, "error_kind"));
    graft_error error;
    char *text = NULL;
    size_t size = 0;
    graft_status status = template_render(t, NULL, context, parse_now(json_object_get(file, "now")),
                                          NULL, &text, &size, &error);
    if (expected != NULL) {
        if (status != GRAFT_OK)
            fail_msg("%s: %s", name, error.message);
        if (size != json_string_length(expected) ||
            memcmp(text, json_string_value(expected), size) != 0)
            fail_msg("%s\nexpected: %s\nrendered: %s", name, json_string_value(expected), text);
    } else if (strcmp(kind, "raise_exception") == 0) {
        assert_int_equal(status, GRAFT_INVALID_ARGUMENT);
        assert_string_equal(error.message, wanted_error);
    } else if (status != GRAFT_FORMAT) {
        fail_msg("%s: should fail (%s)", name, wanted_error);
    }
    mem_free(NULL, text);
    json_decref(context);
}

static void check_template(const char *name, struct tally *tally)
{
    char path[512];
    char *source;
    size_t size, i;
    struct chat_template *t = NULL;
    graft_error error;
    json_t *one;
    snprintf(path, sizeof path, TEMPLATES "/%s/%s.jinja", name, name);
    assert_int_equal(file_read(NULL, path, (size_t)1 << 20, &source, &size, &error), GRAFT_OK);
    if (template_compile(NULL, source, size, &t, &error) != GRAFT_OK)
        fail_msg("%s: %s", name, error.message);
    snprintf(path, sizeof path, TEMPLATES "/%s/cases.json", name);
    json_t *file = load_json(path);
    json_array_foreach(json_object_get(file, "cases"), i, one)
    {
        check_case(t, file, one);
        tally->cases++;
    }
    tally->templates++;
    json_decref(file);
    template_free(&t);
    mem_free(NULL, source);
}

static void published_templates_render_as_in_jinja2(void **state)
{
    struct tally tally = {0};
    DIR *dir = opendir(TEMPLATES);
    (void)state;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.')
            check_template(entry->d_name, &tally);
    closedir(dir);
    print_message("%d cases of %d templates\n", tally.cases, tally.templates);
    assert_true(tally.templates >= 13 && tally.cases >= 457);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_templates_render_as_in_jinja2)};
    if (!path_is_dir(TEMPLATES)) {
        puts("test_templates: no " TEMPLATES ", skipped");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
