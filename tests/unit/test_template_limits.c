/* test_template_limits.c: chat templates under attack and under pressure: nesting, recursion, explosions of
 * steps, output and memory, sources that are all brackets; failing allocations; many threads.
 */
#include "unit/failing_allocator.h"
#include "unit/template_support.h"

#include <pthread.h>
#include <time.h>

static char *repeated(const char *text, size_t times)
{
    size_t n = strlen(text);
    char *out = malloc(n * times + 1);
    assert_non_null(out);
    for (size_t i = 0; i < times; i++)
        memcpy(out + i * n, text, n);
    out[n * times] = 0;
    return out;
}

static char *glued(const char *a, char *middle, const char *b)
{
    size_t n = strlen(a) + strlen(middle) + strlen(b) + 1;
    char *out = malloc(n);
    assert_non_null(out);
    snprintf(out, n, "%s%s%s", a, middle, b);
    free(middle);
    return out;
}

enum { SECONDS_MAX = 20 };

static graft_status outcome(const char *source, const struct template_limits *limits,
                            graft_error *error)
{
    json_t *context = context_from(TEMPLATE_CONTEXT);
    char *text = NULL;
    size_t size;
    clock_t start = clock(); /* of the processor: others may be busy */
    graft_status status =
        render_source(source, strlen(source), context, limits, &text, &size, error);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (seconds > SECONDS_MAX)
        fail_msg("took %.1f s: %.100s", seconds, source);
    mem_free(NULL, text);
    json_decref(context);
    return status;
}

static void deep_nesting_is_refused(void **state)
{
    static const char *const openers[] = {
        "(",     "[",    "{1:", "{'a':[",       "-",       "not ", "a[", "f(",
        "1 if ", "x|f(", "[[(", "1 if 2 else ", "x is f(", "- + "};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(openers); i++) {
        graft_error error;
        char *source = glued("{{ ", repeated(openers[i], 100000), "1");
        graft_status status = outcome(source, NULL, &error);
        if (status != GRAFT_LIMIT && status != GRAFT_FORMAT)
            fail_msg("%s: %s", openers[i], error.message);
        free(source);
    }
    static const char *const tags[] = {"{% if x %}",     "{% for x in y %}", "{% macro m() %}",
                                       "{% filter e %}", "{% set x %}",      "{% with %}",
                                       "{% call m() %}", "{% generation %}", "{% for ((((x"};
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        graft_error error;
        char *source = repeated(tags[i], 20000);
        graft_status status = outcome(source, NULL, &error);
        if (status != (i + 1 < ARRAY_LEN(tags) ? GRAFT_LIMIT : GRAFT_FORMAT))
            fail_msg("%s: %s", tags[i], error.message);
        free(source);
    }
    graft_error error;
    char *source = glued("{% set ", repeated("(", 250), "a %}");
    assert_int_equal(outcome(source, NULL, &error), GRAFT_LIMIT);
    free(source);
}

static void long_chains_are_no_nesting(void **state)
{
    static const char *const links[] = {"+1",      "~1",   "*1", " and 1",      " or 0",
                                        "|string", " < 9", "|e", " is defined", "[0:]"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        graft_error error;
        char *source = glued(i == 9 ? "{{ s" : "{{ 1", repeated(links[i], 5000), " }}");
        graft_status status = outcome(source, NULL, &error);
        if (status != GRAFT_OK && i != 8)
            fail_msg("%s: %s", links[i], error.message);
        free(source);
    }
}

static void a_megabyte_of_anything_ends_soon(void **state)
{
    static const char *const pieces[] = {"{{",      "{%",
                                         "{#",      "}}",
                                         "{{ x }}", "{% set a = 1 %}",
                                         "{{ '",    "\n",
                                         "{%-",     "{% raw %}",
                                         "{{ 1|e",  "{% if",
                                         " \n{%- ", "{{ a.b.c }}",
                                         "'",       "\xc3\xa9",
                                         "{{ (",    "{{ a, ",
                                         "{#-#} ",  "{% if 1 %}a{% endif %}",
                                         "{{1}}",   "{%raw%}{%",
                                         "{{ 1_",   "{% set x%}{% endset %}",
                                         "{{ \"\\", "{% for a in b %}{% endfor %}"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        graft_error error;
        char *source = repeated(pieces[i], ((size_t)1 << 20) / strlen(pieces[i]));
        outcome(source, NULL, &error);
        free(source);
    }
    graft_error error;
    char *source = repeated("a", ((size_t)1 << 20) + 1);
    assert_int_equal(outcome(source, NULL, &error), GRAFT_LIMIT);
    free(source);
}

