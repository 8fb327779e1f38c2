#include "script_values.h"

#include "errors.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/enum_type.h>
#include <ATen/core/jit_type.h>

#include <cmath>
#include <sstream>

namespace kontrast {

std::string quoted(const std::string& name) {
  std::string text = "'";
  text += name;
  text += "'";
  return text;
}

namespace {

constexpr int64_t kSafe = (int64_t{1} << 53) - 1;
// Only a value of type Any can be nested without an end; nothing that is of use is nested deeper.
constexpr int kDepth = 100;

// --- JavaScript to LibTorch ---

// An argument that does not fit its type. Lists, dictionaries and tuples add where in them it is.
struct Mismatch {
  std::string expected;
  std::string found;
  std::string place;
};

std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number: {
      std::ostringstream text;
      text << value.As<Napi::Number>().DoubleValue();
      return text.str();
    }
    case napi_bigint:
      return "a bigint";
    case napi_string:
      return "a string";
    default:
      break;
  }
  if (value.IsArray()) return "a list";
  if (!value.IsObject()) return "a value of another kind";
  const auto object = value.As<Napi::Object>();
  if (object.Has("tensor")) return "a tensor";
  if (object.Has("re")) return "a complex number";
  return object.Get("isObject").ToBoolean() ? "an object" : "a Map";
}

// As in Python, without the module that all classes of a file are in.
std::string nameOf(const c10::Type& type) {
  static const std::string kModule = "__torch__.";
  auto name = type.annotation_str();
  for (size_t at = name.find(kModule); at != std::string::npos; at = name.find(kModule, at))
    name.erase(at, kModule.size());
  return name;
}

[[noreturn]] void mismatch(const c10::Type& type, const Napi::Value& value) {
  throw Mismatch{nameOf(type), describe(value), ""};
}

template <typename Action>
auto within(const std::string& place, Action action) {
  try {
    return action();
  } catch (Mismatch& error) {
    error.place = ", " + place + error.place;
    throw;
  }
}

class ArgumentReader {
 public:
  explicit ArgumentReader(Environment& environment) : environment_(environment) {}

  c10::IValue read(const Napi::Value& value, const c10::TypePtr& type, int depth = 0) {
    if (depth > kDepth) throw Failure("INVALID_ARGUMENT", "an argument is nested too deeply");
    switch (type->kind()) {
      case c10::TypeKind::TensorType:
        if (isObjectWith(value, "tensor")) return readTensor(value);
        break;
      case c10::TypeKind::OptionalType:
        if (isNothing(value)) return {};
        return read(value, type->castRaw<c10::OptionalType>()->getElementType(), depth);
      case c10::TypeKind::UnionType:
        return readUnion(value, *type->castRaw<c10::UnionType>(), depth);
      case c10::TypeKind::AnyType:
        return readAny(value, depth);
      case c10::TypeKind::NoneType:
        if (isNothing(value)) return {};
        break;
      case c10::TypeKind::IntType:
        if (isInteger(value)) return readInteger(value);
        break;
      case c10::TypeKind::FloatType:
        if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
        break;
      case c10::TypeKind::ComplexType:
        if (value.IsNumber()) return c10::complex<double>(value.As<Napi::Number>().DoubleValue(), 0);
        if (isObjectWith(value, "re")) return readComplex(value);
        break;
      case c10::TypeKind::NumberType:
        if (isInteger(value)) return readInteger(value);
        if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
        if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
        if (isObjectWith(value, "re")) return readComplex(value);
        break;
      case c10::TypeKind::BoolType:
        if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
        break;
      case c10::TypeKind::StringType:
        if (value.IsString()) return value.As<Napi::String>().Utf8Value();
        break;
      case c10::TypeKind::DeviceObjType:
        if (value.IsString()) return c10::Device(value.As<Napi::String>().Utf8Value());
        break;
      case c10::TypeKind::EnumType:
        if (value.IsString()) return readEnum(value, type);
        break;
      case c10::TypeKind::ListType:
        if (value.IsArray()) return readList(value, type->castRaw<c10::ListType>()->getElementType(), depth);
        break;
      case c10::TypeKind::DictType:
        if (isObjectWith(value, "entries")) return readDictionary(value, *type->castRaw<c10::DictType>(), depth);
        break;
      case c10::TypeKind::TupleType:
        return readTuple(value, type->cast<c10::TupleType>(), depth);
      default:
        throw Failure("TYPE", "an argument of type " + nameOf(*type) + " cannot be made from JavaScript");
    }
    mismatch(*type, value);
  }

 private:
  static bool isNothing(const Napi::Value& value) { return value.IsNull() || value.IsUndefined(); }

  static bool isObjectWith(const Napi::Value& value, const char* name) {
    return value.IsObject() && !value.IsArray() && value.As<Napi::Object>().Has(name);
  }

