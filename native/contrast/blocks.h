// The statistics by LibTorch's own operators, block by block: for devices for which there are no kernels of ours. What is a
// block here is a tile there, only larger, since each operator is a call.
#pragma once

#include "statistics.h"

namespace kontrast::contrast {

// As computeStatistics and differentiate, for tensors on any device. Rows and columns may be of a short type: products are
// then taken of it and summed in float.
Statistics computeStatisticsByBlocks(const Problem& problem);
Gradients differentiateByBlocks(const Problem& problem, const Statistics& statistics,
                                const std::vector<at::Tensor>& gradients, bool needsRows, bool needsColumns);

}  // namespace kontrast::contrast
