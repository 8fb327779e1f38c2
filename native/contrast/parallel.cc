#include "parallel.h"

#include <ATen/Parallel.h>
#include <c10/util/ParallelGuard.h>

#include <exception>
#include <mutex>

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace kontrast::contrast {

namespace {

// at::parallel_for is a template that uses whatever OpenMP its caller is compiled with; ours would be another library, with threads of
// its own. These are the entries of the one that LibTorch has opened.
struct OpenMP {
  void (*start)(void (*body)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*threadNumber)() = nullptr;

  bool isFound() const { return start != nullptr && threadNumber != nullptr; }
};

OpenMP findOpenMP() {
  OpenMP found;
#if defined(__linux__)
  found.start = reinterpret_cast<decltype(found.start)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  found.threadNumber = reinterpret_cast<decltype(found.threadNumber)>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
#endif
  return found;
}

const OpenMP& openMP() {
  static const OpenMP found = findOpenMP();
  return found;
}

struct Run {
  const std::function<void(int64_t)>& body;
  std::mutex mutex;
  std::exception_ptr failure;

  void operator()() noexcept {
    try {
      const c10::ParallelGuard guard(true);
      body(openMP().threadNumber());
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
};

}  // namespace

int64_t threadsFor(int64_t most) {
  if (most <= 1 || !openMP().isFound() || at::in_parallel_region() || c10::ParallelGuard::is_enabled()) return 1;
  return std::min<int64_t>(most, at::get_num_threads());
}

void onThreads(int64_t threads, const std::function<void(int64_t)>& body) {
  if (threads <= 1) {
    body(0);
    return;
  }
  Run run{body, {}, {}};
  openMP().start([](void* data) { (*static_cast<Run*>(data))(); }, &run, static_cast<unsigned>(threads), 0);
  if (run.failure) std::rethrow_exception(run.failure);
}

}  // namespace kontrast::contrast
