// Autograd written in TypeScript: functions with a backward pass of their own, and hooks on gradients.
#include "environment.h"
#include "errors.h"

#include <ATen/ThreadLocalState.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <vector>

namespace kontrast {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

napi_value numberOf(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

// New handles; 0 for what is not defined.
napi_value handlesOf(napi_env env, Environment& environment, const variable_list& tensors) {
  napi_value list = nullptr;
  napi_create_array_with_length(env, tensors.size(), &list);
  for (size_t i = 0; i < tensors.size(); i++) {
    const double handle = tensors[i].defined() ? environment.tensors.add(tensors[i]) : 0;
    napi_set_element(env, list, static_cast<uint32_t>(i), numberOf(env, handle));
  }
  return list;
}

// The functions of one use of a custom function, kept as long as its part of the graph.
struct UserFunction : torch::CustomClassHolder {
  UserFunction(Environment& environment, std::string name, std::shared_ptr<Callback> forward,
               std::shared_ptr<Callback> backward)
      : environment(environment), name(std::move(name)), forward(std::move(forward)), backward(std::move(backward)) {}
  Environment& environment;
  std::string name;
  std::shared_ptr<Callback> forward;
  std::shared_ptr<Callback> backward;
};

// What the function of JavaScript that was just called has given.
variable_list takeGiven(Environment& environment) {
  variable_list given;
  given.swap(environment.given);
  return given;
}

// What a function made may be a view of something that nobody else has: a result in another shape. Autograd forbids changing such a
// view in place, lest what it is a view of were reached around the function. Here it cannot be, so the view becomes a tensor of its own,
// on the same memory and with the same count of changes; in all lists, since what is saved may be an output.
void forgetBases(at::TensorList inputs, variable_list& outputs, const std::vector<variable_list*>& others) {
  for (size_t i = 0; i < outputs.size(); i++) {
    const auto view = outputs[i];
    if (!view.defined() || !view.is_view()) continue;
    const auto shares = [&](const at::Tensor& other) { return other.defined() && view.is_alias_of(other); };
    if (std::any_of(inputs.begin(), inputs.end(), shares)) continue;
    if (std::count_if(outputs.begin(), outputs.end(), shares) > 1) continue;
    auto& impl = *view.unsafeGetTensorImpl();
    outputs[i] = at::Tensor(impl.shallow_copy_and_detach(impl.version_counter(), /*allow_tensor_metadata_change=*/true));
    for (auto* const list : others) {
      for (auto& other : *list) {
        if (other.is_same(view)) other = outputs[i];
      }
    }
  }
}

// forward() -> { outputs, saved, dirty, constant }: lists of handles
// backward(gradients, saved), which gives the inputs' gradients, 0 for none
struct ScriptFunction : torch::autograd::Function<ScriptFunction> {
  static variable_list forward(AutogradContext* context, at::TensorList inputs,
                               const c10::intrusive_ptr<UserFunction>& user) {
    auto& environment = user->environment;
    Napi::Env env(user->forward->thread().env());
    const auto made = Napi::Value(env, user->forward->call(env, {})).As<Napi::Object>();
    const auto list = [&](const char* name) { return tensorsOf(environment, made.Get(name)); };
    auto outputs = list("outputs");
    auto saved = list("saved");
    auto constant = list("constant");
    forgetBases(inputs, outputs, {&saved, &constant});
    context->save_for_backward(std::move(saved));
    context->mark_dirty(list("dirty"));
    context->mark_non_differentiable(constant);
    context->saved_data["function"] = c10::IValue::make_capsule(user);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto user = c10::static_intrusive_pointer_cast<UserFunction>(context->saved_data["function"].toCapsule());
    auto& environment = user->environment;
    const auto saved = context->get_saved_variables();
    const at::ThreadLocalState state;
    variable_list results;
    user->backward->thread().call([&](napi_env env) {
      const at::ThreadLocalStateGuard guard(state);
      user->backward->call(env, {handlesOf(env, environment, gradients), handlesOf(env, environment, saved)});
      results = takeGiven(environment);
    });
    // The functions themselves were an argument, too.
    results.emplace_back();
    return results;
  }
};

// callFunction(name, inputs, forward, backward) -> handles of the outputs
Napi::Value callFunction(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const auto inputs = tensorsOf(environment, info[1]);
  const auto user = c10::make_intrusive<UserFunction>(
      environment, info[0].As<Napi::String>().Utf8Value(), std::make_shared<Callback>(env, info[2], environment.thread),
      std::make_shared<Callback>(env, info[3], environment.thread));
  environment.usesCallbacks = true;
  const auto outputs = ScriptFunction::apply(at::TensorList(inputs), user);
  return Napi::Value(env, handlesOf(env, environment, outputs));
}

// The name of a gradient function, as PyTorch prints it.
std::string nameOf(torch::autograd::Node& node) {
  if (auto* const ours = dynamic_cast<torch::autograd::CppNode<ScriptFunction>*>(&node)) {
    const auto function = ours->ctx_.saved_data.at("function").toCapsule();
    return c10::static_intrusive_pointer_cast<UserFunction>(function)->name + "Backward";
  }
  const auto name = node.name();
  const auto colons = name.rfind("::");
  return colons == std::string::npos ? name : name.substr(colons + 2);
}

// gradientFunction(handle) -> its name, null for a leaf
Napi::Value gradientFunction(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const auto& tensor = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  // A pointer of one kind or another, by LibTorch's release.
  std::decay_t<decltype(tensor.grad_fn())> node;
  try {
    node = tensor.grad_fn();
  } catch (const c10::Error&) {
    // A view that was made and then changed without gradients cannot tell.
    return Napi::String::New(env, "Invalid");
  }
  return node ? Napi::String::New(env, nameOf(*node)) : env.Null();
}

// Calls a hook with a gradient; gives what it returns, undefined where it returns nothing.
at::Tensor callHook(Environment& environment, const Callback& hook, const at::Tensor& gradient) {
  const at::ThreadLocalState state;
  at::Tensor result;
  hook.thread().call([&](napi_env env) {
    const at::ThreadLocalStateGuard guard(state);
    hook.call(env, {numberOf(env, environment.tensors.add(gradient))});
    const auto given = takeGiven(environment);
    if (!given.empty()) result = given.front();
  });
  return result;
}

// give(handles): what the function that C++ has called gives back
Napi::Value give(Environment& environment, const Napi::CallbackInfo& info) {
  environment.given = tensorsOf(environment, info[0]);
  return info.Env().Undefined();
}

// registerHook(handle, hook) -> number of the hook; hook(gradient) may give another gradient
Napi::Value registerHook(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& tensor = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  const auto hook = std::make_shared<Callback>(info.Env(), info[1], environment.thread);
  environment.usesCallbacks = true;
  const auto position = tensor.register_hook(
      [hook, &environment](const at::Tensor& gradient) -> at::Tensor { return callHook(environment, *hook, gradient); });
  return Napi::Number::New(info.Env(), position);
}

// removeHook(handle, number)
Napi::Value removeHook(Environment& environment, const Napi::CallbackInfo& info) {
  environment.tensors.at(info[0].As<Napi::Number>().DoubleValue()).remove_hook(info[1].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

struct AccumulationHook : torch::autograd::PostAccumulateGradHook {
  AccumulationHook(Environment& environment, std::shared_ptr<Callback> callback)
      : environment(environment), callback(std::move(callback)) {}
  void operator()(const at::Tensor& tensor) override { callHook(environment, *callback, tensor); }
  Environment& environment;
  std::shared_ptr<Callback> callback;
};

// setAccumulationHook(handle, hook | undefined): called with the leaf each time after a gradient was added to it
Napi::Value setAccumulationHook(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& tensor = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  std::unique_ptr<torch::autograd::PostAccumulateGradHook> hook;
  if (info[1].IsFunction()) {
    hook = std::make_unique<AccumulationHook>(environment,
                                              std::make_shared<Callback>(info.Env(), info[1], environment.thread));
    environment.usesCallbacks = true;
  }
  torch::autograd::impl::set_post_acc_grad_hooks(tensor, std::move(hook));
  return info.Env().Undefined();
}

}  // namespace

void defineFunctions(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "callFunction", guarded<callFunction>, environment);
  define(env, exports, "gradientFunction", guarded<gradientFunction>, environment);
  define(env, exports, "give", guarded<give>, environment);
  define(env, exports, "registerHook", guarded<registerHook>, environment);
  define(env, exports, "removeHook", guarded<removeHook>, environment);
  define(env, exports, "setAccumulationHook", guarded<setAccumulationHook>, environment);
}

}  // namespace kontrast
