#!/bin/sh
# test_batch.sh: `graft batch`: answers are those of requests alone, also with more adapters than the budget holds; what ends it
# costs what was under way; what is wrong with a line is that line's. GRAFT, SOURCE and MODELS (a program that writes adapters)
# are set by ctest. ADAPTERS=500 is the long form.
. "$(dirname "$0")/batch_lib.sh"
adapters=${ADAPTERS:-24}

# wrong PATTERN WORDS...: wrong use, and nothing was written.
wrong() {
    pattern=$1
    shift
    run batch "$@"
    refused "graft batch $*" 2 "$pattern"
}

# ---- wrong use
echo '{"custom_id":"a","body":{"prompt":"x","max_tokens":2}}' >one.jsonl
wrong "give -i FILE" -o out.jsonl
wrong "give -o FILE" -i one.jsonl
wrong "read twice" -i - -o out.jsonl
wrong "give one of them" -i one.jsonl -o out.jsonl --overwrite --retry-failed
wrong "no size" -i one.jsonl -o out.jsonl --budget many
wrong "no size" -i one.jsonl -o out.jsonl --cache-size 1Q
wrong "max-streams" -i one.jsonl -o out.jsonl -np 0
wrong "at least one token" -i one.jsonl -o out.jsonl -n 0
check "wrong use writes nothing" test ! -e out.jsonl
run batch -i nothing.jsonl -o out.jsonl
refused "no requests" 1 "nothing.jsonl"
check "... and nothing is written" test ! -e out.jsonl
run batch -i one.jsonl -o one.jsonl
refused "results over requests" 1 "one.jsonl"
check "... which stay" grep -q custom_id one.jsonl
run batch -i one.jsonl -o /dev/null
refused "results to no file" 1 "go to a file"

# ---- adapters of different contents, all of them registered
i=0
while [ "$i" -lt "$adapters" ]; do
    "$MODELS" "$scratch/made" "$tiny" "adapter-$i" >/dev/null 2>&1
    i=$((i + 1))
done
run adapter add "$scratch/made"
check "all adapters are registered" test "$("$GRAFT" adapter list --json | tr ',' '\n' | grep -c '"name":')" -eq "$adapters"
rm -rf "$scratch/made"

# ---- each request with its own, under a budget of a few
i=0
while [ "$i" -lt "$adapters" ]; do
    case $((i % 3)) in
    0) what="\"messages\":[{\"role\":\"user\",\"content\":\"Tell me a story about $i cats.\"}],\"temperature\":0" ;;
    1) what="\"prompt\":\"Once upon a time there were $i cats\",\"temperature\":0.9,\"top_k\":0,\"top_p\":0.9,\"min_p\":0" ;;
    *) what="\"messages\":[{\"role\":\"user\",\"content\":\"What is a loop?\"}],\"repetition_penalty\":1.1,\"stop\":[\"cat\"]" ;;
    esac
    echo "{\"custom_id\":\"r$i\",\"body\":{\"model\":\"adapter-$i\",$what,\"seed\":$i,\"max_tokens\":16,\"user\":\"me\"}}"
    i=$((i + 1))
done >requests.jsonl
run batch -i requests.jsonl -o results.jsonl --budget 3M --json
check "all are answered" status_is 0
check "... with a line each" test "$(wc -l <results.jsonl)" -eq "$adapters"
check "... each adapter was opened" test "$(value adapters_opened)" -ge "$adapters"
check "... within the budget" test "$(value adapter_bytes)" -le 3145728
check "... several at once" test "$(value adapter_bytes)" -gt 1000000
i=0 wrong=0 like_base=0
while [ "$i" -lt "$adapters" ]; do
    case $((i % 3)) in
    0) set -- -p "Tell me a story about $i cats." --temp 0 ;;
    1) set -- --raw -p "Once upon a time there were $i cats" --temp 0.9 --top-k 0 --top-p 0.9 --min-p 0 ;;
    *) set -- -p "What is a loop?" --repeat-penalty 1.1 --stop cat ;;
    esac
    [ "$(text "r$i")" = "$(alone -a "adapter-$i" -s "$i" -n 16 "$@")" ] || wrong=$((wrong + 1))
    [ "$(text "r$i")" = "$(alone -s "$i" -n 16 "$@")" ] && like_base=$((like_base + 1))
    i=$((i + 1))
