// The handle table, what a tensor says of itself, and data in and out.
#include "environment.h"
#include "errors.h"
#include "jobs.h"
#include "mapping.h"
#include "values.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <optional>

namespace kontrast {

namespace {

// A handle stays an exact double: 32 bits of index and 21 of generation.
constexpr uint32_t kLastGeneration = (1u << 21) - 1;

// What a tensor takes beside its elements. Without it, a million tensors of a few elements would seem next to nothing to V8.
constexpr int64_t kTensorBytes = 256;

// V8 is told of changes in steps, since each telling may start a garbage collection.
constexpr int64_t kReportStep = 4 << 20;

// A light tensor has no more than this, and so many wait at most.
constexpr size_t kLightBytes = 1024;
constexpr size_t kMostWaiting = 4096;

bool hasFewBytes(const c10::TensorImpl& tensor) { return tensor.unsafe_storage().nbytes() <= kLightBytes; }

bool isSmall(const c10::TensorImpl& tensor) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.has_storage() && hasFewBytes(tensor) &&
         static_cast<size_t>(tensor.numel()) <= kLightBytes;
}

uint32_t versionOf(const c10::TensorImpl& tensor) {
  const auto& counter = tensor.version_counter();
  return counter.enabled() ? counter.current_version() : 0;
}

}  // namespace

double TensorTable::add(at::Tensor tensor) {
  // Before the table is touched: freeing it may run code that uses the table.
  if (!waiting_.empty()) waiting_.pop_back();
  uint32_t index;
  if (free_.empty()) {
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  auto& slot = slots_[index];
  const auto& about = *tensor.unsafeGetTensorImpl();
  slot.isLight = isSmall(about) && (argumentsAreLight_ || !about.requires_grad() || tensor.is_leaf());
  if (slot.isLight) slot.version = versionOf(about);
  slot.tensor = std::move(tensor);
  live_++;
  return handleOf(slot.generation, index);
}

void TensorTable::throwDisposed() {
  throw Failure("DISPOSED",
                "this tensor was disposed: by dispose(), or because the scope that it was made in has ended. "
                "Return it from the scope, or keep() it, to use it afterwards");
}

bool TensorTable::mayWait(const Slot& slot) {
  if (!slot.isLight) return false;
  const auto& tensor = *slot.tensor.unsafeGetTensorImpl();
  // Since then it may have been given other memory, and work in place may have joined another graph to its own.
  return hasFewBytes(tensor) && (!tensor.requires_grad() || versionOf(tensor) == slot.version);
}

at::Tensor TensorTable::take(double handle, int64_t* trackedBytes, bool* waits) {
  auto* slot = find(handle);
  if (slot == nullptr) return {};
  *trackedBytes += slot->trackedBytes;
  slot->trackedBytes = 0;
  live_--;
  if (waits != nullptr) *waits = waiting_.size() < kMostWaiting && mayWait(*slot);
  auto tensor = std::move(slot->tensor);
  slot->tensor = at::Tensor();
  const auto index = static_cast<uint32_t>(slot - slots_.data());
  if (slot->generation < kLastGeneration) {
    slot->generation++;
    free_.push_back(index);
  }
  return tensor;
}

bool TensorTable::release(double handle, int64_t* trackedBytes) {
  // The tensor leaves the table before it is freed: freeing it may run code that uses the table.
  return take(handle, trackedBytes, nullptr).defined();
}

void TensorTable::releaseLater(double handle, int64_t* trackedBytes) {
  bool waits = false;
  auto tensor = take(handle, trackedBytes, &waits);
  if (waits) waiting_.push_back(std::move(tensor));
}

void TensorTable::freeWaiting() noexcept {
  while (!waiting_.empty()) waiting_.pop_back();
}

std::vector<double> TensorTable::handles() const {
  std::vector<double> handles;
  for (size_t i = 0; i < slots_.size(); i++) {
    if (slots_[i].tensor.defined())
      handles.push_back(handleOf(slots_[i].generation, i));
  }
  return handles;
}

int64_t TensorTable::track(double handle) {
  auto* slot = find(handle);
  if (slot == nullptr || slot->trackedBytes != 0) return 0;
  slot->trackedBytes = kTensorBytes;
  // A view shares its storage: its bytes were already told when the first tensor on it was tracked.
  if (slot->tensor.has_storage() && slot->tensor.storage().device_type() == c10::DeviceType::CPU &&
      slot->tensor.storage().use_count() == 1 && !isMapped(slot->tensor.storage()))
    slot->trackedBytes += static_cast<int64_t>(slot->tensor.storage().nbytes());
  return slot->trackedBytes;
}

namespace {

void reportBytes(Napi::Env env, Environment& environment, int64_t change) {
  environment.externalBytes += change;
  if (std::abs(environment.externalBytes) < kReportStep) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, environment.externalBytes);
  environment.externalBytes = 0;
}

double handleOf(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().DoubleValue(); }

at::Tensor& tensorOf(Environment& environment, const Napi::CallbackInfo& info, size_t index = 0) {
  return environment.tensors.at(handleOf(info, index));
}

// release(handle)
Napi::Value release(Environment& environment, const Napi::CallbackInfo& info) {
  int64_t tracked = 0;
  environment.tensors.release(handleOf(info, 0), &tracked);
  if (tracked != 0) reportBytes(info.Env(), environment, -tracked);
  environment.thread->deleteReferences(info.Env());
  return info.Env().Undefined();
}

// releaseMany(count): the handles are the first items of the pool
Napi::Value releaseMany(Environment& environment, const Napi::CallbackInfo& info) {
  const auto count = std::min<size_t>(info[0].As<Napi::Number>().Uint32Value(), environment.frame.poolSize);
  int64_t tracked = 0;
  // The last one first: memory that is freed in the order opposite to its making grows back together most cheaply.
  for (size_t i = count; i > 0; i--) environment.tensors.releaseLater(environment.frame.pool[i - 1], &tracked);
  if (tracked != 0) reportBytes(info.Env(), environment, -tracked);
  environment.thread->deleteReferences(info.Env());
  return info.Env().Undefined();
}

// track(handle): reports the tensor's bytes to V8 until it is released
Napi::Value track(Environment& environment, const Napi::CallbackInfo& info) {
  const auto bytes = environment.tensors.track(handleOf(info, 0));
  if (bytes != 0) reportBytes(info.Env(), environment, bytes);
  return info.Env().Undefined();
}

// shape(handle) and strides(handle) -> how many numbers they left in the pool
Napi::Value putIntegers(Environment& environment, const Napi::CallbackInfo& info, c10::IntArrayRef integers) {
  for (size_t i = 0; i < integers.size(); i++) environment.frame.pool[i] = static_cast<double>(integers[i]);
  return Napi::Number::New(info.Env(), static_cast<double>(integers.size()));
}

Napi::Value shape(Environment& environment, const Napi::CallbackInfo& info) {
  return putIntegers(environment, info, tensorOf(environment, info).sizes());
}

Napi::Value strides(Environment& environment, const Napi::CallbackInfo& info) {
  return putIntegers(environment, info, tensorOf(environment, info).strides());
}

Napi::Value numel(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(tensorOf(environment, info).numel()));
}

