// Random generators: seeds and states.
#include "devices.h"
#include "environment.h"
#include "errors.h"
#include "values.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

namespace kontrast {

namespace {

uint64_t seedOf(const Napi::CallbackInfo& info, size_t index) {
  bool lossless = true;
  return info[index].As<Napi::BigInt>().Uint64Value(&lossless);
}

Napi::Value addGenerator(Environment& environment, Napi::Env env, at::Generator generator) {
  auto& generators = environment.generators;
  auto& free = environment.freeGenerators;
  if (free.empty()) {
    free.push_back(generators.size());
    generators.emplace_back();
  }
  const auto index = free.back();
  free.pop_back();
  generators[index] = std::move(generator);
  return Napi::Number::New(env, static_cast<double>(index));
}

at::Generator& generatorOf(Environment& environment, const Napi::CallbackInfo& info) {
  return generatorAt(environment, info[0].As<Napi::Number>().DoubleValue());
}

// manualSeed(seed): of every device's default generator
Napi::Value manualSeed(Environment&, const Napi::CallbackInfo& info) {
  at::manual_seed(seedOf(info, 0));
  return info.Env().Undefined();
}

// newGenerator(device) -> index
Napi::Value newGenerator(Environment& environment, const Napi::CallbackInfo& info) {
  const auto device = deviceOf(info[0].As<Napi::String>().Utf8Value());
  if (device.is_cpu()) return addGenerator(environment, info.Env(), at::detail::createCPUGenerator());
  const auto& hooks = at::globalContext().getAcceleratorHooksInterface(device.type());
  return addGenerator(environment, info.Env(), hooks.getNewGenerator(device.index()));
}

// defaultGenerator(device) -> index
Napi::Value defaultGenerator(Environment& environment, const Napi::CallbackInfo& info) {
  const auto device = deviceOf(info[0].As<Napi::String>().Utf8Value());
  return addGenerator(environment, info.Env(), at::globalContext().defaultGenerator(device));
}

Napi::Value releaseGenerator(Environment& environment, const Napi::CallbackInfo& info) {
  const auto index = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  if (index < environment.generators.size() && environment.generators[index]) {
    environment.generators[index].reset();
    environment.freeGenerators.push_back(index);
  }
  return info.Env().Undefined();
}

Napi::Value seedGenerator(Environment& environment, const Napi::CallbackInfo& info) {
  auto& generator = generatorOf(environment, info);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seedOf(info, 1));
  return info.Env().Undefined();
}

// initialSeed(index) -> bigint
Napi::Value initialSeed(Environment& environment, const Napi::CallbackInfo& info) {
  auto& generator = generatorOf(environment, info);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(generator.current_seed()));
}

// generatorState(index) -> handle of a uint8 tensor
Napi::Value generatorState(Environment& environment, const Napi::CallbackInfo& info) {
  auto& generator = generatorOf(environment, info);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return Napi::Number::New(info.Env(), environment.tensors.add(generator.get_state()));
}

Napi::Value setGeneratorState(Environment& environment, const Napi::CallbackInfo& info) {
  auto& generator = generatorOf(environment, info);
  const auto& state = environment.tensors.at(info[1].As<Napi::Number>().DoubleValue());
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
  return info.Env().Undefined();
}

}  // namespace

void defineRandom(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "manualSeed", guarded<manualSeed>, environment);
  define(env, exports, "newGenerator", guarded<newGenerator>, environment);
  define(env, exports, "defaultGenerator", guarded<defaultGenerator>, environment);
  define(env, exports, "releaseGenerator", guarded<releaseGenerator>, environment);
  define(env, exports, "seedGenerator", guarded<seedGenerator>, environment);
  define(env, exports, "initialSeed", guarded<initialSeed>, environment);
  define(env, exports, "generatorState", guarded<generatorState>, environment);
  define(env, exports, "setGeneratorState", guarded<setGeneratorState>, environment);
}

}  // namespace kontrast
