// The operator table: names to overloads, signatures to plans, and the boxed call.
#include "checks.h"
#include "environment.h"
#include "errors.h"
#include "values.h"

#include <ATen/core/function_schema.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <sstream>

namespace kontrast {

namespace {

using OverloadNames = std::unordered_map<std::string, std::vector<std::string>>;

// LibTorch can look up one overload by name but not list the overloads of an operator, so they are listed once.
const OverloadNames& overloadNames() {
  static const OverloadNames table = [] {
    OverloadNames names;
    for (const auto& name : c10::Dispatcher::singleton().getAllOpNames())
      names[name.name].push_back(name.overload_name);
    for (auto& [name, overloads] : names) std::sort(overloads.begin(), overloads.end());
    return names;
  }();
  return table;
}

void addOverload(Operator& op, const std::string& name, const std::string& overload) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
  if (handle) op.overloads.push_back({*handle, &handle->schema()});
}

// "aten::add" means all its overloads, "aten::add.Tensor" that one, "aten::add." the one without a name.
std::unique_ptr<Operator> findOperator(const std::string& name) {
  auto op = std::make_unique<Operator>();
  op->name = name;
  const auto dot = name.find('.');
  const auto base = name.substr(0, dot);
  const auto found = overloadNames().find(base);
  if (found != overloadNames().end()) {
    if (dot == std::string::npos) {
      for (const auto& overload : found->second) addOverload(*op, base, overload);
    } else {
      addOverload(*op, base, name.substr(dot + 1));
    }
  }
  if (op->overloads.empty()) throw Failure("NO_OPERATOR", "LibTorch has no operator '" + name + "'");
  return op;
}

struct Match {
  bool fits = false;
  int cost = 0;
  size_t defaults = 0;
  std::string reason;
};

// Tries one overload against the entries of the frame. With a plan, notes there how each argument is made.
Match match(Environment& environment, const Overload& overload, size_t count, CallPlan* plan) {
  const auto& frame = environment.frame;
  const auto& arguments = overload.schema->arguments();
  Match result;
  size_t positional = 0;
  while (positional < count && frame.keywordOf(positional) == 0) positional++;
  size_t matchedKeywords = 0;
  for (size_t i = 0; i < arguments.size(); i++) {
    const auto& argument = arguments[i];
    int32_t entry = -1;
    if (!argument.kwarg_only() && i < positional) entry = static_cast<int32_t>(i);
    for (size_t k = positional; k < count; k++) {
      if (interned(environment, frame.keyword[k]).text != argument.name()) continue;
      if (entry >= 0 && static_cast<Kind>(frame.kind[entry]) != Kind::Undefined) {
        result.reason = "'" + argument.name() + "' is given twice";
        return result;
      }
      entry = static_cast<int32_t>(k);
      matchedKeywords++;
    }
    if (entry >= 0 && static_cast<Kind>(frame.kind[entry]) == Kind::Undefined) entry = -1;
    if (entry < 0) {
      const auto& fallback = argument.default_value();
      const bool isOptional = argument.type()->kind() == c10::TypeKind::OptionalType;
      if (!fallback && !isOptional) {
        result.reason = "'" + argument.name() + "' is missing";
        return result;
      }
      // An optional argument without a default may be left out, but an overload that does not need it fits better.
      result.defaults += fallback ? 1 : 2;
      if (plan != nullptr)
        plan->arguments.push_back({-1, Converter::Null, 0, fallback ? *fallback : c10::IValue(), argument.real_type()});
      continue;
    }
    const auto conversion = conversionFor(static_cast<Kind>(frame.kind[entry]), argument);
    if (conversion.converter == Converter::None) {
      result.reason = "'" + argument.name() + "' takes " + argument.real_type()->str() + ", not " +
                      describe(environment, static_cast<size_t>(entry));
      return result;
    }
    result.cost += conversion.cost;
    if (plan != nullptr) plan->arguments.push_back({entry, conversion.converter, conversion.repeat, {}, argument.real_type()});
  }
  size_t positionalArguments = 0;
  for (const auto& argument : arguments) positionalArguments += argument.kwarg_only() ? 0 : 1;
  if (positional > positionalArguments) {
    result.reason = "it takes " + std::to_string(positionalArguments) + " positional arguments, not " +
                    std::to_string(positional);
    return result;
  }
  if (matchedKeywords < count - positional) {
    for (size_t k = positional; k < count; k++) {
      const auto& name = interned(environment, frame.keyword[k]).text;
      const auto known = std::any_of(arguments.begin(), arguments.end(),
                                     [&](const c10::Argument& argument) { return argument.name() == name; });
      if (!known) result.reason = "it has no argument '" + name + "'";
    }
    return result;
  }
  result.fits = true;
  return result;
}

[[noreturn]] void throwNoOverload(Environment& environment, const Operator& op, size_t count) {
  std::ostringstream message;
  std::vector<std::string> schemas;
  message << "no overload fits the arguments";
  for (const auto& overload : op.overloads) {
    std::ostringstream schema;
    schema << *overload.schema;
    schemas.push_back(schema.str());
    message << "\n  " << schemas.back() << "\n    " << match(environment, overload, count, nullptr).reason;
  }
  throw Failure("NO_OVERLOAD", message.str(), std::move(schemas));
}

uint64_t firstKindsOf(const CallFrame& frame, size_t count) {
  static_assert(CallFrame::kEntries >= 8);
  uint64_t kinds = 0;
  std::memcpy(&kinds, frame.kind, count < 8 ? count : 8);
  return kinds;
}

std::unique_ptr<CallPlan> makePlan(Environment& environment, const Operator& op, size_t count) {
  const Overload* best = nullptr;
  int bestCost = std::numeric_limits<int>::max();
  size_t bestDefaults = 0;
  for (const auto& overload : op.overloads) {
    const auto result = match(environment, overload, count, nullptr);
    if (!result.fits) continue;
    if (result.cost < bestCost || (result.cost == bestCost && result.defaults < bestDefaults)) {
      best = &overload;
      bestCost = result.cost;
      bestDefaults = result.defaults;
    }
  }
  if (best == nullptr) throwNoOverload(environment, op, count);
  auto plan = std::make_unique<CallPlan>();
  plan->overload = best;
  const auto& frame = environment.frame;
  plan->firstKinds = firstKindsOf(frame, count);
  plan->kinds.assign(frame.kind, frame.kind + count);
  if (frame.hasKeywords()) plan->keywords.assign(frame.keyword, frame.keyword + count);
  match(environment, *best, count, plan.get());
  plan->checks = checksFor(*best->schema);
  // Checks look at the boxed arguments.
  if (plan->checks == nullptr) plan->direct = directCallFor(best->handle, plan->arguments);
  return plan;
}

}  // namespace

