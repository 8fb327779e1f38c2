// Statistics of a batch whose parts lie in several processes.
#pragma once

#include <torch/library.h>

namespace kontrast::norm {

void defineSynchronized(torch::Library& library);

}  // namespace kontrast::norm
