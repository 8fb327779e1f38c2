// The statistics of cross-iteration batch normalisation.
#pragma once

#include <torch/library.h>

namespace kontrast::norm {

void defineCrossIteration(torch::Library& library);

}  // namespace kontrast::norm
