#!/usr/bin/env python3
"""Random weights for examples/seed-moe.yaml, as bfloat16 in one safetensors file.

    python3 examples/make_seed_moe.py [--config seed-moe.yaml] [--out seed-moe.safetensors] [--seed 1]

Sizes are read from the description's `config:`; the same seed gives the same file. Needs NumPy alone.
"""
import argparse
import json
import pathlib
import re
import struct

import numpy as np


def read_config(path):
    """The numbers under `config:`, without a YAML reader: lines `  name: number`."""
    config, inside = {}, False
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if re.match(r"\S", line):
            inside = line.startswith("config:")
        match = inside and re.match(r"\s+(\w+):\s*([0-9.e+-]+)", line)
        if match:
            config[match[1]] = float(match[2])
    return config


def tensors(c):
    """Name and shape of every tensor, in the order of the file."""
    c = {name: int(value) for name, value in c.items()}
    hidden, head_dim = c["hidden"], c["head_dim"]
    yield "model.embed_tokens.weight", (c["vocab"], hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(1 + c["layers"] - c["shared"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (hidden,)
        yield at + "self_attn.q_proj.weight", (c["heads"] * head_dim, hidden)
        yield at + "self_attn.k_proj.weight", (c["kv_heads"] * head_dim, hidden)
        yield at + "self_attn.v_proj.weight", (c["kv_heads"] * head_dim, hidden)
        yield at + "self_attn.o_proj.weight", (hidden, c["heads"] * head_dim)
        yield at + "self_attn.q_norm.weight", (head_dim,)
        yield at + "self_attn.k_norm.weight", (head_dim,)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "mlp.gate.weight", (c["experts"], hidden)
        width = c["expert_ffn"] + c["growth"] * layer
        for expert in range(c["experts"]):
            yield at + f"mlp.experts.{expert}.gate_proj.weight", (width, hidden)
            yield at + f"mlp.experts.{expert}.up_proj.weight", (width, hidden)
            yield at + f"mlp.experts.{expert}.down_proj.weight", (hidden, width)


def bfloat16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")   # nearest, ties to even


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=here / "seed-moe.yaml")
    parser.add_argument("--out", default=here / "seed-moe.safetensors")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    listed = list(tensors(read_config(args.config)))
    header, offset = {}, 0
    for name, shape in listed:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(args.seed)
    with open(args.out, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in listed:
            values = random.standard_normal(shape, dtype=np.float32)
            if len(shape) == 1:
                values = 1 + 0.1 * values                          # norms
            elif name.endswith("mlp.gate.weight"):
                values *= 3 / np.sqrt(np.float32(shape[1]))        # a router that prefers some experts
            else:
                values /= np.sqrt(np.float32(shape[-1]))
            out.write(bfloat16(values).tobytes())
    print(f"{args.out}: {len(listed)} tensors, {offset / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
