#!/usr/bin/env python3
"""Random chat templates through graft and through Jinja2: texts must be equal, failures shared.

    templates.py RUNNER [--count N] [--seed S] [--show]

RUNNER is the program built from template_runner.c. Exit status 77 (skipped) where Python has no jinja2.
What Jinja2 can and graft by design cannot (integers beyond 64 bits, complex numbers) is left out of the
comparison, as is what prints addresses and what only its constant folding does.
"""
import argparse
import json
import math
import random
import re
import subprocess
import sys

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print("templates.py: no jinja2 here, skipped")
    sys.exit(77)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_run")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


CONTEXT = {
    "i": 7, "j": -3, "zero": 0, "big": 4611686018427387904, "f": 2.5, "g": -0.125, "tiny": 1e-7,
    "huge": 1.5e300, "s": "Hello World", "e": "", "sp": "  two  words\n\tthree ", "uni": "Größe Ωß 😀 ǆ",
    "html": "<a href='x'>&\"</a>", "num": "42", "fl": " 3.25 ", "lines": "one\ntwo\r\nthree\n\nfive",
    "yes": True, "no": False, "nil": None, "xs": [3, 1, 2, 3], "ws": ["b", "A", "c", "a"], "nil_list": [],
    "mixed": [1, "x", None, 2.5, True, [1, 2], {"k": "v"}],
    "d": {"b": 1, "a": {"x": [1, 2, {"deep": "er"}]}, "items": "shadow", "C": None},
    "nil_dict": {}, "rows": [{"n": "x", "v": 2, "g": "u"}, {"n": "Y", "v": 1, "g": "v"},
                             {"n": "z", "v": 3, "g": "U"}, {"n": "w", "g": "u"}],
    "messages": [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "Hi <b>"},
                 {"role": "assistant", "content": "</think>ok\n", "tool_calls": [
                     {"function": {"name": "f", "arguments": {"a": 1, "b": "ü"}}}]}],
}


