#!/bin/sh
# test_verbs.sh: the command as somebody at a terminal or a script meets it. GRAFT and SOURCE are set by
# ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
stories=$shared/models/stories260K

# ---- wrong use is status 2 and says so
run
check "graft alone shows the verbs and is wrong use" status_is 2
run --help
check "--help succeeds" status_is 0
check "--help lists the verbs" out_has "quantize"
run frobnicate
refused "an unknown verb" 2 'no verb "frobnicate"'
run run --no-such-option
refused "an unknown option" 2 "no-such-option"
run run --temp hot -p x
refused "a number that is none" 2 "hot"
run run --top-k -5 -p x
refused "a negative top-k" 2 "top-k"
run run -p x -f y
refused "two inputs" 2 "not both"
run run --raw --system-prompt x -p y
refused "--raw with a system prompt" 2 "raw"
run quantize -m "$tiny" -o ""
refused "quantize to a file without a name" 2 "-o"
run quantize -m "$tiny"
refused "quantize without output" 2 "-o"
run logits -m "$tiny" --tokens 1 -p x
refused "logits of ids and of a text" 2 "not both"
run tokenize -m "" -p x
refused "a model without a name" 1 "no such file"

# ---- every verb explains itself, with an example, and the manual and the completion agree
for verb in run chat classify perplexity logits tokenize detokenize inspect quantize version; do
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

# ---- missing things are status 1 and one line
run run -m /nonexistent/model -p x
refused "a model that is not there" 1 "/nonexistent/model"
check "... in one line" err_lines 1
run run -m nobody/nothing -p x
refused "a name that is not in the cache" 1 "download"
run run -m "$tiny" -f /nonexistent/prompt
refused "a prompt file that is not there" 1 "/nonexistent/prompt"
GRAFT_TIER=warp run version
refused "a tier that is none" 1 "warp"

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
    run run -c 16 -p "This prompt has far too many words to fit into a context of sixteen tokens, surely."
    refused "a prompt longer than the context" 1 "16"
    run tokenize -p "Hello world" --json
    check "tokenize --json" out_has '^{"ids":\[[0-9]'
    cp "$scratch/out" "$scratch/ids"
    run detokenize -f "$scratch/ids"
    check "detokenize undoes it" out_is "Hello world"
    run tokenize -p "<|im_end|>" --special --json
    check "a special token is one id" out_has '^{"ids":\[[0-9]*\]}$'
    run detokenize --tokens 1,2,x
    refused "an id that is none" 2 "x"
    run detokenize --tokens 99999999
    refused "an id outside the vocabulary" 1 "99999999"
    run perplexity -p "Once upon a time there was a cat. The cat was happy." --json
    check "perplexity --json" out_has '"perplexity":'
    run logits --tokens 1,2,3 --out "$scratch/x.npy"
    check "logits writes a file" test -s "$scratch/x.npy"
    run logits -p "The" --top 3 --json
    check "logits --top --json" out_has '^{"top":\[{"id":'
    run classify -p x
    refused "classify with a language model" 1 "no classifier"
    run inspect
    check "inspect shows the architecture" out_has "Qwen2ForCausalLM"
    run inspect --json
    check "inspect --json" out_has '"architecture"'
    run inspect --template
    check "inspect --template" out_has "im_start"
    run quantize -o "$scratch/tiny.gguf" --type q8_0
    check "quantize writes a GGUF" status_is 0
    run run -m "$scratch/tiny.gguf" --temp 0 -n 8 -p "Tell me a story about a cat."
    check "... that runs" test -s "$scratch/out"
    mkdir "$scratch/folder"
    ln -s ../tiny.gguf "$scratch/folder/tiny.gguf"
    run tokenize -m "$scratch/folder" -p "Hello world" --json
    check "a folder with one GGUF has its tokenizer" out_equals_file "$scratch/ids"
    run quantize -m "$scratch/tiny.gguf" -o "$scratch/hf" --format hf --type f32
    check "GGUF to a directory" status_is 0
    run run -m "$scratch/hf" --temp 0 -n 8 -p "Tell me a story about a cat."
    check "... that runs too" test -s "$scratch/out"
    run quantize -o "$scratch/hf" --format hf
    refused "a directory that is there already" 1 "exists"
    run quantize -o "$scratch/x.gguf" --type q9_9
    refused "a type that is none" 1 "q9_9"
    check "... and no file is left" test ! -e "$scratch/x.gguf"
    ln -s tiny.gguf "$scratch/link.gguf"
    run quantize -o "$scratch/link.gguf" --type f16
    check "writing through a link replaces what it points to" test -L "$scratch/link.gguf"
    run inspect "$scratch/tiny.gguf" --json
    check "... with the new type" out_has '"F16"'
    run quantize -o "$scratch/new/" --type f32
    check "a name that ends in / is a directory" test -f "$scratch/new/config.json"
    "$GRAFT" run -p "Hello" -c 1000000 --ignore-eos -q >"$scratch/out" 2>"$scratch/err" &
    sleep 1
    kill -INT $!
    wait $!
    status=$?
    check "Ctrl-C ends an answer with status 1" status_is 1
    check "... and says so" err_has "interrupted"
    run quantize -o /nonexistent/dir/x.gguf
    refused "an output folder that is not there" 1 "/nonexistent/dir"
    run run --raw -p "" -n 4
    check "an empty raw prompt is told apart" err_has "empty"
    run chat --temp 0 -n 8 -q
    check "chat with no input ends well" status_is 0
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
