#!/bin/sh
# tools/tally counts what passed, failed and was skipped, and loses nothing red. Usage: SCRIPT ROOT
set -u
tool=$1/tools/tally
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failures=0

# expect NAME "PASSED FAILED SKIPPED": the log comes on stdin.
expect() {
    cat >"$log"
    counted=$("$tool" "$log")
    if [ "$counted" = "$2" ]; then
        echo "[       OK ] $1"
    else
        echo "[  FAILED  ] $1 (counted $counted, expected $2)"
        failures=$((failures + 1))
    fi
}

expect cases_are_counted_once '3 1 1' <<'LOG'
<testcase name="a" status="fail">
<failure message=""/>
<system-out>[==========] Running 3 test(s).
[       OK ] one
[  FAILED  ] two
[  SKIPPED ] three
[  SKIPPED ] 1 test(s), listed below:
[  SKIPPED ] three
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] two
</system-out>
</testcase>
<testcase name="b" status="run">
<system-out>[       OK ] one
[       OK ] two
</system-out>
LOG
expect crash_counts_as_failure '1 1 0' <<'LOG'
<testcase name="a" status="fail">
<system-out>[       OK ] one
</system-out>
LOG
expect program_without_cases_is_one '1 1 1' <<'LOG'
<testcase name="a" status="run">
<system-out>fine</system-out>
<testcase name="b" status="notrun">
<skipped message="SKIP_RETURN_CODE=77"/>
<system-out></system-out>
<testcase name="c" status="notrun">
<skipped message="Unable to find executable"/>
<system-out></system-out>
LOG
exit "$failures"
