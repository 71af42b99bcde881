#!/bin/bash
# The forms that other compilers finish: C by gcc and clang at several -O, and programs for AArch64, run under qemu-user. The same bits for one target.
. "$(dirname "$0")/common.sh"

must jit "$TENON" run toy.yaml --tokens 1,2,3 -n 0 --logits cold.npy
must reference "$TENON" run toy.yaml --reference --tokens 1,2,3 -n 0 --logits reference.npy
must c "$TENON" compile toy.yaml -o toyc.c
line=$(sed -n '3s|^// *||p' toyc.c)
for compiler in "gcc -O0" "gcc -O3" "clang-19 -O2"; do
    command -v ${compiler%% *} >/dev/null || { echo "c: ${compiler%% *} is not here: skipped"; continue; }
    options=${line#cc -O2}
    [ "${compiler%% *}" = clang-19 ] && options=${options/-fopenmp/}
    must c sh -c "$compiler $options" && must c ./toyc --tokens 1,2,3 -n 0 --logits c.npy && same c.npy cold.npy "c by $compiler"
done
mkdir moved && cp toyc moved/renamed && cp toyc.weights moved/ && must c ./moved/renamed --tokens 1,2,3 -n 0 --logits c.npy && same c.npy cold.npy "c, renamed"

# ---- for another machine: near the reference here, and the same bits as object, executable and C there
if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
    mkdir -p cross
    aarch64-linux-gnu-gcc -O1 -c -idirafter /usr/include "$here/unicode_stub.c" -o cross/stub.o && aarch64-linux-gnu-ar rcs cross/libutf8proc.a cross/stub.o
    printf '#!/bin/sh\nexec %s "$@" -L%s/cross\n' "$(command -v aarch64-linux-gnu-gcc)" "$PWD" >cross/aarch64-linux-gnu-gcc
    chmod +x cross/aarch64-linux-gnu-gcc
    for target in armv8-a armv8.2-a+dotprod; do
        must "$target" env PATH="$PWD/cross:$PATH" "$TENON" compile toy.yaml -o "arm-$target" --target $target &&
            must "$target" qemu-aarch64 "./arm-$target" --tokens 1,2,3 -n 0 --threads 2 --logits "arm-$target.npy" &&
            near "arm-$target.npy" reference.npy "$target"
        [ $target = armv8-a ] || continue   # the same C but for the processor's name
        must "$target c" "$TENON" compile toy.yaml -o arm.c --target $target
        line=$(sed -n '3s|^// *||p' arm.c)
        must "$target c" env PATH="$PWD/cross:$PATH" sh -c "${line/ -O2 / -O2 -static -idirafter \/usr\/include }" &&
            must "$target c" qemu-aarch64 ./arm --tokens 1,2,3 -n 0 --logits arm.npy && same arm.npy "arm-$target.npy" "$target c"
    done
else
    echo "aarch64: aarch64-linux-gnu-gcc or qemu-aarch64 is not here: skipped"
fi

finish forms
