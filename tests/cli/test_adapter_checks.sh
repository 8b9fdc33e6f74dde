#!/bin/sh
# test_adapter_checks.sh: what `graft adapter` checks before it believes: scales, the files of what is registered, bases,
# cards, homes that can only be read. GRAFT, SOURCE and MODELS (a program that writes adapters) are set by ctest.
. "$(dirname "$0")/adapter_lib.sh"

tiny=$SOURCE/models/tiny
GRAFT_HOME=$scratch/home
export GRAFT_HOME

if [ ! -f "$tiny/model.safetensors" ] || [ ! -x "${MODELS:-}" ]; then
    skip "models/tiny or what writes adapters is not there"
    finish
    exit
fi
for i in 1 2; do
    "$MODELS" "$scratch/made" "$tiny" adapter-$i >"$scratch/out" 2>"$scratch/err"
done
one=$scratch/made/adapter-1 two=$scratch/made/adapter-2

# ---- scales
run adapter convert "$one" --format mlx -o "$scratch/mlx"
scale=$(sed -n 's/.*"scale": *\([0-9.e+-]*\).*/\1/p' "$scratch/mlx/adapter_config.json")
mkdir "$scratch/scaleless"
cp "$scratch/mlx/adapters.safetensors" "$scratch/scaleless"
sed 's/"scale": *[0-9.e+-]*\(, *\)\{0,1\}//' "$scratch/mlx/adapter_config.json" | tr '\n' ' ' |
    sed 's/, *}/}/g' >"$scratch/scaleless/adapter_config.json"
for verb in show verify "quantize -o $scratch/no" "convert -o $scratch/no" add; do
    # shellcheck disable=SC2086 # words are what is wanted
    failed "adapter-scale" $verb "$scratch/scaleless"
done
for verb in show verify; do
    run adapter $verb "$scratch/scaleless" --adapter-scale "$scale"
    says "$verb takes a scale" "^scale  *$scale"
    run adapter $verb "$scratch/scaleless" --adapter-scale 3.5 -m "$tiny"
    says "... any" "^scale  *3.5 "
done
run adapter quantize "$scratch/scaleless" -o "$scratch/eight" --adapter-scale 3.5
says "quantize takes one" "^largest error"
run adapter show "$scratch/eight"
says "... and writes it" "^scale  *3.5 "
wrong "registered with the scale of its files.*convert PATH --adapter-scale 3.5" add "$scratch/scaleless" \
    --adapter-scale 3.5
"$GRAFT" adapter convert "$one" -o "$scratch/a.gguf" -q
for adapter in "$one" "$scratch/a.gguf"; do
    for verb in show verify "quantize -o $scratch/no" "convert -o $scratch/no"; do
        # shellcheck disable=SC2086 # words are what is wanted
        failed "a scale is for MLX adapters" $verb "$adapter" --adapter-scale 2
    done
    run run -p x -n 1 -q -a "$adapter" --adapter-scale 2
    refused "run with a scale for what gives its own" 1 "a scale is for MLX adapters"
    run fuse -a "$adapter" -o "$scratch/no.gguf" --adapter-scale 2
    refused "fuse with a scale for what gives its own" 1 "a scale is for MLX adapters"
done
check "nothing of these was written" test ! -e "$scratch/no" -a ! -e "$scratch/no.gguf"
for none in 0 -0 1e-60 nan inf; do
    wrong "adapter-scale: \"$none\" is not a number" show "$scratch/mlx" --adapter-scale $none
done

