// Devices, threads, and what the linked LibTorch is.
#include "environment.h"
#include "errors.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

namespace kontrast {

namespace {

// CUDA's kernels are registered when libtorch_cuda is opened; before that, LibTorch has no guard for its devices.
bool hasCuda() { return at::detail::getCUDAHooks().hasCUDA(); }

// cudaDeviceCount() -> number, 0 without a driver or a device
Napi::Value cudaDeviceCount(Environment&, const Napi::CallbackInfo& info) {
  const int count = hasCuda() ? c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).deviceCount() : 0;
  return Napi::Number::New(info.Env(), count);
}

// synchronize(device): waits until the device has done all its work
Napi::Value synchronize(Environment&, const Napi::CallbackInfo& info) {
  const c10::Device device(info[0].As<Napi::String>().Utf8Value());
  if (!device.is_cpu()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    guard.synchronizeDevice(device.has_index() ? device.index() : guard.getDevice().index());
  }
  return info.Env().Undefined();
}

Napi::Value threads(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), at::get_num_threads());
}

Napi::Value setThreads(Environment&, const Napi::CallbackInfo& info) {
  const int count = info[0].As<Napi::Number>().Int32Value();
  if (count < 1) throw Failure("INVALID_ARGUMENT", "the number of threads must be at least 1, not " + std::to_string(count));
  at::set_num_threads(count);
  return info.Env().Undefined();
}

// build() -> what this LibTorch is and can do
Napi::Value build(Environment&, const Napi::CallbackInfo& info) {
  auto object = Napi::Object::New(info.Env());
  object.Set("version", TORCH_VERSION);
  object.Set("cpuCapability", at::get_cpu_capability());
  object.Set("configuration", at::show_config());
  object.Set("parallel", at::get_parallel_info());
  return object;
}

}  // namespace

void defineDevices(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "cudaDeviceCount", guarded<cudaDeviceCount>, environment);
  define(env, exports, "synchronize", guarded<synchronize>, environment);
  define(env, exports, "threads", guarded<threads>, environment);
  define(env, exports, "setThreads", guarded<setThreads>, environment);
  define(env, exports, "build", guarded<build>, environment);
}

}  // namespace kontrast
