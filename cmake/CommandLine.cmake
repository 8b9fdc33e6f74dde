# The program `graft`. It uses the public headers and base; the library is inside it, so that the
# file runs from anywhere.
file(GLOB GRAFT_CLI_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cli/*.c)
if(GRAFT_CLI_SOURCES)
    add_executable(graft_cli ${GRAFT_CLI_SOURCES})
    set_target_properties(graft_cli PROPERTIES
        OUTPUT_NAME graft RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
    target_link_libraries(graft_cli PRIVATE graft_api graft_base PkgConfig::EDIT PkgConfig::PCRE2)
else()
    message(STATUS "graft: src/cli has no sources: the program is not built")
endif()
