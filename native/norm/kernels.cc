#include "kernels.h"

#include "../contrast/parallel.h"
#include "../contrast/vector_math.h"

#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <tuple>
#include <type_traits>

namespace kontrast::norm {

namespace {

// --- Numbers of each dtype ---

// A bfloat16 by its bits; it is computed with as a float.
struct Short {
  uint16_t bits;
};

template <typename E>
using Wide = std::conditional_t<std::is_same_v<E, double>, double, float>;

KONTRAST_INLINE float widen(float x) { return x; }
KONTRAST_INLINE double widen(double x) { return x; }
KONTRAST_INLINE float widen(Short x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

KONTRAST_INLINE void write(float& to, float x) { to = x; }
KONTRAST_INLINE void write(double& to, double x) { to = x; }
KONTRAST_INLINE void write(Short& to, float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  // To the nearest, ties to even.
  const auto rounded = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  to.bits = x != x ? uint16_t{0x7fc0} : rounded;
}

// --- What a pass reads and writes ---

template <typename E>
struct Pass {
  using T = Wide<E>;
  const Plan& plan;
  const E* x = nullptr;
  const E* gradient = nullptr;
  E* out = nullptr;
  const T *a = nullptr, *b = nullptr, *c = nullptr;            // [groups, channels]
  const T *scale = nullptr, *shift = nullptr, *floor = nullptr;  // of the map, where it has a floor
  const T* centre = nullptr;
  double *first = nullptr, *second = nullptr, *third = nullptr;  // [parts, channels]
};

// A task takes so many channels at most.
constexpr int64_t kWidth = 2048;
// About how many values it takes: one of 64 parts of all, within limits. The number of threads does not matter, so that results do not
// depend on it.
int64_t valuesATask(const Plan& plan) {
  return std::clamp<int64_t>(plan.samples * plan.channels * plan.positions / 64, 32768, 65536);
}
// So many values are summed in their own precision, or between the least and the most of rows of channels: few enough to stay in a core's
// caches and to round little, many enough that what is done once for them costs little.
constexpr int64_t kBlock = 4096;
constexpr int64_t kRows = 32;
constexpr int64_t kMostRows = 512;

// The mean and the squares about it of `count` values, joined to those of the values before.
KONTRAST_INLINE void join(double& mean, double& squares, double before, double count, double newMean, double newSquares) {
  const double distance = newMean - mean;
  const double share = count / (before + count);
  mean += distance * share;
  squares += newSquares + distance * distance * before * share;
}

// --- Values that follow one another ---

// Four sums at a time, so that no addition waits for the one before.
template <typename T, typename Term>
KONTRAST_INLINE T sumOver(int64_t count, Term term) {
  const int64_t quarter = count / 4;
  T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (int64_t i = 0; i < quarter; i++) {
    s0 += term(i);
    s1 += term(i + quarter);
    s2 += term(i + 2 * quarter);
    s3 += term(i + 3 * quarter);
  }
  for (int64_t i = 4 * quarter; i < count; i++) s0 += term(i);
  return (s0 + s1) + (s2 + s3);
}

template <typename E>
KONTRAST_INLINE void momentsOfPlane(const E* x, int64_t count, double& mean, double& squares) {
  using T = Wide<E>;
  mean = squares = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const auto length = std::min(kBlock, count - begin);
    const E* block = x + begin;
    const T centre = sumOver<T>(length, [&](int64_t i) { return widen(block[i]); }) / static_cast<T>(length);
    const T found = sumOver<T>(length, [&](int64_t i) {
      const T distance = widen(block[i]) - centre;
      return distance * distance;
    });
    join(mean, squares, static_cast<double>(begin), static_cast<double>(length), centre, found);
  }
}

template <typename E>
KONTRAST_INLINE double squaresOfPlane(const E* x, int64_t count) {
  using T = Wide<E>;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const E* block = x + begin;
    total += sumOver<T>(std::min(kBlock, count - begin), [&](int64_t i) {
      const T value = widen(block[i]);
      return value * value;
    });
  }
  return total;
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void applyToPlane(const E* x, E* y, int64_t count, Wide<E> scale, Wide<E> shift, Wide<E> floor) {
  for (int64_t i = 0; i < count; i++) {
    const Wide<E> u = widen(x[i]) * scale + shift;
    // NaN passes.
    write(y[i], hasFloor && u <= floor ? floor : u);
  }
}

// The coefficients of a plane.
template <typename T>
struct Plane {
  T centre, scale, shift, floor;
};

template <bool hasFloor, typename T>
KONTRAST_INLINE T passed(T gradient, T x, T scale, T shift, T floor) {
  if constexpr (!hasFloor) return gradient;
  return x * scale + shift <= floor ? T(0) : gradient;
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void sumsOfPlane(const E* gradient, const E* x, int64_t count, const Plane<Wide<E>>& plane, double& sum,
                                 double& product, double* all) {
  using T = Wide<E>;
  const auto [centre, scale, shift, floor] = plane;
  sum = product = 0;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const auto length = std::min(kBlock, count - begin);
    const auto half = length / 2;
    const E *g = gradient + begin, *values = x + begin;
    T s0 = 0, s1 = 0, p0 = 0, p1 = 0, t0 = 0, t1 = 0;
#pragma omp simd reduction(+ : s0, s1, p0, p1, t0, t1)
    for (int64_t i = 0; i < half; i++) {
      const T x0 = widen(values[i]), x1 = widen(values[i + half]);
      const T all0 = widen(g[i]), all1 = widen(g[i + half]);
      const T g0 = passed<hasFloor>(all0, x0, scale, shift, floor), g1 = passed<hasFloor>(all1, x1, scale, shift, floor);
      s0 += g0;
      s1 += g1;
      p0 += g0 * (x0 - centre);
      p1 += g1 * (x1 - centre);
      if constexpr (hasFloor) {
        t0 += all0;
        t1 += all1;
      }
    }
    if (length % 2 != 0) {
      const T x0 = widen(values[length - 1]), all0 = widen(g[length - 1]);
      const T g0 = passed<hasFloor>(all0, x0, scale, shift, floor);
      s0 += g0;
      p0 += g0 * (x0 - centre);
      t0 += all0;
    }
    sum += s0 + s1;
    product += p0 + p1;
    total += t0 + t1;
  }
  if constexpr (hasFloor) *all = total;
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void combineInPlane(const E* gradient, const E* x, E* out, int64_t count, Wide<E> a, Wide<E> b, Wide<E> c,
                                    const Plane<Wide<E>>& plane) {
  const auto [centre, scale, shift, floor] = plane;
  for (int64_t i = 0; i < count; i++) {
    const Wide<E> value = widen(x[i]);
    write(out[i], passed<hasFloor>(widen(gradient[i]), value, scale, shift, floor) * a + (value * b + c));
  }
}

// --- Rows of channels, or of so many of them as a task takes ---

// The channels that a task takes, from `from` on.
struct Columns {
  int64_t from, width;
};

// Before each row, as compilers would take several at once: memory arrives sooner where it is read in its order.
KONTRAST_INLINE void nextRow() { std::atomic_signal_fence(std::memory_order_seq_cst); }

// Of so many channels, how many rows are summed in T before they are in double precision.
KONTRAST_INLINE int64_t rowsAtOnce(int64_t width) { return std::clamp(2 * kBlock / width, kRows, kMostRows); }

template <typename E>
KONTRAST_INLINE void momentsOfRows(const Pass<E>& pass, const Part& part, Columns columns, double* means, double* squares) {
  using T = Wide<E>;
  const auto [from, width] = columns;
  const auto stride = part.stride;
  if (part.count == 1) {
    for (int64_t i = 0; i < width; i++) means[i] = widen(pass.x[part.offset + from + i]);
    std::fill_n(squares, width, 0.0);
    return;
  }
  T centre[kWidth], sums[kWidth];
  std::fill_n(means, width, 0.0);
  std::fill_n(squares, width, 0.0);
  const auto most = rowsAtOnce(width);
  for (int64_t begin = 0; begin < part.count; begin += most) {
    const auto rows = std::min(most, part.count - begin);
    const E* x = pass.x + part.offset + begin * stride + from;
    std::fill_n(sums, width, T(0));
    for (int64_t r = 0; r < rows; r++) {
      nextRow();
#pragma omp simd
      for (int64_t i = 0; i < width; i++) sums[i] += widen(x[r * stride + i]);
    }
    for (int64_t i = 0; i < width; i++) {
      centre[i] = sums[i] / static_cast<T>(rows);
      sums[i] = 0;
    }
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t i = 0; i < width; i++) {
        const T distance = widen(x[r * stride + i]) - centre[i];
        sums[i] += distance * distance;
      }
    }
    const auto before = static_cast<double>(begin), count = static_cast<double>(rows);
    for (int64_t i = 0; i < width; i++) join(means[i], squares[i], before, count, centre[i], sums[i]);
  }
}

template <typename E>
KONTRAST_INLINE void squaresOfRows(const Pass<E>& pass, const Part& part, Columns columns, double* totals) {
  using T = Wide<E>;
  const auto [from, width] = columns;
  T sums[kWidth];
  std::fill_n(totals, width, 0.0);
  const auto most = rowsAtOnce(width);
  for (int64_t begin = 0; begin < part.count; begin += most) {
    const auto rows = std::min(most, part.count - begin);
    const E* x = pass.x + part.offset + begin * part.stride + from;
    std::fill_n(sums, width, T(0));
    for (int64_t r = 0; r < rows; r++) {
      nextRow();
#pragma omp simd
      for (int64_t i = 0; i < width; i++) {
        const T value = widen(x[r * part.stride + i]);
        sums[i] += value * value;
      }
    }
    for (int64_t i = 0; i < width; i++) totals[i] += sums[i];
  }
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void applyToRows(const Pass<E>& pass, const Part& part, Columns columns) {
  using T = Wide<E>;
  const auto [from, width] = columns;
  const auto first = part.group * pass.plan.channels + from;
  const T *scale = pass.scale + first, *shift = pass.shift + first;
  for (int64_t r = 0; r < part.count; r++) {
    const auto offset = part.offset + r * part.stride + from;
    const E* x = pass.x + offset;
    E* y = pass.out + offset;
    if constexpr (hasFloor) {
      const T* floor = pass.floor + from;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) {
        const T u = widen(x[i]) * scale[i] + shift[i];
        write(y[i], u <= floor[i] ? floor[i] : u);
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < width; i++) write(y[i], widen(x[i]) * scale[i] + shift[i]);
    }
  }
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void sumsOfRows(const Pass<E>& pass, const Part& part, Columns columns, double* totals, double* products,
                                double* all) {
  using T = Wide<E>;
  const auto [from, width] = columns;
  const auto stride = part.stride;
  const auto first = part.group * pass.plan.channels + from;
  const T* centre = pass.centre + first;
  T sums[kWidth], along[kWidth], whole[kWidth];
  std::fill_n(totals, width, 0.0);
  std::fill_n(products, width, 0.0);
  if constexpr (hasFloor) std::fill_n(all, width, 0.0);
  const auto most = rowsAtOnce(width);
  for (int64_t begin = 0; begin < part.count; begin += most) {
    const auto rows = std::min(most, part.count - begin);
    const auto offset = part.offset + begin * stride + from;
    const E *x = pass.x + offset, *g = pass.gradient + offset;
    std::fill_n(sums, width, T(0));
    std::fill_n(along, width, T(0));
    if constexpr (hasFloor) {
      const T *scale = pass.scale + first, *shift = pass.shift + first, *floor = pass.floor + from;
      std::fill_n(whole, width, T(0));
      for (int64_t r = 0; r < rows; r++) {
        nextRow();
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
          const T value = widen(x[r * stride + i]), gradient = widen(g[r * stride + i]);
          const T counted = passed<true>(gradient, value, scale[i], shift[i], floor[i]);
          sums[i] += counted;
          along[i] += counted * (value - centre[i]);
          whole[i] += gradient;
        }
      }
      for (int64_t i = 0; i < width; i++) all[i] += whole[i];
    } else {
      for (int64_t r = 0; r < rows; r++) {
        nextRow();
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
          const T gradient = widen(g[r * stride + i]);
          sums[i] += gradient;
          along[i] += gradient * (widen(x[r * stride + i]) - centre[i]);
        }
      }
    }
    for (int64_t i = 0; i < width; i++) {
      totals[i] += sums[i];
      products[i] += along[i];
    }
  }
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void combineInRows(const Pass<E>& pass, const Part& part, Columns columns) {
  using T = Wide<E>;
  const auto [from, width] = columns;
  const auto first = part.group * pass.plan.channels + from;
  const T *a = pass.a + first, *b = pass.b + first, *c = pass.c + first;
  for (int64_t r = 0; r < part.count; r++) {
    const auto offset = part.offset + r * part.stride + from;
    const E *x = pass.x + offset, *g = pass.gradient + offset;
    E* out = pass.out + offset;
    if constexpr (hasFloor) {
      const T *scale = pass.scale + first, *shift = pass.shift + first, *floor = pass.floor + from;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) {
        const T value = widen(x[i]);
        write(out[i], passed<true>(widen(g[i]), value, scale[i], shift[i], floor[i]) * a[i] + (value * b[i] + c[i]));
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < width; i++) write(out[i], widen(g[i]) * a[i] + (widen(x[i]) * b[i] + c[i]));
    }
  }
}

