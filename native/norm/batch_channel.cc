#include "batch_channel.h"

#include "kernels.h"
#include "numbers.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace kontrast::norm {

namespace {

using torch::autograd::variable_list;

constexpr const char* kSchema =
    "batch_channel_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? channel_weight, Tensor? channel_bias, "
    "Tensor running_mean, Tensor running_var, int groups, bool estimate, float rate, float eps) -> Tensor";

double entry(const Numbers& numbers, size_t place, double otherwise) { return numbers.empty() ? otherwise : numbers[place]; }

// Both steps are affine in x for each plane, one channel of one sample: the planes' moments tell everything else.
struct Setting : torch::CustomClassHolder {
  Plan plan;
  Moments planes;          // [samples, channels]
  Numbers mean, variance;  // [channels], of the first step
  int64_t groups = 1;
  bool byBatch = false;  // whether these are the batch's own, so that gradients flow through them
  double eps = 0;
};

struct Parameters {
  Numbers weight, bias, channelWeight, channelBias;
};

// The first step of each channel: x·scale + offset.
struct FirstStep {
  Numbers reciprocal, scale, offset;
};

FirstStep firstStepOf(const Setting& setting, const Parameters& parameters) {
  const auto channels = setting.mean.size();
  FirstStep step{Numbers(channels), Numbers(channels), Numbers(channels)};
  for (size_t c = 0; c < channels; c++) {
    step.reciprocal[c] = 1 / std::sqrt(setting.variance[c] + setting.eps);
    step.scale[c] = step.reciprocal[c] * entry(parameters.weight, c, 1);
    step.offset[c] = entry(parameters.bias, c, 0) - setting.mean[c] * step.scale[c];
  }
  return step;
}

// The second step of a group of channels of one sample.
struct GroupStep {
  double mean, reciprocal, gain;
};

// `centre` receives how far the planes' means lie from their group's after the first step.
GroupStep groupStepOf(const Setting& setting, const Parameters& parameters, const FirstStep& first, int64_t sample,
                      int64_t group, double* centre) {
  const auto channels = setting.plan.channels;
  const auto width = channels / setting.groups;
  const auto from = group * width;
  const double* means = setting.planes.mean.data() + sample * channels + from;
  const double* variances = setting.planes.variance.data() + sample * channels + from;
  const double *scale = first.scale.data() + from, *offset = first.offset.data() + from;
  double mean = 0;
  for (int64_t i = 0; i < width; i++) {
    centre[i] = offset[i] + means[i] * scale[i];
    mean += centre[i];
  }
  mean /= static_cast<double>(width);
  double variance = 0;
  for (int64_t i = 0; i < width; i++) {
    centre[i] -= mean;
    variance += centre[i] * centre[i] + variances[i] * scale[i] * scale[i];
  }
  const double reciprocal = 1 / std::sqrt(variance / static_cast<double>(width) + setting.eps);
  return {mean, reciprocal, reciprocal * entry(parameters.channelWeight, static_cast<size_t>(group), 1)};
}

struct BatchChannelNorm : torch::autograd::Function<BatchChannelNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const MaybeTensor& weight,
                            const MaybeTensor& bias, const MaybeTensor& channelWeight, const MaybeTensor& channelBias,
                            const c10::intrusive_ptr<Setting>& setting) {
    context->save_for_backward({x, orNone(weight), orNone(bias), orNone(channelWeight), orNone(channelBias)});
    context->saved_data["setting"] = c10::IValue::make_capsule(setting);
    const auto& plan = setting->plan;
    const Parameters parameters{numbersOf(orNone(weight)), numbersOf(orNone(bias)), numbersOf(orNone(channelWeight)),
                                numbersOf(orNone(channelBias))};
    const auto first = firstStepOf(*setting, parameters);
    const auto width = plan.channels / setting->groups;
    Map map{Numbers(plan.samples * plan.channels), Numbers(plan.samples * plan.channels), {}};
    Numbers centre(width);
    for (int64_t sample = 0; sample < plan.samples; sample++) {
      for (int64_t group = 0; group < setting->groups; group++) {
        const auto step = groupStepOf(*setting, parameters, first, sample, group, centre.data());
        const double shift = entry(parameters.channelBias, static_cast<size_t>(group), 0);
        const auto from = group * width;
        double *scales = map.scale.data() + sample * plan.channels + from, *shifts = map.shift.data() + sample * plan.channels + from;
        for (int64_t i = 0; i < width; i++) {
          scales[i] = first.scale[from + i] * step.gain;
          shifts[i] = (first.offset[from + i] - step.mean) * step.gain + shift;
        }
      }
    }
    return norm::apply(plan, x, map);
  }

  static variable_list backward(torch::autograd::AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "batch-channel normalisation has no second derivative in training mode; leave createGraph "
                                "out, or use eval()");
    const auto held = c10::static_intrusive_pointer_cast<Setting>(context->saved_data.at("setting").toCapsule());
    const auto& setting = *held;
    const auto& plan = setting.plan;
    const auto saved = context->get_saved_variables();
    const auto& x = saved[0];
    const auto wanted = wantedOf(
        *context, {true, saved[1].defined(), saved[2].defined(), saved[3].defined(), saved[4].defined()});
    const Parameters parameters{numbersOf(saved[1]), numbersOf(saved[2]), numbersOf(saved[3]), numbersOf(saved[4])};
    const auto first = firstStepOf(setting, parameters);
    const auto gradient = inOrderOf(x, gradients[0]);
    const auto sums = sumsOf(plan, gradient, x, setting.planes.mean, {});
    const auto [samples, channels, groups] = std::tuple(plan.samples, plan.channels, setting.groups);
    const auto width = channels / groups;
    const auto area = static_cast<double>(plan.positions);
    const auto size = area * static_cast<double>(width);
    Numbers a(samples * channels), b(samples * channels), c(samples * channels), centre(width);
    Numbers ofWeight(channels), ofBias(channels), ofChannelWeight(groups), ofChannelBias(groups);
    for (int64_t sample = 0; sample < samples; sample++) {
      for (int64_t group = 0; group < groups; group++) {
        const auto step = groupStepOf(setting, parameters, first, sample, group, centre.data());
        const auto from = group * width, at = sample * channels + from;
        const double *sum = sums.gradient.data() + at, *product = sums.product.data() + at;
        const double *scale = first.scale.data() + from, *offset = first.offset.data() + from;
        // Over the group: the sums of g and of g·ŷ, ŷ being the output before its own scale.
        double total = 0, inner = 0;
        for (int64_t i = 0; i < width; i++) {
          total += sum[i];
          inner += product[i] * scale[i] + centre[i] * sum[i];
        }
        inner *= step.reciprocal;
        ofChannelWeight[group] += inner;
        ofChannelBias[group] += total;
        const double meanSum = total / size;
        const double pull = inner / size * step.reciprocal;
        for (int64_t i = 0; i < width; i++) {
          const auto channel = from + i;
          // The gradient of the first step's output is gain·(g − meanSum − ŷ·meanInner): its sums, plain and times x̂.
          const double distance = setting.planes.mean[at + i] - setting.mean[channel];
          const double squares = (setting.planes.variance[at + i] * scale[i] + centre[i] * distance) * area;
          ofBias[channel] += (sum[i] - meanSum * area - pull * centre[i] * area) * step.gain;
          ofWeight[channel] += (product[i] + distance * (sum[i] - meanSum * area) - pull * squares) * step.gain *
                               first.reciprocal[channel];
          const double factor = scale[i] * step.gain;
          a[at + i] = factor;
          b[at + i] = -factor * pull * scale[i];
          c[at + i] = -factor * (meanSum + pull * (offset[i] - step.mean));
        }
      }
    }
    if (setting.byBatch) {
      const double count = static_cast<double>(samples) * area;
      for (int64_t channel = 0; channel < channels; channel++) {
        const double share = first.scale[channel] / count;
        const double throughVariance = ofWeight[channel] * first.reciprocal[channel];
        const double slope = share * throughVariance;
        const double constant = share * (ofBias[channel] - throughVariance * setting.mean[channel]);
        for (int64_t sample = 0; sample < samples; sample++) {
          b[sample * channels + channel] -= slope;
          c[sample * channels + channel] -= constant;
        }
      }
    }
    const auto parameter = [&](int index, const Numbers& numbers) {
      return wanted[index]
                 ? tensorOf(numbers, {static_cast<int64_t>(numbers.size())}, saved[index].scalar_type())
                 : at::Tensor();
    };
    return {wanted[0] ? combine(plan, gradient, x, a, b, c, {}) : at::Tensor(),
            parameter(1, ofWeight),
            parameter(2, ofBias),
            parameter(3, ofChannelWeight),
            parameter(4, ofChannelBias),
            at::Tensor()};
  }
};

