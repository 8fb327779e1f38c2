// Streams, events, and waiting for a device.
#include "devices.h"
#include "environment.h"
#include "errors.h"
#include "jobs.h"
#include "values.h"

#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

namespace kontrast {

namespace {

using c10::impl::VirtualGuardImpl;

// The CPU has one stream, whose work is done when an operator returns: code that orders a device's work runs on it as well.
c10::Device deviceArgument(const Napi::CallbackInfo& info, size_t index) {
  const auto name = info[index].As<Napi::String>().Utf8Value();
  const auto device = deviceOf(name);
  if (!device.is_cpu() && !device.is_cuda())
    throw Failure("INVALID_ARGUMENT", "'" + name + "' has no streams; 'cpu' and CUDA devices have");
  return device;
}

// Two arguments: the device and the stream's number on it
c10::Stream streamArgument(const Napi::CallbackInfo& info, size_t index) {
  const auto device = deviceArgument(info, index);
  return c10::Stream::unpack3(info[index + 1].As<Napi::Number>().Int64Value(), device.index(), device.type());
}

// streamObject(device, number) -> index of the stream in the table of objects
Napi::Value streamObject(Environment& environment, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), keepObject(environment, c10::IValue(streamArgument(info, 0))));
}

Napi::Value numberOf(Napi::Env env, const c10::Stream& stream) {
  return Napi::Number::New(env, static_cast<double>(stream.id()));
}

// newStream(device, priority) -> number
Napi::Value newStream(Environment&, const Napi::CallbackInfo& info) {
  const auto device = deviceArgument(info, 0);
  const int priority = info[1].As<Napi::Number>().Int32Value();
  return numberOf(info.Env(), VirtualGuardImpl(device.type()).getNewStream(device, priority));
}

// currentStream(device) -> number
Napi::Value currentStream(Environment&, const Napi::CallbackInfo& info) {
  const auto device = deviceArgument(info, 0);
  return numberOf(info.Env(), VirtualGuardImpl(device.type()).getStream(device));
}

// enterStream(device, number) -> [index of the device, number of the stream] that were current before
Napi::Value enterStream(Environment&, const Napi::CallbackInfo& info) {
  const auto stream = streamArgument(info, 0);
  const VirtualGuardImpl guard(stream.device_type());
  const auto deviceBefore = guard.exchangeDevice(stream.device());
  const auto streamBefore = guard.exchangeStream(stream);
  auto before = Napi::Array::New(info.Env(), 2);
  before.Set(0u, static_cast<int>(deviceBefore.index()));
  before.Set(1u, numberOf(info.Env(), streamBefore));
  return before;
}

// leaveStream(device, index, number): makes current again what enterStream gave
Napi::Value leaveStream(Environment&, const Napi::CallbackInfo& info) {
  const auto device = deviceArgument(info, 0);
  const VirtualGuardImpl guard(device.type());
  const auto number = info[2].As<Napi::Number>().Int64Value();
  guard.exchangeStream(c10::Stream::unpack3(number, device.index(), device.type()));
  const auto index = static_cast<c10::DeviceIndex>(info[1].As<Napi::Number>().Int32Value());
  guard.setDevice(c10::Device(device.type(), index));
  return info.Env().Undefined();
}

// queryStream(device, number) -> whether its work is done
Napi::Value queryStream(Environment&, const Napi::CallbackInfo& info) {
  const auto stream = streamArgument(info, 0);
  return Napi::Boolean::New(info.Env(), VirtualGuardImpl(stream.device_type()).queryStream(stream));
}

Napi::Value synchronizeStream(Environment&, const Napi::CallbackInfo& info) {
  const auto stream = streamArgument(info, 0);
  VirtualGuardImpl(stream.device_type()).synchronizeStream(stream);
  return info.Env().Undefined();
}

struct Event {
  c10::Device device;
  bool hasTiming;
  // Shared with those who wait for it in the background. Null until it is recorded, and always on the CPU.
  std::shared_ptr<c10::Event> recorded;
  // When it was recorded on the CPU.
  std::optional<std::chrono::steady_clock::time_point> moment;
};

Event& eventArgument(const Napi::CallbackInfo& info, size_t index) {
  return *info[index].As<Napi::External<Event>>().Data();
}

// newEvent(device, timing) -> event
Napi::Value newEvent(Environment&, const Napi::CallbackInfo& info) {
  const bool hasTiming = info[1].As<Napi::Boolean>().Value();
  auto event = std::make_unique<Event>(Event{deviceArgument(info, 0), hasTiming, nullptr, std::nullopt});
  auto external = Napi::External<Event>::New(info.Env(), event.get(), [](Napi::Env, Event* data) { delete data; });
  event.release();
  return external;
}

// recordEvent(event, device, number)
Napi::Value recordEvent(Environment&, const Napi::CallbackInfo& info) {
  auto& event = eventArgument(info, 0);
  const auto stream = streamArgument(info, 1);
  if (stream.device() != event.device)
    throw Failure("INVALID_ARGUMENT", "an event of '" + event.device.str() + "' cannot be recorded on a stream of '" +
                                          stream.device().str() + "'");
  if (event.device.is_cpu()) {
    event.moment = std::chrono::steady_clock::now();
    return info.Env().Undefined();
  }
  // Who waits for the previous record goes on waiting for that.
  if (event.recorded == nullptr || event.recorded.use_count() > 1)
    event.recorded = std::make_shared<c10::Event>(
        event.device.type(), event.hasTiming ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT);
  event.recorded->record(stream);
  return info.Env().Undefined();
}

