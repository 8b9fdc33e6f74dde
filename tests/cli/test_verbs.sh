#!/bin/sh
# test_verbs.sh: the command as somebody at a terminal or a script meets it. GRAFT and SOURCE are set by
# ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
stories=$shared/models/stories260K

# ---- every verb explains itself, with an example, and the manual and the completion agree
for verb in run chat batch classify perplexity logits tokenize detokenize inspect quantize fuse eval bench version; do
    run "$verb" --help
    check "$verb --help succeeds" status_is 0
    check "$verb --help has an example" out_has "graft $verb"
    # shellcheck disable=SC2013 # words are what is wanted
    for option in $(grep -o -e '--[a-z][a-z-]*' "$scratch/out" | sort -u); do
        check "the manual has $verb $option" grep -q -e "$(echo "$option" | sed 's/^--/-/')" \
            "$SOURCE/docs/man/graft.1"
    done
    run help "$verb"
    check "help $verb is $verb --help" out_has "graft $verb"
done

# ---- what stands under the head of a group belongs to it, and no head stands alone
heads_alone() { awk '/^ [A-Z].*:$/ { head = $0; next } head != "" && !/^  / { print head } { head = "" }' "$scratch/out"; }
under() { sed -n "/^ $1/,/^$/p" "$scratch/out" | sed -n 's/^  *\(-[a-zA-Z], \)\{0,1\}--\([a-z-]*\).*/\2/p' | tr '\n' ' '; }
for verb in run chat batch classify perplexity logits tokenize inspect quantize fuse merge eval train bench \
    "adapter new" "adapter learn" "data check" "router train"; do
    # shellcheck disable=SC2086 # a verb may be two words
    run $verb --help
    check "$verb --help has no group without options" test -z "$(heads_alone)"
    check "$verb --help has no option that begins amid a sentence" test -z "$(grep -e '--.* \.\.\. \|  The same, ' "$scratch/out")"
done
for verb in run chat batch; do
    run "$verb" --help
    check "$verb --help: what is sampling" test "$(under Sampling)" = "frequency-penalty min-p presence-penalty \
repeat-last-n repeat-penalty seed temp top-k top-p "
    check "$verb --help: what is form" test "$(under Form)" = "grammar grammar-file json-schema "
done
run eval --help
check "eval --help: what is of adapters" test "$(under Adapters)" = "adapter-path adapter-scale adapter-type adapter \
lora lora-scaled strict-base "

run version --json
check "version --json names the tier" out_has '"tier":"'
run version
check "version names the version" out_has "^graft [0-9]"

