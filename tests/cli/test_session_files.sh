#!/bin/sh
# test_session_files.sh: what happens to files of sessions: which is replaced, which is refused, who else has it, and what is there
# when a command was told to end. The conversations themselves are in test_sessions.sh.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
GRAFT_HOME=$scratch/home
export GRAFT_HOME
mkdir "$scratch/work"
cd "$scratch/work" || exit 1

# chat TEXT WORDS...: graft chat WORDS with that as its input.
chat() {
    text=$1
    shift
    printf '%b' "$text" | "$GRAFT" chat "$@" >"$scratch/out" 2>"$scratch/err"
    status=$?
}
# untouched FILE: it is what `remember` saw.
remember() { cp "$1" "$scratch/before"; }
untouched() { cmp -s "$1" "$scratch/before"; }
# left_alone NAME FILE PATTERN: the last command was refused so, and the file is what it was.
left_alone() {
    check "$1" status_is 1
    check "... with what to do" err_has "$3"
    check "... in one line" err_lines 1
    check "... and the file is what it was" untouched "$2"
}
# holds FILE TEXT: the conversation in it has this message.
holds() { grep -aq "\"content\":\"$2\"" "$1"; }

# ---- a file of one kind is not replaced by another
chat 'Hello!\nWho are you?\n' -n 4 --session talk
remember talk
run run --prompt-cache talk -n 3 -p hi
left_alone "a conversation is no prompt cache" talk "talk: it is a conversation, not a prompt cache: give another file"
run run --raw --session talk -n 3 -p hi
left_alone "--raw on a conversation" talk "it is a conversation, not a text: it goes on without --raw"
head -c 3000 talk >shorter
remember shorter
run run --prompt-cache shorter -n 3 -p hi
left_alone "a conversation that was cut is no prompt cache" shorter "it is a conversation"
run run --raw --session text -n 3 -p "Once upon"
remember text
run run --session text -n 3 -p hi
left_alone "a message to a text" text "it is a text, not a conversation: .graft run --raw. goes on with it"
chat '' --session text
left_alone "a chat on a text" text "it is a text, not a conversation"
run run --prompt-cache text -n 3 -p hi
left_alone "a text is no prompt cache" text "it is a session, not a prompt cache"
run run --prompt-cache cache -n 3 -p "Tell me a story."
remember cache
for words in "run --session cache -p hi" "run --raw --session cache -p hi" "chat --session cache"; do
    # shellcheck disable=SC2086 # words are what is wanted
    run $words
    left_alone "graft $words" cache "it is a prompt cache, not a session: give it to --prompt-cache"
done
echo '{"a":1}' >requests.jsonl
remember requests.jsonl
run run --prompt-cache requests.jsonl -p hi
left_alone "what is no session is no prompt cache" requests.jsonl "it is no prompt cache: give another file"

# ---- /save
for name in save save!; do
    remember requests.jsonl
    chat "/$name requests.jsonl\n"
    left_alone "/$name over what is no session" requests.jsonl "is no saved session: give another file"
done
remember talk
chat '/save talk\n'
left_alone "/save over another session" talk "talk is there and is another session: .*/save! talk. to replace it"
chat 'Hello\n/save own\nAgain\n/save own\n' -n 3
check "/save twice to a file of one's own" status_is 0
check "... has all of it" holds own Again
cp own session
chat 'Third\n/save session\n' -n 3 --session session
check "/save to the file of --session" status_is 0
cp talk other
chat 'Fourth\n/save! other\n/save other\n' -n 3
check "/save! replaces a session" holds other Fourth
check "... which is one's own then" status_is 0
cp talk another
chat 'Fifth\n/save a1\n/save b1\n/save a1\n/save ./b1\n' -n 3
check "/save to two files in turn" status_is 0
check "... both of which are one's own" err_lines 0
ln session alias
chat 'Sixth\n/save alias\n' -n 3 --session session
check "/save to another name of the session's file" holds alias Sixth
check "... ends well" status_is 0
check "... with the session in its own file too" holds session Sixth
chat 'Seventh\n/save ./fresh\n' -n 3 --session fresh
check "/save to the new file of --session, written in another way" status_is 0
check "... is no change by somebody else" test ! -e fresh.2
chat '/help\n'
check "/help tells" out_has "/save! *FILE"