// --- Tasks: a part of rows, or some planes ---

int64_t planesATask(const Plan& plan) { return std::max<int64_t>(1, valuesATask(plan) / std::max<int64_t>(1, plan.positions)); }

int64_t columnsOf(const Plan& plan) { return (plan.channels + kWidth - 1) / kWidth; }

int64_t tasksOf(const Plan& plan) {
  if (plan.areChannelsTogether) return static_cast<int64_t>(plan.parts.size()) * columnsOf(plan);
  const auto each = planesATask(plan);
  return (plan.samples * plan.channels + each - 1) / each;
}

// What a task takes of rows. Like planes it is not given to a visitor, whose body compilers may leave out of what they vectorise.
struct Stretch {
  const Part& part;
  Columns columns;
  int64_t place;  // of the first channel, among [parts, channels]
};

KONTRAST_INLINE Stretch stretchOf(const Plan& plan, int64_t task) {
  const auto row = task / columnsOf(plan), from = task % columnsOf(plan) * kWidth;
  return {plan.parts[row], {from, std::min(kWidth, plan.channels - from)}, row * plan.channels + from};
}

// The planes of a task are those from `begin` to `end` among [parts, channels].
struct Planes {
  int64_t begin, end;
};

KONTRAST_INLINE Planes planesOf(const Plan& plan, int64_t task) {
  const auto each = planesATask(plan);
  return {task * each, std::min((task + 1) * each, plan.samples * plan.channels)};
}

