#!/usr/bin/env python3
"""Compares Tenon's float32 logits of one fixture with transformers' (models/NAME/logits.npy): each sequence alone, and both in one batch, which
must give the same bits. Needs NumPy and the tenon command ($TENON).

    run_model.py MODELS/NAME [run options, such as --reference]

A fixture with an `example` file is no family that `tenon import` knows: the example named there is run, with config, context and weights
replaced by the fixture's (`replace.yaml`), so that what is tested is the YAML and nothing else.
"""
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

from compare import check, distance, show
from generate import generate
from generate_gguf import generate_gguf


def replace_keys(example, replacement):
    """The example's text without the top-level keys that the replacement gives, after the replacement."""
    keys = set(re.findall(r"^(\w+):", replacement, re.M))
    kept, keep = [], True
    for line in example.splitlines(keepends=True):
        key = re.match(r"(\w+):", line)
        if key:
            keep = key.group(1) not in keys
        if keep:
            kept.append(line)
    return "".join(kept) + "\n" + replacement


def model_source(fixture, folder):
    if os.path.exists(os.path.join(fixture, "metadata.json")):
        path = os.path.join(folder, "model.gguf")
        generate_gguf(fixture, path)
        return path
    generate(fixture, folder)
    pointer = os.path.join(fixture, "example")
    if not os.path.exists(pointer):
        return folder
    source = os.path.join(os.environ["SOURCE_DIR"], open(pointer).read().strip())
    path = os.path.join(folder, "model.yaml")
    with open(path, "w") as file:
        file.write(replace_keys(open(source).read(), open(os.path.join(fixture, "replace.yaml")).read()))
    return path


def run(fixture, folder, options):
    source = model_source(fixture, folder)

    def logits(*prompts):
        out = os.path.join(folder, "logits.npy")
        command = [os.environ["TENON"], "run", source, *[word for ids in prompts for word in ("--tokens", ids)], "-n", "0", "--logits", out, *options]
        code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
        if code:
            sys.exit(f"{' '.join(command)}: exit {code}")
        return np.load(out)

    prompts = open(os.path.join(fixture, "ids")).read().split()
    alone, together = np.concatenate([logits(ids) for ids in prompts]), logits(*prompts)
    if alone.tobytes() != together.tobytes():
        sys.exit("FAILED: a batch of both sequences gives other bits than each alone")
    return alone


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    fixture = sys.argv[1].rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        result = distance(run(fixture, folder, sys.argv[2:]), np.load(os.path.join(fixture, "logits.npy")))
    show(os.path.basename(fixture), result)
    sys.exit(check(result, max=1e-4))


if __name__ == "__main__":
    main()
