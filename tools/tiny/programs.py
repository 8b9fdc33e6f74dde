"""Small Python and C functions: the domain of the coder.

Owns the families of functions.  A family has a name, what it does in words, and its body in both
languages; the slots are what it works on.  One family gives thousands of documents: asked for,
explained, documented, called, in either language.
"""
from dataclasses import dataclass

import words as w
from grammar import Doc, capital
from stories import articles


@dataclass
class Family:
    names: str       # function names, as a template
    does: str        # third person, for comments: "returns the sum of all prices"
    python: str
    c: str
    explain: str
    call: str = ""   # a call and its value, for "what does it return" questions


# Slots: $x one item, $xs several, $n a small number, $f the function name.
FAMILIES = [
    Family("{sum_$xs|total_$xs|add_$xs}", "returns the sum of all $xs",
           "def $f($xs):\n    total = 0\n    for $x in $xs:\n        total += $x\n    return total",
           "int $f(const int *$xs, int n) {\n"
           "    int total = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        total += $xs[i];\n"
           "    }\n"
           "    return total;\n"
           "}",
           "It starts at 0 and adds each $x to the total."),
    Family("{max_$x|largest_$x|highest_$x}", "returns the largest $x",
           "def $f($xs):\n"
           "    best = $xs[0]\n"
           "    for $x in $xs:\n"
           "        if $x > best:\n"
           "            best = $x\n"
           "    return best",
           "int $f(const int *$xs, int n) {\n"
           "    int best = $xs[0];\n"
           "    for (int i = 1; i < n; i++) {\n"
           "        if ($xs[i] > best) {\n"
           "            best = $xs[i];\n"
           "        }\n"
           "    }\n"
           "    return best;\n"
           "}",
           "It keeps the best $x so far and replaces it when a larger one comes."),
    Family("{min_$x|smallest_$x|lowest_$x}", "returns the smallest $x",
           "def $f($xs):\n"
           "    best = $xs[0]\n"
           "    for $x in $xs:\n"
           "        if $x < best:\n"
           "            best = $x\n"
           "    return best",
           "int $f(const int *$xs, int n) {\n"
           "    int best = $xs[0];\n"
           "    for (int i = 1; i < n; i++) {\n"
           "        if ($xs[i] < best) {\n"
           "            best = $xs[i];\n"
           "        }\n"
           "    }\n"
           "    return best;\n"
           "}",
           "It keeps the smallest $x so far and replaces it when a smaller one comes."),
    Family("{average_$x|mean_$x}", "returns the average of the $xs",
           "def $f($xs):\n    if not $xs:\n        return 0\n    return sum($xs) / len($xs)",
           "double $f(const int *$xs, int n) {\n"
           "    if (n == 0) {\n"
           "        return 0;\n"
           "    }\n"
           "    double total = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        total += $xs[i];\n"
           "    }\n"
           "    return total / n;\n"
           "}",
           "It adds the $xs and divides by how many there are. An empty list gives 0."),
    Family("{count_$xs_above|$xs_above}", "counts the $xs above a limit",
           "def $f($xs, limit):\n"
           "    count = 0\n"
           "    for $x in $xs:\n"
           "        if $x > limit:\n"
           "            count += 1\n"
           "    return count",
           "int $f(const int *$xs, int n, int limit) {\n"
           "    int count = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        if ($xs[i] > limit) {\n"
           "            count++;\n"
           "        }\n"
           "    }\n"
           "    return count;\n"
           "}",
           "It looks at each $x and counts the ones that are larger than the limit."),
    Family("{count_$xs_below|$xs_below}", "counts the $xs below a limit",
           "def $f($xs, limit):\n"
           "    count = 0\n"
           "    for $x in $xs:\n"
           "        if $x < limit:\n"
           "            count += 1\n"
           "    return count",
           "int $f(const int *$xs, int n, int limit) {\n"
           "    int count = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        if ($xs[i] < limit) {\n"
           "            count++;\n"
           "        }\n"
           "    }\n"
           "    return count;\n"
           "}",
           "It looks at each $x and counts the ones that are smaller than the limit."),
    Family("{has_$x|contains_$x}", "tells whether a $x is in the list",
           "def $f($xs, wanted):\n"
           "    for $x in $xs:\n"
           "        if $x == wanted:\n"
           "            return True\n"
           "    return False",
           "bool $f(const int *$xs, int n, int wanted) {\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        if ($xs[i] == wanted) {\n"
           "            return true;\n"
           "        }\n"
           "    }\n"
           "    return false;\n"
           "}",
           "It compares each $x with the wanted one and stops at the first match."),
    Family("{find_$x|index_of_$x}", "returns the position of a $x, or -1",
           "def $f($xs, wanted):\n"
           "    for i, $x in enumerate($xs):\n"
           "        if $x == wanted:\n"
           "            return i\n"
           "    return -1",
           "int $f(const int *$xs, int n, int wanted) {\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        if ($xs[i] == wanted) {\n"
           "            return i;\n"
           "        }\n"
           "    }\n"
           "    return -1;\n"
           "}",
           "It walks over the $xs and returns the first position that matches. If there is none, it returns -1."),
    Family("{scale_$xs|multiply_$xs}", "multiplies every $x by a factor",
           "def $f($xs, factor):\n    return [$x * factor for $x in $xs]",
           "void $f(int *$xs, int n, int factor) {\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        $xs[i] *= factor;\n"
           "    }\n"
           "}",
           "Every $x is multiplied by the factor."),
    Family("{positive_$xs|keep_positive_$xs}", "keeps only the positive $xs",
           "def $f($xs):\n    return [$x for $x in $xs if $x > 0]",
           "int $f(int *$xs, int n) {\n"
           "    int kept = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        if ($xs[i] > 0) {\n"
           "            $xs[kept++] = $xs[i];\n"
           "        }\n"
           "    }\n"
           "    return kept;\n"
           "}",
           "It keeps each $x that is larger than 0 and drops the others."),
    Family("{clamp_$x|limit_$x}", "keeps a $x between low and high",
           "def $f($x, low, high):\n"
           "    if $x < low:\n"
           "        return low\n"
           "    if $x > high:\n"
           "        return high\n"
           "    return $x",
           "int $f(int $x, int low, int high) {\n"
           "    if ($x < low) {\n"
           "        return low;\n"
           "    }\n"
           "    if ($x > high) {\n"
           "        return high;\n"
           "    }\n"
           "    return $x;\n"
           "}",
           "A $x that is too small becomes low, and one that is too large becomes high."),
    Family("{is_valid_$x|check_$x}", "tells whether a $x is between 0 and $n",
           "def $f($x):\n    return 0 <= $x <= $n",
           "bool $f(int $x) {\n    return $x >= 0 && $x <= $n;\n}",
           "It is true when the $x is at least 0 and at most $n."),
    Family("{reverse_$xs|flip_$xs}", "reverses the order of the $xs",
           "def $f($xs):\n    result = []\n    for $x in $xs:\n        result.insert(0, $x)\n    return result",
           "void $f(int *$xs, int n) {\n"
           "    for (int i = 0; i < n / 2; i++) {\n"
           "        int other = $xs[n - 1 - i];\n"
           "        $xs[n - 1 - i] = $xs[i];\n"
           "        $xs[i] = other;\n"
           "    }\n"
           "}",
           "The last $x becomes the first, and the first becomes the last."),
    Family("{swap_$xs|exchange_$xs}", "swaps two $xs",
           "def $f($xs, i, j):\n    $xs[i], $xs[j] = $xs[j], $xs[i]",
           "void $f(int *a, int *b) {\n    int $x = *a;\n    *a = *b;\n    *b = $x;\n}",
           "Each of the two $xs takes the place of the other."),
    Family("{$xs_sorted|is_sorted_$xs}", "tells whether the $xs are in order",
           "def $f($xs):\n"
           "    for i in range(1, len($xs)):\n"
           "        if $xs[i] < $xs[i - 1]:\n"
           "            return False\n"
           "    return True",
           "bool $f(const int *$xs, int n) {\n"
           "    for (int i = 1; i < n; i++) {\n"
           "        if ($xs[i] < $xs[i - 1]) {\n"
           "            return false;\n"
           "        }\n"
           "    }\n"
           "    return true;\n"
           "}",
           "It compares each $x with the one before it. If one is smaller, the list is not in order."),
    Family("{$x_difference|difference_of_$xs}", "returns how far apart two $xs are",
           "def $f(a, b):\n    return abs(a - b)",
           "int $f(int a, int b) {\n    return a > b ? a - b : b - a;\n}",
           "It subtracts the smaller $x from the larger one."),
    Family("{even_$xs|count_even_$xs}", "counts the even $xs",
           "def $f($xs):\n"
           "    count = 0\n"
           "    for $x in $xs:\n"
           "        if $x % 2 == 0:\n"
           "            count += 1\n"
           "    return count",
           "int $f(const int *$xs, int n) {\n"
           "    int count = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        if ($xs[i] % 2 == 0) {\n"
           "            count++;\n"
           "        }\n"
           "    }\n"
           "    return count;\n"
           "}",
           "A $x is even when the rest after dividing by 2 is 0. The function counts those."),
    Family("{unique_$xs|distinct_$xs}", "returns the $xs without repeats",
           "def $f($xs):\n"
           "    seen = set()\n"
           "    result = []\n"
           "    for $x in $xs:\n"
           "        if $x not in seen:\n"
           "            seen.add($x)\n"
           "            result.append($x)\n"
           "    return result",
           "int $f(int *$xs, int n) {\n"
           "    int kept = 0;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        bool seen = false;\n"
           "        for (int j = 0; j < kept; j++) {\n"
           "            seen = seen || $xs[j] == $xs[i];\n"
           "        }\n"
           "        if (!seen) {\n"
           "            $xs[kept++] = $xs[i];\n"
           "        }\n"
           "    }\n"
           "    return kept;\n"
           "}",
           "Each $x is kept the first time it is seen."),
    Family("{print_$xs|show_$xs}", "prints each $x on its own line",
           "def $f($xs):\n    for $x in $xs:\n        print($x)",
           "void $f(const int *$xs, int n) {\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        printf(\"%d\\n\", $xs[i]);\n"
           "    }\n"
           "}",
           "It walks over the $xs and prints them one after another."),
    Family("{fill_$xs|set_$xs}", "sets every $x to one value",
           "def $f($xs, value):\n    for i in range(len($xs)):\n        $xs[i] = value",
           "void $f(int *$xs, int n, int value) {\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        $xs[i] = value;\n"
           "    }\n"
           "}",
           "Every $x gets the same value."),
    Family("{copy_$xs|clone_$xs}", "makes a copy of the $xs",
           "def $f($xs):\n    return [$x for $x in $xs]",
           "int *$f(const int *$xs, int n) {\n"
           "    int *copy = malloc(n * sizeof(int));\n"
           "    if (copy == NULL) {\n"
           "        return NULL;\n"
           "    }\n"
           "    memcpy(copy, $xs, n * sizeof(int));\n"
           "    return copy;\n"
           "}",
           "The caller gets new memory with the same $xs in it."),
    Family("{last_$x|get_last_$x}", "returns the last $x, or a default",
           "def $f($xs, default=None):\n    if not $xs:\n        return default\n    return $xs[-1]",
           "int $f(const int *$xs, int n, int fallback) {\n    return n > 0 ? $xs[n - 1] : fallback;\n}",
           "If there is no $x at all, the default is returned."),
    Family("{add_$x|grow_$x}", "adds $n to a $x",
           "def $f($x):\n    return $x + $n",
           "int $f(int $x) {\n    return $x + $n;\n}",
           "The result is the $x plus $n."),
    Family("{$x_to_text|format_$x}", "turns a $x into text",
           "def $f($x):\n    return f\"$x: {$x}\"",
           "void $f(int $x, char *out, size_t size) {\n    snprintf(out, size, \"$x: %d\", $x);\n}",
           "The text has the word $x, a colon and the value."),
    Family("{parse_$x|read_$x}", "reads a $x from text",
           "def $f(text):\n    try:\n        return int(text)\n    except ValueError:\n        return None",
           "bool $f(const char *text, int *$x) {\n"
           "    char *end;\n"
           "    long value = strtol(text, &end, 10);\n"
           "    if (end == text || *end != '\\0') {\n"
           "        return false;\n"
           "    }\n"
           "    *$x = (int)value;\n"
           "    return true;\n"
           "}",
           "If the text is not a number, there is no $x."),
    Family("{merge_$xs|join_$xs}", "puts two lists of $xs together",
           "def $f(first, second):\n    return first + second",
           "void $f(const int *a, int na, const int *b, int nb, int *$xs) {\n"
           "    memcpy($xs, a, na * sizeof(int));\n"
           "    memcpy($xs + na, b, nb * sizeof(int));\n"
           "}",
           "The $xs of the second list come after those of the first."),
]

