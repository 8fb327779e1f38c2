#include "fused.h"

#include "launcher.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>

namespace kontrast::contrast {

namespace {

using fused::kMostStatistics;
using fused::kTileColumns;
using fused::kTileRows;

constexpr auto kNever = -std::numeric_limits<float>::infinity();

static_assert(static_cast<int>(Kind::LogSumExp) == fused::kLogSumExp && static_cast<int>(Kind::Sum) == fused::kSum &&
              static_cast<int>(Kind::Softplus) == fused::kSoftplus && static_cast<int>(Kind::Count) == fused::kCount &&
              static_cast<int>(Kind::Maximum) == fused::kMaximum && static_cast<int>(Axis::Rows) == fused::kRows &&
              static_cast<int>(Axis::Columns) == fused::kColumns);
static_assert(sizeof(long long) == sizeof(int64_t));

int64_t tilesIn(int64_t count, int64_t tile) { return (count + tile - 1) / tile; }

at::Tensor part(const at::Tensor& tensor, int64_t begin, int64_t end) { return tensor.slice(0, begin, end); }

bool isSuitable(const Problem& problem) {
  const auto type = problem.rows.scalar_type();
  const auto& wanted = problem.statistics;
  const auto isOurs = [&](const Statistic& statistic) {
    return statistic.kind != Kind::SumOfSquares && statistic.kind != Kind::Hinge && !statistic.isWeighted && statistic.top == 0;
  };
  return (type == at::kFloat || type == at::kBFloat16) && problem.columns.scalar_type() == type && problem.filter == 0 &&
         !problem.rowGuides.defined() && !wanted.empty() && wanted.size() <= kMostStatistics &&
         std::all_of(wanted.begin(), wanted.end(), isOurs) &&
         std::none_of(problem.offsets.begin(), problem.offsets.end(), [](const at::Tensor& offset) { return offset.defined(); });
}

// The text before kernels.cu: which program to make of it. Only the statistics whose numbers are in `chosen` are in it.
std::string definitionsOf(const Problem& problem, const std::vector<size_t>& chosen, bool isBackward) {
  std::string kinds;
  std::string axes;
  std::string sets;
  for (const auto s : chosen) {
    const auto& statistic = problem.statistics[s];
    const auto append = [](std::string& list, int64_t number) {
      list += (list.empty() ? "" : ", ") + std::to_string(number);
    };
    append(kinds, static_cast<int64_t>(statistic.kind));
    append(axes, static_cast<int64_t>(statistic.axis));
    append(sets, statistic.set);
  }
  const auto define = [](const char* name, const std::string& value) {
    return std::string("#define KONTRAST_") + name + " " + value + "\n";
  };
  const auto flag = [](bool is) { return std::string(is ? "1" : "0"); };
  return define("STATISTICS", std::to_string(chosen.size())) + define("KINDS", kinds) + define("AXES", axes) +
         define("SETS", sets) + define("LABELS", flag(problem.rowLabels.defined())) +
         define("IDS", flag(problem.rowIds.defined())) +
         define("SHORT", flag(isBackward && problem.rows.scalar_type() == at::kBFloat16)) + define("PART", flag(isBackward));
}

// out = a b, in float; of bfloat16, too.
void multiply(at::Tensor out, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat)
    at::mm_out(out, a, b);
  else if (a.is_cuda())
    at::mm_outf(a, b, at::kFloat, out);
  else
    at::mm_out(out, a.to(at::kFloat), b.to(at::kFloat));
}

// out += a b
void multiplyInto(at::Tensor out, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) {
    out.addmm_(a, b);
    return;
  }
  // LibTorch's first version of this product takes only sums that are as short as the factors.
  static std::atomic<bool> addsInFloat{true};
  if (a.is_cuda() && addsInFloat) {
    try {
      at::addmm_outf(out, a, b, at::kFloat, 1, 1, out);
      return;
    } catch (const c10::Error&) {
      addsInFloat = false;
    }
  }
  auto product = at::empty(out.sizes(), out.options());
  multiply(product, a, b);
  out.add_(product);
}

