#!/bin/sh
# test_adapter.sh: `graft adapter` as somebody types it: new adapters, other formats, and what is refused with which
# status. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/adapter_lib.sh"

nowhere=/nonexistent/model
tiny=$SOURCE/models/tiny

# ---- every verb explains itself
run adapter
check "graft adapter alone is wrong use" status_is 2
check "... and shows the verbs" err_has "convert"
run adapter --help
check "graft adapter --help succeeds" status_is 0
sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$scratch/out" >"$scratch/verbs"
check "... and lists verbs" test "$(wc -l <"$scratch/verbs")" -ge 2
while read -r verb; do
    run adapter "$verb" --help
    cp "$scratch/out" "$scratch/help"
    check "adapter $verb --help succeeds" status_is 0
    check "adapter $verb --help has an example" out_has "^  graft adapter $verb"
    check "the manual has adapter $verb" grep -q "^\.It Ic adapter $verb" "$SOURCE/docs/man/graft.1"
    # shellcheck disable=SC2013 # words are what is wanted
    for option in $(grep -o -e '--[a-z][a-z-]*' "$scratch/out" | sort -u); do
        check "the manual has adapter $verb $option" grep -q -e "$(echo "$option" | sed 's/^--/-/')" \
            "$SOURCE/docs/man/graft.1"
    done
    wrong "no-such-option" "$verb" --no-such-option
    if grep -q -e "-m, --model" "$scratch/help"; then
        wrong "model: the name is empty" "$verb" -m ""
    fi
done <"$scratch/verbs"
wrong 'no verb "adapter frobnicate"' frobnicate
wrong 'no verb "adapter "' ""

# ---- what was typed
wrong "give -o" new -m $nowhere
wrong "output: the name is empty" new -m $nowhere -o ""
wrong 'no preset "poet"; there are coder, researcher, security, architect, reviewer' new \
    -m $nowhere -o "$scratch/x" --preset poet
wrong 'rank: "0"' new -m $nowhere -o "$scratch/x" --rank 0
wrong 'alpha: "0"' new -m $nowhere -o "$scratch/x" --alpha 0
wrong 'dropout: "1"' new -m $nowhere -o "$scratch/x" --dropout 1
wrong "targets: the list is empty" new -m $nowhere -o "$scratch/x" --targets ,
wrong "f32, f16 or bf16" new -m $nowhere -o "$scratch/x" --type q8_0
wrong 'no type "f8"' new -m $nowhere -o "$scratch/x" --type f8
wrong "no adapter name" new -m $nowhere -o "$scratch/x" --name a/b
wrong "MAJOR.MINOR.PATCH" new -m $nowhere -o "$scratch/x" --adapter-version 1
letters=a123456789a123456789a123456789a123456789a123456789a123456789a123
wrong "no adapter name" new -m $nowhere -o "$scratch/x" --name ${letters}4
failed "$nowhere" new -m $nowhere -o "$scratch/x" --name $letters
wrong "convert makes a GGUF of it" new -m $nowhere -o "$scratch/x.gguf"
for verb in new quantize; do
    run adapter $verb --help
    check "$verb says that it writes a directory" out_has "output=DIR"
done
wrong 'unexpected argument "more"' new -m $nowhere -o "$scratch/x" more
wrong "which adapter" convert -m $nowhere -o "$scratch/x"
wrong "give -o" convert -m $nowhere a
wrong "one adapter" convert -m $nowhere -o "$scratch/x" a b
wrong "none of peft, mlx, gguf" convert -m $nowhere -o "$scratch/x" a --format onnx
wrong "none of f32, f16, bf16" convert -m $nowhere -o "$scratch/x" a --type q8_0
wrong "which adapter" quantize -m $nowhere -o "$scratch/x"
wrong "give -o" quantize -m $nowhere a
wrong 'type: "q8_0" is neither int8 nor q4' quantize -m $nowhere -o "$scratch/x" a --type q8_0
failed "$nowhere" quantize -m $nowhere -o "$scratch/x" a
for verb in show verify; do
    wrong "which adapter" "$verb" -m $nowhere
    wrong "one adapter" "$verb" -m $nowhere a b
    wrong "ADAPTER: the name is empty" "$verb" -m $nowhere ""
    failed "$nowhere" "$verb" -m $nowhere a
done
wrong 'for: "ollama" is none of vllm, llama.cpp, mlx' verify -m $nowhere a --for ollama
failed "/nonexistent/adapter" show /nonexistent/adapter
failed "$nowhere" new -m $nowhere -o "$scratch/x"
failed "$nowhere" convert -m $nowhere -o "$scratch/x" a
check "nothing was written" test ! -e "$scratch/x"

run adapter new --presets
check "presets need no model" status_is 0
check "presets are listed with their numbers" out_has "^coder .*rank 16  alpha 32  dropout 0.05  q_proj"
run adapter new --presets --json
check "presets as JSON" out_has '"name":"architect","description":".*","rank":12,"alpha":24'

if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi

