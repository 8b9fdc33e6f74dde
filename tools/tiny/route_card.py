"""The card of the router that ships, from what graft trained and measured.

Owns the text of its README.md; every figure in it comes from `graft router` and `graft eval`, none is typed here.

    route_card.py --work DIR --out DIR
"""
import argparse
import os

from cards import read_json
from routes import BASE
from skills import SKILLS

CARD = """---
license: mit
language: en
library_name: graft
base_model: models/tiny
---
# router

Picks the adapter that a prompt asks for, or none, for `models/tiny` and the adapters that ship. Trained by `graft router
train`; made for demonstrations and tests.

    graft run -a auto -p "Write a function to store a report."
    graft router route models/router "Is it safe to share an invoice?"

| | |
|---|---|
| labels | {labels} |
| training | {examples} prompts, {iterations} steps to the optimum, l2 {l2}; {examples_right} of them right |
| held out of training | {held_out} prompts, {accuracy:.1%} right |
| size | {bytes} bytes |
| licence | MIT |

## Data

`tools/tiny/routes.py` makes the prompts. The adapters learned from questions that are the same for all of them, which
nobody could route; these ask for the same things in words that tell ("Write a function to ...", "What is the risk when we
..."). `base` are requests as the base itself was trained on: stories, facts, talk, small programs. Pairs of what is done
and to what are held out in every wording, as they are from the adapters.

## Held-out prompts

{right} of {prompts} are right. A row is what was asked for, a column what was picked:

| | {columns} |
|---|{rules}|
{confusion}

In wordings that are nowhere in the training part, {unseen_right} of {unseen_prompts} are right: a small model knows the words that it
was shown.

## Is the adapter that is asked for the right one?

Nats per token of the answer, lower is better, on the held-out prompts of each label (a column):

| | {asked} |
|---|{asked_rules}|
{losses}

## Limits

A prompt that says nothing of the form that is wanted ("How should we store an invoice?") goes anywhere. So does one about
things that no adapter and no part of the corpus knows.

## Making it again

    ./dev models router
"""


def confusion_rows(test):
    return "\n".join(f"| {label} | " + " | ".join(map(str, row)) + " |"
                     for label, row in zip(test["labels"], test["confusion"]))


def loss_rows(losses, columns):
    cells = {}
    for result in losses["results"]:
        adapter = os.path.basename(result["adapter"]) if result["adapter"] else BASE
        label = os.path.basename(result["file"]).removesuffix(".jsonl")
        text = f"{result['loss']['value']:.3f}"
        cells[adapter, label] = f"**{text}**" if result["loss"]["best"] else text
    return "\n".join(f"| {a} | " + " | ".join(cells[a, c] for c in columns) + " |" for a in columns)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--work", required=True, help="holds train.json, test.json, unseen.json and losses.json")
    ap.add_argument("--out", required=True, help="holds router.safetensors")
    args = ap.parse_args()
    train, test, unseen, losses = (read_json(f"{args.work}/{name}.json") for name in ("train", "test", "unseen", "losses"))
    columns = (BASE, *SKILLS)
    with open(f"{args.out}/README.md", "w") as f:
        f.write(CARD.format(labels=", ".join(train["labels"]), columns=" | ".join(test["labels"]),
                            rules="|".join(["---"] * len(test["labels"])), confusion=confusion_rows(test),
                            right=test["right"], prompts=test["prompts"], unseen_right=unseen["right"],
                            unseen_prompts=unseen["prompts"], asked=" | ".join(columns),
                            asked_rules="|".join(["---"] * len(columns)), losses=loss_rows(losses, columns),
                            bytes=os.path.getsize(f"{args.out}/router.safetensors"),
                            **{k: train[k] for k in ("examples", "examples_right", "iterations", "l2", "held_out",
                                                     "accuracy")}))


if __name__ == "__main__":
    main()
