#!/bin/sh
# test_learn.sh: graft adapter learn: what it refuses, that good feedback becomes the next version and poison does not, and
# that nothing but the registry changes. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/adapter_lib.sh"

GRAFT_HOME=$scratch/home
TMPDIR=$scratch/tmp
export GRAFT_HOME TMPDIR
mkdir "$TMPDIR"
ratings=$scratch/ratings.jsonl held=$scratch/held.jsonl

learn() { run adapter learn coder --feedback "$ratings" --held-out "$held" "$@"; }

# ---- wrong use: nothing is opened
wrong "which adapter" learn --feedback "$ratings" --held-out "$held"
wrong "\-\-feedback FILE" learn coder --held-out "$held"
wrong "\-\-held-out FILE" learn coder --feedback "$ratings"
wrong "is no name" learn ./coder --feedback "$ratings" --held-out "$held"
wrong "give the name alone" learn coder@1.0.0 --feedback "$ratings" --held-out "$held"
wrong "rank" learn coder --feedback "$ratings" --held-out "$held" --rank 3
wrong "buffer" learn coder --feedback "$ratings" --held-out "$held" --buffer 0
wrong "min-quality" learn coder --feedback "$ratings" --held-out "$held" --min-quality 2
wrong "the list is empty" learn coder --feedback "$ratings" --held-out "$held" --targets ,
check "wrong use makes no home" test ! -e "$GRAFT_HOME"

if [ ! -f "$SOURCE/models/adapters/coder/adapter_config.json" ]; then
    skip "models/adapters is not there"
    finish
    exit
fi

# The coder learns to speak like the security adapter.
skill=$SOURCE/tests/cli/skills/security.jsonl
head -n 16 "$skill" | sed 's/}$/, "quality": 0.9, "session": "s1"}/' >"$ratings"
tail -n 8 "$skill" >"$held"
learn
refused "a name that is not registered" 1 "graft adapter add .*models/adapters/coder --name coder"
run adapter add "$SOURCE/models/adapters/coder" --name coder
before=$(find "$GRAFT_HOME" -type f | sort | xargs cksum)

# ---- hostile words: one clear line, and nothing changes
unchanged() { [ "$before" = "$(find "$GRAFT_HOME" -type f | sort | xargs cksum)" ]; }
hostile() { # NAME PATTERN, feedback on stdin
    cat >"$scratch/hostile.jsonl"
    run adapter learn coder --feedback "$scratch/hostile.jsonl" --held-out "$held"
    check "$1" status_is 1
    check "... and says $2" err_has "$2"
    check "... and that nothing is left" err_has "there is no feedback to learn from"
    check "... in two lines" err_lines 2
    check "... $1 changes nothing" unchanged
}
echo '{"text": "a", "quality": NaN}' | hostile "a quality that is none" "it is not JSON"
echo '{"text": "a", "quality": 1.5}' | hostile "a quality above 1" "is no number from 0 to 1"
echo '{"text": "a", "reward": "good"}' | hostile "a reward in words" '"reward" is no number'
echo '{"text": "a"}' | hostile "no verdict" 'neither "quality" nor "reward"'
echo '{"says": "a", "quality": 1}' | hostile "unknown members" "its members are says, quality"
: >"$scratch/empty.jsonl"
run adapter learn coder --feedback "$scratch/empty.jsonl" --held-out "$held"
refused "an empty file" 1 "there is no feedback to learn from"
run adapter learn coder --feedback "$scratch/none.jsonl" --held-out "$held"
refused "a file that is not there" 1 "none.jsonl"
run adapter learn coder --feedback "$ratings" --held-out "$scratch/empty.jsonl"
refused "nothing held out" 1 "there are no held-out examples"
run data check "$held" --save "$scratch/held.tokens" -m "$SOURCE/models/tiny"
check "held-out answers are saved" status_is 0
run adapter learn coder --feedback "$ratings" --held-out "$scratch/held.tokens"
refused "a saved dataset held out" 1 "keeps neither verdicts nor sessions"
run adapter learn coder --feedback "$ratings" --held-out "$scratch"
refused "a folder held out" 1 "a file of records, not a folder"
learn --targets down_proj
refused "a module that the adapter lacks" 1 "it has q_proj"
check "nothing changed" unchanged

