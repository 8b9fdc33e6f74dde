# batch_lib.sh: what the tests of `graft batch` say beside lib.sh, which this sources. They work in $scratch, with an empty home, on
# models/tiny; where that is not there they end here.
# shellcheck shell=sh
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
GRAFT_HOME=$scratch/home
export GRAFT_HOME
cd "$scratch" || exit 1

# value KEY: of the summary, a number.
value() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$scratch/out"; }
# result ID: its line. text ID: the answer, as JSON.
result() { grep "\"custom_id\":\"$1\"" results.jsonl; }
text() { result "$1" | sed -n 's/.*"content":\(".*"\),"refusal".*/\1/p; s/.*"text":\(".*"\),"logprobs".*/\1/p'; }
# alone WORDS...: what `graft run` answers, as JSON.
alone() { "$GRAFT" run --json "$@" 2>"$scratch/err" | sed -n 's/.*"text":\(".*"\),"finish".*/\1/p'; }
# code ID CODE PATTERN: how a line failed.
code() {
    result "$1" >"$scratch/out"
    check "$1 is refused: $2" out_has "\"response\":null,\"error\":{\"code\":\"$2\",\"message\":\"[^}]*$3"
}
# without what differs from run to run
sorted() { sed 's/"created":[0-9]*,//; s/"cached_tokens":[0-9]*//' "$1" | sort; }
same_results() { [ "$(sorted "$1")" = "$(sorted "$2")" ]; }
