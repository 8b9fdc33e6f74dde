#!/bin/sh
# Makes a shipped model from nothing: corpus, tokenizer, random weights, training by graft, scores, card.
# The corpus and the tokenizer are shared by both models and made once. Needs Python alone, no package.
#
#   tools/tiny/build.sh WORK tiny         WORK/tiny holds the model
#   tools/tiny/build.sh WORK tiny-draft
#
# GRAFT= names another program (default: build/graft), PYTHON= another interpreter.
# A run that was stopped goes on where it was.
set -eu

[ $# = 2 ] || { echo "usage: $0 WORK tiny|tiny-draft" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd) model=$2
graft=${GRAFT:-$here/../../build/graft} python=${PYTHON:-python3}
case $model in
tiny) lr=3e-3 epochs=1 ;;
tiny-draft) lr=4e-3 epochs=2 ;;
*) echo "$0: unknown model $model" >&2; exit 2 ;;
esac

# Whatever is made is named when it is whole.
if [ ! -d "$work/corpus" ]; then
    rm -rf "$work/corpus.part"
    "$python" "$here/corpus.py" --out "$work/corpus.part"
    "$python" "$here/bpe.py" --corpus "$work/corpus.part/train.jsonl" --out "$work/tokenizer.json"
    "$python" "$here/windows.py" --corpus "$work/corpus.part" --tokenizer "$work/tokenizer.json" --out "$work/corpus.part/windows"
    mv "$work/corpus.part" "$work/corpus"
fi
windows=$work/corpus/windows
resume=
if [ -s "$work/$model.run/checkpoint.safetensors" ]; then
    resume=--resume
else
    rm -rf "${work:?}/$model.run"
    "$python" "$here/start.py" --model "$model" --tokenizer "$work/tokenizer.json" --seed 1 --out "$work/$model.start"
fi
rm -rf "${work:?}/$model"
"$graft" train -m "$work/$model.start" -d "$windows" -o "$work/$model" $resume --fine-tune-type full --type bf16 --loss all \
    --max-seq-length 512 --epochs $epochs --batch-size 8 --no-checkpointing --seed 1 --eval-steps 250 --patience 0 \
    --optim muon --lr "$lr" --set muon_lr=0.02 --set weight_decay=0.1 --set adam_beta2=0.95 --schedule warmup_stable_decay --set warmup_steps=150
"$graft" eval -q -m "$work/$model" "$windows"/text/*.jsonl --no-answers --json >"$work/$model.text.json"
"$graft" eval -q -m "$work/$model" "$windows"/answers/*.jsonl --json >"$work/$model.answers.json"
"$python" "$here/model_card.py" --model "$work/$model" --run "$work/$model.run" --corpus "$work/corpus" \
    --text "$work/$model.text.json" --answers "$work/$model.answers.json"
