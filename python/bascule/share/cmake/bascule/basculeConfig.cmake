# SPDX-License-Identifier: Apache-2.0
# Libraries of operators for bascule:
#
#   execute_process(COMMAND python -m bascule --cmake-dir OUTPUT_VARIABLE bascule_DIR
#                   OUTPUT_STRIP_TRAILING_WHITESPACE)
#   find_package(bascule CONFIG REQUIRED)
#   bascule_add_operators(my_operators my_operators.cpp)
#
# The target bascule::operator brings the headers; there is nothing to link.
get_filename_component(bascule_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/../../../include" ABSOLUTE)

if(NOT TARGET bascule::operator)
  add_library(bascule::operator INTERFACE IMPORTED)
  set_target_properties(
    bascule::operator PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${bascule_INCLUDE_DIR}"
                                 INTERFACE_COMPILE_FEATURES cxx_std_20)
endif()

# A library of operators from these sources, to be given to load_operators.
function(bascule_add_operators target)
  add_library(${target} MODULE ${ARGN})
  target_link_libraries(${target} PRIVATE bascule::operator)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden
                                             VISIBILITY_INLINES_HIDDEN ON)
endfunction()
