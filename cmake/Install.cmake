# Installed files: headers, both libraries, graft.pc, the CMake package, the program and what it
# needs at run time. A subproject installs nothing of graft unless it asks for the targets itself.
if(NOT PROJECT_IS_TOP_LEVEL)
    return()
endif()
include(CMakePackageConfigHelpers)
set(GRAFT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/graft)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/graft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(TARGETS graft_shared EXPORT graftSharedTargets)
install(TARGETS graft_static EXPORT graftStaticTargets)
install(EXPORT graftSharedTargets NAMESPACE graft:: DESTINATION ${GRAFT_CMAKE_DIR})
install(EXPORT graftStaticTargets NAMESPACE graft:: DESTINATION ${GRAFT_CMAKE_DIR})
if(TARGET graft_cli)
    install(TARGETS graft_cli)
    file(GLOB GRAFT_MAN_PAGES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.1)
    install(FILES ${GRAFT_MAN_PAGES} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    if(EXISTS ${PROJECT_SOURCE_DIR}/completions/graft.bash)
        install(FILES ${PROJECT_SOURCE_DIR}/completions/graft.bash RENAME graft
                DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    endif()
    # The program looks for the models that ship in ../share/graft/models from where it lies.
    if(EXISTS ${PROJECT_SOURCE_DIR}/models)
        install(DIRECTORY ${PROJECT_SOURCE_DIR}/models DESTINATION ${CMAKE_INSTALL_DATADIR}/graft)
    endif()
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(GRAFT_FIND_MODULES "")
set(GRAFT_PC_REQUIRES "")
foreach(package IN LISTS GRAFT_PACKAGES)
    string(APPEND GRAFT_FIND_MODULES
           "    pkg_check_modules(${package} QUIET IMPORTED_TARGET \"${GRAFT_MODULE_${package}}\")\n"
           "    if(NOT ${package}_FOUND)\n        set(GRAFT_STATIC_READY FALSE)\n    endif()\n")
    list(APPEND GRAFT_PC_REQUIRES "${GRAFT_MODULE_${package}}")
endforeach()
string(REPLACE ";" ", " GRAFT_PC_REQUIRES "${GRAFT_PC_REQUIRES}")

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/graftConfig.cmake.in
    ${PROJECT_BINARY_DIR}/graftConfig.cmake INSTALL_DESTINATION ${GRAFT_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/graftConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/graftConfig.cmake ${PROJECT_BINARY_DIR}/graftConfigVersion.cmake
        DESTINATION ${GRAFT_CMAKE_DIR})

# Relative to where graft.pc lies, so that `cmake --install --prefix` and moving the tree work.
file(RELATIVE_PATH GRAFT_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH GRAFT_PC_LIBDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH GRAFT_PC_INCLUDEDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(${PROJECT_SOURCE_DIR}/cmake/graft.pc.in ${PROJECT_BINARY_DIR}/graft.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/graft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
