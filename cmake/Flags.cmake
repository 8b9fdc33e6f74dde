# How every file of graft is compiled. Directory scope: a project that adds graft with
# add_subdirectory keeps its own flags.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")

add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
# -ffp-contract=off: clang contracts a*b+c by itself and gcc does not; results must not depend on it.
add_compile_options(
    -ffp-contract=off -fno-math-errno -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
    -Wstrict-prototypes -Wmissing-prototypes)
if(GRAFT_WERROR)
    add_compile_options(-Werror)
endif()

if(GRAFT_SANITIZE)
    add_compile_options(-fsanitize=${GRAFT_SANITIZE} -fno-omit-frame-pointer
                        -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${GRAFT_SANITIZE})
endif()
if(GRAFT_BUILD_FUZZERS)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "GRAFT_BUILD_FUZZERS needs clang: libFuzzer is part of it")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(GRAFT_COVERAGE)
    # Counts that threads lose do not matter, only which are zero; atomic ones take ten times as long.
    add_compile_options(--coverage -fprofile-update=single)
    add_link_options(--coverage)
endif()
