#!/bin/sh
# tools/check_size accepts what is exactly at its limits and finds what is one line above them.
# Usage: SCRIPT ROOT
set -u
tool=$1/tools/check_size
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

# function_of LINES: a C function with that many lines from brace to brace.
function_of() {
    awk -v n="$1" 'BEGIN {
        print "static int long_one(int a)"; print "{"
        for (i = 2; i < n; i++) print "    a++;"
        print "}"
    }'
}

lines_of() {
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) print "int x;" }'
}

# expect STATUS NAME FILE WORDS: FILE, read from stdin, alone in the tree.
expect() {
    rm -rf "$tree"
    mkdir -p "$tree/$(dirname "$3")"
    cat >"$tree/$3"
    said=$("$tool" "$tree")
    if [ $? -eq "$1" ] && printf '%s\n' "$said" | grep -q "$4"; then
        echo "[       OK ] $2"
    else
        echo "[  FAILED  ] $2 (said: $said)"
        failures=$((failures + 1))
    fi
}

lines_of 800 | expect 0 file_at_the_limit src/base/a.c ''
lines_of 801 | expect 1 file_above_the_limit src/base/a.c 'a.c:801: 801 lines'
lines_of 801 | expect 1 test_above_the_limit tests/unit/test_a.c '801 lines'
lines_of 2000 | expect 0 generated_table src/model/tokenizer/generated/unicode.c ''
function_of 80 | expect 0 function_at_the_limit src/base/a.c ''
function_of 81 | expect 1 function_above_the_limit src/base/a.c 'a.c:2: long_one has 81 lines'
function_of 81 | expect 1 function_in_header src/base/a.h 'long_one has 81 lines'
function_of 120 | expect 0 kernel_at_the_limit src/kernels/x86/a.c ''
function_of 121 | expect 1 kernel_above_the_limit src/kernels/x86/a.c 'long_one has 121 lines'
exit "$failures"
