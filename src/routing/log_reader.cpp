#include "routing/log_reader.h"

#include <array>
#include <cstring>
#include <utility>

#include "routing/binary_reader.h"
#include "routing/jsonl_reader.h"
#include "routing/log_format.h"

namespace moeopt {
namespace {

std::unique_ptr<RoutingLogReader> open(LogInput input) {
  std::array<std::byte, kBinaryMagic.size()> start{};
  const bool binary =
      input.read(start) && std::memcmp(start.data(), kBinaryMagic.data(), start.size()) == 0;
  input.rewind();
  if (binary) return std::make_unique<BinaryReader>(std::move(input));
  return std::make_unique<JsonlReader>(std::move(input));
}

}  // namespace

std::unique_ptr<RoutingLogReader> open_routing_log(const std::filesystem::path& file) {
  return open(LogInput(file));
}

std::unique_ptr<RoutingLogReader> open_routing_log(std::span<const std::byte> bytes,
                                                   std::string name) {
  return open(LogInput(bytes, std::move(name)));
}

}  // namespace moeopt
