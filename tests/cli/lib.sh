# lib.sh: a few words for tests of the command: run it, look at status, output and errors.
# Each test_*.sh sources this with GRAFT (the program) and SOURCE (the source root) set.
# shellcheck shell=sh disable=SC2034

passed=0
failed=0
skipped=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
shared=$SOURCE/../shared/data

# run WORDS...: runs graft; afterwards $status, $scratch/out and $scratch/err tell.
run() {
    "$GRAFT" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
}

pass() { passed=$((passed + 1)); }

fail() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    out: /' "$scratch/out" | head -n 5
    sed 's/^/    err: /' "$scratch/err" | head -n 5
}

skip() {
    skipped=$((skipped + 1))
    echo "skipped: $1"
}

# check NAME TEST...: one sentence, one condition.
check() {
    name=$1
    shift
    if "$@"; then pass; else fail "$name"; fi
}

status_is() { [ "$status" -eq "$1" ]; }
out_has() { grep -q -e "$1" "$scratch/out"; }
err_has() { grep -q -e "$1" "$scratch/err"; }
err_lines() { [ "$(wc -l <"$scratch/err")" -eq "$1" ]; }
out_is() { [ "$(cat "$scratch/out")" = "$1" ]; }
out_equals_file() { cmp -s "$scratch/out" "$1"; }

# refused NAME STATUS PATTERN: the last run failed so, with one line, and printed no result.
refused() {
    if [ "$status" -eq "$2" ] && err_has "$3" && [ ! -s "$scratch/out" ]; then
        pass
    else
        fail "$1 (status $status)"
    fi
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}
