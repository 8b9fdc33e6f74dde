#!/bin/sh
# test_registered.sh: adapters by name: what `graft adapter` changes, what -a and a chat make of it. GRAFT, SOURCE and
# MODELS (a program that writes adapters) are set by ctest.
. "$(dirname "$0")/adapter_lib.sh"

tiny=$SOURCE/models/tiny
GRAFT_HOME=$scratch/home
export GRAFT_HOME

slot() { check "$1 is $2" out_has "$1 *$2"; }

# ---- wrong use: nothing is opened, not even the home
run adapter
check "graft adapter alone is wrong use" status_is 2
check "... and shows the verbs" err_has "promote"
run adapter --help
check "graft adapter --help succeeds" status_is 0
verbs=$(sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$scratch/out")
check "... and lists the verbs" test "$(echo "$verbs" | wc -w)" -ge 10
wrong 'no verb "adapter frobnicate"' frobnicate
for verb in list add stage promote publish activate rollback pin unpin evict remove; do
    check "graft adapter --help has $verb" test "${verbs#*"$verb"}" != "$verbs"
    run adapter "$verb" --help
    check "graft adapter $verb --help has an example" out_has "graft adapter $verb "
    wrong "no-such-option" "$verb" --no-such-option
    wrong 'unexpected argument "b"' "$verb" a b
    wrong "name is empty\|the name is empty" "$verb" ""
done
for verb in stage promote publish activate rollback pin unpin evict remove; do
    wrong "which adapter" "$verb"
    wrong "no NAME\[@VERSION\]" "$verb" ./coder
    wrong "no NAME\[@VERSION\]" "$verb" coder=0.5
done
wrong "which adapter" add
wrong "not both" add x --stage --publish
wrong "the list is empty" add x --tags ,
wrong "name: the name is empty" add x --name ""
check "wrong use makes no home" test ! -e "$GRAFT_HOME"
for verb in stage publish activate; do
    wrong "which version of \"coder\"" "$verb" coder
    wrong "is no version" "$verb" coder@1
done
wrong "is no adapter name" add "$scratch" --name "a b"
wrong "is no version" add "$scratch" --adapter-version latest

# ---- an empty home
run adapter list
check "an empty home lists" status_is 0
check "... nothing" test ! -s "$scratch/out"
check "... and says how to change that" err_has "graft adapter add"
run adapter list --json
check "... and is JSON" out_is '{"adapters":[]}'
GRAFT_HOME=$scratch/none run adapter list --json
check "a home that is not there lists nothing" out_is '{"adapters":[]}'
check "... and is not made" test ! -e "$scratch/none"
failed "graft adapter list" list nobody
for verb in promote rollback pin unpin evict remove; do
    failed "graft adapter list" "$verb" nobody
done
failed "no such file" add "$scratch/nothing"
failed "no adapter in the folder" add "$scratch"
GRAFT_HOME=/proc/nothing run adapter list
check "nor one that could not be made" status_is 0
GRAFT_HOME=/proc/nothing run adapter add x
refused "a home that cannot be made" 1 "set GRAFT_HOME"

if [ ! -f "$tiny/model.safetensors" ] || [ ! -x "${MODELS:-}" ]; then
    skip "models/tiny or what writes adapters is not there"
    finish
    exit
fi
for i in 1 2 3; do
    "$MODELS" "$scratch/made" "$tiny" adapter-$i >"$scratch/out" 2>"$scratch/err"
done
one=$scratch/made/adapter-1 two=$scratch/made/adapter-2

# ---- add and the slots
run adapter add "$one" --name coder --tags code,c --description "Writes C."
says "add says what it became" "added coder@1.0.0"
slot 1.0.0 active
says "... with tags" "code,c  Writes C."
run adapter add "$one" --name coder --adapter-version 1.0.0
check "the same again is fine" status_is 0
failed "versions do not change" add "$two" --name coder --adapter-version 1.0.0
run adapter add "$two" --name coder --stage
slot 1.0.1 standby
slot 1.0.0 active
run adapter list
says "list marks a swap in progress" "^coder *1.0.0 *→ 1.0.1 *2 "
run adapter list --json
says "... for machines too" '"active":"1.0.0","standby":"1.0.1","previous":null,"swap_in_progress":true'
run adapter add "$scratch/made/adapter-3" --name coder --stage
slot 1.0.2 standby
run adapter remove coder@1.0.2
check "a staged version is removed" out_is "removed coder@1.0.2"
run adapter list coder
check "... and nothing is on standby" test -z "$(grep standby "$scratch/out")"
failed "is not staged\|no version of" promote coder
run adapter stage coder@1.0.1
failed "nothing is left to do" stage coder@1.0.0
run adapter promote coder
slot 1.0.1 active
slot 1.0.0 previous
failed "graft adapter stage" promote coder
run adapter rollback coder
slot 1.0.0 active
run adapter publish coder@1.0.1
slot 1.0.1 active
run adapter activate coder@1.0.0 --json
says "a change is JSON when asked" '"name":"coder",.*"active":"1.0.0"'
run adapter pin coder@1.0.1
says "a pin shows" "1.0.1 .* pinned"
failed "graft adapter unpin" remove coder@1.0.1
failed "graft adapter unpin" evict coder@1.0.1
run adapter evict coder
slot 1.0.0 active
slot 1.0.1 previous
failed "no version 7.0.0" evict coder@7.0.0
run adapter pin --off coder@1.0.1
check "a pin is taken away" status_is 0
run adapter remove coder@1.0.1
check "a version is removed" out_is "removed coder@1.0.1"
failed "no version 1.0.1" publish coder@1.0.1
failed "is active" remove coder@1.0.0
failed "graft adapter activate" rollback coder

# ---- a folder of them
mkdir "$scratch/made/broken"
echo '{"peft_type": "LORA"}' >"$scratch/made/broken/adapter_config.json"
run adapter add "$scratch/made"
check "a folder with a bad one fails" status_is 1
check "... for that one" err_has "broken"
says "... and has the others" "added adapter-3@1.0.0"
run adapter add "$scratch/made" --name x
refused "one name for many" 1 "are for one"
run adapter list
check "list has all" test "$(grep -c '1\.0\.0' "$scratch/out")" -eq 4

# ---- run -a NAME
words="run -p Hello -n 8 --temp 0 -q"
# shellcheck disable=SC2086 # words are what is wanted
answer() { run $words "$@"; }
answer -a "$one=2"
cp "$scratch/out" "$scratch/from_path"
answer
check "the adapter changes the answer" test "$(cat "$scratch/out")" != "$(cat "$scratch/from_path")"
answer -a coder=2
check "a name is its adapter" out_equals_file "$scratch/from_path"
answer -a coder@1.0.0=2 -v
check "a version and a weight likewise" out_equals_file "$scratch/from_path"
check "... and -v says which" err_has "coder@1.0.0"
answer -a coder=4
check "a weight counts" test "$(cat "$scratch/out")" != "$(cat "$scratch/from_path")"
run perplexity -p "Once upon a time." -a coder
check "perplexity takes names" status_is 0
answer -a nobody
refused "an unknown name" 1 "graft adapter list"
answer -a coder@7.0.0
refused "an unknown version" 1 "has no version 7.0.0"
answer -a coder -a adapter-1
refused "one adapter under two names" 1 "given twice"
answer -a coder --adapter-scale 2
refused "a scale for what has one" 1 "is a name, with the scale"

# ---- a name wherever an adapter is read: the same as its path, and the same errors
answer -a "$one=2" --fuse
cp "$scratch/out" "$scratch/fused_path"
answer -a coder@1.0.0=2 --fuse
check "--fuse takes names" out_equals_file "$scratch/fused_path"
run fuse -a coder=2 -o "$scratch/name.gguf" --type f32 --kl-tokens 0
check "fuse takes names" status_is 0
run fuse -a "$one=2" -o "$scratch/path.gguf" --type f32 --kl-tokens 0
check "... and writes the same" cmp -s "$scratch/name.gguf" "$scratch/path.gguf"
for format in peft mlx gguf; do
    run adapter convert coder -o "$scratch/as-$format" --format $format
    check "convert to $format takes names" status_is 0
done
answer -a "$scratch/as-gguf=2"
check "... and writes that adapter" out_equals_file "$scratch/from_path"
run adapter quantize coder@1.0.0 -o "$scratch/eight"
says "quantize takes names" "^largest error"
run adapter show coder
says "show takes names" "^format  *PEFT"
says "... and says which version that is" "^registered  *coder@1.0.0"
run adapter show coder --json
says "... for machines too" '"registered":"coder@1.0.0"'
run adapter verify coder --for vllm
says "verify takes names" "vllm takes it"
for line in "fuse -a NAME -o $scratch/no.gguf" "run -p x --fuse -a NAME" "adapter show NAME" "adapter verify NAME" \
    "adapter convert NAME -o $scratch/no" "adapter quantize NAME -o $scratch/no"; do
    # shellcheck disable=SC2086,SC2046 # words are what is wanted
    run $(echo "$line" | sed 's/NAME/nobody/')
    refused "$line: an unknown name" 1 'no adapter is registered as "nobody"; .graft adapter list'
    # shellcheck disable=SC2086,SC2046
    run $(echo "$line" | sed 's/NAME/coder@7.0.0/')
    refused "$line: an unknown version" 1 "has no version 7.0.0"
done
run adapter show coder=0.5
refused "a weight where none counts" 2 "no weight here"
run fuse -a coder -a coder@1.0.0 -o "$scratch/no.gguf"
refused "one adapter under two names, fused" 1 "given twice"
answer -a coder --fuse --adapter-scale 2
refused "a scale for what has one, fused" 1 "is a name, with the scale"
run adapter convert coder -o "$scratch/no" --adapter-scale 2
refused "a scale for what has one, converted" 1 "is a name, with the scale"
check "nothing of these was written" test ! -e "$scratch/no" -a ! -e "$scratch/no.gguf"
(cd "$scratch/made" && mkdir coder && "$GRAFT" run -p Hello -a coder >"$scratch/out" 2>"$scratch/err")
check "a folder of that name goes first" err_has "coder: there is no adapter_config.json"
rmdir "$scratch/made/coder"

# ---- a chat while somebody publishes
mkfifo "$scratch/lines"
"$GRAFT" chat --temp 0 -n 4 -q -a coder <"$scratch/lines" >"$scratch/out" 2>"$scratch/err" &
exec 3>"$scratch/lines"
saw() { # PATTERN: it comes to be said
    for _ in $(seq 150); do
        grep -q -e "$1" "$scratch/out" && return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    grep -q -e "$1" "$scratch/out"
}
printf '/adapter coder\n' >&3
check "a chat says the version that it takes" saw '^(coder@1.0.0=1, swapped in'
"$GRAFT" adapter add "$two" --name coder --adapter-version 2.0.0 --publish >/dev/null
printf '/scale coder 0.5\n' >&3
check "/scale is about the version that is applied" saw '^(coder@1.0.0=0.5, swapped in'
printf '/adapter coder\n' >&3
check "/adapter sees a publish of another process" saw '^(coder@2.0.0=1, swapped in'
printf '/mix coder=0.5 coder@1.0.0=0.25\n' >&3
check "/mix takes two versions" saw '^(coder@2.0.0=0.5 + coder@1.0.0=0.25, swapped in'
"$GRAFT" adapter remove adapter-3 >/dev/null
printf '/adapter adapter-3\n' >&3
exec 3>&-
wait $!
status=$?
check "a name that is gone ends a script" status_is 1
check "... with what to do" err_has "graft adapter list"

# ---- training goes on with a version
for i in 1 2 3 4 5; do echo "{\"prompt\":\"Who is $i?\",\"completion\":\"Tom.\"}"; done >"$scratch/data.jsonl"
run train -q -m "$tiny" -d "$scratch/data.jsonl" -a coder -o "$scratch/more" --steps 1 --batch-size 2
check "training goes on with a registered adapter" status_is 0
check "... and says which version" grep -q '"adapter": "coder@[0-9.]*"' "$scratch/more.run/config.json"
run train -q -m "$tiny" -d "$scratch/data.jsonl" -a nobody -o "$scratch/none" --steps 1
refused "... not with a name that is none" 1 "graft adapter list"
check "... before anything is made" test ! -e "$scratch/none.run"

run adapter remove coder
check "a name is removed with its versions" out_is "removed coder"
run adapter list coder
refused "... and gone" 1 "graft adapter list"

finish
