// CUDA C++ compiled at run time, by the NVRTC that LibTorch's CUDA build comes with.
#pragma once

#include <string>

namespace kontrast::contrast {

// The kernels' text, as kernels.cu has it.
const char* kernelSource();

// Machine code, or PTX where this NVRTC does not know the device, for compute capability major * 10 + minor. Throws c10::Error with
// what went wrong.
std::string compileKernels(const std::string& source, int capability);

}  // namespace kontrast::contrast
