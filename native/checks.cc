#include "checks.h"

#include "errors.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <ATen/core/List.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_map>

namespace kontrast {

// The arguments of a call by their names in the schema.
class Arguments {
 public:
  Arguments(const c10::FunctionSchema& schema, const torch::jit::Stack& stack) : schema_(schema), stack_(stack) {}

  bool has(const char* name) const { return find(name) != nullptr; }

  // Undefined where it is left out.
  at::Tensor tensor(const char* name) const {
    const auto* value = find(name);
    return value != nullptr && value->isTensor() ? value->toTensor() : at::Tensor();
  }

  int64_t integer(const char* name) const { return find(name)->toInt(); }

  std::optional<int64_t> optionalInteger(const char* name) const {
    const auto* value = find(name);
    return value != nullptr && value->isInt() ? std::optional<int64_t>(value->toInt()) : std::nullopt;
  }

  // Zero where it is left out.
  double number(const char* name) const {
    const auto* value = find(name);
    return value != nullptr && value->isDouble() ? value->toDouble() : 0;
  }

  std::optional<at::Scalar> scalar(const char* name) const {
    const auto* value = find(name);
    return value != nullptr && value->isScalar() ? std::optional<at::Scalar>(value->toScalar()) : std::nullopt;
  }

  bool flag(const char* name) const { return find(name)->toBool(); }

  // No items where it is left out.
  std::vector<int64_t> integers(const char* name) const {
    const auto* value = find(name);
    return value != nullptr && value->isIntList() ? value->toIntVector() : std::vector<int64_t>();
  }

  std::vector<at::Tensor> tensors(const char* name) const { return find(name)->toTensorVector(); }

  template <class... Parts>
  void require(bool holds, const char* name, const Parts&... parts) const {
    if (holds) return;
    std::ostringstream message;
    message << "'" << name << "' must ";
    (message << ... << parts);
    throw Failure("INVALID_ARGUMENT", message.str());
  }

 private:
  const c10::IValue* find(const char* name) const {
    const auto& arguments = schema_.arguments();
    for (size_t i = 0; i < arguments.size(); i++) {
      if (arguments[i].name() == name) return &stack_[i];
    }
    return nullptr;
  }