// dtype(handle) -> LibTorch's number of the scalar type
Napi::Value dtype(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(tensorOf(environment, info).scalar_type()));
}

// isIndex(handle) -> whether the tensor has dimensions and is of positions or a mask
Napi::Value isIndex(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& tensor = tensorOf(environment, info);
  const auto type = tensor.scalar_type();
  const bool holdsIndices = type == at::kLong || type == at::kInt || type == at::kBool;
  return Napi::Boolean::New(info.Env(), holdsIndices && tensor.dim() > 0);
}

// layout(handle) -> LibTorch's number of the layout
Napi::Value layout(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(tensorOf(environment, info).layout()));
}

// isContiguous(handle, LibTorch's number of a memory format). The operator of this name is not in every release.
Napi::Value isContiguous(Environment& environment, const Napi::CallbackInfo& info) {
  const auto format = static_cast<c10::MemoryFormat>(info[1].As<Napi::Number>().Int32Value());
  return Napi::Boolean::New(info.Env(), tensorOf(environment, info).is_contiguous(format));
}

Napi::Value device(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), tensorOf(environment, info).device().str());
}

// item(handle) -> number, bigint (64-bit integers beyond 2^53) or boolean
Napi::Value item(Environment& environment, const Napi::CallbackInfo& info) {
  constexpr int64_t kSafe = int64_t{1} << 53;
  const auto env = info.Env();
  const auto scalar = tensorOf(environment, info).item();
  if (scalar.isBoolean()) return Napi::Boolean::New(env, scalar.toBool());
  if (scalar.isComplex())
    throw Failure("TYPE", "a complex tensor has no single number; read it with dataSync()");
  if (scalar.isUnsigned()) {
    const auto integer = scalar.toUInt64();
    if (integer > static_cast<uint64_t>(kSafe)) return Napi::BigInt::New(env, integer);
    return Napi::Number::New(env, static_cast<double>(integer));
  }
  if (scalar.isIntegral(false)) {
    const auto integer = scalar.toLong();
    if (integer > kSafe || integer < -kSafe) return Napi::BigInt::New(env, integer);
    return Napi::Number::New(env, static_cast<double>(integer));
  }
  return Napi::Number::New(env, scalar.toDouble());
}

