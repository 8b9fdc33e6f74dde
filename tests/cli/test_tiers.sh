#!/bin/sh
# test_tiers.sh: every tier that this processor runs gives the shipped model the same perplexity, within
# 0.1 %, as it is and quantised. GRAFT and SOURCE are set by ctest.
. "$(dirname "$0")/lib.sh"

if [ ! -f "$SOURCE/models/tiny/model.safetensors" ]; then
    skip "no models/tiny: no perplexity to compare"
    finish
    exit
fi

tiers=$("$GRAFT" version --json | sed 's/.*"tiers": *"\([^"]*\)".*/\1/')
case $tiers in scalar*) pass ;; *) fail "version --json lists the tiers: $tiers" ;; esac

# What the model itself tells, drawn with fixed seeds: text of the kind that it knows.
for seed in 1 2 3 4; do
    GRAFT_TIER=scalar "$GRAFT" run -q --raw -m "$SOURCE/models/tiny" -p "Once upon a time" -n 120 \
        --temp 0.9 --seed "$seed"
    echo
done >"$scratch/text"

# perplexity TIER MODEL: prints the number.
perplexity() {
    GRAFT_TIER=$1 "$GRAFT" perplexity --json -m "$2" -f "$scratch/text" |
        sed 's/.*"perplexity": *\([0-9.]*\).*/\1/'
}

within() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 1 && a < 100 && a / b < 1.001 && a / b > 0.999) }'; }

for type in as-it-is q8_0 q4_0 q4_k_m; do
    model=$SOURCE/models/tiny
    if [ "$type" != as-it-is ]; then
        model=$scratch/$type.gguf
        run quantize -m "$SOURCE/models/tiny" -o "$model" --type "$type"
        check "quantize to $type" status_is 0
    fi
    want=$(perplexity scalar "$model")
    for tier in $tiers; do
        [ "$tier" != scalar ] || continue
        got=$(perplexity "$tier" "$model")
        check "perplexity of $type: $got on $tier, $want on scalar" within "$got" "$want"
    done
done

finish
