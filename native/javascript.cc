#include "javascript.h"

namespace kontrast {

napi_value ScriptError::value(napi_env env) const noexcept {
  napi_value value = nullptr;
  if (error_ && *error_ != nullptr) napi_get_reference_value(env, *error_, &value);
  return value;
}

Lane::~Lane() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    tasks_.clear();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Lane::run(std::function<void()> task) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

bool Lane::isIdle() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pauses_ == 0 && !busy_ && tasks_.empty();
}

bool Lane::pause(int most) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pauses_ == most || (pauses_ == 0 && (busy_ || !tasks_.empty()))) return false;
  pauses_++;
  return true;
}

void Lane::goOn() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (--pauses_ == 0) changed_.notify_all();
}

void Lane::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closed_ || (pauses_ == 0 && !tasks_.empty()); });
    if (closed_) return;
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    task = nullptr;  // what it holds is freed outside the lock
    lock.lock();
    busy_ = false;
  }
}

JavaScriptThread::JavaScriptThread(napi_env env) : env_(env) {
  napi_value name = nullptr;
  napi_create_string_utf8(env, "kontrast", NAPI_AUTO_LENGTH, &name);
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, answer, &bell_) !=
      napi_ok)
    throw std::runtime_error("the thread cannot be reached from others");
  napi_unref_threadsafe_function(env, bell_);
}

void JavaScriptThread::answer(napi_env env, napi_value, void* context, void*) {
  if (env != nullptr) static_cast<JavaScriptThread*>(context)->serve(env);
}

// With the mutex held. A bell that has said once that it is closing is gone.
void JavaScriptThread::ring() {
  if (bell_ != nullptr && napi_call_threadsafe_function(bell_, nullptr, napi_tsfn_nonblocking) == napi_closing)
    bell_ = nullptr;
}

void JavaScriptThread::post(Letter letter) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  letters_.push_back(std::move(letter));
  changed_.notify_all();
  ring();
}

void JavaScriptThread::serve(napi_env env) {
  for (;;) {
    Letter letter;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (closed_ || letters_.empty()) return;
      letter = std::move(letters_.front());
      letters_.pop_front();
    }
    napi_handle_scope scope = nullptr;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    letter(env);
    napi_close_handle_scope(env, scope);
  }
}

void JavaScriptThread::call(const Letter& body) {
  if (std::this_thread::get_id() == thread_) {
    const Napi::HandleScope scope(env_);
    body(env_);
    return;
  }
  struct Reply {
    bool done = false;
    std::exception_ptr failure;
  };
  const auto reply = std::make_shared<Reply>();
  post([this, reply, &body](napi_env env) {
    try {
      body(env);
    } catch (...) {
      reply->failure = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    reply->done = true;
    changed_.notify_all();
  });
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return reply->done || closed_; });
  if (!reply->done) throw std::runtime_error("the thread whose function this is has ended");
  if (reply->failure) std::rethrow_exception(reply->failure);
}

void JavaScriptThread::serveWhile(Lane& lane, const std::function<void()>& task) {
  bool done = false;
  std::exception_ptr failure;
  const auto body = [&] {
    std::exception_ptr thrown;
    try {
      task();
    } catch (...) {
      thrown = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    failure = thrown;
    done = true;
    changed_.notify_all();
  };
  // A lane that is busy may be waiting for this very thread.
  std::thread extra;
  if (lane.isIdle())
    lane.run(body);
  else
    extra = std::thread(body);
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return done || !letters_.empty(); });
    if (done) break;
    lock.unlock();
    serve(env_);
    lock.lock();
  }
  lock.unlock();
  if (extra.joinable()) extra.join();
  if (failure) std::rethrow_exception(failure);
}

void JavaScriptThread::hold() {
  if (held_++ == 0 && bell_ != nullptr) napi_ref_threadsafe_function(env_, bell_);
}

void JavaScriptThread::letGo() {
  if (--held_ == 0 && bell_ != nullptr) napi_unref_threadsafe_function(env_, bell_);
}

void JavaScriptThread::close() {
  // Letters are dropped without the lock: what they hold may want it.
  std::deque<Letter> letters;
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  bell_ = nullptr;
  letters.swap(letters_);
  dead_.clear();
  changed_.notify_all();
}

bool JavaScriptThread::isClosed() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return closed_;
}

void JavaScriptThread::deleteLater(napi_ref reference) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!closed_) dead_.push_back(reference);
}

void JavaScriptThread::deleteReferences(napi_env env) {
  std::vector<napi_ref> dead;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    dead.swap(dead_);
  }
  for (auto* reference : dead) napi_delete_reference(env, reference);
}

Callback::Callback(napi_env env, napi_value function, std::shared_ptr<JavaScriptThread> thread)
    : thread_(std::move(thread)) {
  if (napi_create_reference(env, function, 1, &function_) != napi_ok)
    throw std::runtime_error("a function could not be held");
}

Callback::~Callback() { thread_->deleteLater(function_); }

napi_value Callback::call(napi_env env, const std::vector<napi_value>& arguments) const {
  napi_value function = nullptr;
  napi_value receiver = nullptr;
  napi_value result = nullptr;
  if (napi_get_reference_value(env, function_, &function) != napi_ok || function == nullptr ||
      napi_get_undefined(env, &receiver) != napi_ok)
    throw std::runtime_error("a function is gone");
  if (napi_call_function(env, receiver, function, arguments.size(), arguments.data(), &result) == napi_ok)
    return result;
  napi_value error = nullptr;
  napi_ref reference = nullptr;
  bool isPending = false;
  if (napi_is_exception_pending(env, &isPending) == napi_ok && isPending &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    // A value that is no object cannot be referred to; it is thrown inside an array.
    napi_valuetype type = napi_undefined;
    napi_typeof(env, error, &type);
    if (type != napi_object && type != napi_function) {
      napi_value text = nullptr;
      if (napi_coerce_to_string(env, error, &text) == napi_ok) napi_create_error(env, nullptr, text, &error);
    }
    napi_create_reference(env, error, 1, &reference);
  }
  const auto thread = thread_;
  throw ScriptError("a function of JavaScript failed", std::shared_ptr<napi_ref>(new napi_ref(reference), [thread](napi_ref* held) {
                      if (*held != nullptr) thread->deleteLater(*held);
                      delete held;
                    }));
}

}  // namespace kontrast
