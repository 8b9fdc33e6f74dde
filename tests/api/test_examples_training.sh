#!/bin/sh
# test_examples_training.sh SOURCE GRAFT TRAIN: the example that trains, on the model that ships.
set -u
source=$1 graft=$2 train=$3
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
i=0
while [ $i -lt 40 ]; do
    echo '{"prompt":"What is your name?","completion":"My name is Graft, and I grow on trees."}'
    i=$((i + 1))
done >"$folder/examples.jsonl"

"$train" "$tiny" "$folder/examples.jsonl" "$folder/made" "What is your name?" >"$folder/out" 2>"$folder/err" ||
    fail "05: status $?: $(cat "$folder/err")"
grep -q "^after: My name is Graft, and I grow on trees" "$folder/out" || fail "05: nothing was learned: $(cat "$folder/out")"
grep -q "^before: My name is Graft" "$folder/out" && fail "05: the model knew it before"
grep -q "validation loss" "$folder/err" || fail "05 does not tell of its steps"
"$graft" run -a "$folder/made" -p "What is your name?" -n 24 --temp 0 >"$folder/out" || fail "the adapter cannot be run"
grep -q "My name is Graft" "$folder/out" || fail "the adapter says something else in graft run"
"$train" "$tiny" "$folder/examples.jsonl" "$folder/made" "What?" >/dev/null 2>"$folder/err" && fail "05: status 0 over an adapter"
"$train" "$tiny" "$folder/nothing" "$folder/other" "What?" >/dev/null 2>"$folder/err" && fail "05: status 0 without data"
grep -q nothing "$folder/err" || fail "05 does not name what it cannot open"
exit $failed