// The batch's moments from those of its planes, which have as many values each.
Moments joined(const Plan& plan, const Moments& planes) {
  Moments batch{Numbers(plan.channels), Numbers(plan.channels)};
  const auto forEach = [&](auto visit) {
    for (int64_t sample = 0; sample < plan.samples; sample++) {
      for (int64_t c = 0; c < plan.channels; c++) visit(sample * plan.channels + c, c);
    }
  };
  const double share = 1 / static_cast<double>(plan.samples);
  forEach([&](int64_t from, int64_t c) { batch.mean[c] += planes.mean[from] * share; });
  forEach([&](int64_t from, int64_t c) {
    const double distance = planes.mean[from] - batch.mean[c];
    batch.variance[c] += (planes.variance[from] + distance * distance) * share;
  });
  return batch;
}

at::Tensor batchChannelNorm(const at::Tensor& given, const MaybeTensor& weight, const MaybeTensor& bias,
                            const MaybeTensor& channelWeight, const MaybeTensor& channelBias, const at::Tensor& runningMean,
                            const at::Tensor& runningVar, int64_t groups, bool estimate, double rate, double eps) {
  TORCH_CHECK_VALUE(given.dim() >= 2 && hasPasses(given), "x must be [N, C, ...] on the CPU, in float32, float64 or bfloat16, not ",
                    given.sizes(), " in ", given.scalar_type(), " on ", given.device());
  TORCH_CHECK_VALUE(groups >= 1 && given.size(1) % groups == 0, "groups must divide the ", given.size(1), " channels, not ", groups);
  const auto check = [&](const at::Tensor& numbers, int64_t count) {
    TORCH_CHECK_VALUE(numbers.is_cpu() && numbers.numel() == count, "a parameter or statistic must have ", count,
                      " numbers on the CPU, not the shape ", numbers.sizes(), " on ", numbers.device());
  };
  for (const auto* numbers : {&weight, &bias}) {
    if (*numbers) check(**numbers, given.size(1));
  }
  for (const auto* numbers : {&channelWeight, &channelBias}) {
    if (*numbers) check(**numbers, groups);
  }
  check(runningMean, given.size(1));
  check(runningVar, given.size(1));
  const auto x = inOneOrder(given);
  auto setting = c10::make_intrusive<Setting>();
  setting->plan = planOf(x, {}, false);
  setting->planes = momentsOf(setting->plan, x);
  setting->groups = groups;
  setting->byBatch = !estimate;
  setting->eps = eps;
  auto [mean, variance] = joined(setting->plan, setting->planes);
  if (estimate) {
    const auto known = numbersOf(runningMean);
    move(runningVar, 1 - rate, [&](size_t c) {
      const double shift = mean[c] - known[c];
      return rate * (variance[c] + shift * shift);
    });
    move(runningMean, 1 - rate, [&](size_t c) { return rate * mean[c]; });
    setting->mean = numbersOf(runningMean);
    setting->variance = numbersOf(runningVar);
  } else {
    const double values = static_cast<double>(setting->plan.samples * setting->plan.positions);
    move(runningMean, 1 - rate, [&](size_t c) { return rate * mean[c]; });
    move(runningVar, 1 - rate, [&](size_t c) { return rate * variance[c] * values / (values - 1); });
    setting->mean = std::move(mean);
    setting->variance = std::move(variance);
  }
  return BatchChannelNorm::apply(x, weight, bias, channelWeight, channelBias, setting);
}

}  // namespace

void defineBatchChannel(torch::Library& library) {
  library.def(kSchema, batchChannelNorm);
}

}  // namespace kontrast::norm
