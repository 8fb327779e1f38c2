#include "cross_iteration.h"

#include "numbers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <tuple>

namespace kontrast::norm {

namespace {

constexpr const char* kBlendWindow =
    "blend_window(Tensor mean, Tensor variance, Tensor(a!) past_means, Tensor(b!) past_variances, Tensor(c!) past_valid, "
    "Tensor? mean_shift, Tensor? variance_shift, Tensor batches, int burn_in) -> (Tensor, Tensor, Tensor)";

// What the window has: of this batch [C], of the earlier ones [rows, C], newest first.
struct Window {
  at::Tensor mean, variance;
  at::Tensor pastMeans, pastVariances, pastValid;
  // By how much earlier statistics have changed since: μ by d, σ² by e − d², as e is of the mean square about the earlier mean.
  at::Tensor meanShift, varianceShift;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> blendByOperators(const Window& window) {
  const auto type = window.mean.scalar_type();
  auto means = window.pastMeans.to(type), variances = window.pastVariances.to(type);
  if (window.meanShift.defined()) {
    const auto shift = window.meanShift.to(type);
    variances = variances + window.varianceShift.to(type) - shift * shift;
    means = means + shift;
  }
  const auto isUsed = (window.pastValid != 0).logical_and(variances >= 0);
  const auto share = 1 / (isUsed.sum(0) + 1).to(type);
  const auto sumUsed = [&](const at::Tensor& values) { return at::where(isUsed, values, 0).sum(0); };
  const auto mean = (sumUsed(means) + window.mean) * share;
  const auto about = [&](const at::Tensor& variance, const at::Tensor& of) { return variance + (of - mean) * (of - mean); };
  return {mean, (sumUsed(about(variances, means)) + about(window.variance, window.mean)) * share, share};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> blendByNumbers(const Window& window) {
  const auto mean = numbersOf(window.mean), variance = numbersOf(window.variance);
  auto means = numbersOf(window.pastMeans), variances = numbersOf(window.pastVariances);
  const auto valid = numbersOf(window.pastValid);
  const auto meanShift = numbersOf(window.meanShift), varianceShift = numbersOf(window.varianceShift);
  for (size_t i = 0; i < meanShift.size(); i++) {
    variances[i] += varianceShift[i] - meanShift[i] * meanShift[i];
    means[i] += meanShift[i];
  }
  const auto channels = mean.size();
  const auto isUsed = [&](size_t i) { return valid[i] != 0 && variances[i] >= 0; };
  Numbers blended(mean), spread(channels), share(channels, 1);
  for (size_t i = 0; i < means.size(); i++) {
    if (!isUsed(i)) continue;
    blended[i % channels] += means[i];
    share[i % channels]++;
  }
  for (size_t c = 0; c < channels; c++) {
    share[c] = 1 / share[c];
    blended[c] *= share[c];
    const double distance = mean[c] - blended[c];
    spread[c] = (variance[c] + distance * distance) * share[c];
  }
  for (size_t i = 0; i < means.size(); i++) {
    if (!isUsed(i)) continue;
    const auto c = i % channels;
    const double distance = means[i] - blended[c];
    spread[c] += (variances[i] + distance * distance) * share[c];
  }
  const auto result = [&](const Numbers& numbers) { return tensorOf(numbers, window.mean.sizes(), window.mean.scalar_type()); };
  return {result(blended), result(spread), result(share)};
}

// Rows move down by one, the last is forgotten, and `newest` is the first.
void push(const at::Tensor& rows, const at::Tensor& newest) {
  if (rows.is_cpu() && rows.is_contiguous()) {
    const auto numbers = numbersOf(newest);
    byElements(rows, [&](auto* at) {
      using E = std::remove_reference_t<decltype(*at)>;
      std::copy_backward(at, at + rows.numel() - rows.size(1), at + rows.numel());
      for (int64_t c = 0; c < rows.size(1); c++) at[c] = static_cast<E>(numbers[numbers.size() == 1 ? 0 : c]);
    });
    rows.unsafeGetTensorImpl()->bump_version();
    return;
  }
  const auto first = newest.to(rows.scalar_type()).expand_as(rows[0]).unsqueeze(0);
  rows.copy_(at::cat({first, rows.slice(0, 0, rows.size(0) - 1)}));
}

// The statistics of a batch and the earlier ones as one: the mean of the means, the variance about it, and the share of each batch.
// Then this batch is the newest of the earlier ones; it counts if there were `burn_in` batches before it.
std::tuple<at::Tensor, at::Tensor, at::Tensor> blendWindow(const at::Tensor& mean, const at::Tensor& variance,
                                                           const at::Tensor& pastMeans, const at::Tensor& pastVariances,
                                                           const at::Tensor& pastValid, const MaybeTensor& meanShift,
                                                           const MaybeTensor& varianceShift, const at::Tensor& batches,
                                                           int64_t burnIn) {
  TORCH_CHECK_VALUE(mean.dim() == 1 && mean.sizes() == variance.sizes(), "mean and variance must be [C], not ", mean.sizes(), " and ",
                    variance.sizes());
  TORCH_CHECK_VALUE(meanShift.has_value() == varianceShift.has_value(), "a shift is one of the mean and one of the variance");
  TORCH_CHECK_VALUE(pastMeans.dim() == 2 && pastMeans.size(0) >= 1 && pastMeans.size(1) == mean.size(0),
                    "earlier means must be [rows, C], not ", pastMeans.sizes());
  TORCH_CHECK_VALUE(batches.numel() == 1, "batches must be one number, not ", batches.sizes());
  const Window window{mean.detach(), variance.detach(), pastMeans, pastVariances, pastValid,
                      orNone(meanShift), orNone(varianceShift)};
  for (const auto& rows : {pastVariances, pastValid, window.meanShift, window.varianceShift})
    TORCH_CHECK_VALUE(!rows.defined() || rows.sizes() == pastMeans.sizes(), "earlier statistics must have one shape, not ", rows.sizes(),
                      " and ", pastMeans.sizes());
  for (const auto& one : {variance, pastMeans, pastVariances, pastValid, window.meanShift, window.varianceShift, batches})
    TORCH_CHECK_VALUE(!one.defined() || one.device() == mean.device(), "statistics are on ", one.device(), " and ", mean.device());
  const at::NoGradGuard plain;
  auto blended = hasPasses(mean) ? blendByNumbers(window) : blendByOperators(window);
  push(pastMeans, window.mean);
  push(pastVariances, window.variance);
  push(pastValid, (batches >= burnIn).to(pastValid.scalar_type()));
  return blended;
}

}  // namespace

void defineCrossIteration(torch::Library& library) {
  library.def(kBlendWindow, blendWindow);
}

}  // namespace kontrast::norm
