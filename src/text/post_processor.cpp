#include "text/post_processor.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostPieces = 256;

}  // namespace

PostProcessor::PostProcessor(const std::optional<JsonField>& field, std::int32_t id_end) {
  if (field) read(*field, id_end);
}

void PostProcessor::read(const JsonField& field, std::int32_t id_end) {
  const std::string& type = field.at("type").string();
  if (type == "Sequence") {
    const JsonField list = field.at("processors");
    if (list.array_size() > kMostPieces) list.invalid("too many processors");
    for (std::size_t i = 0; i < list.array_size(); ++i) read(list.element(i), id_end);
  } else if (type == "TemplateProcessing") {
    if (has_template_) field.unsupported("a second template");
    has_template_ = true;
    read_template(field, id_end);
  } else if (type != "ByteLevel") {  // which changes offsets alone
    field.unsupported(fmt::format("post-processor \"{}\"", type));
  }
}

void PostProcessor::read_template(const JsonField& field, std::int32_t id_end) {
  const JsonField single = field.at("single");
  if (single.array_size() > kMostPieces) single.invalid("too many pieces");
  pieces_.clear();
  std::size_t texts = 0;
  for (std::size_t i = 0; i < single.array_size(); ++i) {
    const JsonField entry = single.element(i);
    if (const auto sequence = entry.find("Sequence")) {
      const JsonField id = sequence->at("id");
      if (id.string() != "A") id.unsupported("a second text");
      if (++texts > 1) entry.unsupported("the text given twice");
      pieces_.push_back({true, {}});
      continue;
    }
    const std::string& name = entry.at("SpecialToken").at("id").string();
    const JsonField ids = field.at("special_tokens").at(name).at("ids");
    if (ids.array_size() > kMostPieces) ids.invalid("too many ids");
    Piece piece;
    for (std::size_t k = 0; k < ids.array_size(); ++k) {
      piece.ids.push_back(static_cast<std::int32_t>(ids.element(k).integer(0, id_end - 1)));
    }
    pieces_.push_back(std::move(piece));
  }
}

std::vector<std::int32_t> PostProcessor::apply(std::vector<std::int32_t> text_ids,
                                               bool add_special_tokens) const {
  if (pieces_.size() == 1 && pieces_.front().is_text) return text_ids;
  std::vector<std::int32_t> ids;
  for (const Piece& piece : pieces_) {
    if (!piece.is_text && !add_special_tokens) continue;
    const auto& source = piece.is_text ? text_ids : piece.ids;
    ids.insert(ids.end(), source.begin(), source.end());
  }
  return ids;
}

}  // namespace moeopt
