// Devices, threads, and what the linked LibTorch is.
#include "devices.h"

#include "environment.h"
#include "errors.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <array>

namespace kontrast {

namespace {

constexpr auto kCuda = c10::DeviceType::CUDA;

// CUDA's guard is registered when libtorch_cuda is opened.
bool isCudaLoaded() { return c10::impl::hasDeviceGuardImpl(kCuda); }

// 0 without a driver or a device
c10::DeviceIndex countCudaDevices() { return isCudaLoaded() ? c10::impl::VirtualGuardImpl(kCuda).deviceCount() : 0; }

std::string missingCudaDevice(c10::Device device) {
  const auto name = "the device '" + device.str() + "' does not exist: ";
  if (!isCudaLoaded())
    return name +
           "the LibTorch in use has no CUDA part. Set LIBTORCH to the folder of a CUDA build, such as that of a Python "
           "torch package, and do not set KONTRAST_CUDA=0";
  const int count = countCudaDevices();
  if (count == 0)
    return name +
           "LibTorch has CUDA, but sees no NVIDIA driver or no device. See whether nvidia-smi lists one, and whether "
           "CUDA_VISIBLE_DEVICES hides it";
  if (count == 1) return name + "there is 1 CUDA device, 'cuda:0'";
  return name + "there are " + std::to_string(count) + " CUDA devices, 'cuda:0' to 'cuda:" + std::to_string(count - 1) +
         "'";
}

}  // namespace

void checkDevice(c10::Device device) {
  if (!device.is_cuda()) return;
  const auto count = countCudaDevices();
  if (count == 0 || device.index() >= count) throw Failure("INVALID_ARGUMENT", missingCudaDevice(device));
}

c10::Device deviceOf(const std::string& name) {
  const c10::Device device(name);
  checkDevice(device);
  if (device.is_cpu()) return c10::Device(c10::DeviceType::CPU);
  if (!device.is_cuda() || device.has_index()) return device;
  return c10::impl::VirtualGuardImpl(kCuda).getDevice();
}

c10::Device cudaDeviceOf(const std::string& name) {
  const auto device = deviceOf(name);
  if (!device.is_cuda()) throw Failure("INVALID_ARGUMENT", "'" + name + "' is no CUDA device");
  return device;
}

namespace {

c10::Device deviceArgument(const Napi::CallbackInfo& info, size_t index) {
  return deviceOf(info[index].As<Napi::String>().Utf8Value());
}

c10::Device cudaArgument(const Napi::CallbackInfo& info, size_t index) {
  return cudaDeviceOf(info[index].As<Napi::String>().Utf8Value());
}

// cudaDeviceCount() -> number
Napi::Value cudaDeviceCount(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), countCudaDevices());
}

// resolveDevice(name) -> the same device with its index
Napi::Value resolveDevice(Environment&, const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), deviceArgument(info, 0).str());
}

// exchangeCudaDevice(device) -> index of the one that was current before
Napi::Value exchangeCudaDevice(Environment&, const Napi::CallbackInfo& info) {
  const auto device = cudaArgument(info, 0);
  const auto before = c10::impl::VirtualGuardImpl(kCuda).exchangeDevice(device);
  return Napi::Number::New(info.Env(), before.index());
}

// What CUDA's driver says of its devices. LibTorch's common interface has neither names nor capabilities; the driver's is a
// stable interface in C, and its library is there when a device is.
class Driver {
 public:
  static const Driver& instance() {
    static const Driver driver;
    return driver;
  }

  bool open(int index, int* device) const {
    return isComplete_ && initialise_(0) == 0 && get_(device, index) == 0;
  }

  std::string name(int device) const {
    std::array<char, 256> text{};
    return name_(text.data(), static_cast<int>(text.size()) - 1, device) == 0 ? text.data() : "";
  }

  int attribute(int which, int device) const {
    int value = 0;
    return attribute_(&value, which, device) == 0 ? value : 0;
  }

 private:
  Driver() {
#ifndef _WIN32
    auto* library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (library == nullptr) return;
    isComplete_ = find(library, "cuInit", initialise_) && find(library, "cuDeviceGet", get_) &&
                  find(library, "cuDeviceGetName", name_) && find(library, "cuDeviceGetAttribute", attribute_);
#endif
  }

#ifndef _WIN32
  template <typename Function>
  static bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
  }
#endif

  bool isComplete_ = false;
  int (*initialise_)(unsigned) = nullptr;
  int (*get_)(int*, int) = nullptr;
  int (*name_)(char*, int, int) = nullptr;
  int (*attribute_)(int*, int, int) = nullptr;
};

// cudaProperties(device) -> { name, capability: [major, minor], multiprocessors }, or null where the driver cannot be asked
Napi::Value cudaProperties(Environment&, const Napi::CallbackInfo& info) {
  // Numbers of the driver's interface, CUdevice_attribute.
  constexpr int kMultiprocessors = 16;
  constexpr int kCapabilityMajor = 75;
  constexpr int kCapabilityMinor = 76;
  const auto env = info.Env();
  const auto& driver = Driver::instance();
  int device = 0;
  if (!driver.open(cudaArgument(info, 0).index(), &device)) return env.Null();
  auto capability = Napi::Array::New(env, 2);
  capability.Set(0u, driver.attribute(kCapabilityMajor, device));
  capability.Set(1u, driver.attribute(kCapabilityMinor, device));
  auto properties = Napi::Object::New(env);
  properties.Set("name", driver.name(device));
  properties.Set("capability", capability);
  properties.Set("multiprocessors", driver.attribute(kMultiprocessors, device));
  return properties;
}

// synchronize(device): waits until the device has done all its work
Napi::Value synchronize(Environment&, const Napi::CallbackInfo& info) {
  const auto device = deviceArgument(info, 0);
  if (!device.is_cpu() && !device.is_meta())
    c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  return info.Env().Undefined();
}

Napi::Value threads(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), at::get_num_threads());
}

Napi::Value setThreads(Environment&, const Napi::CallbackInfo& info) {
  at::set_num_threads(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

Napi::Value interopThreads(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(at::get_num_interop_threads()));
}

Napi::Value setInteropThreads(Environment&, const Napi::CallbackInfo& info) {
  const int count = info[0].As<Napi::Number>().Int32Value();
  try {
    at::set_num_interop_threads(count);
  } catch (const c10::Error&) {
    const auto fixed = static_cast<int>(at::get_num_interop_threads());
    if (fixed != count)
      throw Failure("INVALID_ARGUMENT",
                    "the number of interop threads is " + std::to_string(fixed) +
                        " for good: it can be set once in a process, before work runs on them. Set it right after loading "
                        "kontrast, in the main thread");
  }
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
  define(env, exports, "resolveDevice", guarded<resolveDevice>, environment);
  define(env, exports, "exchangeCudaDevice", guarded<exchangeCudaDevice>, environment);
  define(env, exports, "cudaProperties", guarded<cudaProperties>, environment);
  define(env, exports, "synchronize", guarded<synchronize>, environment);
  define(env, exports, "threads", guarded<threads>, environment);
  define(env, exports, "setThreads", guarded<setThreads>, environment);
  define(env, exports, "interopThreads", guarded<interopThreads>, environment);
  define(env, exports, "setInteropThreads", guarded<setInteropThreads>, environment);
  define(env, exports, "build", guarded<build>, environment);
}

}  // namespace kontrast
