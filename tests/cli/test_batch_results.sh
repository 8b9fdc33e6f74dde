#!/bin/sh
# test_batch_results.sh: the file of results of `graft batch`: what cannot run changes nothing in it, it is put in order, and
# the summary tells what was asked. (tests/unit/test_batch_output.c has its lines.) GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/batch_lib.sh"

printf '{"custom_id":"%s","body":{"prompt":"Once","max_tokens":2}}\n' a b c >requests.jsonl
run batch -i requests.jsonl -o results.jsonl -q
check "three answers" status_is 0
echo '{"custom_id":"d","body":{"prompt":"Once","max_tokens":2}}' >>requests.jsonl

# ---- what cannot run
sed 's/"custom_id":"b".*/"custom_id":"b","response":null,"error":{"code":"server_error","message":"x"}}/' results.jsonl >keep.jsonl
printf '{"id":"batch_req_' >>keep.jsonl
cp keep.jsonl kept
# unable PATTERN WORDS...: it cannot, says why in one line, and results stay; there are none where there were none.
unable() {
    pattern=$1
    shift
    run batch -i requests.jsonl -o keep.jsonl "$@"
    refused "graft batch $*" 1 "$pattern"
    check "... in one line" err_lines 1
    check "... and results stay" cmp -s keep.jsonl kept
    run batch -i requests.jsonl -o new.jsonl "$@"
    refused "graft batch $* anew" 1 "$pattern"
    check "... and leaves nothing" test ! -e new.jsonl
}
ln -s "$scratch/linked-to" link
cp -r "$SOURCE/models/tiny-draft" foreign
sed 's/"!":0,"\\"":1,/"!":1,"\\"":0,/' "$SOURCE/models/tiny-draft/tokenizer.json" >foreign/tokenizer.json
for again in --overwrite --retry-failed --in-order; do
    unable typo.gguf $again -m typo.gguf
    unable typo $again --model-draft typo
    unable "other tokens" $again --model-draft ./foreign
    unable nothing.json $again --json-schema nothing.json
    unable cache-size $again --cache-size 1K
done
run batch -i requests.jsonl -o link -m typo.gguf
check "a link to nothing stays one" test -L link -a ! -e linked-to
run batch -i requests.jsonl -o keep.jsonl --retry-failed --json
check "what can run goes on" test "$(value answered)" -eq 2
check "... and each has one result" test "$(grep -c '"status_code":200' keep.jsonl)" -eq 4

# ---- what is no file
mkfifo pipe
run batch -i pipe -o new.jsonl
refused "requests from a pipe" 1 "pipe: requests are read twice, so they must be a file"
run batch -i . -o new.jsonl
refused "requests from a folder" 1 "requests are read twice, so they must be a file"
check "... for which nothing is made" test ! -e new.jsonl

# ---- results in order
ids() { sed 's/.*"custom_id":"\([^"]*\)".*/\1/' "$1" | tr -d '\n'; }
printf '{"custom_id":"%s","body":{"model":"%s","prompt":"Once","max_tokens":%s}}\n' a later 3 b base 9 c base 2 d later 3 >requests.jsonl
run batch -i requests.jsonl -o ordered.jsonl --in-order -q
check "results stand as their requests" test "$(ids ordered.jsonl)" = abcd
"$GRAFT" adapter add "$SOURCE/models/adapters/coder" --name later >/dev/null
run batch -i requests.jsonl -o ordered.jsonl --in-order --retry-failed
check "... also those that were asked again" test "$(ids ordered.jsonl)" = abcd
check "... which are answers now" test "$(grep -c '"status_code":200' ordered.jsonl)" -eq 4
check "... and were the only ones" err_has '^4 requests: 4 done, 0 failed; 2 had results already; '
{
    echo '{"custom_id":"0","body":{"prompt":"Once","max_tokens":2}}'
    sort -r requests.jsonl
    echo '{"custom_id":"9","body":{"prompt":"Once","max_tokens":2}}'
} >moved.jsonl
run batch -i moved.jsonl -o ordered.jsonl -q
check "without --in-order what is new stands at the end" test "$(ids ordered.jsonl | cut -c 1-4)" = abcd
run batch -i moved.jsonl -o ordered.jsonl --in-order -q
check "lines that moved are put in order, with nothing to ask" test "$(ids ordered.jsonl)" = 0dcba9
check "... and nothing else is left" test "$(find . -name 'ordered*' | wc -l)" -eq 1

