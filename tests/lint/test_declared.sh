#!/bin/sh
# Every test program in the tree is declared, so that none is forgotten, and every declared one is
# there. Usage: SCRIPT ROOT
set -u
failures=0
for file in "$1"/tests/unit/test_*.c "$1"/tests/conformance/test_*.c; do
    source=${file#"$1"/tests/}
    if grep -q "$source" "$1/tests/CMakeLists.txt"; then
        echo "[       OK ] $source is declared"
    else
        echo "[  FAILED  ] $source is not in tests/CMakeLists.txt"
        failures=$((failures + 1))
    fi
done
absent=$(sed -n 's/^graft_test(.* SOURCES \([^ )]*\).*/\1/p' "$1/tests/CMakeLists.txt" |
    while read -r source; do [ -f "$1/tests/$source" ] || echo "$source"; done)
if [ -n "$absent" ]; then
    echo "[  FAILED  ] declared and not there:" "$absent"
    failures=$((failures + 1))
fi
exit "$failures"
