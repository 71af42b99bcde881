#!/usr/bin/env python3
"""Pruned models of many families: compiled code against the reference interpreter. Needs NumPy and the tenon command ($TENON).

    prune.py tests/oracle/models NAME=neurons,heads,experts …

Half of each structure that is named goes, and together with 40 % of the values; those that a family does not have are refused. What is left
must agree with the interpreter, and differ from the whole model.
"""
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON = os.environ["TENON"]
STRUCTURES = ("neurons", "heads", "experts")
failed = []


def expect(good, text):
    if not good:
        print("FAILED  " + text)
        failed.append(text)


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return result.returncode, result.stdout


def logits(folder, source, ids, *options):
    out = os.path.join(folder, "out.npy")
    code, text = run(TENON, "run", source, "--tokens", ids, "-n", "0", "--logits", out, "--no-cache", *options)
    return (np.load(out).astype(np.float64) if code == 0 else None), text


def check(fixture, has):
    name = os.path.basename(fixture)
    ids = open(os.path.join(fixture, "ids")).readline().strip()
    ids = ",".join(re.findall(r"\d+", ids))
    with tempfile.TemporaryDirectory() as folder:
        source = model_source(fixture, folder)
        whole, text = logits(folder, source, ids)
        expect(whole is not None, f"{name}: {text}")
        for prune in [s for s in STRUCTURES if s not in has]:
            code, text = run(TENON, "run", source, "--tokens", ids, "-n", "0", "--no-cache", "--prune", prune)
            expect(code == 1 and f"--prune {prune}" in text, f"{name}: --prune {prune} exits with {code}: {text}")
        for prune in [f"{s}=0.5" for s in has] + [",".join([f"{s}=0.5" for s in has] + ["40%"])]:
            got, text = logits(folder, source, ids, "--prune", prune)
            want, text2 = logits(folder, source, ids, "--prune", prune, "--reference")
            if got is None or want is None:
                expect(False, f"{name}: --prune {prune}: {text}{text2}")
                continue
            off, scale = np.abs(got - want).max(), np.abs(want).max()
            expect(off <= 1e-4 * scale, f"{name}: --prune {prune}: off by {off:.3g} of {scale:.3g}")
            expect(got.shape == whole.shape and np.abs(got - whole).max() > 1e-3 * scale, f"{name}: --prune {prune} changes nothing")
            print(f"{name:20} --prune {prune:44} off by {off:.2e} of {scale:.2e}")


def main():
    for item in sys.argv[2:]:
        name, _, has = item.partition("=")
        check(os.path.join(sys.argv[1], name), [s for s in has.split(",") if s])
    sys.exit(bool(failed))


main()
