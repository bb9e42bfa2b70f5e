// What emulated_launch_util.h says of a layer and its workspace before anything runs.
#include <algorithm>

#include "cuda/emulated_launch_util.h"
#include "cuda/moe/fill_params.h"

namespace moeopt::cuda::moe {

EmulatedLayer::EmulatedLayer(const Shape& layer_shape, bool given)
    : shape(layer_shape),
      ids_given(given),
      config(choose_config(shape)),
      workspace(workspace_layout(shape, config)),
      launch(make_launch(shape, config, ids_given)) {}

EmulatedWorkspace::Set::Set(const EmulatedLayer& layer)
    : rows(static_cast<std::size_t>(layer.shape.slots)),
      ready(static_cast<std::size_t>(layer.workspace.token_tiles + layer.workspace.shared_tiles)),
      gate_arrived(static_cast<std::size_t>(layer.workspace.gate_tiles)),
      y_arrived(static_cast<std::size_t>(layer.shape.max_tokens)) {}

bool EmulatedWorkspace::Set::clean() const {
  const auto zero = [](const std::vector<std::uint32_t>& counters) {
    return std::all_of(counters.begin(), counters.end(), [](std::uint32_t c) { return c == 0; });
  };
  return routed == 0 && quantised == 0 && zero(rows) && zero(ready) && zero(gate_arrived) &&
         zero(y_arrived);
}

void EmulatedWorkspace::Set::clear_share(int block, int blocks) {
  int at = 0;
  const auto clear = [&](std::uint32_t& counter) {
    if (at++ % blocks == block) counter = 0;
  };
  clear(routed);
  clear(quantised);
  for (std::vector<std::uint32_t>* counters : {&rows, &ready, &gate_arrived, &y_arrived}) {
    for (std::uint32_t& counter : *counters) clear(counter);
  }
}

}  // namespace moeopt::cuda::moe
