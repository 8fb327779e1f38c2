// The handle table, what a tensor says of itself, and data in and out.
#include "environment.h"
#include "errors.h"
#include "values.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include <cmath>
#include <cstring>

namespace kontrast {

namespace {

constexpr double kGenerationUnit = 4294967296.0;
// A handle stays an exact double: 32 bits of index and 21 of generation.
constexpr uint32_t kLastGeneration = (1u << 21) - 1;

// V8 is told of changes in steps, since each telling may start a garbage collection.
constexpr int64_t kReportStep = 8 << 20;

}  // namespace

double TensorTable::add(at::Tensor tensor) {
  uint32_t index;
  if (free_.empty()) {
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  auto& slot = slots_[index];
  slot.tensor = std::move(tensor);
  live_++;
  return static_cast<double>(slot.generation) * kGenerationUnit + static_cast<double>(index);
}

TensorTable::Slot* TensorTable::find(double handle) {
  if (!(handle >= 0)) return nullptr;
  const auto generation = static_cast<uint32_t>(handle / kGenerationUnit);
  const auto index = static_cast<size_t>(handle - static_cast<double>(generation) * kGenerationUnit);
  if (index >= slots_.size()) return nullptr;
  auto& slot = slots_[index];
  return slot.generation == generation && slot.tensor.defined() ? &slot : nullptr;
}

at::Tensor& TensorTable::at(double handle) {
  auto* slot = find(handle);
  if (slot == nullptr)
    throw Failure("DISPOSED",
                  "this tensor was disposed: by dispose(), or because the scope that it was made in has ended. "
                  "Return it from the scope, or keep() it, to use it afterwards");
  return slot->tensor;
}

bool TensorTable::release(double handle, int64_t* trackedBytes) {
  auto* slot = find(handle);
  if (slot == nullptr) return false;
  *trackedBytes += slot->trackedBytes;
  slot->trackedBytes = 0;
  live_--;
  // The tensor leaves the table before it is freed: freeing it may run code that uses the table.
  const auto tensor = std::move(slot->tensor);
  slot->tensor = at::Tensor();
  const auto index = static_cast<uint32_t>(slot - slots_.data());
  if (slot->generation < kLastGeneration) {
    slot->generation++;
    free_.push_back(index);
  }
  return true;
}

int64_t TensorTable::track(double handle) {
  auto* slot = find(handle);
  if (slot == nullptr || slot->trackedBytes != 0 || !slot->tensor.has_storage()) return 0;
  const auto& storage = slot->tensor.storage();
  if (storage.device_type() != c10::DeviceType::CPU) return 0;
  // A view shares its storage: its bytes were already told when the first tensor on it was tracked.
  if (storage.use_count() > 1) return 0;
  slot->trackedBytes = static_cast<int64_t>(storage.nbytes());
  return slot->trackedBytes;
}

namespace {

void reportBytes(Napi::Env env, Environment& environment, int64_t change) {
  environment.externalBytes += change;
  if (std::abs(environment.externalBytes) < kReportStep) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, environment.externalBytes);
  environment.externalBytes = 0;
}

void dropDeadReferences(Napi::Env env, Environment& environment) {
  std::vector<napi_ref> dead;
  {
    const std::lock_guard<std::mutex> lock(environment.graveyard->mutex);
    dead.swap(environment.graveyard->references);
  }
  for (auto* reference : dead) napi_delete_reference(env, reference);
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
  dropDeadReferences(info.Env(), environment);
  return info.Env().Undefined();
}

// releaseMany(count): the handles are the first items of the pool
Napi::Value releaseMany(Environment& environment, const Napi::CallbackInfo& info) {
  const auto count = std::min<size_t>(info[0].As<Napi::Number>().Uint32Value(), environment.frame.poolSize);
  int64_t tracked = 0;
  for (size_t i = 0; i < count; i++) environment.tensors.release(environment.frame.pool[i], &tracked);
  if (tracked != 0) reportBytes(info.Env(), environment, -tracked);
  dropDeadReferences(info.Env(), environment);
  return info.Env().Undefined();
}

// track(handle): reports the tensor's bytes to V8 until it is released
Napi::Value track(Environment& environment, const Napi::CallbackInfo& info) {
  const auto bytes = environment.tensors.track(handleOf(info, 0));
  if (bytes != 0) reportBytes(info.Env(), environment, bytes);
  return info.Env().Undefined();
}

// alias(handle) -> a second handle to the same tensor
Napi::Value alias(Environment& environment, const Napi::CallbackInfo& info) {
  auto tensor = tensorOf(environment, info);
  return Napi::Number::New(info.Env(), environment.tensors.add(std::move(tensor)));
}

Napi::Value isDisposed(Environment& environment, const Napi::CallbackInfo& info) {
  try {
    tensorOf(environment, info);
  } catch (const Failure&) {
    return Napi::Boolean::New(info.Env(), true);
  }
  return Napi::Boolean::New(info.Env(), false);
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

Napi::Value device(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), tensorOf(environment, info).device().str());
}

Napi::Value layout(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), tensorOf(environment, info).layout() == c10::kStrided);
}

// item(handle) -> number, bigint (int64 beyond 2^53) or boolean
Napi::Value item(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const auto scalar = tensorOf(environment, info).item();
  if (scalar.isBoolean()) return Napi::Boolean::New(env, scalar.toBool());
  if (scalar.isComplex())
    throw Failure("TYPE", "a complex tensor has no single number; read it with dataSync()");
  if (scalar.isIntegral(false)) {
    const auto integer = scalar.toLong();
    if (std::llabs(integer) > (1ll << 53)) return Napi::BigInt::New(env, integer);
    return Napi::Number::New(env, static_cast<double>(integer));
  }
  return Napi::Number::New(env, scalar.toDouble());
}

