#include "direct.h"

#include "environment.h"
#include "values.h"

#include <ATen/core/IListRef.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/jit_type.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>
#include <c10/util/SmallVector.h>

#include <optional>
#include <tuple>
#include <utility>

namespace kontrast {

namespace {

using c10::TypeKind;

// --- Arguments ---

// Whether an argument with a default may take it as it is.
bool usesDefault(const ArgumentPlan& plan) { return plan.entry < 0; }

bool isNone(const ArgumentPlan& plan) {
  return usesDefault(plan) ? plan.fallback.isNone() : plan.converter == Converter::Null;
}

// Where a parameter's value comes from.
struct Source {
  Environment& environment;
  const ArgumentPlan& plan;
};

// One parameter of a signature. `kType` is the schema's type, `accepts` says whether the entry, or the default, can be given
// without a boxed call, and `get` gives it while the object lives, which stays where it was made.
template <typename T>
class Parameter;

struct SchemaType {
  TypeKind kind;
  bool isOptional = false;
  bool isList = false;
  bool itemsAreOptional = false;
  bool isWritten = false;
  bool operator==(const SchemaType&) const = default;
};

SchemaType schemaTypeOf(const c10::Argument& argument) {
  SchemaType found{};
  found.isWritten = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
  auto type = argument.real_type();
  if (type->kind() == TypeKind::OptionalType) {
    found.isOptional = true;
    type = type->castRaw<c10::OptionalType>()->getElementType();
  }
  if (type->kind() == TypeKind::ListType) {
    found.isList = true;
    type = type->castRaw<c10::ListType>()->getElementType();
    if (type->kind() == TypeKind::OptionalType) {
      found.itemsAreOptional = true;
      type = type->castRaw<c10::OptionalType>()->getElementType();
    }
  }
  found.kind = type->kind();
  return found;
}

template <>
class Parameter<const at::Tensor&> {
 public:
  static constexpr SchemaType kType{TypeKind::TensorType};
  static bool accepts(const ArgumentPlan& plan) { return plan.converter == Converter::Tensor; }
  Parameter(Source source) : tensor_(toTensor(source.environment, source.plan)) {}
  const at::Tensor& get() const { return tensor_; }
  template <typename Visit>
  void visitTensors(Visit visit) const {
    visit(tensor_);
  }

 private:
  const at::Tensor& tensor_;
};

// What is written to.
template <>
class Parameter<at::Tensor&> {
 public:
  static constexpr SchemaType kType{TypeKind::TensorType, false, false, false, true};
  static bool accepts(const ArgumentPlan& plan) { return plan.converter == Converter::Tensor; }
  // A handle of its own: the operator may put another tensor in it.
  Parameter(Source source) : tensor_(toTensor(source.environment, source.plan)) {}
  at::Tensor& get() const { return tensor_; }
  template <typename Visit>
  void visitTensors(Visit visit) const {
    visit(tensor_);
  }

 private:
  mutable at::Tensor tensor_;
};

template <>
class Parameter<const std::optional<at::Tensor>&> {
 public:
  static constexpr SchemaType kType{TypeKind::TensorType, true};
  static bool accepts(const ArgumentPlan& plan) { return isNone(plan) || plan.converter == Converter::Tensor; }
  Parameter(Source source) {
    if (!isNone(source.plan)) tensor_ = toTensor(source.environment, source.plan);
  }
  const std::optional<at::Tensor>& get() const { return tensor_; }
  template <typename Visit>
  void visitTensors(Visit visit) const {
    if (tensor_) visit(*tensor_);
  }

 private:
  std::optional<at::Tensor> tensor_;
};

class TensorsParameter {
 public:
  static constexpr SchemaType kType{TypeKind::TensorType, false, true};
  static bool accepts(const ArgumentPlan& plan) { return plan.converter == Converter::TensorList; }
  TensorsParameter(Source source) {
    const auto handles = itemsOf(source.environment, source.plan);
    tensors_.reserve(handles.size());
    for (const double handle : handles) tensors_.push_back(source.environment.tensors.at(handle));
  }
  template <typename Visit>
  void visitTensors(Visit visit) const {
    for (const auto& tensor : tensors_) visit(tensor);
  }

 protected:
  c10::SmallVector<at::Tensor, 8> tensors_;
};

template <>
class Parameter<at::TensorList> : public TensorsParameter {
 public:
  using TensorsParameter::TensorsParameter;
  at::TensorList get() const { return tensors_; }
};

template <>
class Parameter<const at::ITensorListRef&> : public TensorsParameter {
 public:
  Parameter(Source source) : TensorsParameter(source), list_(at::TensorList(tensors_)) {}
  const at::ITensorListRef& get() const { return list_; }

