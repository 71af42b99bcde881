#!/bin/bash
# Tuning: what it finds is kept and found again, a killed run loses nothing, and no schedule changes a bit. A database that is broken, locked, of another
# tenon or not writable is said and does not stop a run.
. "$(dirname "$0")/common.sh"
database=$XDG_DATA_HOME/tenon/tuning.db

# A model whose products have several panels and blocks of rows.
sed -e 's/vocab: 32, hidden: 16/vocab: 150, hidden: 128/; s/head_dim: 8, ffn: 24/head_dim: 64, ffn: 320/; s/context: 64/context: 256/; s/name: toy/name: wide/; s/toy.safetensors/wide.safetensors/' toy.yaml >wide.yaml
sed -e 's/\[32, 16\]/[150, 128]/; s/\[8, 16\]/[64, 128]/g; s/\[16, 16\]/[128, 128]/g; s/\[16\]/[128]/; s/\[24, 16\]/[320, 128]/; s/\[16, 24\]/[128, 320]/' "$here/toy_weights.py" >wide_weights.py
python3 wide_weights.py wide.safetensors 3
tokens=$(seq -s, 1 149)

# sql TEXT: what Python's SQLite answers
sql() { python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*[r[0] for r in c.execute(sys.argv[2])]); c.commit()' "$database" "$1"; }

# ---- measured once, found again
must tune "$TENON" tune wide.yaml --threads 2 --json && cp said first.json
python3 - first.json <<'P' || fail "tune: not the JSON that was expected"
import json, sys
text = open(sys.argv[1]).read()
found = json.loads(text[text.index("{\"database\""):text.rindex("}") + 1])
assert found["finished"] and found["steps"] > 10 and len(found["kernels"]) > 8
assert all(k["tuned_us"] > 0 and k["built_in_us"] > 0 for k in found["kernels"])
P
samples=$(sql 'SELECT count(*) FROM sample')
must again "$TENON" tune wide.yaml --threads 2
grep -q 'all of it was found' said || fail "again: a second run measured"
[ "$(sql 'SELECT count(*) FROM sample')" = "$samples" ] || fail "again: samples were added"
must other "$TENON" tune wide.yaml --threads 1 --budget 1
grep -q 'all of it was found' said && fail "other: one thread found what two did"

# ---- killed: what was measured stays, and the next run goes on
sql 'DELETE FROM finding' >/dev/null
sql 'DELETE FROM sample WHERE rows > 8' >/dev/null
kept=$(sql 'SELECT count(*) FROM sample')
"$TENON" tune wide.yaml --threads 2 >/dev/null 2>&1 & pid=$!
for _ in $(seq 200); do
    [ "$(sql 'SELECT count(*) FROM sample')" -gt $((kept + 20)) ] && break
    sleep 0.1
done
kill -9 $pid
wait $pid 2>/dev/null
[ "$(sql 'SELECT count(*) FROM sample')" -gt "$kept" ] || fail "killed: nothing was kept"
must resumed "$TENON" tune wide.yaml --threads 2
[ "$(sql 'PRAGMA integrity_check')" = ok ] || fail "killed: the database is damaged"

# ---- no schedule changes a bit: any values in any kernel
for quant in as-stored a8 w8a8 w5a8 w4a8 bf16; do
    must "$quant" "$TENON" tune wide.yaml --quant $quant --threads 2 --budget 1
    must "$quant" "$TENON" run wide.yaml --quant $quant --tokens "$tokens" -n 0 --logits plain.npy --no-tuning
    for seed in 1 2 3; do
        python3 - "$database" $seed <<'P'
import random, sqlite3, sys
c, r = sqlite3.connect(sys.argv[1]), random.Random(int(sys.argv[2]))
for (kernel,) in c.execute("SELECT id FROM kernel").fetchall():
    for fields in (0, 1, 2):
        s = f"row_block={r.randint(1, 96)} panels={r.choice([0, 1, 2, 3, 5])} prefetch_one={r.choice([0, 64, 4096])} prefetch={r.choice([0, 64, 777, 4096])} direct_rows={r.randint(0, 4)}"
        c.execute("INSERT OR REPLACE INTO finding VALUES (?, ?, ?)", (kernel, fields, s))
c.commit()
P
        must "$quant $seed" "$TENON" run wide.yaml --quant $quant --tokens "$tokens" -n 0 --logits tuned.npy --threads $seed
        same plain.npy tuned.npy "$quant, schedules $seed"
        must "$quant $seed" "$TENON" compile wide.yaml --quant $quant -o tuned.c && cp tuned.c "tuned$seed.c"
    done
    cmp -s tuned1.c tuned2.c && fail "$quant: other schedules, the same code"
done
must cut "$TENON" run wide.yaml --tokens 5,6,7 -n 9 && cp said tuned.txt
must cut "$TENON" run wide.yaml --tokens 5,6,7 -n 9 --no-tuning && same said tuned.txt "generated"

# Another target's program takes nothing from here, and none for a target that does not run here.
must other-target "$TENON" compile wide.yaml --target generic -o generic1.c
must other-target "$TENON" compile wide.yaml --target generic --no-tuning -o generic1.c.plain --emit c
diff <(sed 1,20d generic1.c) <(sed 1,20d generic1.c.plain) | grep -q row_blocks && fail "other-target: it was tuned"

# ---- what can be wrong with a database
cp "$database" whole.db
head -c 3000 /dev/urandom >"$database"
rm -f "$database"-*
"$TENON" run wide.yaml --tokens 1,2,3 -n 2 --no-cache >out 2>said || fail "broken: exit $?"
grep -q 'tuning database cannot be read' said || fail "broken: no warning"
"$TENON" tune wide.yaml >out 2>said && fail "broken: tune took it"
grep -q 'tuning database cannot be used' said || fail "broken: no error"
cp whole.db "$database"
sql 'PRAGMA user_version = 77' >/dev/null
"$TENON" tune wide.yaml >out 2>said && fail "layout: tune took it"
grep -q 'layout 77' said || fail "layout: no error"
cp whole.db "$database"
sql "UPDATE finding SET schedule = 'row_block=1000000 panels=0 prefetch_one=0 prefetch=0 direct_rows=0'" >/dev/null
must absurd "$TENON" run wide.yaml --tokens 1,2,3 -n 2 --no-cache
python3 - "$database" <<'P' &
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode = DELETE"); c.execute("BEGIN EXCLUSIVE"); open("locked", "w").close(); time.sleep(20)
P
for _ in $(seq 100); do [ -e locked ] && break; sleep 0.1; done
"$TENON" run wide.yaml --tokens 1,2,3 -n 2 --no-cache >out 2>said || fail "locked: exit $?"
grep -q 'tuning database cannot be read' said || fail "locked: no warning"
kill %% 2>/dev/null
wait
mkdir nowhere && chmod 500 nowhere
if [ ! -w nowhere ]; then
    XDG_DATA_HOME=$PWD/nowhere "$TENON" tune wide.yaml --budget 1 >out 2>said || fail "read-only: exit $?"
    grep -q 'cannot be kept' said || fail "read-only: no warning"
fi
XDG_DATA_HOME=/dev/null "$TENON" tune wide.yaml --budget 1 >out 2>said || fail "read-only: exit $?"
grep -q 'cannot be kept' said || fail "read-only: no warning"
"$TENON" tune wide.yaml --target armv8.2-a+dotprod >out 2>said
[ $? -eq 3 ] || grep -q aarch64 <(uname -m) || fail "elsewhere: not exit 3"
finish tune
