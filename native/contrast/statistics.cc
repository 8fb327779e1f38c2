#include "statistics.h"

#include "products.h"
#include "short_products.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

namespace kontrast::contrast {

namespace {

// A tile of scores, its transpose and the blocks of both factors fit the second cache of a core.
constexpr int64_t kTileColumns = 256;
constexpr int64_t kMostTileRows = 128;
constexpr int64_t kLeastTileRows = 16;
// Rows are divided into so many parts whatever the number of threads, so that this does not change the order of any sum.
constexpr int64_t kParts = 16;
// Columns' sums are kept by part for so many numbers at a time.
constexpr int64_t kPartialNumbers = int64_t{1} << 19;

int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Range {
  int64_t begin;
  int64_t end;
  int64_t size() const { return end - begin; }
};

// The least and the greatest of a stretch of labels or ids: two stretches that do not overlap have no pair that agrees.
struct Span {
  int64_t least = std::numeric_limits<int64_t>::max();
  int64_t most = std::numeric_limits<int64_t>::min();
  bool overlaps(const Span& other) const { return least <= other.most && other.least <= most; }
};

std::vector<Span> spansOf(const at::Tensor& numbers, int64_t step) {
  std::vector<Span> spans;
  if (!numbers.defined()) return spans;
  const auto* data = numbers.const_data_ptr<int64_t>();
  const auto count = numbers.numel();
  for (int64_t begin = 0; begin < count; begin += step) {
    const auto end = std::min(begin + step, count);
    const auto [least, most] = std::minmax_element(data + begin, data + end);
    spans.push_back({*least, *most});
  }
  return spans;
}

template <typename T>
const T* dataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}

// Statistics that look at the same selection of scores.
struct Group {
  PairClass set;
  double power;
  bool isWeighted;
  std::vector<size_t> members;
};

template <typename T>
constexpr T kNever = -std::numeric_limits<T>::infinity();
// Exponentials of differences up to this are far from what a T cannot hold.
template <typename T>
constexpr T kNear = 40;

bool usesSelection(const Statistic& statistic) {
  return statistic.kind == Kind::LogSumExp || statistic.kind == Kind::Maximum;
}

std::vector<Group> groupsOf(const std::vector<Statistic>& statistics) {
  std::vector<Group> groups;
  for (size_t s = 0; s < statistics.size(); s++) {
    const auto& statistic = statistics[s];
    if (!usesSelection(statistic)) continue;
    const double power = statistic.kind == Kind::Maximum ? 1 : statistic.power;
    const bool isWeighted = statistic.kind == Kind::LogSumExp && statistic.isWeighted;
    const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return group.set == statistic.set && group.power == power && group.isWeighted == isWeighted;
    });
    if (found == groups.end())
      groups.push_back({statistic.set, power, isWeighted, {s}});
    else
      found->members.push_back(s);
  }
  return groups;
}

// The logarithms of sums by rows and by columns of a group that has both.
std::optional<std::pair<size_t, size_t>> sharedMembers(const Group& group, const std::vector<Statistic>& statistics) {
  std::optional<size_t> byRow, byColumn;
  for (const size_t s : group.members) {
    if (statistics[s].kind == Kind::LogSumExp) (statistics[s].axis == Axis::Rows ? byRow : byColumn) = s;
  }
  if (!byRow || !byColumn) return std::nullopt;
  return std::pair(*byRow, *byColumn);
}

// One tile: its place, its scores, and the class of each pair.
template <typename T>
struct Tile {
  Range rows;
  Range columns;
  T* scores;
  // Row by row; the same row for all where no pair is special.
  const PairClass* classes;
  bool isPlain;  // all pairs are negatives

  T* row(int64_t i) const { return scores + i * columns.size(); }
  const PairClass* classesOf(int64_t i) const { return isPlain ? classes : classes + i * columns.size(); }
  size_t width() const { return static_cast<size_t>(columns.size()); }
};

// Goes through the tiles. What one part of the rows needs is in a Workspace of its own.
template <typename T>
class Sweep {
 public:
  struct Workspace {
    std::vector<T> scores, guides, selected, exponentials, slopes;
    std::vector<Short> shortSlopes;
    std::vector<PairClass> classes;
  };

