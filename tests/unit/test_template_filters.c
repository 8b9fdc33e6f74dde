/* test_template_filters.c: filters, tests and functions of chat templates. The expected texts are
 * Jinja2's, with tojson as Hugging Face defines it.
 */
#include "unit/template_support.h"

static void text_filters(void **state)
{
    static const struct example examples[] = {
        {"{{ s|upper }} {{ s|lower }} {{ 'heLLO wORLD-foo (bar'|title }} {{ 'ßa bC'|title }} {{ "
         "'hELLO'|capitalize }} {{ 5|upper }} {{ none|title }} {{ [1]|lower }}",
         "HELLO WORLD hello world Hello World-Foo (Bar SSa Bc Hello 5 None [1]", 0},
        {"[{{ '  x '|trim }}] {{ 'xxaxx'|trim('x') }} {{ 5|trim }} [{{ undefined_|trim }}] [{{ "
         "'ab'|center(6) }}] [{{ 'a'|center(4) }}] {{ 'a b c_d é'|wordcount }}",
         "[x] a 5 [] [  ab  ] [ a  ] 4", 0},
        {"{{ 'aaa'|replace('a', 'b') }} {{ 'aaa'|replace('a', 'b', 1) }} {{ 121|replace(1, 'x') }} "
         "{{ 'a<b'|replace('<', '&lt;') }} {{ none|replace('o', '0') }}",
         "bbb baa x2x a&lt;b N0ne", 0},
        {"{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent('> ', "
         "blank=true) }}|{{ 'a\\nb\\n'|indent(1) }}|{{ ''|indent }}|{{ 'x'|indent(width=3, "
         "first=true) }}",
         "a\n    b\n\n    c|  a\n  b|a\n> \n> b|a\n b\n||   x", 0},
        {"{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'foo "
         "bar baz qux'|truncate(11) }} {{ 'foo bar baz qux'|truncate(11, false, '..', 0) }} {{ "
         "'ééé ééé éééé'|truncate(6, leeway=0) }} {{ 'abcdefghij'|truncate(4, leeway=0) }}",
         "foo... foo ba... foo bar baz qux foo bar.. ééé... a...", 0},
        {"{{ '%s and %s'|format('a', 2) }} {{ '%(x)s'|format(x=1) }} {{ 'a b&c/é'|urlencode }} {{ "
         "{'a b': 'c/d', 'e': 1}|urlencode }} {{ [('x', 'y z')]|urlencode }} {{ 5|string + '!' }} "
         "{{ none|string }}",
         "a and 2 1 a%20b%26c/%C3%A9 a+b=c%2Fd&e=1 x=y+z 5! None", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void number_filters(void **state)
{
    static const struct example examples[] = {
        {"{{ '12'|int(base=0) }} {{ '012'|int(5, 0) }} {{ '0o17'|int(base=0) }} {{ "
         "'00'|int(base=0) }} {{ 'zz'|int(base=36) }} {{ '1'|int(9, 1) }} {{ 5|int }} {{ "
         "4|round(-30) }} {{ 0.5|int }} {{ 1e-320 }} {{ '-7'|int }} {{ 'nan'|int(3) }} {{ (2.5 - "
         "5)|int }} {{ ('nan'|float)|int(4) }}",
         "12 12 15 0 1295 1 5 0 0 1e-320 -7 3 -2 4", 0},
        {"{{ 0.1234567890123456789012345678901234567890123456789e1 }} {{ "
         "123456789012345678901234567890.0 }} {{ 000.5 }} {{ 1.7976931348623159e308 }} {{ 1e-400 "
         "}} {{ 4.9406564584124654e-324 }}",
         "1.2345678901234567 1.2345678901234568e+29 0.5 inf 0.0 5e-324", 0},
        {"{{ -5|abs }} {{ (-5)|abs }} {{ -2.5|abs }} {{ true|abs }} {{ 42.9|int }} {{ '42'|int }} "
         "{{ ' 42 '|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ '3.9'|int }} {{ '0x1f'|int(base=16) "
         "}} {{ '0b11'|int(0, 0) }} {{ '1_000'|int }} {{ none|int(1) }} {{ []|int }} {{ '-12'|int "
         "}} {{ '１'|length }}",
         "5 5 2.5 1 42 42 42 0 7 3 31 3 1000 1 0 -12 1", 0},
        {"{{ '2.5'|float }} {{ ' 1e3 '|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ none|float "
         "}} {{ 3|float }} {{ '1_0.5'|float }} {{ '.5'|float }} {{ '5.'|float }} {{ "
         "'1__0'|float(9) }} {{ 'Infinity'|float }} {{ true|float }} {{ '-'|float }} {{ '1e'|float "
         "}}",
         "2.5 1000.0 0.0 1.5 0.0 3.0 10.5 0.5 5.0 9 inf 1.0 0.0 0.0", 0},
        {"{{ 42.55|round }} {{ 42.55|round(1) }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) "
         "}} {{ 1234|round(-2) }} {{ 1250|round(-2) }} {{ 1350|round(-2) }} {{ -1250|round(-2) }} "
         "{{ 5|round }} {{ 25.0|round(-1) }} {{ 35.0|round(-1) }} {{ 51.0|round(-2) }} {{ "
         "4.0|round(-3) }} {{ 1e300|round(2) }} {{ -0.4|round }}",
         "43.0 42.5 2.0 4.0 2.67 1200 1200 1400 -1200 5 20.0 40.0 100.0 0.0 1e+300 -0.0", 0},
        {"{{ 42.55|round(1, 'ceil') }} {{ 42.55|round(method='floor') }} {{ 42|round(0, 'ceil') }} "
         "{{ -1.5|round(0, 'floor') }} {{ true|round }} {{ 7|round(2) }}",
         "42.6 42.0 42.0 -2.0 1 7", 0},
        {"{{ 1|filesizeformat }} {{ 999|filesizeformat }} {{ 1000|filesizeformat }} {{ "
         "1500000|filesizeformat }} {{ 1024|filesizeformat(true) }} {{ '5000000000'|filesizeformat "
         "}} {{ 1e30|filesizeformat }} {{ 3e15|filesizeformat }} {{ 2097152|filesizeformat(true) "
         "}}",
         "1 Byte 999 Bytes 1.0 kB 1.5 MB 1.0 KiB 5.0 GB 1000000.0 YB 3.0 PB 2.0 MiB", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void sequence_filters(void **state)
{
    static const struct example examples[] = {
        {"{{ xs|length }} {{ 'é😀'|count }} {{ d|length }} {{ range(5)|length }} {{ "
         "undefined_|length }} {{ d.items()|length }}",
         "3 2 3 5 0 3", 0},
        {"{{ xs|first }} {{ xs|last }} {{ 'abc'|first }} {{ 'aé'|last }} {{ d|first }} {{ d|last "
         "}} {{ []|first is defined }} {{ []|last is defined }} {{ ''|last is defined }} {{ "
         "range(3)|last }} {{ undefined_|first is defined }}",
         "3 2 a é b items False False False 2 False", 0},
        {"{{ xs|min }} {{ xs|max }} {{ ws|min }} {{ ws|max }} {{ ws|min(case_sensitive=true) }} {{ "
         "rows|max(attribute='v') }} {{ []|min is defined }} {{ ['a', 'B']|max }}",
         "1 3 A c A {'n': 'z', 'v': 3, 'g': 'U'} False B", 0},
        {"{{ xs|sum }} {{ rows|sum(attribute='v') }} {{ xs|sum(start=10) }} {{ [[1], "
         "[2]]|sum(start=[]) }} {{ [0.5, 1]|sum }} {{ []|sum }}",
         "6 6 16 [1, 2] 1.5 0", 0},
        {"{{ ws|join }} {{ ws|join(', ') }} {{ rows|join('+', attribute='n') }} {{ [1, none, "
         "'x']|join('-') }} {{ 'abc'|join('.') }} {{ xs|join(0) }} {{ undefined_|join }}|",
         "bAc b, A, c x+Y+z 1-None-x a.b.c 30102 |", 0},
        {"{{ 'abc'|list }} {{ d|list }} {{ range(3)|list }} {{ (1, 2)|list }} {{ undefined_|list "
         "}} {{ {'a': 1}|items|list }} {{ undefined_|items|list }}",
         "['a', 'b', 'c'] ['b', 'a', 'items'] [0, 1, 2] [1, 2] [] [('a', 1)] []", 0},
        {"{{ xs|reverse|list }} {{ 'aé'|reverse }} {{ d|reverse|list }} {{ "
         "xs|map('string')|reverse }} {{ range(3)|reverse|join }}",
         "[2, 1, 3] éa ['items', 'a', 'b'] ['2', '1', '3'] 210", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void sorting_filters(void **state)
{
    static const struct example examples[] = {
        {"{{ xs|sort }} {{ xs|sort(reverse=true) }} {{ ws|sort }} {{ ws|sort(case_sensitive=true) "
         "}} {{ ws|sort(true) }} {{ (3, 1)|sort }} {{ 'cab'|sort }} {{ d|sort }}",
         "[1, 2, 3] [3, 2, 1] ['A', 'b', 'c'] ['A', 'b', 'c'] ['c', 'b', 'A'] [1, 3] ['a', 'b', "
         "'c'] ['a', 'b', 'items']",
         0},
        {"{{ rows|sort(attribute='n')|map(attribute='n')|list }} {{ "
         "rows|sort(attribute='g,v')|map(attribute='n')|list }} {{ rows|sort(attribute='g', "
         "reverse=true)|map(attribute='n')|list }} {{ [none, none]|sort }} {{ [[2, 'b'], [1, "
         "'a']]|sort(attribute=0) }} {{ [{'a': {'b': 2}}, {'a': {'b': 1}}]|sort(attribute='a.b') "
         "}}",
         "['x', 'Y', 'z'] ['x', 'z', 'Y'] ['Y', 'x', 'z'] [None, None] [[1, 'a'], [2, 'b']] [{'a': "
         "{'b': 1}}, {'a': {'b': 2}}]",
         0},
        {"{{ {'b': 1, 'A': 2, 'c': 0}|dictsort }} {{ {'b': 1, 'A': 2}|dictsort(true) }} {{ {'b': "
         "1, 'A': 2}|dictsort(by='value') }} {{ {'b': 1, 'A': 2}|dictsort(reverse=true) }}",
         "[('A', 2), ('b', 1), ('c', 0)] [('A', 2), ('b', 1)] [('b', 1), ('A', 2)] [('b', 1), "
         "('A', 2)]",
         0},
        {"{{ ['a', 'A', 'b']|unique|list }} {{ ['a', 'A', 'b']|unique(case_sensitive=true)|list }} "
         "{{ rows|unique(attribute='g')|map(attribute='n')|list }} {{ [1, 1.0, true, "
         "2]|unique|list }}",
         "['a', 'b'] ['a', 'A', 'b'] ['x', 'Y'] [1, 2]", 0},
        {"{% for g in rows|groupby('g') %}{{ g.grouper }}:{{ g.list|map(attribute='n')|join }} {% "
         "endfor %}{% for k, l in rows|groupby('g', case_sensitive=true) %}{{ k }}{{ l|length }} "
         "{% endfor %}{{ rows|groupby('q', default=0)|length }} {{ [{'a': 2}, {'a': "
         "1}]|groupby('a') }}",
         "u:xz v:Y U1 u1 v1 1 [(1, [{'a': 1}]), (2, [{'a': 2}])]", 0},
        {"{{ range(7)|batch(3)|list }} {{ range(7)|batch(3, 'x')|list }} {{ range(7)|slice(3)|list "
         "}} {{ range(7)|slice(3, 'x')|list }} {{ []|batch(2)|list }} {{ [1]|batch(0)|list }}",
         "[[0, 1, 2], [3, 4, 5], [6]] [[0, 1, 2], [3, 4, 5], [6, 'x', 'x']] [[0, 1, 2], [3, 4], "
         "[5, 6]] [[0, 1, 2], [3, 4, 'x'], [5, 6, 'x']] [] [[], [1]]",
         0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void selecting_filters(void **state)
{
    static const struct example examples[] = {
        {"{{ d|attr('items') is callable }} {{ 1|default('x', true) }} {{ xs|select('in', (1, "
         "2))|list }} {{ e|select|list }} {{ none_|map('upper')|list }} {{ "
         "rows|map(attribute='d.e', default=0)|list if false }} {{ "
         "[rows]|map(attribute='0.v')|list }} {{ ['a']|map('center', width=3)|list }} {{ "
         "rows|sum(attribute='v', start=0.5) }}",
         "True 1 [1, 2] [] []  [2] [' a '] 6.5", 0},
        {"{{ xs|map('string')|list }} {{ ws|map('upper')|join }} {{ rows|map(attribute='n')|list "
         "}} {{ rows|map(attribute='q', default='-')|list }} {{ ['a-b']|map('replace', '-', "
         "'+')|list }} {{ [[1, 2]]|map('join', ',')|list }} {{ undefined_|map('upper')|list }} {{ "
         "['x']|map('default')|list }}",
         "['3', '1', '2'] BAC ['x', 'Y', 'z'] ['-', '-', '-'] ['a+b'] ['1,2'] [] ['x']", 0},
        {"{{ mixed|select|list }} {{ mixed|reject|list }} {{ xs|select('odd')|list }} {{ "
         "xs|reject('odd')|list }} {{ xs|select('gt', 1)|list }} {{ xs|select('>=', 2)|list }} {{ "
         "mixed|select('string')|list }} {{ xs|select('in', [1, 2])|list }}",
         "[1, 2.0, True, 's'] [None, [], {}] [3, 1] [2] [3, 2] [3, 2] ['s'] [1, 2]", 0},
        {"{{ rows|selectattr('v')|list|length }} {{ rows|selectattr('v', 'eq', "
         "2)|map(attribute='n')|list }} {{ rows|rejectattr('v', 'equalto', "
         "2)|map(attribute='n')|list }} {{ rows|selectattr('q', 'undefined')|list|length }} {{ "
         "rows|rejectattr('q')|list|length }} {{ [d]|selectattr('a.x.1', 'eq', 2)|list|length }}",
         "3 ['x'] ['Y', 'z'] 3 3 1", 0},
        {"{{ undefined_|default('x') }} {{ undefined_|default }}| {{ ''|default('x') }}| {{ "
         "''|default('x', true) }} {{ none|d('x') }} {{ none|d('x', boolean=true) }} {{ 0|d(1, "
         "true) }} {{ d.nope.x|default(1) if false }}|{{ d|attr('keys') is callable }} {{ "
         "d|attr('b') is defined }}",
         "x | | x None x 1 |True False", 0},
        {"{{ (xs|map('string')) is iterable }} {{ (xs|map('string')) is sequence }} {{ "
         "(xs|map('string')) is string }} {% set it = xs|map('string') %}{{ it|list }}{{ it|list "
         "}} {{ it is defined }} {% set g = xs|select %}{{ g|first }}{{ g|first }}{{ 1 in g }}",
         "True False False ['3', '1', '2'][] True 31False", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void tojson_as_hugging_face_sets_it_up(void **state)
{
    static const struct example examples[] = {
        {"{{ mixed|tojson }} {{ d|tojson }} {{ u|tojson }} {{ html|tojson }} {{ nul|tojson }} {{ "
         "(1, 'a')|tojson }} {{ 1.0|tojson }} {{ 1e20|tojson }} {{ []|tojson }} {{ {}|tojson }}",
         "[1, null, 2.0, true, \"s\", [], {}] {\"b\": 1, \"a\": {\"x\": [1, 2]}, \"items\": "
         "\"key\"} \"Größe ß Ω 😀\" \"<a & 'b'>\" \"a\\u0000b\" [1, \"a\"] 1.0 1e+20 [] {}",
         0},
        {"{{ d|tojson(indent=2) }}",
         "{\n  \"b\": 1,\n  \"a\": {\n    \"x\": [\n      1,\n      2\n    ]\n  },\n  \"items\": "
         "\"key\"\n}",
         0},
        {"{{ {'a': [], 'b': {}, 'c': [[1]]}|tojson(indent=1) }} {{ [1, 2]|tojson(indent=0) }} {{ "
         "[1]|tojson(indent='--') }}",
         "{\n \"a\": [],\n \"b\": {},\n \"c\": [\n  [\n   1\n  ]\n ]\n} [\n1,\n2\n] [\n--1\n]", 0},
        {"{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }} {{ u|tojson(ensure_ascii=true) }} {{ {'a': "
         "[1, 2]}|tojson(separators=(',', ':')) }} {{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }}",
         "{\"a\": 2, \"b\": 1} \"Gr\\u00f6\\u00dfe \\u00df \\u03a9 \\ud83d\\ude00\" {\"a\":[1,2]} "
         "{\"1\": 4, \"null\": 3, \"2.5\": 5}",
         0},
        {"{{ '\\\\ \\\" \\b \\f \\n \\r \\t \\x00 \\x1f \\x7f /'|tojson }} {{ "
         "'\\x7f😀'|tojson(ensure_ascii=true) }} {{ 'inf'|float|tojson }} {{ 'nan'|float|tojson }} "
         "{{ '-inf'|float|tojson }} {{ none|tojson }} {{ 'x'|safe|tojson }}",
         "\"\\\\ \\\" \\b \\f \\n \\r \\t \\u0000 \\u001f \177 /\" \"\\u007f\\ud83d\\ude00\" "
         "Infinity NaN -Infinity null \"x\"",
         0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void tests_answer(void **state)
{
    static const struct example examples[] = {
        {"{{ 'a' is sameas 'a' }} {{ xs is sameas xs }} {{ 2 is eq d.a.x[1] }} {{ 3 is in xs[0:] "
         "and yes }} {{ q is sameas q }} {{ d is sameas xs }} {{ true is sameas true }} {{ 5 is "
         "divisibleby xs[2] }} {{ s is eq(s) and n is gt 3 }}",
         "True True True True False False True False True", 0},
        {"{{ n is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ s "
         "is defined }} {{ q is defined }} {{ q is undefined }} {{ none is none }} {{ 0 is none }}",
         "True True True False True False True True False", 0},
        {"{{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ true is number }} {{ 1 is "
         "number }} {{ 'a' is number }} {{ true is boolean }} {{ 1 is boolean }} {{ true is true "
         "}} {{ 1 is true }} {{ false is false }} {{ 0 is false }}",
         "True False True True True False True False True False True False", 0},
        {"{{ 'a' is string }} {{ 1 is string }} {{ d is mapping }} {{ xs is mapping }} {{ xs is "
         "sequence }} {{ 'a' is sequence }} {{ d is sequence }} {{ d.items() is sequence }} {{ 5 "
         "is sequence }} {{ xs is iterable }} {{ 5 is iterable }} {{ q is iterable }} {{ 'x' is "
         "iterable }}",
         "True False True False True True True False False True False True True", 0},
        {"{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 5 is lower }} {{ 'a' is eq 'a' }} {{ 1 is "
         "equalto(1) }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 1 is gt 2 }} {{ 1 is le 1 }} {{ 1 is ge "
         "2 }} {{ 1 is lessthan 2 }} {{ 1 is greaterthan 2 }} {{ 1 is sameas 1 }} {{ none is "
         "sameas none }} {{ 1 is sameas true }} {{ 1 is in [1] }} {{ 1 is in([2]) }}",
         "True True False True True True True False True False True False True True False True "
         "False",
         0},
        {"{{ range is callable }} {{ s.upper is callable }} {{ s is callable }} {{ 'upper' is "
         "filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ 'nope' is test }} {{ ('a'|e) is "
         "escaped }} {{ 'a' is escaped }} {{ 1 is not none }} {{ not 1 is none }} {{ 1 is not "
         "divisibleby 2 and true }} {{ n is odd or no }} {{ 3 is odd|string }} {{ xs|length is eq "
         "3 }}",
         "True True False True False True False True False True True True True True True", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void global_functions(void **state)
{
    static const struct example examples[] = {
        {"{{ range(3)|list }} {{ range(1, 3)|list }} {{ range(10, 0, -3)|list }} {% set ns = "
         "namespace(a=1, b='x') %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ ns.b }} {{ ns['a'] }} {{ "
         "ns.c is defined }} {% set ns2 = namespace({'k': 1}) %}{{ ns2.k }}",
         "[0, 1, 2] [1, 2] [10, 7, 4, 1] 2x 2 False 1", 0},
        {"{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current "
         "}}{{ c.reset() }}{{ c.next() }} {% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }} "
         "{% set k = joiner() %}{{ k() }}{{ k() }}",
         "ababNonea a|b| , ", 0},
        {"{{ raise_exception is defined }} {{ dict() }} {{ namespace() }}",
         "True {} <Namespace {}>", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void dates_are_utc_and_english(void **state)
{
    (void)state; /* 1700000000 is 2023-11-14 22:13:20 UTC, a Tuesday */
    check_render("{{ strftime_now('%d %b %Y|%A %B %e|%Y-%m-%dT%H:%M:%S|%I:%M %p|%y %j %w %u') }}",
                 "{}", "14 Nov 2023|Tuesday November 14|2023-11-14T22:13:20|10:13 PM|23 318 2 2",
                 0);
    check_render("{{ strftime_now('%F %T %R %D|%a %h %C %k %l %P %f %s %U %W %n%t%%%Z%z|%c|%x %X %r"
                 "|%-d %-m %-H x%') }}",
                 "{}",
                 "2023-11-14 22:13:20 22:13 11/14/23|Tue Nov 20 22 10 pm 000000 1700000000 46 46 "
                 "\n\t%|Tue Nov 14 22:13:20 2023|11/14/23 22:13:20 10:13:20 PM|14 11 22 x%",
                 0);
    check_render("{% set strftime_now = 1 %}{{ strftime_now }}", "{}", "1", 0);
}

static void dates_hold_before_the_epoch_and_in_leap_years(void **state)
{
    static const struct {
        int64_t now;
        const char *text;
    } days[] = {{0, "1970-01-01 001 4 00"},          {-1, "1969-12-31 365 3 23"},
                {951782400, "2000-02-29 060 2 00"},  {951868800, "2000-03-01 061 3 00"},
                {1735603200, "2024-12-31 366 2 00"}, {-62135596800, "1-01-01 001 1 00"},
                {4102444800, "2100-01-01 001 5 00"}, {-2208988800, "1900-01-01 001 1 00"}};
    static const char source[] = "{{ strftime_now('%Y-%m-%d %j %w %H') }}";
    struct chat_template *t = NULL;
    json_t *context = json_object();
    (void)state;
    assert_int_equal(template_compile(NULL, source, sizeof source - 1, &t, NULL), GRAFT_OK);
    for (size_t i = 0; i < ARRAY_LEN(days); i++) {
        char *text;
        size_t size;
        assert_int_equal(template_render(t, NULL, context, days[i].now, NULL, &text, &size, NULL),
                         GRAFT_OK);
        assert_string_equal(text, days[i].text);
        mem_free(NULL, text);
    }
    json_decref(context);
    template_free(&t);
}

static void raise_exception_says_the_template_s_words(void **state)
{
    static const struct bad_example examples[] = {
        {"{{ raise_exception('Roles must alternate!') }}", "Roles must alternate!",
         GRAFT_INVALID_ARGUMENT},
        {"{{ raise_exception('two\nlines') }}", "two lines", GRAFT_INVALID_ARGUMENT},
        {"{{ raise_exception([1]) }}", "[1]", GRAFT_INVALID_ARGUMENT},
        {"{{ raise_exception('é' * 400) }}", "éé", GRAFT_INVALID_ARGUMENT},
        {"{{ raise_exception() }}", "misses the argument 'message'", GRAFT_OK}};
    json_t *context = json_object();
    graft_error error;
    char *text;
    size_t size;
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
    const char *source = "a\nb{{ raise_exception('Only this.') }}";
    assert_int_equal(render_source(source, strlen(source), context, NULL, &text, &size, &error),
                     GRAFT_INVALID_ARGUMENT);
    assert_string_equal(error.message, "Only this.");
    json_decref(context);
}

static void filters_refuse_what_they_cannot_take(void **state)
{
    static const struct bad_example examples[] = {
        {"{{ 5|length }}", "has no len()", GRAFT_OK},
        {"{{ 5|first }}", "not iterable", GRAFT_OK},
        {"{{ 5|list }}", "not iterable", GRAFT_OK},
        {"{{ 5|last }}", "not reversible", GRAFT_OK},
        {"{{ xs|map('string')|last }}", "not reversible", GRAFT_OK},
        {"{{ xs|map('string')|length }}", "has no len()", GRAFT_OK},
        {"{{ [1, 'a']|sort }}", "not supported between", GRAFT_OK},
        {"{{ [1, 'a']|max }}", "not supported between", GRAFT_OK},
        {"{{ 5|dictsort }}", "needs a mapping", GRAFT_OK},
        {"{{ q|dictsort }}", "'q' is undefined", GRAFT_OK},
        {"{{ d|dictsort(by='x') }}", "\"key\" or \"value\"", GRAFT_OK},
        {"{{ 5|items }}", "needs a mapping", GRAFT_OK},
        {"{{ ['a']|sum }}", "unsupported operand", GRAFT_OK},
        {"{{ ['a']|sum(start='') }}", "cannot sum strings", GRAFT_OK},
        {"{{ [[]]|unique|list }}", "unhashable", GRAFT_OK},
        {"{{ xs|map }}", "map requires", GRAFT_OK},
        {"{{ xs|map(foo=1) }}", "unexpected keyword", GRAFT_OK},
        {"{{ xs|map('nope') }}", "no filter named 'nope'", GRAFT_OK},
        {"{{ xs|map(5) }}", "filter name must be str", GRAFT_OK},
        {"{{ xs|select('nope') }}", "no test named 'nope'", GRAFT_OK},
        {"{{ xs|selectattr }}", "attribute name is missing", GRAFT_OK},
        {"{{ xs|map(attribute='a.b')|list }}", "has no attribute 'a'", GRAFT_OK},
        {"{{ xs|slice(0) }}", "division by zero", GRAFT_OK},
        {"{{ 'a'|abs }}", "abs()", GRAFT_OK},
        {"{{ 'a'|round }}", "no rounding", GRAFT_OK},
        {"{{ q|round }}", "'q' is undefined", GRAFT_OK},
        {"{{ 1.5|round(0, 'up') }}", "common, ceil or floor", GRAFT_OK},
        {"{{ 1e300|round(100, 'ceil') }}", "cannot convert", GRAFT_OK},
        {"{{ q|int }}", "'q' is undefined", GRAFT_OK},
        {"{{ q|float }}", "'q' is undefined", GRAFT_OK},
        {"{{ 'x'|filesizeformat }}", "needs a number", GRAFT_OK},
        {"{{ q|indent }}", "'q' is undefined", GRAFT_OK},
        {"{{ 5|indent }}", "needs a string", GRAFT_OK},
        {"{{ 'x' * 9|truncate(2) }}", "no len()", GRAFT_OK},
        {"{{ 'abc'|truncate(2) }}", "too small", GRAFT_OK},
        {"{{ range(9)|list|truncate(3, leeway=0) }}", "must be str", GRAFT_OK},
        {"{{ '%s'|format(1, x=2) }}", "not both", GRAFT_OK},
        {"{{ [1]|urlencode }}", "needs pairs", GRAFT_OK},
        {"{{ q|attr('x') }}", "'q' is undefined", GRAFT_OK},
        {"{{ s|attr(1) }}", "must be str", GRAFT_OK},
        {"{{ s|trim(1) }}", "must be str", GRAFT_OK},
        {"{{ q|tojson }}", "not JSON serializable", GRAFT_OK},
        {"{{ range(3)|tojson }}", "not JSON serializable", GRAFT_OK},
        {"{{ {(1, 2): 3}|tojson }}", "keys must be", GRAFT_OK},
        {"{{ 1|tojson(separators='abc') }}", "two strings", GRAFT_OK},
        {"{{ {1: 1, 'a': 2}|tojson(sort_keys=true) }}", "not supported between", GRAFT_OK},
        {"{{ s|upper(1) }}", "at most 0", GRAFT_OK},
        {"{{ s|trim(foo=1) }}", "unexpected keyword argument 'foo'", GRAFT_OK},
        {"{{ s|replace('a', old='b') }}", "two values for argument 'old'", GRAFT_OK},
        {"{{ 'a' is odd }}", "not all arguments", GRAFT_OK},
        {"{{ 1 is divisibleby }}", "misses the argument", GRAFT_OK},
        {"{{ 1 is lt 'a' }}", "not supported between", GRAFT_OK}};
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
}

static void functions_check_their_arguments(void **state)
{
    static const struct bad_example examples[] = {
        {"{{ range() }}", "1 to 3", GRAFT_OK},
        {"{{ range(none) }}", "cannot be interpreted", GRAFT_OK},
        {"{{ range(1, 2, 0) }}", "must not be zero", GRAFT_OK},
        {"{{ range(100001) }}", "range too big", GRAFT_OK},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", "range too big", GRAFT_OK},
        {"{{ dict(1, 2) }}", "at most one", GRAFT_OK},
        {"{{ dict(5) }}", "not iterable", GRAFT_OK},
        {"{{ dict([1]) }}", "not iterable", GRAFT_OK},
        {"{{ dict([(1, 2, 3)]) }}", "pairs", GRAFT_OK},
        {"{{ cycler() }}", "at least one", GRAFT_OK},
        {"{{ joiner()(1) }}", "no arguments", GRAFT_OK},
        {"{{ strftime_now(1) }}", "must be str", GRAFT_OK},
        {"{{ strftime_now('%Q') }}", "unknown field", GRAFT_OK},
        {"{{ nope() }}", "'nope' is undefined", GRAFT_OK},
        {"{{ d.pop('b') }}", "not allowed", GRAFT_OK},
        {"{{ xs.append(4) }}", "not allowed", GRAFT_OK},
        {"{{ range(1, **{'a': 1}) }}", "1 to 3", GRAFT_OK},
        {"{{ range(**5) }}", "must be a mapping", GRAFT_OK},
        {"{{ dict(**{1: 2}) }}", "must be strings", GRAFT_OK},
        {"{{ dict(a=1, **{'a': 2}) }}", "given twice", GRAFT_OK},
        {"{{ range(*5) }}", "not iterable", GRAFT_OK}};
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
}

static void functions_print_by_name(void **state)
{
    static const struct example examples[] = {
        {"{{ range }} {{ s.upper }} {{ cycler(1) }} {{ joiner() }}",
         "<function range> <method object> <Cycler object> <Joiner object>", 0},
        {"{{ xs|map('string') }} {{ xs|reverse }}", "<generator object> <reversed object>", 0},
        {"{{ range == range }} {{ s.upper == s.upper }} {{ range is sameas range }} {{ ns == ns }}",
         "True False True True", 0},
        {"{% set a = namespace() %}{% set b = cycler(1) %}{% set c = joiner() %}{% set v = "
         "d.keys() %}"
         "{% set g = xs|select %}{% macro m() %}{% endmacro %}{{ [a == a, b == b, c == c, v == v, "
         "g == g, m == m, a == namespace()] }}{% for x in [1] %}{{ loop == loop }}{% endfor %}",
         "[True, True, True, True, True, True, False]True", 0},
        {"{{ {range: 1, d.keys: 2}|length }} {{ {range(2): 1} }} {{ range.foo is defined }}",
         "2 {range(0, 2): 1} False", 0}};
    check_all(state, examples, ARRAY_LEN(examples));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_filters),
        cmocka_unit_test(number_filters),
        cmocka_unit_test(sequence_filters),
        cmocka_unit_test(sorting_filters),
        cmocka_unit_test(selecting_filters),
        cmocka_unit_test(tojson_as_hugging_face_sets_it_up),
        cmocka_unit_test(tests_answer),
        cmocka_unit_test(global_functions),
        cmocka_unit_test(dates_are_utc_and_english),
        cmocka_unit_test(dates_hold_before_the_epoch_and_in_leap_years),
        cmocka_unit_test(raise_exception_says_the_template_s_words),
        cmocka_unit_test(filters_refuse_what_they_cannot_take),
        cmocka_unit_test(functions_check_their_arguments),
        cmocka_unit_test(functions_print_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