// Where a plane lies, how many values it has, and its place among [groups, channels].
struct Spot {
  int64_t offset, count, channel, in;
};

KONTRAST_INLINE Spot spotOf(const Plan& plan, int64_t place) {
  const auto& part = plan.parts[place / plan.channels];
  const auto channel = place % plan.channels;
  return {part.offset + channel * plan.positions, part.count, channel, part.group * plan.channels + channel};
}

template <bool hasFloor, typename T, typename E>
KONTRAST_INLINE Plane<T> planeAt(const Pass<E>& pass, int64_t channel, int64_t in) {
  const T centre = pass.centre == nullptr ? T(0) : pass.centre[in];
  if constexpr (!hasFloor) return {centre, 0, 0, 0};
  return {centre, pass.scale[in], pass.shift[in], pass.floor[channel]};
}

template <typename E>
KONTRAST_INLINE void momentsInTask(const Pass<E>& pass, int64_t task) {
  if (pass.plan.areChannelsTogether) {
    const auto [part, columns, place] = stretchOf(pass.plan, task);
    momentsOfRows(pass, part, columns, pass.first + place, pass.second + place);
    return;
  }
  const auto [begin, end] = planesOf(pass.plan, task);
  for (auto place = begin; place < end; place++) {
    const auto [offset, count, channel, in] = spotOf(pass.plan, place);
    momentsOfPlane(pass.x + offset, count, pass.first[place], pass.second[place]);
  }
}

