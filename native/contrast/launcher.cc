#include "launcher.h"

#include "compiler.h"

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace kontrast::contrast {

namespace {

#ifndef _WIN32

// The part of the driver's interface, cuda.h, that is used.
struct Driver {
  using Handle = void*;
  int (*getDevice)(int*, int index) = nullptr;
  int (*attribute)(int*, int which, int device) = nullptr;
  int (*retainContext)(Handle*, int device) = nullptr;
  int (*pushContext)(Handle) = nullptr;
  int (*popContext)(Handle*) = nullptr;
  int (*loadModule)(Handle*, const void* image) = nullptr;
  int (*getFunction)(Handle*, Handle module, const char* name) = nullptr;
  int (*launch)(Handle function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned sharedBytes, Handle stream,
                void** parameters, void** extra) = nullptr;
  int (*describe)(int, const char**) = nullptr;

  static const Driver& instance() {
    static const Driver driver;
    return driver;
  }

  void check(int status, const char* what) const {
    if (status == 0) return;
    const char* text = nullptr;
    if (describe(status, &text) != 0 || text == nullptr) text = "an error that it has no name for";
    TORCH_CHECK(false, "CUDA's driver cannot ", what, ": ", text);
  }

 private:
  Driver() {
    auto* library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    TORCH_CHECK(library != nullptr, "CUDA's driver, libcuda.so.1, cannot be opened");
    find(library, "cuDeviceGet", getDevice);
    find(library, "cuDeviceGetAttribute", attribute);
    find(library, "cuDevicePrimaryCtxRetain", retainContext);
    find(library, "cuCtxPushCurrent_v2", pushContext);
    find(library, "cuCtxPopCurrent_v2", popContext);
    find(library, "cuModuleLoadData", loadModule);
    find(library, "cuModuleGetFunction", getFunction);
    find(library, "cuLaunchKernel", launch);
    find(library, "cuGetErrorString", describe);
  }

  template <typename Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    TORCH_CHECK(function != nullptr, "CUDA's driver has no ", name);
  }
};

// The context that LibTorch works in on a device, made current for a while. It is never released: kernels live as long as the process.
class Current {
 public:
  explicit Current(Driver::Handle context) {
    const auto& driver = Driver::instance();
    driver.check(driver.pushContext(context), "enter the device's context");
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current() {
    Driver::Handle before = nullptr;
    Driver::instance().popContext(&before);
  }
};

class LoadedKernels : public Kernels {
 public:
  LoadedKernels(const std::string& definitions, c10::Device device) : device_(device) {
    // Numbers of CUdevice_attribute.
    constexpr int kCacheBytes = 38;
    constexpr int kCapabilityMajor = 75;
    constexpr int kCapabilityMinor = 76;
    const auto& driver = Driver::instance();
    int number = 0;
    driver.check(driver.getDevice(&number, device.index()), "find the device");
    const auto ask = [&](int which) {
      int value = 0;
      driver.check(driver.attribute(&value, which, number), "describe the device");
      return value;
    };
    const auto code = compileKernels(definitions + kernelSource(), ask(kCapabilityMajor) * 10 + ask(kCapabilityMinor));
    driver.check(driver.retainContext(&context_, number), "give the device's context");
    const Current current(context_);
    Driver::Handle module = nullptr;
    driver.check(driver.loadModule(&module, code.c_str()), "load the kernels");
    for (const auto* name : {"kontrast_reduce", "kontrast_conclude", "kontrast_differentiate"}) {
      Driver::Handle function = nullptr;
      // A program holds the kernels of one direction.
      if (driver.getFunction(&function, module, name) == 0) functions_[name] = function;
    }
    TORCH_CHECK(!functions_.empty(), "the compiled program has no kernels");
    // With half as much again of scores the cache also holds factors and slopes in passing.
    const auto cache = ask(kCacheBytes);
    const int64_t rows = cache >= (40 << 20) ? 2048 : cache >= (24 << 20) ? 1024 : 512;
    sizes_ = {rows, 4096, 4096};
  }

  BlockSizes sizes() const override { return sizes_; }

 protected:
  void launch(const char* kernel, int64_t blocksAcross, int64_t blocksDown, const void* task) const override {
    const auto& driver = Driver::instance();
    const auto function = functions_.find(kernel);
    TORCH_INTERNAL_ASSERT(function != functions_.end(), "the program has no ", kernel);
    const auto stream = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
    void* parameters[] = {const_cast<void*>(task)};
    const Current current(context_);
    driver.check(driver.launch(function->second, static_cast<unsigned>(blocksAcross), static_cast<unsigned>(blocksDown), 1,
                               fused::kThreads, 1, 1, 0, stream.native_handle(), parameters, nullptr),
                 "launch a kernel");
  }

 private:
  c10::Device device_;
  BlockSizes sizes_{};
  Driver::Handle context_ = nullptr;
  std::map<std::string, Driver::Handle, std::less<>> functions_;
};

#endif

}  // namespace

const Kernels* Kernels::find(const std::string& definitions, c10::Device device) {
#ifndef _WIN32
  const auto* setting = std::getenv("KONTRAST_FUSED");
  const std::string wanted = setting == nullptr ? "" : setting;
  if (wanted == "0") return nullptr;
  struct Entry {
    std::unique_ptr<Kernels> kernels;
    std::string failure;
  };
  // Kept for good, also where it failed: what cannot be compiled once cannot be later.
  static auto* found = new std::map<std::pair<c10::DeviceIndex, std::string>, Entry>;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [place, isNew] = found->try_emplace({device.index(), definitions});
  auto& entry = place->second;
  if (isNew) {
    try {
      entry.kernels = std::make_unique<LoadedKernels>(definitions, device);
    } catch (const c10::Error& error) {
      entry.failure = error.what_without_backtrace();
    }
  }
  if (entry.kernels == nullptr) {
    TORCH_CHECK(wanted != "require", "the fused kernels cannot be had: ", entry.failure);
    TORCH_WARN_ONCE("the fused kernels cannot be had, so statistics of scores take longer: ", entry.failure);
  }
  return entry.kernels.get();
#else
  return nullptr;
#endif
}

}  // namespace kontrast::contrast
