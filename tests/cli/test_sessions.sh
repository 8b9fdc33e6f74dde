#!/bin/sh
# test_sessions.sh: --session and --prompt-cache: conversations that outlive the command, and prompts that are read once.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
GRAFT_HOME=$scratch/home
export GRAFT_HOME
kept=$scratch/talk.session

# read_tokens: how many tokens of the prompt the last --json run had to compute.
read_tokens() { sed -n 's/.*"prompt_tokens":\([0-9]*\).*/\1/p' "$scratch/out"; }
answer() { sed -n 's/^{"text":"\(.*\)","finish".*/\1/p' "$scratch/out"; }

# ---- a conversation over several commands is the conversation of one
printf 'Who is Tom?\nTell me a story about a cat.\nGo on.\n' >"$scratch/turns"
run_chat() { "$GRAFT" chat "$@" >"$scratch/out" 2>"$scratch/err"; }
run_chat -s 3 -n 16 <"$scratch/turns"
cp "$scratch/out" "$scratch/whole"
: >"$scratch/pieces"
while read -r turn; do
    # The seed is the session's, once it is there.
    if [ -f "$kept" ]; then set --; else set -- -s 3; fi
    echo "$turn" | run_chat "$@" -n 16 --session "$kept"
    cat "$scratch/out" >>"$scratch/pieces"
done <"$scratch/turns"
check "three chats in a file are one chat" cmp -s "$scratch/whole" "$scratch/pieces"
check "the file is there, and nothing beside it" test "$(find "$scratch" -name 'talk.session*' | wc -l)" -eq 1

run run --session "$kept" --json -n 16 -p "And then?"
check "run goes on with a chat" status_is 0
run chat --session "$kept"
check "a chat in which nothing is said keeps it" status_is 0
cp "$kept" "$scratch/before"
run run --session "$kept" --json -n 8 --temp 0 -p "Who is Mia?"
first=$(answer)
run run --session "$scratch/before" --json -n 8 --temp 0 -p "Who is Mia?"
check "a copy of a session says the same" test -n "$first" -a "$(answer)" = "$first"

rm -f "$kept"
run run --session "$kept" --system-prompt "Be brief." --json -n 4 -p "Hello"
check "a session begins with a system prompt" status_is 0
run run --session "$kept" --system-prompt "Be long." -p "Hello"
refused "... and keeps it" 1 "keeps its system prompt"
check "... which is written at the end" test -s "$kept"
run run --session "$kept" --json -n 4 -p "Hello again"
check "of the second turn only what is new" test "$(read_tokens)" -lt 25

# ---- /save
printf 'Hello\n/save %s/other.session\n' "$scratch" | run_chat -n 4
check "/save writes the session" test -s "$scratch/other.session"
check "... and says so" out_has "(saved: "
echo /save | run_chat
check "/save without a file" err_has "wants a file"
echo "How are you?" | run_chat -n 4 --session "$scratch/other.session"
check "what /save wrote goes on" test -s "$scratch/out"

# ---- texts
rm -f "$kept"
run run --raw --temp 0 --ignore-eos -n 12 -p "Once upon a time there was"
cp "$scratch/out" "$scratch/whole"
run run --raw --temp 0 --ignore-eos -n 12 -p "Once upon" --session "$kept" --json
run run --raw --temp 0 -n 4 -p " there was" --session "$kept" --json
check "--raw goes on behind the answer" test "$(read_tokens)" -le 6

# ---- what a session goes with
rm -f "$kept"
run run -a coder --session "$kept" -n 4 -p "Write a test."
check "a session with an adapter" status_is 0
run run --session "$kept" -n 4 -p "Write a test."
refused "... is refused without it" 1 "saved with the adapters coder=1 (mix "
check "... with what to do" err_has "give the same -m and -a"
run run --session "$kept" --session-replay -n 4 -p "Write a test."
check "... or computed again" status_is 0
run run -m "$scratch/none" --session "$kept" -p x
check "no model" status_is 1
printf 'no session\n' >"$scratch/text"
run run --session "$scratch/text" -p x
refused "what is no session" 1 "text: it is no saved session"
head -c 1000 "$scratch/before" >"$scratch/cut"
run run --session "$scratch/cut" -p x
refused "a session that was cut" 1 "is damaged"
run run --session "$tiny/model.safetensors" -p x
refused "a model's file" 1 "no saved session"
run run --session "$scratch/nowhere/x" -n 2 -p x
check "a folder that is not there" err_has "nowhere"
run run --session-replay -p x
refused "--session-replay alone" 2 "needs --session"
run run --session a --prompt-cache b -p x
refused "both kinds of files" 2 "single prompts"

# ---- a cache of a prompt
cache=$scratch/story.cache
long="Tell me a long story about a cat who lived in a house with a boy, a girl, a dog and a big red ball."
run run --temp 0 -n 12 --json -p "$long"
whole=$(answer)
cold=$(read_tokens)
run run --temp 0 -n 12 --json --prompt-cache "$cache" -p "$long"
check "a cache of a prompt changes nothing" test "$(answer)" = "$whole"
run run --temp 0 -n 12 --json --prompt-cache "$cache" -p "$long" --stop "~never~"
check "... when it is read either" test "$(answer)" = "$whole"
check "... and one token is computed" test "$(read_tokens)" -eq 1
run run --temp 0 -n 12 --json --prompt-cache "$cache" -p "$long And why?"
check "a longer prompt is computed from there on" test "$(read_tokens)" -lt "$((cold / 2))"
warm=$(answer)
run run --temp 0 -n 12 --json -p "$long And why?"
check "... and answered as without" test "$(answer)" = "$warm"
run run --temp 0 -n 12 --json -a coder -p "$long"
coder=$(answer)
run run --temp 0 -n 12 --json -a coder --prompt-cache "$cache" -p "$long"
check "under another adapter it is computed again" test "$(answer)" = "$coder"

finish
