#!/bin/bash
# A toy model through the whole command: run (cold, warm, many at once), the reference interpreter, and the forms that compile writes, bit by bit.
. "$(dirname "$0")/common.sh"

# ---- cold and warm
must check "$TENON" check toy.yaml
must cold "$TENON" run toy.yaml --tokens 1,2,3 -n 5 --logits cold.npy && cp said cold.txt
expect_count 'c-*' 1 cold
expect_count 'w-*' 1 cold
must warm env LD_DEBUG=files "$TENON" run toy.yaml --tokens 1,2,3 -n 5 --logits warm.npy
grep -q 'libclang\|libLLVM\|libtenon-clang' said && fail "warm: a warm run loads the compiler"
must warm "$TENON" run toy.yaml --tokens 1,2,3 -n 5 && same said cold.txt warm
same cold.npy warm.npy warm

# A changed comment packs nothing new that differs and compiles nothing; a touched file is the same file.
touch toy.yaml
must touched "$TENON" run toy.yaml --tokens 1,2,3 -n 5 && same said cold.txt touched
expect_count 'w-*' 1 touched
echo '# a comment' >>toy.yaml
must comment "$TENON" run toy.yaml --tokens 1,2,3 -n 5 && same said cold.txt comment
expect_count 'c-*' 1 comment

# Changed weights are another program; so are other options.
cp toy.safetensors first.safetensors
python3 "$here/toy_weights.py" toy.safetensors 2
must weights "$TENON" run toy.yaml --tokens 1,2,3 -n 0 --logits other.npy
cmp -s cold.npy other.npy && fail "weights: changed weights, the same logits"
cp first.safetensors toy.safetensors
must weights "$TENON" run toy.yaml --tokens 1,2,3 -n 0 --logits again.npy && same again.npy cold.npy weights
must target "$TENON" run toy.yaml --target generic --tokens 1,2,3 -n 0 --logits generic.npy

# What is broken in the cache is made again.
for file in "$cache"/c-* "$cache"/w-*; do : >"$file"; done
must broken "$TENON" run toy.yaml --tokens 1,2,3 -n 5 && same said cold.txt broken
for file in "$cache"/m-*; do echo rubbish >"$file"; done
must broken "$TENON" run toy.yaml --tokens 1,2,3 -n 5 && same said cold.txt broken

# Many at once, cold.
rm -rf "$cache"
for i in 1 2 3 4; do "$TENON" run toy.yaml --tokens 1,2,3 -n 5 >many.$i 2>many.$i.err & done
wait
for i in 1 2 3 4; do same many.$i cold.txt "many at once"; done
expect_count '.*.part' 0 "many at once"

# No cache, a tiny one, and one that is not ours alone.
rm -rf "$cache"
must none "$TENON" run toy.yaml --tokens 1,2,3 -n 5 --no-cache && same said cold.txt none
[ -e "$cache" ] && fail "none: --no-cache left a cache"
"$TENON" run toy.yaml --tokens 1,2,3 -n 5 --cache-size 1K >out 2>said || fail "tiny: exit $?"
same out cold.txt tiny
grep -q "do not fit the cache" said || fail "tiny: no warning"
chmod 777 "$cache"
"$TENON" run toy.yaml --tokens 1,2,3 -n 5 >out 2>said || fail "open: exit $?"
same out cold.txt open
grep -q "only you can write" said || fail "open: no warning"
rm -rf "$cache"

# ---- the reference interpreter is near; eval says how near
must reference "$TENON" run toy.yaml --reference --tokens 1,2,3 -n 5 --logits reference.npy && same said cold.txt reference
near cold.npy reference.npy reference
must quant "$TENON" run toy.yaml --quant w8a8 --kv f32 --reference --tokens 1,2,3 --tokens 5,6 -n 0 --logits quant-reference.npy &&
    must quant "$TENON" run toy.yaml --quant w8a8 --kv f32 --tokens 1,2,3 --tokens 5,6 -n 0 --logits quant.npy && near quant.npy quant-reference.npy quant