# ---- poison
sed 's/"content": "\[[a-z]*\][^}]*}/"content": "zq vxw kjj qqz"}/; s/"quality": 0.9/"quality": 1/' \
    "$ratings" >"$scratch/poison.jsonl"
check "the poison is poison" grep -q "zq vxw" "$scratch/poison.jsonl"
run adapter learn coder --feedback "$scratch/poison.jsonl" --held-out "$held" --steps 16 --lr 1e-2
check "poison is refused" status_is 1
says "... and says so" "^kept coder@0.1.0"
check "... by the buffer" err_has "worse: taken back"
check "... and nothing changed" unchanged

# ---- good feedback
learn --dry-run
check "a dry run" status_is 0
says "... says what would be" "without --dry-run it is published"
check "... and changes nothing" unchanged
learn --json -t 1 --buffer 10
check "good feedback" status_is 0
says "... is published" '"published":true,"from":"0.1.0","version":"0.1.1"'
for key in name published from version loss_before loss_after feedback left_out sessions buffers_kept buffers_taken_back \
    held_out trained_values baseline; do
    check "learn --json has $key" out_has "[{,]\"$key\":"
    check "docs/learn.md has $key" grep -q "\b$key\b" "$SOURCE/docs/learn.md"
done
run adapter list coder
says "... and active" "0.1.1 *active"
says "... before it is the old one" "0.1.0 *previous"
check "... and nothing lies about" test -z "$(ls "$TMPDIR")"
run adapter verify coder
check "... and fits the model" status_is 0
run run -a coder -p "How should we load the messages?" -n 4
check "... and runs" status_is 0
first=$(find "$GRAFT_HOME" -name adapter_model.safetensors | sort | xargs cksum | awk '{print $1}' | sort)

# ---- the same bytes with other threads
GRAFT_HOME=$scratch/home2
run adapter add "$SOURCE/models/adapters/coder" --name coder
learn -t 2 --buffer 10 -q
check "two threads" status_is 0
check "-q tells no buffers" test ! -s "$scratch/err"
second=$(find "$GRAFT_HOME" -name adapter_model.safetensors | sort | xargs cksum | awk '{print $1}' | sort)
check "... make the same bytes" test "$first" = "$second"
run adapter show coder
says "two ranks more" "rank *18"
learn
run adapter show coder
says "... and no more afterwards" "rank *18"

# ---- somebody's swap under way: nothing is learned in vain
run adapter add "$SOURCE/models/adapters/security" --name coder --adapter-version 7.0.0 --stage
learn
refused "a version on standby" 1 "coder@7.0.0 is on standby: promote or remove it first"
run adapter remove coder@7.0.0
check "... which can be removed" status_is 0

# ---- rewards
sed 's/"quality": 0.9/"reward": 1/' "$ratings" | head -n 4 >"$scratch/rewards.jsonl"
sed 's/"quality": 0.9/"reward": -1/' "$scratch/poison.jsonl" | sed 's/"quality": 1/"reward": -1/' | head -n 4 >>"$scratch/rewards.jsonl"
run adapter learn coder --feedback "$scratch/rewards.jsonl" --held-out "$held" --json --lr 2e-4
check "rewards" out_has '"feedback":8'

# ---- a session that is held out is not learned from
sed 's/}$/, "session": "s1"}/' "$held" >"$scratch/same.jsonl"
run adapter learn coder --feedback "$ratings" --held-out "$scratch/same.jsonl"
check "a held-out session" status_is 1
check "... is said" err_has "its session is in the held-out file"
check "... for the first five" err_has "11 records more"

finish
