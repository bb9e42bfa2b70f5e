// The post-processor of a tokenizer.json: the ids put around a text, as a beginning-of-sequence
// one.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/json_field.h"

namespace moeopt {

class PostProcessor {
 public:
  // From the field "post_processor"; absent: nothing is put around. `id_end`: ids are below it.
  PostProcessor(const std::optional<JsonField>& field, std::int32_t id_end);

  // The final ids. Without `add_special_tokens` only the text's own.
  std::vector<std::int32_t> apply(std::vector<std::int32_t> text_ids,
                                  bool add_special_tokens) const;

 private:
  // The text, or some ids.
  struct Piece {
    bool is_text = false;
    std::vector<std::int32_t> ids;
  };

  void read(const JsonField& field, std::int32_t id_end);
  void read_template(const JsonField& field, std::int32_t id_end);

  std::vector<Piece> pieces_{Piece{true, {}}};
  bool has_template_ = false;
};

}  // namespace moeopt
