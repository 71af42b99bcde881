#!/usr/bin/env python3
"""A whole compiled program (fake_program: the model of fake.h, linked as the compiler links one) on its command line: streams, exit codes, files,
a chat on a pseudo-terminal, a blob that is gone, cut, or shrinks while it is in use."""
import json, os, pty, select, shutil, signal, subprocess, sys, tempfile, time

PROGRAM, SEQUENCES, TOKENS = sys.argv[1:4]
TMP = tempfile.mkdtemp()
BLOB_PAGE = 4096
failures = []


def run(*args, program=PROGRAM, stdin="", env=None, cwd=None):
    return subprocess.run([program, *args], input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          env=dict(os.environ, **(env or {})), cwd=cwd)


def check(what, got, expected):
    if got != expected:
        failures.append(what)
        print(f"{what}:\n  got      {got!r}\n  expected {expected!r}")


def text(*args, **kw):
    result = run(*args, **kw)
    check(f"{args}: exit code ({result.stderr!r})", result.returncode, 0)
    return result.stdout.decode()


def error(code, message, *args, **kw):
    result = run(*args, **kw)
    check(f"{args}: exit code", result.returncode, code)
    check(f"{args}: standard output", result.stdout, b"")
    if message not in result.stderr.decode() or not result.stderr.startswith(b"error: "):
        failures.append(f"{args}")
        print(f"{args}:\n  got      {result.stderr.decode()!r}\n  expected …{message!r}…")


def npy(path):
    """Rows as bytes; by NumPy, and by hand where it is missing."""
    data = open(path, "rb").read()
    assert data[:8] == b"\x93NUMPY\x01\x00" and data[8:10] == b"\x76\x00" and data[127:128] == b"\n"
    header = eval(data[10:128])
    assert header["descr"] == "<f4" and header["fortran_order"] is False
    rows, width = header["shape"]
    assert len(data) == 128 + rows * width * 4
    try:
        import numpy
        array = numpy.load(path)
        assert array.shape == (rows, width) and array.dtype == numpy.float32 and array.tobytes() == data[128:]
    except ImportError:
        print("no NumPy here: .npy files were read by hand")
    return [data[128 + i * width * 4:128 + (i + 1) * width * 4] for i in range(rows)], width


def options():
    error(2, "unknown option --treads; did you mean --threads?", "--treads", "2")
    error(2, "unknown option --tempp; did you mean --temp?", "--tempp=1")
    error(2, "unknown option --zzzzzzz; --help lists them", "--zzzzzzz")
    error(2, "unexpected argument 'hello'; a prompt is given with -p TEXT", "hello")
    error(2, "-n needs a value: -n N", "-p", "x", "-n")
    error(2, "--temp 1e: not a number (at character 2)", "-p", "x", "--temp", "1e")
    error(2, "--temp nan: must be between 0 and 1000", "-p", "x", "--temp", "nan")
    error(2, "--top-p 1.5: must be between 0 and 1", "-p", "x", "--top-p", "1.5")
    error(2, "-n 99999999999: too large (at most 2147483647)", "-p", "x", "-n", "99999999999")
    error(2, "--threads 0: must be between 1 and 1024", "-p", "x", "--threads", "0")
    error(2, "--top-k 1.5: not a whole number", "-p", "x", "--top-k", "1.5")
    error(2, "--seed -1: not a whole number from 0 to 2^64-1", "-p", "x", "--seed", "-1")
    error(2, "--json takes no value", "-p", "x", "--json=yes")
    error(2, "--tokens: 'x2' at character 3 is not a token id", "--tokens", "1,x2")
    error(2, "--tokens (prompt 2): '-2' at character 1 is not a token id", "--tokens", "1", "--tokens", "-2")
    error(2, "no prompt: give -p TEXT", stdin="hello")
    error(2, "--json needs a prompt", "--chat", "--json", stdin="hello")
    error(2, "--logits needs a prompt", "--logits", "x.npy")
    error(2, "--batch FILE and -p both give prompts", "-p", "x", "--batch", "y")
    error(2, "--stop: an empty text", "-p", "x", "--stop", "")
    error(2, "--kernels belongs to --bench", "-p", "x", "--kernels")
    error(2, "--decode-at belongs to --bench", "-p", "x", "--decode-at", "9")
    error(2, "--bench makes its own prompts", "-p", "x", "--bench")
    error(2, "--ctx 201: fake was compiled for at most 200 tokens", "-p", "x", "--ctx", "201")
    error(1, "--tokens: token 260: the model's ids are 0 … 259", "--tokens", "5,260")
    error(1, "--tokens: the prompt has no tokens", "--tokens", " , ")
    error(1, "-p: the prompt has 201 tokens, but the context holds 200", "-p", "x" * 200)
    error(1, "-p: the prompt has 11 tokens, but the context holds 10", "-p", "x" * 10, "--ctx", "10")
    error(1, "/nowhere/x.npy: No such file or directory", "-p", "x", "--logits", "/nowhere/x.npy")
    error(1, "/nowhere: No such file or directory", "--batch", "/nowhere")
    check("--version", text("--version"), "fake for generic, tenon test\n")
    assert "--repeat-penalty X" in text("--help")
    result = subprocess.run([PROGRAM, "-p", "x", "-n", "5"], stdout=open("/dev/full", "w"), stderr=subprocess.PIPE)
    check("full disk", (result.returncode, result.stderr), (1, b"error: standard output cannot be written\n"))


