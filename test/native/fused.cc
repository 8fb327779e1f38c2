// Runs the fused kernels on the CPU, with what calls them, against the same statistics by LibTorch's operators in float64.
//
//   fused <folder of this file's sources> <native/contrast> <scratch folder> <compiler>   checks every case
//   fused --compile <capability>                                                          compiles the kernels with NVRTC
//
// The last line is `N passed, N failed`, or says that there is no NVRTC.
#include "blocks.h"
#include "compiler.h"
#include "fused.h"
#include "launcher.h"

#include <ATen/ATen.h>

#include <dlfcn.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>

using namespace kontrast::contrast;

namespace {

std::string ownSources, kernelSources, scratch, compiler;

// Kernels of a library that the C++ compiler makes of kernels.cu, in blocks that small problems have several of.
class EmulatedKernels : public Kernels {
 public:
  explicit EmulatedKernels(const std::string& definitions) {
    static int number = 0;
    const auto base = scratch + "/kernels" + std::to_string(number++);
    std::ofstream source(base + ".cc");
    const bool isBackward = definitions.find("KONTRAST_PART 1") != std::string::npos;
    source << definitions << "#include \"" << ownSources << "/cuda_on_cpu.h\"\n#include \"" << kernelSources << "/kernels.cu\"\n"
           << "using namespace kontrast::contrast::fused;\n"
           << (isBackward ? "RUNS_ON_CPU(kontrast_differentiate, Differentiation)\n"
                          : "RUNS_ON_CPU(kontrast_reduce, Reduction)\nRUNS_ON_CPU(kontrast_conclude, Conclusion)\n");
    source.close();
    // Misaligned loads and places outside of arrays end the program.
    const auto command = compiler + " -std=c++20 -O1 -w -fPIC -shared -fsanitize=alignment,bounds -fsanitize-undefined-trap-on-error -o " +
                         base + ".so " + base + ".cc";
    TORCH_CHECK(std::system(command.c_str()) == 0, "the kernels do not compile: ", command);
    library_ = dlopen((base + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(library_ != nullptr, dlerror());
  }

  BlockSizes sizes() const override { return {128, 512, 256}; }

 protected:
  void launch(const char* kernel, int64_t across, int64_t down, const void* task) const override {
    using Run = void (*)(unsigned, unsigned, unsigned, const void*);
    const auto run = reinterpret_cast<Run>(dlsym(library_, (std::string("run_") + kernel).c_str()));
    TORCH_CHECK(run != nullptr, "there is no ", kernel);
    run(static_cast<unsigned>(across), static_cast<unsigned>(down), fused::kThreads, task);
  }

 private:
  void* library_ = nullptr;
};

}  // namespace

namespace kontrast::contrast {

const Kernels* Kernels::find(const std::string& definitions, c10::Device) {
  static std::map<std::string, std::unique_ptr<EmulatedKernels>> found;
  auto& kernels = found[definitions];
  if (kernels == nullptr) kernels = std::make_unique<EmulatedKernels>(definitions);
  return kernels.get();
}

}  // namespace kontrast::contrast

namespace {

constexpr auto kRows = Axis::Rows;
constexpr auto kColumns = Axis::Columns;
constexpr PairClass kAll = kPositive | kNegative;

Statistic statistic(Kind kind, Axis axis, PairClass set, double power = 1) { return {kind, axis, set, power, false, 0}; }

struct Case {
  std::string name;
  std::vector<Statistic> statistics;
  std::vector<std::pair<int64_t, int64_t>> sizes;
  at::ScalarType type;
  bool hasLabels, hasIds;
  double scale;  // of the embeddings, whose scores are about as large as its square
  double bias, margin;
};

int passed = 0;
int failed = 0;

void check(const std::string& name, const at::Tensor& found, const at::Tensor& expected, double tolerance) {
  const auto wide = found.to(at::kDouble);
  const auto finite = expected.isfinite();
  const auto sameElsewhere = wide.eq(expected).logical_or(finite).all().item<bool>();
  const auto zero = at::zeros({}, expected.options());
  const auto error = at::where(finite, wide - expected, zero).abs().max().item<double>();
  const auto bound = tolerance * (1 + at::where(finite, expected, zero).abs().max().item<double>());
  if (sameElsewhere && error <= bound) {
    passed++;
  } else {
    failed++;
    std::cout << name << ": off by " << error << " where " << bound << " is allowed\n";
  }
}

void run(const Case& given, int64_t n, int64_t m) {
  const int64_t d = 8;
  Problem problem;
  problem.rows = (at::randn({n, d}) * given.scale / std::sqrt(d)).to(given.type);
  problem.columns = (at::randn({m, d}) * given.scale).to(given.type);
  problem.bias = given.bias;
  problem.margin = given.margin;
  if (given.hasLabels) {
    problem.rowLabels = at::randint(7, {n}, at::kLong);
    problem.columnLabels = at::randint(7, {m}, at::kLong);
  }
  if (given.hasIds) {
    problem.rowIds = at::randint(n + m, {n}, at::kLong);
    problem.columnIds = at::randint(n + m, {m}, at::kLong);
    // A row and a column of which no pair counts.
    problem.rowIds[n / 2] = -1;
    problem.columnIds.fill_(-1);
    problem.columnIds.narrow(0, 0, m / 2).copy_(at::randint(n + m, {m / 2}, at::kLong));
  }
  problem.statistics = given.statistics;
  problem.offsets.resize(given.statistics.size());
  auto exact = problem;
  exact.rows = problem.rows.to(at::kDouble);
  exact.columns = problem.columns.to(at::kDouble);

  const auto name = given.name + ", " + std::to_string(n) + " by " + std::to_string(m);
  const auto found = computeStatisticsFused(problem);
  TORCH_CHECK(found.has_value(), name, ": not taken");
  const auto expected = computeStatisticsByBlocks(exact);
  for (size_t s = 0; s < given.statistics.size(); s++)
    check(name + ", statistic " + std::to_string(s), found->values[s], expected.values[s], 4e-6);
  const auto again = computeStatisticsFused(problem);
  for (size_t s = 0; s < given.statistics.size(); s++) {
    if (!again->values[s].equal(found->values[s])) {
      failed++;
      std::cout << name << ", statistic " << s << ": other bits the second time\n";
    }
  }

  std::vector<at::Tensor> gradients;
  std::vector<at::Tensor> exactGradients;
  for (const auto& wanted : given.statistics) {
    gradients.push_back(at::randn({wanted.axis == kRows ? n : m}));
    exactGradients.push_back(gradients.back().to(at::kDouble));
  }
  Statistics rounded = expected;
  for (auto& value : rounded.values) value = value.to(at::kFloat);
  const auto slopes = differentiateFused(problem, *found, gradients, true, true, true);
  const bool hasSlopes = std::any_of(given.statistics.begin(), given.statistics.end(), [](const Statistic& wanted) {
    return wanted.kind != Kind::Count && wanted.kind != Kind::Maximum;
  });
  TORCH_CHECK(slopes.has_value() == hasSlopes, name, ": gradients");
  if (!hasSlopes) return;
  const auto exactSlopes = differentiateByBlocks(exact, expected, exactGradients, true, true);
  const auto tolerance = given.type == at::kFloat ? 2e-5 : 1e-2;
  check(name + ", gradient of rows", slopes->rows, exactSlopes.rows, tolerance);
  check(name + ", gradient of columns", slopes->columns, exactSlopes.columns, tolerance);
  check(name + ", gradient of the bias", at::scalar_tensor(slopes->bias), at::scalar_tensor(exactSlopes.bias, at::kDouble), 1e-4);
}

int checkAll() {
  const std::vector<std::pair<int64_t, int64_t>> odd{{1, 1}, {3, 700}, {65, 257}, {301, 5}, {300, 1030}};
  const std::vector<Statistic> symmetric{statistic(Kind::LogSumExp, kRows, kAll), statistic(Kind::LogSumExp, kColumns, kAll),
                                         statistic(Kind::Sum, kRows, kPositive), statistic(Kind::Count, kRows, kPositive)};
  const std::vector<Statistic> sets{
      statistic(Kind::LogSumExp, kRows, kNegative, 0.5), statistic(Kind::LogSumExp, kColumns, kPositive, 2),
      statistic(Kind::Softplus, kRows, kPositive, -1),   statistic(Kind::Softplus, kColumns, kNegative, 0.7),
      statistic(Kind::Maximum, kRows, kNegative),        statistic(Kind::Maximum, kColumns, kPositive),
      statistic(Kind::Count, kColumns, kAll),            statistic(Kind::Sum, kColumns, kNegative)};
  const std::vector<Case> cases{
      {"symmetric, float", symmetric, odd, at::kFloat, true, false, 1, 0, 0},
      {"symmetric, bfloat16", symmetric, odd, at::kBFloat16, true, false, 1, 0, 0},
      // As at a temperature of 0.005.
      {"symmetric, far apart", symmetric, {{130, 520}}, at::kFloat, true, false, 15, 0, 0},
      {"every kind and set", sets, odd, at::kFloat, true, true, 1, 0.3, 0.2},
      {"ids alone", {statistic(Kind::LogSumExp, kRows, kNegative)}, {{70, 300}}, at::kFloat, false, true, 2, 0, 0},
      {"nothing but scores", {statistic(Kind::Softplus, kRows, kNegative)}, {{64, 256}}, at::kBFloat16, false, false, 2, -3, 0},
      {"no slopes", {statistic(Kind::Count, kRows, kNegative)}, {{5, 6}}, at::kFloat, true, false, 1, 0, 0},
  };
  at::manual_seed(1);
  for (const auto& given : cases) {
    for (const auto& [n, m] : given.sizes) run(given, n, m);
  }
  std::cout << passed << " passed, " << failed << " failed\n";
  return failed == 0 ? 0 : 1;
}

int compileAll(int capability) {
  const std::string common =
      "#define KONTRAST_STATISTICS 4\n#define KONTRAST_KINDS 0, 0, 3, 1\n#define KONTRAST_AXES 0, 1, 0, 1\n"
      "#define KONTRAST_SETS 3, 2, 1, 3\n#define KONTRAST_LABELS 1\n#define KONTRAST_IDS 1\n";
  for (const auto* rest : {"#define KONTRAST_SHORT 0\n#define KONTRAST_PART 0\n", "#define KONTRAST_SHORT 0\n#define KONTRAST_PART 1\n",
                           "#define KONTRAST_SHORT 1\n#define KONTRAST_PART 1\n"}) {
    const auto code = compileKernels(common + rest + kernelSource(), capability);
    const bool isBinary = code.compare(0, 4, "\x7f" "ELF") == 0;
    const auto isThere = code.find(std::string(rest).find("PART 0") != std::string::npos ? "kontrast_reduce" : "kontrast_differentiate");
    TORCH_CHECK(isThere != std::string::npos, "the code lacks its kernel");
    std::cout << (isBinary ? "machine code" : "PTX") << ", " << code.size() << " bytes\n";
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count == 3 && std::string(arguments[1]) == "--compile") return compileAll(std::stoi(arguments[2]));
    TORCH_CHECK(count == 5, "four arguments");
    ownSources = arguments[1];
    kernelSources = arguments[2];
    scratch = arguments[3];
    compiler = arguments[4];
    return checkAll();
  } catch (const c10::Error& error) {
    std::cout << error.what_without_backtrace() << "\n";
    return 1;
  }
}
