#!/bin/sh
# test_docs.sh: what the documents tell people to type works: the examples of every --help, of README.md and of
# the manual; the completion offers what there is. Run on models/tiny under the names that they use.
# GRAFT, SOURCE and MODELS (a program that writes a classifier) are set by ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
verbs='run chat batch classify perplexity logits tokenize detokenize inspect quantize merge fuse eval version'
GRAFT_HOME=$scratch/home
export GRAFT_HOME

mkdir "$scratch/bin"
ln -s "$GRAFT" "$scratch/bin/graft"
PATH=$scratch/bin:$PATH
hub=$scratch/hf/hub/models--Qwen--Qwen2.5-0.5B-Instruct
mkdir -p "$hub/refs" "$hub/snapshots"
printf abc >"$hub/refs/main"
ln -s "$tiny" "$hub/snapshots/abc"
HF_HOME=$scratch/hf
export PATH HF_HOME
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE
graft quantize -o "$scratch/tiny.gguf" --type bf16
"$MODELS" "$scratch/models" "$tiny" classifier >/dev/null 2>&1
for kind in adapter adapter-2 adapter-3; do
    "$MODELS" "$scratch/models" "$tiny" $kind >/dev/null 2>&1
done

printf '{"prompt":"Write code, %s.","adapter":"coder"}\n{"prompt":"Hello %s!","adapter":"base"}\n' 1 2 3 4 >"$scratch/prompts"
graft router train -o "$scratch/my-router" "$scratch/prompts" >/dev/null

# The adapters that examples name, in the home: to be added, to be put into slots, or in all of them.
prepare_home() {
    rm -rf "$GRAFT_HOME"
    case $1 in
    *"adapter new"* | *"adapter add"*) return ;;
    esac
    graft adapter add ADAPTER --name coder >/dev/null
    graft adapter add third --name security >/dev/null
    graft adapter add other --name coder --adapter-version 1.1.0 >/dev/null
    case $1 in
    *"adapter promote"* | *"adapter rollback"* | *"adapter remove"* | *"adapter activate"* | *"adapter list"*)
        graft adapter publish coder@1.1.0 >/dev/null
        graft adapter add third --name coder --adapter-version 1.2.0 --stage >/dev/null
        ;;
    *"adapter unpin"*) graft adapter pin coder >/dev/null ;;
    esac
}

# A folder with the files that examples name. DIR: a model, a classifier, or what is to be written.
prepare() {
    rm -rf "$scratch/work"
    mkdir "$scratch/work"
    cd "$scratch/work" || exit 1
    case $1 in
    *"quantize "*"-o DIR"*) ;;
    *"classify "*) ln -s "$scratch/models/classifier" DIR ;;
    *) ln -s "$tiny" DIR ;;
    esac
    ln -s "$scratch/models/adapter" ADAPTER
    ln -s "$scratch/models/adapter-2" other
    ln -s "$scratch/models/adapter-3" third
    case $1 in
    *"adapter new"*) ;;
    *)
        ln -s "$scratch/models/adapter" my-coder
        ln -s "$scratch/models/adapter-2" my-coder-2
        ln -s "$scratch/models/adapter-2" my-tone
        mkdir my-adapters
        ln -s ../third my-adapters/third
        ;;
    esac
    printf '{"prompt":"Who is %s?","completion":"A cat."}\n' Tom Mia Leo Ann >train.jsonl
    printf '{"prompt":"What is 2 + 2?","completion":"We add. #### 4"}\n' >held-out.jsonl
    printf '{"prompt":"What is %s + 2?","completion":"We add. #### %s","quality":0.9}\n' 1 3 3 5 4 6 >ratings.jsonl
    printf '{"input":[1,0.5,%s],"target":[0.5,1,0]}\n' 0 1 2 3 4 5 >vectors.jsonl
    printf '{"text":"The cat sat on the mat."}\n' >other.jsonl
    printf '{"custom_id":"%s","body":{"prompt":"Once upon a time","max_tokens":4}}\n' 1 2 3 >requests.jsonl
    printf '{"prompt":"Write code, %s.","adapter":"coder"}\n{"prompt":"Hello %s!","adapter":"base"}\n' 1 2 3 4 5 6 7 8 9 0 >prompts.jsonl
    cp prompts.jsonl held-out-prompts.jsonl
    cp "$scratch/my-router" my-router
    ln -s "$scratch/models/adapter-3" mine
    printf 'merge_method: ties\nmodels: [./ADAPTER, {model: ./other, weight: 0.5}]\n' >merge.yml
    mkdir -p build/skills/reviewer
    cp train.jsonl build/skills/reviewer/train.jsonl
    cp train.jsonl build/skills/reviewer/test.jsonl
    case $1 in
    *"-o build/my-reviewer"*) ;;
    *) ln -s "$scratch/models/adapter" build/my-reviewer ;;
    esac
    cp "$scratch/tiny.gguf" model.gguf
    ln model.gguf vocab.gguf
    ln model.gguf qwen.gguf
    echo "Why is the sky blue?" >question.txt
    printf 'I loved it\nI did not\n' >reviews.txt
    printf 'Once upon a time there was a cat. The cat was happy. %s\n' 1 2 3 4 5 6 7 8 >book.txt
    prepare_home "$1"
}

