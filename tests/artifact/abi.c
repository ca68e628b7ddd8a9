/* Calls every function of a library of the demo with two bindings (batch 1 and 2): right, then wrong.
 *
 *   abi WEIGHTS     with input.bin and expected.bin (batch 1) in the current folder
 */
#include "harness.h"

#define INPUT (3 * 96 * 96)
#define OUTPUT 12

static char *load_all(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) abort();
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  fclose(file);
  char *data = block((*bytes + 63) / 64 * 64);
  load(path, data, *bytes);
  return data;
}

static float input[2 * INPUT], expected[OUTPUT], output[2 * OUTPUT];

/* Whether the output is `copies` times the expected one: bit for bit, but on levels that multiply and add. */
static int right(int copies, uint32_t level) {
  for (int k = 0; k < copies * OUTPUT; k++) {
    float found = output[k], wanted = expected[k % OUTPUT];
    if (level == 1 && sizeof(void *) == 8 && net_arena_bytes(9, 1) == 0) {
      float difference = found > wanted ? found - wanted : wanted - found;
      if (!(difference < 1e-3f)) return 0;
    } else if (memcmp(&found, &wanted, 4) != 0) {
      return 0;
    }
  }
  return 1;
}

static const void *inputs[1] = {input};
static void *outputs[1] = {output};
static size_t input_bytes[1], output_bytes[1];

static fornax_call call_of(uint32_t binding, void *arena, const fornax_threads *threads) {
  fornax_call call;
  memset(&call, 0, sizeof call);
  input_bytes[0] = (binding + 1) * INPUT * sizeof(float);
  output_bytes[0] = (binding + 1) * OUTPUT * sizeof(float);
  call.size = sizeof call;
  call.abi = FORNAX_ABI;
  call.binding = binding;
  call.n_inputs = call.n_outputs = 1;
  call.inputs = inputs;
  call.input_bytes = input_bytes;
  call.outputs = outputs;
  call.output_bytes = output_bytes;
  call.arena = arena;
  call.arena_bytes = net_arena_bytes(binding, threads ? threads->count : 1);
  call.threads = threads;
  return call;
}

static void right_use(uint32_t level) {
  size_t bytes = net_arena_bytes(1, 4);
  void *arena = block(bytes);
  int code = net_init(arena, bytes, NULL, 0, level);
  if (level != 0 && (code == NET_E_CPU || code == NET_E_LEVEL)) {
    free(arena);
    return;
  }
  expect(code, NET_OK, "init");
  uint32_t used = level == 0 ? 9 : level;
#ifdef __aarch64__
  used = 9;
#endif
  expect(net_run_simple(input, output, arena), NET_OK, "run_simple");
  hold(right(1, used), "run_simple computes something else");
  struct host host = {3, 0, 0};
  fornax_threads threads = {sizeof threads, 3, &host, parallel_for};
  for (uint32_t binding = 0; binding < NET_BINDINGS; binding++) {
    for (int parallel = 0; parallel < 2; parallel++) {
      memset(output, 0, sizeof output);
      fornax_call call = call_of(binding, arena, parallel ? &threads : NULL);
      expect(net_run(&call), NET_OK, "run");
      hold(right((int)binding + 1, used), "run computes something else");
    }
  }
  free(arena);
  bytes = net_selftest_bytes();
  arena = block(bytes);
  expect(net_init(arena, bytes, NULL, 0, level), NET_OK, "init for selftest");
  expect(net_selftest(arena, bytes), NET_OK, "selftest");
  expect(net_selftest(arena, bytes - 1), NET_E_ARENA_SIZE, "selftest in a short arena");
  expect(net_selftest((char *)arena + 8, bytes), NET_E_ARENA_ALIGN, "selftest in a misaligned arena");
  free(arena);
}

static void wrong_init(void) {
  size_t bytes = net_arena_bytes(0, 1);
  char *arena = block(bytes + 64);
  expect(net_init(NULL, bytes, NULL, 0, 0), NET_E_NULL, "init without an arena");
  expect(net_init(arena + 4, bytes, NULL, 0, 0), NET_E_ARENA_ALIGN, "init of a misaligned arena");
  expect(net_init(arena, 63, NULL, 0, 0), NET_E_ARENA_SIZE, "init of a short arena");
  expect(net_init(arena, 0, NULL, 0, 0), NET_E_ARENA_SIZE, "init of an empty arena");
  expect(net_init(arena, bytes, NULL, 0, 77), NET_E_LEVEL, "init for an unknown level");
  expect(net_run_simple(input, output, arena), NET_E_ARENA_INIT, "run in an arena that is not initialised");
  free(arena);
}

