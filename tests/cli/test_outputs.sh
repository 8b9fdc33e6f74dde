#!/bin/sh
# test_outputs.sh: what is read is never written over, a failed fuse leaves nothing behind, and what is fused is said.
# GRAFT, SOURCE and MODELS are set by ctest.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
if ! [ -d "$tiny" ] || ! [ -x "${MODELS:-}" ]; then
    skip "models/tiny or the program that writes adapters is not there"
    finish
    exit
fi
"$MODELS" "$scratch/made" "$tiny" adapter >/dev/null 2>&1
cd "$scratch" || exit 1
cp -r made/adapter ta
run adapter convert ta -m "$tiny" -o ad.gguf
run quantize -m "$tiny" -o own.gguf --type f16
run quantize -m "$tiny" -o hfm --format hf
mkdir sd one
cp ad.gguf sd/adc.gguf
cp own.gguf one/model.gguf
cp ad.gguf ad.gguf.fuse.json
cp own.gguf txt.gguf
echo "A cat that cannot sleep." >text.gguf.fuse.json
echo "A cat." >words.gguf
sums() { find . -type f ! -name 'sums.*' ! -name out ! -name err -exec cksum {} + | sort; }
sums >sums.before

# ---- what is read is not written over: WORDS...
kept() {
    run "$@"
    refused "graft $*" 1 "is what is read"
    check "... and in one line" err_lines 1
    sums >sums.now
    check "... nothing changed" cmp -s sums.before sums.now
}
kept fuse -m "$tiny" -a ./ad.gguf -o ad.gguf
kept fuse -m "$tiny" -a ./ad.gguf=0.5 -o sd/../ad.gguf
kept fuse -m "$tiny" -a ./sd -o sd/adc.gguf
kept fuse -m "$tiny" -a ./ta -o ta/adapter_config.json --format gguf
kept fuse -m "$tiny" -a ./ta -o ta/adapter_model.safetensors --format gguf
kept fuse -m "$tiny" -a ./ad.gguf.fuse.json -o ad.gguf
kept fuse -m hfm -a ./ta -o hfm/model.safetensors --format gguf
kept fuse -m hfm -a ./ta -o hfm/tokenizer.json --format gguf
kept fuse -m one -a ./ta -o one/model.gguf
kept fuse -m "$tiny" -a ./ta -o words.gguf --text words.gguf
kept fuse -m "$tiny" -a ./ta -o text.gguf --text text.gguf.fuse.json
kept quantize -m hfm -o hfm/config.json --format gguf
kept quantize -m one -o one/model.gguf --type q4_0
kept adapter convert ./ta -m own.gguf -o own.gguf --format gguf
kept adapter convert sd -m "$tiny" -o sd/adc.gguf --type f16
kept adapter convert ta -m "$tiny" -o ta/adapter_model.safetensors --format gguf
kept adapter convert ta -m "$tiny" -o ta/adapter_config.json --format gguf
rm txt.gguf
ln own.gguf hard.gguf
run quantize -m own.gguf -o hard.gguf --type q4_0
refused "another name of the model" 1 "is what is read"
run quantize -m hfm -o hfm/new.gguf --type q4_0
check "a new file beside the model is fine" status_is 0
rm -f hfm/new.gguf

# ---- nothing of a fuse without all of it
nothing() { # NAME PATHS...
    name=$1
    shift
    for path in "$@"; do
        check "$name: no $path" test ! -e "$path"
    done
    check "$name: nothing half-written" test -z "$(find . -name '*.tmp-*')"
}
for words in "same.gguf --sidecar same.gguf" "same.gguf --sidecar ./same.gguf.fuse.json" "same --format hf --sidecar same" \
    "same --format hf --sidecar $scratch/../$(basename "$scratch")/same/"; do
    # shellcheck disable=SC2086 # words are what is wanted
    run fuse -m "$tiny" -a ./ta --type bf16 --kl-tokens 0 -o $words
    refused "fuse -o $words" 2 "lies in the way of"
    nothing "fuse -o $words" same same.gguf same.gguf.fuse.json
done
mkdir empty
run fuse -m "$tiny" -a ./ta -o empty/x.gguf --kl-tokens 0 --sidecar empty
refused "an output in the sidecar" 2 "lies in the way of"
nothing "an output in the sidecar" empty/x.gguf empty/x.gguf.fuse.json
mkdir qq.gguf.fuse.json
run fuse -m "$tiny" -a ./ta -o qq.gguf --kl-tokens 0
refused "no place for the certificate" 1 "qq.gguf.fuse.json"
nothing "no place for the certificate" qq.gguf
run fuse -m "$tiny" -a ./ta -o late.gguf --type f32 --kl-tokens 0 --sidecar empty
if [ "$status" -ne 0 ]; then
    refused "nothing was lost" 1 "nothing for a sidecar"
    nothing "nothing was lost" late.gguf late.gguf.fuse.json
fi
check "the empty folder stays" test -d empty
run fuse -m "$tiny" -a ./ta -o whole.gguf --type q4_0 --kl-tokens 0 --sidecar empty
check "an empty folder takes the sidecar" test -s empty/adapter_model.safetensors
check "... with all the rest" test -s whole.gguf -a -s whole.gguf.fuse.json
run fuse -m "$tiny" -a ./ta -o ranked.gguf --sidecar-rank 4
refused "a rank of no sidecar" 2 "give --sidecar"

# ---- one adapter twice, by content
cp -r ta twin
for second in ta/ ./twin "$scratch/ta"; do
    for words in "run -p x -n 1" "run -p x -n 1 --fuse" "fuse -o twice.gguf"; do
        # shellcheck disable=SC2086 # words are what is wanted
        run $words -m "$tiny" -a ./ta -a "$second"
        refused "$words with $second too" 1 "given twice: add the weights"
    done
done
nothing "one adapter twice" twice.gguf twice.gguf.fuse.json

# ---- what is fused is said
printf '/adapter\n/base\n/adapter ./ad.gguf\n' |
    "$GRAFT" chat -q -m "$tiny" --fuse -a ./ta=0.5 >out 2>err
check "/adapter tells what is fused" out_has "^  the base model with ./ta=0.5 fused into it$"
check "/base too" out_has "^(the base model with ./ta=0.5 fused into it, swapped"
check "... and what is put on top" out_has "^(the base model with ./ta=0.5 fused into it + ./ad.gguf=1, swapped"
printf '/adapter\n' | "$GRAFT" chat -q -m "$tiny" >out 2>err
check "no adapter, nothing fused" out_is "  the base model"
run fuse --help
check "fuse has no --fuse" test -z "$(grep -e '--fuse ' out)"
check "... but the others' options" out_has "--strict-base"
run fuse -m "$tiny" -a ./ta -o never.gguf --fuse
refused "fuse --fuse" 2 "fuse"
run run --help
check "run has it" out_has "--fuse "

finish