  explicit Sweep(const Problem& problem)
      : problem_(problem),
        rowCount_(problem.rows.size(0)),
        columnCount_(problem.columns.size(0)),
        depth_(problem.rows.size(1)),
        tileRows_(std::clamp(divideUp(divideUp(rowCount_, kParts), 16) * 16, kLeastTileRows, kMostTileRows)),
        transposedColumns_(problem.columns.t().contiguous()),
        transposedGuides_(problem.columnGuides.defined() ? problem.columnGuides.t().contiguous() : at::Tensor()),
        rowLabelSpans_(spansOf(problem.rowLabels, tileRows_)),
        columnLabelSpans_(spansOf(problem.columnLabels, kTileColumns)),
        rowIdSpans_(spansOf(problem.rowIds, tileRows_)),
        columnIdSpans_(spansOf(problem.columnIds, kTileColumns)),
        allNegative_(static_cast<size_t>(kTileColumns), kNegative) {
    const auto tiles = divideUp(rowCount_, tileRows_);
    parts_ = std::min<int64_t>(tiles, std::max<int64_t>(kParts, at::get_num_threads()));
    const auto perSection = std::max<int64_t>(1, kPartialNumbers / std::max<int64_t>(depth_, 1) / kTileColumns);
    sectionColumns_ = std::min(perSection * kTileColumns, divideUp(columnCount_, kTileColumns) * kTileColumns);
    if (isShort()) {
      shortRows_ = roundedRows(problem.rows);
      packedTransposedColumns_ = packed(transposedColumns_);
    }
  }

  // Whether products are taken of bfloat16.
  bool isShort() const { return std::is_same_v<T, float> && problem_.isShort && hasShortProducts(); }

  // A matrix of floats rounded, with rows of even length.
  static std::vector<Short> roundedRows(const at::Tensor& matrix) {
    const auto stride = even(matrix.size(1));
    std::vector<Short> rounded(static_cast<size_t>(matrix.size(0) * stride));
    roundRows(rounded.data(), stride, dataOf<float>(matrix), matrix.size(0), matrix.size(1), matrix.size(1));
    return rounded;
  }

  // A matrix of floats rounded and packed as a right factor.
  static std::vector<Short> packed(const at::Tensor& matrix) {
    std::vector<Short> pairs(static_cast<size_t>(even(matrix.size(0)) * matrix.size(1)));
    packRounded(pairs.data(), dataOf<float>(matrix), matrix.size(0), matrix.size(1), matrix.size(1));
    return pairs;
  }

  static int64_t even(int64_t count) { return count + count % 2; }

  int64_t parts() const { return parts_; }
  int64_t sectionColumns() const { return sectionColumns_; }
  int64_t depth() const { return depth_; }

  // For each section of the columns in turn: visit(part, tile, workspace) for its tiles, by all parts at once, then
  // merge(section). A part sees its tiles in a fixed order.
  template <typename Visit, typename Merge>
  void run(Visit visit, Merge merge) {
    std::vector<Workspace> workspaces(static_cast<size_t>(parts_));
    for (int64_t begin = 0; begin < columnCount_; begin += sectionColumns_) {
      const Range section{begin, std::min(begin + sectionColumns_, columnCount_)};
      at::parallel_for(0, parts_, 1, [&](int64_t first, int64_t last) {
        const ProductsOnThisThread products;
        for (int64_t part = first; part < last; part++)
          runPart(part, section, workspaces[static_cast<size_t>(part)], visit);
      });
      merge(section);
    }
  }

  // The scores that count in a group, row by row; those that do not are -infinity.
  const T* select(const Tile<T>& tile, const Group& group, Workspace& workspace) const {
    if (tile.isPlain && group.power == 1 && !group.isWeighted && (group.set & kNegative) != 0) return tile.scores;
    const auto width = tile.width();
    workspace.selected.resize(static_cast<size_t>(tile.rows.size()) * width);
    const auto* weights =
        group.isWeighted ? problem_.columnWeights.template const_data_ptr<T>() + tile.columns.begin : nullptr;
    for (int64_t i = 0; i < tile.rows.size(); i++)
      contrast::select(workspace.selected.data() + static_cast<size_t>(i) * width, tile.row(i), tile.classesOf(i), group.set,
                       static_cast<T>(group.power), weights, width);
    return workspace.selected.data();
  }

 private:
  template <typename Visit>
  void runPart(int64_t part, const Range& section, Workspace& workspace, const Visit& visit) const {
    const auto tiles = divideUp(rowCount_, tileRows_);
    const Range own{part * tiles / parts_, (part + 1) * tiles / parts_};
    for (int64_t begin = section.begin; begin < section.end; begin += kTileColumns) {
      const Range columns{begin, std::min(begin + kTileColumns, section.end)};
      for (int64_t tile = own.begin; tile < own.end; tile++) {
        const Range rows{tile * tileRows_, std::min((tile + 1) * tileRows_, rowCount_)};
        visit(part, makeTile(rows, columns, workspace), workspace);
      }
    }
  }

