// docs/openapi.json is what the code says. MOEOPT_UPDATE_DOCS=1 writes it anew.
#include "serve/openapi.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "base/file.h"
#include "serve/app.h"

namespace moeopt::serve {
namespace {

constexpr const char* kFile = MOEOPT_SOURCE_DIR "/docs/openapi.json";
constexpr const char* kVersion = "0.1.0";

TEST(OpenApi, TheCommittedDocumentIsTheCodes) {
  const std::string made = openapi_document(kVersion).dump(2) + "\n";
  if (std::getenv("MOEOPT_UPDATE_DOCS") != nullptr) std::ofstream(kFile) << made;
  EXPECT_EQ(read_file(kFile, 1 << 20), made) << "run test_serve with MOEOPT_UPDATE_DOCS=1";
}

TEST(OpenApi, HasEveryRouteAndResolvesEveryReference) {
  const OrderedJson document = openapi_document(kVersion);
  std::size_t n_operations = 0;
  for (const auto& path : document["paths"]) n_operations += path.size();
  EXPECT_EQ(n_operations, route_table().size());
  const std::string text = document.dump();
  for (std::size_t at = 0; (at = text.find("#/components/schemas/", at)) != std::string::npos;) {
    at += 21;
    EXPECT_TRUE(
        document["components"]["schemas"].contains(text.substr(at, text.find('"', at) - at)));
  }
}

TEST(OpenApi, FieldsAreThoseOfOpenAi) {
  const OrderedJson document = openapi_document(kVersion);
  const OrderedJson& schemas = document["components"]["schemas"];
  for (const char* name : {"model",
                           "messages",
                           "temperature",
                           "top_p",
                           "n",
                           "stream",
                           "stop",
                           "stream_options",
                           "max_tokens",
                           "max_completion_tokens",
                           "seed",
                           "presence_penalty",
                           "frequency_penalty",
                           "logit_bias",
                           "logprobs",
                           "top_logprobs",
                           "tools",
                           "tool_choice",
                           "response_format",
                           "top_k",
                           "min_p",
                           "repetition_penalty",
                           "ignore_eos",
                           "min_tokens",
                           "chat_template_kwargs"}) {
    EXPECT_TRUE(schemas["ChatCompletionRequest"]["properties"].contains(name)) << name;
  }
  for (const char* name : {"prompt", "echo", "suffix", "best_of", "logprobs"}) {
    EXPECT_TRUE(schemas["CompletionRequest"]["properties"].contains(name)) << name;
  }
}

}  // namespace
}  // namespace moeopt::serve
