#!/usr/bin/env python3
"""What merging down to a rank takes when the change is made: the sum of dense matrices, its singular value decomposition in
double (LAPACK's, through PyTorch), the best factors. And how far the adapter that graft wrote is from that best.

    dense.py DIR RANK MERGED     DIR/0 .. DIR/3: the inputs (PEFT, bf16, scale 1); prints one JSON line
"""
import json
import os
import struct
import sys
import time

import torch

TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def load(folder):
    with open(os.path.join(folder, "adapter_model.safetensors"), "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, t in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        values = torch.frombuffer(bytearray(data[8 + size + begin : 8 + size + end]), dtype=TYPES[t["dtype"]])
        found[name] = values.reshape(t["shape"]).double()
    return found


def change(tensors, module):
    return tensors[module + ".lora_B.weight"] @ tensors[module + ".lora_A.weight"]


def main():
    folder, rank, merged = sys.argv[1], int(sys.argv[2]), load(sys.argv[3])
    inputs = [load(os.path.join(folder, str(i))) for i in range(4)]
    modules = [n[: -len(".lora_A.weight")] for n in merged if n.endswith(".lora_A.weight")]
    seconds, worst = 0.0, 0.0
    for module in modules:
        begun = time.perf_counter()
        dense = sum(change(t, module) for t in inputs)
        u, s, v = torch.linalg.svd(dense, full_matrices=False)
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        seconds += time.perf_counter() - begun
        off = torch.linalg.norm(dense - change(merged, module)) / torch.linalg.norm(dense - best)
        worst = max(worst, float(off))
    print(json.dumps({"seconds": seconds, "worst_ratio": worst, "modules": len(modules)}))


main()
