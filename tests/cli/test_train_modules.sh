#!/bin/sh
# test_train_modules.sh: graft train --modules-to-save, embed_tokens among the targets, num_layers: what is written, that it is
# what was trained, that it is gone on with, and what is refused. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

cd "$scratch" || exit 1
for i in 1 2 3 4 5 6 7 8; do
    echo "{\"prompt\":\"Who is number $i?\",\"completion\":\"Tom, the cat of house $i.\"}"
done >data.jsonl
number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" "$scratch/out" | head -n 1; }
is_near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d <= 2e-4 && -d <= 2e-4) }'; }
has() { tr -d ' \n' <"$1/adapter_config.json" | grep -q -F -e "$2"; }
train() { run train -q -d data.jsonl -o "$@" --steps 4 --batch-size 2 --lr 5e-3 --warmup 0 --eval-steps 4 --f32 --json; }
# go_on NAME: the adapter, gone on with for a step of rate 0, begins where it ended.
go_on() {
    valid=$(number valid_loss)
    run train -q -d data.jsonl -a "$1" -o "$1-again" --steps 1 --lr 0 --f32 --json
    check "... it is gone on with" status_is 0
    check "... where it ended" is_near "$(number valid_loss_before)" "$valid"
    check "... and says so again" cmp -s "$1/adapter_model.safetensors" "$1-again/adapter_model.safetensors"
    run run -a "./$1" -p "Who is number 3?" -n 3 -q
    check "... any verb opens it" status_is 0
}

train embed --targets q_proj,embed_tokens --rank 4
check "factors of the embedding" status_is 0
check "... in their place" has embed '"target_modules":["embed_tokens","q_proj"]'
go_on embed
train whole --targets q_proj --modules-to-save norms,embed_tokens,lm_head
check "modules that are held whole" status_is 0
check "... by name" has whole '"modules_to_save":["embed_tokens","norm","lm_head","input_layernorm","post_attention_layernorm"]'
go_on whole
train last --targets q_proj,up_proj --set num_layers=2
check "the last two blocks" status_is 0
check "... by number" has last '"layers_to_transform":[3,4]'
go_on last
train last-mlx --targets q_proj,up_proj --set num_layers=2 --format mlx
check "... for mlx" has last-mlx '"num_layers":2'
train all --targets q_proj --set num_layers=16
check "more blocks than there are: all of them" has all '"layers_to_transform":null'
printf 'target_modules: [q_proj]\nmodules_to_save: [norm]\nlora_alpha: 8\n' >train.yaml
train from-file --config train.yaml
check "modules_to_save of a file" has from-file '"modules_to_save":["norm"]'

train none --modules-to-save lm_head
refused "a tied head alone" 1 "save embed_tokens, too"
train none --modules-to-save down_proj
refused "a linear layer" 1 "it has embed_tokens, norm, lm_head"
train none --targets embed_tokens --modules-to-save embed_tokens
refused "both ways" 1 "both in target_modules and in modules_to_save"
train none --modules-to-save norm --format mlx
refused "whole modules for mlx" 1 "which an MLX adapter cannot hold"
check "... before anything is trained" [ ! -e none.run/history.jsonl ]
train none --dora --format gguf
refused "magnitudes for llama.cpp" 1 "which a GGUF adapter cannot hold"
check "... and nothing is left" [ ! -e none ]

finish
