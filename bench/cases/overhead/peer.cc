// LibTorch's side of the case: the same operators called from C++, without a binding between.
#include "serve.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/TensorIndexing.h>
#include <torch/version.h>

#include <chrono>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

using at::indexing::Slice;

struct Inputs {
  at::Tensor x, y, z, rows;
};

// Calls `body` so often; compiled for each body, so that the loop adds nothing.
template <typename Body>
at::Tensor repeat(int calls, Body body) {
  at::Tensor last;
  for (int done = 0; done < calls; done++) last = body();
  return last;
}

using Loop = std::function<at::Tensor(const Inputs&, int)>;

const std::map<std::string, Loop> loops = {
    {"add", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.add(in.y); }); }},
    {"mul", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.mul(in.y); }); }},
    {"relu", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.relu(); }); }},
    {"matmul", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.matmul(in.z); }); }},
    {"sum", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.sum(); }); }},
    {"softmax", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.softmax(1); }); }},
    {"cat", [](const Inputs& in, int calls) { return repeat(calls, [&] { return at::cat({in.x, in.y}); }); }},
    {"select", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.index({1}); }); }},
    {"slice", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.index({Slice(0, 1)}); }); }},
    {"index", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.index({in.rows}); }); }},
    {"view", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.view({3, 2}); }); }},
    {"transpose", [](const Inputs& in, int calls) { return repeat(calls, [&] { return in.x.transpose(0, 1); }); }},
};

std::string numbers(const at::Tensor& tensor) {
  const auto flat = tensor.detach().flatten().contiguous();
  std::ostringstream text;
  text.precision(9);
  text << '[';
  for (int64_t i = 0; i < flat.numel(); i++) text << (i > 0 ? "," : "") << flat.data_ptr<float>()[i];
  text << ']';
  return text.str();
}

std::string prepare(const Options& options) {
  at::set_num_threads(static_cast<int>(options.number("threads")));
  return std::string("{\"libtorch\":\"") + TORCH_VERSION + "\"}";
}

std::string run(const Options& options) {
  const auto& loop = loops.at(options.text("operator"));
  const auto calls = static_cast<int>(options.number("calls"));
  const bool gradient = options.flag("gradient");
  Inputs in;
  in.x = at::tensor({1.0f, -2.0f, 3.0f, -4.0f, 5.0f, 6.0f}).view({2, 3});
  in.y = at::tensor({0.5f, -1.0f, 0.25f, 8.0f, 2.0f, -3.0f}).view({2, 3});
  in.z = in.y.t().contiguous();
  in.rows = at::tensor({int64_t{1}, int64_t{0}, int64_t{1}});
  in.x.requires_grad_(gradient);
  const auto start = std::chrono::steady_clock::now();
  loop(in, calls);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const auto last = loop(in, 1);
  std::ostringstream reply;
  reply.precision(17);
  reply << "{\"seconds\":" << seconds.count() << ",\"items\":" << calls << ",\"result\":[" << numbers(last);
  if (gradient) {
    (last * last).sum().backward();
    reply << ',' << numbers(in.x.grad());
  }
  reply << "]}";
  return reply.str();
}

}  // namespace

int main() { return serve(prepare, run); }