# Functions that stand alone; their slot is only a name.
CLASSICS = [
    Family("{factorial|fact}", "returns n factorial",
           "def $f(n):\n    result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result",
           "long $f(int n) {\n"
           "    long result = 1;\n"
           "    for (int i = 2; i <= n; i++) {\n"
           "        result *= i;\n"
           "    }\n"
           "    return result;\n"
           "}", "It multiplies the numbers from 1 to n."),
    Family("{fib|fibonacci}", "returns the n-th Fibonacci number",
           "def $f(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
           "long $f(int n) {\n"
           "    long a = 0, b = 1;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        long next = a + b;\n"
           "        a = b;\n"
           "        b = next;\n"
           "    }\n"
           "    return a;\n"
           "}",
           "Each number is the sum of the two before it."),
    Family("{gcd|greatest_divisor}", "returns the greatest common divisor of a and b",
           "def $f(a, b):\n    while b != 0:\n        a, b = b, a % b\n    return a",
           "int $f(int a, int b) {\n"
           "    while (b != 0) {\n"
           "        int rest = a % b;\n"
           "        a = b;\n"
           "        b = rest;\n"
           "    }\n"
           "    return a;\n"
           "}", "It takes the rest again and again until the rest is 0."),
    Family("{is_even|even}", "tells whether n is even", "def $f(n):\n    return n % 2 == 0",
           "bool $f(int n) {\n    return n % 2 == 0;\n}", "A number is even when the rest after dividing by 2 is 0."),
    Family("{is_prime|prime}", "tells whether n is a prime number",
           "def $f(n):\n"
           "    if n < 2:\n"
           "        return False\n"
           "    for i in range(2, n):\n"
           "        if n % i == 0:\n"
           "            return False\n"
           "    return True",
           "bool $f(int n) {\n"
           "    if (n < 2) {\n"
           "        return false;\n"
           "    }\n"
           "    for (int i = 2; i < n; i++) {\n"
           "        if (n % i == 0) {\n"
           "            return false;\n"
           "        }\n"
           "    }\n"
           "    return true;\n"
           "}",
           "It looks for a divisor. If there is none, n is a prime number."),
    Family("{power|raise}", "returns x to the power n",
           "def $f(x, n):\n    result = 1\n    for _ in range(n):\n        result *= x\n    return result",
           "long $f(long x, int n) {\n"
           "    long result = 1;\n"
           "    for (int i = 0; i < n; i++) {\n"
           "        result *= x;\n"
           "    }\n"
           "    return result;\n"
           "}", "It multiplies x with itself n times."),
    Family("{reverse|reverse_text}", "reverses a string", "def $f(text):\n    return text[::-1]",
           "void $f(char *text) {\n"
           "    size_t n = strlen(text);\n"
           "    for (size_t i = 0; i < n / 2; i++) {\n"
           "        char c = text[i];\n"
           "        text[i] = text[n - 1 - i];\n"
           "        text[n - 1 - i] = c;\n"
           "    }\n"
           "}", "The last letter becomes the first."),
    Family("{count_letter|count_char}", "counts how often a letter is in a text",
           "def $f(text, letter):\n"
           "    count = 0\n"
           "    for c in text:\n"
           "        if c == letter:\n"
           "            count += 1\n"
           "    return count",
           "int $f(const char *text, char letter) {\n"
           "    int count = 0;\n"
           "    for (; *text; text++) {\n"
           "        if (*text == letter) {\n"
           "            count++;\n"
           "        }\n"
           "    }\n"
           "    return count;\n"
           "}",
           "It compares each letter of the text with the one that is wanted."),
    Family("{is_palindrome|same_backwards}", "tells whether a text reads the same backwards",
           "def $f(text):\n    return text == text[::-1]",
           "bool $f(const char *text) {\n"
           "    size_t n = strlen(text);\n"
           "    for (size_t i = 0; i < n / 2; i++) {\n"
           "        if (text[i] != text[n - 1 - i]) {\n"
           "            return false;\n"
           "        }\n"
           "    }\n"
           "    return true;\n"
           "}",
           "It compares the text with itself, read backwards."),
    Family("{add|sum}", "adds two numbers", "def $f(a, b):\n    return a + b",
           "int $f(int a, int b) {\n    return a + b;\n}", "It returns a plus b."),
    Family("{larger|max_of_two}", "returns the larger of two numbers", "def $f(a, b):\n    return a if a > b else b",
           "int $f(int a, int b) {\n    return a > b ? a : b;\n}", "It compares a with b and returns the larger one."),
    Family("{square|squared}", "returns the square of a number", "def $f(x):\n    return x * x",
           "int $f(int x) {\n    return x * x;\n}", "It multiplies x with itself."),
    Family("{text_length|length}", "returns the length of a text",
           "def $f(text):\n    count = 0\n    for c in text:\n        count += 1\n    return count",
           "size_t $f(const char *text) {\n"
           "    size_t n = 0;\n"
           "    while (text[n] != '\\0') {\n"
           "        n++;\n"
           "    }\n"
           "    return n;\n"
           "}", "It counts the letters one by one."),
]


