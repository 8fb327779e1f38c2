#include "compiler.h"

#include "kernels_text.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

namespace kontrast::contrast {

const char* kernelSource() { return kKernels; }

namespace {

#ifndef _WIN32

// A folder's part of a path, with the slash.
std::string folderOf(const std::string& path) { return path.substr(0, path.find_last_of('/') + 1); }

// NVRTC opens its library of built-in functions by name alone, which is found where it is open already: outside of Python nobody
// has opened it.
void openBuiltins(void* nvrtc) {
  Dl_info own{};
  if (dladdr(dlsym(nvrtc, "nvrtcCompileProgram"), &own) == 0 || own.dli_fname == nullptr) return;
  const auto folder = folderOf(own.dli_fname);
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder.empty() ? "." : folder, failure)) {
    const auto name = entry.path().filename().string();
    if (name.rfind("libnvrtc-builtins", 0) == 0 && name.find(".alt.") == std::string::npos)
      dlopen(entry.path().c_str(), RTLD_LAZY | RTLD_LOCAL);
  }
}

// LibTorch's own library for compiling kernels depends on NVRTC, whatever its file is called, and knows where it lies.
void* openNvrtc() {
  std::vector<std::string> names;
  if (const auto* chosen = std::getenv("KONTRAST_NVRTC")) names.emplace_back(chosen);
  Dl_info libtorch{};
  if (dladdr(reinterpret_cast<void*>(&at::get_num_threads), &libtorch) != 0 && libtorch.dli_fname != nullptr)
    names.push_back(folderOf(libtorch.dli_fname) + "libcaffe2_nvrtc.so");
  for (const auto* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) names.emplace_back(name);
  for (const auto& name : names) {
    auto* library = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (library == nullptr) continue;
    if (dlsym(library, "nvrtcCompileProgram") != nullptr) {
      openBuiltins(library);
      return library;
    }
    dlclose(library);
  }
  return nullptr;
}

// The part of nvrtc.h that is used; it is the same in CUDA 12 and 13.
struct Nvrtc {
  using Program = void*;
  int (*create)(Program*, const char* source, const char* name, int headers, const char* const*, const char* const*) = nullptr;
  int (*destroy)(Program*) = nullptr;
  int (*compile)(Program, int options, const char* const*) = nullptr;
  int (*logSize)(Program, size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  int (*binarySize)(Program, size_t*) = nullptr;
  int (*binary)(Program, char*) = nullptr;
  int (*ptxSize)(Program, size_t*) = nullptr;
  int (*ptx)(Program, char*) = nullptr;
  int (*architectureCount)(int*) = nullptr;
  int (*architectures)(int*) = nullptr;
  const char* (*describe)(int) = nullptr;

  static const Nvrtc& instance() {
    static const Nvrtc nvrtc;
    return nvrtc;
  }

  void check(int status, const char* what) const {
    TORCH_CHECK(status == 0, "NVRTC cannot ", what, ": ", describe(status));
  }

 private:
  Nvrtc() {
    auto* library = openNvrtc();
    TORCH_CHECK(library != nullptr, "there is no NVRTC: neither libcaffe2_nvrtc.so beside LibTorch nor libnvrtc.so can be opened");
    find(library, "nvrtcCreateProgram", create);
    find(library, "nvrtcDestroyProgram", destroy);
    find(library, "nvrtcCompileProgram", compile);
    find(library, "nvrtcGetProgramLogSize", logSize);
    find(library, "nvrtcGetProgramLog", log);
    find(library, "nvrtcGetCUBINSize", binarySize);
    find(library, "nvrtcGetCUBIN", binary);
    find(library, "nvrtcGetPTXSize", ptxSize);
    find(library, "nvrtcGetPTX", ptx);
    find(library, "nvrtcGetNumSupportedArchs", architectureCount);
    find(library, "nvrtcGetSupportedArchs", architectures);
    find(library, "nvrtcGetErrorString", describe);
  }

  template <typename Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    TORCH_CHECK(function != nullptr, "this NVRTC has no ", name);
  }
};

class Program {
 public:
  Program(const Nvrtc& nvrtc, const std::string& source) : nvrtc_(nvrtc) {
    nvrtc_.check(nvrtc_.create(&program_, source.c_str(), "kernels.cu", 0, nullptr, nullptr), "take the kernels");
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { nvrtc_.destroy(&program_); }

  void compile(const std::string& architecture) {
    const auto option = "--gpu-architecture=" + architecture;
    // Floats too small to be normal are 0, which makes an exponential one instruction.
    const char* options[] = {option.c_str(), "--std=c++17", "--device-as-default-execution-space", "--ftz=true"};
    const auto status = nvrtc_.compile(program_, 4, options);
    if (status == 0) return;
    const auto log = text(nvrtc_.logSize, nvrtc_.log);
    TORCH_CHECK(false, "NVRTC cannot compile the kernels for ", architecture, ": ", nvrtc_.describe(status), "\n", log);
  }

  std::string result(bool isBinary) const {
    return isBinary ? text(nvrtc_.binarySize, nvrtc_.binary) : text(nvrtc_.ptxSize, nvrtc_.ptx);
  }

 private:
  std::string text(int (*sizeOf)(Nvrtc::Program, size_t*), int (*get)(Nvrtc::Program, char*)) const {
    size_t size = 0;
    nvrtc_.check(sizeOf(program_, &size), "say how long its result is");
    std::string result(size, '\0');
    nvrtc_.check(get(program_, result.data()), "give its result");
    return result;
  }

  const Nvrtc& nvrtc_;
  Nvrtc::Program program_ = nullptr;
};

#endif

}  // namespace

std::string compileKernels(const std::string& source, int capability) {
#ifndef _WIN32
  const auto& nvrtc = Nvrtc::instance();
  int count = 0;
  nvrtc.check(nvrtc.architectureCount(&count), "say which devices it knows");
  std::vector<int> known(static_cast<size_t>(count));
  nvrtc.check(nvrtc.architectures(known.data()), "say which devices it knows");
  std::sort(known.begin(), known.end());
  const bool isKnown = std::binary_search(known.begin(), known.end(), capability);
  // The driver compiles for what is newer than NVRTC.
  const auto least = std::upper_bound(known.begin(), known.end(), capability);
  TORCH_CHECK(isKnown || least != known.begin(), "this NVRTC no longer compiles for devices as old as this one");
  Program program(nvrtc, source);
  program.compile(isKnown ? "sm_" + std::to_string(capability) : "compute_" + std::to_string(*(least - 1)));
  return program.result(isKnown);
#else
  TORCH_CHECK(false, "kernels are not compiled on Windows");
#endif
}

}  // namespace kontrast::contrast
