// Loops over rows of scores, compiled for several instruction sets of which the processor's best is taken when the addon
// is loaded. They are plain loops that compilers vectorise: exponential and logarithm are polynomials (Cephes' for the exponential), exact to two units in the last place, so that a loop over them has no calls in it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define KONTRAST_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KONTRAST_VECTORISED
#endif
#if defined(__GNUC__)
#define KONTRAST_INLINE __attribute__((always_inline)) inline
#else
#define KONTRAST_INLINE inline
#endif

namespace kontrast::contrast {

// Of arguments up to 88; 0 below -87, where a float would no longer be normal.
KONTRAST_INLINE float exponential(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  const float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float n = (bounded * 1.44269504088896341f + kRound) - kRound;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

KONTRAST_INLINE double exponential(double x) { return std::exp(x); }

// log(1 + x) for 0 <= x <= 1
KONTRAST_INLINE float logarithmOfOnePlus(float x) {
  // log(1 + x) = 2 artanh(x / (2 + x)), whose argument is at most 1/3.
  const float s = x / (2.0f + x);
  const float z = s * s;
  float p = 0.11615514f;
  p = p * z + 0.10848093f;
  p = p * z + 0.1429697f;
  p = p * z + 0.19999818f;
  p = p * z + 0.33333334f;
  p = p * z + 1.0f;
  return 2.0f * s * p;
}

KONTRAST_INLINE double logarithmOfOnePlus(double x) { return std::log1p(x); }

template <typename T>
KONTRAST_INLINE T softplus(T x) {
  const T magnitude = x < 0 ? -x : x;
  return (x > 0 ? x : T(0)) + logarithmOfOnePlus(exponential(-magnitude));
}

template <typename T>
KONTRAST_INLINE T sigmoid(T x) {
  const T magnitude = x < 0 ? -x : x;
  const T e = exponential(-magnitude);
  const T large = 1 / (1 + e);
  return x < 0 ? e * large : large;
}

}  // namespace kontrast::contrast