  Tile<T> makeTile(const Range& rows, const Range& columns, Workspace& workspace) const {
    const auto size = static_cast<size_t>(rows.size() * columns.size());
    workspace.scores.resize(size);
    auto* scores = workspace.scores.data();
    if (isShort()) {
      if constexpr (std::is_same_v<T, float>)
        multiplyShort(rows.size(), columns.size(), even(depth_), shortRows_.data() + rows.begin * even(depth_), even(depth_),
                      packedTransposedColumns_.data() + 2 * columns.begin, columnCount_, scores, columns.size(), false);
    } else {
      multiply(rows.size(), columns.size(), depth_, dataOf<T>(problem_.rows) + rows.begin * depth_, depth_,
               dataOf<T>(transposedColumns_) + columns.begin, columnCount_, scores, columns.size(), false);
    }
    const auto rowTile = static_cast<size_t>(rows.begin / tileRows_);
    const auto columnTile = static_cast<size_t>(columns.begin / kTileColumns);
    const bool hasLabels =
        !rowLabelSpans_.empty() && rowLabelSpans_[rowTile].overlaps(columnLabelSpans_[columnTile]);
    const bool hasIds = !rowIdSpans_.empty() && rowIdSpans_[rowTile].overlaps(columnIdSpans_[columnTile]);
    const bool hasGuides = problem_.rowGuides.defined();
    Tile<T> tile{rows, columns, scores, allNegative_.data(), !(hasLabels || hasIds || hasGuides)};
    if (!tile.isPlain) {
      workspace.classes.resize(size);
      tile.classes = workspace.classes.data();
      classifyTile(tile, hasLabels, hasIds, workspace.classes.data());
      if (hasGuides) excludeByGuides(tile, workspace);
    }
    if (problem_.bias != 0 || (problem_.margin != 0 && !tile.isPlain)) {
      for (int64_t i = 0; i < rows.size(); i++)
        shift(tile.row(i), tile.classesOf(i), static_cast<T>(problem_.bias), static_cast<T>(problem_.margin), tile.width());
    }
    return tile;
  }

  void classifyTile(const Tile<T>& tile, bool hasLabels, bool hasIds, PairClass* classes) const {
    const auto* labels = hasLabels ? dataOf<int64_t>(problem_.columnLabels) + tile.columns.begin : nullptr;
    const auto* ids = hasIds ? dataOf<int64_t>(problem_.columnIds) + tile.columns.begin : nullptr;
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      const auto row = tile.rows.begin + i;
      classify(classes + i * tile.columns.size(), labels, hasLabels ? dataOf<int64_t>(problem_.rowLabels)[row] : 0, ids,
               hasIds ? dataOf<int64_t>(problem_.rowIds)[row] : 0, tile.width());
    }
  }

  void excludeByGuides(const Tile<T>& tile, Workspace& workspace) const {
    const auto guideDepth = problem_.rowGuides.size(1);
    const auto width = tile.columns.size();
    workspace.guides.resize(static_cast<size_t>(tile.rows.size() * width));
    multiply(tile.rows.size(), width, guideDepth, dataOf<T>(problem_.rowGuides) + tile.rows.begin * guideDepth, guideDepth,
             dataOf<T>(transposedGuides_) + tile.columns.begin, columnCount_, workspace.guides.data(), width, false);
    const auto* limits = dataOf<T>(problem_.guideLimits);
    for (int64_t i = 0; i < tile.rows.size(); i++)
      excludeAbove(workspace.classes.data() + i * width, workspace.guides.data() + i * width, limits[tile.rows.begin + i],
                   tile.width());
  }

  const Problem& problem_;
  int64_t rowCount_, columnCount_, depth_, tileRows_;
  at::Tensor transposedColumns_, transposedGuides_;
  std::vector<Short> shortRows_, packedTransposedColumns_;  // where products are taken of bfloat16
  std::vector<Span> rowLabelSpans_, columnLabelSpans_, rowIdSpans_, columnIdSpans_;
  std::vector<PairClass> allNegative_;
  int64_t parts_, sectionColumns_;
};

// --- Forwards ---

// A value for each row or column. Logarithms of sums keep their greatest term apart: value is exp(term - greatest) summed.
template <typename T>
struct Accumulator {
  std::vector<T> greatest, value;

  void resize(size_t count, bool keepsGreatest) {
    value.assign(count, T(0));
    greatest.assign(keepsGreatest ? count : 0, kNever<T>);
  }

