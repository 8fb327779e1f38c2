// Values that the call frame has no entry for: nested lists, dictionaries, and LibTorch's own objects (packed weights,
// storages, streams). They wait in a table and are named there by number.
#include "environment.h"
#include "errors.h"
#include "values.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/jit_type.h>
#include <c10/core/Storage.h>

#include <cmath>

namespace kontrast {

namespace {

constexpr int kDeepest = 32;

c10::IValue& objectAt(Environment& environment, double index) {
  const auto found = environment.objects.find(static_cast<uint64_t>(index));
  if (found == environment.objects.end()) throw Failure("DISPOSED", "this object was disposed");
  return found->second;
}

Napi::Value toJavaScript(Napi::Env env, Environment& environment, const c10::IValue& value, int depth);

template <class Items>
Napi::Value listToJavaScript(Napi::Env env, Environment& environment, const Items& items, int depth) {
  auto list = Napi::Array::New(env, items.size());
  for (size_t i = 0; i < items.size(); i++)
    list.Set(static_cast<uint32_t>(i), toJavaScript(env, environment, c10::IValue(items[i]), depth + 1));
  return list;
}

// Tensors become { tensor: handle }, dictionaries { entries: [[key, value], ...] }, complex numbers { re, im }, and what
// JavaScript cannot hold { object: index }.
Napi::Value toJavaScript(Napi::Env env, Environment& environment, const c10::IValue& value, int depth) {
  if (depth > kDeepest) throw Failure("TYPE", "a result is nested too deeply");
  const auto wrapped = [&](const char* name, Napi::Value content) {
    auto object = Napi::Object::New(env);
    object.Set(name, content);
    return object;
  };
  if (value.isNone()) return env.Null();
  if (value.isTensor()) {
    if (!value.toTensor().defined()) return env.Null();
    return wrapped("tensor", Napi::Number::New(env, environment.tensors.add(value.toTensor())));
  }
  if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
  if (value.isInt()) {
    const auto integer = value.toInt();
    constexpr int64_t kSafe = (int64_t{1} << 53) - 1;
    if (integer > kSafe || integer < -kSafe) return Napi::BigInt::New(env, integer);
    return Napi::Number::New(env, static_cast<double>(integer));
  }
  if (value.isDouble()) return Napi::Number::New(env, value.toDouble());
  if (value.isComplexDouble()) {
    const auto number = value.toComplexDouble();
    auto object = wrapped("re", Napi::Number::New(env, number.real()));
    object.Set("im", Napi::Number::New(env, number.imag()));
    return object;
  }
  if (value.isString()) return Napi::String::New(env, value.toStringRef());
  if (value.isDevice()) return Napi::String::New(env, value.toDevice().str());
  if (value.isTuple()) return listToJavaScript(env, environment, value.toTupleRef().elements(), depth);
  if (value.isList()) return listToJavaScript(env, environment, value.toListRef(), depth);
  if (value.isGenericDict()) {
    auto entries = Napi::Array::New(env);
    uint32_t count = 0;
    for (const auto& entry : value.toGenericDict()) {
      auto pair = Napi::Array::New(env, 2);
      pair.Set(0u, toJavaScript(env, environment, entry.key(), depth + 1));
      pair.Set(1u, toJavaScript(env, environment, entry.value(), depth + 1));
      entries.Set(count++, pair);
    }
    return wrapped("entries", entries);
  }
  return wrapped("object", Napi::Number::New(env, keepObject(environment, value)));
}

c10::IValue fromJavaScript(Environment& environment, const Napi::Value& value, int depth) {
  if (depth > kDeepest) throw Failure("TYPE", "an argument is nested too deeply");
  if (value.IsNull() || value.IsUndefined()) return {};
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  if (value.IsBigInt()) {
    bool lossless = true;
    const auto integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) throw Failure("INVALID_ARGUMENT", "a bigint does not fit 64 bits");
    return integer;
  }
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    constexpr double kSafe = 9007199254740991.0;
    if (number == std::trunc(number) && std::abs(number) <= kSafe) return static_cast<int64_t>(number);
    return number;
  }
  if (value.IsArray()) {
    const auto items = value.As<Napi::Array>();
    c10::impl::GenericList list(c10::AnyType::get());
    list.reserve(items.Length());
    for (uint32_t i = 0; i < items.Length(); i++) list.push_back(fromJavaScript(environment, items.Get(i), depth + 1));
    return list;
  }
  if (value.IsObject()) {
    const auto object = value.As<Napi::Object>();
    if (object.Has("tensor")) return environment.tensors.at(object.Get("tensor").As<Napi::Number>().DoubleValue());
    if (object.Has("object")) return objectAt(environment, object.Get("object").As<Napi::Number>().DoubleValue());
    if (object.Has("re"))
      return c10::complex<double>(object.Get("re").As<Napi::Number>().DoubleValue(),
                                  object.Get("im").As<Napi::Number>().DoubleValue());
  }
  throw Failure("TYPE", "an item of a nested list has no form that LibTorch knows");
}

