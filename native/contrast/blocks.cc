#include "blocks.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <limits>

namespace kontrast::contrast {

namespace {

// Of scores in a block: 64 MB in float, and a few times that while it is worked on.
constexpr int64_t kBlockSide = 4096;
constexpr double kNever = -std::numeric_limits<double>::infinity();

bool isShort(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
}

// a b, summed and given in float where the factors are shorter.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (isShort(b)) {
    if (b.is_cuda()) return at::mm(a.to(b.scalar_type()), b, at::kFloat);
    return at::mm(a.to(at::kFloat), b.to(at::kFloat));
  }
  return at::mm(a.to(b.scalar_type()), b);
}

at::Tensor part(const at::Tensor& tensor, int64_t begin, int64_t end) {
  return tensor.defined() ? tensor.slice(0, begin, end) : at::Tensor();
}

// One block: its scores and which pairs are in which set; an undefined mask stands for all pairs.
struct Block {
  int64_t rowBegin, rowEnd, columnBegin, columnEnd;
  at::Tensor scores, positives, negatives, all;

  const at::Tensor& mask(PairClass set) const {
    return set == kPositive ? positives : set == kNegative ? negatives : all;
  }
  at::Tensor masked(const at::Tensor& x, PairClass set, double otherwise) const {
    const auto& allowed = mask(set);
    return allowed.defined() ? at::where(allowed, x, at::scalar_tensor(otherwise, x.options())) : x;
  }
};

class Blocks {
 public:
  explicit Blocks(const Problem& problem) : problem_(problem) {}

  // visit(block) for each, columns within rows.
  template <typename Visit>
  void each(Visit visit) const {
    const auto rows = problem_.rows.size(0);
    const auto columns = problem_.columns.size(0);
    for (int64_t i = 0; i < rows; i += kBlockSide) {
      for (int64_t j = 0; j < columns; j += kBlockSide)
        visit(make(i, std::min(i + kBlockSide, rows), j, std::min(j + kBlockSide, columns)));
    }
  }

  // The scores that a LogSumExp or Maximum looks at.
  at::Tensor selected(const Block& block, const Statistic& statistic) const {
    auto x = block.scores;
    if (statistic.kind == Kind::LogSumExp) {
      x = x * statistic.power;
      if (statistic.isWeighted) x = x + part(problem_.columnWeights, block.columnBegin, block.columnEnd).unsqueeze(0);
    }
    return block.masked(x, statistic.set, kNever);
  }

  // power * (scores - offset)
  at::Tensor moved(const Block& block, size_t s) const {
    const auto& statistic = problem_.statistics[s];
    const auto& offset = problem_.offsets[s];
    const auto x =
        offset.defined() ? block.scores - part(offset, block.rowBegin, block.rowEnd).unsqueeze(1) : block.scores;
    return x * statistic.power;
  }

 private:
  static at::Tensor agree(const at::Tensor& rows, const at::Tensor& columns) {
    return rows.defined() ? rows.unsqueeze(1).eq(columns.unsqueeze(0)) : at::Tensor();
  }

  Block make(int64_t rowBegin, int64_t rowEnd, int64_t columnBegin, int64_t columnEnd) const {
    const auto ofRows = [&](const at::Tensor& tensor) { return part(tensor, rowBegin, rowEnd); };
    const auto ofColumns = [&](const at::Tensor& tensor) { return part(tensor, columnBegin, columnEnd); };
    Block block{rowBegin, rowEnd, columnBegin, columnEnd, {}, {}, {}, {}};
    block.scores = product(ofRows(problem_.rows), ofColumns(problem_.columns).t());
    if (problem_.bias != 0) block.scores.add_(problem_.bias);
    const auto excluded = agree(ofRows(problem_.rowIds), ofColumns(problem_.columnIds));
    block.positives = agree(ofRows(problem_.rowLabels), ofColumns(problem_.columnLabels));
    if (excluded.defined()) {
      block.all = excluded.logical_not();
      if (block.positives.defined()) block.positives.logical_and_(block.all);
    }
    block.negatives = block.positives.defined() ? block.positives.logical_not() : block.all;
    if (block.positives.defined() && block.all.defined()) block.negatives = block.negatives.logical_and(block.all);
    if (problem_.rowGuides.defined()) {
      const auto guides = product(ofRows(problem_.rowGuides), ofColumns(problem_.columnGuides).t());
      const auto allowed = guides.le(ofRows(problem_.guideLimits).unsqueeze(1));
      block.negatives = block.negatives.defined() ? block.negatives.logical_and(allowed) : allowed;
      block.all = block.positives.defined() ? block.negatives.logical_or(block.positives) : block.negatives;
    }
    if (!block.positives.defined()) block.positives = at::zeros({1, 1}, block.scores.options().dtype(at::kBool));
    if (problem_.margin != 0) block.scores.sub_(block.positives.to(block.scores.scalar_type()), problem_.margin);
    return block;
  }

