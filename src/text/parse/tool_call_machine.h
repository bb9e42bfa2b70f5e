// What the readers of the two ways to write tool calls share: what is held back, and how a call is
// announced and its arguments go out. Used by ToolCallParser alone.
// Invariant: a text is read byte by byte; a reader never looks further than the byte it is given.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/parse/output_piece.h"

namespace moeopt {

class ToolCallMachine {
 public:
  explicit ToolCallMachine(std::string id_prefix) : id_prefix_(std::move(id_prefix)) {}
  ToolCallMachine(const ToolCallMachine&) = delete;
  ToolCallMachine& operator=(const ToolCallMachine&) = delete;
  virtual ~ToolCallMachine() = default;

  virtual void take(char byte) = 0;
  // The text ends: what is held is content, unless a call was announced.
  void finish();
  OutputPieces take_pieces();
  int n_calls() const { return n_calls_; }

 protected:
  enum class Matched { kPart, kWhole, kNo };

  // Content but for `marker`, of which a beginning is held back. True with its last byte; then the
  // marker is all that is held.
  bool take_content(char byte, std::string_view marker);
  // Adds `byte` to what is held when it goes on with `marker`; `begun` counts its bytes so far.
  Matched match(char byte, std::string_view marker, std::size_t& begun);
  // Gives out what is held as content.
  void give_back();
  void give_content(std::string_view text);
  // The held text became a call of `name`: it is not content any more.
  void announce(std::string name);
  void give_arguments(std::string_view text);
  bool announced() const { return announced_; }
  void begin_call() { announced_ = false; }
  // White space after a call is dropped until other content comes.
  void drop_white_space() { drops_white_space_ = true; }
  bool holds_too_much() const;

  std::string held_;

 private:
  std::string id_prefix_;
  OutputPieces pieces_;
  int n_calls_ = 0;
  bool announced_ = false;
  bool drops_white_space_ = false;
};

std::unique_ptr<ToolCallMachine> make_hermes_machine(std::string id_prefix);
std::unique_ptr<ToolCallMachine> make_deepseek_machine(std::string id_prefix);

}  // namespace moeopt
