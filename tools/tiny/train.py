"""Training of the shipped models: packing, the schedule, the loop.

Owns how documents become batches and how parameters move; model.py owns the arithmetic.
Documents follow one another, each closed by <|endoftext|>; the stream is cut into windows that
open with a document, in a new order and at a new offset every epoch.  The rates are constant after
a warmup and fall to zero over the last quarter of the run, where windows are twice as long.  So a
run can be resumed with another length: up to the last quarter, runs of all lengths are the same.
With the same build of PyTorch, the same processor features and the same number of threads, a run
gives the same weights.

    train.py --model tiny --corpus DIR --tokenizer tokenizer.json --out tiny.pt
"""
import argparse
import json
import math
import os
import time

import numpy as np
import torch

from bpe import Tokenizer
from grammar import Doc
from model import SHAPES, init_params, loss

FALL = 0.75  # from this part of the run on, the rate falls and windows are twice as long


def read_documents(path):
    """The rendered documents of a JSONL file, with their domains."""
    with open(path) as f:
        for line in f:
            r = json.loads(line)
            turns = tuple((m["role"], m["content"]) for m in r.get("messages", ()))
            yield r["domain"], Doc(r["domain"], (), r.get("text", ""), turns).render()


def encode_corpus(path, tokenizer):
    """All documents as one array of ids."""
    ids = []
    for _, text in read_documents(path):
        ids += tokenizer.encode(text)
        ids.append(tokenizer.end)
    return np.array(ids, dtype=np.uint16)


class Windows:
    """Endless batches of windows; every epoch has its own order and its own cut.  A cut moves on
    to the next start of a document, so that no window opens with an answer to an unseen question."""

    def __init__(self, ids, end, seed):
        self.ids, self.random = ids, np.random.default_rng(seed)
        self.opens = np.concatenate([[0], np.flatnonzero(ids == end) + 1])
        self.width, self.order = 0, []

    def cut(self, width):
        offset = int(self.random.integers(width))
        starts = self.opens[np.searchsorted(self.opens, np.arange(offset, len(self.ids) - width, width))[:-4]]
        starts = np.unique(starts)
        return self.random.permutation(starts[starts + width < len(self.ids)]).tolist()

    def next(self, batch, width):
        """Tokens and targets, each [batch, width]."""
        if len(self.order) < batch or width != self.width:
            self.width, self.order = width, self.cut(width)
        starts = [self.order.pop() for _ in range(batch)]
        rows = torch.from_numpy(np.stack([self.ids[s:s + width + 1] for s in starts]).astype(np.int64))
        return rows[:, :-1], rows[:, 1:].contiguous()


def rate_part(step, steps, warmup=150):
    """The share of the full rates: linear warmup, a constant, and a line down to zero."""
    fall = (steps - step) / (steps * (1 - FALL))
    return min((step + 1) / warmup, 1, fall)


def orthogonal(g):
    """The nearest matrix with equal singular values, roughly: five Newton-Schulz steps on [n, rows, cols]."""
    x = g.bfloat16()
    x = x / (x.flatten(1).float().norm(dim=1)[:, None, None] + 1e-7).bfloat16()
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.float()


class Muon:
    """Momentum whose step is made orthogonal: for the matrices inside the layers, where it needs fewer
    steps than AdamW.  Matrices of one shape go through together; all lie down (rows <= columns)."""

    def __init__(self, matrices, momentum=0.95, decay=0.1):
        self.momentum, self.decay, self.groups = momentum, decay, {}
        for p in matrices:
            self.groups.setdefault((min(p.shape), max(p.shape)), []).append(p)
        self.moments = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    def step(self, lr):
        for shape, params in self.groups.items():
            grads = torch.stack([p.grad if p.shape == shape else p.grad.T for p in params])
            moment = self.moments[shape].mul_(self.momentum).add_(grads)
            update = orthogonal(grads.add_(moment, alpha=self.momentum))
            for p, u in zip(params, update):
                u = u if p.shape == shape else u.T
                scale = max(1, p.shape[0] / p.shape[1]) ** 0.5
                p.data.mul_(1 - lr * self.decay).add_(u, alpha=-lr * scale)


class Optimiser:
    """Muon for the matrices of the layers, AdamW for the rest; norms and biases do not decay."""

    def __init__(self, params, lr, matrix_lr):
        inner = [p for n, p in params.items() if p.dim() == 2 and "embed" not in n]
        vectors = [p for p in params.values() if p.dim() == 1]
        self.muon, self.lr, self.matrix_lr = Muon(inner), lr, matrix_lr
        self.adam = torch.optim.AdamW([{"params": [params["model.embed_tokens.weight"]], "weight_decay": 0.1},
                                       {"params": vectors, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.95), eps=1e-8)

    def step(self, part):
        """One step at `part` of the full rates."""
        for group in self.adam.param_groups:
            group["lr"] = self.lr * part
        self.adam.step()
        self.muon.step(self.matrix_lr * part)

    def state(self):
        return {"adam": self.adam.state_dict(), "muon": self.muon.moments}

    def load(self, state):
        self.adam.load_state_dict(state["adam"])
        self.muon.moments = state["muon"]


def save(path, shape, params, opt, info):
    """Written beside and renamed, so that a reader never sees half a file."""
    state = {"shape": shape, "params": {n: p.detach().clone() for n, p in params.items()}, "opt": opt.state(),
             "info": info}
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def resume(path, params, opt):
    """Take up the weights and the optimiser of a checkpoint; the step it had reached."""
    state = torch.load(path)
    for name, p in params.items():
        p.data.copy_(state["params"][name])
    opt.load(state["opt"])
    return state["info"]["step"]


def train(args, shape, ids, end):
    params = init_params(shape, args.seed)
    opt = Optimiser(params, args.lr, args.matrix_lr)
    windows = Windows(ids, end, args.seed)
    per_step = args.batch * args.width
    steps = args.tokens // per_step
    first = resume(args.resume, params, opt) if args.resume else 0
    began, running = time.time(), None
    for step in range(steps):
        double = 2 if step >= FALL * steps else 1
        batch = windows.next(args.batch // double, args.width * double)
        if step < first:  # the same windows as in a run that was never stopped
            continue
        value = loss(shape, params, *batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        opt.step(rate_part(step, steps))
        for p in params.values():
            p.grad = None
        running = value.item() if running is None else 0.98 * running + 0.02 * value.item()
        if step % 50 == 0:
            rate = (step - first + 1) * per_step / (time.time() - began)
            print(f"step {step}/{steps} loss {running:.4f} {rate:.0f} tokens/s", flush=True)
        if step % 250 == 249 or step == steps - 1:
            save(args.out, shape, params, opt,
                 {**vars(args), "step": step + 1, "steps": steps, "torch": torch.__version__})


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", choices=sorted(SHAPES), required=True)
    ap.add_argument("--corpus", required=True, help="folder with train.jsonl")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--tokens", type=int, default=8_192_000, help="tokens to train on")
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--width", type=int, default=256, help="window length of the first phase")
    ap.add_argument("--lr", type=float, default=3e-3, help="of AdamW")
    ap.add_argument("--matrix-lr", type=float, default=0.02, help="of Muon")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--resume", help="checkpoint to go on from")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer(args.tokenizer)
    ids = encode_corpus(f"{args.corpus}/train.jsonl", tokenizer)
    print(f"{len(ids)} tokens in the corpus", flush=True)
    train(args, SHAPES[args.model], ids, tokenizer.end)


if __name__ == "__main__":
    main()
