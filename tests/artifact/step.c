/* Trains the network of step.rs for twenty steps of four images, on one and two threads, in calls of all images and of one, on every level or, with an
 * argument, on the best; then uses every function of a step wrongly. Files of the current folder hold images, targets, losses of each step, the
 * state at the end. */
#include "harness.h"

enum { STEPS = 20, IMAGES = 4, PIXELS = (int)(NET_IMAGE_BYTES / sizeof(float)), CLASSES = NET_CLASSES };

static float images[IMAGES * PIXELS], targets[IMAGES * CLASSES], expected[STEPS][IMAGES], scores[IMAGES * CLASSES];
static float loss[IMAGES], logits[IMAGES * CLASSES], norms[STEPS];
static struct {
  uint64_t seed, of_images[IMAGES];
} keys;

static fornax_step step_of(void *arena, size_t bytes, void *state, const fornax_threads *threads) {
  fornax_step step;
  memset(&step, 0, sizeof step);
  step.size = sizeof step;
  step.abi = FORNAX_ABI;
  step.images = IMAGES;
  step.number = 1;
  step.rate = 0.003f;
  step.seed = keys.seed;
  step.keys = keys.of_images;
  step.input = images;
  step.targets = targets;
  step.loss = loss;
  step.logits = logits;
  step.state = state;
  step.state_bytes = net_state_bytes();
  step.arena = arena;
  step.arena_bytes = bytes;
  step.threads = threads;
  return step;
}

/* The same batch, in as many calls as it can be dealt to: of one image each, unless statistics are of more. */
static void one_by_one(fornax_step step) {
  for (int image = 0; image < IMAGES; image += NET_STEP_IMAGES) {
    fornax_step one = step;
    one.images = NET_STEP_IMAGES;
    one.keys = step.keys + image;
    one.input = images + (size_t)image * PIXELS;
    one.targets = targets + (size_t)image * CLASSES;
    one.loss = loss + image;
    one.logits = logits + (size_t)image * CLASSES;
    expect(net_gradients(&one), NET_OK, "gradients of a part");
  }
  expect(net_update(&step), NET_OK, "update");
}

static void right_use(uint32_t level, uint32_t count, const char *end, char *file) {
  struct host host = {count, 0, 0};
  fornax_threads threads = {sizeof threads, count, &host, parallel_for};
  size_t bytes = net_step_arena_bytes(count), n = net_state_bytes();
  void *arena = block(bytes), *state = block(n);
  char *saved = malloc(n);
  if (!prepared(arena, bytes, state, n, level)) goto out;
  fornax_step step = step_of(arena, bytes, state, count == 1 ? NULL : &threads);
  for (uint32_t number = 1; number <= STEPS; number++) {
    float norm = -1;
    step.number = number;
    step.epoch = number / 3;
    step.norm = &norm;
    if (number % 3 == 0) {
      one_by_one(step);
    } else {
      expect(net_step(&step), NET_OK, "step");
    }
    hold(memcmp(loss, expected[number - 1], sizeof loss) == 0, "other losses");
    hold(norm == norms[number - 1], "another norm");
  }
  memset(logits, 0, sizeof logits);
  step.loss = NULL;
  step.targets = NULL;
  step.keys = NULL;
  expect(net_predict(&step), NET_OK, "predict");
  hold(memcmp(logits, scores, sizeof logits) == 0, "other logits");
  expect(net_state_save(state, n, saved, n), NET_OK, "state_save");
  hold(memcmp(saved, end, n) == 0, "twenty steps end in another state than Rust's");
  expect(net_export(state, n, file, NET_EXPORT_BYTES), NET_OK, "export");
out:
  free(saved);
  free(state);
  free(arena);
}

/* Images without keys are known by their numbers in the call. */
static void numbered(fornax_step step) {
  static const uint64_t numbers[IMAGES] = {0, 1, 2, 3};
  float losses[IMAGES];
  step.keys = numbers;
  expect(net_gradients(&step), NET_OK, "gradients of images with keys");
  memcpy(losses, loss, sizeof loss);
  step.keys = NULL;
  expect(net_gradients(&step), NET_OK, "gradients of images without keys");
  hold(memcmp(loss, losses, sizeof loss) == 0, "losses of images without keys");
}

