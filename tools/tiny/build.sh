#!/bin/sh
# Makes a shipped model from nothing: corpus, tokenizer, weights, scores, Hugging Face directory.
# The corpus and the tokenizer are shared by both models and made once.
#
#   tools/tiny/build.sh WORK tiny         WORK/tiny holds the model
#   tools/tiny/build.sh WORK tiny-draft
#
# TOKENS= trains for longer, PYTHON= names another interpreter.
set -eu

[ $# = 2 ] || { echo "usage: $0 WORK tiny|tiny-draft" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
work=$1 model=$2
python=${PYTHON:-python3}
case $model in
tiny) tokens=11010048 lr=3e-3 ;;
tiny-draft) tokens=12001280 lr=4e-3 ;;
*) echo "$0: unknown model $model" >&2; exit 2 ;;
esac

# Large blocks stay with the process: giving them back after every step costs a third of the time.
# Threads sleep when they wait, so that a busy machine is not slowed down further.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=100000000
export OMP_WAIT_POLICY=passive

mkdir -p "$work"
if [ ! -f "$work/tokenizer.json" ]; then
    "$python" "$here/corpus.py" --out "$work"
    "$python" "$here/bpe.py" --corpus "$work/train.jsonl" --out "$work/tokenizer.json"
fi
"$python" "$here/train.py" --model "$model" --corpus "$work" --tokenizer "$work/tokenizer.json" \
    --tokens "${TOKENS:-$tokens}" --lr "$lr" --out "$work/$model.pt"
"$python" "$here/evaluate.py" --checkpoint "$work/$model.pt" --corpus "$work" --tokenizer "$work/tokenizer.json" \
    --out "$work/$model.scores.json"
"$python" "$here/export.py" --checkpoint "$work/$model.pt" --tokenizer "$work/tokenizer.json" \
    --scores "$work/$model.scores.json" --out "$work/$model"
