"""Pins the answers of a shipped model: prompts with greedy continuations in float32.

Owns the prompts.  The arithmetic is not ours on purpose: `--reference` names a Python file with
`load_model(dir, dtype)` and `forward(config, weights, ids)`, written independently, and the answers
are what it says for the stored BF16 weights.  A prompt is kept only if no step is nearly a tie.

    pin_prompts.py --model models/tiny --reference reference.py --out tests/conformance/tiny_prompts.json
"""
import argparse
import importlib.util
import json
import os

import numpy as np

from bpe import Tokenizer
from prompts import PROMPTS

MIN_MARGIN = 0.02


def import_file(path):
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prompt_text(kind, prompt):
    if kind == "raw":
        return prompt
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in prompt) + "<|im_start|>assistant\n"


def greedy(reference, cfg, weights, ids, n, stop):
    """Up to n tokens, the last one possibly a stop token, and the smallest gap between the two best logits."""
    out, margin = [], float("inf")
    while len(out) < n and (not out or out[-1] not in stop):
        last = reference.forward(cfg, weights, ids + out)[-1]
        margin = min(margin, float(np.diff(np.sort(last)[-2:])[0]))
        out.append(int(last.argmax()))
    return out, margin


def pin(reference, model, tokenizer, wanted):
    cfg, weights = reference.load_model(model, np.float32)
    stop, pinned = (tokenizer.end, tokenizer.turn_end), []
    for name, kind, prompt, n in PROMPTS:
        if len(pinned) == wanted:
            break
        ids = tokenizer.encode(prompt_text(kind, prompt))
        out, margin = greedy(reference, cfg, weights, ids, n, stop)
        text = tokenizer.decode(out)
        keep = margin >= MIN_MARGIN
        print(f"{'keep' if keep else 'drop'} {name} {margin:.3f} {text!r}", flush=True)
        if keep:
            said = "prompt" if kind == "raw" else "messages"
            pinned.append({"name": name, "kind": kind, said: prompt, "prompt_ids": ids,
                           "n": n, "ids": out, "text": text, "min_margin": round(margin, 4)})
    return pinned


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", required=True)
    ap.add_argument("--reference", required=True)
    ap.add_argument("--prompts", type=int, default=20, help="how many to keep")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    np.seterr(over="ignore")
    tokenizer = Tokenizer(os.path.join(args.model, "tokenizer.json"))
    pinned = pin(import_file(args.reference), args.model, tokenizer, args.prompts)
    assert len(pinned) == args.prompts, f"only {len(pinned)} prompts are clear of ties"
    head = '{"model": "models/tiny", "arithmetic": "float32 from the stored BF16 weights", "prompts": [\n'
    lines = ",\n".join(json.dumps(p, ensure_ascii=False) for p in pinned)
    with open(args.out, "w") as f:
        f.write(head + lines + "\n]}\n")


if __name__ == "__main__":
    main()
