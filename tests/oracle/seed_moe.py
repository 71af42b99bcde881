#!/usr/bin/env python3
"""examples/seed-moe.yaml against an independent computation in NumPy, float64 throughout. Needs NumPy and the tenon command ($TENON).

Its weights are made by examples/random_weights.py. Beside the logits: experts are chosen as the weights were asked to have them; a prompt alone and in a batch give the same bits, and a compiled program's
file holds the layer that is called six times once.
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

import numpy as np

from compare import check, distance, show

ROOT = os.environ["SOURCE_DIR"]
TENON = os.environ["TENON"]


def read_safetensors(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, info in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        first, last = (8 + length + offset for offset in info["data_offsets"])
        raw = np.frombuffer(data[first:last], dtype={"BF16": "<u2", "F32": "<f4"}[info["dtype"]])
        if info["dtype"] == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = raw.reshape(info["shape"]).astype(np.float64)
    return tensors, sum(info["data_offsets"][1] - info["data_offsets"][0] for name, info in json.loads(data[8:8 + length]).items() if name != "__metadata__")


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rope(x, base):
    """x: [T, heads, d]; halves."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(q, k, v):
    tokens, heads, d = q.shape
    group = heads // k.shape[1]
    out = np.empty_like(q)
    for h in range(heads):
        scores = q[:, h] @ k[:, h // group].T / np.sqrt(d)
        scores[np.triu_indices(tokens, 1)] = -np.inf
        out[:, h] = softmax(scores) @ v[:, h // group]
    return out


def experts(x, w, layer, c):
    p = softmax(x @ w[f"model.layers.{layer}.mlp.gate.weight"].T)
    out = np.zeros_like(x)
    c["chosen"] = c.get("chosen", 0) + np.bincount(np.argsort(-p, axis=1)[:, :c["top_k"]].ravel(), minlength=c["experts"])
    for t in range(len(x)):
        for e in sorted(range(c["experts"]), key=lambda i: (-p[t, i], i))[:c["top_k"]]:
            prefix = f"model.layers.{layer}.mlp.experts.{e}."
            gate, up = w[prefix + "gate_proj.weight"] @ x[t], w[prefix + "up_proj.weight"] @ x[t]
            out[t] += p[t, e] * (w[prefix + "down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up))
    return out


def forward(ids, w, c):
    x = w["model.embed_tokens.weight"][ids]
    for layer in [0] * c["shared"] + list(range(1, c["layers"] - c["shared"] + 1)):
        prefix = f"model.layers.{layer}."
        h = rms_norm(x, w[prefix + "input_layernorm.weight"], c["eps"])
        q, k, v = ((h @ w[prefix + f"self_attn.{n}_proj.weight"].T).reshape(len(x), -1, c["head_dim"]) for n in "qkv")
        q = rope(rms_norm(q, w[prefix + "self_attn.q_norm.weight"], c["eps"]), c["rope_base"])
        k = rope(rms_norm(k, w[prefix + "self_attn.k_norm.weight"], c["eps"]), c["rope_base"])
        x = x + attention(q, k, v).reshape(len(x), -1) @ w[prefix + "self_attn.o_proj.weight"].T
        x = x + experts(rms_norm(x, w[prefix + "post_attention_layernorm.weight"], c["eps"]), w, layer, c)
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return rms_norm(x, w["model.norm.weight"], c["eps"]) @ head.T


def config(text):
    block = re.search(r"^config:\n((?:\s+\w+:.*\n)+)", text, re.M).group(1)
    numbers = {m[1]: float(m[2]) for m in re.finditer(r"^\s+(\w+):\s*([\d.e+-]+)", block, re.M)}
    return {name: int(v) if v == int(v) and name not in ("eps", "rope_base") else v for name, v in numbers.items()}


def run(*command, quiet=False):
    if code := subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if quiet else None).returncode:
        sys.exit(f"{' '.join(command)[:300]}: exit {code}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        model, out = os.path.join(folder, "seed-moe.yaml"), os.path.join(folder, "out.npy")
        text = open(os.path.join(ROOT, "examples", "seed-moe.yaml"), encoding="utf-8").read()
        open(model, "w", encoding="utf-8").write(text)
        run(sys.executable, os.path.join(ROOT, "examples", "random_weights.py"), model, "--router", "zipf:1.2", quiet=True)
        run(TENON, "check", model, quiet=True)
        c = config(text)
        w, stored = read_safetensors(os.path.join(folder, "seed-moe.safetensors"))
        rng = np.random.default_rng(2)
        prompts = [[int(i) for i in rng.integers(0, c["vocab"], n)] for n in (24, 3)]
        want = np.concatenate([forward(np.array(p), w, c) for p in prompts])
        words = [["--tokens", ",".join(map(str, p))] for p in prompts]
        program = os.path.join(folder, "seed-moe")
        run(TENON, "compile", model, "-o", program)
        parts = []
        for tokens in words:
            run(TENON, "run", model, *tokens, "-n", "0", "--logits", out)
            parts.append(np.load(out))
        got = np.concatenate(parts)
        run(program, *words[0], *words[1], "-n", "0", "--logits", out)
        result = distance(got, want)
        show("seed-moe", result)
        bad = check(result, max=1e-4)
        shares = c["chosen"] / c["chosen"].sum()
        print("experts chosen:", " ".join(f"{s:.0%}" for s in shares))
        if not 0.3 < shares[0] < 0.46 or shares[0] < shares[1:].max() * 1.5:   # 1/n^1.2: 38 %, 17 %, 10 % …
            print("FAILED: experts are not chosen by Zipf's law")
            bad = 1
        if np.load(out).tobytes() != got.tobytes():
            print("FAILED: the executable with both prompts in a batch gives other bits than the JIT with each alone")
            bad = 1
        size = os.path.getsize(program)
        print(f"weights {stored / 2**20:.1f} MiB, executable {size / 2**20:.1f} MiB")
        if size > stored * 1.1 + (8 << 20):
            print("FAILED: the executable holds more than each weight once")
            bad = 1
    sys.exit(bad)


if __name__ == "__main__":
    main()
