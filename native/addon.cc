// The addon's entry.
#include "contrast/operator.h"
#include "environment.h"
#include "errors.h"
#include "norm/operators.h"

namespace kontrast {

void define(Napi::Env env, Napi::Object exports, const char* name, Napi::Value (*entry)(const Napi::CallbackInfo&),
            Environment& environment) {
  exports.Set(name, Napi::Function::New(env, entry, name, &environment));
}

namespace {

// All that one JavaScript thread holds. A thread may run several copies of kontrast (its sources beside its compiled form,
// two versions in one tree); each makes an environment of its own, so that none disturbs another's tensors.
struct Instances {
  WarningQueue warnings;
  std::vector<std::unique_ptr<Environment>> environments;
};

void closeInstances(Napi::Env, Instances* instances) {
  c10::WarningUtils::set_warning_handler(nullptr);
  // First nobody waits for JavaScript any longer, then the threads that did so end.
  for (const auto& environment : instances->environments) environment->thread->close();
  delete instances;
}

// instantiate(makeError, onWarning) -> the addon's functions, for one copy of kontrast: how a failure
// { code, message, operator?, schemas? } becomes an error, and what is done with LibTorch's warnings
Napi::Value instantiate(const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  auto& instances = *env.GetInstanceData<Instances>();
  auto owned = std::make_unique<Environment>(instances.warnings);
  auto& environment = *owned;
  environment.thread = std::make_shared<JavaScriptThread>(env);
  // Index 0 stands for "no keyword" in the frame.
  environment.strings.push_back({});
  environment.makeError = Napi::Persistent(info[0].As<Napi::Function>());
  environment.onWarning = Napi::Persistent(info[1].As<Napi::Function>());
  instances.environments.push_back(std::move(owned));
  auto functions = Napi::Object::New(env);
  defineOperators(env, functions, environment);
  defineTensors(env, functions, environment);
  defineAutograd(env, functions, environment);
  defineAccounting(env, functions, environment);
  defineSharing(env, functions, environment);
  defineBackground(env, functions, environment);
  defineFunctions(env, functions, environment);
  defineDevices(env, functions, environment);
  defineObjects(env, functions, environment);
  defineMapping(env, functions, environment);
  defineMemory(env, functions, environment);
  defineStreams(env, functions, environment);
  defineGraphs(env, functions, environment);
  defineDeterminism(env, functions, environment);
  defineRandom(env, functions, environment);
  defineScript(env, functions, environment);
  c10::WarningUtils::set_warning_handler(&instances.warnings);
  return functions;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  countMemory();
  contrast::registerOperators();
  norm::registerOperators();
  env.SetInstanceData<Instances, closeInstances>(std::make_unique<Instances>().release());
  exports.Set("instantiate", Napi::Function::New(env, instantiate, "instantiate"));
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, initialise)

}  // namespace kontrast
