#include "text/grammar/json_grammar.h"

#include "base/error.h"
#include "text/grammar/json_rules.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/pushdown.h"
#include "text/grammar/token_machine.h"

namespace moeopt {
namespace {

class JsonConstraint final : public TokenConstraint {
 public:
  explicit JsonConstraint(std::shared_ptr<TokenMachine> machine)
      : machine_(std::move(machine)), text_(machine_->enter()) {}
  JsonConstraint(const JsonConstraint&) = delete;
  JsonConstraint& operator=(const JsonConstraint&) = delete;
  ~JsonConstraint() override { machine_->leave(text_); }

  void fill_mask(std::span<std::uint64_t> allowed) override { machine_->fill_mask(text_, allowed); }
  void accept(std::int32_t id) override { machine_->accept(text_, id); }
  bool complete() const override { return machine_->complete(text_); }

 private:
  std::shared_ptr<TokenMachine> machine_;
  std::size_t text_;
};

}  // namespace

JsonGrammar::JsonGrammar(std::shared_ptr<TokenMachine> machine) : machine_(std::move(machine)) {}
JsonGrammar::~JsonGrammar() = default;

std::shared_ptr<const JsonGrammar> JsonGrammar::any_object(const Tokenizer& tokenizer,
                                                           std::span<const std::int32_t> end_ids) {
  return from_schema({{"type", "object"}}, tokenizer, end_ids);
}

std::shared_ptr<const JsonGrammar> JsonGrammar::from_schema(const nlohmann::ordered_json& schema,
                                                            const Tokenizer& tokenizer,
                                                            std::span<const std::int32_t> end_ids) {
  return from_schema(schema, tokenizer.byte_trie(), end_ids);
}

std::shared_ptr<const JsonGrammar> JsonGrammar::from_schema(const nlohmann::ordered_json& schema,
                                                            const VocabularyTrie& vocabulary,
                                                            std::span<const std::int32_t> end_ids) {
  if (end_ids.empty()) {
    throw_error(ErrorCode::kUnsupported, "a model without an end token cannot end its JSON");
  }
  PushdownBuilder builder;
  JsonRules rules(builder);
  const StateId start = builder.state();
  const StateId second_line = builder.state();
  const StateId value = builder.state();
  rules.white_space(start, second_line);  // models begin with an empty line at times
  rules.white_space(second_line, value);
  builder.empty(value, compile_json_schema(schema, builder, rules));
  Pushdown automaton = builder.finish(start, vocabulary.single_bytes());
  if (automaton.need(start) > Pushdown::kMostDepth) {
    throw_error(ErrorCode::kInvalidData,
                "schema #: no value that this vocabulary can spell fits it within {} levels",
                Pushdown::kMostDepth);
  }
  return std::make_shared<JsonGrammar>(
      std::make_shared<TokenMachine>(std::move(automaton), vocabulary, end_ids));
}

std::unique_ptr<TokenConstraint> JsonGrammar::start() const {
  return std::make_unique<JsonConstraint>(machine_);
}

}  // namespace moeopt
