"""Writes the GGUF file of a fixture (`tensors`: name, sizes, storage format a line; `metadata.json`), every storage format we read in one model.

Blocks are hashed bytes whose scale fields are then set to something sane: each byte pattern is a valid block, so codes take every value.
"""
import json
import os
import struct

import numpy as np

from generate import uniform, values

# format: (GGML's number, elements a block, bytes a block)
FORMATS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
           "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210),
           "IQ4_NL": (20, 32, 18), "IQ4_XS": (23, 256, 136), "MXFP4": (39, 32, 17)}
# format: [(byte of a float16 field, its value for weights of about unit size)]
SCALES = {"Q4_0": [(0, 1 / 8)], "Q4_1": [(0, 2 / 15), (2, -1)], "Q5_0": [(0, 1 / 16)], "Q5_1": [(0, 2 / 31), (2, -1)], "Q8_0": [(0, 1 / 127)],
          "Q2_K": [(80, 2 / 45), (82, 1 / 15)], "Q3_K": [(108, 1 / 128)], "Q4_K": [(0, 2 / 945), (2, 1 / 63)], "Q5_K": [(0, 2 / 1953), (2, 1 / 63)],
          "Q6_K": [(208, 2 / 4064)], "IQ4_NL": [(0, 1 / 127)], "IQ4_XS": [(0, 1 / 4064)]}


def blocks(name, shape, fmt):
    """The tensor's bytes: rows of blocks."""
    if fmt in ("F32", "F16", "BF16"):
        array = values(name, shape)
        if fmt == "BF16":
            return (array.view("<u4") >> 16).astype("<u2").tobytes()
        return array.astype("<f4" if fmt == "F32" else "<f2").tobytes()
    _, elements, size = FORMATS[fmt]
    count = int(np.prod(shape)) // elements
    data = (uniform(name, count * size) * 128).astype(np.int8).view(np.uint8).reshape(count, size).copy()
    gain = 1.0 if "embd" in name else 1.5 / shape[-1] ** 0.5
    jitter = 1 + uniform(name + " scales", count).astype(np.float64) / 4
    for at, scale in SCALES.get(fmt, []):
        data[:, at:at + 2] = (scale * gain * jitter).astype("<f2").view(np.uint8).reshape(count, 2)
    if fmt == "MXFP4":
        data[:, 0] = 127 + int(np.round(np.log2(gain / 6))) + (jitter > 1)
    return data.tobytes()


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(v):
    """(GGUF's kind, bytes): kinds follow from JSON's types; whole numbers are u32."""
    if isinstance(v, bool):
        return 7, struct.pack("<B", v)
    if isinstance(v, int):
        return (4, struct.pack("<I", v)) if v >= 0 else (5, struct.pack("<i", v))
    if isinstance(v, float):
        return 6, struct.pack("<f", v)
    if isinstance(v, str):
        return 8, string(v)
    kinds = [value(item) for item in v]
    return 9, struct.pack("<IQ", kinds[0][0], len(v)) + b"".join(data for _, data in kinds)


def tokenizer_metadata(path):
    model = json.load(open(path, encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3 if t in ("<s>", "</s>") else 1 for t in tokens],
            "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]], "tokenizer.ggml.bos_token_id": 256, "tokenizer.ggml.eos_token_id": 257}


def generate_gguf(fixture, path):
    lines = [line.split(" ") for line in open(os.path.join(fixture, "tensors")).read().splitlines()[1:]]
    metadata = json.load(open(os.path.join(fixture, "metadata.json"))) | tokenizer_metadata(os.path.join(fixture, "..", "tokenizer.json"))
    head, data = b"", b""
    for key, v in metadata.items():
        kind, encoded = value(v)
        head += string(key) + struct.pack("<I", kind) + encoded
    for name, sizes, fmt in lines:
        shape = [int(n) for n in sizes.split(",")]
        head += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", FORMATS[fmt][0], len(data))
        data += blocks(name, shape, fmt)
        data += b"\0" * (-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(lines), len(metadata)) + head
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + data)
