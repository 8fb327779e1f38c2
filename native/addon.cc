// The addon's entry: one Environment for each JavaScript environment that loads it.
#include "environment.h"
#include "errors.h"

namespace kontrast {

void define(Napi::Env env, Napi::Object exports, const char* name, Napi::Value (*entry)(const Napi::CallbackInfo&),
            Environment& environment) {
  exports.Set(name, Napi::Function::New(env, entry, name, &environment));
}

namespace {

void closeEnvironment(Napi::Env, Environment* environment) {
  c10::WarningUtils::set_warning_handler(nullptr);
  {
    const std::lock_guard<std::mutex> lock(environment->graveyard->mutex);
    environment->graveyard->closed = true;
  }
  delete environment;
}

// setHandlers(makeError, onWarning): how a failure { code, message, operator?, schemas? } becomes an error, and what is
// done with LibTorch's warnings
Napi::Value setHandlers(Environment& environment, const Napi::CallbackInfo& info) {
  environment.makeError = Napi::Persistent(info[0].As<Napi::Function>());
  environment.onWarning = Napi::Persistent(info[1].As<Napi::Function>());
  // Handlers belong to the thread, as does this environment.
  c10::WarningUtils::set_warning_handler(&environment.warnings);
  return info.Env().Undefined();
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  auto owned = std::make_unique<Environment>();
  auto& environment = *owned;
  // Index 0 stands for "no keyword" in the frame.
  environment.strings.push_back({});
  env.SetInstanceData<Environment, closeEnvironment>(owned.release());
  define(env, exports, "setHandlers", guarded<setHandlers>, environment);
  defineOperators(env, exports, environment);
  defineTensors(env, exports, environment);
  defineAutograd(env, exports, environment);
  defineDevices(env, exports, environment);
  defineRandom(env, exports, environment);
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, initialise)

}  // namespace kontrast