static void wrong_calls(void) {
  size_t bytes = net_arena_bytes(0, 1);
  char *arena = block(bytes);
  expect(net_init(arena, bytes, NULL, 0, 0), NET_OK, "init");
  expect(net_run(NULL), NET_E_NULL, "no call");
#define WRONG(change, code)                       \
  do {                                            \
    fornax_call call = call_of(0, arena, NULL);   \
    change;                                       \
    expect(net_run(&call), code, #change);        \
  } while (0)
  WRONG(call.size--, NET_E_ABI);
  WRONG(call.abi++, NET_E_ABI);
  WRONG(call.binding = 2, NET_E_BINDING);
  WRONG(call.binding = UINT32_MAX, NET_E_BINDING);
  WRONG(call.arena = NULL, NET_E_NULL);
  WRONG(call.arena = arena + 32, NET_E_ARENA_ALIGN);
  WRONG(call.arena_bytes--, NET_E_ARENA_SIZE);
  WRONG(call.arena_bytes = 0, NET_E_ARENA_SIZE);
  WRONG(call.n_inputs = 0, NET_E_TENSOR_COUNT);
  WRONG(call.n_inputs = 2, NET_E_TENSOR_COUNT);
  WRONG(call.n_outputs = 0, NET_E_TENSOR_COUNT);
  WRONG(call.inputs = NULL, NET_E_NULL);
  WRONG(call.input_bytes = NULL, NET_E_NULL);
  WRONG(call.outputs = NULL, NET_E_NULL);
  WRONG(call.output_bytes = NULL, NET_E_NULL);
  WRONG(input_bytes[0]--, NET_E_TENSOR_BYTES);
  WRONG(output_bytes[0] += 4, NET_E_TENSOR_BYTES);
  const void *no_input[1] = {NULL};
  WRONG(call.inputs = no_input, NET_E_NULL);
  void *no_output[1] = {NULL};
  WRONG(call.outputs = no_output, NET_E_NULL);
  struct host host = {1, 0, 0};
  fornax_threads threads = {sizeof threads, 1, &host, parallel_for};
  fornax_threads changed = threads;
  changed.size++;
  WRONG(call.threads = &changed, NET_E_ABI);
  changed = threads, changed.count = 0;
  WRONG(call.threads = &changed, NET_E_THREADS);
  changed = threads, changed.parallel_for = NULL;
  WRONG(call.threads = &changed, NET_E_THREADS);
  changed = threads, changed.count = UINT32_MAX;
  WRONG(call.threads = &changed, net_arena_bytes(0, 2) == net_arena_bytes(0, 1) ? NET_OK : NET_E_ARENA_SIZE);
  host.offset = 5;
  WRONG(call.threads = &threads, NET_E_THREADS);
  host.offset = 0, host.extra = 300;
  WRONG(call.threads = &threads, NET_E_THREADS);
  host.extra = 0;
  WRONG(call.threads = &threads, NET_OK);
  WRONG((void)0, NET_OK);
  hold(right(1, 9) || net_init(arena, bytes, NULL, 0, 3) != NET_OK, "wrong calls change the result of right ones");
  free(arena);
}

static void weights(const char *path) {
  size_t bytes = net_arena_bytes(0, 1), n;
  char *arena = block(bytes), *data = load_all(path, &n);
  expect(net_init(arena, bytes, data, n, 0), NET_OK, "init with weights");
  expect(net_run_simple(input, output, arena), NET_OK, "run with weights");
  hold(right(1, 9) || net_init(arena, bytes, data, n, 3) != NET_OK, "run with weights computes something else");
  expect(net_init(arena, bytes, data, n - 64, 0), NET_E_WEIGHTS_FORMAT, "short weights");
  expect(net_init(arena, bytes, data, 0, 0), NET_E_WEIGHTS_FORMAT, "empty weights");
  expect(net_init(arena, bytes, data + 4, n, 0), NET_E_WEIGHTS_FORMAT, "misaligned weights");
  for (size_t at = 0; at < n; at += at < 64 ? 1 : n / 97) {
    data[at] ^= 0x10;
    int code = net_init(arena, bytes, data, n, 0);
    hold(code == NET_E_WEIGHTS_FORMAT || code == NET_E_WEIGHTS_LAYOUT || code == NET_E_WEIGHTS_HASH, "damaged weights");
    data[at] ^= 0x10;
  }
  expect(net_init(arena, bytes, data, n, 0), NET_OK, "init with mended weights");
  free(data);
  free(arena);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  load("input.bin", input, INPUT * sizeof(float));
  memcpy(input + INPUT, input, INPUT * sizeof(float));
  load("expected.bin", expected, sizeof expected);
  hold(net_arena_bytes(2, 1) == 0, "an arena for no binding");
  hold(net_arena_bytes(0, 0) == net_arena_bytes(0, 1), "no threads are one");
  for (uint32_t level = 0; level < 5; level++) right_use(level);
  wrong_init();
  wrong_calls();
  weights(argv[1]);
  hold(net_signature()[0] == '{' && net_signature()[strlen(net_signature()) - 1] == '}', "a signature is an object");
  hold(strcmp(net_strerror(0), "success") == 0, "success");
  hold(strcmp(net_strerror(-1), "unknown code") == 0 && strcmp(net_strerror(99), "unknown code") == 0, "unknown codes");
  return verdict();
}
