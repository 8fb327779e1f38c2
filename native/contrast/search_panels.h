// Scores of a few keys with a panel of queries that stay in registers: only those of keys that some query may want reach memory.
// For processors with AVX-512.
#pragma once

#include "short_products.h"

#include <cstdint>

namespace kontrast::contrast {

constexpr int64_t kPanelQueries = 48;
constexpr int64_t kPanelKeys = 8;

bool hasSearchPanels();

// Of up to kPanelKeys keys, [keys][depth] with `stride` from one to the next, and a panel of queries, [depth][kPanelQueries]: the
// products, times the keys' scales and plus their offsets where there are any. Gives a bit for each key of which a score is above its
// query's limit; the scores of those keys are written.
uint32_t scorePanel(int64_t keys, int64_t depth, const float* of, int64_t stride, const float* queries, const float* scales,
                    const float* offsets, const float* limits, float scores[kPanelKeys][kPanelQueries]);

// The same of numbers of bfloat16, where hasShortProducts(); the depth is even, and the panel packed, [depth/2][kPanelQueries][2].
uint32_t scorePanel(int64_t keys, int64_t depth, const Short* of, int64_t stride, const Short* queries, const float* scales,
                    const float* offsets, const float* limits, float scores[kPanelKeys][kPanelQueries]);

}  // namespace kontrast::contrast
