#!/bin/sh
# test_data.sh: graft data check: what it tells of good and bad files, for people and machines; exit statuses.
# GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

if [ ! -f "$SOURCE/models/tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
out_lacks() { ! grep -q -e "$1" "$scratch/out"; }
data=$scratch/data.jsonl
long=$(printf 'word %.0s' $(seq 1 300))
cat >"$data" <<EOF
{"messages":[{"role":"user","content":"Who is Tom?"},{"role":"assistant","content":"A cat."}],"task":"who"}
{"prompt":"Who is Mia?","completion":"A dog.","quality":0.5,"domain":"pets"}
{"text":"Once upon a time."}
{"oops
{"prompt":"$long","completion":"x"}
{"prompt":"Tell me.","completion":"$long"}
EOF

# ---- for people
run data check "$data" --max-seq-length 128 --valid-share 0
check "a file with some good records is usable" status_is 0
check "... the loss is told" out_has "^loss *auto: the assistant's answers, completions, texts, whole$"
check "... records by format" out_has "^records *6: 1 messages, 2 prompt/completion, 1 text$"
check "... what is dropped" out_has "^dropped *2$"
check "... what is cut" out_has "^cut *1 ("
check "... the parts" out_has "^train *4 "
check "... lengths in blocks" out_has "█"
check "... tasks" out_has "^who *1 "
check "... domains" out_has "^pets *1 "
check "... a broken line with file, line, reason and fix" \
    out_has "data.jsonl:4: dropped: it is not JSON: .*; write one JSON object on each line"
check "... a long prompt" out_has "data.jsonl:5: dropped: nothing to learn is in its first 128 tokens; raise --max-seq"
check "... a long answer" out_has "data.jsonl:6: cut: of its [0-9]* tokens the last"
check "... what is learned is in brackets" out_has "^  \[A cat.<|im_end|>\]$"
check "... with no colours in a file" out_lacks "$(printf '\033')"
check "... the weight of an example" out_has "weight 0.5, domain pets"
run data check "$data" --preview 0 --raw
check "--preview 0 shows none" out_lacks brackets

seq 1 30 | sed 's/.*/{"bad":&}/' >"$scratch/bad.jsonl"
run data check "$scratch/bad.jsonl"
check "nothing usable fails" status_is 1
check "... and says so" err_has "nothing in .* can be trained on"
check "... after the reasons" out_has "no format that is known: its members are bad; name its members with"
check "... the first ten" test "$(grep -c dropped: "$scratch/out")" -eq 10
check "... and how many more" out_has "and 20 more (--all)"
run data check "$scratch/bad.jsonl" --all
check "--all lists all" test "$(grep -c dropped: "$scratch/out")" -eq 30
printf '{"prompt":"a\\u001b[31mb\\u009b1m","completion":"c"}\n' >"$scratch/esc.jsonl"
run data check "$scratch/esc.jsonl"
check "control characters of a file do not reach the terminal" out_has 'a\\x1b\[31mb\\x9b1m'

printf '{"a\\u001b[31mb":1}\n{"prompt":"a","completion":"b","task":"t\\u001b[31m"}\n' >"$scratch/esc.jsonl"
run data check "$scratch/esc.jsonl" --valid-share 0
check "... nor those of names" out_lacks "$(printf '\033')"
check "... which are shown" out_has 'task t?\[31m'

# ---- for machines
run data check "$data" --max-seq-length 128 --valid-share 0 --json --preview 1
check "--json succeeds" status_is 0
check "... is one line" test "$(wc -l <"$scratch/out")" -eq 1
check "... with counts" out_has '"records":6,.*"examples":{"train":4,"valid":0,"test":0}'
check "... with the issues" out_has '"issues":\[{"file":"[^"]*","line":4,"dropped":true'
check "... with runs of text" out_has '\["A cat.<|im_end|>",true\]'
check "... usable" out_has '"usable":true'
run data check "$scratch/bad.jsonl" --json
check "... or not, with status 1" status_is 1
check "... and the report all the same" out_has '"usable":false'

# ---- saved
run data check "$data" --max-seq-length 128 --save "$scratch/data.tokens" --json
check "--save succeeds" status_is 0
digest=$(grep -o '"digest":"[0-9a-f]*"' "$scratch/out")
run data check "$scratch/data.tokens" --json
check "what was saved is the same" out_has "$digest"
run data check "$scratch/data.tokens" --max-seq-length 64
refused "... and nothing else" 1 "another sequence length"
run data check "$scratch/data.tokens" -m tiny-draft --json
check "... on a model with the same tokenizer" out_has "$digest"
printf x | dd of="$scratch/data.tokens" bs=1 seek=300 conv=notrunc 2>/dev/null
run data check "$scratch/data.tokens"
refused "a damaged one is refused" 1 "damaged"

# ---- wrong use
run data
refused "no verb" 2 "Usage: graft data VERB"
run data frob
refused "an unknown verb" 2 "no verb \"data frob\""
run data check
refused "no file" 2 "which data"
run data check a b
refused "two files" 2 "one file or folder"
run data check "$data" --loss some
refused "an unknown loss" 2 "none of assistant, completion, all"
run data check "$data" --min-quality 2
refused "a quality beyond 1" 2 "not a number from 0 to 1"
run data check "$data" --text-key a --prompt-key b
refused "keys that exclude each other" 2 "either --text-key"
run data check "$scratch/none.jsonl"
refused "a file that is not there" 1 "none.jsonl"
run data check "$data" --chat-template "$scratch/none.jinja"
refused "a template that is not there" 1 "none.jinja"
run data check "$data" --max-seq-length 5000
refused "more than the model's positions" 1 "positions of the model"
printf 'a,b\n' >"$scratch/a.csv"
run data check "$scratch/a.csv"
refused "a table" 1 "not .csv"

# ---- known data sets
sets=$shared/datasets
if [ -d "$sets" ]; then
    run data check "$sets/gsm8k/train_first2000.raw.jsonl" --json
    check "gsm8k's questions and answers" out_has '"formats":{"prompt/completion":2000}.*"dropped":0'
    raw=$(grep -o '"digest":"[0-9a-f]*"' "$scratch/out")
    run data check "$sets/gsm8k/train_first2000.messages.jsonl" --json
    check "... are its messages" out_has "$raw"
    run data check "$sets/mlx-wikisql" --json
    check "mlx-lm's example" out_has '"examples":{"train":1000,"valid":100,"test":100}'
    run data check "$sets/tinyshakespeare/input.txt" -m "$shared/models/stories260K" --json --preview 0
    check "a text in windows" out_has '"formats":{"text file":[0-9]*}.*"dropped":0'
else
    skip "no known data sets in ../shared"
fi

finish
