// Normalisation of groups of samples by statistics of which the batch makes up a part, with gradients.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <tuple>

namespace kontrast::norm {

// Operators that others are made of, on every device and without gradients. The mean and the biased variance of each group:
std::tuple<at::Tensor, at::Tensor> groupMoments(const at::Tensor& x, at::IntArrayRef sizes, bool areInterleaved);

// Σ g and Σ g·(x − mean) of each group.
std::tuple<at::Tensor, at::Tensor> groupSums(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& mean,
                                             at::IntArrayRef sizes);

// g·a + x·b + c
at::Tensor groupCombine(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
                        at::IntArrayRef sizes);

void defineNormalization(torch::Library& library);

}  // namespace kontrast::norm