// The blocks of one problem: their scores, in memory that they share, and what kernels have to know of them.
class Blocks {
 public:
  Blocks(const Problem& problem, const BlockSizes& sizes, const std::vector<size_t>& chosen)
      : problem_(problem), sizes_(sizes) {
    const auto rows = std::min(sizes.rows, problem.rows.size(0));
    const auto columns = std::min(sizes.columns, problem.columns.size(0));
    memory_ = at::empty({rows * columns}, problem.rows.options().dtype(at::kFloat));
    for (int64_t j = 0; j < problem.columns.size(0); j += sizes.columns)
      columns_.push_back(part(problem.columns, j, std::min(j + sizes.columns, problem.columns.size(0))));
    const auto numbers = [](const at::Tensor& tensor) {
      return tensor.defined() ? reinterpret_cast<const long long*>(tensor.const_data_ptr<int64_t>()) : nullptr;
    };
    common_.products = memory_.const_data_ptr<float>();
    common_.rowCount = problem.rows.size(0);
    common_.columnCount = problem.columns.size(0);
    common_.rowLabels = numbers(problem.rowLabels);
    common_.columnLabels = numbers(problem.columnLabels);
    common_.rowIds = numbers(problem.rowIds);
    common_.columnIds = numbers(problem.columnIds);
    common_.bias = static_cast<float>(problem.bias);
    common_.margin = static_cast<float>(problem.margin);
    for (size_t k = 0; k < chosen.size(); k++) common_.powers[k] = static_cast<float>(problem.statistics[chosen[k]].power);
  }

  size_t countOfColumns() const { return columns_.size(); }
  const at::Tensor& columns(size_t block) const { return columns_[block]; }

  // The scores of these rows with a block of columns, before bias and margin.
  fused::Scores multiplyRows(int64_t begin, int64_t end, size_t block) {
    const auto& columns = columns_[block];
    auto scores = common_;
    scores.rowBegin = begin;
    scores.rows = static_cast<int>(end - begin);
    scores.columnBegin = static_cast<int64_t>(block) * sizes_.columns;
    scores.columns = static_cast<int>(columns.size(0));
    const auto products = memory_.narrow(0, 0, (end - begin) * columns.size(0)).view({end - begin, columns.size(0)});
    multiply(products, part(problem_.rows, begin, end), columns.t());
    return scores;
  }

 private:
  const Problem& problem_;
  BlockSizes sizes_;
  at::Tensor memory_;
  std::vector<at::Tensor> columns_;
  fused::Scores common_{};
};

int64_t acrossOf(const fused::Scores& scores) { return tilesIn(scores.columns, kTileColumns); }
int64_t downOf(const fused::Scores& scores) { return tilesIn(scores.rows, kTileRows); }

}  // namespace

std::optional<Statistics> computeStatisticsFused(const Problem& problem) {
  if (!isSuitable(problem)) return std::nullopt;
  std::vector<size_t> all(problem.statistics.size());
  for (size_t s = 0; s < all.size(); s++) all[s] = s;
  const c10::DeviceGuard onDevice(problem.rows.device());
  const auto* kernels = Kernels::find(definitionsOf(problem, all, false), problem.rows.device());
  if (kernels == nullptr) return std::nullopt;
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const auto sizes = kernels->sizes();
  const auto options = problem.rows.options().dtype(at::kFloat);
  const auto rows = problem.rows.size(0);
  const auto columns = problem.columns.size(0);

  fused::Reduction task{};
  Statistics found;
  found.limits.resize(all.size());
  std::vector<at::Tensor> maxima(all.size());
  std::vector<at::Tensor> sums(all.size());
  std::vector<fused::Conclusion> conclusions;
  for (const auto s : all) {
    const auto& statistic = problem.statistics[s];
    const bool byRow = statistic.axis == Axis::Rows;
    const auto count = byRow ? rows : columns;
    const auto tiles =
        byRow ? tilesIn(std::min(columns, sizes.columns), kTileColumns) : tilesIn(std::min(rows, sizes.rows), kTileRows);
    if (statistic.kind == Kind::LogSumExp || statistic.kind == Kind::Maximum) {
      maxima[s] = at::full({tiles, count}, kNever, options);
      task.maxima[s] = maxima[s].data_ptr<float>();
    }
    if (statistic.kind != Kind::Maximum) {
      sums[s] = at::zeros({tiles, count}, options);
      task.sums[s] = sums[s].data_ptr<float>();
    }
    found.values.push_back(at::empty({count}, options));
    conclusions.push_back({static_cast<int>(statistic.kind), static_cast<float>(statistic.power), static_cast<int>(tiles), count,
                           task.maxima[s], task.sums[s], found.values[s].data_ptr<float>()});
  }

  Blocks blocks(problem, sizes, all);
  for (int64_t i = 0; i < rows; i += sizes.rows) {
    for (size_t block = 0; block < blocks.countOfColumns(); block++) {
      task.scores = blocks.multiplyRows(i, std::min(i + sizes.rows, rows), block);
      kernels->reduce(acrossOf(task.scores), downOf(task.scores), task);
    }
  }
  for (const auto& conclusion : conclusions) kernels->conclude(tilesIn(conclusion.count, fused::kThreads), conclusion);
  return found;
}