static void wrong_use(char *file) {
  size_t bytes = net_step_arena_bytes(0), n = net_state_bytes();
  void *arena = block(bytes), *state = block(n);
  hold(bytes == net_step_arena_bytes(1) && bytes < net_step_arena_bytes(2), "step_arena_bytes");
  fornax_step step = step_of(arena, bytes, state, NULL), wrong;
  expect(net_step(&step), NET_E_ARENA_INIT, "a step in an arena that is not initialised");
  expect(net_init(arena, bytes, NULL, 0, 0), NET_OK, "init");
  expect(net_step(&step), NET_E_STATE_FORMAT, "a step with a state that is not filled");
  expect(net_export(state, n, file, NET_EXPORT_BYTES), NET_E_STATE_FORMAT, "export of a state that is not filled");
  expect(net_state_init(state, n, arena), NET_OK, "state_init");
  int (*functions[])(const fornax_step *) = {net_predict, net_gradients, net_update, net_step};
  for (int k = 0; k < 4; k++) {
    expect(functions[k](NULL), NET_E_NULL, "a step of nothing");
    wrong = step;
    wrong.size--;
    expect(functions[k](&wrong), NET_E_ABI, "a step of another size");
    wrong = step;
    wrong.abi++;
    expect(functions[k](&wrong), NET_E_ABI, "a step of another abi");
    wrong = step;
    wrong.state_bytes--;
    expect(functions[k](&wrong), NET_E_STATE_SIZE, "a short state");
    wrong = step;
    wrong.arena_bytes = 64;
    expect(functions[k](&wrong), NET_E_ARENA_SIZE, "a short arena");
  }
  for (int k = 0; k < 2; k++) {
    wrong = step;
    wrong.images = 0;
    expect(functions[k](&wrong), NET_E_STEP, "no images");
    wrong = step;
    wrong.input = NULL;
    expect(functions[k](&wrong), NET_E_NULL, "images nowhere");
    wrong = step;
    wrong.logits = NULL;
    expect(functions[k](&wrong), NET_E_NULL, "logits nowhere");
  }
  wrong = step;
  wrong.targets = NULL;
  expect(net_gradients(&wrong), NET_E_NULL, "targets nowhere");
  wrong = step;
  wrong.loss = NULL;
  expect(net_step(&wrong), NET_E_NULL, "losses nowhere");
  for (int k = 2; k < 4; k++) {
    wrong = step;
    wrong.number = 0;
    expect(functions[k](&wrong), NET_E_STEP, "an update without a number");
    wrong = step;
    wrong.rate = 1e30f * 1e30f;
    expect(functions[k](&wrong), NET_E_STEP, "a rate that is not finite");
  }
  struct host host = {2, 5, 0};
  fornax_threads threads = {sizeof threads, 2, &host, parallel_for};
  size_t more = net_step_arena_bytes(2);
  void *large = block(more), *own = block(n);
  prepared(large, more, own, n, 0);
  wrong = step_of(large, more, own, &threads);
  expect(net_step(&wrong), NET_E_THREADS, "workers of numbers that there are not");
  expect(net_export(state, n, NULL, NET_EXPORT_BYTES), NET_E_NULL, "export to nowhere");
  expect(net_export(state, n, file, NET_EXPORT_BYTES - 1), NET_E_STATE_SIZE, "export of another size");
  hold(strcmp(net_strerror(NET_E_STEP), "unknown code") != 0, "the text of the last code");
  hold(strcmp(net_strerror(NET_E_STEP + 1), "unknown code") == 0, "the text of an unknown code");
  /* What was refused changed nothing. */
  expect(net_gradients(&step), NET_OK, "gradients");
  hold(memcmp(loss, expected[0], sizeof loss) == 0, "losses of the first step");
  numbered(step);
  bytes = net_selftest_bytes();
  void *test = block(bytes);
  expect(net_init(test, bytes, NULL, 0, 0), NET_OK, "init for selftest");
  int code = net_selftest(test, bytes);
  hold(code == NET_OK || code == NET_E_SELFTEST_UNKNOWN, "selftest");
  free(test);
  free(own);
  free(large);
  free(state);
  free(arena);
}

int main(int argc, char **argv) {
  (void)argv;
  size_t n = net_state_bytes();
  char *end = malloc(n), *file = malloc(NET_EXPORT_BYTES);
  load("images.bin", images, sizeof images);
  load("targets.bin", targets, sizeof targets);
  load("losses.bin", expected, sizeof expected);
  load("norms.bin", norms, sizeof norms);
  load("keys.bin", &keys, sizeof keys);
  load("scores.bin", scores, sizeof scores);
  load("end.bin", end, n);
  for (uint32_t level = 0; level < (argc > 1 ? 1u : 5u); level++) {
    if (level == 1) continue; /* without fused multiply-add: other bits */
    for (uint32_t threads = 1; threads < 3; threads++) right_use(level, threads, end, file);
  }
  FILE *out = fopen("exported.safetensors", "wb");
  if (out == NULL || fwrite(file, 1, NET_EXPORT_BYTES, out) != NET_EXPORT_BYTES || fclose(out) != 0) abort();
  wrong_use(file);
  free(file);
  free(end);
  return verdict();
}
