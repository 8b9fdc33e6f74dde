#!/bin/sh
# test_status.sh: the one rule of exit statuses. 2: what was typed could not work with any file; nothing was
# opened. 1: all else that fails. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

# expect STATUS PATTERN WORDS...: graft WORDS fails so, says the pattern, and prints no result.
expect() {
    wanted=$1 pattern=$2
    shift 2
    run "$@"
    refused "graft $*" "$wanted" "$pattern"
}
wrong() { expect 2 "$@"; }
failed() { expect 1 "$@"; }

nowhere=/nonexistent/model
tiny=$SOURCE/models/tiny

# ---- verbs
run
check "graft alone is wrong use" status_is 2
check "... and shows the verbs" err_has "quantize"
wrong 'no verb "frobnicate"' frobnicate
wrong 'no verb ""' ""
wrong 'no verb "frobnicate"' help frobnicate
wrong 'no verb "--nonsense"' --nonsense
for words in --help -h help "help run" --version version; do
    # shellcheck disable=SC2086 # words are what is wanted
    run $words
    check "graft $words succeeds" status_is 0
    check "graft $words prints to standard output" test -s "$scratch/out"
    check "graft $words says nothing else" err_lines 0
done

# ---- options: a model that is not there shows that nothing was opened
for verb in run chat classify perplexity logits tokenize detokenize inspect quantize version; do
    wrong "no-such-option" "$verb" --no-such-option
    [ "$verb" = inspect ] || wrong 'unexpected argument "more"' "$verb" more
done
for verb in run chat classify perplexity logits tokenize detokenize inspect quantize; do
    wrong "model: the name is empty" "$verb" -m ""
    wrong "requires an argument" "$verb" -m
    wrong "threads: \"0\"" "$verb" -m $nowhere -t 0
    wrong "threads: \"-2\"" "$verb" -m $nowhere --threads=-2
    wrong "threads: \"all\"" "$verb" -m $nowhere -t all
    wrong "threads: \"5000\"" "$verb" -m $nowhere -t 5000
done
for verb in run classify perplexity logits tokenize; do
    wrong "not both" "$verb" -m $nowhere -p x -f y
    wrong "file: the name is empty" "$verb" -m $nowhere -f ""
done
for verb in run chat classify perplexity logits; do
    wrong "ctx-size: \"-1\"" "$verb" -m $nowhere -c -1
    wrong "ctx-size: \"many\"" "$verb" -m $nowhere -c many
    wrong "ctx-size: \"99999999\"" "$verb" -m $nowhere -c 99999999
    wrong "cache-type-k: \"q2\"" "$verb" -m $nowhere --cache-type-k q2
    wrong "cache-type-v: \"\"" "$verb" -m $nowhere --cache-type-v ""
    wrong "adapter: the name is empty" "$verb" -m $nowhere -a ""
    wrong "adapter: the name is empty" "$verb" -m $nowhere -a =2
    wrong "lora-scaled: the name is empty" "$verb" -m $nowhere --lora-scaled :2
    wrong "adapter: at most 16" "$verb" -m $nowhere -a 1 -a 2 -a 3 -a 4 -a 5 -a 6 -a 7 -a 8 -a 9 \
        -a 10 -a 11 -a 12 -a 13 -a 14 -a 15 -a 16 -a 17
    wrong "adapter-scale: \"x\"" "$verb" -m $nowhere --adapter-scale x
    wrong "adapter-type: \"q5\" is none of bf16, int8" "$verb" -m $nowhere -a $nowhere --adapter-type q5
    for weight in abc nan inf 0x1p-1 1e39 1,5 "1 " - . 1e ""; do
        wrong "adapter: p: \"$weight\" is no weight" "$verb" -m $nowhere -a "p=$weight"
        wrong "lora-scaled: $nowhere: \"$weight\" is no weight" "$verb" -m $nowhere \
            --lora-scaled "$nowhere:$weight"
    done
    wrong "has no weight: give FILE:WEIGHT" "$verb" -m $nowhere --lora-scaled $nowhere
    for name in x@1 x@1.0 x@1.0.0.0 x@; do
        wrong "$name names no version" "$verb" -m $nowhere -a $name
        wrong "$name names no version" "$verb" -m $nowhere -a $name=0.5
    done
    wrong "-x is neither a file nor an adapter" "$verb" -m $nowhere -a -x
    wrong "a b is neither a file nor an adapter" "$verb" -m $nowhere --lora "a b"
    for good in ./p=1 ./p=-1.5 ./p=.5 ./p=1. ./p=+2e-1 x@1.0.0=0.5 x@1.0.0-rc.1+b=2; do
        failed "$nowhere" "$verb" -m $nowhere -a "$good"
    done
