// Conversion between entries of the call frame and LibTorch's values, led by schema types.
#pragma once

#include "environment.h"

#include <ATen/core/jit_type.h>

#include <string>

namespace kontrast {

enum class Converter : uint8_t {
  None,
  Null,
  Tensor,
  WrappedNumber,
  TensorList,
  OptionalTensorList,
  Integer,
  Number,
  Boolean,
  Scalar,
  Complex,
  String,
  ScalarType,
  Layout,
  MemoryFormat,
  Device,
  Generator,
  IntegerList,
  NumberList,
  BooleanList,
  ScalarList,
  StringList,
  OptionalScalarList,
  Object,
};

struct Conversion {
  Converter converter = Converter::None;
  int cost = 0;
  int32_t repeat = 0;
};

// The conversion of an entry of this kind to the argument's type; `Converter::None` where there is none.
Conversion conversionFor(Kind kind, const c10::Argument& argument);

c10::IValue toIValue(Environment& environment, const ArgumentPlan& plan);

// Parts of direct calls.
const at::Tensor& toTensor(Environment& environment, const ArgumentPlan& plan);
c10::Scalar toScalar(Environment& environment, const ArgumentPlan& plan);
// The items of a list in the pool, where the entry is one.
c10::ArrayRef<double> itemsOf(Environment& environment, const ArgumentPlan& plan);

// The table of objects: keeps a value, gives its index.
double keepObject(Environment& environment, c10::IValue value);
// The value at an index, as this type; throws where it is of another.
c10::IValue objectAs(Environment& environment, double index, const c10::Type& type);
// The value as this type, which lists of any items must be given; throws where it is of another.
c10::IValue coerce(const c10::IValue& value, const c10::Type& type);

// Writes one tensor as the only result.
void writeTensor(Environment& environment, at::Tensor tensor);

// Writes results into the frame, one entry each; the schema tells a dtype from a number.
void writeResults(Environment& environment, const c10::FunctionSchema& schema, torch::jit::Stack& stack);

// Adds a string to the environment's table, as its last; says what kind of entry it makes.
Kind intern(Environment& environment, const std::string& text);
InternedString& interned(Environment& environment, double index);
std::optional<int64_t> scalarTypeFromName(const std::string& name);
std::string describe(Environment& environment, size_t entry);
at::Generator& generatorAt(Environment& environment, double index);

}  // namespace kontrast