# ---- two programs on one file
# await_text FILE: until there is a line in it, for a minute. It is there, and appended to.
await_text() {
    patience=0
    while [ "$(wc -l <"$1")" -eq 0 ] && [ $patience -lt 1200 ]; do
        sleep 0.05
        patience=$((patience + 1))
    done
}
begin_chat() {
    rm -f input
    mkfifo input
    : >answers
    "$GRAFT" chat "$@" <input >>answers 2>"$scratch/err" &
    pid=$!
    exec 3>input
}
say() {
    : >answers
    echo "$1" >&3
    await_text answers
}
end_chat() {
    exec 3>&-
    wait "$pid"
    status=$?
    cp answers "$scratch/out"
}
chat 'Begin\n' -n 3 --session both
begin_chat -n 3 --session both
say "Of the chat"
run run --session both -n 3 -p "Of the run"
check "a run while a chat has the file" status_is 0
end_chat
check "... and the chat does not replace what it wrote" holds both "Of the run"
check "... but goes elsewhere" holds both.2 "Of the chat"
check "... says where" err_has "both was changed by another program .*: this session is in both.2"
check "... and that it is not what was asked for" status_is 1
begin_chat -n 3 --session both
say "With a copy"
say "/save copy"
run run --session both -n 3 -p "Of another run"
end_chat
check "a chat that has saved a copy" holds copy "With a copy"
check "... has it in a file for --session all the same" holds both.3 "With a copy"
begin_chat -n 3 --session both
say /stats
run run --session both -n 3 -p "One more"
end_chat
check "a chat in which nothing was said is in nobody's way" status_is 0
check "... and leaves nothing" test ! -e both.4
check "... nor replaces anything" holds both "One more"
# the file is replaced by somebody else, behind the last save
# begin_replaced FILE: a chat that has said "Mine", and saved it to FILE, which holds another conversation since.
begin_replaced() {
    begin_chat -n 3 --session "$1"
    say Mine
    say /save
    cp another replacement
    mv replacement "$1"
}
begin_replaced gone
echo /save >&3
end_chat
check "/save writes when the file was replaced since the last one" holds gone.2 Mine
check "... and says where" err_has "gone was changed by another program .*: this session is in gone.2"
check "... in one line" err_lines 1
check "... and the replacement is left" cmp -s gone another
check "... with status 1" status_is 1
begin_replaced lost
end_chat
check "a chat whose file was replaced behind the last save" holds lost.2 Mine
check "... says so at its end" err_has "this session is in lost.2"
check "... with status 1" status_is 1
chat 'Restored\n' -n 3 --session back
begin_chat -n 3 --session back
say /stats
cp another replacement
mv replacement back
end_chat
check "so does a restored one in which nothing was said" holds back.2 Restored
check "... (status)" status_is 1
begin_replaced over
say "/save! over"
check "/save! replaces what took the session's own place" holds over Mine
say Later
end_chat
check "... whose it is again" holds over Later
check "... so that nothing goes elsewhere" test ! -e over.2
check "... and it ends well" status_is 0
for i in 1 2 3 4; do
    "$GRAFT" run --session crowd -n 3 -p "Number $i" >"said$i" 2>&1 &
    eval "run$i=\$!"
done
# shellcheck disable=SC2154 # set above
wait "$run1" "$run2" "$run3" "$run4"
for i in 1 2 3 4; do
    check "of several at once none is lost ($i)" grep -aq "Number $i" crowd*
done

# ---- told to end
# told_twice SIGNALS...: a chat that is told so at once: while it is stopped, which it is when nothing of it runs.
told_twice() {
    rm -f told
    begin_chat -n 3 --session told
    say "Before $*"
    kill -STOP "$pid"
    until grep -q "^State:.[TZ]" "/proc/$pid/status"; do
        sleep 0.05
    done
    for signal in "$@"; do
        kill -"$signal" "$pid"
    done
    kill -CONT "$pid"
    end_chat
}
if [ -d /proc/self ]; then
    told_twice INT TERM
    check "Ctrl-C and SIGTERM end a chat at once" test ! -e told
    check "... (status)" status_is 143
    told_twice HUP TERM
    check "a closed window and SIGTERM are in no hurry" holds told "Before HUP TERM"
    check "... (status)" status_is 143
