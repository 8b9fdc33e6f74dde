#!/bin/sh
# test_vectors.sh: graft data generate and graft data fit: what they refuse, that a seed says what is made, and that what is
# fitted opens as an adapter. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

cd "$scratch" || exit 1
wrong() { # PATTERN WORDS...
    pattern=$1
    shift
    run data "$@"
    refused "graft data $*" 2 "$pattern"
}
wrong "where to" generate
wrong "is none of coder" generate --task poet -o v.jsonl
wrong "unexpected argument" generate x -o v.jsonl
wrong "dim" generate --dim 0 -o v.jsonl
wrong "dim" generate --dim 65537 -o v.jsonl
wrong "which vectors" fit -o m
wrong "where to" fit v.jsonl
wrong "rank" fit v.jsonl -o m --rank 0

run data generate --task coder -n 200 --dim 64 --seed 3 --targets -o v.jsonl
check "generate" status_is 0
check "... says what it made" out_has "200 examples of 64 values"
check "... a line each" test "$(wc -l <v.jsonl)" -eq 200
run data generate --task coder -n 200 --dim 64 --seed 3 --targets -o again.jsonl
check "the same seed gives the same bytes" cmp -s v.jsonl again.jsonl
run data generate --task coder -n 200 --dim 64 --seed 4 --targets -o again.jsonl
check "another seed others" test -n "$(cmp v.jsonl again.jsonl)"
run data generate -n 3 --dim 5 -o all.jsonl --json
check "all tasks" test "$(wc -l <all.jsonl)" -eq 15
check "... by name" test "$(grep -o '"task":"[a-z]*"' all.jsonl | sort -u | wc -l)" -eq 5
for key in output task examples dim seed targets quality seconds; do
    check "generate --json has $key" out_has "[{,]\"$key\":"
    check "docs/vectors.md has $key" grep -q "\b$key\b" "$SOURCE/docs/vectors.md"
done
run data generate -n 3 --dim 5 -o nowhere/v.jsonl
refused "a folder that is not there" 1 "nowhere"

run data fit v.jsonl --rank 3 --epochs 40 -o m --json -t 1
check "fit" status_is 0
for key in output module examples held_out steps rank n_in n_out loss_before loss valid_loss_before valid_loss; do
    check "fit --json has $key" out_has "[{,]\"$key\":"
    check "docs/vectors.md has $key" grep -q "\b$key\b" "$SOURCE/docs/vectors.md"
done
better=$(sed 's/.*"valid_loss_before":\([^,}]*\),"valid_loss":\([^,}]*\).*/\1 \2/' out 2>/dev/null || true)
check "... and has learned" test "$(echo "$better" | awk '{print ($2 < $1 / 10)}')" = 1
run data fit v.jsonl --rank 3 --epochs 40 -o m2 -t 2 -q
check "other threads make the same bytes" cmp -s m/adapter_model.safetensors m2/adapter_model.safetensors
run data fit v.jsonl -o m
refused "a folder that is there" 1 "m"

echo '{"input":[1,NaN]}' >hostile.jsonl
run data fit hostile.jsonl -o x
refused "no number" 1 "hostile.jsonl.*line 1: it is not JSON"
printf '{"input":[1,2]}\n{"input":[1]}\n' >hostile.jsonl
run data fit hostile.jsonl -o x
refused "another width" 1 "line 2: an input of 1 values"
echo '{"input":[1],"more":1}' >hostile.jsonl
run data fit hostile.jsonl -o x
refused "an unknown member" 1 'no member "more" is known'
: >hostile.jsonl
run data fit hostile.jsonl -o x
refused "nothing" 1 "there is no vector in it"
run data fit none.jsonl -o x
refused "no file" 1 "none.jsonl"
small='{"input":[1,2],"target":[2,1]}' huge='{"input":[1e25,1],"target":[1,1]}'
for lines in "$small\n$huge" "$huge\n$small"; do # one of the two is held out
    printf '%b\n' "$lines" >hostile.jsonl
    run data fit hostile.jsonl -o x --json
    refused "a loss that is no number" 1 "is no number"
done
check "nothing was written" test ! -e x

if [ -f "$SOURCE/models/tiny/config.json" ]; then
    width=$(sed -n 's/.*"hidden_size": *\([0-9]*\).*/\1/p' "$SOURCE/models/tiny/config.json")
    run data generate --task reviewer -n 64 --dim "$width" --targets -o tiny.jsonl
    run data fit tiny.jsonl --rank 2 --epochs 2 --module model.layers.0.self_attn.q_proj -o tiny-module
    run run -a ./tiny-module -p "Once" -n 2
    check "a module of the model's width runs" status_is 0
else
    skip "models/tiny is not there"
fi

finish
