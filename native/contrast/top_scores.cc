#include "top_scores.h"

#include "parallel.h"
#include "products.h"
#include "row_loops.h"
#include "search_panels.h"
#include "short_products.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

namespace kontrast::contrast {

namespace {

using MaybeTensor = std::optional<at::Tensor>;

constexpr const char* kSchema =
    "top_scores(Tensor queries, Tensor keys, int count, Tensor? key_scales, Tensor? key_offsets, Tensor? query_labels, "
    "Tensor? key_labels, Tensor? query_ids, Tensor? key_ids, Tensor? at_least, Tensor? at_most, int coarse=0) -> (Tensor, Tensor)";

// A block of keys fits the second cache of a core, a tile of queries the first.
constexpr int64_t kTileQueries = kPanelQueries;
constexpr int64_t kBlockKeys = 256;
// What the lists of all queries that are searched for at a time take, about.
constexpr int64_t kListBytes = int64_t{64} << 20;

template <typename T>
constexpr T kNever = -std::numeric_limits<T>::infinity();

template <typename T>
struct Found {
  T score;
  int64_t key;
  // The better one first; of equal ones the earlier key.
  bool operator<(const Found& other) const { return score != other.score ? score > other.score : key < other.key; }
};

// Contiguous, on the CPU, of one type; undefined tensors are absent.
struct Search {
  at::Tensor queries;                 // [Q, D]
  at::Tensor keys;                    // [M, D]
  int64_t count;                      // how many are wanted
  at::Tensor keyScales, keyOffsets;   // [M]: score = scale * dot + offset
  at::Tensor queryLabels, keyLabels;  // int64: a pair that agrees does not count
  at::Tensor queryIds, keyIds;
  at::Tensor atLeast, atMost;  // [Q]
  int64_t coarse;              // how many are kept by products of bfloat16, to be scored again; 0: none
};

template <typename N>
const N* dataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<N>() : nullptr;
}

// The best of one query so far: a list of twice as many as wanted, of which the best are picked when it is full.
template <typename T>
class Best {
 public:
  explicit Best(size_t wanted) : wanted_(wanted) {}

  // What a further score must be above.
  T limit() const { return limit_; }

  void add(T score, int64_t key) {
    if (found_.empty()) found_.reserve(2 * wanted_);
    found_.push_back({score, key});
    if (found_.size() == 2 * wanted_) shrink();
  }

  void addAll(const Best& other) {
    for (const auto& one : other.found_) {
      // Keys need not come in order here, so equal ones count.
      if (one.score >= limit_) add(one.score, one.key);
    }
  }

  // In order.
  std::vector<Found<T>>& finish() {
    shrink();
    std::sort(found_.begin(), found_.end());
    return found_;
  }

 private:
  void shrink() {
    if (found_.size() < wanted_) return;
    const auto last = found_.begin() + static_cast<std::ptrdiff_t>(wanted_) - 1;
    std::nth_element(found_.begin(), last, found_.end());
    found_.resize(wanted_);
    limit_ = found_.back().score;
  }

  size_t wanted_;
  T limit_ = kNever<T>;
  std::vector<Found<T>> found_;
};

template <typename T>
class Searcher {
 public:
  explicit Searcher(const Search& search)
      : search_(search),
        queryCount_(search.queries.size(0)),
        keyCount_(search.keys.size(0)),
        depth_(search.queries.size(1)),
        kept_(static_cast<size_t>(isShort() ? std::max(search.coarse, search.count) : search.count)),
        scales_(dataOf<T>(search.keyScales)),
        offsets_(dataOf<T>(search.keyOffsets)) {}

  std::tuple<at::Tensor, at::Tensor> run() {
    auto scores = at::empty({queryCount_, search_.count}, search_.queries.options());
    auto places = at::empty({queryCount_, search_.count}, search_.queries.options().dtype(at::kLong));
    const auto bytes = static_cast<int64_t>(2 * kept_ * sizeof(Found<T>));
    const auto atOnce = std::max(kTileQueries, kListBytes / bytes / kTileQueries * kTileQueries);
    for (int64_t first = 0; first < queryCount_; first += atOnce) {
      const auto last = std::min(first + atOnce, queryCount_);
      searchFor(first, last, scores.template mutable_data_ptr<T>(), places.template mutable_data_ptr<int64_t>());
    }
    return {scores, places};
  }