def base_form(does):
    """\"returns the sum\" becomes \"return the sum\"."""
    first, rest = does.split(" ", 1)
    irregular = {"multiplies": "multiply", "reverses": "reverse", "makes": "make"}
    return irregular.get(first, first[:-1]) + " " + rest


def comment(does, language):
    said = capital(base_form(does)) + "."
    return f"# {said}\n" if language == "python" else f"/* {said} */\n"


def python_docstring(code, does):
    head, body = code.split("\n", 1)
    return f'{head}\n    """{capital(base_form(does))}."""\n{body}'


def make_program(m):
    """(slots, code by language, family): one member of a family."""
    family = m.pick(FAMILIES) if m.chance(0.8) else m.pick(CLASSICS)
    x = m.pick(w.ITEMS)
    s = {"x": x, "xs": w.plural(x), "n": m.pick([5, 10, 12, 20, 50, 100, 200, 255, 1000])}
    # Who does not say how the function is called gets the first name of the family.
    names = family.names.strip("{}").split("|")
    name = names[0] if m.chance(0.7) else m.pick(names)
    s["usual"] = name == names[0]
    s["f"] = m.fill(name.replace("$xs_", s["xs"] + "_").replace("$x_", x + "_"), s)
    s["does"] = articles(m.fill(family.does, s))
    s["do"] = base_form(s["does"])
    return family, s, {"python": m.fill(family.python, s), "c": m.fill(family.c, s)}


