#!/bin/sh
# An installed graft works through pkg-config and find_package, shared and static, and shows nobody
# its insides. Usage: SCRIPT SOURCE BUILD C_COMPILER
# shellcheck disable=SC2317 # functions are called through check
set -u
# shellcheck source=tests/api/lib.sh
. "$1/tests/api/lib.sh"
consumer=$1/tests/api/consumer
build=$2
compiler=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

install_it() { cmake --install "$build" --prefix "$prefix"; }

# Names that a file defines for others to see and that do not begin with graft_.
foreign_names() { # NM_FLAGS FILE
    [ -f "$2" ] || return 1
    found=$(nm "$1" --defined-only -g "$2" | awk 'NF == 3 && $2 != "A" { print $3 }' |
        sed 's/@.*//' | grep -v '^graft_')
    [ -z "$found" ] || { printf '%s\n' "$found" && return 1; }
}

# Every function of the public headers is in the library.
complete() {
    declared=$(sed -n 's/^GRAFT_API .*[ *]\(graft_[a-z0-9_]*\)(.*/\1/p' "$1"/include/graft/*.h | sort -u)
    exported=$(nm -D --defined-only "$libdir/libgraft.so" | sed 's/.* \(graft_[a-z0-9_]*\).*/\1/' | sort -u)
    absent=$(for name in $declared; do
        printf '%s\n' "$exported" | grep -qx "$name" || echo "$name"
    done)
    [ -z "$absent" ] || echo "declared, not exported: $absent"
    [ -n "$declared" ] && [ -z "$absent" ]
}

soname() { readelf -d "$libdir/libgraft.so" | grep -q 'SONAME.*libgraft\.so\.[0-9]'; }

# Words of pkg-config are split on purpose.
# shellcheck disable=SC2046
shared() {
    "$compiler" "$consumer/main.c" -o "$work/shared" $(pkg-config --cflags --libs graft) &&
        LD_LIBRARY_PATH=$libdir "$work/shared"
}

# shellcheck disable=SC2046
static() {
    "$compiler" "$consumer/main.c" -o "$work/static" $(pkg-config --cflags graft) \
        "$libdir/libgraft.a" $(pkg-config --static --libs graft | sed 's/-lgraft//') &&
        "$work/static" && ! ldd "$work/static" | grep libgraft
}

# The program of README.md, built as README.md says. It opens models/tiny from where it runs.
# shellcheck disable=SC2046,SC2016
readme() {
    sed -n '/^```c$/,/^```$/p' "$1/README.md" | grep -v '^```' >"$work/story.c" &&
        "$compiler" -Wall -Wextra -Werror "$work/story.c" -o "$work/story" \
            $(pkg-config --cflags --libs graft) || return 1
    [ -f "$1/models/tiny/model.safetensors" ] || return 0
    (cd "$1" && LD_LIBRARY_PATH=$libdir "$work/story") >"$work/said" &&
        [ "$(wc -c <"$work/said")" -gt 100 ] && cat "$work/said" && iconv -f UTF-8 "$work/said"
}

package() {
    cmake -S "$consumer" -B "$work/package" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
        -DCMAKE_C_COMPILER="$compiler" && cmake --build "$work/package" &&
        "$work/package/with_graft" && "$work/package/with_static"
}

check 'cmake --install' install_it
libdir=$(dirname "$(find "$prefix" -name libgraft.a)")
export PKG_CONFIG_PATH="$libdir/pkgconfig"
check 'the shared library has a soname' soname
check 'the shared library exports what the headers declare' complete "$1"
check 'the shared library exports nothing but graft_*' foreign_names -D "$libdir/libgraft.so"
check 'the archive shows nothing but graft_*' foreign_names -g "$libdir/libgraft.a"
check 'a program with clashing names links the shared library through pkg-config' shared
check 'a program with clashing names links the archive through pkg-config' static
check 'the program of README.md tells a story' readme "$1"
check 'find_package gives graft::graft and graft::static' package
if [ -x "$build/graft" ]; then
    check 'the installed program runs without the library path' "$prefix/bin/graft" version
fi
exit "$failures"
