"""The card of a shipped model, from what graft wrote and measured.

Owns the text of its README.md. Sizes come from the model's config.json, the training from the run's config.json and
history.jsonl, scores from `graft eval --json`; none is typed here.

    model_card.py --model DIR --run DIR --corpus DIR --text FILE --answers FILE
"""
import argparse
import json
import os

CARD = """---
license: mit
language: en
library_name: graft
pipeline_tag: text-generation
---
# graft {name}

{what} It is made for demonstrations, tests and small experiments with adapters. It knows only
the little world of its corpus: short stories, questions about a text, small functions in C and
Python, code reviews, design notes and security notes, in plain English.

| | |
|---|---|
| architecture | Qwen2 (`Qwen2ForCausalLM`), tied embeddings, BF16 |
| parameters | {params:,} |
| layers, width, feed-forward | {num_hidden_layers}, {hidden_size}, {intermediate_size} |
| heads, key heads, head size | {num_attention_heads}, {num_key_value_heads}, {head_dim} |
| vocabulary | {vocab_size}, byte-level BPE, learnt from the same corpus |
| context | {max_position_embeddings} (trained on windows of {width}) |
| chat format | ChatML, no default system prompt |
| licence | MIT |

## Data

All text is made by `tools/tiny/corpus.py`, a seeded generator: templates with slots, {corpus_mb} MB
in {documents:,} documents. No text from anywhere else is used. The split is by combination of slots
(for instance a name with an object and a place): one combination in twenty is held out, in every
wording.

## Training

By `graft train --fine-tune-type full`, from random weights: {fed:,} tokens in {steps:,} steps of
{batch} windows. Muon (rate {muon_lr}) for the matrices inside the layers, AdamW (rate {learning_rate}) for the rest; weight
decay {weight_decay}; rates constant after a warmup and falling to zero over the last quarter. bf16 arithmetic
over float32 weights, seed {seed}.

## Scores on held-out combinations

By `graft eval`. Perplexity per token of all text, and of the answers in conversations alone; `exact` is the share of
conversations whose greedy answers are the reference word for word. Where a request leaves the wording open, as one for a
story does, hardly any can be. `drills` are random lists and tables to be looked up: they teach copying.

| domain | documents | perplexity | of answers | exact |
|---|---|---|---|---|
{rows}

## Limits

It is small and was taught on templates. Outside its domains it writes fluent nonsense. With several people or
things in a text it often takes the wrong one. A story that leaves its names open may give two of its people
the same one, most of all with greedy decoding. It has much of its general knowledge (capitals, opposites) wrong. It
cannot do arithmetic beyond sums up to twenty, and a review or a security note from it is an exercise, never advice.

## Making it again

    ./dev models {name}

The bytes are the same for the same kernel tier of graft (`graft version` names it), whatever the number of threads; on
another tier the model is equally good, not equal. See `tools/tiny/README.md`.
"""
WHAT = {"tiny": "The small language model that ships with graft, trained by graft on text that a generator writes.",
        "tiny-draft": "The draft model for speculative decoding with `models/tiny`: the same tokenizer, a tenth of "
                      "its size."}


def read_json(path):
    with open(path) as f:
        return json.load(f)


def by_domain(path):
    """{domain: (file, result)} of what graft eval printed."""
    said = read_json(path)
    files = {f["file"]: f for f in said["files"]}
    return {os.path.basename(r["file"])[:-len(".jsonl")]: (files[r["file"]], r) for r in said["results"]}


def rows(text, answers):
    for domain, (file, result) in sorted(text.items()):
        of, exact = "-", "-"
        if domain in answers:
            asked, said = answers[domain]
            of = f"{said['perplexity']['value']:.3f}"
            exact = f"{100 * said['exact']['value']:.0f} % of {asked['questions']}"
        yield f"| {domain} | {file['examples']} | {result['perplexity']['value']:.3f} | {of} | {exact} |"


def parameters(model):
    """Numbers in model.safetensors, from its header."""
    with open(f"{model}/model.safetensors", "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for n in tensor["shape"]:
                size *= n
            total += size
    return total


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--model", required=True, help="the model as trained; its card is written there")
    ap.add_argument("--run", required=True, help="the folder of the run")
    ap.add_argument("--corpus", required=True, help="folder with train.jsonl of corpus.py")
    ap.add_argument("--text", required=True, help="what graft eval --json said of texts")
    ap.add_argument("--answers", required=True, help="the same of conversations")
    args = ap.parse_args()
    settings, name = read_json(f"{args.run}/config.json"), os.path.basename(args.model)
    with open(f"{args.run}/history.jsonl") as f:
        steps = [line for line in map(json.loads, f) if line["step"] > 0]
    with open(f"{args.corpus}/train.jsonl") as f:
        texts = [json.loads(line) for line in f]
    size = sum(len(t) for r in texts for t in ([r["text"]] if "text" in r else [m["content"] for m in r["messages"]]))
    with open(f"{args.model}/README.md", "w") as f:
        f.write(CARD.format(name=name, what=WHAT[name], params=parameters(args.model), width=settings["max_seq_length"],
                            corpus_mb=round(size / 1e6), documents=len(texts), fed=sum(s["fed"] for s in steps),
                            steps=len(steps), batch=settings["per_device_train_batch_size"],
                            rows="\n".join(rows(by_domain(args.text), by_domain(args.answers))),
                            **read_json(f"{args.model}/config.json"),
                            **{k: settings[k] for k in ("muon_lr", "learning_rate", "weight_decay", "seed")}))


if __name__ == "__main__":
    main()
