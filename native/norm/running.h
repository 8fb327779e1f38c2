// How the running statistics of a norm move.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace kontrast::norm {

// running_mean ← (1 − momentum)·running_mean + momentum·mean, and as much for the variance by factor·variance.
void moveStatistics(const at::Tensor& runningMean, const at::Tensor& runningVar, const at::Tensor& mean, const at::Tensor& variance,
                    double factor, double momentum);

void defineRunning(torch::Library& library);

}  // namespace kontrast::norm
