// The app without sockets: routes, keys, states, errors.
#include "serve/app.h"

#include <gtest/gtest.h>

#include <thread>

#include "serve/serve_util.h"

namespace moeopt::serve {
namespace {

HttpRequest get(std::string path) {
  HttpRequest request;
  request.method = "GET";
  request.path = std::move(path);
  request.id = "test";
  return request;
}

HttpRequest post(std::string path, std::string body) {
  HttpRequest request = get(std::move(path));
  request.method = "POST";
  request.headers = {{"content-type", "application/json; charset=utf-8"}};
  request.body = std::move(body);
  return request;
}

HttpResponse answer(App& app, const HttpRequest& request) {
  Reply reply = app.handle(request);
  if (auto* response = std::get_if<HttpResponse>(&reply)) return *response;
  LiveReply& live = *std::get<std::shared_ptr<LiveReply>>(reply);
  live.on_ready([] {});
  std::string streamed;
  while (!live.advance(streamed)) std::this_thread::yield();
  if (!live.streams()) return live.response();
  HttpResponse response;
  response.body = streamed;
  return response;
}

OrderedJson json(const HttpResponse& response) {
  return OrderedJson::parse(response.body);
}

AppOptions with_keys(ApiKeys keys) {
  AppOptions options;
  options.keys = std::move(keys);
  return options;
}

class AppTest : public testing::Test {
 protected:
  AppTest() : app_(with_keys({}), nullptr) {}
  void load() { app_.set_model(model_.served); }

  ModelForTests model_;
  App app_;
};

TEST_F(AppTest, LoadsThenServesThenDrains) {
  app_.set_progress("reading weights", 0.25);
  EXPECT_EQ(answer(app_, get("/ready")).status, 503);
  EXPECT_EQ(json(answer(app_, get("/ready")))["progress"], 0.25);
  EXPECT_EQ(answer(app_, get("/health")).status, 200) << "alive, though it serves nothing yet";
  EXPECT_EQ(answer(app_, post("/v1/completions", "{}")).status, 503);
  EXPECT_EQ(answer(app_, get("/v1/models")).status, 503);
  load();
  EXPECT_EQ(answer(app_, get("/ready")).status, 200);
  EXPECT_EQ(json(answer(app_, get("/health")))["status"], "ok");
  app_.drain();
  EXPECT_EQ(answer(app_, get("/ready")).status, 503);
  EXPECT_EQ(json(answer(app_, get("/health")))["status"], "draining");
  const HttpResponse refused = answer(app_, post("/v1/completions", "{}"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.front().name, "Retry-After");
}

TEST_F(AppTest, AnswersWithWhatTheEngineMade) {
  load();
  const OrderedJson whole = json(answer(
      app_, post("/v1/completions", R"({"prompt": [5, 6, 7], "max_tokens": 9, "seed": 0})")));
  const auto expected = FakeBackend::expected({5, 6, 7}, 9);
  EXPECT_EQ(whole["choices"][0]["text"], model_.tokenizer.decode(expected, true));
  EXPECT_EQ(whole["usage"]["completion_tokens"], 9);
  EXPECT_EQ(whole["id"], "cmpl-test");
  const std::string streamed =
      answer(app_, post("/v1/completions",
                        R"({"prompt": [5, 6, 7], "max_tokens": 9, "seed": 0, "stream": true})"))
          .body;
  EXPECT_TRUE(streamed.starts_with("data: {"));
  EXPECT_TRUE(streamed.ends_with("data: [DONE]\n\n"));
}

TEST_F(AppTest, RefusesWithOpenAisBody) {
  load();
  const HttpResponse refused =
      answer(app_, post("/v1/completions", R"({"prompt": [5], "temperature": -1})"));
  EXPECT_EQ(refused.status, 400);
  const OrderedJson error = json(refused)["error"];
  EXPECT_EQ(error["param"], "temperature");
  EXPECT_EQ(error["type"], "invalid_request_error");
  EXPECT_EQ(answer(app_, get("/nothing")).status, 404);
  EXPECT_EQ(answer(app_, get("/v1/completions")).status, 405);
  HttpRequest form = post("/v1/completions", "{}");
  form.headers[0].value = "application/x-www-form-urlencoded";
  EXPECT_EQ(answer(app_, form).status, 415);
}

TEST_F(AppTest, OneOfTheKeysOpensEverything) {
  App locked(with_keys(ApiKeys({"key-a", "key-b"})), nullptr);
  locked.set_model(model_.served);
  for (const Route& route : route_table()) {
    HttpRequest request = post(std::string(route.path), "{}");
    request.method = route.method;
    const bool is_open = route.path == "/health" || route.path == "/ready" || route.path == "/" ||
                         route.path == "/{file}";
    if (route.path == "/{file}") request.path = "/app.css";
    EXPECT_EQ(answer(locked, request).status == 401, !is_open) << route.path;
    request.headers.push_back({"Authorization", "Bearer key-b"});
    EXPECT_NE(answer(locked, request).status, 401) << route.path;
  }
  HttpRequest models = get("/v1/models");
  for (const char* wrong :
       {"", "key-a", "Bearer ", "Bearer key-", "Bearer key-aa", "Basic key-a"}) {
    models.headers = {{"authorization", wrong}};
    EXPECT_EQ(answer(locked, models).status, 401) << wrong;
  }
}

TEST_F(AppTest, AbandonedRepliesAreCancelled) {
  load();
  Reply reply = app_.handle(post("/v1/completions", R"({"prompt": [5], "max_tokens": 500})"));
  std::get<std::shared_ptr<LiveReply>>(reply)->abandon();
  reply = HttpResponse();
  for (int i = 0; i < 10'000 && model_.engine->snapshot().running > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(model_.engine->snapshot().running, 0);
}

TEST_F(AppTest, EitherAllPromptsAreAcceptedOrNone) {
  load();
  const HttpResponse refused = answer(
      app_,
      post("/v1/completions", R"({"prompt": [[5], [6], [90], [96, 97]], "max_tokens": 400})"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(json(refused)["error"]["param"], "prompt[3]");
  EXPECT_EQ(model_.engine->snapshot().running, 0);
}

}  // namespace
}  // namespace moeopt::serve