class Maker:
    """Random templates; typed loosely, so that most succeed and some fail on both sides."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.names = []

    def pick(self, *options):
        o = self.r.choice(options)
        return o() if callable(o) else o

    def any(self, d):
        return self.r.choice([self.int, self.str, self.str, self.list, self.dict, self.bool, self.float,
                              self.odd])(d - 1)

    def odd(self, d):
        return self.pick("nil", "missing", "missing.x", "d.nope", "d['items']", "yes", "mixed",
                         "range(4)", "namespace(a=1).a", "joiner('-')()", "dict(a=1, b=2)",
                         "cycler(1, 2).next()", *(self.names or ["i"]))

    def int(self, d):
        if d <= 0 or self.r.random() < 0.25:
            return self.pick("i", "j", "zero", "1", "2", "10", "0x1F", "1_000", "-4", "big",
                             "xs[0]", "loop.index" if self.names else "3")
        a, b = lambda: self.int(d - 1), lambda: self.any(d - 1) if self.r.random() < .1 else self.int(d - 1)
        return self.pick(
            lambda: f"({a()} {self.pick('+', '-', '*', '//', '%')} {b()})",
            lambda: f"{a()} {self.pick('+', '-', '*', '//', '%')} {b()}",
            lambda: f"(({a()} + zero) % 5) ** ({b()} % 4)", lambda: f"-{a()}", lambda: f"+{a()}",
            lambda: f"{self.any(d)}|length", lambda: f"{self.any(d)}|int", lambda: f"{self.str(d-1)}|int(base={self.pick('2','10','16','0')})",
            lambda: f"({a()})|abs", lambda: f"{self.list(d-1)}|sum", lambda: f"{self.str(d-1)}|wordcount",
            lambda: f"({self.str(d-1)}).{self.pick('find','rfind','count','index')}({self.str(d-1)})",
            lambda: f"({self.str(d-1)}).{self.pick('find','rfind','count')}({self.str(d-1)}, {a()} % 5, {a()})",
            lambda: f"{self.list(d-1)}.{self.pick('count','index')}({self.any(d-1)})",
            lambda: f"({a()} if {self.bool(d-1)} else {b()})", lambda: f"({a()}|round({a()} % 4))",
            lambda: f"rows|sum(attribute='v')", lambda: f"{self.list(d-1)}|{self.pick('first','last','min','max')}",
            lambda: f"({a()})|default({b()}, {self.pick('true', 'false')})")

    def float(self, d):
        if d <= 0 or self.r.random() < 0.25:
            return self.pick("f", "g", "tiny", "huge", "1.5", "2e3", "1e16", "123456789.125", "0.1")
        n = lambda: self.r.choice((self.int, self.float))(d - 1)
        return self.pick(lambda: f"({n()} / {n()})", lambda: f"({n()} {self.pick('+','-','*','//','%')} {self.float(d-1)})",
                         lambda: f"({self.float(d-1)})|round({self.pick('0','1','2','3','-1','-2')})",
                         lambda: f"({n()})|round({self.pick('0','1','2')}, '{self.pick('ceil','floor','common')}')",
                         lambda: f"({self.any(d)})|float", lambda: f"(-{self.float(d-1)})",
                         lambda: f"({self.float(d-1)})|abs")

    def literal(self):
        return self.pick("''", "'a'", "\"b c\"", "'x\\ny'", "'ß'", "'\\u00e9\\t\\x41'", "'Hello'", "'l'", "' '",
                         "'two' ' joined'", "'%s'", "'o'", "'-'", "'\\\\'", "'\\q'", "'😀'")

    def str(self, d):
        if d <= 0 or self.r.random() < 0.25:
            return self.pick("s", "e", "sp", "uni", "html", "num", "fl", "lines", self.literal, self.literal,
                             "messages[0].content", "messages[-1]['role']", "d['a'].x[2].deep")
        a = lambda: self.any(d - 1) if self.r.random() < .06 else self.str(d - 1)
        n = lambda: self.int(d - 1) if self.r.random() < .4 else self.pick("0", "1", "2", "-1", "3", "-5", "8")
        return self.pick(
            lambda: f"({a()} + {a()})", lambda: f"({self.any(d)} ~ {self.any(d)})", lambda: f"({a()} ~ {self.any(d)})",
            lambda: f"{a()} * ({n()} % 4)", lambda: f"({a()})[{n()}]", lambda: f"({a()})[{n()}:{n()}]",
            lambda: f"({a()})[{n()}:]", lambda: f"({a()})[:{n()}]", lambda: f"({a()})[{n()}:{n()}:{n()}]", lambda: f"({a()})[::-1]",
            lambda: f"{a()}|{self.pick('upper','lower','title','capitalize','trim','string','escape','e','safe','forceescape','urlencode')}",
            lambda: f"({a()}).{self.pick('upper','lower','title','capitalize','strip','lstrip','rstrip','swapcase','casefold')}()",
            lambda: f"({a()}).{self.pick('strip','lstrip','rstrip')}({a()})",
            lambda: f"({a()}).replace({a()}, {a()})", lambda: f"({a()}).replace({a()}, {a()}, {n()})",
            lambda: f"{a()}|replace({a()}, {a()})", lambda: f"{a()}|replace({a()}, {a()}, {n()})",
            lambda: f"({a()}).{self.pick('split','rsplit')}({a()})[{n()}]",
            lambda: f"{self.list(d-1)}|join({a()})", lambda: f"{self.list(d-1)}|join", lambda: f"({a()}).join(ws)",
            lambda: f"rows|join('{self.pick(',','')}', attribute='n')", lambda: f"{self.any(d)}|tojson",
            lambda: f"{self.any(d)}|tojson({self.pick('indent=2','indent=0','ensure_ascii=true','sort_keys=true',chr(39)+chr(39),'separators=(chr,chr)'.replace('chr',chr(39)+':'+chr(39)))})",
            lambda: f"{a()}|indent({self.pick('2','4',chr(39)+'> '+chr(39))}{self.pick('',', true',', false, true')})",
            lambda: f"{a()}|trim({a()})", lambda: f"{a()}|center({n()})", lambda: f"({a()}).{self.pick('center','ljust','rjust')}({n()} % 30, '*')",
            lambda: f"{a()}|truncate({self.pick('5','8','20')}{self.pick('',', true',', false, '+chr(39)+'..'+chr(39)+', 0')})",
            lambda: f"({a()}).zfill({n()} % 12)", lambda: f"({a()}).{self.pick('removeprefix','removesuffix')}({a()})",
            lambda: f"'{self.pick('%s','%5s','%-6s|','%.2s','%d','%05d','%+d','%x','%#o','%5.2f','%e','%g','%r','%c','%%','%10.3e','%G')}' % {self.r.choice((self.any, self.int, self.float, self.str))(d-1)}",
            lambda: f"'%s-%s' % ({self.any(d)}, {self.any(d)})", lambda: f"'%(b)s' % d", lambda: f"'%s %d'|format({self.any(d)}, {self.int(d)})",
            lambda: f"'{self.pick('{}','{0}-{0}','{!r}','{:>8}','{:*^9}','{:<6}|','{{}}','{:.3}')}'.format({self.any(d)})",
            lambda: f"'{self.pick('{:d}','{:05d}','{:,}','{:x}','{:#b}','{:+}','{:^10}','{:_}','{:e}','{:.2f}','{:%}','{:g}','{:c}')}'.format({self.r.choice((self.int, self.float))(d)})",
            lambda: "'{0.a[x][1]} {k}'.format(d, k=s)", lambda: f"({a()} if {self.bool(d-1)} else {a()})", lambda: f"({a()} if {self.bool(d-1)})",
            lambda: f"{a()}|default({a()}, true)", lambda: f"({a()} or {a()})", lambda: f"({a()} and {a()})",
            lambda: f"{self.list(d-1)}|{self.pick('first','last')}", lambda: f"{self.dict(d-1)}.get({a()}, {a()})", lambda: f"{a()}|reverse",
            lambda: f"({a()}).expandtabs({n()})", lambda: f"{self.any(d)}|string", lambda: f"{n()}|filesizeformat", lambda: f"({self.float(d)})|filesizeformat(true)")

    def list(self, d):
        if d <= 0 or self.r.random() < 0.25:
            return self.pick("xs", "ws", "nil_list", "mixed", "rows", "messages", "[1, 2]", "('a', 'b')", "range(5)", "range(6, 0, -2)", "()", "(1,)")
        a = lambda: self.any(d - 1) if self.r.random() < .06 else self.list(d - 1)
        n = lambda: self.pick("0", "1", "2", "-1", "", "")
        return self.pick(
            lambda: f"[{self.any(d-1)}, {self.any(d-1)}]", lambda: f"({self.any(d-1)}, {self.any(d-1)},)", lambda: f"({a()} + {a()})", lambda: f"{a()} * 2",
            lambda: f"({a()})[{n()}:{n()}]", lambda: f"({a()})[::{self.pick('-1','2','-2')}]", lambda: f"{a()}|list", lambda: f"{self.str(d-1)}|list",
            lambda: f"{a()}|sort({self.pick('','reverse=true','case_sensitive=true','true, true')})", lambda: f"{a()}|unique|list", lambda: f"{a()}|reverse|list",
            lambda: f"rows|sort(attribute='{self.pick('n','g','g,n','v')}')", lambda: f"rows|map(attribute='{self.pick('n','v','g','x.y')}')|list",
            lambda: f"rows|map(attribute='v', default=9)|list", lambda: f"{a()}|map('{self.pick('upper','string','length','int','tojson','abs','default')}')|list",
            lambda: f"{a()}|map('replace', 'a', 'b')|list", lambda: f"{a()}|{self.pick('select','reject')}|list",
            lambda: f"{a()}|{self.pick('select','reject')}('{self.pick('string','number','none','defined','odd','even','mapping','sequence','iterable','true','lower','upper','boolean','integer','float')}')|list",
            lambda: f"{a()}|{self.pick('select','reject')}('{self.pick('eq','ne','gt','lt','in','equalto','divisibleby','ge','sameas','==','>=')}', {self.any(d-1)})|list",
            lambda: f"rows|{self.pick('selectattr','rejectattr')}('{self.pick('v','n','g')}')|list",
            lambda: f"rows|{self.pick('selectattr','rejectattr')}('{self.pick('v','n','g')}', '{self.pick('eq','equalto','ne','in','undefined')}'{self.pick(', 2', ', '+chr(39)+'x'+chr(39), '')})|list",
            lambda: f"({self.str(d-1)}).{self.pick('split','rsplit')}({self.pick('', 'none, 1', chr(39)+' '+chr(39), chr(39)+'o'+chr(39)+', 1')})", lambda: f"({self.str(d-1)}).splitlines({self.pick('','true')})",
            lambda: f"({self.str(d-1)}).{self.pick('partition','rpartition')}({self.str(d-1)})",
            lambda: f"{self.dict(d-1)}.{self.pick('items','keys','values')}()|list", lambda: f"{self.dict(d-1)}|{self.pick('items','list','dictsort')}|list", lambda: f"{self.dict(d-1)}|dictsort({self.pick('true','by='+chr(39)+'value'+chr(39),'reverse=true')})",
            lambda: f"{a()}|batch({self.pick('1','2','3')}{self.pick('',', '+chr(39)+'-'+chr(39))})|list", lambda: f"{a()}|slice({self.pick('1','2','3')}{self.pick('',', 0')})|list",
            lambda: f"rows|groupby('g')|list", lambda: f"rows|groupby('{self.pick('v','n','g')}', default=0)", lambda: f"{a()}|map('first')|list", lambda: f"{self.dict(d-1)}.{self.pick('items','keys','values')}()",
            lambda: f"range({self.int(d-1)} % 7)|list", lambda: f"[{self.any(d)}]|{self.pick('min','max')}", lambda: f"{a()}|map('attr', 'x')|list")

    def dict(self, d):
        if d <= 0 or self.r.random() < 0.3:
            return self.pick("d", "nil_dict", "messages[0]", "d.a", "{'k': 1, 'z': [2]}", "{1: 'one', 2.0: 'two', none: 3, true: 4}", "rows[0]")
        return self.pick(lambda: f"{{{self.str(d-1)}: {self.any(d-1)}, 'p': {self.any(d-1)}}}", lambda: f"dict({self.dict(d-1)}, q={self.any(d-1)})",
                         lambda: f"dict([('a', {self.any(d-1)})])", lambda: f"({self.dict(d-1)} if {self.bool(d-1)} else d)", lambda: f"{{{self.any(d-1)}: 1}}")

    def bool(self, d):
        if d <= 0 or self.r.random() < 0.2:
            return self.pick("yes", "no", "true", "False", "None", "missing", "xs", "nil_list", "e")
        a = lambda: self.any(d - 1)
        return self.pick(
            lambda: f"({a()} {self.pick('==','!=')} {a()})", lambda: f"({self.int(d-1)} {self.pick('<','>','<=','>=','==','!=')} {self.r.choice((self.int, self.float))(d-1)})",
            lambda: f"({self.int(d-1)} < {self.int(d-1)} <= {self.int(d-1)})", lambda: f"({self.str(d-1)} {self.pick('<','>','==','!=','in','not in')} {self.str(d-1)})",
            lambda: f"({a()} {self.pick('in','not in')} {self.list(d-1)})", lambda: f"({self.str(d-1)} in {self.dict(d-1)})", lambda: f"not {a()}", lambda: f"(not {self.bool(d-1)})",
            lambda: f"({self.bool(d-1)} and {a()})", lambda: f"({self.bool(d-1)} or {a()})",
            lambda: f"({a()} is {self.pick('','not ')}{self.pick('defined','undefined','none','string','number','integer','float','boolean','mapping','sequence','iterable','true','false','callable','lower','upper','odd','even','escaped')})",
            lambda: f"({a()} is {self.pick('','not ')}{self.pick('eq','ne','gt','lt','in','equalto','divisibleby','sameas')}({a()}))", lambda: f"({self.int(d-1)} is divisibleby 3)",
            lambda: f"({self.str(d-1)}).{self.pick('startswith','endswith')}({self.str(d-1)})", lambda: f"({self.str(d-1)}).{self.pick('isdigit','isalpha','isupper','islower','isspace','istitle','isalnum','isnumeric','isidentifier','isascii')}()",
            lambda: f"({self.list(d-1)} {self.pick('==','<','!=')} {self.list(d-1)})", lambda: f"('{self.pick('upper','nope')}' is filter)")

    # ---- statements

    def tag(self, inside):
        left = self.pick("{%", "{%", "{%-", "{%+")
        right = self.pick("%}", "%}", "%}\n", "-%}", "-%}\n  ", "+%}", "+%}\n")
        return f"{left} {inside} {right}"

    def print(self, inside):
        return self.pick("{{ ", "{{ ", "{{- ", "\n  {{- ") + inside + self.pick(" }}", " }}", " -}}", " -}}\n ")

    def text(self):
        return self.pick("", "a", " b ", "\n", "\n  ", "x\n", "  ", "<t>\n\n", "{# note #}", "  {#- c -#}\n", "\t",
                         "{% raw %} {{ x }} {% endraw %}", "{ {", "}}", "%", "\n{%- raw -%} {% y {%- endraw %}\n")

    def block(self, d, loop=0):
        return "".join(self.text() + self.stmt(d, loop) for _ in range(self.r.randint(1, 3))) + self.text()

    def name(self):
        return self.pick("v1", "v2", "v3", "s", "xs", "i")

    def stmt(self, d, loop=0):
        T = self.tag
        if d <= 0 or self.r.random() < 0.3:
            return self.print(self.pick(self.name, lambda: self.any(2), lambda: self.any(3), lambda: self.str(3)))
        k = self.r.randint(0, 15)
        if k == 0:
            return T(f"if {self.bool(2)}") + self.block(d - 1, loop) + self.pick("", lambda: T("else") + self.block(d - 1, loop),
                lambda: T(f"elif {self.bool(2)}") + self.block(d - 1, loop) + T("else") + self.block(d - 1, loop)) + T("endif")
        if k in (1, 2, 3):
            var = self.name()
            out = T(self.pick(f"for {var} in {self.list(2)}", f"for {var} in {self.list(2)} if {self.bool(2)}", f"for {var} in xs if {var} > v1",
                              f"for k, {var} in d.items()", f"for {var} in {self.str(1)}", f"for {var}, q in rows|groupby('g')"))
            self.names.append(var)
            out += self.print(self.pick("loop.index", "loop.last", "loop.first", "loop.length", "loop.revindex", "loop.index0", "loop.revindex0",
                                        "loop.previtem", "loop.nextitem", "loop.cycle('a', 'b')", "loop.depth", f"loop.changed({var})", "loop"))
            out += self.block(d - 1, loop + 1)
            out += self.pick("", lambda: T(f"if {self.bool(1)}") + T(self.pick("break", "continue")) + T("endif") + self.block(d - 1, loop + 1))
            self.names.pop()
            return out + self.pick("", lambda: T("else") + self.block(d - 1, loop)) + T("endfor")
        if k in (4, 5):
            return T(f"set {self.name()} = {self.any(3)}") + self.print(self.name())
        if k == 6:
            return T(f"set {self.name()}{self.pick('', '|upper', '|trim|length')}") + self.block(d - 1, loop) + T("endset") + self.print(self.name())
        if k == 7:
            return T("set ns = namespace(c=0, t='')") + T(f"for {self.name()} in {self.list(1)}") + T("set ns.c = ns.c + 1") + \
                T(f"set ns.t = ns.t ~ {self.str(1)}") + T("endfor") + self.print("ns.c ~ ':' ~ ns.t")
        if k == 8:
            m = self.pick("m1", "m2")
            body = self.block(d - 1)
            extra = self.pick("", "{{ varargs }}", "{{ kwargs }}", "{{ caller is defined }}", "{{ caller() }}")
            return T(f"macro {m}({self.pick('', 'p', 'p, q=2', 'p=v1, q=p')})") + self.print(self.pick("p", "q", "v1", "s")) + extra + body + T("endmacro") + \
                self.print(f"{m}({self.pick('', '1', '1, 2', 'q=s', '*xs', '**d', 'p=1, r=2')})") + self.pick("", self.print(f"{m}.name ~ {m}.arguments"))
        if k == 9:
            return T("macro w(a='-')") + "[{{ a }}{{ caller(a) if a else caller('n') }}]" + T("endmacro") + T(f"call(z) w({self.str(1)})") + self.print("z") + self.block(d - 1) + T("endcall")
        if k == 10:
            return T(f"filter {self.pick('upper', 'trim', 'replace(chr, chr)'.replace('chr', chr(39) + 'a' + chr(39)), 'length', 'title|reverse', 'indent(2)')}") + self.block(d - 1, loop) + T("endfilter")
        if k == 11:
            v = self.name()
            return T(f"with {v} = {self.any(2)}, w2 = {v}") + self.block(d - 1, loop) + self.print(v) + T("endwith") + self.print(v)
        if k == 12:
            return T("generation") + self.block(d - 1) + T("endgeneration")
        if k == 13:
            return T("for r in [{'c': [{'c': []}, {}]}, {'c': none}] recursive") + "<{{ loop.depth }}{{ loop.index }}" + self.block(d - 2, 1) + "{{ loop(r.c) if r.c }}>" + T("endfor")
        if k == 14:
            return T(f"set {self.name()}, (v2, v3) = {self.any(1)}, ({self.any(1)}, {self.any(1)})") + self.print("v3")
        return T(f"print {self.any(2)}, {self.any(1)}")

    def template(self):
        if self.r.random() < 0.5:
            return self.print(self.any(self.r.randint(2, 4)))
        return self.block(self.r.randint(1, 4)) + self.pick("", "\n", "\n\n", "\r\n")


ADDRESS = re.compile(r" object| at 0x|<class|<bound|<built-in|<function|<Macro|<LoopContext|_iterator|<jinja2")
BY_DESIGN = re.compile(r"overflow|complex|range too big|too large|too much memory|too many steps|too big|not supported|cannot be sliced")


def bounded(value):
    """False where Python went beyond 64 bits on the way out."""
    return not re.search(r"\d{19,}", value)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("runner")
    args.add_argument("--count", type=int, default=20000)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--show", action="store_true")
    args = args.parse_args()
    env = environment()
    runner = subprocess.Popen([args.runner], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    same = failed_both = left_out = wrong = 0
    for n in range(args.count):
        source = Maker(args.seed * 1000003 + n).template()
        expected, why = None, ""
        try:
            expected = env.from_string(source).render(**CONTEXT)
            expected.encode()
        except RecursionError:
            continue
        except Exception as e:  # whatever a template can make Python raise
            why = f"{type(e).__name__}: {e}"
            expected = None
        request = json.dumps({"template": source, "context": CONTEXT})
        runner.stdin.write(request.encode() + b"\n")
        runner.stdin.flush()
        line = runner.stdout.readline()
        if not line:
            print(f"runner died, seed {args.seed} case {n}:\n{source}")
            return 1
        reply = json.loads(line)
        got = reply.get("output")
        if expected is None and got is None:
            failed_both += 1
        elif expected == got:
            same += 1
        elif (expected and (ADDRESS.search(expected) or not bounded(expected))) or \
                BY_DESIGN.search(reply.get("error", "")) or (got and ADDRESS.search(got)) or \
                "unhashable" in why:  # Jinja2 folds constants, also where they are never reached
            left_out += 1
        else:
            wrong += 1
            if args.show or wrong <= 5:
                print(f"--- seed {args.seed} case {n}\n{source}\n  jinja2: {expected!r} {why}\n"
                      f"  graft:  {got!r} {reply.get('error', '')}")
    runner.stdin.close()
    runner.wait()
    print(f"templates: {same} equal, {failed_both} fail on both sides, {left_out} left out, {wrong} differ")
    return 1 if wrong or math.isnan(same) or same < args.count // 4 else 0


if __name__ == "__main__":
    sys.exit(main())