 private:
  // Queries as right factors: [D, kTileQueries] for each tile, or packed. What a last tile lacks is zero.
  struct Tiles {
    std::vector<std::vector<T>> whole;
    std::vector<std::vector<Short>> packed;
  };

  // What one task works in.
  struct Workspace {
    std::vector<T> scores;
    std::vector<Short> rounded;
    // By query, so that a row of scores is compared with a row of limits. Queries that are not there want nothing.
    std::vector<T> limits;
    ProductsOnThisThread products;
  };

  struct Range {
    int64_t begin, end;
  };

  bool isShort() const {
    return std::is_same_v<T, float> && search_.coarse > 0 && hasShortProducts() && hasSearchPanels();
  }

  static int64_t even(int64_t count) { return count + count % 2; }

  void searchFor(int64_t first, int64_t last, T* scores, int64_t* places) {
    const auto tiles = (last - first + kTileQueries - 1) / kTileQueries;
    const auto tilesOfQueries = tilesFrom(first, last);
    // Each thread has queries of its own as long as there are enough; then the keys are divided too.
    const auto threads = std::max<int64_t>(1, at::get_num_threads());
    const auto groups = std::min(tiles, threads);
    const auto blocks = (keyCount_ + kBlockKeys - 1) / kBlockKeys;
    const auto parts = std::clamp<int64_t>(threads / groups, 1, blocks);
    std::vector<std::vector<Best<T>>> best(static_cast<size_t>(parts));
    for (auto& part : best) part.assign(static_cast<size_t>(last - first), Best<T>(kept_));
    forEachTask(
        groups * parts, (last - first) * keyCount_ * depth_, [] { return Workspace(); },
        [&](int64_t task, Workspace& workspace) {
          const auto group = task / parts;
          const auto part = task % parts;
          searchPart(first, last, {group * tiles / groups, (group + 1) * tiles / groups},
                     {part * blocks / parts, (part + 1) * blocks / parts}, tilesOfQueries, workspace,
                     best[static_cast<size_t>(part)]);
        });
    forEachStretch(last - first, 16, (last - first) * static_cast<int64_t>(kept_) * 64, [&](int64_t begin, int64_t end) {
      for (int64_t q = begin; q < end; q++) {
        auto& own = best[0][static_cast<size_t>(q)];
        for (size_t part = 1; part < best.size(); part++) own.addAll(best[part][static_cast<size_t>(q)]);
        auto& found = own.finish();
        if (isShort()) scoreAgain(first + q, found);
        const auto row = (first + q) * search_.count;
        for (int64_t i = 0; i < search_.count; i++) {
          const bool isThere = i < static_cast<int64_t>(found.size());
          scores[row + i] = isThere ? found[static_cast<size_t>(i)].score : kNever<T>;
          places[row + i] = isThere ? found[static_cast<size_t>(i)].key : -1;
        }
      }
    });
  }

  Tiles tilesFrom(int64_t first, int64_t last) const {
    Tiles tiles;
    const auto* queries = dataOf<T>(search_.queries);
    for (int64_t begin = first; begin < last; begin += kTileQueries) {
      const auto width = std::min(kTileQueries, last - begin);
      std::vector<T> tile(static_cast<size_t>(depth_ * kTileQueries));
      for (int64_t q = 0; q < width; q++) {
        for (int64_t d = 0; d < depth_; d++)
          tile[static_cast<size_t>(d * kTileQueries + q)] = queries[(begin + q) * depth_ + d];
      }
      if constexpr (std::is_same_v<T, float>) {
        if (isShort()) {
          std::vector<Short> packed(static_cast<size_t>(even(depth_) * kTileQueries));
          packRounded(packed.data(), tile.data(), depth_, kTileQueries, kTileQueries);
          tiles.packed.push_back(std::move(packed));
          continue;
        }
      }
      tiles.whole.push_back(std::move(tile));
    }
    return tiles;
  }