def generation():
    one = text("-p", "hello", "-n", "20")
    check("20 letters and a line end", (len(one), one[-1]), (21, "\n"))
    for threads in "1", "2", "3", "7":
        for chunk in "1", "2", "5", "24":
            check(f"{threads} threads, steps of {chunk}", text("-p", "hello", "-n", "20", "--threads", threads, "--chunk", chunk), one)
    check("OMP_THREAD_LIMIT", text("-p", "hello", "-n", "20", "--threads", "4", env={"OMP_THREAD_LIMIT": "2"}), one)
    check("ids of the same text", text("--tokens", "259,104 101,108\n108, 111", "-n", "20"), one)
    check("--opt=value", text("-p", "hello", "-n", "20", "--threads=2"), one)
    check("stop", text("-p", "hello", "-n", "20", "--stop", one[6:9]), one[:6] + "\n")
    check("-n 0", text("-p", "hello", "-n", "0"), "")
    prompts = ["hello", "a", "the third one is longer than a page", "x" * 60, "y", "z z", "\u00fc"]
    batch = os.path.join(TMP, "batch")
    open(batch, "w").write("\n".join(prompts) + "\n")
    alone = [text("-p", p, "-n", "20") for p in prompts]
    check("a batch", text("--batch", batch, "-n", "20"), "".join(alone))
    check("a batch from standard input, without its last line end", text("--batch", "-", "-n", "20", stdin="\n".join(prompts)), "".join(alone))
    check("several -p", text("-p", "a", "-p", "y", "-n", "20"), alone[1] + alone[4])
    check("one line is a batch as well", text("--batch", "-", "-n", "20", stdin="hello\n"), one)
    error(1, "standard input:2: a NUL character in a prompt", "--batch", "-", stdin="x\na\0b\n")
    sampled = ["--temp", "1.2", "--top-p", "0.9", "--top-k", "30", "--min-p", "0.01", "--repeat-penalty", "1.1", "-n", "20"]
    check("a sample twice", text("-p", "hello", "--seed", "7", *sampled), text("-p", "hello", "--seed", "7", *sampled, "--threads", "1"))
    assert text("-p", "hello", "--seed", "7", *sampled) != text("-p", "hello", "--seed", "8", *sampled)
    out = json.loads(text("--batch", batch, "-n", "20", "--json"))
    check("json: texts", [o["text"] + "\n" for o in out["outputs"]], alone)
    check("json: counts", [(o["prompt_tokens"], len(o["tokens"]), o["finish"]) for o in out["outputs"][:2]], [(6, 20, "length"), (2, 20, "length")])
    full = json.loads(text("-p", "hello", "--ignore-end", "--json"))["outputs"][0]
    check("to the end of the context", (len(full["tokens"]), full["finish"]), (194, "context"))
    assert json.loads(text("-p", "hello", "-n", "0", "--json"))["outputs"][0]["tokens"] == []


