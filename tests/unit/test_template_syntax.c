/* test_template_syntax.c: statements of chat templates: whitespace control, loops, scopes, macros, blocks;
 * and what a wrong template is told. The expected texts are Jinja2's.
 */
#include "unit/template_support.h"

static void whitespace_is_controlled_at_tags(void **state)
{
    static const struct example examples[] = {
        {"a\n  {% if yes %}\n  b\n  {% endif %}\n  c", "a\n  b\n  c", 0},
        {"a\n  {%- if yes -%}\n  b\n  {%- endif -%}\n  c", "abc", 0},
        {"a\n  {%+ if yes +%}\n  b\n  {% endif %}c", "a\n  \n  b\nc", 0},
        {"x {% if yes %} y {% endif %} z\n", "x  y  z", 0},
        {"  {{ 1 }}  \n  {{- 2 -}}  \n  3", "  123", 0},
        {"{{ 1 }}\n{{ 2 }}\n\n", "1\n2\n", 0},
        {"a\n\n", "a\n", 0},
        {"\n{% set x = 1 %}\n\n{{ x }}", "\n\n1", 0},
        {"a  {# c #}\nb\n  {# c #}\n  d\n  {#- c -#}\n  e{#+ c +#}\nf", "a  b\n  de\nf", 0},
        {"a{{+ 1 }}b", "a1b", 0},
        {"\t{% if yes %}x\t{% endif %}\t\ny", "x\t\t\ny", 0},
        {"{%- if yes %} a{%- endif %}", " a", 0},
        {"a　 {%- if yes -%}　b{% endif %}", "ab", 0},
        {"  {% if yes -%}\n\n   z {%- endif %}\n", "z", 0},
        {"line1\n{%- set q = 1 %}\nline2", "line1line2", 0},
        {"x\n \n  {% if yes %}q{% endif %}", "x\n \nq", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void newlines_are_normalised(void **state)
{
    static const struct example examples[] = {
        {"a\r\nb\rc\n{{ 'x\r\ny' }}", "a\nb\nc\nx\ny", 0},
        {"{% if yes %}\r\nx\r\n{% endif %}\r\n", "x\n", 0},
        {"a\r\n", "a", 0},
        {"\r", "", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void comments_and_raw_blocks_are_left_alone(void **state)
{
    static const struct example examples[] = {
        {"{# {{ x }} {% y %} #}a{##}b{#-#}c", "abc", 0},
        {"{% raw %}{{ x }} {% y %} {# z #}{% endraw %}", "{{ x }} {% y %} {# z #}", 0},
        {"a {%- raw -%}  {{ x }}  {%- endraw -%}  b", "a{{ x }}b", 0},
        {"{% raw %}\n x\n  {% endraw %}\ny", "\n x\ny", 0},
        {"{%raw%}a{%endraw%}", "a", 0},
        {"{% raw %} {% endraw x %} {% endraw %}", " {% endraw x %} ", 0},
        {"{ { } } {% raw %}{%{% endraw %}", "{ { } } {%", 0},
        {"{{ '{{ }}' }}{{ '%}' }}{{ {'a': {'b': 1}}['a'] }}{{ {'a': {}}}}",
         "{{ }}%}{'b': 1}{'a': {}}", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void if_takes_the_first_branch_that_holds(void **state)
{
    static const struct example examples[] = {
        {"{% if no %}a{% elif none %}b{% elif yes %}c{% elif yes %}d{% else %}e{% endif %}", "c",
         0},
        {"{% if no %}a{% else %}b{% endif %}{% if no %}c{% endif %}", "b", 0},
        {"{% if no, no %}tuple{% endif %}{% if (yes) and not no %}x{% endif %}{% if yes: %}colon{% "
         "endif %}",
         "tuplexcolon", 0},
        {"{% if no %}{{ 1|nope }}{% endif %}{{ (1|nope) if no else 'ok' }}{% if no %}{{ 1 is nope "
         "}}{% endif %}",
         "ok", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void loops_count_and_look_around(void **state)
{
    static const struct example examples[] = {
        {"{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 "
         "}}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
         "1032TrueFalse3 2121FalseFalse3 3210FalseTrue3 ", 0},
        {"{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.previtem is "
         "defined }} {% endfor %}",
         "<3>1 False 3<1>2 True 1<2> True ", 0},
        {"{% for x in xs %}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{{ loop.depth0 }}{{ "
         "loop.changed(x > 1) }}{% endfor %} {{ loop is defined }}",
         "a10Trueb10Truea10True False", 0},
        {"{% for x in [] %}a{% else %}none{% endfor %}{% for x in xs %}{{ x }}{% else %}none{% "
         "endfor %}{% for x in undefined_ %}a{% else %}u{% endfor %}",
         "none312u", 0},
        {"{% for x in xs if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ loop.last }} {% "
         "endfor %}{% for x in xs if x > 5 %}a{% else %}empty{% endfor %}",
         "1/2:3False 2/2:2True empty", 0},
        {"{% for x in xs|map('string') %}{{ x }}{{ loop.last }}{{ loop.length }}{% endfor %} {% "
         "for x in xs|map('string') %}{{ loop.revindex }}{{ loop.nextitem }}{% endfor %}",
         "3False31False32True3 31221", 0},
        {"{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }} {% endfor %}{% for a, (b, c) in [(1, "
         "(2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for (a, b) in d.items() %}{{ a }}{% "
         "endfor %}",
         "12 34 123baitems", 0},
        {"{% for x in 1, 2 %}{{ x }}{% endfor %}{% for x in 'aé' %}{{ x }}.{% endfor %}{% for k in "
         "d %}{{ k }}{% endfor %}",
         "12a.é.baitems", 0},
        {"{% for x in xs %}{{ loop }}{% endfor %}{% for x in xs %}{% for y in 'ab' %}{{ loop.index "
         "}}{% endfor %}{{ loop.index }}{% endfor %}",
         "<LoopContext 1/3><LoopContext 2/3><LoopContext 3/3>121122123", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void break_and_continue_leave_the_innermost_loop(void **state)
{
    static const struct example examples[] = {
        {"{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break "
         "%}{% endif %}{{ x }}{% endfor %}",
         "0134", 0},
        {"{% for x in xs %}{% for y in xs %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% "
         "endfor %}{% endfor %}",
         "33 13 23 ", 0},
        {"{% for x in xs %}{% break %}{% else %}still{% endfor %}{% for x in xs %}{% if x == 1 "
         "%}{% break %}{% endif %}{% else %}no{% endfor %}",
         "still", 0},
        {"{% for x in xs %}a{% filter upper %}b{% if x == 1 %}{% break %}{% endif %}{% endfilter "
         "%}{% endfor %}",
         "aBa", 0},
        {"{% for x in xs %}{% for y in [] %}{% else %}{% break %}{% endfor %}never{% endfor %}done",
         "done", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void recursive_loops_call_themselves(void **state)
{
    static const struct example examples[] = {
        {"{% for n in [{'v': 1, 'c': [{'v': 2, 'c': [{'v': 3}]}, {'v': 4}]}, {'v': 5}] recursive "
         "%}{{ loop.depth }}:{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif %} {% endfor %}",
         "1:1(2:2(3:3 ) 2:4 ) 1:5 ", 0},
        {"{% for x in [[1, []], []] recursive %}{{ loop.depth0 }}{% if x is sequence %}{{ loop(x) "
         "}}{% endif %}{% else %}e{% endfor %}",
         "011e0e", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void assignments_stay_in_their_scope(void **state)
{
    static const struct example examples[] = {
        {"{% set x = 1 %}{% for i in xs %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "3121", 0},
        {"{% for i in xs %}{{ x is defined }}{% set x = i %}{% endfor %}{{ x is defined }}",
         "FalseFalseFalseFalse", 0},
        {"{% if yes %}{% set x = 5 %}{% endif %}{{ x }}", "5", 0},
        {"{% set ns = namespace(x=0) %}{% for i in xs %}{% set ns.x = ns.x + i %}{% endfor %}{{ "
         "ns.x }}",
         "6", 0},
        {"{% set x %}a{{ n }}{% endset %}[{{ x }}]{% set x | upper | trim %} q {% endset %}{{ x "
         "}}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, (b, c) = 1, (2, 3) %}{{ c }}{% set t = 1, "
         "%}{{ t }}",
         "[a7]Q123(1,)", 0},
        {"{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}{% with a=1, b=n %}{{ a "
         "}}{{ b }}{% endwith %}{% set a = 3 %}{% with a=a+1, b=a %}{{ a }}{{ b }}{% endwith %}{{ "
         "a }}",
         "1False17433", 0},
        {"{% set s = s ~ '!' %}{{ s }}{% for i in [1, 2] %}{% set s = s ~ i %}{{ s }} {% endfor "
         "%}{{ s }}",
         "Hello World!Hello World!1 Hello World!2 Hello World!", 0},
        {"{% for i in [1] %}{{ n }}{% set n = 2 %}{{ n }}{% endfor %}{{ n }}", "727", 0},
        {"{% for i in [1] %}{{ n }}{% endfor %}{% set n = 9 %}{{ n }}", "9", 0},
        {"{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 9 %}{{ m() }}", "9", 0},
        {"{% if no %}{% set n = 1 %}{% endif %}{{ n }}{% for n in [1] %}{{ n }}{% endfor %}{{ n }}",
         "717", 0},
        {"{% set x = 1 %}{% if yes %}{% for i in [1] %}{% if yes %}{% set x = 2 %}{% endif %}{{ x "
         "}}{% endfor %}{% endif %}{{ x }}",
         "21", 0},
        {"{% filter upper %}{% set x = 'a' %}{{ x }}{% endfilter %}{{ x is defined }}{% generation "
         "%}{% set y = 1 %}{{ y }}{% endgeneration %}{{ y is defined }}",
         "AFalse1False", 0},
        {"{% macro m() %}{% generation %}x{% generation %}{{ n }}{% endgeneration %}"
         "{% endgeneration %}{% endmacro %}{{ m() }}",
         "x7", 0},
        {"{% for x in xs if x != y %}{{ x }}{% set y = x %}{% endfor %}", "312", 0},
        {"{% set a = namespace(v=1) %}{% set b = a %}{% set b.v = 2 %}{{ a.v }}{% for i in xs %}{% "
         "set i = i * 2 %}{{ i }}{% endfor %}",
         "2624", 0},
        {"{{ x }}{% set x = 1 %}{{ x }}{% if x == 1 %}{% set x = x + 1 %}{% endif %}{{ x }}", "12",
         0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void macros_bind_arguments_as_python(void **state)
{
    static const struct example examples[] = {
        {"{% macro m() %}{{ caller }}{% endmacro %}{% call m() %}{% endcall %} {% set v = 1 %}{% "
         "for a in [1] %}{% for b in [2] %}{{ v }}{% set v = 2 %}{{ v }}{% endfor %}{{ v }}{% "
         "endfor %}{{ v }} {% macro o() %}{% for a in [1] %}{{ v }}{% set v = 3 %}{{ v }}{% endfor "
         "%}{% endmacro %}{{ o() }}",
         "<Macro anonymous> 1211 13", 0},
        {"{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ "
         "m(a=4) }} {{ m(1, c=5) }} {{ m() }} {{ m(*[7, 8]) }} {{ m(**{'a': 1, 'b': 0}) }}",
         "121 131 424 125 2 787 101", 0},
        {"{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}{{ "
         "m() }} {{ m.name }} {{ m.arguments }} {{ m.catch_kwargs }}{{ m.catch_varargs }}{{ "
         "m.caller }} {{ m }}",
         "1(2, 3){'x': 4}(){} m ('a',) TrueTrueFalse <Macro 'm'>", 0},
        {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
         "3210", 0},
        {"{% macro m(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call m('p') %}hi {{ n "
         "}}{% endcall %}",
         "<p>hi 7</p>", 0},
        {"{% macro m() %}{% for r in rows %}{{ caller(r, loop.index) }}{% endfor %}{% endmacro "
         "%}{% call(r, i) m() %}{{ i }}{{ r.n }} {% endcall %}",
         "1x 2Y 3z ", 0},
        {"{% macro m(x, caller=none) %}{{ x }}{{ caller }}{% endmacro %}{{ m(1) }} {% macro k() "
         "%}{{ caller is defined }}{% endmacro %}{{ k() }}{% call k() %}{% endcall %}",
         "1None FalseTrue", 0},
        {"{% macro outer() %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ inner(1) }}{{ inner(2) "
         "}}{% endmacro %}{{ outer() }}{% set z = 1 %}{% macro z2() %}{{ z }}{% endmacro %}{{ z2() "
         "}}{% set z = 2 %}{{ z2() }}",
         "[1][2]12", 0},
        {"{% macro m() %}{% set kwargs = 1 %}{{ kwargs }}{% endmacro %}{{ m() }}{% macro v(a, "
         "kwargs) %}{{ kwargs }}{% endmacro %}{{ v(1, 2) }}{% set f = m %}{{ f() }}",
         "121", 0},
        {"{% macro m(a) %}{% if a is defined %}d{% else %}u{% endif %}{{ a|default('x') }}{% "
         "endmacro %}{{ m() }}{{ m(none) }}{{ (m())|length }}",
         "uxdNone2", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void filter_blocks_and_print_tags(void **state)
{
    static const struct example examples[] = {
        {"{% filter upper %}a{{ s }}{% endfilter %}{% filter replace('a', 'b')|upper %}aab{% "
         "endfilter %}{% print 1, 'a', n + 1 %}{% print %}",
         "AHELLO WORLDBBB1a8", 0},
        {"{% filter trim %}  {% for x in xs %}{{ x }} {% endfor %} {% endfilter %}!", "3 1 2!", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void undefined_values_are_silent_until_used(void **state)
{
    static const struct example examples[] = {
        {"[{{ q }}] {{ q is defined }} {{ d.q is defined }} {{ xs[9] is undefined }} {{ q|length "
         "}} {{ not q }} {{ q == z }} {% for x in q %}{% endfor %}{{ q|default(1) }}{{ [q] }}",
         "[] False False True 0 True True 1[Undefined]", 0},
        {"{{ d.pop }}|{{ d.update is defined }}|{{ xs.append is defined }}|{{ s.__class__ is "
         "defined }}|{{ d.__class__ is defined }} {{ 5 .x is defined }} {{ (5)['a'] is defined }} "
         "{{ d[xs] is defined }} {{ xs['a'] is defined }} {{ xs[1.5] is defined }}",
         "|False|False|False|False False False False False False", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void expressions_parse_as_in_jinja(void **state)
{
    static const struct example examples[] = {
        {"{{ (s|attr('upper'))() }} {{ s|attr('upper')() }} {{ s.split(' ', )[0] }} {{ x is "
         "defined or d['b'] is eq d.b }} {{ {'a': s.upper}['a']() }} {{ 00 + 0_0 }} {{ [1][0:1:] "
         "}} {{ xs[:][::] }}",
         "HELLO WORLD HELLO WORLD Hello True HELLO WORLD 0 [1] [3, 1, 2]", 0},
        {"{{ 1, 2 }} {{ (1, 2) }} {{ () }} {{ (1,) }} {{ [1, 2,] }} {{ {'a': 1,} }} {{ 'a' 'b' }} "
         "{{ -1|abs }} {{ -n|abs }} {{ 2 * 3|string }} {{ (2 * 3)|string|length }}",
         "(1, 2) (1, 2) () (1,) [1, 2] {'a': 1} ab 1 7 33 1", 0},
        {"{{ not n == 7 }} {{ n not in xs }} {{ n is not none and yes }} {{ 1 if n is none else 2 "
         "}} {{ 'a' ~ 1 + 1 if no else 'z' }} {{ xs[0] + xs[1] * 2 }} {{ "
         "s.split()[0].upper()|lower }} {{ n in xs or 3 in xs }} {{ 1 < 2 == true }}",
         "False True True 2 z 5 hello True False", 0},
        {"{{ xs|map('string')|join(',')|upper }} {{ (xs|length) * 2 }} {{ xs|length * 2 }} {{ "
         "s|replace('o', '0')|replace('l', '1') }} {{ ('a' if yes else 'b') ~ 'c' }} {{ "
         "dict(a=xs)['a'][1:][0] }} {{ d.a.x|last }} {{ d.items()|list|length }}",
         "3,1,2 6 6 He110 W0r1d ac 1 2 3", 0},
        {"{{ True }}{{ False }}{{ None }}{{ true and None }} {{ 1if yes else 2 }} {{ 'x'if 1 }} {{ "
         "[x, y, 1]|length }} {{ s[1:][:2][0] }} {{ ((((1)))) }} {{ xs[-1:] }} {{ xs[:-1] }} {{ "
         "1.5.is_integer() }} {{ 2.0.is_integer() }}",
         "TrueFalseNoneNone 1 x 3 e 1 [2] [3, 1] False True", 0},
    };
    check_all(state, examples, ARRAY_LEN(examples));
}

static void syntax_errors_name_the_line_and_what_was_expected(void **state)
{
    static const struct bad_example examples[] = {
        {"a\nb\n{{ 1 + }}", "line 3: expected an expression, found '}}'", GRAFT_OK},
        {"{% if yes %}", "end of template, expected elif", GRAFT_OK},
        {"\n{% endif %}", "line 2: unknown tag 'endif'", GRAFT_OK},
        {"{% for x in xs %}{% endif %}", "unknown tag 'endif', expected endfor", GRAFT_OK},
        {"{% wat %}", "unknown tag 'wat'", GRAFT_OK},
        {"{% include 'x' %}", "tag 'include' is not supported", GRAFT_OK},
        {"{% extends 'x' %}", "tag 'extends' is not supported", GRAFT_OK},
        {"{% block x %}{% endblock %}", "tag 'block' is not supported", GRAFT_OK},
        {"{% %}", "expected the name of a tag", GRAFT_OK},
        {"{% 1 %}", "expected the name of a tag", GRAFT_OK},
        {"{{ }}", "expected an expression", GRAFT_OK},
        {"{{ 1 2 }}", "expected '}}', found a number", GRAFT_OK},
        {"{{ 'abc }}", "string without an end", GRAFT_OK},
        {"{{ (1 }}", "unexpected '}', expected ')'", GRAFT_OK},
        {"{{ 1) }}", "unexpected ')'", GRAFT_OK},
        {"{{ a & b }}", "unexpected character '&'", GRAFT_OK},
        {"{{ a \x01 }}", "byte 0x01", GRAFT_OK},
        {"{# x", "missing end of comment", GRAFT_OK},
        {"{% raw %}x", "missing end of raw", GRAFT_OK},
        {"{{ x", "expected '}}', found end of template", GRAFT_OK},
        {"{% if x", "expected '%}'", GRAFT_OK},
        {"{{ 1 is nope }}", "no test named 'nope'", GRAFT_OK},
        {"x\n{{ 1|nope }}", "line 2: no filter named 'nope'", GRAFT_OK},
        {"{{ 1|a.b }}", "no filter named 'a.b'", GRAFT_OK},
        {"{{ 1 is a.b }}", "no test named 'a.b'", GRAFT_OK},
        {"{{ 1|'x' }}", "expected a name", GRAFT_OK},
        {"{{ 1|a.5 }}", "expected a name", GRAFT_OK},
        {"{% if yes %}{% for x in xs %}{{ x|nope }}{% endfor %}{% endif %}", "no filter named",
         GRAFT_OK},
        {"{% if yes %}{{ 1|nope }}{% endif %}", "no filter named 'nope'", GRAFT_OK},
        {"{{ (1 is nope) if yes }}", "no test named 'nope'", GRAFT_OK},
        {"{{ 1 is odd is even }}", "cannot be chained", GRAFT_OK},
        {"{{ x.'a' }}", "a name or a number", GRAFT_OK},
        {"{{ x[1 }}", "unexpected '}'", GRAFT_OK},
        {"{{ {'a' 1} }}", "expected ':'", GRAFT_OK},
        {"{{ [1 2] }}", "expected ',' or ']'", GRAFT_OK},
        {"{{ {1: 2 3: 4} }}", "expected ',' or '}'", GRAFT_OK},
        {"{{ f(1 2) }}", "expected ',' or ')'", GRAFT_OK},
        {"{{ f(a=1, 2) }}", "positional argument follows", GRAFT_OK},
        {"{{ f(a=1, a=2) }}", "repeated", GRAFT_OK},
        {"{{ f(**a, b=1) }}", "nothing may follow **", GRAFT_OK},
        {"{{ x[1, 2:3] }}", "a slice cannot stand here", GRAFT_OK},
        {"{% set 1 = 2 %}", "a name to assign to", GRAFT_OK},
        {"{% set true = 2 %}", "a name to assign to", GRAFT_OK},
        {"{% set = 2 %}", "a name to assign to", GRAFT_OK},
        {"{% set (a, b = 2 %}", "expected ')'", GRAFT_OK},
        {"{% set a.1 = 2 %}", "expected", GRAFT_OK},
        {"{% set %}", "a name to assign to", GRAFT_OK},
        {"{% for in xs %}{% endfor %}", "a name to assign to", GRAFT_OK},
        {"{% for x xs %}{% endfor %}", "expected 'in'", GRAFT_OK},
        {"{% for loop in xs %}{% endfor %}", "cannot assign to 'loop'", GRAFT_OK},
        {"{% for x in xs %}{% set loop = 1 %}{% endfor %}", "cannot assign to 'loop'", GRAFT_OK},
        {"{% break %}", "'break' outside a loop", GRAFT_OK},
        {"{% for x in xs %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}",
         "'continue' outside a loop", GRAFT_OK},
        {"{% for x in xs %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
         "'break' outside a loop", GRAFT_OK},
        {"{% macro m(a=1, b) %}{% endmacro %}", "without default", GRAFT_OK},
        {"{% macro m(caller) %}{% endmacro %}", "'caller' needs a default", GRAFT_OK},
        {"{% macro m %}{% endmacro %}", "expected '('", GRAFT_OK},
        {"{% macro m(a b) %}{% endmacro %}", "expected ',' or ')'", GRAFT_OK},
        {"{% call 5 %}{% endcall %}", "needs a call", GRAFT_OK},
        {"{% call m %}{% endcall %}", "needs a call", GRAFT_OK},
        {"{% with a %}{% endwith %}", "expected '='", GRAFT_OK},
        {"{% with a=1 b=2 %}{% endwith %}", "expected ',' or '%}'", GRAFT_OK},
        {"{% print 1 2 %}", "expected ',' or '%}'", GRAFT_OK},
        {"{{ '\\xZZ' }}", "truncated \\x escape", GRAFT_OK},
        {"{{ '\\ud800' }}", "no Unicode character", GRAFT_OK},
        {"{{ '\\N{DASH}' }}", "\\N escapes", GRAFT_OK},
        {"{{ 1 if 2 else }}", "expected an expression", GRAFT_OK},
        {"{% if 1 if 2 else 3 %}{% endif %}", "expected '%}', found 'if'", GRAFT_OK},
        {"\xff", "not UTF-8", GRAFT_OK},
        {"a\n\xed\xa0\x80", "line 2: the template is not UTF-8", GRAFT_OK},
        {"{{ 99999999999999999999 }}", "does not fit 64 bits", GRAFT_OK}};
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
}

static void runtime_errors_name_the_line(void **state)
{
    static const struct bad_example examples[] = {
        {"a\n{{ q.x }}", "line 2: 'q' is undefined", GRAFT_OK},
        {"{{ d.q.x }}", "'dict object' has no attribute 'q'", GRAFT_OK},
        {"{{ xs[9].x }}", "list object has no element 9", GRAFT_OK},
        {"{{ d[none].x }}", "dict object has no such element", GRAFT_OK},
        {"{{ q + 1 }}", "'q' is undefined", GRAFT_OK},
        {"{{ 1 + q }}", "'q' is undefined", GRAFT_OK},
        {"{{ -q }}", "'q' is undefined", GRAFT_OK},
        {"{{ q < 1 }}", "'q' is undefined", GRAFT_OK},
        {"{{ 1 < q }}", "'q' is undefined", GRAFT_OK},
        {"{{ q[0] }}", "'q' is undefined", GRAFT_OK},
        {"{{ q[1:] }}", "'q' is undefined", GRAFT_OK},
        {"{{ q() }}", "'q' is undefined", GRAFT_OK},
        {"{{ (1 if no).x }}", "no else", GRAFT_OK},
        {"{{ (1 if yes if no).x }}", "no else", GRAFT_OK},
        {"{{ ([]|first).x }}", "no first item", GRAFT_OK},
        {"{% for x in xs %}\n{{ x.y.z }}{% endfor %}", "line 2: 'int object' has no attribute 'y'",
         GRAFT_OK},
        {"{% for a, b in [(1,)] %}{% endfor %}", "not enough values to unpack", GRAFT_OK},
        {"{% for a, b in [(1, 2, 3)] %}{% endfor %}", "too many values to unpack", GRAFT_OK},
        {"{% set a, b = 5 %}", "not iterable", GRAFT_OK},
        {"{% for x in 5 %}{% endfor %}", "'int' object is not iterable", GRAFT_OK},
        {"{% for x in xs %}{{ loop(xs) }}{% endfor %}", "needs 'recursive'", GRAFT_OK},
        {"{% for x in xs recursive %}{{ loop() }}{% endfor %}", "takes one argument", GRAFT_OK},
        {"{% for x in xs %}{{ loop.cycle() }}{% endfor %}", "needs items", GRAFT_OK},
        {"{% for x in xs %}{{ loop.nope.x }}{% endfor %}", "no attribute 'nope'", GRAFT_OK},
        {"{% set d.x = 1 %}", "not a namespace", GRAFT_OK},
        {"{% set q.x = 1 %}", "not a namespace", GRAFT_OK},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "not more than 1", GRAFT_OK},
        {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "no keyword argument 'b'", GRAFT_OK},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "no keyword argument 'a'", GRAFT_OK},
        {"{% macro m(a) %}{{ a + 1 }}{% endmacro %}{{ m() }}", "was not provided", GRAFT_OK},
        {"{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "no caller defined", GRAFT_OK},
        {"{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}", "argument 'caller'", GRAFT_OK},
        {"{% filter length %}x{% endfilter %}", "must give a string", GRAFT_OK},
        {"{{ namespace(_a=1)._a.b }}", "not allowed", GRAFT_OK},
        {"{{ s.__class__.x }}", "has no attribute", GRAFT_OK}};
    (void)state;
    check_all_fail(examples, ARRAY_LEN(examples));
}

static void the_loop_variable_outlives_nothing(void **state)
{
    static const struct example examples[] = {
        {"{% set ns = namespace() %}{% for x in [1, 2] %}{% macro m() %}{{ x }}{% endmacro %}"
         "{% set ns.m = m %}{% endfor %}[{{ ns.m() }}]",
         "[]", 0},
        {"{% set ns = namespace() %}{% for x in xs %}{% if loop.first %}{% set ns.l = loop %}{% "
         "endif %}"
         "{% endfor %}{{ ns.l.index }}{{ ns.l|length }}{{ ns.l is iterable }}{{ ns.l is callable "
         "}}",
         "33TrueTrue", 0},
        {"{% for x in xs if x > 1 %}{% if loop.first %}{{ loop.length }}{{ loop.nextitem }}{% "
         "endif %}"
         "{{ x }}{% endfor %}",
         "2232", 0}};
    check_all(state, examples, ARRAY_LEN(examples));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whitespace_is_controlled_at_tags),
        cmocka_unit_test(newlines_are_normalised),
        cmocka_unit_test(comments_and_raw_blocks_are_left_alone),
        cmocka_unit_test(if_takes_the_first_branch_that_holds),
        cmocka_unit_test(loops_count_and_look_around),
        cmocka_unit_test(break_and_continue_leave_the_innermost_loop),
        cmocka_unit_test(recursive_loops_call_themselves),
        cmocka_unit_test(assignments_stay_in_their_scope),
        cmocka_unit_test(macros_bind_arguments_as_python),
        cmocka_unit_test(filter_blocks_and_print_tags),
        cmocka_unit_test(undefined_values_are_silent_until_used),
        cmocka_unit_test(expressions_parse_as_in_jinja),
        cmocka_unit_test(syntax_errors_name_the_line_and_what_was_expected),
        cmocka_unit_test(runtime_errors_name_the_line),
        cmocka_unit_test(the_loop_variable_outlives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
