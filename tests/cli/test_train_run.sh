#!/bin/sh
# test_train_run.sh: graft train plot and graft train report: what they make of the files of a run, which are written here.
# GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

out_lacks() { ! grep -q -e "$1" "$scratch/out"; }
# Well-formed XML, where somebody is there to say so.
well_formed() {
    if command -v xmllint >/dev/null 2>&1; then
        xmllint --nonet --noout "$1" 2>"$scratch/err"
    else
        tail -n 1 "$1" | grep -q '^</\(svg\|html\)>$'
    fi
}
# step LOSS: one line of history
step() {
    printf '{"step":%d,"epoch":%d,"loss":%s,"grad_norm":1.5,"learning_rate":0.0002,"tokens":40,"fed":100%s}\n' \
        "$1" "$1" "$2" "$3"
}
run=$scratch/run
mkdir "$run"
history=$run/history.jsonl

# ---- a short run
{
    printf '{"step":0,"epoch":0,"valid_loss":2.5}\n'
    step 1 2.25 ''
    step 2 1.75 ',"valid_loss":1.5'
    step 3 null ',"skipped":true'
    step 4 1.25 ',"valid_loss":1.625'
    printf '{"step":5,"epo'
} >"$history"
run train plot "$run" -o "$scratch/loss.svg"
check "a run is drawn" status_is 0
check "... and where it went is said" out_is "$scratch/loss.svg"
check "... as XML" well_formed "$scratch/loss.svg"
cp "$scratch/loss.svg" "$scratch/out"
check "... with a mark for each validation, which says its loss" out_has "<title>validation, step 4: 1.625</title>"
check "... and the first" out_has "<title>validation, step 0: 2.5</title>"
check "... of so few steps there is no mean" out_lacks "mean of"
check "... ticks are round numbers" out_has '>1.2</text>'
check "... losses go on behind a step without one" test "$(grep -c 'line-mean" d=" M[^"]* M' "$scratch/out")" -eq 1
check "... nothing of a line that is not finished" out_lacks "step 5"
check "... no program in it" out_lacks "<script"
check "... dark where the reader is" out_has "prefers-color-scheme:dark"
run train plot "$run" -q -o "$scratch/again.svg"
check "-q says nothing" out_is ""
check "... and draws the same" cmp -s "$scratch/loss.svg" "$scratch/again.svg"
run train plot "$run" -o -
check "- is the standard output" out_equals_file "$scratch/loss.svg"

# ---- the page
run train report "$run" -o "$scratch/report.html"
check "a page is written" status_is 0
check "... that is XML, too" well_formed "$scratch/report.html"
cp "$scratch/report.html" "$scratch/out"
check "... with the best validation" out_has "<dt>best validation</dt><dd>1.5000</dd>"
check "... at its step" out_has "<dt>at step</dt><dd>2</dd>"
check "... tokens" out_has "<dt>tokens learned</dt><dd>160</dd>"
check "... what was skipped" out_has "no numbers: steps 3[.]"
check "... a row for each validation" test "$(grep -c '^<tr><td class="number">' "$scratch/out")" -eq 3
check "... no section of what was not kept" out_lacks "<h2>\(Settings\|Data\|Samples\)"
check "... no speed without times" out_lacks "per second"
check "... it fetches nothing" out_lacks 'src=\|href=\|url('

cat >"$run/timing.jsonl" <<'END'
{"step":1,"seconds":7.5,"fed":100}
{"step":2,"seconds":9.5,"fed":100}
{"step":3,"seconds":10.0,"fed":100}
{"step":3,"seconds":0.9,"fed":100}
{"step":4,"seconds":1.4,"fed":100}
END
cat >"$run/config.json" <<'END'
{"learning_rate":0.0002,"target_modules":["q_proj","v_proj"],"data":"a<b>&\"c\".jsonl"}
END
echo '{"records":7,"histogram":{"width":32,"counts":[2,5]},"tasks":[{"name":"pets","examples":7}]}' >"$run/data.json"
printf '[{"prompt":"<script>alert(1)</script>","before":"no &\\u0001 never","after":"yes","expected":"yes"}]' \
    >"$run/samples.json"
run train report "$run" -o "$scratch/report.html"
check "a page with everything is XML" well_formed "$scratch/report.html"
cp "$scratch/report.html" "$scratch/out"
check "... settings" out_has '<tr><th>target_modules</th><td>q_proj, v_proj</td></tr>'
check "... their text is escaped" out_has 'a&lt;b&gt;&amp;&quot;c&quot;.jsonl'
check "... data" out_has "<tr><th>records</th><td>7</td></tr>"
check "... how long examples are" out_has "<title>33 to 64 tokens: 5</title>"
check "... samples are text and nothing else" out_has "&lt;script&gt;alert(1)&lt;/script&gt;"
check "... no script" out_lacks "<script"
check "... characters that XML has not are replaced" out_has "no &amp;$(printf '\357\277\275') never"
# Only step 3 of the first process is known: step 2 has a validation in it, steps 1 and 3 of the second have no line
# before them, step 4 a validation.
check "... speed, without validations and what was before a process" out_has "fed per second</dt><dd>200</dd>"

# ---- a long run
awk 'BEGIN { for (i = 1; i <= 20000; i++)
    printf "{\"step\":%d,\"loss\":%.4f,\"grad_norm\":%g,\"learning_rate\":2e-5}\n", i, i == 777 ? 60 : 2 + i % 7 / 10,
        i == 500 ? 4000 : 1 }' >"$history"
rm "$run/timing.jsonl"
run train plot "$run" -o "$scratch/long.svg"
check "a run of 20,000 steps is XML" well_formed "$scratch/long.svg"
check "... of no more than 200 KB" test "$(wc -c <"$scratch/long.svg")" -lt 200000
cp "$scratch/long.svg" "$scratch/out"
check "... with a mean" out_has ">mean of 401</text>"
check "... the one high loss is on it" out_has '>60</text>'
check "... rates have the digits they need" out_has '>2e-5</text>'
run train report "$run" -o "$scratch/long.html"
cp "$scratch/long.html" "$scratch/out"
check "... norms that differ much are drawn by powers of ten" out_has '>1000</text>'

# ---- what cannot be
run train plot
refused "no run" 2 "which run"
run train plot "$run"
refused "no output" 2 "give -o FILE"
run train plot "$run" "$run" -o x
refused "two runs" 2 "one run"
run train plot "$scratch/none" -o "$scratch/x.svg"
refused "no such folder" 1 "no history.jsonl in it"
printf '' >"$history"
run train plot "$run" -o "$scratch/x.svg"
refused "nothing done yet" 1 "no step is done yet"
printf '{"step":1,"loss":1}\n{"step":2,"loss":}\n' >"$history"
run train plot "$run" -o "$scratch/x.svg"
refused "a broken line is named" 1 "history.jsonl: line 2: "
printf '{"step":2,"loss":1}\n{"step":1,"loss":1}\n' >"$history"
run train plot "$run" -o "$scratch/x.svg"
refused "steps that go back" 1 "line 2: \"step\" is no number above"
check "... nothing was written" test ! -e "$scratch/x.svg"
printf '{"step":1,"loss":1e300,"learning_rate":-1e300}\n' >"$history"
run train plot "$run" -o "$scratch/x.svg"
check "numbers beyond all sense are none" grep -q "no numbers" "$scratch/x.svg"
check "... and the rest is drawn" well_formed "$scratch/x.svg"
echo '[' >"$run/data.json"
run train report "$run" -o "$scratch/x.html"
refused "a broken file of the run is named" 1 "data.json"

finish