 private:
  at::ITensorListRef list_;
};

template <>
class Parameter<const c10::List<std::optional<at::Tensor>>&> {
 public:
  static constexpr SchemaType kType{TypeKind::TensorType, false, true, true};
  static bool accepts(const ArgumentPlan& plan) { return plan.converter == Converter::OptionalTensorList; }
  Parameter(Source source) {
    const auto handles = itemsOf(source.environment, source.plan);
    list_.reserve(handles.size());
    for (const double handle : handles)
      list_.push_back(handle == 0 ? std::nullopt : std::optional<at::Tensor>(source.environment.tensors.at(handle)));
  }
  const c10::List<std::optional<at::Tensor>>& get() const { return list_; }
  template <typename Visit>
  void visitTensors(Visit visit) const {
    for (const std::optional<at::Tensor> tensor : list_) {
      if (tensor) visit(*tensor);
    }
  }

 private:
  c10::List<std::optional<at::Tensor>> list_;
};

struct NoTensors {
  template <typename Visit>
  void visitTensors(Visit) const {}
};

template <>
class Parameter<const c10::Scalar&> : public NoTensors {
 public:
  static constexpr SchemaType kType{TypeKind::NumberType};
  static bool accepts(const ArgumentPlan& plan) {
    return usesDefault(plan) ? plan.fallback.isScalar() : plan.converter == Converter::Scalar;
  }
  Parameter(Source source) : scalar_(toScalar(source.environment, source.plan)) {}
  const c10::Scalar& get() const { return scalar_; }

 private:
  c10::Scalar scalar_;
};

// Values that an IValue holds without memory of its own. Numbers, which many calls of views have several of, go straight.
template <typename T>
T plainValue(Source source) {
  const auto& [environment, plan] = source;
  if (usesDefault(plan)) return plan.fallback.to<T>();
  if constexpr (std::is_same_v<T, int64_t>) {
    if (static_cast<Kind>(environment.frame.kind[plan.entry]) == Kind::Integer)
      return static_cast<int64_t>(environment.frame.value[plan.entry]);
  }
  return toIValue(environment, plan).to<T>();
}

template <typename T, TypeKind kind>
class PlainParameter : public NoTensors {
 public:
  static constexpr SchemaType kType{kind};
  static bool accepts(const ArgumentPlan&) { return true; }
  PlainParameter(Source source) : value_(plainValue<T>(source)) {}
  T get() const { return value_; }

 private:
  T value_;
};

template <typename T, TypeKind kind>
class OptionalParameter : public NoTensors {
 public:
  static constexpr SchemaType kType{kind, true};
  static bool accepts(const ArgumentPlan&) { return true; }
  OptionalParameter(Source source) {
    if (!isNone(source.plan)) value_ = plainValue<T>(source);
  }
  std::optional<T> get() const { return value_; }

 private:
  std::optional<T> value_;
};

template <>
class Parameter<int64_t> : public PlainParameter<int64_t, TypeKind::IntType> {
  using PlainParameter::PlainParameter;
};
template <>
class Parameter<c10::SymInt> : public PlainParameter<int64_t, TypeKind::SymIntType> {
 public:
  using PlainParameter::PlainParameter;
  c10::SymInt get() const { return c10::SymInt(PlainParameter::get()); }
};
template <>
class Parameter<bool> : public PlainParameter<bool, TypeKind::BoolType> {
  using PlainParameter::PlainParameter;
};
template <>
class Parameter<double> : public PlainParameter<double, TypeKind::FloatType> {
  using PlainParameter::PlainParameter;
};
template <>
class Parameter<std::optional<int64_t>> : public OptionalParameter<int64_t, TypeKind::IntType> {
  using OptionalParameter::OptionalParameter;
};
template <>
class Parameter<std::optional<bool>> : public OptionalParameter<bool, TypeKind::BoolType> {
  using OptionalParameter::OptionalParameter;
};
template <>
class Parameter<std::optional<c10::SymInt>> : public OptionalParameter<int64_t, TypeKind::SymIntType> {
 public:
  using OptionalParameter::OptionalParameter;
  std::optional<c10::SymInt> get() const {
    const auto value = OptionalParameter::get();
    return value ? std::optional<c10::SymInt>(c10::SymInt(*value)) : std::nullopt;
  }
};
template <>
class Parameter<std::optional<c10::ScalarType>> : public OptionalParameter<c10::ScalarType, TypeKind::ScalarTypeType> {
  using OptionalParameter::OptionalParameter;
};
template <>
class Parameter<std::optional<c10::Layout>> : public OptionalParameter<c10::Layout, TypeKind::LayoutType> {
  using OptionalParameter::OptionalParameter;
};
template <>
class Parameter<std::optional<c10::Device>> : public OptionalParameter<c10::Device, TypeKind::DeviceObjType> {
  using OptionalParameter::OptionalParameter;
};
template <>
class Parameter<std::optional<c10::MemoryFormat>>
    : public OptionalParameter<c10::MemoryFormat, TypeKind::MemoryFormatType> {
  using OptionalParameter::OptionalParameter;
};

// Integers of a list, with room for the dimensions of most tensors.
class IntegersParameter : public NoTensors {
 public:
  static bool accepts(const ArgumentPlan& plan) {
    return isNone(plan) || (usesDefault(plan) ? plan.fallback.isIntList() : plan.converter == Converter::IntegerList);
  }
  IntegersParameter(Source source) : isNone_(isNone(source.plan)) {
    if (isNone_) return;
    const auto& [environment, plan] = source;
    if (usesDefault(plan)) {
      for (const int64_t integer : plan.fallback.toIntVector()) integers_.push_back(integer);
    } else if (plan.repeat > 0) {
      integers_.assign(static_cast<size_t>(plan.repeat), static_cast<int64_t>(environment.frame.value[plan.entry]));
    } else {
      for (const double item : itemsOf(environment, plan)) integers_.push_back(static_cast<int64_t>(item));
    }
  }

