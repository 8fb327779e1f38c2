#include "normalization.h"

#include "kernels.h"
#include "numbers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

namespace kontrast::norm {

namespace {

using torch::autograd::variable_list;

constexpr const char* kGroupMoments = "group_moments(Tensor x, int[] sizes, bool interleaved) -> (Tensor, Tensor)";
constexpr const char* kGroupSums = "group_sums(Tensor gradient, Tensor x, Tensor mean, int[] sizes) -> (Tensor, Tensor)";
constexpr const char* kGroupCombine = "group_combine(Tensor gradient, Tensor x, Tensor a, Tensor b, Tensor c, int[] sizes) -> Tensor";
constexpr const char* kGroupedBatchNorm =
    "grouped_batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, int[] sizes, "
    "bool interleaved, float keep, float[] weights, float eps) -> Tensor";
constexpr const char* kNormalizeBy =
    "normalize_by(Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor variance, Tensor own_mean, Tensor? share, "
    "Tensor? slope, Tensor? r, Tensor? d, int[] sizes, float eps) -> Tensor";
constexpr const char* kUncenteredNorm =
    "uncentered_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? floor, Tensor? extra_eps, Tensor? running_square, "
    "float momentum, int[] sizes, float eps) -> Tensor";

bool isDouble(const at::Tensor& x) { return x.scalar_type() == at::kDouble; }
at::ScalarType wideType(const at::Tensor& x) { return isDouble(x) ? at::kDouble : at::kFloat; }

// --- Checks ---

void checkInput(const at::Tensor& x, at::IntArrayRef sizes, bool areInterleaved) {
  checkActivations(x);
  if (sizes.empty()) return;
  int64_t samples = 0;
  for (const auto size : sizes) {
    TORCH_CHECK_VALUE(size >= 1 && (!areInterleaved || size == sizes[0]),
                      "groups must have samples, and as many each where they are interleaved, not ", sizes);
    samples += size;
  }
  TORCH_CHECK_VALUE(samples == x.size(0), "there are ", x.size(0), " samples, but the groups have ", samples);
}

// Of the statistics of groups: [groups, C], and [C] for the batch as one.
std::vector<int64_t> shapeOf(const at::Tensor& x, at::IntArrayRef sizes) {
  if (sizes.size() == 1) return {x.size(1)};
  return {sizes.empty() ? x.size(0) : static_cast<int64_t>(sizes.size()), x.size(1)};
}

// --- By LibTorch's operators: on other devices, for other dtypes, and where gradients are themselves differentiated ---

// How the statistics of groups are made; tensors are undefined where they have no say.
struct Terms {
  bool isCentred = true;
  // With these, the batch's own statistics only make the gradient: dmean = share·dμ, dvariance = share·dσ² + slope·dμ.
  at::Tensor mean, variance, share, slope;
  at::Tensor r, d;
  at::Tensor floor, extraEps;
  double eps = 0;
};

struct Affine {
  at::Tensor weight, bias;
};

at::Tensor alongChannels(const at::Tensor& numbers, const at::Tensor& x) {
  std::vector<int64_t> shape(x.dim(), 1);
  const auto rows = numbers.dim() == 2 ? numbers.size(0) : 1;
  shape[0] = rows;
  shape[1] = x.size(1);
  return numbers.to(x.scalar_type()).expand({rows, x.size(1)}).view(shape);
}

std::vector<int64_t> dimensionsOf(const at::Tensor& x, bool overSamples) {
  std::vector<int64_t> dimensions;
  for (int64_t d = 0; d < x.dim(); d++) {
    if (d > 1 || (d == 0 && overSamples)) dimensions.push_back(d);
  }
  return dimensions;
}

std::tuple<at::Tensor, at::Tensor> momentsByOperators(const at::Tensor& x, bool overSamples) {
  const auto dimensions = dimensionsOf(x, overSamples);
  if (dimensions.empty()) return {x, at::zeros_like(x)};
  auto [variance, mean] = at::var_mean(x, dimensions, /*correction=*/at::Scalar(0), /*keepdim=*/true);
  return {mean, variance};
}

// The batch as one group, or each sample for itself; terms are [C] or [N, C].
at::Tensor normalizeByOperators(const at::Tensor& given, const Affine& affine, const Terms& terms, bool overSamples) {
  const auto x = given.to(wideType(given));
  at::Tensor y;
  const auto along = [&](const at::Tensor& numbers) { return alongChannels(numbers, x); };
  const auto inverseOf = [&](const at::Tensor& variance) {
    const auto sum = variance + terms.eps;
    return at::rsqrt(terms.extraEps.defined() ? sum + along(terms.extraEps) : sum);
  };
  if (!terms.isCentred) {
    const auto dimensions = dimensionsOf(x, overSamples);
    const auto square = x * x;
    y = x * inverseOf(dimensions.empty() ? square : square.mean(dimensions, /*keepdim=*/true));
  } else {
    auto [mean, variance] = momentsByOperators(x, overSamples);
    if (terms.mean.defined()) {
      // Nothing is added, but what has a gradient.
      const auto moved = mean - mean.detach(), widened = variance - variance.detach();
      const auto share = terms.share.defined() ? along(terms.share) : at::scalar_tensor(1, x.options());
      const auto slope =
          terms.slope.defined() ? along(terms.slope) : 2 * share * (mean.detach() - along(terms.mean));
      mean = along(terms.mean) + share * moved;
      variance = along(terms.variance) + share * widened + slope * moved;
    }
    y = (x - mean) * inverseOf(variance);
  }
  if (terms.r.defined()) y = y * along(terms.r) + along(terms.d);
  if (affine.weight.defined()) y = y * along(affine.weight);
  if (affine.bias.defined()) y = y + along(affine.bias);
  if (terms.floor.defined()) {
    const auto floor = along(terms.floor);
    y = at::where(y <= floor, floor, y);
  }
  return y.to(given.scalar_type());
}

// The groups' samples, each for itself.
std::vector<at::Tensor> split(const at::Tensor& x, at::IntArrayRef sizes, bool areInterleaved) {
  if (!areInterleaved) return x.split_with_sizes(sizes);
  const auto groups = static_cast<int64_t>(sizes.size());
  std::vector<at::Tensor> parts;
  for (int64_t group = 0; group < groups; group++) parts.push_back(x.slice(0, group, std::nullopt, groups));
  return parts;
}

at::Tensor join(const std::vector<at::Tensor>& parts, bool areInterleaved) {
  return areInterleaved ? at::stack(parts, 1).flatten(0, 1) : at::cat(parts);
}

// --- By passes ---

// What a pass of gradients needs beside tensors.
struct Setting : torch::CustomClassHolder {
  Plan plan;
  Numbers mean, inverse;  // [groups, channels]; no mean: nothing is centred
  Numbers own;            // the batch's own means
  Numbers share, slope;   // of Terms; none: 1 and 0
  Numbers r, d;           // [channels]; none: 1 and 0
  Map map;                // of the forward pass
  // The same result by operators that have second derivatives; empty with a refusal where there is none.
  std::function<at::Tensor(const at::Tensor& x, const Affine& affine)> again;
  std::string refusal;
};

// An entry of [groups, channels], or one number.
double entry(const Numbers& numbers, size_t place, double otherwise) {
  return numbers.empty() ? otherwise : numbers.size() == 1 ? numbers[0] : numbers[place];
}

Numbers filled(Numbers numbers, size_t count, double otherwise) {
  return numbers.empty() ? Numbers(count, otherwise) : std::move(numbers);
}

struct Normalization : torch::autograd::Function<Normalization> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const MaybeTensor& weight,
                            const MaybeTensor& bias, const MaybeTensor& floor, const MaybeTensor& extraEps,
                            const c10::intrusive_ptr<Setting>& setting) {
    const auto& [inverse, mean] = std::tie(setting->inverse, setting->mean);
    const auto channels = static_cast<size_t>(setting->plan.channels);
    auto gamma = filled(numbersOf(orNone(weight)), channels, 1), beta = filled(numbersOf(orNone(bias)), channels, 0);
    for (size_t c = 0; c < setting->r.size(); c++) {
      beta[c] += gamma[c] * setting->d[c];
      gamma[c] *= setting->r[c];
    }
    auto& map = setting->map;
    map = {Numbers(inverse.size()), Numbers(inverse.size()), numbersOf(orNone(floor))};
    for (size_t row = 0; row < inverse.size(); row += channels) {
      for (size_t c = 0; c < channels; c++) map.scale[row + c] = inverse[row + c] * gamma[c];
      for (size_t c = 0; c < channels; c++)
        map.shift[row + c] = mean.empty() ? beta[c] : beta[c] - mean[row + c] * map.scale[row + c];
    }
    context->save_for_backward({x, orNone(weight), orNone(bias)});
    context->saved_data["setting"] = c10::IValue::make_capsule(setting);
    context->saved_data["types"] = std::vector<int64_t>{typeOf(orNone(floor)), typeOf(orNone(extraEps))};
    return norm::apply(setting->plan, x, map);
  }

