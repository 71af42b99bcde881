#!/usr/bin/env python3
"""Models of unusual form, written as YAML: compiled code against the reference interpreter. Needs NumPy and the tenon command ($TENON).

    shapes.py [NAME …]

A case is parameters (name: shape; a name with a dot is no parameter of the model but a tensor that blocks speak of), blocks, and a body.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

E = {"e": (50, 32)}
ROUTED = {**E, "r": (4, 32), "W.a": (4, 32, 32), "W.s": (32, 32)}
EXPERT = """  expert:
    index: [n]
    inputs: [x]
    params: {a: {shape: [32, 32], name: W.a, index: n}}
    body: ["return silu(linear(x, a))"]
"""
SHARED = """  shared:
    inputs: [x]
    params: {a: {shape: [32, 32], name: W.s}}
    body: ["return silu(linear(x, a))"]
"""
CALLING = """  gated:
    inputs: [x]
    body: ["return x * sigmoid(x * 1.702)"]
  expert:
    index: [n]
    inputs: [x]
    params: {a: {shape: [32, 32], name: W.a, index: n}}
    body: ["h = gated(linear(x, a))", "return gated(h)"]
"""
CHOICE = "w, i = top_k(softmax(linear(x, r)), k=2)"

CASES = {
    "heads_share_weights": (  # linear over [T, heads, n] with one matrix for all heads
        {**E, "w": (70, 8), "u": (70, 8), "b": (70,), "q": (4, 70, 8), "d": (8, 70)}, "",
        ["h = reshape(embedding(tokens, e), [T, 4, 8])", "g = silu(linear(h, w, b)) * linear(h, u) + linear(h, q)",
         "return reshape(linear(g, d) + h, [T, 32])"], ""),
    "experts_a_sequence": (ROUTED, EXPERT, ["x = embedding(tokens, e)", CHOICE, "x = mean_tokens(moe(x, w, i, expert, count=4))",
                                            CHOICE, "return moe(x, w, i, expert, count=4)"], ""),
    "shared_expert_of_same_shape": (ROUTED, EXPERT + SHARED, ["x = embedding(tokens, e)", CHOICE,
                                                              "return moe(x, w, i, expert, count=4) + shared(x)"], ""),
    "experts_that_call": (ROUTED, CALLING, ["x = gated(embedding(tokens, e))", CHOICE, "return moe(x, w, i, expert, count=4)"], ""),
    "input_default": ({**E, "k": (2, 32)}, "", ["return embedding(tokens, e) + embedding(types, k)"],
                      "  inputs: {types: {ids: true, default: 1}}\n"),
    "slopes_and_sinks": (E, "", ["h = reshape(embedding(tokens, e), [T, 4, 8])",
                                 "a = attention(h, h, h, slopes=alibi_slopes(4) / sqrt(8), sinks=[0, 1, -1, 0.5], window=70)",
                                 "return reshape(a, [T, 32]) * ([2] + [1, 3, 1, 2, 1, 3, 1] + [1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1, 3])"],
                         ""),
    "cache_of_pieces": ({**E, "w": (96, 32), "b": (96,)}, "",   # what is written to the cache is computed where it is written
                        ["q, k, v = split(linear(embedding(tokens, e), w, b), [32, 32, 32])",
                         "x = reshape(attention(reshape(q, [T, 2, 16]), reshape(k, [T, 2, 16]), reshape(v, [T, 2, 16])), [T, 32])",
                         "q, k, v = split(linear(x, w, b), [32, 32, 32])",
                         "x = attention(reshape(q, [T, 2, 16]), reshape(k * 1.5, [T, 2, 16]), reshape(silu(v), [T, 2, 16]))",
                         "return reshape(x, [T, 32])"], ""),
}


def write_safetensors(path, tensors):
    header, offset, blobs = {}, 0, []
    for name, shape in tensors.items():
        rng = np.random.default_rng(list(name.encode()))
        data = (rng.uniform(-1, 1, shape) * (1.5 / shape[-1] ** 0.5 if len(shape) > 1 else 1)).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        blobs.append(data)
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def write_model(folder, tensors, blocks, body, inputs):
    write_safetensors(os.path.join(folder, "w.safetensors"), tensors)
    params = "".join(f"    {name}: {{shape: {list(shape)}, name: {name}}}\n" for name, shape in tensors.items() if "." not in name)
    lines = "".join(f"    - {json.dumps(line)}\n" for line in body)
    path = os.path.join(folder, "model.yaml")
    with open(path, "w") as file:
        file.write("tenon: 1\ncontext: 700\nweights: w.safetensors\n" + (f"blocks:\n{blocks}" if blocks else "") +
                   f"model:\n{inputs}  params:\n{params}  body:\n{lines}")
    return path


def logits(model, folder, *options):
    rng, out = np.random.default_rng(1), os.path.join(folder, "out.npy")
    prompts = [word for n in (1, 4, 66, 600) for word in ("--tokens", ",".join(map(str, rng.integers(0, 50, n))))]
    command = [os.environ["TENON"], "run", model, *prompts, "-n", "0", "--logits", out, *options]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        sys.exit(f"FAILED: {' '.join(command)}")
    return np.load(out)


def main():
    failed = 0
    for name, case in CASES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = write_model(folder, *case)
            want, bad = logits(model, folder, "--reference"), 0
            for options in ([], ["--chunk", "7"], ["--quant", "w8a8", "--kv", "f32"]):
                base = logits(model, folder, "--reference", *options) if "--quant" in options else want
                difference = float(np.abs(logits(model, folder, *options) - base).max() / np.abs(base).max())
                if not difference <= 1e-5:
                    print(f"FAILED: {name} {' '.join(options)}: {difference:.1e}")
                    bad = 1
            failed += bad
    print(f"{len(sys.argv[1:]) or len(CASES)} models, {failed} wrong")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
