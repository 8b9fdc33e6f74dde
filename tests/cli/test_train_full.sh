#!/bin/sh
# test_train_full.sh: `graft train --fine-tune-type full`: a model in, a model out; stopped, killed and gone on with; what does
# not go together. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

cd "$scratch" || exit 1
mkdir data
i=0
while [ $i -lt 60 ]; do
    case $((i % 4)) in 0) who='cat' ;; 1) who='dog' ;; 2) who='owl' ;; *) who='hen' ;; esac
    case $((i % 3)) in 0) what='red' ;; 1) what='blue' ;; *) what='green' ;; esac
    part=train
    [ $((i % 10)) -eq 9 ] && part=valid
    echo "{\"text\":\"Once there was a $who in a $what hat. The $who was called number $i, and the hat was $what all day long.\"}" >>data/$part.jsonl
    i=$((i + 1))
done

# ---- what does not go together is told before anything is done
set -- -d data --loss all --fine-tune-type full
for other in '--rank 4' '--alpha 3' '--dora' '--init pissa' '--lora-bias' '--targets all-linear' '--ewc'; do
    # shellcheck disable=SC2086
    run train "$@" $other -o model
    refused "full and $other" 2 "full trains the model itself"
done
run train "$@" -a somewhere -o model
refused "full and -a" 2 "graft fuse"
run train "$@" --format mlx -o model
refused "full and --format mlx" 1 "Hugging Face directory"
run train -d data --optim muon -o model
refused "muon for an adapter" 1 "fine_tune_type full"
run train "$@" --optim sgd -o model
refused "another optimiser" 2 "one of adamw muon"
run train -d data --fine-tune-type half -o model
refused "another type" 2 "lora, dora, full"
check "... and nothing is left" [ ! -e model ]
rm -rf model.run

# ---- what it would take
run train "$@" --dry-run --json
check "a dry run" status_is 0
check "... counts every parameter" out_has '"trained_values":3773056'
check "... and leaves nothing" [ ! -e model ]

# ---- a run
run train -q "$@" -o model --steps 8 --lr 3e-3 --warmup 1 --batch-size 6 --eval-steps 8 --samples 1 --json
check "a run of AdamW" status_is 0
# shellcheck disable=SC2016
check "... lowers the loss of what it did not see" awk -F'[:,}]' '{ for (i = 1; i < NF; i++) { if ($i == "\"valid_loss_before\"") a = $(i + 1); if ($i == "\"valid_loss\"") b = $(i + 1) } exit !(b > 0 && b < 0.7 * a) }' "$scratch/out"
for file in config.json generation_config.json tokenizer.json tokenizer_config.json training.json model.safetensors; do
    check "... writes $file" [ -s model/$file ]
done
check "... of the base's type" [ "$(wc -c <model/model.safetensors)" -lt 8000000 ]
cp data/valid.jsonl valid.txt
run perplexity -m model -f valid.txt --json
check "the model opens" status_is 0
after=$(sed -n 's/.*"perplexity":\([0-9.]*\).*/\1/p' out)
run perplexity -f valid.txt --json
before=$(sed -n 's/.*"perplexity":\([0-9.]*\).*/\1/p' out)
check "... and is less surprised than the base" awk "BEGIN { exit !($after < 0.8 * $before) }"
run run -m model -p "Once there was" -n 4 --temp 0
check "... and writes on" status_is 0
echo '{"prompt":"Where is the cat?","completion":"In the red hat."}' >asked.jsonl
cat asked.jsonl >>asked.jsonl.valid
run train -q -d asked.jsonl --valid asked.jsonl.valid --fine-tune-type full -o asked --steps 4 --lr 1e-3 --warmup 0
check "a run on answers" status_is 0
check "... keeps what the model says before and after" grep -q '"after": "..*"' asked.run/samples.json
run train "$@" -o model
refused "the same again" 1 "there already"

# ---- other types and containers
run quantize -o base.gguf --type q8_0
check "a quantised base" status_is 0
run train -q "$@" -m base.gguf -o quantised --steps 1
check "... is trained" status_is 0
check "... and becomes BF16" grep -q '"bfloat16"' quantised/config.json
check "... with its tokenizer" [ -s quantised/tokenizer.json ]
run train -q "$@" -o floats --type f32 --steps 1 --lr 0
check "--type says which type" grep -q '"float32"' floats/config.json
run train -q "$@" -o trained.gguf --format gguf --steps 1
check "a GGUF of it" [ -s trained.gguf ]
run perplexity -m trained.gguf -f valid.txt
check "... opens" status_is 0

# ---- stopped, killed, and gone on with: Muon
lines() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }
sums() {
    for file in "$1/model.safetensors" "$1.run/checkpoint.safetensors" "$1.run/history.jsonl"; do
        sha256sum <"$scratch/$file"
    done
}
set -- "$@" --optim muon --muon-lr 0.01 --lr 2e-3 --schedule wsd --set lr_decay_ratio=0.5 --set adam_beta2=0.95 --warmup 2 \
    --steps 24 --eval-steps 7 --save-steps 3 --batch-size 4 --packing --max-seq-length 64 --samples 0
run train -q "$@" -t 2 -o whole
check "a run of Muon in one piece" status_is 0
check "... whose rate falls at the end" grep -q '"step":23,.*"learning_rate":0.000333333' whole.run/history.jsonl
run train -q "$@" -t 1 -o alone
check "... by one thread: the same bits" [ "$(sums alone)" = "$(sums whole)" ]
"$GRAFT" train -q "$@" -t 2 -o killed >"$scratch/out" 2>"$scratch/err" &
child=$!
while kill -0 $child 2>/dev/null && [ "$(lines killed.run/history.jsonl)" -lt 8 ]; do sleep 0.01; done
kill -KILL $child
wait $child 2>/dev/null
check "a killed run leaves no model" [ ! -e killed ]
run train "$@" -o killed --muon-lr 0.02 --resume
refused "going on with another rate" 1 "muon_lr"
run train "$@" -o killed --optim adamw --resume
refused "going on with another optimiser" 1 "optim\|muon_lr"
run train -q "$@" -t 1 -o killed --resume
check "... goes on" status_is 0
check "... to the same bits" [ "$(sums killed)" = "$(sums whole)" ]

finish
