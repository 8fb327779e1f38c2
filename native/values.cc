#include "values.h"

#include "devices.h"
#include "errors.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/List.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace kontrast {

namespace {

// Costs: smaller is a better fit. A number fits an exact type best, then a Scalar, and becomes a tensor only when
// nothing else takes it.
constexpr int kExact = 0;
constexpr int kScalar = 1;
constexpr int kWidened = 2;
constexpr int kRepeated = 3;
constexpr int kObject = 4;
constexpr int kWrapped = 20;

const std::unordered_map<std::string, c10::ScalarType>& scalarTypes() {
  static const std::unordered_map<std::string, c10::ScalarType> table = {
      {"uint8", c10::ScalarType::Byte},
      {"int8", c10::ScalarType::Char},
      {"int16", c10::ScalarType::Short},
      {"int32", c10::ScalarType::Int},
      {"int64", c10::ScalarType::Long},
      {"float16", c10::ScalarType::Half},
      {"float32", c10::ScalarType::Float},
      {"float64", c10::ScalarType::Double},
      {"complex32", c10::ScalarType::ComplexHalf},
      {"complex64", c10::ScalarType::ComplexFloat},
      {"complex128", c10::ScalarType::ComplexDouble},
      {"bool", c10::ScalarType::Bool},
      {"qint8", c10::ScalarType::QInt8},
      {"quint8", c10::ScalarType::QUInt8},
      {"qint32", c10::ScalarType::QInt32},
      {"bfloat16", c10::ScalarType::BFloat16},
      {"quint4x2", c10::ScalarType::QUInt4x2},
      {"quint2x4", c10::ScalarType::QUInt2x4},
      {"float8_e5m2", c10::ScalarType::Float8_e5m2},
      {"float8_e4m3fn", c10::ScalarType::Float8_e4m3fn},
      {"float8_e5m2fnuz", c10::ScalarType::Float8_e5m2fnuz},
      {"float8_e4m3fnuz", c10::ScalarType::Float8_e4m3fnuz},
      {"float8_e8m0fnu", c10::ScalarType::Float8_e8m0fnu},
      {"uint16", c10::ScalarType::UInt16},
      {"uint32", c10::ScalarType::UInt32},
      {"uint64", c10::ScalarType::UInt64},
      {"bits1x8", c10::ScalarType::Bits1x8},
      {"bits2x4", c10::ScalarType::Bits2x4},
      {"bits4x2", c10::ScalarType::Bits4x2},
      {"bits8", c10::ScalarType::Bits8},
      {"bits16", c10::ScalarType::Bits16},
      {"uint1", c10::ScalarType::UInt1},
      {"uint2", c10::ScalarType::UInt2},
      {"uint3", c10::ScalarType::UInt3},
      {"uint4", c10::ScalarType::UInt4},
      {"uint5", c10::ScalarType::UInt5},
      {"uint6", c10::ScalarType::UInt6},
      {"uint7", c10::ScalarType::UInt7},
      {"int1", c10::ScalarType::Int1},
      {"int2", c10::ScalarType::Int2},
      {"int3", c10::ScalarType::Int3},
      {"int4", c10::ScalarType::Int4},
      {"int5", c10::ScalarType::Int5},
      {"int6", c10::ScalarType::Int6},
      {"int7", c10::ScalarType::Int7},
      {"float4_e2m1fn_x2", c10::ScalarType::Float4_e2m1fn_x2},
  };
  return table;
}

std::optional<int64_t> layoutFromName(const std::string& name) {
  if (name == "strided") return static_cast<int64_t>(c10::kStrided);
  if (name == "sparse_coo") return static_cast<int64_t>(c10::kSparse);
  if (name == "sparse_csr") return static_cast<int64_t>(c10::kSparseCsr);
  if (name == "sparse_csc") return static_cast<int64_t>(c10::kSparseCsc);
  if (name == "sparse_bsr") return static_cast<int64_t>(c10::kSparseBsr);
  if (name == "sparse_bsc") return static_cast<int64_t>(c10::kSparseBsc);
  if (name == "mkldnn") return static_cast<int64_t>(c10::kMkldnn);
  if (name == "jagged") return static_cast<int64_t>(c10::kJagged);
  return std::nullopt;
}

std::optional<int64_t> memoryFormatFromName(const std::string& name) {
  if (name == "contiguous_format") return static_cast<int64_t>(c10::MemoryFormat::Contiguous);
  if (name == "preserve_format") return static_cast<int64_t>(c10::MemoryFormat::Preserve);
  if (name == "channels_last") return static_cast<int64_t>(c10::MemoryFormat::ChannelsLast);
  if (name == "channels_last_3d") return static_cast<int64_t>(c10::MemoryFormat::ChannelsLast3d);
  return std::nullopt;
}

bool isDeviceName(const std::string& name) {
  static const char* const types[] = {"cpu", "cuda", "meta", "mps", "xpu", "hip", "mtia"};
  const auto type = name.substr(0, name.find(':'));
  for (const auto* known : types) {
    if (type == known) return true;
  }
  return false;
}

int64_t bitsOf(double value) {
  int64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

double doubleOf(int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

int64_t integerAt(const CallFrame& frame, int32_t entry) {
  const double value = frame.value[entry];
  return static_cast<Kind>(frame.kind[entry]) == Kind::BigInteger ? bitsOf(value) : static_cast<int64_t>(value);
}

// A whole number as an integer, save for -0, which is only a float's.
c10::Scalar numberScalar(double value) {
  if (value == 0 && std::signbit(value)) return c10::Scalar(value);
  return c10::Scalar(static_cast<int64_t>(value));
}

c10::Scalar scalarAt(const CallFrame& frame, int32_t entry) {
  const double value = frame.value[entry];
  switch (static_cast<Kind>(frame.kind[entry])) {
    case Kind::Boolean:
      return c10::Scalar(value != 0);
    case Kind::Integer:
      return numberScalar(value);
    case Kind::BigInteger:
      return c10::Scalar(bitsOf(value));
    case Kind::Complex: {
      const auto* parts = frame.pool + static_cast<size_t>(value);
      return c10::Scalar(c10::complex<double>(parts[0], parts[1]));
    }
    default:
      return c10::Scalar(value);
  }
}

Conversion listConversion(Kind kind, const c10::Type& element, const c10::Argument& argument) {
  const auto repeat = argument.N().value_or(0);
  switch (element.kind()) {
    case c10::TypeKind::TensorType:
      if (kind == Kind::TensorList || kind == Kind::EmptyList) return {Converter::TensorList};
      break;
    case c10::TypeKind::OptionalType:
      if (element.castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::TensorType &&
          (kind == Kind::TensorList || kind == Kind::OptionalTensorList || kind == Kind::EmptyList))
        return {Converter::OptionalTensorList};
      if (element.castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::NumberType) {
        if (kind == Kind::IntegerList || kind == Kind::NumberList || kind == Kind::EmptyList)
          return {Converter::OptionalScalarList, kScalar};
        if (kind == Kind::Object) return {Converter::Object, kObject};
      }
      break;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      if (kind == Kind::IntegerList || kind == Kind::EmptyList) return {Converter::IntegerList};
      if (kind == Kind::Integer && repeat > 0) return {Converter::IntegerList, kRepeated, repeat};
      break;
    case c10::TypeKind::FloatType:
      if (kind == Kind::NumberList || kind == Kind::EmptyList) return {Converter::NumberList};
      if (kind == Kind::IntegerList) return {Converter::NumberList, kWidened};
      if ((kind == Kind::Integer || kind == Kind::Number) && repeat > 0)
        return {Converter::NumberList, kRepeated, repeat};
      break;
    case c10::TypeKind::BoolType:
      if (kind == Kind::BooleanList || kind == Kind::EmptyList) return {Converter::BooleanList};
      break;
    case c10::TypeKind::NumberType:
      if (kind == Kind::IntegerList || kind == Kind::NumberList || kind == Kind::BooleanList ||
          kind == Kind::EmptyList)
        return {Converter::ScalarList, kScalar};
      if (kind == Kind::Object) return {Converter::Object, kObject};
      break;
    case c10::TypeKind::StringType:
      if (kind == Kind::StringList || kind == Kind::EmptyList) return {Converter::StringList};
      break;
    case c10::TypeKind::ListType:
    case c10::TypeKind::ClassType:
      if (kind == Kind::Object) return {Converter::Object, kObject};
      break;
    default:
      break;
  }
  return {};
}

// What an argument of any type makes of an entry.
Conversion anyConversion(Kind kind) {
  switch (kind) {
    case Kind::Null:
      return {Converter::Null};
    case Kind::Tensor:
      return {Converter::Tensor};
    case Kind::Integer:
    case Kind::BigInteger:
      return {Converter::Integer};
    case Kind::Number:
      return {Converter::Number};
    case Kind::Boolean:
      return {Converter::Boolean};
    case Kind::String:
    case Kind::TypeName:
    case Kind::DeviceName:
    case Kind::LayoutName:
    case Kind::MemoryFormatName:
      return {Converter::String};
    case Kind::TensorList:
      return {Converter::TensorList};
    case Kind::IntegerList:
    case Kind::EmptyList:
      return {Converter::IntegerList};
    case Kind::NumberList:
      return {Converter::NumberList};
    case Kind::BooleanList:
      return {Converter::BooleanList};
    case Kind::StringList:
      return {Converter::StringList};
    case Kind::Object:
      return {Converter::Object, kObject};
    default:
      return {};
  }
}

Conversion typeConversion(Kind kind, const c10::Type& type, const c10::Argument& argument) {
  const bool isInteger = kind == Kind::Integer || kind == Kind::BigInteger;
  switch (type.kind()) {
    case c10::TypeKind::OptionalType:
      if (kind == Kind::Null) return {Converter::Null};
      return typeConversion(kind, *type.castRaw<c10::OptionalType>()->getElementType(), argument);
    case c10::TypeKind::TensorType:
      if (kind == Kind::Tensor) return {Converter::Tensor};
      if (isInteger || kind == Kind::Number || kind == Kind::Boolean || kind == Kind::Complex)
        return {Converter::WrappedNumber, kWrapped};
      break;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      if (isInteger) return {Converter::Integer};
      break;
    case c10::TypeKind::FloatType:
      if (kind == Kind::Number) return {Converter::Number};
      if (kind == Kind::Integer) return {Converter::Number, kWidened};
      break;
    case c10::TypeKind::BoolType:
      if (kind == Kind::Boolean) return {Converter::Boolean};
      break;
    case c10::TypeKind::NumberType:
      if (isInteger || kind == Kind::Number) return {Converter::Scalar, kScalar};
      if (kind == Kind::Boolean || kind == Kind::Complex) return {Converter::Scalar, kWidened};
      break;
    case c10::TypeKind::ComplexType:
      if (kind == Kind::Complex) return {Converter::Complex};
      if (isInteger || kind == Kind::Number) return {Converter::Complex, kWidened};
      break;
    case c10::TypeKind::StringType:
      if (kind == Kind::String) return {Converter::String};
      if (kind == Kind::TypeName || kind == Kind::DeviceName || kind == Kind::LayoutName ||
          kind == Kind::MemoryFormatName)
        return {Converter::String, kWidened};
      break;
    case c10::TypeKind::ScalarTypeType:
      if (kind == Kind::TypeName) return {Converter::ScalarType};
      break;
    case c10::TypeKind::LayoutType:
      if (kind == Kind::LayoutName) return {Converter::Layout};
      break;
    case c10::TypeKind::MemoryFormatType:
      if (kind == Kind::MemoryFormatName) return {Converter::MemoryFormat};
      break;
    case c10::TypeKind::DeviceObjType:
      if (kind == Kind::DeviceName) return {Converter::Device};
      break;
    case c10::TypeKind::GeneratorType:
      if (kind == Kind::Generator) return {Converter::Generator};
      break;
    case c10::TypeKind::ListType:
      return listConversion(kind, *type.castRaw<c10::ListType>()->getElementType(), argument);
    case c10::TypeKind::AnyType:
      return anyConversion(kind);
    case c10::TypeKind::ClassType:
    case c10::TypeKind::StorageType:
    case c10::TypeKind::StreamObjType:
    case c10::TypeKind::DictType:
      if (kind == Kind::Object) return {Converter::Object, kObject};
      break;
    default:
      break;
  }
  return {};
}

c10::IValue tensorValue(Environment& environment, double handle) { return c10::IValue(environment.tensors.at(handle)); }

size_t appendToPool(Environment& environment, size_t& used, size_t count) {
  if (used + count > environment.frame.poolSize) {
    const auto env = environment.growPool.Env();
    environment.growPool.Call({Napi::Number::New(env, static_cast<double>(used + count))});
    if (used + count > environment.frame.poolSize) throw Failure("OUT_OF_MEMORY", "the results do not fit into memory");
  }
  const auto offset = used;
  used += count;
  return offset;
}

// Whether a double holds each of the integers.
bool allSafe(const c10::List<int64_t>& list) {
  constexpr int64_t kSafe = (int64_t{1} << 53) - 1;
  return std::all_of(list.begin(), list.end(), [](int64_t integer) { return integer <= kSafe && integer >= -kSafe; });
}

void writeResult(Environment& environment, size_t entry, const c10::IValue& value, c10::TypeKind type,
                 size_t& poolUsed) {
  auto& frame = environment.frame;
  const auto put = [&](Kind kind, double number, size_t length = 0) {
    frame.kind[entry] = static_cast<uint8_t>(kind);
    frame.value[entry] = number;
    frame.length[entry] = static_cast<int32_t>(length);
  };
  const auto putList = [&](Kind kind, size_t length, auto item) {
    const auto offset = appendToPool(environment, poolUsed, length);
    for (size_t i = 0; i < length; i++) frame.pool[offset + i] = item(i);
    put(kind, static_cast<double>(offset), length);
  };
  const auto putInteger = [&](int64_t integer) {
    constexpr int64_t kSafe = (int64_t{1} << 53) - 1;
    if (integer > kSafe || integer < -kSafe)
      put(Kind::BigInteger, doubleOf(integer));
    else
      put(Kind::Integer, static_cast<double>(integer));
  };
  const auto handleOrZero = [&](const at::Tensor& tensor) {
    return tensor.defined() ? environment.tensors.add(tensor) : 0.0;
  };

  if (value.isTensor()) {
    const auto& tensor = value.toTensor();
    if (tensor.defined())
      put(Kind::Tensor, environment.tensors.add(tensor));
    else
      put(Kind::Null, 0);
  } else if (value.isNone()) {
    put(Kind::Null, 0);
  } else if (value.isBool()) {
    put(Kind::Boolean, value.toBool() ? 1 : 0);
  } else if (value.isInt()) {
    if (type == c10::TypeKind::ScalarTypeType)
      put(Kind::TypeName, static_cast<double>(value.toInt()));
    else
      putInteger(value.toInt());
  } else if (value.isSymBool()) {
    put(Kind::Boolean, value.toSymBool().guard_bool(__FILE__, __LINE__) ? 1 : 0);
  } else if (value.isSymInt()) {
    putInteger(value.toSymInt().guard_int(__FILE__, __LINE__));
  } else if (value.isDouble()) {
    put(Kind::Number, value.toDouble());
  } else if (value.isComplexDouble()) {
    const auto number = value.toComplexDouble();
    const auto offset = appendToPool(environment, poolUsed, 2);
    frame.pool[offset] = number.real();
    frame.pool[offset + 1] = number.imag();
    put(Kind::Complex, static_cast<double>(offset), 2);
  } else if (value.isTensorList()) {
    const auto list = value.toTensorVector();
    putList(Kind::OptionalTensorList, list.size(), [&](size_t i) { return handleOrZero(list[i]); });
  } else if (value.isOptionalTensorList()) {
    const auto list = value.toOptionalTensorVector();
    putList(Kind::OptionalTensorList, list.size(),
            [&](size_t i) { return list[i] ? handleOrZero(*list[i]) : 0.0; });
  } else if (value.isIntList() && allSafe(value.toIntList())) {
    const auto list = value.toIntVector();
    putList(Kind::IntegerList, list.size(), [&](size_t i) { return static_cast<double>(list[i]); });
  } else if (value.isDoubleList()) {
    const auto list = value.toDoubleVector();
    putList(Kind::NumberList, list.size(), [&](size_t i) { return list[i]; });
  } else if (value.isBoolList()) {
    const auto list = value.toBoolList();
    putList(Kind::BooleanList, list.size(), [&](size_t i) { return list.get(i) ? 1.0 : 0.0; });
  } else {
    put(Kind::Object, keepObject(environment, value));
  }
}

}  // namespace

std::optional<int64_t> scalarTypeFromName(const std::string& name) {
  const auto found = scalarTypes().find(name);
  if (found == scalarTypes().end()) return std::nullopt;
  return static_cast<int64_t>(found->second);
}

InternedString& interned(Environment& environment, double index) {
  return environment.strings.at(static_cast<size_t>(index));
}

at::Generator& generatorAt(Environment& environment, double index) {
  const auto position = static_cast<size_t>(index);
  if (position >= environment.generators.size() || !environment.generators[position])
    throw Failure("DISPOSED", "this generator does not exist any more");
  return *environment.generators[position];
}

Conversion conversionFor(Kind kind, const c10::Argument& argument) {
  return typeConversion(kind, *argument.real_type(), argument);
}

Kind intern(Environment& environment, const std::string& text) {
  InternedString string{text, scalarTypeFromName(text), layoutFromName(text), memoryFormatFromName(text), std::nullopt};
  const auto kind = string.scalarType      ? Kind::TypeName
                    : string.layout        ? Kind::LayoutName
                    : string.memoryFormat  ? Kind::MemoryFormatName
                    : isDeviceName(text)   ? Kind::DeviceName
                                           : Kind::String;
  environment.strings.push_back(std::move(string));
  return kind;
}

c10::IValue toIValue(Environment& environment, const ArgumentPlan& plan) {
  if (plan.entry < 0) return plan.fallback;
  const auto& frame = environment.frame;
  const auto entry = plan.entry;
  const double value = frame.value[entry];
  const auto kind = static_cast<Kind>(frame.kind[entry]);
  const auto length = static_cast<size_t>(frame.length[entry]);
  const double* items = frame.pool + (kind >= Kind::EmptyList ? static_cast<size_t>(value) : 0);
  const auto makeList = [&](auto list, auto convert) {
    if (plan.repeat > 0) {
      for (int32_t i = 0; i < plan.repeat; i++) list.push_back(convert(value));
    } else {
      list.reserve(length);
      for (size_t i = 0; i < length; i++) list.push_back(convert(items[i]));
    }
    return c10::IValue(std::move(list));
  };
  switch (plan.converter) {
    case Converter::Null:
      return {};
    case Converter::Tensor:
      return tensorValue(environment, value);
    case Converter::WrappedNumber: {
      auto tensor = at::scalar_to_tensor(scalarAt(frame, entry));
      tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
      return c10::IValue(std::move(tensor));
    }
    case Converter::Integer:
      return c10::IValue(integerAt(frame, entry));
    case Converter::Number:
      return c10::IValue(value);
    case Converter::Boolean:
      return c10::IValue(value != 0);
    case Converter::Scalar:
      return c10::IValue(scalarAt(frame, entry));
    case Converter::Complex:
      return c10::IValue(scalarAt(frame, entry).toComplexDouble());
    case Converter::String:
      return c10::IValue(interned(environment, value).text);
    case Converter::ScalarType:
      return c10::IValue(interned(environment, value).scalarType.value());
    case Converter::Layout:
      return c10::IValue(interned(environment, value).layout.value());
    case Converter::MemoryFormat:
      return c10::IValue(interned(environment, value).memoryFormat.value());
    case Converter::Device: {
      auto& string = interned(environment, value);
      if (!string.device) {
        const c10::Device device(string.text);
        checkDevice(device);
        string.device = device;
      }
      return c10::IValue(*string.device);
    }
    case Converter::Generator:
      return c10::IValue(generatorAt(environment, value));
    case Converter::TensorList:
      return makeList(c10::List<at::Tensor>(), [&](double item) { return environment.tensors.at(item); });
    case Converter::OptionalTensorList:
      return makeList(c10::List<std::optional<at::Tensor>>(), [&](double item) {
        return item == 0 ? std::optional<at::Tensor>() : std::optional<at::Tensor>(environment.tensors.at(item));
      });
    case Converter::IntegerList:
      return makeList(c10::List<int64_t>(), [](double item) { return static_cast<int64_t>(item); });
    case Converter::NumberList:
      return makeList(c10::List<double>(), [](double item) { return item; });
    case Converter::BooleanList:
      return makeList(c10::List<bool>(), [](double item) { return item != 0; });
    case Converter::StringList:
      return makeList(c10::List<std::string>(), [&](double item) { return interned(environment, item).text; });
    case Converter::ScalarList:
    case Converter::OptionalScalarList: {
      c10::TypePtr element = c10::NumberType::get();
      if (plan.converter == Converter::OptionalScalarList) element = c10::OptionalType::create(element);
      c10::impl::GenericList list(element);
      list.reserve(length);
      for (size_t i = 0; i < length; i++) {
        if (kind == Kind::IntegerList)
          list.push_back(c10::IValue(numberScalar(items[i])));
        else if (kind == Kind::BooleanList)
          list.push_back(c10::IValue(items[i] != 0));
        else
          list.push_back(c10::IValue(items[i]));
      }
      return c10::IValue(std::move(list));
    }
    case Converter::Object:
      return objectAs(environment, value, *plan.type);
    case Converter::None:
      break;
  }
  throw Failure("TYPE", "an argument could not be converted");
}

const at::Tensor& toTensor(Environment& environment, const ArgumentPlan& plan) {
  return environment.tensors.at(environment.frame.value[plan.entry]);
}

c10::Scalar toScalar(Environment& environment, const ArgumentPlan& plan) {
  return plan.entry < 0 ? plan.fallback.toScalar() : scalarAt(environment.frame, plan.entry);
}

c10::ArrayRef<double> itemsOf(Environment& environment, const ArgumentPlan& plan) {
  const auto& frame = environment.frame;
  return {frame.pool + static_cast<size_t>(frame.value[plan.entry]), static_cast<size_t>(frame.length[plan.entry])};
}

void writeTensor(Environment& environment, at::Tensor tensor) {
  auto& frame = environment.frame;
  const bool isDefined = tensor.defined();
  frame.kind[0] = static_cast<uint8_t>(isDefined ? Kind::Tensor : Kind::Null);
  if (isDefined) frame.value[0] = environment.tensors.add(std::move(tensor));
}

void writeResults(Environment& environment, const c10::FunctionSchema& schema, torch::jit::Stack& stack) {
  if (stack.size() > CallFrame::kEntries)
    throw Failure("TYPE", "an operator returned " + std::to_string(stack.size()) + " results");
  const auto& returns = schema.returns();
  size_t poolUsed = 0;
  for (size_t i = 0; i < stack.size(); i++) {
    const auto type = i < returns.size() ? returns[i].real_type()->kind() : c10::TypeKind::AnyType;
    writeResult(environment, i, stack[i], type, poolUsed);
  }
}

std::string describe(Environment& environment, size_t entry) {
  const auto& frame = environment.frame;
  switch (static_cast<Kind>(frame.kind[entry])) {
    case Kind::Undefined:
      return "undefined";
    case Kind::Null:
      return "null";
    case Kind::Tensor:
      return "a tensor";
    case Kind::Integer:
      return std::to_string(static_cast<int64_t>(frame.value[entry]));
    case Kind::Number:
      return "a number with a fraction";
    case Kind::Boolean:
      return frame.value[entry] != 0 ? "true" : "false";
    case Kind::BigInteger:
      return "a bigint";
    case Kind::String:
    case Kind::TypeName:
    case Kind::DeviceName:
    case Kind::LayoutName:
    case Kind::MemoryFormatName:
      return "'" + interned(environment, frame.value[entry]).text + "'";
    case Kind::Complex:
      return "a complex number";
    case Kind::Generator:
      return "a generator";
    case Kind::Object:
      return "a list of mixed items or of lists, or an object of LibTorch";
    case Kind::EmptyList:
      return "an empty list";
    case Kind::TensorList:
      return "a list of tensors";
    case Kind::OptionalTensorList:
      return "a list of tensors and nulls";
    case Kind::IntegerList:
      return "a list of integers";
    case Kind::NumberList:
      return "a list of numbers";
    case Kind::BooleanList:
      return "a list of booleans";
    case Kind::StringList:
      return "a list of strings";
  }
  return "an unknown value";
}

}  // namespace kontrast
