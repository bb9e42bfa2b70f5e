"""Wrong MoE kernels: each entry breaks the shipped source of src/cuda/moe in one place.

The GPU suite must fail on every one of them; gpu.py shows it. `search` must occur exactly once in `file`
(line breaks and indentation apart), so that a change of the source cannot turn a mutation into nothing
unnoticed.
"""

from mutations import Mutation

FOLDER = "src/cuda/moe/"
COMBINE = FOLDER + "combine.cuh"
COMBINE_FEW = FOLDER + "combine_few.cuh"
DISPATCH = FOLDER + "dispatch.cuh"
FEW = FOLDER + "few_tokens.cuh"
GATE = FOLDER + "gate.cuh"
GATE_TILE = FOLDER + "gate_tile.cuh"
IMAGE_LOADER = FOLDER + "image_loader.cuh"
KERNEL = FOLDER + "kernel.cuh"
LISTS = FOLDER + "lists.cuh"
LOADER = FOLDER + "loader.cuh"
MANY = FOLDER + "many_tokens.cuh"
PACK = FOLDER + "pack.cu"
PRODUCER = FOLDER + "producer.cuh"
PTX = FOLDER + "ptx.cuh"
PUBLISHER = FOLDER + "publisher.cuh"
QUANTISE = FOLDER + "quantise.cuh"
ROUNDING = FOLDER + "rounding.cuh"
ROUTE = FOLDER + "route.cuh"
ROUTE_TEAMS = FOLDER + "route_teams.cuh"
SPECULATION = FOLDER + "speculation.cuh"
WORD_LOADER = FOLDER + "word_loader.cuh"

SWIGLU_LOW = "sums[i][4 * g] = swiglu(sums[i][4 * g], sums[i][4 * g + 2]);"
ADD = """sum[2 * j] += weight * low_bf16(two[j]);
    sum[2 * j + 1] += weight * high_bf16(two[j]);"""
WEIGHT = "weight[i][n] = from >= 0 ? own.weight[s] : 0.0f;"
ADDEND_STAGED = "from >= 0 ? addends.weight[slot] : 0.0f"
OUT = "uint4 rounded(const float (&sum)[8]) {"
SWIGLU_MANY = "sums[8 * j + i] = swiglu(sums[8 * j + i], sums[8 * j + 4 + i]);"
STORE_H_BF16 = "transpose_8x8(pack_bf16(sums[i][4 * g], sums[i][4 * g + 1]));\n          const int row"
FREE_BF16 = """      if (stage > 0) {
        wgmma_wait<1>();
        rings_.free_previous();
      }"""
ISSUE_FP8 = """      issue_fp8<kN>(products);
      wgmma_wait<0>();
      promote<kN>(products, block_scales, token_scales(), total);"""

ADD_FP8 = "total[i][4 * g + 3] += products[i][4 * g + 3] * (scales.high * token.y);"
ADD_FP8_MANY = "sums[tile * kTileSums + i] += products[i] * scale[i / 4 % 2][i / 2 % 2];"