fi
for signal in 1 15; do
    rm -f told
    begin_chat -n 3 --session told
    say "Before $signal"
    kill -$signal "$pid"
    end_chat
    check "signal $signal ends a chat" status_is $((128 + signal))
    check "... whose conversation is kept" holds told "Before $signal"
done
: >part
(
    trap '' HUP
    exec "$GRAFT" run --temp 0 --ignore-eos -c 100000 -n 3000 -p "Once" >>part 2>/dev/null
) &
pid=$!
await_text part
kill -1 $pid
wait $pid
check "nohup goes on" test $? -eq 0
: >part
"$GRAFT" run --ignore-eos -c 1000000 -p "Once" >>part 2>"$scratch/err" &
pid=$!
await_text part
kill -15 $pid
wait $pid
status=$?
check "SIGTERM ends an answer" status_is 143
check "... as Ctrl-C does" err_has "graft: interrupted"
for i in 1 2 3 4 5 6 7 8; do
    echo "{\"custom_id\":\"r$i\",\"body\":{\"prompt\":\"Once\",\"max_tokens\":$((i * i * i * i))}}"
done >requests.jsonl
: >results.jsonl
"$GRAFT" batch -i requests.jsonl -o results.jsonl --ignore-eos -c 100000 -np 1 >said 2>"$scratch/err" &
pid=$!
await_text results.jsonl
kill -15 $pid
wait $pid
status=$?
check "SIGTERM ends a batch" status_is 143
check "... which keeps what it has" err_has "interrupted: [1-7] of 8 requests have results"

# ---- what is typed to a session that is there
run run --temp 0 -n 24 -p Hello --session typed
remember typed
run run --session typed -n 200 -p "Tell me a story." --temp 0
whole=$(cat "$scratch/out")
cp "$scratch/before" typed
run run --session typed -n 200 -p "Tell me a story." --temp 0 --stop e
check "--stop holds for a session that is there" test "$(cat "$scratch/out")" = "${whole%%e*}"
cp "$scratch/before" typed
run run --session typed -n 200 -p "Tell me a story." --temp 0 --ignore-eos --json
check "... and --ignore-eos" out_has '"finish":"length"'
cp "$scratch/before" typed
run run --session typed -p "Tell me a story." --temp 0 --ignore-eos --special -n 400
check "... and --special" out_has "<|"
cp "$scratch/before" typed
run run --session typed --cache-type-k f32 -n 3 -p hi
left_alone "another type of the cache" typed "of other types.*leave --cache-type out, or give --session-replay"
run run --session typed --cache-type-k f32 --session-replay -n 3 -p hi
check "... or computed again" status_is 0
run run --session typed -n 3 -p hi
check "... which it keeps" status_is 0

# ---- a context that was asked for
chat 'Hello\n' -c 4096 -n 3 --session long
chat '/stats\n' --session long
check "a session goes on with its own context" out_has "of 4096 tokens"
check "... with the warning" err_has "warning: a context of 4096 tokens, but the model was made for 1024"
chat '/stats\n' --session long -c 512
check "... or with what is typed" out_has "of 512 tokens"

