// The statistics on CUDA by kernels of ours: after each product for a block of scores one kernel looks at it once, for all statistics,
// and, backwards, writes its slopes. For the statistics that most objectives ask for; blocks.h has all of them.
#pragma once

#include "statistics.h"

#include <optional>

namespace kontrast::contrast {

// As computeStatistics and differentiate; nothing where the problem asks for what the kernels do not have, or where kernels cannot be
// had on its device. Rows and columns are float, or both bfloat16.
std::optional<Statistics> computeStatisticsFused(const Problem& problem);
std::optional<Gradients> differentiateFused(const Problem& problem, const Statistics& statistics,
                                            const std::vector<at::Tensor>& gradients, bool needsRows, bool needsColumns,
                                            bool needsBias);

}  // namespace kontrast::contrast
