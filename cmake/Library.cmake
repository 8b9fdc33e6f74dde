# libgraft.so and libgraft.a, from the objects of all layers.
set(GRAFT_OBJECTS "")
foreach(layer IN LISTS GRAFT_LAYERS)
    list(APPEND GRAFT_OBJECTS $<TARGET_OBJECTS:${layer}>)
endforeach()
set(GRAFT_LIBRARIES "")
foreach(package IN LISTS GRAFT_PACKAGES)
    list(APPEND GRAFT_LIBRARIES PkgConfig::${package})
endforeach()

# soname: the ABI may change with every minor version before 1.0 (CONTRIBUTING.md).
if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(GRAFT_SOVERSION 0.${PROJECT_VERSION_MINOR})
else()
    set(GRAFT_SOVERSION ${PROJECT_VERSION_MAJOR})
endif()

add_library(graft_shared SHARED ${GRAFT_OBJECTS})
add_library(graft::graft ALIAS graft_shared)
set_target_properties(graft_shared PROPERTIES
    OUTPUT_NAME graft EXPORT_NAME graft LINKER_LANGUAGE C
    VERSION ${PROJECT_VERSION} SOVERSION ${GRAFT_SOVERSION}
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/graft.map)
target_link_libraries(graft_shared PRIVATE ${GRAFT_LIBRARIES} Threads::Threads m)
target_link_options(graft_shared PRIVATE
                    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/graft.map)
if(NOT GRAFT_SANITIZE)
    target_link_options(graft_shared PRIVATE -Wl,--no-undefined)
endif()
target_include_directories(graft_shared PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

# The archive holds one relocatable object whose hidden symbols are local: a program may define its
# own mem_alloc beside it.
set(GRAFT_OBJECT ${CMAKE_CURRENT_BINARY_DIR}/graft_all.o)
add_custom_command(
    OUTPUT ${GRAFT_OBJECT}
    COMMAND ${CMAKE_LINKER} -r -o ${GRAFT_OBJECT} ${GRAFT_OBJECTS}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${GRAFT_OBJECT}
    DEPENDS ${GRAFT_OBJECTS} COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Joining the objects of libgraft.a, hidden symbols made local")
set_source_files_properties(${GRAFT_OBJECT} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
add_library(graft_static STATIC ${GRAFT_OBJECT})
add_library(graft::static ALIAS graft_static)
set_target_properties(graft_static PROPERTIES
    OUTPUT_NAME graft EXPORT_NAME static LINKER_LANGUAGE C)
target_link_libraries(graft_static PUBLIC ${GRAFT_LIBRARIES} Threads::Threads m)
target_include_directories(graft_static PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