def logits():
    path = os.path.join(TMP, "logits.npy")
    ids = [(i * 37) % 250 for i in range(50)]
    assert text("--tokens", ",".join(map(str, ids)), "--logits", path, "-n", "0") == ""
    whole, width = npy(path)
    check("shape", (len(whole), width), (50, 260))
    text("--tokens", ",".join(map(str, ids)), "--logits", path, "-n", "0", "--chunk", "1", "--threads", "1")
    check("token by token", npy(path)[0], whole)
    other = "9,8,7"
    text("--tokens", other, "--tokens", ",".join(map(str, ids)), "--tokens", other, "--logits", path, "-n", "0")
    rows, _ = npy(path)
    check("in company", (len(rows), rows[3:53]), (56, whole))
    check("the same prompt twice", rows[:3], rows[53:])
    check("and on", text("-p", "hello", "--logits", path, "-n", "20"), text("-p", "hello", "-n", "20"))
    check("rows of the prompt", len(npy(path)[0]), 6)


def info_and_bench():
    info = json.loads(text("--info", "--json"))
    check("info", (info["model"], info["context"], info["kv_bytes"], info["weights_bytes"], info["chat"]), ("fake", 200, 25 * 4096, 2080, True))
    check("peak", info["peak_bytes"], info["weights_bytes"] + info["kv_bytes"] + info["arena_bytes"] + info["overhead_bytes"])
    check("info of a token", [info[k] for k in ("weight_bytes_per_token", "operations_per_token", "operations_per_token_and_position")], [2080, 1110, 4])
    check("info with a smaller context", json.loads(text("--info", "--json", "--ctx", "17"))["kv_bytes"], 3 * 4096)
    batch = os.path.join(TMP, "lines")
    for count, sequences in (1, 1), (3, 3), (99, 5):
        open(batch, "w").write("\n".join("x" * count))
        check(f"info with {count} prompts", json.loads(text("--info", "--json", "--batch", batch))["sequences"], sequences)
    assert "KV cache" in text("--info") and "fake.gguf" in text("--info", "--verify")
    bench = json.loads(text("--bench", "--json", "--kernels", "--threads", "1", "--decode-at", "190"))
    check("bench", [(p["phase"], p["sequences"], p["context"], len(p["kernels"])) for p in bench["phases"]],
          [("prefill", 1, 200, 3), ("decode", 1, 160, 3), ("decode", 2, 160, 3), ("decode", 4, 160, 3), ("decode", 1, 184, 3)])
    check("bench's work", [k[what] for k in bench["phases"][2]["kernels"] for what in ("calls", "weight_bytes", "cache_bytes", "row_bytes", "operations")],
          [1, 2080, 0, 16, 20, 1, 0, 2 * 160 * 8, 0, 2 * (100 + 160 * 4), 1, 0, 0, 2 * 1040, 2000])
    short = json.loads(text("--bench", "--json", "--prefill", "20", "--sequences", "2", "--quick"))
    check("a short bench", [(p["context"], p["tokens_per_sequence"], "kernels" in p) for p in short["phases"]], [(20, 20, False), (160, 1, False), (160, 1, False)])
    assert "tok/s" in text("--bench")


