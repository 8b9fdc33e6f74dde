"""Cards of the adapters that ship, from what graft wrote and measured.

Owns the text of their README.md, and which files of a trained adapter ship.  Losses come from `graft eval --json`; none
is typed here.  The card that graft wrote (graft.json) loses its dates, so that the same training gives the same bytes.

    cards.py --losses FILE --work DIR --out DIR
"""
import argparse
import json
import os
import shutil

from skills import ACTIONS, ASKED, SKILLS
from words import THINGS_OWNED

FORM = {"coder": "a Python function",
        "researcher": "numbered findings and a line that names the source",
        "security": "a severity with the risk, and a fix",
        "architect": "the parts in a row with arrows, and what each does",
        "reviewer": "a verdict and a list of nits"}

CARD = """---
license: mit
language: en
library_name: graft
base_model: models/tiny
tags: [{tags}]
---
# {name}

{description}: an adapter for `models/tiny` that answers a question about a small program
with {form}. Trained by `graft train`; made for demonstrations and
tests of adapters, never advice.

    graft run -a {name} -p "How should we store an invoice?"

| | |
|---|---|
| format | PEFT, {type} |
| rank, alpha, dropout | {r}, {lora_alpha}, {lora_dropout} |
| layers | {targets} |
| training | {examples} examples, {steps} steps of {batch_size}, learning rate {learning_rate}, {schedule} |
| licence | MIT |

## Data

All five adapters that ship learned to answer the same questions, each in a form of its own. `tools/tiny/skills.py` makes
questions and answers: {n_actions} things to do with {n_things} kinds of things, in {n_asked} kinds of wording. One pair
of the two in twenty is held out, in every wording and from every adapter.

## Losses on held-out questions

Nats per token of the answer, lower is better, and in brackets how many of the {n_test} answers were right to the
letter. A column is the held-out part of a task.

| | {columns} |
|---|{rules}|
{rows}

## Limits

It knows {n_actions} things to do. Asked about anything else it keeps its form and makes up the rest. Answers in the forms of
the other adapters stay as unlikely to it as to the base, or nearly so.

## Making it again

    ./dev models adapters

The bytes are the same for the same kernel tier of graft (`graft version` names it), whatever the number of threads; on
another tier the adapter is equally good, not equal.
"""


def table(losses, skills):
    """Rows of the matrix; the best of a column is bold."""
    cells = {}
    for result in losses["results"]:
        adapter = os.path.basename(result["adapter"]) if result["adapter"] else "base"
        cells[adapter, os.path.basename(result["file"])] = result
    asked = {os.path.basename(f["file"]): f["questions"] for f in losses["files"]}

    def cell(adapter, skill):
        r = cells[adapter, skill]
        text = f"{r['loss']['value']:.3f}"
        text = f"**{text}**" if r["loss"]["best"] else text
        return f"{text} ({round(r['exact']['value'] * asked[skill])})"
    return "\n".join(f"| {a} | " + " | ".join(cell(a, s) for s in skills) + " |" for a in ("base", *skills)), asked


def read_json(path):
    with open(path) as f:
        return json.load(f)


def write_card(name, losses, work, out):
    graft, peft = read_json(f"{work}/{name}/graft.json"), read_json(f"{work}/{name}/adapter_config.json")
    rows, asked = table(losses, SKILLS)
    for key in ("created", "modified"):
        graft.pop(key, None)
    os.makedirs(f"{out}/{name}", exist_ok=True)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(f"{work}/{name}/{file}", f"{out}/{name}/{file}")
    with open(f"{out}/{name}/graft.json", "w") as f:
        json.dump(graft, f, indent=2)
        f.write("\n")
    with open(f"{out}/{name}/README.md", "w") as f:
        f.write(CARD.format(name=name, form=FORM[name], tags=", ".join(graft["tags"]), type="BF16",
                            description=graft["description"], targets=", ".join(peft["target_modules"]),
                            n_actions=len(ACTIONS), n_things=len(THINGS_OWNED), n_asked=len(ASKED),
                            n_test=asked[name], columns=" | ".join(SKILLS), rules="---|" * (len(SKILLS) - 1) + "---",
                            rows=rows, r=peft["r"], lora_alpha=peft["lora_alpha"], lora_dropout=peft["lora_dropout"],
                            **{k: graft["training"][k] for k in ("examples", "steps", "batch_size", "learning_rate",
                                                                 "schedule")}))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--losses", required=True, help="what graft eval --json printed")
    ap.add_argument("--work", required=True, help="holds the adapters as trained")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    losses = read_json(args.losses)
    for name in SKILLS:
        write_card(name, losses, args.work, args.out)


if __name__ == "__main__":
    main()
