// Warp 0: draws tickets, turns counts into a schedule, tells the other warps each task and streams
// its weights. Owned here: the weight ring's filling and the task ring's. Invariant: weights are
// asked for in ticket order as soon as a stage is free and no more than in_flight are on their way,
// never waiting for tokens or h: the ring does not drain between tasks, experts or GEMMs (but where
// holds_back says so).
#pragma once

#include "cuda/moe/lists.cuh"
#include "cuda/moe/shared_state.cuh"
#include "cuda/moe/speculation.cuh"

namespace moeopt::cuda::moe {

// tile_start and row_start from the rows of each slot. Lane l sums slots l * per .. l * per + per
// - 1. Not `real`: walks through the code alone.
template <typename T, typename RowsOf>
__device__ void build_schedule(SharedState<T>& s, int slots, int lane, bool real,
                               RowsOf rows_of_slot) {
  constexpr int kAtOnce = 4;  // loads in flight
  const int per = ceil_div(slots, 32);
  int my_rows = 0;
  int my_tiles = 0;
#pragma unroll 1
  for (int start = 0; start < per; start += kAtOnce) {
    int rows[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int slot = lane * per + start + i;
      rows[i] = real && start + i < per && slot < slots ? rows_of_slot(slot) : 0;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int slot = lane * per + start + i;
      if (!real || start + i >= per || slot >= slots) continue;
      s.row_start[slot] = my_rows;  // within the lane so far
      s.tile_start[slot] = my_tiles;
      my_rows += rows[i];
      my_tiles += ceil_div(rows[i], T::kNMax);
    }
  }
  int row_end = my_rows;
  int tile_end = my_tiles;
#pragma unroll 1
  for (int step = 1; step < 32; step *= 2) {
    const int row = __shfl_up_sync(kAllLanes, row_end, step);
    const int tile = __shfl_up_sync(kAllLanes, tile_end, step);
    if (lane >= step) {
      row_end += row;
      tile_end += tile;
    }
  }
#pragma unroll 1
  for (int slot = lane * per; slot < min(lane * per + per, real ? slots : 0); ++slot) {
    s.row_start[slot] += row_end - my_rows;
    s.tile_start[slot] += tile_end - my_tiles;
  }
  if (real && lane == 31) {
    s.scheduled = slots;
    s.row_start[slots] = row_end;
    s.tile_start[slots] = tile_end;
  }
  __syncwarp();
}

template <typename T>
class Producer {
 public:
  __device__ Producer(const Params& p, SharedState<T>& s)
      : p_(p),
        s_(s),
        run_(s.run),
        lane_(static_cast<int>(threadIdx.x) % 32),
        speculation_(p, s),
        trace_(TraceRole::kProducer, threadIdx.x == 0) {}

  __device__ void work() {
    trace_.stamp_wall();
    trace_.stamp(TracePhase::kStart);
    std::uint32_t ticket = run_.ticket;
    auto limit = static_cast<std::uint32_t>(run_.launch.unrouted());
#pragma unroll 1
    for (bool routed = false;; routed = true) {
      if (lane_ == 0) ticket = run_tasks(ticket, limit);
      if (routed) break;
      ticket = __shfl_sync(kAllLanes, ticket, 0);
      limit = schedule(static_cast<int>(ticket - limit));
      trace_.stamp(TracePhase::kWaited);
    }
    if (lane_ != 0) return;
    speculation_.settle();
    tell({.task = {TaskKind::kEnd, 0, 0, 0}});
    trace_.stamp(TracePhase::kEnd);
    trace_.stamp_wall();
    // Every block draws exactly one ticket beyond the last task: the highest of them is the last
    // draw of the launch.
    if (ticket == limit + gridDim.x - 1) {
      *p_.ticket = static_cast<unsigned long long>(number_after(run_.number)) << 32;
    }
  }

 private:
  // Weights to be streamed: of a task that the other warps know.
  struct Stream {
    const std::byte* from = nullptr;
    std::uint64_t tile_bytes = 0;
    int tiles = 0;
    int blocks = 0;     // left
    bool once = false;  // no other task of this launch reads it
    int in_flight = 0;  // stages on their way at a time
  };