  // Adds a sum whose terms were taken less `most`.
  void add(size_t i, T most, T sum) {
    if (most == kNever<T>) return;
    if (most > greatest[i]) {
      value[i] *= std::exp(greatest[i] - most);
      greatest[i] = most;
      value[i] += sum;
    } else {
      value[i] += sum * std::exp(most - greatest[i]);
    }
  }
};

template <typename T>
class Forward {
 public:
  explicit Forward(const Problem& problem)
      : problem_(problem), sweep_(problem), groups_(groupsOf(problem.statistics)) {}

  std::vector<at::Tensor> run() {
    const auto& statistics = problem_.statistics;
    const auto section = static_cast<size_t>(sweep_.sectionColumns());
    byRow_.resize(statistics.size());
    byColumn_.resize(statistics.size());
    partial_.assign(static_cast<size_t>(sweep_.parts()), std::vector<Accumulator<T>>(statistics.size()));
    for (size_t s = 0; s < statistics.size(); s++) {
      const bool keepsGreatest = usesSelection(statistics[s]);
      if (statistics[s].axis == Axis::Rows) {
        byRow_[s].resize(static_cast<size_t>(problem_.rows.size(0)), keepsGreatest);
      } else {
        byColumn_[s].resize(static_cast<size_t>(problem_.columns.size(0)), keepsGreatest);
        for (auto& part : partial_) part[s].resize(section, keepsGreatest);
      }
    }
    sweep_.run(
        [this](int64_t part, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) {
          auto& columns = partial_[static_cast<size_t>(part)];
          for (const auto& group : groups_) addGroup(group, tile, workspace, columns);
          for (size_t s = 0; s < problem_.statistics.size(); s++) {
            if (!usesSelection(problem_.statistics[s])) addSum(s, tile, columns);
          }
        },
        [this](const Range& range) { merge(range); });
    std::vector<at::Tensor> results;
    for (size_t s = 0; s < statistics.size(); s++)
      results.push_back(resultOf(statistics[s], statistics[s].axis == Axis::Rows ? byRow_[s] : byColumn_[s]));
    return results;
  }

 private:
  void addGroup(const Group& group, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace,
                std::vector<Accumulator<T>>& columns) {
    if (tile.isPlain && (group.set & kNegative) == 0) return;
    const auto* selected = sweep_.select(tile, group, workspace);
    const auto shared = sharedMembers(group, problem_.statistics);
    const bool isShared = shared && addShared(*shared, columns, selected, tile, workspace);
    for (const size_t s : group.members) {
      if (isShared && (s == shared->first || s == shared->second)) continue;
      const auto& statistic = problem_.statistics[s];
      if (statistic.axis == Axis::Rows)
        addRows(statistic, byRow_[s], selected, tile);
      else
        addColumns(statistic, columns[s], selected, tile, tile.width());
    }
  }

  // Logarithms of sums by rows and by columns from the same exponentials, taken less each row's own greatest score of the
  // tile. Gives false, and does nothing, where a column has none near the greatest: its exponentials might vanish.
  bool addShared(const std::pair<size_t, size_t>& members, std::vector<Accumulator<T>>& columns, const T* selected,
                 const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) {
    const auto width = tile.width();
    const auto height = static_cast<size_t>(tile.rows.size());
    std::array<T, kMostTileRows> rowMost{};
    std::array<T, kTileColumns> columnMost;
    std::fill_n(columnMost.begin(), width, kNever<T>);
    for (size_t i = 0; i < height; i++) {
      rowMost[i] = maximum(selected + i * width, width);
      maximumInto(columnMost.data(), selected + i * width, width);
    }
    const T common = *std::max_element(rowMost.begin(), rowMost.begin() + static_cast<std::ptrdiff_t>(height));
    if (common == kNever<T>) return true;
    for (size_t j = 0; j < width; j++) {
      if (columnMost[j] != kNever<T> && columnMost[j] < common - kNear<T>) return false;
    }
    auto& byRow = byRow_[members.first];
    auto& byColumn = columns[members.second];
    std::array<T, kTileColumns> sums{};
    workspace.exponentials.resize(width);
    for (size_t i = 0; i < height; i++) {
      if (rowMost[i] == kNever<T>) continue;
      const T sum = exponentialsOf(workspace.exponentials.data(), selected + i * width, rowMost[i], width);
      byRow.add(static_cast<size_t>(tile.rows.begin) + i, rowMost[i], sum);
      addScaled(sums.data(), workspace.exponentials.data(), std::exp(rowMost[i] - common), width);
    }
    const auto place = static_cast<size_t>(tile.columns.begin % sweep_.sectionColumns());
    combine(byColumn.value.data() + place, byColumn.greatest.data() + place, sums.data(), common, columnMost.data(), width);
    return true;
  }

