// Normalisation of groups of samples by statistics of which the batch makes up a part, with gradients.
#pragma once

#include <torch/library.h>

namespace kontrast::norm {

void defineNormalization(torch::Library& library);

}  // namespace kontrast::norm