def fenced(language, code):
    return f"```{language}\n{code}\n```"


ASK_CODE = ["{Write|Give me|Show me} a {small |short |}$lang function that $does", "{How do I|How can I} $do in $lang",
            "{Write|Please write} $lang code to $do", "I need a $lang function called `$f` that $does",
            "$lang function `$f`: $do"]
ASK_MEANING = ["What does this {function|code} do?", "Explain this {function|code}.", "What is `$f` for?"]


def request(m, s, documented):
    """What a user says to get the function; the comment is there only when it is asked for."""
    ask = m.say(m.pick(ASK_CODE if s["usual"] else ASK_CODE[3:]), s)
    ask += m.pick([", with a comment", ", and add a comment", ". Comment it"]) if documented else ""
    return ask + ("?" if ask.startswith("How") and ". " not in ask else ".")


def program_doc(m):
    family, s, codes = make_program(m)
    language = m.pick(["python", "c"])
    code = codes[language]
    key = ("program", family.names, s["x"], language)
    s["lang"] = {"python": "Python", "c": "C"}[language]
    why = articles(m.fill(family.explain, s))
    with_comment = comment(s["does"], language) + code
    if language == "python" and m.chance(0.4):
        with_comment = python_docstring(code, s["does"])
    form = m.number(0, 9)
    if form <= 2:
        return Doc("code", key, text=with_comment)
    if form == 3:  # both languages, one after another
        other = "c" if language == "python" else "python"
        ask = request(m, s, documented=False)
        again = m.say("{And in|Now in|The same in} $o{, please|}{?|.}", {"o": {"python": "Python", "c": "C"}[other]})
        return Doc("code", key,
                   messages=(("user", ask), ("assistant", fenced(language, code)), ("user", again),
                             ("assistant", fenced(other, codes[other]))))
    if form <= 7:
        documented = m.chance(0.35)
        answer = fenced(language, comment(s["does"], language) + code if documented else code)
        turns = [("user", request(m, s, documented)), ("assistant", answer)]
        if m.chance(0.4):
            turns += [("user", m.pick(["How does it work?", "Explain it.", "Can you explain it?"])), ("assistant", why)]
        return Doc("code", key, messages=tuple(turns))
    ask = m.say(m.pick(ASK_MEANING), s)
    answer = f"`{s['f']}` {s['does']}. {why}"
    return Doc("code", key, messages=(("user", f"{ask}\n{fenced(language, code)}"), ("assistant", answer)))