WEIGHTS = [
    Mutation("router weight x 0.8", COMBINE, WEIGHT, WEIGHT.replace("own.weight[s]", "0.8f * own.weight[s]")),
    Mutation("router weight applied twice", COMBINE, WEIGHT,
             WEIGHT.replace("own.weight[s]", "own.weight[s] * own.weight[s]")),
    Mutation("router weight x 0.8 (many tokens)", COMBINE, ADDEND_STAGED,
             ADDEND_STAGED.replace("addends.weight[slot]", "0.8f * addends.weight[slot]")),
    Mutation("output of zeros", COMBINE, OUT,
             OUT.replace("sum", "exact") + "\n  float sum[8];\n"
             "  for (int i = 0; i < 8; ++i) sum[i] = 0.0f * exact[i];"),
    Mutation("combine in bf16", COMBINE, ADD,
             ADD + """
    sum[2 * j] = low_bf16(pack_bf16(sum[2 * j], 0));
    sum[2 * j + 1] = low_bf16(pack_bf16(sum[2 * j + 1], 0));"""),
    Mutation("output truncated instead of rounded", COMBINE, OUT,
             OUT.replace("sum", "exact") + "\n  float sum[8];\n"
             "  for (int i = 0; i < 8; ++i) sum[i] = __uint_as_float(__float_as_uint(exact[i]) & 0xffff0000u);"),
    Mutation("shared expert forgotten", COMBINE, "s < p.y_rows ? own.from[s] : -1",
             "s < p.top_k ? own.from[s] : -1"),
    Mutation("shared expert forgotten (many tokens)", COMBINE, "slot = 0; slot < p.y_rows; ++slot",
             "slot = 0; slot < p.top_k; ++slot"),
    Mutation("last slot dropped", COMBINE, "s < p.y_rows ? own.from[s] : -1",
             "s < p.y_rows && (s + 1 != p.top_k || s == 0) ? own.from[s] : -1"),
    Mutation("out taken for dense", COMBINE, "2 * (token[i] * p.out_stride + column[i])",
             "2 * (std::int64_t{1} * token[i] * p.hidden + column[i])"),
    Mutation("out taken for dense (many tokens)", COMBINE, "2 * (token * p.out_stride + column + i * 8)",
             "2 * (std::int64_t{1} * token * p.hidden + column + i * 8)"),
    Mutation("y staged by pieces, read as whole rows", COMBINE, "at + from * pieces * 16", "at + from * p.hidden * 2"),
    Mutation("no wait for the shared expert's y", COMBINE, "(p.shared_intermediate > 0 ? run.launch.shared_units2 : 0)", "0"),
    Mutation("no wait for y", COMBINE, "expected * run.launch.units2 +", "0 * expected * run.launch.units2 +"),
]