// waitForEvent(device, number, event): the stream's further work waits
Napi::Value waitForEvent(Environment&, const Napi::CallbackInfo& info) {
  const auto stream = streamArgument(info, 0);
  const auto& event = eventArgument(info, 2);
  if (event.recorded == nullptr) return info.Env().Undefined();
  if (stream.device_type() != event.device.type())
    throw Failure("INVALID_ARGUMENT", "the CPU cannot wait in a stream for '" + event.device.str() +
                                          "'; call the event's synchronize(), or await its wait()");
  event.recorded->block(stream);
  return info.Env().Undefined();
}

// queryEvent(event) -> whether the work before it is done; true if it was not recorded
Napi::Value queryEvent(Environment&, const Napi::CallbackInfo& info) {
  const auto& event = eventArgument(info, 0);
  return Napi::Boolean::New(info.Env(), event.recorded == nullptr || event.recorded->query());
}

Napi::Value synchronizeEvent(Environment&, const Napi::CallbackInfo& info) {
  const auto& event = eventArgument(info, 0);
  if (event.recorded != nullptr) event.recorded->synchronize();
  return info.Env().Undefined();
}

void checkTimed(const Event& event, const char* name) {
  const std::string prefix = std::string("no time can be told: the ") + name + " event ";
  if (!event.hasTiming) throw Failure("INVALID_ARGUMENT", prefix + "was made without { timing: true }");
  if (event.recorded == nullptr && !event.moment) throw Failure("INVALID_ARGUMENT", prefix + "was not recorded");
  if (event.recorded != nullptr && !event.recorded->query())
    throw Failure("INVALID_ARGUMENT", prefix + "is not reached yet; call its synchronize(), or await its wait(), first");
}

// elapsedTime(start, end) -> milliseconds
Napi::Value elapsedTime(Environment&, const Napi::CallbackInfo& info) {
  const auto& start = eventArgument(info, 0);
  const auto& end = eventArgument(info, 1);
  if (start.device != end.device)
    throw Failure("INVALID_ARGUMENT", "no time can be told between an event of '" + start.device.str() +
                                          "' and one of '" + end.device.str() + "'");
  checkTimed(start, "first");
  checkTimed(end, "second");
  const double milliseconds = start.device.is_cpu()
                                  ? std::chrono::duration<double, std::milli>(*end.moment - *start.moment).count()
                                  : start.recorded->elapsedTime(*end.recorded);
  return Napi::Number::New(info.Env(), milliseconds);
}

// Waiting with the event loop free meanwhile.
struct WaitJob : Job {
  WaitJob(Environment& environment, std::function<void()> wait) : Job(environment), wait(std::move(wait)) {}
  void run() override { wait(); }
  napi_value result(napi_env env) override {
    napi_value nothing = nullptr;
    napi_get_undefined(env, &nothing);
    return nothing;
  }
  std::function<void()> wait;
};

Napi::Value waitInBackground(Napi::Env env, Environment& environment, std::function<void()> wait) {
  return startWithPromise(env, "kontrast.wait", std::make_unique<WaitJob>(environment, std::move(wait)));
}

// awaitEvent(event) -> Promise
Napi::Value awaitEvent(Environment& environment, const Napi::CallbackInfo& info) {
  return waitInBackground(info.Env(), environment, [recorded = eventArgument(info, 0).recorded] {
    if (recorded != nullptr) recorded->synchronize();
  });
}

// awaitDevice(device) -> Promise
Napi::Value awaitDevice(Environment& environment, const Napi::CallbackInfo& info) {
  return waitInBackground(info.Env(), environment, [device = deviceArgument(info, 0)] {
    if (device.is_cpu()) return;
    const VirtualGuardImpl guard(device.type());
    // This thread's own device stays set: going back to device 0, where such threads begin, would open a context there.
    guard.setDevice(device);
    guard.synchronizeDevice(device.index());
  });
}

}  // namespace

void defineStreams(Napi::Env env, Napi::Object exports, Environment& environment) {
  define(env, exports, "streamObject", guarded<streamObject>, environment);
  define(env, exports, "newStream", guarded<newStream>, environment);
  define(env, exports, "currentStream", guarded<currentStream>, environment);
  define(env, exports, "enterStream", guarded<enterStream>, environment);
  define(env, exports, "leaveStream", guarded<leaveStream>, environment);
  define(env, exports, "queryStream", guarded<queryStream>, environment);
  define(env, exports, "synchronizeStream", guarded<synchronizeStream>, environment);
  define(env, exports, "newEvent", guarded<newEvent>, environment);
  define(env, exports, "recordEvent", guarded<recordEvent>, environment);
  define(env, exports, "waitForEvent", guarded<waitForEvent>, environment);
  define(env, exports, "queryEvent", guarded<queryEvent>, environment);
  define(env, exports, "synchronizeEvent", guarded<synchronizeEvent>, environment);
  define(env, exports, "elapsedTime", guarded<elapsedTime>, environment);
  define(env, exports, "awaitEvent", guarded<awaitEvent>, environment);
  define(env, exports, "awaitDevice", guarded<awaitDevice>, environment);
}

}  // namespace kontrast
