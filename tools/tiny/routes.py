"""Prompts that the router that ships learns from: which adapter is asked for, or none.

Owns the wordings that tell.  The questions that the adapters learnt from (skills.py) are the same for all five, so
nobody could route them; here the same things are asked in words that say what is wanted: "Write a function to ...",
"What is the risk when we ...".  Requests of every domain of the corpus, which the base answers by itself, are labelled
"base".  A record is a whole example, so that `graft eval` can tell whether the adapter that is asked for answers best.
The split is that of skills.py and of the corpus: a pair of what is done and to what is held out in every wording.

    routes.py --out DIR       DIR/train.jsonl; DIR/test/LABEL.jsonl, what is held out of each label; and
                              DIR/test/unseen.jsonl, held-out pairs in wordings that are nowhere else
"""
import argparse
import json
import os

import words as w
from corpus import DOMAINS, document
from grammar import Doc, Maker
from skills import ACTIONS, ANSWERS, SKILLS
from stories import articles

# $do: "store a report", $doing: "storing a report".
WORDINGS = {
    "coder": ("{Write|Give me|Show me|I need} {a function|code|a Python function|a few lines of Python} to $do.",
              "How {do|can|would} {I|we|you} $do in {Python|code}?", "{Implement|Program} a way to $do.",
              "Can you {write|show me} {the code|the function|a program} to $do?",
              "What does {the code|the function|a Python function} to $do look like?",
              "{Please write|Write} {a short|a small|the} {function|program} {that can|to} $do.",
              "{Python|Code|A function}, please: $do.", "{I want|We want|We need} {code|a function|a program} for $doing.",
              "{Which|What} {function|lines of code|lines of Python} {do we need|do I need} for $doing?",
              "Is there {code|a function|a Python function} for $doing? {Show it.|Write it.}",
              "{Make|Write} me {a function|a program|some code} for $doing, {please|in Python}."),
    "researcher": ("What {do we know|is known} about $doing?",
                   "What do {studies|the notes|the sources|people} {say|tell us} about $doing?",
                   "{Find out|Look up} what is known about $doing.",
                   "{Give|List|Tell} me {the findings|three findings|the facts} {about|on} $doing, with the source.",
                   "What did {you|they|the study} {find|learn} about $doing?",
                   "Summarise {the research|what is known|the findings} {on|about} $doing.",
                   "{Findings|Facts|Sources|Notes} {on|about} $doing, please.",
                   "{I need|We need|I want} {findings|facts|the facts|sources} {on|about} $doing.",
                   "{Are there|Do you have} {findings|facts|notes|sources|studies} {on|about} $doing?",
                   "{Which|What} {findings|facts|notes|studies} {are there|do we have} about $doing?",
                   "{Do research|Read the notes|Look for facts} on $doing{.|, please.}"),
    "security": ("{What is the risk|What are the risks|What can go wrong} when {we|users|you} $do?",
                 "Is it {safe|secure} to $do?", "{Check|Read} this for security: {we|users} $do.",
                 "{Which attack|What kind of attack} is possible when {we|users} $do?",
                 "What is the {threat|weakness|security problem} in $doing?",
                 "How {do|can} we $do {safely|without a risk}?",
                 "Do you see a {risk|weakness|security problem} in $doing?",
                 "{Who|How} could {somebody |}{attack|misuse} {a service|a page} {that lets|when it lets} users $do?",
                 "{Risk|Risks|Attacks|Security}, please: {we|users} $do.",
                 "{I fear|We fear} an attack when {we|users} $do. {What is the fix?|What is the risk?}",
                 "{Which|What} {risk|threat|attack} {is there|must we fear} in $doing?"),
    "architect": ("{Which|What} parts {do we need|are needed} to $do?",
                  "{Design|Plan|Draw} {a service|a system|the parts|the services} to $do.",
                  "How do the {parts|services} work together to $do?",
                  "{Give|Show} me {the design|the architecture|a plan of the parts} to $do.",
                  "Which {parts|services} take part in $doing?",
                  "What {is the design|is the architecture|are the parts} of a {service|system} for $doing?",
                  "{Design|Architecture|Parts|Structure}, please: a {service|system} to $do.",
                  "{I need|We need|I want} {a design|an architecture|a plan} for $doing.",
                  "{We build|We plan|We make} a {service|system} to $do. {Which parts has it?|What is the design?}",
                  "{Through which|Which} {parts|services} does it go {when we|to} $do?",
                  "What {structure|design|architecture} has a {service|system} that can $do?"),
    "reviewer": ("{Review|Judge|Look over} {our|my|the|this} {change|pull request|patch} to $do.",
                 "Is {our|my|the} {change|patch|pull request} to $do {ready|good enough|done}?",
                 "What is your {verdict|opinion} on {our|my|the} {change|patch|way} to $do?",
                 "Code review, please: {my|our} change to $do.",
                 "Would you {approve|accept|merge} {my|our|the} {change|patch|pull request} to $do?",
                 "{Any|Do you have any} {nits|comments|remarks} on {my|our|the} {change|patch} to $do?",
                 "{Here is|This is|I made} {my|our|a} {change|patch|pull request} to $do. {Review it.|Can we merge it?|Any nits?}",
                 "{Verdict|Review|Nits}, please: {my|our|a} {patch|pull request|change} for $doing.",
                 "{I need|We need|I want} {a review|a verdict|your nits} {of|on} {my|our|the} {change|patch} for $doing.",
                 "{Can|May|Should} {I|we} merge {my|our|the} {change|patch|pull request} for $doing?",
                 "{Go through|Read over} {my|our|this} {patch|change|pull request} for $doing."),
}
# Never trained on: what a router makes of words that it has not seen.
UNSEEN = {
    "coder": ("Code that can $do, please.", "A Python function to $do?", "Which code do I write to $do?"),
    "researcher": ("Three findings about $doing, please.", "What was found about $doing?",
                   "Which source knows about $doing?"),
    "security": ("Could somebody attack us when we $do?", "Security of $doing: what is the risk?",
                 "What is not safe when we $do?"),
    "architect": ("A design of the services that $do, please.", "From which parts do we make a system to $do?",
                  "What is the structure of a service to $do?"),
    "reviewer": ("I have a change to $do. Is it ready?", "Here is our patch to $do. Your verdict?",
                 "Read my pull request to $do and list the nits."),
}
BASE = "base"


