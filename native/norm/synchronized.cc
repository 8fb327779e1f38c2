#include "synchronized.h"

#include "normalization.h"
#include "numbers.h"
#include "running.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <tuple>

namespace kontrast::norm {

namespace {

constexpr const char* kStatisticsRow = "statistics_row(Tensor x) -> Tensor";
constexpr const char* kJoinStatistics = "join_statistics(Tensor rows) -> (Tensor, Tensor, Tensor)";
constexpr const char* kJoinBatch =
    "join_batch(Tensor rows, Tensor(a!)? running_mean, Tensor(b!)? running_var, float momentum, float eps, ScalarType dtype) -> "
    "(Tensor, Tensor, Tensor, Tensor)";
constexpr const char* kGradientRow =
    "gradient_row(Tensor gradient, Tensor x, Tensor? weight, Tensor mean, Tensor inverse) -> (Tensor, Tensor, Tensor)";
constexpr const char* kJoinedGradient =
    "joined_gradient(Tensor gradient, Tensor x, Tensor? weight, Tensor mean, Tensor inverse, Tensor count, Tensor sums) -> Tensor";

at::TensorOptions doubles(const at::Tensor& like) { return at::TensorOptions(at::kDouble).device(like.device()); }

// This part's row: how many values a channel it has, their means, and their squares about these. Zeros where there are none.
at::Tensor statisticsRow(const at::Tensor& given) {
  checkActivations(given);
  const at::NoGradGuard plain;
  const auto channels = given.size(1);
  if (given.numel() == 0) return at::zeros({1 + 2 * channels}, doubles(given));
  const auto count = static_cast<double>(given.numel() / channels);
  if (!hasPasses(given)) {
    const auto [mean, variance] = groupMoments(given, {given.size(0)}, false);
    return at::cat({at::full({1}, count, doubles(given)), mean.to(at::kDouble), variance.to(at::kDouble) * count});
  }
  const auto x = inOneOrder(given.detach());
  const auto [mean, variance] = momentsOf(planOf(x, {x.size(0)}, false), x);
  Numbers row{count};
  row.insert(row.end(), mean.begin(), mean.end());
  for (const auto one : variance) row.push_back(one * count);
  return tensorOf(row, {1 + 2 * channels}, at::kDouble);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> joinByOperators(const at::Tensor& rows) {
  const auto channels = (rows.size(1) - 1) / 2;
  const auto counts = rows.narrow(1, 0, 1), means = rows.narrow(1, 1, channels), squares = rows.narrow(1, 1 + channels, channels);
  const auto count = counts.sum();
  const auto mean = (means * (counts / count.clamp_min(1))).sum(0);
  const auto distance = means - mean;
  return {count, mean, (squares + distance * distance * counts).sum(0)};
}

struct JoinedNumbers {
  double count;
  Numbers mean, squares;
};

// Sums run in the order of the rows.
JoinedNumbers joinByNumbers(const at::Tensor& given) {
  const auto rows = numbersOf(given);
  const auto parts = static_cast<size_t>(given.size(0)), length = static_cast<size_t>(given.size(1));
  const auto channels = (length - 1) / 2;
  JoinedNumbers joined{0, Numbers(channels), Numbers(channels)};
  for (size_t p = 0; p < parts; p++) joined.count += rows[p * length];
  for (size_t p = 0; p < parts; p++) {
    const double* row = rows.data() + p * length;
    const double share = row[0] / std::max(joined.count, 1.0);
    for (size_t c = 0; c < channels; c++) joined.mean[c] += row[1 + c] * share;
  }
  for (size_t p = 0; p < parts; p++) {
    const double* row = rows.data() + p * length;
    for (size_t c = 0; c < channels; c++) {
      const double distance = row[1 + c] - joined.mean[c];
      joined.squares[c] += row[1 + channels + c] + distance * distance * row[0];
    }
  }
  return joined;
}

void checkRows(const at::Tensor& rows) {
  TORCH_CHECK_VALUE(rows.dim() == 2 && rows.size(1) % 2 == 1 && rows.scalar_type() == at::kDouble,
                    "rows must be [parts, 1 + 2C] in float64, not ", rows.sizes(), " in ", rows.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> joinStatistics(const at::Tensor& rows) {
  checkRows(rows);
  const at::NoGradGuard plain;
  if (!hasPasses(rows)) return joinByOperators(rows);
  const auto found = joinByNumbers(rows);
  const auto shape = {static_cast<int64_t>(found.mean.size())};
  return {tensorOf({found.count}, {}, at::kDouble), tensorOf(found.mean, shape, at::kDouble), tensorOf(found.squares, shape, at::kDouble)};
}

// The count, the mean, the biased variance and 1 / √(variance + eps) of the joined batch; running statistics follow.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> joinBatch(const at::Tensor& rows, const MaybeTensor& runningMean,
                                                                     const MaybeTensor& runningVar, double momentum, double eps,
                                                                     at::ScalarType type) {
  checkRows(rows);
  const auto channels = (rows.size(1) - 1) / 2;
  TORCH_CHECK_VALUE(runningMean.has_value() == runningVar.has_value(), "running statistics are a mean and a variance");
  for (const auto& running : {orNone(runningMean), orNone(runningVar)})
    checkNumbers(running, rows, "each running statistic", channels);
  const at::NoGradGuard plain;
  if (!hasPasses(rows)) {
    const auto [count, mean, squares] = joinByOperators(rows);
    if (runningMean) moveStatistics(*runningMean, *runningVar, mean, squares / (count - 1), 1, momentum);
    const auto variance = squares / count;
    return {count, mean.to(type), variance.to(type), (variance + eps).rsqrt().to(type)};
  }
  const auto found = joinByNumbers(rows);
  if (runningMean) {
    move(*runningMean, 1 - momentum, [&](size_t c) { return momentum * found.mean[c]; });
    move(*runningVar, 1 - momentum, [&](size_t c) { return momentum * found.squares[c] / (found.count - 1); });
  }
  Numbers variance(found.squares);
  for (auto& number : variance) number /= found.count;
  return {tensorOf({found.count}, {}, at::kDouble), tensorOf(found.mean, {channels}, type), tensorOf(variance, {channels}, type),
          tensorOf(inverseOf(variance, eps), {channels}, type)};
}

// What both steps of the backward pass check.
void checkBackward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& mean,
                   const at::Tensor& inverse) {
  checkActivations(x);
  checkChannels(weight, x, "weight");
  checkChannels(mean, x, "mean");
  checkChannels(inverse, x, "inverse");
  TORCH_CHECK_VALUE(gradient.sizes() == x.sizes() && gradient.device() == x.device(), "the gradient must have the shape of x, on its device");
}

// This part's row of the backward pass, Σ g and Σ g·(x − mean), and the gradients of γ and β, which follow from it.
std::tuple<at::Tensor, at::Tensor, at::Tensor> gradientRow(const at::Tensor& gradient, const at::Tensor& given,
                                                           const MaybeTensor& weight, const at::Tensor& mean,
                                                           const at::Tensor& inverse) {
  const auto gamma = orNone(weight);
  checkBackward(gradient, given, gamma, mean, inverse);
  const at::NoGradGuard plain;
  const auto channels = given.size(1);
  const auto type = gamma.defined() ? gamma.scalar_type() : mean.scalar_type();
  if (given.numel() == 0) {
    const auto none = at::zeros({channels}, mean.options().dtype(type));
    return {at::zeros({2 * channels}, doubles(given)), none, none.clone()};
  }
  if (!hasPasses(given)) {
    const auto [sum, product] = groupSums(gradient, given, mean, {given.size(0)});
    return {at::cat({sum, product}).to(at::kDouble), (product * inverse.detach().reshape({-1})).to(type), sum.to(type)};
  }
  const auto x = inOneOrder(given.detach());
  auto [sum, product, _] = sumsOf(planOf(x, {x.size(0)}, false), inOrderOf(x, gradient.detach()), x, numbersOf(mean), {});
  auto byWeight = numbersOf(inverse);
  for (size_t c = 0; c < byWeight.size(); c++) byWeight[c] *= product[c];
  const auto byBias = tensorOf(sum, {channels}, type);
  sum.insert(sum.end(), product.begin(), product.end());
  return {tensorOf(sum, {2 * channels}, at::kDouble), tensorOf(byWeight, {channels}, type), byBias};
}

// dx = γ·s·(g − m − (x − mean)·s²·n) with s = 1 / √(σ² + eps), m and n the means of g and of g·(x − mean) over all parts, whose rows add
// up to `sums`.
at::Tensor joinedGradient(const at::Tensor& gradient, const at::Tensor& given, const MaybeTensor& weight, const at::Tensor& mean,
                          const at::Tensor& inverse, const at::Tensor& count, const at::Tensor& sums) {
  const auto gamma = orNone(weight);
  checkBackward(gradient, given, gamma, mean, inverse);
  const auto channels = given.size(1);
  checkNumbers(sums, given, "sums", 2 * channels);
  checkNumbers(count, given, "count", 1);
  const at::NoGradGuard plain;
  if (given.numel() == 0) return at::empty_like(given);
  if (!hasPasses(given)) {
    const auto wide = [](const at::Tensor& numbers) { return numbers.detach().to(at::kDouble).reshape({-1}); };
    const auto s = wide(inverse), means = sums / count;
    const auto slope = gamma.defined() ? s * wide(gamma) : s;
    const auto along = -slope * s * s * means.narrow(0, channels, channels);
    const auto shift = -(slope * means.narrow(0, 0, channels) + along * wide(mean));
    return groupCombine(gradient, given, slope, along, shift, {given.size(0)});
  }
  const auto centre = numbersOf(mean), s = numbersOf(inverse), scale = numbersOf(gamma), total = numbersOf(sums);
  const double share = 1 / numbersOf(count)[0];
  Numbers slope(s), along(channels), shift(channels);
  for (int64_t c = 0; c < channels; c++) {
    if (!scale.empty()) slope[c] *= scale[c];
    along[c] = -slope[c] * s[c] * s[c] * total[channels + c] * share;
    shift[c] = -(slope[c] * total[c] * share + along[c] * centre[c]);
  }
  const auto x = inOneOrder(given.detach());
  return combine(planOf(x, {x.size(0)}, false), inOrderOf(x, gradient.detach()), x, slope, along, shift, {});
}

}  // namespace

void defineSynchronized(torch::Library& library) {
  library.def(kStatisticsRow, statisticsRow);
  library.def(kJoinStatistics, joinStatistics);
  library.def(kJoinBatch, joinBatch);
  library.def(kGradientRow, gradientRow);
  library.def(kJoinedGradient, joinedGradient);
}

}  // namespace kontrast::norm
