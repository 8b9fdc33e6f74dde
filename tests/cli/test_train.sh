#!/bin/sh
# test_train.sh: `graft train` as somebody at a terminal or a script meets it, and runs that are killed. GRAFT and SOURCE are
# set by ctest. KILLS: how many times a run is killed (4; ./dev torture: 20).
. "$(dirname "$0")/lib.sh"

data=$scratch/examples.jsonl
i=0
while [ $i -lt 48 ]; do
    case $((i % 4)) in 0) who='cat' ;; 1) who='dog' ;; 2) who='owl' ;; *) who='hen' ;; esac
    case $((i % 3)) in 0) what='red' ;; 1) what='blue' ;; *) what='green' ;; esac
    echo "{\"prompt\":\"Describe the $who in $what.\",\"completion\":\"The $who wears a $what hat and says good day.\"}"
    i=$((i + 1))
done >"$data"
cd "$scratch" || exit 1

# ---- wrong use is status 2, what cannot be done is 1; both in one line that says what is right
run train -o skill
refused "no data" 2 "which data"
run train -d "$data"
refused "no output" 2 "-o"
run train -d "$data" -o skill --schedule wavy
refused "an unknown schedule" 2 "lr_scheduler_type: must be one of constant linear cosine"
run train -d "$data" -o skill --preset poet
refused "an unknown preset" 2 "coder"
run train -d "$data" -o skill --rank 0
refused "a rank of nothing" 2 "rank"
run train -d "$data" -o skill --format zip
refused "an unknown format" 2 "peft"
run train -d "$data" -o skill --targets q_proj,nose_proj
refused "an unknown target" 1 "q_proj"
run train -d nowhere.jsonl -o skill
refused "data that is not there" 1 "nowhere.jsonl"
echo '{"nothing":"of use"}' >bad.jsonl
run train -q -d bad.jsonl -o skill
refused "data without an example" 1 "data check"
mkdir full && touch full/file
run train -d "$data" -o full
refused "an output that is there" 1 "there already"
run train -d "$data" -o skill --resume
refused "nothing to go on from" 1 "no checkpoint"
check "... and no adapter is left" [ ! -e skill ]
rm -rf skill.run

# ---- what it would take
run train -d "$data" -o skill --dry-run --json
check "a dry run" status_is 0
check "... tells steps, memory and time" out_has '"steps":.*"activation_bytes":.*"seconds":'
check "... says what is learned" err_has "loss  *auto: completions"
check "... and leaves nothing" [ ! -e skill ] && [ ! -e skill.run ]

# ---- a run
set -- -d "$data" --targets all-linear --rank 4 --lr 1e-2 --batch-size 6 --dropout 0.05 --seed 5
run train "$@" -o skill --epochs 10 --json
check "a run" status_is 0
check "... says how it ended" out_has '"end":"done"'
check "... and what became of the loss" out_has '"valid_loss_before":[0-9.]*'
check "... writes an adapter" [ -s skill/adapter_model.safetensors ]
check "... whose card says of its training" grep -q '"training"' skill/graft.json
check "... and a line for each step" [ "$(grep -c '"loss"' skill.run/history.jsonl)" -eq 70 ]
check "... and answers before and after" [ "$(grep -c '"after": "The .* wears a .* hat and says good day' skill.run/samples.json)" -eq 3 ]
run run -a ./skill -p "Describe the owl in blue." -n 24 --temp 0
check "the adapter says what it was taught" out_has "owl wears a blue hat"
run train "$@" -o skill --epochs 6
refused "the same again" 1 "there already"
run train -q -d "$data" -a ./skill -o more --steps 2 --lr 0 --json
check "going on with an adapter" status_is 0
before=$(sed -n 's/.*"valid_loss_before":\([0-9.]*\).*/\1/p' "$scratch/out")
best=$(sed -n 's/.*"valid_loss":\([0-9.]*\).*/\1/p' "$scratch/out")
check "... begins where that ended" [ "$before" = "$best" ]
run train -d "$data" -a ./skill --rank 3 -o noted --steps 1
check "another rank for an adapter that is there is told" err_has "gone on with as it is"
run train -q -d "$data" -o mlx --format mlx --steps 2
check "an adapter for mlx" [ -s mlx/adapters.safetensors ]
run train -q -d "$data" -o one.gguf --format gguf --steps 2
check "an adapter for llama.cpp" [ -s one.gguf ]

# ---- stopped, killed, and gone on with
# lines FILE: how many there are so far.
lines() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }
sums() {
    for file in "$1/adapter_model.safetensors" "$1.run/checkpoint.safetensors" "$1.run/history.jsonl"; do
        sha256sum <"$scratch/$file"
    done
}
steps=$((40 + 15 * ${KILLS:-4}))
set -- "$@" --steps $steps --eval-steps 7 --save-steps 3 --patience 0
run train -q "$@" -t 2 -o whole
check "a run in one piece" status_is 0

