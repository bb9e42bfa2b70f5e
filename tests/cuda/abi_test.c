/* The C ABI, from C, with libmoeopt alone and no GPU needed: whatever comes before the first CUDA
 * call. */
#include <stdio.h>
#include <string.h>

#include "moeopt.h"

static int failures = 0;

static void expect(int good, const char* what) {
  if (good) return;
  ++failures;
  fprintf(stderr, "FAILED: %s (last error: \"%s\")\n", what, moeopt_last_error());
}

static moeopt_moe_desc qwen3(void) {
  moeopt_moe_desc desc;
  memset(&desc, 0, sizeof desc);
  desc.struct_size = sizeof desc;
  desc.hidden = 2048;
  desc.intermediate = 768;
  desc.experts = 128;
  desc.top_k = 8;
  desc.max_tokens = 16;
  desc.dtype = MOEOPT_BF16;
  desc.renormalise = 1;
  return desc;
}

static void refusals(const moeopt_moe* layer) {
  moeopt_moe_desc desc = qwen3();
  moeopt_moe* none = (moeopt_moe*)&desc;
  desc.hidden = 2047;
  expect(moeopt_moe_create(&desc, &none) == MOEOPT_ERROR_UNSUPPORTED && none == NULL,
         "a hidden size that is no multiple of 64 is refused");
  expect(strcmp(moeopt_last_error(), "hidden is 2047; it must be a multiple of 64 (bf16)") == 0,
         "the text names the field and the limit");
  expect(moeopt_moe_create(&desc, NULL) == MOEOPT_ERROR_ARGUMENT, "nowhere to put the layer");

  moeopt_moe_sizes sizes;
  memset(&sizes, 0, sizeof sizes);
  expect(moeopt_moe_get_sizes(layer, &sizes) == MOEOPT_ERROR_ARGUMENT, "sizes of size 0");
  sizes.struct_size = sizeof sizes;
  expect(moeopt_moe_get_sizes(NULL, &sizes) == MOEOPT_ERROR_ARGUMENT, "sizes of no layer");
  expect(strcmp(moeopt_last_error(), "layer is null") == 0, "the text says so");

  moeopt_moe_args args;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.tokens = 17;
  expect(moeopt_moe_forward(layer, &args, NULL) == MOEOPT_ERROR_ARGUMENT, "more than max_tokens");
  expect(strcmp(moeopt_last_error(), "tokens is 17; it must be 0 .. max_tokens (16)") == 0,
         "the text names the field and the limit");
  expect(moeopt_moe_forward(NULL, &args, NULL) == MOEOPT_ERROR_ARGUMENT, "forward of no layer");
  expect(moeopt_moe_init_workspace(layer, NULL, NULL) == MOEOPT_ERROR_ARGUMENT, "no workspace");

  moeopt_expert_source source;
  memset(&source, 0, sizeof source);
  source.struct_size = sizeof source;
  expect(moeopt_moe_pack_expert(layer, &source, NULL, NULL) == MOEOPT_ERROR_ARGUMENT, "no gate");
  expect(strcmp(moeopt_last_error(), "gate is null") == 0, "the text says so");
  expect(moeopt_moe_pack_shared(layer, &source, NULL, NULL) == MOEOPT_ERROR_ARGUMENT,
         "packing a shared expert that the layer does not have");
}

int main(void) {
  expect(strcmp(moeopt_last_error(), "") == 0, "no error before the first call");
  expect(moeopt_version()[0] != '\0', "a version");

  const moeopt_moe_desc desc = qwen3();
  moeopt_moe* layer = NULL;
  expect(moeopt_moe_create(&desc, &layer) == MOEOPT_OK && layer != NULL,
         "Qwen3's layer is accepted");
  expect(strncmp(moeopt_moe_config(layer), "bf16 ", 5) == 0, "the configuration names its dtype");

  moeopt_moe_sizes sizes;
  memset(&sizes, 0, sizeof sizes);
  sizes.struct_size = sizeof sizes;
  expect(moeopt_moe_get_sizes(layer, &sizes) == MOEOPT_OK, "sizes");
  expect(sizes.struct_size == sizeof sizes, "struct_size stays");
  expect(sizes.expert_bytes == (uint64_t)3 * 2048 * 768 * 2, "a bf16 expert is its weights");
  expect(sizes.shared_bytes == 0, "no shared expert");
  expect(sizes.workspace_bytes > sizes.control_bytes && sizes.control_bytes > 0, "a workspace");
  moeopt_moe_sizes first;
  memset(&first, 0, sizeof first);
  first.struct_size = 32; /* without control_bytes, as in the first release */
  expect(moeopt_moe_get_sizes(layer, &first) == MOEOPT_OK && first.control_bytes == 0,
         "no byte beyond the caller's struct_size");

  moeopt_moe_desc many = qwen3();
  int32_t tokens = 0;
  many.max_tokens = 8192;
  expect(moeopt_moe_tokens_within(&many, (uint64_t)1 << 40, &tokens) == MOEOPT_OK && tokens == 8192,
         "a workspace that is large enough");
  expect(moeopt_moe_tokens_within(&many, (uint64_t)64 << 20, &tokens) == MOEOPT_OK && tokens > 0 &&
             tokens < 8192 && tokens % 128 == 0,
         "a bound cuts the tokens");
  expect(moeopt_moe_tokens_within(&many, 1000, &tokens) == MOEOPT_ERROR_UNSUPPORTED && tokens == 0,
         "a bound below one token's");
  expect(strstr(moeopt_last_error(), "one token takes ") != NULL, "the text says what it takes");
  expect(moeopt_moe_tokens_within(&many, 1000, NULL) == MOEOPT_ERROR_ARGUMENT, "no place for it");

  refusals(layer);
  moeopt_moe_destroy(layer);
  moeopt_moe_destroy(NULL);
  if (failures == 0) puts("the C ABI holds");
  return failures == 0 ? 0 : 1;
}