# ---- a line that is mended has one result, and its place
for again in --in-order --retry-failed; do
    {
        sed -n 1,2p moved.jsonl
        echo oops
    } >broken.jsonl
    rm -f mended.jsonl
    run batch -i broken.jsonl -o mended.jsonl -q
    check "a line that is no JSON fails" test "$(grep -c invalid_json mended.jsonl)" -eq 1
    sed -n 1,3p moved.jsonl >broken.jsonl
    run batch -i broken.jsonl -o mended.jsonl $again
    check "... and mended, with $again, is asked" err_has '^3 requests: 3 done, 0 failed; 2 had results already; '
    check "... and has one result" test "$(sed 's/,.*//' | sort | uniq -d | wc -l)/$(wc -l <mended.jsonl)" = 0/3
done

# ---- the summary
run batch -i moved.jsonl -o ordered.jsonl
check "nothing to ask: no failure" status_is 0
check "... which is said" err_has '^6 requests: 6 done, 0 failed; all had results already, nothing was asked$'
: >empty.jsonl
run batch -i empty.jsonl -o new.jsonl
check "no requests" err_has '^empty.jsonl: no requests in it$'
printf 'oops\n{"custom_id":"a"}\n' >garbage.jsonl
for quiet in -q --json; do
    rm -f new.jsonl
    run batch -i garbage.jsonl -o new.jsonl $quiet
    check "garbage, $quiet: a failure" status_is 1
    check "... with a line" err_has '^graft: 2 of 2 requests failed: new.jsonl says why; --retry-failed asks them again$'
    check "... one" err_lines 1
done
run batch -i garbage.jsonl -o new.jsonl
check "... and no speed of what was not there" err_has 'nothing was asked$'
rm new.jsonl
run batch -i garbage.jsonl -o new.jsonl
check "... nor of no tokens" err_has '; 0 tokens in [0-9.]* s$'

# ---- two at once, and the ends of one
i=0
while [ "$i" -lt 40 ]; do
    echo "{\"custom_id\":\"$i\",\"body\":{\"prompt\":\"Once\",\"max_tokens\":400,\"ignore_eos\":true}}"
    i=$((i + 1))
done >long.jsonl
run batch -i long.jsonl -o whole.jsonl -q
for signal in INT TERM HUP; do
    case $signal in # that of a program which they end
    INT) ends=1 ;;
    TERM) ends=143 ;;
    *) ends=129 ;;
    esac
    rm -f results.jsonl
    "$GRAFT" batch -i long.jsonl -o results.jsonl -np 2 --overwrite >first.out 2>first.err &
    pid=$!
    while [ ! -s results.jsonl ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    if [ "$signal" = INT ]; then
        run batch -i long.jsonl -o results.jsonl --overwrite -m typo.gguf
        if kill -0 "$pid" 2>/dev/null; then
            refused "two at once" 1 "another program writes results there: wait for its end, or give another file$"
        fi
    fi
    kill -s "$signal" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    status=$?
    if [ "$(wc -l <results.jsonl)" -ge 40 ]; then
        skip "it was done before SIG$signal came"
        continue
    fi
    cp first.out out
    cp first.err err
    check "SIG$signal ends it" status_is "$ends"
    check "... with a word" err_has '^graft: interrupted: [0-9]* of 40 requests have results; the same command goes on, without --overwrite$'
    check "... in one line" err_lines 1
    check "... and whole lines" test "$(tail -c 1 results.jsonl | wc -l)" -eq 1
    run batch -i long.jsonl -o results.jsonl -q
    check "... and it goes on" same_results results.jsonl whole.jsonl
done

finish
