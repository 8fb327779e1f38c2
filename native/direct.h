// Calls without boxing.
//
// A boxed call carries every argument in an IValue, and a list among them in memory of its own. The signatures that most
// operators have are called with their own C++ types, which takes a fifth to a half less. Which operator has which follows
// from its schema alone: nothing here names an operator.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <memory>
#include <vector>

namespace kontrast {

struct ArgumentPlan;
struct Environment;

class DirectCall {
 public:
  virtual ~DirectCall() = default;
  // Runs the operator on the entries of the frame.
  virtual at::Tensor call(Environment& environment, const std::vector<ArgumentPlan>& arguments) const = 0;
};

// The direct form of an operator for such arguments, or nullptr where it needs a boxed call.
std::unique_ptr<DirectCall> directCallFor(const c10::OperatorHandle& op, const std::vector<ArgumentPlan>& arguments);

}  // namespace kontrast
