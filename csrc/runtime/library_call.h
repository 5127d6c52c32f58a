// SPDX-License-Identifier: Apache-2.0
// One run of a node, as an operator of a library sees it.
#pragma once

#include <bascule/operator_abi.h>

#include <exception>
#include <string>
#include <vector>

#include "runtime/library_node.h"
#include "runtime/run_context.h"

struct bascule_call {
  bascule_call(bascule::RunContext& context, const bascule::LibraryOperator& op,
               const bascule_node& node, const std::vector<bascule::ValueSpec>& outputs);

  // `work`, whose exception is kept: none may pass through the library. False if it threw.
  template <class Work>
  bool attempt(Work&& work) {
    try {
      work();
      return true;
    } catch (...) {
      if (!error) error = std::current_exception();
      return false;
    }
  }
  // Throws what was kept, if anything was.
  void rethrow() const {
    if (error) std::rethrow_exception(error);
  }
  // An Error, fail, if an output that somebody reads was not made.
  void check_outputs() const;
  const bascule_tensor& make_output(int32_t index, int32_t dtype, int32_t rank,
                                    const int64_t* shape);

  // Element number `element` of an input or output of strings; an Error if there is none.
  const std::string& input_string(int32_t index, int64_t element) const;
  std::string& output_string(int32_t index, int64_t element);

  bascule::RunContext& context;
  const bascule::LibraryOperator& op;
  const bascule_node& node;
  const std::vector<bascule::ValueSpec>& specs;
  std::vector<bascule_tensor> inputs;
  std::vector<bascule_tensor> outputs;  // dtype 0: not made yet
  std::vector<std::string*> strings;    // of outputs that are strings
  std::exception_ptr error;
};