  const Problem& problem_;
};

void addTo(at::Tensor target, const Statistic& statistic, const at::Tensor& found) {
  if (statistic.kind == Kind::LogSumExp)
    at::logaddexp_out(target, target, found);
  else if (statistic.kind == Kind::Maximum)
    at::maximum_out(target, target, found);
  else
    target.add_(found);
}

// The block without the pairs whose score is below the row's limit; as it is without limits.
Block narrowed(const Block& block, const at::Tensor& limits) {
  if (!limits.defined()) return block;
  auto narrow = block;
  const auto isAbove = block.scores.ge(part(limits, block.rowBegin, block.rowEnd).unsqueeze(1));
  const auto narrowedMask = [&](const at::Tensor& mask) { return mask.defined() ? mask.logical_and(isAbove) : isAbove; };
  narrow.positives = narrowedMask(block.positives);
  narrow.negatives = narrowedMask(block.negatives);
  narrow.all = narrowedMask(block.all);
  return narrow;
}

// The least of the scores that count, by row, of each statistic with a top: one more pass.
std::vector<at::Tensor> limitsOf(const Problem& problem, const Blocks& blocks) {
  const auto& statistics = problem.statistics;
  std::vector<at::Tensor> limits(statistics.size());
  if (std::none_of(statistics.begin(), statistics.end(), [](const Statistic& statistic) { return statistic.top > 0; }))
    return limits;
  // By statistic and row of blocks, the greatest scores so far.
  std::vector<std::vector<at::Tensor>> kept(statistics.size());
  blocks.each([&](const Block& block) {
    for (size_t s = 0; s < statistics.size(); s++) {
      if (statistics[s].top == 0) continue;
      auto scores = block.masked(block.scores, statistics[s].set, kNever);
      if (block.columnBegin == 0) kept[s].emplace_back();
      auto& own = kept[s].back();
      if (own.defined()) scores = at::cat({own, scores}, 1);
      own = std::get<0>(scores.topk(std::min(statistics[s].top, scores.size(1)), 1));
    }
  });
  for (size_t s = 0; s < statistics.size(); s++) {
    if (statistics[s].top == 0) continue;
    std::vector<at::Tensor> parts;
    // With fewer candidates than may count, all do.
    for (const auto& own : kept[s])
      parts.push_back(own.size(1) < statistics[s].top ? at::full({own.size(0)}, kNever, own.options()) : own.select(1, -1));
    limits[s] = at::cat(parts);
  }
  return limits;
}

// Whether no slope of the block is a share of its row's gradient that matters.
bool isNegligible(const Problem& problem, const Block& block, const at::Tensor& slopes, const std::vector<at::Tensor>& gradients) {
  auto largest = at::zeros({block.rowEnd - block.rowBegin}, slopes.options());
  for (size_t s = 0; s < gradients.size(); s++) {
    if (!gradients[s].defined()) continue;
    const auto own = part(gradients[s], block.rowBegin, block.rowEnd).abs();
    largest = at::maximum(largest, problem.statistics[s].kind == Kind::LogSumExp ? own * problem.statistics[s].power : own);
  }
  const auto matters = slopes.abs().amax(1).ge(largest * problem.filter).logical_and(largest.gt(0));
  return !matters.any().item<bool>();
}

}  // namespace

