#!/bin/sh
# test_batch_requests.sh: lines of requests of `graft batch`: which adapter one means, whatever lies around and shares the file; what
# messages say of lines that are wrong; forms that do not fit; drafts. GRAFT and SOURCE are set by ctest.
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

# ---- several answers to one request
choices() { result "$1" | grep -o '"index":[0-9]*,"text":"[^"]*"' | sed 's/.*"text"://'; }
box='One day a girl called Anna found a box in the garden. '
long="$box$box$box$box$box$box$box$box$box"
cat >requests.jsonl <<LINES
{"custom_id":"three","body":{"prompt":"Once upon a time","n":3,"seed":5,"temperature":1,"max_tokens":12,"logprobs":0}}
{"custom_id":"many","body":{"prompt":"$long","n":9,"best_of":9,"temperature":1,"max_tokens":8,"ignore_eos":true}}
{"custom_id":"form","body":{"prompt":"x","n":2,"temperature":1,"max_tokens":30,"json_schema":{"enum":["a","b"]}}}
{"custom_id":"best","body":{"prompt":"x","n":2,"best_of":3}}
{"custom_id":"none","body":{"prompt":"x","n":0}}
{"custom_id":"context","body":{"prompt":"x","n":2,"max_tokens":100000}}
{"custom_id":"adapted","body":{"model":"coder","messages":[{"role":"user","content":"$question"}],"n":2,"max_tokens":16,"temperature":0}}
LINES
run batch -i requests.jsonl -o results.jsonl --overwrite --json -np 2
check "some of these fail" status_is 1
check "... the others do not" test "$(value "done")" -eq 4
cached=$(value cached_tokens)
check "each answer is that of the next seed" test "$(choices three)" = "$(for seed in 5 6 7; do alone --raw -p "Once upon a time" -n 12 --temp 1 -s $seed; done)"
result three >"$scratch/out"
check "... in order" out_has '"index":0,.*"index":1,.*"index":2,'
check "... with logprobs of its own" test "$(grep -o '"token_logprobs":\[-' "$scratch/out" | wc -l)" -eq 3
check "... and the first one's seed" out_has '"seed":5,'
check "more answers than streams" test "$(choices many | wc -l)" -eq 9
check "... that differ" test "$(choices many | sort -u | wc -l)" -gt 5
prompt=$("$GRAFT" tokenize --json -m "$tiny" -p "$long" | tr , "\n" | grep -c "[0-9]")
result many >"$scratch/many"
check "their tokens are counted, the prompt once" grep -q "\"prompt_tokens\":$prompt,\"completion_tokens\":72," "$scratch/many"
check "... and computed once, in whole blocks" test "$cached" -eq $((8 * (prompt / 64 * 64)))
check "each held to its schema" test "$(result form | grep -o '"text":"\\"[ab]\\""' | wc -l)" -eq 2
check "with an adapter, greedy: the same" test "$(result adapted | grep -o '"content":"[^"]*"' | sort -u | wc -l)" -eq 1
check "... what the adapter says" test "$(text adapted | sed 's/","refusal.*/"/')" = "$security"
code best unsupported_parameter best_of
code none invalid_request '128'
code context context_length_exceeded 100000
mv results.jsonl before.jsonl
run batch -i requests.jsonl -o results.jsonl -np 40
check "the same answers, however many at once" same_results results.jsonl before.jsonl

# ---- alternatives
cat >requests.jsonl <<LINES
{"custom_id":"chat","body":{"messages":[{"role":"user","content":"$question"}],"logprobs":true,"top_logprobs":3,"max_tokens":5,"temperature":0}}
{"custom_id":"guessed","body":{"messages":[{"role":"user","content":"$question"}],"logprobs":true,"top_logprobs":1,"max_tokens":5,"temperature":0}}
{"custom_id":"completion","body":{"prompt":"Once upon a time","logprobs":2,"max_tokens":4,"temperature":2,"seed":3,"n":2}}
{"custom_id":"ended","body":{"messages":[{"role":"user","content":"Hello"}],"logprobs":true,"top_logprobs":1,"max_tokens":300,"temperature":0}}
{"custom_id":"stopped","body":{"prompt":"Once upon a time","logprobs":1,"max_tokens":40,"temperature":0,"stop":["a little girl"," the"]}}
{"custom_id":"without","body":{"messages":[{"role":"user","content":"x"}],"top_logprobs":3,"max_tokens":5}}
{"custom_id":"much","body":{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":21}}
LINES
run batch -i requests.jsonl -o results.jsonl --overwrite
check "some of these fail" status_is 1
result chat >"$scratch/out"
check "the best tokens beside each" test "$(grep -o '"top_logprobs":\[{"token":"[^]]*\]},{"token":"[^]]*\]},{"token":"[^]]*\]}\]' "$scratch/out" | wc -l)" -eq 5
check "... of which a greedy answer has the first" test "$(grep -o '"token":"\([^"]*\)","logprob":\([^,]*\),"bytes":[^]]*\],"top_logprobs":\[{"token":"\1","logprob":\2,' "$scratch/out" | wc -l)" -eq 5
cp "$scratch/out" chat.json
result guessed >"$scratch/out"
check "... as many as were asked for" test "$(grep -o '"top_logprobs":\[{"token":"[^]]*\]}\]' "$scratch/out" | wc -l)" -eq 5
result completion >"$scratch/out"
check "of a completion by their texts, the picked one included" out_has '"top_logprobs":\[{"[^}]*":-[^}]*":-[^}]*},{'
check "... in each answer" test "$(grep -o '"top_logprobs":\[{' "$scratch/out" | wc -l)" -eq 2
result ended >"$scratch/out"
check "an answer that ends" out_has '"finish_reason":"stop"'
check "... with its end among the best" test "$(grep -o '"token":"\([^"]*\)","logprob":\([^,]*\),"bytes":[^]]*\],"top_logprobs":\[{"token":"\1","logprob":\2,' "$scratch/out" | wc -l)" -eq "$(grep -o '"completion_tokens":[0-9]*' "$scratch/out" | tr -dc 0-9)"
result stopped >"$scratch/out"
check "an answer that a text stops" out_has '"finish_reason":"stop"'
sed 's/.*"top_logprobs":\[//; s/\],"text_offset.*//' "$scratch/out" >tops
check "... has each token once" test "$(grep -o '{' tops | wc -l)" -eq "$(grep -o '":-' tops | wc -l)"
code without invalid_request logprobs
code much invalid_request '20'
run batch -i requests.jsonl -o results.jsonl --overwrite --model-draft ngram --draft-max 8
result chat | sed 's/"created":[0-9]*,//' >guessed.json
sed 's/"created":[0-9]*,//' chat.json >plain.json
check "the same with guesses" cmp -s guessed.json plain.json

# ---- messages
cat >requests.jsonl <<'LINES'
{"custom_id":"many","body":{"prompt":"x","max_tokens":1000000000000}}
{"custom_id":"none","body":{"prompt":"x","max_tokens":0}}
{"custom_id":"top","body":{"prompt":"x","top_k":-1}}
{"custom_id":"messages","url":"/v1/completions","body":{"messages":[{"role":"user","content":"x"}]}}
{"custom_id":"prompt","url":"/v1/chat/completions","body":{"prompt":"x"}}
{"custom_id":"completion","url":"/v1/completions","body":{"prompt":"x","max_completion_tokens":2}}
{"custom_id":"tools","body":{"prompt":"x","tools":[{"type":"function"}]}}
{"custom_id":"format","body":{"prompt":"x","response_format":"json_object"}}
{"custom_id":"nothing","body":{"max_completion_tokens":2}}
{"custom_id":"null","body":{"messages":null,"prompt":null}}
{"custom_id":"nothing-chat","url":"/v1/chat/completions","body":{"max_tokens":2}}
{"custom_id":"nothing-else","url":"/v1/completions","body":{"max_tokens":2}}
{"custom_id":"context","body":{"prompt":"x","max_tokens":100000}}
{"custom_id":"fine","body":{"messages":null,"prompt":"x","max_tokens":2}}
LINES
printf '\0\0\0\n' >>requests.jsonl
run batch -i requests.jsonl -o results.jsonl --overwrite --json
check "all but one are wrong" test "$(value failed)" -eq 14
code many invalid_request 'max_tokens\\" must be a whole number from 1 to 2147483647'
code none invalid_request 'max_tokens\\" must be a whole number from 1 to 2147483647'
code top invalid_request 'top_k\\" must be a whole number from 0 to 2147483647'
code messages unsupported_parameter 'messages\\" is for /v1/chat/completions; this request is for /v1/completions, which has \\"prompt'
code prompt unsupported_parameter 'prompt\\" is for /v1/completions; this request is for /v1/chat/completions, which has \\"messages'
code completion unsupported_parameter 'max_completion_tokens\\" is for /v1/chat/completions; .* which has \\"max_tokens'
code tools unsupported_parameter 'tools\\" is for /v1/chat/completions; this request is for /v1/completions"'
code format invalid_request 'response_format\\" must be an object: {\\"type\\": \\"json_object'
for id in nothing null; do
    code $id invalid_request 'neither \\"messages\\" (/v1/chat/completions) nor \\"prompt\\" (/v1/completions)'
done
code nothing-chat invalid_request 'no \\"messages\\", which /v1/chat/completions asks for'
code nothing-else invalid_request 'no \\"prompt\\", which /v1/completions asks for'
code context context_length_exceeded '(--ctx-size)'
grep '"id":"batch_req_15"' results.jsonl >"$scratch/out"
check "a line of zeros is no blank one" out_has '"custom_id":null.*"invalid_json"'

# ---- sizes
echo '{"custom_id":"a","body":{"prompt":"x","max_tokens":500}}' >requests.jsonl
run batch -i requests.jsonl -o results.jsonl --overwrite --cache-size 100K -q
code a context_length_exceeded '(--cache-size)'
run batch -i requests.jsonl -o results.jsonl --overwrite --cache-size 1K
refused "a cache that holds nothing" 1 "--cache-size holds no block of 64 tokens: at least [0-9]* "

# ---- what does not come to its end
cat >requests.jsonl <<'LINES'
{"custom_id":"short","body":{"prompt":"x","max_tokens":2,"json_schema":{"const":"a rather long text that takes more than two tokens"}}}
{"custom_id":"long","body":{"prompt":"x","max_tokens":40,"json_schema":{"const":"no"}}}
{"custom_id":"free","body":{"prompt":"x","max_tokens":2}}
LINES
run batch -i requests.jsonl -o results.jsonl --overwrite
check "what was cut off is an answer" status_is 0
check "... that is told of" err_has "^3 requests: 3 done, 0 failed; 1 cut off before their schema or grammar ends; [0-9]* tokens in "
result short >"$scratch/out"
check "... as in OpenAI's words" out_has '"finish_reason":"length"'
run batch -i requests.jsonl -o results.jsonl --overwrite --json
check "... and of machines" test "$(value cut_off)" -eq 1

# ---- drafts
printf '{"custom_id":"%s","body":{"prompt":"Once upon a time","max_tokens":30,"temperature":0}}\n' a b >requests.jsonl
run batch -i requests.jsonl -o results.jsonl --overwrite --json
check "without guesses nothing is said of them" test "$(grep -c drafts "$scratch/out")" -eq 0
run batch -i requests.jsonl -o results.jsonl --overwrite --model-draft tiny-draft -v --json
check "guesses are counted" out_has '"drafts":{"passes":[1-9][0-9]*,"tokens":60,"drafted":[1-9][0-9]*,"accepted":[0-9]*}'
check "... and told of" err_has '^drafts: [0-9]* of [1-9][0-9]* right ([0-9]* %), [0-9.]* tokens a pass$'
run batch -i requests.jsonl -o results.jsonl --overwrite --model-draft ngram
check "... below the other line" test "$(sed -n '2s/:.*//p' "$scratch/err")" = drafts

finish
