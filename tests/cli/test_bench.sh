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
refused "an output of no model" 2 "bench model"
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
for bench in decode prefill attention linear load; do
    run bench "$bench" --shape mini -n 4 --context 9 --samples 2 --json
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
if [ -f "$SOURCE/models/tiny/model.safetensors" ]; then
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
