# adapter_lib.sh: what the tests of `graft adapter` say beside lib.sh, which this sources.
# shellcheck shell=sh
. "$(dirname "$0")/lib.sh"

# says NAME PATTERN: about the last output.
says() { check "$1" out_has "$2"; }

# wrong PATTERN WORDS...: `graft adapter WORDS` is wrong use, and nothing was opened.
wrong() {
    pattern=$1
    shift
    run adapter "$@"
    refused "graft adapter $*" 2 "$pattern"
}

# failed PATTERN WORDS...: it fails, and says why in one line; a warning may come before.
failed() {
    pattern=$1
    shift
    run adapter "$@"
    refused "graft adapter $*" 1 "$pattern"
    check "... in one line" [ "$(grep -vc ' warning: ' "$scratch/err")" -eq 1 ]
}
