#include "text/bpe_model.h"

#include <algorithm>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr char32_t kPlaneEnd = 0x10000;

std::size_t merge_count(const JsonField& field) {
  return field.at("merges").array_size();
}

// The two texts of a merge, written "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> merge_texts(const JsonField& merges,
                                                          std::size_t index) {
  const Json& value = merges.value()[index];
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    return {value[0].get_ref<const std::string&>(), value[1].get_ref<const std::string&>()};
  }
  if (value.is_string()) {
    const std::string_view text = value.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  merges.element(index).invalid(R"(expected a merge, "a b" or ["a", "b"])");
}

// The name of field "model"; anything but BPE is refused before the rest is looked at.
const std::string& checked_name(const JsonField& field) {
  if (const auto type = field.find("type"); type && type->string() != "BPE") {
    type->unsupported(fmt::format("model \"{}\"", type->string()));
  }
  return field.name();
}

bool is_version_line(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().starts_with("#version");
}

}  // namespace

// Collects the first symbols of a word, with the library's rules for what has no token.
class BpeModel::SymbolWriter {
 public:
  SymbolWriter(const BpeModel& model, std::vector<std::int32_t>& out) : model_(model), out_(out) {}

  void known(std::int32_t id) {
    finish();
    out_.push_back(id);
  }

  // A character, as the vocabulary would write it, that has no token.
  void unknown(std::string_view character) {
    if (model_.byte_fallback_) {
      const auto missing = [&](char byte) { return fallback(byte) < 0; };
      if (std::none_of(character.begin(), character.end(), missing)) {
        // NOTE: an unknown token that waits stays behind these bytes, as in the library.
        for (const char byte : character) out_.push_back(fallback(byte));
        return;
      }
    }
    if (!model_.unknown_) return;
    if (waiting_ >= 0 && model_.fuse_unknown_) return;
    finish();
    const auto id = model_.unknown_id();
    if (!id) {
      throw_error(ErrorCode::kInvalidData, "{}.unk_token: \"{}\" is not in the vocabulary",
                  model_.name_, *model_.unknown_);
    }
    waiting_ = *id;
  }

  void finish() {
    if (waiting_ >= 0) out_.push_back(waiting_);
    waiting_ = -1;
  }

 private:
  std::int32_t fallback(char byte) const {
    return model_.fallback_ids_[static_cast<unsigned char>(byte)];
  }

  const BpeModel& model_;
  std::vector<std::int32_t>& out_;
  std::int32_t waiting_ = -1;  // an unknown token not yet written
};

BpeModel::BpeModel(const JsonField& field, bool byte_level)
    : name_(checked_name(field)),
      byte_level_(byte_level),
      vocabulary_(field.at("vocab")),
      merges_(merge_count(field)),
      control_(static_cast<std::size_t>(vocabulary_.id_end()), false) {
  read_options(field);
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
    fallback_ids_[static_cast<std::size_t>(byte)] = id.value_or(-1);
  }
  if (byte_level_) {
    index_bytes();
  } else {
    index_characters();
  }
  if (ignore_merges_) index_whole_words();
  read_merges(field.at("merges"));
}

void BpeModel::read_options(const JsonField& field) {
  if (const auto dropout = field.find("dropout"); dropout && dropout->value() != 0.0) {
    dropout->unsupported("dropout");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto given = field.find(affix);
    if (given && !given->string().empty()) given->unsupported("an affix to subwords");
  }
  if (const auto unknown = field.find("unk_token")) unknown_ = unknown->string();
  fuse_unknown_ = field.flag("fuse_unk", false);
  byte_fallback_ = field.flag("byte_fallback", false);
  ignore_merges_ = field.flag("ignore_merges", false);
}

void BpeModel::read_merges(const JsonField& merges) {
  cuts_at_space_mark_ = !byte_level_ && !ignore_merges_ && vocabulary_.find(kSpaceMark);
  std::string joined;
  for (std::size_t i = 0; i < merges.array_size(); ++i) {
    if (is_version_line(merges.value()[i])) continue;
    const auto [left, right] = merge_texts(merges, i);
    joined = left;
    joined += right;
    const auto left_id = vocabulary_.find(left);
    const auto right_id = vocabulary_.find(right);
    const auto result = vocabulary_.find(joined);
    if (!left_id || !right_id || !result) {
      merges.element(i).invalid(fmt::format("\"{}\" is not in the vocabulary",
                                            !left_id ? left : (!right_id ? right : joined)));
    }
    merges_.set(*left_id, *right_id, {static_cast<std::uint32_t>(i), *result});
    if (right.starts_with(kSpaceMark) && !left.ends_with(kSpaceMark)) cuts_at_space_mark_ = false;
  }
}

void BpeModel::index_characters() {
  plane_.assign(kPlaneEnd, -1);
  for (std::int32_t id = 0; id < vocabulary_.id_end(); ++id) {
    const std::string_view text = vocabulary_.text(id);
    if (text.empty()) continue;
    const DecodedCharacter character = decode_utf8(text, 0);
    if (character.size_bytes != text.size()) continue;
    if (character.code_point < kPlaneEnd) {
      plane_[character.code_point] = id;
    } else {
      higher_.emplace_back(character.code_point, id);
    }
  }
  std::sort(higher_.begin(), higher_.end());
}

void BpeModel::index_bytes() {
  for (int byte = 0; byte < 256; ++byte) {
    const auto at = static_cast<std::uint8_t>(byte);
    byte_ids_[at] = vocabulary_.find(byte_level_character(at)).value_or(-1);
  }
}

