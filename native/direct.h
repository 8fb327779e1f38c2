// Calls without boxing, for the plainest operators.
//
// A boxed call carries every argument in an IValue. Operators that take only tensors and scalars and give one tensor
// have one of a few C++ signatures, which follow from the schema alone; for these the kernel is called with its own
// types, which is a fifth quicker. Nothing here names an operator.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Scalar.h>

#include <optional>
#include <variant>

namespace kontrast {

using Unary = c10::TypedOperatorHandle<at::Tensor(const at::Tensor&)>;
using UnaryScalar = c10::TypedOperatorHandle<at::Tensor(const at::Tensor&, const c10::Scalar&)>;
using UnaryScalars = c10::TypedOperatorHandle<at::Tensor(const at::Tensor&, const c10::Scalar&, const c10::Scalar&)>;
using Binary = c10::TypedOperatorHandle<at::Tensor(const at::Tensor&, const at::Tensor&)>;
using BinaryScalar = c10::TypedOperatorHandle<at::Tensor(const at::Tensor&, const at::Tensor&, const c10::Scalar&)>;

using DirectCall = std::variant<std::monostate, Unary, UnaryScalar, UnaryScalars, Binary, BinaryScalar>;

// The direct form of an operator, or monostate where it needs a boxed call.
DirectCall directCallFor(const c10::OperatorHandle& op);

}  // namespace kontrast
