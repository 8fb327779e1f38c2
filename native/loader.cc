// A small addon that needs nothing of LibTorch: it opens LibTorch's libraries from wherever they were found, so that
// the main addon, which names them without a path, finds them already loaded.
#include <napi.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include <string>

namespace {

// open(path) -> undefined, or throws what the system's loader said
Napi::Value open(const Napi::CallbackInfo& info) {
  const auto path = info[0].As<Napi::String>().Utf8Value();
#ifdef _WIN32
  if (LoadLibraryExA(path.c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH) == nullptr)
    throw Napi::Error::New(info.Env(), "cannot open " + path + ": error " + std::to_string(GetLastError()));
#else
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
    throw Napi::Error::New(info.Env(), "cannot open " + path + ": " + dlerror());
#endif
  return info.Env().Undefined();
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("open", Napi::Function::New(env, open, "open"));
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, initialise)
