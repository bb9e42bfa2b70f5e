#include "serve/serve_util.h"

namespace moeopt::serve {

ModelForTests::ModelForTests()
    : tokenizer(Tokenizer::from_file(std::string(kTinyMoe) + "/tokenizer.json")),
      chat_template(*load_chat_template(kTinyMoe)),
      backend(4, 64, 512, 8, 256),
      served(std::make_shared<ServedModel>()) {
  EngineOptions options;
  options.max_model_len = 512;
  options.max_step_tokens = 64;
  engine = std::make_unique<EngineService>(std::make_unique<Engine>(backend, &tokenizer, options),
                                           EngineService::Options{.max_waiting = 64});
  served->names = {"fake"};
  served->tokenizer = &tokenizer;
  served->chat_template = &chat_template;
  served->max_model_len = 512;
  served->vocab = FakeBackend::kVocab;
  served->architecture = "Fake";
  served->backend = "fake";
  served->engine = engine.get();
  served->optimisations = [] { return std::vector<OptimisationState>(); };
}

}  // namespace moeopt::serve
