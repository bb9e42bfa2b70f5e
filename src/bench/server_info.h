// What a server says about itself: its model, what its prompts can be made of, its optimisation
// states and its counters. Any OpenAI server will do; what one does not offer is absent, and the
// result says so.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "bench/url.h"
#include "bench/workload.h"

namespace moeopt::bench {

// An optimisation as /health has it.
struct ServerOptimisation {
  std::string name, asked, state, reason;
  std::int64_t layers = 0, launches = 0;
};

struct ServerInfo {
  std::string model;  // the name to ask for
  PromptSource prompts;
  OrderedJson health, version;  // as answered; null when there is none
};

// Asks /v1/models (unless `model` is given), /tokenize, /health and /version. `vocab_size` above 0
// takes prompts' ids from below it and asks for no tokens. Error(kIo) when nothing answers,
// Error(kInvalidData) when /v1/models is no list of models.
ServerInfo ask_server(const Url& url, std::string_view api_key, std::string_view model,
                      int vocab_size);

// null when the server has no such page.
OrderedJson ask_health(const Url& url, std::string_view api_key);

// The "optimisations" of a /health answer; empty when it has none.
std::vector<ServerOptimisation> server_optimisations(const OrderedJson& health);

// The counters of a Prometheus page: the names that end in _total, _sum or _count, each summed over
// its labels.
using Counters = std::map<std::string, double>;
Counters parse_counters(std::string_view metrics);
// /metrics; nullopt when the server has none.
std::optional<Counters> ask_counters(const Url& url, std::string_view api_key);
// What moved between the two.
Counters counters_moved(const Counters& before, const Counters& after);
// The counter whose name ends in `ending`, whatever its prefix; nullopt for none.
std::optional<double> counter_ending(const Counters& counters, std::string_view ending);

}  // namespace moeopt::bench