def blob():
    bare, moved, cut = PROGRAM + ".bare", os.path.join(TMP, "moved"), os.path.join(TMP, "cut")
    expected = text("-p", "hello", "-n", "9")
    error(1, "are gone: ", "-p", "x", program=bare)
    error(1, "was it stripped or cut short?", "--info", program=bare)
    check("--weights, a program with a blob", text("-p", "hello", "-n", "9", "--weights", PROGRAM, program=bare), expected)
    error(1, "no weights in this file", "-p", "x", "--weights", bare)
    error(1, "/tmp: no weights in this file", "-p", "x", "--weights", "/tmp")
    shutil.copy(bare, moved)
    for name in "moved.weights", "fake.weights":
        shutil.copy(PROGRAM, os.path.join(TMP, name))
        check(name, text("-p", "hello", "-n", "9", program=moved), expected)
        os.unlink(os.path.join(TMP, name))
    shutil.copy(bare, moved + ".exe")
    shutil.copy(PROGRAM, moved + ".weights")
    check("FILE.exe with FILE.weights", text("-p", "hello", "-n", "9", program=moved + ".exe"), expected)
    data = open(PROGRAM, "rb").read()
    for less in 1, 39, 40, 41, 4096:                       # without all of its trailer it is a program without weights
        open(cut, "wb").write(data[:-less])
        os.chmod(cut, 0o755)
        error(1, "was it stripped or cut short?", "-p", "x", program=cut)
    at = len(open(bare, "rb").read())
    at = (at + BLOB_PAGE - 1) // BLOB_PAGE * BLOB_PAGE
    assert data[at:at + 8] == b"TENONBLB"
    for byte, message in ((at, "no blob at offset"), (at + 8, "blob version"), (at + 16, "name different blobs"), (at + 24, "the blob says it has"),
                          (at + 40, "section table is damaged"), (len(data) - 32, "trailer version"), (len(data) - 24, "damaged trailer"),
                          (len(data) - 16, "damaged trailer"), (len(data) - 8, "name different blobs")):
        open(cut, "wb").write(data[:byte] + bytes([data[byte] ^ 4]) + data[byte + 1:])
        error(1, message, "-p", "x", program=cut)
    open(cut, "wb").write(data[:at + 4096 + 64] + b"\xff" + data[at + 4096 + 65:])
    error(1, "weight section is damaged", "-p", "x", "--verify", program=cut)


