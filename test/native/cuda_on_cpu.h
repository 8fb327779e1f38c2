// Enough of CUDA C++ to run a kernel on the CPU, thread by thread: each is a fiber that runs until it waits for others. A barrier that
// not all threads come to ends the program.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
// Blocks run one after the other, so one copy is enough.
#define __shared__ static

struct float4 {
  alignas(16) float x;
  float y, z, w;
};
struct uint2 {
  alignas(8) unsigned x;
  unsigned y;
};
struct Place3 {
  unsigned x, y, z;
};

inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }

namespace emulation {

enum class State { Ready, AtWarp, AtBlock, Done };

struct Fiber {
  Place3 thread{};
  State state = State::Ready;
  bool hasStarted = false;
  ucontext_t context{};
  jmp_buf place{};
  float exchanged = 0;
  std::unique_ptr<char[]> stack;
};

struct Machine {
  std::vector<Fiber> fibers;
  Fiber* current = nullptr;
  Place3 block{}, grid{};
  ucontext_t scheduler{};
  jmp_buf schedulerPlace{};
  void (*body)(const void*) = nullptr;
  const void* task = nullptr;
};

inline Machine machine;

__attribute__((noinline)) inline void wait(State state) {
  auto* own = machine.current;
  own->state = state;
  if (_setjmp(own->place) == 0) _longjmp(machine.schedulerPlace, 1);
}

inline void start() {
  machine.body(machine.task);
  machine.current->state = State::Done;
  _longjmp(machine.schedulerPlace, 1);
}

__attribute__((noinline)) inline void resume(Fiber& fiber) {
  machine.current = &fiber;
  if (_setjmp(machine.schedulerPlace) != 0) return;
  if (fiber.hasStarted) _longjmp(fiber.place, 1);
  fiber.hasStarted = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = 1 << 16;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, start, 0);
  setcontext(&fiber.context);
}

// Lets those go on who wait for `state` from `begin` to `end`, if all do that have not ended.
inline bool release(size_t begin, size_t end, State state) {
  bool isAny = false;
  for (size_t i = begin; i < end; i++) {
    const auto found = machine.fibers[i].state;
    if (found != state && found != State::Done) return false;
    isAny = isAny || found == state;
  }
  for (size_t i = begin; i < end; i++) {
    if (machine.fibers[i].state == state) machine.fibers[i].state = State::Ready;
  }
  return isAny;
}

inline void runBlock(unsigned threads) {
  machine.fibers.resize(threads);
  for (unsigned i = 0; i < threads; i++) {
    auto& fiber = machine.fibers[i];
    fiber.thread = {i, 0, 0};
    fiber.state = State::Ready;
    fiber.hasStarted = false;
    if (!fiber.stack) fiber.stack = std::make_unique<char[]>(1 << 16);
  }
  for (;;) {
    for (auto& fiber : machine.fibers) {
      if (fiber.state == State::Ready) resume(fiber);
    }
    bool goesOn = release(0, threads, State::AtBlock);
    for (unsigned i = 0; i < threads; i += 32) goesOn = release(i, std::min(i + 32, threads), State::AtWarp) || goesOn;
    if (goesOn) continue;
    if (std::all_of(machine.fibers.begin(), machine.fibers.end(), [](const Fiber& f) { return f.state == State::Done; })) return;
    std::fputs("some threads wait for others that never come\n", stderr);
    std::abort();
  }
}

}  // namespace emulation

#define threadIdx (emulation::machine.current->thread)
#define blockIdx (emulation::machine.block)
#define gridDim (emulation::machine.grid)

inline void __syncthreads() { emulation::wait(emulation::State::AtBlock); }

inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
  auto* own = emulation::machine.current;
  if (mask != 0xffffffffu) std::abort();
  own->exchanged = value;
  emulation::wait(emulation::State::AtWarp);
  const float found = emulation::machine.fibers[own->thread.x ^ static_cast<unsigned>(distance)].exchanged;
  emulation::wait(emulation::State::AtWarp);
  return found;
}

// Defines run_<kernel>(blocks across, blocks down, threads, task).
#define RUNS_ON_CPU(kernel, Task)                                                                          \
  extern "C" void run_##kernel(unsigned across, unsigned down, unsigned threads, const void* task) {       \
    emulation::machine.task = task;                                                                        \
    emulation::machine.body = [](const void* given) { kernel(*static_cast<const Task*>(given)); };         \
    emulation::machine.grid = {across, down, 1};                                                           \
    for (unsigned y = 0; y < down; y++) {                                                                  \
      for (unsigned x = 0; x < across; x++) {                                                              \
        emulation::machine.block = {x, y, 0};                                                              \
        emulation::runBlock(threads);                                                                      \
      }                                                                                                    \
    }                                                                                                      \
  }
