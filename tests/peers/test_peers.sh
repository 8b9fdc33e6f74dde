#!/bin/sh
# test_peers.sh: files that graft writes mean the same to llama.cpp: equal token ids for the prompts and
# equal greedy text. PEER is a folder where package.json was installed (`./dev peers` does it); without
# it the test is skipped. GRAFT and SOURCE are set by the caller.
. "$SOURCE/tests/cli/lib.sh"

if [ ! -d "${PEER:-}/node_modules/node-llama-cpp" ]; then
    skip "the peer is not installed (./dev peers installs it)"
    finish
    exit $?
fi
cp "$SOURCE/tests/peers/greedy.mjs" "$PEER/greedy.mjs"

# ids FILE: the list in {"ids":[…]} or in the records of `run --json`, comma-separated.
listed_ids() { sed -n 's/.*"ids":\[\([0-9,]*\)\].*/\1/p' "$1"; }
record_ids() { grep -o '"id":[0-9]*,"text"' "$1" | sed 's/[^0-9]//g' | paste -sd, -; }

# same MODEL.gguf PROMPT N NAME
same() {
    "$GRAFT" tokenize -m "$1" -p "$2" --json >"$scratch/out" 2>"$scratch/err"
    ours=$(listed_ids "$scratch/out")
    node "$PEER/greedy.mjs" "$1" tokenize "$2" >"$scratch/peer" 2>>"$scratch/err"
    check "$4: token ids of \"$2\"" test "$ours" = "$(listed_ids "$scratch/peer")"
    run run --raw -m "$1" -p "$2" -n "$3" --temp 0 --json --logprobs 0 --ignore-eos
    bos=$("$GRAFT" tokenize -m "$1" -p "$2" --bos --json | sed -n 's/.*\[\([0-9]*\),.*/\1/p')
    first=${ours%%,*}
    prompt=$ours
    [ "$(adds_bos "$1")" = true ] && [ "$bos" != "$first" ] && prompt=$bos,$ours
    node "$PEER/greedy.mjs" "$1" "$3" "$prompt" >"$scratch/peer" 2>>"$scratch/err"
    theirs=$(listed_ids "$scratch/peer")
    ours=$(record_ids "$scratch/out")
    case $ours in
    "$theirs"*) pass ;;
    *)
        fail "$4: greedy text after \"$2\""
        echo "    graft: $ours"
        echo "    peer:  $theirs"
        ;;
    esac
}

adds_bos() { "$GRAFT" inspect "$1" --json | sed -n 's/.*"adds_bos": \([a-z]*\).*/\1/p'; }

# convert SOURCE TYPE: writes $scratch/peer.gguf
convert() {
    run quantize -m "$1" -o "$scratch/peer.gguf" --type "$2"
    check "$(basename "$1") to $2" status_is 0
}

tiny=$SOURCE/models/tiny
if [ -f "$tiny/model.safetensors" ]; then
    for type in f32 bf16 f16 q8_0 q6_k q5_k_m q4_k_m q5_0 q5_1 q4_0 q4_1; do
        convert "$tiny" "$type"
        same "$scratch/peer.gguf" "Once upon a time" 24 "tiny $type"
        same "$scratch/peer.gguf" "def add(a, b):" 24 "tiny $type"
    done
else
    skip "models/tiny is not there"
fi
if [ -d "$shared/models/stories260K" ]; then
    for type in f32 f16 q8_0; do
        convert "$shared/models/stories260K" "$type"
        same "$scratch/peer.gguf" "Lily and Ben went to the park" 48 "stories260K $type"
    done
else
    skip "../shared is not there"
fi
finish
