#!/bin/sh
# test_models.sh: the verbs on models that lack something or have something special, and what options do to
# an answer. GRAFT, SOURCE and MODELS (a program that writes random models) are set by ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
models=$scratch/models

# like NAME FILE...: a model with the weights of tiny and these of its files.
like() {
    name=$1
    shift
    mkdir -p "$models/$name"
    for file in model.safetensors "$@"; do ln -s "$tiny/$file" "$models/$name"; done
}
like mute config.json
like plain config.json tokenizer.json
like refusing config.json tokenizer.json
echo '{"chat_template": "{{ raise_exception(\"users only\") }}"}' >"$models/refusing/tokenizer_config.json"
like misshapen tokenizer.json
sed 's/"intermediate_size": *[0-9]*/"intermediate_size": 640/' "$tiny/config.json" >"$models/misshapen/config.json"
like foreign tokenizer.json
sed 's/Qwen2ForCausalLM/GPT2LMHeadModel/' "$tiny/config.json" >"$models/foreign/config.json"
for name in mistral llama3 llama-yarn classifier; do
    # shellcheck disable=SC2153 # not a misspelling of models
    "$MODELS" "$models" "$tiny" $name >"$scratch/out" 2>"$scratch/err"
    check "$name is written" test -f "$models/$name/config.json"
done
like silent
rm "$models/silent/model.safetensors"
cp "$models/classifier/config.json" "$models/classifier/"*.safetensors "$models/silent"

# ---- no tokenizer, no template, one that refuses
for verb in "run -p x" "perplexity -p x" "chat" "run --raw -p x"; do
    # shellcheck disable=SC2086 # words are what is wanted
    run $verb -m "$models/mute"
    refused "$verb without a tokenizer" 1 "has no tokenizer$"
done
run classify -m "$models/silent" -p x
refused "classify without a tokenizer" 1 "has no tokenizer$"
run tokenize -m "$models/mute" -p x
refused "tokenize without a tokenizer" 1 "$models/mute"
run logits -m "$models/mute" -p x
refused "logits of a text without a tokenizer" 1 "give --tokens"
run logits -m "$models/mute" --tokens 1,2,3 --top 2
check "logits of ids need none" test "$(grep -c '""$' "$scratch/out")" -eq 2
run chat -m "$models/plain"
refused "chat without a template" 1 "has no chat template: use"
run run -m "$models/plain" --system-prompt y -p x
refused "a system prompt without a template" 1 "so there is no system prompt"
run inspect -m "$models/plain" --template
refused "a template that is not there" 1 "has no chat template"
run run -m "$models/plain" -p "Once upon a time" -n 8 --temp 0
cp "$scratch/out" "$scratch/once"
run run -m "$tiny" --raw -p "Once upon a time" -n 8 --temp 0
check "run without a template is run --raw" out_equals_file "$scratch/once"
run run -m "$models/refusing" -p x
refused "a template that refuses" 1 "users only"
echo x | "$GRAFT" chat -m "$models/refusing" >"$scratch/out" 2>"$scratch/err"
status=$?
refused "a template that refuses in chat" 1 "users only"
run run -m "$models/misshapen" -p x
refused "weights of another shape" 1 'misshapen/.*: tensor .* is \[512, 256\], expected \[640, 256\]$'
check "... in one line" err_lines 1
run perplexity -p "hello there" -m "$models/classifier"
refused "perplexity with a classifier" 1 "the model is a classifier"
echo x | "$GRAFT" chat -m "$models/classifier" >"$scratch/out" 2>"$scratch/err"
status=$?
refused "chat with a classifier" 1 "the model is a classifier"
run run -m "$models/foreign" -p x
refused "another architecture" 1 "GPT2LMHeadModel"

