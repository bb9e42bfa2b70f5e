// A served model for tests: the shipped tokenizer and template, and an engine over a backend that
// computes no model.
#pragma once

#include <memory>
#include <string>

#include "engine/fake_backend.h"
#include "serve/served_model.h"

namespace moeopt::serve {

inline constexpr const char* kTinyMoe = MOEOPT_SOURCE_DIR "/models/tiny-moe";

struct ModelForTests {
  ModelForTests();

  Tokenizer tokenizer;
  LoadedChatTemplate chat_template;
  FakeBackend backend;
  std::unique_ptr<EngineService> engine;
  std::shared_ptr<ServedModel> served;
};

}  // namespace moeopt::serve