// The type that a tensor's elements are read as; `widen` turns 16-bit and 8-bit floats into float32.
c10::ScalarType readType(const at::Tensor& tensor, bool widen) {
  const auto type = tensor.scalar_type();
  return widen && at::isFloatingType(type) && type != at::kDouble ? at::kFloat : type;
}

// The elements in row-major order and nothing else: dense, in memory, not a view that means to be conjugated, contiguous.
at::Tensor plain(const at::Tensor& tensor) {
  auto source = tensor.detach();
  if (source.layout() != c10::kStrided) source = source.to_dense();
  // Some gradients are zeros without any memory.
  if (source._is_zerotensor()) source = source.clone();
  return source.resolve_conj().resolve_neg().contiguous();
}

void copyBytes(void* target, const at::Tensor& source) {
  if (source.nbytes() > 0) std::memcpy(target, source.const_data_ptr(), source.nbytes());
}

// read(handle, widen) -> ArrayBuffer with a copy of the data
Napi::Value read(Environment& environment, const Napi::CallbackInfo& info) {
  const at::NoGradGuard noGrad;
  const auto& tensor = tensorOf(environment, info);
  const auto type = readType(tensor, info[1].As<Napi::Boolean>().Value());
  const auto source = plain(tensor.to(c10::Device(c10::DeviceType::CPU))).to(type);
  auto buffer = Napi::ArrayBuffer::New(info.Env(), source.nbytes());
  copyBytes(buffer.Data(), source);
  return buffer;
}

// A read in the background: what is slow (waiting for a device, widening) happens on a thread of libuv's pool.
struct ReadJob : Job {
  using Job::Job;

  void run() override {
    const at::NoGradGuard noGrad;
    if (copied) copied->synchronize();
    copyBytes(target, source.to(type));
  }

  napi_value result(napi_env env) override {
    napi_value value = nullptr;
    napi_get_reference_value(env, buffer, &value);
    return value;
  }

  void ended(napi_env env, bool) override { napi_delete_reference(env, buffer); }

  napi_ref buffer = nullptr;
  void* target = nullptr;
  at::Tensor source;  // a snapshot: what happens to the tensor after the call is not seen
  c10::ScalarType type{};
  std::optional<c10::Event> copied;  // when a device has made the snapshot
};

// readAsync(handle, widen) -> Promise<ArrayBuffer> of the data as it is now
Napi::Value readAsync(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const at::NoGradGuard noGrad;
  auto job = std::make_unique<ReadJob>(environment);
  const auto& tensor = tensorOf(environment, info);
  job->type = readType(tensor, info[1].As<Napi::Boolean>().Value());
  job->source = plain(tensor);
  if (job->source.is_cpu()) {
    if (job->source.is_alias_of(tensor)) job->source = job->source.clone();
  } else {
    const auto device = job->source.device();
    // Ordered behind the work that the device was given so far, in front of what it will be given next.
    job->source = job->source.to(job->type).to(c10::Device(c10::DeviceType::CPU), job->type, true, true);
    job->copied.emplace(device.type());
    job->copied->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  }
  const auto bytes = static_cast<size_t>(job->source.numel()) * c10::elementSize(job->type);
  auto buffer = Napi::ArrayBuffer::New(env, bytes);
  job->target = buffer.Data();
  if (napi_create_reference(env, buffer, 1, &job->buffer) != napi_ok)
    throw Failure("TORCH", "the read could not be started");
  return startWithPromise(env, "kontrast.data", std::move(job));
}

