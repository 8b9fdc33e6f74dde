#!/usr/bin/env python3
"""Make goldens/yarn/*.npy: logits of the random llama model under YaRN, in double precision.

Independent of graft and of the reference implementation (which has no YaRN): its own generator of the
random weights (recipe: oracle_model.h), its own forward pass, one token at a time over growing lists of
keys, and YaRN as Peng et al. 2023 and Hugging Face's _compute_yarn_parameters define it. Needs numpy.

    python3 tests/conformance/yarn_golden.py
"""
import json
import math
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
D, F, V, LAYERS, HEADS, KV = 96, 208, 331, 3, 6, 2
HEAD = D // HEADS
GAINS = {"q_proj": 1.5, "k_proj": 1.5, "o_proj": 0.5, "down_proj": 0.5, "lm_head": 2.0}
CASES = {
    "plain": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "tuned": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32,
              "beta_fast": 16, "beta_slow": 2, "mscale": 0.9, "mscale_all_dim": 0.4,
              "truncate": False},
    "given": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.25},
}
TOKENS = [(i * 97 + 11) % V for i in range(24)]


def weight(name, *shape):
    h = 0xCBF29CE484222325
    for byte in f"1:{name}".encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    pcg = np.random.PCG64()
    pcg.state = {"bit_generator": "PCG64", "state": {"state": h, "inc": 2 * h + 1},
                 "has_uint32": 0, "uinteger": 0}
    u = (pcg.random_raw(math.prod(shape)) >> np.uint64(40)) * 2.0**-23 - 1
    if name.endswith("norm.weight"):
        x = 1 + 0.3 * u
    else:
        x = GAINS.get(name.split(".")[-2], 1.0) * math.sqrt(3 / shape[1]) * u
    return x.astype(np.float32).astype(np.float64).reshape(shape)


def yarn(s):
    """(frequency of each plane, factor on cos and sin)"""
    theta, factor = 10000.0, s["factor"]
    ctx = s.get("original_max_position_embeddings", 256)  # else max_position_embeddings

    def plane(turns):
        return HEAD * math.log(ctx / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = plane(s.get("beta_fast", 32)), plane(s.get("beta_slow", 1))
    if s.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, HEAD - 1)
    if low == high:
        high += 0.001
    freq = []
    for i in range(HEAD // 2):
        extrapolated = theta ** (-2 * i / HEAD)
        ramp = min(max((i - low) / (high - low), 0), 1)
        freq.append(extrapolated * (1 - ramp) + extrapolated / factor * ramp)

    def mscale(m):
        return 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0

    attention = s.get("attention_factor")
    if attention is None:
        attention = mscale(1)
        if "mscale" in s and "mscale_all_dim" in s:
            attention = mscale(s["mscale"]) / mscale(s["mscale_all_dim"])
    return np.array(freq), attention


def norm(x, w):
    return x / math.sqrt(x @ x / len(x) + 1e-5) * w


def rotate(x, freq, scale, pos):
    a, b = x[:HEAD // 2], x[HEAD // 2:]
    c, s = np.cos(pos * freq) * scale, np.sin(pos * freq) * scale
    return np.concatenate([a * c - b * s, b * c + a * s])


def step(W, cache, freq, scale, token, pos):
    x = W["model.embed_tokens.weight"][token]
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        h = norm(x, W[p + "input_layernorm.weight"])
        q, k, v = (W[p + f"self_attn.{n}_proj.weight"] @ h for n in "qkv")
        out = []
        for head in range(KV):
            at = slice(head * HEAD, (head + 1) * HEAD)
            cache.setdefault((i, head), []).append((rotate(k[at], freq, scale, pos), v[at]))
        for head in range(HEADS):
            mine = rotate(q[head * HEAD:(head + 1) * HEAD], freq, scale, pos)
            seen = cache[i, head // (HEADS // KV)]
            e = np.array([mine @ key for key, _ in seen]) / math.sqrt(HEAD)
            e = np.exp(e - e.max())
            out.append(sum(w * value for w, (_, value) in zip(e / e.sum(), seen)))
        x = x + W[p + "self_attn.o_proj.weight"] @ np.concatenate(out)
        h = norm(x, W[p + "post_attention_layernorm.weight"])
        g = W[p + "mlp.gate_proj.weight"] @ h
        x = x + W[p + "mlp.down_proj.weight"] @ (g / (1 + np.exp(-g))
                                                 * (W[p + "mlp.up_proj.weight"] @ h))
    return W["lm_head.weight"] @ norm(x, W["model.norm.weight"])


def main():
    shapes = {"model.embed_tokens.weight": (V, D), "lm_head.weight": (V, D),
              "model.norm.weight": (D,)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm.weight": (D,), p + "post_attention_layernorm.weight": (D,)}
        shapes |= {p + f"self_attn.{n}_proj.weight": s for n, s in
                   dict(q=(D, D), k=(KV * HEAD, D), v=(KV * HEAD, D), o=(D, D)).items()}
        shapes |= {p + "mlp.gate_proj.weight": (F, D), p + "mlp.up_proj.weight": (F, D),
                   p + "mlp.down_proj.weight": (D, F)}
    W = {name: weight(name, *shape) for name, shape in shapes.items()}
    os.makedirs(os.path.join(HERE, "goldens", "yarn"), exist_ok=True)
    with open(os.path.join(HERE, "goldens", "yarn", "cases.json"), "w") as f:
        json.dump({"tokens": TOKENS, "cases": CASES}, f, indent=1)
        f.write("\n")
    for name, scaling in CASES.items():
        freq, scale = yarn(scaling)
        cache = {}
        logits = [step(W, cache, freq, scale, t, pos) for pos, t in enumerate(TOKENS)]
        np.save(os.path.join(HERE, "goldens", "yarn", name + ".npy"),
                np.array(logits).astype("<f4"))


if __name__ == "__main__":
    main()