# ---- the shipped model
if [ -f "$tiny/model.safetensors" ]; then
    run run --temp 0 -n 12 -p "Tell me a story about a cat."
    check "the default model answers" status_is 0
    check "... with text" test -s "$scratch/out"
    cp "$scratch/out" "$scratch/once"
    last=$(tail -c 1 "$scratch/once")
    run run --temp 0 -n 12 -p "Tell me a story about a cat." --stop "$last~~never~~"
    check "text held back for a stop text comes out at -n" out_equals_file "$scratch/once"
    run run -m tiny --temp 0 -n 12 -p "Tell me a story about a cat."
    check "the same by name, twice the same" out_equals_file "$scratch/once"
    GRAFT_TIER=scalar run run -m tiny --temp 0 -n 12 -p "Tell me a story about a cat." -t 1
    check "the scalar tier says the same" out_equals_file "$scratch/once"
    run run --json --temp 0 -n 5 --logprobs 2 -p "Hello"
    check "run --json is one line" test "$(wc -l <"$scratch/out")" -eq 1
    check "run --json has records" out_has '"records":\[{"id":'
    run run -s 1 -n 20 --temp 1 -p "Tell me a story."
    cp "$scratch/out" "$scratch/once"
    run run -s 1 -n 20 --temp 1 -p "Tell me a story."
    check "same seed, same text" out_equals_file "$scratch/once"
    run tokenize -p "Hello world" --json
    check "tokenize --json" out_has '^{"ids":\[[0-9]'
    cp "$scratch/out" "$scratch/ids"
    run detokenize -f "$scratch/ids"
    check "detokenize undoes it" out_is "Hello world"
    run tokenize -p "<|im_end|>" --special --json
    check "a special token is one id" out_has '^{"ids":\[[0-9]*\]}$'
    run perplexity -p "Once upon a time there was a cat. The cat was happy." --json
    check "perplexity --json" out_has '"perplexity":'
    run logits --tokens 1,2,3 --out "$scratch/x.npy"
    check "logits --out prints nothing" test ! -s "$scratch/out"
    vocabulary=$("$GRAFT" inspect --json | sed 's/.*"n_vocab": *\([0-9]*\).*/\1/')
    check "... writes a row for each token" test "$(wc -c <"$scratch/x.npy")" -eq \
        $((128 + 3 * vocabulary * 4))
    check "... as NumPy has it" grep -aq \
        "'descr': '<f4', 'fortran_order': False, 'shape': (3, $vocabulary)" "$scratch/x.npy"
    run logits -p "The" --top 3 --json
    check "logits --top --json" out_has '^{"top":\[{"id":'
    run inspect
    check "inspect shows the architecture" out_has "Qwen2ForCausalLM"
    run inspect --json
    check "inspect --json" out_has '"architecture"'
    run inspect --template
    check "inspect --template" out_has "im_start"
    run quantize -o "$scratch/tiny.gguf" --type bf16
    run logits -m "$scratch/tiny.gguf" --tokens 1,2,3 --out "$scratch/y.npy"
    check "a GGUF of the same type gives the same logits" cmp -s "$scratch/x.npy" "$scratch/y.npy"
    run quantize -m "$scratch/tiny.gguf" -o "$scratch/hf" --format hf --type bf16
    run logits -m "$scratch/hf" --tokens 1,2,3 --out "$scratch/z.npy"
    check "... and so does a directory made of it" cmp -s "$scratch/x.npy" "$scratch/z.npy"
    run quantize -o "$scratch/tiny.gguf"
    run inspect "$scratch/tiny.gguf" --json
    check "quantize writes Q8_0 when nothing is said" out_has '"Q8_0"'
    run run -m "$scratch/tiny.gguf" --temp 0 -n 8 -p "Tell me a story about a cat."
    check "... which answers" test -s "$scratch/out"
    mkdir "$scratch/folder"
    ln -s ../tiny.gguf "$scratch/folder/tiny.gguf"
    run tokenize -m "$scratch/folder" -p "Hello world" --json
    check "a folder with one GGUF has its tokenizer" out_equals_file "$scratch/ids"
    ln -s tiny.gguf "$scratch/link.gguf"
    run quantize -o "$scratch/link.gguf" --type f16
    check "writing through a link replaces what it points to" test -L "$scratch/link.gguf"
    run inspect "$scratch/tiny.gguf" --json
    check "... with the new type" out_has '"F16"'
    run quantize -o "$scratch/new/" --type f32
    check "a name that ends in / is a directory" test -f "$scratch/new/config.json"
    printf 'Hello\nHello again\n' >"$scratch/turns"
    for verb in "run -p Hello" chat; do
        rm -f "$scratch/out" "$scratch/err"
        # shellcheck disable=SC2086 # words are what is wanted
        "$GRAFT" $verb -c 1000000 --ignore-eos -q <"$scratch/turns" >"$scratch/out" 2>"$scratch/err" &
        until [ -s "$scratch/out" ] || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
        kill -INT $!
        wait $!
        status=$?
        check "Ctrl-C ends graft $verb with status 1" status_is 1
        check "... and says so" err_has "interrupted"
    done
    run run --raw -p "" -n 4
    check "an empty raw prompt is told apart" err_has "empty"
    printf 'Hello.\n/stats\n/again\n/reset\n/nonsense\n' |
        "$GRAFT" chat --temp 0 -n 8 -q >"$scratch/out" 2>"$scratch/err"
    status=$?
    check "chat refuses an unknown command in a script" status_is 1
    check "... by name" err_has "/nonsense"
    if [ -x "${MODELS:-}" ]; then
        "$MODELS" "$scratch/models" "$tiny" classifier >"$scratch/out" 2>"$scratch/err"
        printf 'good\r\n\nbad' >"$scratch/lines"
        run classify -m "$scratch/models/classifier" --lines -f "$scratch/lines" --json
        check "classify --lines has a result for each line" test "$(wc -l <"$scratch/out")" -eq 3
        check "... with its classes" out_has '^{"label":"[abc]","classes":\[{"label":"a"'
        check "... and null for an empty line" out_has '^null$'
        run classify -m "$scratch/models/classifier" -p "good"
        check "classify names label and probability" out_has '^[abc].[01]\.[0-9]*$'
        run run -m "$scratch/models/classifier" -p "good"
        refused "run with a classifier" 1 "classifier"
        run logits -m "$scratch/models/classifier" -p "good"
        refused "logits of a classifier" 1 "classify"
    else
        skip "no program that writes a classifier"
    fi
    if [ -x "${MODELS:-}" ]; then
        "$MODELS" "$scratch/models" "$tiny" adapter >"$scratch/out" 2>"$scratch/err"
        adapter=$scratch/models/adapter
        run fuse -a "$adapter=0.1" -o "$scratch/fused.gguf" --type f32 --kl-tokens 32
        check "fuse prints a line for each matrix" out_has "^blk.0.attn_q.weight .*F32 .*100.0 %"
        check "... and the divergence" out_has "KL of the output .* 32 positions"
        check "... and writes the certificate" test -s "$scratch/fused.gguf.fuse.json"
        run fuse -a "$adapter=0.1" -o "$scratch/fused/" --type f32 --kl-tokens 0 --json
        check "fuse --json is the certificate" out_has '"retained":1'
        check "... in the directory too" test -s "$scratch/fused/fuse.json"
        run logits -m "$scratch/fused.gguf" --tokens 1,2,3 --out "$scratch/x.npy"
        run logits -m "$scratch/fused" --tokens 1,2,3 --out "$scratch/y.npy"
        check "both give the same logits" cmp -s "$scratch/x.npy" "$scratch/y.npy"
        run run -a "$adapter=0.1" --temp 0 -n 12 -p "Tell me a story about a cat."
        cp "$scratch/out" "$scratch/once"
        run run -m "$scratch/fused" --temp 0 -n 12 -p "Tell me a story about a cat."
        check "... and the text of the adapter beside the base" out_equals_file "$scratch/once"
        run quantize -o "$scratch/floats/" --type f32
        run run -m "$scratch/floats" -a "$adapter=0.1" --fuse -v --temp 0 -n 12 \
            -p "Tell me a story about a cat."
        check "run --fuse gives it too" out_equals_file "$scratch/once"
        check "... and says what it takes" err_has "MiB of fused weights"
        run fuse -a "$adapter=0.1" -o "$scratch/small.gguf" --type q4_0 --sidecar "$scratch/side" \
            --sidecar-rank 4 --kl-tokens 32
        check "fuse --sidecar measures with it" out_has "KL of it with the sidecar"
        run run -m "$scratch/small.gguf" -a "$scratch/side" --temp 0 -n 4 -p "Hello"
        check "... and it is an adapter of the output" status_is 0
        run fuse -a "$adapter" -o "$scratch/x.gguf" --type q9_9
        refused "fuse to a type that is none" 2 'no type "q9_9"'
        run fuse -a "$adapter" -o "$scratch/x" --format hf --type q4_0
        refused "fuse to a type that HF has not" 2 "f32, f16 or bf16"
        run fuse -a "$adapter" -o "$scratch/fused/" --format hf
        refused "fuse into a directory with something in it" 1 "$scratch/fused"
    else
        skip "no program that writes an adapter"
    fi
    if [ -e /dev/full ]; then
        "$GRAFT" version >/dev/full 2>"$scratch/err"
        status=$?
        check "a full disk is an error" status_is 1
    fi
else
    skip "models/tiny is not there"
fi

# ---- a real trained model
if [ -d "$stories" ]; then
    sed -n 's/^ *"text": *"\(.*\)",\{0,1\}$/\1/p' "$stories/expected.json" | head -n 1 >"$scratch/text"
    printf '%b' "$(sed 's/\\"/"/g' "$scratch/text")" >"$scratch/expected"
    for model in "$stories" "$stories/stories260K.gguf"; do
        run run --raw -m "$model" -p "" -n 200 --temp 0
        check "the published transcript of $(basename "$model")" out_equals_file "$scratch/expected"
    done
else
    skip "../shared is not there: no published transcript"
fi

finish
