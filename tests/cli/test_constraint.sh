#!/bin/sh
# test_constraint.sh: --json-schema, --grammar-file and --grammar of `graft run` and `graft chat`, on the model that ships.
# GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
schema='{"type":"object","properties":{"name":{"type":"string","maxLength":12},"ok":{"type":"boolean"}},"required":["name","ok"]}'
printf '%s\n' "$schema" >"$scratch/person.json"
printf 'root ::= "yes" | "no"\n' >"$scratch/answer.gbnf"

# One object with a name and ok, whatever the white space.
is_person() { tr -d '\n' <"$scratch/out" | grep -Eq '^\{[ 	]*"name": ?"([^"\\]|\\.)*",[ 	]*"ok": ?(true|false)[ 	]*\}$'; }
ask() { run run -m "$tiny" -p "Who is Tom?" --temp 1 "$@"; }

for seed in 1 2 3; do
    ask -s $seed --json-schema "$schema"
    check "a schema that is typed holds the answer" is_person
    cp "$scratch/out" "$scratch/first"
    ask -s $seed -j "$scratch/person.json"
    check "... and is the same from a file" out_equals_file "$scratch/first"
    check "... with nothing on stderr" err_lines 0
done
ask -s 4 -j "$schema" -n 16
check "an answer ends within -n" is_person
ask -s 4 -j "$schema" -n 4
check "what -n cuts off fails" status_is 1
check "... and says so" err_has "cut off"
ask --grammar-file "$scratch/answer.gbnf"
check "a grammar in a file holds the answer" out_has '^\(yes\|no\)$'
ask --grammar 'root ::= [a-c]{5}'
check "a grammar that is typed holds the answer" out_has '^[abc]\{5\}$'
ask --grammar-file "$scratch/answer.gbnf" --json
check "--json has the answer, and that it ended by itself" out_has '"text":"\(yes\|no\)","finish":"eos"'
printf 'Is it red?\nIs it blue?\n/exit\n' | "$GRAFT" chat -m "$tiny" --grammar-file "$scratch/answer.gbnf" >"$scratch/out" 2>"$scratch/err"
check "each turn of a chat is held to it" out_is "$(printf '%s\n' "$(sed -n 1p "$scratch/out" | grep -E '^(yes|no)$')" "$(sed -n 2p "$scratch/out" | grep -E '^(yes|no)$')")"

ask --grammar 'root ::= "yes'
refused "a wrong grammar" 1 '^graft: line 1, column 10: '
printf 'root ::=\n  "a" b\n' >"$scratch/wrong.gbnf"
ask --grammar-file "$scratch/wrong.gbnf"
refused "a wrong grammar in a file" 1 'wrong.gbnf: line 2, column 7: there is no rule "b"'
ask -j '{"type":'
refused "a schema that is no JSON" 1 'line 1'
ask -j '{"not":{}}'
refused "a keyword that cannot be held to" 1 '"not" at # cannot be held to'
ask -j "$scratch/nowhere.json"
refused "a schema that is not there" 1 'nowhere.json'
ask -j "$schema" --grammar 'root ::= "a"'
refused "two of them" 2 'exclude each other'

# requests of a batch
cat >"$scratch/requests" <<EOF
{"custom_id":"person","body":{"prompt":"Who is Tom? ","max_tokens":80,"temperature":1,"response_format":{"type":"json_schema","json_schema":{"name":"person","strict":true,"schema":$schema}}}}
{"custom_id":"any","body":{"messages":[{"role":"user","content":"Who is Tom?"}],"max_tokens":40,"temperature":1,"response_format":{"type":"json_object"}}}
{"custom_id":"wrong","body":{"prompt":"x","response_format":{"type":"json_schema","json_schema":{"schema":{"type":"x"}}}}}
{"custom_id":"unknown","body":{"prompt":"x","response_format":{"type":"json_schema","json_schema":{"schema":{"not":{}}}}}}
{"custom_id":"none","body":{"prompt":"x","response_format":{"type":"json_schema"}}}
EOF
run batch -m "$tiny" -i "$scratch/requests" -o "$scratch/results" --in-order
line() { sed -n "$1p" "$scratch/results" >"$scratch/out"; }
line 1
check "a request of a batch is held to its schema" out_has '"text": *"{.*\\"name\\": *\\".*\\"ok\\": *\(true\|false\).*}"'
check "... and ends by itself" out_has '"finish_reason": *"stop"'
line 2
check "any object is an object" out_has '"content": *"{.*}"'
line 3
check "a schema that is wrong is an invalid request" out_has '"invalid_request".*is none of null'
line 4
check "a keyword that cannot be held to is named" out_has '"unsupported_parameter".*not.* cannot be held to'
line 5
check "a schema that is missing is an invalid request" out_has '"invalid_request".*response_format'
finish