// A contiguous CPU copy whose bytes can be read; `widen` turns 16-bit and 8-bit floats into float32.
at::Tensor readable(const at::Tensor& tensor, bool widen) {
  const at::NoGradGuard noGrad;
  auto source = tensor.detach();
  if (source.layout() != c10::kStrided) source = source.to_dense();
  source = source.to(c10::Device(c10::DeviceType::CPU)).resolve_conj().resolve_neg();
  if (widen && at::isFloatingType(source.scalar_type()) && source.scalar_type() != at::kDouble)
    source = source.to(at::kFloat);
  return source.contiguous();
}

// read(handle, widen) -> ArrayBuffer with a copy of the data
Napi::Value read(Environment& environment, const Napi::CallbackInfo& info) {
  const auto source = readable(tensorOf(environment, info), info[1].As<Napi::Boolean>().Value());
  auto buffer = Napi::ArrayBuffer::New(info.Env(), source.nbytes());
  if (source.nbytes() > 0) std::memcpy(buffer.Data(), source.const_data_ptr(), source.nbytes());
  return buffer;
}

// Waits for the device and copies on a thread of libuv's pool, so that the event loop stays free.
class ReadWorker : public Napi::AsyncWorker {
 public:
  ReadWorker(Napi::Env env, at::Tensor tensor, bool widen)
      : Napi::AsyncWorker(env), deferred(Napi::Promise::Deferred::New(env)), tensor_(std::move(tensor)), widen_(widen) {}
  void Execute() override {
    try {
      result_ = readable(tensor_, widen_);
    } catch (const c10::Error& error) {
      SetError(error.what_without_backtrace());
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    auto buffer = Napi::ArrayBuffer::New(Env(), result_.nbytes());
    if (result_.nbytes() > 0) std::memcpy(buffer.Data(), result_.const_data_ptr(), result_.nbytes());
    deferred.Resolve(buffer);
  }
  void OnError(const Napi::Error& error) override { deferred.Reject(error.Value()); }

  Napi::Promise::Deferred deferred;

 private:
  at::Tensor tensor_;
  at::Tensor result_;
  bool widen_;
};

// readAsync(handle, widen) -> Promise<ArrayBuffer>
Napi::Value readAsync(Environment& environment, const Napi::CallbackInfo& info) {
  // The worker deletes itself when it is done.
  auto* worker = new ReadWorker(info.Env(), tensorOf(environment, info), info[1].As<Napi::Boolean>().Value());
  auto promise = worker->deferred.Promise();
  worker->Queue();
  return promise;
}

// fromBuffer(buffer, byteOffset, byteLength, dtype, dimensions, share) -> handle; the sizes are in the pool
Napi::Value fromBuffer(Environment& environment, const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  const auto bytes = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
  const auto type = static_cast<c10::ScalarType>(info[3].As<Napi::Number>().Int32Value());
  const auto dimensions = info[4].As<Napi::Number>().Uint32Value();
  const auto share = info[5].As<Napi::Boolean>().Value();
  std::vector<int64_t> sizes(dimensions);
  int64_t count = 1;
  for (size_t i = 0; i < dimensions; i++) {
    sizes[i] = static_cast<int64_t>(environment.frame.pool[i]);
    if (sizes[i] < 0) throw Failure("INVALID_ARGUMENT", "a shape cannot hold " + std::to_string(sizes[i]));
    count *= sizes[i];
  }
  const auto needed = static_cast<size_t>(count) * c10::elementSize(type);
  if (needed != bytes)
    throw Failure("INVALID_ARGUMENT", "the shape needs " + std::to_string(needed) + " bytes, the data has " +
                                          std::to_string(bytes));
  if (offset + bytes > buffer.ByteLength()) throw Failure("INVALID_ARGUMENT", "the data ends before the shape does");
  auto* data = static_cast<uint8_t*>(buffer.Data()) + offset;
  at::Tensor tensor;
  if (share) {
    napi_ref reference = nullptr;
    if (napi_create_reference(env, buffer, 1, &reference) != napi_ok) throw Napi::Error::New(env);
    const auto graveyard = environment.graveyard;
    tensor = at::from_blob(
        data, sizes,
        [graveyard, reference](void*) {
          const std::lock_guard<std::mutex> lock(graveyard->mutex);
          if (!graveyard->closed) graveyard->references.push_back(reference);
        },
        at::TensorOptions().dtype(type));
  } else {
    tensor = at::detail::empty_cpu(sizes, at::TensorOptions().dtype(type));
    if (bytes > 0) std::memcpy(tensor.mutable_data_ptr(), data, bytes);
  }
  dropDeadReferences(env, environment);
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
  define(env, exports, "alias", guarded<alias>, environment);
  define(env, exports, "isDisposed", guarded<isDisposed>, environment);
  define(env, exports, "shape", guarded<shape>, environment);
  define(env, exports, "strides", guarded<strides>, environment);
  define(env, exports, "numel", guarded<numel>, environment);
  define(env, exports, "dtype", guarded<dtype>, environment);
  define(env, exports, "device", guarded<device>, environment);
  define(env, exports, "isStrided", guarded<layout>, environment);
  define(env, exports, "item", guarded<item>, environment);
  define(env, exports, "read", guarded<read>, environment);
  define(env, exports, "readAsync", guarded<readAsync>, environment);
  define(env, exports, "fromBuffer", guarded<fromBuffer>, environment);
  define(env, exports, "setData", guarded<setData>, environment);
  define(env, exports, "isSame", guarded<isSame>, environment);
  define(env, exports, "liveTensors", guarded<liveTensors>, environment);
}

}  // namespace kontrast
