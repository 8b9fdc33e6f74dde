"""Writes a trained checkpoint as a Hugging Face directory in BF16.

Owns the files beside the weights: config, tokenizer settings with the chat template, generation
settings and the model card.  The card's numbers come from evaluate.py.

    export.py --checkpoint tiny.pt --tokenizer tokenizer.json --scores scores.json --out models/tiny
"""
import argparse
import json
import os
import shutil
import struct

import torch

CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
          "'<|im_end|>' + '\\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def write_safetensors(path, tensors):
    """Every tensor as BF16, rounded to nearest even; u64 header size, JSON header, data."""
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        blob = tensors[name].bfloat16().contiguous().view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
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
            "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False, "vocab_size": shape.n_vocab}


def tokenizer_config(added, n_ctx):
    return {"add_bos_token": False, "add_prefix_space": False,
            "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None, "chat_template": CHATML,
            "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "model_max_length": n_ctx, "pad_token": "<|endoftext|>", "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}


CARD = """---
license: mit
language: en
library_name: graft
pipeline_tag: text-generation
---
# {name}

{what} It is made for demonstrations, tests and small experiments with adapters. It knows only
the little world of its corpus: short stories, questions about a text, small functions in C and
Python, code reviews, design notes and security notes, in plain English.

| | |
|---|---|
| architecture | Qwen2 (`Qwen2ForCausalLM`), tied embeddings, BF16 |
| parameters | {params:,} |
| layers, width, feed-forward | {shape.n_layer}, {shape.d_model}, {shape.d_ff} |
| heads, key heads, head size | {shape.n_head}, {shape.n_kv}, {shape.d_head} |
| vocabulary | {shape.n_vocab}, byte-level BPE, learnt from the same corpus |
| context | {shape.n_ctx} (trained on windows of {width} and {width2} tokens) |
| chat format | ChatML, no default system prompt |
| licence | MIT |

## Data

All text is made by `tools/tiny/corpus.py`, a seeded generator: templates with slots, {corpus_mb} MB
in {documents:,} documents. No text from anywhere else is used. The split is by combination of slots
(for instance a name with an object and a place): one combination in twenty is held out, in every
wording.

## Training

{tokens:,} tokens in {steps:,} steps of {per_step}, windows of {width} tokens and of {width2} in the last
quarter. Muon (rate {matrix_lr}) for the matrices inside the layers, AdamW (rate {lr}) for the rest; weight
decay 0.1; rates constant after a warmup and falling to zero over the last quarter. bfloat16 arithmetic
over float32 weights, one CPU thread, seed {seed}.

## Scores on held-out combinations

Perplexity per token of all text, and of the answers in conversations alone; `exact` is the share of
answers that greedy decoding gives word for word. Where a request leaves the wording open, as one for a story
does, hardly any can be. `drills` are random lists and tables to be looked up: they teach copying.

| domain | documents | perplexity | of answers | exact |
|---|---|---|---|---|
{rows}

## Limits

It is small and was taught on templates. Outside its domains it writes fluent nonsense. With several people or
things in a text it often takes the wrong one: asked who of two to five people fits, `tiny` was right in half of
the held-out questions, `tiny-draft` in a quarter. A story that leaves its names open may give two of its people
the same one, most of all with greedy decoding. Of general knowledge (capitals, opposites) `tiny` has a quarter
wrong, `tiny-draft` four tenths. It cannot do arithmetic beyond sums up to twenty, and a review or a security
note from it is an exercise, never advice.

## Making it again

    tools/tiny/build.sh OUT {key}

See `tools/tiny/README.md`.
"""
WHAT = {"tiny": "The small language model that ships with graft, trained by graft's own scripts on text that they "
                "generate.",
        "tiny-draft": "The draft model for speculative decoding with `models/tiny`: the same tokenizer, a quarter of "
                      "its size."}


def score_row(domain, s):
    answers, exact = ("-", "-") if s["answers"] is None else (f"{s['answers']:.3f}",
                                                              f"{100 * s['exact']:.0f} % of {s['asked']}")
    return f"| {domain} | {s['documents']} | {s['perplexity']:.3f} | {answers} | {exact} |"


def card(key, shape, params, info, scores):
    rows = "\n".join(score_row(d, s) for d, s in scores["domains"].items())
    return CARD.format(name=f"graft {key}", key=key, what=WHAT[key], shape=shape,
                       params=sum(p.numel() for p in params.values()),
                       width=info["width"], width2=2 * info["width"], corpus_mb=round(scores["bytes"] / 1e6),
                       documents=scores["documents"],
                       tokens=info["step"] * info["batch"] * info["width"], steps=info["step"],
                       per_step=info["batch"] * info["width"],
                       lr=info["lr"], matrix_lr=info["matrix_lr"], seed=info["seed"], rows=rows)


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--scores", required=True, help="written by evaluate.py")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    state = torch.load(args.checkpoint)
    shape, params, info = state["shape"], state["params"], state["info"]
    with open(args.tokenizer) as f:
        added = json.load(f)["added_tokens"]
    ids = {t["content"]: t["id"] for t in added}
    os.makedirs(args.out, exist_ok=True)
    write_safetensors(f"{args.out}/model.safetensors", params)
    shutil.copyfile(args.tokenizer, f"{args.out}/tokenizer.json")
    write_json(f"{args.out}/config.json", config(shape, ids["<|endoftext|>"], ids["<|im_end|>"]))
    write_json(f"{args.out}/tokenizer_config.json", tokenizer_config(added, shape.n_ctx))
    write_json(f"{args.out}/generation_config.json",
               {"do_sample": False, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
                "pad_token_id": ids["<|endoftext|>"]})
    with open(args.scores) as f:
        scores = json.load(f)
    with open(f"{args.out}/README.md", "w") as f:
        f.write(card(info["model"], shape, params, info, scores))


if __name__ == "__main__":
    main()