GEMMS = [
    Mutation("gate and up swapped in one expert", FEW, SWIGLU_LOW,
             "if (info.expert == 1) {\n"
             "          const float gate = sums[i][4 * g];\n"
             "          sums[i][4 * g] = sums[i][4 * g + 2];\n"
             "          sums[i][4 * g + 2] = gate;\n"
             "        }\n        " + SWIGLU_LOW),
    Mutation("up without the gate's silu", ROUNDING,
             "return __fdividef(gate, 1.0f + approximate_exp2(-1.44269504f * gate)) * up;", "return gate * up;"),
    Mutation("K tail dropped", PRODUCER, "info.blocks = first ? layout.blocks1() : layout.blocks2();",
             "info.blocks = max(1, (first ? layout.blocks1() : layout.blocks2()) - 1);"),
    Mutation("the neighbour's expert", PRODUCER,
             "p_.experts + static_cast<std::uint64_t>(info.expert) * p_.expert_stride",
             "p_.experts + static_cast<std::uint64_t>((info.expert + 1) % p_.slots) * p_.expert_stride"),
    Mutation("bf16 accumulation (bf16)", FEW, FREE_BF16,
             """      wgmma_wait<0>();
      for (auto& tile : sums) {
        for (float& value : tile) value = low_bf16(pack_bf16(value, 0));
      }
      if (stage > 0) rings_.free_previous();"""),
    Mutation("h truncated instead of rounded (bf16)", FEW, STORE_H_BF16,
             STORE_H_BF16.replace(
                 "pack_bf16(sums[i][4 * g], sums[i][4 * g + 1])",
                 "(__float_as_uint(sums[i][4 * g]) >> 16) |\n"
                 "              (__float_as_uint(sums[i][4 * g + 1]) & 0xffff0000u)")),
    Mutation("h from half of its scale's columns (fp8)", FEW,
             "for (int w = 0; w < kConsumerWarps; ++w)\n          largest",
             "for (int w = 0; w < kConsumerWarps / 2; ++w)\n          largest"),
    Mutation("h from half of its scale's columns (fp8, many tokens)", MANY,
             "largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));", ""),
    Mutation("a sum that loses bits (fp8)", FEW, ADD_FP8,
             ADD_FP8 + """
          for (int n = 0; n < 4; ++n) total[i][4 * g + n] = low_bf16(pack_bf16(total[i][4 * g + n], 0));"""),
    Mutation("a sum that loses bits (fp8, many tokens)", MANY, ADD_FP8_MANY,
             ADD_FP8_MANY + """
      float& sum = sums[tile * kTileSums + i];
      sum = low_bf16(pack_bf16(sum, 0));"""),
    Mutation("h scaled past what e4m3 holds (fp8)", FEW, "scale_of(largest)", "scale_of(largest) * (448.0f / 480.0f)"),
    Mutation("h scaled past what e4m3 holds (fp8, many tokens)", MANY, "scale_of(largest)",
             "scale_of(largest) * (448.0f / 480.0f)"),
    Mutation("gate and up swapped in one expert (many tokens)", MANY, SWIGLU_MANY,
             SWIGLU_MANY.replace("swiglu(sums[8 * j + i], sums[8 * j + 4 + i])",
                                 "info.expert == 1 ? swiglu(sums[8 * j + 4 + i], sums[8 * j + i])\n"
                                 "                                         "
                                 ": swiglu(sums[8 * j + i], sums[8 * j + 4 + i])")),
    Mutation("the second token's columns from the first (bf16, many tokens)", MANY,
             "pack_bf16(two[4], two[5]), pack_bf16(two[6], two[7])",
             "pack_bf16(two[4], two[5]), pack_bf16(two[4], two[5])"),
    Mutation("the second warpgroup's tokens from the first's (bf16)", MANY,
             "shared_address(ring_.tokens()) + group() * kHalfBytes", "shared_address(ring_.tokens())"),
    Mutation("the second warpgroup's tokens from the first's (fp8)", MANY,
             "shared_address(s_.tokens) + group() * kHalfBytes", "shared_address(s_.tokens)"),
    Mutation("gathered tokens not waited for", IMAGE_LOADER, "copies_wait<kOnTheirWay>();",
             "copies_wait<kOnTheirWay + 1>();"),
    Mutation("the last odd block of K not multiplied (bf16)", FEW,
             "if (T::kBlocks > 1 && info.blocks % T::kBlocks != 0) {\n      wait_for_stage(info, whole);\n"
             "      issue_bf16<kN, 1>(sums);",
             "if (T::kBlocks > 1 && info.blocks % T::kBlocks != 0) {\n      wait_for_stage(info, whole);"),
    Mutation("every token tile is the expert's first", PRODUCER, "info.first_row = task.tile * T::kNMax;",
             "info.first_row = 0;"),
    Mutation("x taken for dense", LOADER, "first && !T::kFp8 ? 2 * p_.x_stride",
             "first && !T::kFp8 ? std::int64_t{2} * p_.hidden"),
    Mutation("gate and up scales swapped in packing", PACK,
             "thread == 0 ? source.gate.scale : source.up.scale",
             "thread == 0 ? source.up.scale : source.gate.scale"),
    Mutation("fp8 without promotion", FEW, ISSUE_FP8,
             # The sum so far goes back into the tensor core's accumulator, in the next block's scale.
             """      for (int i = 0; i < T::kMTiles; ++i) {
        for (int g = 0; g < kN / 8; ++g) {
          const float2 token = *reinterpret_cast<const float2*>(token_scales() + 8 * g);
          float* kept = &total[i][4 * g];
          products[i][4 * g] = kept[0] / (block_scales.low * token.x);
          products[i][4 * g + 1] = kept[1] / (block_scales.low * token.y);
          products[i][4 * g + 2] = kept[2] / (block_scales.high * token.x);
          products[i][4 * g + 3] = kept[3] / (block_scales.high * token.y);
          for (int n = 0; n < 4; ++n) kept[n] = 0;
        }
      }
      wgmma_fence();
      for (int step = 0; step < 4; ++step) {
        for (int i = 0; i < T::kMTiles; ++i) {
          wgmma_e4m3<kN>(products[i], weights_operand(0) + i * (kHalfBytes >> 4) + step * 2,
                         tokens_operand(0) + step * 2, 1);
        }
      }
      wgmma_commit();
      wgmma_wait<0>();
      promote<kN>(products, block_scales, token_scales(), total);"""),
    Mutation("a weight's scale block off by one", FEW, "return {scales[block * step],",
             "return {scales[max(block - 1, 0) * step],"),
    Mutation("a block promoted by the scales of the one before it", FEW, "promote<kN>(others, scales_of(scales, first, block + 1),",
             "promote<kN>(others, scales_of(scales, first, block),"),
    Mutation("a task's tile taken for the one after it", PRODUCER, "return info.task.unit * unit_tiles(info);",
             "return info.task.unit * T::kMTiles;"),
    Mutation("a weight's scale block off by one (many tokens)", MANY, "of_weights += first ? 8 : 4;",
             "of_weights += first ? 16 : 8;"),
    Mutation("the gate's scale for up", FEW, "scales[block * step + up]",
             "scales[block * step]"),
    Mutation("the gate's scale for up (many tokens)", MANY, "load_shared_float(at + (first ? 4 : 0))",
             "load_shared_float(at)"),
    Mutation("the first token's scale for both (many tokens)", MANY, "token[1] = load_shared_float(scales + 32);",
             "token[1] = token[0];"),
    Mutation("a token's scale block off by one", LOADER, "s_.source_row[warp_][row] * groups + block);",
             "s_.source_row[warp_][row] * groups + min(block + 1, groups - 1));"),
    Mutation("activations quantised to a smaller range", ROUNDING, "constexpr float kLargest = 448.0f;",
             "constexpr float kLargest = 256.0f;"),
    Mutation("activations' scale not clamped", ROUNDING, "quotient(fmaxf(largest, 1e-10f), kLargest,", "quotient(largest, kLargest,"),
    Mutation("weights quantised by the wrong scale", PACK, "__fdiv_rn(block_max(largest), 448.0f)",
             "__fdiv_rn(block_max(largest), 440.0f)"),
]

