#!/usr/bin/env python3
"""Random weights for any model description, as bfloat16 in safetensors: one file, or shards with an index.

    python3 examples/random_weights.py MODEL.yaml [--out FILE] [--seed N] [--router uniform|zipf:S|hot:N:SHARE] [--matrices INDEX]

The tensors are asked of `tenon check MODEL --no-weights --json` ($TENON, else tenon on the PATH), and go where the model's `weights:` says (or to
--out): one file, or, where that ends in .index.json, shards of about 4 GB. The same seed gives the same files. Needs NumPy.

What is written behaves like a model: products keep the size of what they multiply, no token wins by itself, and experts are chosen

  uniform        about equally often,
  zipf:1.2       the n-th of each layer in proportion to 1/n^1.2,
  hot:2:0.7      the first two for 70 % of all choices.

Vectors, embeddings and routers are in the first shard: with --matrices INDEX only that shard is written, and the new index names the others of an
index beside it that was made before.
"""
import argparse
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import numpy as np

PIECE, MOST = 1 << 20, 1 << 25   # a matrix is made of pieces of so many values, cut anywhere from a block of at most so many that is drawn once
SHARD_BYTES = 4 << 30
# Of routers: the deviation of a logit over that of what the router reads; and by how much what layers add to the stream makes it wider, half of the way up.
NOISE, WIDER = 2.0, 1.25
# Matrices, by use: the size of what comes out over that of what goes in. Outputs are added to the residual stream, and are as small as embeddings are.
# What attention adds is much the same for neighbouring tokens, and so is kept from deciding which experts they choose.
GAIN = {"linear": 1.0, "output": 0.7, "attention output": 0.15, "other": 1.0}
LOGIT = 3.0              # the deviation of a tied head's logits: at temperature 1 many tokens come up


def bfloat16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")   # nearest, ties to even


# A router has no bias, so preferring takes a direction that all embeddings share: every 16th coordinate. Norms let little of it through, so that what
# is added to the residual stream does not follow it, and routers have that much more of it.
EVERY, AMPLITUDE, THROUGH = 16, 4.0, 1 / 16


def signs(n):
    """The same for every vector of this length: of norms, so that a tied head does not find a token in its own embedding."""
    return np.random.default_rng(n).choice(np.array([-1, 1], np.float32), n)


# ---- routers ------------------------------------------------------------------------------------------------------------


def shares(kind, experts):
    """How often each expert is to be chosen, of all choices."""
    name, *numbers = kind.split(":")
    if name == "zipf" and len(numbers) == 1:
        weight = np.arange(1, experts + 1, dtype=np.float64) ** -float(numbers[0])
        return weight / weight.sum()
    if name == "hot" and len(numbers) == 2 and 0 < int(numbers[0]) < experts and 0 < float(numbers[1]) < 1:
        hot, share = int(numbers[0]), float(numbers[1])
        return np.array([share / hot] * hot + [(1 - share) / (experts - hot)] * (experts - hot))
    sys.exit(f"--router {kind}: uniform, zipf:S or hot:N:SHARE, such as zipf:1.2 and hot:2:0.7")


def offsets(kind, experts, top_k, known={}):
    """What to add to each expert's logit, of deviation NOISE, so that the best `top_k` are chosen that often: found by trying."""
    key = (kind, experts, top_k)
    if kind == "uniform":
        return np.zeros(experts)
    if key in known:
        return known[key]
    want = shares(kind, experts)
    if want.max() * top_k > 0.999:
        sys.exit(f"--router {kind}: a token chooses {top_k} different experts, so none can have {want.max():.0%} of the choices")
    logits = np.random.default_rng(1).standard_normal((1 << 14, experts)) * NOISE * WIDER
    add = np.zeros(experts)
    for step in range(300):
        chosen = np.argpartition(-(logits + add), top_k - 1, axis=1)[:, :top_k]
        got = (np.bincount(chosen.ravel(), minlength=experts) + 0.5) / chosen.size
        add += (0.5 if step < 200 else 0.1) * NOISE * np.log(want / got)
    known[key] = add - add.mean()
    return known[key]


# ---- tensors --------------------------------------------------------------------------------------------------------------


