// What one copy of kontrast in one JavaScript thread owns inside the addon.
#pragma once

#include "direct.h"
#include "javascript.h"

#include <napi.h>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace kontrast {

// The kind of an entry in the call frame. src/torch/frame.ts holds the same numbers.
enum class Kind : uint8_t {
  Undefined = 0,  // argument left out: its default is used
  Null = 1,
  Tensor = 2,
  Integer = 3,
  Number = 4,
  Boolean = 5,
  BigInteger = 6,  // value holds the bits of an int64
  String = 7,      // value is the index of an interned string
  Complex = 8,     // value is the pool offset of the real part
  Generator = 9,
  // Strings that can mean more than themselves: apart, so that calls which need different overloads differ in kind.
  TypeName = 10,
  DeviceName = 11,
  LayoutName = 12,
  MemoryFormatName = 13,
  Object = 14,  // value is an index into the table of objects
  EmptyList = 16,
  TensorList = 17,
  OptionalTensorList = 18,
  IntegerList = 19,
  NumberList = 20,
  BooleanList = 21,
  StringList = 22,
};

// Shared memory through which arguments and results cross the boundary; JavaScript sees it as typed arrays.
struct CallFrame {
  static constexpr size_t kEntries = 128;
  uint8_t* kind = nullptr;
  double* value = nullptr;
  int32_t* length = nullptr;
  int32_t* keyword = nullptr;
  double* pool = nullptr;
  size_t poolSize = 0;
  // The operator to run, how many entries it is given, whether any of them has a keyword; how many results it left.
  uint32_t* call = nullptr;
  bool hasKeywords() const { return call[2] != 0; }
  int32_t keywordOf(size_t entry) const { return hasKeywords() ? keyword[entry] : 0; }
};

// A string that JavaScript sent once, with what it can mean as an argument, worked out when first needed.
struct InternedString {
  std::string text;
  std::optional<int64_t> scalarType;
  std::optional<int64_t> layout;
  std::optional<int64_t> memoryFormat;
  std::optional<c10::Device> device;
};

// Tensors by integer handle: the slot's index in the low 32 bits, its generation above.
//
// A scope that ends gives back many small blocks at once, which malloc merges, only to cut the next ones out of the whole again. So a
// released tensor that holds next to nothing waits, outside the table, until another one is made: memory then passes from the
// one to the other, as it does where each result is freed before the next.
class TensorTable {
 public:
  double add(at::Tensor tensor);
  at::Tensor& at(double handle) {
    auto* slot = find(handle);
    if (slot == nullptr) throwDisposed();
    if (!slot->isLight) argumentsAreLight_ = false;
    return slot->tensor;
  }
  bool release(double handle, int64_t* trackedBytes);
  // As above; the tensor may wait.
  void releaseLater(double handle, int64_t* trackedBytes);
  // Frees what waits.
  void freeWaiting() noexcept;
  // Around an operator's call: tensors added before its end are its results, those looked up its arguments.
  void beginCall() { argumentsAreLight_ = true; }
  void endCall() { argumentsAreLight_ = false; }
  // Notes that V8 should know of this tensor's bytes; returns them.
  int64_t track(double handle);
  size_t live() const { return live_; }
  std::vector<double> handles() const;

 private:
  struct Slot {
    at::Tensor tensor;
    uint32_t generation = 1;
    // As it was added.
    uint32_t version = 0;
    // Whether it holds few bytes, and its graph, as it was then, only tensors that do.
    bool isLight = false;
    int64_t trackedBytes = 0;
  };
  // Takes a tensor out of the table.
  at::Tensor take(double handle, int64_t* trackedBytes, bool* mayWait);
  static bool mayWait(const Slot& slot);
  Slot* find(double handle) {
    // Neither is true of NaN.
    if (!(handle >= 0 && handle < static_cast<double>(kHandles))) return nullptr;
    const auto bits = static_cast<uint64_t>(handle);
    const auto index = static_cast<size_t>(bits & 0xffffffffu);
    if (index >= slots_.size()) return nullptr;
    auto& slot = slots_[index];
    return slot.generation == bits >> 32 && slot.tensor.defined() ? &slot : nullptr;
  }
  static double handleOf(uint32_t generation, size_t index) {
    return static_cast<double>((static_cast<uint64_t>(generation) << 32) + index);
  }
  [[noreturn]] static void throwDisposed();

  // Handles are numbers that a double holds exactly.
  static constexpr uint64_t kHandles = uint64_t{1} << 53;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<at::Tensor> waiting_;
  bool argumentsAreLight_ = false;
  size_t live_ = 0;
};

struct Overload {
  c10::OperatorHandle handle;
  const c10::FunctionSchema* schema;
};

enum class Converter : uint8_t;

// What is checked of an overload's arguments before each call; checks.h says more.
class ArgumentChecks;

struct ArgumentPlan {
  int32_t entry;  // index into the call frame, or -1 for the default
  Converter converter;
  int32_t repeat;  // how often a single number is repeated to make a list
  c10::IValue fallback;
  c10::TypePtr type;
};

// How to run an operator for calls of one signature.
struct CallPlan {
  uint64_t firstKinds = 0;  // of the first eight entries, a byte each
  std::vector<uint8_t> kinds;
  std::vector<int32_t> keywords;  // none, or one an entry
  const Overload* overload;
  std::vector<ArgumentPlan> arguments;
  const ArgumentChecks* checks = nullptr;  // null for nearly all
  std::unique_ptr<DirectCall> direct;  // nullptr for a boxed call
};

struct Operator {
  std::string name;
  std::vector<Overload> overloads;
  std::vector<std::unique_ptr<CallPlan>> plans;
};

