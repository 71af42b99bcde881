#!/usr/bin/env python3
"""AArch64 in emulation: amalgamated C for each of its targets, built by the cross compiler and run by qemu-aarch64. Floats: the same bits at -O0 and
-O2, and within 1e-4 of the reference interpreter. With options that quantize activations: the generic target's bits.

    aarch64.py tests/oracle/models/NAME [OPTION of tenon compile …]
"""
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from compare import check, distance, show   # noqa: E402
from run_model import model_source   # noqa: E402

TENON = os.environ["TENON"]
CC, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64"
MARCH = {"armv8-a": "armv8-a", "armv8.2-a+dotprod": "armv8.2-a+dotprod",
         "armv8.6-a+i8mm": "armv8.2-a+dotprod+i8mm+bf16"}


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if result.returncode:
        sys.exit(f"{' '.join(command)[:300]}: exit {result.returncode}\n{result.stdout[-3000:]}")


def build_and_run(folder, model, target, march, asked, out, quant, levels):
    source, got = os.path.join(folder, "model.c"), []
    run(TENON, "compile", model, "--target", target, *quant, "-o", source)
    for level in levels:
        program = os.path.join(folder, "program" + level)
        run(CC, level, f"-march={march}", "-fopenmp", "-static", "-idirafter", "/usr/include", source, os.path.join(HERE, "utf8proc_none.c"), "-o", program, "-lm")
        run(QEMU, program, *asked, "--weights", os.path.join(folder, "model.weights"))
        got.append(np.load(out))
    return got


def main():
    if not shutil.which(CC) or not shutil.which(QEMU):
        print(f"SKIPPED: {CC} or {QEMU} is missing (apt install gcc-aarch64-linux-gnu qemu-user)")
        sys.exit(77)
    fixture, options = sys.argv[1], sys.argv[2:]
    ids = open(os.path.join(fixture, "ids")).read().split()[1]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.npy")
        asked = ["--tokens", ids, "-n", "0", "--logits", out]
        model = model_source(fixture, folder)
        os.remove(os.path.join(folder, "tokenizer.json"))   # ids only: the program is linked without a Unicode library
        if options:   # integer sums: the generic target's bits
            run(TENON, "run", model, "--target", "generic", "--no-cache", *options, *asked)
        else:
            run(TENON, "run", model, "--reference", *asked)
        want = np.load(out)
        for target, march in MARCH.items():
            got = build_and_run(folder, model, target, march, asked, out, options, ("-O2",) if options else ("-O0", "-O2"))
            if options:
                same = got[0].tobytes() == want.tobytes()
                print(f"{target} {' '.join(options)}: {'the bits' if same else 'FAILED: not the bits'} of the generic target")
                bad |= not same
                continue
            result = distance(got[1], want)
            show(target, result)
            bad |= check(result, max=1e-4)
            if got[0].tobytes() != got[1].tobytes():
                print(f"FAILED: {target}: -O0 and -O2 give different bits")
                bad = 1
    sys.exit(bad)


if __name__ == "__main__":
    main()
