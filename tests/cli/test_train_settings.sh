#!/bin/sh
# test_train_settings.sh: graft train with settings by name: what goes before what, what is kept of them, what is refused; the
# table in docs/train-settings.md. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
for name in Tom Mia Leo Ann Eva Max; do
    echo "{\"prompt\":\"Who is $name?\",\"completion\":\"A cat.\"}"
done >"$scratch/data.jsonl"
cat >"$scratch/train.yaml" <<END
model: $tiny
data: $scratch/data.jsonl
output: $scratch/out.adapter
lr: 1e-3
iters: 4
grad_accumulation_steps: 2
lora_parameters: {rank: 4, scale: 2.0, keys: [self_attn.q_proj, mlp.up_proj]}
steps_per_report: 10
END
kept() { grep -q "^  \"$1\": $2,\{0,1\}$" "$scratch/out.adapter.run/config.json"; }
err_is_empty() { [ ! -s "$scratch/err" ]; }
forget() { rm -rf "$scratch/out.adapter" "$scratch/out.adapter.run"; }

# ---- files, presets, settings, options
run train --config "$scratch/train.yaml"
check "a file says all that is needed" status_is 0
check "... what is only nearly the same is noted" err_has "^graft: note: steps_per_report: has no meaning here"
check "... an adapter is there" test -f "$scratch/out.adapter/adapter_config.json"
check "... of that rank" grep -q '"r": *4' "$scratch/out.adapter/adapter_config.json"
check "... and that scale" kept lora_alpha 8
check "... batches became steps" kept max_steps 2
check "... the rate" kept learning_rate 0.001
check "... data are kept, too" grep -q '"records"' "$scratch/out.adapter.run/data.json"
cp "$scratch/out.adapter.run/config.json" "$scratch/first.json"
cp "$scratch/out.adapter/adapter_model.safetensors" "$scratch/first.safetensors"
run train report "$scratch/out.adapter.run" -o "$scratch/report.html"
check "... and on the page" grep -q "<tr><th>learning_rate</th><td>0.001</td></tr>" "$scratch/report.html"
forget
run train --config "$scratch/first.json"
check "what is kept is a file of settings" status_is 0
check "... of the same" cmp -s "$scratch/first.json" "$scratch/out.adapter.run/config.json"
check "... that trains to the same bytes" cmp -s "$scratch/first.safetensors" "$scratch/out.adapter/adapter_model.safetensors"
forget
run train --rank 6 --set weight_decay=0.5 --config "$scratch/train.yaml" --preset quick --lr 0.25 --set r=3 --targets k_proj,v_proj -q
check "options, settings, presets and a file" status_is 0
check "... -q keeps notes back" err_is_empty
check "... options go before settings" kept r 6
check "... wherever they stand" kept learning_rate 0.25
check "... the scale holds for their rank" kept lora_alpha 12
check "... settings" kept weight_decay 0.5
check "... the preset before the file" kept lr_scheduler_type '"constant"'
check "... lists" grep -q '"target_modules": \["k_proj", "v_proj"\]' "$scratch/out.adapter.run/config.json"
forget
run train --config "$scratch/train.yaml" --dry-run -q
check "a dry run" status_is 0
check "... keeps nothing" test ! -e "$scratch/out.adapter.run"

# ---- what is refused
run train --config "$scratch/train.yaml" --set learning_rat=1
refused "a name that is not known" 2 'no setting is called "learning_rat"; the nearest is learning_rate$'
run train --config "$scratch/train.yaml" --set lr=fast
refused "a value of another type" 2 'lr: must be a number from 0 to 1000, not "fast"'
run train --config "$scratch/train.yaml" --set fp16=true
refused "fp16" 2 "fp16: .*set bf16: true in its place"
run train --config "$scratch/train.yaml" --set lr
refused "a setting without a value" 2 "give KEY=VALUE"
run train --config "$scratch/train.yaml" --preset slow
refused "no such preset" 2 'no preset "slow"; there are quick, stable'
run train --config "$scratch/none.yaml"
refused "no such file" 1 "none.yaml"
printf 'model: m\nlearning_rate: [1]\n' >"$scratch/bad.yaml"
run train --config "$scratch/bad.yaml"
refused "what is wrong in a file names it" 1 "bad.yaml: learning_rate: must be"
run train --config "$scratch/train.yaml" --set num_layers=1 -q
tr -d ' \n' <"$scratch/out.adapter/adapter_config.json" >"$scratch/out"
check "the last block alone" out_has '"layers_to_transform":\[4\]'
forget
run train --set r=4
refused "no data" 2 "which data"

# ---- the table
run train settings
check "the table" status_is 0
sed -n '/^| setting |/,$p' "$SOURCE/docs/train-settings.md" >"$scratch/documented"
check "... is that of docs/train-settings.md" out_equals_file "$scratch/documented"
run train settings --json
check "... as JSON" out_has '{"name":"r","aliases":"lora_r rank lora_parameters.rank","type":"integer"'
run train settings more
refused "... of nothing else" 2 'no "more" here'

finish
