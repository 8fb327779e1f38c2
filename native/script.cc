// TorchScript: modules from files, their methods run by LibTorch's interpreter, here or on a thread of libuv's pool.
#include "archive.h"
#include "environment.h"
#include "errors.h"
#include "jobs.h"
#include "script_values.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/core/function_schema.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <caffe2/serialize/file_adapter.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/jit_exception.h>
#include <torch/csrc/jit/serialization/import.h>

#include <deque>
#include <exception>
#include <mutex>
#include <sstream>
#include <unordered_set>

// The few functions needed of ATen/autocast_mode.h, which would bring all of ATen's operators into this file.
namespace at::autocast {
TORCH_API bool is_autocast_cache_enabled();
TORCH_API void set_autocast_cache_enabled(bool enabled);
}  // namespace at::autocast

namespace kontrast {

namespace {

// --- Errors ---

std::string trimmed(const std::string& text) {
  const auto* const blank = " \t\r\n";
  const auto first = text.find_first_not_of(blank);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(blank) - first + 1);
}

// Some messages hold whole types or schemas, however long these are.
std::string capped(std::string text) {
  constexpr size_t kLength = 2000;
  if (text.size() <= kLength) return text;
  return text.substr(0, kLength) + " ...";
}

// The interpreter's message holds each frame with several lines of source, as saved in the file and, where the file has
// it, as written; what went wrong comes last, after the name of a Python class. Kept are what went wrong and one line a
// frame, of the source as written.
std::string shortened(const std::string& text, std::optional<std::string> message = std::nullopt) {
  static const std::string kPreamble = "The following operation failed in the TorchScript interpreter.\n";
  static const std::string kMark = "<--- HERE";
  static const std::string kClass = "\nRuntimeError: ";
  constexpr size_t kFrames = 6;
  if (text.compare(0, kPreamble.size(), kPreamble) != 0) return capped(message.value_or(trimmed(text)));
  const auto mark = text.rfind(kMark);
  if (mark == std::string::npos) return capped(message.value_or(trimmed(text.substr(kPreamble.size()))));
  if (!message) {
    const auto last = text.find(kClass, mark);
    message = trimmed(text.substr(last == std::string::npos ? mark + kMark.size() : last + kClass.size()));
  }
  std::vector<std::string> frames;
  std::istringstream trace(text.substr(kPreamble.size(), mark + kMark.size() - kPreamble.size()));
  std::string line;
  std::string before;
  while (std::getline(trace, line)) {
    if (line.compare(0, 9, "Traceback") == 0)
      frames.clear();
    else if (line.compare(0, 7, "  File ") == 0)
      frames.push_back(line);
    else if (line.find(kMark) != std::string::npos && !frames.empty())
      frames.back() += ": " + trimmed(before);
    before = line;
  }
  std::string shorter = capped(*message) + "\nTraceback of TorchScript (most recent call last):";
  const auto left = frames.size() > kFrames ? frames.size() - kFrames : 0;
  if (left > 0) shorter += "\n  (" + std::to_string(left) + " more)";
  for (size_t i = left; i < frames.size(); i++) shorter += "\n" + frames[i];
  return shorter;
}

// What the program raised, after its class where that is known.
std::string describeRaised(const torch::jit::JITException& error) {
  static const std::string kBuiltins = "builtins.";
  auto message = error.getOriginalMsg();
  if (auto name = error.getPythonClassName(); message && name) {
    if (name->compare(0, kBuiltins.size(), kBuiltins) == 0) name->erase(0, kBuiltins.size());
    message = *name + ": " + *message;
  }
  return shortened(error.what(), std::move(message));
}

// Runs `action`, and says in whatever it throws which method or file it was.
template <typename Action>
auto explaining(const std::string& what, const char* code, Action action) {
  try {
    return action();
  } catch (const Failure& error) {
    throw Failure(error.code, what + ": " + error.what());
  } catch (const torch::jit::JITException& error) {
    throw Failure("SCRIPT_EXCEPTION", what + ": " + describeRaised(error));
  } catch (const c10::NotImplementedError& error) {
    throw Failure("NOT_IMPLEMENTED", what + ": " + shortened(error.what_without_backtrace()));
  } catch (const c10::OutOfMemoryError& error) {
    throw Failure("OUT_OF_MEMORY", what + ": " + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    throw Failure(code, what + ": " + shortened(error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    throw Failure("OUT_OF_MEMORY", what + ": out of memory");
  } catch (const std::exception& error) {
    throw Failure(code, what + ": " + shortened(error.what()));
  }
}

// --- Modules ---

struct CallJob;

struct Script {
  torch::jit::Module module;
  // A method may change the module's attributes, which LibTorch does not protect: one call at a time.
  std::mutex mutex;
  // Calls in the background that wait for their turn, so that they take no thread meanwhile. Only JavaScript's thread
  // looks at these two.
  std::deque<std::unique_ptr<CallJob>> waiting;
  bool isBusy = false;
  int64_t bytes = 0;  // as told to V8
};

}  // namespace

// Numbers are never given twice, so that a stale one is found out.
struct ScriptTable {
  std::unordered_map<int64_t, std::shared_ptr<Script>> scripts;
  int64_t next = 1;

  const std::shared_ptr<Script>& at(int64_t number) {
    const auto found = scripts.find(number);
    if (found == scripts.end()) throw Failure("DISPOSED", "this TorchScript module was disposed");
    return found->second;
  }
};

namespace {

const std::shared_ptr<Script>& scriptOf(Environment& environment, const Napi::CallbackInfo& info) {
  return environment.scripts->at(info[0].As<Napi::Number>().Int64Value());
}

// LibTorch's own message for CUDA tensors where there is no CUDA is a page on something else.
c10::Device availableDevice(const std::string& name, const char* code, const std::string& help) {
  const c10::Device device(name);
  if (!device.is_cuda()) return device;
  const auto& hooks = at::detail::getCUDAHooks();
  const int count = hooks.hasCUDA() ? c10::impl::VirtualGuardImpl(device.type()).deviceCount() : 0;
  if (count <= (device.has_index() ? device.index() : 0))
    throw Failure(code, "the device " + name + " is not available here" + help);
  return device;
}

std::optional<c10::Device> deviceOf(const Napi::Value& value) {
  if (!value.IsString()) return std::nullopt;
  return availableDevice(value.As<Napi::String>().Utf8Value(), "INVALID_ARGUMENT", "");
}

// What the module's tensors take of the CPU's memory, shared memory counted once.
int64_t bytesOf(const torch::jit::Module& module) {
  std::unordered_set<const void*> seen;
  int64_t bytes = 0;
  const auto count = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage() || !tensor.is_cpu()) return;
    if (seen.insert(tensor.storage().unsafeGetStorageImpl()).second)
      bytes += static_cast<int64_t>(tensor.storage().nbytes());
  };
  for (const auto& tensor : module.parameters()) count(tensor);
  for (const auto& tensor : module.buffers()) count(tensor);
  return bytes;
}

std::shared_ptr<Script> loadScript(const std::string& path, std::optional<c10::Device> device) {
  // Parameters of a module that is loaded inside inferenceMode() could never be trained.
  const c10::InferenceMode guard(false);
  auto script = std::make_shared<Script>();
  explaining("cannot load " + quoted(path) + " as a TorchScript module", "SCRIPT_FILE", [&] {
    try {
      const auto file = std::make_shared<caffe2::serialize::FileAdapter>(path);
      caffe2::serialize::PyTorchStreamReader reader(file);
      const auto content = checkArchive(reader);
      if (!device) {
        for (const auto& name : content.devices)
          availableDevice(name, "SCRIPT_FILE", ", and its tensors were on it; load it with { device: 'cpu' }");
      }
      script->module = torch::jit::load(file, device, content.hasSoundSources);
    } catch (const c10::Error& error) {
      // The sentences about the reader's insides and about checkpoints say nothing of this file.
      const std::string text = error.what_without_backtrace();
      throw Failure("SCRIPT_FILE", capped(trimmed(text.substr(0, text.find("This is an internal miniz error")))));
    }
  });
  script->bytes = bytesOf(script->module);
  return script;
}

void reportBytes(napi_env env, int64_t change) {
  int64_t total = 0;
  napi_adjust_external_memory(env, change, &total);
}

double keepScript(napi_env env, Environment& environment, std::shared_ptr<Script> script) {
  auto& table = *environment.scripts;
  const auto number = table.next++;
  reportBytes(env, script->bytes);
  table.scripts.emplace(number, std::move(script));
  return static_cast<double>(number);
}

torch::jit::Method methodOf(const torch::jit::Module& module, const std::string& name) {
  if (const auto method = module.find_method(name)) return *method;
  std::string known;
  for (const auto& method : module.get_methods()) known += (known.empty() ? "" : ", ") + method.name();
  throw Failure("INVALID_ARGUMENT",
                "the module has no method " + quoted(name) + "; it has " + (known.empty() ? "none" : known));
}

// A call that is ready to run. It holds the module and the arguments, whatever becomes of their handles meanwhile.
struct Call {
  std::shared_ptr<Script> script;
  std::string name;
  std::vector<c10::IValue> stack;

  c10::IValue run() {
    return explaining(name, "TORCH", [&] {
      const std::lock_guard<std::mutex> lock(script->mutex);
      auto result = script->module.get_method(name)(std::move(stack));
      if (!result.isFuture()) return result;
      const auto future = result.toFuture();
      future->waitAndThrow();
      return future->value();
    });
  }
};

Call callOf(Environment& environment, const Napi::CallbackInfo& info) {
  Call call{scriptOf(environment, info), info[1].As<Napi::String>().Utf8Value(), {}};
  // Finding the method would say the name twice.
  const auto method = methodOf(call.script->module, call.name);
  call.stack = explaining(call.name, "TORCH", [&] {
    return readScriptArguments(environment, method.function().getSchema(), info[2].As<Napi::Array>());
  });
  return call;
}

// --- In the background ---

constexpr const char* kJobName = "kontrast.script";

struct LoadJob : Job {
  LoadJob(Environment& environment, std::string path, std::optional<c10::Device> device)
      : Job(environment), path(std::move(path)), device(device) {}

  void run() override { script = loadScript(path, device); }

  napi_value result(napi_env env) override {
    napi_value number = nullptr;
    napi_create_double(env, keepScript(env, environment, std::move(script)), &number);
    return number;
  }

  std::string path;
  std::optional<c10::Device> device;
  std::shared_ptr<Script> script;
};

struct CallJob : Job {
  CallJob(Environment& environment, Call call) : Job(environment), call(std::move(call)) {}

  // With the modes and the number of threads of the caller.
  void run() override {
    const at::ThreadLocalStateGuard guard(state);
    useThreads(threads);
    // Weights that autocast casts here would stay cached for the caller's next region, and miss updates until then.
    const bool wasCaching = at::autocast::is_autocast_cache_enabled();
    at::autocast::set_autocast_cache_enabled(false);
    try {
      value = call.run();
    } catch (...) {
      at::autocast::set_autocast_cache_enabled(wasCaching);
      throw;
    }
    at::autocast::set_autocast_cache_enabled(wasCaching);
  }

  napi_value result(napi_env env) override {
    return explaining(call.name, "TORCH", [&] { return writeScriptResult(env, environment, value); });
  }

  void ended(napi_env env, bool isAlive) override {
    auto& script = *call.script;
    script.isBusy = false;
    if (!isAlive) script.waiting.clear();
    if (script.waiting.empty()) return;
    auto next = std::move(script.waiting.front());
    script.waiting.pop_front();
    script.isBusy = start(env, kJobName, std::move(next));
  }

  Call call;
  at::ThreadLocalState state;
  int threads = at::get_num_threads();
  c10::IValue value;
};

// --- The addon's functions ---

// scriptLoad(path, device | undefined) -> number
Napi::Value scriptLoad(Environment& environment, const Napi::CallbackInfo& info) {
  auto script = loadScript(info[0].As<Napi::String>().Utf8Value(), deviceOf(info[1]));
  return Napi::Number::New(info.Env(), keepScript(info.Env(), environment, std::move(script)));
}

// scriptLoadAsync(path, device | undefined) -> Promise<number>
Napi::Value scriptLoadAsync(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  auto job = std::make_unique<LoadJob>(environment, info[0].As<Napi::String>().Utf8Value(), deviceOf(info[1]));
  return startWithPromise(env, kJobName, std::move(job));
}

// scriptRun(script, method, arguments) -> result
Napi::Value scriptRun(Environment& environment, const Napi::CallbackInfo& info) {
  auto call = callOf(environment, info);
  c10::IValue value;
  runServing(environment, [&] { value = call.run(); });
  return explaining(call.name, "TORCH", [&] {
    return Napi::Value(info.Env(), writeScriptResult(info.Env(), environment, value));
  });
}

// scriptRunAsync(script, method, arguments) -> Promise<result>
Napi::Value scriptRunAsync(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  auto job = std::make_unique<CallJob>(environment, callOf(environment, info));
  auto& script = *job->call.script;
  const auto promise = promiseOf(env, *job);
  if (script.isBusy) {
    script.waiting.push_back(std::move(job));
  } else if (!start(env, kJobName, std::move(job))) {
    throw Failure("TORCH", "the work could not be started");
  } else {
    script.isBusy = true;
  }
  return Napi::Value(env, promise);
}

// scriptMethods(script) -> [name, schema, ...]
Napi::Value scriptMethods(Environment& environment, const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  uint32_t i = 0;
  for (const auto& method : scriptOf(environment, info)->module.get_methods()) {
    std::ostringstream schema;
    schema << method.function().getSchema();
    list.Set(i++, method.name());
    list.Set(i++, schema.str());
  }
  return list;
}

// scriptTensors(script, buffers) -> [name, handle, ...] of the parameters, or of the buffers
Napi::Value scriptTensors(Environment& environment, const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  uint32_t i = 0;
  const auto add = [&](const auto& named) {
    if (!named.value.defined()) return;
    list.Set(i++, named.name);
    list.Set(i++, environment.tensors.add(named.value));
  };
  const auto& script = scriptOf(environment, info);
  const std::lock_guard<std::mutex> lock(script->mutex);
  if (info[1].As<Napi::Boolean>().Value()) {
    for (const auto& named : script->module.named_buffers()) add(named);
  } else {
    for (const auto& named : script->module.named_parameters()) add(named);
  }
  return list;
}

// scriptTrain(script, on)
Napi::Value scriptTrain(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& script = scriptOf(environment, info);
  const std::lock_guard<std::mutex> lock(script->mutex);
  script->module.train(info[1].As<Napi::Boolean>().Value());
  return info.Env().Undefined();
}

// scriptTo(script, device)
Napi::Value scriptTo(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& script = scriptOf(environment, info);
  const std::lock_guard<std::mutex> lock(script->mutex);
  script->module.to(*deviceOf(info[1]));
  const auto bytes = bytesOf(script->module);
  reportBytes(info.Env(), bytes - script->bytes);
  script->bytes = bytes;
  return info.Env().Undefined();
}

// scriptRelease(script): calls in the background still end
Napi::Value scriptRelease(Environment& environment, const Napi::CallbackInfo& info) {
  auto& scripts = environment.scripts->scripts;
  const auto found = scripts.find(info[0].As<Napi::Number>().Int64Value());
  if (found != scripts.end()) {
    reportBytes(info.Env(), -found->second->bytes);
    scripts.erase(found);
  }
  return info.Env().Undefined();
}

}  // namespace

void defineScript(Napi::Env env, Napi::Object exports, Environment& environment) {
  environment.scripts = std::make_shared<ScriptTable>();
  define(env, exports, "scriptLoad", guarded<scriptLoad>, environment);
  define(env, exports, "scriptLoadAsync", guarded<scriptLoadAsync>, environment);
  define(env, exports, "scriptRun", guarded<scriptRun>, environment);
  define(env, exports, "scriptRunAsync", guarded<scriptRunAsync>, environment);
  define(env, exports, "scriptMethods", guarded<scriptMethods>, environment);
  define(env, exports, "scriptTensors", guarded<scriptTensors>, environment);
  define(env, exports, "scriptTrain", guarded<scriptTrain>, environment);
  define(env, exports, "scriptTo", guarded<scriptTo>, environment);
  define(env, exports, "scriptRelease", guarded<scriptRelease>, environment);
}

}  // namespace kontrast
