#!/usr/bin/env python3
"""A training step in PyTorch, for `./dev bench train`: what `graft bench train` does, written as one writes it in torch.

    torch_step.py [--dtype f32|bf16] [--steps N] [--threads N] [--layers N]

A random model in the shape of Qwen2.5-0.5B (no weights of anybody), frozen; LoRA factors of rank 16 on all seven linears of
each block; two examples of 512 tokens, every token a target; forward, backward, AdamW. Weights and activations are of the
given type, factors are floats. Prints one JSON line: tokens per second of the median step after one to warm up, the
largest resident memory, and the loss, which must fall: a step that computes nothing would not do that.
"""
import argparse
import json
import math
import resource
import time

import torch
import torch.nn.functional as F

D_MODEL, D_FF, N_HEAD, N_KV, D_HEAD, N_VOCAB, RANK, SCALE = 896, 4864, 14, 2, 64, 151936, 16, 2.0
EXAMPLES, TOKENS = 2, 512
LINEARS = {"q": (N_HEAD * D_HEAD, D_MODEL), "k": (N_KV * D_HEAD, D_MODEL), "v": (N_KV * D_HEAD, D_MODEL),
           "o": (D_MODEL, N_HEAD * D_HEAD), "gate": (D_FF, D_MODEL), "up": (D_FF, D_MODEL), "down": (D_MODEL, D_FF)}


class Linear:
    def __init__(self, n_out, n_in, dtype):
        self.weight = (torch.randn(n_out, n_in) / math.sqrt(n_in)).to(dtype)
        self.a = (torch.randn(RANK, n_in) / math.sqrt(n_in)).requires_grad_()
        self.b = torch.zeros(n_out, RANK).requires_grad_()

    def __call__(self, x):
        return F.linear(x, self.weight) + SCALE * F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


def norm(x, weight):
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attention(q, k, v, mask):
    k, v = (t.repeat_interleave(N_HEAD // N_KV, 1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(D_HEAD)
    return torch.softmax((scores + mask).float(), -1).to(q.dtype) @ v


def heads(x, n):
    return x.view(EXAMPLES, TOKENS, n, D_HEAD).transpose(1, 2)


class Model:
    def __init__(self, n_layer, dtype):
        self.embed = (torch.randn(N_VOCAB, D_MODEL) * 0.02).to(dtype)
        self.layers = [{name: Linear(*shape, dtype) for name, shape in LINEARS.items()} for _ in range(n_layer)]
        self.ones = torch.ones(D_MODEL, dtype=dtype)
        angles = torch.arange(TOKENS)[:, None] * 1e6 ** (-torch.arange(0, D_HEAD, 2) / D_HEAD)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self.mask = torch.full((TOKENS, TOKENS), -math.inf).triu(1).to(dtype)

    def parameters(self):
        return [p for layer in self.layers for linear in layer.values() for p in (linear.a, linear.b)]

    def loss(self, tokens):
        x = F.embedding(tokens, self.embed)
        for layer in self.layers:
            h = norm(x, self.ones)
            q, k = (rope(heads(layer[name](h), n), self.cos, self.sin) for name, n in (("q", N_HEAD), ("k", N_KV)))
            att = attention(q, k, heads(layer["v"](h), N_KV), self.mask)
            x = x + layer["o"](att.transpose(1, 2).reshape(EXAMPLES, TOKENS, -1))
            h = norm(x, self.ones)
            x = x + layer["down"](F.silu(layer["gate"](h)) * layer["up"](h))
        logits = F.linear(norm(x, self.ones), self.embed)[:, :-1]
        return F.cross_entropy(logits.float().reshape(-1, N_VOCAB), tokens[:, 1:].reshape(-1))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    ap.add_argument("--steps", type=int, default=3)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--layers", type=int, default=24)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Model(args.layers, {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(N_VOCAB, (EXAMPLES, TOKENS))
    times, losses = [], []
    for _ in range(args.steps + 1):
        begun = time.monotonic()
        loss = model.loss(tokens)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        times.append(time.monotonic() - begun)
    if not losses[-1] < losses[0]:
        raise SystemExit(f"the loss did not fall: {losses}")
    seconds = sorted(times[1:])[len(times[1:]) // 2]
    print(json.dumps({"program": f"PyTorch {torch.__version__}", "dtype": args.dtype, "threads": args.threads,
                      "tokens_per_second": EXAMPLES * TOKENS / seconds, "seconds": seconds,
                      "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
                      "losses": [losses[0], losses[-1]]}))


if __name__ == "__main__":
    main()
