# SPDX-License-Identifier: Apache-2.0
# The sources of the CUDA kernels go into the package, and where nvcc is, so do fat binaries of them.
# Without these the kernels are compiled at first use.
set(BASCULE_CUDA AUTO CACHE STRING "Fat binaries of the CUDA kernels: ON, OFF, or AUTO for wheels")
set_property(CACHE BASCULE_CUDA PROPERTY STRINGS AUTO ON OFF)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cu)
file(GLOB cuda_headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cuh)
set(cuda_list ${CMAKE_CURRENT_LIST_DIR}/architectures.txt)
install(FILES ${cuda_sources} ${cuda_headers} ${cuda_list} DESTINATION bascule/kernels)

if(NOT BASCULE_CUDA STREQUAL "AUTO")
  set(build_fatbins ${BASCULE_CUDA})
elseif("$ENV{BASCULE_CUDA}" MATCHES "^(ON|OFF)$")
  set(build_fatbins $ENV{BASCULE_CUDA})
elseif(SKBUILD_STATE STREQUAL "wheel")
  set(build_fatbins AUTO)
else()
  set(build_fatbins OFF)  # minutes that an ordinary build can do without
endif()

# What stands against building them, or nothing.
set(cuda_obstacle "")
if(build_fatbins)
  find_program(NVCC nvcc PATHS $ENV{CUDA_PATH}/bin $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
  file(STRINGS ${cuda_list} cuda_architectures)
  if(NOT NVCC)
    set(cuda_obstacle "there is no nvcc")
  else()
    execute_process(COMMAND ${NVCC} --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
    foreach(architecture ${cuda_architectures})
      if(NOT "${known}" MATCHES "sm_${architecture}[ \n]")
        set(cuda_obstacle "${NVCC} makes no code for sm_${architecture}")
      endif()
      list(APPEND cuda_targets -gencode arch=compute_${architecture},code=sm_${architecture})
      set(newest compute_${architecture})
    endforeach()
    list(APPEND cuda_targets -gencode arch=${newest},code=${newest})
  endif()
  if(cuda_obstacle AND build_fatbins STREQUAL "AUTO")
    message(STATUS "No fat binaries of the CUDA kernels: ${cuda_obstacle}")
    set(build_fatbins OFF)
  elseif(cuda_obstacle)
    message(FATAL_ERROR "BASCULE_CUDA is ON, but ${cuda_obstacle}")
  endif()
endif()

if(build_fatbins)
  foreach(source ${cuda_sources})
    get_filename_component(name ${source} NAME_WE)
    # A file that says "// parts: ..." is compiled once for each of them (see common.cuh).
    file(STRINGS ${source} parts REGEX "^// parts: ")
    string(REGEX REPLACE "// parts: " "" parts "${parts}")
    string(REPLACE " " ";" parts "${parts}")
    if(NOT parts)
      set(parts "-")
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    foreach(part ${parts})
      set(module ${name})
      set(chosen "")
      if(NOT part STREQUAL "-")
        set(module ${name}.${part})
        set(chosen -DBASCULE_PARTS -DBASCULE_PART_${part}=1)
      endif()
      set(fatbin ${CMAKE_CURRENT_BINARY_DIR}/kernels/${module}.fatbin)
      add_custom_command(
        OUTPUT ${fatbin}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/kernels
        COMMAND ${NVCC} -std=c++17 -O3 -Werror all-warnings -allow-unsupported-compiler
                --compress-mode=size ${chosen} ${cuda_targets} -fatbin -o ${fatbin} ${source}
        DEPENDS ${source} ${cuda_headers} ${cuda_list}
        VERBATIM)
      list(APPEND fatbins ${fatbin})
    endforeach()
  endforeach()
  add_custom_target(bascule_kernels ALL DEPENDS ${fatbins})
  install(FILES ${fatbins} DESTINATION bascule/kernels)
endif()
