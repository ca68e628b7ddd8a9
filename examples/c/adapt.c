/* A network that learns where it runs: to tell a sign from the same sign upside down.
 *
 *   fornax compile examples/signs.onnx --train head --classes 2 -o target/examples/adapt.so --emit a,header
 *   cc -O2 -static -Itarget/examples examples/c/adapt.c target/examples/adapt.a -o target/examples/adapt
 *   target/examples/adapt examples/signs.input.npy target/examples/adapt.safetensors
 *
 * Of the network's last layer, which begins anew, the parameters go to the file in the end; any program that reads safetensors takes them.
 */
#include "adapt.h"
#include "example.h"

enum { BATCH = 8, STEPS = 12 };

static uint32_t seed = 1;

/* From -1 to 1. */
static float noise(void) {
  seed = seed * 1664525u + 1013904223u;
  return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

/* The sign, as it is for class 0 and turned for class 1, by another light and with noise. */
static void picture(const float *sign, int class, float *to) {
  const int pixels = INPUT / 3;
  float light = 1.0f + 0.3f * noise();
  for (int i = 0; i < INPUT; i++) {
    int turned = i / pixels * pixels + (pixels - 1 - i % pixels);
    to[i] = light * sign[class ? turned : i] + 0.2f * noise();
  }
}

int main(int argc, char **argv) {
  if (argc < 3) fail("usage", "adapt INPUT.npy OUTPUT.safetensors");
  float *sign = read_npy(argv[1], INPUT), *images = aligned(BATCH * ADAPT_IMAGE_BYTES);
  float targets[BATCH * ADAPT_CLASSES], loss[BATCH], logits[BATCH * ADAPT_CLASSES];

  /* The state holds parameters and what the optimiser keeps; adapt_state_save writes it for another day. */
  size_t arena_bytes = adapt_step_arena_bytes(1), state_bytes = adapt_state_bytes();
  void *arena = aligned(arena_bytes), *state = aligned(state_bytes);
  int code = adapt_init(arena, arena_bytes, NULL, 0, 0);
  if (code == ADAPT_OK) code = adapt_state_init(state, state_bytes, arena);
  if (code != ADAPT_OK) fail("adapt", adapt_strerror(code));

  fornax_step step = {0};
  step.size = sizeof step;
  step.abi = FORNAX_ABI;
  step.images = BATCH;
  step.rate = 0.02f;
  step.input = images;
  step.targets = targets;
  step.loss = loss;
  step.logits = logits;
  step.state = state;
  step.state_bytes = state_bytes;
  step.arena = arena;
  step.arena_bytes = arena_bytes;

  int right = 0;
  for (uint32_t number = 1; number <= STEPS + 1; number++) {
    for (int i = 0; i < BATCH; i++) {
      picture(sign, i % 2, images + i * INPUT);
      for (int k = 0; k < ADAPT_CLASSES; k++) targets[i * ADAPT_CLASSES + k] = k == i % 2 ? 1.0f / BATCH : 0.0f;
    }
    step.number = number;
    /* The last pictures are for seeing what has been learnt. */
    code = number <= STEPS ? adapt_step(&step) : adapt_predict(&step);
    if (code != ADAPT_OK) fail("adapt", adapt_strerror(code));
    float mean = 0;
    for (int i = 0; i < BATCH; i++) mean += loss[i];
    if (number <= STEPS) printf("step %u: loss %.4f\n", (unsigned)number, mean);
  }
  for (int i = 0; i < BATCH; i++) right += (logits[i * ADAPT_CLASSES + 1] > logits[i * ADAPT_CLASSES]) == i % 2;
  printf("%d of %d new pictures right\n", right, BATCH);

  void *exported = aligned(ADAPT_EXPORT_BYTES);
  code = adapt_export(state, state_bytes, exported, ADAPT_EXPORT_BYTES);
  if (code != ADAPT_OK) fail("adapt", adapt_strerror(code));
  FILE *file = fopen(argv[2], "wb");
  if (!file || fwrite(exported, 1, ADAPT_EXPORT_BYTES, file) != ADAPT_EXPORT_BYTES || fclose(file)) fail(argv[2], "cannot be written");
  free(exported);
  free(state);
  free(arena);
  free(images);
  free(sign);
  return right == BATCH ? 0 : 1;
}
