// Devices by name, checked against what there is.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace kontrast {

// Raises a Failure that tells what there is if this is a CUDA device that does not exist.
void checkDevice(c10::Device device);

// The device of this name, checked. A CUDA device without an index becomes the current one; the CPU has no index.
c10::Device deviceOf(const std::string& name);

// As deviceOf, for what only CUDA has.
c10::Device cudaDeviceOf(const std::string& name);

}  // namespace kontrast
