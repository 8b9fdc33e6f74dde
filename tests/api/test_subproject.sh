#!/bin/sh
# graft works inside another CMake project. The build is kept, so that the second run is short.
# Usage: SCRIPT SOURCE BUILD_FOLDER C_COMPILER
# shellcheck disable=SC2317 # functions are called through check
set -u
# shellcheck source=tests/api/lib.sh
. "$1/tests/api/lib.sh"
source=$1
build=$2
compiler=$3

configure() {
    cmake -S "$source/tests/api/subproject" -B "$build" -G Ninja -DGRAFT_SOURCE="$source" \
        -DCMAKE_C_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Debug
}

# An installed subproject must not bring graft's files along.
installs_nothing() {
    cmake --install "$build" --prefix "$build/prefix" && [ ! -e "$build/prefix/lib/libgraft.a" ]
}

check 'add_subdirectory configures' configure
check 'its programs build' cmake --build "$build" -- -j 2
check 'shared runs' "$build/with_graft"
check 'static runs, clashing names and all' "$build/with_static"
check 'nothing of graft is installed' installs_nothing
exit "$failures"