 protected:
  bool isNone_;
  c10::SmallVector<int64_t, 6> integers_;
};

template <>
class Parameter<at::IntArrayRef> : public IntegersParameter {
 public:
  static constexpr SchemaType kType{TypeKind::IntType, false, true};
  using IntegersParameter::IntegersParameter;
  at::IntArrayRef get() const { return integers_; }
};
template <>
class Parameter<c10::SymIntArrayRef> : public IntegersParameter {
 public:
  static constexpr SchemaType kType{TypeKind::SymIntType, false, true};
  using IntegersParameter::IntegersParameter;
  c10::SymIntArrayRef get() const { return c10::fromIntArrayRefSlow(integers_); }
};
template <>
class Parameter<at::OptionalIntArrayRef> : public IntegersParameter {
 public:
  static constexpr SchemaType kType{TypeKind::IntType, true, true};
  using IntegersParameter::IntegersParameter;
  at::OptionalIntArrayRef get() const {
    return isNone_ ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(at::IntArrayRef(integers_));
  }
};

// --- Signatures ---

// Autograd's kernels only pass on what needs no gradient, which for a small operator is a tenth of its time. Left out
// they may be where every tensor is plain: dense, and without anything that autograd keeps with a tensor.
constexpr auto kPlainKeys = c10::DispatchKeySet({c10::DispatchKey::Dense, c10::DispatchKey::ADInplaceOrView}) |
                            c10::DispatchKeySet(c10::BackendComponent::CPUBit) |
                            c10::DispatchKeySet(c10::BackendComponent::CUDABit) |
                            c10::DispatchKeySet(c10::DispatchKey::AutogradFunctionality);

bool isPlain(const at::Tensor& tensor) {
  const auto* impl = tensor.unsafeGetTensorImpl();
  return impl->autograd_meta() == nullptr && (impl->key_set().raw_repr() & ~kPlainKeys.raw_repr()) == 0;
}

// Whether autograd's kernel does nothing else: an operator without a kernel for the CPU, or from elsewhere, may do its work
// in it.
bool passesOn(const c10::OperatorHandle& op) {
  if (op.operator_name().getNamespace() != std::optional<std::string_view>("aten")) return false;
  return op.hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
         op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd);
}

template <typename Result, typename... Arguments>
class TypedCall : public DirectCall {
 public:
  using Signature = Result(Arguments...);

  explicit TypedCall(const c10::OperatorHandle& op) : op_(op.typed<Signature>()), passesOn_(passesOn(op)) {}

  static bool fits(const c10::FunctionSchema& schema, const std::vector<ArgumentPlan>& plans) {
    const auto& returned = schema.returns();
    if (returned.size() != 1 || returned[0].type()->kind() != TypeKind::TensorType) return false;
    const bool isWritten = returned[0].alias_info() != nullptr && returned[0].alias_info()->isWrite();
    if (isWritten != std::is_same_v<Result, at::Tensor&>) return false;
    const auto& arguments = schema.arguments();
    return arguments.size() == sizeof...(Arguments) &&
           fitsEach(arguments, plans, std::index_sequence_for<Arguments...>());
  }

  at::Tensor call(Environment& environment, const std::vector<ArgumentPlan>& plans) const override {
    return callEach(environment, plans, std::index_sequence_for<Arguments...>());
  }

 private:
  template <size_t... I>
  static bool fitsEach(const std::vector<c10::Argument>& arguments, const std::vector<ArgumentPlan>& plans,
                       std::index_sequence<I...>) {
    return ((schemaTypeOf(arguments[I]) == Parameter<Arguments>::kType && Parameter<Arguments>::accepts(plans[I])) && ...);
  }

