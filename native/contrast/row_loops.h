// What is done with a row of scores, or with a row of a tile for all its columns at once. A score of -infinity stands for a
// pair that does not count.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kontrast::contrast {

// What a pair is: excluded, positive or negative. A set of pairs is a sum of the last two.
using PairClass = uint8_t;
constexpr PairClass kExcluded = 0;
constexpr PairClass kPositive = 1;
constexpr PairClass kNegative = 2;

// A row's classes by labels and ids; either may be absent (nullptr).
void classify(PairClass* classes, const int64_t* labels, int64_t label, const int64_t* ids, int64_t id, size_t count);

// Excludes negatives whose guide score is above the limit.
void excludeAbove(PairClass* classes, const float* guides, float limit, size_t count);
void excludeAbove(PairClass* classes, const double* guides, double limit, size_t count);

#define KONTRAST_ROW_LOOPS(T)                                                                                              \
  /* scores[j] += bias, less the margin where the pair is positive */                                                      \
  void shift(T* scores, const PairClass* classes, T bias, T margin, size_t count);                                         \
  /* selected[j] = power * scores[j] + weights[j] for pairs of the set, -infinity for others */                            \
  void select(T* selected, const T* scores, const PairClass* classes, PairClass set, T power, const T* weights,            \
              size_t count);                                                                                               \
  T maximum(const T* x, size_t count);                                                                                     \
  /* sum of exp(x[j] - shift) */                                                                                           \
  T sumOfExponentials(const T* x, T shift, size_t count);                                                                  \
  /* maxima[j] = max(maxima[j], x[j]) */                                                                                   \
  void maximumInto(T* maxima, const T* x, size_t count);                                                                   \
  /* sums[j] += exp(x[j] - shifts[j]) */                                                                                   \
  void exponentialsInto(T* sums, const T* x, const T* shifts, size_t count);                                               \
  /* exponentials[j] = exp(x[j] - shift); gives their sum */                                                               \
  T exponentialsOf(T* exponentials, const T* x, T shift, size_t count);                                                    \
  /* sums[j] += factor * x[j] */                                                                                           \
  void addScaled(T* sums, const T* x, T factor, size_t count);                                                             \
  /* Adds sums of terms taken less `common`, of which the greatest are `most`, to sums of terms taken less `greatest` */    \
  void combine(T* sums, T* greatest, const T* added, T common, const T* most, size_t count);                               \
  /* sums[j] *= exp(before[j] - after[j]) */                                                                               \
  void rescale(T* sums, const T* before, const T* after, size_t count);                                                    \
  /* Over pairs of the set, with y = power * (scores[j] - offset): sums of the scores, of their squares, of softplus(y),    \
     of max(0, y), and how many there are */                                                                               \
  T sum(const T* scores, const PairClass* classes, PairClass set, size_t count);                                           \
  T sumOfSquares(const T* scores, const PairClass* classes, PairClass set, size_t count);                                  \
  T sumOfSoftplus(const T* scores, const PairClass* classes, PairClass set, T power, T offset, size_t count);              \
  T sumOfHinge(const T* scores, const PairClass* classes, PairClass set, T power, T offset, size_t count);                 \
  T countOf(const PairClass* classes, PairClass set, T, size_t count);                                                     \
  /* The same for each column: sums[j] += its term */                                                                      \
  void sumInto(T* sums, const T* scores, const PairClass* classes, PairClass set, size_t count);                           \
  void squaresInto(T* sums, const T* scores, const PairClass* classes, PairClass set, size_t count);                       \
  void softplusInto(T* sums, const T* scores, const PairClass* classes, PairClass set, T power, size_t count);             \
  void hingeInto(T* sums, const T* scores, const PairClass* classes, PairClass set, T power, size_t count);                \
  void countInto(T* sums, const PairClass* classes, PairClass set, size_t count);                                          \
  /* Slopes of these by the score, times what the statistic's own gradient is, added to g */                               \
  void addExponentials(T* g, const T* x, T shift, T factor, size_t count);                                                 \
  void addColumnExponentials(T* g, const T* x, const T* shifts, const T* factors, size_t count);                           \
  /* g[j] += exp(x[j] - shift) * (factor + scale * factors[j]) */                                                          \
  void addSharedExponentials(T* g, const T* x, T shift, T factor, T scale, const T* factors, size_t count);                \
  void addConstant(T* g, const PairClass* classes, PairClass set, T factor, size_t count);                                 \
  void addColumnConstants(T* g, const PairClass* classes, PairClass set, const T* factors, size_t count);                  \
  void addScores(T* g, const T* scores, const PairClass* classes, PairClass set, T factor, size_t count);                  \
  void addColumnScores(T* g, const T* scores, const PairClass* classes, PairClass set, const T* factors, size_t count);    \
  /* These two give the sum of what they added */                                                                          \
  T addSigmoids(T* g, const T* scores, const PairClass* classes, PairClass set, T power, T offset, T factor,               \
                size_t count);                                                                                             \
  T addSteps(T* g, const T* scores, const PairClass* classes, PairClass set, T power, T offset, T factor, size_t count);   \
  void addColumnSigmoids(T* g, const T* scores, const PairClass* classes, PairClass set, T power, const T* factors,        \
                         size_t count);                                                                                    \
  void addColumnSteps(T* g, const T* scores, const PairClass* classes, PairClass set, T power, const T* factors,           \
                      size_t count);                                                                                       \
  T sumOf(const T* x, size_t count);                                                                                       \
  /* The greatest absolute value */                                                                                        \
  T largest(const T* x, size_t count);                                                                                     \
  /* The classes without the pairs whose score is below the limit */                                                       \
  void excludeBelow(PairClass* to, const PairClass* classes, const T* scores, T limit, size_t count);                       \
  void scaleRow(T* x, T scale, T offset, size_t count);                                                                    \
  bool isAnyAbove(const T* x, const T* limits, size_t count);                                                              \
  T dot(const T* a, const T* b, size_t count);

KONTRAST_ROW_LOOPS(float)
KONTRAST_ROW_LOOPS(double)
#undef KONTRAST_ROW_LOOPS

}  // namespace kontrast::contrast
