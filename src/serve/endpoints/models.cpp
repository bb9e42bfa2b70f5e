// /v1/models and /v1/models/{model}.
#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/strings.h"
#include "serve/api_error.h"
#include "serve/endpoints/endpoints.h"

namespace moeopt::serve::endpoints {
namespace {

OrderedJson model_json(const ServedModel& model, const std::string& name, double uptime_s) {
  return {{"id", name},
          {"object", "model"},
          {"created",
           static_cast<std::int64_t>(std::time(nullptr)) - static_cast<std::int64_t>(uptime_s)},
          {"owned_by", "moeopt"},
          {"root", model.name()},
          {"max_model_len", model.max_model_len}};
}

// "a%2Fb" as "a/b"; what is no such sequence stays as it is.
std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() + 0 &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr ==
            text.data() + i + 3) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

const ServedModel& model_named(const App& app, const std::optional<std::string>& asked) {
  const ServedModel& model = *app.model();
  if (!asked || std::ranges::find(model.names, *asked) != model.names.end()) return model;
  throw ApiError(404,
                 fmt::format("the model \"{}\" is not served here; \"{}\" is",
                             printable(*asked, 100), model.name()),
                 "model", "model_not_found");
}

Reply models(App& app, const HttpRequest&) {
  const ServedModel& model = *app.model();
  OrderedJson list = OrderedJson::array();
  for (const std::string& name : model.names) {
    list.push_back(model_json(model, name, app.uptime_s()));
  }
  return json_response({{"object", "list"}, {"data", std::move(list)}});
}

Reply one_model(App& app, const HttpRequest& request) {
  constexpr std::string_view kPrefix = "/v1/models/";
  const std::string name = percent_decoded(std::string_view(request.path).substr(kPrefix.size()));
  return json_response(model_json(model_named(app, name), name, app.uptime_s()));
}

}  // namespace moeopt::serve::endpoints