  // -1 of what is absent.
  static int64_t typeOf(const at::Tensor& tensor) {
    return tensor.defined() ? static_cast<int64_t>(tensor.scalar_type()) : -1;
  }

  static variable_list backward(torch::autograd::AutogradContext* context, const variable_list& gradients) {
    const auto setting = c10::static_intrusive_pointer_cast<Setting>(context->saved_data.at("setting").toCapsule());
    const auto saved = context->get_saved_variables();
    const auto types = context->saved_data.at("types").toIntVector();
    const auto wanted =
        wantedOf(*context, {true, saved[1].defined(), saved[2].defined(), types[0] >= 0, types[1] >= 0});
    if (at::GradMode::is_enabled()) return differentiate(*setting, wanted, saved, gradients[0]);
    const auto& plan = setting->plan;
    const auto& map = setting->map;
    const auto& inverse = setting->inverse;
    const auto& x = saved[0];
    const auto gradient = inOrderOf(x, gradients[0]);
    const auto& mean = setting->mean;
    const auto places = inverse.size();
    const auto channels = static_cast<size_t>(plan.channels);
    const auto gamma = filled(numbersOf(saved[1]), channels, 1);
    const auto ofR = filled(setting->r, channels, 1), ofD = filled(setting->d, channels, 0);
    const auto sums = sumsOf(plan, gradient, x, mean.empty() ? Numbers(places) : mean, map);
    Numbers a(places), b(places), c(places), ofWeight(channels), ofBias(channels), ofFloor(channels), ofEps(channels);
    for (size_t row = 0; row < places; row += channels) {
      const double count = plan.counts[row / channels];
      for (size_t channel = 0; channel < channels; channel++) {
        const auto i = row + channel;
        const double scale = gamma[channel] * ofR[channel];
        const double along = sums.product[i] * inverse[i];
        const double ofVariance = -0.5 * scale * inverse[i] * inverse[i] * along;
        const double known = entry(setting->share, i, 1);
        a[i] = scale * inverse[i];
        b[i] = 2 * known * ofVariance / count;
        if (!mean.empty())
          c[i] = (entry(setting->slope, i, 0) * ofVariance - known * a[i] * sums.gradient[i]) / count - b[i] * setting->own[i];
        ofWeight[channel] += ofR[channel] * along + ofD[channel] * sums.gradient[i];
        ofBias[channel] += sums.gradient[i];
        ofEps[channel] += ofVariance;
        if (!sums.all.empty()) ofFloor[channel] += sums.all[i] - sums.gradient[i];
      }
    }
    const auto parameter = [&](int index, const Numbers& numbers, int64_t type) {
      return wanted[index] ? tensorOf(numbers, {plan.channels}, static_cast<at::ScalarType>(type))
                           : at::Tensor();
    };
    return {wanted[0] ? combine(plan, gradient, x, a, b, c, map) : at::Tensor(),
            parameter(1, ofWeight, typeOf(saved[1])),
            parameter(2, ofBias, typeOf(saved[2])),
            parameter(3, ofFloor, types[0]),
            parameter(4, ofEps, types[1]),
            at::Tensor()};
  }

