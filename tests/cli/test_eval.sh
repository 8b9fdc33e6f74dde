#!/bin/sh
# test_eval.sh: graft eval: its numbers beside those of perplexity, run and classify; parts of files; what it refuses.
# GRAFT, SOURCE and MODELS (a program that writes adapters and a classifier) are set by ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ] || [ ! -x "${MODELS:-}" ]; then
    skip "models/tiny, or the program that writes adapters, is not there"
    finish
    exit
fi
for kind in adapter adapter-2 classifier; do
    "$MODELS" "$scratch/models" "$tiny" $kind >/dev/null 2>&1
done
cd "$scratch" || exit 1
mv models/adapter one
mv models/adapter-2 two

# value ROW FILE METRIC [MEMBER]: of the last --json; ROW is null (the base) or "name".
value() {
    sed 's/{"adapter":/\n&/g' out | grep -F "{\"adapter\":$1,\"file\":\"$2\"" |
        sed -n "s/.*\"$3\":{\([^}]*\)}.*/\1/p" | tr ',' '\n' | sed -n "s/^\"${4:-value}\"://p"
}
number() { sed -n "s/.*\"$1\":\([-0-9.e+]*\)[,}].*/\1/p" out; }
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { exit !(a != "" && b != "" && a - b < t && b - a < t) }'; }