ROUTES = [
    Mutation("no renormalisation", ROUTE, "if (p.renormalise == 0) return", "if (true) return"),
    Mutation("renormalised without epsilon", ROUTE, "sum + p.renormalise_epsilon", "sum"),
    Mutation("scale forgotten", ROUTE, "quotient(score, all, inverse_of(all)) * p.scale;", "quotient(score, all, inverse_of(all));"),
    Mutation("bias added to the weights", ROUTE, "__shfl_sync(kAllLanes, s.score[i], max(id, 0) / kPerLane);",
             "__shfl_sync(kAllLanes, selected[i], max(id, 0) / kPerLane);"),
    Mutation("bias forgotten", ROUTE, "if (p.correction_bias != nullptr) {", "if (false) {"),
    Mutation("groups not limited", ROUTE, "if (p.groups > 1) keep_best_groups",
             "if (false) keep_best_groups"),
    Mutation("groups by their best alone", ROUTE, "if (p.group_score == MOEOPT_GROUP_TOP2", "if (false"),
    Mutation("ties to the higher id", ROUTE, "const bool swap = key[n + 1] > key[n];",
             "const bool swap = key[n + 1] >= key[n];"),
    Mutation("equals of all lanes taken at once", ROUTE, "const bool taken = equal && (equals & lower_lanes) == 0;",
             "const bool taken = equal;"),
    Mutation("a slot gets the expert of the one before", ROUTE, "if (lane == slot - 1) id = last;",
             "if (lane == slot) id = last;"),
    Mutation("a NaN logit counts as a score", ROUTE, "(s.nans >> i & 1) != 0 ? -INFINITY : nan_to_lowest(selected[i]);",
             "nan_to_lowest(selected[i]);"),
    Mutation("logits read before they are there", ROUTE, "there &= !valid || has_tag(words[i], tag);", ""),
    Mutation("an absent expert taken for slot 0", ROUTE, "return slot < p.slots ? slot : -1;", "return max(slot, 0);"),
    Mutation("a repeated expert's row read where none was written", ROUTE,
             "r.choice = {own ? slot : -1, slot >= 0 ? leader : -1};",
             "r.choice = {own ? slot : -1, slot >= 0 ? lane : -1};"),
    Mutation("expert map forgotten", ROUTE, "p.expert_map != nullptr ? __ldg(p.expert_map + id)",
             "false ? __ldg(p.expert_map + id)"),
    Mutation("sigmoid taken for softmax", ROUTE, "if (p.score == MOEOPT_SOFTMAX) {", "if (true) {"),
    Mutation("one group too many", ROUTE, "for (int n = 0; n < p.top_k_groups; ++n) {",
             "for (int n = 0; n < min(p.top_k_groups + 1, p.groups); ++n) {"),
    Mutation("the router's K tail dropped", GATE, "const int end = gate_range_begin(p.hidden / 64, warp + 1);",
             "const int end = gate_range_begin(p.hidden / 64, warp + 1) - (warp == 7 && p.hidden > 64 ? 1 : 0);"),
    Mutation("the router's K tail dropped (many tokens)", GATE_TILE, "chunks_ = p.hidden / 64;",
             "chunks_ = max(1, p.hidden / 64 - 1);"),
    Mutation("a range of K added to the next one's", GATE_TILE, "begins = true; }", "}"),
    Mutation("a wide gate multiplies what is still on its way", GATE_TILE, "copies_wait<kStages - 2>();",
             "copies_wait<kStages - 1>();"),
    Mutation("a range of K ends a chunk late", GATE_TILE, "if (chunk == range_end) {", "if (chunk == range_end + 1) {"),
    Mutation("NaN tokens not counted (many tokens)", ROUTE_TEAMS, "if (has_nan) count_nan_token(p);", ""),
    Mutation("given NaN weights not seen (many tokens)", DISPATCH, "if (slot == 0 && nan != 0) count_nan_token(p);", ""),
    Mutation("a NaN logit counts as a score (many tokens)", ROUTE_TEAMS, "nans |= 1u << n;", ";"),
    Mutation("a wide gate's last tokens forgotten", GATE_TILE, "row < rows && token < tokens)",
             "row < rows && token + 1 < tokens)"),
    Mutation("the shared gate's row not brought", GATE_TILE, "rows < task_.rows && rows % step == line", "false"),
    Mutation("ties to the higher id (many tokens)", ROUTE_TEAMS, "best[n + step].key > best[n].key",
             "best[n + step].key >= best[n].key"),
    Mutation("bias forgotten (many tokens)", ROUTE_TEAMS, "if (p.correction_bias != nullptr) {", "if (false) {"),
    Mutation("NaN tokens not counted", ROUTE, "if (r.has_nan && lane == 0) count_nan_token(p);", ""),
    Mutation("given NaN weights not seen", ROUTE, "r.has_nan = __any_sync(kAllLanes, isnan(r.chosen.weight)) != 0;",
             "r.has_nan = false;"),
    Mutation("shared gate forgotten", ROUTE,
             "p.shared_gate == nullptr ? 1.0f : sigmoid_of(__ldcg(p.logits + logits + p.experts_total));",
             "logits >= 0 ? 1.0f : 0.0f;"),
    Mutation("shared gate forgotten (few tokens)", COMBINE,
             """        : p.shared_gate == nullptr
            ? 1.0f
            : sigmoid_of(__uint_as_float(wait_for_word(p.logit_words + row + p.experts_total,
                                                       run.tag, "the shared expert's logit")));""",
             "        : row >= 0 ? 1.0f : 0.0f;"),
]