# ---- inspect says what is special
run inspect "$models/mistral"
check "inspect: sliding window" out_has "context .* attention to the last 128 in 3 layers"
run inspect "$models/llama3"
check "inspect: llama3 scaling" out_has "rotary .*, llama3 scaling by 8"
run inspect "$models/llama-yarn"
check "inspect: yarn" out_has "rotary .*, yarn scaling by 4"
run inspect "$models/classifier"
check "inspect: classes" out_has "classes  *3$"
check "... in place of a head" out_has "vocabulary .*, head replaced by classes"
run inspect "$models/mute"
check "inspect: no tokenizer" out_has "^tokenizer: none$"
run inspect "$models/plain"
check "inspect: no template" out_has "chat template  none$"
run inspect "$models/foreign"
check "inspect: another architecture" out_has "graft cannot run it: .*GPT2LMHeadModel"
check "... is no failure" status_is 0
run inspect "$tiny" --tensors
check "inspect --tensors has a line for each" test \
    "$(grep -c 'model\.' "$scratch/out")" -eq "$(sed -n 's/^tensors: //p' "$scratch/out")"
"$GRAFT" quantize -m "$tiny" -o "$scratch/tiny.gguf"
run inspect "$scratch/tiny.gguf" --metadata
check "inspect --metadata: text" out_has "^  general.architecture  *qwen2$"
check "... numbers" out_has "^  qwen2.block_count  *5$"
check "... long arrays by their size" out_has "^  tokenizer.ggml.tokens  *[0-9]* strings\{0,1\}$"

# ---- what options do to an answer
answer() {
    run run -m "$tiny" -p "Tell me a story about a cat." -n 40 "$@"
    check "run $* succeeds" status_is 0
}
# distinct: no id of the records (of --logprobs 0 --json) comes twice.
distinct() {
    grep -o '{"id":[0-9]*,"text"' "$scratch/out" | sort >"$scratch/ids"
    [ "$(wc -l <"$scratch/ids")" -gt 10 ] && [ -z "$(uniq -d "$scratch/ids")" ]
}
repeated() { ! distinct; }
answer --temp 0
cp "$scratch/out" "$scratch/greedy"
for options in "--temp 5 --top-k 1" "--temp 5 --top-p 1e-6" "--temp 5 --min-p 1" "--temp 0 --no-mmap" \
    "--temp 0 --cache-type-k f32 --cache-type-v f32" "--temp 0 -t 1" "--temp 0 -q" \
    "--temp 0 -t 2 --affinity" "--temp 0 --pack none" "--temp 0 --pack model.layers.*" \
    "--temp 0 --repeat-penalty 1 --presence-penalty 0 --frequency-penalty 0 --repeat-last-n 0"; do
    # shellcheck disable=SC2086 # words are what is wanted
    answer $options
    check "$options is greedy" out_equals_file "$scratch/greedy"
done
run run -m "$tiny" -p "A cat" --pack "blk.*"
refused "--pack with names of nothing" 1 'called "blk.\*"'
answer --temp 0 -n 1 -t 1000 --affinity
check "--affinity tells of workers without a processor" err_has "affinity: [0-9]* of 999 workers"
for option in --repeat-penalty --presence-penalty --frequency-penalty; do
    answer --temp 0 --logprobs 0 --json $option 100
    check "$option 100: no token twice" distinct
done
answer --temp 0 --presence-penalty 100 --repeat-last-n 1 --logprobs 0 --json
check "... further back than --repeat-last-n they may come" repeated
answer --temp 5 --top-k 0 -s 3
check "hot answers are others" test "$(cat "$scratch/out")" != "$(cat "$scratch/greedy")"
answer --cache-type-k q8 --cache-type-v q8_0 --temp 0
check "an 8-bit cache answers" test "$(wc -c <"$scratch/out")" -gt 20
run run -m "$tiny" -p Hello --temp 0 -n 0 --json
check "no tokens wanted, none given" out_has '"text":"","finish":"length".*"tokens":0,'
run run -m "$tiny" -p Hello --temp 0 --ignore-eos --special -n 60
check "--special shows the end" out_has "<|im_end|>"
check "... and --ignore-eos goes on" test "$(wc -l <"$scratch/out")" -gt 1
run run -m "$tiny" -p Hello --temp 0 -n 60 --json
check "without them the end is the end" out_has '"finish":"eos"'
run run -m "$tiny" -p Hello --temp 0 -n 4 -v
check "-v tells the speed" err_has "tokens read, .*; 4 generated, .*; length]"
run run -m "$tiny" -p Hello --stop "$(cut -c 3-9 "$scratch/greedy" | head -n 1)" --json -n 40 --temp 0 \
    -p "Tell me a story about a cat."
