#include "routing/recorder.h"

#include <gtest/gtest.h>

#include <limits>

#include "routing/routing_util.h"
#include "tensor/dtype.h"

namespace moeopt {
namespace {

// Three MoE layers 1, 3, 4; the id of a slot tells layer index, row and slot.
class Step {
 public:
  explicit Step(int n_tokens, int top_k = 2) {
    for (int layer = 0; layer < 3; ++layer) {
      for (int row = 0; row < n_tokens; ++row) {
        for (int slot = 0; slot < top_k; ++slot) {
          ids.push_back(static_cast<std::int16_t>(layer * 5 + row % 2 * 2 + slot));
          weights.push_back(0.25f * static_cast<float>(slot + 1));
        }
      }
    }
    step = {ids, weights, n_tokens, top_k};
  }
  std::vector<std::int16_t> ids;
  std::vector<float> weights;
  RouteStep step;
};

class RecorderTest : public testing::Test {
 protected:
  RecorderTest() : file_("recorder") {}
  RoutingRecorder recorder(RecorderOptions options = {}, std::vector<int> layers = {1, 4}) {
    LogWriterOptions writer;
    writer.file = file_.path();
    return {writer, small_header(16, 2, std::move(layers)), {1, 3, 4}, std::move(options)};
  }
  TemporaryFile file_;
};

TEST_F(RecorderTest, KeepsTheSelectedLayersOfEachRequestTogether) {
  RoutingRecorder recorder = this->recorder();
  Step first(5);
  const RouteRun runs[] = {{7, 0, 0, 3, 0, 3}, {8, 0, 3, 2, 0, 4}};
  recorder.on_routes(runs, first.step);
  Step second(3);
  const RouteRun more[] = {{7, 0, 0, 1, 3, 3}, {8, 0, 1, 2, 2, 4}};
  recorder.on_routes(more, second.step);
  recorder.on_finished(7, 0);
  recorder.on_finished(9, 0);  // never ran
  recorder.close();            // 8 is still open: a part
  const ReadLog log = read_all(file_.path());
  ASSERT_EQ(log.requests.size(), 2u);
  const RequestRoutes& r1 = log.requests[0];
  EXPECT_EQ(r1.id, "r1");
  EXPECT_TRUE(r1.complete);
  EXPECT_EQ(r1.prompt_tokens, 3u);
  ASSERT_EQ(r1.spans.size(), 2u);
  EXPECT_EQ(r1.spans[0].phase, RoutePhase::kPrefill);
  EXPECT_EQ(r1.spans[1].phase, RoutePhase::kDecode);
  EXPECT_EQ(r1.spans[1].first_token, 3u);
  EXPECT_EQ(r1.ids,
            (std::vector<std::uint16_t>{0, 1, 10, 11, 2, 3, 12, 13, 0, 1, 10, 11, 0, 1, 10, 11}));
  EXPECT_EQ(to_float(F16{r1.weights[1]}), 0.5f);
  EXPECT_FALSE(log.requests[1].complete);
  EXPECT_EQ(log.requests[1].tokens(), 4u);
}

TEST_F(RecorderTest, MarksWhatIsComputedAgainAndCountsWhatIsCached) {
  RoutingRecorder recorder = this->recorder();
  Step step(6);
  const RouteRun prompt{1, 0, 0, 4, 16, 20};  // positions 0 ... 15 came from the prefix cache
  recorder.on_routes({&prompt, 1}, step.step);
  const RouteRun decode{1, 0, 0, 1, 20, 20};
  recorder.on_routes({&decode, 1}, step.step);
  const RouteRun again{1, 0, 0, 6, 16, 20};  // preempted: all over again, and one new token
  recorder.on_routes({&again, 1}, step.step);
  recorder.on_finished(1, 0);
  recorder.close();
  const ReadLog log = read_all(file_.path());
  ASSERT_EQ(log.requests.size(), 1u);
  const RequestRoutes& routes = log.requests[0];
  EXPECT_EQ(routes.cached_tokens, 16u);
  EXPECT_EQ(routes.tokens(), 11u);
  EXPECT_EQ(routes.replayed_tokens(), 5u);
  ASSERT_EQ(routes.spans.size(), 5u);
  EXPECT_FALSE(routes.spans[4].replayed);
  EXPECT_EQ(routes.spans[4].first_token, 21u);
  ASSERT_TRUE(log.stated.has_value());
  EXPECT_EQ(log.stated->cached_tokens, 16u);
  EXPECT_EQ(log.stated->replayed_tokens, 5u);
}

// Another request computed more of the same prompt while this one was preempted.
TEST_F(RecorderTest, CountsWhatTheCacheHasMoreOfAfterAPreemption) {
  RoutingRecorder recorder = this->recorder();
  Step step(4);
  const RouteRun first{1, 0, 0, 4, 0, 20};
  recorder.on_routes({&first, 1}, step.step);
  const RouteRun later{1, 0, 0, 4, 16, 20};  // positions 4 ... 15 came from the cache
  recorder.on_routes({&later, 1}, step.step);
  recorder.on_finished(1, 0);
  recorder.close();
  const ReadLog log = read_all(file_.path());
  ASSERT_EQ(log.requests.size(), 1u);
  EXPECT_EQ(log.requests[0].cached_tokens, 12u);
  EXPECT_EQ(log.requests[0].tokens(), 8u);
  EXPECT_EQ(log.requests[0].replayed_tokens(), 0u);
}

TEST_F(RecorderTest, SamplesWholeRequestsByTheSeed) {
  const auto ids_logged = [&](std::uint64_t seed) {
    RecorderOptions options;
    options.sampled = 0.3;
    options.seed = seed;
    options.request_id = "x";
    RoutingRecorder recorder = this->recorder(options);
    Step step(2);
    for (std::uint64_t id = 1; id <= 1000; ++id) {
      const RouteRun run{id, 0, 0, static_cast<int>(id % 2) + 1, 0, 2};
      recorder.on_routes({&run, 1}, step.step);
      recorder.on_finished(id, 0);
    }
    recorder.close();
    const ReadLog log = read_all(file_.path());
    EXPECT_EQ(log.stated->unsampled_requests + log.requests.size(), 1000u);
    std::vector<std::size_t> tokens;
    for (const RequestRoutes& request : log.requests) tokens.push_back(request.tokens());
    return tokens;
  };
  const auto once = ids_logged(5);
  EXPECT_NEAR(static_cast<double>(once.size()), 300, 60);
  EXPECT_EQ(once, ids_logged(5));
  EXPECT_NE(once, ids_logged(6));
}

TEST_F(RecorderTest, NamesRequestsAsAsked) {
  RecorderOptions options;
  options.request_id = "mine";
  RoutingRecorder recorder = this->recorder(options);
  Step step(2);
  for (std::uint64_t id = 1; id <= 2; ++id) {
    const RouteRun run{id, 0, 0, 2, 0, 2};
    recorder.on_routes({&run, 1}, step.step);
    recorder.on_finished(id, 0);
  }
  recorder.close();
  const ReadLog log = read_all(file_.path());
  EXPECT_EQ(log.requests[0].id, "mine");
  EXPECT_EQ(log.requests[1].id, "mine-2");
}

TEST_F(RecorderTest, DropsARequestThatPassesTheBoundAsAWhole) {
  RecorderOptions options;
  options.open_bytes = 4000;
  RoutingRecorder recorder = this->recorder(options);
  Step step(8);
  for (int i = 0; i < 100; ++i) {
    const RouteRun runs[] = {{1, 0, 0, 8, 8 * i, 800},
                             {static_cast<std::uint64_t>(100 + i), 0, 0, 1, 0, 1}};
    recorder.on_routes(runs, step.step);
    recorder.on_finished(static_cast<std::uint64_t>(100 + i), 0);
  }
  recorder.on_finished(1, 0);
  recorder.close();
  const ReadLog log = read_all(file_.path());
  EXPECT_EQ(log.requests.size(), 100u);  // the small ones
  EXPECT_EQ(log.stated->dropped_requests, 1u);
  EXPECT_EQ(log.stated->dropped_tokens, 800u);
}

TEST_F(RecorderTest, LeavesOutARequestWhoseWeightsAreNotFinite) {
  RoutingRecorder recorder = this->recorder();
  Step step(2);
  step.weights[0] = std::numeric_limits<float>::quiet_NaN();
  const RouteRun runs[] = {{1, 0, 0, 1, 0, 1}, {2, 0, 1, 1, 0, 1}};
  recorder.on_routes(runs, step.step);
  recorder.on_finished(1, 0);
  recorder.on_finished(2, 0);
  recorder.close();
  const ReadLog log = read_all(file_.path());
  ASSERT_EQ(log.requests.size(), 1u);
  EXPECT_EQ(log.stated->dropped_requests, 1u);
}

}  // namespace
}  // namespace moeopt