# ---- every form gives the same bits
must exe "$TENON" compile toy.yaml -o toy && must exe ./toy --tokens 1,2,3 -n 0 --logits exe.npy && same exe.npy cold.npy exe
mkdir small && (trap '' XFSZ; ulimit -f 0; ./toy --tokens 1,2,3 -n 0 --logits small/l.npy 2>&1) | grep -q "l.npy: cannot be written" || fail "exe: a full disk under --logits went unnoticed"
cp exe.npy small/kept.npy && (trap '' XFSZ; ulimit -f 0; ./toy --tokens 1,2,3 -n 0 --logits small/kept.npy >/dev/null 2>&1)
{ [ "$(ls -A small)" = kept.npy ] && same exe.npy small/kept.npy "a failed --logits"; } || fail "exe: a failed --logits left something: $(ls -A small)"
ldd toy >said 2>&1; grep -q "not a dynamic executable" said || fail "exe: it is dynamic"
must so "$TENON" compile toy.yaml -o libtoy.so && must so env PKG_CONFIG_PATH=. sh -c "${CC:-cc} -o host '$here/host.c' \$(pkg-config --cflags --libs libtoy)" &&
    must so ./host host.npy && same host.npy cold.npy so
must obj "$TENON" compile toy.yaml -o toyo.o --json
must fat "$TENON" compile toy.yaml -o fat --target generic,native && must fat ./fat --tokens 1,2,3 -n 0 --logits fat.npy && same fat.npy cold.npy fat &&
    must fat env TENON_TARGET=generic ./fat --tokens 1,2,3 -n 0 --logits fat.npy && same fat.npy generic.npy "fat, generic"
TENON_TARGET=none ./fat --tokens 1 -n 1 >out 2>said; [ $? -eq 2 ] || fail "fat: a target that it has not: exit code"
archive=$BUILD_DIR/runtime/libtenon_program.a
[ -e "$archive" ] && must obj "${CC:-cc}" -static -o toyo toyo.o "$archive" -lutf8proc -lgomp -lm && must obj ./toyo --tokens 1,2,3 -n 0 --logits obj.npy &&
    same obj.npy cold.npy obj
for kind in llvm-ir asm; do must $kind "$TENON" compile toy.yaml -o toy.$kind --emit $kind --target armv8.2-a+dotprod; done
grep -q aarch64 toy.llvm-ir || fail "llvm-ir: not for aarch64"
for quant in w8a8 w5a8 w4a8; do must ptx "$TENON" compile toy.yaml -o toy.ptx --target sm_90a --quant $quant; done
"$TENON" compile toy.yaml -o toy.ptx 2>said && fail "ptx: a CPU target has no PTX"
grep -q "needs a GPU target" said || fail "ptx: no reason given"

# ---- mistakes
must home env -u XDG_CACHE_HOME HOME="$PWD/absent" "$TENON" run toy.yaml --tokens 1 -n 1
{ [ ! -e absent ] && grep -q "nothing is cached" said; } || fail "a home that is not there was made"
"$TENON" compile toy.yaml -o /nonexistent/toy 2>said; [ $? -eq 1 ] || fail "a folder that is not there: exit code"
grep -q "create its folder first" said || fail "a folder that is not there: no hint"
mkdir taken
"$TENON" compile toy.yaml -o taken 2>said; [ $? -eq 1 ] || fail "a folder of that name: exit code"
mkfifo pipe
"$TENON" compile toy.yaml -o pipe 2>said; [ $? -eq 1 ] && [ -p pipe ] || fail "a pipe of that name: replaced"
grep -q "not a file to write" said || fail "a pipe of that name: no reason given"
: >kept.c && ln -s kept.c link.c
must link "$TENON" compile toy.yaml -o link.c --emit c && { [ -L link.c ] && [ -s kept.c ] || fail "a link: what it leads to was not written"; }
PATH=/nonexistent "$TENON" compile toy.yaml -o nocc 2>said; [ $? -eq 1 ] || fail "no C compiler: exit code"
grep -q "install gcc" said || fail "no C compiler: no hint"
find . -name '.*.part' | grep -q . && fail "half-written files are left"

# ---- passes that code generation cannot do without
for pass in layout memory; do
    "$TENON" run toy.yaml --skip-pass $pass --tokens 1,2,3 -n 1 >said 2>&1; [ $? -eq 1 ] || fail "without $pass: exit code"
    grep -q "run pass '$pass' first" said || fail "without $pass: not said"
done
"$TENON" compile toy.yaml --passes none -o none.c >said 2>&1; [ $? -eq 1 ] || fail "without passes: exit code"
grep -q "is not lowered" said || fail "without passes: not said"
must "the interpreter needs none" "$TENON" run toy.yaml --passes none --reference --tokens 1,2,3 -n 1

finish programs
