#!/bin/sh
# Every test program in the tree is declared, so that none is forgotten, and every declared one is
# there. Usage: SCRIPT ROOT LIST, where LIST has the first source of each declared test.
set -u
failures=0
for file in "$1"/tests/unit/test_*.c "$1"/tests/conformance/test_*.c \
    "$1"/tests/gradients/test_*.c; do
    source=${file#"$1"/tests/}
    if grep -qx "$source" "$2"; then
        echo "[       OK ] $source is declared"
    else
        echo "[  FAILED  ] $source is not in tests/CMakeLists.txt"
        failures=$((failures + 1))
    fi
done
while read -r source; do
    if [ ! -f "$1/tests/$source" ]; then
        echo "[  FAILED  ] $source is declared and not there"
        failures=$((failures + 1))
    fi
done <"$2"
exit "$failures"