  static void addRows(const Statistic& statistic, Accumulator<T>& accumulator, const T* selected, const Tile<T>& tile) {
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      const auto* row = selected + i * tile.columns.size();
      const T most = maximum(row, tile.width());
      const auto place = static_cast<size_t>(tile.rows.begin + i);
      if (statistic.kind == Kind::Maximum) {
        accumulator.greatest[place] = std::max(accumulator.greatest[place], most);
      } else if (most != kNever<T>) {
        // Less the greater of both, so that what is small is added as it is.
        const T shift = std::max(most, accumulator.greatest[place]);
        accumulator.add(place, shift, sumOfExponentials(row, shift, tile.width()));
      }
    }
  }

  void addColumns(const Statistic& statistic, Accumulator<T>& accumulator, const T* selected, const Tile<T>& tile,
                  size_t width) const {
    const auto place = static_cast<size_t>(tile.columns.begin % sweep_.sectionColumns());
    auto* greatest = accumulator.greatest.data() + place;
    auto* value = accumulator.value.data() + place;
    std::array<T, kTileColumns> before;
    std::copy(greatest, greatest + width, before.begin());
    for (int64_t i = 0; i < tile.rows.size(); i++) maximumInto(greatest, selected + static_cast<size_t>(i) * width, width);
    if (statistic.kind == Kind::Maximum) return;
    rescale(value, before.data(), greatest, width);
    for (int64_t i = 0; i < tile.rows.size(); i++)
      exponentialsInto(value, selected + static_cast<size_t>(i) * width, greatest, width);
  }

  void addSum(size_t s, const Tile<T>& tile, std::vector<Accumulator<T>>& columns) {
    const auto& statistic = problem_.statistics[s];
    const auto set = statistic.set;
    if (tile.isPlain && (set & kNegative) == 0) return;
    const auto power = static_cast<T>(statistic.power);
    const auto width = tile.width();
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      const auto* scores = tile.row(i);
      const auto* classes = tile.classesOf(i);
      if (statistic.axis == Axis::Columns) {
        auto* sums = columns[s].value.data() + tile.columns.begin % sweep_.sectionColumns();
        switch (statistic.kind) {
          case Kind::Sum:
            sumInto(sums, scores, classes, set, width);
            break;
          case Kind::SumOfSquares:
            squaresInto(sums, scores, classes, set, width);
            break;
          case Kind::Softplus:
            softplusInto(sums, scores, classes, set, power, width);
            break;
          case Kind::Hinge:
            hingeInto(sums, scores, classes, set, power, width);
            break;
          default:
            countInto(sums, classes, set, width);
        }
        continue;
      }
      const auto row = static_cast<size_t>(tile.rows.begin + i);
      const T offset = problem_.offsets[s].defined() ? dataOf<T>(problem_.offsets[s])[row] : T(0);
      auto& value = byRow_[s].value[row];
      switch (statistic.kind) {
        case Kind::Sum:
          value += sum(scores, classes, set, width);
          break;
        case Kind::SumOfSquares:
          value += sumOfSquares(scores, classes, set, width);
          break;
        case Kind::Softplus:
          value += sumOfSoftplus(scores, classes, set, power, offset, width);
          break;
        case Kind::Hinge:
          value += sumOfHinge(scores, classes, set, power, offset, width);
          break;
        default:
          value += countOf(classes, set, T(0), width);
      }
    }
  }

  // Takes the parts' sums over a section of the columns together, in the order of the parts, and clears them.
  void merge(const Range& section) {
    for (size_t s = 0; s < problem_.statistics.size(); s++) {
      const auto& statistic = problem_.statistics[s];
      if (statistic.axis == Axis::Rows) continue;
      auto& whole = byColumn_[s];
      for (auto& part : partial_) {
        for (int64_t j = 0; j < section.size(); j++) {
          const auto place = static_cast<size_t>(section.begin + j);
          const auto own = static_cast<size_t>(j);
          if (statistic.kind == Kind::LogSumExp)
            whole.add(place, part[s].greatest[own], part[s].value[own]);
          else if (statistic.kind == Kind::Maximum)
            whole.greatest[place] = std::max(whole.greatest[place], part[s].greatest[own]);
          else
            whole.value[place] += part[s].value[own];
        }
        part[s].resize(part[s].value.size(), usesSelection(statistic));
      }
    }
  }

  at::Tensor resultOf(const Statistic& statistic, const Accumulator<T>& accumulator) const {
    auto result = at::empty({static_cast<int64_t>(accumulator.value.size())}, problem_.rows.options());
    auto* data = result.template mutable_data_ptr<T>();
    for (size_t i = 0; i < accumulator.value.size(); i++) {
      if (statistic.kind == Kind::LogSumExp)
        data[i] = accumulator.greatest[i] + (accumulator.value[i] > 0 ? std::log(accumulator.value[i]) : T(0));
      else
        data[i] = statistic.kind == Kind::Maximum ? accumulator.greatest[i] : accumulator.value[i];
    }
    return result;
  }

  const Problem& problem_;
  Sweep<T> sweep_;
  std::vector<Group> groups_;
  std::vector<Accumulator<T>> byRow_, byColumn_;      // one a statistic
  std::vector<std::vector<Accumulator<T>>> partial_;  // of columns, by part
};