done
for verb in run classify perplexity logits; do
    wrong "adapter-type: no adapter that it is for" "$verb" -m $nowhere --adapter-type q4
    wrong "strict-base: no adapter that it is for" "$verb" -m $nowhere --strict-base
    wrong "adapter-scale: no adapter that it is for" "$verb" -m $nowhere --adapter-scale 2
done
failed "$nowhere" chat -m $nowhere --adapter-type q4 --strict-base
wrong '"abc" is no weight' fuse -m $nowhere -a nosuch=abc -o x
for verb in show verify; do
    wrong "x@1.0 names no version" adapter "$verb" -m $nowhere x@1.0
    wrong "no weight here" adapter "$verb" -m $nowhere x=2
done
for verb in run chat; do
    wrong "predict: \"-2\"" "$verb" -m $nowhere -n -2
    wrong "predict: \"1.5\"" "$verb" -m $nowhere -n 1.5
    wrong "seed: \"-1\"" "$verb" -m $nowhere -s -1
    wrong "seed: \"99999999999999999999\"" "$verb" -m $nowhere -s 99999999999999999999
    for value in hot "" -0.1 101 nan inf 0,7 "1 "; do
        wrong "temp: \"$value\" is not a number from 0 to 100" "$verb" -m $nowhere --temp "$value"
    done
    wrong "top-k: \"-5\"" "$verb" -m $nowhere --top-k -5
    wrong "top-p: \"0\"" "$verb" -m $nowhere --top-p 0
    wrong "top-p: \"1.1\"" "$verb" -m $nowhere --top-p 1.1
    wrong "min-p: \"2\"" "$verb" -m $nowhere --min-p 2
    wrong "repeat-penalty: \"0\"" "$verb" -m $nowhere --repeat-penalty 0
    wrong "presence-penalty: \"x\"" "$verb" -m $nowhere --presence-penalty x
    wrong "frequency-penalty: \"1e9\"" "$verb" -m $nowhere --frequency-penalty 1e9
    wrong "repeat-last-n: \"-1\"" "$verb" -m $nowhere --repeat-last-n -1
    wrong "stop: at most 16" "$verb" -m $nowhere --stop ""
    wrong "stop: at most 16" "$verb" -m $nowhere --stop a --stop b --stop c --stop d --stop e --stop f \
        --stop g --stop h --stop i --stop j --stop k --stop l --stop m --stop n --stop o --stop p --stop q
done

# ---- what single verbs refuse
wrong "raw" run -m $nowhere --raw --system-prompt x -p y
wrong "needs --json" run -m $nowhere --logprobs 2 -p y
wrong "logprobs: \"65\"" run -m $nowhere --json --logprobs 65 -p y
wrong "json is for" chat -m $nowhere --json
wrong "one token predicts nothing" perplexity -m $nowhere -p x -c 1
wrong "stride: \"0\"" perplexity -m $nowhere -p x --stride 0
wrong "not both" logits -m $nowhere --tokens 1 -p x
wrong "not both" logits -m $nowhere --tokens 1 -f x
wrong "top: \"0\"" logits -m $nowhere --tokens 1 --top 0
wrong "out: the name is empty" logits -m $nowhere --tokens 1 --out ""
wrong "no ids given" logits -m $nowhere --tokens ""
wrong "not both" detokenize -m $nowhere --tokens 1 -f x
for verb in logits detokenize; do
    for ids in x 1,2,x -1 1,-1 1.5 99999999999 "1 0x2" "{" '{"ids":[1.5]}' '{"ids":[-1]}' '{"tokens":[1]}'; do
        wrong "" "$verb" -m $nowhere --tokens "$ids"
        check "... in one line" err_lines 1
    done
