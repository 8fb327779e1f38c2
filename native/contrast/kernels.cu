// The fused kernels: each looks at a block of scores once, for all statistics that are asked for.
//
// They are compiled when they are first needed, for just these statistics. The text before this one says which:
//   KONTRAST_STATISTICS  how many
//   KONTRAST_KINDS, KONTRAST_AXES, KONTRAST_SETS  a list of numbers each
//   KONTRAST_LABELS, KONTRAST_IDS  whether there are any, 0 or 1
//   KONTRAST_SHORT  whether slopes are bfloat16, 0 or 1
//
// A block of threads has a tile of 64 by 256 scores, each warp 8 rows of it and each thread 4 neighbouring columns at a time,
// once in each half of the tile. So loads are whole lines, sums along a row end in one exchange within a warp, and sums along a column in
// one between the warps. Nothing is added by atomic operations: the bits are the same every time.
#include "kernels.h"

namespace kontrast::contrast::fused {

constexpr int kWarpSize = 32;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRowsOfThread = kTileRows / kWarps;
constexpr int kColumnsOfThread = 4;
constexpr int kChunk = kWarpSize * kColumnsOfThread;
constexpr int kPairs = kRowsOfThread * kColumnsOfThread;
static_assert(kPairs == 32, "a thread's pairs are the bits of an unsigned");

#define KONTRAST_INLINE __device__ __forceinline__

KONTRAST_INLINE float infinity() { return __int_as_float(0x7f800000); }
constexpr float kLog2E = 1.44269504088896341f;

KONTRAST_INLINE float exponential(float x) { return exp2f(x * kLog2E); }

// Sums of exponentials, each less the greatest of its own.
struct Exponentials {
  float maximum, sum;
};

// What to subtract from scores whose maximum this is: over no pair there is none, and no difference would be a number.
KONTRAST_INLINE float shiftOf(float maximum) { return maximum == -infinity() ? 0.0f : maximum; }

// `scale` is what to multiply scores with for their power of 2.
KONTRAST_INLINE Exponentials merged(Exponentials a, Exponentials b, float scale) {
  const float maximum = fmaxf(a.maximum, b.maximum);
  const float shift = shiftOf(maximum);
  return {maximum, a.sum * exp2f(scale * (a.maximum - shift)) + b.sum * exp2f(scale * (b.maximum - shift))};
}

KONTRAST_INLINE float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(exponential(-fabsf(x))); }

