#!/bin/sh
# test_router.sh: `graft router`, -a auto, and the router that ships, models/router: held-out prompts of all its labels get the
# adapter that they ask for. router/ holds them, which no router was trained on.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
held=$SOURCE/tests/cli/router
router=$SOURCE/models/router
labels="architect base coder researcher reviewer security"
GRAFT_HOME=$scratch/home
export GRAFT_HOME

if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi

# ---- the router that ships
set --
for label in $labels; do set -- "$@" "$held/$label.jsonl"; done
run router eval -m "$tiny" "$router" "$@" --json
check "the router that ships is measured" status_is 0
share() { sed -n 's/.*"accuracy":\([0-9.]*\).*/\1/p' "$scratch/out"; }
at_least() { awk -v x="$(share)" -v y="$1" 'BEGIN { exit !(x >= y) }'; }
check "... on 240 prompts" out_has '"prompts":240'
check "... of which 95 of 100 get what they ask for, or more" at_least 0.95
for label in $labels; do
    run router eval -m "$tiny" "$router" "$held/$label.jsonl" --json
    check "... and so do those of $label alone" at_least 0.95
done
run router eval -m "$tiny" "$router" "$held/unseen.jsonl" --json
check "wordings that it never saw are beyond guessing" at_least 0.7
run quantize -m "$tiny" -o "$scratch/tiny.gguf" --type q4_0 -q
run router eval -m "$scratch/tiny.gguf" "$router" "$held/coder.jsonl" "$held/base.jsonl" --json
check "a base in 4 bits is the same base" at_least 0.95
run router show "$router" --json
check "show --json" out_has '"labels":\["architect","base","coder","researcher","reviewer","security"\]'
check "... says how good it was" at_least 0.95
run router show "$router"
check "show has a row for each label" test "$(grep -cE '^(architect|base|coder|researcher|reviewer|security) ' "$scratch/out")" -eq 6

