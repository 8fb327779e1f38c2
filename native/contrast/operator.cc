// kontrast::pair_statistics: the statistics as an operator of LibTorch's, with their gradients.
#include "operator.h"

#include "blocks.h"
#include "fused.h"
#include "mixing.h"
#include "statistics.h"
#include "top_scores.h"

#include <ATen/core/grad_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <vector>

namespace kontrast::contrast {

namespace {

using MaybeTensor = std::optional<at::Tensor>;

constexpr const char* kSchema =
    "pair_statistics(Tensor rows, Tensor columns, Tensor? bias, float margin, Tensor? row_labels, Tensor? column_labels, "
    "Tensor? row_ids, Tensor? column_ids, Tensor? row_guides, Tensor? column_guides, Tensor? guide_limits, "
    "Tensor? column_weights, int[] kinds, int[] axes, int[] sets, float[] powers, bool[] weighted, int[] tops, "
    "Tensor?[] offsets, float filter=0, bool by_blocks=False) -> Tensor[]";

// What does not take part in gradients.
struct Setting : torch::CustomClassHolder {
  Problem problem;        // without rows, columns, bias and offsets
  bool byBlocks = false;  // by LibTorch's operators, as on every device but the CPU
  bool mayFuse = false;   // by kernels of ours instead, where there are some
};

void checkMatrix(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK_VALUE(tensor.dim() == 2, name, " must have two dimensions, not the shape ", tensor.sizes());
  TORCH_CHECK_TYPE(at::isFloatingType(tensor.scalar_type()), name, " must be floating-point, not ", tensor.scalar_type());
}

void checkVector(const at::Tensor& tensor, const char* name, int64_t count) {
  TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.size(0) == count, name, " must have the shape [", count, "], not ",
                    tensor.sizes());
}

void checkDevice(const at::Tensor& tensor, const at::Tensor& rows, const char* name) {
  TORCH_CHECK_VALUE(tensor.device() == rows.device(), name, " is on ", tensor.device(), ", the rows on ", rows.device());
}

// Numbers that stand for something, a row or column each; undefined where absent.
at::Tensor integersOf(const MaybeTensor& given, const at::Tensor& rows, const char* name, int64_t count) {
  if (!given) return {};
  checkVector(*given, name, count);
  checkDevice(*given, rows, name);
  TORCH_CHECK_TYPE(given->scalar_type() == at::kLong, name, " must be int64, not ", given->scalar_type());
  return given->contiguous();
}

at::Tensor numbersOf(const MaybeTensor& given, const at::Tensor& rows, const char* name, int64_t count, at::ScalarType type) {
  if (!given) return {};
  checkVector(*given, name, count);
  checkDevice(*given, rows, name);
  return given->detach().to(type).contiguous();
}

at::Tensor matrixOf(const MaybeTensor& given, const at::Tensor& rows, const char* name, int64_t count, at::ScalarType type) {
  if (!given) return {};
  checkMatrix(*given, name);
  checkDevice(*given, rows, name);
  TORCH_CHECK_VALUE(given->size(0) == count, name, " must have ", count, " rows, not the shape ", given->sizes());
  return given->detach().to(type).contiguous();
}

// The whole problem for one call; `offsets` has an undefined or empty tensor where there is none.
Problem complete(const Setting& setting, const at::Tensor& rows, const at::Tensor& columns, const at::Tensor& bias,
                 at::TensorList offsets) {
  auto problem = setting.problem;
  const auto type = typeOfScores(rows);
  // Devices multiply short types faster, and sum the products in float.
  const bool staysShort = setting.byBlocks && rows.scalar_type() == columns.scalar_type();
  problem.rows = rows.detach().to(staysShort ? rows.scalar_type() : type).contiguous();
  problem.columns = columns.detach().to(staysShort ? columns.scalar_type() : type).contiguous();
  problem.isShort = rows.scalar_type() == at::kBFloat16 && columns.scalar_type() == at::kBFloat16;
  problem.bias = bias.defined() ? bias.item<double>() : 0;
  for (const auto& offset : offsets) {
    const bool isAbsent = !offset.defined() || offset.numel() == 0;
    problem.offsets.push_back(isAbsent ? at::Tensor() : offset.detach().to(type).contiguous());
  }
  return problem;
}

Statistics compute(const Setting& setting, const Problem& problem) {
  if (setting.mayFuse) {
    if (auto found = computeStatisticsFused(problem)) return *std::move(found);
  }
  return setting.byBlocks ? computeStatisticsByBlocks(problem) : computeStatistics(problem);
}

Gradients differentiate(const Setting& setting, const Problem& problem, const Statistics& statistics,
                        const std::vector<at::Tensor>& gradients, bool needsRows, bool needsColumns, bool needsBias) {
  if (setting.mayFuse) {
    auto found = differentiateFused(problem, statistics, gradients, needsRows, needsColumns, needsBias);
    if (found) return *std::move(found);
  }
  const auto byOthers = setting.byBlocks ? differentiateByBlocks : contrast::differentiate;
  return byOthers(problem, statistics, gradients, needsRows, needsColumns);
}

struct PairStatistics : torch::autograd::Function<PairStatistics> {
  using Context = torch::autograd::AutogradContext;
  using Variables = torch::autograd::variable_list;

