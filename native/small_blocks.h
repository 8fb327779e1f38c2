// Memory for small tensors.
//
// Half of what a small operator waits for is memory: the system's allocator takes its time over aligned blocks, and over
// many that are freed at once, as a scope does. Here blocks of one size are cut from pages of their own, and each thread
// keeps those that it freed last for what it makes next.
#pragma once

#include <cstddef>

namespace kontrast::small_blocks {

// Larger ones are the system's.
constexpr size_t kLargest = 1024;

// An aligned block of at least so many bytes, at most kLargest; nullptr where the memory set aside is used up, or where
// there is none.
void* take(size_t bytes) noexcept;

// Whether a block is from here.
bool holds(const void* block) noexcept;

// The size of a block from here.
size_t sizeOf(const void* block) noexcept;

// Takes back a block from here, on any thread.
void give(void* block) noexcept;

}  // namespace kontrast::small_blocks
