// Tensors of a few numbers, such as parameters and running statistics, as doubles and back.
#pragma once

#include "kernels.h"

#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <initializer_list>
#include <optional>

namespace kontrast::norm {

using MaybeTensor = std::optional<at::Tensor>;

// Not defined where there is none.
inline at::Tensor orNone(const MaybeTensor& tensor) { return tensor.value_or(at::Tensor()); }

inline void checkActivations(const at::Tensor& x) {
  TORCH_CHECK_VALUE(x.dim() >= 2, "x must be [N, C, ...], not ", x.sizes());
  TORCH_CHECK_TYPE(at::isFloatingType(x.scalar_type()), "x must be floating-point, not ", x.scalar_type());
}

// One number for every channel, or for every one of so many.
inline void checkNumbers(const at::Tensor& numbers, const at::Tensor& x, const char* name, int64_t count) {
  if (!numbers.defined()) return;
  TORCH_CHECK_VALUE(numbers.numel() == count, name, " must have ", count, " numbers, not the shape ", numbers.sizes());
  TORCH_CHECK_VALUE(numbers.device() == x.device(), name, " is on ", numbers.device(), ", x on ", x.device());
  TORCH_CHECK_TYPE(at::isFloatingType(numbers.scalar_type()), name, " must be floating-point, not ", numbers.scalar_type());
}

inline void checkChannels(const at::Tensor& numbers, const at::Tensor& x, const char* name) {
  checkNumbers(numbers, x, name, x.size(1));
}

// visit(pointer to the elements) of a contiguous tensor on the CPU
template <typename Visit>
void byElements(const at::Tensor& tensor, Visit visit) {
  void* data = tensor.data_ptr();
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return visit(static_cast<float*>(data));
    case at::kDouble:
      return visit(static_cast<double*>(data));
    case at::kBFloat16:
      return visit(static_cast<at::BFloat16*>(data));
    case at::kHalf:
      return visit(static_cast<at::Half*>(data));
    default:
      TORCH_CHECK_TYPE(false, "parameters and statistics must be floating-point, not ", tensor.scalar_type());
  }
}

// None for a tensor that is not defined.
inline Numbers numbersOf(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  Numbers numbers(tensor.numel());
  const auto dense = tensor.detach().contiguous();
  byElements(dense, [&](const auto* from) {
    for (size_t i = 0; i < numbers.size(); i++) numbers[i] = static_cast<double>(from[i]);
  });
  return numbers;
}

// What is a view with gaps, or of one element as many, is left to LibTorch.
inline void put(const Numbers& numbers, const at::Tensor& to) {
  if (!to.is_contiguous()) {
    const auto dense = at::empty(to.sizes(), to.options());
    put(numbers, dense);
    to.copy_(dense);
    return;
  }
  byElements(to, [&](auto* at) {
    using E = std::remove_reference_t<decltype(*at)>;
    for (size_t i = 0; i < numbers.size(); i++) at[i] = static_cast<E>(numbers[i]);
  });
}

inline at::Tensor tensorOf(const Numbers& numbers, at::IntArrayRef shape, at::ScalarType type) {
  auto tensor = at::empty(shape, at::TensorOptions(type));
  put(numbers, tensor);
  return tensor;
}

inline Numbers inverseOf(Numbers variance, double eps) {
  for (auto& number : variance) number = 1 / std::sqrt(number + eps);
  return variance;
}

// running[i] ← keep·running[i] + found(i)
template <typename Found>
void move(const at::Tensor& running, double keep, Found found) {
  auto numbers = numbersOf(running);
  for (size_t i = 0; i < numbers.size(); i++) numbers[i] = keep * numbers[i] + found(i);
  put(numbers, running);
  running.unsafeGetTensorImpl()->bump_version();
}

// Which inputs of a node want gradients. What is absent has no edge; `has` says of each input whether it is there.
template <typename Context>
std::vector<bool> wantedOf(const Context& context, std::initializer_list<bool> has) {
  std::vector<bool> wanted;
  size_t edge = 0;
  for (const bool is : has) wanted.push_back(is && context.needs_input_grad(edge++));
  return wanted;
}

// None for a tensor that is not defined: autograd takes no input that is not.
inline MaybeTensor given(const at::Tensor& tensor) {
  return tensor.defined() ? MaybeTensor(tensor) : std::nullopt;
}

}  // namespace kontrast::norm
