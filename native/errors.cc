#include "errors.h"

#include "environment.h"

#include <c10/util/Exception.h>

#include <new>

namespace kontrast {

namespace {

struct Description {
  const char* code;
  std::string message;
  std::vector<std::string> schemas;
};

// The most derived classes come first.
Description describeCurrentException() {
  try {
    throw;
  } catch (const Failure& error) {
    return {error.code.c_str(), error.what(), error.schemas};
  } catch (const c10::IndexError& error) {
    return {"INDEX", error.what_without_backtrace(), {}};
  } catch (const c10::ValueError& error) {
    return {"VALUE", error.what_without_backtrace(), {}};
  } catch (const c10::TypeError& error) {
    return {"TYPE", error.what_without_backtrace(), {}};
  } catch (const c10::NotImplementedError& error) {
    return {"NOT_IMPLEMENTED", error.what_without_backtrace(), {}};
  } catch (const c10::OutOfMemoryError& error) {
    return {"OUT_OF_MEMORY", error.what_without_backtrace(), {}};
  } catch (const c10::LinAlgError& error) {
    return {"LINALG", error.what_without_backtrace(), {}};
  } catch (const c10::DistError& error) {
    return {"DISTRIBUTED", error.what_without_backtrace(), {}};
  } catch (const c10::Error& error) {
    return {"TORCH", error.what_without_backtrace(), {}};
  } catch (const std::bad_alloc&) {
    return {"OUT_OF_MEMORY", "out of memory", {}};
  } catch (const std::exception& error) {
    return {"TORCH", error.what(), {}};
  } catch (...) {
    return {"TORCH", "an exception of an unknown kind", {}};
  }
}

}  // namespace

void throwAsJavaScript(Napi::Env env, Environment& environment, const char* operatorName) {
  // The strings are copied before anything else: the exception lives only inside the handlers.
  std::string code;
  std::string message;
  std::vector<std::string> schemas;
  {
    const auto description = describeCurrentException();
    code = description.code;
    message = description.message;
    schemas = description.schemas;
  }
  auto failure = Napi::Object::New(env);
  failure.Set("code", code);
  if (operatorName != nullptr) {
    message = std::string(operatorName) + ": " + message;
    failure.Set("operator", operatorName);
  }
  failure.Set("message", message);
  if (!schemas.empty()) {
    auto list = Napi::Array::New(env, schemas.size());
    for (size_t i = 0; i < schemas.size(); i++) list.Set(static_cast<uint32_t>(i), schemas[i]);
    failure.Set("schemas", list);
  }
  auto error = environment.makeError.Call({failure});
  throw Napi::Error(env, error);
}

void emitWarnings(Environment& environment) {
  std::vector<std::string> messages;
  messages.swap(environment.warnings.pending);
  for (const auto& message : messages) environment.onWarning.Call({Napi::String::New(environment.onWarning.Env(), message)});
}

}  // namespace kontrast
