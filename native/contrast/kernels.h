// What the fused kernels and their callers agree on. NVRTC reads this file as well, and has no other headers: nothing is included.
#pragma once

namespace kontrast::contrast::fused {

// Scores that one block of threads looks at. Partial results are kept by tile, so that they are always added in one order.
constexpr int kTileRows = 64;
constexpr int kTileColumns = 256;
constexpr int kThreads = 256;

constexpr int kMostStatistics = 8;

// Of statistics.h, whose numbers these are.
constexpr int kLogSumExp = 0;
constexpr int kSum = 1;
constexpr int kSoftplus = 3;
constexpr int kCount = 5;
constexpr int kMaximum = 6;
constexpr int kRows = 0;
constexpr int kColumns = 1;

// Scores of some rows and columns, and what is known of these. Labels and ids are of the whole matrix.
struct Scores {
  const float* products;  // [rows, columns], before bias and margin
  int rows, columns;
  long long rowBegin, columnBegin;
  long long rowCount, columnCount;  // of the whole matrix
  const long long* rowLabels;
  const long long* columnLabels;
  const long long* rowIds;
  const long long* columnIds;
  float bias, margin;
  float powers[kMostStatistics];
};

// What was found so far, by statistic: [tiles, N or M], the tiles being those beside each other in one block of scores, along the
// other axis. Maxima are of LogSumExp, whose sums are of exp(power * (score - maximum)), and of Maximum, which has no sums.
struct Reduction {
  Scores scores;
  float* maxima[kMostStatistics];
  float* sums[kMostStatistics];
};

// One statistic from all its tiles.
struct Conclusion {
  int kind;
  float power;
  int tiles;
  long long count;  // N or M
  const float* maxima;
  const float* sums;
  float* values;
};

// By statistic: its value and its own gradient, [N] or [M].
struct Differentiation {
  Scores scores;
  const float* values[kMostStatistics];
  const float* gradients[kMostStatistics];
  void* slopes;   // [rows, columns], float or bfloat16
  float* totals;  // one a tile of the block: the sum of its slopes is added; or null
};

}  // namespace kontrast::contrast::fused
