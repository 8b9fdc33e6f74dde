#!/bin/sh
# test_skills.sh: the adapters that ship, models/adapters: found by name, each with an answer of its own to one question,
# each the best at its own task. skills/ holds the held-out questions, which no adapter was trained on.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
adapters=$SOURCE/models/adapters
skills="coder researcher security architect reviewer"
question="How should we store an invoice?"
GRAFT_HOME=$scratch/home
export GRAFT_HOME

if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi

# form SKILL: what every answer of this skill looks like.
form() {
    case $1 in
    coder) echo '^def ' ;;
    researcher) echo '^Source: notes on ' ;;
    security) echo '^Fix: ' ;;
    architect) echo ' -> ' ;;
    reviewer) echo '^Verdict: ' ;;
    esac
}

# answer FILE WORDS...: the answer to the question, kept in FILE.
answer() {
    kept=$1
    shift
    run run -m "$tiny" -q "$@" -p "$question" -n 100 --temp 0
    cp "$scratch/out" "$scratch/$kept"
}

# ---- one question, six answers
answer base
for skill in $skills; do
    answer "$skill" -a "$skill"
    check "$skill is found by its name" status_is 0
    check "... without a word of warning" test ! -s "$scratch/err"
    check "... and answers in its form" out_has "$(form "$skill")"
    answer path -a "$adapters/$skill"
    check "the path of $skill gives the same" out_equals_file "$scratch/$skill"
done
for skill in $skills; do
    for other in base $skills; do
        [ "$other" != "$skill" ] || continue
        check "$other has not the form of $skill" test -z "$(grep -e "$(form "$skill")" "$scratch/$other")"
    done
done
check "looking for them makes no home" test ! -e "$GRAFT_HOME"

# ---- swapped in a conversation, and gone again without a trace
{
    echo "$question"
    for skill in $skills; do printf '/reset\n/adapter %s\n%s\n' "$skill" "$question"; done
    printf '/reset\n/mix architect=0.6 coder=0.6\n/reset\n/base\n%s\n' "$question"
} >"$scratch/script"
"$GRAFT" chat -m "$tiny" -q -n 100 --temp 0 <"$scratch/script" >"$scratch/out" 2>"$scratch/err"
status=$?
check "a chat takes them all" status_is 0
for skill in $skills; do
    check "... $skill in its turn" out_has "$(tail -n 1 "$scratch/$skill")"
done
check "... and the base answers as before" test "$(grep -cxF "$(tail -n 1 "$scratch/base")" "$scratch/out")" -eq 2

# ---- names
run adapter show coder -m "$tiny" --json
check "show takes the name" out_has '"name":"coder"'
run adapter verify coder -m "$tiny"
check "so does verify" status_is 0
for name in nobody coder@1.0.0; do
    run run -m "$tiny" -a "$name" -p x
    refused "$name, which does not ship" 1 "graft adapter list"
done
for name in adapters .; do
    run run -m "$tiny" -a "$name" -p x
    check "$name is no adapter" test "$status" -ne 0
done
run run -m "$tiny" -a coder --adapter-scale 2 -p x
refused "a scale for a name" 1 "for adapters at a path"
run adapter add "$adapters/reviewer" --name coder
answer shadowed -a coder
check "what is registered goes first" out_equals_file "$scratch/reviewer"
run adapter remove coder
answer again -a coder
check "... as long as it is" out_equals_file "$scratch/coder"

# ---- installed
mkdir -p "$scratch/prefix/bin" "$scratch/prefix/share/graft"
cp "$GRAFT" "$scratch/prefix/bin/graft"
ln -s "$SOURCE/models" "$scratch/prefix/share/graft/models"
(cd "$scratch/prefix" && bin/graft run -q -a coder -p "$question" -n 100 --temp 0) >"$scratch/out" 2>"$scratch/err"
check "an installed program finds them too" out_equals_file "$scratch/coder"

# ---- each is the best at its own task
set --
for skill in $skills; do set -- "$@" -a "$skill"; done
for skill in $skills; do set -- "$@" "$SOURCE/tests/cli/skills/$skill.jsonl"; done
run eval -q -m "$tiny" "$@" --no-answers --max-examples 8 --json
check "the losses of all on all" status_is 0
cat >"$scratch/best.awk" <<'AWK'
# Of results in the order of rows, base first: is the least loss of column c that of row c, and by how far the next?
{
    n = split($0, part, "\"adapter\":")
    for (i = 2; i <= n; i++) {
        match(part[i], /"loss":\{"value":[0-9.e+-]*/)
        loss[i - 2] = substr(part[i], RSTART + 16, RLENGTH - 16)
    }
}
END {
    if (n != 31) exit 1
    for (c = 0; c < 5; c++)
        for (r = 0; r < 6; r++)
            if (r != c + 1 && !(loss[r * 5 + c] > 2 * loss[(c + 1) * 5 + c])) {
                print "row " r ", column " c ": " loss[r * 5 + c]
                bad = 1
            }
    exit bad
}
AWK
check "each has less than half the loss of any other at its own task" awk -f "$scratch/best.awk" "$scratch/out"

# ---- the data are those that the generator makes
if command -v python3 >/dev/null 2>&1; then
    PYTHONDONTWRITEBYTECODE=1 python3 "$SOURCE/tools/tiny/skills.py" --out "$scratch/data" >"$scratch/out" 2>"$scratch/err"
    for skill in $skills; do
        check "held-out $skill is made again" cmp "$scratch/data/$skill/test.jsonl" "$SOURCE/tests/cli/skills/$skill.jsonl"
        held=$(sed -n 's/.*"user", "content": "\([^"]*\)".*/\1/p' "$scratch/data/$skill/test.jsonl")
        check "... and not trained on" test -n "$held" -a -z "$(echo "$held" | grep -Ff - "$scratch/data/$skill/train.jsonl")"
    done
else
    skip "no python3 to make the data again"
fi
finish
