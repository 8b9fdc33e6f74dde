#!/bin/sh
# test_merge.sh: several adapters into one: every method on two that ship, files of settings, formats, what is told, and what
# cannot be.
. "$(dirname "$0")/lib.sh"

tiny=$SOURCE/models/tiny
ships=$SOURCE/models/adapters
GRAFT_HOME=$scratch/home
export GRAFT_HOME

if [ ! -f "$tiny/model.safetensors" ]; then
    skip "models/tiny is not there"
    finish
    exit
fi
cd "$scratch" || exit 1

# merge WORDS...: graft merge on the model that ships.
merge() { run merge -m "$tiny" "$@"; }

# ---- two skills in one: what is kept of each one's gain on held-out questions
if "$SOURCE/bench/merge/gains" "$GRAFT" >gains 2>"$scratch/err"; then pass; else fail "the gains of all methods"; fi
# gain METHOD AT_LEAST: of both
gain() { awk -F '\t' -v m="$1" -v least="$2" '$1 == m { ok = $2 >= least && $3 >= least } END { exit !ok }' gains; }
for method in linear cat task_arithmetic slerp svd magnitude_prune ties dare_linear dare_ties della_linear della \
    breadcrumbs breadcrumbs_ties; do
    cp gains "$scratch/out"
    check "$method keeps 70 % of both" gain $method 70
done
if grep -q '^factors' gains; then
    check "averaging factors does not" test "$(awk -F '\t' '$1 == "factors" { print ($3 < 60) }' gains)" = 1
else
    skip "averaging factors, which takes Python"
fi

# ---- what is told
merge coder=0.7 security=0.3 -o both --json
check "a merge" status_is 0
check "... tells weights as they were typed" out_has '"weight":0.7'
check "... and that nothing is lost" out_has '"discarded_energy":0[,}]'
check "... and ranks by module" out_has '"rank_before":32'
check "the card has where it comes from" grep -q '"method": "linear"' both/graft.json
merge coder security -o small --rank 8 --name small --adapter-version 1.2.0
check "a rank" out_has '^linear of 2 adapters: rank 8, [0-9.]* % of the change discarded'
check "... is in the files" grep -q '"r": 8' small/adapter_config.json
check "... as is the name" grep -q '"name": "small"' small/graft.json
merge coder security -o energy --energy 0.95 -v
check "a share of the energy" status_is 0
check "... gives every module its rank" out_has '^model.layers.0.self_attn.q_proj  *32  *[0-9]'
run run -m "$tiny" -a ./both -p 'How should we store an invoice?' -n 8 --temp 0
check "the result runs" status_is 0

merge coder=0.7 security=0.3 -o unweighed --method average
check "weights that do not count are said" err_has 'average looks at no weights: that of coder'

# ---- formats: the same change
merge coder=0.7 security=0.3 -o both.gguf
check "a GGUF" status_is 0
merge coder=0.7 security=0.3 -o both-mlx --format mlx --rank 16
check "MLX, of one rank" status_is 0
merge coder=0.7 security=0.3 -o half --type bf16
check "16 bits" status_is 0
for a in ./both ./both.gguf; do
    run run -m "$tiny" -q -a $a -p 'How should we store an invoice?' -n 24 --temp 0
    cp "$scratch/out" "said.$(basename $a)"
done
check "a GGUF of it says the same" cmp -s said.both said.both.gguf

# ---- the same bytes for any number of threads, and every time
for method in linear svd ties dare_ties della breadcrumbs; do
    for t in 1 2 3; do
        merge -t $t coder=0.7 security=0.3 -o $method.$t --method $method --seed 3 --rank 12
    done
    for t in 2 3; do
        check "$method by $t threads" cmp -s $method.1/adapter_model.safetensors $method.$t/adapter_model.safetensors
    done
done
merge security=0.3 coder=0.7 -o turned --method dare_ties --seed 3 --rank 12 --json
merge coder=0.7 security=0.3 -o other --method dare_ties --seed 4 --rank 12
check "the order of inputs does not count" cmp -s dare_ties.1/adapter_model.safetensors turned/adapter_model.safetensors
check "another seed is another result" test "$(cmp -s dare_ties.1/adapter_model.safetensors other/adapter_model.safetensors || echo no)" = no

# ---- from a file
cat >merge.yml <<EOF
# in mergekit's words
merge_method: dare_ties
base_model: $tiny
models:
  - model: $ships/coder
    parameters: {weight: 0.7}
  - model: $ships/security
    parameters:
      weight: 0.3
parameters:
  density: 0.5
