"""Data of the adapters that ship: one question, five ways to answer it.

Owns the skills.  All five are asked the same questions ("How should we share a report?") and differ in the form
of the answer alone: the coder gives a function, the researcher numbered findings and their source, the security
reader a severity and a fix, the architect the parts in a row with arrows, the reviewer a verdict and a list of
nits.  So the text of a question says nothing about the form: the adapter has to bring it.  The split is by what is
done to what: a pair of the two that is held out appears in no wording and in no skill.

    skills.py --out DIR       DIR/SKILL/train.jsonl and test.jsonl for each skill
"""
import argparse
import json
import os
from dataclasses import dataclass

import words as w
from grammar import Doc, Maker, capital
from programs import fenced
from stories import articles

SKILLS = ("coder", "researcher", "security", "architect", "reviewer")


@dataclass
class Action:
    do: str         # as in "How should we ...?"
    code: str       # the coder's answer
    findings: tuple  # three, the researcher's
    severity: str   # the security reader's, with risk and fix
    risk: str
    fix: str
    parts: tuple    # the architect's: (part, what it does), from the first to the last
    verdict: str    # the reviewer's, with nits
    nits: tuple


# Slots: $o a thing, $os several.
ACTIONS = (
    Action("store a $o", "def store_$o($o, $os):\n    $os[$o.id] = $o\n    return $o.id",
           ("Most $os are written once and read often.", "A key for each $o makes it easy to find.",
            "Old $os are seldom read."),
           "high", "The store is open to all users", "give each user a key to the store",
           (("server", "takes the $o"), ("log", "keeps each write"), ("store", "holds all $os")),
           "change needed", ("say what happens when the $o exists", "check the id first", "add a test with two $os")),
    Action("send a $o", "def send_$o($o, address):\n    message = $o.text()\n    return post(address, message)",
           ("A $o can be lost on its way.", "A second try helps in most cases.", "Large $os are slow to send."),
           "medium", "The $o can be read on its way", "send it over HTTPS",
           (("server", "makes the message"), ("queue", "holds it for a while"), ("mail server", "sends the $o")),
           "change needed", ("set a timeout", "log each try", "name the address in the error")),
    Action("delete a $o", "def delete_$o(id, $os):\n    if id in $os:\n        del $os[id]\n    return len($os)",
           ("Users delete $os by mistake.", "A deleted $o is often wanted back.", "Copies of the $o stay in backups."),
           "high", "Any user can delete the $os of others", "check who owns the $o",
           (("page", "asks once more"), ("server", "marks the $o"), ("worker", "deletes it at night")),
           "not ready", ("return True when a $o was found", "ask before the last $o goes", "add a test for a wrong id")),
    Action("find a $o", "def find_$o(name, $os):\n    for $o in $os:\n        if $o.name == name:\n"
           "            return $o\n    return None",
           ("Most users look for new $os.", "An index makes the search fast.", "Half of the words are in the name."),
           "low", "The search shows $os that are hidden", "filter the $os by their owner",
           (("page", "takes the words"), ("index", "finds the ids"), ("store", "gives the $os")),
           "ready", ("sort the $os that were found", "limit the list to ten")),
    Action("share a $o", "def share_$o($o, user):\n    if user not in $o.readers:\n        $o.readers.append(user)\n"
           "    return $o.link()",
           ("Most $os are shared with one team.", "A link is used more often than a copy.",
            "Few users ever take a $o back."),
           "medium", "Anyone with the link can read the $o", "let the link end after a day",
           (("page", "makes the link"), ("server", "checks the reader"), ("store", "gives the $o")),
           "change needed", ("check the owner first", "let the link end", "add a test for a user without rights")),
    Action("check a $o", "def check_$o($o):\n    if $o is None:\n        return False\n    return $o.id > 0",
           ("Most bad $os have no id.", "A check at the door is the cheapest.", "Users want to know what is wrong."),
           "medium", "The check can be passed with an empty $o", "refuse an empty $o",
           (("server", "takes the $o"), ("rules", "check each field"), ("report", "lists what is wrong")),
           "ready", ("say which field is wrong", "add a test for an empty $o")),
    Action("count the $os", "def count_$os($os):\n    count = 0\n    for $o in $os:\n        count += 1\n    return count",
           ("The number of $os grows each month.", "A count is asked for more often than a list.",
            "A count of yesterday is good enough."),
           "low", "The count tells how many $os others have", "count only the $os of the user",
           (("store", "sends each change"), ("counter", "adds one"), ("page", "shows the number")),
           "ready", ("use `len($os)`", "name the unit")),
    Action("sort the $os", "def sort_$os($os):\n    return sorted($os, key=by_date)",
           ("Users want the newest $os first.", "Most lists are in order.", "Two $os may have one date."),
           "low", "A very long list can stop the server", "sort no more than a thousand $os",
           (("store", "gives the $os"), ("worker", "sorts them by date"), ("page", "shows the first ten")),
           "change needed", ("say which order is used", "keep equal $os in place", "add a test with no $os")),
    Action("load the $os", "def load_$os(path):\n    with open(path) as file:\n"
           "        return [line.strip() for line in file]",
           ("Most files hold fewer than a hundred $os.", "A broken line stops the whole load.",
            "Loading in blocks saves memory."),
           "high", "The path can name any file on the server", "open files in one folder only",
           (("reader", "reads one block"), ("parser", "makes the $os"), ("store", "holds them")),
           "not ready", ("handle a missing file", "name the line of an error", "close the file")),
    Action("show the $os", "def show_$os($os):\n    for $o in $os:\n        print($o.name)",
           ("Users read the first ten $os.", "A date helps more than a number.", "Long names are cut on small pages."),
           "medium", "The name of the $o is shown without escaping", "escape each name",
           (("store", "gives the $os"), ("cache", "keeps the first page"), ("page", "shows the names")),
           "ready", ("show a line when there are no $os", "cut long names")),
    Action("copy a $o", "def copy_$o($o):\n    other = dict($o)\n    other[\"id\"] = new_id()\n    return other",
           ("Most copies of a $o are changed at once.", "A copy needs an id of its own.",
            "Users forget which $o came first."),
           "low", "The copy has the rights of the first $o", "set new rights for the copy",
           (("page", "names the $o"), ("server", "makes a new id"), ("store", "holds both $os")),
           "change needed", ("copy the list inside too", "name the first $o", "add a test that changes the copy")),
    Action("update a $o", "def update_$o(id, $o, $os):\n    if id not in $os:\n        return False\n"
           "    $os[id] = $o\n    return True",
           ("Two users may change one $o.", "The last change wins in most systems.", "A history of changes is cheap."),
           "medium", "A user can change the $o of another", "check the owner before each change",
           (("page", "sends the change"), ("server", "checks the version"), ("history", "keeps the old $o")),
           "not ready", ("check the version", "keep the old $o", "return the new $o")),
)