KONTRAST_INLINE float sigmoid(float x) {
  const float e = exponential(-fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// The bits of the nearest bfloat16.
KONTRAST_INLINE unsigned shortened(float x) {
  if (x != x) return 0x7fc0u;
  const unsigned bits = __float_as_uint(x);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// Two of them in a word, the first in its lower half.
KONTRAST_INLINE unsigned shortenedPair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return shortened(first) | (shortened(second) << 16);
#endif
}

// One statistic, known when this is compiled.
template <int S>
struct Statistic {
  static constexpr int index = S;
  static constexpr int pick(int which) {
    constexpr int kinds[] = {KONTRAST_KINDS};
    constexpr int axes[] = {KONTRAST_AXES};
    constexpr int sets[] = {KONTRAST_SETS};
    return which == 0 ? kinds[S] : which == 1 ? axes[S] : sets[S];
  }
  static constexpr int kind = pick(0);
  static constexpr int axis = pick(1);
  static constexpr int set = pick(2);
  static constexpr bool hasMaximum = kind == kLogSumExp || kind == kMaximum;
};

// visit(statistic) for each.
template <int S = 0, typename Visit>
KONTRAST_INLINE void eachStatistic(const Visit& visit) {
  if constexpr (S < KONTRAST_STATISTICS) {
    visit(Statistic<S>{});
    eachStatistic<S + 1>(visit);
  }
}

// A thread's place. Rows and columns are those of the block of scores.
struct Place {
  int warp, lane;
  int row;     // the first of the thread's rows
  int column;  // the first of its columns in the tile's first half

  KONTRAST_INLINE Place() {
    warp = static_cast<int>(threadIdx.x) / kWarpSize;
    lane = static_cast<int>(threadIdx.x) % kWarpSize;
    row = static_cast<int>(blockIdx.y) * kTileRows + warp * kRowsOfThread;
    column = static_cast<int>(blockIdx.x) * kTileColumns + lane * kColumnsOfThread;
  }
};

// Labels and ids of the tile's rows, which all lanes of a warp look up together.
struct RowNames {
  long long labels[KONTRAST_LABELS ? kTileRows : 1];
  long long ids[KONTRAST_IDS ? kTileRows : 1];

  // By all threads, before a __syncthreads().
  KONTRAST_INLINE void load(const Scores& scores) {
    const int row = static_cast<int>(blockIdx.y) * kTileRows + static_cast<int>(threadIdx.x);
    if (threadIdx.x >= kTileRows || row >= scores.rows) return;
    if constexpr (KONTRAST_LABELS) labels[threadIdx.x] = scores.rowLabels[scores.rowBegin + row];
    if constexpr (KONTRAST_IDS) ids[threadIdx.x] = scores.rowIds[scores.rowBegin + row];
  }
};

// A thread's pairs: its columns in one half of the tile by its rows.
struct Pairs {
  float scores[kRowsOfThread][kColumnsOfThread];
  // One bit a pair; what is in neither is excluded, or outside of the matrix.
  unsigned positives, negatives;

  KONTRAST_INLINE static unsigned bit(int r, int c) { return 1u << (r * kColumnsOfThread + c); }

  template <int Set>
  KONTRAST_INLINE bool isIn(int r, int c) const {
    const unsigned members = Set == 1 ? positives : Set == 2 ? negatives : positives | negatives;
    return (members & bit(r, c)) != 0;
  }

  KONTRAST_INLINE Pairs(const Scores& task, const RowNames& names, const Place& place, int column) {
    const int columnsLeft = task.columns - column;
    const bool isAligned = task.columns % kColumnsOfThread == 0;
#pragma unroll
    for (int r = 0; r < kRowsOfThread; r++) {
      const float* from = task.products + static_cast<long long>(place.row + r) * task.columns + column;
#pragma unroll
      for (int c = 0; c < kColumnsOfThread; c++) scores[r][c] = 0.0f;
      if (place.row + r >= task.rows || columnsLeft <= 0) continue;
      if (isAligned) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        scores[r][0] = four.x;
        scores[r][1] = four.y;
        scores[r][2] = four.z;
        scores[r][3] = four.w;
      } else {
#pragma unroll
        for (int c = 0; c < kColumnsOfThread; c++) {
          if (c < columnsLeft) scores[r][c] = from[c];
        }
      }
    }
    long long labels[kColumnsOfThread];
    long long ids[kColumnsOfThread];
#pragma unroll
    for (int c = 0; c < kColumnsOfThread; c++) {
      const bool isInside = c < columnsLeft;
      if constexpr (KONTRAST_LABELS) labels[c] = isInside ? task.columnLabels[task.columnBegin + column + c] : 0;
      if constexpr (KONTRAST_IDS) ids[c] = isInside ? task.columnIds[task.columnBegin + column + c] : 0;
    }
    positives = 0;
    negatives = 0;
#pragma unroll
    for (int r = 0; r < kRowsOfThread; r++) {
      const int row = place.warp * kRowsOfThread + r;
#pragma unroll
      for (int c = 0; c < kColumnsOfThread; c++) {
        bool counts = place.row + r < task.rows && c < columnsLeft;
        if constexpr (KONTRAST_IDS) counts = counts && names.ids[row] != ids[c];
        bool isPositive = false;
        if constexpr (KONTRAST_LABELS) isPositive = names.labels[row] == labels[c];
        if (counts && isPositive) positives |= bit(r, c);
        if (counts && !isPositive) negatives |= bit(r, c);
        scores[r][c] += task.bias;
        if (isPositive) scores[r][c] -= task.margin;
      }
    }
  }
};

// A term of the statistics that are plain sums.
template <int Kind>
KONTRAST_INLINE float termOf(float score, float power) {
  if constexpr (Kind == kSum) return score;
  if constexpr (Kind == kSoftplus) return softplus(power * score);
  return 1.0f;
}

#if KONTRAST_PART == 0

// Adds what a tile found to what those before it have found in its place.
template <typename S>
KONTRAST_INLINE void keep(const Reduction& task, long long place, Exponentials found) {
  if constexpr (S::kind == kLogSumExp) {
    const Exponentials before{task.maxima[S::index][place], task.sums[S::index][place]};
    const Exponentials now = merged(before, found, task.scores.powers[S::index] * kLog2E);
    task.maxima[S::index][place] = now.maximum;
    task.sums[S::index][place] = now.sum;
  } else if constexpr (S::kind == kMaximum) {
    task.maxima[S::index][place] = fmaxf(task.maxima[S::index][place], found.maximum);
  } else {
    task.sums[S::index][place] += found.sum;
  }
}

template <typename S>
KONTRAST_INLINE Exponentials combined(Exponentials a, Exponentials b, float scale) {
  if constexpr (S::kind == kLogSumExp) return merged(a, b, scale);
  return {fmaxf(a.maximum, b.maximum), a.sum + b.sum};
}

// What all lanes of a warp found together, in each of them.
template <typename S>
KONTRAST_INLINE Exponentials combinedByWarp(Exponentials own, float scale) {
  Exponentials all = own;
  if constexpr (S::hasMaximum) {
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
      all.maximum = fmaxf(all.maximum, __shfl_xor_sync(0xffffffffu, all.maximum, distance));
  }
  if constexpr (S::kind == kLogSumExp) all.sum *= exp2f(scale * (own.maximum - shiftOf(all.maximum)));
  if constexpr (S::kind != kMaximum) {
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
      all.sum += __shfl_xor_sync(0xffffffffu, all.sum, distance);
  }
  return all;
}

// Adds some of a thread's pairs to what it has: select(i, otherwise) gives the term of the i-th, or `otherwise` where it does not count.
template <typename S, int Count, typename Select>
KONTRAST_INLINE void gather(Exponentials& found, const Select& select, float scale) {
  if constexpr (S::hasMaximum) {
    float maximum = found.maximum;
#pragma unroll
    for (int i = 0; i < Count; i++) maximum = fmaxf(maximum, select(i, -infinity()));
    if constexpr (S::kind == kLogSumExp) {
      const float shift = shiftOf(maximum);
      float sum = found.sum * exp2f(scale * (found.maximum - shift));
#pragma unroll
      for (int i = 0; i < Count; i++) sum += exp2f(scale * (select(i, -infinity()) - shift));
      found.sum = sum;
    }
    found.maximum = maximum;
  } else {
#pragma unroll
    for (int i = 0; i < Count; i++) found.sum += select(i, 0.0f);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads) kontrast_reduce(const Reduction task) {
  __shared__ RowNames names;
  __shared__ float maximaOfWarps[kWarps][kChunk];
  __shared__ float sumsOfWarps[kWarps][kChunk];
  const Place place;
  names.load(task.scores);
  __syncthreads();

  Exponentials ofRows[KONTRAST_STATISTICS][kRowsOfThread];
#pragma unroll
  for (int s = 0; s < KONTRAST_STATISTICS; s++) {
#pragma unroll
    for (int r = 0; r < kRowsOfThread; r++) ofRows[s][r] = {-infinity(), 0.0f};
  }

  for (int chunk = 0; chunk < kTileColumns; chunk += kChunk) {
    const Pairs pairs(task.scores, names, place, place.column + chunk);
    eachStatistic([&](auto statistic) {
      using S = decltype(statistic);
      const float power = task.scores.powers[S::index];
      const float scale = power * kLog2E;
      const auto select = [&](int r, int c, float otherwise) {
        if (!pairs.template isIn<S::set>(r, c)) return otherwise;
        if constexpr (S::hasMaximum) return pairs.scores[r][c];
        return termOf<S::kind>(pairs.scores[r][c], power);
      };
      if constexpr (S::axis == kRows) {
#pragma unroll
        for (int r = 0; r < kRowsOfThread; r++) {
          gather<S, kColumnsOfThread>(
              ofRows[S::index][r], [&](int c, float otherwise) { return select(r, c, otherwise); }, scale);
        }
      } else {
#pragma unroll
        for (int c = 0; c < kColumnsOfThread; c++) {
          Exponentials found{-infinity(), 0.0f};
          gather<S, kRowsOfThread>(found, [&](int r, float otherwise) { return select(r, c, otherwise); }, scale);
          maximaOfWarps[place.warp][place.lane * kColumnsOfThread + c] = found.maximum;
          sumsOfWarps[place.warp][place.lane * kColumnsOfThread + c] = found.sum;
        }
        __syncthreads();
        const int own = static_cast<int>(threadIdx.x);
        const int column = static_cast<int>(blockIdx.x) * kTileColumns + chunk + own;
        if (own < kChunk && column < task.scores.columns) {
          Exponentials found{maximaOfWarps[0][own], sumsOfWarps[0][own]};
          for (int w = 1; w < kWarps; w++)
            found = combined<S>(found, {maximaOfWarps[w][own], sumsOfWarps[w][own]}, scale);
          keep<S>(task, blockIdx.y * task.scores.columnCount + task.scores.columnBegin + column, found);
        }
        __syncthreads();
      }
    });
  }

  eachStatistic([&](auto statistic) {
    using S = decltype(statistic);
    if constexpr (S::axis == kRows) {
      const float scale = task.scores.powers[S::index] * kLog2E;
#pragma unroll
      for (int r = 0; r < kRowsOfThread; r++) {
        const Exponentials found = combinedByWarp<S>(ofRows[S::index][r], scale);
        if (place.lane == r && place.row + r < task.scores.rows)
          keep<S>(task, blockIdx.x * task.scores.rowCount + task.scores.rowBegin + place.row + r, found);
      }
    }
  });
}

extern "C" __global__ void __launch_bounds__(kThreads) kontrast_conclude(const Conclusion task) {
  const long long i = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= task.count) return;
  Exponentials found{-infinity(), 0.0f};
  for (int tile = 0; tile < task.tiles; tile++) {
    const long long at = tile * task.count + i;
    if (task.kind == kLogSumExp)
      found = merged(found, {task.maxima[at], task.sums[at]}, task.power * kLog2E);
    else if (task.kind == kMaximum)
      found.maximum = fmaxf(found.maximum, task.maxima[at]);
    else
      found.sum += task.sums[at];
  }
  if (task.kind == kLogSumExp)
    task.values[i] = found.maximum == -infinity() ? -infinity() : task.power * found.maximum + logf(found.sum);
  else
    task.values[i] = task.kind == kMaximum ? found.maximum : found.sum;
}

#else

// A statistic's slope by a score is factor * slopeOf(score).
template <int Kind>
KONTRAST_INLINE float slopeOf(float score, float power, float value) {
  if constexpr (Kind == kLogSumExp) return exponential(fmaf(power, score, -value));
  if constexpr (Kind == kSoftplus) return sigmoid(power * score);
  return 1.0f;
}

// The part of the slope that all pairs of a row or column share.
template <typename S>
KONTRAST_INLINE float factorOf(const Differentiation& task, long long i) {
  const float gradient = task.gradients[S::index][i];
  return S::kind == kSum ? gradient : gradient * task.scores.powers[S::index];
}

// What a slope has to know of the statistic. Over no pair a logarithm is -infinity, and no slope is asked for.
template <typename S>
KONTRAST_INLINE float valueOf(const Differentiation& task, long long i) {
  if constexpr (S::kind == kLogSumExp) return task.values[S::index][i];
  return 0.0f;
}

KONTRAST_INLINE void store(const Differentiation& task, const Place& place, int column,
                           const float (&slopes)[kRowsOfThread][kColumnsOfThread]) {
  const int columnsLeft = task.scores.columns - column;
  const bool isAligned = task.scores.columns % kColumnsOfThread == 0;
#pragma unroll
  for (int r = 0; r < kRowsOfThread; r++) {
    if (place.row + r >= task.scores.rows || columnsLeft <= 0) continue;
    const long long at = static_cast<long long>(place.row + r) * task.scores.columns + column;
    if constexpr (KONTRAST_SHORT) {
      auto* to = static_cast<unsigned short*>(task.slopes) + at;
      if (isAligned) {
        uint2 four;
        four.x = shortenedPair(slopes[r][0], slopes[r][1]);
        four.y = shortenedPair(slopes[r][2], slopes[r][3]);
        *reinterpret_cast<uint2*>(to) = four;
        continue;
      }
#pragma unroll
      for (int c = 0; c < kColumnsOfThread; c++) {
        if (c < columnsLeft) to[c] = static_cast<unsigned short>(shortened(slopes[r][c]));
      }
    } else {
      auto* to = static_cast<float*>(task.slopes) + at;
      if (isAligned) {
        float4 four;
        four.x = slopes[r][0];
        four.y = slopes[r][1];
        four.z = slopes[r][2];
        four.w = slopes[r][3];
        *reinterpret_cast<float4*>(to) = four;
        continue;
      }
#pragma unroll
      for (int c = 0; c < kColumnsOfThread; c++) {
        if (c < columnsLeft) to[c] = slopes[r][c];
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(kThreads) kontrast_differentiate(const Differentiation task) {
  __shared__ RowNames names;
  __shared__ float factorsOfRows[KONTRAST_STATISTICS][kTileRows];
  __shared__ float valuesOfRows[KONTRAST_STATISTICS][kTileRows];
  __shared__ float totalsOfWarps[kWarps];
  const Place place;
  names.load(task.scores);
  {
    const int own = static_cast<int>(threadIdx.x);
    const int row = static_cast<int>(blockIdx.y) * kTileRows + own;
    if (own < kTileRows && row < task.scores.rows) {
      eachStatistic([&](auto statistic) {
        using S = decltype(statistic);
        if constexpr (S::axis == kRows) {
          factorsOfRows[S::index][own] = factorOf<S>(task, task.scores.rowBegin + row);
          valuesOfRows[S::index][own] = valueOf<S>(task, task.scores.rowBegin + row);
        }
      });
    }
  }
  __syncthreads();

  float total = 0.0f;
  for (int chunk = 0; chunk < kTileColumns; chunk += kChunk) {
    const int column = place.column + chunk;
    const Pairs pairs(task.scores, names, place, column);
    float slopes[kRowsOfThread][kColumnsOfThread];
#pragma unroll
    for (int r = 0; r < kRowsOfThread; r++) {
#pragma unroll
      for (int c = 0; c < kColumnsOfThread; c++) slopes[r][c] = 0.0f;
    }
    eachStatistic([&](auto statistic) {
      using S = decltype(statistic);
      const float power = task.scores.powers[S::index];
      float factors[kColumnsOfThread];
      float values[kColumnsOfThread];
      if constexpr (S::axis == kColumns) {
#pragma unroll
        for (int c = 0; c < kColumnsOfThread; c++) {
          const bool isInside = column + c < task.scores.columns;
          factors[c] = isInside ? factorOf<S>(task, task.scores.columnBegin + column + c) : 0.0f;
          values[c] = isInside ? valueOf<S>(task, task.scores.columnBegin + column + c) : 0.0f;
        }
      }
#pragma unroll
      for (int r = 0; r < kRowsOfThread; r++) {
        const int row = place.warp * kRowsOfThread + r;
#pragma unroll
        for (int c = 0; c < kColumnsOfThread; c++) {
          float factor, value;
          if constexpr (S::axis == kColumns) {
            factor = factors[c];
            value = values[c];
          } else {
            factor = factorsOfRows[S::index][row];
            value = valuesOfRows[S::index][row];
          }
          const float slope = factor * slopeOf<S::kind>(pairs.scores[r][c], power, value);
          if (pairs.template isIn<S::set>(r, c)) slopes[r][c] += slope;
        }
      }
    });
#pragma unroll
    for (int r = 0; r < kRowsOfThread; r++) {
#pragma unroll
      for (int c = 0; c < kColumnsOfThread; c++) total += slopes[r][c];
    }
    store(task, place, column, slopes);
  }

  if (task.totals == nullptr) return;
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
    total += __shfl_xor_sync(0xffffffffu, total, distance);
  if (place.lane == 0) totalsOfWarps[place.warp] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    for (int w = 0; w < kWarps; w++) sum += totalsOfWarps[w];
    task.totals[blockIdx.y * gridDim.x + blockIdx.x] += sum;
  }
}

#endif

}  // namespace kontrast::contrast::fused
