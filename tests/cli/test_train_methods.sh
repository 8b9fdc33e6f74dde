#!/bin/sh
# test_train_methods.sh: graft train --init: what is written is a plain adapter that says on the original base what was trained;
# graft train --ewc: what a task leaves to the next.
# GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

if [ ! -f "$SOURCE/models/tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
model=$SOURCE/models/tiny
for i in 1 2 3 4 5 6 7 8; do
    echo "{\"prompt\":\"Who is number $i?\",\"completion\":\"Tom, the cat of house $i.\"}"
done >"$scratch/data.jsonl"

# train OUT WORDS...: a short run.
train() {
    out=$scratch/$1
    shift
    run train -m "$model" -d "$scratch/data.jsonl" -o "$out" --rank 4 --steps 4 --batch-size 2 --lr 2e-3 \
        --schedule constant --warmup 0 --eval-steps 2 --json -q "$@"
}
# number KEY FILE: its value in a JSON text.
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" "$2" | head -n 1; }
lacks() { [ -s "$2" ] && ! grep -q -e "$1" "$2"; }
is_near() { awk -v a="$1" -v b="$2" -v by="$3" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d <= by && -d <= by) }'; }

# ---- beginnings
train plain --f32
before=$(number valid_loss_before "$scratch/out")
for init in gaussian pissa olora; do
    train "$init" --init "$init" --f32
    check "$init is trained" status_is 0
    valid=$(number valid_loss "$scratch/out")
    check "... changes nothing before the first step" \
        is_near "$(number valid_loss_before "$scratch/out")" "$before" 2e-4
    check "... its card says how it began" grep -q "\"init\": \"$init\"" "$scratch/$init/graft.json"
    run train -m "$model" -d "$scratch/data.jsonl" -a "$scratch/$init" -o "$scratch/again-$init" --steps 1 \
        --batch-size 2 --lr 0 --f32 --json -q
    check "... what was trained is what the file says on the original base" \
        is_near "$(number valid_loss_before "$scratch/out")" "$valid" 2e-4
done
check "pissa is written as twice the rank" grep -q '"r": 8' "$scratch/pissa/adapter_config.json"
check "... at the same scale" grep -q '"lora_alpha": 32' "$scratch/pissa/adapter_config.json"
check "... as a plain adapter" grep -q '"init_lora_weights": true' "$scratch/pissa/adapter_config.json"
check "gaussian is written as its rank" grep -q '"r": 4' "$scratch/gaussian/adapter_config.json"
run run -m "$model" -a "$scratch/pissa" -p "Who is number 3?" -n 3 -q
check "... that any verb opens" status_is 0

# ---- tasks one after the other
train first --ewc
check "a first task is trained" status_is 0
check "... it leaves what the next has to hold" test -s "$scratch/first/ewc.safetensors"
check "... and nothing held it" lacks penalty "$scratch/first.run/history.jsonl"
check "an adapter without --ewc has no such file" test ! -e "$scratch/plain/ewc.safetensors"
sed 's/Who is/Where is/; s/Tom, the cat/Over there in the garden/' "$scratch/data.jsonl" >"$scratch/where.jsonl"
cp "$scratch/data.jsonl" "$scratch/who.jsonl"
cp "$scratch/where.jsonl" "$scratch/data.jsonl"
train second -a "$scratch/first" --ewc --ewc-lambda 100 --ewc-decay 0.5
check "a second task is trained" status_is 0
check "... held by the first, which is told apart from the loss" grep -q '"penalty":[0-9]' "$scratch/second.run/history.jsonl"
check "... and leaves both to the third" test -s "$scratch/second/ewc.safetensors"
run run -m "$model" -a "$scratch/second" -p "Who is number 3?" -n 3 -q
check "... that any verb opens" status_is 0
train halt -a "$scratch/first" --ewc --ewc-lambda 100 --save-steps 2
run train -m "$model" -d "$scratch/data.jsonl" -a "$scratch/first" -o "$scratch/halt2" --run "$scratch/halt.run" --rank 4 \
    --steps 4 --batch-size 2 --lr 2e-3 --schedule constant --warmup 0 --eval-steps 2 --ewc --ewc-lambda 7 --resume
refused "a run is not resumed with another lambda" 1 'its "ewc" is .*"lambda":100.0'
cp -r "$scratch/first" "$scratch/other"
cp "$scratch/second/adapter_model.safetensors" "$scratch/other/"
train third -a "$scratch/other" --ewc
refused "what was left to other weights is refused" 1 'ewc.safetensors.*of other weights than those beside it'
train gguf --ewc --format gguf
refused "a GGUF has no place for it, which is said at once" 1 'keeps its state in the adapter.s folder'
cp "$scratch/who.jsonl" "$scratch/data.jsonl"

# ---- refusals
train odd --init svd
refused "a beginning that there is not is refused" 2 'must be one of default gaussian pissa olora, not "svd"'
train more -a "$scratch/pissa" --init olora
refused "an adapter that is continued does not begin anew" 1 'goes on as it is: init "olora" is for new ones'
train wide --init pissa --rank 4096
refused "a rank that a weight has not is refused by name" 1 'has [0-9]* directions, fewer than rank 4096'

finish
