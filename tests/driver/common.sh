# What the scripts of this folder share: a toy model in a folder of its own, with a cache of its own, and ways to say what must be.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export XDG_CACHE_HOME=$folder/cache XDG_DATA_HOME=$folder/data
cache=$folder/cache/tenon
cp "$here/toy.yaml" "$folder/"
cd "$folder" || exit 1
python3 "$here/toy_weights.py" toy.safetensors 1
failures=0

fail() {
    echo "$*"
    failures=$((failures + 1))
}
# must WHAT COMMAND…: the command leaves with 0
must() {
    local what=$1
    shift
    "$@" >said 2>&1 || { fail "$what: $* left with $?"; head -20 said; return 1; }
}
same() { cmp -s "$1" "$2" || fail "$3: $1 and $2 differ"; }
near() {
    python3 - "$1" "$2" <<'P' || fail "$3: $1 is far from the interpreter's logits"
import struct, sys
def read(path):
    data = open(path, "rb").read()
    start = 10 + struct.unpack("<H", data[8:10])[0]
    return struct.unpack(f"<{(len(data) - start) // 4}f", data[start:])
a, b = read(sys.argv[1]), read(sys.argv[2])
b = b[:len(a)]
assert len(a) >= 3 * 32 and len(a) == len(b), (len(a), len(b))
assert max(abs(x - y) for x, y in zip(a, b)) <= 1e-5 * max(abs(y) for y in b)
P
}
count() { find "$cache" -name "$1" 2>/dev/null | wc -l; }
expect_count() { [ "$(count "$1")" -eq "$2" ] || fail "$3: $(count "$1") files $1 in the cache, expected $2"; }
finish() {
    [ $failures -eq 0 ] && echo "$1: all as expected"
    exit $((failures > 0))
}
