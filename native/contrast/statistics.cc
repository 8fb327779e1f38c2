#include "statistics.h"

#include "parallel.h"
#include "products.h"
#include "short_products.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
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
constexpr int64_t kPartialNumbers = int64_t{1} << 18;

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
  int64_t top;
  std::vector<size_t> members;
};

template <typename T>
constexpr T kNever = -std::numeric_limits<T>::infinity();
// Exponentials of differences up to this are far from what a T cannot hold.
template <typename T>
constexpr T kNear = 40;

bool usesSelection(const Statistic& statistic) {
  return statistic.kind == Kind::LogSumExp || statistic.kind == Kind::Maximum || statistic.top > 0;
}

std::vector<Group> groupsOf(const std::vector<Statistic>& statistics) {
  std::vector<Group> groups;
  for (size_t s = 0; s < statistics.size(); s++) {
    const auto& statistic = statistics[s];
    if (!usesSelection(statistic)) continue;
    // Which scores are the greatest is asked of them as they are.
    const double power = statistic.kind == Kind::Maximum || statistic.top > 0 ? 1 : statistic.power;
    const bool isWeighted = statistic.kind == Kind::LogSumExp && statistic.isWeighted;
    const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return group.set == statistic.set && group.power == power && group.isWeighted == isWeighted && group.top == statistic.top;
    });
    if (found == groups.end())
      groups.push_back({statistic.set, power, isWeighted, statistic.top, {s}});
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
    std::vector<PairClass> classes, topClasses;
    // The rows of a part, [D, rows], where the gradients of columns need them.
    std::vector<T> transposedRows;
    std::vector<Short> shortTransposedRows;
    ProductsOnThisThread products;
  };

  explicit Sweep(const Problem& problem)
      : problem_(problem),
        rowCount_(problem.rows.size(0)),
        columnCount_(problem.columns.size(0)),
        depth_(problem.rows.size(1)),
        tileRows_(std::clamp(divideUp(divideUp(rowCount_, kParts), 16) * 16, kLeastTileRows, kMostTileRows)),
        rowLabelSpans_(spansOf(problem.rowLabels, tileRows_)),
        columnLabelSpans_(spansOf(problem.columnLabels, kTileColumns)),
        rowIdSpans_(spansOf(problem.rowIds, tileRows_)),
        columnIdSpans_(spansOf(problem.columnIds, kTileColumns)),
        allNegative_(static_cast<size_t>(kTileColumns), kNegative) {
    const auto tiles = divideUp(rowCount_, tileRows_);
    parts_ = std::min<int64_t>(tiles, std::max<int64_t>(kParts, at::get_num_threads()));
    const auto perSection = std::max<int64_t>(1, kPartialNumbers / std::max<int64_t>(depth_, 1) / kTileColumns);
    sectionColumns_ = std::min(perSection * kTileColumns, divideUp(columnCount_, kTileColumns) * kTileColumns);
    if (isShort()) shortRows_ = roundedRows(problem.rows);
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

  // Which rows are a part's.
  Range rowsOf(int64_t part) const {
    const auto tiles = tilesOf(part);
    return {tiles.begin * tileRows_, std::min(tiles.end * tileRows_, rowCount_)};
  }

  // For each section of the columns in turn: begin(section); for each part of the rows, by several threads at once,
  // prepare(part, workspace) and visit(part, tile, workspace) for its tiles; then merge(section). A part sees its tiles in
  // a fixed order.
  template <typename Begin, typename Prepare, typename Visit, typename Merge>
  void run(Begin begin, Prepare prepare, Visit visit, Merge merge) {
    for (int64_t first = 0; first < columnCount_; first += sectionColumns_) {
      const Range section{first, std::min(first + sectionColumns_, columnCount_)};
      enter(section);
      begin(section);
      forEachTask(
          parts_, rowCount_ * section.size() * depth_, [] { return Workspace(); },
          [&](int64_t part, Workspace& workspace) {
            prepare(part, workspace);
            runPart(part, section, workspace, visit);
          });
      merge(section);
    }
  }

  // The scores that count in a group, row by row; those that do not are -infinity.
  const T* select(const Tile<T>& tile, PairClass set, double power, bool isWeighted, Workspace& workspace) const {
    if (tile.isPlain && power == 1 && !isWeighted && (set & kNegative) != 0) return tile.scores;
    const auto width = tile.width();
    workspace.selected.resize(static_cast<size_t>(tile.rows.size()) * width);
    const auto* weights = isWeighted ? problem_.columnWeights.template const_data_ptr<T>() + tile.columns.begin : nullptr;
    for (int64_t i = 0; i < tile.rows.size(); i++)
      contrast::select(workspace.selected.data() + static_cast<size_t>(i) * width, tile.row(i), tile.classesOf(i), set,
                       static_cast<T>(power), weights, width);
    return workspace.selected.data();
  }

  // The tile without the pairs whose score is below the row's limit.
  Tile<T> narrowed(const Tile<T>& tile, const T* limits, Workspace& workspace) const {
    const auto width = tile.width();
    workspace.topClasses.resize(static_cast<size_t>(tile.rows.size()) * width);
    for (int64_t i = 0; i < tile.rows.size(); i++)
      excludeBelow(workspace.topClasses.data() + static_cast<size_t>(i) * width, tile.classesOf(i), tile.row(i),
                   limits[tile.rows.begin + i], width);
    return {tile.rows, tile.columns, tile.scores, workspace.topClasses.data(), false};
  }

 private:
  // What both factors of a section's products are, as the products take them.
  void enter(const Range& section) {
    const auto transposed = [&](const at::Tensor& matrix) {
      return matrix.slice(0, section.begin, section.end).t().contiguous();
    };
    sectionBegin_ = section.begin;
    sectionWidth_ = section.size();
    transposedColumns_ = transposed(problem_.columns);
    if (problem_.columnGuides.defined()) transposedGuides_ = transposed(problem_.columnGuides);
    if (isShort()) packedTransposedColumns_ = packed(transposedColumns_);
  }

  Range tilesOf(int64_t part) const {
    const auto tiles = divideUp(rowCount_, tileRows_);
    return {part * tiles / parts_, (part + 1) * tiles / parts_};
  }

  template <typename Visit>
  void runPart(int64_t part, const Range& section, Workspace& workspace, const Visit& visit) const {
    const auto own = tilesOf(part);
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
                      packedTransposedColumns_.data() + 2 * (columns.begin - sectionBegin_), sectionWidth_, scores,
                      columns.size(), false);
    } else {
      multiply(rows.size(), columns.size(), depth_, dataOf<T>(problem_.rows) + rows.begin * depth_, depth_,
               dataOf<T>(transposedColumns_) + (columns.begin - sectionBegin_), sectionWidth_, scores, columns.size(), false);
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
             dataOf<T>(transposedGuides_) + (tile.columns.begin - sectionBegin_), sectionWidth_, workspace.guides.data(), width,
             false);
    const auto* limits = dataOf<T>(problem_.guideLimits);
    for (int64_t i = 0; i < tile.rows.size(); i++)
      excludeAbove(workspace.classes.data() + i * width, workspace.guides.data() + i * width, limits[tile.rows.begin + i],
                   tile.width());
  }

  const Problem& problem_;
  int64_t rowCount_, columnCount_, depth_, tileRows_;
  // Of the section that is gone through now.
  int64_t sectionBegin_ = 0, sectionWidth_ = 0;
  at::Tensor transposedColumns_, transposedGuides_;
  // Where products are taken of bfloat16.
  std::vector<Short> shortRows_, packedTransposedColumns_;
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