  static Variables forward(Context* context, const at::Tensor& rows, const at::Tensor& columns, const at::Tensor& bias,
                           at::TensorList offsets, const c10::intrusive_ptr<Setting>& setting) {
    const auto problem = complete(*setting, rows, columns, bias, offsets);
    const auto statistics = compute(*setting, problem);
    Variables saved{rows, columns, bias};
    saved.insert(saved.end(), offsets.begin(), offsets.end());
    saved.insert(saved.end(), statistics.values.begin(), statistics.values.end());
    saved.insert(saved.end(), statistics.limits.begin(), statistics.limits.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["setting"] = c10::IValue::make_capsule(setting);
    Variables constants;
    for (size_t s = 0; s < statistics.values.size(); s++) {
      const auto kind = problem.statistics[s].kind;
      if (kind == Kind::Count || kind == Kind::Maximum) constants.push_back(statistics.values[s]);
    }
    context->mark_non_differentiable(constants);
    context->set_materialize_grads(false);
    return statistics.values;
  }

  static Variables backward(Context* context, const Variables& gradients) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "pair_statistics has no second derivatives: compute densely where you need them");
    const auto setting =
        c10::static_intrusive_pointer_cast<Setting>(context->saved_data.at("setting").toCapsule());
    const auto saved = context->get_saved_variables();
    const auto count = setting->problem.statistics.size();
    const auto& rows = saved[0];
    const auto& columns = saved[1];
    const auto& bias = saved[2];
    const auto offsets = at::TensorList(saved).slice(3, count);
    const auto problem = complete(*setting, rows, columns, bias, offsets);
    std::vector<at::Tensor> slopes;
    for (const auto& gradient : gradients)
      slopes.push_back(gradient.defined() ? gradient.to(typeOfScores(rows)).contiguous() : at::Tensor());
    const auto values = saved.begin() + 3 + static_cast<std::ptrdiff_t>(count);
    const auto limits = values + static_cast<std::ptrdiff_t>(count);
    const Statistics statistics{{values, limits}, {limits, saved.end()}};
    const auto found = differentiate(*setting, problem, statistics, slopes, context->needs_input_grad(0),
                                     context->needs_input_grad(1), bias.requires_grad());
    Variables results{found.rows.defined() ? found.rows.to(rows.scalar_type()) : at::Tensor(),
                      found.columns.defined() ? found.columns.to(columns.scalar_type()) : at::Tensor(),
                      bias.requires_grad() ? at::scalar_tensor(found.bias, bias.options().requires_grad(false)).reshape(bias.sizes())
                                           : at::Tensor()};
    for (size_t s = 0; s < count; s++) {
      const bool isNeeded = found.offsets[s].defined() && offsets[s].requires_grad();
      results.push_back(isNeeded ? found.offsets[s].to(offsets[s].scalar_type()) : at::Tensor());
    }
    results.emplace_back();
    return results;
  }
};

std::vector<Statistic> statisticsOf(at::IntArrayRef kinds, at::IntArrayRef axes, at::IntArrayRef sets,
                                    at::ArrayRef<double> powers, const c10::List<bool>& weighted, at::IntArrayRef tops,
                                    bool hasWeights) {
  const auto count = kinds.size();
  TORCH_CHECK_VALUE(axes.size() == count && sets.size() == count && powers.size() == count && weighted.size() == count &&
                        tops.size() == count,
                    "kinds, axes, sets, powers, weighted and tops must have one entry a statistic");
  std::vector<Statistic> statistics;
  for (size_t s = 0; s < count; s++) {
    TORCH_CHECK_VALUE(kinds[s] >= 0 && kinds[s] <= static_cast<int64_t>(Kind::Maximum), "there is no statistic of kind ",
                      kinds[s]);
    TORCH_CHECK_VALUE(axes[s] == 0 || axes[s] == 1, "an axis is 0 for rows or 1 for columns, not ", axes[s]);
    TORCH_CHECK_VALUE(sets[s] >= 1 && sets[s] <= 3, "a set is 1 (positives), 2 (negatives) or 3 (both), not ", sets[s]);
    TORCH_CHECK_VALUE(powers[s] > 0 || (powers[s] < 0 && kinds[s] != 0), "the power ", powers[s], " has no use here");
    TORCH_CHECK_VALUE(!weighted[s] || hasWeights, "a weighted statistic needs column_weights");
    TORCH_CHECK_VALUE(tops[s] >= 0, "a top is how many scores count, or 0 for all, not ", tops[s]);
    TORCH_CHECK_VALUE(tops[s] == 0 || (axes[s] == 0 && !weighted[s]), "only unweighted statistics of rows have a top");
    statistics.push_back({static_cast<Kind>(kinds[s]), static_cast<Axis>(axes[s]), static_cast<PairClass>(sets[s]),
                          powers[s], weighted[s], tops[s]});
  }
  return statistics;
}

