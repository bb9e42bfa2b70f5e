// Renders what it is asked on standard input, one JSON object a line: {"template", "inputs"} gives
// {"text"} or {"error"}. differential.py talks to it.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "text/chat_template.h"

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto request = nlohmann::ordered_json::parse(line);
    nlohmann::ordered_json answer;
    try {
      const auto& source = request["template"].get_ref<const std::string&>();
      answer["text"] = moeopt::ChatTemplate::parse(source, "t").render(request["inputs"]);
    } catch (const moeopt::Error& error) {
      answer["error"] = error.what();
    }
    std::cout << answer.dump() << std::endl;
  }
}