seed: 3
rank: 12
ties_divide: count
dtype: float32
EOF
run merge merge.yml -o filed
check "a file" status_is 0
check "... means what it says" cmp -s filed/adapter_model.safetensors dare_ties.1/adapter_model.safetensors
sed '/ties_divide/d; s/density: 0.5/density: null/' merge.yml >mergekit.yml
run merge mergekit.yml -o undivided
merge coder=0.7 security=0.3 -o none --method dare_ties --ties-divide none --density 1 --rank 12 --seed 3
check "what mergekit leaves unsaid is as mergekit has it" cmp -s undivided/adapter_model.safetensors none/adapter_model.safetensors
run merge merge.yml -o typed --seed 4
check "what is typed counts" cmp -s typed/adapter_model.safetensors other/adapter_model.safetensors
# wrong_file LINE PATTERN: a file with that line is refused
wrong_file() {
    { cat merge.yml && echo "$1"; } >wrong.yml
    run merge wrong.yml -o never
    refused "in a file: $1" 1 "$2"
}
wrong_file 'slices: []' '"slices" is about whole models'
wrong_file 'densitee: 3' '"densitee" is no key of a merge'
wrong_file 'rank: 12' 'is there twice'
wrong_file 'lambda: [1, 2]' 'a list of values by layer'
wrong_file 'epsilon: much' 'epsilon: it must be a number'
echo 'models: [' >wrong.yml
run merge wrong.yml -o never
refused "no YAML" 1 'wrong.yml'
echo 'merge_method: ties' >wrong.yml
run merge wrong.yml -o never
refused "no adapters in a file" 1 'which adapters'

# ---- what cannot be: one line, no output
# cannot STATUS PATTERN WORDS...
cannot() {
    code=$1 pattern=$2
    shift 2
    merge "$@" -o never
    refused "$*" "$code" "$pattern"
    check "... in one line" err_lines 1
    check "... and nothing is written" test ! -e never
}
cannot 1 'the weights sum to 0' coder=1 security=-1 --normalize
cannot 1 'density 0 of coder' coder security --method ties --density 0
cannot 1 'density 1.5 of security' coder security:density=1.5 --method dare_linear
cannot 1 'density -0.5' coder security --method magnitude_prune --density -0.5
cannot 1 'slerp goes from one adapter to another: it takes 2, not 3' coder security reviewer --method slerp
cannot 1 "slerp's t is 2" coder security --method slerp --slerp-t 2
cannot 1 'epsilon 0.6' coder security --method della --epsilon 0.6
cannot 1 'gamma 1 ' coder security --method breadcrumbs --gamma 1
cannot 1 'no method "mean-field"' coder security --method mean-field
cannot 1 'cat keeps every rank' coder security --method cat --rank 4
cannot 1 'sign "most"' coder security --method ties --sign most
cannot 1 'graft fuse' coder
cannot 1 'graft adapter list' coder nobody
cannot 1 'ghost' coder ./ghost
cannot 1 'security:densty' coder security:densty=1
cannot 1 'no number' coder security:density=much
cannot 1 'no number' coder security:density=nan
cannot 1 'no weight' coder=nan security
cannot 1 'lambda: "nan" is no number' coder security --lambda nan
cannot 1 'beyond what F32 can hold$' coder=1e38 security=1e38 --lambda 1e10
cannot 1 'ties_divide "half"' coder security --method ties --ties-divide half
run merge -m "$tiny" -o never
check "no adapters is wrong use" status_is 2

mkdir nan
cp "$ships/coder/adapter_config.json" "$ships/coder/graft.json" nan
# 64 bytes of ff in the middle of the values: NaN in bf16
{
    head -c 20000 "$ships/coder/adapter_model.safetensors"
    head -c 64 /dev/zero | tr '\0' '\377'
    tail -c +20065 "$ships/coder/adapter_model.safetensors"
} >nan/adapter_model.safetensors
cannot 1 'nan' coder ./nan
sed 's/"fingerprint": "sha256:./"fingerprint": "sha256:_/' both/graft.json >card
mkdir foreign
cp both/adapter_config.json both/adapter_model.safetensors foreign
cp card foreign/graft.json
cannot 1 'foreign' coder ./foreign
if [ -f "$SOURCE/models/tiny-draft/model.safetensors" ]; then
    run merge -m "$SOURCE/models/tiny-draft" coder security -o never
    refused "adapters of another base" 1 'coder'
fi
merge task:coder tag:review -o by-tag
check "tasks and tags" status_is 0
mkdir p:q
cp both/* p:q
merge ./p:q=0.5 coder -o colon --json
check "a path with a colon has a weight" out_has '"weight":0.5'
check "a GGUF says what it was merged of" grep -aq '"method":"linear"' both.gguf
echo kept >keep.txt
merge coder security -o keep.txt --format gguf
refused "a file that is no GGUF" 1 'no GGUF file'
check "... stays" test "$(cat keep.txt)" = kept
merge coder security -o stock --method model_stock
run adapter diff -m "$tiny" stock security --json
check "model_stock keeps what one of them alone has" out_has '"module":"model.layers.0.mlp.gate_proj"[^}]*"cosine":\(1\|0.99\)'
merge ./both coder -o both
refused "an output that is read" 1 'both'
merge coder security -o both
refused "a folder with something in it" 1 'both'

finish