# ---- what is asked for is what answers best
set --
for skill in coder researcher security architect reviewer; do set -- "$@" -a "$SOURCE/models/adapters/$skill"; done
for label in base coder researcher security architect reviewer; do set -- "$@" "$held/$label.jsonl"; done
run eval -q -m "$tiny" "$@" --no-answers --max-examples 6 --json
check "the losses of all adapters on all prompts" status_is 0
cat >"$scratch/best.awk" <<'AWK'
# Of results in the order of rows: is the least loss of column c that of row c, and by how far the next?
{
    n = split($0, part, "\"adapter\":")
    for (i = 2; i <= n; i++) {
        match(part[i], /"loss":\{"value":[0-9.e+-]*/)
        loss[i - 2] = substr(part[i], RSTART + 16, RLENGTH - 16)
    }
}
END {
    if (n != 37) exit 1
    for (c = 0; c < 6; c++)
        for (r = 0; r < 6; r++)
            if (r != c && !(loss[r * 6 + c] > 2 * loss[c * 6 + c])) bad = 1
    exit bad
}
AWK
check "each label has less than half the loss of any other on its prompts" awk -f "$scratch/best.awk" "$scratch/out"

# ---- -a auto
# auto PROMPT WORDS...: its answer.
auto() {
    prompt=$1
    shift
    run run -m "$tiny" -a auto --temp 0 -n 60 -p "$prompt" "$@"
}
auto "Write a function to store an invoice."
check "auto answers" status_is 0
check "... says what it chose" err_has '^graft: auto: coder ([0-9.]* %)$'
check "... in one line" err_lines 1
cp "$scratch/out" "$scratch/by-auto"
run run -m "$tiny" -q -a coder --temp 0 -n 60 -p "Write a function to store an invoice."
check "... and answers as that adapter does" out_equals_file "$scratch/by-auto"
auto "Tell me a story about a cat and a box." -q
check "-q says nothing" test ! -s "$scratch/err"
cp "$scratch/out" "$scratch/by-auto"
run run -m "$tiny" -q --temp 0 -n 60 -p "Tell me a story about a cat and a box."
check "base is no adapter" out_equals_file "$scratch/by-auto"
auto "What is the risk when we share an invoice?" --router-top-k 2 --router-temperature 20 --json
check "a mix of two" err_has '^graft: auto: security=0\.[0-9]* ([0-9.]* %) + [a-z]*=0\.[0-9]* ([0-9.]* %)$'
check "... is in the JSON" out_has '"routes":\[{"adapter":"security","probability":0\.[0-9]*,"weight":0\.[0-9]*},{"adapter":'
auto "What is the risk when we share an invoice?" --router "$router/router.safetensors"
check "a router by its path" err_has 'auto: security'
"$GRAFT" adapter add "$SOURCE/models/adapters/reviewer" --name coder >/dev/null
auto "Write a function to store an invoice."
check "what is registered goes first" out_has '^Verdict: '
"$GRAFT" adapter remove coder >/dev/null
mkdir "$scratch/here"
mkdir "$scratch/here/coder"
(cd "$scratch/here" && "$GRAFT" run -m "$tiny" -q -a auto --temp 0 -n 60 -p "Write a function to store an invoice.") >"$scratch/out" 2>"$scratch/err"
check "a label is no path" out_has '^def store_invoice'

{
    echo "Write a function to store an invoice."
    echo "What is the risk when we share an invoice?"
    echo "/adapter architect"
    echo "What is the risk when we share an invoice?"
    echo "/adapter auto"
    echo "/reset"
    echo "Which parts do we need to sort the users?"
} >"$scratch/turns"
"$GRAFT" chat -m "$tiny" -a auto --temp 0 -n 60 <"$scratch/turns" >"$scratch/out" 2>"$scratch/err"
status=$?
check "a chat routes each turn" status_is 0
check "... to coder, security and architect" test "$(sed 's/ (.*//' "$scratch/err" | tr '\n' ' ')" = "graft: auto: coder graft: auto: security graft: auto: architect "
check "... the first" out_has '^def store_invoice'
check "... the second" out_has '^\[medium\] Anyone'
check "... and not what was put on by hand" test "$(grep -c ' -> ' "$scratch/out")" -eq 2

# ---- by name or by tags
for words in task:coder task:programming tag:code tag:programming; do
    run run -m "$tiny" -q -a "$words" --temp 0 -n 60 -p "Write a function to store an invoice."
    check "$words is coder" out_has '^def store_invoice'
done
run adapter show tag:programming -m "$tiny" --json
check "show takes a tag" out_has '"name":"coder"'
run run -m "$tiny" -q -a tag:audit=0 --temp 0 -n 20 -p "Tell me a story about a cat and a box."
check "a tag has a weight" status_is 0
cp "$scratch/out" "$scratch/by-tag"
run run -m "$tiny" -q --temp 0 -n 20 -p "Tell me a story about a cat and a box."
check "... which counts" out_equals_file "$scratch/by-tag"
for words in 'tag:nothing has the tag "nothing"' 'task:nobody is called "nobody"'; do
    run run -m "$tiny" -a "${words%% *}" -p x
    refused "${words%% *}" 1 "${words#* }"
    check "... in one line" err_lines 1
done
run run -m "$tiny" -a tag: -p x
refused "an empty tag" 2 "neither a file nor"
for name in one two; do "$GRAFT" adapter add "$SOURCE/models/adapters/reviewer" --name "$name" >/dev/null; done
run run -m "$tiny" -a tag:quality -p x
refused "a tag of two" 1 '2 adapters have the tag "quality": one, two; name one'
run run -m "$tiny" -q -a task:two --temp 0 -n 60 -p "Write a function to store an invoice."
check "a name goes before tags" out_has '^Verdict: '
"$GRAFT" adapter remove one >/dev/null
run run -m "$tiny" -q -a task:quality --temp 0 -n 60 -p "Write a function to store an invoice."
check "... and the only one with the tag is found" out_has '^Verdict: '
"$GRAFT" adapter remove two >/dev/null

# ---- a router of one's own
{
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        printf '{"prompt":"Tell me a story about %d cats.","adapter":"base"}\n' $i
        printf '{"messages":[{"role":"user","content":"Write a function that adds %d."}],"adapter":"coder"}\n' $i
    done
} >"$scratch/prompts.jsonl"
run router train -m "$tiny" -o "$scratch/one" "$scratch/prompts.jsonl" -t 1
check "train trains" status_is 0
check "... and says how good it is" out_has '; 6 held out, 100.0 % right$'
run router train -m "$tiny" -o "$scratch/two" "$scratch/prompts.jsonl" -t 2 --json
check "... the same bytes with two threads" cmp -s "$scratch/one" "$scratch/two"
for key in output labels base width l2 seed iterations examples examples_right held_out accuracy confusion; do
    check "train --json has $key" out_has "[{,]\"$key\":"
    check "docs/cli.md has $key" grep -q "\b$key\b" "$SOURCE/docs/cli.md"
done
run router route -m "$tiny" "$scratch/one" "Write a function that adds 99."
check "route puts the best first" test "$(sed -n 's/.*  //p;q' "$scratch/out")" = coder
check "... and lists all" test "$(wc -l <"$scratch/out")" -eq 2
run router route -m "$tiny" "$scratch/one" "Write a function that adds 99." --top-k 1 --temperature 0.1 --json
check "route --json" out_has '^{"routes":\[{"adapter":"coder","probability":[0-9.]*,"weight":1.0}\]}$'
mkdir -p "$GRAFT_HOME"
cp "$scratch/one" "$GRAFT_HOME/router"
auto "What is the risk when we share an invoice?"
check "the router of the home goes first" err_has 'auto: \(base\|coder\) '
rm "$GRAFT_HOME/router"

# ---- bad input
run router train -m "$tiny" -o "$scratch/bad" "$scratch/nothing.jsonl"
refused "no file" 1 "nothing.jsonl"
bad() { # PATTERN PROMPTS
    printf '%b' "$2" >"$scratch/bad.jsonl"
    run router train -m "$tiny" -o "$scratch/bad" "$scratch/bad.jsonl"
    refused "prompts: $1" 1 "$1"
    check "... in one line" err_lines 1
    check "... and no router" test ! -e "$scratch/bad"
}
good='{"prompt":"x","adapter":"a"}\n'
bad 'bad.jsonl.*there is no prompt' ''
bad 'have 1 label, a router chooses among 2' "$good"
bad 'line 2: its "adapter" is no NAME' "$good"'{"prompt":"y"}\n'
bad 'line 2: it has not one of "prompt"' "$good"'{"adapter":"b"}'
bad 'line 2: it is not JSON' "$good"'broken\n'
{ for i in 1 2 3 4 5 6 7 8 9; do echo "{\"prompt\":\"$i\",\"adapter\":\"a\"}"; done
  echo '{"prompt":"1","adapter":"b"}'; } >"$scratch/few.jsonl"
run router train -m "$tiny" -o "$scratch/bad" "$scratch/few.jsonl" --held-out 0.95
refused "too much is held out" 1 'left to train on'
run router train -m "$tiny" -o "$scratch/prompts.jsonl" "$scratch/prompts.jsonl"
refused "what is read is not written over" 1 "choose another name"
check "... and is as it was" test "$(wc -l <"$scratch/prompts.jsonl")" -eq 30
run router train -m "$tiny" -o "$scratch/no/where" "$scratch/prompts.jsonl"
refused "no such folder" 1 "no/where"
run router eval -m "$tiny" "$scratch/one" "$held/security.jsonl"
refused "a label that it does not have" 1 'line 1: the router has no label "security"'
head -c 200 "$scratch/one" >"$scratch/cut"
run router show "$scratch/cut"
refused "a router that was cut" 1 "cut"
run router show "$tiny/model.safetensors"
refused "what is no router" 1 "it is no router"
run run -m "$SOURCE/models/tiny-draft" -a auto -p x
refused "a router of another base" 1 "made for another base"
check "... in one line" err_lines 1
sed 's/"coder"/"nobody"/' "$scratch/prompts.jsonl" >"$scratch/nobody.jsonl"
run router train -m "$tiny" -q -o "$scratch/nobody" "$scratch/nobody.jsonl"
auto "Write a function that adds 99." --router "$scratch/nobody"
refused "a label that nobody has registered" 1 'the router picked "nobody"'
check "... in one line" err_lines 1

# ---- every verb explains itself, and the manual has its options
for verb in train eval show route; do
    run router $verb --help
    check "router $verb --help has an example" out_has "graft router $verb"
    # shellcheck disable=SC2013 # words are what is wanted
    for option in $(sed -n '/Common:/q;p' "$scratch/out" | grep -o -e '--[a-z][a-z0-9-]*' | sort -u); do
        check "the manual has router $verb $option" grep -q -e "$(echo "$option" | sed 's/^--/-/')" "$SOURCE/docs/man/graft.1"
    done
done

# wrong PATTERN WORDS...: it is wrong use.
wrong() {
    pattern=$1
    shift
    run "$@"
    refused "$*" 2 "$pattern"
}
wrong 'no verb "router frob"' router frob
wrong 'which prompts' router train -o x
wrong 'where to' router train x.jsonl
wrong 'not a number' router train -o x x.jsonl --l2 0
wrong 'not a number' router train -o x x.jsonl --held-out 1
wrong 'give a router and files' router eval x
wrong 'which router' router show
wrong 'one router' router show a b
wrong 'give a router and a prompt' router route x
wrong 'one prompt' router route x a b
wrong 'whole number' router route x a --top-k 0
wrong 'not a number' router route x a --temperature 0
wrong 'no other -a' run -a auto -a coder -p x
wrong 'no other -a' run -a auto --fuse -p x
wrong 'only run and chat' logits -a auto -p x
wrong 'only run and chat' eval -a auto x.jsonl
wrong 'is for -a auto' run --router x -p x
wrong 'no weight' run -a auto=x -p x

# ---- the data are those that the generator makes
if command -v python3 >/dev/null 2>&1; then
    PYTHONDONTWRITEBYTECODE=1 python3 "$SOURCE/tools/tiny/routes.py" --out "$scratch/data" >"$scratch/out" 2>"$scratch/err"
    for label in $labels unseen; do
        check "held-out $label is made again" cmp "$scratch/data/test/$label.jsonl" "$held/$label.jsonl"
        sed -n 's/.*\("user", "content": "[^"]*[^"\\]"\).*/\1/p' "$held/$label.jsonl" >"$scratch/asked"
        check "... and not trained on" test -s "$scratch/asked" -a -z "$(grep -F -f "$scratch/asked" "$scratch/data/train.jsonl")"
    done
else
    skip "no python3 to make the data again"
fi
finish
