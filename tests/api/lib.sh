# lib.sh: a few words for tests of what is installed. Sourced; needs nothing set.
# shellcheck shell=sh
failures=0

# check NAME COMMAND...: one case; its output is shown when it fails.
check() {
    case_name=$1
    shift
    if said=$("$@" 2>&1); then
        echo "[       OK ] $case_name"
    else
        echo "[  FAILED  ] $case_name"
        printf '%s\n' "$said" | tail -n 30
        failures=$((failures + 1))
    fi
}
