#!/bin/sh
# Every public header compiles alone, as C11 and as C++17, without a warning.
# Usage: SCRIPT SOURCE C_COMPILER
# shellcheck disable=SC2317 # functions are called through check
set -u
# shellcheck source=tests/api/lib.sh
. "$1/tests/api/lib.sh"
include=$1/include
warnings='-Wall -Wextra -Wpedantic -Wconversion -Werror'

compile() { # COMPILER LANGUAGE STANDARD HEADER
    # shellcheck disable=SC2086 # a list of flags
    printf '#include <%s>\n' "$4" | "$1" -x "$2" -std="$3" $warnings -I "$include" -fsyntax-only -
}

for file in "$include"/graft/*.h; do
    header=graft/${file##*/}
    check "$header alone as C11" compile "$2" c c11 "$header"
    if command -v c++ >/dev/null 2>&1; then
        check "$header alone as C++17" compile c++ c++ c++17 "$header"
    else
        echo "[  SKIPPED ] $header alone as C++17: no C++ compiler"
    fi
done
exit "$failures"