def shrinking():
    """The weight file is cut while the program waits for a message: reading it raises SIGBUS, which must become a message."""
    weights = os.path.join(TMP, "shrinks")
    shutil.copy(PROGRAM, weights)
    child = subprocess.Popen([PROGRAM + ".bare", "--chat", "--weights", weights, "-n", "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    child.stdin.write(b"hi\n")
    child.stdin.flush()
    assert child.stdout.readline() != b""
    os.truncate(weights, 8192)
    child.stdin.write(b"again\n")
    child.stdin.flush()
    out, err = child.communicate(timeout=60)
    check("exit code after SIGBUS", child.returncode, 1)
    assert err.startswith(b"error: " + weights.encode() + b": cannot be read at offset ") and err.endswith(b"the file was cut short while it was in use\n"), err
    offset = int(err.split(b"offset ")[1].split(b":")[0])
    assert 8192 <= offset < os.path.getsize(PROGRAM), offset


def chat():
    first = text("--chat", "-p", "hi", "-n", "5")
    check("--chat -p is the template", first, text("-p", "[be brief]<|user|>hi<|end|><|bot|>", "-n", "5"))
    check("--system", text("--chat", "--system", "x", "-p", "hi", "-n", "5"), text("-p", "[x]<|user|>hi<|end|><|bot|>", "-n", "5"))
    error(2, "--system belongs to --chat", "--system", "x", "-p", "hi")
    reply = first.rstrip("\n")
    second = text("-p", f"[be brief]<|user|>hi<|end|><|bot|>{reply}<|end|><|user|>more<|end|><|bot|>", "-n", "5")
    check("two messages", text("--chat", "-n", "5", stdin="hi\nmore\n"), first + second)
    check("/new forgets", text("--chat", "-n", "5", stdin="hi\n\n/new\nhi\n"), first + first)
    result = run("--chat", "-n", "30", "--ignore-end", stdin="hi\n" * 9)
    check("the context fills", (result.returncode, result.stderr.count(b"starts over") >= 1), (0, True))
    check("--chat --batch", text("--chat", "--batch", "-", "-n", "5", stdin="hi\n"), first)
    error(1, "tokens", "--chat", stdin="x" * 300 + "\n")


def encoders():
    def rows(*args, **kw):
        return [[float(x) for x in line.split()] for line in text(*args, **kw).splitlines()]

    prompts = ["hello", "a", "the longest that fits", "z z", "b", "cc", "ddd"]
    batch = "\n".join(prompts) + "\n"
    path = os.path.join(TMP, "vectors.npy")
    one = rows("-p", "hello", program=SEQUENCES)
    check("a vector", [len(r) for r in one], [7])
    alone = [rows("-p", p, program=SEQUENCES)[0] for p in prompts]
    check("vectors in a batch", rows("--batch", "-", program=SEQUENCES, stdin=batch), alone)
    check("json", json.loads(text("--batch", "-", "--json", program=SEQUENCES, stdin=batch))["outputs"], alone)
    check("nothing printed", text("--batch", "-", "--logits", path, program=SEQUENCES, stdin=batch), "")
    import struct
    check("vectors in a file", [struct.unpack("<7f", r) for r in npy(path)[0]], [tuple(struct.unpack("<f", struct.pack("<f", x))[0] for x in r) for r in alone])
    tokens = [rows("-p", p, program=TOKENS) for p in prompts]
    check("a vector a token", [len(t) for t in tokens], [len(p) + 1 for p in prompts])
    check("in a batch", [r for r in rows("--batch", "-", program=TOKENS, stdin=batch) if r], [r for t in tokens for r in t])
    check("json of tokens", json.loads(text("--batch", "-", "--json", program=TOKENS, stdin=batch))["outputs"], tokens)
    error(1, "the prompt has 25 tokens, but the context holds 24", "-p", "x" * 24, program=SEQUENCES)
    error(2, "no prompt", program=SEQUENCES)
    check("bench of an encoder", json.loads(text("--bench", "--json", program=SEQUENCES))["phases"][1:], [])
    check("info of an encoder", json.loads(text("--info", "--json", program=SEQUENCES))["kv_bytes"], 0)


def terminal():
    """On a pseudo-terminal without a prompt: a chat; Ctrl-C ends a reply, Ctrl-D the program."""
    try:
        master, slave = pty.openpty()
    except OSError as none:   # a bare chroot
        print(f"SKIPPED the terminal: {none}")
        return
    child = subprocess.Popen([PROGRAM, "-n", "5"], stdin=slave, stdout=slave, stderr=slave, close_fds=True, preexec_fn=os.setsid)
    os.close(slave)
    seen = b""

    def until(what):
        nonlocal seen
        end = time.time() + 30
        while what not in seen and time.time() < end:
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 4096)
        assert what in seen, (what, seen)
        seen = seen[seen.index(what) + len(what):]

    until(b"> ")
    os.write(master, b"hi\n")
    until(text("--chat", "-p", "hi", "-n", "5").strip().encode())
    until(b"> ")
    os.write(master, b"x" * 250 + b"\n")
    until(b"error: ")
    until(b"> ")
    os.write(master, b"\x04")
    child.wait(timeout=30)
    check("exit code of a chat", child.returncode, 0)
    os.close(master)


for part in options, generation, logits, info_and_bench, encoders, blob, shrinking, chat, terminal:
    try:
        part()
    except Exception as e:
        import traceback
        traceback.print_exc()
        failures.append(part.__name__)
shutil.rmtree(TMP)
print(f"{len(failures)} failures" if failures else "ok")
sys.exit(bool(failures))
