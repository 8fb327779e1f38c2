// Arguments and results of TorchScript methods.
//
// Values cross as Node-API values, led by the types of a method's schema. What JavaScript has no value of its own for
// is an object: { tensor: handle }, { entries: [key, value, ...] } for a dictionary or an object with named members,
// { names, items } for a named tuple, { re, im } for a complex number. src/torch/script-values.ts is the other side.
#pragma once

#include "environment.h"

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace kontrast {

std::string quoted(const std::string& name);

// The arguments for a call, without the module itself, which is a method's first; throws a Failure that names the one
// that does not fit.
std::vector<c10::IValue> readScriptArguments(Environment& environment, const c10::FunctionSchema& schema,
                                             const Napi::Array& given);

// Where Node-API fails, as in a worker that is being terminated, this throws a Failure.
napi_value writeScriptResult(napi_env env, Environment& environment, const c10::IValue& value);

}  // namespace kontrast