static void names_without_end_stay_linear(void **state)
{
    struct buf source;
    graft_error error;
    (void)state;
    buf_init(&source, NULL, (size_t)1 << 20);
    int names = 0;
    for (; source.size < ((size_t)1 << 20) - 64; names++)
        buf_printf(&source, "{%% set a%d = %d %%}{{ a%d }}", names, names, names / 2);
    assert_int_equal(source.status, GRAFT_OK);
    const struct template_limits limits = {.steps = 8 * (uint64_t)names};
    assert_int_equal(outcome(source.data, &limits, &error), GRAFT_OK);
    buf_free(&source);
}

static void steps_output_memory_and_depth_are_bounded(void **state)
{
    static const struct {
        const char *source;
        graft_status status;
    } cases[] = {
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
         GRAFT_LIMIT},
        {"{% for a in range(100000) %}{{ s * 1000 }}{% endfor %}", GRAFT_LIMIT},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", GRAFT_LIMIT},
        {"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", GRAFT_LIMIT},
        {"{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% "
         "endfor %}",
         GRAFT_LIMIT},
        {"{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% "
         "endfor %}",
         GRAFT_LIMIT},
        {"{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor "
         "%}{{ ns.x }}",
         GRAFT_LIMIT},
        {"{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor "
         "%}{{ ns.x|tojson }}",
         GRAFT_LIMIT},
        {"{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% "
         "set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
         GRAFT_LIMIT},
        {"{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% "
         "set ns.y = [ns.y] %}{% endfor %}{{ ns.x < ns.y }}",
         GRAFT_LIMIT},
        {"{% set ns = namespace(x=()) %}{% for i in range(9999) %}{% set ns.x = (ns.x,) %}{% "
         "endfor %}{{ {ns.x: 1} }}",
         GRAFT_LIMIT},
        {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", GRAFT_LIMIT},
        {"{{ 'a' * 9223372036854775807 }}", GRAFT_LIMIT},
        {"{{ [1] * 9223372036854775807 }}", GRAFT_LIMIT},
        {"{{ '%999999999s' % 'a' }}", GRAFT_LIMIT},
        {"{{ '%99999999999999999999d' % 1 }}", GRAFT_LIMIT},
        {"{{ '{:99999999999}'.format(1) }}", GRAFT_LIMIT},
        {"{{ 'a'.center(9223372036854775807) }}", GRAFT_LIMIT},
        {"{{ 'a'|indent(9223372036854775807) }}", GRAFT_LIMIT},
        {"{{ 'a'.zfill(9223372036854775807) }}", GRAFT_LIMIT},
        {"{{ [1]|tojson(indent=9223372036854775807) }}", GRAFT_LIMIT},
        {"{{ [1]|batch(9223372036854775807, 1) }}", GRAFT_LIMIT},
        {"{{ [1]|slice(9223372036854775807, 1) }}", GRAFT_LIMIT},
        {"{{ ('a' * 100000).replace('', 'b' * 100000) }}", GRAFT_LIMIT},
        {"{{ ('b' * 100000) .join('a' * 100000) }}", GRAFT_LIMIT},
        {"{% set h = 'a' * 4000000 %}{% set x = 'a' * 2000000 ~ 'b' %}{{ h.rfind(x) }}{{ "
         "h.rsplit(x) }}",
         GRAFT_LIMIT},
        {"{% set h = 'é' * 4000000 %}{% for i in range(100000) %}{{ h[i + 3000000] }}{% endfor %}",
         GRAFT_LIMIT},
        {"{% set h = 'a' * 4000000 %}{% for i in range(100000) %}{{ h.find('b') }}{{ 'b' in h }}{% "
         "endfor %}",
         GRAFT_LIMIT},
        {"{% set h = 'a' * 4000000 %}{% for i in range(100000) %}{{ h == h }}{{ h.count('b') }}{% "
         "endfor %}",
         GRAFT_LIMIT},
        {"{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}", GRAFT_LIMIT},
        {"{% macro m() %}{{ caller() }}{% endmacro %}{% macro k() %}{% call m() %}{{ k() }}{% "
         "endcall %}{% endmacro %}{{ k() }}",
         GRAFT_LIMIT},
        {"{% set x = range(100000)|list %}{% for i in x %}{{ x|sort|length }}{{ "
         "x|unique|list|length }}{% endfor %}",
         GRAFT_LIMIT},
        {"{% set x = range(100000)|list %}{% for i in x %}{{ x[1:]|length }}{{ 5.5 in x }}{% "
         "endfor %}",
         GRAFT_LIMIT}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        graft_error error;
        graft_status status = outcome(cases[i].source, NULL, &error);
        if (status != cases[i].status)
            fail_msg("%s\n  %s: %s", cases[i].source, graft_status_text(status), error.message);
    }
}

