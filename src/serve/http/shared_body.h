// A Body of Boost.Beast that appends to a BodyShare. For connection.cpp alone.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/optional.hpp>

#include "serve/http/body_budget.h"

namespace moeopt::serve {

struct SharedBody {
  using value_type = BodyShare*;

  // The error of a body that found no room.
  static boost::system::error_code no_room() {
    return make_error_code(boost::system::errc::not_enough_memory);
  }

  class reader {  // NOLINT(readability-identifier-naming): Beast's name
   public:
    template <bool kIsRequest, class Fields>
    reader(boost::beast::http::header<kIsRequest, Fields>&, value_type& share) : share_(share) {}

    void init(const boost::optional<std::uint64_t>& length, boost::system::error_code& error) {
      if (length) share_->announce(static_cast<std::size_t>(*length));
      error = {};
    }

    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& error) {
      error = {};
      std::size_t n = 0;
      for (const boost::asio::const_buffer piece : boost::beast::buffers_range_ref(buffers)) {
        if (!share_->append({static_cast<const char*>(piece.data()), piece.size()})) {
          error = no_room();
          return n;
        }
        n += piece.size();
      }
      return n;
    }

    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& share_;
  };
};

}  // namespace moeopt::serve
