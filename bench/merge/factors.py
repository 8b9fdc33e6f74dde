#!/usr/bin/env python3
"""The wrong way to merge, to be measured: A and B of two PEFT adapters averaged by weight one by one, as some programs do. The
product of averages, (Σ w B)(Σ w A), is not the average of products: it has B of one adapter times A of the other in it.

    factors.py OUT DIR=WEIGHT DIR=WEIGHT     both bf16, of equal rank, with scales as configured; needs no package
"""
import json
import os
import shutil
import struct
import sys


def load(folder):
    with open(os.path.join(folder, "adapter_model.safetensors"), "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    found = {}
    for name, t in header.items():
        assert t["dtype"] == "BF16", f"{folder}: {name} is not bf16"
        begin, end = t["data_offsets"]
        halves = struct.unpack(f"<{(end - begin) // 2}H", data[8 + size + begin : 8 + size + end])
        words = struct.pack(f"<{len(halves)}I", *(h << 16 for h in halves))
        found[name] = (t["shape"], struct.unpack(f"<{len(halves)}f", words))
    return found


def save(path, tensors):
    header, blobs, at = {}, [], 0
    for name in sorted(tensors):
        shape, values = tensors[name]
        blob = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    out, parts = sys.argv[1], [a.rsplit("=", 1) for a in sys.argv[2:]]
    loaded = [(load(folder), float(weight)) for folder, weight in parts]
    configs = [json.load(open(os.path.join(folder, "adapter_config.json"))) for folder, _ in parts]
    merged = {}
    for tensors, weight in loaded:
        for name, (shape, values) in tensors.items():
            _, sum_so_far = merged.get(name, (shape, [0.0] * len(values)))
            merged[name] = (shape, [s + weight * v for s, v in zip(sum_so_far, values)])
    os.makedirs(out)
    save(os.path.join(out, "adapter_model.safetensors"), merged)
    widest = max(configs, key=lambda c: len(c["target_modules"]))
    with open(os.path.join(out, "adapter_config.json"), "w") as f:
        json.dump(widest, f)
    first = os.path.join(parts[0][0], "graft.json")
    if os.path.exists(first):
        shutil.copy(first, out)


main()