done
check "no answer differs from that of graft run" test "$wrong" -eq 0
check "adapters have an effect" test $((4 * like_base)) -le "$adapters"
cp results.jsonl whole.jsonl
run batch -i requests.jsonl -o results.jsonl --overwrite --budget 1 -np 3 --batch-size 20 --cache-size 2M -t 1 -q
check "neither budget, streams, passes nor threads change a word" same_results results.jsonl whole.jsonl
check "-q says nothing" test ! -s "$scratch/err"
run batch -i requests.jsonl -o results.jsonl --overwrite --model-draft ngram
check "nor do drafts" same_results results.jsonl whole.jsonl
run batch -i requests.jsonl -o results.jsonl --overwrite --in-order -np 4
check "--in-order: the same" same_results results.jsonl whole.jsonl
sed 's/.*"custom_id":\("r[0-9]*"\).*/\1/' results.jsonl >order
sed 's/.*"custom_id":\("r[0-9]*"\).*/\1/' requests.jsonl >wanted
check "... in the order of the requests" cmp -s order wanted
check "... and a line tells of it" err_has "^$adapters requests: $adapters done, 0 failed; [0-9]* tokens in "

# ---- what was written stays written
run batch -i requests.jsonl -o results.jsonl --json
check "there is nothing left to do" test "$(value answered)" -eq 0
check "... which is no failure" status_is 0
lines=$((adapters / 3))
{
    head -n "$lines" whole.jsonl
    sed -n "$((lines + 1))p" whole.jsonl | head -c 100
} >results.jsonl
run batch -i requests.jsonl -o results.jsonl --json
check "a line that was cut off is asked again" test "$(value answered)" -eq $((adapters - lines))
check "... and all is as if at once" same_results results.jsonl whole.jsonl

# long.jsonl: so much to say that one can interrupt
sed 's/,"stop":\["cat"\]//; s/"max_tokens":16/"max_tokens":200,"ignore_eos":true/' requests.jsonl >long.jsonl
run batch -i long.jsonl -o long-whole.jsonl -np 2 -q
check "long answers" status_is 0
for signal in KILL INT; do
    rm -f results.jsonl
    "$GRAFT" batch -i long.jsonl -o results.jsonl -np 2 >first.out 2>first.err &
    pid=$!
    while [ ! -s results.jsonl ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    if [ "$signal" = INT ]; then
        run batch -i long.jsonl -o results.jsonl
        [ "$status" -eq 0 ] || refused "two at once" 1 "another program writes"
    fi
    kill -s "$signal" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    status=$?
    if [ "$(wc -l <results.jsonl)" -lt "$adapters" ]; then
        check "$signal ends it" test "$status" -ne 0
        if [ "$signal" = INT ]; then
            cp first.out out
            cp first.err err
            check "... with status 1" status_is 1
            check "... and a word" err_has "^graft: interrupted: [0-9]* of $adapters requests have results; the same command goes on"
            check "... in one line" err_lines 1
        fi
    else
        skip "it was done before SIG$signal came"
    fi
    run batch -i long.jsonl -o results.jsonl -np 2 -q
    check "after SIG$signal it goes on" status_is 0
    check "... to the same results" same_results results.jsonl long-whole.jsonl
done

# ---- results of others, and other files, stay as they are
run batch -i one.jsonl -o long-whole.jsonl
refused "results of other requests" 1 "custom_id \"r[0-9]*\" is not among these; --overwrite"
for what in '{"a":1}' 'Dear diary' '{"id":"batch_req_1","custom_id":"a"}'; do
    echo "$what" >diary
    run batch -i one.jsonl -o diary
    refused "over $what" 1 "line 1 is no result of a batch"
    check "... which stays" test "$(cat diary)" = "$what"
    printf %s "$what" >diary
    run batch -i one.jsonl -o diary
    case $what in *batch_req*) ;; *)
        refused "over $what without an end" 1 "line 1 is no result of a batch"
        check "... which stays" test "$(cat diary)" = "$what"
        ;;
    esac
