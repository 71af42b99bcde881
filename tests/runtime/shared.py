#!/usr/bin/env python3
"""A shared object through its C interface, by ctypes: it finds its weights beside it, generates what the executable generates, exports nothing but
tn_ and tenon_ names, never ends its host, and works in two threads at once with an engine each."""
import ctypes as c, os, subprocess, sys, threading

SHARED, PROGRAM = sys.argv[1:3]


class Failure(c.Structure):
    _fields_ = [("code", c.c_int), ("text", c.c_char * 1020)]


class OpenOptions(c.Structure):
    _fields_ = [("weights", c.c_char_p), ("threads", c.c_int), ("context", c.c_int), ("chunk", c.c_int), ("memory", c.c_ulonglong)]


class Sampling(c.Structure):
    _fields_ = [("temperature", c.c_double), ("top_k", c.c_int), ("top_p", c.c_double), ("min_p", c.c_double), ("repeat_penalty", c.c_double),
                ("seed", c.c_ulonglong)]


ON_TEXT = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.POINTER(c.c_char), c.c_size_t)


class Generation(c.Structure):
    _fields_ = [("sampling", Sampling), ("most", c.c_int), ("stops", c.POINTER(c.c_char_p)), ("stop_count", c.c_int), ("ignore_end", c.c_int), ("many", c.c_int),
                ("on_text", ON_TEXT), ("to", c.c_void_p)]


class Row(c.Structure):
    _fields_ = [("sequence", c.c_int), ("position", c.c_int), ("values", c.POINTER(c.c_float))]


lib = c.CDLL(SHARED)
lib.tn_open.restype = c.c_void_p
lib.tn_rows.restype = c.POINTER(Row)
lib.tn_tokens.restype = c.POINTER(c.c_int)
lib.tn_meta.restype = c.c_char_p
model = c.addressof(c.c_char.in_dll(lib, "tn_model"))


def text(prompt, most):
    failure, options, got = Failure(), OpenOptions(threads=2), []
    engine = c.c_void_p(lib.tn_open(c.c_void_p(model), c.byref(options), c.byref(failure)))
    assert engine, failure.text
    ids = (c.c_int * 64)()
    count = lib.tn_encode(engine, prompt, c.c_size_t(len(prompt)), 1, ids, 64, c.byref(failure))
    sequence = c.c_int(lib.tn_sequence_new(engine, c.byref(failure)))
    assert lib.tn_add(engine, sequence, ids, count, 1, c.byref(failure)) == 0
    how = Generation(most=most, on_text=ON_TEXT(lambda to, s, t, n: got.append(t[:n]) or 0))
    result = c.c_int()
    assert lib.tn_generate(engine, c.byref(sequence), 1, c.byref(how), c.byref(result), c.byref(failure)) == 0, failure.text
    assert result.value == 1 and lib.tn_length(engine, sequence) == count + most
    assert lib.tn_meta(engine, b"name", 0) == b"fake"
    assert lib.tn_add(engine, sequence, (c.c_int * 1)(999), 1, 1, c.byref(failure)) == -1 and b"999" in failure.text
    lib.tn_close(engine)
    return b"".join(got)


expected = subprocess.run([PROGRAM, "-p", "hello", "-n", "20"], stdout=subprocess.PIPE, check=True).stdout.rstrip(b"\n")
assert text(b"hello", 20) == expected

results = [None] * 4
def work(i):
    results[i] = [text(b"hello", 20) for _ in range(5)]
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert all(r == [expected] * 5 for r in results), results

failure = Failure()
os.rename(SHARED + ".weights", SHARED + ".hidden")
try:
    assert lib.tn_open(c.c_void_p(model), None, c.byref(failure)) is None
    assert failure.code == 1 and b"are gone" in failure.text and os.path.basename(SHARED).encode() in failure.text, failure.text
finally:
    os.rename(SHARED + ".hidden", SHARED + ".weights")

names = [line.split()[-1] for line in subprocess.run(["nm", "-D", "--defined-only", SHARED], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()]
assert "tn_open" in names and "tenon_program_main" in names and all(n.startswith(("tn_", "tenon_")) for n in names), names
for inner in "tn_blob_open", "tn_team_new", "tn_fail", "tenon_run":
    assert inner not in names, inner
undefined = subprocess.run(["nm", "-D", "--undefined-only", SHARED], stdout=subprocess.PIPE, check=True).stdout.decode().split()
assert not {"exit", "abort", "_Exit"} & {n.split("@")[0] for n in undefined}, undefined
print("ok")
