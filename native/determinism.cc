// The switches that decide between speed, precision and determinism. They belong to the process.
#include "environment.h"

#include <ATen/Context.h>

namespace kontrast {

namespace {

bool booleanOf(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Boolean>().Value(); }

// deterministic() -> [on, warnOnly]
Napi::Value deterministic(Environment&, const Napi::CallbackInfo& info) {
  const auto& context = at::globalContext();
  auto state = Napi::Array::New(info.Env(), 2);
  state.Set(0u, context.deterministicAlgorithms());
  state.Set(1u, context.deterministicAlgorithmsWarnOnly());
  return state;
}

// setDeterministic(on, warnOnly)
Napi::Value setDeterministic(Environment&, const Napi::CallbackInfo& info) {
  at::globalContext().setDeterministicAlgorithms(booleanOf(info, 0), booleanOf(info, 1));
  return info.Env().Undefined();
}

// The switches of cuDNN, by the numbers that src/torch/determinism.ts uses.
enum class Switch : int32_t { Benchmark = 0, Deterministic = 1, AllowTF32 = 2 };

Switch switchOf(const Napi::CallbackInfo& info) { return static_cast<Switch>(info[0].As<Napi::Number>().Int32Value()); }

bool isOn(Switch which) {
  const auto& context = at::globalContext();
  switch (which) {
    case Switch::Benchmark:
      return context.benchmarkCuDNN();
    case Switch::Deterministic:
      return context.deterministicCuDNN();
    default:
      return context.allowTF32CuDNN();
  }
}

// cudnnSwitch(which) -> boolean
Napi::Value cudnnSwitch(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), isOn(switchOf(info)));
}

// setCudnnSwitch(which, on)
Napi::Value setCudnnSwitch(Environment&, const Napi::CallbackInfo& info) {
  auto& context = at::globalContext();
  const bool on = booleanOf(info, 1);
  switch (switchOf(info)) {
    case Switch::Benchmark:
      context.setBenchmarkCuDNN(on);
      break;
    case Switch::Deterministic:
      context.setDeterministicCuDNN(on);
      break;
    default:
      context.setAllowTF32CuDNN(on);
  }
  return info.Env().Undefined();
}

// float32MatmulPrecision() -> 0 for highest, 1 for high, 2 for medium
Napi::Value float32MatmulPrecision(Environment&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<int>(at::globalContext().float32MatmulPrecision()));
}

// setFloat32MatmulPrecision(name)
Napi::Value setFloat32MatmulPrecision(Environment&, const Napi::CallbackInfo& info) {
  at::globalContext().setFloat32MatmulPrecision(info[0].As<Napi::String>().Utf8Value());
  return info.Env().Undefined();
}

}  // namespace

void defineDeterminism(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "deterministic", guarded<deterministic>, environment);
  define(env, exports, "setDeterministic", guarded<setDeterministic>, environment);
  define(env, exports, "cudnnSwitch", guarded<cudnnSwitch>, environment);
  define(env, exports, "setCudnnSwitch", guarded<setCudnnSwitch>, environment);
  define(env, exports, "float32MatmulPrecision", guarded<float32MatmulPrecision>, environment);
  define(env, exports, "setFloat32MatmulPrecision", guarded<setFloat32MatmulPrecision>, environment);
}

}  // namespace kontrast
