"""The Qwen2 forward pass for training, in PyTorch.

Owns: the shapes of both shipped models, parameter creation under Hugging Face names, and the
training-time forward pass (bfloat16 activations over float32 parameters).  It does not own the
reference arithmetic: shipped answers are checked in float32 by an independent program.
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Shape:
    """Sizes of one model; d_head is fixed at 64 so that every kernel family applies."""
    d_model: int
    d_ff: int
    n_layer: int
    n_head: int
    n_kv: int
    d_head: int = 64
    n_vocab: int = 3840
    n_ctx: int = 1024
    theta: float = 10000.0
    eps: float = 1e-6


SHAPES = {
    "tiny": Shape(d_model=256, d_ff=512, n_layer=5, n_head=4, n_kv=1),
    "tiny-draft": Shape(d_model=128, d_ff=256, n_layer=3, n_head=2, n_kv=1),
}


def init_params(shape, seed):
    """{Hugging Face tensor name: float32 parameter}; output projections start smaller, by depth."""
    gen = torch.Generator().manual_seed(seed)
    params = {}

    def normal(name, rows, cols, std):
        params[name] = (torch.randn(rows, cols, generator=gen) * std).requires_grad_()

    def constant(name, size, value):
        params[name] = torch.full((size,), float(value)).requires_grad_()

    d, q, kv = shape.d_model, shape.n_head * shape.d_head, shape.n_kv * shape.d_head
    std, out_std = d ** -0.5, d ** -0.5 / math.sqrt(2 * shape.n_layer)
    normal("model.embed_tokens.weight", shape.n_vocab, d, 0.02)
    for i in range(shape.n_layer):
        p = f"model.layers.{i}."
        constant(p + "input_layernorm.weight", d, 1)
        for proj, rows in (("q", q), ("k", kv), ("v", kv)):
            normal(p + f"self_attn.{proj}_proj.weight", rows, d, std)
            constant(p + f"self_attn.{proj}_proj.bias", rows, 0)
        normal(p + "self_attn.o_proj.weight", d, q, out_std)
        constant(p + "post_attention_layernorm.weight", d, 1)
        normal(p + "mlp.gate_proj.weight", shape.d_ff, d, std)
        normal(p + "mlp.up_proj.weight", shape.d_ff, d, std)
        normal(p + "mlp.down_proj.weight", d, shape.d_ff, shape.d_ff ** -0.5 / math.sqrt(2 * shape.n_layer))
    constant("model.norm.weight", d, 1)
    return params


class RmsNorm(torch.autograd.Function):
    """y = x / rms(x) * w, with the gradient written out: a third of the passes autograd makes."""

    @staticmethod
    def forward(ctx, x, w, eps):
        xf = x.float()
        inv = torch.rsqrt(xf.square().mean(-1, keepdim=True) + eps)
        n = xf * inv
        ctx.save_for_backward(n, inv, w)
        return (n * w).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        n, inv, w = ctx.saved_tensors
        dy = dy.float()
        dn = dy * w
        dx = (dn - n * (dn * n).mean(-1, keepdim=True)) * inv
        return dx.to(torch.bfloat16), (dy * n).flatten(0, -2).sum(0), None


class SwiGlu(torch.autograd.Function):
    """silu(g) * u, keeping only g and u for the gradient."""

    @staticmethod
    def forward(ctx, g, u):
        ctx.save_for_backward(g, u)
        return F.silu(g) * u

    @staticmethod
    def backward(ctx, dy):
        g, u = ctx.saved_tensors
        s = torch.sigmoid(g)
        silu = g * s
        return dy * u * (s + silu * (1 - s)), dy * silu


class Rotary(torch.autograd.Function):
    """RoPE in the rotate-half layout; its gradient is the rotation backwards."""

    @staticmethod
    def turn(x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return Rotary.turn(x, cos, sin)

    @staticmethod
    def backward(ctx, dy):
        cos, sin = ctx.saved_tensors
        return Rotary.turn(dy, cos, -sin), None, None


def rope_tables(shape, n_tok, dtype):
    """cos and sin, [1, n_tok, 1, d_head / 2]."""
    freq = shape.theta ** (-torch.arange(0, shape.d_head, 2).double() / shape.d_head)
    angle = torch.outer(torch.arange(n_tok).double(), freq)[None, :, None, :]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def attention(shape, q, k, v, mask):
    """Causal attention: q [B, T, n_head, d_head], k and v [B, T, n_kv, d_head] → [B, T, n_head * d_head].
    The query heads of one key head are stacked along time, so that each key is read once."""
    B, T, H, D = q.shape
    K, G = shape.n_kv, shape.n_head // shape.n_kv
    q = q.view(B, T, K, G, D).permute(0, 2, 3, 1, 4).reshape(B * K, G * T, D)
    k = k.permute(0, 2, 1, 3).reshape(B * K, T, D)
    v = v.permute(0, 2, 1, 3).reshape(B * K, T, D)
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=D ** -0.5)
    y = torch.bmm(scores.softmax(-1), v)
    return y.view(B, K, G, T, D).permute(0, 3, 1, 2, 4).reshape(B, T, H * D)


def forward(shape, params, tokens, dtype=torch.bfloat16):
    """Final hidden states [B, T, d_model] and the embedding matrix in `dtype`."""
    B, T = tokens.shape
    w = {n: p if "norm" in n else p.to(dtype) for n, p in params.items()}
    cos, sin = rope_tables(shape, T, dtype)
    mask = torch.full((T, T), -math.inf).triu(1).to(dtype).repeat(shape.n_head // shape.n_kv, 1)
    embed = w["model.embed_tokens.weight"]
    x = F.embedding(tokens, embed)
    for i in range(shape.n_layer):
        p = f"model.layers.{i}."
        h = RmsNorm.apply(x, w[p + "input_layernorm.weight"], shape.eps)
        q, k, v = (F.linear(h, w[p + f"self_attn.{n}_proj.weight"], w[p + f"self_attn.{n}_proj.bias"])
                   .view(B, T, -1, shape.d_head) for n in "qkv")
        y = attention(shape, Rotary.apply(q, cos, sin), Rotary.apply(k, cos, sin), v, mask)
        x = x + F.linear(y, w[p + "self_attn.o_proj.weight"])
        h = RmsNorm.apply(x, w[p + "post_attention_layernorm.weight"], shape.eps)
        g, u = F.linear(h, w[p + "mlp.gate_proj.weight"]), F.linear(h, w[p + "mlp.up_proj.weight"])
        x = x + F.linear(SwiGlu.apply(g, u), w[p + "mlp.down_proj.weight"])
    return RmsNorm.apply(x, w["model.norm.weight"], shape.eps), embed


class CrossEntropy(torch.autograd.Function):
    """Mean cross entropy of x @ embed.T, in blocks of rows so that the logits stay in the cache.
    The gradients are made on the way forward: no block of logits is ever needed twice."""

    @staticmethod
    def forward(ctx, x, embed, targets, rows=512):
        dx, dembed = torch.empty_like(x), torch.zeros(embed.shape)
        total = torch.zeros((), dtype=torch.float64)
        for i in range(0, x.shape[0], rows):
            block, target = x[i:i + rows], targets[i:i + rows, None]
            logits = F.linear(block, embed).float()
            logits.sub_(logits.amax(-1, keepdim=True))
            picked = logits.gather(-1, target)
            probs = logits.exp_()
            norm = probs.sum(-1, keepdim=True)
            total += (norm.log() - picked).double().sum()
            probs.div_(norm).scatter_add_(-1, target, torch.full_like(picked, -1.0))
            dlogits = probs.bfloat16()
            dx[i:i + rows] = dlogits @ embed
            dembed += dlogits.T @ block
        ctx.save_for_backward(dx, dembed)
        return (total / x.shape[0]).float()

    @staticmethod
    def backward(ctx, dloss):
        dx, dembed = ctx.saved_tensors
        scale = dloss / dx.shape[0]
        return dx * scale.bfloat16(), (dembed * scale).bfloat16(), None, None


def loss(shape, params, tokens, targets):
    """Mean cross entropy of a batch, with its gradient ready for backward()."""
    h, embed = forward(shape, params, tokens)
    return CrossEntropy.apply(h.view(-1, shape.d_model), embed, targets.reshape(-1))