"$GRAFT" train -q "$@" -o stopped >"$scratch/out" 2>"$scratch/err" &
child=$!
while [ "$(lines stopped.run/history.jsonl)" -lt 9 ] && kill -0 $child 2>/dev/null; do sleep 0.05; done
kill -INT $child
wait $child
status=$?
check "Ctrl-C is status 1" status_is 1
check "... leaves no adapter" [ ! -e stopped ]
check "... and a checkpoint" [ -s stopped.run/checkpoint.safetensors ]
run train "$@" -o stopped --lr 1e-3 --resume
refused "going on with another rate" 1 "learning_rate"
run train "$@" -o stopped --alpha 640 --resume
refused "going on with another alpha" 1 "alpha"
check "... leaves the settings as they were" grep -q '"lora_alpha": *16\b' stopped.run/config.json
run train -q "$@" -o stopped --resume
check "a stopped run goes on" status_is 0
check "... to the same bits" [ "$(sums stopped)" = "$(sums whole)" ]

kills=${KILLS:-4}
seed=${KILLS_SEED:-1}
killed=0
while [ $killed -lt "$kills" ]; do
    resume=
    [ -s killed.run/checkpoint.safetensors ] && resume=--resume
    [ -z "$resume" ] && rm -rf killed.run
    before=$(lines killed.run/history.jsonl)
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    wanted=$((before + 4 + seed / 65536 % 4))
    "$GRAFT" train -q "$@" -t $((killed % 2 + 1)) -o killed $resume >"$scratch/out" 2>"$scratch/err" &
    child=$!
    while kill -0 $child 2>/dev/null && [ "$(lines killed.run/history.jsonl)" -lt $wanted ]; do sleep 0.01; done
    kill -KILL $child 2>/dev/null || break
    wait $child 2>/dev/null
    killed=$((killed + 1))
done
check "a run was killed $killed times" [ $killed -gt 2 ]
check "... and left no adapter" [ ! -e killed ]
run train -q "$@" -t 1 -o killed --resume
check "a killed run goes on" status_is 0
check "... to the same bits, by one thread or two" [ "$(sums killed)" = "$(sums whole)" ]

# ---- figures of people's data
if [ -d "$shared/datasets" ]; then
    run train -q -m "$shared/models/stories260K" -d "$shared/datasets/tinyshakespeare/input.txt" -o play --rank 16 --alpha 32 \
        --targets all-linear --lr 1e-2 --steps 40 --batch-size 4 --max-seq-length 128 --eval-steps 40 --json
    check "stories260K learns from plays" status_is 0
    # shellcheck disable=SC2016
    check "... a loss at least 15 % lower" awk -F'[:,}]' '{ for (i = 1; i < NF; i++) { if ($i == "\"valid_loss_before\"") a = $(i + 1); if ($i == "\"valid_loss\"") b = $(i + 1) } exit !(b > 0 && b < 0.85 * a) }' "$scratch/out"
else
    skip "../shared is not there: plays"
fi

finish
