#!/bin/sh
# Makes the router that ships: prompts, training by graft, what it makes of held-out prompts and of wordings that it never
# saw, and whether the adapter that is asked for answers best. Needs Python alone, no package, and takes half a minute.
#
#   tools/tiny/routes.sh WORK OUT     OUT/router.safetensors and its card; WORK data and measurements
#
# GRAFT= names another program (default: build/graft), PYTHON= another interpreter. models/adapters must be there.
set -eu

[ $# = 2 ] || { echo "usage: $0 WORK OUT" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" "$2"
work=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
cd "$here/../.."
graft=${GRAFT:-$PWD/build/graft} python=${PYTHON:-python3} model=models/tiny

"$python" "$here/routes.py" --out "$work/data"
"$graft" router train -m "$model" -o "$out/router.safetensors" "$work/data/train.jsonl" --held-out 0.1 --json >"$work/train.json"
set -- # the held-out part of each label, in the order of the rows below
for label in base coder researcher security architect reviewer; do
    set -- "$@" "$work/data/test/$label.jsonl"
done
"$graft" router eval -m "$model" "$out/router.safetensors" "$@" --json >"$work/test.json"
"$graft" router eval -m "$model" "$out/router.safetensors" "$work/data/test/unseen.jsonl" --json >"$work/unseen.json"
for skill in coder researcher security architect reviewer; do
    set -- "$@" -a "models/adapters/$skill"
done
"$graft" eval -q -m "$model" "$@" --no-answers --json >"$work/losses.json"
"$python" "$here/route_card.py" --work "$work" --out "$out"
