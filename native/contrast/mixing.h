// kontrast::largest and kontrast::pair_lengths: what mixing a queue's hardest entries needs beside products.
#pragma once

#include <torch/library.h>

namespace kontrast::contrast {

void defineMixing(torch::Library& library);

}  // namespace kontrast::contrast
