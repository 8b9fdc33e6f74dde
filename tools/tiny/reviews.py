"""Code reviews: the domain of the reviewer.

Owns the flaws.  A flaw shows code that has it and the code without it, in one language, and says
what is wrong, what happens and how to mend it.  One review in five is of good code, so that a
reviewer has to look.
"""
from dataclasses import dataclass

import words as w
from grammar import Doc
from programs import fenced
from stories import articles


@dataclass
class Flaw:
    name: str
    language: str
    bad: str
    good: str
    bug: str      # what is wrong, where
    effect: str   # what happens
    fix: str


# Slots: $x, $xs, $o an owned thing, $os its plural, $n a number.  `code` in backticks stays as it is.
FLAWS = [
    Flaw("off by one", "c",
         "int sum_$xs(const int *$xs, int n) {\n"
         "    int total = 0;\n"
         "    for (int i = 0; i <= n; i++) {\n"
         "        total += $xs[i];\n"
         "    }\n"
         "    return total;\n"
         "}",
         "int sum_$xs(const int *$xs, int n) {\n"
         "    int total = 0;\n"
         "    for (int i = 0; i < n; i++) {\n"
         "        total += $xs[i];\n"
         "    }\n"
         "    return total;\n"
         "}",
         "The loop runs one step too far.", "It reads past the end of `$xs`.", "Use `i < n` instead of `i <= n`."),
    Flaw("skips first", "python",
         "def sum_$xs($xs):\n"
         "    total = 0\n"
         "    for i in range(1, len($xs)):\n"
         "        total += $xs[i]\n"
         "    return total",
         "def sum_$xs($xs):\n    total = 0\n    for i in range(len($xs)):\n        total += $xs[i]\n    return total",
         "The loop starts at 1.", "The first $x is left out.", "Use `range(len($xs))`."),
    Flaw("divide by zero", "python", "def average_$x($xs):\n    return sum($xs) / len($xs)",
         "def average_$x($xs):\n    if not $xs:\n        return 0\n    return sum($xs) / len($xs)",
         "There is no check for an empty list.", "With no $xs, this divides by zero.",
         "Return early when `$xs` is empty."),
    Flaw("divide by zero c", "c", "int average_$x(int total, int count) {\n    return total / count;\n}",
         "int average_$x(int total, int count) {\n"
         "    if (count == 0) {\n"
         "        return 0;\n"
         "    }\n"
         "    return total / count;\n"
         "}",
         "There is no check for a count of 0.", "When there are no $xs, this divides by zero.",
         "Return early when `count` is 0."),
    Flaw("null", "c", "int get_$x(const struct $o *$o) {\n    return $o->$x;\n}",
         "int get_$x(const struct $o *$o) {\n    if ($o == NULL) {\n        return -1;\n    }\n    return $o->$x;\n}",
         "`$o` may be NULL.", "Then the program crashes.", "Check `$o` before reading `$x`."),
    Flaw("malloc", "c",
         "struct $o *new_$o(int $x) {\n    struct $o *$o = malloc(sizeof(*$o));\n    $o->$x = $x;\n    return $o;\n}",
         "struct $o *new_$o(int $x) {\n"
         "    struct $o *$o = malloc(sizeof(*$o));\n"
         "    if ($o == NULL) {\n"
         "        return NULL;\n"
         "    }\n"
         "    $o->$x = $x;\n"
         "    return $o;\n"
         "}",
         "The result of `malloc` is not checked.", "When memory is short, this writes through NULL.",
         "Return NULL when `$o` is NULL."),
    Flaw("assignment", "c",
         "bool has_$x(int $x) {\n    if ($x = $n) {\n        return true;\n    }\n    return false;\n}",
         "bool has_$x(int $x) {\n    if ($x == $n) {\n        return true;\n    }\n    return false;\n}",
         "The condition assigns instead of comparing.", "It is always true.", "Use `$x == $n`."),
    Flaw("leak", "c",
         "int load_$o(const char *path) {\n"
         "    FILE *file = fopen(path, \"r\");\n"
         "    if (file == NULL) {\n"
         "        return -1;\n"
         "    }\n"
         "    return read_$o(file);\n"
         "}",
         "int load_$o(const char *path) {\n"
         "    FILE *file = fopen(path, \"r\");\n"
         "    if (file == NULL) {\n"
         "        return -1;\n"
         "    }\n"
         "    int result = read_$o(file);\n"
         "    fclose(file);\n"
         "    return result;\n"
         "}",
         "The file is never closed.", "Each call leaks a file handle.", "Call `fclose(file)` before the return."),
    Flaw("unclosed", "python", "def load_$o(path):\n    file = open(path)\n    return file.read()",
         "def load_$o(path):\n    with open(path) as file:\n        return file.read()",
         "The file is never closed.", "Each call leaks a file handle.", "Use `with open(path) as file`."),
    Flaw("default", "python", "def add_$o($o, $os=[]):\n    $os.append($o)\n    return $os",
         "def add_$o($o, $os=None):\n    if $os is None:\n        $os = []\n    $os.append($o)\n    return $os",
         "The default list is shared by all calls.", "A $o from one call shows up in the next.",
         "Use `None` as the default and make a new list."),
    Flaw("strcpy", "c", "void set_$o_name(struct $o *$o, const char *name) {\n    strcpy($o->name, name);\n}",
         "void set_$o_name(struct $o *$o, const char *name) {\n"
         "    snprintf($o->name, sizeof($o->name), \"%s\", name);\n"
         "}",
         "`strcpy` does not know the size of `$o->name`.", "A long name writes past the end.",
         "Use `snprintf` with the size."),
    Flaw("wrong return", "python",
         "def largest_$x($xs):\n"
         "    best = $xs[0]\n"
         "    for $x in $xs:\n"
         "        if $x > best:\n"
         "            best = $x\n"
         "    return $x",
         "def largest_$x($xs):\n"
         "    best = $xs[0]\n"
         "    for $x in $xs:\n"
         "        if $x > best:\n"
         "            best = $x\n"
         "    return best",
         "The function returns `$x` instead of `best`.", "The caller gets the last $x, not the largest.",
         "Return `best`."),
    Flaw("early return", "python",
         "def has_$x($xs, wanted):\n"
         "    for $x in $xs:\n"
         "        if $x == wanted:\n"
         "            return True\n"
         "        return False",
         "def has_$x($xs, wanted):\n"
         "    for $x in $xs:\n"
         "        if $x == wanted:\n"
         "            return True\n"
         "    return False",
         "`return False` is inside the loop.", "Only the first $x is ever checked.",
         "Move `return False` after the loop."),
    Flaw("no return", "python", "def double_$x($x):\n    result = $x * 2",
         "def double_$x($x):\n    result = $x * 2\n    return result",
         "The function returns nothing.", "The caller gets `None`.", "Add `return result`."),
    Flaw("uninitialised", "c",
         "int count_$xs(const int *$xs, int n) {\n"
         "    int count;\n"
         "    for (int i = 0; i < n; i++) {\n"
         "        if ($xs[i] > $n) {\n"
         "            count++;\n"
         "        }\n"
         "    }\n"
         "    return count;\n"
         "}",
         "int count_$xs(const int *$xs, int n) {\n"
         "    int count = 0;\n"
         "    for (int i = 0; i < n; i++) {\n"
         "        if ($xs[i] > $n) {\n"
         "            count++;\n"
         "        }\n"
         "    }\n"
         "    return count;\n"
         "}",
         "`count` has no first value.", "The result is random.", "Write `int count = 0;`."),
    Flaw("use after free", "c", "void drop_$o(struct $o *$o) {\n    free($o);\n    log_$x($o->$x);\n}",
         "void drop_$o(struct $o *$o) {\n    log_$x($o->$x);\n    free($o);\n}",
         "`$o` is used after `free`.", "The memory may already belong to something else.",
         "Log the $x first, then free `$o`."),
    Flaw("bare except", "python", "def save_$o($o):\n    try:\n        store.write($o)\n    except:\n        pass",
         "def save_$o($o):\n"
         "    try:\n"
         "        store.write($o)\n"
         "    except OSError as error:\n"
         "        log.warning(error)",
         "The bare `except` hides every error.", "Nobody will know that the $o was not saved.",
         "Catch `OSError` and log it."),
    Flaw("magic number", "python", "def check_$x($x):\n    return $x < $n",
         "MAX_$X = $n\n\ndef check_$x($x):\n    return $x < MAX_$X",
         "The number $n is not explained.", "A reader cannot tell what it means.", "Give it a name, such as `MAX_$X`."),
    Flaw("modify while iterating", "python",
         "def drop_old_$os($os):\n    for $o in $os:\n        if $o.is_old():\n            $os.remove($o)",
         "def drop_old_$os($os):\n    return [$o for $o in $os if not $o.is_old()]",
         "The list changes while the loop walks over it.", "Some $os are skipped.",
         "Build a new list without the old $os."),
    Flaw("string compare", "c", "bool is_$o(const char *name) {\n    return name == \"$o\";\n}",
         "bool is_$o(const char *name) {\n    return strcmp(name, \"$o\") == 0;\n}",
         "The code compares two pointers, not two texts.", "It is false even when the name is $o.", "Use `strcmp`."),
]