  template <size_t... I>
  at::Tensor callEach(Environment& environment, const std::vector<ArgumentPlan>& plans,
                      std::index_sequence<I...>) const {
    const std::tuple<Parameter<Arguments>...> given(Source{environment, plans[I]}...);
    bool canPassOn = passesOn_;
    if (canPassOn) {
      (std::get<I>(given).visitTensors([&](const at::Tensor& tensor) { canPassOn = canPassOn && isPlain(tensor); }), ...);
    }
    if (!canPassOn) return op_.call(std::get<I>(given).get()...);
    const c10::impl::ExcludeDispatchKeyGuard guard(c10::autograd_dispatch_keyset);
    return op_.call(std::get<I>(given).get()...);
  }

  c10::TypedOperatorHandle<Signature> op_;
  bool passesOn_;
};

template <typename Call>
std::unique_ptr<DirectCall> makeIf(const c10::OperatorHandle& op, const std::vector<ArgumentPlan>& plans) {
  if (!Call::fits(op.schema(), plans)) return nullptr;
  try {
    return std::make_unique<Call>(op);
  } catch (const c10::Error&) {
    // Its kernel was registered with another signature; the boxed call does not depend on it.
    return nullptr;
  }
}

template <typename... Calls>
std::unique_ptr<DirectCall> firstOf(const c10::OperatorHandle& op, const std::vector<ArgumentPlan>& plans) {
  std::unique_ptr<DirectCall> made;
  static_cast<void>(((made = makeIf<Calls>(op, plans)) || ...));
  return made;
}

using Tensor = const at::Tensor&;
using Scalar = const c10::Scalar&;
using Written = at::Tensor&;
using MaybeTensor = const std::optional<at::Tensor>&;
using MaybeType = std::optional<c10::ScalarType>;

template <typename... Arguments>
using Gives = TypedCall<at::Tensor, Arguments...>;
template <typename... Arguments>
using Writes = TypedCall<at::Tensor&, at::Tensor&, Arguments...>;

}  // namespace

std::unique_ptr<DirectCall> directCallFor(const c10::OperatorHandle& op, const std::vector<ArgumentPlan>& arguments) {
  return firstOf<
      // Element by element
      Gives<Tensor>, Gives<Tensor, Tensor>, Gives<Tensor, Scalar>, Gives<Scalar, Tensor>, Gives<Tensor, Tensor, Scalar>,
      Gives<Tensor, Scalar, Scalar>, Gives<Tensor, Tensor, Tensor>, Gives<Tensor, Tensor, Tensor, Scalar>, Writes<>,
      Writes<Tensor>, Writes<Scalar>, Writes<Tensor, Scalar>, Writes<Scalar, Scalar>, Writes<Tensor, bool>,
      Writes<Tensor, Tensor, Scalar>,
      // Products
      Gives<Tensor, Tensor, MaybeTensor>, Gives<Tensor, Tensor, Tensor, Scalar, Scalar>,
      // Reductions
      Gives<Tensor, MaybeType>, Gives<Tensor, at::OptionalIntArrayRef, bool, MaybeType>, Gives<Tensor, at::IntArrayRef, bool>,
      Gives<Tensor, int64_t, MaybeType>, Gives<Tensor, int64_t, bool>, Gives<Tensor, std::optional<int64_t>, bool>,
      // Shapes
      Gives<Tensor, c10::SymIntArrayRef>, Gives<Tensor, at::IntArrayRef>, Gives<Tensor, int64_t>, Gives<Tensor, c10::SymInt>,
      Gives<Tensor, int64_t, int64_t>, Gives<Tensor, int64_t, c10::SymInt>, Gives<Tensor, c10::SymIntArrayRef, bool>,
      Gives<Tensor, int64_t, c10::SymInt, c10::SymInt>,
      Gives<Tensor, int64_t, std::optional<c10::SymInt>, std::optional<c10::SymInt>, c10::SymInt>,
      Gives<Tensor, std::optional<c10::MemoryFormat>>,
      // Picking and joining
      Gives<Tensor, int64_t, Tensor>, Gives<Tensor, int64_t, Tensor, bool>,
      Gives<Tensor, const c10::List<std::optional<at::Tensor>>&>, Gives<const at::ITensorListRef&, int64_t>,
      Gives<at::TensorList, int64_t>, Gives<at::TensorList>,
      // New tensors
      Gives<c10::SymIntArrayRef, MaybeType, std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>>,
      Gives<Tensor, MaybeType, std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>,
            std::optional<c10::MemoryFormat>>>(op, arguments);
}

}  // namespace kontrast