  static bool isInteger(const Napi::Value& value) {
    if (value.IsBigInt()) return true;
    if (!value.IsNumber()) return false;
    const double number = value.As<Napi::Number>().DoubleValue();
    return std::trunc(number) == number && std::abs(number) <= static_cast<double>(kSafe);
  }

  static int64_t readInteger(const Napi::Value& value) {
    if (value.IsNumber()) return value.As<Napi::Number>().Int64Value();
    bool lossless = false;
    const auto integer = value.As<Napi::BigInt>().Int64Value(&lossless);
    if (!lossless) throw Mismatch{"int", "a bigint beyond 64 bits", ""};
    return integer;
  }

  static c10::complex<double> readComplex(const Napi::Value& value) {
    const auto object = value.As<Napi::Object>();
    return {object.Get("re").As<Napi::Number>().DoubleValue(), object.Get("im").As<Napi::Number>().DoubleValue()};
  }

  c10::IValue readTensor(const Napi::Value& value) {
    const auto handle = value.As<Napi::Object>().Get("tensor").As<Napi::Number>().DoubleValue();
    return environment_.tensors.at(handle);
  }

  // An enumeration's members are known by name.
  static c10::IValue readEnum(const Napi::Value& value, const c10::TypePtr& type) {
    const auto enumeration = type->cast<c10::EnumType>();
    const auto name = value.As<Napi::String>().Utf8Value();
    std::string known;
    for (const auto& [member, memberValue] : enumeration->enumNamesValues()) {
      if (member == name)
        return c10::IValue(c10::make_intrusive<c10::ivalue::EnumHolder>(enumeration, member, memberValue));
      known += (known.empty() ? "" : ", ") + quoted(member);
    }
    throw Mismatch{"one of " + known, quoted(name), ""};
  }

  c10::IValue readList(const Napi::Value& value, const c10::TypePtr& element, int depth) {
    const auto items = value.As<Napi::Array>();
    const auto count = items.Length();
    c10::impl::GenericList list(element);
    list.reserve(count);
    for (uint32_t i = 0; i < count; i++) {
      const Napi::HandleScope handles(items.Env());
      list.push_back(within("item " + std::to_string(i), [&] { return read(items.Get(i), element, depth + 1); }));
    }
    return list;
  }

  c10::IValue readDictionary(const Napi::Value& value, const c10::DictType& type, int depth) {
    const auto entries = value.As<Napi::Object>().Get("entries").As<Napi::Array>();
    c10::impl::GenericDict dictionary(type.getKeyType(), type.getValueType());
    for (uint32_t i = 0; i + 1 < entries.Length(); i += 2) {
      const Napi::HandleScope handles(entries.Env());
      const Napi::Value key = entries.Get(i);
      auto keyValue = within("a key", [&] { return read(key, type.getKeyType(), depth + 1); });
      auto item = within("the value of " + nameOfKey(key),
                         [&] { return read(entries.Get(i + 1), type.getValueType(), depth + 1); });
      dictionary.insert_or_assign(std::move(keyValue), std::move(item));
    }
    return dictionary;
  }

  static std::string nameOfKey(const Napi::Value& key) {
    return key.IsString() ? quoted(key.As<Napi::String>().Utf8Value()) : describe(key);
  }

  // From a list, or by name where the tuple's members have names.
  c10::IValue readTuple(const Napi::Value& value, const c10::TupleTypePtr& type, int depth) {
    const auto& types = type->elements();
    const bool isNamed = type->schema() != nullptr;
    std::vector<c10::IValue> items;
    items.reserve(types.size());
    if (value.IsArray()) {
      const auto given = value.As<Napi::Array>();
      if (given.Length() != types.size())
        throw Mismatch{nameOf(*type) + " of " + std::to_string(types.size()) + " items",
                       "a list of " + std::to_string(given.Length()), ""};
      for (uint32_t i = 0; i < given.Length(); i++)
        items.push_back(within("item " + std::to_string(i), [&] { return read(given.Get(i), types[i], depth + 1); }));
    } else if (isNamed && isObjectWith(value, "entries")) {
      const auto& members = type->schema()->arguments();
      auto given = namedEntries(value);
      for (size_t i = 0; i < members.size(); i++) {
        const auto& name = members[i].name();
        const auto found = given.find(name);
        if (found == given.end()) throw Mismatch{nameOf(*type), "an object without " + quoted(name), ""};
        items.push_back(within(quoted(name), [&] { return read(found->second, types[i], depth + 1); }));
        given.erase(found);
      }
      if (!given.empty())
        throw Mismatch{nameOf(*type), "an object with " + quoted(given.begin()->first), ""};
    } else {
      mismatch(*type, value);
    }
    return isNamed ? c10::ivalue::Tuple::createNamed(std::move(items), type)
                   : c10::ivalue::Tuple::create(std::move(items));
  }

