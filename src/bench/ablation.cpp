#include "bench/ablation.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "bench/server_process.h"

namespace moeopt::bench {
namespace {

class Ablator {
 public:
  explicit Ablator(const AblationPlan& plan) : plan_(plan) {}

  Ablation run() {
    std::vector<ServerOptimisation> probe;
    start({"probe", {}}, [&](const MeasurementPlan& measurement) {
      probe = server_optimisations(ask_health(measurement.url, measurement.api_key));
      ablation_.model =
          ask_server(measurement.url, measurement.api_key, measurement.model, 0).model;
    });
    if (probe.empty()) {
      throw_error(ErrorCode::kInvalidData, "the server's /health names no optimisations");
    }
    std::vector<std::string> applied;
    for (const ServerOptimisation& state : probe) {
      if (state.state == "applied") applied.push_back(state.name);
    }
    ablation_.workload = workload_text(plan_.measurement.workload);
    ablation_.rounds = plan_.rounds;
    if (!applied.empty()) measure_all(configurations_of(applied));
    ablation_.gains = gains_of(ablation_.runs, probe);
    return std::move(ablation_);
  }

 private:
  void measure_all(const std::vector<Configuration>& configurations) {
    for (int round = 0; round < plan_.rounds; ++round) {
      for (const std::size_t i : order_in_round(configurations.size(), round)) {
        const Configuration& configuration = configurations[i];
        status(fmt::format("round {} of {}: {}", round + 1, plan_.rounds, configuration.name));
        start(configuration, [&](const MeasurementPlan& measurement) {
          try {
            keep(configuration, round, measure(measurement));
          } catch (const Error& error) {
            // Without an optimisation the server may not take this workload at all: no figure, but
            // the other rows have theirs.
            if (measurement.is_interrupted && measurement.is_interrupted()) throw;
            if (error.code() == ErrorCode::kInternal) throw;
            ablation_.runs.push_back({configuration.name, round, {}, {}, error.what()});
          }
        });
      }
    }
  }

  void keep(const Configuration& configuration, int round, const Measurement& measured) {
    if (measured.run.interrupted) throw_error(ErrorCode::kIo, "interrupted");
    if (ablation_.digest.empty()) ablation_.digest = measured.workload.digest;
    if (measured.workload.digest != ablation_.digest) {
      throw_error(ErrorCode::kInternal, "'{}' got another workload than the runs before it",
                  configuration.name);
    }
    ablation_.runs.push_back(
        {configuration.name, round, measured.summary, optimisations_in_run(measured), {}});
  }

  // Runs `with` while a server of that configuration does.
  template <typename With>
  void start(const Configuration& configuration, const With& with) {
    MeasurementPlan measurement = plan_.measurement;
    measurement.url = {"127.0.0.1", fmt::format("{}", free_port()), ""};
    std::vector<std::string> command = plan_.command;
    command.insert(command.end(), {"--host", measurement.url.host, "--port", measurement.url.port});
    for (const std::string& name : plan_.optimisations) {
      const bool is_off = std::ranges::find(configuration.off, name) != configuration.off.end();
      command.push_back(fmt::format("--{}-{}", is_off ? "disable" : "enable", name));
    }
    ServerProcess server(command,
                         plan_.log_folder / fmt::format("server-{}.log", number_of_servers_++));
    server.wait_until_ready(measurement.url, plan_.ready_timeout, measurement.is_interrupted);
    with(measurement);
    server.stop();
  }

  void status(const std::string& text) const {
    if (plan_.on_status) plan_.on_status(text);
  }

  const AblationPlan& plan_;
  Ablation ablation_;
  int number_of_servers_ = 0;
};

}  // namespace

Ablation ablate(const AblationPlan& plan) {
  return Ablator(plan).run();
}

}  // namespace moeopt::bench
