// CUDA graphs: capture and replay.
//
// LibTorch's interface for every kind of device, at::accelerator::Graph, has no CUDA behind it (2.11 to 2.14). So its class
// for CUDA is called, at::cuda::CUDAGraph, by the symbols that libtorch_cuda exports: they are looked up when a graph is
// first made, since the addon is not linked to that library.
#include "devices.h"
#include "environment.h"
#include "errors.h"

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/version.h>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <cstddef>
#include <memory>
#include <string>

namespace kontrast {

namespace {

// The members of at::cuda::CUDAGraph. A member function is a function whose first argument is the object (Itanium C++ ABI,
// which every compiler on Linux follows).
struct GraphFunctions {
  void (*construct)(void*, bool keepGraph) = nullptr;
  void (*destroy)(void*) = nullptr;
  void (*captureBegin)(void*, c10::MempoolId_t, int mode) = nullptr;
  void (*captureEnd)(void*) = nullptr;
  void (*replay)(void*) = nullptr;
  void (*reset)(void*) = nullptr;
  c10::MempoolId_t (*pool)(void*) = nullptr;

  static const GraphFunctions& instance() {
    static const GraphFunctions functions;
    return functions;
  }

 private:
  GraphFunctions() {
    find("_ZN2at4cuda9CUDAGraphC1Eb", construct);
    find("_ZN2at4cuda9CUDAGraphD1Ev", destroy);
    find("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode", captureBegin);
    find("_ZN2at4cuda9CUDAGraph11capture_endEv", captureEnd);
    find("_ZN2at4cuda9CUDAGraph6replayEv", replay);
    find("_ZN2at4cuda9CUDAGraph5resetEv", reset);
    find("_ZN2at4cuda9CUDAGraph4poolEv", pool);
  }

  template <typename Function>
  static void find(const char* symbol, Function& function) {
#ifndef _WIN32
    function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, symbol));
#endif
    if (function == nullptr)
      throw Failure("NOT_IMPLEMENTED", "CUDA graphs cannot be had from LibTorch " TORCH_VERSION
                                       " here: its CUDA part does not export " +
                                           std::string(symbol) + ". Run the step without a graph");
  }
};

class Graph {
 public:
  Graph() : functions_(GraphFunctions::instance()), object_(std::make_unique<Object>()) {
    functions_.construct(object_.get(), false);
  }

  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  ~Graph() {
    if (object_ == nullptr) return;
    // An exception must not leave the destructor of LibTorch's class, which resets as well.
    if (tryTo(functions_.reset)) functions_.destroy(object_.get());
    else object_.release();
  }

  void begin(c10::MempoolId_t pool) {
    // cudaStreamCaptureModeThreadLocal: what other threads do, such as waiting for an event, does not end the capture.
    constexpr int kThreadLocal = 1;
    try {
      functions_.captureBegin(object(), pool, kThreadLocal);
    } catch (...) {
      abandon();
      throw;
    }
  }

  void end() {
    try {
      functions_.captureEnd(object());
    } catch (...) {
      abandon();
      throw;
    }
  }

  void replay() { functions_.replay(object()); }

  void reset() {
    if (object_ != nullptr) functions_.reset(object());
  }

  c10::MempoolId_t pool() { return functions_.pool(object()); }

 private:
  // Room for LibTorch's object. Its size is not known here: 104 bytes in 2.11, 344 in 2.13, 448 in 2.14.
  struct alignas(64) Object {
    std::byte bytes[4096];
  };

  void* object() {
    if (object_ == nullptr) throw Failure("INVALID_ARGUMENT", "this graph was disposed of, or was never captured");
    return object_.get();
  }

  bool tryTo(void (*function)(void*)) noexcept {
    try {
      function(object_.get());
      return true;
    } catch (...) {
      return false;
    }
  }

  // After a failure LibTorch's allocator keeps a function that holds the object's address, so its memory must stay.
  void abandon() noexcept {
    tryTo(functions_.reset);
    object_.release();
  }

  const GraphFunctions& functions_;
  std::unique_ptr<Object> object_;
};

// Before 2.13 a failed capture leaves the random generator as if the capture went on, and the next random number outside of
// a graph is an error. A capture that succeeds, of nothing, puts that right.
void releaseGenerator(Environment& environment) noexcept {
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 13
  const auto warnings = environment.warnings.pending.size();
  try {
    Graph nothing;
    nothing.begin({0, 0});
    nothing.end();
  } catch (...) {
    // The device is past help; the first error says why.
  }
  // LibTorch warns that the graph is empty.
  environment.warnings.pending.resize(warnings);
#endif
}

using GraphReference = Napi::External<Graph>;

Graph& graphArgument(const Napi::CallbackInfo& info, size_t index) {
  return *info[index].As<GraphReference>().Data();
}

// beginCapture(sharing) -> graph, which captures the current stream's work from now on; its memory comes from the pool of
// another graph, or, where that is null, from one of its own
Napi::Value beginCapture(Environment& environment, const Napi::CallbackInfo& info) {
  cudaDeviceOf("cuda");
  const auto pool = info[0].IsNull() ? c10::MempoolId_t{0, 0} : graphArgument(info, 0).pool();
  auto graph = std::make_unique<Graph>();
  try {
    graph->begin(pool);
  } catch (...) {
    releaseGenerator(environment);
    throw;
  }
  auto external = GraphReference::New(info.Env(), graph.get(), [](Napi::Env, Graph* data) { delete data; });
  graph.release();
  return external;
}

// endCapture(graph)
Napi::Value endCapture(Environment& environment, const Napi::CallbackInfo& info) {
  try {
    graphArgument(info, 0).end();
  } catch (...) {
    releaseGenerator(environment);
    throw;
  }
  return info.Env().Undefined();
}

Napi::Value replayGraph(Environment&, const Napi::CallbackInfo& info) {
  graphArgument(info, 0).replay();
  return info.Env().Undefined();
}

// resetGraph(graph): gives its memory back
Napi::Value resetGraph(Environment&, const Napi::CallbackInfo& info) {
  graphArgument(info, 0).reset();
  return info.Env().Undefined();
}

}  // namespace

void defineGraphs(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "beginCapture", guarded<beginCapture>, environment);
  define(env, exports, "endCapture", guarded<endCapture>, environment);
  define(env, exports, "replayGraph", guarded<replayGraph>, environment);
  define(env, exports, "resetGraph", guarded<resetGraph>, environment);
}

}  // namespace kontrast
