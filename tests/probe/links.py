#!/usr/bin/env python3
"""A model as Hugging Face's cache holds it: a folder of links into another one, where files have no names and shards lie apart from their index.
It must give the same bits as the plain folder. Needs NumPy, the tenon command ($TENON) and tests/oracle ($SOURCE_DIR)."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from generate import generate, read_tensors, write_safetensors   # noqa: E402


def logits(model, out):
    subprocess.run([os.environ["TENON"], "run", model, "--tokens", "1,2,3", "-n", "0", "--logits", out], stdin=subprocess.DEVNULL, check=True)
    return open(out, "rb").read()


def main():
    fixture = os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle", "models", "llama3")
    dtype, tensors = read_tensors(os.path.join(fixture, "tensors"))
    with tempfile.TemporaryDirectory() as root:
        plain, blobs, links = (os.path.join(root, name) for name in ("plain", "blobs", "snapshot"))
        generate(fixture, plain)
        want = logits(plain, os.path.join(root, "plain.npy"))
        os.remove(os.path.join(plain, "model.safetensors"))
        parts = {f"model-0000{i + 1}-of-00002.safetensors": tensors[i::2] for i in range(2)}
        for name, part in parts.items():
            write_safetensors(os.path.join(plain, name), part, dtype)
        index = {"weight_map": {tensor: name for name, part in parts.items() for tensor, _ in part}}
        json.dump(index, open(os.path.join(plain, "model.safetensors.index.json"), "w"))
        os.mkdir(blobs)
        os.mkdir(links)
        for number, name in enumerate(sorted(os.listdir(plain))):
            os.rename(os.path.join(plain, name), os.path.join(blobs, f"{number:040x}"))
            os.symlink(f"../blobs/{number:040x}", os.path.join(links, name))
        for model in (links, links + "/"):
            if logits(model, os.path.join(root, "links.npy")) != want:
                sys.exit("FAILED: other bits through links")
    print("links: the same bits")


if __name__ == "__main__":
    main()
