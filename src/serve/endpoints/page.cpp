// The page at / and its files, embedded at build time.
#include "serve/api_error.h"
#include "serve/endpoints/endpoints.h"
#include "serve/page_files.h"

namespace moeopt::serve::endpoints {
namespace {

// Nothing from elsewhere, nothing inline, nowhere to be framed.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace

Reply page(App&, const HttpRequest& request) {
  std::string_view name = std::string_view(request.path).substr(1);
  if (name.empty()) name = "index.html";
  const PageFile* file = find_page_file(name);
  if (file == nullptr) throw ApiError(404, "there is no such page", {}, "unknown_url");
  HttpResponse response;
  response.content_type = file->content_type;
  response.headers = {{"Content-Security-Policy", kPolicy},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}};
  response.body = file->bytes;
  return response;
}

}  // namespace moeopt::serve::endpoints
