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
// its own. This is the entry of the one that LibTorch has opened.
using StartTeam = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

StartTeam findStartTeam() {
#if defined(__linux__)
  return reinterpret_cast<StartTeam>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
  return nullptr;
#endif
}

struct Run {
  const std::function<void()>& body;
  std::mutex mutex;
  std::exception_ptr failure;

  void operator()() noexcept {
    try {
      const c10::ParallelGuard guard(true);
      body();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
};

}  // namespace

void onThreads(int64_t most, const std::function<void()>& body) {
  static const StartTeam startTeam = findStartTeam();
  const auto threads = std::min<int64_t>(most, at::get_num_threads());
  if (threads <= 1 || startTeam == nullptr || at::in_parallel_region() || c10::ParallelGuard::is_enabled()) {
    body();
    return;
  }
  Run run{body, {}, {}};
  startTeam([](void* data) { (*static_cast<Run*>(data))(); }, &run, static_cast<unsigned>(threads), 0);
  if (run.failure) std::rethrow_exception(run.failure);
}

}  // namespace kontrast::contrast
