#!/usr/bin/env python3
"""Writes the random-weight Hugging Face folders that the stored logits belong to. Needs NumPy alone.

    generate.py MODELS/NAME FOLDER      config.json, tokenizer.json and model.safetensors in FOLDER

The weights are a hash of each tensor's name and the element's index, so a fixture holds names and shapes (`tensors`: a line a tensor) and
the expected logits, not weights. make_models.py computed those logits with transformers from the very same folder.
"""
import json
import os
import re
import shutil
import struct
import sys

import numpy as np


def name_hash(name):
    h = 14695981039346656037
    for byte in name.encode():
        h = (h ^ byte) * 1099511628211 % 2**64
    return h


def uniform(name, count):
    """SplitMix64 of consecutive counters: float32 in [-1, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(name_hash(name)) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def values(name, shape):
    """Norms near 1, small biases, matrices that keep a row's size, tables of about unit size, routers that decide clearly."""
    u = uniform(name, int(np.prod(shape))).reshape(shape)
    if len(shape) == 1:
        return u * np.float32(0.2) if name.endswith("bias") else 1 + u * np.float32(0.3)
    if any(word in name for word in ("embed", "wte", "wpe")):
        return u
    fan_in = shape[0] if ".c_" in name else shape[-1]   # GPT-2 stores [in, out]
    gain = 6 if "gate.weight" in name or "router" in name else 1.5
    return u * np.float32(gain / fan_in ** 0.5)


def encode(array, dtype):
    if dtype == "F32":
        return array.astype("<f4").tobytes()
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()   # BF16, toward zero


def write_safetensors(path, tensors, dtype):
    header, offset, blobs = {}, 0, []
    for name, shape in tensors:
        data = encode(values(name, shape), dtype)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        blobs.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(blobs)


def expand(name):
    """`experts.{3}.up` is experts.0.up, experts.1.up, experts.2.up."""
    many = re.search(r"\{(\d+)\}", name)
    return [name.replace(many[0], str(i)) for i in range(int(many[1]))] if many else [name]


def read_tensors(path):
    lines = open(path).read().split("\n")
    rows = [(name, shape) for line in lines[1:] if line for pattern, shape in [line.split(" ")] for name in expand(pattern)]
    return lines[0], [(name, [int(n) for n in shape.split(",")]) for name, shape in rows]   # the first line is the element type


def generate(fixture, folder):
    os.makedirs(folder, exist_ok=True)
    dtype, tensors = read_tensors(os.path.join(fixture, "tensors"))
    shutil.copy(os.path.join(fixture, "config.json"), folder)
    tokenizer = os.path.join(fixture, "..", "tokenizer.json")
    if os.path.exists(tokenizer):
        shutil.copy(tokenizer, folder)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors, dtype)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    generate(sys.argv[1], sys.argv[2])
