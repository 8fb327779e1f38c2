#include "small_blocks.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

// Sanitizers and Windows do without: the first should see each block come and go, the second reserves memory otherwise.
#if defined(__SANITIZE_ADDRESS__) || defined(_WIN32)
#define KONTRAST_SMALL_BLOCKS 0
#else
#define KONTRAST_SMALL_BLOCKS 1
#include <sys/mman.h>
#endif

namespace kontrast::small_blocks {

#if KONTRAST_SMALL_BLOCKS

namespace {

constexpr size_t kUnit = 64;  // sizes are multiples of it, and so is every address
constexpr size_t kSizes = kLargest / kUnit;
constexpr size_t kPage = size_t{1} << 16;
constexpr size_t kPages = 4096;  // 256 MiB, of which only what is used becomes memory
// How many blocks of a size a thread keeps, and how many it passes on or takes at a time.
constexpr uint32_t kKept = 4096;
constexpr uint32_t kBatch = 1024;

struct Block {
  Block* next;
};

struct List {
  Block* first = nullptr;
  uint32_t count = 0;

  void push(Block* block) {
    block->next = first;
    first = block;
    count++;
  }
  Block* pop() {
    auto* block = first;
    first = block->next;
    count--;
    return block;
  }
};

// What all threads share. It is never destroyed: tensors are freed until the very end of a process.
struct Region {
  Region() {
    auto* memory = mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) start = reinterpret_cast<uintptr_t>(memory);
  }

  // Fills a list of which nothing is left.
  void refill(List& list, size_t size) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto& shared = lists[size];
    if (shared.first != nullptr) {
      while (list.count < kBatch && shared.first != nullptr) list.push(shared.pop());
      return;
    }
    if (start == 0 || usedPages == kPages) return;
    const auto page = usedPages++;
    sizes[page] = static_cast<uint8_t>(size);
    const auto bytes = (size + 1) * kUnit;
    const auto address = start + page * kPage;
    // The lowest first.
    for (size_t i = kPage / bytes; i > 0; i--) list.push(reinterpret_cast<Block*>(address + (i - 1) * bytes));
  }

  void pass(List& list, size_t size, uint32_t count) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (uint32_t i = 0; i < count; i++) lists[size].push(list.pop());
  }

  uintptr_t start = 0;
  // By page, the index of the size of its blocks. Written before the page's first block is given out.
  std::array<uint8_t, kPages> sizes{};
  std::mutex mutex;
  size_t usedPages = 0;
  std::array<List, kSizes> lists{};
};

Region& region() {
  static auto* made = new Region();
  return *made;
}

// A thread's own blocks. These are plain data, so that they can be used until the thread's very end.
thread_local std::array<List, kSizes> kept{};
thread_local bool hasEnded = false;

// Passes a thread's blocks on when it ends.
struct Ending {
  ~Ending() {
    hasEnded = true;
    for (size_t size = 0; size < kSizes; size++) region().pass(kept[size], size, kept[size].count);
  }
};

size_t indexOf(const void* block) {
  return region().sizes[(reinterpret_cast<uintptr_t>(block) - region().start) / kPage];
}

}  // namespace

void* take(size_t bytes) noexcept {
  const auto size = (bytes - 1) / kUnit;
  auto& list = kept[size];
  if (list.first == nullptr) {
    static thread_local Ending ending;
    static_cast<void>(ending);
    region().refill(list, size);
    if (list.first == nullptr) return nullptr;
  }
  return list.pop();
}

bool holds(const void* block) noexcept {
  const auto start = region().start;
  return start != 0 && reinterpret_cast<uintptr_t>(block) - start < kPages * kPage;
}

size_t sizeOf(const void* block) noexcept { return (indexOf(block) + 1) * kUnit; }

void give(void* block) noexcept {
  const auto size = indexOf(block);
  auto& list = kept[size];
  list.push(static_cast<Block*>(block));
  if (list.count > kKept)
    region().pass(list, size, kBatch);
  else if (hasEnded)
    region().pass(list, size, list.count);
}

#else

void* take(size_t) noexcept { return nullptr; }
bool holds(const void*) noexcept { return false; }
size_t sizeOf(const void*) noexcept { return 0; }
void give(void*) noexcept {}

#endif

}  // namespace kontrast::small_blocks