  // The gradients as results that have gradients themselves.
  static variable_list differentiate(const Setting& setting, const std::vector<bool>& wanted,
                                     const variable_list& saved, const at::Tensor& gradient) {
    TORCH_CHECK_NOT_IMPLEMENTED(setting.again, setting.refusal);
    variable_list inputs;
    for (int i = 0; i < 3; i++) {
      if (wanted[i]) inputs.push_back(saved[i]);
    }
    const auto y = setting.again(saved[0], {saved[1], saved[2]});
    auto found = torch::autograd::grad({y}, inputs, {gradient}, /*retain_graph=*/true, /*create_graph=*/true);
    variable_list results(6);
    auto next = found.begin();
    for (int i = 0; i < 3; i++) {
      if (wanted[i]) results[i] = *next++;
    }
    return results;
  }
};

at::Tensor normalize(const at::Tensor& x, const Affine& affine, const MaybeTensor& floor, const MaybeTensor& extraEps,
                     const c10::intrusive_ptr<Setting>& setting) {
  return Normalization::apply(x, given(affine.weight), given(affine.bias), floor, extraEps, setting);
}

}  // namespace

// --- Operators ---

std::tuple<at::Tensor, at::Tensor> groupMoments(const at::Tensor& given, at::IntArrayRef sizes, bool areInterleaved) {
  checkInput(given, sizes, areInterleaved);
  const at::NoGradGuard plain;
  const auto type = wideType(given);
  if (!hasPasses(given)) {
    const auto x = given.detach().to(type);
    const auto shape = shapeOf(x, sizes);
    if (sizes.size() <= 1) {
      auto [mean, variance] = momentsByOperators(x, !sizes.empty());
      return {mean.reshape(shape), variance.reshape(shape)};
    }
    std::vector<at::Tensor> means, variances;
    for (const auto& part : split(x, sizes, areInterleaved)) {
      auto [mean, variance] = momentsByOperators(part, true);
      means.push_back(mean);
      variances.push_back(variance);
    }
    return {at::cat(means).reshape(shape), at::cat(variances).reshape(shape)};
  }
  const auto x = inOneOrder(given.detach());
  const auto plan = planOf(x, sizes, areInterleaved);
  const auto found = momentsOf(plan, x);
  const auto shape = shapeOf(x, sizes);
  return {tensorOf(found.mean, shape, type), tensorOf(found.variance, shape, type)};
}