# ---- losses are those of graft perplexity: a text that is cut has no end token, and N learned tokens
text="Once upon a time there was a cat. The cat was happy. It sat on the mat and saw a kite in the tree."
printf '{"text":"%s"}\n' "$text" >text.jsonl
run tokenize -p "$text" --json
first=$(sed 's/.*\[//; s/\].*//' out | cut -d, -f1-16)
run detokenize --tokens "$first"
cp out cut.txt
for row in "null" "one=0.1" "two" "one=0.1 + two"; do
    with=""
    for name in ${row#null}; do
        [ "$name" = + ] || with="$with -a $name"
    done
    # shellcheck disable=SC2086 # words are what is wanted
    run perplexity -f cut.txt --json $with
    echo "$row|$(number nll)|$(number perplexity)" >>expected
    check "perplexity scores 15 tokens" out_has '"tokens":15,'
done
run eval -a one=0.1 -a two --mix text.jsonl --max-seq-length 15 --json
check "eval succeeds" status_is 0
check "... says what was measured" out_has '"part":"all","records":1,"dropped":0,"truncated":1,"available":1,"examples":1,"tokens":15,"learned":15,"questions":0'
while IFS='|' read -r row nll perplexity; do
    [ "$row" = null ] || row="\"$row\""
    check "the loss of $row is that of perplexity" near "$(value "$row" text.jsonl loss)" "$nll" 1e-6
    check "... and the perplexity" near "$(value "$row" text.jsonl perplexity)" "$perplexity" 0.01
done <expected
check "a change is against the base" near "$(value '"two"' text.jsonl loss change)" \
    "$(awk -v a="$(value '"two"' text.jsonl loss)" -v b="$(value null text.jsonl loss)" 'BEGIN { print a - b }')" 1e-4
cp out once
run eval -a one=0.1 -a two --mix text.jsonl --max-seq-length 15 --json -t 1
check "one thread measures the same" out_equals_file once

# ---- ... and what training validates on
for name in Tom Mia Leo Ann Ben Eva Ida Max Zoe Sam; do
    printf '{"prompt":"Who is %s?","completion":"%s is a cat."}\n' $name $name
done >cats.jsonl
run train -d cats.jsonl -o cats --steps 4 --f32 -q --json
before=$(number valid_loss_before)
after=$(number valid_loss)
run eval -a ./cats cats.jsonl --part valid --no-answers --json
check "the base's loss is that before training" near "$(value null cats.jsonl loss)" "$before" 0.01
check "the adapter's is that after it" near "$(value '"./cats"' cats.jsonl loss)" "$after" 0.01
check "... which is another" test "$(value '"./cats"' cats.jsonl loss best)" = true

# ---- weights: the loss is Σ weight · nll / Σ weight · tokens
printf '{"text":"The cat sat."}\n' >a.jsonl
printf '{"text":"A dog saw a kite in the tree."}\n' >b.jsonl
printf '{"text":"The cat sat.","weight":3}\n{"text":"A dog saw a kite in the tree.","quality":0.5}\n' >ab.jsonl
run eval a.jsonl b.jsonl ab.jsonl --json
files=$(sed 's/.*"files"//; s/"results".*//' out | grep -o '"learned":[0-9]*' | cut -d: -f2 | tr '\n' ' ')
# shellcheck disable=SC2086 # three numbers
set -- $files
expected=$(awk -v a="$(value null a.jsonl loss)" -v b="$(value null b.jsonl loss)" -v n="$1" -v m="$2" \
    'BEGIN { print (3 * a * n + 0.5 * b * m) / (3 * n + 0.5 * m) }')
check "weights count" near "$(value null ab.jsonl loss)" "$expected" 1e-4
check "one example has no spread" test "$(value null a.jsonl loss error)" = null
check "... two have" near "$(value null ab.jsonl loss error)" 1 1

# ---- answers: what the model says to a question is exact; what another says is not
ask() { # QUESTION: a record with the answer of the base, and how likely it is
    "$GRAFT" run --temp 0 -n 200 -p "$1" --json >answer
    finish_of=$(sed -n 's/.*"finish":"\([a-z]*\)".*/\1/p' answer)
    said=$(sed -n 's/.*"text":"\(\([^"\\]\|\\.\)*\)".*/\1/p' answer)
    printf '{"prompt":"%s","completion":"%s%s"}\n' "$1" "$2" "$said"
}
ask "Tell me a story about a cat." >known.jsonl
check "the answer ends" test "$finish_of" = eos
logprob=$(sed -n 's/.*"logprob":\([-0-9.]*\).*/\1/p' answer)
ask "Who is Tom?" "  " >>known.jsonl
printf '{"prompt":"Who is Mia?","completion":"A submarine #### 12"}\n' >>known.jsonl
run eval known.jsonl -a one --json
check "two of three answers are exact" near "$(value null known.jsonl exact)" 0.666666667 1e-6
check "... with the spread of a share" near "$(value null known.jsonl exact error)" 0.333333333 1e-6
check "a random adapter answers otherwise" near "$(value '"one"' known.jsonl exact)" 0 1e-6
check "three questions" out_has '"questions":3'
check "the base is marked" test "$(value null known.jsonl exact best)" = true
head -n 1 known.jsonl >likely.jsonl
run eval likely.jsonl --no-answers --json
learned=$(sed 's/.*"learned":\([0-9]*\).*/\1/' out)
check "the loss of an answer is what run says of its tokens" near "$(value null likely.jsonl loss)" \
    "$(awk -v s="$logprob" -v n="$learned" 'BEGIN { print -s / n }')" 0.01
check "--no-answers asks nothing" test -z "$(value null likely.jsonl exact)"
run eval known.jsonl --json --max-tokens 1
check "--max-tokens 1 is too few for them" near "$(value null known.jsonl exact)" 0 1e-6
run eval known.jsonl --json --regex '^.{10}'
check "--regex compares what it finds" near "$(value null known.jsonl regex)" 0.666666667 1e-6
check "... in all references" out_has '"matched":3'
run eval known.jsonl --json --regex '#### (\d+)'
check "... or in those that have it" out_has '"matched":1'
check "... where this answer has none" near "$(value null known.jsonl regex)" 0 1e-6
check "exact answers are as before" near "$(value null known.jsonl exact)" 0.666666667 1e-6
printf '{"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"Who is Tom?"},{"role":"assistant","content":"Tom."},{"role":"user","content":"Who is Mia?"},{"role":"assistant","content":"Mia."}]}\n{"text":"The cat sat."}\n' >mixed.jsonl
run eval mixed.jsonl --json
check "a text is no question" out_has '"examples":2,.*"questions":1'

# ---- for people
run eval -a one known.jsonl a.jsonl
check "the table succeeds" status_is 0
check "... has files" out_has "^  *known.jsonl  *a.jsonl$"
check "... and blocks" out_has "^loss (nats per token)$"
check "... a row with its change and the best marked" \
    out_has "^  base  *\*[0-9.]* ± [0-9.]* .*$"
check "... for the adapter" out_has "^  one  *[0-9.]* ± [0-9.]* (+[0-9.]* ± [0-9.]*)"
check "... and says what was measured" \
    out_has "^known.jsonl: part all, 3 examples, [0-9]* tokens, [0-9]* of them learned; 3 asked; of 3 records 0 dropped; 0 cut$"
check "... with nothing on stderr" test ! -s err
run eval -a one --no-base known.jsonl --no-answers
check "--no-base leaves the base out" test "$(grep -c '^  base' out)" -eq 0
check "... and changes" test "$(grep -c '(+' out)" -eq 0

# ---- parts of files and folders
for i in 1 2 3 4 5 6 7 8 9 10; do
    printf '{"text":"The cat sat on mat %s."}\n' $i
done >ten.jsonl
echo '{"oops' >>ten.jsonl
mkdir folder
head -n 5 ten.jsonl >folder/train.jsonl
head -n 2 ten.jsonl >folder/valid.jsonl
part() { # PATTERN WORDS...
    pattern=$1
    shift
    run eval "$@" --json
    check "eval $*" out_has "$pattern"
}
part '"part":"all","records":11,"dropped":1,"truncated":0,"available":10,"examples":10,' ten.jsonl
part '"part":"valid",.*"available":2,"examples":2,' ten.jsonl --part valid
part '"part":"train",.*"available":8,"examples":3,' ten.jsonl --part train --max-examples 3
part '"part":"valid",.*"available":2,' folder
part '"part":"all",.*"available":7,' folder --part all
head -n 3 ten.jsonl >folder/test.jsonl
part '"part":"test",.*"available":3,' folder
check "a folder is named as typed" out_has '"file":"folder"'
run data check ten.jsonl --save ten.tokens --preview 0
part '"part":"all",.*"available":10,' ten.tokens

# ---- classes
printf '{"text":"good","label":"%s"}\n' \
    "$("$GRAFT" classify -m models/classifier -p good | cut -f1)" >classes.jsonl
run classify -m models/classifier -p good --json
label=$(sed 's/^{"label":"\([a-z]*\)".*/\1/' out)
likely=$(sed 's/.*"label":"'"$label"'","probability":\([0-9.e-]*\).*/\1/' out)
run eval -m models/classifier classes.jsonl --json
check "a classifier has accuracy" near "$(value null classes.jsonl accuracy)" 1 1e-6
check "... and the loss of its probability" near "$(value null classes.jsonl loss)" \
    "$(awk -v p="$likely" 'BEGIN { print -log(p) }')" 1e-5
sed 's/"label":"."/"label":"z"/; s/good/bad/' classes.jsonl >wrong.jsonl
run eval -m models/classifier wrong.jsonl
refused "a class that is none" 1 "no example in part all (of 1 records 1 were dropped); .graft data check. tells why"
run eval -m models/classifier classes.jsonl --regex x
refused "--regex on a classifier" 1 "classifier"

# ---- wrong use, and what cannot be
run eval
refused "no file" 2 "which data"
run eval a.jsonl --part some
refused "a part that is none" 2 'part: "some" is none of'
run eval a.jsonl --no-base
refused "nothing to measure" 2 "give -a"
run eval a.jsonl --adapter-type int8
refused "a type of no adapter" 2 "no adapter; give -a"
run eval a.jsonl --mix -a one
refused "a mix of one" 2 "two adapters"
run eval a.jsonl --regex '(' --no-answers
refused "--regex without answers" 2 "asks for none"
run eval a.jsonl --regex '('
refused "a pattern that is none" 2 'regex: "(": missing closing parenthesis'
run eval a.jsonl --max-examples 0
refused "no examples" 2 "max-examples"
run eval a.jsonl nowhere.jsonl
refused "no such file" 1 "nowhere.jsonl"
check "... in one line" err_lines 1
run eval a.jsonl -a ./nowhere
refused "no such adapter" 1 "nowhere"
run eval known.jsonl --regex 'xyzzy'
refused "a pattern that no reference has" 1 "finds nothing in any reference"
run eval known.jsonl likely.jsonl --regex '#### (\d+)' --json --max-tokens 2
check "one file that has it will do" out_has '"matched":1}.*"matched":0}'
run eval ten.jsonl --part test
refused "an empty part" 1 "no example in part test"

# ---- Ctrl-C: the status says that this is not all
for _ in $(seq 400); do cat ten.jsonl; done >many.jsonl
"$GRAFT" eval -q a.jsonl many.jsonl -a one -a two >out 2>err &
# It is graft, no longer the shell that starts it, and it listens.
until tr '\n' ' ' <"/proc/$!/status" | grep -q '^Name:.graft .*SigCgt:.[0-9a-f]*[2367abef] ' || ! kill -0 $!; do sleep 0.1; done
kill -INT $!
wait $!
status=$?
check "Ctrl-C ends with status 1" status_is 1
check "... and says so" err_has "interrupted"

finish
