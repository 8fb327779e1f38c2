// The JavaScript thread, as seen from other threads: LibTorch's own threads run backward passes that lead to functions
// written in TypeScript, and work in the background reports back.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace kontrast {

// An exception that JavaScript threw, on its way through C++ back to JavaScript.
class ScriptError : public std::runtime_error {
 public:
  ScriptError(const std::string& message, std::shared_ptr<napi_ref> error)
      : std::runtime_error(message), error_(std::move(error)) {}
  // The value that was thrown, or nullptr where it is gone.
  napi_value value(napi_env env) const noexcept;

 private:
  std::shared_ptr<napi_ref> error_;
};

// One thread that runs tasks in the order in which they come, beside JavaScript's.
class Lane {
 public:
  ~Lane();
  void run(std::function<void()> task);
  // Whether a task would run at once.
  bool isIdle();
  // Holds back what comes until it is told to go on, once for each pause. Refused while a task runs or waits to, and when so many pauses
  // are under way.
  bool pause(int most);
  void goOn();

 private:
  void loop();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool busy_ = false;
  bool closed_ = false;
  int pauses_ = 0;
  std::thread thread_;
};

// Letters to the JavaScript thread. They are served when its event loop turns, or while it waits for a task of its own.
class JavaScriptThread : public std::enable_shared_from_this<JavaScriptThread> {
 public:
  explicit JavaScriptThread(napi_env env);

  using Letter = std::function<void(napi_env)>;
  // Leaves a letter; it is dropped when JavaScript has ended.
  void post(Letter letter);
  // Runs `body` on the JavaScript thread and waits until it is done; rethrows what it throws.
  void call(const Letter& body);
  // Runs the task on another thread and serves letters meanwhile; rethrows what it throws.
  void serveWhile(Lane& lane, const std::function<void()>& task);
  // While something is held, the process stays alive to receive letters.
  void hold();
  void letGo();
  // JavaScript has ended: nobody waits any longer.
  void close();
  bool isClosed();
  // References to JavaScript values that were dropped by other threads are deleted here.
  void deleteLater(napi_ref reference);
  void deleteReferences(napi_env env);
  napi_env env() const { return env_; }

 private:
  void serve(napi_env env);
  void ring();
  static void answer(napi_env env, napi_value, void* context, void*);

  const std::thread::id thread_ = std::this_thread::get_id();
  napi_env env_;
  napi_threadsafe_function bell_ = nullptr;
  int held_ = 0;  // of the JavaScript thread only
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Letter> letters_;
  std::vector<napi_ref> dead_;
  bool closed_ = false;
};

// A function of JavaScript that C++ keeps. It may be dropped on any thread.
class Callback {
 public:
  Callback(napi_env env, napi_value function, std::shared_ptr<JavaScriptThread> thread);
  ~Callback();
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  // On the JavaScript thread; throws ScriptError for what the function throws.
  napi_value call(napi_env env, const std::vector<napi_value>& arguments) const;
  JavaScriptThread& thread() const { return *thread_; }

 private:
  napi_ref function_ = nullptr;
  std::shared_ptr<JavaScriptThread> thread_;
};

}  // namespace kontrast
