#!/usr/bin/env python3
"""What happens when files fail under a running program. Needs NumPy, the tenon command ($TENON); what needs /dev/fuse or cc says so when it is skipped.

    faults.py tests/oracle/models/NAME

A program has answered one message of a chat when its weight file is cut short, overwritten, or its disk fails: it must end with exit code 1 and a message
that names file and offset, and what it has printed until then must be what it prints without the fault. A file that is renamed, replaced, removed, touched
or made unreadable is still open, and nothing changes. A source that fails while it is read leaves no output behind.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from fuse import FailingDisk

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON, HERE = os.environ["TENON"], os.path.dirname(os.path.abspath(__file__))
CHAT = ["--chat", "-n", "16", "--ignore-end", "--threads", "2"]
failed = []


def check(what, good, *said):
    if not good:
        failed.append(what)
        print(f"{what}:", *said)


def run(command, expect=0, **more):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, **more)
    check(" ".join(command)[-150:], result.returncode == expect, f"exit {result.returncode}, not {expect}:", result.stderr.decode(errors="replace")[-2000:])
    return result


class Talks:
    """What one and two messages are answered without a fault, by each way of running the model: they must agree."""

    def __init__(self, program):
        self.one, self.two = (subprocess.run([*program, *CHAT], input=b"hi\n" * n, stdout=subprocess.PIPE, check=True).stdout for n in (1, 2))
        assert self.two.startswith(self.one) and len(self.two) > len(self.one) > 1, (self.one, self.two)

    def talk(self, what, program, between, env=None):
        """One answer, the fault, the other message: exit code, standard output, standard error."""
        child = subprocess.Popen([*program, *CHAT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        child.stdin.write(b"hi\n")
        child.stdin.flush()
        first = child.stdout.read(len(self.one))
        check(what, first == self.one, "the first answer is another:", first, self.one)
        between()
        try:
            child.stdin.write(b"hi\n")
            rest, err = child.communicate(timeout=120)
        except (BrokenPipeError, subprocess.TimeoutExpired) as failure:
            child.kill()
            rest, err = child.communicate()
            check(what, False, repr(failure))
        return child.returncode, first + rest, err.decode(errors="replace")

    def fails(self, what, program, between, message, env=None):
        code, out, err = self.talk(what, program, between, env)
        check(what, code == 1, f"exit {code}, not 1:", err)
        check(what, re.fullmatch("(warning: .*\n)*error: " + message + "\n", err), "it said", repr(err), "not", message)
        check(what, self.two.startswith(out.rstrip(b"\n")), "it printed", out, "where right is", self.two)

    def stands(self, what, program, between):
        code, out, err = self.talk(what, program, between)
        check(what, (code, out) == (0, self.two), f"exit {code}", out, self.two, err)


def blob_of(program):
    """Where in the file the blob begins."""
    data = open(program, "rb").read()
    trailer = data.rfind(b"TENONEND")
    return int.from_bytes(data[trailer + 16:trailer + 24], "little"), data


def weights_of(program):
    """Where in the file the weights begin, and how many bytes they are."""
    blob, data = blob_of(program)
    for section in range(blob + 32, blob + 32 + 8 * 32, 32):
        if int.from_bytes(data[section:section + 4], "little") == 1:
            return blob + int.from_bytes(data[section + 8:section + 16], "little"), int.from_bytes(data[section + 16:section + 24], "little")
    raise AssertionError("no weights")


def overwrite(path, at, value=b"\x55" * 4096):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(value)


# ---- files that change ----------------------------------------------------------------------------------------------------

def changes(talks, folder, program):
    start, length = weights_of(program)
    weights = os.path.join(folder, "weights")

    def command():
        shutil.copy(program, weights)
        return [program, "--weights", weights]

    name = re.escape(weights)
    talks.fails("cut short", command(), lambda: os.truncate(weights, start + length // 2),
                name + r": cannot be read at offset \d+: the file was cut short while it was in use")
    talks.fails("cut short by a byte", command(), lambda: os.truncate(weights, os.path.getsize(weights) - 1),
                name + r": cannot be read at offset \d+: the file was cut short while it was in use")
    talks.fails("overwritten in place", command(), lambda: overwrite(weights, start + length // 2 // 4096 * 4096),
                name + r": the blob's weight section is damaged .*, while it was in use: something else was written into it")

    def replaced():
        shutil.copy(program, weights + ".new")
        overwrite(weights + ".new", start)
        os.rename(weights + ".new", weights)

    talks.stands("replaced", command(), replaced)
    talks.stands("removed", command(), lambda: os.remove(weights))
    talks.stands("renamed", command(), lambda: os.rename(weights, weights + ".old"))
    talks.stands("touched", command(), lambda: os.utime(weights))
    talks.stands("made unreadable", command(), lambda: os.chmod(weights, 0))
    same = open(program, "rb").read()[start:start + 4096]
    talks.stands("written with what it holds", command(), lambda: overwrite(weights, start, same))


def cache(talks, folder, model):
    """`tenon run` from its cache: another run that uses the cached weights does not disturb it; a cut does."""
    env = dict(os.environ, XDG_CACHE_HOME=os.path.join(folder, "cache"))
    program = [TENON, "run", model]
    run([*program, "--tokens", "1,2", "-n", "1"], env=env)
    cached = [os.path.join(folder, "cache", "tenon", n) for n in os.listdir(os.path.join(folder, "cache", "tenon")) if n.endswith(".weights")]
    check("cache", len(cached) == 1, cached)
    code, out, err = talks.talk("another run", program, lambda: run([*program, "--tokens", "1,2", "-n", "1"], env=env), env)
    check("another run", (code, out) == (0, talks.two), code, out, err)
    talks.fails("tenon run, its cache cut short", program, lambda: os.truncate(cached[0], os.path.getsize(cached[0]) // 2),
                re.escape(cached[0]) + r": cannot be read at offset \d+: the file was cut short while it was in use", env)


# ---- experts beyond memory ------------------------------------------------------------------------------------------------

def least_memory(program):
    """The smallest --memory under which it runs, nearly."""
    info = json.loads(run([program, "--info", "--json"]).stdout)
    most = info["peak_bytes"]
    for less in range(info["weights_bytes"], 0, -16384):
        if subprocess.run([program, "--memory", str(most - less), "--tokens", "1", "-n", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return str(most - less)
    return None


def paging(talks, folder, program, model):
    start, length = weights_of(program)
    weights, memory = os.path.join(folder, "paged"), least_memory(program)
    if not memory:
        return print("SKIPPED paging: the model has no experts")
    name = re.escape(weights)

    def command():
        shutil.copy(program, weights)
        return [program, "--weights", weights, "--memory", memory]

    talks.stands("paged: touched", command(), lambda: os.utime(weights))
    talks.stands("paged: removed", command(), lambda: os.remove(weights))
    talks.fails("paged: cut short", command(), lambda: os.truncate(weights, start), name + r": .*(cut short|changed).* while it was in use")
    talks.fails("paged: overwritten", command(), lambda: overwrite(weights, start, os.urandom(length)), name + ": .*while it was in use.*")
    shim = os.path.join(folder, "bad_reads.so")
    binary = open(TENON, "rb").read()
    if not shutil.which("cc") or b"__asan_init" in binary or b"__tsan_init" in binary:
        return print("SKIPPED bad reads: there is no cc, or tenon has a sanitizer, which must be loaded first")
    run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, os.path.join(HERE, "bad_reads.c"), "-ldl"])
    jit = [TENON, "run", model, *CHAT, "--memory", memory]
    env = dict(os.environ, XDG_CACHE_HOME=os.path.join(folder, "cache"))
    run([*jit[:-2], "-p", "hi"], env=env)
    for after in 0, 65536, 2 * length:
        said = subprocess.run(jit, input=b"hi\n" * 2, env=dict(env, LD_PRELOAD=shim, BAD_AFTER=str(after)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        error = re.fullmatch(r"error: .*\.weights: cannot be read at offset \d+: Input/output error\n", said.stderr.decode())
        right = said.returncode == 1 and error and talks.two.startswith(said.stdout.rstrip(b"\n")) if after else (said.returncode, said.stdout) == (0, talks.two)
        check(f"paged: bad reads after {after} bytes", right, said, talks.two)


# ---- a disk that fails ----------------------------------------------------------------------------------------------------

def disk(talks, folder, program, model):
    start, length = weights_of(program)
    place = os.path.join(folder, "disk")
    os.mkdir(place)
    try:
        FailingDisk(place, "probe", program).__enter__().__exit__()
    except OSError as none:
        print(f"SKIPPED a failing disk: {none}")
        return
    broken = r": cannot be read at offset (\d+): its disk failed"
    for where, at in (("first", start), ("second", start + length // 2)):
        with FailingDisk(place, "program", program) as on:
            talks.fails(f"a program whose disk fails in the {where} half", [on.path], lambda: on.break_at(at, start + length), re.escape(on.path) + broken)
        with FailingDisk(place, "weights", program) as on:
            talks.fails(f"--weights on a disk that fails in the {where} half", [program, "--weights", on.path], lambda: on.break_at(at),
                        re.escape(on.path) + broken)
    memory = least_memory(program)
    if memory:
        with FailingDisk(place, "weights", program) as on:
            talks.fails("experts on a disk that fails", [program, "--weights", on.path, "--memory", memory], lambda: on.break_at(start),
                        re.escape(on.path) + r": cannot be read at offset \d+: (Input/output error|its disk failed)")
    for what, at in (("trailer", os.path.getsize(program) - 40), ("header", blob_of(program)[0])):
        with FailingDisk(place, "weights", program) as on:
            on.break_at(at)
            said = run([program, "--weights", on.path, "--tokens", "1"], 1)
            check(f"a {what} that cannot be read", b"cannot be read at offset" in said.stderr and not said.stdout, said)
    sources(folder, place, model)


def sources(folder, place, model):
    """What compile, run and import read fails half-way."""
    source = os.path.join(os.path.dirname(model), "model.safetensors")
    text = open(model).read()
    out = os.path.join(folder, "out")
    os.mkdir(out)
    with FailingDisk(place, "model.safetensors", source) as on:
        copy = os.path.join(folder, "broken.yaml")
        open(copy, "w").write(re.sub("(?m)^weights: .*$", "weights: " + on.path, re.sub("(?m)^tokenizer: .*$", "", text)))
        on.break_at(os.path.getsize(source) // 2)
        for arguments in (["compile", copy, "-o", os.path.join(out, "exe")], ["compile", copy, "-o", os.path.join(out, "lib.so")],
                          ["compile", copy, "-o", os.path.join(out, "int8"), "--quant", "w8a8"], ["run", copy, "--no-cache", "--tokens", "1", "-n", "1"],
                          ["run", copy, "--tokens", "1", "-n", "1"]):
            said = run([TENON, *arguments], 1, env=dict(os.environ, XDG_CACHE_HOME=os.path.join(out, "cache")))
            check(f"{arguments[0]}: a source that fails", re.search(re.escape(on.path) + r": cannot be read at offset \d+: its disk failed", said.stderr.decode()),
                  said.stderr)
        on.break_at(0)
        for command in (["check", copy], ["import", place, "-o", os.path.join(out, "model.yaml")]):
            said = run([TENON, *command], 1)
            check(f"{command[0]}: a source that fails at once", b"error" in said.stderr, said.stderr)
    left = [os.path.join(at, name) for at, _, names in os.walk(out) for name in names if not re.match(r"c-\w+\.so$", name)]
    check("what failed left files", not left, left)


def main():
    with tempfile.TemporaryDirectory() as folder:
        source = model_source(sys.argv[1].rstrip("/"), folder)
        model, program = os.path.join(folder, "model.yaml"), os.path.join(folder, "program")
        run([TENON, "import", source, "-o", model])
        text = re.sub("(?m)^context: .*$", "context: 512", open(model).read())
        open(model, "w").write(text + 'chat: {user: "{text}", assistant: "{text}", generation: ""}\n')
        run([TENON, "compile", model, "-o", program])
        talks = Talks([program])
        changes(talks, folder, program)
        cache(talks, folder, model)
        paging(talks, folder, program, model)
        disk(talks, folder, program, model)
    print(f"{len(failed)} failures" if failed else "ok")
    sys.exit(bool(failed))


main()
