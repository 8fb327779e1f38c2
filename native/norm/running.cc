#include "running.h"

#include "numbers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

namespace kontrast::norm {

namespace {

constexpr const char* kCountBatches = "count_batches(Tensor(a!) tracked, int batches) -> ()";
constexpr const char* kMoveStatistics =
    "move_statistics(Tensor(a!) running_mean, Tensor(b!) running_var, Tensor mean, Tensor variance, float factor, float momentum) -> ()";

// tracked += batches. In memory where it can be: LibTorch's addition shows beside a batch norm of few activations.
void countBatches(const at::Tensor& tracked, int64_t batches) {
  TORCH_CHECK_VALUE(tracked.dim() == 0 && tracked.scalar_type() == at::kLong, "tracked must be int64 without dimensions, not ",
                    tracked.scalar_type(), " ", tracked.sizes());
  if (!tracked.is_cpu()) {
    tracked.add_(batches);
    return;
  }
  *tracked.mutable_data_ptr<int64_t>() += batches;
  tracked.unsafeGetTensorImpl()->bump_version();
}

}  // namespace

void moveStatistics(const at::Tensor& runningMean, const at::Tensor& runningVar, const at::Tensor& mean, const at::Tensor& variance,
                    double factor, double momentum) {
  for (const auto& one : {runningVar, mean, variance}) {
    TORCH_CHECK_VALUE(one.sizes() == runningMean.sizes(), "statistics must have one shape, not ", runningMean.sizes(), " and ",
                      one.sizes());
    TORCH_CHECK_VALUE(one.device() == runningMean.device(), "statistics are on ", runningMean.device(), " and ", one.device());
  }
  const at::NoGradGuard plain;
  const auto moveBy = [momentum](const at::Tensor& running, const at::Tensor& found, double factor) {
    if (running.is_cpu()) {
      const auto numbers = numbersOf(found);
      move(running, 1 - momentum, [&](size_t i) { return momentum * factor * numbers[i]; });
    } else {
      running.lerp_((factor == 1 ? found : found * factor).to(running.scalar_type()), momentum);
    }
  };
  moveBy(runningMean, mean, 1);
  moveBy(runningVar, variance, factor);
}

void defineRunning(torch::Library& library) {
  library.def(kCountBatches, countBatches);
  library.def(kMoveStatistics, moveStatistics);
}

}  // namespace kontrast::norm