GOOD = "This looks good. I found no bug."
# A request for a review gets the list, a question gets a sentence.
ASK_LIST = ["{Review|Please review|Check} this {code|function|change}{:|.}", "Code review, please.",
            "Can you review this?"]
ASK_SHORT = ["{Is there a bug|What is wrong|Do you see a problem} {here|in this code|in this function}?",
             "Is this {code|function} {right|correct}?"]
ASK_FIX = ("{Show me the fixed code.|Show me the fixed code, please.|Please fix it.|Can you fix it?|"
           "Can you fix it, please?}")


def review_text(m, s, flaw, short):
    bug, effect, fix = (articles(m.fill(t, s)) for t in (flaw.bug, flaw.effect, flaw.fix))
    if short:
        return f"{bug} {effect} {fix}"
    return f"Bug: {bug}\nEffect: {effect}\nFix: {fix}"


def expand(m, code, s):
    """Fill code in which $xs, $x_, $os and $o_ run on into the rest of a name."""
    code = code.replace("$xs", "\0xs\0").replace("$x_", s["x"] + "_")
    code = code.replace("$os", "\0os\0").replace("$o_", s["o"] + "_")
    return m.fill(code.replace("\0xs\0", s["xs"]).replace("\0os\0", s["os"]), s)


def review_doc(m):
    flaw = m.pick(FLAWS)
    x, o = m.pick(w.ITEMS), m.pick(w.THINGS_OWNED)
    s = {"x": x, "xs": w.plural(x), "X": x.upper(), "o": o, "os": w.plural(o),
         "n": m.pick([1, 5, 10, 12, 50, 100, 255])}
    bad, good = expand(m, flaw.bad, s), expand(m, flaw.good, s)
    key = ("review", flaw.name, x if "$x" in flaw.bad else "", o if "$o" in flaw.bad else "")
    fine = m.chance(0.2)
    code = fenced(flaw.language, good if fine else bad)
    raw, short = m.chance(0.2), m.chance(0.5)
    answer = GOOD if fine else review_text(m, s, flaw, short and not raw)
    if raw:
        return Doc("reviews", key, text=f"Code:\n{code}\n\nReview:\n{answer}")
    turns = [("user", f"{m.say(m.pick(ASK_SHORT if short else ASK_LIST))}\n{code}"), ("assistant", answer)]
    if not fine and m.chance(0.45):
        turns += [("user", m.say(ASK_FIX)), ("assistant", fenced(flaw.language, good))]
    elif not fine and m.chance(0.2):
        turns += [("user", m.pick(["What happens then?", "Why is that bad?"])),
                  ("assistant", articles(m.fill(flaw.effect, s)))]
    return Doc("reviews", key, messages=tuple(turns))
