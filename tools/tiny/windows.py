"""Windows of text from the corpus, as `graft train` reads them, and held-out documents to measure with.

Owns how documents come together.  A window holds whole documents one behind the other, each closed by
<|endoftext|>, up to a number of tokens: so the model meets every position of its context, and no window opens
with an answer to an unseen question.  Windows stay open until they are nearly full; what is left of them is given
up.  The order is that of the corpus, so the same corpus gives the same bytes.

    windows.py --corpus DIR --tokenizer tokenizer.json --out DIR

writes OUT/train.jsonl and OUT/valid.jsonl (windows), OUT/text/DOMAIN.jsonl (held-out documents, each a text) and
OUT/answers/DOMAIN.jsonl (of these the conversations).
"""
import argparse
import json
import os

from bpe import Tokenizer
from grammar import Doc

END = "<|endoftext|>"
OPEN = 16  # windows that are filled at a time


def read_records(path):
    with open(path) as f:
        for line in f:
            yield json.loads(line)


def text_of(record):
    turns = tuple((m["role"], m["content"]) for m in record.get("messages", ()))
    return Doc(record["domain"], (), record.get("text", ""), turns).render() + END


def fill(texts, tokenizer, width):
    """Windows of at most `width` tokens: each document goes into the fullest one that has room."""
    windows = []  # [tokens, texts]
    for text in texts:
        size = len(tokenizer.encode(text))
        if size > width:
            continue
        room = [w for w in windows if w[0] + size <= width]
        if not room:
            if len(windows) == OPEN:
                fullest = max(windows, key=lambda w: w[0])
                windows.remove(fullest)
                yield fullest
            room = [[0, []]]
            windows += room
        best = max(room, key=lambda w: w[0])
        best[0] += size
        best[1].append(text)
    yield from windows


def write_windows(path, texts, tokenizer, width, limit):
    n = tokens = 0
    with open(path, "w") as f:
        for size, parts in fill(texts, tokenizer, width):
            print(json.dumps({"text": "".join(parts)}, ensure_ascii=False), file=f)
            n, tokens = n + 1, tokens + size
            if n == limit:
                break
    print(f"{path}: {n} windows, {tokens} tokens, {100 * tokens / max(1, n * width):.1f} % full")


def write_held_out(records, out, limit):
    """The first documents of each domain: as texts, and of the conversations their answers."""
    domains = {}
    for record in records:
        domains.setdefault(record["domain"], []).append(record)
    for domain, some in domains.items():
        for folder, lines in (("text", [{"text": text_of(r)} for r in some[:limit]]),
                              ("answers", [{"messages": r["messages"]} for r in some[:limit] if "messages" in r])):
            os.makedirs(f"{out}/{folder}", exist_ok=True)
            if lines:
                with open(f"{out}/{folder}/{domain}.jsonl", "w") as f:
                    f.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--corpus", required=True, help="folder with train.jsonl and valid.jsonl of corpus.py")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--width", type=int, default=513, help="tokens of a window: one more than are fed")
    ap.add_argument("--valid", type=int, default=128, help="windows to validate on")
    ap.add_argument("--documents", type=int, default=300, help="held out, of each domain, to measure with")
    args = ap.parse_args()
    tokenizer = Tokenizer(args.tokenizer)
    os.makedirs(args.out, exist_ok=True)
    for part, limit in (("train", 0), ("valid", args.valid)):
        write_windows(f"{args.out}/{part}.jsonl", map(text_of, read_records(f"{args.corpus}/{part}.jsonl")), tokenizer,
                      args.width, limit)
    write_held_out(read_records(f"{args.corpus}/valid.jsonl"), args.out, args.documents)


if __name__ == "__main__":
    main()