# ---- the files of what is registered
run adapter add "$one" --name coder
run adapter verify coder
says "verify takes what is as it was added" "^registered  *coder@1.0.0"
weights=$(echo "$GRAFT_HOME"/registry/objects/*/adapter_model.safetensors)
size=$(wc -c <"$weights")
byte=$(tail -c 1 "$weights" | od -An -tu1)
# shellcheck disable=SC2059 # an octal escape is the format
printf "\\$(printf %o $((byte ^ 1)))" | dd of="$weights" bs=1 seek=$((size - 1)) conv=notrunc 2>/dev/null
failed "$weights: coder@1.0.0 is damaged: the file is not the one that was added" verify coder
failed "$weights" verify coder@1.0.0 --for vllm
run adapter add "$one" --name coder
run adapter verify coder
check "adding it again heals it" status_is 0
rm "$weights"
failed "coder@1.0.0 is damaged" verify coder
run adapter remove coder

# ---- the base that a name is bound to
run adapter new --rank 2 -q -o "$scratch/fresh"
run adapter add "$scratch/fresh" --name bound
slot_is() { check "$1 is $2" out_has "$1 *$2"; }
slot_is 0.1.0 active
failed "$one: .*nothing says what this adapter was made for.*-m MODEL" add "$one" --name bound --publish
run adapter add "$one" --name bound --publish -m "$tiny"
slot_is 0.1.1 active
run adapter add "$one" --name bound
check "what is there already is no news" status_is 0
cp -r "$scratch/fresh" "$scratch/foreign"
sed 's/"fingerprint": "sha256:[0-9a-f]*"/"fingerprint": "sha256:0"/' "$scratch/fresh/graft.json" \
    >"$scratch/foreign/graft.json"
failed "$scratch/foreign: .*belongs to the base" add "$scratch/foreign" --name bound --adapter-version 3.0.0
failed "made for another base" add "$scratch/foreign" --name other -m "$tiny"
cp -r "$one" "$scratch/narrow"
sed 's/"r": *[0-9]*/"r": 77/' "$one/adapter_config.json" >"$scratch/narrow/adapter_config.json"
failed "rank" add "$scratch/narrow" --name other -m "$tiny"
failed "/nonexistent/model" add "$one" --name other -m /nonexistent/model
mkdir "$scratch/many"
cp -r "$one" "$scratch/many/bound"
rm -rf "$GRAFT_HOME"
"$GRAFT" adapter add "$scratch/fresh" --name bound >/dev/null
run adapter add "$scratch/many"
check "a folder with one that is refused fails" status_is 1
check "... and says which" err_has "$scratch/many/bound: "

# ---- known content
run adapter add "$one" --name known --tags first
says "content that is new is added" "^added known@1.0.0"
run adapter add "$one" --name known --tags second --description "Other words."
check "known content is fine" status_is 0
check "... and it is said that nothing changed" err_has "known@1.0.0 has this content already: nothing changed, tags"
check "... which is so" test -z "$(grep 'added\|second\|Other' "$scratch/out")"
run adapter add "$one" --name known --json
check "... for machines too" err_has "nothing changed$"
run adapter add "$two" --name known
says "other content is added" "^added known@1.0.1"

# ---- cards of wrong types
cp -r "$one" "$scratch/card"
card() { # KEY JSON
    echo "$2" >"$scratch/card/graft.json"
    for line in "adapter show $scratch/card" "adapter verify $scratch/card" "run -q -n 1 -p x -a $scratch/card"; do
        # shellcheck disable=SC2086 # words are what is wanted
        run $line
        check "$line takes a card with a wrong $1" status_is 0
        check "... with a warning" err_has "warning: $scratch/card: graft.json: \"$1\" has the wrong type"
        check "... of one line" err_lines 1
    done
    run run -q -n 1 -p x -a "$scratch/card" --strict-base
    refused "a strict run does not" 1 "graft.json: \"$1\" has the wrong type"
    failed "graft.json: \"$1\"" add "$scratch/card" --name card
}
card name '{"name": 5, "version": [1], "base": "x"}'
card base '{"base": "x"}'
card base.fingerprint '{"base": {"fingerprint": 3}}'

# ---- a home that can only be read: for root nothing is, so somebody else looks
chmod 755 "$scratch"
cp "$GRAFT" "$scratch/graft"
chmod -R a+rX,go-w "$GRAFT_HOME" "$scratch/graft"
if [ "$(id -u)" -ne 0 ]; then
    chmod -R a-w "$GRAFT_HOME"
    reader=
elif setpriv --reuid 65534 --regid 65534 --clear-groups "$scratch/graft" version >"$scratch/out" 2>&1; then
    reader="setpriv --reuid 65534 --regid 65534 --clear-groups"
else
    reader=none
fi
if [ "$reader" = none ]; then
    skip "nobody else can run graft here"
else
    # shellcheck disable=SC2086 # words are what is wanted
    reads() {
        $reader "$scratch/graft" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
        status=$?
    }
    reads adapter list
    says "a home that can only be read is listed" "^known  *1.0.0"
    reads adapter show known
    says "... and its adapters shown" "^registered  *known@1.0.0"
    reads adapter remove known
    refused "... and not changed" 1 "Permission denied"
    chmod -R u+w "$GRAFT_HOME"
fi

finish