  // Some tiles of the queries, counted from the first, and some blocks of the keys.
  void searchPart(int64_t first, int64_t last, const Range& ownTiles, const Range& ownBlocks, const Tiles& tiles,
                  Workspace& workspace, std::vector<Best<T>>& best) const {
    const auto [firstTile, lastTile] = ownTiles;
    workspace.scores.resize(static_cast<size_t>(kBlockKeys * kTileQueries));
    if (isShort()) workspace.rounded.resize(static_cast<size_t>(kBlockKeys * even(depth_)));
    auto& limits = workspace.limits;
    limits.assign(static_cast<size_t>((lastTile - firstTile) * kTileQueries), std::numeric_limits<T>::infinity());
    const auto* atLeast = dataOf<T>(search_.atLeast);
    for (int64_t q = firstTile * kTileQueries; q < std::min(lastTile * kTileQueries, last - first); q++) {
      // The least that counts is enough, so what it must be above is the number before.
      limits[static_cast<size_t>(q - firstTile * kTileQueries)] =
          atLeast == nullptr ? kNever<T> : std::nextafter(atLeast[first + q], kNever<T>);
    }
    for (int64_t block = ownBlocks.begin; block < ownBlocks.end; block++) {
      const auto key = block * kBlockKeys;
      const auto height = std::min(kBlockKeys, keyCount_ - key);
      if constexpr (std::is_same_v<T, float>) {
        if (isShort())
          roundRows(workspace.rounded.data(), even(depth_), dataOf<T>(search_.keys) + key * depth_, height, depth_, depth_);
      }
      for (int64_t tile = firstTile; tile < lastTile; tile++) {
        auto* tileLimits = limits.data() + (tile - firstTile) * kTileQueries;
        const auto take = [&](const T* row, int64_t of) {
          addRow(row, of, first + tile * kTileQueries, tileLimits, best.data() + tile * kTileQueries);
        };
        if (!scoreByPanels(key, height, tiles, static_cast<size_t>(tile), workspace, tileLimits, take))
          scoreWhole(key, height, tiles.whole[static_cast<size_t>(tile)], workspace, tileLimits, take);
      }
    }
  }

  // take(scores, key) for the keys that some query of the tile may want. Gives false where the processor has no panels.
  template <typename Take>
  bool scoreByPanels(int64_t key, int64_t height, const Tiles& tiles, size_t tile, const Workspace& workspace, const T* limits,
                     const Take& take) const {
    if constexpr (std::is_same_v<T, float>) {
      if (!hasSearchPanels()) return false;
      float scores[kPanelKeys][kPanelQueries];
      for (int64_t begin = 0; begin < height; begin += kPanelKeys) {
        const auto keys = std::min(kPanelKeys, height - begin);
        const auto* scales = scales_ == nullptr ? nullptr : scales_ + key + begin;
        const auto* offsets = offsets_ == nullptr ? nullptr : offsets_ + key + begin;
        auto kept = isShort() ? scorePanel(keys, even(depth_), workspace.rounded.data() + begin * even(depth_), even(depth_),
                                           tiles.packed[tile].data(), scales, offsets, limits, scores)
                              : scorePanel(keys, depth_, dataOf<T>(search_.keys) + (key + begin) * depth_, depth_,
                                           tiles.whole[tile].data(), scales, offsets, limits, scores);
        for (; kept != 0; kept &= kept - 1) {
          const auto row = std::countr_zero(kept);
          take(scores[row], key + begin + row);
        }
      }
      return true;
    }
    return false;
  }

  template <typename Take>
  void scoreWhole(int64_t key, int64_t height, const std::vector<T>& tile, Workspace& workspace, const T* limits,
                  const Take& take) const {
    auto* scores = workspace.scores.data();
    multiply(height, kTileQueries, depth_, dataOf<T>(search_.keys) + key * depth_, depth_, tile.data(), kTileQueries, scores,
             kTileQueries, false);
    for (int64_t j = 0; j < height; j++) {
      auto* row = scores + j * kTileQueries;
      if (scales_ != nullptr || offsets_ != nullptr)
        scaleRow(row, scales_ == nullptr ? T(1) : scales_[key + j], offsets_ == nullptr ? T(0) : offsets_[key + j], kTileQueries);
      if (isAnyAbove(row, limits, kTileQueries)) take(row, key + j);
    }
  }

  void addRow(const T* scores, int64_t key, int64_t query, T* limits, Best<T>* best) const {
    constexpr int64_t kStep = 16;
    for (int64_t begin = 0; begin < kTileQueries; begin += kStep) {
      if (!isAnyAbove(scores + begin, limits + begin, kStep)) continue;
      for (int64_t q = begin; q < begin + kStep; q++) {
        if (!(scores[q] > limits[q]) || !counts(query + q, key, scores[q])) continue;
        best[q].add(scores[q], key);
        limits[q] = std::max(limits[q], best[q].limit());
      }
    }
  }

