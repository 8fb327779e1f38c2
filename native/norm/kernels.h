// Passes over activations for normalisation on the CPU. Every norm here is an affine map of x for each group of samples and channel,
// so it needs a few sums for each of these, and writes results of the form x·a + b or g·a + x·b + c. What is one number a group and
// channel is kept in double, [groups, channels]; loops over activations are plain C++ that compilers vectorise.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace kontrast::norm {

using Numbers = std::vector<double>;

// A piece of a group that a pass takes at once: `count` values of each channel, which lie `stride` apart where channels lie side by
// side, and one behind the other where positions do.
struct Part {
  int64_t group, offset, count, stride;
};

// How a batch [samples, channels, positions] lies in memory, and which samples form a group.
struct Plan {
  int64_t samples, channels, positions, groups;
  bool areChannelsTogether;  // x[sample][position][channel] in memory
  std::vector<Part> parts;   // those of a group in order
  Numbers counts;            // how many values of each channel every group has
};

// `x` itself where a plan can be made of it, else a contiguous copy.
at::Tensor inOneOrder(const at::Tensor& x);

// `values` in the dtype of `x`, which is in one order, and in that order.
at::Tensor inOrderOf(const at::Tensor& x, const at::Tensor& values);

// Groups of `sizes` samples that follow one another, or are interleaved: sample i then belongs to group i mod their number. No sizes:
// each sample is a group.
Plan planOf(const at::Tensor& x, at::IntArrayRef sizes, bool areInterleaved);

// Whether there are passes for the tensor's device and dtype.
bool hasPasses(const at::Tensor& x);

struct Moments {
  Numbers mean, variance;  // biased
};

// Variances are taken about the mean of each block, so that nothing cancels.
Moments momentsOf(const Plan& plan, const at::Tensor& x);
Numbers meanSquaresOf(const Plan& plan, const at::Tensor& x);

// u = x·scale + shift, and max(u, floor) where there is a floor, [channels].
struct Map {
  Numbers scale, shift, floor;
};

at::Tensor apply(const Plan& plan, const at::Tensor& x, const Map& map);

struct Sums {
  Numbers gradient, product;  // Σ g and Σ g·(x − centre); with a floor, of the g where u is above it
  Numbers all;                // Σ g of all, only with a floor
};

Sums sumsOf(const Plan& plan, const at::Tensor& gradient, const at::Tensor& x, const Numbers& centre, const Map& map);

// g·a + x·b + c; with a floor, g counts only where u is above it.
at::Tensor combine(const Plan& plan, const at::Tensor& gradient, const at::Tensor& x, const Numbers& a, const Numbers& b,
                   const Numbers& c, const Map& map);

}  // namespace kontrast::norm
