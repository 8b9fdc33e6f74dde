#!/bin/sh
# test_adapter_diff.sh: `graft adapter diff`: its tables, JSON and picture, of adapters that are alike, opposite and strangers, and
# what is refused. GRAFT, SOURCE and MODELS (a program that writes adapters) are set by ctest.
. "$(dirname "$0")/adapter_lib.sh"

tiny=$SOURCE/models/tiny
nowhere=/nonexistent/model
GRAFT_HOME=$scratch/home
export GRAFT_HOME

# ---- what was typed
wrong "which adapters" diff -m $nowhere
wrong "which adapters" diff -m $nowhere a
wrong "two adapters" diff -m $nowhere a b c
wrong "svg: the name is empty" diff -m $nowhere a b --svg ""
wrong "scale-a" diff -m $nowhere a b --scale-a x
failed "$nowhere" diff -m $nowhere a b

if [ ! -f "$tiny/model.safetensors" ] || [ ! -x "${MODELS:-}" ]; then
    skip "models/tiny or what writes adapters is not there"
    finish
    exit
fi
for i in 1 2; do
    "$MODELS" "$scratch/made" "$tiny" adapter-$i >"$scratch/out" 2>"$scratch/err"
done
one=$scratch/made/adapter-1 two=$scratch/made/adapter-2

# ---- alike
run adapter diff "$one" "$one"
check "diff succeeds" status_is 0
says "an adapter is like itself" "^all .* 1.000    1.000    1.000$"
says "... bit by bit" "the same, bit by bit"
"$GRAFT" adapter convert "$one" -o "$scratch/mlx" --format mlx --type f32 -q
run adapter diff "$one" "$scratch/mlx"
says "in another format it still is" "^all .* 1.000    1.000    1.000$"

# ---- tables
run adapter diff "$one" "$two"
for head in module layer; do
    says "there is a table by $head" "^$head .*cosine  columns     rows$"
done
says "... with kinds" "^q_proj "
says "... layers" "^0 "
says "... and what both have" "^modules: [0-9]* in both, [0-9]* only in A, [0-9]* only in B$"
check "every line of numbers has as many" [ "$(awk '/^(q_proj|all|0) /{print NF}' "$scratch/out" | sort -u | wc -l)" -eq 1 ]
run adapter diff "$one" "$two" -v
says "-v shows every module" "^model.layers.0.self_attn.q_proj "
run adapter diff "$one" "$two" -q
check "-q says nothing" [ ! -s "$scratch/out" ]
run adapter diff "$one" "$two" --json
for key in same a b differences total kinds layers modules path digest only_a only_b both ranks scales dora card norm_a \
    norm_b distance cosine columns rows rank_a scale_b; do
    says "--json has $key" "\"$key\":"
done
cp "$scratch/out" "$scratch/first"
run adapter diff "$one" "$two" --json -t 1
check "threads cannot be seen" cmp -s "$scratch/first" "$scratch/out"

# ---- the picture
run adapter diff "$one" "$two" --svg "$scratch/diff.svg" -q
check "--svg writes" test -s "$scratch/diff.svg"
check "... a picture" grep -q "^<svg " "$scratch/diff.svg"
check "... to its end" [ "$(tail -n 1 "$scratch/diff.svg")" = "</svg>" ]
check "... for light and dark" grep -q "prefers-color-scheme:dark" "$scratch/diff.svg"
check "... with its numbers" grep -q "<title>model.layers.0.self_attn.q_proj, cosine -\{0,1\}[0-9]" "$scratch/diff.svg"
if command -v xmllint >/dev/null 2>&1; then
    check "... that XML takes" xmllint --noout "$scratch/diff.svg"
fi
cp -r "$one" "$scratch/<&>"
run adapter diff "$scratch/<&>" "$two" --svg "$scratch/odd.svg" -q
check "names are escaped" grep -q "/&lt;&amp;&gt;, B: " "$scratch/odd.svg"

# ---- names
run adapter add "$one" --name coder --adapter-version 1.0.0
run adapter diff coder@1.0.0 "$two"
check "a registered one is taken" status_is 0

# ---- what fails
failed "none" diff "$scratch/none" "$one"
failed "none" diff "$one" "$scratch/none"
failed "nobody" diff "$one" nobody
failed "a scale is for MLX adapters" diff "$one" "$two" --scale-b 2
failed "/nonexistent" diff "$one" "$two" --svg /nonexistent/dir/x.svg
mkdir "$scratch/cut"
cp "$one/adapter_config.json" "$scratch/cut"
head -c 200 "$one/adapter_model.safetensors" >"$scratch/cut/adapter_model.safetensors"
failed "." diff "$one" "$scratch/cut" --svg "$scratch/no.svg"
check "nothing was drawn" test ! -e "$scratch/no.svg"

finish
