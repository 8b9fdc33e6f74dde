"""The little template language of the corpus, and what one document is.

Owns: `Maker`, a seeded source of choices that fills templates, and `Doc`.  A template is plain
text with two marks: {one|two|three} picks one of the alternatives (they nest), and $name puts in
a slot.  $Name is the slot `name` with a capital, $a_name the slot with its article.
The generators of the domains build everything from these few calls; none keeps state of its own.
"""
import hashlib
import random
import re
from dataclasses import dataclass

HELD_OUT_OF = 20  # one combination of slots in so many is never trained on


@dataclass
class Doc:
    """One document.  `key` names the combination of slots that decides its split."""
    domain: str
    key: tuple
    text: str = ""
    messages: tuple = ()

    def held_out(self):
        digest = hashlib.sha256("\0".join(map(str, self.key)).encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_OF == 0

    def render(self):
        """The text a model sees: raw, or the turns in ChatML."""
        if not self.messages:
            return self.text
        return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in self.messages)


def with_article(word):
    return ("an " if word[0] in "aeiouAEIOU" else "a ") + word


def capital(text):
    return text[:1].upper() + text[1:]


def listing(items):
    """one, two and three"""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class Maker:
    """Choices for one document, all drawn from one seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, items):
        return items[self.random.randrange(len(items))]

    def some(self, items, n):
        """n different items."""
        return self.random.sample(items, n)

    def number(self, low, high):
        return self.random.randint(low, high)

    def chance(self, p):
        return self.random.random() < p

    def choose(self, template):
        """Resolve the alternatives, innermost first."""
        inner = re.compile(r"\{([^{}]*)\}")
        while "{" in template:
            template, count = inner.subn(lambda m: self.pick(m[1].split("|")), template)
            assert count, "unbalanced braces: " + template
        return template

    def fill(self, template, slots):
        """Put in the slots, without touching braces: for code."""
        return re.sub(r"\$(\w+)", lambda m: slot(slots, m[1]), template)

    def say(self, template, slots=()):
        return self.fill(self.choose(template), slots)

    def lines(self, templates, slots):
        """Several sentences; an entry that is a list offers its members as alternatives."""
        said = (self.say(self.pick(t) if isinstance(t, list) else t, slots) for t in templates)
        return " ".join(s for s in said if s)


def slot(slots, name):
    """The value of $name, with the article and capital that its spelling asks for."""
    if name in slots:
        return str(slots[name])
    lower = name[0].lower() + name[1:]
    if lower.startswith("a_") and lower not in slots:
        value = with_article(str(slots[lower[2:]]))
    else:
        value = str(slots[lower])
    return capital(value) if name != lower else value
