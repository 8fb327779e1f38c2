// Work on several threads at once: those of LibTorch's own team, so that no processor is asked for twice.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace kontrast::contrast {

// How many threads a run that could use `most` has: LibTorch's number of them at most, and this one alone inside such a run or where
// LibTorch's team cannot be had.
int64_t threadsFor(int64_t most);

// Runs body(its number, below `threads`) on each of so many threads at once; fewer come where the system has no more. The first
// exception of any is thrown here.
void onThreads(int64_t threads, const std::function<void(int64_t)>& body);

// For so many multiplications a thread is worth waking.
constexpr int64_t kWorthAThread = int64_t{1} << 21;

// task(i, state) for each i below `count`, by whichever thread is free; each thread has a state of its own from make(). `work` is
// about how many multiplications all of them take.
template <typename Make, typename Task>
void forEachTask(int64_t count, int64_t work, Make make, Task task) {
  std::atomic<int64_t> next{0};
  onThreads(threadsFor(std::min(count, 1 + work / kWorthAThread)), [&](int64_t) {
    auto state = make();
    for (int64_t i = next++; i < count; i = next++) task(i, state);
  });
}

// The same where memory takes longer than the work: each thread has a share of tasks that follow one another, and helps with the
// others' when its own is done. In pass after pass over the same values a thread finds what it left in its cache, and the pages of a
// new result are first touched by one thread each.
template <typename Task>
void forEachTaskOfShares(int64_t count, int64_t work, Task task) {
  const auto threads = threadsFor(std::min(count, 1 + work / kWorthAThread));
  // A line of the cache each: no thread's counting holds up another's.
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Share> shares(threads);
  for (int64_t i = 0; i < threads; i++) {
    shares[i].next = i * count / threads;
    shares[i].end = (i + 1) * count / threads;
  }
  onThreads(threads, [&](int64_t thread) {
    for (int64_t k = 0; k < threads; k++) {
      auto& share = shares[(thread + k) % threads];
      for (int64_t i = share.next++; i < share.end; i = share.next++) task(i);
    }
  });
}

// visit(begin, end) for stretches of `step` out of `count`.
template <typename Visit>
void forEachStretch(int64_t count, int64_t step, int64_t work, Visit visit) {
  forEachTask((count + step - 1) / step, work, [] { return 0; },
              [&](int64_t i, int) { visit(i * step, std::min((i + 1) * step, count)); });
}

}  // namespace kontrast::contrast
