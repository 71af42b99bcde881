#!/usr/bin/env python3
"""Generated C and the run time under sanitizers: one file, built by clang with address+undefined and with thread, two threads, a batch, some generated
tokens: no report, and the same bits as the JIT.   sanitized.py tests/oracle/models/NAME [compile options]"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON, CLANG = os.environ["TENON"], "clang-19"
TARGET, MARCH = "x86-64-v3", "x86-64-v3"


def run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if result.returncode:
        sys.exit(f"FAILED: {' '.join(command)[:300]}: exit {result.returncode}\n{result.stdout[-4000:]}")


def main():
    flags = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
    if not shutil.which(CLANG) or " avx2" not in flags:
        print(f"SKIPPED: needs {CLANG} and a machine with AVX2")
        sys.exit(77)
    fixture, options = sys.argv[1], sys.argv[2:]
    prompts = open(os.path.join(fixture, "ids")).read().split()
    with tempfile.TemporaryDirectory() as folder:
        model = model_source(fixture, folder)
        asked = [word for ids in prompts for word in ("--tokens", ids)]
        weights, source, want = (os.path.join(folder, name) for name in ("c.weights", "c.c", "want.npy"))
        run(TENON, "run", model, "--target", TARGET, *options, *asked, "-n", "0", "--logits", want)
        run(TENON, "compile", model, "--target", TARGET, *options, "-o", source)
        for sanitizer in ("address,undefined", "thread"):
            program, got = os.path.join(folder, "program"), os.path.join(folder, "got.npy")
            run(CLANG, "-g", "-O1", f"-march={MARCH}", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", source, "-o", program, "-lutf8proc", "-lm")
            run(program, "--threads", "2", "--weights", weights, *asked, "-n", "0", "--logits", got)
            if open(got, "rb").read() != open(want, "rb").read():
                sys.exit(f"FAILED: {sanitizer}: other bits than the JIT's")
            print(f"{sanitizer}: clean, the same bits")


if __name__ == "__main__":
    main()