  // Lane 0 alone. Runs tasks from `ticket` to the first ticket that is not below `limit`, and
  // returns that one. The next ticket is drawn no sooner than the last of a task's weights can be
  // asked for, so that a block that waits, for h or for y, is given less; what the ring holds then
  // lasts until the next task's tokens are there. With many tokens tasks are many: drawn a
  // little sooner, the ticket is there when it is needed.
  __device__ std::uint32_t run_tasks(std::uint32_t ticket, std::uint32_t limit) {
#pragma unroll 1
    while (ticket < limit) {
      const Task task =
          task_of(run_.launch, s_.tile_start, s_.scheduled, static_cast<int>(ticket), hint_);
      stamp(trace_, TracePhase::kTask, task);
      const TaskInfo info = describe(task);
      // Not sooner: the publisher then has nothing but the routing, and gives no slot back.
      if (publisher_routes<T>(p_) && info.gemm()) tell_list();
      Stream stream = tell(info);
      if (stream.blocks == 0) {
        let_consumers_finish(task.kind);
        ticket = draw();
        continue;
      }
      take(stream, speculation_.stages_of(task));
      ticket = holds_back(task, stream) ? stream_and_hold(stream)
                                        : stream_and_draw(stream, T::kImages ? 3 : T::kBlocks);
    }
    return ticket;
  }

  // Few tokens: where there is a routed task of the second GEMM for each block at most, a block
  // that waits for h has one. Of tasks that the ring holds whole: others draw late anyway, and
  // would have used their first stage again.
  __device__ bool holds_back(const Task& task, const Stream& stream) const {
    return T::kFew && task.kind == TaskKind::kSecond && task.slot >= 0 &&
           stream.blocks <= T::kWeightStages * T::kBlocks &&
           s_.tile_start[s_.scheduled] * run_.launch.units2 <= static_cast<int>(gridDim.x);
  }
  // Asks for all of a stream and draws the next ticket when its first stage has been multiplied.
  __device__ std::uint32_t stream_and_hold(Stream& stream) {
    const Place begin = weights_;
    ask_down_to(stream, 0);
    mbarrier_wait(s_.empty[begin.stage], begin.phase, "a task's first stage");
    return draw();
  }

  // Asks for likely weights until known(s), where all experts probably have tokens and neither a
  // shared expert nor a wide gate task uses the weight ring. The loads of this block's gate task go
  // first.
  template <typename Known>
  __device__ void speculate(int rank, Known known) {
    const Launch& launch = run_.launch;
    if (launch.tokens * p_.top_k < p_.experts_total || launch.shared_units1 > 0 ||
        p_.gate_rows > kGateRows) {
      return;
    }
    wait_for_task(2);
    speculation_.ask(rank, known);
  }

  // Gives `stages` of the ring, which are filled, to a stream.
  __device__ void take(Stream& stream, int stages) {
#pragma unroll 1
    for (; stages > 0; --stages) {
      mbarrier_arrive(s_.full[weights_.stage]);
      stream.from += kStageBytes * T::kBlocks;
      stream.blocks -= T::kBlocks;
      weights_.advance();
    }
  }

  // Asks for all of a stream and draws the next ticket when `last` blocks are left.
  __device__ std::uint32_t stream_and_draw(Stream& stream, int last) {
    ask_down_to(stream, last);
    wait_for_stage(stream);
    const std::uint32_t ticket = draw();  // on its way while the last are asked for
    ask(stream);
    ask_down_to(stream, 0);
    return ticket;
  }
  // Asks for stages of a stream until no more than `blocks` are left.
  __device__ void ask_down_to(Stream& stream, int blocks) {
#pragma unroll 1
    while (stream.blocks > blocks) {
      wait_for_stage(stream);
      ask(stream);
    }
  }

