#!/usr/bin/env python3
"""Writes fixtures/dequant.bin and fixtures/ops.txt. Needs numpy and gguf (PyPI); the tests need neither.

dequant.bin: for each format random blocks and what gguf.quants.dequantize (or the formula of the specification) makes of them:
  name, 8 bytes, NUL-padded; u32 bytes; u32 elements; the bytes; the elements as float32
ops.txt: for each op cases of a step, inputs, IR text and the outputs that numpy computes in float64.
"""
import math
import os
import struct
import sys

import numpy as np

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
rng = np.random.default_rng(20261122)


# ---- dequantization ---------------------------------------------------------------------------------------------------

def fp8(byte, exponent_bits, mantissa_bits, bias, e4m3):
    sign = -1.0 if byte & 0x80 else 1.0
    exponent, mantissa = byte >> mantissa_bits & (1 << exponent_bits) - 1, byte & (1 << mantissa_bits) - 1
    if e4m3 and byte & 0x7F == 0x7F or not e4m3 and exponent == 31 and mantissa:
        return math.nan
    if not e4m3 and exponent == 31:
        return sign * math.inf
    if exponent == 0:
        return sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
    return sign * (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias)


def dequant_fixtures():
    import gguf
    kinds = gguf.GGMLQuantizationType
    records = []
    for name in "Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split():
        kind = kinds[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        wanted, blocks = (6 if elements == 32 else 3), []
        while len(blocks) < wanted:   # blocks whose scales are finite
            block = rng.integers(0, 256, size, dtype=np.uint8)
            with np.errstate(all="ignore"):
                if np.isfinite(gguf.quants.dequantize(block, kind)).all():
                    blocks.append(block)
        data = np.concatenate(blocks)
        records.append((name.lower(), data.tobytes(), gguf.quants.dequantize(data, kind).astype(np.float32)))
    every = bytes(range(256))
    records.append(("f8e4m3", every, np.array([fp8(b, 4, 3, 7, True) for b in every], np.float32)))
    records.append(("f8e5m2", every, np.array([fp8(b, 5, 2, 15, False) for b in every], np.float32)))
    halves = np.concatenate([np.array([0, 1, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x8000, 0x8001, 0xFBFF, 0xFC00], np.uint16),
                             rng.integers(0, 65536, 246, dtype=np.uint16)])
    records.append(("f16", halves.tobytes(), halves.view(np.float16).astype(np.float32)))
    records.append(("bf16", halves.tobytes(), (halves.astype(np.uint32) << 16).view(np.float32)))
    records.append(("i8", every, np.frombuffer(every, np.int8).astype(np.float32)))
    records.append(("i64", np.arange(-8, 8).astype(np.int64).tobytes(), np.arange(-8, 8).astype(np.float32)))
    for group in 64, 128:   # our own: binary16 scale (and minimum), then codes; low nibbles are the first half
        scale, minimum = rng.standard_normal((3, 1)).astype(np.float16), rng.standard_normal((3, 1)).astype(np.float16)
        bytes8, bytes4 = rng.integers(0, 256, (3, group)).astype(np.uint8), rng.integers(0, 256, (3, group // 2)).astype(np.uint8)
        nibbles, f = np.concatenate([bytes4 & 15, bytes4 >> 4], -1).astype(np.float32), np.float32
        rows = lambda *arrays: b"".join(b"".join(a[i].tobytes() for a in arrays) for i in range(3))
        records.append((f"w8g{group}", rows(scale, bytes8), (f(scale) * bytes8.view(np.int8)).ravel()))
        records.append((f"w4g{group}", rows(scale, bytes4), (f(scale) * (nibbles - f(8))).ravel()))
        records.append((f"w4mg{group}", rows(scale, minimum, bytes4), (f(scale) * nibbles + f(minimum)).ravel()))
    with open(os.path.join(HERE, "dequant.bin"), "wb") as out:
        for name, data, values in records:
            out.write(struct.pack("<8sII", name.encode(), len(data), values.size) + data + values.tobytes())


# ---- ops --------------------------------------------------------------------------------------------------------------

CASES = []
# Two sequences, of 3 and 2 rows; rows 1 and 4 are asked for.
T, S, R = 5, 2, 2
POSITION, SEQUENCE, FIRST, KEEP = [0, 1, 2, 0, 1], [0, 0, 0, 1, 1], [0, 3, 5], [1, 4]


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def text(value):
    return str(int(value)) if isinstance(value, (np.integer, np.bool_)) else f"{np.float32(value):.9g}"


def kind(array):
    return {"f": "f32", "i": "i32", "u": "i32", "b": "bool"}[np.asarray(array).dtype.kind]


def type_of(array, symbol="T"):
    sizes = [str(n) for n in np.shape(array)]
    if symbol:
        sizes[0] = symbol
    return f"{kind(array)}[{', '.join(sizes)}]"


def line(array):
    array = np.asarray(array)
    array = array.astype(np.float32) if array.dtype.kind == "f" else array
    return f"{' '.join(map(str, array.shape))} : {' '.join(text(v) for v in array.ravel())}"


def case(name, op, inputs, outputs, weights=(), functions="", symbol="T"):
    """op: text after `=`, naming inputs %x0 … and weights @w0 …; weights are constants in the module."""
    lines = [f"case {name}"]
    lines += [f"input {line(x)}" for x in inputs]
    lines.append("ir")
    lines += [f"weight @w{i} : {type_of(w, None)} = [{', '.join(text(v) for v in np.asarray(w).ravel())}]" for i, w in enumerate(weights)]
    if functions:
        lines.append(functions)
    arguments = ", ".join(f"%x{i}: {type_of(x)}" for i, x in enumerate(inputs))
    types = [type_of(y, symbol) for y in outputs]
    lines.append(f"main @m({arguments}) -> {', '.join(types)} {{")
    *before, last = op.split("\n")
    lines += before
    lines.append(f"  {', '.join(f'%y{i}: {t}' for i, t in enumerate(types))} = {last}")
    lines.append(f"  return {', '.join(f'%y{i}' for i in range(len(types)))}")
    lines += ["}", "end"]
    lines += [f"output {line(y)}" for y in outputs]
    CASES.append("\n".join(lines))


def d(x):
    return np.asarray(x, np.float64)


def softmax(x):
    e = np.exp(d(x) - d(x).max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def elementwise():
    x = np.concatenate([normal(T, 6) * 3, np.array([[0, -0.0, 100, -100, 1e-20, 1]] * T, np.float32)], 1)
    p = np.abs(x) + np.float32(0.01)
    erf = np.vectorize(math.erf)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-d(x)))
        for op, y in {"silu": d(x) * sigmoid, "relu": np.maximum(x, 0), "sigmoid": sigmoid, "tanh": np.tanh(d(x)), "abs": np.abs(x), "neg": -x,
                      "gelu": d(x) * 0.5 * (1 + erf(d(x) / math.sqrt(2)))}.items():
            case(op, f"{op} %x0", [x], [y])
    case("gelu_tanh", "gelu %x0 {tanh=true}", [x], [0.5 * d(x) * (1 + np.tanh(math.sqrt(2 / math.pi) * (d(x) + 0.044715 * d(x) ** 3)))])
    case("exp", "exp %x0", [x[:, :6]], [np.exp(d(x[:, :6]))])
    for op, f in {"log": np.log, "sqrt": np.sqrt, "rsqrt": lambda v: 1 / np.sqrt(v)}.items():
        case(op, f"{op} %x0", [p], [f(d(p))])
    a, b, row, column = normal(T, 3, 4), normal(T, 3, 4), normal(4), normal(T, 3, 1)
    for op, f in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "minimum": np.minimum, "maximum": np.maximum,
                  "lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal}.items():
        case(op, f"{op} %x0, %x1", [a, b], [f(a, b)])
        case(op + "_row", f"{op} %x0, @w0", [a], [f(a, row)], [row])
        case(op + "_column", f"{op} %x1, %x0", [a, column], [f(column, a)])
    i, j = rng.integers(-9, 9, (T, 4)), rng.integers(-9, 9, (T, 4))
    for op, f in {"add": np.add, "mul": np.multiply, "minimum": np.minimum, "eq": np.equal}.items():
        case(op + "_i32", f"{op} %x0, %x1", [i, j], [f(i, j)])
    case("abs_i32", "abs %x0", [i], [np.abs(i)])
    case("neg_i32", "neg %x0", [i], [-i])
    case("pow", "pow %x0, %x1", [np.abs(a) + np.float32(0.1), b], [d(np.abs(a) + np.float32(0.1)) ** d(b)])
    case("where", "where %x0, %x1, @w0", [a > 0, a], [np.where(a > 0, a, row)], [row])
    case("clamp", "clamp %x0 {lo=-0.5, hi=0.25}", [a], [np.clip(a, np.float32(-0.5), np.float32(0.25))])
    case("cast_i32", "cast %x0 {type=i32}", [x], [np.trunc(x).astype(np.int64)])
    case("cast_bool", "cast %x0 {type=bool}", [x], [x != 0])
    case("cast_f16", "cast %x0 {type=f16}", [x], [x.astype(np.float16)])
    bits = x.view(np.uint32).astype(np.uint64)
    bf16 = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    case("cast_bf16", "cast %x0 {type=bf16}", [x], [bf16])
    case("cast_from_i32", "cast %x0 {type=f32}", [i], [i.astype(np.float32)])
    case("const", "  %c: f32[] = const {value=2.5}\nmul %x0, %c", [a], [a * np.float32(2.5)])


def shapes():
    x, i = normal(T, 3, 4), rng.integers(0, 99, (T, 2, 3))
    case("reshape", "reshape %x0 {shape=[T, 2, 6]}", [x], [x.reshape(T, 2, 6)])
    case("transpose", "transpose %x0 {a=1, b=2}", [x], [x.swapaxes(1, 2)])
    case("transpose_i32", "transpose %x0 {a=-1, b=-2}", [i], [i.swapaxes(1, 2)])
    y = normal(T, 3, 2)
    case("concat", "concat %x0, %x1, %x0", [x, y], [np.concatenate([x, y, x], -1)])
    case("concat_middle", "concat %x0, %x0 {axis=1}", [x], [np.concatenate([x, x], 1)])
    case("split", "split %x0 {sizes=[1, 3]}", [x], [x[..., :1], x[..., 1:]])
    case("split_middle", "split %x0 {sizes=[2, 1], axis=1}", [x], [x[:, :2], x[:, 2:]])
    case("slice", "slice %x0 {from=1, to=3}", [x], [x[..., 1:3]])
    case("slice_middle", "slice %x0 {from=1, to=3, axis=1}", [x], [x[:, 1:3]])
    case("expand", "expand %x0 {shape=[T, 3, 4]}", [x[:, :1]], [np.broadcast_to(x[:, :1], x.shape)])
    row = normal(4)
    case("expand_rows", "expand @w0 {shape=[T, 4]}", [x], [np.broadcast_to(row, (T, 4))], [row])
    for op, f in {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}.items():
        case(op, f"{op} %x0", [x], [f(d(x), -1, keepdims=True)])
        case(op + "_middle", f"{op} %x0 {{axis=1}}", [x], [f(d(x), 1, keepdims=True)])


def products():
    for k, out in ((7, 5), (16, 9)):
        x, w, b = normal(T, k), normal(out, k), normal(out)
        case(f"linear_{k}", "linear %x0, @w0, @w1", [x], [d(x) @ d(w).T + b], [w, b])
        case(f"linear_{k}_no_bias", "linear %x0, @w0", [x], [d(x) @ d(w).T], [w])
    x, w, b = normal(T, 3, 6), normal(3, 5, 6), normal(3, 5)
    case("linear_heads", "linear %x0, @w0, @w1", [x], [np.einsum("thi,hoi->tho", d(x), d(w)) + b], [w, b])
    ids, table = rng.integers(0, 7, T), normal(7, 4)
    case("embedding", "embedding %x0, @w0", [ids], [table[ids]], [table])
    x, w, b = normal(T, 2, 9), normal(9), normal(9)
    rms = d(x) / np.sqrt((d(x) ** 2).mean(-1, keepdims=True) + 1e-5)
    case("rms_norm", "rms_norm %x0, @w0 {eps=1e-5, offset=1}", [x], [rms * (d(w) + 1)], [w])
    case("rms_norm_plain", "rms_norm %x0 {eps=1e-5}", [x], [rms])
    centred = d(x) - d(x).mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-5)
    case("layer_norm", "layer_norm %x0, @w0, @w1 {eps=1e-5}", [x], [unit * w + b], [w, b])
    case("layer_norm_plain", "layer_norm %x0 {eps=1e-5}", [x], [unit])
    largest = np.abs(x).max(-1, keepdims=True)
    codes = np.rint(x * (np.float32(127) / largest)).astype(np.int64)
    case("quantize_rows", "  %q: i8[T, 2, 9], %s: f32[T, 2, 1], %z: i32[T, 2, 1] = quantize_rows %x0\n  %i: i32[T, 2, 9] = cast %q {type=i32}\nconcat %i, %i", [x],
         [np.concatenate([codes, codes], -1)])
    case("quantize_rows_scale", "  %q: i8[T, 2, 9], %s: f32[T, 2, 1], %z: i32[T, 2, 1] = quantize_rows %x0\nneg %s", [x], [-(largest / np.float32(127))])
    x, w, b = normal(T, 9), normal(4, 9), normal(4)
    sx, sw = np.abs(x).max(-1, keepdims=True), np.abs(w).max(-1, keepdims=True)
    qx, qw = np.rint(x * (np.float32(127) / sx)).astype(np.int64), np.rint(w * (np.float32(127) / sw)).astype(np.int64)
    case("linear_i8", "  %q: i8[T, 9], %s: f32[T, 1], %z: i32[T, 1] = quantize_rows %x0\nlinear_i8 %q, %s, %z, @w0, @w1", [x],
         [qx @ d(w).T * d(sx / np.float32(127)) + b], [w, b])
    x, w = normal(T, 8), normal(3, 8)
    parts = np.abs(x).reshape(T, 2, 4).max(-1, keepdims=True)
    codes = np.rint(x.reshape(T, 2, 4) * (np.float32(127) / parts)).astype(np.int64)
    grouped = "  %q: i8[T, 8], %s: f32[T, 2], %z: i32[T, 4] = quantize_rows %x0 {group=4, sums=2}\n"
    case("quantize_rows_groups", grouped + "neg %s", [x], [-(parts / np.float32(127)).reshape(T, 2)])
    case("quantize_rows_sums", grouped + "neg %z", [x], [-codes.reshape(T, 4, 2).sum(-1)])
    case("linear_i8_groups", grouped + "linear_i8 %q, %s, %z, @w0", [x], [(codes * d(parts / np.float32(127))).reshape(T, 8) @ d(w).T], [w])
    x = normal(T, 3, 8)
    h2 = np.array([[1, 1], [1, -1]])
    h4 = np.kron(h2, h2) / 2
    case("observe", "observe %x0, @w0", [x], [x], [normal(2, 8)])
    case("hadamard", "hadamard %x0 {block=4}", [x], [(d(x).reshape(T, 3, 2, 4) @ h4).reshape(T, 3, 8)])
    x, w = np.arange(T * 8, dtype=np.float32).reshape(T, 8) / np.float32(7), np.eye(8, dtype=np.float32)
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    narrow = "  %n: bf16[T, 8] = narrow %x0 {type=bf16}\n"
    case("narrow", narrow + "linear_bf16 %n, @w0", [x], [rounded], [w])
    case("linear_bf16", narrow + "linear_bf16 %n, @w0, @w1", [x], [d(rounded) @ d(w[:3] * 2).T + 1], [w[:3] * 2, np.ones(3, np.float32)])
    case("linear_rows", "linear_rows %x0, @w0, @w1", [x], [d(x) @ d(w[:3] * 2).T + 1], [w[:3] * 2, np.ones(3, np.float32)])


def rope(x, base, dims, half, factors, mscale):
    x = d(x)
    y, n = x.copy(), dims // 2
    for t in range(T):
        for j in range(n):
            angle = POSITION[t] * base ** (-2 * j / dims) / (float(factors[j]) if factors is not None else 1)
            c, s = math.cos(angle) * mscale, math.sin(angle) * mscale
            a, b = (j, j + n) if half else (2 * j, 2 * j + 1)
            y[t, :, a], y[t, :, b] = x[t, :, a] * c - x[t, :, b] * s, x[t, :, b] * c + x[t, :, a] * s
    return y


def attention(q, k, v, causal=True, window=0, scale=0.0, softcap=0.0, sinks=None, slopes=None):
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
    out = np.zeros((T, heads, v.shape[2]))
    scale = scale or q.shape[2] ** -0.5
    for s in range(S):
        rows = range(FIRST[s], FIRST[s + 1])
        for t in rows:
            for h in range(heads):
                scores, values = [], []
                for u in rows:
                    i, j = POSITION[t], POSITION[u]
                    if causal and j > i or window and abs(i - j) >= window:
                        continue
                    score = float(d(q[t, h]) @ d(k[u, h // group])) * scale
                    score = softcap * math.tanh(score / softcap) if softcap else score
                    scores.append(score + (float(slopes[h]) * (j - i) if slopes is not None else 0))
                    values.append(d(v[u, h // group]))
                e = np.exp(np.array(scores))
                out[t, h] = (e[:, None] * np.array(values)).sum(0) / (e.sum() + (math.exp(sinks[h]) if sinks is not None else 0))
    return out


def attentions():
    x = normal(T, 3, 8)
    case("rope", "rope %x0 {base=10000}", [x], [rope(x, 10000, 8, True, None, 1)])
    case("rope_interleaved", "rope %x0 {base=10000, style=interleaved}", [x], [rope(x, 10000, 8, False, None, 1)])
    factors = np.abs(normal(3)) + np.float32(0.5)
    case("rope_partial", "rope %x0, @w0 {base=500, dims=6, mscale=1.25}", [x], [rope(x, 500, 6, True, factors, 1.25)], [factors])
    q, k, v = normal(T, 4, 6), normal(T, 2, 6), normal(T, 2, 5)
    sinks, slopes = normal(4), np.abs(normal(4))
    case("attention", "attention %x0, %x1, %x2", [q, k, v], [attention(q, k, v)])
    case("attention_window", "attention %x0, %x1, %x2 {window=2, scale=0.3}", [q, k, v], [attention(q, k, v, window=2, scale=0.3)])
    case("attention_both_ways", "attention %x0, %x1, %x2 {causal=false}", [q, k, v], [attention(q, k, v, causal=False)])
    case("attention_both_ways_window", "attention %x0, %x1, %x2 {causal=false, window=2}", [q, k, v], [attention(q, k, v, causal=False, window=2)])
    case("attention_softcap", "attention %x0, %x1, %x2 {softcap=2}", [q, k, v], [attention(q, k, v, softcap=2.0)])
    case("attention_sinks", "attention %x0, %x1, %x2, @w0, @w1", [q, k, v], [attention(q, k, v, sinks=sinks, slopes=slopes)], [sinks, slopes])
    case("attention_latent", "attention %x0, %x1 {v_dims=4}", [q, k], [attention(q, k, k[..., :4])])
    write = "  %c: cache[2, 6, 5] = cache_write %x1, %x2\n"
    case("attend", write + "attend %x0, %c, @w0 {scale=0.3, window=2}", [q, k, v], [attention(q, k, v, window=2, scale=0.3, sinks=sinks)], [sinks])
    case("attend_kept", write + "  %r: f32[R, 4, 6] = keep_rows %x0\nattend %r, %c {scale=0.3}", [q, k, v], [attention(q, k, v, scale=0.3)[KEEP]], symbol="R")
    case("attend_latent", "  %c: cache[2, 6, 4] = cache_write %x1 {v_dims=4}\nattend %x0, %c {scale=0.5}", [q, k], [attention(q, k, k[..., :4], scale=0.5)])


def top_k(x, k, groups=1, keep=1, score=2):
    indices = []
    for row in d(x):
        row = row.copy()
        if groups > 1:
            parts = np.sort(row.reshape(groups, -1), -1)
            kept = np.argsort(-parts[:, -score:].sum(-1), kind="stable")[:keep]
            row = np.where(np.isin(np.arange(row.size) // (row.size // groups), kept), row, -np.inf)
        indices.append(np.argsort(-row, kind="stable")[:k])
    indices = np.array(indices)
    return np.take_along_axis(x, indices, -1), indices


def rows():
    x = normal(T, 8)
    case("softmax", "softmax %x0", [x * 5], [softmax(x * 5)])
    v, e = top_k(x, 3)
    case("top_k", "top_k %x0 {k=3}", [x], [v, e])
    ties = np.array([[1, 2, 2, 1, 2, 0, 2, 1]] * T, np.float32)
    case("top_k_ties", "top_k %x0 {k=5}", [ties], list(top_k(ties, 5)))
    p = softmax(x).astype(np.float32)
    v, e = top_k(p, 2)
    case("top_k_normalized", "top_k %x0 {k=2, normalize=true}", [p], [d(v) / d(v).sum(-1, keepdims=True), e])
    case("top_k_groups", "top_k %x0 {k=3, groups=4, keep=2}", [p], list(top_k(p, 3, 4, 2)))
    case("top_k_groups_largest", "top_k %x0 {k=3, groups=4, keep=2, score=1}", [p], list(top_k(p, 3, 4, 2, 1)))
    e = rng.integers(0, 8, (T, 3))
    case("gather", "gather %x0, %x1", [x, e], [np.take_along_axis(x, e, -1)])
    case("gather_vector", "gather @w0, %x0", [e], [x[0][e]], [x[0]])
    case("positions", "  %p: i32[T] = positions\nneg %p", [x], [-np.array(POSITION)])
    case("first", "first %x0", [x], [x[[0, 3]]], symbol="S")
    case("last", "last %x0", [x], [x[[2, 4]]], symbol="S")
    case("mean_tokens", "mean_tokens %x0", [x], [np.stack([d(x[:3]).mean(0), d(x[3:]).mean(0)])], symbol="S")
    case("keep_rows", "keep_rows %x0", [x], [x[KEEP]], symbol="R")


def functions():
    x, w, up, down, shared = normal(T, 4), normal(T, 2), normal(3, 6, 4), normal(3, 4, 6), normal(4)
    e = np.array([[0, 2], [1, 1], [2, 0], [2, 1], [0, 1]])
    expert = """func @expert(%x: f32[T, 4]; %up: f32[6, 4], %down: f32[4, 6], %bias: f32[4]) -> f32[T, 4] {
  %h: f32[T, 6] = linear %x, %up
  %r: f32[T, 6] = relu %h
  %y: f32[T, 4] = linear %r, %down, %bias
  return %y
}"""

    def run(n, row):   # rounded where the interpreter rounds: at each value
        return np.float32(np.float32(np.maximum(d(up[n]) @ d(row), 0)) @ d(down[n]).T + shared)

    y = np.array([[run(n, x[t]) for n in e[t]] for t in range(T)])
    weights = [*up, *down, shared]
    lists = "[@w0, @w1, @w2], [@w3, @w4, @w5], @w6 {block=@expert, count=3}"
    case("moe", f"moe %x0, %x1, %x2, {lists}", [x, w, e], [(d(w)[..., None] * d(y)).sum(1)], weights, expert)
    pairs = np.arange(T * 2).reshape(T, 2)
    case("moe_experts", f"moe_experts %x1, %x0, {lists}", [x, e], [y, pairs], weights, expert)
    z = normal(T, 2, 4)
    rows = (pairs * 7 + 3) % (T * 2)
    case("moe_combine", "moe_combine %x0, %x1, %x2", [z, rows, w], [(d(w)[..., None] * d(z.reshape(T * 2, 4)[rows])).sum(1)])
    case("call", "call %x0, @w0, @w1, @w2 {block=@expert} label \"layer=0\"", [x], [np.array([run(0, row) for row in x])], [up[0], down[0], shared], expert)


def main():
    os.makedirs(HERE, exist_ok=True)
    if "--ops-only" not in sys.argv:
        dequant_fixtures()
    for part in (elementwise, shapes, products, attentions, rows, functions):
        part()
    with open(os.path.join(HERE, "ops.txt"), "w") as out:
        lists = [("position", POSITION), ("sequence", SEQUENCE), ("first", FIRST), ("keep", KEEP)]
        out.write("\n".join(f"step {name} {' '.join(map(str, values))}" for name, values in lists) + "\n")
        out.write("\n".join(CASES) + "\n")


main()
