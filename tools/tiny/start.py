"""Where the training of a shipped model starts: a Hugging Face directory with random weights.

Owns the shapes of the models, their first weights, and the files beside the weights: config, generation settings,
tokenizer settings with the chat template. `graft train --fine-tune-type full` copies these beside what it trained.
Weights are drawn by Python's own generator, so they are the same bytes everywhere; they are written as float32,
and what is trained from them is written as BF16.

    start.py --model tiny --tokenizer tokenizer.json --seed 1 --out DIR
"""
import argparse
import array
import json
import os
import random
import shutil
import struct
import sys
from dataclasses import dataclass


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
    "tiny-draft": Shape(d_model=64, d_ff=256, n_layer=2, n_head=1, n_kv=1),
}

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
          "'<|im_end|>' + '\\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def tensors(shape):
    """(Hugging Face name, shape, deviation or None for ones); output projections start smaller, by depth."""
    d, q, kv = shape.d_model, shape.n_head * shape.d_head, shape.n_kv * shape.d_head
    std, depth = d ** -0.5, (2 * shape.n_layer) ** -0.5
    yield "model.embed_tokens.weight", (shape.n_vocab, d), 0.02
    for i in range(shape.n_layer):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (d,), None
        for proj, rows in (("q", q), ("k", kv), ("v", kv)):
            yield p + f"self_attn.{proj}_proj.weight", (rows, d), std
            yield p + f"self_attn.{proj}_proj.bias", (rows,), 0
        yield p + "self_attn.o_proj.weight", (d, q), std * depth
        yield p + "post_attention_layernorm.weight", (d,), None
        yield p + "mlp.gate_proj.weight", (shape.d_ff, d), std
        yield p + "mlp.up_proj.weight", (shape.d_ff, d), std
        yield p + "mlp.down_proj.weight", (d, shape.d_ff), shape.d_ff ** -0.5 * depth
    yield "model.norm.weight", (d,), None


def draw(source, shape, deviation):
    """A tensor's bytes."""
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    values = array.array("f", [1] * n if deviation is None else
                         [0] * n if deviation == 0 else [source.gauss(0, deviation) for _ in range(n)])
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def write_weights(path, shape, seed):
    """A safetensors file: u64 header size, JSON header, data."""
    source, header, blobs, at = random.Random(seed), {"__metadata__": {"format": "pt"}}, [], 0
    for name, dims, deviation in tensors(shape):
        blobs.append(draw(source, dims, deviation))
        header[name] = {"dtype": "F32", "shape": list(dims), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def config(shape, end, turn_end):
    return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0,
            "bos_token_id": end, "eos_token_id": turn_end, "pad_token_id": end, "hidden_act": "silu",
            "hidden_size": shape.d_model, "initializer_range": 0.02, "intermediate_size": shape.d_ff,
            "max_position_embeddings": shape.n_ctx, "max_window_layers": shape.n_layer, "head_dim": shape.d_head,
            "num_attention_heads": shape.n_head, "num_hidden_layers": shape.n_layer, "num_key_value_heads": shape.n_kv,
            "rms_norm_eps": shape.eps, "rope_theta": shape.theta, "sliding_window": None, "tie_word_embeddings": True,
            "torch_dtype": "float32", "use_cache": True, "use_sliding_window": False, "vocab_size": shape.n_vocab}


def tokenizer_config(added, n_ctx):
    return {"add_bos_token": False, "add_prefix_space": False,
            "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None, "chat_template": CHATML,
            "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "model_max_length": n_ctx, "pad_token": "<|endoftext|>", "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", choices=sorted(SHAPES), required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    shape = SHAPES[args.model]
    with open(args.tokenizer) as f:
        added = json.load(f)["added_tokens"]
    ids = {t["content"]: t["id"] for t in added}
    end, turn_end = ids["<|endoftext|>"], ids["<|im_end|>"]
    os.makedirs(args.out, exist_ok=True)
    write_weights(f"{args.out}/model.safetensors", shape, args.seed)
    shutil.copyfile(args.tokenizer, f"{args.out}/tokenizer.json")
    write_json(f"{args.out}/config.json", config(shape, end, turn_end))
    write_json(f"{args.out}/tokenizer_config.json", tokenizer_config(added, shape.n_ctx))
    write_json(f"{args.out}/generation_config.json",
               {"do_sample": False, "eos_token_id": [turn_end, end], "pad_token_id": end})


if __name__ == "__main__":
    main()
