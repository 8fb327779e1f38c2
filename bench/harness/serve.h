// Answers the harness's commands (see harness/adapter.ts) for a peer written in C++. Requests are lines that the harness
// itself has written, so they are read by looking for members by name.
#pragma once

#include <exception>
#include <functional>
#include <iostream>
#include <regex>
#include <stdexcept>
#include <string>

// The members of a request, by name.
class Options {
 public:
  explicit Options(std::string line) : line_(std::move(line)) {}
  std::string text(const std::string& name) const { return find(name, "\"([^\"]*)\""); }
  double number(const std::string& name) const { return std::stod(find(name, "(-?[0-9.eE+-]+)")); }
  bool flag(const std::string& name) const { return find(name, "(true|false)") == "true"; }

 private:
  std::string find(const std::string& name, const std::string& value) const {
    std::smatch match;
    if (!std::regex_search(line_, match, std::regex("\"" + name + "\":" + value)))
      throw std::runtime_error("the request has no " + name + ": " + line_);
    return match[1];
  }

  std::string line_;
};

// prepare(options) -> versions by name, run(options) -> {"seconds", "items", "result"}, both as JSON.
inline int serve(const std::function<std::string(const Options&)>& prepare,
                 const std::function<std::string(const Options&)>& run) {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::string reply;
    try {
      const Options options(line);
      const auto command = options.text("command");
      if (command == "close") break;
      reply = command == "prepare" ? "{\"versions\":" + prepare(options) + "}" : run(options);
    } catch (const std::exception& error) {
      // Quotes and line ends would end the text and the answer.
      reply = std::regex_replace(std::string(error.what()), std::regex("[\"\\\\\\x00-\\x1f]"), " ");
      reply = "{\"error\":\"" + reply + "\"}";
    }
    std::cout << reply << std::endl;
  }
  return 0;
}