// --- Backwards ---

template <typename T>
class Backward {
 public:
  Backward(const Problem& problem, const std::vector<at::Tensor>& statistics, const std::vector<at::Tensor>& gradients)
      : problem_(problem), sweep_(problem), groups_(groupsOf(problem.statistics)) {
    for (size_t s = 0; s < statistics.size(); s++) {
      values_.push_back(dataOf<T>(statistics[s]));
      slopes_.push_back(dataOf<T>(gradients[s]));
      scaled_.push_back(scaledSlopes(problem.statistics[s], gradients[s]));
    }
  }

  Gradients run(bool needsRows, bool needsColumns) {
    Gradients result;
    const auto depth = sweep_.depth();
    if (needsRows) result.rows = at::zeros_like(problem_.rows);
    if (needsColumns) result.columns = at::empty_like(problem_.columns);
    for (const auto& offset : problem_.offsets)
      result.offsets.push_back(offset.defined() ? at::zeros_like(offset) : at::Tensor());
    const auto parts = static_cast<size_t>(sweep_.parts());
    std::vector<std::vector<T>> columns(parts);
    if (needsColumns) {
      for (auto& part : columns) part.assign(static_cast<size_t>(sweep_.sectionColumns() * depth), T(0));
    }
    // Columns' gradients are summed as [D, section], so that no tile of slopes has to be transposed.
    const auto transposedRows = needsColumns ? problem_.rows.t().contiguous() : at::Tensor();
    const auto rowCount = problem_.rows.size(0);
    const auto sectionColumns = sweep_.sectionColumns();
    const bool isShort = sweep_.isShort();
    const auto packedColumns = isShort && needsRows ? Sweep<T>::packed(problem_.columns) : std::vector<Short>();
    const auto shortTransposedRows = isShort && needsColumns ? Sweep<T>::roundedRows(transposedRows) : std::vector<Short>();
    std::vector<double> biases(parts, 0.0);
    sweep_.run(
        [&](int64_t part, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) {
          slopesOf(tile, workspace, result.offsets);
          const auto* slopes = workspace.slopes.data();
          const auto height = tile.rows.size();
          const auto width = tile.columns.size();
          for (int64_t i = 0; i < height; i++)
            biases[static_cast<size_t>(part)] += sumOf(slopes + i * width, tile.width());
          if (needsRows) {
            auto* target = result.rows.template mutable_data_ptr<T>() + tile.rows.begin * depth;
            if (isShort)
              multiplyShortSlopes(workspace, slopes, height, width, packedColumns.data() + tile.columns.begin * depth, target,
                                  depth);
            else
              multiply(height, depth, width, slopes, width, dataOf<T>(problem_.columns) + tile.columns.begin * depth, depth,
                       target, depth, true);
          }
          if (needsColumns) {
            auto* target = columns[static_cast<size_t>(part)].data() + tile.columns.begin % sectionColumns;
            if (isShort)
              multiplyByShortSlopes(workspace, slopes, height, width, shortTransposedRows.data() + tile.rows.begin,
                                    Sweep<T>::even(rowCount), target, sectionColumns);
            else
              multiply(depth, width, height, dataOf<T>(transposedRows) + tile.rows.begin, rowCount, slopes, width, target,
                       sectionColumns, true);
          }
        },
        [&](const Range& section) {
          if (needsColumns) merge(columns, section, result.columns.template mutable_data_ptr<T>() + section.begin * depth);
        });
    for (const double bias : biases) result.bias += bias;
    return result;
  }

 private:
  // A statistic's gradients times its power, as its slopes by the scores need them.
  static std::vector<T> scaledSlopes(const Statistic& statistic, const at::Tensor& gradient) {
    std::vector<T> scaled;
    if (!gradient.defined()) return scaled;
    const auto* data = gradient.const_data_ptr<T>();
    const double factor = statistic.kind == Kind::LogSumExp      ? statistic.power
                          : statistic.kind == Kind::SumOfSquares ? 2
                                                                 : 1;
    scaled.resize(static_cast<size_t>(gradient.numel()));
    for (size_t i = 0; i < scaled.size(); i++) scaled[i] = static_cast<T>(data[i] * factor);
    return scaled;
  }

