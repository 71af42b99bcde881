#!/bin/sh
# amalgam.sh AMALGAM HASH PROGRAM: the run time as one C file, built as a user builds it, says what PROGRAM says.
amalgam=$1 hash=$2 program=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$program" "$folder/fake.weights"
expected=$("$program" -p hello -n 40 --temp 1.1 --top-p 0.9) || exit 1
failed=0 tried=0
try() {
    command -v "$1" >/dev/null || { echo "skipped: no $1 here"; return; }
    tried=$((tried + 1))
    "$@" -I"$SOURCE_DIR" -include "$hash" "$SOURCE_DIR/tests/runtime/fake.c" "$amalgam" -o "$folder/one" -lutf8proc -lm || { failed=1; return; }
    for threads in 1 2 3; do
        got=$("$folder/one" -p hello -n 40 --temp 1.1 --top-p 0.9 --threads $threads)
        [ "$got" = "$expected" ] || { echo "$*, $threads threads: got '$got', expected '$expected'"; failed=1; }
    done
}
try gcc -O0 -fopenmp
try gcc -O2 -fopenmp -Wall -Wextra -Werror
try gcc -O3 -march=native -ffp-contract=off -fopenmp
try gcc -O2
try clang -O2 -Wall -Wextra -Werror
try clang-19 -O3
if command -v aarch64-linux-gnu-gcc >/dev/null; then
    aarch64-linux-gnu-gcc -O2 -fopenmp -Wall -Wextra -Werror -idirafter /usr/include -c "$amalgam" -o "$folder/one.o" || failed=1
else
    echo "skipped: no aarch64-linux-gnu-gcc here"
fi
[ $tried -gt 0 ] || exit 77
exit $failed
