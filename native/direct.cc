#include "direct.h"

#include <ATen/core/function_schema.h>
#include <ATen/core/jit_type.h>
#include <c10/util/Exception.h>

#include <string>

namespace kontrast {

namespace {

// One letter an argument: T for a tensor, s for a scalar; empty when there is anything else.
std::string shapeOf(const c10::FunctionSchema& schema) {
  std::string shape;
  if (schema.returns().size() != 1 || schema.returns()[0].type()->kind() != c10::TypeKind::TensorType) return "";
  for (const auto& argument : schema.arguments()) {
    // What is written to is passed as a reference that is not const: another signature.
    if (argument.alias_info() != nullptr && argument.alias_info()->isWrite()) return "";
    switch (argument.real_type()->kind()) {
      case c10::TypeKind::TensorType:
        shape += 'T';
        break;
      case c10::TypeKind::NumberType:
        shape += 's';
        break;
      default:
        return "";
    }
  }
  return shape;
}

}  // namespace

DirectCall directCallFor(const c10::OperatorHandle& op) {
  const auto shape = shapeOf(op.schema());
  try {
    if (shape == "T") return op.typed<at::Tensor(const at::Tensor&)>();
    if (shape == "Ts") return op.typed<at::Tensor(const at::Tensor&, const c10::Scalar&)>();
    if (shape == "Tss") return op.typed<at::Tensor(const at::Tensor&, const c10::Scalar&, const c10::Scalar&)>();
    if (shape == "TT") return op.typed<at::Tensor(const at::Tensor&, const at::Tensor&)>();
    if (shape == "TTs") return op.typed<at::Tensor(const at::Tensor&, const at::Tensor&, const c10::Scalar&)>();
  } catch (const c10::Error&) {
    // Its kernel was registered with another signature; the boxed call does not depend on it.
  }
  return {};
}

}  // namespace kontrast