  bool counts(int64_t query, int64_t key, T score) const {
    const auto agree = [&](const at::Tensor& ofQueries, const at::Tensor& ofKeys) {
      return ofQueries.defined() && dataOf<int64_t>(ofQueries)[query] == dataOf<int64_t>(ofKeys)[key];
    };
    if (agree(search_.queryLabels, search_.keyLabels) || agree(search_.queryIds, search_.keyIds)) return false;
    const auto* atMost = dataOf<T>(search_.atMost);
    return atMost == nullptr || score <= atMost[query];
  }

  void scoreAgain(int64_t query, std::vector<Found<T>>& found) const {
    const auto* own = dataOf<T>(search_.queries) + query * depth_;
    for (auto& one : found) {
      const T product = dot(own, dataOf<T>(search_.keys) + one.key * depth_, static_cast<size_t>(depth_));
      one.score = product * (scales_ == nullptr ? T(1) : scales_[one.key]) + (offsets_ == nullptr ? T(0) : offsets_[one.key]);
    }
    std::sort(found.begin(), found.end());
  }

  const Search& search_;
  int64_t queryCount_, keyCount_, depth_;
  size_t kept_;
  const T* scales_;
  const T* offsets_;
};

at::Tensor vectorOf(const MaybeTensor& given, const char* name, int64_t count, at::ScalarType type) {
  if (!given) return {};
  TORCH_CHECK_VALUE(given->dim() == 1 && given->size(0) == count && given->is_cpu(), name, " must have the shape [", count,
                    "] and be on the CPU, not ", given->sizes(), " on ", given->device());
  TORCH_CHECK_TYPE(given->scalar_type() == type, name, " must be ", type, ", not ", given->scalar_type());
  return given->contiguous();
}

std::tuple<at::Tensor, at::Tensor> topScores(const at::Tensor& queries, const at::Tensor& keys, int64_t count,
                                             const MaybeTensor& keyScales, const MaybeTensor& keyOffsets,
                                             const MaybeTensor& queryLabels, const MaybeTensor& keyLabels,
                                             const MaybeTensor& queryIds, const MaybeTensor& keyIds,
                                             const MaybeTensor& atLeast, const MaybeTensor& atMost, int64_t coarse) {
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  TORCH_CHECK_VALUE(queries.dim() == 2 && keys.dim() == 2 && queries.size(1) == keys.size(1) && keys.size(1) > 0,
                    "queries and keys must be matrices of one dimension, not ", queries.sizes(), " and ", keys.sizes());
  TORCH_CHECK_VALUE(queries.is_cpu() && keys.is_cpu(), "queries and keys must be on the CPU, not on ", queries.device(), " and ",
                    keys.device());
  const auto type = queries.scalar_type();
  TORCH_CHECK_TYPE((type == at::kFloat || type == at::kDouble) && keys.scalar_type() == type,
                   "queries and keys must both be float32 or both float64, not ", type, " and ", keys.scalar_type());
  TORCH_CHECK_VALUE(count >= 1 && coarse >= 0, "count must be at least 1 and coarse at least 0, not ", count, " and ", coarse);
  TORCH_CHECK_VALUE(coarse == 0 || !(atLeast || atMost), "limits need exact scores: they cannot be given with coarse");
  TORCH_CHECK_VALUE(queryLabels.has_value() == keyLabels.has_value() && queryIds.has_value() == keyIds.has_value(),
                    "labels and ids come for queries and keys");
  const auto n = queries.size(0);
  const auto m = keys.size(0);
  const Search search{queries.contiguous(),
                      keys.contiguous(),
                      count,
                      vectorOf(keyScales, "key_scales", m, type),
                      vectorOf(keyOffsets, "key_offsets", m, type),
                      vectorOf(queryLabels, "query_labels", n, at::kLong),
                      vectorOf(keyLabels, "key_labels", m, at::kLong),
                      vectorOf(queryIds, "query_ids", n, at::kLong),
                      vectorOf(keyIds, "key_ids", m, at::kLong),
                      vectorOf(atLeast, "at_least", n, type),
                      vectorOf(atMost, "at_most", n, type),
                      coarse};
  return type == at::kDouble ? Searcher<double>(search).run() : Searcher<float>(search).run();
}

}  // namespace

void defineTopScores(torch::Library& library) {
  library.def(kSchema, torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, topScores));
}

}  // namespace kontrast::contrast
