#!/usr/bin/env python3
"""--bench on a small model, in memory and compiled: its JSON is whole, its figures fit one another, and no kernel is faster than the machine.

    tests/runtime/bench.py TENON        nothing here depends on how fast this machine is

The model's weights (8 MB) have no room in the caches that belong to one core: what fits there is read faster than anything that is measured.
"""
import json, os, random, struct, subprocess, sys, tempfile

TENON = os.path.abspath(sys.argv[1])
LAYERS, HIDDEN, FFN, VOCAB = 4, 256, 1024, 2048
MODEL = f"""tenon: 1
name: small
config: {{vocab: {VOCAB}, hidden: {HIDDEN}, layers: {LAYERS}, heads: 4, kv_heads: 2, head_dim: 64, ffn: {FFN}, eps: 1e-5, rope_base: 1e4}}
context: 96
weights: small.safetensors
blocks:
  decoder:
    index: [layer]
    inputs: [x]
    params:
      wq: {{shape: [heads*head_dim, hidden], name: "l{{layer}}.wq"}}
      wk: {{shape: [kv_heads*head_dim, hidden], name: "l{{layer}}.wk"}}
      wv: {{shape: [kv_heads*head_dim, hidden], name: "l{{layer}}.wv"}}
      wo: {{shape: [hidden, heads*head_dim], name: "l{{layer}}.wo"}}
      norm: {{shape: [hidden], name: "l{{layer}}.norm"}}
      up: {{shape: [ffn, hidden], name: "l{{layer}}.up"}}
      down: {{shape: [hidden, ffn], name: "l{{layer}}.down"}}
    body:
      - h = rms_norm(x, norm, eps=eps)
      - q = rope(reshape(linear(h, wq), [T, heads, head_dim]), base=rope_base)
      - k = rope(reshape(linear(h, wk), [T, kv_heads, head_dim]), base=rope_base)
      - v = reshape(linear(h, wv), [T, kv_heads, head_dim])
      - x = x + linear(reshape(attention(q, k, v), [T, heads*head_dim]), wo)
      - return x + linear(silu(linear(x, up)), down)
model:
  params:
    embed: {{shape: [vocab, hidden], name: embed}}
  body:
    - x = embedding(tokens, embed)
    - repeat:
        index: i
        count: layers
        body:
          - x = decoder(x, layer=i)
    - return linear(x, embed)
"""
PHASE = {"phase", "sequences", "context", "tokens_per_sequence", "rounds", "seconds", "p99_seconds", "tokens_per_second", "least_tokens_per_second",
         "most_tokens_per_second"}
TIMED = {"kernel_rounds", "kernel_round_seconds", "memory_bytes", "fraction_of_read_bandwidth", "kernels"}
KERNEL = {"name", "what", "calls", "seconds", "share_of_round", "weight_bytes", "cache_bytes", "row_bytes", "operations",
          "bytes_per_second", "operations_per_second", "arithmetic", "bound", "fraction_of_limit"}
LIMITS = {"memory_buffer_bytes", "weights_buffer_bytes", "cache_buffer_bytes_per_thread", "near_cache_buffer_bytes_per_thread",
          "memory_read_bytes_per_second", "weights_read_bytes_per_second",
          "cache_read_bytes_per_second", "near_cache_read_bytes_per_second", "operations_per_second"}
failures = []


def check(what, good, got=None):
    if not good:
        failures.append(f"{what}: {got!r}")


def write_weights(path):
    """float16, all of them small: the top bits of the exponent are fixed."""
    shapes = {"embed": [VOCAB, HIDDEN]}
    for i in range(LAYERS):
        shapes |= {f"l{i}.wq": [256, HIDDEN], f"l{i}.wk": [128, HIDDEN], f"l{i}.wv": [128, HIDDEN], f"l{i}.wo": [HIDDEN, 256], f"l{i}.norm": [HIDDEN],
                   f"l{i}.up": [FFN, HIDDEN], f"l{i}.down": [HIDDEN, FFN]}
    header, data, draw = {}, bytearray(), random.Random(1)
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = bytearray(draw.randbytes(size))
        values[1::2] = values[1::2].translate(bytes(b & 0x83 | 0x28 for b in range(256)))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += values
    text = json.dumps(header).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


