#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "base/file.h"
#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/grammar/vocabulary_trie.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostFileBytes = std::size_t{64} << 20;

// All tokens together, as the decoder takes them.
constexpr std::size_t kMostDecoderBytes = std::size_t{256} << 20;
// After a longer text a workspace is not kept: it may have grown to many times its size.
constexpr std::size_t kLongTextBytes = std::size_t{1} << 20;

// Lends each thread that encodes a workspace of its own.
class WorkspacePool {
 public:
  std::unique_ptr<BpeWorkspace> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
      }
    }
    return std::make_unique<BpeWorkspace>();
  }

  void give_back(std::unique_ptr<BpeWorkspace> workspace) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<BpeWorkspace>> free_;
};

// Ends an encoding from within its steps.
struct TooManyIds {};

// Takes the words of a text to the model. Throws TooManyIds once there are more than `most_ids`, or
// the next word alone makes them more.
class Encoder final : public WordSink {
 public:
  Encoder(const BpeModel& model, std::size_t bytes_per_id, bool forbid_control,
          std::size_t most_ids, BpeWorkspace& workspace)
      : model_(model),
        bytes_per_id_(bytes_per_id),
        forbid_control_(forbid_control),
        most_ids_(most_ids),
        workspace_(workspace) {}

  void word(std::string_view text) override {
    if (text.size() / bytes_per_id_ > most_ids_ - ids.size()) throw TooManyIds();
    model_.encode(text, forbid_control_, workspace_, ids);
    if (ids.size() > most_ids_) throw TooManyIds();
  }

  void add(std::int32_t id) {
    ids.push_back(id);
    if (ids.size() > most_ids_) throw TooManyIds();
  }

  std::vector<std::int32_t> ids;

 private:
  const BpeModel& model_;
  std::size_t bytes_per_id_;
  bool forbid_control_;
  std::size_t most_ids_;
  BpeWorkspace& workspace_;
};

JsonField checked_root(const Json& root, std::string_view where) {
  JsonField field = JsonField::root(root, where);
  if (!root.is_object()) field.invalid("expected an object");
  if (const auto version = field.find("version"); version && version->string() != "1.0") {
    version->unsupported(fmt::format("\"{}\"", version->string()));
  }
  return field;
}

}  // namespace

struct Tokenizer::Parts {
  Parts(const JsonField& root, std::string_view where);

  void index_ids(std::string_view where);

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  AddedTokens added;
  std::size_t bytes_per_id;  // of a word, at most; as good as none where a word may have no ids
  std::int32_t id_end;
  PostProcessor post_processor;
  Decoder decoder;
  std::vector<std::string_view> texts;      // by id; data() is null where there is no token
  std::vector<std::string> decoder_inputs;  // by id
  std::vector<bool> special;                // by id
  std::vector<std::int32_t> special_ids;    // those
  std::vector<bool> skipped;                // by id: left out of a text without special tokens
  mutable WorkspacePool workspaces;
  mutable std::once_flag trie_made;
  mutable std::unique_ptr<const VocabularyTrie> trie;
};

namespace {

std::int32_t end_of_ids(const BpeModel& model, const AddedTokens& added) {
  std::int32_t end = model.vocabulary().id_end();
  for (const AddedToken& token : added.list()) end = std::max(end, token.id + 1);
  return end;
}

}  // namespace

Tokenizer::Parts::Parts(const JsonField& root, std::string_view where)
    : normalizer(root.find("normalizer")),
      pre_tokenizer(root.find("pre_tokenizer")),
      model(root.at("model"), pre_tokenizer.byte_level()),
      added(root.find("added_tokens"), model.vocabulary(), normalizer),
      bytes_per_id(SIZE_MAX),
      id_end(end_of_ids(model, added)),
      post_processor(root.find("post_processor"), id_end),
      decoder(root.find("decoder")) {
  index_ids(where);
}