  // Before the ticket after a task without weights is drawn: until the task before it is done, or
  // it itself: where they are few, so that no block draws two while another has none, and because
  // a wide gate task lies where the next task's weights go.
  __device__ void let_consumers_finish(TaskKind kind) {
    const int blocks = static_cast<int>(gridDim.x);
    const bool itself = kind == TaskKind::kCombine ? run_.launch.combine_tiles <= 2 * blocks
                        : kind == TaskKind::kDispatch
                            ? T::kImages && run_.launch.dispatch_tiles <= blocks
                            : T::kImages && kind == TaskKind::kGate;
    wait_for_task(itself ? 1 : 2);
  }

  // Until the last task told, or with `back` = 2 the one before it, is done.
  __device__ void wait_for_task(int back) {
    const Place place = tasks_.before(back);
    mbarrier_wait(s_.task_stored[place.stage], place.phase, "a task's end");
  }

  __device__ std::uint32_t draw() const {
    return static_cast<std::uint32_t>(atomicAdd(p_.ticket, 1ull));
  }

  // Returns the number of tickets that are tasks. `rank`: of this block's next ticket among the
  // routed ones.
  __device__ std::uint32_t schedule(int rank) {
    const Launch& launch = run_.launch;
    if (launch.tokens == 0) {
      if (run_.first) report_counts(0);
      return 0;
    }
    const bool local = local_lists<T>(p_);
    const bool lists = local && producer_lists<T>(p_, run_);
    if (lists && p_.ids != nullptr) {
      list_entries([&](int token, int slot, bool valid) {
        return given_choice(p_, token, slot, valid, lane_).slot;
      });
    } else {
      if (local && lane_ == 0) tell_list();
      // Where there is no routing to wait for, or a shared expert's tasks were done meanwhile,
      // there is no time to walk through the code.
      const bool walks = p_.ids == nullptr && launch.shared_units1 == 0;
#pragma unroll 1
      for (bool real = !walks;; real = true) {
        if (real && local) wait_for_counts(rank);
        if (real && !local) wait_for_routes(rank);
        if (lists) {
          list_entries([&](int, int, bool valid) {
            return real && valid ? choice_of(p_, s_, run_, lane_).slot : -1;
          });
        } else {
          build_schedule(s_, p_.slots, lane_, real, [&](int slot) {
            return local ? s_.tile_start[slot] : static_cast<int>(__ldcg(run_.row_counts + slot));
          });
        }
        if (real) break;
      }
    }
    if (local) mbarrier_arrive(s_.planned);
    if (run_.first) report_counts(s_.scheduled);
    return static_cast<std::uint32_t>(launch.total(s_.tile_start[s_.scheduled]));
  }

  // Until the consumers have counted the rows of each expert, or routed the tokens.
  __device__ void wait_for_counts(int rank) {
    if (lane_ == 0) {
      speculate(rank, [](SharedState<T>& s) { return mbarrier_test(s.counted, 0); });
    }
    __syncwarp();
    mbarrier_wait(s_.counted, 0, "this block's counts");
  }
  // Until all blocks' dispatch is done.
  __device__ void wait_for_routes(int rank) {
    const auto tiles = static_cast<std::uint32_t>(run_.launch.dispatch_tiles);
    if (lane_ == 0) {
      speculate(rank, [](SharedState<T>& s) {
        return load_acquire(&s.run.set->routed) >=
               static_cast<std::uint32_t>(s.run.launch.dispatch_tiles);
      });
      wait_for_count(&run_.set->routed, tiles, "routes");
    }
    __syncwarp();
  }

  // The schedule and the lists when all entries fit a warp, a lane each; as list_task makes them.
  // slot_of(token, its slot, whether there is one): the expert's slot of the lane's entry, or -1.
  template <typename SlotOf>
  __device__ void list_entries(SlotOf slot_of) {
    static_assert(kProducerEntries == 32);
    const int entries = run_.launch.tokens * p_.top_k;
    const int token = lane_ / p_.top_k;
    for (int slot = lane_; slot < p_.slots; slot += 32) s_.tile_start[slot] = 0;
    const int slot = slot_of(token, lane_ - token * p_.top_k, lane_ < entries);
    const std::uint32_t same = __match_any_sync(kAllLanes, slot);
    const int rank = __popc(same & ((1u << lane_) - 1));
    __syncwarp();
    if (slot >= 0 && rank == 0) s_.tile_start[slot] = __popc(same);
    __syncwarp();
    build_schedule(s_, p_.slots, lane_, true, [&](int n) { return s_.tile_start[n]; });
    if (slot >= 0) s_.list[s_.row_start[slot] + rank] = static_cast<std::uint16_t>(lane_);
  }