std::tuple<at::Tensor, at::Tensor> groupSums(const at::Tensor& gradient, const at::Tensor& given, const at::Tensor& mean,
                                             at::IntArrayRef sizes) {
  checkInput(given, sizes, false);
  TORCH_CHECK_VALUE(sizes.size() <= 1, "there are sums of one group or of each sample");
  TORCH_CHECK_VALUE(gradient.sizes() == given.sizes(), "the gradient must have the shape of x");
  const auto rows = sizes.empty() ? given.size(0) : 1;
  checkNumbers(mean, given, "mean", rows * given.size(1));
  const at::NoGradGuard plain;
  const auto shape = shapeOf(given, sizes);
  if (!hasPasses(given)) {
    const auto x = given.detach().to(wideType(given)), g = gradient.detach().to(wideType(given));
    const auto dimensions = dimensionsOf(x, !sizes.empty());
    const auto total = [&](const at::Tensor& values) {
      return (dimensions.empty() ? values : values.sum(dimensions)).reshape(shape);
    };
    return {total(g), total(g * (x - alongChannels(mean.reshape(shape), x)))};
  }
  const auto x = inOneOrder(given.detach());
  const auto plan = planOf(x, sizes, false);
  const auto g = inOrderOf(x, gradient.detach());
  const auto found = sumsOf(plan, g, x, numbersOf(mean), {});
  const auto type = wideType(x);
  return {tensorOf(found.gradient, shape, type), tensorOf(found.product, shape, type)};
}

at::Tensor groupCombine(const at::Tensor& gradient, const at::Tensor& given, const at::Tensor& a, const at::Tensor& b,
                          const at::Tensor& c, at::IntArrayRef sizes) {
  checkInput(given, sizes, false);
  TORCH_CHECK_VALUE(sizes.size() <= 1, "there are coefficients of one group or of each sample");
  TORCH_CHECK_VALUE(gradient.sizes() == given.sizes(), "the gradient must have the shape of x");
  const auto rows = sizes.empty() ? given.size(0) : 1;
  for (const auto& numbers : {a, b, c}) checkNumbers(numbers, given, "each coefficient", rows * given.size(1));
  const at::NoGradGuard plain;
  if (!hasPasses(given)) {
    const auto x = given.detach().to(wideType(given)), g = gradient.detach().to(wideType(given));
    const auto along = [&](const at::Tensor& numbers) { return alongChannels(numbers.reshape({rows, x.size(1)}), x); };
    return (g * along(a) + x * along(b) + along(c)).to(given.scalar_type());
  }
  const auto x = inOneOrder(given.detach());
  const auto g = inOrderOf(x, gradient.detach());
  return combine(planOf(x, sizes, false), g, x, numbersOf(a), numbersOf(b), numbersOf(c), {});
}

