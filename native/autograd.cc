// What autograd offers beside operators: backward, grad, modes, autocast.
#include "environment.h"
#include "errors.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>

// The few functions needed of ATen/autocast_mode.h, which would bring all of ATen's operators into this file.
namespace at::autocast {
TORCH_API bool is_autocast_enabled(at::DeviceType device_type);
TORCH_API void set_autocast_enabled(at::DeviceType device_type, bool enabled);
TORCH_API at::ScalarType get_autocast_dtype(at::DeviceType device_type);
TORCH_API void set_autocast_dtype(at::DeviceType device_type, at::ScalarType dtype);
TORCH_API void clear_cache();
TORCH_API int increment_nesting();
TORCH_API int decrement_nesting();
}  // namespace at::autocast

namespace kontrast {

std::vector<at::Tensor> tensorsOf(Environment& environment, const Napi::Value& value) {
  std::vector<at::Tensor> tensors;
  if (!value.IsArray()) return tensors;
  const auto list = value.As<Napi::Array>();
  tensors.reserve(list.Length());
  for (uint32_t i = 0; i < list.Length(); i++) {
    const double handle = list.Get(i).As<Napi::Number>().DoubleValue();
    tensors.push_back(handle == 0 ? at::Tensor() : environment.tensors.at(handle));
  }
  return tensors;
}

std::optional<bool> optionalBoolean(const Napi::Value& value) {
  if (!value.IsBoolean()) return std::nullopt;
  return value.As<Napi::Boolean>().Value();
}

namespace {

at::Tensor& tensorOf(Environment& environment, const Napi::CallbackInfo& info, size_t index = 0) {
  return environment.tensors.at(info[index].As<Napi::Number>().DoubleValue());
}

bool booleanOf(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Boolean>().Value(); }

// backward(outputs, gradients, retainGraph | undefined, createGraph, inputs)
Napi::Value backward(Environment& environment, const Napi::CallbackInfo& info) {
  const auto outputs = tensorsOf(environment, info[0]);
  const auto gradients = tensorsOf(environment, info[1]);
  const auto retain = optionalBoolean(info[2]);
  const auto create = booleanOf(info, 3);
  const auto inputs = tensorsOf(environment, info[4]);
  runBackward(environment, [&] { torch::autograd::backward(outputs, gradients, retain, create, inputs); });
  return info.Env().Undefined();
}

// grad(outputs, inputs, gradOutputs, retainGraph | undefined, createGraph, allowUnused) -> handles, 0 for none
Napi::Value grad(Environment& environment, const Napi::CallbackInfo& info) {
  const auto outputs = tensorsOf(environment, info[0]);
  const auto inputs = tensorsOf(environment, info[1]);
  const auto gradOutputs = tensorsOf(environment, info[2]);
  const auto retain = optionalBoolean(info[3]);
  const auto create = booleanOf(info, 4);
  const auto allowUnused = booleanOf(info, 5);
  std::vector<at::Tensor> gradients;
  runBackward(environment, [&] {
    gradients = torch::autograd::grad(outputs, inputs, gradOutputs, retain, create, allowUnused);
  });
  auto list = Napi::Array::New(info.Env(), gradients.size());
  for (size_t i = 0; i < gradients.size(); i++)
    list.Set(static_cast<uint32_t>(i), gradients[i].defined() ? environment.tensors.add(gradients[i]) : 0.0);
  return list;
}

Napi::Value requiresGrad(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), tensorOf(environment, info).requires_grad());
}

Napi::Value setRequiresGrad(Environment& environment, const Napi::CallbackInfo& info) {
  tensorOf(environment, info).requires_grad_(booleanOf(info, 1));
  return info.Env().Undefined();
}

Napi::Value isLeaf(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), tensorOf(environment, info).is_leaf());
}

// gradientOf(handle) -> handle, 0 for none
Napi::Value gradientOf(Environment& environment, const Napi::CallbackInfo& info) {
  auto gradient = tensorOf(environment, info).grad();
  return Napi::Number::New(info.Env(), gradient.defined() ? environment.tensors.add(std::move(gradient)) : 0.0);
}

// setGradient(handle, gradient): 0 clears it
Napi::Value setGradient(Environment& environment, const Napi::CallbackInfo& info) {
  const double gradient = info[1].As<Napi::Number>().DoubleValue();
  auto& tensor = tensorOf(environment, info);
  if (gradient == 0) {
    tensor.mutable_grad() = at::Tensor();
    return info.Env().Undefined();
  }
  const auto& value = environment.tensors.at(gradient);
  if (!value.sizes().equals(tensor.sizes()) || value.device() != tensor.device() ||
      value.scalar_type() != tensor.scalar_type())
    throw Failure("INVALID_ARGUMENT", "a gradient needs the shape, dtype and device of its tensor");
  tensor.mutable_grad() = value;
  return info.Env().Undefined();
}

Napi::Value isGradEnabled(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), c10::GradMode::is_enabled());
}

Napi::Value setGradEnabled(Environment&, const Napi::CallbackInfo& info) {
  c10::GradMode::set_enabled(booleanOf(info, 0));
  return info.Env().Undefined();
}