# ---- a prompt cache is only a cache
long="Tell me a long story about a cat who lived in a house with a boy, a girl and a dog."
run run --temp 0 -n 8 --json -p "$long"
cold=$(sed 's/.*"prompt_tokens":\([0-9]*\).*/\1/' "$scratch/out")
# computed_again NAME PATTERN WORDS...: with a warning, and the file serves the next.
computed_again() {
    name=$1 pattern=$2
    shift 2
    run run --temp 0 -n 8 --json --prompt-cache spoilt -p "$long" "$@"
    check "$name is computed again" out_has "\"prompt_tokens\":$cold,"
    check "... with a warning" err_has "graft: warning: spoilt: .*$pattern.*computed again, and the file replaced"
    run run --temp 0 -n 8 --json --prompt-cache spoilt -p "$long" "$@"
    check "... and replaced" out_has '"prompt_tokens":1,'
    check "... quietly" err_lines 0
}
: >spoilt
computed_again "an empty cache" "no saved session"
head -c 3000 spoilt >shorter
mv shorter spoilt
computed_again "a cache that was cut" "damaged"
head -c 200 spoilt >shorter
mv shorter spoilt
computed_again "a cache of which little is left" "damaged"
computed_again "a cache of other adapters" "no adapter" -a coder
run quantize -o other.gguf --type q8_0
run run -m other.gguf -n 2 --prompt-cache spoilt -p "$long"
run run --temp 0 -n 8 --json --prompt-cache spoilt -p "$long"
check "a cache of another model is computed again" out_has "\"prompt_tokens\":$cold,"
check "... with a warning" err_has "other weights.*computed again"
run run -c 200 -n 2 --prompt-cache spoilt -p "$long" --cache-type-k q8
run run --temp 0 -n 1000 --ignore-eos --json --prompt-cache spoilt -p "$long"
check "a cache says nothing of the context" out_has "\"tokens\":[89]..,"

# ---- what can be known at the beginning
mkdir dir
for words in "run --json-schema dir -p x" "run --grammar-file dir -p x" "chat --session dir" "run --prompt-cache dir -p x"; do
    # shellcheck disable=SC2086 # words are what is wanted
    run $words
    refused "graft $words" 1 "graft: dir: cannot open: it is a directory"
done
run run --model-draft dir -p x
refused "a draft model that is none" 1 "graft: dir: the directory has no model"
for where in nowhere/x /proc/x; do
    [ -d /proc ] || continue
    run run --session $where -n 3 -p x
    refused "a session that cannot be saved is not begun ($where)" 1 "$where: cannot create"
done
run run --model-draft ngram --draft-store nowhere/x -p x
refused "a store of drafts that cannot be" 1 "nowhere/x: cannot be made a folder of drafts: No such file"
run run --model-draft ngram --draft-store drafts -n 40 -p "Once"
for file in drafts/*; do
    echo damaged >"$file"
done
run run --model-draft ngram --draft-store drafts -n 3 -p "Once"
check "a store of drafts that is damaged is named" err_has "warning: .*drafts/[0-9a-f]*.ngrams: it is no store"
unwritable=$(find /sys/kernel -maxdepth 1 -type f 2>/dev/null | head -n 1) # no file can be made beside it
if [ -n "$unwritable" ]; then
    for file in drafts/*.ngrams; do
        mkdir -p "refusing/${file##*/}"
    done
    ln -s "$unwritable" refusing/trial
    run run --model-draft ngram --draft-store refusing -n 3 -p "Once"
    check "a folder that takes no drafts" err_has "refusing: drafts will not be kept there"
    check "... is said besides what cannot be read in it" err_has "a store of drafts cannot be read: refusing/"
    check "... and that alone" err_lines 2
fi
if [ -d /proc/self ]; then
    run run --model-draft ngram --draft-store /proc/self -n 40 -p "Once"
    check "a folder that takes no drafts" err_has "/proc/self: drafts will not be kept there"
    check "... is said once" err_lines 1
fi

# ---- a disk that is full
(
    ulimit -f 8
    "$GRAFT" run --session full -n 3 -p "Tell me a story about a cat." >said 2>refusal
    echo $? >code
)
check "a file that may not grow" test "$(cat code)" -eq 1
check "... is one line" grep -q "^graft: full: cannot write: File too large$" refusal
check "... and nothing is left of it" test "$(find . -name 'full*' | wc -l)" -eq 0

# ---- the speed has a line of its own
"$GRAFT" run -v --raw --temp 0 -n 8 -p "In summer" >said 2>&1
check "the speed begins a line where both go into one file" grep -q "^\[2 tokens read" said
"$GRAFT" run --raw --temp 0 -n 8 -p "In summer" >said 2>&1
check "... and without it nothing is added" test "$(tail -c 1 said | tr '\n' x)" != x

finish
