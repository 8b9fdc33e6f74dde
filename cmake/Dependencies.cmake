# The libraries graft stands on (why each: CONTRIBUTING.md), found through pkg-config.
# GRAFT_PACKAGES lists what the library itself needs; it goes into graft.pc and graftConfig.cmake.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

set(GRAFT_MODULE_JANSSON "jansson >= 2.13")
set(GRAFT_MODULE_PCRE2 "libpcre2-8 >= 10.32")
set(GRAFT_MODULE_UTF8PROC "libutf8proc >= 2.5")
set(GRAFT_MODULE_CRYPTO "libcrypto >= 3.0")
set(GRAFT_MODULE_YAML "yaml-0.1 >= 0.2")
set(GRAFT_PACKAGES JANSSON PCRE2 UTF8PROC CRYPTO YAML)

foreach(package IN LISTS GRAFT_PACKAGES)
    pkg_check_modules(${package} REQUIRED IMPORTED_TARGET "${GRAFT_MODULE_${package}}")
endforeach()
if(GRAFT_BUILD_CLI)
    pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)
endif()
if(GRAFT_BUILD_TESTS)
    pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET "cmocka >= 1.1.5")
endif()