namespace {

at::Tensor groupedBatchNorm(const at::Tensor& given, const MaybeTensor& weight, const MaybeTensor& bias,
                            const MaybeTensor& runningMean, const MaybeTensor& runningVar, at::IntArrayRef sizes,
                            bool areInterleaved, double keep, at::ArrayRef<double> weights, double eps) {
  checkInput(given, sizes, areInterleaved);
  TORCH_CHECK_VALUE(!sizes.empty(), "there must be groups");
  TORCH_CHECK_VALUE(runningMean.has_value() == runningVar.has_value(), "running statistics are a mean and a variance");
  TORCH_CHECK_VALUE(!runningMean || weights.size() == sizes.size(), "each group needs a weight in the running statistics");
  const Affine affine{orNone(weight), orNone(bias)};
  for (const auto& numbers : {affine.weight, affine.bias, orNone(runningMean), orNone(runningVar)})
    checkChannels(numbers, given, "each parameter and statistic");
  const auto again = [eps, sizes = sizes.vec(), areInterleaved](const at::Tensor& x, const Affine& affine) {
    std::vector<at::Tensor> results;
    for (const auto& part : split(x, sizes, areInterleaved))
      results.push_back(at::batch_norm(part, affine.weight, affine.bias, {}, {}, true, 0, eps, true));
    return join(results, areInterleaved);
  };
  if (!hasPasses(given)) {
    if (runningMean) {
      const at::NoGradGuard plain;
      const auto [means, variances] = groupMoments(given, sizes, areInterleaved);
      const auto options = means.options();
      std::vector<double> unbiased;
      for (size_t g = 0; g < sizes.size(); g++) {
        const auto count = static_cast<double>(sizes[g]) * static_cast<double>(given.numel() / given.size(0) / given.size(1));
        unbiased.push_back(weights[g] * count / (count - 1));
      }
      const auto moved = [&](const at::Tensor& running, const at::Tensor& rows, at::ArrayRef<double> factors) {
        running.copy_(running * keep + at::tensor(factors, options).matmul(rows.view({-1, rows.size(-1)})));
      };
      moved(*runningMean, means, weights);
      moved(*runningVar, variances, unbiased);
    }
    return again(given, affine);
  }
  const auto x = inOneOrder(given);
  auto setting = c10::make_intrusive<Setting>();
  setting->plan = planOf(x, sizes, areInterleaved);
  const auto& plan = setting->plan;
  auto [mean, variance] = momentsOf(plan, x);
  if (runningMean) {
    const auto weighted = [&](const Numbers& rows, bool isUnbiased) {
      return [&, isUnbiased](size_t c) {
        double sum = 0;
        for (size_t g = 0; g < weights.size(); g++) {
          const double count = plan.counts[g];
          sum += weights[g] * rows[g * plan.channels + c] * (isUnbiased ? count / (count - 1) : 1);
        }
        return sum;
      };
    };
    move(*runningMean, keep, weighted(mean, false));
    move(*runningVar, keep, weighted(variance, true));
  }
  setting->inverse = inverseOf(variance, eps);
  setting->own = mean;
  setting->mean = std::move(mean);
  setting->again = again;
  return normalize(x, affine, {}, {}, setting);
}

at::Tensor normalizeBy(const at::Tensor& given, const MaybeTensor& weight, const MaybeTensor& bias, const at::Tensor& mean,
                       const at::Tensor& variance, const at::Tensor& ownMean, const MaybeTensor& share,
                       const MaybeTensor& slope, const MaybeTensor& r, const MaybeTensor& d, at::IntArrayRef sizes, double eps) {
  checkInput(given, sizes, false);
  TORCH_CHECK_VALUE(sizes.size() <= 1, "statistics are of one group or of each sample");
  TORCH_CHECK_VALUE(r.has_value() == d.has_value(), "a correction is r and d");
  const auto rows = sizes.empty() ? given.size(0) : 1;
  const Affine affine{orNone(weight), orNone(bias)};
  for (const auto& numbers : {affine.weight, affine.bias, orNone(r), orNone(d)})
    checkChannels(numbers, given, "each parameter and correction");
  for (const auto& numbers : {mean, variance, ownMean, orNone(slope)})
    checkNumbers(numbers, given, "each statistic", rows * given.size(1));
  if (share && share->numel() != 1) checkNumbers(*share, given, "share", rows * given.size(1));
  if (!hasPasses(given)) {
    const auto rowsOf = [&](const at::Tensor& numbers) {
      return numbers.defined() && numbers.numel() > 1 ? numbers.detach().reshape({rows, given.size(1)}) : numbers;
    };
    Terms terms;
    terms.mean = rowsOf(mean);
    terms.variance = rowsOf(variance);
    terms.share = rowsOf(orNone(share));
    terms.slope = rowsOf(orNone(slope));
    terms.r = orNone(r);
    terms.d = orNone(d);
    terms.eps = eps;
    return normalizeByOperators(given, affine, terms, !sizes.empty());
  }
  const auto x = inOneOrder(given);
  auto setting = c10::make_intrusive<Setting>();
  setting->plan = planOf(x, sizes, false);
  setting->mean = numbersOf(mean);
  setting->inverse = inverseOf(numbersOf(variance), eps);
  setting->own = numbersOf(ownMean);
  setting->share = numbersOf(orNone(share));
  setting->slope = numbersOf(orNone(slope));
  if (!slope) {
    for (size_t i = 0; i < setting->own.size(); i++)
      setting->slope.push_back(2 * entry(setting->share, i, 1) * (setting->own[i] - setting->mean[i]));
  }
  setting->r = numbersOf(orNone(r));
  setting->d = numbersOf(orNone(d));
  setting->refusal = "normalisation by statistics of several batches has no second derivative; leave out createGraph";
  return normalize(x, affine, {}, {}, setting);
}

at::Tensor uncenteredNorm(const at::Tensor& given, const MaybeTensor& weight, const MaybeTensor& bias,
                          const MaybeTensor& floor, const MaybeTensor& extraEps, const MaybeTensor& runningSquare,
                          double momentum, at::IntArrayRef sizes, double eps) {
  checkInput(given, sizes, false);
  TORCH_CHECK_VALUE(sizes.size() == 1 || (sizes.empty() && !runningSquare),
                    "mean squares are of the batch, or of each sample and then not kept");
  const Affine affine{orNone(weight), orNone(bias)};
  for (const auto& numbers : {affine.weight, affine.bias, orNone(floor), orNone(extraEps), orNone(runningSquare)})
    checkChannels(numbers, given, "each parameter and statistic");
  Terms terms;
  terms.isCentred = false;
  terms.eps = eps;
  const auto again = [terms](const at::Tensor& x, const Affine& affine) {
    return normalizeByOperators(x, affine, terms, true);
  };
  if (!hasPasses(given)) {
    if (runningSquare) {
      const at::NoGradGuard plain;
      const auto x = given.detach().to(wideType(given));
      const auto square = (x * x).mean(dimensionsOf(x, true));
      runningSquare->copy_(*runningSquare * (1 - momentum) + square * momentum);
    }
    terms.floor = orNone(floor);
    terms.extraEps = orNone(extraEps);
    return normalizeByOperators(given, affine, terms, !sizes.empty());
  }
  const auto x = inOneOrder(given);
  auto setting = c10::make_intrusive<Setting>();
  setting->plan = planOf(x, sizes, false);
  auto squares = meanSquaresOf(setting->plan, x);
  if (runningSquare) move(*runningSquare, 1 - momentum, [&](size_t c) { return momentum * squares[c]; });
  const auto extra = numbersOf(orNone(extraEps));
  for (size_t row = 0; row < squares.size() && !extra.empty(); row += extra.size()) {
    for (size_t c = 0; c < extra.size(); c++) squares[row + c] += extra[c];
  }
  setting->inverse = inverseOf(std::move(squares), eps);
  if (floor || extraEps || sizes.empty())
    setting->refusal = "filter response normalisation has no gradients of gradients; leave out createGraph";
  else
    setting->again = again;
  return normalize(x, affine, floor, extraEps, setting);
}

}  // namespace

void defineNormalization(torch::Library& library) {
  library.def(kGroupMoments, groupMoments);
  library.def(kGroupSums, groupSums);
  library.def(kGroupCombine, groupCombine);
  library.def(kGroupedBatchNorm, groupedBatchNorm);
  library.def(kNormalizeBy, normalizeBy);
  library.def(kUncenteredNorm, uncenteredNorm);
}

}  // namespace kontrast::norm
