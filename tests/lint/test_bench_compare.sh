#!/bin/sh
# bench/compare tells what is slower from what is noise. Usage: SCRIPT ROOT
set -u
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# line NAME VALUE MEANING SPREAD
line() { printf '%s\t%s\t%s\t%s\n' "$@"; }

# expect STATUS SENTENCE PATTERN: of comparing kept with new.
expect() {
    "$root/bench/compare" "$scratch/kept" "$scratch/new" >"$scratch/out"
    if [ "$?" -eq "$1" ] && grep -q -e "$3" "$scratch/out"; then
        echo "[       OK ] $2"
    else
        echo "[  FAILED  ] $2"
        cat "$scratch/out"
        failures=$((failures + 1))
    fi
}
root=$1

line decode 0.90 'of read bandwidth' 0.02 >"$scratch/kept"
line decode 0.87 'of read bandwidth' 0.02 >"$scratch/new"
expect 0 'three percent are no news' 'decode .* 0.967$'
line decode 0.80 'of read bandwidth' 0.02 >"$scratch/new"
expect 1 'eleven percent are' 'decode .* 0.889  SLOWER$'
line decode 0.80 'of read bandwidth' 0.60 >"$scratch/new"
expect 0 'unless the samples lie far apart' 'decode .* 0.889$'
line decode 0.99 'of read bandwidth' 0.02 >"$scratch/new"
expect 0 'faster is never slower' 'decode .* 1.100$'
{ line prefill 0.5 'of f32 FMA' 0.02 && cat "$scratch/kept"; } >"$scratch/new"
expect 0 'a new line has nothing to be compared with' 'prefill .* new$'
line decode 1.8 'x context 128' 0.02 >>"$scratch/kept"
line decode 0.9 'x context 128' 0.02 >"$scratch/new"
expect 1 'a ratio counts as a share does, and beside one of the same name' 'x context 128 .*SLOWER$'
line prefill 0.5 'of f32 FMA' 0.02 >"$scratch/new"
expect 1 'a figure that is no longer there does not pass' 'x context 128 .*GONE$'
line tokenize 50 MB/s 0 >"$scratch/kept"
line tokenize 20 MB/s 0 >"$scratch/new"
expect 0 'an absolute number is not judged' 'tokenize .* 0.400$'
exit "$failures"
