// The registry of optimisations: the one source of their names, flags, checks and states.
// Invariant: nothing is `applied` without a launch that a start-up step counted. Between the plan
// and that step a wanted optimisation with nothing against it is `planned`, which claims nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_spec.h"
#include "plan/hardware.h"
#include "plan/settings.h"

namespace moeopt {

// What the checks of an optimisation may look at.
struct OptimisationContext {
  const ModelSpec* spec = nullptr;
  const Hardware* hardware = nullptr;
  int ranks = 1;
  int max_step_tokens = 0;
  std::int64_t max_model_len = 0;
};

struct Optimisation {
  std::string_view name;  // "chunked-prefill"
  std::string_view help;  // one line
  std::string_view what;  // what it does and when it helps, a sentence or two
  Ask default_ask;        // when no profile, file, variable or flag speaks of it
  bool on_cpu, on_gpu;    // whether this version's backend there has it
  // Why this model on this hardware cannot have it; nullopt when nothing speaks against it.
  std::optional<std::string> (*against)(const OptimisationContext&);
  // MoE layers, attention layers, ...: how many layers it would act in.
  int (*layers)(const ModelSpec&);
};

std::span<const Optimisation> optimisation_table();
// nullptr when there is none of that name.
const Optimisation* find_optimisation(std::string_view name);

enum class OptimisationStatus { kOff, kDeclined, kPlanned, kApplied };
std::string_view optimisation_status_name(OptimisationStatus status);

struct OptimisationState {
  std::string name;
  Ask asked = Ask::kOff;
  Origin asked_by;
  OptimisationStatus status = OptimisationStatus::kOff;
  std::string reason;  // of kDeclined
  int layers = 0;
  std::uint64_t launches = 0;           // counted by the kernel or the engine itself
  std::optional<double> measured_gain;  // a factor, from a run on this machine alone
};

// States before anything ran: off, declined or planned. Error(kRequirement) when one that is
// required is declined; no weight has been read then.
std::vector<OptimisationState> plan_optimisations(const Settings& settings,
                                                  const OptimisationContext& context);

// The states of one running engine. Not thread-safe but for the live counters.
class OptimisationLedger {
 public:
  explicit OptimisationLedger(std::vector<OptimisationState> planned);

  // Whether the engine is to switch it on: planned or applied.
  bool is_wanted(std::string_view name) const;

  // The start-up step counted `launches` of it in `layers` layers. 0 launches leave it unconfirmed.
  // `live` then reads the same counter for traffic. Only for one that is_wanted().
  void confirm(std::string_view name, int layers, std::uint64_t launches,
               std::function<std::uint64_t()> live = {});
  // The backend or engine found a reason at start-up.
  void decline(std::string_view name, std::string reason);
  void record_gain(std::string_view name, double factor);

  // Ends start-up: what is still planned becomes declined, "its counter did not move in the
  // start-up step". Error(kRequirement) when a required one is not applied.
  void finish_startup();

  // With the live counters read now.
  std::vector<OptimisationState> states() const;

 private:
  struct Entry {
    OptimisationState state;
    std::function<std::uint64_t()> live;
  };
  std::size_t index_of(std::string_view name) const;

  std::vector<Entry> entries_;
};

}  // namespace moeopt