template <typename E>
KONTRAST_INLINE void squaresInTask(const Pass<E>& pass, int64_t task) {
  if (pass.plan.areChannelsTogether) {
    const auto [part, columns, place] = stretchOf(pass.plan, task);
    squaresOfRows(pass, part, columns, pass.first + place);
    return;
  }
  const auto [begin, end] = planesOf(pass.plan, task);
  for (auto place = begin; place < end; place++) {
    const auto [offset, count, channel, in] = spotOf(pass.plan, place);
    pass.first[place] = squaresOfPlane(pass.x + offset, count);
  }
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void applyInTask(const Pass<E>& pass, int64_t task) {
  if (pass.plan.areChannelsTogether) {
    const auto [part, columns, place] = stretchOf(pass.plan, task);
    applyToRows<hasFloor>(pass, part, columns);
    return;
  }
  const auto [begin, end] = planesOf(pass.plan, task);
  for (auto place = begin; place < end; place++) {
    const auto [offset, count, channel, in] = spotOf(pass.plan, place);
    const Wide<E> floor = hasFloor ? pass.floor[channel] : 0;
    applyToPlane<hasFloor>(pass.x + offset, pass.out + offset, count, pass.scale[in], pass.shift[in], floor);
  }
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void sumsInTask(const Pass<E>& pass, int64_t task) {
  if (pass.plan.areChannelsTogether) {
    const auto [part, columns, place] = stretchOf(pass.plan, task);
    sumsOfRows<hasFloor>(pass, part, columns, pass.first + place, pass.second + place, hasFloor ? pass.third + place : nullptr);
    return;
  }
  const auto [begin, end] = planesOf(pass.plan, task);
  for (auto place = begin; place < end; place++) {
    const auto [offset, count, channel, in] = spotOf(pass.plan, place);
    sumsOfPlane<hasFloor>(pass.gradient + offset, pass.x + offset, count, planeAt<hasFloor, Wide<E>>(pass, channel, in),
                          pass.first[place], pass.second[place], hasFloor ? pass.third + place : nullptr);
  }
}

template <bool hasFloor, typename E>
KONTRAST_INLINE void combineInTask(const Pass<E>& pass, int64_t task) {
  if (pass.plan.areChannelsTogether) {
    const auto [part, columns, place] = stretchOf(pass.plan, task);
    combineInRows<hasFloor>(pass, part, columns);
    return;
  }
  const auto [begin, end] = planesOf(pass.plan, task);
  for (auto place = begin; place < end; place++) {
    const auto [offset, count, channel, in] = spotOf(pass.plan, place);
    combineInPlane<hasFloor>(pass.gradient + offset, pass.x + offset, pass.out + offset, count, pass.a[in], pass.b[in],
                             pass.c[in], planeAt<hasFloor, Wide<E>>(pass, channel, in));
  }
}

#define KONTRAST_NORM_TASKS(E)                                                                                              \
  KONTRAST_VECTORISED void momentsTask(const Pass<E>& pass, int64_t task) { momentsInTask(pass, task); }                   \
  KONTRAST_VECTORISED void squaresTask(const Pass<E>& pass, int64_t task) { squaresInTask(pass, task); }                   \
  KONTRAST_VECTORISED void applyTask(const Pass<E>& pass, int64_t task) { applyInTask<false>(pass, task); }                \
  KONTRAST_VECTORISED void applyFlooredTask(const Pass<E>& pass, int64_t task) { applyInTask<true>(pass, task); }          \
  KONTRAST_VECTORISED void sumsTask(const Pass<E>& pass, int64_t task) { sumsInTask<false>(pass, task); }                  \
  KONTRAST_VECTORISED void sumsFlooredTask(const Pass<E>& pass, int64_t task) { sumsInTask<true>(pass, task); }            \
  KONTRAST_VECTORISED void combineTask(const Pass<E>& pass, int64_t task) { combineInTask<false>(pass, task); }            \
  KONTRAST_VECTORISED void combineFlooredTask(const Pass<E>& pass, int64_t task) { combineInTask<true>(pass, task); }

KONTRAST_NORM_TASKS(float)
KONTRAST_NORM_TASKS(double)
KONTRAST_NORM_TASKS(Short)
#undef KONTRAST_NORM_TASKS

// What a value costs, in the multiplications that decide whether a thread is woken.
constexpr int64_t kCost = 24;

template <typename Task>
void forTasks(const Plan& plan, Task task) {
  contrast::forEachTaskOfShares(tasksOf(plan), plan.samples * plan.channels * plan.positions * kCost, task);
}

// visit(a value of the type that the tensor's elements are read as)
template <typename Visit>
void byType(const at::Tensor& x, Visit visit) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return visit(float{});
    case at::kDouble:
      return visit(double{});
    default:
      return visit(Short{});
  }
}