def run(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    check(f"{command}: exit code, {result.stderr}", result.returncode == 0, result.returncode)
    return result.stdout


def bench_kernel(what, kernel, limits, weights):
    check(f"{what}: keys", set(kernel) == KERNEL, sorted(kernel))
    check(f"{what}: a fraction of a limit", 0 <= kernel["fraction_of_limit"] <= 3, kernel)   # a wrong unit is off by more than noise
    check(f"{what}: a share", 0 <= kernel["share_of_round"] <= 1.5, kernel)
    check(f"{what}: what bounds it", kernel["bound"] in ("memory", "arithmetic", "cache"), kernel["bound"])
    check(f"{what}: its arithmetic is among the limits", kernel["arithmetic"] in (None, *limits["operations_per_second"]), kernel["arithmetic"])
    check(f"{what}: it takes time", kernel["calls"] > 0 and kernel["seconds"] > 0, kernel)
    check(f"{what}: it does something", kernel["row_bytes"] > 0 and kernel["operations"] >= 0, kernel)
    check(f"{what}: weights within the program's", kernel["weight_bytes"] <= weights * kernel["calls"], kernel["weight_bytes"])


def bench_json(what, text, threads):
    bench = json.loads(text)
    limits = bench["limits"]
    check(f"{what}: limits", set(limits) == LIMITS and all(value > 0 for key, value in limits.items() if key != "operations_per_second"), limits)
    check(f"{what}: peaks", "f32" in limits["operations_per_second"] and all(v > 0 for v in limits["operations_per_second"].values()), limits)
    check(f"{what}: threads", bench["threads"] == threads, bench["threads"])
    check(f"{what}: phases", [p["phase"] for p in bench["phases"]][:2] == ["prefill", "decode"] and len(bench["phases"]) == 4, bench["phases"])
    for phase in bench["phases"]:
        name = f"{what}: {phase['phase']} of {phase['sequences']} at {phase['context']}"
        check(f"{name}: keys", set(phase) == PHASE | TIMED, sorted(phase))
        check(f"{name}: order", phase["least_tokens_per_second"] <= phase["tokens_per_second"] <= phase["most_tokens_per_second"], phase)
        check(f"{name}: kernels", len(phase["kernels"]) > 3, phase["kernels"])
        shares, memory = [k["share_of_round"] for k in phase["kernels"]], sum(k["weight_bytes"] + k["cache_bytes"] for k in phase["kernels"])
        check(f"{name}: shares", 0 < sum(shares) < 1.05, shares)
        check(f"{name}: memory", abs(phase["memory_bytes"] - memory) < 1, phase["memory_bytes"])
        for kernel in phase["kernels"]:
            bench_kernel(f"{name}: {kernel['name']}", kernel, limits, bench["weights_bytes"])
    one, two = bench["phases"][1:3]
    for a, b in zip(one["kernels"], two["kernels"]):
        rows = a["row_bytes"], b["row_bytes"]
        check(f"{what}: {a['name']}: rows of two sequences", abs(rows[1] - 2 * rows[0]) < 1e-6 * rows[1], rows)


def measured(what, threads, *command):
    """A neighbour that keeps the machine from its limits makes kernels look good: three attempts, of which one must hold."""
    before = len(failures)
    for attempt in range(3):
        del failures[before:]
        bench_json(what, run(*command, "--threads", str(threads), "--kernels", "--quick", "--sequences", "2", "--decode-at", "48", "--json"), threads)
        if len(failures) == before:
            return


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
        model, program = os.path.join(folder, "small.yaml"), os.path.join(folder, "small")
        with open(model, "w") as out:
            out.write(MODEL)
        write_weights(os.path.join(folder, "small.safetensors"))
        for threads in 1, 2:
            measured(f"in memory, {threads} threads", threads, TENON, "bench", model)
        measured("w8a8", 2, TENON, "bench", model, "--quant", "w8a8")
        measured("generic", 1, TENON, "bench", model, "--target", "generic")
        run(TENON, "compile", model, "-o", program)
        measured("compiled", 2, program, "--bench")
        table = run(program, "--bench", "--kernels", "--quick", "--sequences", "1", "--threads", "1")
        check("the table says how it was measured", "Medians, with the slowest" in table and "best of its repetitions" in table, table)
    print("\n".join(failures) or "ok")
    return bool(failures)


sys.exit(main())