void Tokenizer::Parts::index_ids(std::string_view where) {
  const auto count = static_cast<std::size_t>(id_end);
  texts.resize(count);
  special.resize(count);
  skipped.resize(count);
  decoder_inputs.resize(count);
  const Vocabulary& vocabulary = model.vocabulary();
  for (std::int32_t id = 0; id < vocabulary.id_end(); ++id) {
    texts[static_cast<std::size_t>(id)] = vocabulary.text(id);
  }
  std::vector<bool> control(static_cast<std::size_t>(vocabulary.id_end()), false);
  for (const AddedToken& token : added.list()) {
    const auto at = static_cast<std::size_t>(token.id);
    texts[at] = token.normalized;
    special[at] = token.special;
    if (at < control.size()) control[at] = token.special && token.id != model.unknown_id();
  }
  model.set_control_ids(std::move(control));
  bytes_per_id = model.most_bytes_per_id().value_or(SIZE_MAX);
  std::size_t total_bytes = 0;
  for (std::size_t at = 0; at < count; ++at) {
    if (texts[at].data() == nullptr) continue;
    decoder_inputs[at] = decoder.prepare(texts[at]);
    total_bytes += decoder_inputs[at].size();
    if (total_bytes > kMostDecoderBytes) {
      throw_error(ErrorCode::kInvalidData, "{}: decoded tokens take more than {} bytes", where,
                  kMostDecoderBytes);
    }
    const AddedToken* token = added.find(texts[at]);
    skipped[at] = token != nullptr && token->special;
    if (special[at]) special_ids.push_back(static_cast<std::int32_t>(at));
  }
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view where) {
  const Json root = parse_json(tokenizer_json, where);
  return Tokenizer(std::make_unique<const Parts>(checked_root(root, where), where));
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& file) {
  return from_json(read_file(file, kMostFileBytes), file.string());
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                            bool parse_special) const {
  return *encode_at_most(SIZE_MAX, text, add_special_tokens, parse_special);
}

std::optional<std::vector<std::int32_t>> Tokenizer::encode_at_most(std::size_t most_ids,
                                                                   std::string_view text,
                                                                   bool add_special_tokens,
                                                                   bool parse_special) const {
  const Parts& parts = *parts_;
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = repair_utf8(text);
    text = repaired;
  }
  auto workspace = parts.workspaces.take();
  Encoder encoder(parts.model, parts.bytes_per_id, !parse_special, most_ids, *workspace);
  RegexBudget budget(text.size());
  std::vector<TextPart> raw_parts;
  std::vector<TextPart> normalized_parts;
  std::string storage;
  bool fits = true;
  try {
    parts.added.split(text, false, parse_special, raw_parts);
    for (const TextPart& raw : raw_parts) {
      if (raw.id) {
        encoder.add(*raw.id);
        continue;
      }
      const std::string_view normalized = parts.normalizer.apply(raw.text, storage, budget);
      normalized_parts.clear();
      parts.added.split(normalized, true, parse_special, normalized_parts);
      for (const TextPart& part : normalized_parts) {
        if (part.id) {
          encoder.add(*part.id);
          continue;
        }
        const bool at_start =
            raw.text.data() == text.data() && part.text.data() == normalized.data();
        parts.pre_tokenizer.split(part.text, at_start, budget, encoder);
      }
    }
  } catch (const TooManyIds&) {
    fits = false;
  }
  std::vector<std::int32_t> ids = std::move(encoder.ids);
  if (text.size() <= kLongTextBytes) parts.workspaces.give_back(std::move(workspace));
  if (fits) ids = parts.post_processor.apply(std::move(ids), add_special_tokens);
  if (!fits || ids.size() > most_ids) return std::nullopt;
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  Decoder::Stream stream(parts_->decoder);
  std::string out;
  for (const std::int32_t id : ids) {
    if (const auto input = decoder_input(id, skip_special)) stream.push(*input, out);
  }
  stream.finish(out);
  return out;
}

std::optional<std::string_view> Tokenizer::decoder_input(std::int32_t id, bool skip_special) const {
  if (id < 0 || id >= parts_->id_end) return std::nullopt;
  const auto at = static_cast<std::size_t>(id);
  if (parts_->texts[at].data() == nullptr) return std::nullopt;
  if (skip_special && parts_->skipped[at]) return std::nullopt;
  return parts_->decoder_inputs[at];
}

const Decoder& Tokenizer::decoder() const {
  return parts_->decoder;
}

std::int32_t Tokenizer::vocab_size() const {
  return parts_->id_end;
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* added = parts_->added.find(token)) return added->id;
  return parts_->model.vocabulary().find(token);
}

std::string_view Tokenizer::id_to_token(std::int32_t id) const {
  if (id < 0 || id >= parts_->id_end) return {};
  return parts_->texts[static_cast<std::size_t>(id)];
}

std::span<const std::int32_t> Tokenizer::special_ids() const {
  return parts_->special_ids;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < parts_->id_end && parts_->special[static_cast<std::size_t>(id)];
}

std::optional<std::string> Tokenizer::token_bytes(std::int32_t id) const {
  const auto input = decoder_input(id, true);
  if (!input || is_special(id)) return std::nullopt;
  return parts_->decoder.bytes(*input);
}

const VocabularyTrie& Tokenizer::byte_trie() const {
  std::call_once(parts_->trie_made, [&] {
    std::vector<std::optional<std::string>> tokens;
    tokens.reserve(static_cast<std::size_t>(vocab_size()));
    for (std::int32_t id = 0; id < vocab_size(); ++id) tokens.push_back(token_bytes(id));
    parts_->trie = std::make_unique<const VocabularyTrie>(tokens);
  });
  return *parts_->trie;
}

}  // namespace moeopt
