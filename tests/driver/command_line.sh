#!/bin/bash
# The command line: exit codes, messages, help. No model is needed.
set -u
failures=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# expect CODE TEXT ARGS…: tenon ARGS leaves with CODE and says TEXT on either output.
expect() {
    local code=$1 text=$2 said status
    shift 2
    said=$("$TENON" "$@" 2>&1 </dev/null)
    status=$?
    if [ $status -ne "$code" ] || [[ "$said" != *"$text"* ]]; then
        echo "tenon $*: exit $status, expected $code and '$text'; it said:"
        echo "$said" | head -20
        failures=$((failures + 1))
    fi
}

expect 2 "usage: tenon COMMAND"
expect 0 "usage: tenon COMMAND" --help
expect 0 "usage: tenon COMMAND" help
expect 0 "tenon 0." --version
"$TENON" --help >/dev/full 2>/dev/null && { echo "--help: a full disk went unnoticed"; failures=$((failures + 1)); }
expect 2 "there is no command chek (did you mean check?)" chek model.yaml
expect 2 "-o OUT is missing" explain model.yaml
for command in import check compile run eval bench explain tune opt targets; do
    expect 0 "usage: tenon $command" $command --help
    expect 0 "Examples:" help $command
    expect 2 "unknown option --no-such-thing" $command --no-such-thing
done
expect 2 "did you mean --target?" compile model.yaml --tarqet native
expect 2 "did you mean --temp?" run model.yaml --tmep 1
expect 2 "--target needs a value" check model.yaml --target
expect 2 "--timing takes no value" check model.yaml --timing=yes
expect 2 "unexpected argument 'b.yaml'" check a.yaml b.yaml
expect 2 "the model is missing" check
expect 2 "-o OUT is missing" compile model.yaml
expect 2 "did you mean exe?" compile model.yaml -o out --emit exa
expect 2 "--text FILE is missing" eval model.yaml
expect 2 "is not a size" run model.yaml --cache-size much
expect 2 "-n 99999999999: too large (at most 2147483647)" run model.yaml -n 99999999999
expect 2 "--limit: '99999999999' is too large (at most 2147483647)" eval model.yaml --text a.txt --limit 99999999999
expect 2 "--ctx: '99999999999999999999' is too large" eval model.yaml --text a.txt --ctx 99999999999999999999
expect 2 "--cache-size: '99999999999999999999' is too large" run model.yaml --cache-size 99999999999999999999
expect 2 "--memory: '1.G' is not a size" compile "$folder/absent.yaml" -o "$folder/out" --memory 1.G
expect 1 "cannot" compile "$folder/absent.yaml" -o "$folder/out" --memory 1.5G
expect 2 "--step-tokens: '0' is not a whole number from 1 on" check model.yaml --step-tokens 0
expect 2 "--step-sequences: '1.5' is not a whole number from 1 on" check model.yaml --step-sequences 1.5
expect 2 "--temp" run model.yaml --temp hot
expect 1 "cannot" check "$folder/absent.yaml"
expect 2 "there is no target named 'x86-64-v5'" compile "$folder/absent.yaml" -o "$folder/out" --target x86-64-v5
expect 2 "did you mean 'generic'?" check "$folder/absent.yaml" --target generik
expect 2 "there is no quantization 'w8a9'" run "$folder/absent.yaml" --quant w8a9 -p x
expect 2 "did you mean 'w8a8'?" eval "$folder/absent.yaml" --text x --against-quant w8a9
expect 2 "--budget-kl is for --quant auto" run "$folder/absent.yaml" --quant w8a8 --budget-kl 0.1 -p x
expect 2 "--budget-bits is a number greater than 0, not 'few'" run "$folder/absent.yaml" --quant auto --budget-bits few -p x
expect 2 "--budget-kl and --budget-bits: one of them" run "$folder/absent.yaml" --quant auto --budget-kl 0.1 --budget-bits 5 -p x
expect 2 "so it must be a file" run "$folder/absent.yaml" --quant auto --calibrate - -p x
expect 2 "chooses what --bits says already" run "$folder/absent.yaml" --quant auto --budget-kl 0.1 --bits a=4 -p x
expect 2 "a rate lies between 0 and 1" run "$folder/absent.yaml" --prune 1.5 -p x
expect 2 "is nothing that can be pruned" run "$folder/absent.yaml" --prune 7:4 -p x
expect 2 "none is given" run "$folder/absent.yaml" --bits a=4 -p x
expect 0 "--no-cache" compile --help
expect 2 "unknown option --reference" tune model.yaml --reference
expect 2 "there is no KV cache format 'i8'" run "$folder/absent.yaml" --kv i8 -p x
expect 2 "did you mean 'fuse'?" bench "$folder/absent.yaml" --passes fus
expect 2 "did you mean 'fuse'?" check "$folder/absent.yaml" --skip-pass fus
expect 2 "did you mean 'fuse'?" run "$folder/absent.yaml" --print-after=fus -p x
expect 2 "did you mean 'x86-64-v4'?" compile "$folder/absent.yaml" -o "$folder/out" --target x86-64-v3,x86-64-v44
expect 2 "do not go into one program" compile "$folder/absent.yaml" -o "$folder/out" --target x86-64-v3,armv8-a
expect 2 "is a GPU" compile "$folder/absent.yaml" -o "$folder/out" --target x86-64-v3,sm_90a
expect 2 "--emit c is for one target" compile "$folder/absent.yaml" -o "$folder/out.c" --target x86-64-v3,x86-64-v4
expect 2 "one target is needed here" run "$folder/absent.yaml" --target x86-64-v3,x86-64-v4
expect 1 "cannot" compile "$folder/absent.yaml" -o "$folder/out" --target x86-64-v3,x86-64-v4
expect 0 "native" targets
expect 0 '{"native": "' targets --json

# A machine that cannot run a target says so with exit code 3, before it reads the model.
for target in amx armv8-a x86-64-v4; do
    if "$TENON" targets --json | grep -q "\"$target\", \"triple\": \"[^\"]*\", \"runs_here\": false"; then
        expect 3 "this machine cannot run code for $target" run "$folder/absent.yaml" --target $target -p x
    fi
done

# opt: text in, text out; standard input as well; mistakes are the user's.
printf 'main @model(%%x: f32[T, 8]) -> f32[T, 8] {\n  %%y: f32[T, 8] = silu %%x\n  return %%y\n}\n' >"$folder/in.tir"
expect 0 "= silu %x" opt "$folder/in.tir" --passes=none
expect 2 "there is no pass" opt "$folder/in.tir" --passes=no_such_pass
expect 2 "targets are: native, generic" opt "$folder/in.tir" --target none
printf 'main @model(\n' >"$folder/bad.tir"
expect 1 "error:" opt "$folder/bad.tir"
if [ "$("$TENON" opt --passes=none <"$folder/in.tir")" != "$("$TENON" opt --passes=none "$folder/in.tir")" ]; then
    echo "opt: standard input and a file differ"
    failures=$((failures + 1))
fi
if ! "$TENON" opt --passes=none "$folder/in.tir" >/dev/full 2>/dev/null; then :; else
    echo "opt: a full disk went unnoticed"
    failures=$((failures + 1))
fi

[ $failures -eq 0 ] && echo "command line: all as expected"
exit $((failures > 0))
