"""Drills: lists said again, and tables looked up, with a question for every row.

Owns no knowledge at all: everything in a drill is random, so the only way to foresee it is to look
back and copy.  A small model learns that much sooner from these than from stories alone.
"""
import words as w
from grammar import Doc
from stories import articles

POOLS = [w.THINGS, w.ANIMALS, w.FRUITS, w.COLOURS, w.JOBS, w.FOODS, w.HOBBIES, w.DAYS, w.NUMBERS, w.ITEMS]


def again(m):
    """A list of words, names or numbers, two or three times."""
    kind = m.number(0, 4)
    if kind == 0:
        items = [p.name for p in w.people(m, m.number(3, 10))]
    elif kind == 1:
        items = w.towns(m, m.number(3, 8))
    elif kind == 2:
        items = [str(m.number(1, 999)) for _ in range(m.number(3, 9))]
    else:
        pool = m.pick(POOLS)
        items = m.some(pool, m.number(3, min(10, len(pool))))
    joint = m.pick([", ", " ", "\n", " and "])
    line = joint.join(items)
    return m.pick([f"{line}\n{line}", f"{line}\n\n{line}\n\n{line}", f"List: {line}.\nAgain: {line}."])


def keys_and_values(m, n):
    """n different keys with a value each."""
    keys = m.pick([lambda: [p.name for p in w.people(m, n)], lambda: m.some(w.THINGS, n), lambda: w.towns(m, n)])()
    values = m.pick([lambda: m.some(w.JOBS, n), lambda: [m.pick(w.COLOURS) for _ in keys],
                     lambda: [m.pick(w.NUMBERS) for _ in keys],
                     lambda: [str(m.number(2, 99)) for _ in keys], lambda: m.some(w.FOODS, n),
                     lambda: [p.name for p in w.people(m, n)]])()
    return list(zip(keys, values))


def table(m):
    """Pairs, then the same pairs in another order."""
    rows = keys_and_values(m, m.number(3, 8))
    mark, joint = m.pick([": ", " = ", " - ", " is "]), m.pick(["\n", "; ", ". "])
    said = joint.join(k + mark + v for k, v in rows)
    asked = joint.join(k + mark + v for k, v in m.some(rows, len(rows)))
    return f"{said}\n\n{asked}"


FORMS = [("$A has a $x.", "Who has the $x? $A.", w.THINGS), ("$A is a $x.", "Who is the $x? $A.", w.JOBS),
         ("$A likes $x.", "What does $A like? $X.", w.HOBBIES),
         ("$A ate $x.", "What did $A eat? $X.", w.FOODS),
         ("$A has a $x coat.", "Which coat does $A have? The $x coat.", w.COLOURS),
         ("$A came on $x.", "When did $A come? On $x.", w.DAYS), ("$A saw a $x.", "Who saw the $x? $A.", w.ANIMALS),
         ("$A has $x plums.", "How many plums does $A have? $X.", w.NUMBERS[2:]),
         ("The $x is with $A.", "Where is the $x? With $A.", w.THINGS),
         ("$A plays the $x.", "What does $A play? The $x.", w.INSTRUMENTS)]


def roll_call(m):
    """A fact for each of several people, and a question for each fact."""
    said, asked, pool = m.pick(FORMS)
    group = w.people(m, m.number(2, 6))
    rows = [{"A": p.name, "x": x} for p, x in zip(group, m.some(pool, len(group)))]
    facts = " ".join(m.fill(said, r) for r in rows)
    questions = " ".join(m.fill(asked, r) for r in m.some(rows, len(rows)))
    return articles(facts + "\n" + questions)


def drill_doc(m):
    text = m.pick([again, table, roll_call, roll_call])(m)
    return Doc("drills", ("drill", text[:40]), text=text)