// The greatest scores of each row, and how many more equal the least of them.
template <typename T>
class Greatest {
 public:
  Greatest(int64_t rows, int64_t top) : top_(static_cast<size_t>(top)), rows_(static_cast<size_t>(rows)) {}

  // -infinity as long as there is room.
  T limit(size_t row) const { return rows_[row].kept.size() < top_ ? kNever<T> : rows_[row].kept.front(); }

  void add(size_t row, const T* scores, size_t count) {
    auto& [kept, ties] = rows_[row];
    // The least is in front.
    const auto isLater = std::greater<T>();
    for (size_t j = 0; j < count; j++) {
      const T score = scores[j];
      if (score == kNever<T>) continue;
      if (kept.size() < top_) {
        kept.push_back(score);
        std::push_heap(kept.begin(), kept.end(), isLater);
      } else if (score == kept.front()) {
        ties++;
      } else if (score > kept.front()) {
        std::pop_heap(kept.begin(), kept.end(), isLater);
        const T dropped = std::exchange(kept.back(), score);
        std::push_heap(kept.begin(), kept.end(), isLater);
        ties = kept.front() == dropped ? ties + 1 : 0;
      }
    }
  }

  // visit(score, how often), the greatest first
  template <typename Visit>
  void each(size_t row, Visit visit) {
    auto& [kept, ties] = rows_[row];
    std::sort(kept.begin(), kept.end(), std::greater<T>());
    for (size_t i = 0; i < kept.size(); i++) visit(kept[i], i + 1 == kept.size() ? ties + 1 : 1);
  }

