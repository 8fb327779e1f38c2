// The operators of src/norm: what no operator of LibTorch's does in as few passes over activations.
#pragma once

namespace kontrast::norm {

void registerOperators();

}  // namespace kontrast::norm
