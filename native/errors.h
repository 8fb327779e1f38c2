// C++ exceptions as JavaScript errors.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace kontrast {

// An error found by the addon itself, with the code that src/torch/errors.ts maps to a class.
class Failure : public std::runtime_error {
 public:
  Failure(std::string code, const std::string& message, std::vector<std::string> schemas = {})
      : std::runtime_error(message), code(std::move(code)), schemas(std::move(schemas)) {}
  std::string code;
  std::vector<std::string> schemas;
};

}  // namespace kontrast
