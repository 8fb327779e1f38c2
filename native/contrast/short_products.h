// Products of bfloat16 matrices, summed in float, on processors with AVX-512's instruction for it, at twice the pace of float, or
// with AMX.
//
// The right factor is packed: two neighbours of a column lie together, [k/2][n][2]. Both factors are padded with a zero where k
// is odd.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kontrast::contrast {

using Short = uint16_t;  // the upper half of a float

bool hasShortProducts();

// c[m][n] = a[m][k] b[k][n], added to what is there with `adds`; k is even, and `b` packed, of `bStride` columns.
void multiplyShort(int64_t m, int64_t n, int64_t k, const Short* a, int64_t aStride, const Short* b, int64_t bStride, float* c,
                   int64_t cStride, bool adds);

// Rounds to the nearest, and packs `rows` rows of `columns` numbers; a missing last row is zero.
void packRounded(Short* to, const float* from, int64_t rows, int64_t columns, int64_t stride);

// Rounds rows to a stride that may be longer; what is beyond them is zero.
void roundRows(Short* to, int64_t toStride, const float* from, int64_t rows, int64_t columns, int64_t stride);

}  // namespace kontrast::contrast