std::optional<Gradients> differentiateFused(const Problem& problem, const Statistics& statistics,
                                            const std::vector<at::Tensor>& gradients, bool needsRows, bool needsColumns,
                                            bool needsBias) {
  if (!isSuitable(problem)) return std::nullopt;
  std::vector<size_t> chosen;
  for (size_t s = 0; s < problem.statistics.size(); s++) {
    const auto kind = problem.statistics[s].kind;
    if (gradients[s].defined() && kind != Kind::Count && kind != Kind::Maximum) chosen.push_back(s);
  }
  if (chosen.empty()) return std::nullopt;
  const c10::DeviceGuard onDevice(problem.rows.device());
  const auto* kernels = Kernels::find(definitionsOf(problem, chosen, true), problem.rows.device());
  if (kernels == nullptr) return std::nullopt;
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const auto sizes = kernels->sizes();
  const auto options = problem.rows.options().dtype(at::kFloat);
  const auto rows = problem.rows.size(0);

  Gradients result;
  result.offsets.resize(problem.statistics.size());
  if (needsRows) result.rows = at::zeros(problem.rows.sizes(), options);
  if (needsColumns) result.columns = at::zeros(problem.columns.sizes(), options);

  fused::Differentiation task{};
  for (size_t k = 0; k < chosen.size(); k++) {
    task.values[k] = statistics.values[chosen[k]].const_data_ptr<float>();
    task.gradients[k] = gradients[chosen[k]].const_data_ptr<float>();
  }
  at::Tensor totals;
  if (needsBias) {
    totals = at::zeros({tilesIn(sizes.rows, kTileRows) * tilesIn(sizes.columns, kTileColumns)}, options);
    task.totals = totals.data_ptr<float>();
  }
  Blocks blocks(problem, sizes, chosen);
  const auto memory = at::empty({std::min(sizes.rowsOfSlopes, rows) * std::min(sizes.columns, problem.columns.size(0))},
                                problem.rows.options());
  for (int64_t i = 0; i < rows; i += sizes.rowsOfSlopes) {
    const auto end = std::min(i + sizes.rowsOfSlopes, rows);
    const auto ofRows = part(problem.rows, i, end);
    for (size_t block = 0; block < blocks.countOfColumns(); block++) {
      const auto& columns = blocks.columns(block);
      const auto slopes = memory.narrow(0, 0, (end - i) * columns.size(0)).view({end - i, columns.size(0)});
      for (int64_t own = i; own < end; own += sizes.rows) {
        task.scores = blocks.multiplyRows(own, std::min(own + sizes.rows, end), block);
        task.slopes = part(slopes, own - i, end - i).data_ptr();
        kernels->differentiate(acrossOf(task.scores), downOf(task.scores), task);
      }
      if (needsRows) multiplyInto(part(result.rows, i, end), slopes, columns);
      if (needsColumns) {
        const auto begin = static_cast<int64_t>(block) * sizes.columns;
        multiplyInto(part(result.columns, begin, begin + columns.size(0)), slopes.t(), ofRows);
      }
    }
  }
  if (needsBias) result.bias = totals.sum().item<double>();
  return result;
}

}  // namespace kontrast::contrast