  static std::unordered_map<std::string, Napi::Value> namedEntries(const Napi::Value& value) {
    const auto entries = value.As<Napi::Object>().Get("entries").As<Napi::Array>();
    std::unordered_map<std::string, Napi::Value> named;
    for (uint32_t i = 0; i + 1 < entries.Length(); i += 2)
      named.emplace(entries.Get(i).ToString().Utf8Value(), entries.Get(i + 1));
    return named;
  }

  // A whole number is an int where the union has one, else a float: so members that are floats come last.
  c10::IValue readUnion(const Napi::Value& value, const c10::UnionType& type, int depth) {
    for (const bool floats : {false, true}) {
      for (const auto& member : type.containedTypes()) {
        if ((member->kind() == c10::TypeKind::FloatType) != floats) continue;
        try {
          return read(value, member, depth + 1);
        } catch (const Mismatch&) {
          // Perhaps the next one.
        }
      }
    }
    mismatch(type, value);
  }

  // Of no declared type: the items of a list, or the values of a dictionary, decide what it is a list or dictionary of.
  c10::IValue readAny(const Napi::Value& value, int depth) {
    if (isNothing(value)) return {};
    if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
    if (isInteger(value)) return readInteger(value);
    if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
    if (value.IsString()) return value.As<Napi::String>().Utf8Value();
    if (isObjectWith(value, "tensor")) return readTensor(value);
    if (isObjectWith(value, "re")) return readComplex(value);
    const bool isList = value.IsArray();
    if (!isList && !isObjectWith(value, "entries")) mismatch(*c10::AnyType::get(), value);
    const auto given = isList ? value.As<Napi::Array>() : value.As<Napi::Object>().Get("entries").As<Napi::Array>();
    std::vector<c10::IValue> keys;
    std::vector<c10::IValue> items;
    for (uint32_t i = 0; i < given.Length(); i++) {
      const Napi::Value item = given.Get(i);
      (isList || i % 2 == 1 ? items : keys).push_back(read(item, c10::AnyType::get(), depth + 1));
    }
    const auto itemType = commonType(items);
    if (isList) {
      c10::impl::GenericList list(itemType);
      for (auto& item : items) list.push_back(std::move(item));
      return list;
    }
    const auto keyType = keys.empty() ? c10::TypePtr(c10::StringType::get()) : commonType(keys);
    if (keyType->kind() == c10::TypeKind::AnyType)
      throw Mismatch{"a dictionary whose keys are of one type", "several types", ""};
    c10::impl::GenericDict dictionary(keyType, itemType);
    for (size_t i = 0; i < keys.size(); i++) dictionary.insert_or_assign(std::move(keys[i]), std::move(items[i]));
    return dictionary;
  }

  // The type that all values have, where whole numbers count as floats beside floats, which they become; else Any.
  static c10::TypePtr commonType(std::vector<c10::IValue>& values) {
    if (values.empty()) return c10::AnyType::get();
    const auto typeOf = [](const c10::IValue& value) {
      return value.isTensor() ? c10::TypePtr(c10::TensorType::get()) : value.type();
    };
    const auto first = typeOf(values.front());
    bool areSame = true;
    bool areNumbers = true;
    for (const auto& value : values) {
      areSame = areSame && *typeOf(value) == *first;
      areNumbers = areNumbers && (value.isInt() || value.isDouble());
    }
    if (areSame) return first;
    if (!areNumbers) return c10::AnyType::get();
    for (auto& value : values) {
      if (value.isInt()) value = static_cast<double>(value.toInt());
    }
    return c10::FloatType::get();
  }

  Environment& environment_;
};

// --- LibTorch to JavaScript ---

// Node-API's own functions, since this also runs when a call in the background ends, perhaps in a worker that is being
// terminated: there a status that is not napi_ok ends the conversion.
class ResultWriter {
 public:
  ResultWriter(napi_env env, Environment& environment) : env_(env), environment_(environment) {}

  napi_value write(const c10::IValue& value) {
    try {
      return write(value, 0);
    } catch (...) {
      // JavaScript will never hear of these.
      int64_t tracked = 0;
      for (const double handle : handles_) environment_.tensors.release(handle, &tracked);
      throw;
    }
  }

 private:
  static void check(napi_status status) {
    if (status != napi_ok) throw Failure("TORCH", "the result could not be handed to JavaScript");
  }

  template <typename... Given, typename... Expected>
  napi_value make(napi_status (*function)(napi_env, Expected...), Given... given) {
    napi_value made = nullptr;
    check(function(env_, given..., &made));
    return made;
  }

