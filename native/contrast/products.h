// Products of small matrices on one thread, in row-major order.
#pragma once

#include <cstdint>

namespace kontrast::contrast {

// Held by a thread while it multiplies.
class ProductsOnThisThread {
 public:
  ProductsOnThisThread();
  ~ProductsOnThisThread();
  ProductsOnThisThread(const ProductsOnThisThread&) = delete;
  ProductsOnThisThread& operator=(const ProductsOnThisThread&) = delete;
};

// c[m][n] = a[m][k] b[k][n], added to what is there with `adds`. The strides are those between rows.
void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t aStride, const float* b, int64_t bStride, float* c,
              int64_t cStride, bool adds);
void multiply(int64_t m, int64_t n, int64_t k, const double* a, int64_t aStride, const double* b, int64_t bStride, double* c,
              int64_t cStride, bool adds);

// The same of bfloat16 on processors that multiply tiles of it (AMX), with b packed as short_products.h says.
bool hasTileProducts();
void multiplyTiles(int64_t m, int64_t n, int64_t k, const uint16_t* a, int64_t aStride, const uint16_t* b, int64_t bStride, float* c,
                   int64_t cStride, bool adds);

}  // namespace kontrast::contrast