void BpeModel::index_whole_words() {
  for (std::int32_t id = 0; id < vocabulary_.id_end(); ++id) {
    if (!vocabulary_.has(id)) continue;
    const std::string_view text = vocabulary_.text(id);
    if (!byte_level_) {
      word_ids_.emplace_back(text, id);
    } else if (auto bytes = byte_level_bytes(text)) {
      word_ids_.emplace_back(std::move(*bytes), id);
    }
  }
  std::sort(word_ids_.begin(), word_ids_.end());
}

std::optional<std::int32_t> BpeModel::unknown_id() const {
  return unknown_ ? vocabulary_.find(*unknown_) : std::nullopt;
}

std::optional<std::size_t> BpeModel::most_bytes_per_id() const {
  const auto known = [](std::int32_t id) { return id >= 0; };
  const auto plain = [this](std::int32_t id) { return id >= 0 && !is_control(id); };
  const bool every_byte = byte_level_ ? std::all_of(byte_ids_.begin(), byte_ids_.end(), plain)
                                      : byte_fallback_ && std::all_of(fallback_ids_.begin(),
                                                                      fallback_ids_.end(), known);
  if (!every_byte && (!unknown_ || fuse_unknown_)) return std::nullopt;
  std::size_t most = 4;  // a character without a token
  // In the byte alphabet a text is longer than the bytes it stands for, never shorter.
  for (std::int32_t id = 0; id < vocabulary_.id_end(); ++id) {
    most = std::max(most, vocabulary_.text(id).size());
  }
  return most;
}

std::optional<std::int32_t> BpeModel::whole_word_id(std::string_view word) const {
  const auto found = std::lower_bound(
      word_ids_.begin(), word_ids_.end(), word,
      [](const auto& entry, std::string_view value) { return entry.first < value; });
  if (found == word_ids_.end() || found->first != word) return std::nullopt;
  return found->second;
}

std::int32_t BpeModel::character_id(char32_t code_point) const {
  if (code_point < kPlaneEnd) return plane_[code_point];
  const auto found =
      std::lower_bound(higher_.begin(), higher_.end(), code_point,
                       [](const auto& entry, char32_t value) { return entry.first < value; });
  return found != higher_.end() && found->first == code_point ? found->second : -1;
}

void BpeModel::encode(std::string_view word, bool forbid_control, BpeWorkspace& workspace,
                      std::vector<std::int32_t>& ids) const {
  if (!cuts_at_space_mark_) return encode_segment(word, forbid_control, workspace, ids);
  // Merging never joins the two sides of a cut before a space mark that follows another character.
  std::size_t begin = 0;
  for (std::size_t at = word.find(kSpaceMark); at != std::string_view::npos;
       at = word.find(kSpaceMark, at + kSpaceMark.size())) {
    if (at == begin || word.substr(0, at).ends_with(kSpaceMark)) continue;
    encode_segment(word.substr(begin, at - begin), forbid_control, workspace, ids);
    begin = at;
  }
  encode_segment(word.substr(begin), forbid_control, workspace, ids);
}

void BpeModel::encode_segment(std::string_view word, bool forbid_control, BpeWorkspace& workspace,
                              std::vector<std::int32_t>& ids) const {
  const bool cached = word.size() <= WordCache::kMostWordBytes;
  WordCache::Key key;
  if (cached) {
    key = workspace.cache.key(word);
    const auto known = workspace.cache.find(key);
    if (!known.empty()) {
      ids.insert(ids.end(), known.begin(), known.end());
      return;
    }
  }
  auto& symbols = workspace.symbols;
  tokenize(word, false, workspace);
  const auto control = [&](std::int32_t id) { return is_control(id); };
  if (std::any_of(symbols.begin(), symbols.end(), control)) {
    if (forbid_control) tokenize(word, true, workspace);
  } else if (cached) {
    workspace.cache.put(key, symbols);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

// Leaves the tokens of `word` in workspace.symbols.
void BpeModel::tokenize(std::string_view word, bool forbid_control, BpeWorkspace& workspace) const {
  auto& symbols = workspace.symbols;
  symbols.clear();
  if (ignore_merges_) {
    const auto id = whole_word_id(word);
    if (id && !(forbid_control && is_control(*id))) {
      symbols.push_back(*id);
      return;
    }
  }
  if (byte_level_) {
    split_bytes(word, forbid_control, workspace);
  } else {
    split_characters(word, forbid_control, workspace);
  }
  workspace.merger.merge(merges_, symbols, forbid_control ? &control_ : nullptr);
}

void BpeModel::split_bytes(std::string_view word, bool forbid_control,
                           BpeWorkspace& workspace) const {
  SymbolWriter writer(*this, workspace.symbols);
  for (const char c : word) {
    const auto byte = static_cast<std::uint8_t>(c);
    const std::int32_t id = byte_ids_[byte];
    if (id >= 0 && !(forbid_control && is_control(id))) {
      writer.known(id);
    } else {
      writer.unknown(byte_level_character(byte));
    }
  }
  writer.finish();
}

void BpeModel::split_characters(std::string_view word, bool forbid_control,
                                BpeWorkspace& workspace) const {
  SymbolWriter writer(*this, workspace.symbols);
  for (std::size_t at = 0; at < word.size();) {
    const DecodedCharacter character = decode_utf8(word, at);
    const std::int32_t id = character_id(character.code_point);
    if (id >= 0 && !(forbid_control && is_control(id))) {
      writer.known(id);
    } else {
      writer.unknown(word.substr(at, character.size_bytes));
    }
    at += character.size_bytes;
  }
  writer.finish();
}

}  // namespace moeopt