  napi_value null() { return make(napi_get_null); }
  napi_value number(double value) { return make(napi_create_double, value); }
  napi_value text(const std::string& value) { return make(napi_create_string_utf8, value.c_str(), value.size()); }

  napi_value integer(int64_t value) {
    if (value > kSafe || value < -kSafe) return make(napi_create_bigint_int64, value);
    return number(static_cast<double>(value));
  }

  napi_value tensor(const at::Tensor& value) {
    if (!value.defined()) return null();
    handles_.push_back(environment_.tensors.add(value));
    return object({{"tensor", number(handles_.back())}});
  }

  napi_value object(std::initializer_list<std::pair<const char*, napi_value>> members) {
    const auto made = make(napi_create_object);
    for (const auto& [name, value] : members) check(napi_set_named_property(env_, made, name, value));
    return made;
  }

  void set(napi_value list, size_t index, napi_value value) {
    check(napi_set_element(env_, list, static_cast<uint32_t>(index), value));
  }

  napi_value list(c10::ArrayRef<c10::IValue> items, int depth) {
    const auto made = make(napi_create_array_with_length, items.size());
    for (size_t i = 0; i < items.size(); i++) set(made, i, write(items[i], depth + 1));
    return made;
  }

  napi_value dictionary(const c10::Dict<c10::IValue, c10::IValue>& entries, int depth) {
    const auto made = make(napi_create_array_with_length, 2 * entries.size());
    size_t i = 0;
    for (const auto& entry : entries) {
      set(made, i++, write(entry.key(), depth + 1));
      set(made, i++, write(entry.value(), depth + 1));
    }
    return object({{"entries", made}});
  }

  napi_value tuple(const c10::IValue& value, int depth) {
    const auto& elements = value.toTupleRef().elements();
    const auto items = list(elements.asArrayRef(), depth);
    const auto type = value.type()->cast<c10::TupleType>();
    if (type->schema() == nullptr) return items;
    const auto& members = type->schema()->arguments();
    const auto names = make(napi_create_array_with_length, members.size());
    for (size_t i = 0; i < members.size(); i++) set(names, i, text(members[i].name()));
    return object({{"names", names}, {"items", items}});
  }

  napi_value write(const c10::IValue& value, int depth) {
    if (depth > kDepth) throw Failure("TYPE", "a result is nested too deeply, perhaps in a circle");
    if (value.isTensor()) return tensor(value.toTensor());
    if (value.isNone()) return null();
    if (value.isBool()) return make(napi_get_boolean, value.toBool());
    if (value.isInt()) return integer(value.toInt());
    if (value.isDouble()) return number(value.toDouble());
    if (value.isString()) return text(value.toStringRef());
    if (value.isComplexDouble()) {
      const auto complex = value.toComplexDouble();
      return object({{"re", number(complex.real())}, {"im", number(complex.imag())}});
    }
    if (value.isDevice()) return text(value.toDevice().str());
    if (value.isEnum()) return text(value.toEnumHolder()->name());
    if (value.isList()) return list(value.toListRef(), depth);
    if (value.isGenericDict()) return dictionary(value.toGenericDict(), depth);
    if (value.isTuple()) return tuple(value, depth);
    throw Failure("TYPE", "a result of type " + value.tagKind() + " has no JavaScript form");
  }

  napi_env env_;
  Environment& environment_;
  std::vector<double> handles_;
};

}  // namespace

std::vector<c10::IValue> readScriptArguments(Environment& environment, const c10::FunctionSchema& schema,
                                             const Napi::Array& given) {
  ArgumentReader reader(environment);
  std::vector<c10::IValue> stack;
  const auto& arguments = schema.arguments();
  for (size_t i = 1; i < arguments.size(); i++) {
    const auto& argument = arguments[i];
    const auto name = "argument " + quoted(argument.name());
    const auto position = static_cast<uint32_t>(i - 1);
    const Napi::Value value = position < given.Length() ? given.Get(position) : given.Env().Undefined();
    if (value.IsUndefined()) {
      if (!argument.default_value()) throw Failure("TYPE", name + " is missing: " + nameOf(*argument.type()));
      stack.push_back(*argument.default_value());
      continue;
    }
    try {
      stack.push_back(reader.read(value, argument.type()));
    } catch (const Mismatch& error) {
      throw Failure("TYPE", name + error.place + " takes " + error.expected + ", not " + error.found);
    } catch (const Failure& error) {
      throw Failure(error.code, name + ": " + error.what());
    }
  }
  if (given.Length() + 1 > arguments.size())
    throw Failure("TYPE", std::to_string(given.Length()) + " arguments are given, and it takes " +
                              std::to_string(arguments.size() - 1));
  return stack;
}

napi_value writeScriptResult(napi_env env, Environment& environment, const c10::IValue& value) {
  return ResultWriter(env, environment).write(value);
}

}  // namespace kontrast
