#include "jobs.h"

#include "errors.h"

namespace kontrast {

namespace {

void runJob(napi_env, void* data) {
  auto& job = *static_cast<Job*>(data);
  const c10::WarningUtils::WarningHandlerGuard guard(&job.warnings);
  try {
    job.run();
  } catch (...) {
    job.failure = std::current_exception();
  }
}

// Whether the promise could be settled. Node-API's own functions: while a worker is terminated they fail, and nobody waits.
bool settle(napi_env env, Job& job) {
  if (!job.failure) {
    try {
      return napi_resolve_deferred(env, job.deferred, job.result(env)) == napi_ok;
    } catch (...) {
      job.failure = std::current_exception();
    }
  }
  return napi_reject_deferred(env, job.deferred, errorOf(env, job.environment, job.failure)) == napi_ok;
}

void finishJob(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_delete_async_work(env, job->work);
  if (job->thread->isClosed()) return;
  const bool isAlive = settle(env, *job);
  auto& pending = job->environment.warnings.pending;
  pending.insert(pending.end(), job->warnings.pending.begin(), job->warnings.pending.end());
  emitWarnings(env, job->environment);
  job->ended(env, isAlive);
}

}  // namespace

napi_value promiseOf(napi_env env, Job& job) {
  napi_value promise = nullptr;
  if (napi_create_promise(env, &job.deferred, &promise) != napi_ok)
    throw Failure("TORCH", "the work could not be started");
  return promise;
}

bool start(napi_env env, const char* name, std::unique_ptr<Job> job) {
  napi_value text = nullptr;
  if (napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &text) != napi_ok ||
      napi_create_async_work(env, nullptr, text, runJob, finishJob, job.get(), &job->work) != napi_ok ||
      napi_queue_async_work(env, job->work) != napi_ok)
    return false;
  job.release();
  return true;
}

Napi::Value startWithPromise(napi_env env, const char* name, std::unique_ptr<Job> job) {
  const auto promise = promiseOf(env, *job);
  if (!start(env, name, std::move(job))) throw Failure("TORCH", "the work could not be started");
  return Napi::Value(env, promise);
}

}  // namespace kontrast
