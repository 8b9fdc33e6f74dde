#!/bin/sh
# ./dev build makes what is used and no tests, unless a verb that needs them was there before. Usage: SCRIPT ROOT
set -u
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
mkdir "$work/bin"
cp "$source/dev" "$work/dev"

# A cmake that says what it was asked for, and leaves what a real one would; whatever is looked for is there.
cat >"$work/bin/cmake" <<'STUB'
#!/bin/sh
echo "$*" >>"$CALLS"
case $* in
*-DGRAFT_BUILD_TESTS=*)
    tests=${*##*-DGRAFT_BUILD_TESTS=}
    echo "GRAFT_BUILD_TESTS:BOOL=${tests%% *}" >build/CMakeCache.txt
    : >build/build.ninja
    ;;
esac
STUB
for program in pkg-config apt-get apt-cache sudo ninja cc objcopy clang clang-format-14 cppcheck shellcheck ctest; do
    printf '#!/bin/sh\nexit 0\n' >"$work/bin/$program"
done
chmod +x "$work"/bin/*

# configured NAME WITH VERB...: calls ./dev; it configured with tests ON, OFF, or (-) not at all.
configured() {
    name=$1 want=$2
    shift 2
    : >"$work/calls"
    (cd "$work" && CALLS=$work/calls PATH=$work/bin:$PATH sh dev "$@") >"$work/out" 2>&1
    got=$(sed -n 's/.*-DGRAFT_BUILD_TESTS=\([A-Z]*\).*/\1/p' "$work/calls" | head -n 1)
    if [ "${got:--}" = "$want" ] && grep -q -e '--build' "$work/calls"; then
        echo "[       OK ] $name"
    else
        echo "[  FAILED  ] $name (${got:--}, expected $want)"
        cat "$work/calls" "$work/out"
        failures=$((failures + 1))
    fi
}

configured a_first_build_has_no_tests OFF build
configured the_second_one_configures_nothing - build
configured a_verb_that_needs_tests_brings_them ON torture
configured and_then_they_stay - build
rm -rf "$work/build"
configured a_verb_that_needs_them_first_has_them ON torture

if [ "$failures" -gt 0 ]; then
    exit 1
fi
