// Work on a thread of libuv's pool, whose end settles a promise.
#pragma once

#include "environment.h"

#include <exception>
#include <memory>

namespace kontrast {

struct Job {
  explicit Job(Environment& environment) : environment(environment), thread(environment.thread) {}
  virtual ~Job() = default;
  // On the other thread.
  virtual void run() = 0;
  // Back on JavaScript's, when nothing was thrown: what the promise is resolved with.
  virtual napi_value result(napi_env env) = 0;
  // After the promise is settled; it could not be where JavaScript runs no more.
  virtual void ended(napi_env, bool /*isAlive*/) {}

  Environment& environment;
  std::shared_ptr<JavaScriptThread> thread;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
  WarningQueue warnings;
  std::exception_ptr failure;
};

// The promise of a job's result; throws a Failure where there can be none.
napi_value promiseOf(napi_env env, Job& job);

// Hands a job that has its promise to the pool; `name` is what Node's tools call it. False where that fails.
bool start(napi_env env, const char* name, std::unique_ptr<Job> job);

// Both at once.
Napi::Value startWithPromise(napi_env env, const char* name, std::unique_ptr<Job> job);

}  // namespace kontrast