check "--stop ends before its text" out_has "\"text\":\"$(head -n 1 "$scratch/greedy" | cut -c 1-2)\",\"finish\":\"stop\""

# ---- perplexity, logits, classify
text="Once upon a time there was a cat. The cat was happy, and so was the dog of the house."
field() { sed "s/.*\"$1\":\([0-9]*\).*/\1/" "$scratch/out"; }
run perplexity -m "$tiny" -p "$text" --json
check "a short text is one window" test "$(field windows)" -eq 1
tokens=$(field tokens)
run perplexity -m "$tiny" -p "$text" -c 8 --stride 1 --json
check "every token but the first is scored once" test "$(field tokens)" -eq "$tokens"
check "--stride 1 has a window for each past the first" test "$(field windows)" -eq $((tokens + 1 - 8 + 1))
run perplexity -m "$tiny" -p "$text" -c 8 --stride 100 --json
check "a stride leaves a token of context" test "$(field windows)" -eq $((1 + (tokens + 1 - 8 + 6) / 7))
run logits -m "$tiny" -p "Once upon a" --top 1 --json
best=$(sed 's/.*{"id":\([0-9]*\).*/\1/' "$scratch/out")
run logits -m "$tiny" -p "Once upon a" --top 1 --json --decode
check "--decode finds the same best token" out_has "{\"id\":$best,"
run classify -m "$models/classifier" -p ""
refused "no text to classify" 1 "an empty text"
run classify -m "$models/classifier" -c 2 -p "$text"
refused "a text to classify that does not fit" 1 "2"

# ---- texts and ids
run tokenize -m "$tiny" -p "$(printf 'a\nb\tc')"
check "tokenize keeps a token on a line" out_has '\\x0a'
run tokenize -m "$tiny" -p x --bos --json
cp "$scratch/out" "$scratch/ids"
run tokenize -m "$tiny" -p x --json
check "--bos without such a token changes nothing" out_equals_file "$scratch/ids"
if [ -d "$shared/models/stories260K" ]; then
    run tokenize -m "$shared/models/stories260K" -p x --bos --json
    check "--bos puts it first" out_has '^{"ids":\[1,'
else
    skip "../shared is not there: no vocabulary with BOS"
fi
run tokenize -m "$tiny" -p "<|im_end|>" --special --json
id=$(sed 's/[^0-9]//g' "$scratch/out")
run detokenize -m "$tiny" --tokens "$id"
check "special tokens are not text" out_is ""
run detokenize -m "$tiny" --tokens "$id" --special
check "... unless asked for" out_is "<|im_end|>"
run tokenize -m "$tiny" -p "€" --json
first=$(sed 's/[^0-9]*\([0-9]*\).*/\1/' "$scratch/out")
run detokenize -m "$tiny" --json --tokens "$first"
check "a part of a character is U+FFFD in JSON" out_is '{"text":"�"}'

# ---- chat in a script
head -c 1100000 /dev/zero | tr '\0' a | "$GRAFT" chat -m "$tiny" >"$scratch/out" 2>"$scratch/err"
status=$?
refused "a turn without end" 1 "longer than 1048576 bytes"
printf 'Hello\n' | "$GRAFT" chat -m "$tiny" --temp 0 -n 8 >"$scratch/once"
printf 'Hello\n\n/temp 0\n/reset\nHello\n/exit\nnever read\n' |
    "$GRAFT" chat -m "$tiny" --temp 0.5 -s 1 -n 8 >"$scratch/out" 2>"$scratch/err"
check "a script of turns: the last answer is greedy" test "$(tail -n 1 "$scratch/out")" = "$(cat "$scratch/once")"
check "... and nothing is read behind /exit" test "$(wc -l <"$scratch/out")" -eq 3
printf '/no\\\nsuch\n' | "$GRAFT" chat -m "$tiny" >"$scratch/out" 2>"$scratch/err"
check "lines are joined in a script too" test "$(cat "$scratch/err")" = "graft: no command /no
such; /help lists them"

