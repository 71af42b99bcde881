#!/usr/bin/env python3
"""Sharing: a model that calls one layer six times, and its unrolled twin whose checkpoint holds six equal layers. Needs NumPy and the tenon command.

`tenon import --share` finds them, in a description and in a Hugging Face folder (whose head is a copy of its embeddings): what it writes has the
shared model's bits and a blob of its size, under float and under integer recipes. And
examples/seed-14b.yaml has at least 30 % fewer parameter bytes than a twin whose layers have weights of their own.
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

import numpy as np

ROOT, TENON = os.environ["SOURCE_DIR"], os.environ["TENON"]
SMALL = dict(vocab=331, hidden=64, heads=4, kv_heads=2, head_dim=16, experts=4, expert_ffn=32, growth=32)
FIRST, CALLS, LAYERS = 0, 6, 12
IDS = "3,1,4,1,5,9,2,6,5,3,5,8,9,7,9"
failed = []


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)[:300]}: exit {result.returncode}\n{result.stderr[-2000:]}")
    return result.stdout, result.stderr


def expect(good, text):
    print(("ok      " if good else "FAILED  ") + text)
    if not good:
        failed.append(text)


def read(path):
    return open(path, encoding="utf-8").read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def unrolled(text):
    """The description of the twin: every layer has weights of its own."""
    body = text[text.index("    - repeat:"):text.index("    - return linear(rms_norm(x, norm")]
    text = text.replace(body, "    - repeat: {index: i, count: layers, body: [ \"x = decoder(x, layer=i)\" ]}\n")
    return text.replace("growth*layer", "growth*(layer - shared + 1 if layer >= shared else 0)").replace(".safetensors", ".unrolled.safetensors")


def read_safetensors(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    return {name: (info, data[8 + length + info["data_offsets"][0]:8 + length + info["data_offsets"][1]])
            for name, info in json.loads(data[8:8 + length]).items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (info, data) in tensors.items():
        header[name] = {**info, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data for _, data in tensors.values())


def unroll_tensors(tensors):
    out = {}
    for name, tensor in tensors.items():
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        copies = [None] if not layer else range(CALLS) if int(layer[1]) == FIRST else [int(layer[1]) + CALLS - 1]
        for copy in copies:
            out[name if copy is None else name.replace(f"layers.{layer[1]}.", f"layers.{copy}.", 1)] = tensor
    return out


def logits_and_blob(folder, model, recipe):
    out, blob = os.path.join(folder, "out.npy"), os.path.join(folder, "out.c")
    run(TENON, "run", model, "--tokens", IDS, "-n", "0", "--logits", out, "--quant", recipe)
    run(TENON, "compile", model, "--emit", "c", "-o", blob, "--quant", recipe)
    return np.load(out).tobytes(), os.path.getsize(os.path.join(folder, "out.weights"))


def compare(folder, what, shared, twin, recipes):
    for recipe in recipes:
        want, got = logits_and_blob(folder, shared, recipe), logits_and_blob(folder, twin, recipe)
        expect(want[0] == got[0], f"{what}, {recipe}: the same logits")
        expect(want[1] == got[1], f"{what}, {recipe}: {got[1]} bytes of weights, {want[1]} where layers are shared")


def small_example(folder, **config):
    text = read(os.path.join(ROOT, "examples", "seed-moe.yaml"))
    for name, value in {**SMALL, **config}.items():
        text = re.sub(rf"^  {name}: \d+", f"  {name}: {value}", text, flags=re.M)
    path = write(os.path.join(folder, "seed-moe.yaml"), text)
    weights = os.path.join(folder, "seed-moe.safetensors")
    run(sys.executable, os.path.join(ROOT, "examples", "random_weights.py"), path, "--out", weights)
    return path, read_safetensors(weights)


def check_description(folder):
    shared, tensors = small_example(folder)
    twin, found = write(os.path.join(folder, "twin.yaml"), unrolled(read(shared))), os.path.join(folder, "found.yaml")
    write_safetensors(os.path.join(folder, "seed-moe.unrolled.safetensors"), unroll_tensors(tensors))
    said = run(TENON, "import", twin, "--share", "-o", found)[1]
    lines = re.findall(r'^  "(.*)": "(.*)"$', read(found), re.M)
    expect(lines == [(f"model.layers.{i}.*", "model.layers.0.*") for i in range(1, CALLS)], "five lines say that five layers are the first")
    once = sum(len(data) for _, data in tensors.values())
    every = sum(len(data) for _, data in unroll_tensors(tensors).values())
    expect(f"{100 * (every - once) / every:.1f} %" in said, f"what it saved is said: {said.strip()}")
    compare(folder, "a description", shared, found, ("as-stored", "w4a8"))


def check_folder(folder):
    shared, tensors = small_example(folder, growth=0)
    source = os.path.join(folder, "hf")
    os.makedirs(source, exist_ok=True)
    tensors = unroll_tensors(tensors)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    write_safetensors(os.path.join(source, "model.safetensors"), tensors)
    c = SMALL
    write(os.path.join(source, "config.json"), json.dumps(dict(
        architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", vocab_size=c["vocab"], hidden_size=c["hidden"], num_hidden_layers=LAYERS,
        num_attention_heads=c["heads"], num_key_value_heads=c["kv_heads"], head_dim=c["head_dim"], moe_intermediate_size=c["expert_ffn"],
        num_experts=c["experts"], num_experts_per_tok=2, norm_topk_prob=False, rms_norm_eps=1e-6, rope_theta=1e6, hidden_act="silu",
        max_position_embeddings=4096, tie_word_embeddings=False, attention_bias=False, mlp_only_layers=[], decoder_sparse_step=1)))
    found = os.path.join(folder, "hf.yaml")
    run(TENON, "import", source, "--share", "-o", found)
    expect('"model.embed_tokens.weight": "lm_head.weight"' in read(found), "the table of tokens is the head")
    compare(folder, "a folder", shared, found, ("w8a8",))


def check_example(folder):
    text = read(os.path.join(ROOT, "examples", "seed-14b.yaml"))
    sizes = []
    for description in (text, unrolled(text)):
        path = write(os.path.join(folder, "counted.yaml"), description)
        sizes.append(json.loads(run(TENON, "check", path, "--no-weights", "--json")[0])["bytes"])
    saved = 100 * (1 - sizes[0] / sizes[1])
    expect(saved >= 30, f"seed-14b: {sizes[0] / 1e9:.3f} GB, its unshared twin {sizes[1] / 1e9:.3f}: {saved:.1f} % fewer")


def main():
    for check in (check_description, check_folder, check_example):
        with tempfile.TemporaryDirectory() as folder:
            check(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
