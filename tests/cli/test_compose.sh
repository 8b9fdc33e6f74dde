#!/bin/sh
# test_compose.sh: several adapters as one, --compose and /compose: each way is the mix with the weights that it stands for.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
GRAFT_HOME=$scratch/home
export GRAFT_HOME

# numbers WORDS...: the logits of a text, kept in $scratch/numbers.npy.
numbers() { run logits -m "$tiny" --tokens 5,17,300,42,8 --out "$scratch/numbers.npy" "$@"; }

# is WEIGHTS WORDS...: these words give the logits of coder and security with these weights.
is() {
    of_coder=${1%,*} of_security=${1#*,}
    shift
    set -- "$of_coder" "$of_security" "$@"
    numbers -a "coder=$1" -a "security=$2"
    cp "$scratch/numbers.npy" "$scratch/by-hand.npy"
    shift 2
    numbers "$@"
    check "$* is coder=$of_coder, security=$of_security" cmp -s "$scratch/numbers.npy" "$scratch/by-hand.npy"
}
is 0.5,0.5 -a coder=0.75 -a security=-2 --compose average
is 0.75,-2 -a coder=0.75 -a security=-2 --compose weighted
is 0.75,-2 -a coder=0.75 -a security=-2 --compose sequential
is 0,-2 -a coder=0.75 -a security=-2 --compose most-recent
is 0.5,0.5 -a coder -a security --compose interpolate
is 0.75,0.25 -a coder=3 -a security=3 --compose interpolate=0.25
is 1,0 -a coder -a security --compose interpolate=0
is 0,1 -a coder -a security --compose interpolate=1

run perplexity -m "$tiny" -a coder -a security --compose average -p "Once upon a time there was a cat." --json
cp "$scratch/out" "$scratch/average"
run perplexity -m "$tiny" -a coder=0.5 -a security=0.5 -p "Once upon a time there was a cat." --json
check "perplexity takes it too" out_equals_file "$scratch/average"

# ---- in a table
printf '{"prompt":"Who is Tom?","completion":"A cat."}\n' >"$scratch/one.jsonl"
loss() { sed -n "s/.*\"adapter\":\"$1\"[^}]*\"loss\":{\"value\":\([0-9.]*\).*/\1/p" "$scratch/out"; }
run eval -m "$tiny" -a coder=0.5 -a security=0.5 --mix "$scratch/one.jsonl" --no-answers --json
by_hand=$(loss "coder=0.5 + security=0.5")
run eval -m "$tiny" -a coder -a security --compose average "$scratch/one.jsonl" --no-answers --json
check "eval has a row for it" test -n "$by_hand" -a "$(loss "average of coder + security")" = "$by_hand"
run eval -m "$tiny" -a coder -a security -a reviewer --compose interpolate "$scratch/one.jsonl"
refused "eval of three between two" 2 "between two adapters"

# ---- in a chat
printf '/compose average coder security\n/compose interpolate=0.25 coder security\n/compose most-recent coder security=2\n/mix coder=3 security\n' |
    "$GRAFT" chat -m "$tiny" -q -a coder -a reviewer --compose average >"$scratch/out" 2>"$scratch/err"
status=$?
check "a chat composes" status_is 0
for mix in 'coder=0.5 + security=0.5' 'coder=0.75 + security=0.25' 'security=2' 'coder=3 + security=1'; do
    check "... to $mix" out_has "^($mix, swapped"
done

# ---- bad input
# wrong PATTERN WORDS...: it is wrong use.
wrong() {
    pattern=$1
    shift
    run run -m "$tiny" -p x "$@"
    refused "$*" 2 "$pattern"
}
wrong 'none of average, weighted' -a coder --compose mean
wrong 'none of average, weighted' -a coder --compose average=2
wrong 'not a number from 0 to 1' -a coder -a security --compose interpolate=1.5
wrong 'not a number from 0 to 1' -a coder -a security --compose interpolate=
wrong 'between two adapters, not 1' -a coder --compose interpolate
wrong 'between two adapters, not 3' -a coder -a security -a reviewer --compose interpolate=0.5
wrong 'no adapters to compose' --compose average
wrong 'without --compose' -a coder -a security --fuse --compose average
run run -m "$tiny" -p x -a coder -a coder --compose average
refused "the same adapter twice" 1 "given twice"
check "... in one line" err_lines 1
for words in 'mean coder security' 'interpolate coder' 'average'; do
    printf '/compose %s\n' "$words" | "$GRAFT" chat -m "$tiny" -q >"$scratch/out" 2>"$scratch/err"
    status=$?
    refused "/compose $words" 1 "none of average\|between two\|no adapter is named"
    check "... in one line" err_lines 1
done
finish