# ---- adapters that are written
failed 'no linear layer "w_pack"; it has' new -o "$scratch/x" --targets w_pack
failed "nothing/here" convert nothing/here -o "$scratch/x"
run adapter new --preset security --rank 4 --tags mine,yours --description "Looks twice" -o "$scratch/a"
check "a new adapter" status_is 0
check "... says what it is" out_has "rank 4, .* parameters"
check "... its rank goes before the preset's" grep -q '"r": 4,' "$scratch/a/adapter_config.json"
check "... the preset says the rest" grep -q '"lora_alpha": 32,' "$scratch/a/adapter_config.json"
check "... its card has the tags" grep -q '"yours"' "$scratch/a/graft.json"
check "... and what it is for" grep -q '"description": "Looks twice"' "$scratch/a/graft.json"
failed "exists and is not an empty directory" new -o "$scratch/a"
run run --temp 0 -n 8 -p "Tell me a story about a cat."
cp "$scratch/out" "$scratch/plain"
run run --temp 0 -n 8 -p "Tell me a story about a cat." -a "$scratch/a"
check "... changes nothing yet" out_equals_file "$scratch/plain"
run adapter convert "$scratch/a" -o "$scratch/a.gguf" --json
check "a name that ends in .gguf makes one" out_is "{\"output\":\"$scratch/a.gguf\",\"format\":\"gguf\"}"
run adapter convert "$scratch/a.gguf" -o "$scratch/mlx" --format mlx --type bf16 -q
check "GGUF to MLX" test -s "$scratch/mlx/adapters.safetensors"
run adapter convert "$scratch/mlx" -o "$scratch/b"
check "MLX to PEFT" test -s "$scratch/b/adapter_model.safetensors"
run run --temp 0 -n 8 -p "Tell me a story about a cat." -a "$scratch/b"
check "... runs" out_equals_file "$scratch/plain"

# ---- adapters of no use, pipes, and bases that are GGUF files
cp -R "$scratch/a" "$scratch/zero"
sed 's/"lora_alpha": 32/"lora_alpha": 0/' "$scratch/a/adapter_config.json" >"$scratch/zero/adapter_config.json"
run adapter verify "$scratch/zero"
check "scales of 0 are told in one line" err_lines 1
check "... with their number" err_has "warning: the scale of [0-9]* modules of [0-9]* is 0, the first is model.layers.0"
mkfifo "$scratch/pipe"
timeout 20 "$GRAFT" adapter show "$scratch/pipe" >"$scratch/out" 2>"$scratch/err"
status=$?
refused "a pipe is no adapter" 1 "pipe: it is no GGUF file"
run quantize -m "$tiny" -o "$scratch/tiny.gguf" --type f16 -q
run adapter convert "$scratch/a.gguf" -m "$scratch/tiny.gguf" -o "$scratch/from-gguf"
check "a base that is a GGUF file is called by its name" \
    grep -q '"base_model_name_or_path": "tiny"' "$scratch/from-gguf/adapter_config.json"
run adapter new -m "$scratch/tiny.gguf" -o "$scratch/on-gguf"
check "... of new ones too" grep -q '"base_model_name_or_path": "tiny"' "$scratch/on-gguf/adapter_config.json"
check "... and in the card" grep -q '"name": "tiny"' "$scratch/on-gguf/graft.json"

# ---- the base that its card names
sed 's/"fingerprint": "sha256:[0-9a-f]*"/"fingerprint": "sha256:0"/' "$scratch/a/graft.json" \
    >"$scratch/graft.json"
cp -r "$scratch/a" "$scratch/foreign"
cp "$scratch/graft.json" "$scratch/foreign/graft.json"
for words in "" "--fuse"; do
    # shellcheck disable=SC2086 # words are what is wanted
    run run --temp 0 -n 8 -q -p "Tell me a story about a cat." -a "$scratch/foreign" $words
    check "an adapter of another base runs $words" out_equals_file "$scratch/plain"
    check "... with a warning" err_has "^graft: warning: adapter security .*made for another base .*vocabulary"
    check "... of one line" err_lines 1
    # shellcheck disable=SC2086
    run run --temp 0 -n 8 -q -p "Tell me a story about a cat." -a "$scratch/foreign" --strict-base $words
    refused "... and not when that is to be strict $words" 1 "made for another base"
    check "... in one line" err_lines 1
done
run fuse -a "$scratch/foreign" -o "$scratch/strict.gguf" --strict-base
refused "... nor is it fused" 1 "made for another base"
check "... and nothing is written" test ! -e "$scratch/strict.gguf"
run quantize -o "$scratch/copy.gguf" --type q4_k_m
run run --temp 0 -n 8 -q -p "Tell me a story about a cat." -m "$scratch/copy.gguf" -a "$scratch/a" --strict-base
check "a quantised copy is the same base" status_is 0
check "... without a word" err_lines 0

