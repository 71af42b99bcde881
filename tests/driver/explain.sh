#!/bin/bash
# tenon explain: the report is well-formed, stands alone, holds every kernel, pass and weight, and escapes what comes from files.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# check FILE YAML-OR-MODEL OPTIONS…: a strict parser takes it, and it is complete.
check() {
    python3 - "$1" "$TENON" "${@:2}" <<'P' || fail "$1: see above"
import re, subprocess, sys, xml.etree.ElementTree as tree
path, tenon, model, *options = sys.argv[1:]
text = open(path, encoding="utf-8").read()
root = tree.fromstring(text[text.index("<html"):])
body = "".join(root.itertext())
wrong = []
if re.search(r'(?:src|href|action|data)="(?!#)|url\((?!#)|@import|https?://(?!www\.w3\.org)', text):
    wrong.append("it refers to something outside")
ids = [e.get("id") for e in root.iter() if e.get("id")]
if len(ids) != len(set(ids)):
    wrong.append("an id is there twice")
for e in root.iter():
    target = e.get("href")
    if target and target[1:] not in ids:
        wrong.append(f"{target} leads nowhere")
for section in "summary graph passes kernels memory roofline weights".split():
    if section not in ids:
        wrong.append(f"no section {section}")
done = subprocess.run([tenon, "check", model, "--passes=share,canonicalize,rows,quantize,attention,moe,fuse,layout,memory"], capture_output=True, text=True)
if not options:   # the same passes
    for name in re.findall(r'^kernel @("(?:[^"\\]|\\.)*"|[^(]+)\(', done.stdout, re.M):
        if body.count(name.strip('"').replace('\\"', '"')) < 2:
            wrong.append(f"kernel {name} is not there")
weights = {cell.text for row in root.iter("tr") for cell in row.iter("code") if cell.text}
import json, struct
data = open("hostile.safetensors" if "hostile" in model else "toy.safetensors", "rb").read()
for name in json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]]):
    if name != "__metadata__" and name not in weights:
        wrong.append(f"weight {name} is not there")
for p in "share canonicalize quantize attention fuse layout memory".split():
    if not any(e.tag == "code" and e.text == p for e in root.iter()):
        wrong.append(f"pass {p} is not there")
print("\n".join(wrong))
sys.exit(bool(wrong))
P
}

must "a report" "$TENON" explain toy.yaml -o toy.html && check toy.html toy.yaml
grep -q 'class="chart"' toy.html || fail "toy.html: no roofline, though the target runs here"
must "int8" "$TENON" explain toy.yaml -o int8.html --quant w8a8 && check int8.html toy.yaml --quant w8a8
grep -q '<td>w8</td>' int8.html || fail "int8.html: no weight became int8"
grep -Eq '<ins[^>]*>[^<]*(<b>)?linear_i8|linear_i8' int8.html || fail "int8.html: the passes do not show linear_i8"
must "without measuring" "$TENON" explain toy.yaml -o still.html --no-measure && check still.html toy.yaml
grep -q 'class="chart"' still.html && fail "still.html: a roofline that was not measured"
must "formats" "$TENON" explain toy.yaml -o kv.html --quant w4a8 --group 64 --symmetric --kv int8 --no-measure && check kv.html toy.yaml --quant w4a8
grep -q '<th>Groups of weights</th><td>64</td>' kv.html && grep -q '<th>KV cache</th><td>int8' kv.html || fail "kv.html: --group and --kv are not told"
must "another target" "$TENON" explain toy.yaml -o arm.html --target armv8.2-a+dotprod && check arm.html toy.yaml --target
must "no passes left out twice" "$TENON" explain toy.yaml -o skip.html --skip-pass share,canonicalize --no-measure

# Names from files are text, whatever they hold.
python3 - <<'P'
import json, struct
data = open("toy.safetensors", "rb").read()
length = struct.unpack("<Q", data[:8])[0]
evil = lambda name: name.replace("wq", "</code><script>alert(1)</script>&\"'wq") if name != "__metadata__" else name
header = json.dumps({evil(k): v for k, v in json.loads(data[8:8 + length]).items()}).encode()
header += b" " * (-len(header) % 8)
open("hostile.safetensors", "wb").write(struct.pack("<Q", len(header)) + header + data[8 + length:])
yaml = open("toy.yaml").read().replace("toy.safetensors", "hostile.safetensors").replace("name: toy", "name: \"<i>&'toy\\\"\"")
yaml = yaml.replace('"l{layer}.wq"', "'l{layer}.</code><script>alert(1)</script>&\"''wq'")
open("hostile.yaml", "w").write(yaml)
P
must "hostile names" "$TENON" explain hostile.yaml -o hostile.html && check hostile.html hostile.yaml --hostile
grep -q 'alert(1)</script>' hostile.html && fail "hostile.html: a name became a script"
grep -q '<i>&' hostile.html && fail "hostile.html: the model's name is not escaped"
grep -q '&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;' hostile.html || fail "hostile.html: the name is not there as it is"

# Mistakes are said as everywhere, and nothing is written.
"$TENON" explain absent.yaml -o absent.html >said 2>&1
[ $? -eq 1 ] && grep -q 'absent.yaml: error: ' said || fail "an absent model: $(cat said)"
[ -e absent.html ] && fail "an absent model left a report"
"$TENON" explain toy.yaml -o "$folder/no/such/folder.html" --no-measure >said 2>&1
[ $? -eq 1 ] && grep -q 'error: ' said || fail "a folder that is not there: $(cat said)"
finish explain
