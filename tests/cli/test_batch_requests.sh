#!/bin/sh
# test_batch_requests.sh: lines of requests of `graft batch`: which adapter one means, whatever lies around and shares the file. GRAFT
# and SOURCE are set by ctest.
. "$(dirname "$0")/batch_lib.sh"

# ---- a name is a name, and a path has a '/'
cp -r "$SOURCE/models/adapters/security" coder
cp -r "$SOURCE/models/adapters/security" coder=0.25
question='How should we store an invoice?'
ask() { # ID MODEL
    echo "{\"custom_id\":\"$1\",\"body\":{\"model\":\"$2\",\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}],\"max_tokens\":16,\"temperature\":0}}"
}
{
    ask name coder
    ask half coder=0.25
    ask tag tag:code
    ask path ./coder
    ask folder coder/
    ask shipped "$SOURCE/models/adapters/coder"
    ask mixed ./coder=0.5
    echo "{\"custom_id\":\"mix\",\"body\":{\"graft\":{\"adapters\":{\"coder\":0.5,\"./coder\":0.5}},\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}],\"max_tokens\":16,\"temperature\":0}}"
    mkdir notes
    ask notes notes
} >requests.jsonl
run batch -i requests.jsonl -o results.jsonl --in-order
check "a name that is registered nowhere fails" status_is 1
code notes model_not_found "a path has a '/': ./notes"
one() { alone -p "$question" -n 16 --temp 0 "$@"; }
coder=$(one -a "$SOURCE/models/adapters/coder")
security=$(one -a "$SOURCE/models/adapters/security")
check "the two adapters differ" test "$coder" != "$security"
for id in name tag shipped; do
    check "$id is the coder, whatever shares the batch" test "$(text $id)" = "$coder"
done
for id in path folder; do
    check "$id is the folder" test "$(text $id)" = "$security"
done
check "a name with a weight is no file" test "$(text half)" = "$(one -a "$SOURCE/models/adapters/coder=0.25")"
check "a path with a weight" test "$(text mixed)" = "$(one -a "$SOURCE/models/adapters/security=0.5")"
check "a mix of both" test "$(text mix)" = "$(one -a "$SOURCE/models/adapters/coder=0.5" -a "$SOURCE/models/adapters/security=0.5")"
result mix >"$scratch/out"
check "... under the names that were said" out_has '"adapters":{"coder":0.5,"./coder":0.5}'
result shipped >"$scratch/out"
check "results call an adapter as their own request does" out_has "\"adapters\":{\"$SOURCE/models/adapters/coder\":1.0}"
head -n 1 requests.jsonl >alone.jsonl
run adapter add ./coder --name coder
run batch -i alone.jsonl -o results.jsonl --overwrite
result name >"$scratch/out"
check "what is registered goes first" out_has '"adapters":{"coder@[0-9.]*":1.0}'
check "... and is what it says" test "$(text name)" = "$security"

finish
