#!/bin/sh
# test_bench.sh: `graft bench` as somebody at a terminal or a script meets it. GRAFT and SOURCE are set by
# ctest. No figure is judged.
. "$(dirname "$0")/lib.sh"

# ---- wrong use is status 2, in few lines that say what is right
run bench
refused "no bench named" 2 "limits, decode"
run bench decode prefill
refused "two benches" 2 "one bench at a time"
run bench dance
refused "an unknown bench" 2 "limits, decode"
check "... in one line" err_lines 1
run bench decode --shape gpt-7
refused "an unknown shape" 2 "llama-3.2-1b"
check "... in one line" err_lines 1
run bench decode --shape mini --type q9
refused "an unknown type" 2 "q4_k_m"
check "... in one line" err_lines 1
run bench decode -m tiny --shape mini
refused "a model and a shape" 2 "not both"
run bench decode --shape mini --rows 1,two
refused "rows that are no numbers" 2 "two"
run bench decode --shape mini --context 0
refused "a context of nothing" 2 "context"
run bench model --shape mini
refused "a model to nowhere" 2 "-o"
run bench decode -o file
refused "an output of no model" 2 "adapters, model"
run bench isolation --shape mini -n 31
refused "an answer too short to have gaps" 2 "at least 32"

# ---- an option that a bench does not go by is refused, and said where it belongs
not_with() { # BENCH WHERE WORDS...
    bench=$1 where=$2
    shift 2
    run bench "$bench" "$@"
    refused "bench $bench $*" 2 "graft bench: $1 goes with $where, not with $bench"
}
not_with stream speculative --model-draft nope
not_with batch 'decode, linear' --rows 4
not_with batch 'decode, attention' --context 5
not_with load 'all but limits, load, .*' -n 5
not_with prefill 'decode, attention' --context 9
not_with decode 'adapters, swap, train, batch, isolation' --rank 4
not_with decode 'adapters, .*, isolation' --dora
not_with train 'adapters, .*, isolation' --adapter-type q4
not_with swap 'all but swap, model' --samples 3
not_with linear 'all but .*linear, .*' --cache-type-k q8
not_with limits 'all but limits, vectors' --shape mini
not_with vectors 'all but limits, vectors' -m tiny
not_with limits 'all but limits, vectors' --pack none
not_with model 'all but swap, model' --samples 3 -o "$scratch/x"
run bench adapters --shape mini -n 4 -o "$scratch/x"
refused "tokens of an adapter that is kept" 2 "not with adapters -o"
run bench model --shape mini --pack none -o "$scratch/x"
refused "weights rearranged in a file" 2 "not with -o"
run bench decode --no-mmap
refused "weights that are not mapped" 2 "goes with no bench"
check "nothing was written" test ! -e "$scratch/x"
run bench decode -m /nonexistent/model
refused "a model that is not there" 1 "/nonexistent/model"

# ---- figures
has_fields() {
    for field in bench case value unit spread samples clock tier threads command "$@"; do
        grep -qv -e "\"$field\":" "$scratch/out" && return 1
    done
    return 0
}
run bench limits --samples 1 --json
check "bench limits" status_is 0
check "... has the fields of a figure" has_fields
check "... of reading" out_has '"case":"read bandwidth, 1 thread"'
for bench in "decode -n 4 --context 9" "prefill -n 4" "attention -n 4 --context 9" "linear -n 4" load; do
    # shellcheck disable=SC2086 # words are what is wanted
    run bench $bench --shape mini --samples 2 --json
    check "bench $bench" status_is 0
    check "... has the fields of a figure beside a limit" has_fields limit limit_share share_spread checked
    check "... says what was run" out_has '"subject":"mini q8_0 (random weights, head Q8_0)"'
done
run bench adapters --shape mini -n 4 --samples 1 --json
check "bench adapters" status_is 0
check "... has the fields of a figure beside a limit" has_fields limit checked
check "... compares the base with adapters in memory" out_has '"baseline_case":"decode, base alone"'
check "... and rows with rows alone" out_has '"case":"16 rows, 16 adapters: more a step".*bit by bit'
run bench swap --shape mini --json
check "bench swap" status_is 0
check "... has the fields of a figure" has_fields checked
check "... swaps by name" out_has '"case":"swap by name, p99"'
run bench train --shape mini -n 9 --samples 2 --json
check "bench train" status_is 0
check "... has the fields of a figure" has_fields checked
check "... compares a step with a prompt" out_has '"baseline_case":"prompt of 9 tokens"'
run bench vectors --samples 2 --json
check "bench vectors" status_is 0
check "... has two figures of each task" test "$(grep -c '"case":"1000 x 768, .*"unit":"ms"' "$scratch/out")" -eq 10
run bench presets --shape width-768 --adapter-type f16 --samples 1 --json
check "bench presets" status_is 0
check "... has the fields of a figure" has_fields checked
check "... beside the targets at that width" out_has '"case":"reviewer, time of a token".*"baseline_case":"target","baseline":30'
run bench presets --shape mini --samples 1 --json
check "... which have nothing to say of another" test -z "$(grep target "$scratch/out")"
run bench decode --shape mini --type q4_0 -n 4 --context 9 --rows 2,1 --samples 1 --json -t 1
check "figures have the command" out_has '"command":"graft bench decode --shape mini --type q4_0 '
check "one line for each case" test "$(wc -l <"$scratch/out")" -eq 2
run bench decode --shape mini -n 4 --context 9,12 --rows 1,2 --samples 2 --json
check "comparisons have a baseline and a ratio" out_has '"baseline":.*"ratio":.*"ratio_spread":'
run bench decode --shape mini --type q4_k_m -n 4 --context 9 --samples 1
check "the table has its head" out_has "^decode: mini q4_k_m (random weights, head Q6_K); tier"
check "... and a row" out_has "context 9 .*tokens/s.*of read bandwidth"
check "... and nothing on stderr" err_lines 0
check "... of one value, which has no spread" test "$(grep -c '%' "$scratch/out")" -eq 0

