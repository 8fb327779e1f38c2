// Work on several threads at once: those of LibTorch's own team, so that no processor is asked for twice.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

namespace kontrast::contrast {

// Runs `body` on up to `most` threads at once, LibTorch's number of them at most, and on this one alone inside such a run or
// where LibTorch's team cannot be had. The first exception of any is thrown here.
void onThreads(int64_t most, const std::function<void()>& body);

// For so many multiplications a thread is worth waking.
constexpr int64_t kWorthAThread = int64_t{1} << 21;

// task(i, state) for each i below `count`, by whichever thread is free; each thread has a state of its own from make(). `work` is
// about how many multiplications all of them take.
template <typename Make, typename Task>
void forEachTask(int64_t count, int64_t work, Make make, Task task) {
  std::atomic<int64_t> next{0};
  onThreads(std::min(count, 1 + work / kWorthAThread), [&] {
    auto state = make();
    for (int64_t i = next++; i < count; i = next++) task(i, state);
  });
}

// visit(begin, end) for stretches of `step` out of `count`.
template <typename Visit>
void forEachStretch(int64_t count, int64_t step, int64_t work, Visit visit) {
  forEachTask((count + step - 1) / step, work, [] { return 0; },
              [&](int64_t i, int) { visit(i * step, std::min((i + 1) * step, count)); });
}

}  // namespace kontrast::contrast
