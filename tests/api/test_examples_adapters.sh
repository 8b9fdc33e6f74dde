#!/bin/sh
# test_examples_adapters.sh SOURCE MODELS GRAFT HOT_SWAP MIX MERGE BATCH: the examples on adapters, with adapters on the model that ships
# that have an effect (MODELS makes them): what they show is so.
set -u
source=$1 models=$2 graft=$3 swap=$4 mix=$5 merge=$6 batch=$7 guess=$8
tiny=$source/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    echo "skipped: no $tiny"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
fail()
{
    echo "FAILED: $*"
    failed=1
}
for i in 1 2; do
    "$models" "$folder/made" "$tiny" adapter-$i >"$folder/log" 2>&1 || fail "no adapter: $(cat "$folder/log")"
done
one=$folder/made/adapter-1 two=$folder/made/adapter-2

# line TEXT: what is said behind it.
line() { sed -n "s/^$1: *//p" "$folder/out" | head -n 1; }

# ---- swaps while text streams
"$swap" "$tiny" "$one" "$two" >"$folder/out" 2>"$folder/err" || fail "03: status $?"
grep -q "numbers are back, bit for bit" "$folder/out" || fail "03: the base model is not back"
[ "$(grep -c '^\[.* in [0-9.]* µs\]$' "$folder/err")" -eq 3 ] || fail "03: no times of three swaps"
"$swap" "$tiny" "$one" "$two" >"$folder/again" 2>/dev/null || fail "03 again: status $?"
cmp -s "$folder/out" "$folder/again" || fail "03 says something else the second time"
"$swap" "$tiny" "$two" "$one" >"$folder/other" 2>/dev/null || fail "03 with the others: status $?"
cmp -s "$folder/out" "$folder/other" && fail "03 says the same with other adapters"
GRAFT_HOME=$folder/home
export GRAFT_HOME
"$graft" adapter add "$one" --name one >/dev/null || fail "an adapter cannot be added"
"$swap" "$tiny" one "$two" >"$folder/named" 2>/dev/null || fail "03 with a name: status $?"
cmp -s "$folder/out" "$folder/named" || fail "03 says something else by name"
"$swap" "$tiny" one nobody >/dev/null 2>"$folder/err" && fail "03: status 0 without an adapter"
grep -q nobody "$folder/err" || fail "03 does not name what it cannot find"

# ---- mixes
"$mix" "$tiny" "$one" "$two" >"$folder/out" 2>"$folder/err" || fail "04: status $?"
[ "$(grep -c "Once upon a time there was a" "$folder/out")" -eq 13 ] || fail "04 does not answer 13 times"
[ "$(line '1 a + 0 b')" = "$(line '1 a')" ] || fail "04: a weight of 0 counts"
[ "$(line '0 a + 1 b')" = "$(line '1 b')" ] || fail "04: a weight of 0 counts, the other way round"
[ "$(line 'switched off, -0.5 a')" = "$(line base)" ] || fail "04: switched off is not the base"
for what in '1 a' '1 b' '-0.5 a'; do
    [ "$(line "$what")" != "$(line base)" ] || fail "04: $what changes nothing"
done
[ "$(grep -c '^-0.5 a: ' "$folder/out")" -eq 2 ] || fail "04: a scope does not bring the mix back"
[ "$(grep '^-0.5 a: ' "$folder/out" | sort -u | wc -l)" -eq 1 ] || fail "04: the mix is another behind a scope"
"$mix" "$tiny" "$one" "$folder/nothing" >/dev/null 2>"$folder/err" && fail "04: status 0 without an adapter"
grep -q "$folder/nothing" "$folder/err" || fail "04 does not name what it cannot open"

# ---- merges
ships=$source/models/adapters
"$merge" "$tiny" "$ships/coder" "$ships/security" "$folder/merged" >"$folder/out" 2>"$folder/err" || fail "06: status $?"
[ "$(line 'mix, nothing written')" = "$(line 'linear, rank 32, 0.0 % discarded')" ] || fail "06: the merge is not the mix"
[ -n "$(line 'linear, rank 32, 0.0 % discarded')" ] || fail "06 says nothing"
grep -q '^linear, rank 8, [0-9.]* % discarded: ' "$folder/out" || fail "06: no rank of 8"
grep -q '^ties, rank 32, [0-9.]* % discarded: ' "$folder/out" || fail "06: no ties"
"$graft" adapter verify -m "$tiny" "$folder/merged/ties-0" >"$folder/log" 2>&1 || fail "06: $(cat "$folder/log")"
"$merge" "$tiny" "$ships/coder" "$ships/security" "$folder/merged" >/dev/null 2>&1 && fail "06 writes over a folder"

# ---- batches
"$batch" "$tiny" "$one" "$two" >"$folder/out" 2>"$folder/err" || fail "08: status $?: $(cat "$folder/err")"
grep -q "^Each answer is that of a session alone" "$folder/out" || fail "08: a batch says something else than sessions"
[ "$(grep -c '^> ' "$folder/out")" -eq 4 ] || fail "08 does not ask four questions"
for what in base a b '0.5 a + 0.5 b'; do
    [ -n "$(line "$what")" ] || fail "08: $what says nothing"
done
[ "$(line a)" != "$(line base)" ] || fail "08: an adapter has no effect"
passes=$(sed -n 's/^\[\([0-9]*\) tokens in \([0-9]*\) passes\]$/\1 \2/p' "$folder/err")
[ $((2 * ${passes#* })) -lt "${passes% *}" ] || fail "08: no batch: tokens and passes are $passes"
"$batch" "$tiny" "$one" "$folder/nothing" >/dev/null 2>"$folder/err" && fail "08: status 0 without an adapter"
grep -q "$folder/nothing" "$folder/err" || fail "08 does not name what it cannot open"

# ---- guesses
"$guess" "$tiny" "$source/models/tiny-draft" >"$folder/out" 2>"$folder/err" || fail "09: status $?: $(cat "$folder/err")"
grep -q "^with guesses: the same tokens in .* tokens a pass, the draft model right in " "$folder/out" || fail "09: $(cat "$folder/out")"
"$guess" "$tiny" "$folder/nothing" >/dev/null 2>"$folder/err" && fail "09: status 0 without a draft model"
grep -q "$folder/nothing" "$folder/err" || fail "09 does not name what it cannot open"
"$guess" >/dev/null 2>"$folder/err"
[ $? -eq 2 ] || fail "09 alone is wrong use"

for example in "$swap" "$mix" "$merge" "$batch"; do
    "$example" >/dev/null 2>"$folder/err"
    [ $? -eq 2 ] || fail "$example alone is wrong use"
    grep -q "^usage: .* MODEL ADAPTER ADAPTER" "$folder/err" || fail "$example does not say what it wants"
done
exit $failed
