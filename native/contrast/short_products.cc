#include "short_products.h"

#include "products.h"
#include "vector_math.h"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define KONTRAST_SHORT_PRODUCTS 1
#include <immintrin.h>
#else
#define KONTRAST_SHORT_PRODUCTS 0
#endif

namespace kontrast::contrast {

namespace {

KONTRAST_INLINE Short rounded(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<Short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace

KONTRAST_VECTORISED
void packRounded(Short* to, const float* from, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t i = 0; i < rows; i += 2) {
    const float* first = from + i * stride;
    Short* pairs = to + i * columns;
    if (i + 1 < rows) {
      const float* second = first + stride;
#pragma omp simd
      for (int64_t j = 0; j < columns; j++) {
        pairs[2 * j] = rounded(first[j]);
        pairs[2 * j + 1] = rounded(second[j]);
      }
    } else {
      for (int64_t j = 0; j < columns; j++) {
        pairs[2 * j] = rounded(first[j]);
        pairs[2 * j + 1] = 0;
      }
    }
  }
}

KONTRAST_VECTORISED
void roundRows(Short* to, int64_t toStride, const float* from, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t i = 0; i < rows; i++) {
    Short* row = to + i * toStride;
#pragma omp simd
    for (int64_t j = 0; j < columns; j++) row[j] = rounded(from[i * stride + j]);
    for (int64_t j = columns; j < toStride; j++) row[j] = 0;
  }
}

#if KONTRAST_SHORT_PRODUCTS

#define KONTRAST_WITH_SHORTS __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
// Sums stay in registers only where no loop over them is left.
#define KONTRAST_UNROLL _Pragma("GCC unroll 8")

namespace {

constexpr int64_t kPanelRows = 6;
constexpr int64_t kVectors = 4;
constexpr int64_t kLanes = 16;
constexpr int64_t kPanelColumns = kVectors * kLanes;

// Up to 6 rows by 64 columns of c, which stay in registers; `width` columns are there.
template <int kRows>
KONTRAST_WITH_SHORTS void panel(int64_t bStride, int64_t k, const Short* a, int64_t aStride, const Short* b, float* c,
                                int64_t cStride, int64_t width, bool adds) {
  __mmask16 masks[kVectors];
  KONTRAST_UNROLL
  for (int64_t v = 0; v < kVectors; v++) {
    const auto left = std::clamp<int64_t>(width - v * kLanes, 0, kLanes);
    masks[v] = static_cast<__mmask16>((1u << left) - 1u);
  }
  __m512 sums[kRows][kVectors];
  KONTRAST_UNROLL
  for (int i = 0; i < kRows; i++) {
    KONTRAST_UNROLL
    for (int64_t v = 0; v < kVectors; v++)
      sums[i][v] = adds ? _mm512_maskz_loadu_ps(masks[v], c + i * cStride + v * kLanes) : _mm512_setzero_ps();
  }
  for (int64_t pair = 0; pair < k / 2; pair++) {
    const Short* right = b + pair * bStride * 2;
    __m512bh vectors[kVectors];
    KONTRAST_UNROLL
    for (int64_t v = 0; v < kVectors; v++)
      vectors[v] = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi32(masks[v], right + v * kLanes * 2));
    KONTRAST_UNROLL
  for (int i = 0; i < kRows; i++) {
      int32_t both;
      std::memcpy(&both, a + i * aStride + pair * 2, sizeof both);
      const auto left = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
      KONTRAST_UNROLL
    for (int64_t v = 0; v < kVectors; v++) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], left, vectors[v]);
    }
  }
  KONTRAST_UNROLL
  for (int i = 0; i < kRows; i++) {
    KONTRAST_UNROLL
    for (int64_t v = 0; v < kVectors; v++) _mm512_mask_storeu_ps(c + i * cStride + v * kLanes, masks[v], sums[i][v]);
  }
}

using Panel = void (*)(int64_t, int64_t, const Short*, int64_t, const Short*, float*, int64_t, int64_t, bool);
constexpr Panel kPanels[] = {nullptr, panel<1>, panel<2>, panel<3>, panel<4>, panel<5>, panel<6>};

}  // namespace

bool hasShortProducts() {
  static const bool found = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl");
  return found;
}

void multiplyShort(int64_t m, int64_t n, int64_t k, const Short* a, int64_t aStride, const Short* b, int64_t bStride, float* c,
                   int64_t cStride, bool adds) {
  if (hasTileProducts()) {
    multiplyTiles(m, n, k, a, aStride, b, bStride, c, cStride, adds);
    return;
  }
  // A panel of b stays in the nearest cache while all rows pass.
  for (int64_t j = 0; j < n; j += kPanelColumns) {
    const auto width = std::min(kPanelColumns, n - j);
    for (int64_t i = 0; i < m; i += kPanelRows) {
      const auto rows = std::min(kPanelRows, m - i);
      kPanels[rows](bStride, k, a + i * aStride, aStride, b + 2 * j, c + i * cStride + j, cStride, width, adds);
    }
  }
}

#else

bool hasShortProducts() { return false; }

void multiplyShort(int64_t, int64_t, int64_t, const Short*, int64_t, const Short*, int64_t, float*, int64_t, bool) {}

#endif

}  // namespace kontrast::contrast