ORDER = [
    Mutation("stale workspace", LOADER, "if (warp_ == 0) clear_other_set();", ""),
    Mutation("no wait for h", LOADER, 'wait(info.ready, info.ready_count, "h");', ""),
    Mutation("no wait for x in e4m3", LOADER,
             "wait(&run_.set->quantised, static_cast<std::uint32_t>(run_.launch.quantise_tiles),",
             "wait(&run_.set->quantised, 0,"),
    Mutation("no wait for logits", DISPATCH, "static_cast<std::uint32_t>(run.launch.gate_units), \"router logits\"",
             "0u, \"router logits\""),
    Mutation("no wait for the lists", PRODUCER, "wait_for_count(&run_.set->routed, tiles, \"routes\");", ""),
    Mutation("few entries listed before they are routed", PRODUCER, "if (real && local) wait_for_counts(rank);",
             "if (real && local && !lists) wait_for_counts(rank);"),
    Mutation("the next launch's number not set", PRODUCER,
             "static_cast<unsigned long long>(number_after(run_.number)) << 32;",
             "static_cast<unsigned long long>(run_.number) << 32;"),
    Mutation("a word of any launch taken for this one's", PTX, "return static_cast<std::uint32_t>(word >> 32) == tag;",
             "return static_cast<std::uint32_t>(word >> 32) != 0;"),
    Mutation("a few entries' rank counted over all experts", PRODUCER,
             "__popc(same & ((1u << lane_) - 1))", "lane_"),
    Mutation("the walk before y is the combination", COMBINE, "const bool real = pass == 1;", "const bool real = pass == 0;"),
    Mutation("lists before the schedule", LISTS, 'mbarrier_wait(s.planned, 0, "the schedule");', ""),
    Mutation("a repeat of given ids is a row of its own", LISTS, "return {leader == lane ? expert : -1,",
             "return {expert,"),
    Mutation("a count from the device beyond the capacity believed", KERNEL,
             "return tokens >= 0 && tokens <= p.max_tokens ? tokens : -1;",
             "return tokens >= 0 && tokens <= p.max_tokens ? tokens : p.max_tokens;"),
    Mutation("counts of experts without rows left as they were", PRODUCER,
             "p_.out_counts[slot] = 0;", ";"),
    Mutation("speculated weights given before they are there", SPECULATION, "settle(); const int stages = asked_;",
             "const int stages = asked_;"),
    Mutation("a wrong guess taken for the task", SPECULATION, "return right ? stages : 0;", "return stages;"),
    Mutation("another unit's weights speculated", SPECULATION, "const int tile = rank % units * T::kMTiles;",
             "const int tile = (rank + 1) % units * T::kMTiles;"),
    Mutation("a launch whose tag is that of unwritten words", FOLDER + "workspace.h",
             "return number == 0xfffffffeu ? 1 : number + 1;", "return number + 1;"),
    Mutation("a control apart, and the workspace used as if it were not", FOLDER + "fill_params.cpp",
             "fill_workspace(workspace, static_cast<std::byte*>(args.control), whole, params);",
             "fill_workspace(workspace, static_cast<std::byte*>(args.control), whole + workspace.control_bytes, params);"),
    Mutation("weight scales read before they are there", FEW,
             'mbarrier_wait(s_.task_scales[info.place.stage], info.place.phase, "weight scales");', ""),
    Mutation("weight scales read before they are there (many tokens)", MANY,
             'mbarrier_wait(s_.task_scales[info.place.stage], info.place.phase, "weight scales");', ""),
    Mutation("a part of the columns combined for another (y counted)", COMBINE, "const int begin = task.unit * part;",
             "const int begin = task.unit / 2 * part;"),
    Mutation("given ids reported by another part (y counted)", COMBINE,
             "find_addends(p, s, run, own, addends, consumer % 32, task.unit == 0);",
             "find_addends(p, s, run, own, addends, consumer % 32, task.unit == 1);"),
    Mutation("the last part of the columns as wide as the others", COMBINE, "min(begin + part, pieces)", "begin + part"),
    Mutation("rows counted twice", PUBLISHER, "static_cast<unsigned long long>(info.rows));",
             "static_cast<unsigned long long>(2 * info.rows));"),
]

