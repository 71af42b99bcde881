#!/usr/bin/env python3
"""AArch64 in emulation: amalgamated C for each of its targets, built by the cross compiler and run by qemu-aarch64, gives the generic target's bits:
floats, at -O0 (the whole file for the first target, the model's part for the others) and -O2 (the first target: for floats the targets' code is the
same), which are within 1e-4 of the reference interpreter too; with options that quantize activations, each target's own code at -O1 ($LEVEL is
another: gcc needs half a minute a target for its -O2).

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
NO_UNICODE = os.path.join(HERE, "utf8proc_none.c")
CC, QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64"
MARCH = {"armv8-a": "armv8-a", "armv8.2-a+dotprod": "armv8.2-a+dotprod",
         "armv8.6-a+i8mm": "armv8.2-a+dotprod+i8mm+bf16"}


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if result.returncode:
        sys.exit(f"{' '.join(command)[:300]}: exit {result.returncode}\n{result.stdout[-3000:]}")


def logits(folder, program, asked, out):
    run(QEMU, program, *asked, "--weights", os.path.join(folder, "model.weights"))
    return np.load(out)


class Build:
    def __init__(self, folder):
        self.folder, self.program = folder, os.path.join(folder, "program")
        self.source, self.part, self.runtime = (os.path.join(folder, name) for name in ("model.c", "part.c", "runtime.o"))

    def whole(self, level, march):
        run(CC, level, f"-march={march}", "-fopenmp", "-static", "-idirafter", "/usr/include", self.source, NO_UNICODE, "-o", self.program, "-lm")
        return self.program

    def model(self, level, march):
        """The model's part alone; the run time's, the same file for every model and target, is built once."""
        amalgam = os.path.join(os.environ["BUILD_DIR"], "runtime", "runtime_amalgam.c")
        if not os.path.exists(self.runtime):
            run(CC, "-O1", "-fopenmp", "-idirafter", "/usr/include", "-c", amalgam, "-o", self.runtime)
        text, end = open(self.source).read(), open(amalgam).read()
        if not text.endswith(end):
            sys.exit(f"FAILED: {self.source} does not end with the run time")
        open(self.part, "w").write(text[:-len(end)])
        run(CC, level, f"-march={march}", "-fopenmp", "-static", "-idirafter", "/usr/include", self.part, self.runtime, NO_UNICODE, "-o", self.program, "-lm")
        return self.program


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
        if not options:
            run(TENON, "run", model, "--reference", *asked)
            reference = np.load(out)
        run(TENON, "run", model, "--target", "generic", "--no-cache", *options, *asked)
        want, build = np.load(out), Build(folder)
        for target, march in MARCH.items():
            run(TENON, "compile", model, "--target", target, *options, "-o", build.source)
            first = march == next(iter(MARCH.values()))
            ways = [(build.model, os.environ.get("LEVEL", "-O1"))] if options else [(build.whole, "-O0"), (build.model, "-O2")] if first else [(build.model, "-O0")]
            for way, level in ways:
                got = logits(folder, way(level, march), asked, out)
                same = got.tobytes() == want.tobytes()
                print(f"{target} {level} {' '.join(options)}: {'the bits' if same else 'FAILED: not the bits'} of the generic target")
                bad |= not same
        if not options:
            result = distance(want, reference)
            show("the generic target", result)
            bad |= check(result, max=1e-4)
    sys.exit(bad)


if __name__ == "__main__":
    main()
