#!/usr/bin/env python3
"""Promise 1: the same bits, however a model is built and run. Needs NumPy, the tenon command ($TENON), gcc and clang.

    same_bits.py tests/oracle/models/NAME [TARGET [QUANT [KV [PRUNE]]]]      (native: this machine's best)

One target's logits from the JIT are the measure. Compared with them, bit for bit: two threads, prompts cut into steps (token by token too), each
prompt alone and in a batch of five of different lengths, the static executable (and that it is static), the shared object under a host program, and
amalgamated C built by gcc -O0, and its model's part by gcc -O2, -O3 and clang -O2 (the run time's part is the same file for every model, which
runtime_amalgam builds in each of these ways and driver_forms with a model). And what follows from the files: a stripped program says so, as does a cut one.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON, BUILD = os.environ["TENON"], os.environ["BUILD_DIR"]
HOST = "#include \"model.h\"\nint main(int argc, char **argv) { return tenon_program_main(&tn_model, argc, argv); }\n"
failed = []


class Failed(Exception):
    pass


def run(command, expect=0):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if result.returncode != expect:
        raise Failed(f"{' '.join(command)[:300]}: exit {result.returncode}, not {expect}\n{result.stdout[-3000:]}")
    return result.stdout


def section(name, function, *arguments):
    """A failure ends its section, not the test: the others still tell something."""
    try:
        function(*arguments)
    except Failed as failure:
        print(failure)
        failed.append(name)


class Bits:
    def __init__(self, folder, prompts):
        self.folder, self.prompts, self.want = folder, prompts, None

    def logits(self, program, options=(), prompts=None):
        out = os.path.join(self.folder, "out.npy")
        if os.path.exists(out):
            os.remove(out)
        tokens = [word for prompt in prompts or self.prompts for word in ("--tokens", prompt)]
        run([*program, *tokens, "-n", "0", "--logits", out, *options])
        return np.load(out)

    def same(self, what, got):
        if self.want is None:
            self.want = got
        good = got.shape == self.want.shape and got.tobytes() == self.want.tobytes()
        if not good:
            failed.append(what)
        print(("same bits  " if good else "DIFFERENT  ") + what)

    def variations(self, name, program):
        self.same(f"{name}, 1 thread", self.logits(program, ["--threads", "1"]))
        self.same(f"{name}, 2 threads", self.logits(program, ["--threads", "2"]))


def build_part(folder, compiler, level, source):
    """The model's part of the file alone, by the options that its head names, linked with the run time as an archive."""
    text, runtime = open(source).read(), open(os.path.join(BUILD, "runtime", "runtime_amalgam.c")).read()
    if not text.endswith(runtime):
        raise Failed(f"{source} does not end with the run time")
    part, out = os.path.join(folder, "part"), os.path.join(folder, f"part-{compiler}{level}")
    open(part + ".c", "w").write(text[:-len(runtime)])
    run([compiler, level, *re.findall(r" (-m\S+)", re.search(r"^//\s+cc -O2 .*$", text, re.M).group(0)), "-c", part + ".c", "-o", part + ".o"])
    run(["gcc", "-static", part + ".o", os.path.join(BUILD, "runtime", "libtenon_program.a"), "-o", out, "-lutf8proc", "-lgomp", "-lm"])
    return out


def build_whole(folder, compiler, level, source):
    """By the command that the file's head names, with another compiler and -O."""
    command = re.search(r"^//\s+cc -O2 (.*)$", open(source).read(), re.M).group(1).split()
    out = os.path.join(folder, f"{compiler}{level}")
    words = [source if w == "model.c" else out if w == "model" else w for w in command]
    run([compiler, level, *words])
    return out


def executable(bits, compile_model, folder):
    exe = os.path.join(folder, "model")
    compile_model(exe)
    bits.variations("executable", [exe])
    kind = subprocess.run(["ldd", exe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    if "not a dynamic executable" not in kind:
        failed.append("static")
        print("NOT STATIC:", kind)
    data = open(exe, "rb").read()
    for name, content, expected in (("stripped", None, "weights"), ("cut short", data[:len(data) - 5000], "")):
        bad = os.path.join(folder, "bad")
        shutil.copy(exe, bad)
        if content is None:
            run(["strip", bad])
        else:
            open(bad, "wb").write(content)
        message = run([bad, "--tokens", "1", "-n", "1"], expect=1)
        if "error:" not in message or expected not in message:
            failed.append(name)
        print(f"{name}: {message.strip().splitlines()[-1]}")


def shared_object(bits, compile_model, folder):
    library = os.path.join(folder, "model.so")
    compile_model(library)
    host = os.path.join(folder, "host")
    open(host + ".c", "w").write(HOST)
    flags = run(["env", f"PKG_CONFIG_PATH={folder}", "pkg-config", "--cflags", "--libs", "model"]).split()
    run(["gcc", "-Wall", "-Werror", host + ".c", "-o", host, *flags])
    bits.variations("shared object", [host])


def amalgamated(bits, compile_model, folder):
    source = os.path.join(folder, "model.c")
    compile_model(source)
    weights = os.path.join(folder, "model.weights")
    for compiler, level, build in (("gcc", "-O0", build_whole), ("gcc", "-O2", build_part), ("gcc", "-O3", build_part), ("clang-19", "-O2", build_part)):
        program = build(folder, compiler, level, source)
        bits.same(f"C by {compiler} {level}", bits.logits([program], ["--weights", weights]))


def main():
    fixture = sys.argv[1]
    options = [word for pair in zip(("--target", "--quant", "--kv", "--prune"), sys.argv[2:]) for word in pair]
    long = open(os.path.join(fixture, "ids")).read().split()[1].split(",")
    prompts = [",".join(long[:n]) for n in (1, 5, 29, 2, 13)]
    with tempfile.TemporaryDirectory() as folder:
        model = model_source(fixture, folder)
        bits = Bits(folder, prompts)
        jit = [TENON, "run", model, *options]
        causal = "BertModel" not in open(os.path.join(fixture, "config.json")).read() if os.path.exists(os.path.join(fixture, "config.json")) else True
        bits.variations("JIT, a batch of five", jit)
        bits.same("JIT, each alone", np.concatenate([bits.logits(jit, prompts=[p]) for p in prompts]))
        if causal:
            for chunk in ("1", "3", "7"):
                bits.same(f"JIT, steps of {chunk}", bits.logits(jit, ["--chunk", chunk]))
            bits.same("JIT, one prompt token by token", np.concatenate([bits.logits(jit, ["--chunk", "1"], [p]) for p in prompts]))
        os.mkdir(folder + "/so")
        os.mkdir(folder + "/c")
        compile_to = lambda out: run([TENON, "compile", model, *options, "-o", out])   # noqa: E731
        section("executable", executable, bits, compile_to, folder)
        section("shared object", shared_object, bits, compile_to, folder + "/so")
        section("amalgamated C", amalgamated, bits, compile_to, folder + "/c")
    sys.exit(f"FAILED: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