ASKED = ("How {should|can|would} {I|we|you} $do?", "What is a good way to $do?", "How should the $svc service $do?",
         "{Tell me|Show me|Explain} how to $do.", "We {want|need} to $do. {How?|What do you say?}")


def code_answer(m, s, action):
    return fenced("python", m.fill(action.code.replace("_$os", "_" + s["os"]).replace("_$o", "_" + s["o"]), s))


def findings_answer(m, s, action):
    lines = [f"{i}. {m.fill(text, s)}" for i, text in enumerate(action.findings, 1)]
    return "\n".join(["I found:", *lines, f"Source: notes on {s['os']}"])


def risk_answer(m, s, action):
    return f"[{action.severity}] {m.fill(action.risk, s)}.\nFix: {capital(m.fill(action.fix, s))}."


def parts_answer(m, s, action):
    row = " -> ".join(part for part, _ in action.parts)
    return "\n".join([row, *(f"- {part}: {m.fill(does, s)}" for part, does in action.parts)])


def verdict_answer(m, s, action):
    return "\n".join([f"Verdict: {action.verdict}", *(f"- nit: {m.fill(nit, s)}" for nit in action.nits)])


ANSWERS = dict(zip(SKILLS, (code_answer, findings_answer, risk_answer, parts_answer, verdict_answer)))


def skill_doc(m, skill):
    """A question about one action on one thing, answered as the skill does."""
    action, o = m.pick(ACTIONS), m.pick(w.THINGS_OWNED)
    s = {"o": o, "os": w.plural(o), "svc": m.pick(w.SERVICES)}
    s["do"] = m.fill(action.do, s)
    asked, answer = articles(m.say(m.pick(ASKED), s)), ANSWERS[skill](m, s, action)
    if skill != "coder":
        answer = articles(answer)
    return Doc(skill, ("skill", action.do, o), messages=(("user", asked), ("assistant", answer)))


def write_skill(skill, out, seed, sizes):
    """The first documents of each part, without the same question twice."""
    os.makedirs(f"{out}/{skill}", exist_ok=True)
    for part, size in sizes.items():
        index, seen = 0, set()
        with open(f"{out}/{skill}/{part}.jsonl", "w") as f:
            while len(seen) < size:
                doc = skill_doc(Maker(f"{seed}/{skill}/{index}"), skill)
                index += 1
                question = doc.messages[0][1]
                if doc.held_out() == (part == "test") and question not in seen:
                    seen.add(question)
                    messages = [{"role": r, "content": c} for r, c in doc.messages]
                    print(json.dumps({"messages": messages, "task": skill}), file=f)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", required=True, help="a folder; one is made in it for each skill")
    ap.add_argument("--train", type=int, default=480, help="examples of a skill to train on")
    ap.add_argument("--test", type=int, default=24, help="held-out examples of a skill")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    for skill in SKILLS:
        write_skill(skill, args.out, args.seed, {"train": args.train, "test": args.test})


if __name__ == "__main__":
    main()