static void limits_are_the_caller_s(void **state)
{
    graft_error error;
    struct template_limits limits = {.output = 10};
    (void)state;
    assert_int_equal(outcome("{{ 'a' * 10 }}", &limits, &error), GRAFT_OK);
    assert_int_equal(outcome("{{ 'a' * 11 }}", &limits, &error), GRAFT_LIMIT);
    limits = (struct template_limits){.steps = 1000};
    assert_int_equal(outcome("{% for i in range(50) %}{{ i }}{% endfor %}", &limits, &error),
                     GRAFT_OK);
    assert_int_equal(outcome("{% for i in range(5000) %}{{ i }}{% endfor %}", &limits, &error),
                     GRAFT_LIMIT);
    limits = (struct template_limits){.depth = 10};
    assert_int_equal(outcome("{{ [[[[1]]]] }}", &limits, &error), GRAFT_OK);
    assert_int_equal(outcome("{{ [[[[[[[[[[[1]]]]]]]]]]] }}", &limits, &error), GRAFT_LIMIT);
    limits = (struct template_limits){.depth = 1000000, .output = SIZE_MAX};
    assert_int_equal(outcome("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", &limits, &error),
                     GRAFT_LIMIT);
}

static void text_built_piece_by_piece_is_linear(void **state)
{
    graft_error error;
    (void)state;
    assert_int_equal(outcome("{% set ns = namespace(t='') %}{% for i in range(100000) %}"
                             "{% set ns.t = ns.t + 'some text and more of it, for a hundred bytes' "
                             "~ i %}{% endfor %}"
                             "{{ ns.t|length }}",
                             NULL, &error),
                     GRAFT_OK);
    check_render("{% set a = 'x' + 'y' %}{% set b = a + '1' %}{% set c = a + '2' %}{% set e = b + "
                 "'3' %}{% set g = b + '4' %}"
                 "{{ a }} {{ b }} {{ c }} {{ e }} {{ g }}",
                 "{}", "xy xy1 xy2 xy13 xy14", 20);
}

