#!/bin/sh
# test_adapter_compress.sh: `graft adapter compress`: ranks by number and by energy, in every format, what it tells, and
# what is refused. GRAFT, SOURCE and MODELS (a program that writes adapters) are set by ctest.
. "$(dirname "$0")/adapter_lib.sh"

tiny=$SOURCE/models/tiny
nowhere=/nonexistent/model
GRAFT_HOME=$scratch/home
export GRAFT_HOME

# ---- what was typed
wrong "how far" compress -m $nowhere a -o "$scratch/x"
wrong 'rank: "0"' compress -m $nowhere a -o "$scratch/x" --rank 0
wrong 'energy: "0"' compress -m $nowhere a -o "$scratch/x" --energy 0
wrong 'energy: "1.01"' compress -m $nowhere a -o "$scratch/x" --energy 1.01
wrong 'energy: "nan"' compress -m $nowhere a -o "$scratch/x" --energy nan
wrong "which adapter" compress -m $nowhere -o "$scratch/x" --rank 2
wrong "one adapter" compress -m $nowhere -o "$scratch/x" --rank 2 a b
wrong "give -o" compress -m $nowhere --rank 2 a
wrong "none of f32, f16, bf16" compress -m $nowhere a -o "$scratch/x" --rank 2 --type int8
wrong "none of peft, mlx, gguf" compress -m $nowhere a -o "$scratch/x" --rank 2 --format onnx
failed "$nowhere" compress -m $nowhere a -o "$scratch/x" --rank 2

if [ ! -f "$tiny/model.safetensors" ] || [ ! -x "${MODELS:-}" ]; then
    skip "models/tiny or what writes adapters is not there"
    finish
    exit
fi
"$MODELS" "$scratch/made" "$tiny" adapter-1 >"$scratch/out" 2>"$scratch/err"
one=$scratch/made/adapter-1
# number KEY: of the last --json, outside of its modules.
number() { sed -n -e 's/"modules":.*//' -e "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$scratch/out"; }

# ---- fewer
run adapter compress "$one" -o "$scratch/two" --rank 2
check "compress succeeds" status_is 0
says "... shows a kind of module" "^q_proj  *5  *5  *2 "
says "... and what it costs" "of the energy discarded, error 0"
run adapter compress "$one" -o "$scratch/each" --rank 2 -v
says "-v shows every module" "^model.layers.0.self_attn.q_proj "
run adapter verify "$scratch/two"
check "what is written fits" status_is 0
check "... and is smaller" [ "$(wc -c <"$scratch/two/adapter_model.safetensors")" -lt \
    "$(wc -c <"$one/adapter_model.safetensors")" ]
check "twice gives the same bytes" cmp -s "$scratch/two/adapter_model.safetensors" \
    "$scratch/each/adapter_model.safetensors"
run adapter compress "$one" -o "$scratch/json" --rank 2 --json
for key in output from rank discarded_energy error bytes_before bytes modules; do
    says "--json has $key" "\"$key\":"
done
run adapter compress "$one" -o "$scratch/json1" --energy 0.5 --json
says "... and energy" '"energy":0.5'

# ---- the whole rank, all of the energy
run adapter compress "$one" -o "$scratch/same" --rank 4096 --json
check "no fewer ranks, no error" [ "$(number error)" = 0 ]
run adapter diff "$one" "$scratch/same"
says "... and the same adapter" "the same, bit by bit"
run adapter compress "$one" -o "$scratch/all" --energy 1 -q
check "-q says nothing" [ ! -s "$scratch/out" ]

# ---- formats
for out in mlx gguf; do
    to=$scratch/small-$out
    [ $out = gguf ] && to=$to.gguf
    run adapter compress "$one" -o "$to" --format $out --rank 1 --type f32
    check "compress to $out" status_is 0
    run adapter show "$to"
    says "... says so" "^format  *$(echo $out | tr '[:lower:]' '[:upper:]')$"
done
run adapter compress "$scratch/small-mlx" -o "$scratch/again" --rank 1
check "an MLX adapter is taken" status_is 0
run adapter compress "$scratch/small-gguf.gguf" -o "$scratch/again.gguf" --rank 1
check "a GGUF one, too" status_is 0
run adapter add "$one" --name coder
run adapter compress coder -o "$scratch/named" --rank 1
check "a registered one, too" status_is 0

# ---- what fails leaves nothing
failed "none: there is no such file" compress "$scratch/none" -o "$scratch/no" --rank 1
failed "exists\|not empty\|something in it" compress "$one" -o "$one" --rank 1
mkdir "$scratch/cut"
cp "$one/adapter_config.json" "$scratch/cut"
head -c 200 "$one/adapter_model.safetensors" >"$scratch/cut/adapter_model.safetensors"
failed "." compress "$scratch/cut" -o "$scratch/no" --rank 1
failed "/nonexistent" compress "$one" -o /nonexistent/dir/x --rank 1
check "nothing was written" test ! -e "$scratch/no"

finish