  // The gradient by each score of a tile.
  void slopesOf(const Tile<T>& tile, typename Sweep<T>::Workspace& workspace, std::vector<at::Tensor>& offsets) {
    workspace.slopes.assign(static_cast<size_t>(tile.rows.size()) * tile.width(), T(0));
    for (const auto& group : groups_) {
      if (tile.isPlain && (group.set & kNegative) == 0) continue;
      const bool isUsed = std::any_of(group.members.begin(), group.members.end(), [&](size_t s) {
        return slopes_[s] != nullptr && problem_.statistics[s].kind == Kind::LogSumExp;
      });
      if (!isUsed) continue;
      const auto* selected = sweep_.select(tile, group, workspace);
      const auto shared = sharedMembers(group, problem_.statistics);
      const bool isShared = shared && addSharedSlopes(*shared, selected, tile, workspace);
      for (const size_t s : group.members) {
        if (isShared && (s == shared->first || s == shared->second)) continue;
        if (slopes_[s] != nullptr && problem_.statistics[s].kind == Kind::LogSumExp)
          addExponentialSlopes(s, selected, tile, workspace);
      }
    }
    for (size_t s = 0; s < problem_.statistics.size(); s++) {
      const auto& statistic = problem_.statistics[s];
      if (slopes_[s] == nullptr || usesSelection(statistic) || statistic.kind == Kind::Count) continue;
      if (tile.isPlain && (statistic.set & kNegative) == 0) continue;
      addSumSlopes(s, tile, workspace, offsets[s]);
    }
  }

  // Both from the exponentials less the row's logarithm: exp(x - c) = exp(x - r) exp(r - m) exp(m - c) with a middle m. Gives
  // false, and does nothing, where the logarithms are too far apart for that.
  bool addSharedSlopes(const std::pair<size_t, size_t>& members, const T* selected, const Tile<T>& tile,
                       typename Sweep<T>::Workspace& workspace) const {
    if (slopes_[members.first] == nullptr || slopes_[members.second] == nullptr) return false;
    const auto width = tile.width();
    const auto height = static_cast<size_t>(tile.rows.size());
    const auto* ofRows = values_[members.first] + tile.rows.begin;
    const auto* ofColumns = values_[members.second] + tile.columns.begin;
    const auto [leastRow, mostRow] = std::minmax_element(ofRows, ofRows + height);
    const auto [leastColumn, mostColumn] = std::minmax_element(ofColumns, ofColumns + width);
    const T least = std::min(*leastRow, *leastColumn);
    const T most = std::max(*mostRow, *mostColumn);
    if (least == kNever<T> || most - least > kNear<T>) return false;
    const T middle = (least + most) / 2;
    std::array<T, kTileColumns> factors;
    const auto* slopesOfColumns = scaled_[members.second].data() + tile.columns.begin;
    for (size_t j = 0; j < width; j++) factors[j] = slopesOfColumns[j] * std::exp(middle - ofColumns[j]);
    for (size_t i = 0; i < height; i++)
      addSharedExponentials(workspace.slopes.data() + i * width, selected + i * width, ofRows[i],
                            scaled_[members.first][static_cast<size_t>(tile.rows.begin) + i], std::exp(ofRows[i] - middle),
                            factors.data(), width);
    return true;
  }

