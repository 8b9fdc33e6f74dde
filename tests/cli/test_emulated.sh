#!/bin/sh
# test_emulated.sh: a cross build on processors that its emulator has: each is offered the tiers that
# it can run, and on each tier the command prints the pinned answer of the model that ships. GRAFT and
# SOURCE are set by ctest; QEMU_CPU chooses the processor.
. "$(dirname "$0")/lib.sh"

prompt='The bridge in Oakford was old and broken.'
answer=$(sed -n 's/^{"name": "story_bridge".*"text": "\(.*\)", "min_margin".*/\1/p' \
    "$SOURCE/tests/conformance/tiny_prompts.json" | sed 's/\\"/"/g')
check "there is a pinned answer" test -n "$answer"

# tell TIER: the answer, by the tier or by the fastest.
tell() {
    if [ -n "$1" ]; then export GRAFT_TIER="$1"; else unset GRAFT_TIER; fi
    run run --raw -q -m "$SOURCE/models/tiny" -p "$prompt" -n 64 --temp 0
    check "$QEMU_CPU, tier ${1:-of its own choice}: the pinned answer" out_is "$answer"
}

# on PROCESSOR TIERS...: the tiers it is offered, slowest first.
on() {
    export QEMU_CPU="$1"
    shift
    unset GRAFT_TIER
    run version
    check "$QEMU_CPU runs: $*" out_has "tiers *$* (in use: "
    tell ''
}

on cortex-a72 scalar neon
run version
check "the processor is named" out_has 'processor *Arm Cortex-A72,'
on neoverse-n1 scalar neon dotprod
on max scalar neon dotprod i8mm
run version
check "a processor without a name is numbered" out_has 'processor *aarch64, maker 0x00'
for tier in scalar neon dotprod i8mm; do tell "$tier"; done
finish