const CallPlan& planFor(Environment& environment, Operator& op, size_t count) {
  const auto& frame = environment.frame;
  const auto firstKinds = firstKindsOf(frame, count);
  const size_t keywords = frame.hasKeywords() ? count : 0;
  for (const auto& plan : op.plans) {
    if (plan->firstKinds == firstKinds && plan->kinds.size() == count && plan->keywords.size() == keywords &&
        (count <= 8 || std::memcmp(plan->kinds.data(), frame.kind, count) == 0) &&
        (keywords == 0 || std::memcmp(plan->keywords.data(), frame.keyword, keywords * sizeof(int32_t)) == 0))
      return *plan;
  }
  op.plans.push_back(makePlan(environment, op, count));
  return *op.plans.back();
}

namespace {

size_t callBoxed(Environment& environment, const CallPlan& plan) {
  // The stack's memory is kept from call to call; it is taken out of the environment in case a call leads to another.
  torch::jit::Stack stack = std::move(environment.stack);
  stack.clear();
  for (const auto& argument : plan.arguments) stack.push_back(toIValue(environment, argument));
  if (plan.checks != nullptr) plan.checks->run(stack);
  plan.overload->handle.callBoxed(&stack);
  writeResults(environment, *plan.overload->schema, stack);
  const auto results = stack.size();
  stack.clear();
  environment.stack = std::move(stack);
  return results;
}

// invoke(): runs an operator on the entries in the frame and leaves its results there. What to run and how many results
// there are is in the frame as well.
// Raw Node-API: this is the one call whose cost every operator pays.
napi_value invoke(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  auto& environment = *static_cast<Environment*>(data);
  const auto index = environment.frame.call[0];
  const auto count = environment.frame.call[1];
  const char* name = nullptr;
  const Overload* overload = nullptr;
  environment.tensors.beginCall();
  try {
    auto& op = *environment.operators.at(index);
    name = op.name.c_str();
    if (count > CallFrame::kEntries) throw Failure("INVALID_ARGUMENT", "too many arguments");
    const auto& plan = planFor(environment, op, count);
    overload = plan.overload;
    size_t results = 1;
    if (plan.direct == nullptr)
      results = callBoxed(environment, plan);
    else
      writeTensor(environment, plan.direct->call(environment, plan.arguments));
    if (!environment.warnings.pending.empty()) emitWarnings(env, environment);
    environment.frame.call[3] = static_cast<uint32_t>(results);
  } catch (...) {
    raiseCurrentException(env, environment, name, overload);
  }
  environment.tensors.endCall();
  return nullptr;
}

// resolveOverload(operator, count) -> the schema of the overload that the entries in the frame fit, all of them converted
Napi::Value resolveOverload(Environment& environment, const Napi::CallbackInfo& info) {
  auto& op = *environment.operators.at(info[0].As<Napi::Number>().Uint32Value());
  const auto& plan = planFor(environment, op, info[1].As<Napi::Number>().Uint32Value());
  const auto& schema = *plan.overload->schema;
  torch::jit::Stack values;
  for (const auto& argument : plan.arguments) values.push_back(toIValue(environment, argument));
  schema.checkAndNormalizeInputs(values);
  std::ostringstream text;
  text << schema;
  return Napi::String::New(info.Env(), text.str());
}

// operator(name) -> index
Napi::Value operatorIndex(Environment& environment, const Napi::CallbackInfo& info) {
  const auto name = info[0].As<Napi::String>().Utf8Value();
  const auto found = environment.operatorIndex.find(name);
  if (found != environment.operatorIndex.end())
    return Napi::Number::New(info.Env(), static_cast<double>(found->second));
  environment.operators.push_back(findOperator(name));
  const auto index = environment.operators.size() - 1;
  environment.operatorIndex.emplace(name, index);
  return Napi::Number::New(info.Env(), static_cast<double>(index));
}

// hasOperator(name) -> boolean
Napi::Value hasOperator(Environment&, const Napi::CallbackInfo& info) {
  const auto name = info[0].As<Napi::String>().Utf8Value();
  return Napi::Boolean::New(info.Env(), overloadNames().count(name) > 0);
}

// intern(text) -> kind * 2^32 + index
Napi::Value internString(Environment& environment, const Napi::CallbackInfo& info) {
  const auto kind = intern(environment, info[0].As<Napi::String>().Utf8Value());
  const auto index = environment.strings.size() - 1;
  return Napi::Number::New(info.Env(), static_cast<double>(kind) * 4294967296.0 + static_cast<double>(index));
}

// schemas() -> string[]: every operator that is registered now
Napi::Value schemas(Environment&, const Napi::CallbackInfo& info) {
  std::vector<std::string> texts;
  for (const auto& [name, overloads] : overloadNames()) {
    for (const auto& overload : overloads) {
      const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
      if (!handle) continue;
      std::ostringstream text;
      text << handle->schema();
      texts.push_back(text.str());
    }
  }
  std::sort(texts.begin(), texts.end());
  auto list = Napi::Array::New(info.Env(), texts.size());
  for (size_t i = 0; i < texts.size(); i++) list.Set(static_cast<uint32_t>(i), texts[i]);
  return list;
}

Napi::ArrayBuffer makeFrameBuffer(Napi::Env env, Environment& environment, size_t bytes) {
  auto buffer = Napi::ArrayBuffer::New(env, bytes);
  environment.frameBuffers.push_back(Napi::Persistent(buffer));
  return buffer;
}

// frame(growPool) -> { kind, value, length, keyword, call } as ArrayBuffers; growPool(count) gives the pool room for that many
// items and keeps those that are there
Napi::Value frame(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  auto& frame = environment.frame;
  environment.growPool = Napi::Persistent(info[0].As<Napi::Function>());
  auto object = Napi::Object::New(env);
  const auto make = [&](const char* name, size_t itemBytes, size_t items = CallFrame::kEntries) {
    auto buffer = makeFrameBuffer(env, environment, items * itemBytes);
    object.Set(name, buffer);
    return buffer.Data();
  };
  frame.kind = static_cast<uint8_t*>(make("kind", sizeof(uint8_t)));
  frame.value = static_cast<double*>(make("value", sizeof(double)));
  frame.length = static_cast<int32_t*>(make("length", sizeof(int32_t)));
  frame.keyword = static_cast<int32_t*>(make("keyword", sizeof(int32_t)));
  frame.call = static_cast<uint32_t*>(make("call", sizeof(uint32_t), 4));
  return object;
}

// setPool(buffer): the memory for items of lists; JavaScript makes a larger one when a list does not fit
Napi::Value setPool(Environment& environment, const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  environment.poolBuffer = Napi::Persistent(buffer);
  environment.frame.pool = static_cast<double*>(buffer.Data());
  environment.frame.poolSize = buffer.ByteLength() / sizeof(double);
  return info.Env().Undefined();
}

}  // namespace

void defineOperators(Napi::Env env, Napi::Object exports, Environment& environment) {
  napi_value invokeFunction;
  napi_create_function(env, "invoke", NAPI_AUTO_LENGTH, invoke, &environment, &invokeFunction);
  exports.Set("invoke", Napi::Value(env, invokeFunction));
  define(env, exports, "operator", guarded<operatorIndex>, environment);
  define(env, exports, "resolveOverload", guarded<resolveOverload>, environment);
  define(env, exports, "hasOperator", guarded<hasOperator>, environment);
  define(env, exports, "intern", guarded<internString>, environment);
  define(env, exports, "schemas", guarded<schemas>, environment);
  define(env, exports, "frame", guarded<frame>, environment);
  define(env, exports, "setPool", guarded<setPool>, environment);
}

}  // namespace kontrast