# ---- a table is in line, whatever its names, and its numbers have no powers of ten
# in_line: where the unit of a row begins, all others begin.
in_line() {
    sed -n 's| ms\( .*\)\{0,1\}$|@|p' "$scratch/out" | sed 's/@.*//' | awk '{ n[length]++ } END { for (i in n) k++; exit k != 1 }'
}
run bench isolation --shape mini -n 32 --samples 1
check "bench isolation" status_is 0
check "... has its columns in line" in_line
check "... and compares nothing with itself" test "$(grep -c ' x alone' "$scratch/out")" -eq 6
check "... as what is alone is beside nothing" test "$(grep -c '^  alone: .* ms$' "$scratch/out")" -eq 2
run bench isolation --shape mini -n 32 --samples 1 --cache-type-k q8 --json
check "bench isolation --json" has_fields checked
run bench stream --shape mini -n 20 --samples 2
check "bench stream" status_is 0
check "... has numbers without powers of ten" test "$(grep -c '[0-9]e[+-]' "$scratch/out")" -eq 0
check "... five of them" test "$(grep -c '^  20 tokens, .* [0-9.]* tokens/s ' "$scratch/out")" -eq 5
run bench batch --shape mini -n 2 --samples 1 --json
check "bench batch" has_fields checked limit

# ---- help tells what a bench does with the options that all verbs have
"$GRAFT" bench --help | tr -s '\n ' ' ' >"$scratch/out"
check "bench --help: weights are random without -m" out_has 'MODEL Directory, GGUF file or name; default: random weights'
check "... and an option that goes with no bench is not there" test "$(grep -c -e '--no-mmap' "$scratch/out")" -eq 0

# ---- the lists are one list
"$GRAFT" bench --help | sed -n '/^Benches:/,/^$/s/^  \([a-z]*\)  .*/\1/p' >"$scratch/benches"
check "bench --help lists the benches" test "$(wc -l <"$scratch/benches")" -eq 16
known=$(paste -s -d, "$scratch/benches" | sed 's/,/, /g')
run bench dance
refused "an unknown bench is told all of them" 2 "known are $known\$"
run bench
refused "and so is who names none" 2 "which one? $known"
while read -r bench; do
    check "docs/bench.md has an example of $bench" grep -q "^    graft bench $bench" "$SOURCE/docs/bench.md"
    check "the manual has bench $bench" grep -q "^\.Cm $bench\b" "$SOURCE/docs/man/graft.1"
done <"$scratch/benches"

if [ -f "$SOURCE/models/tiny/model.safetensors" ]; then
    run bench speculative -m tiny --model-draft tiny-draft -n 4 --samples 1
    check "bench speculative" status_is 0
    check "... has its columns in line" test "$(sed -n 's|\(.*[0-9]\) tokens.*|\1|p' "$scratch/out" | awk '{ print length }' | sort -u | wc -l)" -eq 1
    check "... and no spread of one value" test "$(grep -c '(' "$scratch/out")" -eq 1
    "$GRAFT" bench model --shape mini -o "$scratch/other.gguf" >"$scratch/err"
    run bench speculative -m tiny --model-draft "$scratch/other.gguf" -n 4 --samples 1
    refused "a draft of another vocabulary" 1 "has other tokens"
    run run --model-draft "$scratch/other.gguf" -p Hello
    refused "... as in run" 1 "has other tokens"
    run bench decode -m "$SOURCE/models/tiny" -n 4 --context 9 --samples 1 --json
    check "the model that ships" out_has '"subject":"tiny (head BF16)"'
    GRAFT_TIER=scalar run bench prefill -m tiny -n 4 --samples 1 --json
    check "the scalar tier" out_has '"tier":"scalar"'
else
    skip "models/tiny is not there"
fi

# ---- a random model that is kept
run bench model --shape mini --type q5_k_m -o "$scratch/mini.gguf"
check "bench model" status_is 0
check "... says what it wrote" out_has "mini q5_k_m (random weights, head Q6_K)"
run inspect "$scratch/mini.gguf" --json
check "... which is a model" out_has '"Q5_K"'
run run -m "$scratch/mini.gguf" --raw -p "Hello" -n 4 --temp 0 --ignore-eos
check "... that runs" status_is 0
run bench decode -m "$scratch/mini.gguf" -n 4 --context 9 --samples 1 --json
check "... and can be measured" out_has '"subject":"mini.gguf (head Q6_K)"'
run bench model --shape mini --type mlx4 -o "$scratch/mlx"
check "bench model of an MLX type" out_has "mini mlx4 (random weights, head MLX4)"
run bench prefill -m "$scratch/mlx" -n 4 --samples 1 --json
check "... is a folder that can be measured" out_has '"subject":"mlx (head MLX4)"'
run bench model --shape mini --type mlx4 -o "$scratch/mlx"
refused "a folder that is not empty" 1 "not empty"
run bench adapters -m "$scratch/mini.gguf" --rank 4 -o "$scratch/adapter"
check "bench adapters -o" status_is 0
run adapter show "$scratch/adapter" -m "$scratch/mini.gguf"
check "... keeps one that opens" out_has "rank"
run bench adapters -m "$scratch/mini.gguf" -o "$scratch/adapter"
refused "an adapter where something is" 1 "not an empty directory"
run bench model --shape mini -o /nonexistent/folder/file.gguf
refused "a file in a folder that is not there" 1 "/nonexistent/folder"

finish
