// kontrast::top_scores: the keys that score highest with each query, exactly, without the matrix of scores.
#pragma once

#include <torch/library.h>

namespace kontrast::contrast {

void defineTopScores(torch::Library& library);

}  // namespace kontrast::contrast
