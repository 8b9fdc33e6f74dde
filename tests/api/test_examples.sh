#!/bin/sh
# test_examples.sh SOURCE EXAMPLE...: the examples run on the model that ships, say the same twice, and
# fail in a civil way without one.
set -u
source=$1
shift
model=$source/models/tiny
if [ ! -f "$model/model.safetensors" ]; then
    echo "skipped: no $model"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

fail()
{
    echo "FAILED: $*"
    failed=1
}

for example in "$@"; do
    (cd "$source" && "$example") >"$folder/first" 2>"$folder/log" || fail "$example: status $?"
    "$example" "$model" >"$folder/second" 2>>"$folder/log" || fail "$example with a model: status $?"
    cmp -s "$folder/first" "$folder/second" || fail "$example says something else the second time"
    [ "$(wc -c <"$folder/first")" -gt 100 ] || fail "$example says hardly anything"
    iconv -f UTF-8 -t UTF-8 "$folder/first" >"$folder/utf8" 2>&1 || fail "$example: no UTF-8"
    if "$example" "$folder/nothing" >"$folder/first" 2>"$folder/log"; then
        fail "$example: status 0 without a model"
    fi
    grep -q nothing "$folder/log" || fail "$example does not name what it cannot open"
done
exit $failed