// pack(value) -> index of the value in the table; `value` in the form that toJavaScript gives
Napi::Value pack(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), keepObject(environment, fromJavaScript(environment, info[0], 0)));
}

// unpack(index) -> the value, which leaves the table
Napi::Value unpack(Environment& environment, const Napi::CallbackInfo& info) {
  const double index = info[0].As<Napi::Number>().DoubleValue();
  const auto value = objectAt(environment, index);
  environment.objects.erase(static_cast<uint64_t>(index));
  return toJavaScript(info.Env(), environment, value, 0);
}

Napi::Value releaseObject(Environment& environment, const Napi::CallbackInfo& info) {
  environment.objects.erase(static_cast<uint64_t>(info[0].As<Napi::Number>().DoubleValue()));
  return info.Env().Undefined();
}

// objectType(index) -> LibTorch's name of the object's type
Napi::Value objectType(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), objectAt(environment, info[0].As<Napi::Number>().DoubleValue()).type()->str());
}

// storageOf(handle) -> index of the tensor's storage in the table
Napi::Value storageOf(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& tensor = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  return Napi::Number::New(info.Env(), keepObject(environment, c10::IValue(tensor.storage())));
}

}  // namespace

double keepObject(Environment& environment, c10::IValue value) {
  const auto index = ++environment.lastObject;
  environment.objects.emplace(index, std::move(value));
  return static_cast<double>(index);
}

c10::IValue objectAs(Environment& environment, double index, const c10::Type& type) {
  return coerce(objectAt(environment, index), type);
}

c10::IValue coerce(const c10::IValue& value, const c10::Type& type) {
  const auto refuse = [&]() -> c10::IValue {
    throw Failure("TYPE", "a value of type " + value.type()->str() + " is no " + type.str());
  };
  switch (type.kind()) {
    case c10::TypeKind::AnyType:
      return value;
    case c10::TypeKind::OptionalType:
      return value.isNone() ? value : coerce(value, *type.castRaw<c10::OptionalType>()->getElementType());
    case c10::TypeKind::ListType: {
      if (!value.isList()) return refuse();
      const auto& element = type.castRaw<c10::ListType>()->getElementType();
      c10::impl::GenericList list(element);
      for (const c10::IValue& item : value.toListRef()) list.push_back(coerce(item, *element));
      return list;
    }
    case c10::TypeKind::DictType:
      if (!value.isGenericDict()) return refuse();
      return value;
    case c10::TypeKind::NumberType:
      return value.isScalar() ? value : refuse();
    case c10::TypeKind::FloatType:
      return value.isInt() ? c10::IValue(static_cast<double>(value.toInt())) : value.isDouble() ? value : refuse();
    case c10::TypeKind::SymIntType:
      return value.isInt() ? value : refuse();
    case c10::TypeKind::StorageType:
      return value.isStorage() ? value : refuse();
    default:
      return value.type()->isSubtypeOf(type) ? value : refuse();
  }
}

void defineObjects(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "pack", guarded<pack>, environment);
  define(env, exports, "unpack", guarded<unpack>, environment);
  define(env, exports, "releaseObject", guarded<releaseObject>, environment);
  define(env, exports, "objectType", guarded<objectType>, environment);
  define(env, exports, "storageOf", guarded<storageOf>, environment);
}

}  // namespace kontrast
