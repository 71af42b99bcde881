#!/bin/bash
# How many parameters a model has, with its weights and before there are any; and packing that many processors share gives the bytes of one alone.
. "$(dirname "$0")/common.sh"
examples=$here/../../examples

# counts EXAMPLE PARAMETERS: what its description alone says
counts() {
    must "$1" "$TENON" check "$examples/$1.yaml" --no-weights --json || return
    grep -q "\"parameters\": $2," said || fail "$1: not $2 parameters: $(head -1 said)"
}
counts seed-14b 13989574400
counts mixtral-8x7b 46702792704
counts qwen3-30b-a3b 30532122624

# The unshared twin of a model whose layers are one has as many parameters as the model is said to have unshared.
must "the seed" "$TENON" check "$examples/seed-moe.yaml" --no-weights --json && cp said shared
sed 's/growth: 32 /growth: 0 /; s/x = decoder(x, layer=0)/x = decoder(x, layer=j+7)/; s/count: shared/index: j, count: shared/' "$examples/seed-moe.yaml" |
    sed 's/^        index: j, count: shared/        index: j\n        count: shared/' >twin.yaml
sed 's/growth: 32 /growth: 0 /' "$examples/seed-moe.yaml" >shared.yaml
must "a model that shares" "$TENON" check shared.yaml --no-weights --json && cp said shared
must "its twin" "$TENON" check twin.yaml --no-weights --json && cp said twin
python3 - <<'P' || fail "the twin's parameters"
import json
shared, twin = json.load(open("shared")), json.load(open("twin"))
table = next(32000 * t["shape"][1] for t in shared["tensors"] if t["use"] == "embedding")   # tied: used twice in both
assert shared["parameters"] < 0.7 * twin["parameters"] and shared["unshared_parameters"] == twin["parameters"] + table == twin["unshared_parameters"]
uses = {t["name"].split(".", 3)[-1]: t["use"] for t in shared["tensors"]}
want = {"mlp.gate.weight": "router", "self_attn.o_proj.weight": "attention output", "mlp.experts.15.down_proj.weight": "output", "self_attn.q_norm.weight": "norm"}
assert all(uses[name] == use for name, use in want.items()), uses
P

# With weights it is the same tensors.
must "the toy" "$TENON" check toy.yaml --json && cp said with
must "the toy, declared" "$TENON" check toy.yaml --no-weights --json && cp said without
python3 - <<'P' || fail "the toy has other tensors than it declares"
import json
a, b = (json.load(open(name)) for name in ("with", "without"))
shapes = lambda said: {t["name"]: (t["shape"], t["use"]) for t in said["tensors"]}
assert shapes(a) == shapes(b) and a["parameters"] == b["parameters"], (shapes(a), shapes(b))
P

for quant in as-stored w8a8 w4a8; do
    must "all processors" "$TENON" compile toy.yaml -o all.o --quant $quant
    must "one processor" taskset -c "$(taskset -pc $$ | sed 's/.*[ ,-]//')" "$TENON" compile toy.yaml -o one.o --quant $quant
    same all.weights one.weights "$quant on one processor"
done
finish parameters
