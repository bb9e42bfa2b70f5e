#include "cuda/moe/fill_params.h"

#include "cuda/moe/describe.h"

namespace moeopt::cuda::moe {
namespace {

void fill_call(const moeopt_moe_args& args, Params& params) {
  params.tokens = args.tokens;
  params.tokens_device = args.tokens_device;
  params.x = args.x;
  params.x_stride = args.x_stride;
  params.out = args.out;
  params.out_stride = args.out_stride;
  params.experts = static_cast<const std::byte*>(args.experts);
  params.expert_stride = args.expert_stride;
  params.shared = static_cast<const std::byte*>(args.shared);
  params.router = args.router;
  params.correction_bias = args.correction_bias;
  params.shared_gate = args.shared_gate;
  params.ids = args.ids;
  params.given_weights = args.weights;
  params.expert_map = args.expert_map;
  params.out_ids = args.out_ids;
  params.out_weights = args.out_weights;
  params.out_counts = args.out_counts;
}

void fill_layer(const Shape& shape, const Config& config, Params& params) {
  params.max_tokens = shape.max_tokens;
  params.hidden = shape.hidden;
  params.intermediate = shape.intermediate;
  params.shared_intermediate = shape.shared_intermediate;
  params.experts_total = shape.experts;
  params.slots = shape.slots;
  params.top_k = shape.top_k;
  params.y_rows = shape.y_rows();
  params.score = shape.score;
  params.groups = shape.groups;
  params.top_k_groups = shape.top_k_groups;
  params.group_score = shape.group_score;
  params.renormalise = shape.renormalise ? 1 : 0;
  params.renormalise_epsilon = shape.renormalise_epsilon;
  params.scale = shape.scale;
  params.layout = expert_layout(shape);
  params.shared_layout = shared_layout(shape);
  params.gate_tokens = config.gate_tokens;
  params.gate_rows = config.gate_rows;
  params.local_lists = config.local_lists ? 1 : 0;
}

// `control` holds what lasts from launch to launch, [0, control_bytes); `scratch` the rest.
void fill_workspace(const WorkspaceLayout& w, std::byte* control, std::byte* scratch,
                    Params& params) {
  const auto place = []<typename T>(T*& pointer, std::byte* start, std::uint64_t offset) {
    pointer = reinterpret_cast<T*>(start + offset);
  };
  const auto at = [&]<typename T>(T*& pointer, std::uint64_t offset) {
    place(pointer, scratch, offset - w.control_bytes);
  };
  place(params.counters, control, 0);
  place(params.ticket, control, w.ticket);
  place(params.sets, control, w.sets);
  place(params.logit_words, control, w.logit_words);
  place(params.choice_words, control, w.choice_words);
  place(params.weight_words, control, w.weight_words);
  place(params.h_words, control, w.h_words);
  place(params.h_shared_words, control, w.h_shared_words);
  place(params.y_words, control, w.y_words);
  params.set_bytes = w.set_bytes;
  params.token_tiles = w.token_tiles;
  params.shared_tiles = w.shared_tiles;
  params.gate_tiles = w.gate_tiles;
  at(params.logits, w.logits);
  at(params.y_slot, w.y_slot);
  at(params.weights, w.weights);
  at(params.expected, w.expected);
  at(params.lists, w.lists);
  at(params.x_quantised, w.x_quantised);
  at(params.x_scales, w.x_scales);
  at(params.x_images, w.x_images);
  at(params.x_image_scales, w.x_image_scales);
  at(params.h, w.h);
  at(params.h_scales, w.h_scales);
  at(params.h_shared, w.h_shared);
  at(params.h_shared_scales, w.h_shared_scales);
  params.y = scratch + (w.y - w.control_bytes);
}

}  // namespace

Launch make_launch(const Shape& shape, const Config& config, bool ids_given) {
  const int gate_rows = (ids_given ? 0 : shape.experts) + (shape.shared_gate ? 1 : 0);
  Launch launch{};
  launch.n_max = config.variant.n_max;
  launch.quantises = shape.dtype == Dtype::kFp8;
  launch.hidden = shape.hidden;
  launch.gathers = config.gathers;
  launch.dispatches = !config.few() && (!config.local_lists || !ids_given);
  launch.gate_tokens = gate_rows > 0 ? config.gate_tokens : 0;
  launch.gate_units = ceil_div(gate_rows, config.gate_rows);
  launch.combine_columns = config.combine_columns;
  launch.combine_parts = ceil_div(shape.hidden, config.combine_columns);
  const auto set_units = [&](const ExpertLayout& layout, int& units1, int& units2) {
    units1 = ceil_div(layout.tiles1(), config.variant.m_tiles);
    units2 = ceil_div(layout.tiles2(), config.variant.second_tiles);
  };
  set_units(expert_layout(shape), launch.units1, launch.units2);
  if (shape.shared()) {
    set_units(shared_layout(shape), launch.shared_units1, launch.shared_units2);
    launch.shared_leads = config.few();
  }
  return launch;
}

Params fill_params(const Shape& shape, const Config& config, const WorkspaceLayout& workspace,
                   const moeopt_moe_args& args) {
  Params params{};
  fill_call(args, params);
  fill_layer(shape, config, params);
  params.launch = make_launch(shape, config, args.ids != nullptr);
  auto* const whole = static_cast<std::byte*>(args.workspace);
  if (args.control != nullptr) {
    fill_workspace(workspace, static_cast<std::byte*>(args.control), whole, params);
  } else {
    fill_workspace(workspace, whole, whole + workspace.control_bytes, params);
  }
  return params;
}

}  // namespace moeopt::cuda::moe
