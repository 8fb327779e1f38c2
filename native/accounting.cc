// What tensors take: CPU memory counted where LibTorch allocates it, and the tensors that JavaScript holds.
#include "environment.h"
#include "errors.h"
#include "small_blocks.h"

#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <unordered_set>

#if defined(__APPLE__)
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

namespace kontrast {

namespace {

// LibTorch's own allocator, or a small block, counted. The size of a block is asked of where it came from when it is freed, so
// that blocks carry nothing more.
class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* base) : base_(base) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes > 0 && bytes <= small_blocks::kLargest ? small_blocks::take(bytes) : nullptr;
    if (data != nullptr) {
      count(static_cast<int64_t>(small_blocks::sizeOf(data)));
    } else {
      auto block = base_->allocate(bytes);
      data = block.get();
      if (data == nullptr) return block;
      block.release_context();
      count(systemSizeOf(data));
    }
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* target, const void* source, size_t count) const override {
    default_copy_data(target, source, count);
  }

  static inline std::atomic<int64_t> current = 0;
  static inline std::atomic<int64_t> peak = 0;
  static inline c10::DeleterFnPtr releaseBlock = nullptr;

 private:
  static void count(int64_t bytes) {
    const auto now = current.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    auto before = peak.load(std::memory_order_relaxed);
    while (now > before && !peak.compare_exchange_weak(before, now, std::memory_order_relaxed)) {
    }
  }

  static int64_t systemSizeOf(void* data) {
#if defined(__APPLE__)
    return static_cast<int64_t>(malloc_size(data));
#elif defined(_WIN32)
    return static_cast<int64_t>(_aligned_msize(data, 64, 0));
#else
    return static_cast<int64_t>(malloc_usable_size(data));
#endif
  }

  static void release(void* data) {
    if (data == nullptr) return;
    if (small_blocks::holds(data)) {
      current.fetch_sub(static_cast<int64_t>(small_blocks::sizeOf(data)), std::memory_order_relaxed);
      small_blocks::give(data);
    } else {
      current.fetch_sub(systemSizeOf(data), std::memory_order_relaxed);
      releaseBlock(data);
    }
  }

  c10::Allocator* base_;
};

// cpuMemory() -> [bytes, peak bytes] that LibTorch has allocated in this process
Napi::Value cpuMemory(Environment& environment, const Napi::CallbackInfo& info) {
  environment.tensors.freeWaiting();
  auto numbers = Napi::Array::New(info.Env(), 2);
  numbers.Set(0u, static_cast<double>(CountingAllocator::current.load()));
  numbers.Set(1u, static_cast<double>(CountingAllocator::peak.load()));
  return numbers;
}

Napi::Value resetCpuPeak(Environment& environment, const Napi::CallbackInfo& info) {
  environment.tensors.freeWaiting();
  CountingAllocator::peak = CountingAllocator::current.load();
  return info.Env().Undefined();
}

// liveHandles() -> the handles of all tensors that JavaScript holds
Napi::Value liveHandles(Environment& environment, const Napi::CallbackInfo& info) {
  const auto handles = environment.tensors.handles();
  auto list = Napi::Array::New(info.Env(), handles.size());
  for (size_t i = 0; i < handles.size(); i++) list.Set(static_cast<uint32_t>(i), handles[i]);
  return list;
}

// storageBytes(handle) -> bytes of the memory under a tensor, shared by its views; 0 where there is none to point at
Napi::Value storageBytes(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& tensor = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  return Napi::Number::New(info.Env(), tensor.has_storage() ? static_cast<double>(tensor.storage().nbytes()) : 0.0);
}

}  // namespace

void countMemory() {
  static const bool once = [] {
    auto* base = c10::GetCPUAllocator();
    CountingAllocator::releaseBlock = base->raw_deleter();
    // Another program that has put an allocator of its own in place keeps it.
    if (CountingAllocator::releaseBlock != nullptr) c10::SetCPUAllocator(new CountingAllocator(base), 1);
    return true;
  }();
  (void)once;
}

void defineAccounting(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "cpuMemory", guarded<cpuMemory>, environment);
  define(env, exports, "resetCpuPeak", guarded<resetCpuPeak>, environment);
  define(env, exports, "liveHandles", guarded<liveHandles>, environment);
  define(env, exports, "storageBytes", guarded<storageBytes>, environment);
}

}  // namespace kontrast
