// Statistics of a similarity matrix that is never whole in memory.
//
// The scores are s[i][j] = rows[i] . columns[j] + bias, less a margin where (i, j) is a positive pair. Each pair is
// excluded, positive or negative: excluded where the ids of row and column agree or, among negatives, where a guide's score is
// above the row's limit; else positive where the labels agree; else negative. A statistic is a sum, or the logarithm of a
// sum of exponentials, over the pairs of a set, for each row or for each column. What an objective of the InfoNCE family needs beside
// such statistics is as long as a batch, so its gradient by the scores follows from the statistics' gradients.
//
// Scores are computed tile by tile, forwards and again backwards, so memory grows with rows and columns and not with their
// product.
#pragma once

#include "row_loops.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace kontrast::contrast {

// src/contrast/statistics.ts holds the same numbers.
enum class Kind : int64_t { LogSumExp = 0, Sum = 1, SumOfSquares = 2, Softplus = 3, Hinge = 4, Count = 5, Maximum = 6 };
enum class Axis : int64_t { Rows = 0, Columns = 1 };

struct Statistic {
  Kind kind;
  Axis axis;
  PairClass set;
  // By which scores are multiplied; of LogSumExp, Softplus and Hinge.
  double power;
  // Whether the columns' weights are added to the scores; of LogSumExp.
  bool isWeighted;
  // Only so many of a row's pairs count, those with the greatest scores, and those that equal the last of them; 0 for all.
  int64_t top = 0;
};

// Contiguous tensors on the CPU. Scores are float or double as the rows are; undefined tensors are absent.
struct Problem {
  at::Tensor rows;     // [N, D]
  at::Tensor columns;  // [M, D]
  // Whether rows and columns were bfloat16, so that products may be taken of it.
  bool isShort = false;
  double bias = 0;
  double margin = 0;
  at::Tensor rowLabels, columnLabels;  // int64 [N] and [M]
  at::Tensor rowIds, columnIds;
  at::Tensor rowGuides, columnGuides;  // [N, E] and [M, E]
  at::Tensor guideLimits;              // [N]
  at::Tensor columnWeights;            // [M]
  std::vector<Statistic> statistics;
  std::vector<at::Tensor> offsets;  // one a statistic, [N]; of Softplus and Hinge by rows
  // Tiles whose slopes are all smaller than this share of their rows' gradients give none to rows and columns; 0 for none.
  double filter = 0;
};

// A threshold of its own for each row.
inline bool takesOffset(const Statistic& statistic) {
  return statistic.axis == Axis::Rows && (statistic.kind == Kind::Softplus || statistic.kind == Kind::Hinge);
}

// Scores are as wide as rows of double, or float.
inline at::ScalarType typeOfScores(const at::Tensor& rows) {
  return rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// [N] or [M] for each statistic. A LogSumExp or Maximum over no pair is -infinity.
struct Statistics {
  std::vector<at::Tensor> values;
  // The least score that counts, [N], of those with a top; undefined for others.
  std::vector<at::Tensor> limits;
};

struct Gradients {
  at::Tensor rows, columns;  // undefined where not needed
  double bias = 0;
  std::vector<at::Tensor> offsets;
};

Statistics computeStatistics(const Problem& problem);

// `gradients` holds one a statistic, undefined for none.
Gradients differentiate(const Problem& problem, const Statistics& statistics, const std::vector<at::Tensor>& gradients,
                        bool needsRows, bool needsColumns);

}  // namespace kontrast::contrast
