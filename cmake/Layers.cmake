# graft_layer(NAME FOLDERS folder... [EXCEPT folder...] [DEPS layer...] [PACKAGES package...])
#
# Makes the static library graft_NAME of all .c files under src/FOLDERS. Folders of another
# processor are left out, and the files of one instruction set get its flags and no other file does:
# one binary runs everywhere. GRAFT_LAYERS collects the layers that have sources.
set(GRAFT_LAYERS "")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(GRAFT_FOREIGN "/kernels/arm/")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(GRAFT_FOREIGN "/kernels/x86/")
else()
    set(GRAFT_FOREIGN "/kernels/(x86|arm)/")
endif()

# File name prefix (under src/kernels/x86 or arm) and its flags; the longest match is last.
set(GRAFT_ISA "x86/avx2" "x86/avx512" "x86/avx512bf16" "x86/amx" "arm/dotprod" "arm/i8mm")
set(GRAFT_ISA_x86/avx2 -mavx2 -mfma -mf16c)
set(GRAFT_ISA_x86/avx512 ${GRAFT_ISA_x86/avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl
    -mavx512vnni)
set(GRAFT_ISA_x86/avx512bf16 ${GRAFT_ISA_x86/avx512} -mavx512bf16)
set(GRAFT_ISA_x86/amx ${GRAFT_ISA_x86/avx512bf16} -mamx-tile -mamx-int8 -mamx-bf16)
set(GRAFT_ISA_arm/dotprod -march=armv8.2-a+dotprod)
set(GRAFT_ISA_arm/i8mm -march=armv8.2-a+dotprod+i8mm)

function(graft_isa_flags source)
    foreach(isa IN LISTS GRAFT_ISA)
        string(FIND "${source}" "/kernels/${isa}" position)
        if(position GREATER -1)
            set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${GRAFT_ISA_${isa}}")
        endif()
    endforeach()
endfunction()

function(graft_layer name)
    cmake_parse_arguments(ARG "" "" "FOLDERS;EXCEPT;DEPS;PACKAGES" ${ARGN})
    set(sources "")
    foreach(folder IN LISTS ARG_FOLDERS)
        file(GLOB_RECURSE found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${folder}/*.c)
        list(APPEND sources ${found})
    endforeach()
    foreach(folder IN LISTS ARG_EXCEPT)
        list(FILTER sources EXCLUDE REGEX "/src/${folder}/")
    endforeach()
    list(FILTER sources EXCLUDE REGEX "${GRAFT_FOREIGN}")

    list(TRANSFORM ARG_DEPS PREPEND graft_)
    list(TRANSFORM ARG_PACKAGES PREPEND PkgConfig::)
    if(NOT sources)
        add_library(graft_${name} INTERFACE)
        target_link_libraries(graft_${name} INTERFACE ${ARG_DEPS})
        return()
    endif()

    foreach(source IN LISTS sources)
        graft_isa_flags(${source})
    endforeach()
    add_library(graft_${name} STATIC ${sources})
    # A tile of sums set to zero stays in registers; gcc would take it for a call of memset.
    if(name STREQUAL "kernels" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        target_compile_options(graft_${name} PRIVATE -fno-tree-loop-distribute-patterns)
    endif()
    target_include_directories(graft_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src
                               ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(graft_${name} PUBLIC ${ARG_DEPS} ${ARG_PACKAGES} Threads::Threads m)
    set(GRAFT_LAYERS ${GRAFT_LAYERS} graft_${name} PARENT_SCOPE)
endfunction()