# example WHERE COMMAND: it succeeds, and prints or writes something. (Ids are those of a vocabulary larger
# than tiny's.)
example() {
    command=$(printf '%s\n' "$2" | sed 's/9707,1879/97,79/')
    prepare "$command"
    find . -type f -o -type l | sort >"$scratch/before"
    sh -c "$command" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    find . -type f -o -type l | sort >"$scratch/after"
    check "$1: $2" status_is 0
    case $command in
    "graft chat"*) ;; # with nothing said to it, it says nothing
    *" -o qwen.gguf"* | *" -o model.gguf"*)
        written=${command##* -o }
        check "... writes another model" differs "${written%% *}" "$scratch/tiny.gguf"
        ;;
    *) check "... to some effect: $2" effect ;;
    esac
}
effect() { [ -s "$scratch/out" ] || ! cmp -s "$scratch/before" "$scratch/after"; }
differs() { [ -s "$1" ] && ! cmp -s "$1" "$2"; }

each_example() { # WHERE, commands on stdin
    count=0
    while read -r line; do
        [ -n "$line" ] || continue
        count=$((count + 1))
        example "$1" "$line"
    done
}

adapter_verbs=$(graft adapter --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/adapter_\1/p')
check "there are verbs of adapters" test "$(echo "$adapter_verbs" | wc -w)" -ge 15
data_verbs=$(graft data --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/data_\1/p')
check "there are verbs of data" test "$(echo "$data_verbs" | wc -w)" -ge 1
router_verbs=$(graft router --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/router_\1/p')
check "there are verbs of routers" test "$(echo "$router_verbs" | wc -w)" -eq 4
for name in $verbs $adapter_verbs $data_verbs $router_verbs; do
    verb=$(echo "$name" | tr _ ' ')
    # shellcheck disable=SC2086 # a verb may be two words
    graft $verb --help | sed -n '/^Example/,$s/^  \(.*graft .*\)/\1/p' >"$scratch/examples"
    check "$verb --help has examples" test -s "$scratch/examples"
    each_example "$verb --help" <"$scratch/examples"
done
graft --help | sed -n '/^Examples:/,$s/^  \(graft .*\)/\1/p' | sed 's/   .*//' >"$scratch/examples"
each_example "graft --help" <"$scratch/examples"
check "graft --help has three" test "$count" -eq 3
# What stands between ```sh and ``` runs as it stands, one line after the other, in a checkout. ./dev builds, and python3
# makes data: both are left out. A place like a checkout, with little data in the places of much:
prepare_checkout() {
    rm -rf "$scratch/work" "$GRAFT_HOME"
    mkdir -p "$scratch/work/build/skills/reviewer"
    cd "$scratch/work" || exit 1
    ln -s "$SOURCE/models" "$SOURCE/examples" "$SOURCE/tests" "$SOURCE/tools" .
    ln -s "$GRAFT" build/graft
    cp examples/data/questions.jsonl build/skills/reviewer/train.jsonl
    cp examples/data/held-out.jsonl build/skills/reviewer/test.jsonl
}
# shellcheck disable=SC2016 # backquotes of a document
blocks() { sed -n '/^```sh$/,/^```$/p' "$1" | grep -v '^```\|^\./dev \|^python3 \|bench decode'; }
runs_as_it_stands() { # FILE
    prepare_checkout
    blocks "$1" >"$scratch/script"
    HOME=$scratch sh -e "$scratch/script" >"$scratch/out" 2>"$scratch/err" </dev/null
}
for document in "$SOURCE/README.md" "$SOURCE"/docs/*.md; do
    grep -q '^```sh$' "$document" || continue
    check "the commands of $(basename "$document") run as they stand" runs_as_it_stands "$document"
done
check "... of README.md nine and ten" test "$(grep -c '^build/graft ' "$SOURCE/README.md")" -eq 19
prepare_checkout
# shellcheck disable=SC2013 # words are what is wanted
for file in $(grep -ho 'examples/[a-z0-9_/.-]*\.[a-z]*' "$SOURCE/README.md" "$SOURCE"/docs/*.md | sort -u); do
    check "$file, which the documents name, is there" test -e "$file"
done
sed -n 's/^\.Dl \(graft .*\)/\1/p' "$SOURCE/docs/man/graft.1" | sed 's/\\(dq/"/g' |
    grep -v '^graft bench' >"$scratch/examples"
each_example "man graft" <"$scratch/examples"
check "the manual has some" test "$count" -ge 4
cd / || exit 1

# ---- the manual has every verb and option, the completion offers them
graft --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p' >"$scratch/verbs"
check "graft --help lists the verbs" test "$(wc -l <"$scratch/verbs")" -ge 10
while read -r verb; do
    check "the manual has $verb" grep -q "^\.It Ic .*\b$verb\b" "$SOURCE/docs/man/graft.1"
done <"$scratch/verbs"

# offered WORDS...: what bash offers for the last of them.
offered() {
    # shellcheck disable=SC2016 # for bash
    bash -c '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _graft; printf "%s\n" "${COMPREPLY[@]}"' \
        "$SOURCE/completions/graft.bash" "$@" >"$scratch/out" 2>"$scratch/err"
}
if command -v bash >/dev/null 2>&1; then
    offered graft ""
    check "completion of verbs" test "$(grep -c -x -f "$scratch/verbs" "$scratch/out")" -eq \
        "$(wc -l <"$scratch/verbs")"
    offered graft detok
    check "completion of a verb" out_is detokenize
    offered graft help log
    check "completion of help" out_is logits
    offered graft run --tem
    check "completion of options" out_is "--temp
--temperature"
    offered graft run --cache-type-k q
    check "completion of cache types" out_is q8
    offered graft batch --max
    check "completion of options of batch" out_is "--max-streams
--max-tokens"
    offered graft batch --adapter-type i
    check "completion of types of adapters" out_is int8
    offered graft quantize --format h
    check "completion of formats" out_is hf
    offered graft adapter con
    check "completion of an adapter's verb" out_is convert
    offered graft adapter new --pres
    check "completion of its options" out_is "--preset
--presets"
    offered graft router ro
    check "completion of a verb of routers" out_is route
    offered graft data ch
    check "completion of a verb of data" out_is check
    offered graft data check --loss comp
    check "completion of losses" out_is completion
    offered graft eval --part v
    check "completion of parts" out_is valid
    offered graft adapter convert --format m
    check "completion of its formats" out_is mlx
    offered graft bench ""
    check "completion of benches" test "$(sort "$scratch/out")" = \
        "$(graft bench --help | sed -n '/^Benches:/,/^$/s/^  \([a-z]*\)  .*/\1/p' | sort)"
    check "... all of them" test "$(wc -l <"$scratch/out")" -eq 16
    offered graft bench spec
    check "completion of a bench" out_is speculative
    offered graft run --model-draft ng
    check "completion of drafts: the text" out_is ngram
    offered graft batch --model-draft tiny-
    check "... a model that ships" out_is tiny-draft
    offered graft bench speculative --model-draft "$scratch/tiny.g"
    check "... and a file" out_is "$scratch/tiny.gguf"
    offered graft run -m tiny-
    check "completion of models" out_is tiny-draft
    offered graft quantize --type ""
    graft quantize -m "$tiny" -o "$scratch/x" --type none 2>"$scratch/err"
    types=$(sed 's/.*known are //; s/, /\n/g' "$scratch/err" | sort)
    check "completion offers every type" test "$(sort "$scratch/out")" = "$types"
else
    skip "no bash: completion"
fi

# ---- what --json prints is what docs/cli.md says
# keys VERB NAMES: the top-level keys of the last object are these.
keys() {
    for key in $2; do
        check "$1 --json has $key" out_has "[{,]\"$key\":"
        check "docs/cli.md has $key of $1" documented "$1" "$key"
    done
}
documented() { sed -n "/^## .*$1/,/^## /p" "$SOURCE/docs/cli.md" | grep -q "\b$2\b"; }
run run --json -p Hello -n 2 --logprobs 1
keys run "text finish prompt_tokens tokens logprob prompt_seconds seconds seed records id top"
run perplexity --json -p "Once upon a time."
keys perplexity "perplexity error nll bits_per_byte tokens windows"
run classify --json -p "good" -m "$scratch/models/classifier"
keys classify "label classes probability score"
run logits --json --tokens 1,2
keys logits "top id text logit"
run logits --json --tokens 1,2 --out "$scratch/x.npy"
keys logits "output shape"
printf '{"prompt":"Who is Tom?","completion":"A cat."}\n' >"$scratch/train.jsonl"
run data check "$scratch/train.jsonl" --json --save "$scratch/train.tokens"
for key in files loss template max_seq_length records formats examples tokens learned packed_rows dropped below_quality \
    truncated tokens_cut divided reopened longest histogram tasks domains digest usable issues preview output; do
    check "data check --json has $key" out_has "[{,]\"$key\":"
    check "docs/training-data.md has $key" grep -q "\b$key\b" "$SOURCE/docs/training-data.md"
done
printf '{"custom_id":"1","body":{"prompt":"Hello","max_tokens":2}}\n' >"$scratch/requests.jsonl"
run batch -i "$scratch/requests.jsonl" -o "$scratch/results.jsonl" --json --model-draft ngram
keys batch "output requests done failed remaining answered cut_off interrupted prompt_tokens cached_tokens tokens seconds adapters_opened adapter_bytes drafts passes drafted accepted"
# shellcheck disable=SC2013 # words are what is wanted
for field in $(sed -n 's/^    {"\([a-z_]*\)", \(CHAT\|COMPLETION\|BOTH\), .*/\1/p' "$SOURCE/src/cli/batch_request.c"); do
    check "docs/engine.md has $field" grep -q "\b$field\b" "$SOURCE/docs/engine.md"
done
run eval "$scratch/train.jsonl" --regex cat --max-tokens 2 --json
keys eval "model pattern max_tokens interrupted files results"
for key in file part records dropped truncated available examples tokens learned questions matched adapter loss \
    perplexity exact regex value error change change_error best; do
    check "eval --json has $key" out_has "[{,]\"$key\":"
    check "docs/evaluate.md has $key" grep -q "\b$key\b" "$SOURCE/docs/evaluate.md"
done
run quantize --json -o "$scratch/y.gguf"
keys quantize "output format type"
run version --json
keys version "version compiler processor tier tiers cores threads"

finish
