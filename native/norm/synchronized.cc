#include "synchronized.h"

#include "normalization.h"
#include "numbers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
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

void checkInput(const at::Tensor& x) {
  TORCH_CHECK_VALUE(x.dim() >= 2, "x must be [N, C, ...], not ", x.sizes());
  TORCH_CHECK_TYPE(at::isFloatingType(x.scalar_type()), "x must be floating-point, not ", x.scalar_type());
}

void checkChannels(const at::Tensor& numbers, const at::Tensor& x, const char* name) {
  if (!numbers.defined()) return;
  TORCH_CHECK_VALUE(numbers.numel() == x.size(1) && numbers.device() == x.device(), name, " must be ", x.size(1), " numbers on ",
                    x.device(), ", not ", numbers.sizes(), " on ", numbers.device());
}

at::TensorOptions doubles(const at::Tensor& like) { return at::TensorOptions(at::kDouble).device(like.device()); }

int64_t valuesOf(const at::Tensor& x) { return x.size(1) == 0 ? 0 : x.numel() / x.size(1); }

// This part's row: how many values a channel it has, their means, and their squares about these. Zeros where there are none.
at::Tensor statisticsRow(const at::Tensor& given) {
  checkInput(given);
  const at::NoGradGuard plain;
  const auto channels = given.size(1);
  if (given.numel() == 0) return at::zeros({1 + 2 * channels}, doubles(given));
  const auto count = static_cast<double>(valuesOf(given));
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

struct Joined {
  at::Tensor count, mean, squares;
};

Joined joinByOperators(const at::Tensor& rows) {
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
  if (!hasPasses(rows)) {
    auto [count, mean, squares] = joinByOperators(rows);
    return {count, mean, squares};
  }
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
  for (const auto& running : {runningMean, runningVar})
    TORCH_CHECK_VALUE(!running || (running->numel() == channels && running->device() == rows.device()),
                      "running statistics must be ", channels, " numbers on ", rows.device());
  const at::NoGradGuard plain;
  if (!hasPasses(rows)) {
    const auto [count, mean, squares] = joinByOperators(rows);
    if (runningMean) {
      runningMean->lerp_(mean.to(runningMean->scalar_type()), momentum);
      runningVar->lerp_((squares / (count - 1)).to(runningVar->scalar_type()), momentum);
    }
    const auto variance = squares / count;
    return {count, mean.to(type), variance.to(type), (variance + eps).rsqrt().to(type)};
  }
  const auto found = joinByNumbers(rows);
  if (runningMean) {
    move(*runningMean, 1 - momentum, [&](size_t c) { return momentum * found.mean[c]; });
    move(*runningVar, 1 - momentum, [&](size_t c) { return momentum * found.squares[c] / (found.count - 1); });
  }
  Numbers variance(found.squares), inverse(found.squares.size());
  for (size_t c = 0; c < variance.size(); c++) {
    variance[c] /= found.count;
    inverse[c] = 1 / std::sqrt(variance[c] + eps);
  }
  return {tensorOf({found.count}, {}, at::kDouble), tensorOf(found.mean, {channels}, type), tensorOf(variance, {channels}, type),
          tensorOf(inverse, {channels}, type)};
}

// What both steps of the backward pass check.
void checkBackward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& mean,
                   const at::Tensor& inverse) {
  checkInput(x);
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
  TORCH_CHECK_VALUE(sums.dim() == 1 && sums.size(0) == 2 * channels && sums.device() == given.device(), "sums must be ", 2 * channels,
                    " numbers on ", given.device(), ", not ", sums.sizes(), " on ", sums.device());
  TORCH_CHECK_VALUE(count.numel() == 1 && count.device() == given.device(), "count must be one number on ", given.device());
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
  const auto define = [&](const char* schema, const char* name, auto* function) {
    library.def(schema);
    library.impl(name, torch::dispatch(c10::DispatchKey::CompositeImplicitAutograd, function));
  };
  define(kStatisticsRow, "statistics_row", statisticsRow);
  define(kJoinStatistics, "join_statistics", joinStatistics);
  define(kJoinBatch, "join_batch", joinBatch);
  define(kGradientRow, "gradient_row", gradientRow);
  define(kJoinedGradient, "joined_gradient", joinedGradient);
}

}  // namespace kontrast::norm
