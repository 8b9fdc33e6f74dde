/* test_template_values.c: expressions of chat templates: arithmetic, comparison, strings, lists, dicts,
 * printing, methods of strings, formatting. The expected texts are Jinja2's.
 */
#include "unit/template_support.h"

static void arithmetic_follows_python(void **state)
{
    static const struct example examples[] = {
        {"{{ 1.5 - 0.25 }} {{ 1.5 * 2 }} {{ 3.0 / 2 }} {{ 5.9 // 2 }} {{ 1e16 // 1.1 }} {{ -5 // "
         "2.0 }} {{ 2 - 1.5 }} {{ 0 * -1.5 }}",
         "1.25 3.0 1.5 2.0 9090909090909090.0 -3.0 0.5 -0.0", 0},
        {"{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** "
         "-1 }}",
         "3 -4 1 2 -2 1024 0.5", 0},
        {"{{ 1 / 2 }} {{ 4 / 2 }} {{ 1e3 }} {{ 1 + 2.0 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 7.5 % "
         "-2 }}",
         "0.5 2.0 1000.0 3.0 3.0 0.5 -0.5", 0},
        {"{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 2 * 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ - "
         "- 2 }} {{ +n }} {{ -f }}",
         "7 9 18 4 64 2 7 -2.5", 0},
        {"{{ 10 - 4 - 3 }} {{ 100 // 7 // 2 }} {{ true + true }} {{ -true }} {{ +f }}",
         "3 7 2 -1 2.5", 0},
        {"{{ 'ab' * 3 }} {{ 2 * 'x' }} {{ [1] * 2 }} {{ (1,) * 2 }} {{ 'a' * -1 }}|",
         "ababab xx [1, 1] (1, 1) |", 0},
        {"{{ 'a' + 'b' }} {{ [1] + [2] }} {{ (1,) + (2,) }}", "ab [1, 2] (1, 2)", 0},
        {"{{ 0x1f }} {{ 0o17 }} {{ 0b101 }} {{ 1_000 }} {{ 1_0.5e1 }} {{ 00 }} {{ 0X_F }}",
         "31 15 5 1000 105.0 0 15", 0},
        {"{{ -0.0 }} {{ 0.0 % 3 }} {{ 3.0 // 2 }} {{ 6.0 % 3 }} {{ -6.0 % 3 }} {{ 0 ** 0 }} {{ 2.0 "
         "** 0.5 }}",
         "-0.0 0.0 1.0 0.0 0.0 1 1.4142135623730951", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void floats_print_as_python_repr(void **state)
{
    static const struct example examples[] = {
        {"{{ 0.1 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789012345680.0 }} {{ 1e22 }} {{ 1e-5 }} {{ "
         "0.0001 }} {{ 1.5e300 }} {{ 5e-324 }}",
         "0.1 1e+16 1000000000000000.0 1.2345678901234568e+17 1e+22 1e-05 0.0001 1.5e+300 5e-324",
         0},
        {"{{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 100.0 }} {{ 2.5 }} {{ 1e100 }} {{ 123456.789e3 }}",
         "0.30000000000000004 0.3333333333333333 100.0 2.5 1e+100 123456789.0", 0},
        {"{{ 'inf'|float }} {{ '-inf'|float }} {{ 'nan'|float }} {{ 1.7976931348623157e308 }} {{ "
         "9007199254740993.0 }}",
         "inf -inf nan 1.7976931348623157e+308 9007199254740992.0", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void comparisons_chain_and_mix_numbers(void **state)
{
    static const struct example examples[] = {
        {"{% set w = 'nan' %}{% set nan = w|float %}{{ nan == nan or nan < 1 or nan > 1 }} {{ nan "
         "!= nan }} {{ 1.5 < 2.5 > 2 }} {{ 2.5 == 2.5 }} {{ 2.5 < 1.5 }} {{ 2.0 in range(3) }} {{ "
         "2.5 in range(3) }} {{ 1e300 in range(3) }} {{ 'x' in range(3) }} {{ 1 < 1e300 }} {{ -1 > "
         "-1e300 }} {{ 0 in range(0) }} {{ 3 in range(5, 0, -2) }}",
         "False True True True False True False False False True True False True", 0},
        {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 == true }} {{ 'a' < 'b' }} {{ [1, 2] < [1, "
         "3] }} {{ (1,) <= (1, 2) }}",
         "True False True True True True", 0},
        {"{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 > 9007199254740992.0 }} "
         "{{ 1 != '1' }} {{ none == false }}",
         "False True True False", 0},
        {"{{ 2 in [1, 2.0] }} {{ 'x' in {'x': 1} }} {{ 'ell' in s }} {{ 3 not in xs }} {{ 4 not in "
         "xs }} {{ 2 in range(0, 9, 2) }} {{ 3 in range(0, 9, 2) }} {{ 1 in d.items() }}",
         "True True True False True True False False", 0},
        {"{{ undefined_ == other }} {{ undefined_ == none }} {{ 'x' in undefined_ }} {{ xs == [3, "
         "1, 2] }} {{ {'a': [1]} == {'a': [1.0]} }} {{ range(3) == range(0, 3) }}",
         "True False False True True True", 0},
        {"{{ 1 >= 1.0 }} {{ 1.5 <= 1 }} {{ 'b' > 'abc' }} {{ 'é' > 'z' }} {{ [] == () }} {{ {} == "
         "{} }} {{ 'a' == 'a' }}",
         "True False True True False True True", 0},
        {"{{ not true }} {{ not '' }} {{ not not 1 }} {{ 1 and 0 }} {{ 0 or 'x' }} {{ '' or none "
         "}} {{ 1 and 2 or 3 }} {{ not 1 == 2 }}",
         "False True True 0 x None 2 True", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void inline_if_without_else_is_undefined(void **state)
{
    static const struct example examples[] = {
        {"{{ 'a' if yes }}{{ 'b' if no }}|{{ 'c' if no else 'd' }}", "a|d", 0},
        {"{{ 1 if no else 2 if no else 3 }} {{ ('x' if no) is defined }} {{ 1 if yes if no }}|{{ 1 "
         "if yes if yes else 3 }}",
         "3 False |1", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void strings_count_code_points(void **state)
{
    static const struct example examples[] = {
        {"{{ u|length }} {{ u[4] }} {{ u[-1] }} {{ u[2:5] }} {{ u[::-1] }} {{ u[-3:] }} {{ u[::3] "
         "}} {{ u[10:0:-4] }}",
         "11 e 😀 öße 😀 Ω ß eßörG Ω 😀 Gßß  😀ßö", 0},
        {"{{ s[0] }}{{ s[-1] }} {{ s[2:5] }} {{ s[:-6] }} {{ s[100:] }}| {{ s[::-2] }} {{ s[3:1] "
         "}}| {{ s[1:3:1] }}",
         "Hd llo Hello | drWolH | el", 0},
        {"{{ s[99] is defined }} {{ e[0] is defined }} {{ nul|length }} {{ nul == 'a\\x00b' }} {{ "
         "nul[1] == '\\0' }}",
         "False False 3 True True", 0},
        {"{% for c in 'aé😀' %}{{ c }}.{% endfor %} {{ 'é😀'|list }} {{ ('ab', 'c')|join|length }}",
         "a.é.😀. ['é', '😀'] 3", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void lists_slice_and_index_as_in_python(void **state)
{
    static const struct example examples[] = {
        {"{{ range(9)[::2] }} {{ range(9)[7:1:-2] }} {{ range(9)[:0] }} {{ range(5, 0, -1).start "
         "}}{{ range(5, 0, -1).step }} {{ xs[5:] }} {{ xs[-9:2] }} {{ xs[::-2] }} {{ xs.copy() }} "
         "{{ (1, 1).count(1) }} {{ range(3).count(1) }} {{ xs[5:1:-1] }} {{ s[5:1:1] }}{{ u[0:0] "
         "}}{{ s[-1:0] }}",
         "range(0, 9, 2) range(7, 1, -2) range(0, 0) 5-1 [] [3, 1] [2, 3] [3, 1, 2] 2 1 [2] ", 0},
        {"{{ xs[0] }} {{ xs[-1] }} {{ xs[1:] }} {{ xs[::-1] }} {{ xs[:1] }} {{ xs[9] is defined }} "
         "{{ (1, 2, 3)[1:] }} {{ range(10)[2:8:3] }}",
         "3 2 [1, 2] [2, 1, 3] [3] False (2, 3) range(2, 8, 3)", 0},
        {"{{ range(5)[1] }} {{ range(5)[-1] }} {{ range(3) }} {{ range(1, 9, 2)|list }} {{ "
         "range(5, 0, -2)|list }} {{ range(0)|list }} {{ range(3).stop }}",
         "1 4 range(0, 3) [1, 3, 5, 7] [5, 3, 1] [] 3", 0},
        {"{{ xs.0 }} {{ rows.1.n }} {{ d['a'].x[-1] }} {{ d.a['x'].0 }} {{ [1, [2, 3]][1][0] }} {{ "
         "xs[none:none] }} {{ xs[:true] }}",
         "3 Y 2 1 2 [3, 1, 2] [3]", 0},
        {"{{ xs.count(3) }} {{ xs.index(2) }} {{ (1, 2).index(2) }} {{ [1, 2, 1].index(1, 1) }} {{ "
         "range(4).index(2) }}",
         "1 2 1 2 2", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void dicts_keep_order_and_python_keys(void **state)
{
    static const struct example examples[] = {
        {"{{ {'b': 1, 'a': 2} }} {{ {1: 'a', true: 'b', 1.0: 'c'} }} {{ {'a': 1, 'a': 2} }} {{ "
         "{none: 0, (1, 2): 3} }}",
         "{'b': 1, 'a': 2} {1: 'c'} {'a': 2} {None: 0, (1, 2): 3}", 0},
        {"{{ d.b }} {{ d['b'] }} {{ d.nope is defined }} {{ d['items'] }} {{ d.items is callable "
         "}} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }}",
         "1 1 False key True 1 None 5", 0},
        {"{{ d.keys() }} {{ d.values() }} {{ {'a': 1}.items() }} {{ d.keys()|list }} {% for k, v "
         "in d.items() %}{{ k }}={{ v }};{% endfor %}",
         "dict_keys(['b', 'a', 'items']) dict_values([1, {'x': [1, 2]}, 'key']) dict_items([('a', "
         "1)]) ['b', 'a', 'items'] b=1;a={'x': [1, 2]};items=key;",
         0},
        {"{{ {1: 'x'}[1] }} {{ {1: 'x'}[1.0] }} {{ {'a': 1}|length }} {{ 'b' in d.keys() }} {{ "
         "d.copy() == d }} {{ {(1, 2): 3}[1, 2] }}",
         "x x 1 True True 3", 0},
        {"{% for k in d %}{{ k }} {% endfor %}{{ dict(a=1, **{'b': 2}) }} {{ dict([('x', 1)], y=2) "
         "}} {{ dict({'k': 0}) }}",
         "b a items {'a': 1, 'b': 2} {'x': 1, 'y': 2} {'k': 0}", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void values_print_as_python_str(void **state)
{
    static const struct example examples[] = {
        {"{{ [1, 'a', none, true, 2.0, [], {}, ()] }} {{ (1,) }} {{ ('a', 'b') }} {{ none }} {{ "
         "true }} {{ false }}",
         "[1, 'a', None, True, 2.0, [], {}, ()] (1,) ('a', 'b') None True False", 0},
        {"{{ [\"it's\", 'say \"x\"', 'both \\' and \"'] }} {{ ['tab\\t nl\\n back\\\\ cr\\r "
         "bell\\a'] }} {{ ['é😀', '\\x85', '\\u200b', '\\U000e0001'] }}",
         "[\"it's\", 'say \"x\"', 'both \\' and \"'] ['tab\\t nl\\n back\\\\ cr\\r bell\\x07'] "
         "['é😀', '\\x85', '\\u200b', '\\U000e0001']",
         0},
        {"{{ mixed }} {{ undefined_ }}|{{ [undefined_] }} {{ nul|list }} {{ namespace(a=1) }} {{ "
         "['\\xad', '\\x7f'] }}",
         "[1, None, 2.0, True, 's', [], {}] |[Undefined] ['a', '\\x00', 'b'] <Namespace {'a': 1}> "
         "['\\xad', '\\x7f']",
         0},
        {"{{ 'a' ~ 1 ~ none ~ 2.0 ~ [1] }} {{ 1 ~ 2 }} {{ undefined_ ~ 'x' }}", "a1None2.0[1] 12 x",
         0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void string_literals_decode_python_escapes(void **state)
{
    static const struct example examples[] = {
        {"{{ 'a\\nb' }} {{ 'tab\\there' }} {{ '\\x41\\u00e9\\U0001F600\\101' }} {{ '\\'' }}{{ "
         "\"\\\"\" }} {{ 'un\\known' }} {{ '\\\\' }}",
         "a\nb tab\there Aé😀A '\" un\\known \\", 0},
        {"{{ 'é\\é' }} {{ '\\😀' }} {{ 'a\\\nb' }} {{ 'line\nbreak' }} {{ 'one' 'two' \"three\" }} "
         "{{ '\\7\\07x' }} {{ '\\a\\b\\f\\v'|length }} {{ '\\€' }}",
         "é\\xe9 \\U0001f600 ab line\nbreak onetwothree \007\007x 4 \\u20ac", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void methods_change_case_and_strip(void **state)
{
    static const struct example examples[] = {
        {"{{ s.upper() }} {{ s.lower() }} {{ 'hELLO wORLD'.title() }} {{ \"they're "
         "bill's\".title() }} {{ 'hELLO'.capitalize() }} {{ 'aBc'.swapcase() }}",
         "HELLO WORLD hello world Hello World They'Re Bill'S Hello AbC", 0},
        {"{{ 'straße'.upper() }} {{ 'ΑΣ'.lower() }} {{ 'ΑΣΑ Σ'.lower() }} {{ 'ŉ ﬁ'.upper() }} {{ "
         "'ﬁx'.capitalize() }} {{ 'İ'.lower()|length }} {{ 'Straße'.casefold() }} {{ 'ǆ'.title() "
         "}}",
         "STRASSE ας ασα σ ʼN FI Fix 2 strasse ǅ", 0},
        {"[{{ '  a b  '.strip() }}] [{{ ' \\n\\ta '.lstrip() }}] [{{ 'a\\u3000 '.rstrip() }}] {{ "
         "'xxabxx'.strip('x') }} {{ 'abcba'.lstrip('ab') }} {{ 'éaé'.strip('é') }}",
         "[a b] [a ] [a] ab cba a", 0},
        {"{{ 'prefix_x'.removeprefix('prefix_') }} {{ 'x.txt'.removesuffix('.txt') }} {{ "
         "'x'.removesuffix('xyz') }} {{ 'xx'.removeprefix('') }}",
         "x x x xx", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void methods_split_and_join(void **state)
{
    static const struct example examples[] = {
        {"{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c d'.split(' ', 2) }} {{ 'a  "
         "b'.split(' ') }} {{ ''.split() }} {{ ''.split(',') }}",
         "['a', 'b', '', 'c'] ['a', 'b'] ['a', 'b', 'c d'] ['a', '', 'b'] [] ['']", 0},
        {"{{ 'a b c d'.rsplit(' ', 1) }} {{ 'a b c'.rsplit() }} {{ ' a b  c '.rsplit(none, 1) }} "
         "{{ ' a b c '.split(none, 1) }} {{ 'aXXbXXc'.rsplit('XX') }} {{ 'a b'.split(maxsplit=1) "
         "}}",
         "['a b c', 'd'] ['a', 'b', 'c'] [' a b', 'c'] ['a', 'b c '] ['a', 'b', 'c'] ['a', 'b']",
         0},
        {"{{ 'a\\nb\\r\\nc\\x0bd\\u2028e'.splitlines() }} {{ 'a\\nb\\n'.splitlines(true) }} {{ "
         "''.splitlines() }} {{ 'a\\n\\nb'.splitlines() }}",
         "['a', 'b', 'c', 'd', 'e'] ['a\\n', 'b\\n'] [] ['a', '', 'b']", 0},
        {"{{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'kv'.partition('=') }} {{ "
         "'kv'.rpartition('=') }}",
         "('k', '=', 'v=w') ('k=v', '=', 'w') ('kv', '', '') ('', '', 'kv')", 0},
        {"{{ ', '.join(ws) }} {{ ''.join(['a', 'b']) }} {{ 'é'.join('abc') }} {{ '-'.join([]) }}|",
         "b, A, c ab aébéc |", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void methods_search_and_replace(void **state)
{
    static const struct example examples[] = {
        {"{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('zz') }} {{ s.find('o', 5) }} {{ "
         "s.find('o', 5, 7) }} {{ u.find('ß') }} {{ u.find('Ω') }} {{ s.index('W') }} {{ "
         "s.rindex('l') }}",
         "4 7 -1 7 -1 3 8 6 9", 0},
        {"{{ s.count('l') }} {{ 'aaaa'.count('aa') }} {{ 'abc'.count('') }} {{ 'abc'.find('', 3) "
         "}} {{ 'abc'.find('', 4) }} {{ 'abc'.rfind('') }} {{ u.rfind('ß') }} {{ 'ab'.rfind('abc') "
         "}}",
         "3 2 4 3 -1 3 6 -1", 0},
        {"{{ s.startswith('Hell') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ "
         "s.startswith('lo', 3) }} {{ s.endswith('lo', 0, 5) }} {{ s.startswith('', 12) }} {{ "
         "s.startswith('') }}",
         "True True True True True False True", 0},
        {"{{ 'aaa'.replace('a', 'b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc'.replace('', '-') "
         "}} {{ 'ab'.replace('', '-', 2) }} {{ ''.replace('', 'x') }} {{ 'a.b'.replace('.', '') }} "
         "{{ 'éa'.replace('', '.') }}",
         "bbb bba -a-b-c- -a-b x ab .é.a.", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void methods_pad_and_classify(void **state)
{
    static const struct example examples[] = {
        {"[{{ 'a'.center(4) }}] [{{ 'ab'.center(5, '*') }}] [{{ 'a'.ljust(3) }}] [{{ 'a'.rjust(3, "
         "'é') }}] {{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ 'abc'.zfill(2) }} [{{ "
         "'a\\tb'.expandtabs(4) }}] [{{ 'a\\tb\\n\\tc'.expandtabs() }}]",
         "[ a  ] [**ab*] [a  ] [ééa] 00042 -0042 abc [a   b] [a       b\n        c]", 0},
        {"{{ 'abc'.isalpha() }} {{ 'ab1'.isalnum() }} {{ '12'.isdigit() }} {{ '²'.isdigit() }} {{ "
         "'²'.isdecimal() }} {{ '½'.isnumeric() }} {{ ''.isalpha() }} {{ ' \\t'.isspace() }}",
         "True True True True False True False True", 0},
        {"{{ 'abc'.islower() }} {{ 'ABC1'.isupper() }} {{ '12'.isupper() }} {{ 'Ab Cd'.istitle() "
         "}} {{ 'AB'.istitle() }} {{ 'a_1'.isidentifier() }} {{ '1a'.isidentifier() }} {{ "
         "'a\\n'.isprintable() }} {{ ''.isprintable() }} {{ 'é'.isascii() }} {{ 'a'.isascii() }}",
         "True True False True False True False False True False True", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void percent_formats_as_python(void **state)
{
    static const struct example examples[] = {
        {"{{ '%s-%s' % (1, 'a') }} {{ '%s' % none }} {{ '%r' % 'a' }} {{ '%5s|%-5s|%.2s' % ('ab', "
         "'ab', 'abc') }} {{ '%%' % () }} {{ '%(b)s' % d }} {{ '%s' % [1] }}",
         "1-a None 'a'    ab|ab   |ab % 1 [1]", 0},
        {"{{ '%d %5d %-5d| %05d %+d % d' % (1, 2, 3, 4, 5, 6) }} {{ '%x %X %o %#x %#o' % (255, "
         "255, 8, 255, 8) }} {{ '%d' % 3.9 }} {{ '%i' % true }} {{ '%.3d' % 5 }}",
         "1     2 3    | 00004 +5  6 ff FF 10 0xff 0o10 3 1 005", 0},
        {"{{ '%.2f %8.3f %-8.1f| %08.2f %+.1f' % (1.005, 2.5, 3.14159, -1.5, 2) }} {{ '%e %.2E' % "
         "(12345.678, 0.00012) }} {{ '%g %g %G %.3g' % (1e10, 0.0001, 1e-10, 1234.5) }}",
         "1.00    2.500 3.1     | -0001.50 +2.0 1.234568e+04 1.20E-04 1e+10 0.0001 1E-10 1.23e+03",
         0},
        {"{{ '%c%c' % (65, 'é') }} {{ '%*d' % (5, 42) }} {{ '%.*f' % (1, 2.55) }} {{ '%-*d|' % (4, "
         "1) }} {{ '%*d|' % (-4, 1) }} {{ '%f' % ('inf'|float) }} {{ '%s' % undefined_ }}|{{ "
         "'%5c|%F' % ('x', 1) }}",
         "Aé    42 2.5 1   | 1   | inf |    x|1.000000", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void format_method_follows_python(void **state)
{
    static const struct example examples[] = {
        {"{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}{1}'.format('a', 'b') }} {{ '{x}'.format(x=3) }} "
         "{{ '{0.a[x][1]}'.format(d) }} {{ '{{}}'.format() }}",
         "1 a bab 3 2 {}", 0},
        {"{{ '{!r} {!s}'.format('a', 'b') }} {{ '{:>5}|{:<5}|{:^5}|{:*^5}'.format('a', 'b', 'c', "
         "'d') }} {{ '{:.2}'.format('abc') }} {{ '{:5}|'.format(1) }} {{ '{:é>3}'.format('x') }}",
         "'a' b     a|b    |  c  |**d** ab     1| ééx", 0},
        {"{{ '{:d} {:05d} {:+d} {:,} {:_} {:x} {:#x} {:b} {:o} {:c}'.format(1, 2, 3, 1234567, "
         "1234567, 255, 255, 5, 8, 65) }} {{ '{:<05}|{:05}'.format(12, -3) }}",
         "1 00002 +3 1,234,567 1_234_567 ff 0xff 101 10 A 12000|-0003", 0},
        {"{{ '{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%} {:,.2f} {:08.2f}'.format(1.0, 2.0, 3.0, 4.0, "
         "0.5, 0.25, 12345.678, -1.5) }} {{ '{:.3}'.format(2.0) }} {{ '{}'.format(2.0) }} {{ "
         "'{:10}|'.format(2.5) }}",
         "1.00    2.000 3.000000e+00 4 50.000000% 25.0% 12,345.68 -0001.50 2.0 2.0        2.5|", 0},
        {"{{ '{:{}}|'.format('a', 4) }} {{ '{:{w}.{p}f}'.format(1.2345, w=8, p=2) }} {{ '{:s} "
         "{}'.format('a', [1]) }} {{ '{a}'.format_map({'a': 1}) }} {{ '{:_x}'.format(1048575) }} "
         "{{ '{:n}'.format(5) }} {{ '{:#.3g}'.format(1.0) }}",
         "a   |     1.23 a [1] 1 f_ffff 5 1.00", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void safe_strings_escape_what_they_meet(void **state)
{
    static const struct example examples[] = {
        {"{{ html|e }} {{ html|escape|e }} {{ html|safe }} {{ html|safe ~ '<' }} {{ html|safe + "
         "'<' }} {{ '<' + (html|safe) }} {{ '<b>'|safe|upper + '&' }}",
         "&lt;a &amp; &#39;b&#39;&gt; &lt;a &amp; &#39;b&#39;&gt; <a & 'b'> <a & 'b'>< <a & "
         "'b'>&lt; &lt;<a & 'b'> <B>&amp;",
         0},
        {"{{ ('<'|safe).join(['>', '&']) }} {{ '%s'|safe % '<' }} {{ ('{}'|safe).format('<') }} {{ "
         "('<a>'|safe).replace('a', '<') }} {{ ('<'|safe) * 2 + '<' }} {{ ['<'|safe] }} {{ "
         "'<'|e|string + '<' }} {{ ('<>'|safe)[0] + '<' }} {{ '<'|safe|forceescape }}",
         "&gt;<&amp; &lt; &lt; <&lt;> <<&lt; [Markup('<')] &lt;&lt; <&lt; &lt;", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void wrong_operands_are_named(void **state)
{
    static const struct bad_example examples[] = {
        {"{{ 1 + 'a' }}", "unsupported operand types for +: 'int' and 'str'", GRAFT_OK},
        {"{{ 'a' + 1 }}", "can only concatenate str (not \"int\") to str", GRAFT_OK},
        {"{{ none - 1 }}", "unsupported operand types for -", GRAFT_OK},
        {"{{ [1] + (1,) }}", "unsupported operand types", GRAFT_OK},
        {"{{ 'a' * 1.5 }}", "unsupported operand types", GRAFT_OK},
        {"{{ -'a' }}", "bad operand type for unary -", GRAFT_OK},
        {"{{ +[] }}", "bad operand type for unary +", GRAFT_OK},
        {"{{ 1 / 0 }}", "division by zero", GRAFT_OK},
        {"{{ 1.0 // 0 }}", "division by zero", GRAFT_OK},
        {"{{ 1 % 0 }}", "division by zero", GRAFT_OK},
        {"{{ 0 ** -1 }}", "negative power", GRAFT_OK},
        {"{{ 0.0 ** -1 }}", "negative power", GRAFT_OK},
        {"{{ (-8.0) ** 0.5 }}", "complex", GRAFT_OK},
        {"{{ 1e300 ** 2 }}", "too large", GRAFT_OK},
        {"{{ 1 < 'a' }}", "'<' not supported between 'int' and 'str'", GRAFT_OK},
        {"{{ {} >= {} }}", "'>=' not supported", GRAFT_OK},
        {"{{ 1 in 'a' }}", "requires string as left operand", GRAFT_OK},
        {"{{ 1 in 5 }}", "argument of type 'int' is not iterable", GRAFT_OK},
        {"{{ {[]: 1} }}", "unhashable type: 'list'", GRAFT_OK},
        {"{{ [] in {} }}", "unhashable type", GRAFT_OK},
        {"{{ s() }}", "'str' object is not callable", GRAFT_OK},
        {"{{ 5[1:2] }}", "cannot be sliced", GRAFT_OK},
        {"{{ xs[::0] }}", "step cannot be zero", GRAFT_OK},
        {"{{ xs['a':] }}", "slice indices", GRAFT_OK},
        {"{{ xs.index(9) }}", "not in list", GRAFT_OK},
        {"{{ 'a'.index('b') }}", "substring not found", GRAFT_OK},
        {"{{ 'a'.rindex('b') }}", "substring not found", GRAFT_OK},
        {"{{ 'a'.split('') }}", "empty separator", GRAFT_OK},
        {"{{ 'a'.partition('') }}", "empty separator", GRAFT_OK},
        {"{{ 'a'.join([1]) }}", "item 0", GRAFT_OK},
        {"{{ 'a'.replace('b') }}", "misses the argument 'new'", GRAFT_OK},
        {"{{ 'a'.replace('b', 1) }}", "must be str, not int", GRAFT_OK},
        {"{{ 'a'.strip(1) }}", "must be str", GRAFT_OK},
        {"{{ 'a'.upper(1) }}", "at most 0 arguments", GRAFT_OK},
        {"{{ 'a'.strip(chars='a') }}", "no keyword arguments", GRAFT_OK},
        {"{{ 'a'.center(3, 'xy') }}", "one character", GRAFT_OK},
        {"{{ 'a'.center('x') }}", "cannot be interpreted as an integer", GRAFT_OK},
        {"{{ 'a'.expandtabs(3000000000) }}", "too big", GRAFT_OK},
        {"{{ 'a'.startswith(1) }}", "must be str", GRAFT_OK},
        {"{{ 'a'.removeprefix(1) }}", "must be str", GRAFT_OK}};
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
}

static void integers_have_64_bits(void **state)
{
    static const struct example fine[] = {
        {"{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }} {{ 2 ** 62 }} {{ (-2) ** 63 }}",
         "9223372036854775807 -9223372036854775808 4611686018427387904 -9223372036854775808", 0},
        {"{{ (-9223372036854775807 - 1) % -1 }} {{ 9223372036854775807 // -2 }}",
         "0 -4611686018427387904", 0}};
    static const struct bad_example examples[] = {
        {"{{ 9223372036854775807 + 1 }}", "integer overflow", GRAFT_OK},
        {"{{ -9223372036854775807 - 2 }}", "integer overflow", GRAFT_OK},
        {"{{ 9223372036854775807 * 2 }}", "integer overflow", GRAFT_OK},
        {"{{ 3 ** 41 }}", "integer overflow", GRAFT_OK},
        {"{{ 9223372036854775807 ** 2 }}", "integer overflow", GRAFT_OK},
        {"{{ -(-9223372036854775807 - 1) }}", "integer overflow", GRAFT_OK},
        {"{{ (-9223372036854775807 - 1) // -1 }}", "integer overflow", GRAFT_OK},
        {"{{ '9223372036854775808'|int }}", "integer overflow", GRAFT_OK},
        {"{{ 1e19|int }}", "integer overflow", GRAFT_OK},
        {"{{ '%d' % 1e19 }}", "integer overflow", GRAFT_OK},
        {"{{ 9223372036854775807|round(-1) }}", "integer overflow", GRAFT_OK},
        {"{{ range(5)[::9223372036854775807][::2] }}", "integer overflow", GRAFT_OK},
        {"{{ 9223372036854775808 }}", "does not fit 64 bits", GRAFT_OK}};
    check_all(state, fine, ARRAY_LEN(fine));
    check_all_fail(examples, ARRAY_LEN(examples));
}

static void formats_refuse_what_python_refuses(void **state)
{
    static const struct bad_example examples[] = {
        {"{{ '%d' % 'a' }}", "a number is required", GRAFT_OK},
        {"{{ '%x' % 1.5 }}", "a number is required", GRAFT_OK},
        {"{{ '%s %s' % 1 }}", "not enough arguments", GRAFT_OK},
        {"{{ '%s' % (1, 2) }}", "not all arguments", GRAFT_OK},
        {"{{ 'a' % 1 }}", "not all arguments", GRAFT_OK},
        {"{{ '%y' % 1 }}", "unsupported format character", GRAFT_OK},
        {"{{ '%' % 1 }}", "incomplete format", GRAFT_OK},
        {"{{ '%(a' % d }}", "incomplete format key", GRAFT_OK},
        {"{{ '%(a)s' % 1 }}", "requires a mapping", GRAFT_OK},
        {"{{ '%(q)s' % d }}", "key not found", GRAFT_OK},
        {"{{ '%*d' % ('a', 1) }}", "* wants an integer", GRAFT_OK},
        {"{{ '%c' % -1 }}", "needs a character", GRAFT_OK},
        {"{{ '%d' % q }}", "'q' is undefined", GRAFT_OK},
        {"{{ '%.2000f' % 1.5 }}", "precision too big", GRAFT_LIMIT},
        {"{{ '{}'.format() }}", "no argument number 0", GRAFT_OK},
        {"{{ '{a}'.format() }}", "no argument named 'a'", GRAFT_OK},
        {"{{ '{a}'.format_map({}) }}", "no such name", GRAFT_OK},
        {"{{ '{a}'.format_map(1) }}", "needs a mapping", GRAFT_OK},
        {"{{ '{} {0}'.format(1) }}", "mixed", GRAFT_OK},
        {"{{ '{0} {}'.format(1) }}", "mixed", GRAFT_OK},
        {"{{ '{[0]}'.format(xs) }}", "no argument named ''", GRAFT_OK},
        {"{{ '{'.format(1) }}", "single '{'", GRAFT_OK},
        {"{{ '}'.format(1) }}", "single '}'", GRAFT_OK},
        {"{{ '{0[a}'.format(d) }}", "malformed field name", GRAFT_OK},
        {"{{ '{0[b]x}'.format(d) }}", "malformed field name", GRAFT_OK},
        {"{{ '{0.}'.format(d) }}", "malformed field name", GRAFT_OK},
        {"{{ '{!x}'.format(1) }}", "unknown conversion", GRAFT_OK},
        {"{{ '{!rx}'.format(1) }}", "malformed conversion", GRAFT_OK},
        {"{{ '{:{:{}}}'.format(1, 2, 3) }}", "nest too deep", GRAFT_OK},
        {"{{ '{:d}'.format('a') }}", "invalid format for a string", GRAFT_OK},
        {"{{ '{:s}'.format(1) }}", "unknown format code", GRAFT_OK},
        {"{{ '{:d}'.format(1.5) }}", "unknown format code", GRAFT_OK},
        {"{{ '{:.2}'.format(1) }}", "precision not allowed", GRAFT_OK},
        {"{{ '{:.}'.format(1.5) }}", "invalid format specification", GRAFT_OK},
        {"{{ '{:5}'.format([]) }}", "unsupported format", GRAFT_OK}};
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_follows_python),
        cmocka_unit_test(floats_print_as_python_repr),
        cmocka_unit_test(comparisons_chain_and_mix_numbers),
        cmocka_unit_test(inline_if_without_else_is_undefined),
        cmocka_unit_test(strings_count_code_points),
        cmocka_unit_test(lists_slice_and_index_as_in_python),
        cmocka_unit_test(dicts_keep_order_and_python_keys),
        cmocka_unit_test(values_print_as_python_str),
        cmocka_unit_test(string_literals_decode_python_escapes),
        cmocka_unit_test(methods_change_case_and_strip),
        cmocka_unit_test(methods_split_and_join),
        cmocka_unit_test(methods_search_and_replace),
        cmocka_unit_test(methods_pad_and_classify),
        cmocka_unit_test(percent_formats_as_python),
        cmocka_unit_test(format_method_follows_python),
        cmocka_unit_test(safe_strings_escape_what_they_meet),
        cmocka_unit_test(wrong_operands_are_named),
        cmocka_unit_test(integers_have_64_bits),
        cmocka_unit_test(formats_refuse_what_python_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
