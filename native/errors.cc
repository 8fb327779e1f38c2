#include "errors.h"

#include "environment.h"

#include <ATen/core/function_schema.h>
#include <c10/util/Exception.h>

#include <new>
#include <sstream>

namespace kontrast {

namespace {

struct Description {
  std::string code;
  std::string message;
  std::vector<std::string> schemas;
};

// The most derived classes come first.
Description describeCurrentException() {
  try {
    throw;
  } catch (const Failure& error) {
    return {error.code, error.what(), error.schemas};
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

namespace {

// Node-API's own functions, whose failures are no exceptions: in a thread that is being terminated each of them may fail,
// and there is nobody left to tell.
napi_value textValue(napi_env env, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text.c_str(), text.size(), &value);
  return value;
}

void setProperty(napi_env env, napi_value object, const char* name, napi_value value) {
  if (value != nullptr) napi_set_named_property(env, object, name, value);
}

napi_value call(napi_env env, const Napi::FunctionReference& function, napi_value argument) {
  napi_value callee = nullptr;
  napi_value receiver = nullptr;
  napi_value result = nullptr;
  if (function.IsEmpty() || argument == nullptr) return nullptr;
  if (napi_get_reference_value(env, function, &callee) != napi_ok || callee == nullptr) return nullptr;
  if (napi_get_undefined(env, &receiver) != napi_ok) return nullptr;
  return napi_call_function(env, receiver, callee, 1, &argument, &result) == napi_ok ? result : nullptr;
}

// What JavaScript threw on the way, or an error of Node-API itself: a call of the addon with wrong arguments.
bool raiseScriptError(napi_env env) noexcept {
  try {
    try {
      throw;
    } catch (const ScriptError& error) {
      const auto value = error.value(env);
      if (value != nullptr) napi_throw(env, value);
      return value != nullptr;
    } catch (const Napi::Error& error) {
      napi_throw(env, error.Value());
      return true;
    }
  } catch (...) {
    return false;
  }
}

}  // namespace

void raiseCurrentException(napi_env env, Environment& environment, const char* operatorName,
                           const Overload* tried) noexcept {
  bool isPending = false;
  if (napi_is_exception_pending(env, &isPending) == napi_ok && isPending) return;
  if (raiseScriptError(env)) return;
  try {
    auto [code, message, schemas] = describeCurrentException();
    napi_value failure = nullptr;
    if (napi_create_object(env, &failure) != napi_ok) return;
    setProperty(env, failure, "code", textValue(env, code));
    if (operatorName != nullptr) {
      message = std::string(operatorName) + ": " + message;
      setProperty(env, failure, "operator", textValue(env, operatorName));
    }
    setProperty(env, failure, "message", textValue(env, message));
    if (schemas.empty() && tried != nullptr) {
      std::ostringstream text;
      text << *tried->schema;
      schemas.push_back(text.str());
    }
    if (!schemas.empty()) {
      napi_value list = nullptr;
      napi_create_array_with_length(env, schemas.size(), &list);
      for (size_t i = 0; i < schemas.size(); i++)
        napi_set_element(env, list, static_cast<uint32_t>(i), textValue(env, schemas[i]));
      setProperty(env, failure, "schemas", list);
    }
    if (const auto error = call(env, environment.makeError, failure); error != nullptr) napi_throw(env, error);
  } catch (...) {
    // No memory is left to describe it.
    napi_throw_error(env, "OUT_OF_MEMORY", "out of memory");
  }
}

napi_value errorOf(napi_env env, Environment& environment, const std::exception_ptr& failure, const char* operatorName,
                   const Overload* tried) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (...) {
    raiseCurrentException(env, environment, operatorName, tried);
  }
  napi_value error = nullptr;
  napi_get_and_clear_last_exception(env, &error);
  return error;
}

void emitWarnings(napi_env env, Environment& environment) noexcept {
  std::vector<std::string> messages;
  messages.swap(environment.warnings.pending);
  for (const auto& message : messages) call(env, environment.onWarning, textValue(env, message));
}

}  // namespace kontrast