// The memory under a typed array, whether its buffer is its own or shared between threads.
struct ViewedMemory {
  uint8_t* data = nullptr;
  size_t bytes = 0;
};

ViewedMemory memoryOf(Napi::Env env, napi_value view) {
  ViewedMemory memory;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, view, nullptr, &memory.bytes, &data, nullptr, nullptr) != napi_ok)
    throw Failure("INVALID_ARGUMENT", "the data is no typed array");
  memory.data = static_cast<uint8_t*>(data);
  return memory;
}

// fromBuffer(bytes, dtype, dimensions, share) -> handle; `bytes` is a Uint8Array, the sizes are in the pool
Napi::Value fromBuffer(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const auto memory = memoryOf(env, info[0]);
  const auto type = static_cast<c10::ScalarType>(info[1].As<Napi::Number>().Int32Value());
  const auto dimensions = info[2].As<Napi::Number>().Uint32Value();
  const auto share = info[3].As<Napi::Boolean>().Value();
  if (c10::isQIntType(type)) throw Failure("INVALID_ARGUMENT", "a quantized tensor cannot be made from raw bytes");
  std::vector<int64_t> sizes(dimensions);
  auto needed = static_cast<int64_t>(c10::elementSize(type));
  for (size_t i = 0; i < dimensions; i++) {
    sizes[i] = static_cast<int64_t>(environment.frame.pool[i]);
    if (sizes[i] < 0) throw Failure("INVALID_ARGUMENT", "a shape cannot hold " + std::to_string(sizes[i]));
    if (c10::mul_overflows(needed, sizes[i], &needed)) throw Failure("INVALID_ARGUMENT", "the shape is too large");
  }
  if (static_cast<uint64_t>(needed) != memory.bytes)
    throw Failure("INVALID_ARGUMENT", "the shape needs " + std::to_string(needed) + " bytes, the data has " +
                                          std::to_string(memory.bytes));
  at::Tensor tensor;
  if (share) {
    napi_ref reference = nullptr;
    if (napi_create_reference(env, info[0], 1, &reference) != napi_ok)
      throw Failure("TORCH", "the data could not be held");
    tensor = at::from_blob(
        memory.data, sizes, [thread = environment.thread, reference](void*) { thread->deleteLater(reference); },
        at::TensorOptions().dtype(type));
  } else {
    tensor = at::detail::empty_cpu(sizes, at::TensorOptions().dtype(type));
    if (memory.bytes > 0) std::memcpy(tensor.mutable_data_ptr(), memory.data, memory.bytes);
  }
  environment.thread->deleteReferences(env);
  return Napi::Number::New(env, environment.tensors.add(std::move(tensor)));
}

// setData(handle, other): the tensor takes the other's storage, dtype and device, and stays the same variable
Napi::Value setData(Environment& environment, const Napi::CallbackInfo& info) {
  tensorOf(environment, info, 0).set_data(tensorOf(environment, info, 1).detach());
  return info.Env().Undefined();
}

// isSame(a, b): whether two handles mean one tensor
Napi::Value isSame(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), tensorOf(environment, info, 0).is_same(tensorOf(environment, info, 1)));
}

Napi::Value liveTensors(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(environment.tensors.live()));
}

}  // namespace

void defineTensors(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "release", guarded<release>, environment);
  define(env, exports, "releaseMany", guarded<releaseMany>, environment);
  define(env, exports, "track", guarded<track>, environment);
  define(env, exports, "shape", guarded<shape>, environment);
  define(env, exports, "strides", guarded<strides>, environment);
  define(env, exports, "numel", guarded<numel>, environment);
  define(env, exports, "dtype", guarded<dtype>, environment);
  define(env, exports, "isContiguous", guarded<isContiguous>, environment);
  define(env, exports, "isIndex", guarded<isIndex>, environment);
  define(env, exports, "layout", guarded<layout>, environment);
  define(env, exports, "device", guarded<device>, environment);
  define(env, exports, "item", guarded<item>, environment);
  define(env, exports, "read", guarded<read>, environment);
  define(env, exports, "readAsync", guarded<readAsync>, environment);
  define(env, exports, "fromBuffer", guarded<fromBuffer>, environment);
  define(env, exports, "setData", guarded<setData>, environment);
  define(env, exports, "isSame", guarded<isSame>, environment);
  define(env, exports, "liveTensors", guarded<liveTensors>, environment);
}

}  // namespace kontrast