  void addExponentialSlopes(size_t s, const T* selected, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) const {
    const auto width = tile.width();
    const auto first = tile.columns.begin;
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      auto* slopes = workspace.slopes.data() + static_cast<size_t>(i) * width;
      const auto* row = selected + static_cast<size_t>(i) * width;
      if (problem_.statistics[s].axis == Axis::Columns) {
        addColumnExponentials(slopes, row, values_[s] + first, scaled_[s].data() + first, width);
        continue;
      }
      const auto place = tile.rows.begin + i;
      const T factor = scaled_[s][static_cast<size_t>(place)];
      if (factor != 0 && values_[s][place] != kNever<T>)
        addExponentials(slopes, row, values_[s][place], factor, width);
    }
  }

  void addSumSlopes(size_t s, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace, at::Tensor& offsetSlopes) const {
    const auto& statistic = problem_.statistics[s];
    const auto set = statistic.set;
    const auto power = static_cast<T>(statistic.power);
    const auto width = tile.width();
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      auto* slopes = workspace.slopes.data() + static_cast<size_t>(i) * width;
      const auto* scores = tile.row(i);
      const auto* classes = tile.classesOf(i);
      if (statistic.axis == Axis::Columns) {
        const auto* factors = scaled_[s].data() + tile.columns.begin;
        if (statistic.kind == Kind::Sum)
          addColumnConstants(slopes, classes, set, factors, width);
        else if (statistic.kind == Kind::SumOfSquares)
          addColumnScores(slopes, scores, classes, set, factors, width);
        else if (statistic.kind == Kind::Softplus)
          addColumnSigmoids(slopes, scores, classes, set, power, factors, width);
        else
          addColumnSteps(slopes, scores, classes, set, power, factors, width);
        continue;
      }
      const auto place = tile.rows.begin + i;
      const T factor = scaled_[s][static_cast<size_t>(place)];
      const auto& offsets = problem_.offsets[s];
      const T offset = offsets.defined() ? dataOf<T>(offsets)[place] : T(0);
      T moved = 0;
      if (statistic.kind == Kind::Sum)
        addConstant(slopes, classes, set, factor, width);
      else if (statistic.kind == Kind::SumOfSquares)
        addScores(slopes, scores, classes, set, factor, width);
      else if (statistic.kind == Kind::Softplus)
        moved = addSigmoids(slopes, scores, classes, set, power, offset, factor, width);
      else
        moved = addSteps(slopes, scores, classes, set, power, offset, factor, width);
      // Rows belong to one part each, so nobody else writes here.
      if (offsetSlopes.defined()) offsetSlopes.mutable_data_ptr<T>()[place] -= moved;
    }
  }

  // target[height][depth] += slopes columns, of bfloat16
  void multiplyShortSlopes(typename Sweep<T>::Workspace& workspace, const T* slopes, int64_t height, int64_t width,
                           const Short* packedColumns, T* target, int64_t depth) const {
    if constexpr (std::is_same_v<T, float>) {
      const auto stride = Sweep<T>::even(width);
      workspace.shortSlopes.resize(static_cast<size_t>(height * stride));
      roundRows(workspace.shortSlopes.data(), stride, slopes, height, width, width);
      multiplyShort(height, depth, stride, workspace.shortSlopes.data(), stride, packedColumns, depth, target, depth, true);
    }
  }

  // target[depth][width] += rows' transpose times slopes, of bfloat16
  void multiplyByShortSlopes(typename Sweep<T>::Workspace& workspace, const T* slopes, int64_t height, int64_t width,
                             const Short* transposedRows, int64_t rowStride, T* target, int64_t targetStride) const {
    if constexpr (std::is_same_v<T, float>) {
      workspace.shortSlopes.resize(static_cast<size_t>(Sweep<T>::even(height) * width));
      packRounded(workspace.shortSlopes.data(), slopes, height, width, width);
      multiplyShort(sweep_.depth(), width, Sweep<T>::even(height), transposedRows, rowStride, workspace.shortSlopes.data(), width,
                    target, targetStride, true);
    }
  }

  // Adds the parts' gradients of a section's columns, in the order of the parts, and clears them.
  void merge(std::vector<std::vector<T>>& parts, const Range& section, T* target) const {
    const auto depth = sweep_.depth();
    const auto stride = sweep_.sectionColumns();
    at::parallel_for(0, section.size(), 64, [&](int64_t begin, int64_t end) {
      std::fill(target + begin * depth, target + end * depth, T(0));
      for (auto& part : parts) {
        for (int64_t d = 0; d < depth; d++) {
          auto* numbers = part.data() + d * stride;
          for (int64_t j = begin; j < end; j++) {
            target[j * depth + d] += numbers[j];
            numbers[j] = 0;
          }
        }
      }
    });
  }

  const Problem& problem_;
  Sweep<T> sweep_;
  std::vector<Group> groups_;
  // One a statistic: its values, its gradients, and these times what its slope needs.
  std::vector<const T*> values_, slopes_;
  std::vector<std::vector<T>> scaled_;
};

}  // namespace

std::vector<at::Tensor> computeStatistics(const Problem& problem) {
  if (problem.rows.scalar_type() == at::kDouble) return Forward<double>(problem).run();
  return Forward<float>(problem).run();
}

Gradients differentiate(const Problem& problem, const std::vector<at::Tensor>& statistics,
                        const std::vector<at::Tensor>& gradients, bool needsRows, bool needsColumns) {
  if (problem.rows.scalar_type() == at::kDouble)
    return Backward<double>(problem, statistics, gradients).run(needsRows, needsColumns);
  return Backward<float>(problem, statistics, gradients).run(needsRows, needsColumns);
}

}  // namespace kontrast::contrast
