"""The tokenizer: byte-level BPE, learnt here, written as tokenizer.json.

Owns the merges and the encoder that training uses.  Words are cut by the Qwen2 expression.  The
regular expressions of Python know no \\p{L}, so the cut below is spelt for ASCII letters and
digits; `check_text` makes sure that the corpus holds nothing else, where the two agree exactly.

    bpe.py --corpus DIR/train.jsonl --out tokenizer.json
"""
import argparse
import json
import re

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
ASCII_SPLIT = re.compile(QWEN2_SPLIT.replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]")
                         .replace(r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]")
                         .replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"))
ALLOWED = re.compile(r"[\n -~]*")


def check_text(text):
    """Printable ASCII and newlines only: there the two expressions cut alike."""
    assert ALLOWED.fullmatch(text), "the corpus holds a character that the word cut does not cover"
    return text


def byte_alphabet():
    """The GPT-2 table: a printable character for each byte, in the order of its ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable}
    table.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return table


BYTES = byte_alphabet()


def count_words(lines, limit):
    """{word: count} over the first `limit` bytes of the texts."""
    counts = {}
    for line in lines:
        for text in texts(json.loads(line)):
            for word in ASCII_SPLIT.findall(check_text(text)):
                counts[word] = counts.get(word, 0) + 1
            limit -= len(text)
        if limit < 0:
            break
    return counts


def texts(record):
    """The stretches of text between special tokens, as ChatML cuts them."""
    if "text" in record:
        return [record["text"]]
    return [t for m in record["messages"] for t in (m["role"] + "\n" + m["content"], "\n")]


def learn_merges(counts, n_merges):
    """The n most frequent merges, one after another; ties go to the pair that sorts first."""
    words = [([BYTES[b] for b in word.encode()], count) for word, count in sorted(counts.items())]
    pairs, where = {}, {}
    for i, (symbols, count) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] = pairs.get(pair, 0) + count
            where.setdefault(pair, set()).add(i)
    merges = []
    while len(merges) < n_merges:
        best = min(pairs, key=lambda p: (-pairs[p], p))
        assert pairs[best] > 0, "the corpus is too small for this vocabulary"
        merges.append(best)
        for i in sorted(where.pop(best)):
            merge_word(i, words, best, pairs, where)
        del pairs[best]
    return merges


def merge_word(i, words, pair, pairs, where):
    """Merge `pair` in word i and keep the counts of its neighbours right."""
    symbols, count = words[i]
    merged = apply_merge(symbols, pair)
    for p in zip(symbols, symbols[1:]):
        pairs[p] -= count
    for p in zip(merged, merged[1:]):
        pairs[p] = pairs.get(p, 0) + count
        where.setdefault(p, set()).add(i)
    words[i] = merged, count


def apply_merge(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i:i + 2]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def tokenizer_json(merges):
    """The document that tokenizer libraries read: Qwen2 in all but its vocabulary."""
    tokens = list(BYTES.values()) + [a + b for a, b in merges]
    assert len(set(tokens)) == len(tokens)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [{"id": len(tokens) + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, s in enumerate(SPECIALS)]
    split = {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated", "invert": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [f"{a} {b}" for a, b in merges]}}


class Tokenizer:
    """Encoder and decoder over a tokenizer.json written here; words are cached."""

    def __init__(self, path):
        with open(path) as f:
            data = json.load(f)
        self.ids = data["model"]["vocab"]
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(data["model"]["merges"])}
        self.special = {t["content"]: t["id"] for t in data["added_tokens"]}
        self.tokens = {i: t for t, i in {**self.ids, **self.special}.items()}
        self.end, self.turn_end = self.special["<|endoftext|>"], self.special["<|im_end|>"]
        self.cut = re.compile("(" + "|".join(map(re.escape, self.special)) + ")")
        self.byte = {c: b for b, c in BYTES.items()}
        self.cache = {}

    def word(self, word):
        if word not in self.cache:
            symbols = [BYTES[b] for b in word.encode()]
            while len(symbols) > 1:
                pair = min(zip(symbols, symbols[1:]), key=lambda p: self.rank.get(p, len(self.rank)))
                if pair not in self.rank:
                    break
                symbols = apply_merge(symbols, pair)
            self.cache[word] = [self.ids[s] for s in symbols]
        return self.cache[word]

    def encode(self, text):
        """Ids of a text in which special tokens stand as written."""
        out = []
        for part in self.cut.split(text):
            if part in self.special:
                out.append(self.special[part])
            else:
                for word in ASCII_SPLIT.findall(check_text(part)):
                    out += self.word(word)
        return out

    def decode(self, ids):
        """The text of ids, special tokens left out."""
        chars = "".join(self.tokens[i] for i in ids if self.tokens[i] not in self.special)
        return bytes(self.byte[c] for c in chars).decode(errors="replace")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--sample", type=int, default=12_000_000, help="bytes of the corpus to learn from")
    ap.add_argument("--vocab", type=int, default=3840, help="size with bytes and special tokens")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    with open(args.corpus) as f:
        counts = count_words(f, args.sample)
    merges = learn_merges(counts, args.vocab - 256 - len(SPECIALS))
    with open(args.out, "w") as f:
        json.dump(tokenizer_json(merges), f, ensure_ascii=False, separators=(",", ":"))
    print(f"{len(counts)} different words, {len(merges)} merges; the last: {merges[-5:]}")


if __name__ == "__main__":
    main()