# ---- adapters whose paths have blanks, commas and quotation marks
# talk TEXT WORDS...: a chat of these lines, with these options.
talk() {
    lines=$1
    shift
    printf '%s\n' "$lines" | "$GRAFT" chat -m "$tiny" -q "$@" >"$scratch/out" 2>"$scratch/err"
    status=$?
}
mkdir "$scratch/sp ace"
for name in "sp ace/x" "com,ma" 'q"te' plain; do
    run adapter new -q --rank 1 -s ${#name} -o "$scratch/$name"
done
talk "/adapter $scratch/sp ace/x
/adapter $scratch/sp ace/x=0.5 
/adapter $scratch/com,ma
/adapter \"$scratch/sp ace/x\"=0.25
/scale $scratch/sp ace/x 0.5
/scale \"$scratch/sp ace/x\" 0.75
/mix \"$scratch/sp ace/x\"=2, $scratch/com\\,ma=3 $scratch/q\\\"te=4
/mix $scratch/sp\\ ace/x $scratch/plain=-1
/scale $scratch/sp\\ ace/x 5"
check "a chat takes such paths" status_is 0
sed 's/, swapped in.*//' "$scratch/out" >"$scratch/mixes"
cat >"$scratch/wanted" <<END
($scratch/sp ace/x=1
($scratch/sp ace/x=0.5
($scratch/com,ma=1
($scratch/sp ace/x=0.25
($scratch/sp ace/x=0.5
($scratch/sp ace/x=0.75
($scratch/sp ace/x=2 + $scratch/com,ma=3 + $scratch/q"te=4
($scratch/sp ace/x=1 + $scratch/plain=-1
($scratch/sp ace/x=5 + $scratch/plain=-1
END
check "... and means these" cmp -s "$scratch/mixes" "$scratch/wanted"
for line in "/adapter ,|no adapter is named" "/base foo|takes nothing behind it: \"foo\"" "/reset now|takes nothing" \
    "/adapter \"$scratch/plain|is not closed" "/mix ./a=nan|./a: \"nan\" is no weight" "/scale $scratch/plain 0x1|/scale wants" \
    "/scale $scratch/com,ma 1|is not applied" "/adapter a@1.0|names no version" "/base |^$"; do
    talk "${line%|*}" -a "$scratch/plain"
    if [ "${line%|*}" = "/base " ]; then
        check "/base with a blank behind it" status_is 0
    else
        refused "${line%|*} in a script" 1 "${line#*|}"
    fi
done

# ---- the program and the world
mkdir "$scratch/alone"
cp "$GRAFT" "$scratch/alone/graft"
"$scratch/alone/graft" run -p x >"$scratch/out" 2>"$scratch/err"
status=$?
refused "a program without its model" 1 "is not installed; name one with -m"
mkdir -p "$scratch/prefix/bin" "$scratch/prefix/share/graft/models"
mv "$scratch/alone/graft" "$scratch/prefix/bin"
ln -s "$tiny" "$scratch/prefix/share/graft/models/tiny"
"$scratch/prefix/bin/graft" tokenize -p x --json >"$scratch/out" 2>"$scratch/err"
check "installed, it finds share/graft/models" out_equals_file "$scratch/ids"
(
    "$GRAFT" run -m "$tiny" -p Hello --ignore-eos -c 1000000 -q 2>"$scratch/err"
    echo $? >"$scratch/status"
) | head -c 1 >"$scratch/out"
status=$(cat "$scratch/status")
check "a reader that goes away ends an answer" status_is 1
check "... which is said" err_has "cannot write to standard output"
if [ -e /dev/full ]; then
    for command in "version --json" "inspect --json" "tokenize -p x" "--help"; do
        # shellcheck disable=SC2086 # words are what is wanted
        "$GRAFT" $command >/dev/full 2>"$scratch/err"
        status=$?
        check "$command on a full disk fails" status_is 1
        check "... and says so" err_has "standard output"
    done
fi

finish
