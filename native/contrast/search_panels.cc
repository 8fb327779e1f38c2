#include "search_panels.h"

#include <cstring>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__)
#define KONTRAST_PANELS 1
#include <immintrin.h>
#else
#define KONTRAST_PANELS 0
#endif

namespace kontrast::contrast {

#if KONTRAST_PANELS

#define KONTRAST_WITH_FLOATS __attribute__((target("avx512f,avx512bw,avx512vl")))
#define KONTRAST_WITH_SHORTS __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
// Sums stay in registers only where no loop over them is left.
#define KONTRAST_UNROLL _Pragma("GCC unroll 8")

namespace {

constexpr int64_t kLanes = 16;
constexpr int kVectors = kPanelQueries / kLanes;

// Scales the sums of one key and compares them with the limits; stores them if any is above.
KONTRAST_WITH_FLOATS __attribute__((always_inline)) inline bool keep(__m512 (&sums)[kVectors], int key, const float* scales,
                                                                     const float* offsets, const __m512 (&limits)[kVectors],
                                                                     float* scores) {
  __mmask16 above = 0;
  KONTRAST_UNROLL
  for (int v = 0; v < kVectors; v++) {
    if (scales != nullptr) sums[v] = _mm512_mul_ps(sums[v], _mm512_set1_ps(scales[key]));
    if (offsets != nullptr) sums[v] = _mm512_add_ps(sums[v], _mm512_set1_ps(offsets[key]));
    above |= _mm512_cmp_ps_mask(sums[v], limits[v], _CMP_GT_OQ);
  }
  if (above == 0) return false;
  KONTRAST_UNROLL
  for (int v = 0; v < kVectors; v++) _mm512_storeu_ps(scores + v * kLanes, sums[v]);
  return true;
}

template <int kKeys>
KONTRAST_WITH_FLOATS uint32_t panelOf(int64_t depth, const float* of, int64_t stride, const float* queries, const float* scales,
                                      const float* offsets, const float* limits, float scores[kPanelKeys][kPanelQueries]) {
  __m512 sums[kKeys][kVectors];
  KONTRAST_UNROLL
  for (int i = 0; i < kKeys; i++) {
    KONTRAST_UNROLL
    for (int v = 0; v < kVectors; v++) sums[i][v] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < depth; d++) {
    __m512 right[kVectors];
    KONTRAST_UNROLL
    for (int v = 0; v < kVectors; v++) right[v] = _mm512_loadu_ps(queries + d * kPanelQueries + v * kLanes);
    KONTRAST_UNROLL
    for (int i = 0; i < kKeys; i++) {
      const __m512 left = _mm512_set1_ps(of[i * stride + d]);
      KONTRAST_UNROLL
      for (int v = 0; v < kVectors; v++) sums[i][v] = _mm512_fmadd_ps(left, right[v], sums[i][v]);
    }
  }
  __m512 most[kVectors];
  KONTRAST_UNROLL
  for (int v = 0; v < kVectors; v++) most[v] = _mm512_loadu_ps(limits + v * kLanes);
  uint32_t kept = 0;
  KONTRAST_UNROLL
  for (int i = 0; i < kKeys; i++) kept |= keep(sums[i], i, scales, offsets, most, scores[i]) ? 1u << i : 0u;
  return kept;
}

template <int kKeys>
KONTRAST_WITH_SHORTS uint32_t panelOf(int64_t depth, const Short* of, int64_t stride, const Short* queries, const float* scales,
                                      const float* offsets, const float* limits, float scores[kPanelKeys][kPanelQueries]) {
  __m512 sums[kKeys][kVectors];
  KONTRAST_UNROLL
  for (int i = 0; i < kKeys; i++) {
    KONTRAST_UNROLL
    for (int v = 0; v < kVectors; v++) sums[i][v] = _mm512_setzero_ps();
  }
  for (int64_t pair = 0; pair < depth / 2; pair++) {
    __m512bh right[kVectors];
    KONTRAST_UNROLL
    for (int v = 0; v < kVectors; v++)
      right[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(queries + (pair * kPanelQueries + v * kLanes) * 2));
    KONTRAST_UNROLL
    for (int i = 0; i < kKeys; i++) {
      int32_t both;
      std::memcpy(&both, of + i * stride + pair * 2, sizeof both);
      const auto left = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
      KONTRAST_UNROLL
      for (int v = 0; v < kVectors; v++) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], left, right[v]);
    }
  }
  __m512 most[kVectors];
  KONTRAST_UNROLL
  for (int v = 0; v < kVectors; v++) most[v] = _mm512_loadu_ps(limits + v * kLanes);
  uint32_t kept = 0;
  KONTRAST_UNROLL
  for (int i = 0; i < kKeys; i++) kept |= keep(sums[i], i, scales, offsets, most, scores[i]) ? 1u << i : 0u;
  return kept;
}

template <typename N>
using Panel = uint32_t (*)(int64_t, const N*, int64_t, const N*, const float*, const float*, const float*,
                           float (*)[kPanelQueries]);

template <typename N, int... kKeys>
Panel<N> panelFor(int64_t keys, std::integer_sequence<int, kKeys...>) {
  static constexpr Panel<N> panels[] = {panelOf<kKeys + 1>...};
  return panels[keys - 1];
}

}  // namespace

bool hasSearchPanels() {
  static const bool found =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return found;
}

uint32_t scorePanel(int64_t keys, int64_t depth, const float* of, int64_t stride, const float* queries, const float* scales,
                    const float* offsets, const float* limits, float scores[kPanelKeys][kPanelQueries]) {
  return panelFor<float>(keys, std::make_integer_sequence<int, kPanelKeys>())(depth, of, stride, queries, scales, offsets, limits,
                                                                             scores);
}

uint32_t scorePanel(int64_t keys, int64_t depth, const Short* of, int64_t stride, const Short* queries, const float* scales,
                    const float* offsets, const float* limits, float scores[kPanelKeys][kPanelQueries]) {
  return panelFor<Short>(keys, std::make_integer_sequence<int, kPanelKeys>())(depth, of, stride, queries, scales, offsets, limits,
                                                                             scores);
}

#else

bool hasSearchPanels() { return false; }

uint32_t scorePanel(int64_t, int64_t, const float*, int64_t, const float*, const float*, const float*, const float*,
                    float (*)[kPanelQueries]) {
  return 0;
}

uint32_t scorePanel(int64_t, int64_t, const Short*, int64_t, const Short*, const float*, const float*, const float*,
                    float (*)[kPanelQueries]) {
  return 0;
}

#endif

}  // namespace kontrast::contrast
