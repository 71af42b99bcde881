#!/bin/bash
# Calibrated quantization: the same bytes each time and in every form, nearer to the float model than plain rounding; formats chosen by measurement;
# what cannot be calibrated is said clearly.
source "$(dirname "$0")/common.sh"
PATH=$(dirname "$TENON"):$PATH
sed -e 's/hidden: 16/hidden: 64/; s/head_dim: 8/head_dim: 32/; s/ffn: 24/ffn: 96/; s/toy.safetensors/wide.safetensors/; s/^name: toy/name: wide/' toy.yaml > ids.yaml
sed -e 's/^context:/tokenizer: letters.json\ncontext:/' ids.yaml > wide.yaml
python3 - <<'P'
import json, struct
shapes = {"embed": [32, 64]}
for l in range(2):
    shapes.update({f"l{l}.wq": [64, 64], f"l{l}.wk": [32, 64], f"l{l}.wv": [32, 64], f"l{l}.wo": [64, 64], f"l{l}.norm": [64],
                   f"l{l}.up": [96, 64], f"l{l}.down": [64, 96]})
header, data, seed = {}, b"", 1
for name, shape in shapes.items():
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    raw = b""
    for i in range(n):
        seed = (seed * 1103515245 + 12345) & 0x7fffffff
        raw += struct.pack("<f", (seed / 0x7fffffff - 0.5) * (4 if i % 61 == 7 else 0.5))
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open("wide.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
letters = "abcdefghijklmnopqrstuvwxyz .,\nT!"
json.dump({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Fuse"},
           "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(letters)}, "merges": [], "unk_token": "!", "fuse_unk": False}},
          open("letters.json", "w"))
P
for i in $(seq 40); do echo "the mill stood where the river bent, and the wheel turned $i times. so it went on."; done > text.txt
: > empty.txt

# the same bytes: twice, without a cache, as an executable, in the interpreter's eyes
kept="run wide.yaml --quant w8a8 --kv f32 --calibrate text.txt --tokens 1,2,3,4,5,6,7 -n 0"
must "calibrated run" tenon $kept --logits a.npy
expect_count 'q-*' 1 "a calibrated run"
must "a second run" tenon $kept --logits b.npy
expect_count 'q-*' 1 "a second run"
must "a run without cache" tenon $kept --no-cache --logits c.npy
must "calibrated executable" tenon compile wide.yaml --quant w8a8 --kv f32 --calibrate text.txt -o wide
must "running it" ./wide --tokens 1,2,3,4,5,6,7 -n 0 --logits d.npy --threads 1
must "the interpreter" tenon $kept --reference --logits e.npy
must "plain rounding" tenon run wide.yaml --quant w8a8 --kv f32 --tokens 1,2,3,4,5,6,7 -n 0 --logits plain.npy
for other in b c d; do same a.npy $other.npy "calibrated $other"; done
near a.npy e.npy "calibrated"
cmp -s a.npy plain.npy && fail "calibration changed nothing"

# nearer to the float model than plain rounding
kl() { tenon eval wide.yaml --text text.txt --limit 500 --against-quant as-stored --json "$@" 2>said | python3 -c 'import json, sys; print(json.load(sys.stdin)["kl"])'; }
plain=$(kl --quant w4a16) better=$(kl --quant w4a16 --calibrate text.txt)
python3 -c "import sys; sys.exit(not $better < $plain)" || fail "KL $better with calibration, $plain without"

# the base's cache keeps floats, so that what --kv costs is seen
coarse=$(kl --kv int8) floats=$(kl --kv f32)
python3 -c "import sys; sys.exit(not $coarse > $floats == 0)" || fail "KL $coarse with a cache of int8, $floats with one of floats"

# auto: what was chosen is said and kept; a budget in bits is kept to
must "auto" tenon run wide.yaml --quant auto --budget-bits 6.5 --calibrate text.txt --tokens 1,2,3 -n 0 --logits a.npy
grep -q 'bits a weight; expected KL .*; measured on' said || fail "auto does not say what it chose"
bits=$(sed -n 's/ bits a weight.*//p' said)
python3 -c "import sys; sys.exit(not $bits <= 6.5)" || fail "auto: $bits bits a weight"
expect_count 'a-*' 1 "auto"
words=$(sed -n 's/^the same again: .*--bits "\(.*\)"$/\1/p' said)
must "auto, repeated" tenon run wide.yaml --quant auto --bits "$words" --calibrate text.txt --tokens 1,2,3 -n 0 --logits b.npy && same a.npy b.npy "--bits '$words'"

must "auto, again" tenon compile wide.yaml --quant auto --budget-bits 6.5 --calibrate text.txt -o again.c
expect_count 'a-*' 1 "auto, again"
must "auto by divergence" tenon compile wide.yaml --quant auto --budget-kl 0.02 --calibrate text.txt -o kl.c
distance=$(sed -n 's/.*tokens, calibrated: //p' said)
python3 -c "import sys; sys.exit(not $distance <= 0.02)" || fail "auto: KL $distance where 0.02 was asked for"
must "auto without calibration" tenon compile wide.yaml --quant auto --budget-bits 5.5 -o plain.c
grep -q 'tokens, rounded plainly' said || fail "auto without calibration does not say so"
# weights that are 16-bit floats already have the same costs as those values in 32 bits
python3 - <<'P'
import json, struct
raw = open("wide.safetensors", "rb").read()
length = struct.unpack("<Q", raw[:8])[0]
header, data = json.loads(raw[8:8 + length]), raw[8 + length:]
halves = struct.pack(f"<{len(data) // 4}e", *struct.unpack(f"<{len(data) // 4}f", data))
floats = struct.pack(f"<{len(data) // 4}f", *struct.unpack(f"<{len(data) // 4}e", halves))
for name, dtype, values, size in ("half", "F16", halves, 2), ("float", "F32", floats, 4):
    text = json.dumps({k: {"dtype": dtype, "shape": v["shape"], "data_offsets": [o // 4 * size for o in v["data_offsets"]]} for k, v in header.items()})
    text = text.encode() + b" " * (-len(text) % 8)
    open(name + ".safetensors", "wb").write(struct.pack("<Q", len(text)) + text + values)
P
for type in half float; do
    sed "s/wide.safetensors/$type.safetensors/" wide.yaml > $type.yaml
    must "auto, $type" tenon compile $type.yaml --quant auto --budget-bits 5.5 -o $type.c && sed 's/; measured.*//' said | head -n -2 > $type.costs
done
same half.costs float.costs "costs of 16-bit floats"
must "auto without a tokenizer" tenon compile ids.yaml --quant auto --budget-bits 5.5 -o ids.c
grep -q 'bits a weight; expected error' said || fail "auto without a tokenizer does not say by what it chose"
for i in 1 2; do
    must "a budget too small" tenon compile ids.yaml --quant auto --budget-bits 3 -o ids.c
    grep -q 'the budget of 3 bits a weight is not met' said || fail "auto does not say that its budget is not met ($i)"
done

# the cache keeps to its bound when a program is compiled, too
must "a small cache" tenon compile wide.yaml --quant w8a8 --calibrate text.txt --skip-pass rotate --cache-size 1K -o small.c
[ "$(find "$cache" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')" -le 1024 ] || fail "a small cache: $(ls -l "$cache")"

# layers of different formats: the same bits in every form
mixed="--quant w4a8 --kv f32 --bits l*.up=8\ l0.w*=4g64\ l1.wv=6\ l1.wo=5\ l1.down=8g32"
must "mixed layers" eval tenon run wide.yaml $mixed --tokens 1,2,3,4,5,6,7 -n 0 --logits a.npy
must "mixed executable" eval tenon compile wide.yaml $mixed -o mixed
must "running it" ./mixed --tokens 1,2,3,4,5,6,7 -n 0 --logits b.npy --threads 1
must "the interpreter" eval tenon run wide.yaml $mixed --reference --tokens 1,2,3,4,5,6,7 -n 0 --logits c.npy
same a.npy b.npy "mixed executable"
near a.npy c.npy "mixed layers"
sixteen="--quant w8a8 --bits l0.*=16\ l1.wo=16"
must "16 bits for some" eval tenon run wide.yaml $sixteen --threads 2 --tokens 1,2,3,4,5,6,7 -n 0 --logits a.npy
must "16 bits, executable" eval tenon compile wide.yaml $sixteen -o sixteen
must "running it" ./sixteen --tokens 1,2,3,4,5,6,7 -n 0 --logits b.npy --threads 1
same a.npy b.npy "16 bits for some"

# tasks
must "next-word" tenon eval wide.yaml --text text.txt --limit 300 --task next-word --against-quant as-stored --quant w8a8
grep -q 'of it kept (95 % confidence' said || fail "no confidence interval"

# what is wrong is said
wrong() {   # MESSAGE ARGUMENTS…
    local message=$1
    shift
    tenon "$@" >said 2>&1
    local code=$?
    [ $code -eq 1 ] || [ $code -eq 2 ] || fail "$*: left with $code"
    grep -q -- "$message" said || { fail "$*: no '$message'"; head -5 said; }
}
wrong "the calibration text has no tokens" run wide.yaml --quant w8a8 --calibrate empty.txt --tokens 1 -n 0
wrong "the model needs a tokenizer" run ids.yaml --quant w8a8 --calibrate text.txt --tokens 1 -n 0
wrong "nothing.txt" run wide.yaml --quant w8a8 --calibrate nothing.txt --tokens 1 -n 0
wrong "is not NAME=BITS" run wide.yaml --quant w8a8 --bits 'l0.wq=7' --tokens 1 -n 0
wrong "is not NAME=BITS" run wide.yaml --quant w8a8 --bits 'l0.wq=4g48' --tokens 1 -n 0
wrong "no matrix is named 'l0.wqq'" run wide.yaml --quant w8a8 --bits 'l0.wqq=4' --tokens 1 -n 0
wrong "fits no matrix" run wide.yaml --quant w8a8 --bits '************************************************l0*qq=4' --tokens 1 -n 0
wrong "--group is 32, 64, 128 or channel" run wide.yaml --quant w8a8 --group 48 --tokens 1 -n 0
wrong "leaves activations in float" run wide.yaml --quant w4a16 --act-group 32 --tokens 1 -n 0
wrong "one of them" run wide.yaml --quant auto --budget-bits 5 --budget-kl 0.1 --tokens 1 -n 0
wrong "--task is next-word or last-word" eval wide.yaml --text text.txt --task spelling
must "nothing to calibrate" tenon run wide.yaml --quant bf16 --calibrate text.txt --tokens 1 -n 0
grep -q -- "--calibrate does nothing" said || fail "no warning that nothing is calibrated"
finish calibrate
