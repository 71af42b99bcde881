#!/usr/bin/env python3
"""One program for several targets.   fat.py tests/oracle/models/NAME [OPTION of tenon compile …]

What a program for several targets computes on each is what a program for that target alone computes, bit for bit, over the same weights (the same
hash). Under qemu-user, with processors that have less, it takes the best that is left. The same for AArch64. Without options also: shared objects and
objects, and where nothing is left, it says what is missing and exits 3, and so does a program for one target: never an illegal instruction.
"""
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON, BUILD = os.environ["TENON"], os.environ["BUILD_DIR"]
X86, ARM = ["generic", "x86-64-v3", "x86-64-v3+vnni", "x86-64-v4", "x86-64-v4+vnni", "x86-64-v4+bf16", "amx"], \
    ["armv8-a", "armv8.2-a+dotprod", "armv8.6-a+i8mm"]
HOST = "#include \"model.h\"\nint main(int argc, char **argv) { return tenon_program_main(&tn_model, argc, argv); }\n"
failed = []


def run(command, expect=0, target=None):
    environment = {k: v for k, v in os.environ.items() if k != "TENON_TARGET"}
    if target:
        environment["TENON_TARGET"] = target
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                            env=environment)
    if result.returncode != expect:
        sys.exit(f"{' '.join(command)[:300]} (TENON_TARGET {target}): exit {result.returncode}, not {expect}\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout if expect == 0 else result.stderr


def check(what, good):
    print(("ok      " if good else "FAILED  ") + what)
    if not good:
        failed.append(what)


class Model:
    def __init__(self, fixture, folder, options):
        self.folder, self.options = folder, options
        self.source = model_source(fixture, folder)
        self.ids = open(os.path.join(fixture, "ids")).read().split()[1]

    def compile(self, name, targets):
        out = os.path.join(self.folder, name)
        run([TENON, "compile", self.source, "-o", out, "--target", targets, *self.options])
        return out

    def logits(self, command, target=None):
        out = os.path.join(self.folder, "out.npy")
        if os.path.exists(out):
            os.remove(out)
        run([*command, "--tokens", self.ids, "-n", "0", "--logits", out], target=target)
        return np.load(out)


def info(command, target=None):
    return json.loads(run([*command, "--info", "--json"], target=target))


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def runs_here():
    return [t["name"] for t in json.loads(run([TENON, "targets", "--json"]))["targets"] if t["runs_here"]]


def x86(model):
    here = [t for t in X86 if t in runs_here()]
    fat = model.compile("fat", ",".join(X86))
    described = info([fat])
    check(f"{here[-1]} is taken, the best of {described['targets']}", described["target"] == here[-1] and
          described["targets"] == ",".join(reversed(X86)))
    want, programs = {}, {}
    for target in here:
        alone = programs[target] = model.compile("alone-" + target, target)
        want[target] = model.logits([alone])
        check(f"{target}: the same bits as alone", same(model.logits([fat], target), want[target]))
        check(f"{target}: the same weights as alone", info([alone])["blob"] == described["blob"])
    check("the best by itself", same(model.logits([fat]), want[here[-1]]))
    for target in X86:
        if target not in here:
            check(f"{target} is not here: exit 3", "lacks" in run([fat, "--tokens", "1", "-n", "1"], 3, target))
    check("a target that it has not: exit 2", "was compiled for" in run([fat, "--tokens", "1", "-n", "1"], 2, "armv8-a"))
    check("help", "TENON_TARGET" in run([fat, "--help"]))
    if not model.options:   # of these the model's formats are no part
        forms(model, here, want)
    emulated(model, fat, want, programs)


def forms(model, here, want):
    pair = f"generic,{here[-1]}"
    model.compile("model.so", pair)
    host = os.path.join(model.folder, "host")
    open(host + ".c", "w").write(HOST)
    run(["gcc", "-I", model.folder, host + ".c", "-o", host, os.path.join(model.folder, "model.so"), f"-Wl,-rpath,{model.folder}"])
    symbols = run(["nm", "-D", "--defined-only", os.path.join(model.folder, "model.so")])
    check("shared object: only public names", all(s.split()[2].startswith(("tn_", "tenon_program_main")) for s in symbols.splitlines()))
    objects = model.compile("fat.o", pair)
    linked, archive = os.path.join(model.folder, "linked"), os.path.join(BUILD, "runtime", "libtenon_program.a")
    programs = {"shared object": [host]}
    if os.path.exists(archive):
        run(["gcc", "-static", objects, archive, "-o", linked, "-lutf8proc", "-lgomp", "-lm"])
        programs["object"] = [linked, "--weights", os.path.join(model.folder, "fat.weights")]
    for name, program in programs.items():
        check(f"{name}: the best", same(model.logits(program), want[here[-1]]))
        check(f"{name}: forced", same(model.logits(program, "generic"), want["generic"]))


def emulated(model, fat, want, programs):
    qemu = shutil.which("qemu-x86_64")
    if not qemu:
        print("SKIPPED: qemu-x86_64 is missing (apt install qemu-user): processors that have less")
        return
    for cpu, target in (("Nehalem", "generic"), ("Haswell", "x86-64-v3"), ("max", "x86-64-v3")):
        command = [qemu, "-cpu", cpu, fat]
        check(f"{cpu}: {target} is taken", info(command)["target"] == target)
        if target in want:
            check(f"{cpu}: the same bits", same(model.logits(command), want[target]))
    if model.options:
        return
    several = model.compile("several", "x86-64-v3,x86-64-v4+vnni,amx")
    said = run([qemu, "-cpu", "Nehalem", several, "--tokens", "1", "-n", "1"], 3)
    check("Nehalem: none of three: exit 3, all are named", all(w in said for w in ("amx lacks", "x86-64-v4+vnni lacks", "x86-64-v3 lacks", "avx2")))
    for target in ("x86-64-v3", "x86-64-v4+bf16"):
        alone = programs.get(target) or model.compile("alone-" + target, target)
        said = run([qemu, "-cpu", "Nehalem", alone, "--tokens", "1", "-n", "1"], 3)
        check(f"Nehalem: a program for {target}: exit 3", f"compiled for {target}" in said and "lacks" in said and " avx2" in said)
    check("Nehalem: --info says so", info([qemu, "-cpu", "Nehalem", several])["runs_here"] is False)


def aarch64(model):
    cc, qemu = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
    runtime = os.path.join(BUILD, "runtime", "runtime_amalgam.c")
    if not cc or not qemu or not os.path.exists(runtime):
        print("SKIPPED: aarch64-linux-gnu-gcc or qemu-aarch64 is missing (apt install gcc-aarch64-linux-gnu qemu-user): AArch64")
        return
    tokenizer = os.path.join(model.folder, "tokenizer.json")
    if os.path.exists(tokenizer):
        os.remove(tokenizer)   # ids only: linked without a Unicode library

    run_time = os.path.join(model.folder, "runtime.o")
    run([cc, "-O1", "-w", "-fopenmp", "-idirafter", "/usr/include", "-c", runtime, "-o", run_time])

    def program(name, targets):
        model.compile(name + ".o", targets)
        out = os.path.join(model.folder, name)
        run([cc, "-O1", "-w", "-static", "-fopenmp", "-idirafter", "/usr/include", out + ".o", run_time, os.path.join(HERE, "utf8proc_none.c"), "-o", out, "-lm"])
        return [out, "--weights", out + ".weights"]

    fat = program("arm", ",".join(ARM))
    for cpu, target in (("cortex-a72", ARM[0]), ("neoverse-n1", ARM[1]), ("max,sve=off", ARM[2])):
        command = [qemu, "-cpu", cpu, *fat]
        check(f"{cpu}: {target} is taken", info(command)["target"] == target)
        alone = [qemu, "-cpu", cpu, *program("one", target)]
        check(f"{cpu}: the same bits as {target} alone", same(model.logits(command), model.logits(alone)))
    said = run([qemu, "-cpu", "cortex-a72", *alone[3:], "--tokens", "1", "-n", "1"], 3)
    check(f"cortex-a72: a program for {ARM[2]}: exit 3", "i8mm" in said)


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = Model(sys.argv[1], folder, sys.argv[2:])
        if platform.machine() == "x86_64":
            x86(model)
        else:
            print("SKIPPED: this machine is no x86-64")
        aarch64(model)
    sys.exit(f"FAILED: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