Napi::Value enterInferenceMode(Environment& environment, const Napi::CallbackInfo& info) {
  environment.inferenceModes.push_back(std::make_unique<c10::InferenceMode>(true));
  return info.Env().Undefined();
}

Napi::Value leaveInferenceMode(Environment& environment, const Napi::CallbackInfo& info) {
  if (!environment.inferenceModes.empty()) environment.inferenceModes.pop_back();
  return info.Env().Undefined();
}

Napi::Value isInferenceMode(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), c10::InferenceMode::is_enabled());
}

c10::DeviceType deviceTypeOf(const Napi::CallbackInfo& info, size_t index) {
  return c10::Device(info[index].As<Napi::String>().Utf8Value()).type();
}

// autocast(device) -> [enabled, dtype]
Napi::Value autocastState(Environment&, const Napi::CallbackInfo& info) {
  const auto type = deviceTypeOf(info, 0);
  auto state = Napi::Array::New(info.Env(), 2);
  state.Set(0u, at::autocast::is_autocast_enabled(type));
  state.Set(1u, static_cast<double>(at::autocast::get_autocast_dtype(type)));
  return state;
}

// enterAutocast(device, enabled, dtype)
Napi::Value enterAutocast(Environment&, const Napi::CallbackInfo& info) {
  const auto type = deviceTypeOf(info, 0);
  at::autocast::set_autocast_enabled(type, booleanOf(info, 1));
  at::autocast::set_autocast_dtype(type, static_cast<c10::ScalarType>(info[2].As<Napi::Number>().Int32Value()));
  at::autocast::increment_nesting();
  return info.Env().Undefined();
}

// leaveAutocast(device, enabled, dtype): back to what was before
Napi::Value leaveAutocast(Environment&, const Napi::CallbackInfo& info) {
  const auto type = deviceTypeOf(info, 0);
  // Weights cast for this region must not outlive it: they would miss later updates.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type, booleanOf(info, 1));
  at::autocast::set_autocast_dtype(type, static_cast<c10::ScalarType>(info[2].As<Napi::Number>().Int32Value()));
  return info.Env().Undefined();
}

// Of passes within passes on one thread, from the sixtieth on LibTorch moves them to threads of its own.
constexpr int kMostPassesHere = 32;

// Whether a graph may have parts that are worked through on threads of a device.
bool hasDevices() {
  for (int i = 0; i < c10::COMPILE_TIME_MAX_DEVICE_TYPES; i++) {
    const auto type = static_cast<c10::DeviceType>(i);
    if (type == c10::kCPU || type == c10::kMeta || type == c10::kLazy || !c10::impl::hasDeviceGuardImpl(type)) continue;
    if (c10::impl::VirtualGuardImpl(type).deviceCount() > 0) return true;
  }
  return false;
}

}  // namespace

void runServing(Environment& environment, const std::function<void()>& work) {
  if (!environment.usesCallbacks) {
    work();
    return;
  }
  const at::ThreadLocalState state;
  const int threads = at::get_num_threads();
  environment.thread->serveWhile(environment.lane, [&] {
    const at::ThreadLocalStateGuard guard(state);
    useThreads(threads);
    const c10::WarningUtils::WarningHandlerGuard warnings(&environment.warnings);
    work();
  });
}

void runBackward(Environment& environment, const std::function<void()>& pass) {
  // Here where it can be: another thread costs more than a small pass, as the two have a team of OpenMP each, whose threads wait for work
  // by spinning. Work in the background could hold a part of the graph while it waits for this thread, so it pauses.
  if (!environment.usesCallbacks || hasDevices() || !environment.lane.pause(kMostPassesHere)) {
    runServing(environment, pass);
    return;
  }
  struct Pause {
    Lane& lane;
    ~Pause() { lane.goOn(); }
  };
  const Pause pause{environment.lane};
  pass();
}

void defineAutograd(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "backward", guarded<backward>, environment);
  define(env, exports, "grad", guarded<grad>, environment);
  define(env, exports, "requiresGrad", guarded<requiresGrad>, environment);
  define(env, exports, "setRequiresGrad", guarded<setRequiresGrad>, environment);
  define(env, exports, "isLeaf", guarded<isLeaf>, environment);
  define(env, exports, "gradientOf", guarded<gradientOf>, environment);
  define(env, exports, "setGradient", guarded<setGradient>, environment);
  define(env, exports, "isGradEnabled", guarded<isGradEnabled>, environment);
  define(env, exports, "setGradEnabled", guarded<setGradEnabled>, environment);
  define(env, exports, "enterInferenceMode", guarded<enterInferenceMode>, environment);
  define(env, exports, "leaveInferenceMode", guarded<leaveInferenceMode>, environment);
  define(env, exports, "isInferenceMode", guarded<isInferenceMode>, environment);
  define(env, exports, "autocastState", guarded<autocastState>, environment);
  define(env, exports, "enterAutocast", guarded<enterAutocast>, environment);
  define(env, exports, "leaveAutocast", guarded<leaveAutocast>, environment);
}

}  // namespace kontrast
