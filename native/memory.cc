// What CUDA's caching allocator holds.
#include "devices.h"
#include "environment.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

namespace kontrast {

namespace {

c10::Device deviceArgument(const Napi::CallbackInfo& info) {
  return cudaDeviceOf(info[0].As<Napi::String>().Utf8Value());
}

c10::DeviceAllocator& cudaAllocator() {
  // Before CUDA's first use the allocator knows of no device.
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return *c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

// cudaMemoryStats(device) -> numbers by name; bytes, unless the name says otherwise
Napi::Value cudaMemoryStats(Environment&, const Napi::CallbackInfo& info) {
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto device = deviceArgument(info);
  auto& allocator = cudaAllocator();
  const auto stats = allocator.getDeviceStats(device.index());
  const auto [free, total] = allocator.getMemoryInfo(device.index());
  auto result = Napi::Object::New(info.Env());
  const auto set = [&result](const char* name, auto value) { result.Set(name, static_cast<double>(value)); };
  set("allocatedBytes", stats.allocated_bytes[kAll].current);
  set("peakAllocatedBytes", stats.allocated_bytes[kAll].peak);
  set("reservedBytes", stats.reserved_bytes[kAll].current);
  set("peakReservedBytes", stats.reserved_bytes[kAll].peak);
  set("freeBytes", free);
  set("totalBytes", total);
  set("allocations", stats.allocation[kAll].current);
  set("retries", stats.num_alloc_retries);
  set("failures", stats.num_ooms);
  return result;
}

// emptyCudaCache(): of all devices
Napi::Value emptyCudaCache(Environment&, const Napi::CallbackInfo& info) {
  cudaDeviceOf("cuda");
  cudaAllocator().emptyCache();
  return info.Env().Undefined();
}

Napi::Value resetCudaPeakMemory(Environment&, const Napi::CallbackInfo& info) {
  const auto device = deviceArgument(info);
  cudaAllocator().resetPeakStats(device.index());
  return info.Env().Undefined();
}

}  // namespace

void defineMemory(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "cudaMemoryStats", guarded<cudaMemoryStats>, environment);
  define(env, exports, "emptyCudaCache", guarded<emptyCudaCache>, environment);
  define(env, exports, "resetCudaPeakMemory", guarded<resetCudaPeakMemory>, environment);
}

}  // namespace kontrast
