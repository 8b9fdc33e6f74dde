"""Scores of a checkpoint on held-out combinations: perplexity and exact answers, by domain.

Owns the measures that the model cards report.  Weights are rounded to BF16 as they ship; the
arithmetic here is float32.  An answer is exact if greedy decoding gives it word for word up to the
end of the turn, which one pass over the text tells: every id must be the likeliest one.

    evaluate.py --checkpoint tiny.pt --corpus DIR --tokenizer tokenizer.json --out scores.json
"""
import argparse
import json
import math

import torch
import torch.nn.functional as F

from bpe import Tokenizer
from model import forward
from train import read_documents

ASSISTANT = "<|im_start|>assistant\n"
TURN_END = "<|im_end|>"


def load(path):
    """The checkpoint with its weights rounded as they ship."""
    state = torch.load(path)
    state["params"] = {n: p.bfloat16().float() for n, p in state["params"].items()}
    return state


def encode(text, tokenizer):
    """(ids, the number of the answer that each id belongs to, or 0)."""
    ids, owner = [], []
    for i, part in enumerate(text.split(ASSISTANT)):
        said = part[:part.index(TURN_END) + len(TURN_END)] if i else ""
        for piece, answer in ((ASSISTANT, 0), (said, i), (part[len(said):], 0)) if i else ((part, 0),):
            more = tokenizer.encode(piece)
            ids, owner = ids + more, owner + [answer] * len(more)
    return ids + [tokenizer.end], owner + [0]


def padded(lists, fill):
    width = max(map(len, lists))
    return torch.tensor([l + [fill] * (width - len(l)) for l in lists])


@torch.no_grad()
def look(state, rows, tokenizer):
    """(loss, whether the likeliest id was right) of every position of a batch."""
    x = padded([[tokenizer.end] + ids[:-1] for ids, _ in rows], tokenizer.end)
    y = padded([ids for ids, _ in rows], -100)
    h, embed = forward(state["shape"], state["params"], x, torch.float32)
    logits = h @ embed.T
    nll = F.cross_entropy(logits.transpose(1, 2), y, reduction="none", ignore_index=-100)
    return nll.double(), logits.argmax(-1) == y


def score(state, texts, tokenizer, wrong):
    """Scores of one domain; wrong answers are added to `wrong`."""
    rows = sorted((encode(t, tokenizer) for t in texts), key=lambda r: len(r[0]))
    total, answers, exact, n_ids, n_said, n_answers = 0.0, 0.0, 0, 0, 0, 0
    for at in range(0, len(rows), 16):
        batch = rows[at:at + 16]
        nll, right = look(state, batch, tokenizer)
        for i, (ids, owner) in enumerate(batch):
            owner = torch.tensor(owner)
            total, n_ids = total + float(nll[i].sum()), n_ids + len(ids)
            answers, n_said = answers + float(nll[i, :len(ids)][owner > 0].sum()), n_said + int((owner > 0).sum())
            for k in range(1, int(owner.max()) + 1):
                n_answers += 1
                good = bool(right[i, :len(ids)][owner == k].all())
                exact += good
                if not good:
                    wrong.append((ids, owner == k, right[i, :len(ids)]))
    return {"perplexity": math.exp(total / n_ids), "answers": math.exp(answers / n_said) if n_said else None,
            "exact": exact / n_answers if n_answers else None, "documents": len(texts), "asked": n_answers}


def show(wrong, tokenizer):
    """One wrong answer: the words before it, and the answer up to and after the first wrong id."""
    ids, said, right = wrong
    first = int(said.nonzero()[0])
    bad = int((said & ~right).nonzero()[0])
    answer = [i for i, s in zip(ids, said) if s]
    before, good, rest = (tokenizer.decode(part) for part in
                          (ids[max(0, first - 60):first], answer[:bad - first], answer[bad - first:]))
    return f"  {before!r}\n     {good!r} >>> {rest!r}"


def text_of(value, form):
    return "-" if value is None else form.format(value)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--corpus", required=True, help="folder with train.jsonl and valid.jsonl")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--documents", type=int, default=300, help="of each domain")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--show", type=int, default=0, help="wrong answers to show for each domain")
    ap.add_argument("--out", help="write the scores as JSON")
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer, state = Tokenizer(args.tokenizer), load(args.checkpoint)
    by_domain, scores = {}, {"documents": 0, "bytes": 0, "domains": {}}
    for domain, text in read_documents(f"{args.corpus}/valid.jsonl"):
        by_domain.setdefault(domain, []).append(text)
    for _, text in read_documents(f"{args.corpus}/train.jsonl"):
        scores["documents"] += 1
        scores["bytes"] += len(text)
    for domain, texts in sorted(by_domain.items()):
        wrong = []
        s = scores["domains"][domain] = score(state, texts[:args.documents], tokenizer, wrong)
        print(f"{domain:9} perplexity {s['perplexity']:.3f}  of answers {text_of(s['answers'], '{:.3f}')}"
              f"  exact {text_of(s['exact'], '{:.2f}')} of {s['asked']}", flush=True)
        for w in wrong[::max(1, len(wrong) // max(1, args.show))][:args.show]:
            print(show(w, tokenizer))
    if args.out:
        with open(args.out, "w") as f:
            json.dump(scores, f, indent=1)


if __name__ == "__main__":
    main()
