// Batch-channel normalisation in as many passes over activations as batch normalisation takes.
#pragma once

#include <torch/library.h>

namespace kontrast::norm {

void defineBatchChannel(torch::Library& library);

}  // namespace kontrast::norm