// LibTorch's warnings, kept until the call that led to them is over: JavaScript cannot run before. LibTorch has one handler a
// thread, so all copies of kontrast there share one queue: each hands over what its own calls led to.
class WarningQueue : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override { pending.push_back(warning.msg()); }
  std::vector<std::string> pending;
};

// TorchScript modules by number; script.cc says what is in it.
struct ScriptTable;

struct Environment {
  explicit Environment(WarningQueue& queue) : warnings(queue) {}
  WarningQueue& warnings;
  CallFrame frame;
  TensorTable tensors;
  std::shared_ptr<ScriptTable> scripts;
  std::vector<InternedString> strings;
  std::vector<std::unique_ptr<Operator>> operators;
  std::unordered_map<std::string, size_t> operatorIndex;
  std::vector<std::optional<at::Generator>> generators;
  std::vector<size_t> freeGenerators;
  // Values that the frame has no entry for, by number; a number is never used twice.
  std::unordered_map<uint64_t, c10::IValue> objects;
  uint64_t lastObject = 0;
  std::vector<std::unique_ptr<c10::InferenceMode>> inferenceModes;
  torch::jit::Stack stack;
  Napi::FunctionReference makeError;
  Napi::FunctionReference onWarning;
  Napi::FunctionReference growPool;
  std::vector<Napi::Reference<Napi::ArrayBuffer>> frameBuffers;
  Napi::Reference<Napi::ArrayBuffer> poolBuffer;
  int64_t externalBytes = 0;  // change not yet told to V8
  std::shared_ptr<JavaScriptThread> thread;
  // What a function of JavaScript that C++ has called gives back.
  std::vector<at::Tensor> given;
  // Whether a backward pass may lead to functions of JavaScript.
  bool usesCallbacks = false;
  // The last member: its thread ends first, and may still use the others.
  Lane lane;
};

// Runs the body of an entry of the addon; whatever it throws becomes the JavaScript error that belongs to it.
using Body = Napi::Value (*)(Environment&, const Napi::CallbackInfo&);
void define(Napi::Env env, Napi::Object exports, const char* name, Napi::Value (*entry)(const Napi::CallbackInfo&),
            Environment& environment);

// Turns the exception being handled into the JavaScript error that belongs to it, pending in `env`. Never throws: where
// JavaScript can no longer run, because its thread is being terminated, the error is dropped.
// `tried` is the overload that was called, where one was chosen.
void raiseCurrentException(napi_env env, Environment& environment, const char* operatorName = nullptr,
                           const Overload* tried = nullptr) noexcept;

// The same as a value that is not pending, for a promise or a callback; nullptr where there can be none.
napi_value errorOf(napi_env env, Environment& environment, const std::exception_ptr& failure,
                   const char* operatorName = nullptr, const Overload* tried = nullptr) noexcept;

// Hands over the warnings that wait. May leave a JavaScript exception pending.
void emitWarnings(napi_env env, Environment& environment) noexcept;

// How an operator runs on the `count` entries of the frame.
const CallPlan& planFor(Environment& environment, Operator& op, size_t count);

// A list of handles as tensors; 0 stands for an undefined one.
std::vector<at::Tensor> tensorsOf(Environment& environment, const Napi::Value& value);

// Runs a backward pass. LibTorch works through the processor's part of a graph on the thread that asks for it, where functions of
// JavaScript can be called at once. But a device's part runs on a thread of that device, which would wait for this one for ever: where
// there are devices, the pass is run as by runServing().
void runBackward(Environment& environment, const std::function<void()>& pass);

// Runs what may call functions of JavaScript from threads of LibTorch's: on another thread, while this one serves them.
void runServing(Environment& environment, const std::function<void()>& work);

// Lets operators on this thread use as many threads as on the one that work comes from: each thread has a number of its own, on
// which the order of sums depends.
void useThreads(int threads);

std::optional<bool> optionalBoolean(const Napi::Value& value);

template <Body body>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  auto& environment = *static_cast<Environment*>(info.Data());
  try {
    const auto result = body(environment, info);
    if (!environment.warnings.pending.empty()) emitWarnings(info.Env(), environment);
    return result;
  } catch (...) {
    raiseCurrentException(info.Env(), environment);
    return {};
  }
}

// Each topic adds its functions to the addon's exports.
void defineOperators(Napi::Env env, Napi::Object exports, Environment& environment);
void defineTensors(Napi::Env env, Napi::Object exports, Environment& environment);
// Counts LibTorch's CPU memory from the first call on, in the whole process.
void countMemory();
void defineAccounting(Napi::Env env, Napi::Object exports, Environment& environment);
void defineSharing(Napi::Env env, Napi::Object exports, Environment& environment);
void defineBackground(Napi::Env env, Napi::Object exports, Environment& environment);
void defineFunctions(Napi::Env env, Napi::Object exports, Environment& environment);
void defineAutograd(Napi::Env env, Napi::Object exports, Environment& environment);
void defineDevices(Napi::Env env, Napi::Object exports, Environment& environment);
void defineObjects(Napi::Env env, Napi::Object exports, Environment& environment);
void defineMapping(Napi::Env env, Napi::Object exports, Environment& environment);
void defineMemory(Napi::Env env, Napi::Object exports, Environment& environment);
void defineStreams(Napi::Env env, Napi::Object exports, Environment& environment);
void defineGraphs(Napi::Env env, Napi::Object exports, Environment& environment);
void defineDeterminism(Napi::Env env, Napi::Object exports, Environment& environment);
void defineRandom(Napi::Env env, Napi::Object exports, Environment& environment);
void defineScript(Napi::Env env, Napi::Object exports, Environment& environment);

}  // namespace kontrast