 private:
  struct Row {
    std::vector<T> kept;
    int64_t ties = 0;
  };
  size_t top_;
  std::vector<Row> rows_;
};

template <typename T>
class Forward {
 public:
  explicit Forward(const Problem& problem)
      : problem_(problem), sweep_(problem), groups_(groupsOf(problem.statistics)) {
    for (const auto& group : groups_) {
      if (group.top > 0) greatest_.emplace_back(problem.rows.size(0), group.top);
    }
  }

  Statistics run() {
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
        [](const Range&) {}, [](int64_t, typename Sweep<T>::Workspace&) {},
        [this](int64_t part, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) {
          auto& columns = partial_[static_cast<size_t>(part)];
          size_t top = 0;
          for (const auto& group : groups_) {
            if (group.top > 0)
              addTop(group, greatest_[top++], tile, workspace);
            else
              addGroup(group, tile, workspace, columns);
          }
          for (size_t s = 0; s < problem_.statistics.size(); s++) {
            if (!usesSelection(problem_.statistics[s])) addSum(s, tile, columns);
          }
        },
        [this](const Range& range) { merge(range); });
    Statistics results;
    results.limits.resize(statistics.size());
    size_t top = 0;
    for (const auto& group : groups_) {
      if (group.top > 0) finishTop(group, greatest_[top++], results.limits);
    }
    for (size_t s = 0; s < statistics.size(); s++)
      results.values.push_back(resultOf(statistics[s], statistics[s].axis == Axis::Rows ? byRow_[s] : byColumn_[s]));
    return results;
  }

 private:
  void addGroup(const Group& group, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace,
                std::vector<Accumulator<T>>& columns) {
    if (tile.isPlain && (group.set & kNegative) == 0) return;
    const auto* selected = sweep_.select(tile, group.set, group.power, group.isWeighted, workspace);
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

  void addTop(const Group& group, Greatest<T>& greatest, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) const {
    if (tile.isPlain && (group.set & kNegative) == 0) return;
    const auto* selected = sweep_.select(tile, group.set, 1, false, workspace);
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      const auto row = static_cast<size_t>(tile.rows.begin + i);
      const auto* scores = selected + static_cast<size_t>(i) * tile.width();
      if (maximum(scores, tile.width()) >= greatest.limit(row)) greatest.add(row, scores, tile.width());
    }
  }

  // Makes the statistics of the scores that were kept, and the limits above which they are.
  void finishTop(const Group& group, Greatest<T>& greatest, std::vector<at::Tensor>& limits) {
    const auto rows = problem_.rows.size(0);
    auto limit = at::empty({rows}, problem_.rows.options());
    auto* data = limit.template mutable_data_ptr<T>();
    forEachStretch(rows, 16, rows * group.top * 16, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const auto place = static_cast<size_t>(row);
        data[row] = greatest.limit(place);
        greatest.each(place, [&](T score, int64_t count) {
          for (const size_t s : group.members) addKept(s, place, score, static_cast<T>(count));
        });
      }
    });
    for (const size_t s : group.members) limits[s] = limit;
  }

  void addKept(size_t s, size_t row, T score, T count) {
    const auto& statistic = problem_.statistics[s];
    auto& accumulator = byRow_[s];
    const auto& offset = problem_.offsets[s];
    const T moved = static_cast<T>(statistic.power) * (score - (offset.defined() ? dataOf<T>(offset)[row] : T(0)));
    switch (statistic.kind) {
      case Kind::LogSumExp:
        accumulator.add(row, static_cast<T>(statistic.power) * score, count);
        break;
      case Kind::Maximum:
        accumulator.greatest[row] = std::max(accumulator.greatest[row], score);
        break;
      case Kind::Sum:
        accumulator.value[row] += count * score;
        break;
      case Kind::SumOfSquares:
        accumulator.value[row] += count * score * score;
        break;
      case Kind::Softplus:
        accumulator.value[row] += count * (std::max(moved, T(0)) + std::log1p(std::exp(-std::abs(moved))));
        break;
      case Kind::Hinge:
        accumulator.value[row] += count * std::max(moved, T(0));
        break;
      case Kind::Count:
        accumulator.value[row] += count;
        break;
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
  std::vector<Greatest<T>> greatest_;                 // one a group with a top
  std::vector<Accumulator<T>> byRow_, byColumn_;      // one a statistic
  std::vector<std::vector<Accumulator<T>>> partial_;  // of columns, by part
};

// --- Backwards ---

template <typename T>
class Backward {
 public:
  Backward(const Problem& problem, const Statistics& statistics, const std::vector<at::Tensor>& gradients)
      : problem_(problem), sweep_(problem), groups_(groupsOf(problem.statistics)) {
    for (size_t s = 0; s < gradients.size(); s++) {
      values_.push_back(dataOf<T>(statistics.values[s]));
      limits_.push_back(dataOf<T>(statistics.limits[s]));
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
    const auto sectionColumns = sweep_.sectionColumns();
    const bool isShort = sweep_.isShort();
    std::vector<Short> packedColumns;
    int64_t sectionBegin = 0;
    std::vector<double> biases(parts, 0.0);
    sweep_.run(
        [&](const Range& section) {
          sectionBegin = section.begin;
          if (isShort && needsRows) packedColumns = Sweep<T>::packed(problem_.columns.slice(0, section.begin, section.end));
        },
        [&](int64_t part, typename Sweep<T>::Workspace& workspace) {
          if (needsColumns) transposeRows(sweep_.rowsOf(part), isShort, workspace);
        },
        [&](int64_t part, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace) {
          slopesOf(tile, workspace, result.offsets);
          const auto* slopes = workspace.slopes.data();
          const auto height = tile.rows.size();
          const auto width = tile.columns.size();
          for (int64_t i = 0; i < height; i++)
            biases[static_cast<size_t>(part)] += sumOf(slopes + i * width, tile.width());
          if (problem_.filter > 0 && isNegligible(tile, slopes)) return;
          if (needsRows) {
            auto* target = result.rows.template mutable_data_ptr<T>() + tile.rows.begin * depth;
            if (isShort)
              multiplyShortSlopes(workspace, slopes, height, width,
                                  packedColumns.data() + (tile.columns.begin - sectionBegin) * depth, target, depth);
            else
              multiply(height, depth, width, slopes, width, dataOf<T>(problem_.columns) + tile.columns.begin * depth, depth,
                       target, depth, true);
          }
          if (needsColumns) {
            const auto own = sweep_.rowsOf(part);
            const auto first = tile.rows.begin - own.begin;
            auto* target = columns[static_cast<size_t>(part)].data() + (tile.columns.begin - sectionBegin);
            if (isShort)
              multiplyByShortSlopes(workspace, slopes, height, width, workspace.shortTransposedRows.data() + first,
                                    Sweep<T>::even(own.size()), target, sectionColumns);
            else
              multiply(depth, width, height, workspace.transposedRows.data() + first, own.size(), slopes, width, target,
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
  void transposeRows(const Range& rows, bool isShort, typename Sweep<T>::Workspace& workspace) const {
    const auto depth = sweep_.depth();
    const auto count = rows.size();
    const auto* from = dataOf<T>(problem_.rows) + rows.begin * depth;
    auto& transposed = workspace.transposedRows;
    transposed.resize(static_cast<size_t>(depth * count));
    // Square blocks, so that what is read and what is written both stay near.
    constexpr int64_t kSide = 32;
    for (int64_t i = 0; i < count; i += kSide) {
      for (int64_t d = 0; d < depth; d += kSide) {
        for (int64_t row = i; row < std::min(i + kSide, count); row++) {
          for (int64_t k = d; k < std::min(d + kSide, depth); k++)
            transposed[static_cast<size_t>(k * count + row)] = from[row * depth + k];
        }
      }
    }
    if constexpr (std::is_same_v<T, float>) {
      if (!isShort) return;
      const auto stride = Sweep<T>::even(count);
      workspace.shortTransposedRows.resize(static_cast<size_t>(depth * stride));
      roundRows(workspace.shortTransposedRows.data(), stride, transposed.data(), depth, count, count);
    }
  }

  // Whether no slope of the tile is a share of its row's gradient that matters.
  bool isNegligible(const Tile<T>& tile, const T* slopes) const {
    for (int64_t i = 0; i < tile.rows.size(); i++) {
      T gradient = 0;
      for (const auto& scaled : scaled_) {
        if (!scaled.empty()) gradient = std::max(gradient, std::abs(scaled[static_cast<size_t>(tile.rows.begin + i)]));
      }
      if (largest(slopes + static_cast<size_t>(i) * tile.width(), tile.width()) >= static_cast<T>(problem_.filter) * gradient &&
          gradient > 0)
        return false;
    }
    return true;
  }

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
      if (group.top > 0) {
        addTopSlopes(group, tile, workspace, offsets);
        continue;
      }
      const bool isUsed = std::any_of(group.members.begin(), group.members.end(), [&](size_t s) {
        return slopes_[s] != nullptr && problem_.statistics[s].kind == Kind::LogSumExp;
      });
      if (!isUsed) continue;
      const auto* selected = sweep_.select(tile, group.set, group.power, group.isWeighted, workspace);
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

  void addTopSlopes(const Group& group, const Tile<T>& tile, typename Sweep<T>::Workspace& workspace,
                    std::vector<at::Tensor>& offsets) {
    const auto narrow = sweep_.narrowed(tile, limits_[group.members.front()], workspace);
    for (const size_t s : group.members) {
      const auto& statistic = problem_.statistics[s];
      if (slopes_[s] == nullptr) continue;
      if (statistic.kind == Kind::LogSumExp)
        addExponentialSlopes(s, sweep_.select(narrow, group.set, statistic.power, false, workspace), narrow, workspace);
      else if (statistic.kind != Kind::Count && statistic.kind != Kind::Maximum)
        addSumSlopes(s, narrow, workspace, offsets[s]);
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
    forEachStretch(section.size(), 64, section.size() * depth * static_cast<int64_t>(parts.size()), [&](int64_t begin, int64_t end) {
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
  // One a statistic: its values, its limits or nullptr, its gradients, and these times what its slope needs.
  std::vector<const T*> values_, limits_, slopes_;
  std::vector<std::vector<T>> scaled_;
};

}  // namespace

Statistics computeStatistics(const Problem& problem) {
  if (problem.rows.scalar_type() == at::kDouble) return Forward<double>(problem).run();
  return Forward<float>(problem).run();
}

Gradients differentiate(const Problem& problem, const Statistics& statistics, const std::vector<at::Tensor>& gradients,
                        bool needsRows, bool needsColumns) {
  if (problem.rows.scalar_type() == at::kDouble)
    return Backward<double>(problem, statistics, gradients).run(needsRows, needsColumns);
  return Backward<float>(problem, statistics, gradients).run(needsRows, needsColumns);
}

}  // namespace kontrast::contrast
