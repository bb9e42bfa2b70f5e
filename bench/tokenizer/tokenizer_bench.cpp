// Times Tokenizer on one text; run.py sets it beside the `tokenizers` library.
//   tokenizer_bench TOKENIZER.json TEXT RUNS
// Prints one JSON object: the best seconds of RUNS runs, those of the first one, and the ids.
#include <algorithm>
#include <chrono>
#include <iostream>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace {

template <typename Call>
double seconds(Call&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: tokenizer_bench TOKENIZER.json TEXT RUNS\n";
    return 2;
  }
  try {
    const auto tokenizer = moeopt::Tokenizer::from_file(argv[1]);
    const std::string text = moeopt::read_file(argv[2], std::size_t{1} << 30);
    const int runs = std::max(1, std::atoi(argv[3]));
    std::vector<double> encode_s;
    std::vector<double> decode_s;
    std::vector<std::int32_t> ids;
    std::string decoded;
    for (int run = 0; run < runs; ++run) {
      encode_s.push_back(seconds([&] { ids = tokenizer.encode(text, false); }));
      decode_s.push_back(seconds([&] { decoded = tokenizer.decode(ids, false); }));
    }
    const moeopt::Json report = {{"encode_s", *std::min_element(encode_s.begin(), encode_s.end())},
                                 {"decode_s", *std::min_element(decode_s.begin(), decode_s.end())},
                                 {"first_encode_s", encode_s.front()},
                                 {"decoded_bytes", decoded.size()},
                                 {"ids", ids}};
    std::cout << report.dump() << "\n";
    return 0;
  } catch (const moeopt::Error& error) {
    std::cerr << error.what() << "\n";
    return moeopt::exit_code(error.code());
  }
}