# ---- fewer bits
"$MODELS" "$scratch/models" "$tiny" adapter >/dev/null 2>&1
run adapter quantize "$scratch/models/adapter" -o "$scratch/small"
check "quantize tells the largest error" out_has "^largest error: 0.0[0-9]* of the change of model.layers"
run adapter quantize "$scratch/models/adapter" -o "$scratch/smaller" --type q4 --json
check "... as JSON each of them" out_has '"errors":\[{"module":"model.layers.0.self_attn.q_proj","error":0'
run run --temp 0 -n 12 -p "Tell me a story about a cat." -a "$scratch/models/adapter" --adapter-type int8
cp "$scratch/out" "$scratch/held"
run run --temp 0 -n 12 -p "Tell me a story about a cat." -a "$scratch/small"
check "it says what the adapter held in 8 bits says" out_equals_file "$scratch/held"
run adapter verify "$scratch/small" --for vllm
check "vLLM does not read it" status_is 1
check "... and that is said" out_has "graft alone reads"

# ---- what is read is not written over
cp "$scratch/a.gguf" "$scratch/same.gguf"
failed "is what is read" convert "$scratch/same.gguf" -o "$scratch/same.gguf" --type f16
check "... and is as it was" cmp -s "$scratch/a.gguf" "$scratch/same.gguf"
run quantize -o "$scratch/base.gguf" --type f16
cp "$scratch/base.gguf" "$scratch/was.gguf"
run quantize -m "$scratch/base.gguf" -o "$scratch/base.gguf" --type q4_0
refused "a model is not quantised over itself" 1 "is what is read"
ln -s base.gguf "$scratch/link.gguf"
run fuse -m "$scratch/base.gguf" -a "$scratch/models/adapter" -o "$scratch/link.gguf"
refused "a model is not fused over itself" 1 "is what is read"
check "... and is as it was" cmp -s "$scratch/base.gguf" "$scratch/was.gguf"

# ---- Ctrl-C: a pause in the middle of the work, as far as there is one, and nothing is left of it
mkdir "$scratch/cut"
run adapter new --rank 512 --targets all-linear -q -o "$scratch/large"
for words in "convert $scratch/large -o $scratch/cut/x.gguf" "convert $scratch/large --format mlx -o $scratch/cut/x" \
    "new --rank 512 --targets all-linear -o $scratch/cut/x" "quantize $scratch/large -o $scratch/cut/x"; do
    # A shell without job control starts what runs beside it with SIGINT ignored: env gives it back.
    # shellcheck disable=SC2086 # words are what is wanted
    env --default-signal=INT "$GRAFT" adapter $words >"$scratch/out" 2>"$scratch/err" &
    for _ in $(seq 200); do
        [ -n "$(ls "$scratch/cut")" ] && break
        sleep 0.01
    done
    kill -INT $! 2>/dev/null
    wait $!
    status=$?
    if [ "$status" -eq 1 ]; then
        check "adapter ${words%% *}: Ctrl-C is said in a line" err_has "^graft: interrupted"
        err_has "nothing was written" && check "... that is true" test -z "$(ls "$scratch/cut")"
    else
        check "adapter ${words%% *} was done before Ctrl-C" status_is 0
    fi
    check "... no working folder is left" test -z "$(find "$scratch/cut" -name '*tmp*')"
    rm -rf "$scratch/cut/x" "$scratch/cut/x.gguf"
done

# ---- what they are
run adapter show "$scratch/a"
check "show needs no model" status_is 0
check "... format" out_has "^format  *PEFT"
check "... scale, and where it comes from" out_has "^scale  *8 (lora_alpha / rank)"
check "... tags" out_has "^tags  *mine yours"
check "... modules by kind" out_has "^mlp.down_proj  *[0-9]*  *4  *[0-9.]* [KM]B  F32"
check "... no digest" test -z "$(grep '^digest' "$scratch/out")"
run adapter show "$scratch/a.gguf" -m "$tiny" --json
check "show --json with a model has a digest" out_has '"digest":"[0-9a-f]\{64\}"'
run adapter verify "$scratch/a"
check "verify opens it" status_is 0
check "... and tells the digest" out_has "^digest"
run adapter verify "$scratch/a" --for vllm
check "vLLM takes it" status_is 0
check "... and that is said" out_has "vllm takes it as it is"
run adapter verify "$scratch/a" --for llama.cpp
check "llama.cpp does not take a directory" status_is 1
check "... what" out_has "in the format of PEFT, and GGUF is read"
check "... and what to do" out_has "graft adapter convert ADAPTER --format gguf -o OUT"
run adapter verify "$scratch/a" --for mlx --json
check "the status is 1 with --json, too" status_is 1
check "... and the problems are there" out_has '"problems":\[{"what":'
run adapter verify "$scratch/a.gguf" --for llama.cpp
check "llama.cpp takes the GGUF" status_is 0
run adapter verify "$scratch/mlx" --for mlx
check "mlx-lm takes the MLX directory" status_is 0
run adapter new --rank 20 -q -o "$scratch/big"
run adapter verify "$scratch/big" --for vllm
check "rank 20 is too large for vLLM as it starts" status_is 1
check "... and the flag is named" out_has "max-lora-rank 32"
cp -r "$scratch/a" "$scratch/broken"
sed 's/"q_proj"/"z_proj"/' "$scratch/a/adapter_config.json" >"$scratch/broken/adapter_config.json"
failed "does not change" verify "$scratch/broken"
finish
