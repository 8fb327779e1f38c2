// What LibTorch's own operators take on trust.
//
// Some kernels divide by an argument, index with one, or read memory that a shape promises, without looking first: a call
// with other arguments ends the process. What can be told cheaply from the arguments is checked here before such a call.
// What LibTorch answers is never refused.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/stack.h>

#include <vector>

namespace kontrast {

class Arguments;

class ArgumentChecks {
 public:
  using Check = void (*)(const Arguments&);

  ArgumentChecks(const c10::FunctionSchema& schema, std::vector<Check> checks)
      : schema_(schema), checks_(std::move(checks)) {}

  // Throws a Failure that names the argument where one is not what it must be.
  void run(const torch::jit::Stack& stack) const;

 private:
  const c10::FunctionSchema& schema_;
  std::vector<Check> checks_;
};

// The checks of an overload, which live as long as the process; null where it needs none, as nearly all do.
const ArgumentChecks* checksFor(const c10::FunctionSchema& schema);

}  // namespace kontrast
