// The fused kernels on one device, ready to be launched.
#pragma once

#include "kernels.h"

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace kontrast::contrast {

// How many scores are held at once: few enough to stay in the device's cache between the product that makes them and the kernel
// that reads them. Slopes of several such blocks, below each other, are multiplied at once.
struct BlockSizes {
  int64_t rows, columns, rowsOfSlopes;
};

class Kernels {
 public:
  // Of the program that `definitions`, the text before kernels.cu, make of it. Null where kernels cannot be had, which is a warning
  // once, or an error with KONTRAST_FUSED=require; null always with KONTRAST_FUSED=0.
  static const Kernels* find(const std::string& definitions, c10::Device device);

  virtual ~Kernels() = default;
  virtual BlockSizes sizes() const = 0;

  // On the device's current stream, with as many blocks of threads.
  void reduce(int64_t blocksAcross, int64_t blocksDown, const fused::Reduction& task) const {
    launch("kontrast_reduce", blocksAcross, blocksDown, &task);
  }
  void conclude(int64_t blocks, const fused::Conclusion& task) const { launch("kontrast_conclude", blocks, 1, &task); }
  void differentiate(int64_t blocksAcross, int64_t blocksDown, const fused::Differentiation& task) const {
    launch("kontrast_differentiate", blocksAcross, blocksDown, &task);
  }

 protected:
  virtual void launch(const char* kernel, int64_t blocksAcross, int64_t blocksDown, const void* task) const = 0;
};

}  // namespace kontrast::contrast
