// Operators and backward passes beside the event loop. They run one after another on a thread of their own, with the grad mode
// and autocast of the call.
#include "checks.h"
#include "environment.h"
#include "errors.h"
#include "values.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <torch/csrc/autograd/autograd.h>

namespace kontrast {

namespace {

struct Task {
  at::ThreadLocalState state;
  int threads = at::get_num_threads();
  std::function<void()> run;
  // On the JavaScript thread; what the callback is told.
  std::function<double(Environment&)> finish;
  std::unique_ptr<Callback> callback;
  const char* operatorName = nullptr;  // these two live as long as the environment
  const Overload* overload = nullptr;
  WarningQueue warnings;
  std::exception_ptr failure;
};

void runTask(Task& task) {
  const at::ThreadLocalStateGuard guard(task.state);
  useThreads(task.threads);
  const c10::WarningUtils::WarningHandlerGuard warnings(&task.warnings);
  try {
    task.run();
  } catch (...) {
    task.failure = std::current_exception();
  }
  task.run = nullptr;
}

// callback(error) or callback(undefined, result)
void report(napi_env env, Environment& environment, Task& task) {
  napi_value nothing = nullptr;
  napi_value result = nullptr;
  if (napi_get_undefined(env, &nothing) != napi_ok) return;
  if (!task.failure) {
    try {
      napi_create_double(env, task.finish(environment), &result);
    } catch (...) {
      task.failure = std::current_exception();
    }
  }
  auto& pending = environment.warnings.pending;
  pending.insert(pending.end(), task.warnings.pending.begin(), task.warnings.pending.end());
  emitWarnings(env, environment);
  const auto first =
      task.failure ? errorOf(env, environment, task.failure, task.operatorName, task.overload) : nothing;
  if (first == nullptr) return;
  try {
    task.callback->call(env, {first, task.failure ? nothing : result});
  } catch (...) {
    // The callback only settles a promise; where that fails, JavaScript is ending.
  }
}

void start(Environment& environment, std::shared_ptr<Task> task) {
  const auto thread = environment.thread;
  thread->hold();
  environment.lane.run([thread, task, &environment] {
    runTask(*task);
    thread->post([thread, task, &environment](napi_env env) {
      thread->letGo();
      report(env, environment, *task);
    });
  });
}

std::shared_ptr<Task> makeTask(Napi::Env env, Environment& environment, const Napi::Value& callback) {
  auto task = std::make_shared<Task>();
  task->callback = std::make_unique<Callback>(env, callback, environment.thread);
  return task;
}

// invokeAsync(operator, count, callback): converts the entries of the frame now, runs the operator later, then leaves its
// results in the frame and calls callback(error) or callback(undefined, number of results)
Napi::Value invokeAsync(Environment& environment, const Napi::CallbackInfo& info) {
  auto& op = *environment.operators.at(info[0].As<Napi::Number>().Uint32Value());
  const auto& plan = planFor(environment, op, info[1].As<Napi::Number>().Uint32Value());
  auto task = makeTask(info.Env(), environment, info[2]);
  const auto stack = std::make_shared<torch::jit::Stack>();
  for (const auto& argument : plan.arguments) stack->push_back(toIValue(environment, argument));
  const auto overload = plan.overload;
  task->run = [stack, overload, checks = plan.checks] {
    if (checks != nullptr) checks->run(*stack);
    overload->handle.callBoxed(stack.get());
  };
  task->finish = [stack, overload](Environment& environment) {
    writeResults(environment, *overload->schema, *stack);
    return static_cast<double>(stack->size());
  };
  task->operatorName = op.name.c_str();
  task->overload = overload;
  start(environment, std::move(task));
  return info.Env().Undefined();
}

// backwardAsync(outputs, gradients, retainGraph | undefined, createGraph, inputs, callback)
Napi::Value backwardAsync(Environment& environment, const Napi::CallbackInfo& info) {
  auto task = makeTask(info.Env(), environment, info[5]);
  task->run = [outputs = tensorsOf(environment, info[0]), gradients = tensorsOf(environment, info[1]),
               retain = optionalBoolean(info[2]), create = info[3].As<Napi::Boolean>().Value(),
               inputs = tensorsOf(environment, info[4])] {
    torch::autograd::backward(outputs, gradients, retain, create, inputs);
  };
  task->finish = [](Environment&) { return 0.0; };
  start(environment, std::move(task));
  return info.Env().Undefined();
}

}  // namespace

void useThreads(int threads) {
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
}

void defineBackground(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "invokeAsync", guarded<invokeAsync>, environment);
  define(env, exports, "backwardAsync", guarded<backwardAsync>, environment);
}

}  // namespace kontrast
