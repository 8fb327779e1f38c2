#include "products.h"

#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <array>
#include <cmath>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace kontrast::contrast {

namespace {

// oneDNN's kernels for small blocks are twice as quick here as the matrix product of whole tensors, whose result has to go
// to memory. Not every processor and build has them, which only a try can tell.
bool hasBlockKernels() {
  static const bool found = [] {
    constexpr int64_t kSize = 16;
    std::array<float, kSize * kSize> a{}, b{}, c{};
    a.fill(1.0f);
    b.fill(2.0f);
    c.fill(1.0f);
    try {
      at::native::cpublas::brgemm(kSize, kSize, kSize, kSize, kSize, kSize, true, a.data(), b.data(), c.data(), false);
      at::native::cpublas::brgemm_release(false);
    } catch (const c10::Error&) {
      return false;
    }
    for (const float item : c) {
      if (std::abs(item - 33.0f) > 1e-3f) return false;
    }
    return true;
  }();
  return found;
}

bool hasTileInstructions() {
#if defined(__x86_64__) && defined(__GNUC__)
  constexpr unsigned kBFloat16 = 1u << 22, kTiles = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kBFloat16) != 0 && (d & kTiles) != 0;
#else
  return false;
#endif
}

template <typename T>
void multiplyTensors(int64_t m, int64_t n, int64_t k, const T* a, int64_t aStride, const T* b, int64_t bStride, T* c,
                     int64_t cStride, bool adds) {
  const c10::impl::ExcludeDispatchKeyGuard plain(c10::autograd_dispatch_keyset_with_ADInplaceOrView);
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  // from_blob takes no constant memory; neither factor is written to.
  const auto left = at::from_blob(const_cast<T*>(a), {m, k}, {aStride, 1}, options);
  const auto right = at::from_blob(const_cast<T*>(b), {k, n}, {bStride, 1}, options);
  auto product = at::from_blob(c, {m, n}, {cStride, 1}, options);
  if (adds)
    at::addmm_out(product, product, left, right);
  else
    at::mm_out(product, left, right);
}

}  // namespace

ProductsOnThisThread::ProductsOnThisThread() = default;

ProductsOnThisThread::~ProductsOnThisThread() {
  if (hasBlockKernels()) at::native::cpublas::brgemm_release(false);
  if (hasTileProducts()) at::native::cpublas::brgemm_release(true);
}

void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t aStride, const float* b, int64_t bStride, float* c,
              int64_t cStride, bool adds) {
  if (hasBlockKernels())
    at::native::cpublas::brgemm(m, n, k, aStride, bStride, cStride, adds, a, b, c, false);
  else
    multiplyTensors(m, n, k, a, aStride, b, bStride, c, cStride, adds);
}

void multiply(int64_t m, int64_t n, int64_t k, const double* a, int64_t aStride, const double* b, int64_t bStride, double* c,
              int64_t cStride, bool adds) {
  multiplyTensors(m, n, k, a, aStride, b, bStride, c, cStride, adds);
}

bool hasTileProducts() {
  static const bool found = [] {
    if (!hasTileInstructions()) return false;
    // The system may not let us have them, and not every build has the kernels.
    constexpr int64_t kRows = 3, kColumns = 5, kDepth = 6;
    std::array<uint16_t, kRows * kDepth> a{};
    std::array<uint16_t, kDepth * kColumns> b{};
    std::array<float, kRows * kColumns> c{};
    a.fill(0x3f80);  // 1
    b.fill(0x4000);  // 2
    c.fill(1.0f);
    try {
      multiplyTiles(kRows, kColumns, kDepth, a.data(), kDepth, b.data(), kColumns, c.data(), kColumns, true);
      at::native::cpublas::brgemm_release(true);
    } catch (const c10::Error&) {
      return false;
    }
    for (const float item : c) {
      if (item != 13.0f) return false;
    }
    return true;
  }();
  return found;
}

void multiplyTiles(int64_t m, int64_t n, int64_t k, const uint16_t* a, int64_t aStride, const uint16_t* b, int64_t bStride, float* c,
                   int64_t cStride, bool adds) {
  at::native::cpublas::brgemm(m, n, k, aStride, bStride, cStride, adds, reinterpret_cast<const at::BFloat16*>(a),
                              reinterpret_cast<const at::BFloat16*>(b), c, true);
}

}  // namespace kontrast::contrast
