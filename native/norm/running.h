// How the running statistics of a norm move.
#pragma once

#include <torch/library.h>

namespace kontrast::norm {

void defineRunning(torch::Library& library);

}  // namespace kontrast::norm