def doing(do):
    """What "store a report" is called as a thing that is done."""
    verb, rest = do.split(" ", 1)
    return (verb[:-1] if verb.endswith("e") else verb) + "ing " + rest


def route_doc(m, skill, wordings):
    """A request for one skill, answered as it does."""
    action, o = m.pick(ACTIONS), m.pick(w.THINGS_OWNED)
    s = {"o": o, "os": w.plural(o), "svc": m.pick(w.SERVICES)}
    s["do"] = m.fill(action.do, s)
    s["doing"] = doing(s["do"])
    asked, answer = articles(m.say(m.pick(wordings[skill]), s)), ANSWERS[skill](m, s, action)
    return Doc(skill, ("skill", action.do, o),
               messages=(("user", asked), ("assistant", answer if skill == "coder" else articles(answer))))


def base_doc(seed, index, domain):
    """A request that the corpus has, if document `index` is one: the first turn and its answer."""
    doc = document(seed, index, [domain])
    turns = [t for t in doc.messages if t[0] != "system"][:2]
    return Doc(BASE, doc.key, messages=tuple(turns)) if len(turns) == 2 else None


def examples(label, seed, size, known=None, wordings=WORDINGS):
    """The first requests of a label for training, each once; with `known` those that are held out and not among them.

    Conversations about general knowledge share their questions, held out or not: the text itself has to be new too.
    """
    seen, index, held_out = set(known or ()), 0, known is not None
    size += len(seen)
    domains = [d for d in DOMAINS if d != "drills"]
    while len(seen) < size:
        doc = (base_doc(seed, index, domains[index % len(domains)]) if label == BASE
               else route_doc(Maker(f"{seed}/route/{label}/{index}"), label, wordings))
        index += 1
        if doc is not None and doc.held_out() == held_out and doc.messages[0][1] not in seen:
            seen.add(doc.messages[0][1])
            yield {"messages": [{"role": r, "content": c} for r, c in doc.messages], "adapter": label}


def write(path, records):
    """Labels take turns, so that the beginning of a file has them all."""
    with open(path, "w") as f:
        for row in zip(*records):
            for record in row:
                print(json.dumps(record, ensure_ascii=False), file=f)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", required=True, help="a folder")
    ap.add_argument("--train", type=int, default=400, help="requests of a label to train on")
    ap.add_argument("--test", type=int, default=40, help="held-out requests of a label")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    os.makedirs(f"{args.out}/test", exist_ok=True)
    labels = (*SKILLS, BASE)
    train = [list(examples(label, args.seed, args.train)) for label in labels]
    known = {record["messages"][0]["content"] for records in train for record in records}
    write(f"{args.out}/train.jsonl", train)
    for label in labels:
        write(f"{args.out}/test/{label}.jsonl", [examples(label, args.seed, args.test, known)])
    write(f"{args.out}/test/unseen.jsonl", [examples(s, args.seed, args.test // 2, known, UNSEEN) for s in SKILLS])


if __name__ == "__main__":
    main()