done
run batch -i one.jsonl -o diary --overwrite
check "--overwrite means it" grep -q '"custom_id":"a","response":{"status_code":200' diary

# ---- a line that is wrong is wrong alone
{
    printf '\357\273\277{"custom_id":"bom","body":{"prompt":"Hello","max_tokens":2}}\r\n'
    cat <<'LINES'
{"custom_id":"base","method":"POST","url":"/v1/completions","body":{"model":"base","prompt":"Hello","max_tokens":5,"temperature":0,"logprobs":0}}
{"custom_id":"tiny","body":{"model":"tiny","prompt":"Hello","max_tokens":5,"temperature":0}}

{"custom_id":"ids","body":{"prompt":[97,79],"max_tokens":5,"temperature":0}}
{"custom_id":"shipped","url":"/v1/chat/completions","body":{"model":"coder=0.5","messages":[{"role":"user","content":"How should we store an invoice?"}],"max_completion_tokens":12,"temperature":0}}
{"custom_id":"mix","body":{"graft":{"adapters":{"coder":0.7,"adapter-1@1.0.0":0.3}},"messages":[{"role":"user","content":[{"type":"text","text":"How should we"},{"type":"text","text":" store an invoice?"}]}],"max_tokens":12,"temperature":0}}
{"custom_id":"system","body":{"messages":[{"role":"developer","content":"Be brief."},{"role":"user","content":"Hello"}],"logprobs":true,"max_tokens":3,"temperature":0,"tools":[],"n":1,"response_format":{"type":"text"},"metadata":{"a":1},"stream":false,"logit_bias":null}}
{"custom_id":"unseeded","body":{"prompt":"Once","max_tokens":12,"temperature":1}}
{"custom_id":"broken","body":{"prompt":"Hello"
{"custom_id":"base","body":{"prompt":"Hello"}}
{"body":{"prompt":"Hello"}}
{"custom_id":"nobody","body":{"model":"nobody","prompt":"Hello","max_tokens":2}}
{"custom_id":"path","body":{"model":"./nothing/there","prompt":"Hello","max_tokens":2}}
{"custom_id":"tools","body":{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}}
{"custom_id":"unknown","body":{"prompt":"x","mirostat":2}}
{"custom_id":"url","url":"/v1/embeddings","body":{"input":"x"}}
{"custom_id":"get","method":"GET","url":"/v1/completions","body":{"prompt":"x"}}
{"custom_id":"long","body":{"prompt":"x","max_tokens":100000}}
{"custom_id":"hot","body":{"prompt":"x","temperature":-1}}
{"custom_id":"type","body":{"prompt":"x","top_p":"all"}}
{"custom_id":"two","body":{"prompt":"x","n":129}}
{"custom_id":"alternatives","body":{"prompt":"x","logprobs":21}}
{"custom_id":"vocabulary","body":{"prompt":[99999999],"max_tokens":2}}
{"custom_id":"image","body":{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}}
{"custom_id":"both","body":{"model":"coder","graft":{"adapters":{"security":1}},"prompt":"x"}}
{"custom_id":"weight","body":{"graft":{"adapters":{"security":"much"}},"prompt":"x"}}
{"custom_id":"empty","body":{"prompt":[]}}
{"custom_id":"bodyless"}
[1, 2]
LINES
    printf '{"custom_id":"giant","body":{"prompt":"'
    head -c 17000000 /dev/zero | tr '\0' x
    printf '"}}\n{"custom_id":"last","body":{"prompt":"Hello","max_tokens":2}}'
} >requests.jsonl
rm -f results.jsonl
run batch -i requests.jsonl -o results.jsonl --json
check "some lines failed: status 1" status_is 1
check "... and some did not" test "$(value "done")" -eq 9
check "... each has a result" test "$(wc -l <results.jsonl)" -eq 31
check "... of its own" test "$(grep -o '"id":"batch_req_[0-9]*"' results.jsonl | sort -u | wc -l)" -eq 31
for id in base tiny; do
    check "$id is the base" test "$(text $id)" = "$(alone --raw -p Hello -n 5 --temp 0)"
done
check "token ids are a prompt" test "$(text ids)" = "$(alone --raw -p "$("$GRAFT" detokenize --tokens 97,79)" -n 5 --temp 0)"
check "an adapter that ships, with a weight" test "$(text shipped)" = "$(alone -a coder=0.5 -p "How should we store an invoice?" -n 12 --temp 0)"
check "a mix, of parts of a text" test "$(text mix)" = "$(alone -a coder=0.7 -a adapter-1=0.3 -p "How should we store an invoice?" -n 12 --temp 0)"
check "a system message" test "$(text system)" = "$(alone --system-prompt "Be brief." -p Hello -n 3 --temp 0)"
result mix >"$scratch/out"
check "a result tells its adapters" out_has '"graft":{"seed":[0-9]*,"adapters":{"coder":0.7,"adapter-1@1.0.0":0.3}}'
check "... and is OpenAI's" out_has '^{"id":"batch_req_7","custom_id":"mix","response":{"status_code":200,"request_id":"req_7","body":{"id":"chatcmpl-7","object":"chat.completion","created":[0-9]*,"model":"tiny","choices":\[{"index":0,"message":{"role":"assistant","content":"'
check "... with its usage" out_has '"usage":{"prompt_tokens":[1-9][0-9]*,"completion_tokens":12,"total_tokens":[1-9][0-9]*,"prompt_tokens_details":{"cached_tokens":[0-9]*}}'
check "... and why it ended" out_has '"finish_reason":"length"'
result system >"$scratch/out"
check "logprobs of a chat" out_has '"logprobs":{"content":\[{"token":"[^"]*","logprob":-[0-9.e-]*,"bytes":\[[0-9,]*\],"top_logprobs":\[\]}'
result base >"$scratch/out"
check "logprobs of a completion" out_has '"logprobs":{"tokens":\[.*\],"token_logprobs":\[-[^]]*\],"top_logprobs":null,"text_offset":\[0,'
result unseeded >"$scratch/out"
seed=$(sed -n 's/.*"seed":\([0-9]*\).*/\1/p' "$scratch/out")
check "a seed that was made up gives the text again" test "$(text unseeded)" = "$(alone --raw -p Once -n 12 --temp 1 -s "$seed")"
grep '"id":"batch_req_10"' results.jsonl >"$scratch/out"
check "no JSON" out_has '"custom_id":null,"response":null,"error":{"code":"invalid_json"'
grep '"id":"batch_req_11"' results.jsonl >"$scratch/out"
check "a custom_id that was there" out_has '"custom_id":"base".*"duplicate_custom_id","message":"line 2 '
grep '"id":"batch_req_12"' results.jsonl >"$scratch/out"
check "no custom_id" out_has '"custom_id":null.*"invalid_request","message":"[^}]*custom_id'
grep '"id":"batch_req_31"' results.jsonl >"$scratch/out"
check "a line that is too long" out_has '"line_too_long"'
code nobody model_not_found nobody
code path model_not_found nothing/there
code tools unsupported_parameter tools
code unknown unsupported_parameter mirostat
code url invalid_request url
code get invalid_request method
code long context_length_exceeded 100000
code hot invalid_request temperature
code type invalid_request top_p
code two invalid_request '\\"n\\"'
code alternatives invalid_request logprobs
code vocabulary invalid_request 99999999
code image unsupported_parameter content
code both invalid_request "one of them"
code weight invalid_request security
code empty invalid_request "prompt is empty"
code bodyless invalid_request body

# ---- what failed can be asked again
run batch -i requests.jsonl -o results.jsonl --json
check "failures stay unless somebody asks" test "$(value answered)" -eq 0
check "... with status 1" status_is 1
"$MODELS" "$scratch/made" "$tiny" adapter-7 >/dev/null 2>&1
run adapter add "$scratch/made/adapter-7" --name nobody
run batch -i requests.jsonl -o results.jsonl --retry-failed --json
check "--retry-failed asks them, and no others" test "$(value answered)" -eq 22
check "... one is there now" test "$(value "done")" -eq 10
check "... each has one result" test "$(wc -l <results.jsonl)" -eq 31
check "... that of the new one" test "$(text nobody)" = "$(alone -a nobody --raw -p Hello -n 2 -s "$(result nobody | sed -n 's/.*"seed":\([0-9]*\).*/\1/p')")"

# ---- lines that were mended
grep -v 'giant\|^\[1' requests.jsonl | sed 's/^{"custom_id":"broken".*/{"custom_id":"mended","body":{"prompt":"Hello","max_tokens":2}}/' >mended.jsonl
run batch -i mended.jsonl -o results.jsonl --json
check "a line that was mended is asked" test "$(value answered)" -eq 1
check "... and answered" test "$(result mended | grep -c '"status_code":200')" -eq 1
run batch -i mended.jsonl -o results.jsonl --retry-failed -q
check "... what it was before is forgotten" test "$(grep -c invalid_json results.jsonl)" -eq 0

# ---- answers that are held to a form
cat >held.jsonl <<'LINES'
{"custom_id":"schema","body":{"prompt":"The cat is","max_tokens":40,"seed":1,"response_format":{"type":"json_schema","json_schema":{"name":"cat","strict":true,"schema":{"enum":["black","white"]}}}}}
{"custom_id":"object","body":{"messages":[{"role":"user","content":"Hello"}],"max_tokens":40,"seed":2,"response_format":{"type":"json_object"}}}
{"custom_id":"llama","body":{"prompt":"The cat is","max_tokens":40,"seed":3,"json_schema":{"type":"integer","minimum":1,"maximum":9}}}
{"custom_id":"gbnf","body":{"model":"coder","prompt":"The cat is","max_tokens":40,"seed":4,"grammar":"root ::= \"yes\" | \"no\""}}
{"custom_id":"free","body":{"prompt":"The cat is","max_tokens":6,"seed":5,"response_format":{"type":"text"}}}
{"custom_id":"plain","body":{"prompt":"The cat is","max_tokens":6,"seed":6}}
{"custom_id":"broken","body":{"prompt":"The cat is","grammar":"root ::= ("}}
{"custom_id":"odd","body":{"prompt":"The cat is","response_format":{"type":"xml"}}}
{"custom_id":"forms","body":{"prompt":"The cat is","json_schema":true,"grammar":"root ::= \"a\""}}
LINES
run batch -i held.jsonl -o results.jsonl --overwrite --grammar 'root ::= "sleepy"'
check "a schema" test "$(text schema)" = "$(alone --raw -p "The cat is" -n 40 -s 1 --json-schema '{"enum":["black","white"]}')"
check "... which holds" test -n "$(text schema | grep -x '"\\"\(black\|white\)\\""')"
check "any object" test -n "$(text object | grep '^"{.*}"$')"
check "a schema in llama.cpp's words" test -n "$(text llama | grep -x '"[1-9]"')"
check "a grammar, and an adapter" test -n "$(text gbnf | grep -x '"\(yes\|no\)"')"
check "text is text" test "$(text free)" = "$(alone --raw -p "The cat is" -n 6 -s 5)"
check "who says nothing is held to what was typed" test "$(text plain)" = '"sleepy"'
code broken invalid_request "line 1"
code odd unsupported_parameter json_schema
code forms invalid_request "one of them"

# ---- options are what requests begin with
printf '{"custom_id":"%s","body":{"prompt":"Once"}}\n' a b c >requests.jsonl
run batch -i requests.jsonl -o defaults.jsonl -n 9 -s 3 --temp 0.9 -q
cp defaults.jsonl results.jsonl
for id in a b c; do
    check "-n, -s and --temp count for $id" test "$(text $id)" = "$(alone --raw -p Once -n 9 -s 3 --temp 0.9)"
done

# ---- a file of requests that changes
run batch -i requests.jsonl -o results.jsonl --overwrite -q
printf '{"custom_id":"%s","body":{"prompt":"Once"}}\n' c b a d >requests.jsonl
run batch -i requests.jsonl -o results.jsonl -n 2 --json
check "lines may move, and more may come" test "$(value answered)" -eq 1
check "... each with one result" test "$(grep -o '"custom_id":"."' results.jsonl | sort -u | wc -l)" -eq 4

finish