template <typename E>
const E* elements(const at::Tensor& x) {
  return static_cast<const E*>(x.const_data_ptr());
}

template <typename E>
std::vector<Wide<E>> narrowed(const Numbers& numbers) {
  return {numbers.begin(), numbers.end()};
}

// The parts' sums as the groups'.
Numbers totalled(const Plan& plan, Numbers parts) {
  if (static_cast<int64_t>(plan.parts.size()) == plan.groups) return parts;
  Numbers totals(plan.groups * plan.channels);
  for (size_t p = 0; p < plan.parts.size(); p++) {
    const double* from = parts.data() + p * plan.channels;
    double* to = totals.data() + plan.parts[p].group * plan.channels;
    for (int64_t c = 0; c < plan.channels; c++) to[c] += from[c];
  }
  return totals;
}

void divideByCounts(const Plan& plan, Numbers& sums) {
  for (int64_t group = 0; group < plan.groups; group++) {
    const double share = 1 / plan.counts[group];
    for (int64_t c = 0; c < plan.channels; c++) sums[group * plan.channels + c] *= share;
  }
}

}  // namespace

bool hasPasses(const at::Tensor& x) {
  const auto type = x.scalar_type();
  return x.is_cpu() && x.layout() == at::kStrided && (type == at::kFloat || type == at::kDouble || type == at::kBFloat16);
}

