"""The corpus: all domains mixed, split and written.

Owns the mixture, the split and the command line.  Every document is made from its own seed, so
document number i is the same whatever else is asked for.  The split is by combination of slots:
one combination in twenty is never trained on, in no wording.

    corpus.py --out DIR                          train.jsonl and valid.jsonl, all domains
    corpus.py --domains code --bytes 2000000 ...  one domain only, for an adapter
"""
import argparse
import json
import os

from designs import design_doc
from drills import drill_doc
from facts import knowledge_doc, people_doc, place_doc, study_doc, summary_doc, who_doc
from grammar import Maker
from programs import program_doc
from reviews import review_doc
from scenes import scene_doc
from security import security_doc
from stories import story_doc, story_question_doc
from talk import talk_doc

FACTS = ([people_doc] * 5 + [who_doc] * 5 + [place_doc] * 5 + [study_doc] * 3 + [summary_doc] * 2 + [knowledge_doc] * 3
         + [story_question_doc] * 6 + [scene_doc] * 8)


def fact_doc(m):
    return m.pick(FACTS)(m)


# domain: (generator, share of the documents, a system prompt that fits)
DOMAINS = {
    "stories": (story_doc, 17, "You tell short stories."),
    "facts": (fact_doc, 40, "You answer questions from the text."),
    "code": (program_doc, 17, "You write small, clear functions."),
    "reviews": (review_doc, 10, "You review code."),
    "designs": (design_doc, 9, "You write design notes."),
    "security": (security_doc, 9, "You look for security problems."),
    "talk": (talk_doc, 10, "You are a helpful assistant."),
    "drills": (drill_doc, 22, ""),
}


def document(seed, index, domains):
    """Document `index` of the corpus."""
    m = Maker(f"{seed}/{','.join(domains)}/{index}")
    total = sum(DOMAINS[d][1] for d in domains)
    at = m.number(0, total - 1)
    for domain in domains:
        at -= DOMAINS[domain][1]
        if at < 0:
            break
    make, _, fitting = DOMAINS[domain]
    doc = make(m)
    if doc.messages and m.chance(0.15):
        system = fitting if m.chance(0.5) else "You are a helpful assistant."
        doc.messages = (("system", system),) + doc.messages
    return doc


def documents(seed, domains, size):
    """Documents until they hold `size` bytes of text."""
    index = 0
    while size > 0:
        doc = document(seed, index, domains)
        size -= len(doc.render().encode())
        index += 1
        yield doc


def record(doc):
    """One line of JSONL, in the shape that trainers read."""
    if doc.messages:
        body = {"messages": [{"role": r, "content": c} for r, c in doc.messages]}
    else:
        body = {"text": doc.text}
    return {**body, "domain": doc.domain}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", required=True, help="folder for train.jsonl and valid.jsonl")
    ap.add_argument("--bytes", type=int, default=48_000_000, help="size of the text, both splits together")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--domains", default=",".join(DOMAINS), help="comma separated")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    counts = {}
    with open(f"{args.out}/train.jsonl", "w") as train, open(f"{args.out}/valid.jsonl", "w") as valid:
        for doc in documents(args.seed, args.domains.split(","), args.bytes):
            split = "valid" if doc.held_out() else "train"
            print(json.dumps(record(doc), ensure_ascii=False), file=valid if split == "valid" else train)
            n, b = counts.get((doc.domain, split), (0, 0))
            counts[doc.domain, split] = n + 1, b + len(doc.render().encode())
    for (domain, split), (n, b) in sorted(counts.items()):
        print(f"{domain:9} {split:5} {n:7} documents {b:10} bytes")


if __name__ == "__main__":
    main()
