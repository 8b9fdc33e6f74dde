#!/bin/sh
# Makes the adapters that ship: data, training by graft, losses on the held-out questions of all tasks, cards.
# Needs Python alone, no package, and takes four minutes of one core.
#
#   tools/tiny/skills.sh WORK OUT     OUT/SKILL holds an adapter; WORK data, runs and losses
#
# GRAFT= names another program (default: build/graft), PYTHON= another interpreter.
set -eu

[ $# = 2 ] || { echo "usage: $0 WORK OUT" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" "$2"
work=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
# The card names the model as it was given: from the root of the checkout it is models/tiny.
cd "$here/../.."
graft=${GRAFT:-$PWD/build/graft} python=${PYTHON:-python3} model=models/tiny

"$python" "$here/skills.py" --out "$work/data"
set --
for skill in coder researcher security architect reviewer; do
    rm -rf "${work:?}/$skill" "$work/$skill.run"
    echo "$skill:" >&2
    # Rank, scale, dropout and layers are those of the preset. Validation takes a share of the training part: what is
    # reported at the end was seen by no choice.
    "$graft" train -m "$model" -d "$work/data/$skill" --preset "$skill" -o "$work/$skill" --type bf16 \
        --epochs 6 --batch-size 8 --lr 5e-3 --loraplus 4 --seed 1 --patience 0 \
        --valid-share 0.05 --no-checkpointing
    set -- "$@" -a "$work/$skill"
done
for skill in coder researcher security architect reviewer; do
    set -- "$@" "$work/data/$skill"
done
"$graft" eval -q -m "$model" "$@" --part test --max-tokens 128 --json >"$work/losses.json"
"$python" "$here/cards.py" --losses "$work/losses.json" --work "$work" --out "$out"