  // What a launch reports once; rows per expert are known for the first `scheduled` entries of the
  // schedule.
  __device__ void report_counts(int scheduled) {
    if (lane_ == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&p_.counters->tokens),
                static_cast<unsigned long long>(run_.launch.tokens));
    }
    if (p_.out_counts == nullptr) return;
    for (int slot = lane_; slot < p_.slots; slot += 32) p_.out_counts[slot] = 0;
    __syncwarp();
    for (int i = lane_; i < scheduled; i += 32) {
      p_.out_counts[i] = s_.row_start[i + 1] - s_.row_start[i];
    }
  }

  __device__ TaskInfo describe(const Task& task) const {
    TaskInfo info{};
    info.task = task;
    info.expert = -1;
    if (!info.gemm()) return info;
    const bool shared = task.slot < 0;
    const bool first = task.kind == TaskKind::kFirst;
    if (!shared) info.expert = task.slot;
    const ExpertLayout& layout = shared ? p_.shared_layout : p_.layout;
    const int expert_rows =
        shared ? run_.launch.tokens : s_.row_start[task.slot + 1] - s_.row_start[task.slot];
    info.first_row = task.tile * T::kNMax;
    info.rows = min(expert_rows - info.first_row, T::kNMax);
    info.h_row = info.first_row;
    if (!shared) {
      const int before = s_.row_start[task.slot];
      info.h_row += T::kImages ? image_row(before, task.slot) : before;
    }
    info.blocks = first ? layout.blocks1() : layout.blocks2();
    info.ready = run_.ready + (shared ? p_.token_tiles : s_.tile_start[task.slot]) + task.tile;
    info.ready_count =
        static_cast<std::uint32_t>(shared ? run_.launch.shared_units1 : run_.launch.units1) +
        (T::kImages ? kGathered : 0);
    if constexpr (T::kImages) {
      info.ring = weights_;
      info.gathered = first && (shared || task.unit == 0 || !run_.launch.gathers);
      info.kept = info.gathered && !shared && run_.launch.gathers;
    }
    return info;
  }

  // Once: who routes the tokens or lists the entries begins.
  __device__ void tell_list() {
    if (list_told_) return;
    list_told_ = true;
    tell({.task = {TaskKind::kList, 0, 0, 0}});
  }

  // Puts a task into the ring, with its scales on the way: its loaders need not wait for them.
  __device__ Stream tell(const TaskInfo& info) {
    mbarrier_wait(s_.task_empty[tasks_.stage], tasks_.phase ^ 1, "a free task slot");
    wait_for_readers(s_, tasks_);
    s_.tasks[tasks_.stage] = info;
    s_.tasks[tasks_.stage].place = tasks_;
    mbarrier_arrive(s_.task_full[tasks_.stage]);
    if constexpr (T::kFp8) copy_scales(info, s_.task_scales[tasks_.stage]);
    tasks_.advance();
    return info.gemm() ? stream_of(info) : Stream{};
  }

  __device__ const std::byte* expert(const TaskInfo& info) const {
    return info.task.slot < 0
               ? p_.shared
               : p_.experts + static_cast<std::uint64_t>(info.expert) * p_.expert_stride;
  }
  // 128-row tiles of a unit of the task's GEMM, and the first of the task's own.
  __device__ int unit_tiles(const TaskInfo& info) const {
    return T::kHalvesSecond && info.task.kind == TaskKind::kSecond ? T::kSecondTiles : T::kMTiles;
  }
  __device__ int first_tile(const TaskInfo& info) const {
    return info.task.unit * unit_tiles(info);
  }
  // Of the task's unit: what is left of the matrix at most.
  __device__ int tiles_of(const TaskInfo& info, const ExpertLayout& layout) const {
    const int tiles = info.task.kind == TaskKind::kFirst ? layout.tiles1() : layout.tiles2();
    return min(unit_tiles(info), tiles - first_tile(info));
  }

  __device__ void copy_scales(const TaskInfo& info, Mbarrier& full) {
    if (!info.gemm()) {  // its phases go with the slot's
      mbarrier_arrive(full);
      return;
    }
    const ExpertLayout& layout = info.task.slot < 0 ? p_.shared_layout : p_.layout;
    const bool first = info.task.kind == TaskKind::kFirst;
    const int tile = first_tile(info);
    const int tiles = tiles_of(info, layout);
    const auto bytes =
        static_cast<std::uint32_t>(first ? layout.scale1_stride() : layout.scale2_stride());
    mbarrier_arrive_expect(full, bytes * tiles);
    const std::byte* from = expert(info) + (first ? layout.scales1(tile) : layout.scales2(tile));
    for (int i = 0; i < tiles; ++i) {
      bulk_copy(s_.weight_scales[tasks_.stage][i], from + std::uint64_t{1} * i * bytes, bytes,
                full);
    }
  }

  __device__ Stream stream_of(const TaskInfo& info) const {
    const ExpertLayout& layout = info.task.slot < 0 ? p_.shared_layout : p_.layout;
    const int tile = first_tile(info);
    return {.from = expert(info) + (info.task.kind == TaskKind::kFirst ? layout.stage1(tile, 0)
                                                                       : layout.stage2(tile, 0)),
            .tile_bytes = std::uint64_t{kStageBytes} * info.blocks,
            .tiles = tiles_of(info, layout),
            .blocks = info.blocks,
            .once = token_tiles_of(info) == 1,
            .in_flight = in_flight_of(info.task)};
  }
  __device__ int in_flight_of(const Task& task) const {
    if constexpr (T::kFew) {
      // A long chain of products, which would end last: more of the memory for it.
      if (task.slot < 0 && task.kind == TaskKind::kSecond) return T::kWeightStages;
      // Measured: 1 us less at one and two tokens, more from four on, nothing gained in bf16.
      if (T::kFp8 && run_.launch.tokens <= 2) return T::kInFlight - 1;
    }
    return T::kInFlight;
  }
  // Token tiles of the task's expert: how often its weights are read.
  __device__ int token_tiles_of(const TaskInfo& info) const {
    return info.task.slot < 0 ? run_.launch.shared_tiles
                              : s_.tile_start[info.task.slot + 1] - s_.tile_start[info.task.slot];
  }

  __device__ void wait_for_stage(const Stream& stream) {
    mbarrier_wait(s_.empty[weights_.stage], weights_.phase ^ 1, "a free stage (weights)");
    if constexpr (T::kInFlight < T::kWeightStages) {
      const Place place = weights_.before(stream.in_flight);
      mbarrier_wait(s_.full[place.stage], place.phase, "weights asked for before");
    }
  }
  // Asks for the next stage of a stream; the ring has room.
  __device__ void ask(Stream& stream) {
    // Of a tile: with one tile a stage, two blocks of it (but for an odd last one).
    const int taken = min(T::kBlocks, stream.blocks);
    const auto bytes = static_cast<std::uint32_t>(kStageBytes * taken);
    Mbarrier& full = s_.full[weights_.stage];
    mbarrier_arrive_expect(full, bytes * stream.tiles);
    copy_stage<T>(s_.weights[weights_.stage], stream.from, stream.tile_bytes, stream.tiles, bytes,
                  stream.once, full);
    stream.from += bytes;
    stream.blocks -= taken;
    weights_.advance();
  }

  const Params& p_;
  SharedState<T>& s_;
  const Run& run_;
  int lane_;
  Speculation<T> speculation_;
  int hint_ = 0;
  bool list_told_ = false;
  Cursor<T::kTaskSlots> tasks_;
  Cursor<T::kWeightStages> weights_;
  Tracer trace_;
};

}  // namespace moeopt::cuda::moe