done
wrong "one file or directory" inspect a b
wrong "not both" inspect a -m b
wrong "name is empty" inspect ""
wrong "chat_template" inspect --json --template $nowhere
wrong "give -o" quantize -m $nowhere
wrong "output: the name is empty" quantize -m $nowhere -o ""
wrong "none of gguf, hf and mlx" quantize -m $nowhere -o x --format onnx
wrong 'no type "q9_9"; known are f32' quantize -m $nowhere -o "$scratch/x.gguf" --type q9_9
wrong 'no type ""' quantize -m $nowhere -o "$scratch/x.gguf" --type ""
wrong "f32, f16 or bf16, not q8_0" quantize -m $nowhere -o "$scratch/x" --format hf --type q8_0
wrong "give -a" fuse -m $nowhere -o x
wrong "give -o" fuse -m $nowhere -a x
wrong "none of gguf, hf and mlx" fuse -m $nowhere -a x -o y --format onnx
wrong "fallback" fuse -m $nowhere -a x -o y --fallback 1
wrong "sidecar-rank" fuse -m $nowhere -a x -o y --sidecar-rank 0
wrong "kl-tokens" fuse -m $nowhere -a x -o y --kl-tokens -1
wrong "no type" fuse -m $nowhere -a x -o y --adapter-type q4
wrong "no adapter to fuse" run -m $nowhere --fuse -p x
wrong "no type" run -m $nowhere -a x --fuse --adapter-type q4 -p x

# ---- missing, malformed or unfit things: status 1, one line
for verb in chat inspect; do
    failed "$nowhere" "$verb" -m $nowhere
done
for verb in run classify perplexity logits tokenize; do
    failed "$nowhere" "$verb" -m $nowhere -p x
    check "... in one line" err_lines 1
    failed "/nonexistent/text" "$verb" -f /nonexistent/text
    failed "directory" "$verb" -f /
done
for verb in run classify perplexity logits; do
    failed "$nowhere" "$verb" -a $nowhere -p x
done
failed "$nowhere" detokenize -m $nowhere --tokens 1
failed "$nowhere" quantize -m $nowhere -o "$scratch/x.gguf"
failed "$nowhere" fuse -m $nowhere -a $nowhere -o "$scratch/x.gguf"
failed "/nonexistent/text" fuse -a $nowhere -o "$scratch/x.gguf" --text /nonexistent/text
failed "$nowhere" run -a $nowhere --fuse -p x
failed "download" run -m nobody/nothing -p x
failed "no such file" run -m nobody_of_this_name -p x
echo "no model" >"$scratch/model.gguf"
failed "$scratch/model.gguf" run -m "$scratch/model.gguf" -p x
failed "$scratch/model.gguf" inspect "$scratch/model.gguf"
GRAFT_TIER=warp
export GRAFT_TIER
failed "warp" version
unset GRAFT_TIER

if [ -f "$tiny/model.safetensors" ]; then
    failed "exists" quantize -m "$tiny" -o "$tiny" --format hf
    failed "/nonexistent/dir" quantize -m "$tiny" -o /nonexistent/dir/x.gguf
    failed "/nonexistent/dir" quantize -m "$tiny" -o /nonexistent/dir/ --type f32
    for verb in logits detokenize; do
        failed "99999999" "$verb" -m "$tiny" --tokens 1,99999999
    done
    printf '1,2,x' >"$scratch/ids"
    failed '"x" is no token id' detokenize -m "$tiny" -f "$scratch/ids"
    printf '{"ids":[1,' >"$scratch/ids"
    failed "line 1" detokenize -m "$tiny" -f "$scratch/ids"
    printf '1,2\0003' >"$scratch/ids"
    failed "NUL" detokenize -m "$tiny" -f "$scratch/ids"
    printf 'a\000b' >"$scratch/text"
    failed "NUL" run -m "$tiny" -f "$scratch/text"
    failed "/nonexistent/dir" logits -m "$tiny" --tokens 1 --out /nonexistent/dir/x.npy
    failed "raise -c" run -m "$tiny" -c 16 -p "Far too many words to fit into a context of sixteen tokens, surely."
    failed "too short: 1 token" perplexity -m "$tiny" -p "x"
    failed "no classifier" classify -m "$tiny" -p x
    failed "an empty text has no tokens" logits -m "$tiny" -p ""
    failed "too short" perplexity -m "$tiny" -p ""
    failed "fit\|context" logits -m "$tiny" -c 2 --tokens 1,2,3
    run chat -m "$tiny" -q
    check "a chat without a word succeeds" status_is 0
else
    skip "models/tiny is not there"
fi

finish
