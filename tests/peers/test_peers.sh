#!/bin/sh
# test_peers.sh: files that graft writes mean the same to llama.cpp: token ids, greedy text and
# distributions (compare.mjs says how and within which bounds). PEER is a folder where package.json was
# installed (`./dev peers` does it); without it the test is skipped. GRAFT (the program), MODELS (the
# program peer_models) and SOURCE are set by the caller. PEER_ONLY: a regular expression; only cases so named.
# shellcheck source=tests/cli/lib.sh disable=SC2153
. "$SOURCE/tests/cli/lib.sh"

if [ ! -d "${PEER:-}/node_modules/node-llama-cpp" ]; then
    echo "[  SKIPPED ] test_peers: llama.cpp is not installed (./dev peers installs it)"
    exit 77
fi
cp "$SOURCE/tests/peers/compare.mjs" "$PEER/compare.mjs"

# add SOURCE NAME TYPES N PROMPT...: converts and appends a case per type to the job.
: >"$scratch/cases"
add() {
    source=$1 label=$2 types=$3 count=$4
    shift 4
    prompts=
    for prompt in "$@"; do prompts=$prompts${prompts:+,}\"$prompt\"; done
    for type in $types; do
        echo "$label $type" | grep -Eq "${PEER_ONLY:-.}" || continue
        file=$scratch/$label-$type.gguf
        run quantize -q -m "$source" -o "$file" --type "$type"
        check "$label to $type" status_is 0
        case $type in f32 | f16) class=plain ;; bf16) class=bf16 ;; *) class=quantised ;; esac
        printf '{"name":"%s","model":"%s","tokens":%s,"class":"%s","prompts":[%s]}\n' \
            "$label $type" "$file" "$count" "$class" "$prompts" >>"$scratch/cases"
    done
}

# add_adapter NAME VARIANT: llama.cpp with the GGUF that graft made of a PEFT adapter, against graft with that adapter.
add_adapter() {
    echo "$1 $2 adapter" | grep -Eq "${PEER_ONLY:-.}" || return
    file=$scratch/$1-adapted.gguf lora=$scratch/$1-$2.lora.gguf
    [ -f "$file" ] || run quantize -q -m "$scratch/random/$1" -o "$file" --type f32
    run adapter convert "$scratch/random/$1.$2" -q -m "$scratch/random/$1" -o "$lora"
    check "$2 for $1 to GGUF" status_is 0
    printf '{"name":"%s","model":"%s","tokens":16,"class":"plain","prompts":["%s"],"adapter":"%s","lora":"%s"}\n' \
        "$1 $2 adapter" "$file" 'Once upon a time, there was' "$scratch/random/$1.$2" "$lora" >>"$scratch/cases"
}

everything='f32 bf16 f16 q8_0 q6_k q5_k_m q5_k_s q4_k_m q4_k_s q3_k_m q3_k_s q2_k q5_0 q5_1 q4_0 q4_1'
tiny=$SOURCE/models/tiny
if [ -f "$tiny/model.safetensors" ]; then
    add "$tiny" tiny "$everything" 32 'Once upon a time' 'def add(a, b):' 'Mara lives in Oakford. She'
    "$MODELS" "$scratch/random" "$tiny" >"$scratch/names"
    while read -r base; do
        add "$scratch/random/$base" "$base" 'f32 q8_0' 16 'Once upon a time, there was' 'int main(void)'
        case $base in llama | mistral | qwen2 | qwen3)
            for variant in lora-all rslora patterns; do add_adapter "$base" "$variant"; done
            ;;
        esac
    done <"$scratch/names"
else
    skip "models/tiny is not there"
fi
# A random model that `graft bench model` keeps, made-up vocabulary included.
for type in f32 q8_0 q4_k_m; do
    echo "bench $type" | grep -Eq "${PEER_ONLY:-.}" || continue
    run bench model --shape mini --type "$type" -o "$scratch/bench-$type.gguf"
    check "bench model of type $type" status_is 0
    case $type in f32) class=plain ;; *) class=quantised ;; esac
    printf '{"name":"bench mini %s","model":"%s","tokens":16,"class":"%s","prompts":["%s"]}\n' \
        "$type" "$scratch/bench-$type.gguf" "$class" 'Once upon a time, there was' >>"$scratch/cases"
done
if [ -d "$shared/models/stories260K" ]; then
    add "$shared/models/stories260K" stories260K 'f32 f16 q8_0 q4_k_m' 48 \
        'Lily and Ben went to the park' 'One day, a dog'
    add "$shared/models/stories260K/stories260K.gguf" stories260K-gguf 'f32 q8_0' 48 'One day, a dog'
else
    skip "../shared is not there"
fi
printf '{"graft":"%s","cases":[%s]}\n' "$GRAFT" "$(paste -sd, "$scratch/cases")" >"$scratch/job.json"
node "$PEER/compare.mjs" "$scratch/job.json" >"$scratch/report" 2>&1
compared=$?
cat "$scratch/report"
cp "$scratch/report" "$scratch/out"
check "llama.cpp agrees" test "$compared" -eq 0
finish
