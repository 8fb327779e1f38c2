// Tensors on their way from one JavaScript thread to another: they wait here, by token.
#include "environment.h"
#include "errors.h"


namespace kontrast {

namespace {

struct Waiting {
  at::Tensor tensor;
  uint32_t receipts;
};

std::mutex mutex;
std::unordered_map<uint64_t, Waiting> waiting;
uint64_t lastToken = 0;

// Whether the memory belongs to an array of this thread's JavaScript, which may be gone before the tensor is.
bool isBorrowed(const at::Tensor& tensor) {
  return tensor.has_storage() && tensor.is_cpu() && tensor.storage().nbytes() > 0 &&
         tensor.storage().data_ptr().get_context() != tensor.storage().data_ptr().get();
}

// share(handle, receipts) -> token
Napi::Value share(Environment& environment, const Napi::CallbackInfo& info) {
  auto tensor = environment.tensors.at(info[0].As<Napi::Number>().DoubleValue());
  if (tensor.requires_grad() && !tensor.is_leaf())
    throw Failure("INVALID_ARGUMENT", "a tensor with a graph cannot be shared; share what detach() gives");
  if (isBorrowed(tensor)) {
    const bool requiresGrad = tensor.requires_grad();
    tensor = tensor.detach().clone().requires_grad_(requiresGrad);
  }
  const std::lock_guard<std::mutex> lock(mutex);
  waiting.emplace(++lastToken, Waiting{std::move(tensor), info[1].As<Napi::Number>().Uint32Value()});
  return Napi::Number::New(info.Env(), static_cast<double>(lastToken));
}

// receive(token) -> handle
Napi::Value receive(Environment& environment, const Napi::CallbackInfo& info) {
  at::Tensor tensor;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = waiting.find(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
    if (found == waiting.end())
      throw Failure("DISPOSED", "no tensor waits under this token: it was received as often as it was shared for, or withdrawn");
    tensor = found->second.tensor;
    if (--found->second.receipts == 0) waiting.erase(found);
  }
  return Napi::Number::New(info.Env(), environment.tensors.add(std::move(tensor)));
}

// withdraw(token): nobody will receive it any more
Napi::Value withdraw(Environment&, const Napi::CallbackInfo& info) {
  at::Tensor tensor;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = waiting.find(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
  if (found == waiting.end()) return Napi::Boolean::New(info.Env(), false);
  tensor = std::move(found->second.tensor);
  waiting.erase(found);
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace

void defineSharing(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "share", guarded<share>, environment);
  define(env, exports, "receive", guarded<receive>, environment);
  define(env, exports, "withdraw", guarded<withdraw>, environment);
}

}  // namespace kontrast
