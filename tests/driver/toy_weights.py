# toy_weights.py OUT SEED: random weights of toy.yaml, as safetensors. Python alone, no packages.
import json, struct, sys
shapes = {"embed": [32, 16]}
for l in range(2):
    shapes.update({f"l{l}.wq": [16, 16], f"l{l}.wk": [8, 16], f"l{l}.wv": [8, 16], f"l{l}.wo": [16, 16], f"l{l}.norm": [16],
                   f"l{l}.up": [24, 16], f"l{l}.down": [16, 24]})
header, data, seed = {}, b"", int(sys.argv[2])
for name, shape in shapes.items():
    n = 1
    for size in shape:
        n *= size
    values = []
    for i in range(n):
        seed = (seed * 1103515245 + 12345) & 0x7fffffff
        values.append(seed / 0x7fffffff - 0.5)
    raw = struct.pack(f"<{n}f", *values)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