std::vector<at::Tensor> pairStatistics(const at::Tensor& rows, const at::Tensor& columns, const MaybeTensor& bias,
                                       double margin, const MaybeTensor& rowLabels, const MaybeTensor& columnLabels,
                                       const MaybeTensor& rowIds, const MaybeTensor& columnIds, const MaybeTensor& rowGuides,
                                       const MaybeTensor& columnGuides, const MaybeTensor& guideLimits,
                                       const MaybeTensor& columnWeights, at::IntArrayRef kinds, at::IntArrayRef axes,
                                       at::IntArrayRef sets, at::ArrayRef<double> powers, const c10::List<bool>& weighted,
                                       at::IntArrayRef tops, const c10::List<std::optional<at::Tensor>>& offsets,
                                       double filter, bool byBlocks) {
  checkMatrix(rows, "rows");
  checkMatrix(columns, "columns");
  checkDevice(columns, rows, "columns");
  TORCH_CHECK_VALUE(rows.size(1) == columns.size(1), "rows and columns must be of one dimension, not ", rows.size(1), " and ",
                    columns.size(1));
  TORCH_CHECK_VALUE(rows.numel() > 0 && columns.numel() > 0, "there are no embeddings: ", rows.sizes(), " and ",
                    columns.sizes());
  const auto type = typeOfScores(rows);
  TORCH_CHECK_TYPE((columns.scalar_type() == at::kDouble) == (type == at::kDouble), "rows are ", rows.scalar_type(),
                   ", columns ", columns.scalar_type());
  TORCH_CHECK_VALUE(!bias || bias->numel() == 1, "the bias is one number");
  TORCH_CHECK_VALUE(rowLabels.has_value() == columnLabels.has_value() && rowIds.has_value() == columnIds.has_value(),
                    "labels and ids come for rows and columns");
  TORCH_CHECK_VALUE(rowGuides.has_value() == columnGuides.has_value() && rowGuides.has_value() == guideLimits.has_value(),
                    "guides come for rows and columns, with limits");
  const auto n = rows.size(0);
  const auto m = columns.size(0);
  auto setting = c10::make_intrusive<Setting>();
  setting->byBlocks = byBlocks || !rows.is_cpu();
  setting->mayFuse = !byBlocks && rows.is_cuda();
  auto& problem = setting->problem;
  problem.margin = margin;
  problem.rowLabels = integersOf(rowLabels, rows, "row_labels", n);
  problem.columnLabels = integersOf(columnLabels, rows, "column_labels", m);
  problem.rowIds = integersOf(rowIds, rows, "row_ids", n);
  problem.columnIds = integersOf(columnIds, rows, "column_ids", m);
  problem.rowGuides = matrixOf(rowGuides, rows, "row_guides", n, type);
  problem.columnGuides = matrixOf(columnGuides, rows, "column_guides", m, type);
  TORCH_CHECK_VALUE(!rowGuides || rowGuides->size(1) == columnGuides->size(1), "guides must be of one dimension");
  problem.guideLimits = numbersOf(guideLimits, rows, "guide_limits", n, type);
  problem.columnWeights = numbersOf(columnWeights, rows, "column_weights", m, type);
  problem.statistics = statisticsOf(kinds, axes, sets, powers, weighted, tops, columnWeights.has_value());
  TORCH_CHECK_VALUE(filter >= 0 && filter < 1, "the filter is a share in [0, 1), not ", filter);
  TORCH_CHECK_VALUE(filter == 0 || std::all_of(axes.begin(), axes.end(), [](int64_t axis) { return axis == 0; }),
                    "gradients are filtered by rows: there is no filter beside statistics of columns");
  problem.filter = filter;
  TORCH_CHECK_VALUE(offsets.size() == kinds.size(), "offsets must have one entry a statistic");
  std::vector<at::Tensor> given;
  for (size_t s = 0; s < offsets.size(); s++) {
    const std::optional<at::Tensor> offset = offsets[s];
    if (offset) {
      TORCH_CHECK_VALUE(takesOffset(problem.statistics[s]), "only softplus and hinge over rows take an offset");
      checkVector(*offset, "an offset", n);
      checkDevice(*offset, rows, "an offset");
    }
    given.push_back(offset ? *offset : at::empty({0}, rows.options().requires_grad(false)));
  }
  // On the CPU, so that reading it does not wait for a device.
  const auto constant = bias ? *bias : at::zeros({}, rows.options().device(at::kCPU).requires_grad(false));
  return PairStatistics::apply(rows, columns, constant, at::TensorList(given), setting);
}

}  // namespace

void registerOperators() {
  // Another copy of the addon in this process may have been first.
  if (c10::Dispatcher::singleton().findSchema({"kontrast::pair_statistics", ""})) return;
  // Registrations last as long as the library object, so it is never destroyed.
  static auto* library =
      new torch::Library(torch::Library::FRAGMENT, "kontrast", std::nullopt, __FILE__, static_cast<uint32_t>(__LINE__));
  library->def(kSchema, pairStatistics);
  defineTopScores(*library);
  defineMixing(*library);
}

}  // namespace kontrast::contrast