at::Tensor inOneOrder(const at::Tensor& x) {
  const bool isLast = (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
                      (x.dim() == 5 && x.is_contiguous(at::MemoryFormat::ChannelsLast3d));
  return isLast ? x : x.contiguous();
}

at::Tensor inOrderOf(const at::Tensor& x, const at::Tensor& values) {
  const auto last = x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::ChannelsLast3d;
  return values.to(x.scalar_type()).contiguous(x.is_contiguous() ? at::MemoryFormat::Contiguous : last);
}

Plan planOf(const at::Tensor& x, at::IntArrayRef sizes, bool areInterleaved) {
  Plan plan{};
  plan.samples = x.size(0);
  plan.channels = x.size(1);
  plan.positions = 1;
  for (int64_t d = 2; d < x.dim(); d++) plan.positions *= x.size(d);
  plan.areChannelsTogether = plan.positions == 1 || !x.is_contiguous();
  plan.groups = sizes.empty() ? plan.samples : static_cast<int64_t>(sizes.size());
  const auto [samples, channels, positions] = std::tuple(plan.samples, plan.channels, plan.positions);
  if (!plan.areChannelsTogether) {
    // Each sample is a part.
    plan.parts.reserve(samples);
    int64_t sample = 0;
    for (int64_t group = 0; group < plan.groups; group++) {
      const auto size = sizes.empty() ? 1 : sizes[group];
      plan.counts.push_back(static_cast<double>(size * positions));
      if (areInterleaved) continue;
      for (int64_t i = 0; i < size; i++, sample++)
        plan.parts.push_back({group, sample * channels * positions, positions, 1});
    }
    for (; sample < samples; sample++)
      plan.parts.push_back({sample % plan.groups, sample * channels * positions, positions, 1});
    return plan;
  }
  const auto longest = std::max(kRows, valuesATask(plan) / std::clamp<int64_t>(channels, 1, kWidth) / kRows * kRows);
  const auto addRows = [&](int64_t group, int64_t offset, int64_t count, int64_t stride) {
    for (int64_t begin = 0; begin < count; begin += longest)
      plan.parts.push_back({group, offset + begin * stride, std::min(longest, count - begin), stride});
  };
  int64_t before = 0;
  for (int64_t group = 0; group < plan.groups; group++) {
    const auto size = sizes.empty() ? 1 : sizes[group];
    plan.counts.push_back(static_cast<double>(size * positions));
    if (areInterleaved) continue;
    addRows(group, before * positions * channels, size * positions, channels);
    before += size;
  }
  if (!areInterleaved) return plan;
  // The groups in turn, so that tasks lie in memory as they follow one another: no two threads write to the same pages.
  const auto run = positions == 1 ? longest : 1;
  for (int64_t begin = 0; begin < samples; begin += run * plan.groups) {
    const auto count = std::min(run, (samples - begin) / plan.groups);
    for (int64_t group = 0; group < plan.groups; group++) {
      const auto offset = (begin + group) * positions * channels;
      if (positions == 1)
        addRows(group, offset, count, plan.groups * channels);
      else
        addRows(group, offset, positions, channels);
    }
  }
  return plan;
}

Moments momentsOf(const Plan& plan, const at::Tensor& x) {
  const auto places = plan.parts.size() * plan.channels;
  Numbers means(places), squares(places);
  byType(x, [&](auto kind) {
    using E = decltype(kind);
    Pass<E> pass{plan};
    pass.x = elements<E>(x);
    pass.first = means.data();
    pass.second = squares.data();
    forTasks(plan, [&](int64_t task) { momentsTask(pass, task); });
  });
  if (static_cast<int64_t>(plan.parts.size()) == plan.groups) {
    divideByCounts(plan, squares);
    return {std::move(means), std::move(squares)};
  }
  Moments found{Numbers(plan.groups * plan.channels), Numbers(plan.groups * plan.channels)};
  const auto forEach = [&](auto visit) {
    for (size_t p = 0; p < plan.parts.size(); p++) {
      const auto& part = plan.parts[p];
      const double ofOne = 1 / plan.counts[part.group];
      visit(ofOne * static_cast<double>(part.count), p * plan.channels, part.group * plan.channels, ofOne);
    }
  };
  forEach([&](double share, int64_t from, int64_t to, double) {
    for (int64_t c = 0; c < plan.channels; c++) found.mean[to + c] += means[from + c] * share;
  });
  forEach([&](double share, int64_t from, int64_t to, double ofOne) {
    for (int64_t c = 0; c < plan.channels; c++) {
      const double distance = means[from + c] - found.mean[to + c];
      found.variance[to + c] += squares[from + c] * ofOne + distance * distance * share;
    }
  });
  return found;
}

Numbers meanSquaresOf(const Plan& plan, const at::Tensor& x) {
  Numbers parts(plan.parts.size() * plan.channels);
  byType(x, [&](auto kind) {
    using E = decltype(kind);
    Pass<E> pass{plan};
    pass.x = elements<E>(x);
    pass.first = parts.data();
    forTasks(plan, [&](int64_t task) { squaresTask(pass, task); });
  });
  auto squares = totalled(plan, std::move(parts));
  divideByCounts(plan, squares);
  return squares;
}

at::Tensor apply(const Plan& plan, const at::Tensor& x, const Map& map) {
  auto y = at::empty_like(x);
  byType(x, [&](auto kind) {
    using E = decltype(kind);
    const auto scale = narrowed<E>(map.scale), shift = narrowed<E>(map.shift), floor = narrowed<E>(map.floor);
    Pass<E> pass{plan};
    pass.x = elements<E>(x);
    pass.out = static_cast<E*>(y.mutable_data_ptr());
    pass.scale = scale.data();
    pass.shift = shift.data();
    pass.floor = floor.data();
    forTasks(plan, [&](int64_t task) { map.floor.empty() ? applyTask(pass, task) : applyFlooredTask(pass, task); });
  });
  return y;
}

Sums sumsOf(const Plan& plan, const at::Tensor& gradient, const at::Tensor& x, const Numbers& centre, const Map& map) {
  const bool hasFloor = !map.floor.empty();
  const auto places = plan.parts.size() * plan.channels;
  Numbers sums(places), products(places), all(hasFloor ? places : 0);
  byType(x, [&](auto kind) {
    using E = decltype(kind);
    const auto scale = narrowed<E>(map.scale), shift = narrowed<E>(map.shift), floor = narrowed<E>(map.floor);
    const auto centres = narrowed<E>(centre);
    Pass<E> pass{plan};
    pass.x = elements<E>(x);
    pass.gradient = elements<E>(gradient);
    pass.centre = centres.data();
    pass.scale = scale.data();
    pass.shift = shift.data();
    pass.floor = floor.data();
    pass.first = sums.data();
    pass.second = products.data();
    pass.third = all.data();
    forTasks(plan, [&](int64_t task) { hasFloor ? sumsFlooredTask(pass, task) : sumsTask(pass, task); });
  });
  return {totalled(plan, std::move(sums)), totalled(plan, std::move(products)), hasFloor ? totalled(plan, std::move(all)) : Numbers()};
}

at::Tensor combine(const Plan& plan, const at::Tensor& gradient, const at::Tensor& x, const Numbers& a, const Numbers& b,
                   const Numbers& c, const Map& map) {
  const bool hasFloor = !map.floor.empty();
  auto out = at::empty_like(x);
  byType(x, [&](auto kind) {
    using E = decltype(kind);
    const auto scale = narrowed<E>(map.scale), shift = narrowed<E>(map.shift), floor = narrowed<E>(map.floor);
    const auto ofA = narrowed<E>(a), ofB = narrowed<E>(b), ofC = narrowed<E>(c);
    Pass<E> pass{plan};
    pass.x = elements<E>(x);
    pass.gradient = elements<E>(gradient);
    pass.out = static_cast<E*>(out.mutable_data_ptr());
    pass.a = ofA.data();
    pass.b = ofB.data();
    pass.c = ofC.data();
    pass.scale = scale.data();
    pass.shift = shift.data();
    pass.floor = floor.data();
    forTasks(plan, [&](int64_t task) { hasFloor ? combineFlooredTask(pass, task) : combineTask(pass, task); });
  });
  return out;
}

}  // namespace kontrast::norm