  const c10::FunctionSchema& schema_;
  const torch::jit::Stack& stack_;
};

namespace {

// Factors that come from a caller: their product may not fit 64 bits.
double product(std::initializer_list<int64_t> factors) {
  double result = 1;
  for (const auto factor : factors) result *= static_cast<double>(factor);
  return result;
}

bool isStrided(const at::Tensor& tensor) { return !tensor.defined() || tensor.layout() == at::kStrided; }

void requireStrided(const Arguments& arguments, const char* name) {
  arguments.require(isStrided(arguments.tensor(name)), name, "be a strided tensor");
}

void requirePositive(const Arguments& arguments, const char* name) {
  const auto value = arguments.integer(name);
  arguments.require(value > 0, name, "be positive, not ", value);
}

void requireBetween(const Arguments& arguments, const char* name, int64_t value, int64_t least, int64_t most) {
  arguments.require(value >= least && value <= most, name, "be between ", least, " and ", most, ", not ", value);
}

void requireCount(const Arguments& arguments, const char* name, size_t count, size_t right) {
  arguments.require(count == right, name, "have ", right, " items, not ", count);
}

void requireItems(const Arguments& arguments, const char* name, size_t least) {
  const auto items = arguments.integers(name).size();
  arguments.require(items >= least, name, "have ", least, " items, not ", items);
}

void requireDimensions(const Arguments& arguments, const char* name, int64_t least) {
  const auto tensor = arguments.tensor(name);
  arguments.require(tensor.dim() >= least, name, "have at least ", least, " dimensions, not ", tensor.dim());
}

void requireSizes(const Arguments& arguments, const char* name, at::IntArrayRef sizes) {
  const auto tensor = arguments.tensor(name);
  arguments.require(isStrided(tensor) && tensor.sizes() == sizes, name, "be strided and have the shape ", sizes, ", not ",
                    tensor.sizes());
}

// Of a tensor that may be left out. Those of oneDNN have no strides, but all their elements.
void requireElements(const Arguments& arguments, const char* name, double least) {
  const auto tensor = arguments.tensor(name);
  if (!tensor.defined()) return;
  const bool isDense = isStrided(tensor) || tensor.is_mkldnn();
  const auto count = tensor.numel();
  arguments.require(isDense && static_cast<double>(count) >= least, name, "be dense and have ", least, " elements, not ", count);
}

void requireType(const Arguments& arguments, const char* name, at::ScalarType type) {
  const auto tensor = arguments.tensor(name);
  arguments.require(tensor.scalar_type() == type, name, "be of type ", type, ", not ", tensor.scalar_type());
}

void requireTensor(const Arguments& arguments, const char* name) {
  arguments.require(arguments.tensor(name).defined(), name, "be given");
}

bool isOnCpu(const at::Tensor& tensor) { return tensor.device().is_cpu(); }

// Lists.

void tensorsAreThere(const Arguments& arguments) {
  arguments.require(!arguments.tensors("tensors").empty(), "tensors", "not be empty");
}

void tensorsHaveDimensions(const Arguments& arguments) {
  for (const auto& tensor : arguments.tensors("tensors"))
    arguments.require(tensor.dim() > 0, "tensors", "have at least one dimension each");
}

void copyHasPlaces(const Arguments& arguments) {
  const auto self = arguments.tensors("self");
  const auto given = arguments.tensors("src").size();
  arguments.require(self.size() >= given, "self", "have as many tensors as 'src', ", given, ", not ", self.size());
  for (const auto& tensor : self)
    arguments.require(isStrided(tensor), "self", "be a list of strided tensors");
}

void cellHasStates(const Arguments& arguments) {
  const auto states = arguments.tensors("hx").size();
  arguments.require(states >= 2, "hx", "have two tensors, not ", states);
}

void weightsAreThere(const Arguments& arguments) {
  arguments.require(!arguments.tensors("params").empty(), "params", "not be empty");
}

// Where 1 more or less does not fit 64 bits, the search for the nearest float never ends.
void boundsHaveNeighbours(const Arguments& arguments) {
  if (!at::isFloatingType(arguments.tensor("self").scalar_type())) return;
  constexpr auto kMost = std::numeric_limits<int64_t>::max();
  constexpr auto kLeast = std::numeric_limits<int64_t>::min();
  arguments.require(arguments.integer("from") < kMost, "from", "be less than ", kMost, " for floats");
  const auto to = arguments.optionalInteger("to");
  arguments.require(!to || *to > kLeast + 1, "to", "be greater than ", kLeast + 1, " for floats");
}

// The number of steps is found by dividing as the result's type divides.
void stepIsThere(const Arguments& arguments) {
  const auto type = arguments.optionalInteger("dtype");
  const auto out = arguments.tensor("out");
  const bool isInteger = out.defined() ? at::isIntegralType(out.scalar_type(), true)
                                       : type && at::isIntegralType(static_cast<at::ScalarType>(*type), true);
  const auto step = arguments.scalar("step");
  if (!isInteger || !step || step->isComplex()) return;
  arguments.require(std::abs(step->toDouble()) >= 1, "step", "not round to 0 for integers, ", step->toDouble());
}

// Optimisers: what belongs to a parameter has its size.
void statesFit(const Arguments& arguments) {
  const auto parameters = arguments.tensors("self");
  for (const auto* name : {"grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "state_sums", "momentum_buffer_list"}) {
    if (!arguments.has(name)) continue;
    const auto states = arguments.tensors(name);
    const std::string kind(name);
    const bool isNeeded = kind == "max_exp_avg_sqs" ? arguments.flag("amsgrad") : kind != "momentum_buffer_list";
    if (states.empty() && !isNeeded) continue;
    requireCount(arguments, name, states.size(), parameters.size());
    for (size_t i = 0; i < states.size(); i++)
      arguments.require(isStrided(states[i]) && states[i].sizes() == parameters[i].sizes(), name,
                        "be strided and have the shapes of 'self'");
  }
  if (arguments.has("state_steps")) {
    const auto steps = arguments.tensors("state_steps");
    requireCount(arguments, "state_steps", steps.size(), parameters.size());
    for (const auto& step : steps) arguments.require(step.numel() > 0, "state_steps", "not hold empty tensors");
  }
  for (const auto* name : {"grad_scale", "found_inf"}) requireElements(arguments, name, 1);
}

// Copies.

void copyHasStorage(const Arguments& arguments) { requireStrided(arguments, "self"); }

void requireMemory(const Arguments& arguments, double offset, double itemBytes) {
  const auto self = arguments.tensor("self");
  const auto sizes = arguments.integers("size");
  const auto strides = arguments.integers("stride");
  requireStrided(arguments, "self");
  arguments.require(sizes.size() == strides.size(), "stride", "have as many items as 'size'");
  double last = offset;
  double first = offset;
  for (size_t i = 0; i < sizes.size(); i++) {
    if (sizes[i] <= 0) return;
    (strides[i] < 0 ? first : last) += product({sizes[i] - 1, strides[i], static_cast<int64_t>(itemBytes)});
  }
  arguments.require(first >= 0 && last + itemBytes <= static_cast<double>(self.storage().nbytes()), "size",
                    "not reach beyond the memory of 'self'");
}

void aliasFitsStorage(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  const auto itemBytes = static_cast<double>(self.itemsize());
  const auto offset = self.storage_offset() + (arguments.has("offset_increment") ? arguments.integer("offset_increment") : 0);
  requireMemory(arguments, static_cast<double>(offset) * itemBytes, itemBytes);
}

void poolHasRoom(const Arguments& arguments) {
  arguments.require(!arguments.tensor("self").is_quantized(), "self", "not be quantized");
  const auto type = static_cast<at::ScalarType>(arguments.integer("dtype"));
  const auto offset = static_cast<double>(arguments.integer("offset_bytes"));
  requireMemory(arguments, offset, static_cast<double>(c10::elementSize(type)));
}

// A view of other types or signs forgets how the numbers were quantized.
void isNotQuantized(const Arguments& arguments) {
  arguments.require(!arguments.tensor("self").is_quantized(), "self", "not be quantized");
}

// What such a view gives cannot even be printed.
void typeOfViewFits(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  const bool isSame = self.scalar_type() == static_cast<at::ScalarType>(arguments.integer("dtype"));
  arguments.require(isSame || !self.is_quantized(), "self", "not be quantized where the type is another");
}

void batchDimensionFits(const Arguments& arguments) {
  requireBetween(arguments, "out_dim", arguments.integer("out_dim"), 0, arguments.tensor("self").dim());
}

void batchDimensionsFit(const Arguments& arguments) {
  const auto count = arguments.integer("self_num_batch_dims");
  requireBetween(arguments, "self_num_batch_dims", count, 0, arguments.tensor("self").dim());
}

void bufferHasRoom(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  for (const auto* name : {"output", "buffer"}) {
    const auto given = arguments.tensor(name);
    // One of another shape is given new memory.
    if (given.sizes() != self.sizes() || !given.has_storage()) continue;
    const auto end = static_cast<size_t>(given.storage_offset() + given.numel()) * given.itemsize();
    arguments.require(end <= given.storage().nbytes(), name, "have memory for each of its elements");
  }
}

// Normalisation.

// What is kept for each channel, and the divisions by their number.
void channelsAgree(const Arguments& arguments) {
  requireDimensions(arguments, "input", 2);
  const auto channels = arguments.tensor("input").size(1);
  for (const auto* name : {"weight", "bias", "running_mean", "running_var"})
    requireElements(arguments, name, static_cast<double>(channels));
}

void statisticsAreThere(const Arguments& arguments) {
  for (const auto* flag : {"training", "train", "update"}) {
    if (arguments.has(flag) && arguments.flag(flag)) return;
  }
  arguments.require(arguments.has("running_mean"), "training", "be true where there are no running statistics");
  requireTensor(arguments, "running_mean");
  requireTensor(arguments, "running_var");
}

void savedStatisticsAreThere(const Arguments& arguments) {
  const auto* flag = arguments.has("train") ? "train" : "update";
  if (!arguments.flag(flag)) return;
  const auto channels = static_cast<double>(arguments.tensor("input").size(1));
  for (const auto* name : {"save_mean", "save_invstd", "save_var", "save_var_transform"}) {
    if (!arguments.has(name)) continue;
    requireTensor(arguments, name);
    requireElements(arguments, name, channels);
  }
}

void gradientMatchesInput(const Arguments& arguments) {
  const auto input = arguments.tensor("input");
  arguments.require(input.numel() > 0, "input", "not be empty");
  requireSizes(arguments, arguments.has("grad_out") ? "grad_out" : "grad_output", input.sizes());
}

// Vectors of integers are divided by it, also where the quotient is not used. Shorter than a vector, they are not.
void integersHaveDivisor(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  constexpr size_t kVector = 32;
  if (!at::isIntegralType(self.scalar_type(), true) || self.itemsize() == 1 || self.nbytes() < kVector) return;
  const auto beta = arguments.number("beta");
  arguments.require(!(std::abs(beta) < 1), "beta", "not round to 0 for integers, ", beta);
}

void groupIsPositive(const Arguments& arguments) { requirePositive(arguments, "group"); }

void headsArePositive(const Arguments& arguments) { requirePositive(arguments, "num_heads"); }

void weightNormFits(const Arguments& arguments, const char* direction, std::initializer_list<const char*> lengths) {
  const auto tensor = arguments.tensor(direction);
  const auto dimension = arguments.integer("dim");
  // Along another dimension LibTorch computes it otherwise, or refuses.
  if (dimension != 0 && dimension != tensor.dim() - 1) return;
  requireDimensions(arguments, direction, 1);
  const auto length = tensor.size(dimension);
  arguments.require(length > 0, direction, "have elements along dimension ", dimension);
  for (const auto* name : lengths) requireElements(arguments, name, static_cast<double>(length));
}

void weightNorm(const Arguments& arguments) { weightNormFits(arguments, "v", {"g"}); }

void weightNormBackward(const Arguments& arguments) {
  weightNormFits(arguments, "saved_v", {"saved_g", "saved_norms"});
  requireElements(arguments, "grad_w", static_cast<double>(arguments.tensor("saved_v").numel()));
}

void gradientMatchesOutput(const Arguments& arguments) {
  if (arguments.tensor("output").is_nested()) return;
  requireSizes(arguments, "grad_output", arguments.tensor("output").sizes());
}

// The sizes of the items of a nested tensor, one item a row.
void nestedSizesFit(const Arguments& arguments) {
  const auto sizes = arguments.tensor("cpu_nested_shape_example");
  requireType(arguments, "cpu_nested_shape_example", at::kLong);
  arguments.require(sizes.dim() == 2 && isStrided(sizes) && sizes.is_contiguous(), "cpu_nested_shape_example",
                    "be contiguous and have two dimensions, not ", sizes.dim());
  requireDimensions(arguments, "padded", 2);
}

// Windows.

// Lists of fixed length that a kernel reads without counting.
template <int dimensions>
void paddingFits(const Arguments& arguments) {
  requireItems(arguments, "padding", 2 * dimensions);
  requireDimensions(arguments, "self", dimensions + 1);
  const auto padding = arguments.integers("padding");
  const auto self = arguments.tensor("self");
  auto sizes = self.sizes().vec();
  for (int i = 0; i < dimensions; i++) sizes[self.dim() - 1 - i] += padding[2 * i] + padding[2 * i + 1];
  requireSizes(arguments, "grad_output", sizes);
}

// The kernel for quantized numbers neither looks at the padding nor gives the result its shape.
void quantizedPaddingFits(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  if (!self.is_quantized()) return;
  requireDimensions(arguments, "self", 2);
  requireItems(arguments, "padding", 2);
  const auto padding = arguments.integers("padding");
  auto sizes = self.sizes().vec();
  const auto width = self.size(-1);
  for (const auto side : {padding[0], padding[1]}) requireBetween(arguments, "padding", side, -width, width - 1);
  sizes.back() += padding[0] + padding[1];
  requireSizes(arguments, "out", sizes);
}

template <int dimensions>
void fractionalPoolFits(const Arguments& arguments) {
  requireItems(arguments, "output_size", dimensions);
  requireDimensions(arguments, "self", dimensions + 1);
  const auto output = arguments.integers("output_size");
  const auto self = arguments.tensor("self");
  auto sizes = self.sizes().vec();
  for (int i = 0; i < dimensions; i++) sizes[self.dim() - dimensions + i] = output[i];
  requireSizes(arguments, "grad_output", sizes);
  requireSizes(arguments, "indices", sizes);
}

void slowConvolutionFits(const Arguments& arguments) {
  for (const auto* name : {"kernel_size", "stride", "padding"}) requireItems(arguments, name, 2);
}

void stridesArePositive(const Arguments& arguments) {
  for (const auto stride : arguments.integers("stride"))
    arguments.require(stride > 0, "stride", "be positive, not ", stride);
}

void nnpackConvolutionFits(const Arguments& arguments) {
  const auto input = arguments.tensor("input");
  requireDimensions(arguments, "input", 4);
  requireSizes(arguments, "input", input.sizes());
  arguments.require(arguments.tensor("weight").dim() == input.dim(), "weight", "have as many dimensions as 'input'");
  requireItems(arguments, "padding", input.dim() - 2);
  requireItems(arguments, "stride", input.dim() - 2);
  stridesArePositive(arguments);
}

// The scale's inverse times a place in the result must be a place in the input.
void scalesHaveInverses(const Arguments& arguments) {
  constexpr double kMost = 4e18;
  double longest = 1;
  for (const auto size : arguments.integers("output_size")) longest = std::max(longest, static_cast<double>(size) + 1);
  for (const auto* name : {"scales", "scales_d", "scales_h", "scales_w"}) {
    const auto scale = arguments.number(name);
    if (scale > 0) arguments.require(static_cast<float>(1 / scale) * longest < kMost, name, "not be so small, ", scale);
  }
}

// Distances.

void pairDistancesFit(const Arguments& arguments) {
  const auto first = arguments.tensor("x1");
  const auto second = arguments.tensor("x2");
  requireDimensions(arguments, "x1", 2);
  requireDimensions(arguments, "x2", 2);
  auto sizes = at::infer_size(first.sizes().slice(0, first.dim() - 2), second.sizes().slice(0, second.dim() - 2));
  sizes.push_back(first.size(-2));
  sizes.push_back(second.size(-2));
  requireSizes(arguments, "grad", sizes);
  requireSizes(arguments, "cdist", sizes);
}

// As many numbers are read as a matrix of the first two sizes has.
void pointsAreRows(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  if (self.dim() >= 2) requireElements(arguments, "self", product({self.size(0), self.size(1)}));
}

void distancesFit(const Arguments& arguments) {
  requireDimensions(arguments, "self", 2);
  pointsAreRows(arguments);
  const auto rows = arguments.tensor("self").size(0);
  arguments.require(rows > 0, "self", "have rows");
  const auto pairs = rows * (rows - 1) / 2;
  requireSizes(arguments, "grad", {pairs});
  requireElements(arguments, "pdist", static_cast<double>(pairs));
}

// Linear algebra.

void factorFits(const Arguments& arguments) {
  requireDimensions(arguments, "self", 2);
  const auto self = arguments.tensor("self");
  auto sizes = self.sizes().vec();
  sizes[sizes.size() - 1] = self.size(-2);
  requireSizes(arguments, "A", sizes);
}

void pivotsFit(const Arguments& arguments) {
  if (!arguments.flag("unpack_pivots")) return;
  requireDimensions(arguments, "LU_data", 2);
  const auto factors = arguments.tensor("LU_data");
  auto sizes = factors.sizes().slice(0, factors.dim() - 1).vec();
  sizes.back() = std::min(factors.size(-2), factors.size(-1));
  requireSizes(arguments, "LU_pivots", sizes);
}

// LAPACK's routine writes out of bounds where a number is not finite.
void matrixIsFinite(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  if (!isOnCpu(self) || !isStrided(self) || self.is_quantized()) return;
  const at::NoGradGuard guard;
  arguments.require(self.isfinite().all().item<bool>(), "self", "not contain infs or NaNs");
}

template <bool negative>
void transformDimensionsFit(const Arguments& arguments) {
  const auto dimensions = arguments.tensor("self").dim();
  const auto least = negative ? -dimensions : 0;
  std::vector<int64_t> seen;
  for (auto dimension : arguments.integers("dim")) {
    requireBetween(arguments, "dim", dimension, least, dimensions - 1);
    if (dimension < 0) dimension += dimensions;
    arguments.require(std::find(seen.begin(), seen.end(), dimension) == seen.end(), "dim", "hold no dimension twice");
    seen.push_back(dimension);
  }
}

// Indices.

void helperResultsFit(const Arguments& arguments) {
  const auto self = arguments.tensor("self");
  // Lines of an empty tensor are walked as though they were there, save where they have no length themselves.
  const auto dimension = arguments.integer("dim");
  if (self.numel() == 0 && dimension >= -self.dim() && dimension < self.dim())
    arguments.require(self.size(dimension) == 0, "self", "not be empty");
  requireSizes(arguments, "values", self.sizes());
  requireSizes(arguments, "indices", self.sizes());
}

void sumsFit(const Arguments& arguments) { requireSizes(arguments, "out", arguments.tensor("self").sizes()); }

void lengthsFit(const Arguments& arguments) {
  const auto numbers = arguments.tensor("log_probs");
  arguments.require(numbers.dim() == 3, "log_probs", "have three dimensions, not ", numbers.dim());
  const auto batch = numbers.size(1);
  arguments.require(batch > 0, "log_probs", "not have an empty batch");
  for (const auto* name : {"input_lengths", "target_lengths"}) {
    const auto lengths = arguments.integers(name);
    requireCount(arguments, name, lengths.size(), static_cast<size_t>(batch));
  }
  const auto inputs = arguments.integers("input_lengths");
  const auto targets = arguments.integers("target_lengths");
  for (const auto length : inputs) requireBetween(arguments, "input_lengths", length, 0, numbers.size(0));
  const auto longest = *std::max_element(targets.begin(), targets.end());
  const auto shortest = *std::min_element(targets.begin(), targets.end());
  arguments.require(shortest >= 0, "target_lengths", "not be negative");
  arguments.require(arguments.tensor("targets").dim() <= 2, "targets", "have one or two dimensions");
  double held = 0;
  for (const auto length : targets) held += static_cast<double>(length);
  if (arguments.tensor("targets").dim() == 2) held = product({batch, longest});
  requireElements(arguments, "targets", held);
  requireElements(arguments, "grad", static_cast<double>(batch));
  requireElements(arguments, "neg_log_likelihood", static_cast<double>(batch));
  const auto alpha = arguments.tensor("log_alpha");
  const bool fits = alpha.dim() == 3 && alpha.size(0) >= batch && alpha.size(1) >= numbers.size(0) && alpha.size(2) > 2 * longest;
  arguments.require(fits, "log_alpha", "be what the loss gave beside itself, not of shape ", alpha.sizes());
  requireBetween(arguments, "blank", arguments.integer("blank"), 0, numbers.size(2) - 1);
}

bool areBetween(const at::Tensor& integers, int64_t least, int64_t most) {
  return integers.numel() == 0 ||
         (integers.min().item<int64_t>() >= least && integers.max().item<int64_t>() <= most);
}

// They are counted, in as many places as there are weights.
void indicesFit(const Arguments& arguments) {
  const auto indices = arguments.tensor("indices");
  if (!arguments.flag("scale_grad_by_freq") || !isOnCpu(indices) || !isStrided(indices)) return;
  if (!at::isIntegralType(indices.scalar_type(), false)) return;
  const auto most = arguments.integer("num_weights") - 1;
  arguments.require(areBetween(indices, 0, most), "indices", "be between 0 and ", most);
}

void rowsFit(const Arguments& arguments) {
  const auto rows = arguments.tensor("self");
  const auto size = arguments.integer("size");
  arguments.require(size >= 0, "size", "not be negative");
  if (!isOnCpu(rows) || !isStrided(rows) || !at::isIntegralType(rows.scalar_type(), false)) return;
  arguments.require(areBetween(rows, 0, size - 1), "self", "hold numbers of rows, between 0 and ", size - 1);
}

void rowBoundsFit(const Arguments& arguments) {
  requireDimensions(arguments, "crow_indices", 1);
  const auto bounds = arguments.tensor("crow_indices");
  const auto columns = arguments.tensor("col_indices");
  requireDimensions(arguments, "col_indices", 1);
  arguments.require(bounds.dim() == columns.dim(), "col_indices", "have as many dimensions as 'crow_indices'");
  if (!isOnCpu(bounds) || !isStrided(bounds) || !at::isIntegralType(bounds.scalar_type(), false)) return;
  arguments.require(bounds.sizes().slice(0, bounds.dim() - 1) == columns.sizes().slice(0, columns.dim() - 1), "col_indices",
                    "have the batch of 'crow_indices'");
  const auto count = columns.size(-1);
  arguments.require(bounds.size(-1) > 0, "crow_indices", "not be empty");
  const auto steps = bounds.to(at::kLong).diff();
  arguments.require(areBetween(bounds, 0, count) && (steps.numel() == 0 || steps.min().item<int64_t>() >= 0), "crow_indices",
                    "rise from 0 to the number of columns' indices, ", count);
}

// The tables of direction numbers have room for so many bits and dimensions.
constexpr int64_t kSobolBits = 30;
constexpr int64_t kSobolDimensions = 21201;

void sobolFits(const Arguments& arguments, const char* state) {
  const auto dimension = arguments.integer("dimension");
  const auto tensor = arguments.tensor(state);
  requireBetween(arguments, "dimension", dimension, 0, kSobolDimensions);
  requireType(arguments, state, at::kLong);
  arguments.require(tensor.dim() == 2 && tensor.size(0) >= dimension && tensor.size(1) >= kSobolBits, state,
                    "have the shape [", dimension, ", ", kSobolBits, "], not ", tensor.sizes());
}

void sobolState(const Arguments& arguments) { sobolFits(arguments, "self"); }

void sobolScramble(const Arguments& arguments) {
  sobolFits(arguments, "self");
  const auto ltm = arguments.tensor("ltm");
  const auto dimension = arguments.integer("dimension");
  const bool fits = ltm.dim() == 3 && ltm.size(0) >= dimension && ltm.size(1) >= kSobolBits && ltm.size(2) >= kSobolBits;
  arguments.require(fits, "ltm", "have the shape [", dimension, ", ", kSobolBits, ", ", kSobolBits, "], not ", ltm.sizes());
}

void sobolDraw(const Arguments& arguments) {
  sobolFits(arguments, "sobolstate");
  const auto* name = arguments.has("quasi") ? "quasi" : "self";
  requireType(arguments, name, at::kLong);
  requireDimensions(arguments, name, 1);
  requireElements(arguments, name, static_cast<double>(arguments.integer("dimension")));
  const auto drawn = arguments.integer("num_generated");
  const auto last = static_cast<double>(drawn) + static_cast<double>(arguments.integer("n"));
  arguments.require(drawn >= 0 && last < static_cast<double>(int64_t{1} << kSobolBits), "num_generated",
                    "lead to less than 2^", kSobolBits, " points");
}

// Recurrent cells.

// Whether a split into `parts` gives so many: it may give fewer.
bool splitsInto(int64_t size, int64_t parts) {
  const auto each = (size + parts - 1) / parts;
  return size == 0 || (size + each - 1) / each == parts;
}

void requireGates(const Arguments& arguments, const char* name, at::IntArrayRef sizes, int64_t parts) {
  arguments.require(sizes.size() >= 2, name, "have at least 2 dimensions, not ", sizes.size());
  arguments.require(splitsInto(sizes[1], parts), name, "split into ", parts, " gates along dimension 1, of size ", sizes[1]);
}

// The shape of a sum with a tensor that may be left out.
std::vector<int64_t> sizesWith(at::IntArrayRef sizes, const at::Tensor& other) {
  return other.defined() ? at::infer_size(sizes, other.sizes()) : sizes.vec();
}

void gruGatesFit(const Arguments& arguments) {
  const auto inputBias = arguments.tensor("input_bias");
  const auto hiddenBias = arguments.tensor("hidden_bias");
  const bool areBoth = inputBias.defined() == hiddenBias.defined();
  arguments.require(areBoth, "hidden_bias", "be given where 'input_bias' is, and only there");
  requireGates(arguments, "input_gates", sizesWith(arguments.tensor("input_gates").sizes(), inputBias), 3);
  requireGates(arguments, "hidden_gates", sizesWith(arguments.tensor("hidden_gates").sizes(), hiddenBias), 3);
}

void lstmGatesFit(const Arguments& arguments) {
  auto sizes = sizesWith(arguments.tensor("input_gates").sizes(), arguments.tensor("hidden_gates"));
  sizes = sizesWith(sizes, arguments.tensor("input_bias"));
  requireGates(arguments, "input_gates", sizesWith(sizes, arguments.tensor("hidden_bias")), 4);
}

// Only the LSTM has a kernel; its weights are read by the sizes that the input promises.
void preparedLstmFits(const Arguments& arguments) {
  constexpr int64_t kLstm = 2;
  constexpr int64_t kGates = 4;
  const auto mode = arguments.integer("mode");
  arguments.require(mode == kLstm, "mode", "be 2, for an LSTM, not ", mode);
  requirePositive(arguments, "hidden_size");
  const auto input = arguments.tensor("input");
  arguments.require(input.dim() == 3 && isStrided(input) && input.numel() > 0, "input",
                    "be strided, have three dimensions and not be empty");
  const auto hidden = arguments.integer("hidden_size");
  // The backward operator counts its weights from 1.
  const bool isForward = arguments.has("weight0");
  requireElements(arguments, isForward ? "weight0" : "weight1", product({kGates, hidden, input.size(2)}));
  requireElements(arguments, isForward ? "weight1" : "weight2", product({kGates, hidden, hidden}));
  if (arguments.flag("has_biases")) {
    requireElements(arguments, isForward ? "weight2" : "weight3", product({kGates, hidden}));
    requireElements(arguments, isForward ? "weight3" : "weight4", product({kGates, hidden}));
  }
  const auto states = product({input.size(1), hidden});
  for (const auto* name : {"hx_", "cx_", "cx_tmp", "hy_", "cy_", "grad_hy", "grad_cy"})
    requireElements(arguments, name, states);
  const auto steps = product({input.size(0), input.size(1), hidden});
  for (const auto* name : {"output", "grad_output"}) requireElements(arguments, name, steps);
}

void preparedLstmWeightsFit(const Arguments& arguments) {
  requirePositive(arguments, "hidden_size");
  const auto hidden = arguments.integer("hidden_size");
  requireDimensions(arguments, "weight0", 2);
  const auto features = arguments.tensor("weight0").size(1);
  requireSizes(arguments, "weight0", {4 * hidden, features});
  requireSizes(arguments, "weight1", {4 * hidden, hidden});
  if (arguments.has("input_size") && !arguments.integers("input_size").empty()) requireItems(arguments, "input_size", 3);
}

// The gates of a cell with packed weights have the shape of the input but for the last dimension.
template <int parts>
void packedCellFits(const Arguments& arguments) {
  const auto input = arguments.tensor("input");
  if (input.dim() > 2) requireGates(arguments, "input", input.sizes(), parts);
}

// Packed weights.

void observedAxisFits(const Arguments& arguments) {
  const auto dimensions = arguments.tensor("self").dim();
  if (!arguments.flag("per_row_fake_quant") || dimensions == 2) return;
  requireBetween(arguments, "ch_axis", arguments.integer("ch_axis"), 0, dimensions - 1);
}

void weightIsMatrix(const Arguments& arguments) {
  const auto weight = arguments.tensor("weight");
  arguments.require(weight.dim() == 2, "weight", "have two dimensions, not ", weight.dim());
}

// As many numbers are read as a matrix of the first two sizes has.
void weightHasRowsAndColumns(const Arguments& arguments) {
  const auto* name = arguments.has("weight") ? "weight" : "input";
  const auto weight = arguments.tensor(name);
  if (weight.dim() < 2) return;
  requireElements(arguments, name, product({weight.size(0), weight.size(1)}));
}

void weightHasRows(const Arguments& arguments) { requireDimensions(arguments, "weight", 1); }

void weightIsPacked(const Arguments& arguments) {
  const auto* name = arguments.has("qw") ? "qw" : "w";
  arguments.require(arguments.tensor(name).is_mkldnn(), name, "be a weight that was packed");
}

void imageFits(const Arguments& arguments) {
  const auto image = arguments.tensor("X");
  arguments.require(image.dim() == 4 && isStrided(image), "X", "be strided and have four dimensions, not ", image.dim());
}

// The search for the best range reads the first number, and would take steps without end.
void rangeCanBeSearched(const Arguments& arguments) {
  if (arguments.has("optimized_qparams") && !arguments.flag("optimized_qparams")) return;
  const auto* name = arguments.has("weight") ? "weight" : "input";
  arguments.require(arguments.tensor(name).numel() > 0, name, "not be empty");
  const auto ratio = arguments.number("ratio");
  arguments.require(ratio < std::numeric_limits<double>::infinity(), "ratio", "be finite");
  const auto* bins = arguments.has("nbins") ? "nbins" : "n_bins";
  arguments.require(arguments.integer(bins) >= 0, bins, "not be negative");
}

void quantizedBlocksArePositive(const Arguments& arguments) {
  for (const auto* name : {"block_size", "in_features"}) requirePositive(arguments, name);
  arguments.require(arguments.integer("out_features") >= 0, "out_features", "not be negative");
}

void quantizedMatrixFits(const Arguments& arguments) {
  quantizedBlocksArePositive(arguments);
  const auto features = arguments.integer("in_features");
  const auto outputs = arguments.integer("out_features");
  const auto input = arguments.tensor("inp");
  arguments.require(input.dim() == 2 && input.size(1) == features && isStrided(input), "inp",
                    "be strided and have the shape [rows, ", features, "], not ", input.sizes());
  requireStrided(arguments, "packed_weights");
  // Two weights to a number, then a scale for each block.
  const auto blocks = std::max<int64_t>(1, features / arguments.integer("block_size"));
  if (arguments.tensor("packed_weights").scalar_type() == at::kFloat)
    requireElements(arguments, "packed_weights", product({outputs, features}) / 2 + product({outputs, blocks}));
}

using Table = std::unordered_map<std::string, std::vector<ArgumentChecks::Check>>;

// By operator, or by overload where only that one needs it.
const Table& table() {
  static const Table checks = {
      {"aten::_batch_norm_impl_index", {channelsAgree, statisticsAreThere}},
      {"aten::_batch_norm_impl_index_backward",
       {channelsAgree, gradientMatchesInput, statisticsAreThere, savedStatisticsAreThere}},
      {"aten::_batch_norm_no_update", {channelsAgree, statisticsAreThere}},
      {"aten::_batch_norm_with_update", {channelsAgree}},
      {"aten::_batch_norm_with_update_functional", {channelsAgree}},
      {"aten::_cdist_backward", {pairDistancesFit}},
      {"aten::_cholesky_solve_helper", {factorFits}},
      {"aten::_chunk_cat", {tensorsHaveDimensions}},
      {"aten::_convert_indices_from_coo_to_csr", {rowsFit}},
      {"aten::_convert_indices_from_csr_to_coo", {rowBoundsFit}},
      {"aten::_ctc_loss_backward.", {lengthsFit}},
      {"aten::_ctc_loss_backward.out", {lengthsFit}},
      {"aten::_cummax_helper", {helperResultsFit}},
      {"aten::_cummin_helper", {helperResultsFit}},
      {"aten::_dyn_quant_matmul_4bit", {quantizedMatrixFits}},
      {"aten::_dyn_quant_pack_4bit_weight", {quantizedBlocksArePositive}},
      {"aten::_fft_c2c", {transformDimensionsFit<true>}},
      {"aten::_fft_c2r", {transformDimensionsFit<false>}},
      {"aten::_fft_r2c", {transformDimensionsFit<false>}},
      {"aten::_foreach_copy", {copyHasPlaces}},
      {"aten::_fused_adagrad", {statesFit}},
      {"aten::_fused_adagrad_", {statesFit}},
      {"aten::_fused_adam", {statesFit}},
      {"aten::_fused_adam_", {statesFit}},
      {"aten::_fused_adamw", {statesFit}},
      {"aten::_fused_adamw_", {statesFit}},
      {"aten::_fused_moving_avg_obs_fq_helper", {observedAxisFits}},
      {"aten::_fused_moving_avg_obs_fq_helper_functional", {observedAxisFits}},
      {"aten::_fused_sgd", {statesFit}},
      {"aten::_fused_sgd_", {statesFit}},
      {"aten::_linalg_eigvals", {matrixIsFinite}},
      {"aten::_log_softmax_backward_data", {gradientMatchesOutput}},
      {"aten::_logcumsumexp.out", {sumsFit}},
      {"aten::_native_batch_norm_legit", {channelsAgree, statisticsAreThere}},
      {"aten::_native_batch_norm_legit_functional", {channelsAgree}},
      {"aten::_native_batch_norm_legit_no_training", {channelsAgree}},
      {"aten::_neg_view_copy", {isNotQuantized}},
      {"aten::_nested_from_padded", {nestedSizesFit}},
      {"aten::_new_zeros_with_same_feature_meta", {batchDimensionsFit}},
      {"aten::_nnpack_spatial_convolution", {nnpackConvolutionFits}},
      {"aten::_pdist_backward", {distancesFit}},
      {"aten::_pdist_forward", {pointsAreRows}},
      {"aten::_remove_batch_dim", {batchDimensionFits}},
      {"aten::_reshape_alias", {aliasFitsStorage}},
      {"aten::_reshape_alias_copy", {aliasFitsStorage}},
      {"aten::_saturate_weight_to_fp16", {weightHasRowsAndColumns}},
      {"aten::_slow_conv2d_backward", {slowConvolutionFits}},
      {"aten::_sobol_engine_draw", {sobolDraw}},
      {"aten::_sobol_engine_ff", {sobolDraw}},
      {"aten::_sobol_engine_ff_", {sobolDraw}},
      {"aten::_sobol_engine_initialize_state", {sobolState}},
      {"aten::_sobol_engine_initialize_state_", {sobolState}},
      {"aten::_sobol_engine_scramble", {sobolScramble}},
      {"aten::_sobol_engine_scramble_", {sobolScramble}},
      {"aten::_softmax_backward_data", {gradientMatchesOutput}},
      {"aten::_stack", {tensorsAreThere}},
      {"aten::_thnn_differentiable_gru_cell_backward", {gruGatesFit}},
      {"aten::_thnn_differentiable_lstm_cell_backward", {lstmGatesFit}},
      {"aten::_transform_bias_rescale_qkv", {headsArePositive}},
      {"aten::_weight_norm", {weightNorm}},
      {"aten::_weight_norm_interface", {weightNorm}},
      {"aten::_weight_norm_interface_backward", {weightNormBackward}},
      {"aten::batch_norm_backward", {channelsAgree, gradientMatchesInput, statisticsAreThere, savedStatisticsAreThere}},
      {"aten::batch_norm_update_stats", {channelsAgree}},
      {"aten::choose_qparams_optimized", {rangeCanBeSearched}},
      {"aten::copy", {copyHasStorage}},
      {"aten::embedding_dense_backward", {indicesFit}},
      {"aten::fbgemm_linear_quantize_weight", {weightHasRowsAndColumns}},
      {"aten::fbgemm_pack_gemm_matrix_fp16", {weightHasRowsAndColumns}},
      {"aten::fractional_max_pool2d_backward", {fractionalPoolFits<2>}},
      {"aten::fractional_max_pool3d_backward", {fractionalPoolFits<3>}},
      {"aten::fused_moving_avg_obs_fake_quant", {observedAxisFits}},
      {"aten::linalg_eigvals", {matrixIsFinite}},
      {"aten::log_sigmoid_forward.output", {bufferHasRoom}},
      {"aten::lstm.data", {weightsAreThere}},
      {"aten::lstm.input", {weightsAreThere}},
      {"aten::lu_unpack", {pivotsFit}},
      {"aten::mkldnn_reorder_conv2d_weight", {stridesArePositive}},
      {"aten::mkldnn_reorder_conv3d_weight", {stridesArePositive}},
      {"aten::mkldnn_rnn_layer", {preparedLstmFits}},
      {"aten::mkldnn_rnn_layer_backward", {preparedLstmFits}},
      {"aten::native_batch_norm", {channelsAgree, statisticsAreThere}},
      {"aten::native_batch_norm_backward", {channelsAgree, gradientMatchesInput, statisticsAreThere, savedStatisticsAreThere}},
      {"aten::native_group_norm", {groupIsPositive}},
      {"aten::native_group_norm_backward", {groupIsPositive}},
      {"aten::quantized_lstm_cell", {cellHasStates}},
      {"aten::random.from", {boundsHaveNeighbours}},
      {"aten::random.from_out", {boundsHaveNeighbours}},
      {"aten::random_.from", {boundsHaveNeighbours}},
      {"aten::range", {stepIsThere}},
      {"aten::reflection_pad1d.out", {quantizedPaddingFits}},
      {"aten::reflection_pad1d_backward", {paddingFits<1>}},
      {"aten::reflection_pad2d_backward", {paddingFits<2>}},
      {"aten::reflection_pad3d_backward", {paddingFits<3>}},
      {"aten::replication_pad1d_backward", {paddingFits<1>}},
      {"aten::replication_pad2d_backward", {paddingFits<2>}},
      {"aten::replication_pad3d_backward", {paddingFits<3>}},
      {"aten::smooth_l1_loss_backward", {integersHaveDivisor}},
      {"aten::view.dtype", {typeOfViewFits}},
      {"aten::view_copy.dtype", {isNotQuantized}},
      {"aten::view_copy.dtype_out", {isNotQuantized}},
      {"inductor::_alloc_from_pool", {poolHasRoom}},
      {"inductor::_reinterpret_tensor", {aliasFitsStorage}},
      {"mkldnn::_convolution_pointwise", {stridesArePositive}},
      {"mkldnn::_convolution_pointwise_", {stridesArePositive}},
      {"mkldnn::_convolution_transpose_pointwise", {stridesArePositive}},
      {"mkldnn::_reorder_convolution_transpose_weight", {stridesArePositive}},
      {"mkldnn::_reorder_convolution_weight", {stridesArePositive}},
      {"mkldnn::_reorder_mkldnn_rnn_layer_weight", {preparedLstmWeightsFit}},
      {"mkldnn_prepacked::conv2d_prepack", {stridesArePositive}},
      {"mkldnn_prepacked::conv2d_run", {imageFits}},
      {"onednn::linear_dynamic_fp16", {weightIsPacked}},
      {"onednn::linear_prepack_fp16", {weightIsMatrix}},
      {"onednn::linear_relu_dynamic_fp16", {weightIsPacked}},
      {"onednn::qconv1d_pointwise", {weightIsPacked}},
      {"onednn::qconv2d_pointwise", {weightIsPacked}},
      {"onednn::qconv3d_pointwise", {weightIsPacked}},
      {"onednn::qconv_pointwise", {weightIsPacked}},
      {"onednn::qconv_prepack", {stridesArePositive}},
      {"onednn::qlinear_pointwise", {weightIsPacked}},
      {"onednn::qlinear_prepack", {weightIsMatrix}},
      {"quantized::embedding_bag_2bit_prepack", {rangeCanBeSearched}},
      {"quantized::embedding_bag_2bit_prepack_with_rowwise_min_max", {rangeCanBeSearched}},
      {"quantized::embedding_bag_2bit_unpack", {weightHasRows}},
      {"quantized::embedding_bag_4bit_prepack", {rangeCanBeSearched}},
      {"quantized::embedding_bag_4bit_prepack_with_rowwise_min_max", {rangeCanBeSearched}},
      {"quantized::embedding_bag_4bit_unpack", {weightHasRows}},
      {"quantized::embedding_bag_byte_unpack", {weightHasRows}},
      {"quantized::quantized_gru_cell_dynamic", {packedCellFits<3>}},
      {"quantized::quantized_lstm_cell_dynamic", {cellHasStates, packedCellFits<4>}},
  };
  return checks;
}

}  // namespace

void ArgumentChecks::run(const torch::jit::Stack& stack) const {
  const Arguments arguments(schema_, stack);
  for (const auto check : checks_) check(arguments);
}

namespace {

std::vector<ArgumentChecks::Check> findChecks(const c10::FunctionSchema& schema) {
  auto found = table().find(schema.name());
  if (found == table().end()) found = table().find(schema.name() + "." + schema.overload_name());
  if (found != table().end()) return found->second;
  const auto& arguments = schema.arguments();
  const auto isScale = [](const c10::Argument& argument) {
    return argument.name().rfind("scales", 0) == 0 && argument.type()->str() == "float?";
  };
  const bool resamples = schema.name().find("::upsample_") != std::string::npos ||
                         schema.name().find("::_upsample_") != std::string::npos;
  if (resamples && std::any_of(arguments.begin(), arguments.end(), isScale)) return {scalesHaveInverses};
  return {};
}

}  // namespace

const ArgumentChecks* checksFor(const c10::FunctionSchema& schema) {
  // Several JavaScript threads may plan calls at once.
  static std::mutex mutex;
  static std::unordered_map<const c10::FunctionSchema*, std::unique_ptr<ArgumentChecks>> made;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto known = made.find(&schema);
  if (known != made.end()) return known->second.get();
  auto checks = findChecks(schema);
  if (checks.empty()) return nullptr;
  return made.emplace(&schema, std::make_unique<ArgumentChecks>(schema, std::move(checks))).first->second.get();
}

}  // namespace kontrast