Statistics computeStatisticsByBlocks(const Problem& problem) {
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const auto options = problem.rows.options().dtype(typeOfScores(problem.rows));
  const Blocks blocks(problem);
  Statistics found;
  found.limits = limitsOf(problem, blocks);
  auto& results = found.values;
  for (const auto& statistic : problem.statistics) {
    const auto count = (statistic.axis == Axis::Rows ? problem.rows : problem.columns).size(0);
    const bool startsBelow = statistic.kind == Kind::LogSumExp || statistic.kind == Kind::Maximum;
    results.push_back(at::full({count}, startsBelow ? kNever : 0, options));
  }
  blocks.each([&](const Block& whole) {
    for (size_t s = 0; s < problem.statistics.size(); s++) {
      const auto& statistic = problem.statistics[s];
      const auto block = narrowed(whole, found.limits[s]);
      const bool byRow = statistic.axis == Axis::Rows;
      const int64_t along = byRow ? 1 : 0;
      const auto sum = [&](const at::Tensor& x) { return block.masked(x, statistic.set, 0).sum(along); };
      auto target = byRow ? part(results[s], block.rowBegin, block.rowEnd) : part(results[s], block.columnBegin, block.columnEnd);
      switch (statistic.kind) {
        case Kind::LogSumExp:
          addTo(target, statistic, blocks.selected(block, statistic).logsumexp(along));
          break;
        case Kind::Maximum:
          addTo(target, statistic, blocks.selected(block, statistic).amax(along));
          break;
        case Kind::Sum:
          addTo(target, statistic, sum(block.scores));
          break;
        case Kind::SumOfSquares:
          addTo(target, statistic, sum(block.scores.square()));
          break;
        case Kind::Softplus:
          addTo(target, statistic, sum(at::log_sigmoid(blocks.moved(block, s).neg()).neg()));
          break;
        case Kind::Hinge:
          addTo(target, statistic, sum(blocks.moved(block, s).relu()));
          break;
        case Kind::Count:
          addTo(target, statistic, sum(at::ones_like(block.scores)));
          break;
      }
    }
  });
  return found;
}

Gradients differentiateByBlocks(const Problem& problem, const Statistics& statistics,
                                const std::vector<at::Tensor>& gradients, bool needsRows, bool needsColumns) {
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const auto type = typeOfScores(problem.rows);
  Gradients result;
  if (needsRows) result.rows = at::zeros(problem.rows.sizes(), problem.rows.options().dtype(type));
  if (needsColumns) result.columns = at::zeros(problem.columns.sizes(), problem.columns.options().dtype(type));
  for (const auto& offset : problem.offsets)
    result.offsets.push_back(offset.defined() ? at::zeros_like(offset) : at::Tensor());
  // Summed on the device, and brought over once.
  auto bias = at::zeros({}, problem.rows.options().dtype(type));
  const Blocks blocks(problem);
  blocks.each([&](const Block& all) {
    auto slopes = at::zeros_like(all.scores);
    for (size_t s = 0; s < problem.statistics.size(); s++) {
      const auto& statistic = problem.statistics[s];
      const auto block = narrowed(all, statistics.limits[s]);
      if (!gradients[s].defined() || statistic.kind == Kind::Count || statistic.kind == Kind::Maximum) continue;
      const bool byRow = statistic.axis == Axis::Rows;
      const auto along = [&](const at::Tensor& numbers) {
        return byRow ? part(numbers, block.rowBegin, block.rowEnd).unsqueeze(1)
                     : part(numbers, block.columnBegin, block.columnEnd).unsqueeze(0);
      };
      const auto factor = along(gradients[s]);
      if (statistic.kind == Kind::LogSumExp) {
        // Where nothing counts the logarithm is -infinity, and the difference no number.
        const auto whole = along(statistics.values[s]);
        const auto shift = at::where(whole.isinf(), at::zeros({}, whole.options()), whole);
        slopes.add_((blocks.selected(block, statistic) - shift).exp_().mul_(factor), statistic.power);
        continue;
      }
      at::Tensor slope;
      if (statistic.kind == Kind::Sum) {
        slope = factor.expand_as(block.scores);
      } else if (statistic.kind == Kind::SumOfSquares) {
        slope = block.scores * factor * 2;
      } else {
        const auto y = blocks.moved(block, s);
        slope = (statistic.kind == Kind::Softplus ? y.sigmoid() : y.gt(0).to(type)) * factor * statistic.power;
      }
      slope = block.masked(slope, statistic.set, 0);
      if (takesOffset(statistic) && result.offsets[s].defined())
        part(result.offsets[s], block.rowBegin, block.rowEnd).sub_(slope.sum(1));
      slopes.add_(slope);
    }
    bias.add_(slopes.sum());
    if (problem.filter > 0 && isNegligible(problem, all, slopes, gradients)) return;
    const auto columns = part(problem.columns, all.columnBegin, all.columnEnd);
    const auto rows = part(problem.rows, all.rowBegin, all.rowEnd);
    if (needsRows) part(result.rows, all.rowBegin, all.rowEnd).add_(product(slopes, columns));
    if (needsColumns) part(result.columns, all.columnBegin, all.columnEnd).add_(product(slopes.t(), rows));
  });
  result.bias = bias.item<double>();
  return result;
}

}  // namespace kontrast::contrast
