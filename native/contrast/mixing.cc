#include "mixing.h"

#include "parallel.h"
#include "vector_math.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <functional>
#include <tuple>
#include <vector>

namespace kontrast::contrast {

namespace {

constexpr const char* kLargest = "largest(Tensor scores, int count) -> (Tensor, Tensor)";
constexpr const char* kPairLengths = "pair_lengths(Tensor keys, Tensor first, Tensor second, Tensor share) -> Tensor";

// --- The largest of each row ---

constexpr int64_t kSample = 1024;
constexpr int64_t kRowsAtOnce = 4;

template <typename T>
struct Candidates {
  std::vector<T> sample, values, sorted;
  std::vector<int32_t> places;
};

// A number that about `count` and some more of a row are not below; few rows have fewer. -infinity where nearly all are wanted.
template <typename T>
T guess(const T* row, int64_t width, int64_t count, std::vector<T>& sample) {
  if (width < 4 * kSample || count * 2 > width) return -std::numeric_limits<T>::infinity();
  sample.resize(kSample);
  const auto step = width / kSample;
  for (int64_t i = 0; i < kSample; i++) sample[i] = row[i * step];
  const double share = static_cast<double>(count) / static_cast<double>(width);
  const auto rank = static_cast<int64_t>(kSample * share + 3 * std::sqrt(kSample * share) + 1);
  if (rank >= kSample) return -std::numeric_limits<T>::infinity();
  // NaN has no place in an order.
  for (const T number : sample) {
    if (std::isnan(number)) return -std::numeric_limits<T>::infinity();
  }
  std::nth_element(sample.begin(), sample.begin() + rank, sample.end(), std::greater<T>());
  return sample[rank];
}

// All of a row that is not below the limit, NaN included, in its order; gives their number.
template <typename T>
KONTRAST_INLINE int64_t collect(const T* row, int64_t width, T limit, T* values, int32_t* places) {
  int64_t found = 0;
  for (int64_t i = 0; i < width; i++) {
    values[found] = row[i];
    places[found] = static_cast<int32_t>(i);
    found += row[i] < limit ? 0 : 1;
  }
  return found;
}

template <typename T>
void takeLargest(const T* row, int64_t width, int64_t count, Candidates<T>& candidates, T* values, int64_t* places) {
  candidates.values.resize(width + 1);
  candidates.places.resize(width + 1);
  constexpr T kAll = -std::numeric_limits<T>::infinity();
  auto limit = guess(row, width, count, candidates.sample);
  auto found = collect(row, width, limit, candidates.values.data(), candidates.places.data());
  if (found < count) found = collect(row, width, limit = kAll, candidates.values.data(), candidates.places.data());
  auto& sorted = candidates.sorted;
  sorted.assign(candidates.values.begin(), candidates.values.begin() + found);
  // NaN counts as the largest, as LibTorch has it.
  const auto numbers = std::partition(sorted.begin(), sorted.end(), [](T x) { return std::isnan(x); });
  const auto nans = numbers - sorted.begin();
  T least = std::numeric_limits<T>::infinity();
  int64_t above = 0;
  if (nans < count) {
    const auto last = sorted.begin() + (count - 1);
    std::nth_element(numbers, last, sorted.end(), std::greater<T>());
    least = *last;
    above = std::count_if(numbers, last, [&](T x) { return x > least; });
  }
  // Of those that equal the least, the first are taken.
  auto ties = nans < count ? count - nans - above : 0;
  int64_t taken = 0;
  for (int64_t i = 0; i < found && taken < count; i++) {
    const T value = candidates.values[i];
    const bool isTie = value == least && nans < count;
    if (!(std::isnan(value) || value > least || (isTie && ties > 0))) continue;
    if (isTie) ties--;
    values[taken] = value;
    places[taken++] = candidates.places[i];
  }
}

template <typename T>
void largestOfRows(const at::Tensor& scores, int64_t count, at::Tensor& values, at::Tensor& places) {
  const auto rows = scores.size(0);
  const auto width = scores.size(1);
  const auto* from = scores.const_data_ptr<T>();
  auto* numbers = values.mutable_data_ptr<T>();
  auto* at = places.mutable_data_ptr<int64_t>();
  forEachTask((rows + kRowsAtOnce - 1) / kRowsAtOnce, rows * width * 4, [] { return Candidates<T>(); },
              [&](int64_t part, Candidates<T>& candidates) {
                for (auto row = part * kRowsAtOnce; row < std::min(rows, (part + 1) * kRowsAtOnce); row++)
                  takeLargest(from + row * width, width, count, candidates, numbers + row * count, at + row * count);
              });
}

// The `count` largest of each row and their columns, in the order of columns; of equal ones the first.
std::tuple<at::Tensor, at::Tensor> largest(const at::Tensor& given, int64_t count) {
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  TORCH_CHECK_VALUE(given.dim() == 2 && given.is_cpu(), "scores must be a matrix on the CPU, not ", given.sizes(), " on ",
                    given.device());
  TORCH_CHECK_TYPE(given.scalar_type() == at::kFloat || given.scalar_type() == at::kDouble,
                   "scores must be float32 or float64, not ", given.scalar_type());
  TORCH_CHECK_VALUE(count >= 1 && count <= given.size(1), "count must be from 1 to the ", given.size(1), " columns, not ", count);
  TORCH_CHECK_VALUE(given.size(1) <= std::numeric_limits<int32_t>::max(), "there are too many columns: ", given.size(1));
  const auto scores = given.contiguous();
  auto values = at::empty({scores.size(0), count}, scores.options());
  auto places = at::empty({scores.size(0), count}, scores.options().dtype(at::kLong));
  if (scores.scalar_type() == at::kFloat)
    largestOfRows<float>(scores, count, values, places);
  else
    largestOfRows<double>(scores, count, values, places);
  return {values, places};
}

// --- Lengths of mixes ---

constexpr int64_t kAhead = 4;
constexpr int64_t kPairsAtOnce = 4096;

// ‖share a + (1 − share) b‖
template <typename T>
KONTRAST_INLINE T lengthOf(const T* a, const T* b, T share, int64_t depth) {
  const T rest = T(1) - share;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t d = 0; d < depth; d++) {
    const T mixed = share * a[d] + rest * b[d];
    sum += mixed * mixed;
  }
  return std::sqrt(sum);
}

template <typename T>
struct Pairs {
  const T* keys;
  int64_t count, depth;
  const int64_t *first, *second;
  const T* shares;
  T* lengths;
};

template <typename T>
KONTRAST_INLINE void measure(const Pairs<T>& pairs, int64_t begin, int64_t end) {
  for (auto i = begin; i < end; i++) {
#if defined(__GNUC__)
    // Rows lie anywhere, so the processor cannot know which come next.
    if (i + kAhead < end) {
      for (const auto* places : {pairs.first, pairs.second}) {
        const auto* row = pairs.keys + places[i + kAhead] * pairs.depth;
        for (int64_t d = 0; d < pairs.depth; d += static_cast<int64_t>(64 / sizeof(T))) __builtin_prefetch(row + d);
      }
    }
#endif
    pairs.lengths[i] = lengthOf(pairs.keys + pairs.first[i] * pairs.depth, pairs.keys + pairs.second[i] * pairs.depth,
                                pairs.shares[i], pairs.depth);
  }
}

KONTRAST_VECTORISED void measurePairs(const Pairs<float>& pairs, int64_t begin, int64_t end) { measure(pairs, begin, end); }
KONTRAST_VECTORISED void measurePairs(const Pairs<double>& pairs, int64_t begin, int64_t end) { measure(pairs, begin, end); }

void checkPlaces(const at::Tensor& places, const at::Tensor& share, int64_t count, const char* name) {
  TORCH_CHECK_VALUE(places.sizes() == share.sizes() && places.is_cpu(), name, " must have the shape of share, ", share.sizes(),
                    ", and be on the CPU, not ", places.sizes(), " on ", places.device());
  TORCH_CHECK_TYPE(places.scalar_type() == at::kLong, name, " must be int64, not ", places.scalar_type());
  const auto* from = places.const_data_ptr<int64_t>();
  const bool isWithin = std::all_of(from, from + places.numel(), [&](int64_t place) { return place >= 0 && place < count; });
  TORCH_CHECK_INDEX(isWithin, name, " must hold rows of keys, from 0 to ", count - 1);
}

template <typename T>
void pairLengthsOf(const at::Tensor& keys, const at::Tensor& first, const at::Tensor& second, const at::Tensor& share,
                   at::Tensor& lengths) {
  const Pairs<T> pairs{keys.const_data_ptr<T>(),        keys.size(0),
                       keys.size(1),                    first.const_data_ptr<int64_t>(),
                       second.const_data_ptr<int64_t>(), share.const_data_ptr<T>(),
                       lengths.mutable_data_ptr<T>()};
  forEachStretch(lengths.numel(), kPairsAtOnce, lengths.numel() * keys.size(1) * 2,
                 [&](int64_t begin, int64_t end) { measurePairs(pairs, begin, end); });
}

// ‖share kᵢ + (1 − share) kⱼ‖ of the rows i and j of keys, without the mixes.
at::Tensor pairLengths(const at::Tensor& givenKeys, const at::Tensor& givenFirst, const at::Tensor& givenSecond,
                       const at::Tensor& givenShare) {
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const auto type = givenKeys.scalar_type();
  TORCH_CHECK_VALUE(givenKeys.dim() == 2 && givenKeys.is_cpu() && givenShare.is_cpu(),
                    "keys must be a matrix, and like share on the CPU, not ", givenKeys.sizes(), " on ", givenKeys.device());
  TORCH_CHECK_TYPE((type == at::kFloat || type == at::kDouble) && givenShare.scalar_type() == type,
                   "keys and share must both be float32 or both float64, not ", type, " and ", givenShare.scalar_type());
  const auto keys = givenKeys.contiguous();
  const auto share = givenShare.contiguous();
  const auto first = givenFirst.contiguous();
  const auto second = givenSecond.contiguous();
  checkPlaces(first, share, keys.size(0), "first");
  checkPlaces(second, share, keys.size(0), "second");
  auto lengths = at::empty(share.sizes(), share.options());
  if (type == at::kFloat)
    pairLengthsOf<float>(keys, first, second, share, lengths);
  else
    pairLengthsOf<double>(keys, first, second, share, lengths);
  return lengths;
}

}  // namespace

void defineMixing(torch::Library& library) {
  library.def(kLargest, torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, largest));
  library.def(kPairLengths, torch::dispatch(c10::DispatchKey::CompositeExplicitAutograd, pairLengths));
}

}  // namespace kontrast::contrast
