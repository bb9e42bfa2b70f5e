// The endpoints: one function each, one file a family. For app's table of routes alone.
#pragma once

#include "serve/app.h"

namespace moeopt::serve::endpoints {

Reply chat_completions(App& app, const HttpRequest& request);
Reply completions(App& app, const HttpRequest& request);
Reply models(App& app, const HttpRequest& request);
Reply one_model(App& app, const HttpRequest& request);
Reply tokenize(App& app, const HttpRequest& request);
Reply detokenize(App& app, const HttpRequest& request);
Reply health(App& app, const HttpRequest& request);
Reply ready(App& app, const HttpRequest& request);
Reply metrics(App& app, const HttpRequest& request);
Reply version(App& app, const HttpRequest& request);
Reply plan(App& app, const HttpRequest& request);
Reply routing(App& app, const HttpRequest& request);
Reply openapi(App& app, const HttpRequest& request);
Reply page(App& app, const HttpRequest& request);

// The model that `asked` names; ApiError(404) when it is another one.
const ServedModel& model_named(const App& app, const std::optional<std::string>& asked);

}  // namespace moeopt::serve::endpoints
