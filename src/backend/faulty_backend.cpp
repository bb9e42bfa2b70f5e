#include "backend/faulty_backend.h"

#include <charconv>
#include <chrono>
#include <new>
#include <thread>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

// A whole number that fills `text`, or -1.
long number(std::string_view text) {
  long value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

Fault parse_fault(std::string_view text) {
  const auto at = text.find('@');
  const auto colon = text.find(':');
  const std::string_view name = text.substr(0, at);
  Fault fault{};
  if (name == "throw") {
    fault.kind = Fault::Kind::kThrow;
  } else if (name == "alloc") {
    fault.kind = Fault::Kind::kAllocate;
  } else if (name == "stall") {
    fault.kind = Fault::Kind::kStall;
  } else if (name == "nan") {
    fault.kind = Fault::Kind::kNan;
  } else {
    throw_error(ErrorCode::kUsage, "faults: \"{}\" is none of throw, alloc, stall, nan",
                printable(name, 60));
  }
  const bool stalls = fault.kind == Fault::Kind::kStall;
  const long step = at == std::string_view::npos ? -1 : number(text.substr(at + 1, colon - at - 1));
  const long ms = colon == std::string_view::npos ? -1 : number(text.substr(colon + 1));
  if (step < 1 || stalls != (ms >= 0) || ms > 3'600'000) {
    throw Error(ErrorCode::kUsage,
                fmt::format("faults: \"{}\" is not NAME@STEP", printable(text, 60)),
                "stall@STEP:MS says how long");
  }
  fault.step = static_cast<std::uint64_t>(step);
  fault.ms = stalls ? static_cast<int>(ms) : 0;
  return fault;
}

}  // namespace

std::vector<Fault> parse_faults(std::string_view text) {
  std::vector<Fault> faults;
  for (const std::string& part : split(text, ',')) faults.push_back(parse_fault(part));
  return faults;
}

FaultyBackend::FaultyBackend(std::unique_ptr<Backend> real, std::vector<Fault> faults)
    : real_(std::move(real)), faults_(std::move(faults)), used_(faults_.size()) {}

const Fault* FaultyBackend::due(Fault::Kind kind, std::uint64_t step) {
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    if (used_[i] || faults_[i].kind != kind || faults_[i].step > step) continue;
    used_[i] = true;
    return &faults_[i];
  }
  return nullptr;
}

void FaultyBackend::prepare(const StepPlan& plan) {
  if (due(Fault::Kind::kAllocate, prepared_ + 1) != nullptr) throw std::bad_alloc();
  real_->prepare(plan);
  ++prepared_;
}

StepResult FaultyBackend::wait(Ticket ticket) {
  if (const Fault* stall = due(Fault::Kind::kStall, ticket.step)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(stall->ms));
  }
  StepResult result = real_->wait(ticket);
  if (due(Fault::Kind::kThrow, ticket.step) != nullptr) {
    throw_error(ErrorCode::kInternal, "a fault on purpose at step {}", ticket.step);
  }
  if (due(Fault::Kind::kNan, ticket.step) != nullptr) {
    spoilt_.assign(result.sampled.begin(), result.sampled.end());
    for (SampledToken& token : spoilt_) token.finite = false;
    result.sampled = spoilt_;
  }
  return result;
}

}  // namespace moeopt