/* A context nested deeper than values may be. */
static void deep_data_is_refused(void **state)
{
    json_t *deep = json_array();
    (void)state;
    for (int i = 0; i < 600; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    json_t *context = json_pack("{s:o}", "x", deep);
    char *text;
    size_t size;
    graft_error error;
    assert_int_equal(render_source("{{ x }}", 7, context, NULL, &text, &size, &error), GRAFT_LIMIT);
    assert_int_equal(render_source("{{ y }}", 7, context, NULL, &text, &size, &error), GRAFT_OK);
    mem_free(NULL, text);
    json_decref(context);
}

static void strings_that_are_no_utf8_do_no_harm(void **state)
{
    json_t *context = json_object();
    char *text;
    size_t size;
    graft_error error;
    const char *source = "{{ x|length }}{{ x[1] }}{{ x|upper|length }}{{ x[::-1]|length }}{{ "
                         "x|list|length }}{{ x.strip() == x }}";
    (void)state;
    json_object_set_new(context, "x", json_stringn_nocheck("a\xff\xc3", 3));
    assert_int_equal(render_source(source, strlen(source), context, NULL, &text, &size, &error),
                     GRAFT_OK);
    assert_string_equal(text, "3\xff"
                              "333True");
    mem_free(NULL, text);
    json_decref(context);
}

/* ---- allocation failures ------------------------------------------------------------------ */

/* Uses every kind of statement, and the paths that allocate on their own. */
static const char wide[] = "{% set ns = namespace(t='', l=[]) %}{% macro m(a, b='x') %}<{{ a }}{{ "
                           "b }}{{ varargs }}{{ kwargs }}{{ caller() if "
                           "caller }}>{% endmacro %}{% for r in rows if r.v > 0 %}{{ loop.last "
                           "}}{% set ns.t = ns.t ~ r.n %}{% set ns.l = ns.l "
                           "+ [r.v] %}{% else %}none{% endfor %}{{ ns.t }}{{ ns.l|sort|join(', ') "
                           "}}{% call m(1, *[2, 3], **{'k': 4}) %}c"
                           "{% endcall %}{% set blk | upper %}a{{ u }}{% endset %}{{ blk }}{% "
                           "filter title %}x y{% endfilter %}{% with q=1 %}"
                           "{{ q }}{% endwith %}{% generation %}g{% endgeneration %}{{ "
                           "d|tojson(indent=2) }}{{ d|dictsort }}{{ 'a' 'b' }}"
                           "{{ '\\u00e9' }}{{ 1.5 }}{{ '{:>5} {}'.format(1, 'a') }}{{ '%s %d' % "
                           "('a', 2) }}{{ rows|groupby('g')|list }}"
                           "{{ xs|map('string')|list }}{{ html|e }}{{ u[::-1] }}{{ s.split() }}{{ "
                           "ws|unique|list }}{{ cycler(1).next() }}"
                           "{{ joiner()() }}{{ strftime_now('%Y') }}{{ range(3)[1:] }}{{ d.items() "
                           "}}{{ (1, 2)[::-1] }}{{ dict(a=1) }}"
                           "{% for n in [[[]]] recursive %}{{ loop(n) }}{% endfor %}{{ "
                           "xs|batch(2)|list }}{{ s[0:2] ~ q }}{{ m.arguments }}";

static void every_failed_allocation_is_reported(void **state)
{
    json_t *context = context_from(TEMPLATE_CONTEXT);
    bool done = false;
    (void)state;
    for (size_t n = 1; !done; n++) {
        struct failing_allocator allocator;
        struct mem mem;
        struct chat_template *t = NULL;
        char *text = NULL;
        size_t size;
        graft_error error;
        failing_init(&allocator, &mem, n);
        graft_status status = template_compile(&mem, wide, sizeof wide - 1, &t, &error);
        if (status == GRAFT_OK)
            status = template_render(t, &mem, context, 0, NULL, &text, &size, &error);
        if (status != GRAFT_OK && status != GRAFT_NO_MEMORY)
            fail_msg("call %zu: %s", n, error.message);
        assert_true(status == GRAFT_OK ? !allocator.failed : allocator.failed);
        done = status == GRAFT_OK;
        mem_free(&mem, text);
        template_free(&t);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
        assert_true(n < 100000);
    }
    json_decref(context);
}

/* The same walk with the other budgets. */
static void every_step_and_output_limit_is_reported(void **state)
{
    (void)state;
    graft_status status = GRAFT_LIMIT, last = GRAFT_LIMIT;
    graft_error error;
    for (uint64_t steps = 1; steps < 3000; steps += 7) {
        struct template_limits limits = {.steps = steps};
        status = outcome(wide, &limits, &error);
        assert_int_equal(status, last == GRAFT_OK || status == GRAFT_OK ? GRAFT_OK : GRAFT_LIMIT);
        last = status;
    }
    assert_int_equal(last, GRAFT_OK); /* a large budget is enough, and so is every larger one */
    last = GRAFT_LIMIT;
    for (size_t output = 1; output < 900; output += 5) {
        struct template_limits limits = {.output = output};
        status = outcome(wide, &limits, &error);
        assert_int_equal(status, last == GRAFT_OK || status == GRAFT_OK ? GRAFT_OK : GRAFT_LIMIT);
        last = status;
    }
    assert_int_equal(last, GRAFT_OK);
}

/* ---- threads ------------------------------------------------------------------------------ */

struct renderer {
    const struct chat_template *t;
    const json_t *context;
    bool ok;
};

static void *render_often(void *argument)
{
    struct renderer *r = argument;
    r->ok = true;
    for (int i = 0; i < 200 && r->ok; i++) {
        char *text = NULL;
        size_t size;
        r->ok = template_render(r->t, NULL, r->context, 0, NULL, &text, &size, NULL) == GRAFT_OK &&
                strcmp(text, "aéB3 4 aéB3 4 ") == 0;
        mem_free(NULL, text);
    }
    return NULL;
}

static void one_template_renders_in_many_threads(void **state)
{
    static const char source[] =
        "{% macro m(x) %}{{ 'aé' ~ 'b'|upper }}{{ x|length }} {{ u[2:]|length }} {% endmacro %}"
        "{% for i in range(2) %}{{ m(xs) }}{% endfor %}";
    json_t *context = context_from("{\"xs\": [1, 2, 3], \"u\": \"äöüßxy\"}");
    struct chat_template *t = NULL;
    struct renderer renderers[4];
    pthread_t threads[4];
    (void)state;
    assert_int_equal(template_compile(NULL, source, sizeof source - 1, &t, NULL), GRAFT_OK);
    for (int i = 0; i < 4; i++) {
        renderers[i] = (struct renderer){.t = t, .context = context};
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &renderers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(renderers[i].ok);
    }
    template_free(&t);
    json_decref(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(deep_nesting_is_refused),
                                       cmocka_unit_test(long_chains_are_no_nesting),
                                       cmocka_unit_test(a_megabyte_of_anything_ends_soon),
                                       cmocka_unit_test(names_without_end_stay_linear),
                                       cmocka_unit_test(steps_output_memory_and_depth_are_bounded),
                                       cmocka_unit_test(limits_are_the_caller_s),
                                       cmocka_unit_test(text_built_piece_by_piece_is_linear),
                                       cmocka_unit_test(deep_data_is_refused),
                                       cmocka_unit_test(strings_that_are_no_utf8_do_no_harm),
                                       cmocka_unit_test(every_failed_allocation_is_reported),
                                       cmocka_unit_test(every_step_and_output_limit_is_reported),
                                       cmocka_unit_test(one_template_renders_in_many_threads)};
#ifdef __SANITIZE_THREAD__ /* the others have one thread, and take minutes there */
    cmocka_set_test_filter("*threads*");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