class Maker:
    def __init__(self, args, tensors):
        self.args = args
        eighth = sum(math.prod(t["shape"]) for t in tensors) // 8
        self.block = np.random.default_rng(args.seed).standard_normal(min(MOST, max(2 * PIECE, 1 << eighth.bit_length())), dtype=np.float32)
        self.scaled = {}     # by deviation: the block as bfloat16; the last few

    def pieces(self, tensor):
        """The tensor's bytes, in pieces."""
        if tensor["use"] not in GAIN or len(tensor["shape"]) < 2:
            yield bfloat16(self.small(tensor)).tobytes()
            return
        count, deviation = math.prod(tensor["shape"]), GAIN[tensor["use"]] / math.sqrt(tensor["shape"][-1])
        if "output" in tensor["use"]:
            deviation *= LOGIT / math.sqrt(tensor["shape"][-2])
        if deviation not in self.scaled:
            while len(self.scaled) > 3:
                self.scaled.pop(next(iter(self.scaled)))
            self.scaled[deviation] = np.concatenate([bfloat16(part * np.float32(deviation)) for part in np.split(self.block, len(self.block) // PIECE)])
        values = self.scaled[deviation]
        where = self.random(tensor).integers(0, len(values) - PIECE, -(-count // PIECE))
        for i, at in enumerate(where):
            yield memoryview(values[at:at + min(PIECE, count - i * PIECE)]).cast("B")

    def random(self, tensor):
        return np.random.default_rng([self.args.seed, zlib.crc32(tensor["name"].encode())])

    def small(self, tensor):
        """Vectors, embeddings and routers, as float32."""
        shape, use = tensor["shape"], tensor["use"]
        values = self.random(tensor).standard_normal(shape, dtype=np.float32)
        if use == "norm":
            values = signs(shape[-1]) * (1 + 0.1 * values)
            values[::EVERY] = THROUGH
            return values - np.float32(tensor.get("offset", 0))
        if use == "embedding":
            values[:, ::EVERY] = AMPLITUDE
            return values * np.float32(LOGIT / math.sqrt(shape[-1]))
        if use == "router":
            common = -(-shape[-1] // EVERY)
            values *= np.float32(NOISE / math.sqrt(shape[-1] - common))
            values[..., ::EVERY] = (offsets(self.args.router, shape[-2], tensor["chosen"]) / (common * AMPLITUDE * THROUGH))[:, None]
            return values
        return 0.02 * values


def header(tensors):
    entries, offset = {}, 0
    for t in tensors:
        size = 2 * math.prod(t["shape"])
        entries[t["name"]] = {"dtype": "BF16", "shape": t["shape"], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_file(path, tensors, maker):
    with open(path, "wb", buffering=0) as out:
        out.write(header(tensors))
        for tensor in tensors:
            for piece in maker.pieces(tensor):
                at = memoryview(piece)
                while len(at):
                    at = at[out.write(at):]
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path) / 1e6:.1f} MB")


# ---- shards ---------------------------------------------------------------------------------------------------------------


def is_small(tensor):
    return tensor["use"] not in GAIN or len(tensor["shape"]) < 2


def split(tensors):
    """What routes first, then matrices, each shard about as large as the others."""
    shards = [[t for t in tensors if is_small(t)]]
    room = 0
    for tensor in (t for t in tensors if not is_small(t)):
        size = 2 * math.prod(tensor["shape"])
        if size > room:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(tensor)
        room -= size
    return shards


def write_shards(index, tensors, maker, args):
    stem = index.name.removesuffix(".index.json").removesuffix(".safetensors")
    shards = split(tensors)
    names = [f"{stem}-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    places = {}
    if args.matrices:
        places = json.loads(args.matrices.read_text())["weight_map"]
        if args.matrices.resolve().parent != index.resolve().parent or set(places) != {t["name"] for t in tensors}:
            sys.exit(f"{args.matrices}: is not an index of this model's tensors in the folder of {index}")
        del shards[1:]
    for name, shard in zip(names, shards):
        write_file(index.parent / name, shard, maker)
        places.update((t["name"], name) for t in shard)
    total = sum(2 * math.prod(t["shape"]) for t in tensors)
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=0))
    print(f"{index}: {total / 1e9:.2f} GB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--router", default="uniform")
    parser.add_argument("--matrices", type=pathlib.Path, help="an index made before, whose matrices the new one takes")
    args = parser.parse_args()
    said = subprocess.run([os.environ.get("TENON", "tenon"), "check", str(args.model), "--no-weights", "--json"], stdout=subprocess.PIPE, check=False)
    if said.returncode:
        sys.exit(said.returncode)
    model = json.loads(said.stdout)
    out = args.out or (model["weights"] and pathlib.Path(model["weights"][0]))
    if not out:
        sys.exit(f"{args.model} names no weights: --out says where they go")
    maker = Maker(args, model["tensors"])
    if out.name.endswith(".index.json"):
        write_shards(out, model["tensors"], maker, args)
    elif args.matrices:
        sys.exit("--matrices is for weights in shards: --out NAME.safetensors.index.json")
    else:
        write_file(out, model["tensors"], maker)


if __name__ == "__main__":
    main()
