#include "bench/stream_event.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/strings.h"

namespace moeopt::bench {
namespace {

constexpr JsonLimits kEventLimits = {.bytes = std::size_t{1} << 20, .depth = 32, .nodes = 100'000};

// Reads the document as it is parsed: building a tree would cost the client several times more for
// every token that it receives.
class ChunkReader final : public JsonEvents {
 public:
  StreamEvent take() {
    if (!is_chunk_) {
      throw_error(ErrorCode::kInvalidData, "event: neither choices, usage nor error in it");
    }
    return std::move(event_);
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool number_unsigned(number_unsigned_t value) override {
    const int count =
        static_cast<int>(std::min<number_unsigned_t>(value, std::numeric_limits<int>::max()));
    if (here() == Place::kUsage) {
      if (key_ == "prompt_tokens") event_.usage->prompt_tokens = count;
      if (key_ == "completion_tokens") event_.usage->output_tokens = count;
    } else if (here() == Place::kPromptDetails && key_ == "cached_tokens") {
      event_.usage->cached_tokens = count;
    }
    return true;
  }
  bool string(string_t& value) override {
    switch (here()) {
      case Place::kChoice:
        if (key_ == "text" && !value.empty()) event_.has_text = true;
        if (key_ == "finish_reason") event_.finish_reason = std::move(value);
        break;
      case Place::kDelta:
        if (key_ != "role" && !value.empty()) event_.has_text = true;
        break;
      case Place::kToolCalls:
        if ((key_ == "arguments" || key_ == "name") && !value.empty()) event_.has_text = true;
        break;
      case Place::kError:
        if (key_ == "message") event_.error = printable(value);
        break;
      case Place::kRoot:
        if (key_ == "error") event_.error = printable(value);
        break;
      default:
        break;
    }
    return true;
  }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    enter(place_of_object());
    return true;
  }
  bool start_array(std::size_t) override {
    enter(place_of_array());
    return true;
  }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    key_ = std::move(name);
    if (places_.size() == 1 && here() == Place::kRoot) {
      is_chunk_ = is_chunk_ || key_ == "choices" || key_ == "usage" || key_ == "error";
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  enum class Place {
    kOutside,
    kRoot,
    kChoices,
    kChoice,
    kDelta,
    kToolCalls,
    kUsage,
    kPromptDetails,
    kError,
    kOther,
  };

  Place here() const { return places_.empty() ? Place::kOutside : places_.back(); }
  void enter(Place place) {
    if (place == Place::kUsage) event_.usage.emplace();
    if (place == Place::kError) event_.error.emplace("(no message)");
    places_.push_back(place);
  }
  bool leave() {
    places_.pop_back();
    return true;
  }
  Place place_of_object() const {
    switch (here()) {
      case Place::kOutside:
        return Place::kRoot;
      case Place::kRoot:
        if (key_ == "usage") return Place::kUsage;
        return key_ == "error" ? Place::kError : Place::kOther;
      case Place::kChoices:
        return Place::kChoice;
      case Place::kChoice:
        return key_ == "delta" || key_ == "message" ? Place::kDelta : Place::kOther;
      case Place::kToolCalls:
        return Place::kToolCalls;
      case Place::kUsage:
        return key_ == "prompt_tokens_details" ? Place::kPromptDetails : Place::kOther;
      default:
        return Place::kOther;
    }
  }
  Place place_of_array() const {
    if (here() == Place::kRoot && key_ == "choices") return Place::kChoices;
    if (here() == Place::kDelta && key_ == "tool_calls") return Place::kToolCalls;
    return Place::kOther;
  }

  StreamEvent event_;
  bool is_chunk_ = false;
  std::string key_;
  std::vector<Place> places_;
};

}  // namespace

StreamEvent parse_stream_event(std::string_view data) {
  ChunkReader reader;
  stream_json(data, "event", reader, kEventLimits);
  return reader.take();
}

}  // namespace moeopt::bench