# The tile of few tokens, whose h and y go as words.
WORDS = [
    Mutation("h read before it is there (words)", WORD_LOADER, "there &= has_tag(words[i][j], run_.tag);",
             "there &= true;"),
    Mutation("y read before it is there (words)", COMBINE_FEW, "there &= has_tag(words[n], run.tag);", ""),
    Mutation("the last of h's words not asked for", WORD_LOADER, "if (i < left && has(info, item)) {",
             "if (i + 1 < left && has(info, item)) {"),
    Mutation("h's scale from a lane's own columns (words)", WORD_LOADER,
             "largest = __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(largest)));", ""),
    Mutation("h's scale of the wrong row (words)", WORD_LOADER,
             "s_.token_scales[stage][block * T::kNMax + row] = scale;",
             "s_.token_scales[stage][block * T::kNMax + row / 2] = scale;"),
    Mutation("h stored without the swizzle (bf16 words)", WORD_LOADER, "((lane_ % 8) ^ (row % 8)) * 16) = {",
             "(lane_ % 8) * 16) = {"),
    Mutation("h of the token before (fp8 words)", FEW, "store_word(to + width, __float_as_uint(high), run_.tag);",
             "store_word(to + width, __float_as_uint(low), run_.tag);"),
    Mutation("gate and up swapped (words)", FEW, "const float high = swiglu(sums[0][1], sums[0][3]);",
             "const float high = swiglu(sums[0][3], sums[0][1]);"),
    Mutation("the second of two blocks never promoted (words)", FEW,
             "promote<kN>(others, high, token_scales(1), total);", ""),
    Mutation("the second block's token scales from the first (words)", FEW, "token_scales(1), total);",
             "token_scales(), total);"),
    Mutation("the last odd block of K not multiplied (words)", FEW, "if (block < info.blocks) {", "if (false) {"),
    Mutation("router weight x 0.8 (words)", COMBINE_FEW, "weight[n] = from >= 0 ? addends.weight[s] : 0.0f;",
             "weight[n] = from >= 0 ? 0.8f * addends.weight[s] : 0.0f;"),
    Mutation("an absent slot's weight counts (words)", COMBINE_FEW,
             "weight[n] = from >= 0 ? addends.weight[s] : 0.0f;", "weight[n] = addends.weight[min(s, kMaxTopK)];"),
    Mutation("a part of the columns combined for another", COMBINE_FEW, "task.unit * kCombineColumns + 2 * consumer;",
             "task.unit / 2 * kCombineColumns + 2 * consumer;"),
    Mutation("given ids reported by another part", COMBINE_FEW, "task.unit == 0);", "task.unit == 1);"),
    Mutation("the walk before y is the combination (words)", COMBINE_FEW,
             "combine_words(p, run, addends, task.tile, column, pass == 1);",
             "combine_words(p, run, addends, task.tile, column, pass == 0);"),
    Mutation("the publisher routes the first token alone", PUBLISHER, "token < run_.launch.tokens; ++token) {",
             "token < min(run_.launch.tokens, 1); ++token) {"),
    Mutation("shared tickets counted twice", FOLDER + "schedule.h",
             "return unrouted() + (shared_leads ? 0 : shared_tiles * shared_units2) +",
             "return unrouted() + shared_tiles * shared_units2 +"),
]

MUTATIONS = [*WEIGHTS, *GEMMS, *ROUTES, *ORDER, *WORDS]
