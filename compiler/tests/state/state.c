/* Runs the network of network.rs a hundred times on every level and 1 to 3 threads, with its state in blocks of this program; then
 * uses every function wrongly. Files of the current folder hold inputs, the rewritten parameter, outputs and saved states. */
#include "harness.h"

enum { ROWS = 3, INPUTS = 40, OUTPUTS = 24, RUNS = 100, REWRITE = 30, SAVED = 50 };

static float inputs[RUNS][ROWS * INPUTS], weight[INPUTS * OUTPUTS];
static struct {
  float y[OUTPUTS], most[ROWS];
} expected[RUNS], found;
static char saved[NET_STATE_BYTES], end[NET_STATE_BYTES];

static const size_t input_bytes[1] = {sizeof inputs[0]}, output_bytes[2] = {sizeof found.y, sizeof found.most};
static const void *input_list[1];
static void *output_list[2] = {found.y, found.most};

static fornax_call call_of(int run, void *arena, const fornax_threads *threads) {
  fornax_call call;
  memset(&call, 0, sizeof call);
  input_list[0] = inputs[run];
  call.size = sizeof call;
  call.abi = FORNAX_ABI;
  call.n_inputs = 1;
  call.n_outputs = 2;
  call.inputs = input_list;
  call.input_bytes = input_bytes;
  call.outputs = output_list;
  call.output_bytes = output_bytes;
  call.arena = arena;
  call.arena_bytes = net_arena_bytes(0, threads ? threads->count : 1);
  call.threads = threads;
  return call;
}

static void step(int run, void *arena, void *state, size_t n, const fornax_threads *threads) {
  if (run == REWRITE) expect(net_parameter_set(state, n, "layer.weight", weight, sizeof weight), NET_OK, "parameter_set");
  fornax_call call = call_of(run, arena, threads);
  memset(&found, 0, sizeof found);
  expect(net_run_with_state(&call, state, n), NET_OK, "run_with_state");
  hold(memcmp(&found, &expected[run], sizeof found) == 0, "a run computes something else");
}

static void right_use(uint32_t level, uint32_t count) {
  struct host host = {count, 0, 0};
  fornax_threads threads = {sizeof threads, count, &host, parallel_for};
  const fornax_threads *used = count == 1 ? NULL : &threads;
  size_t bytes = net_arena_bytes(0, count), n = net_state_bytes();
  void *arena = block(bytes), *first = block(n), *second = block(n + 64);
  char *written = malloc(n + 1);
  if (!prepared(arena, bytes, first, n, level)) goto out;
  expect(net_state_init(second, n, arena), NET_OK, "state_init of another");
  int64_t runs = 0;
  expect(net_parameter_get(first, n, "runs", &runs, sizeof runs), NET_OK, "parameter_get");
  hold(runs == 7, "the first value of runs");
  for (int run = 0; run < RUNS; run++) {
    if (run == SAVED) {
      expect(net_state_save(first, n, written + 1, n), NET_OK, "state_save");
      hold(memcmp(written + 1, saved, n) == 0, "the saved state is not that of Rust");
    }
    step(run, arena, first, n, used);
    if (run > 0) step(run - 1, arena, second, n, used); /* one run behind, in the same arena */
  }
  expect(net_parameter_get(first, n, "runs", &runs, sizeof runs), NET_OK, "parameter_get");
  hold(runs == 7 + RUNS, "the last value of runs");
  expect(net_state_save(first, n, written, n), NET_OK, "state_save");
  hold(memcmp(written, end, n) == 0, "the state at the end is not that of Rust");
  /* On from the saved state, in a block that was moved. */
  expect(net_state_load(second, n + 64, saved, n), NET_OK, "state_load");
  memcpy(first, second, n);
  for (int run = SAVED; run < RUNS; run++) step(run, arena, first, n, used);
  expect(net_state_save(first, n, written, n), NET_OK, "state_save");
  hold(memcmp(written, end, n) == 0, "the restored state ends elsewhere");
out:
  free(written);
  free(second);
  free(first);
  free(arena);
}

static void wrong_use(void) {
  size_t bytes = net_arena_bytes(0, 1), n = net_state_bytes();
  char *arena = block(bytes), *state = block(n + 64), copy[NET_STATE_BYTES];
  float y[OUTPUTS];
  hold(n == NET_STATE_BYTES, "NET_STATE_BYTES");
  expect(net_state_init(state, n, arena), NET_E_ARENA_INIT, "state_init from an arena that is not initialised");
  expect(net_init(arena, bytes, NULL, 0, 0), NET_OK, "init");
  fornax_call call = call_of(0, arena, NULL);
  expect(net_run(&call), NET_E_STATE_MISSING, "run without a state");
  expect(net_run_with_state(&call, state, n), NET_E_STATE_FORMAT, "run with a state that is not filled");
  expect(net_state_save(state, n, copy, n), NET_E_STATE_FORMAT, "state_save of one that is not filled");
  expect(net_parameter_get(state, n, "sum", y, sizeof y), NET_E_STATE_FORMAT, "parameter_get of one that is not filled");
  expect(net_state_init(NULL, n, arena), NET_E_NULL, "state_init of nothing");
  expect(net_state_init(state, n, NULL), NET_E_NULL, "state_init from nothing");
  expect(net_state_init(state + 8, n, arena), NET_E_STATE_FORMAT, "state_init of a misaligned state");
  expect(net_state_init(state, n, arena + 8), NET_E_ARENA_ALIGN, "state_init from a misaligned arena");
  expect(net_state_init(state, n - 1, arena), NET_E_STATE_SIZE, "state_init of a short state");
  expect(net_state_init(state, n, arena), NET_OK, "state_init");
  expect(net_run_with_state(NULL, state, n), NET_E_NULL, "run without a call");
  expect(net_run_with_state(&call, NULL, n), NET_E_NULL, "run with no state");
  expect(net_run_with_state(&call, state, 0), NET_E_STATE_SIZE, "run with an empty state");
  expect(net_run_with_state(&call, state + 32, n), NET_E_STATE_FORMAT, "run with a misaligned state");
  call.abi++;
  expect(net_run_with_state(&call, state, n), NET_E_ABI, "run of another abi");
  const char *strange[] = {"", "su", "sum ", "Sum", "sum.", "layer.weigh", "layer.weight.x", "none"};
  for (size_t k = 0; k < sizeof strange / sizeof *strange; k++) {
    expect(net_parameter_get(state, n, strange[k], y, sizeof y), NET_E_STATE_NAME, strange[k]);
  }
  expect(net_parameter_get(state, n, NULL, y, sizeof y), NET_E_NULL, "parameter_get without a name");
  expect(net_parameter_get(state, n, "sum", NULL, sizeof y), NET_E_NULL, "parameter_get into nothing");
  expect(net_parameter_get(state, n, "sum", y, sizeof y - 4), NET_E_TENSOR_BYTES, "parameter_get of another size");
  expect(net_parameter_set(state, n, "sum", y, sizeof y + 4), NET_E_TENSOR_BYTES, "parameter_set of another size");
  expect(net_parameter_set(NULL, n, "sum", y, sizeof y), NET_E_NULL, "parameter_set of nothing");
  expect(net_state_save(state, n, NULL, n), NET_E_NULL, "state_save to nothing");
  expect(net_state_save(state, n, copy, n - 1), NET_E_STATE_SIZE, "state_save to fewer bytes");
  expect(net_state_load(state, n, NULL, n), NET_E_NULL, "state_load of nothing");
  expect(net_state_load(state, n, saved, n - 1), NET_E_STATE_SIZE, "state_load of fewer bytes");
  expect(net_state_load(state, n - 64, saved, n), NET_E_STATE_SIZE, "state_load into a short state");
  expect(net_state_load(state, n, state, n), NET_E_STATE_FORMAT, "state_load of a state without a hash");
  memcpy(copy, saved, n);
  for (size_t at = 0; at < n; at++) {
    copy[at] ^= (char)(1 << (at % 8));
    expect(net_state_load(state, n, copy, n), NET_E_STATE_FORMAT, "state_load of a damaged state");
    copy[at] ^= (char)(1 << (at % 8));
  }
  expect(net_state_load(state, n, copy, n), NET_OK, "state_load");
  bytes = net_selftest_bytes();
  char *test = block(bytes);
  expect(net_init(test, bytes, NULL, 0, 0), NET_OK, "init for selftest");
  int code = net_selftest(test, bytes);
  hold(code == NET_OK || code == NET_E_SELFTEST_UNKNOWN, "selftest");
  expect(net_selftest(test, bytes - 1), NET_E_ARENA_SIZE, "selftest in a short arena");
  hold(strcmp(net_strerror(NET_E_STATE_NAME), "unknown code") != 0, "the text of the last code");
  hold(strcmp(net_strerror(NET_E_STATE_NAME + 1), "unknown code") == 0, "the text of an unknown code");
  free(test);
  free(state);
  free(arena);
}

int main(void) {
  load("inputs.bin", inputs, sizeof inputs);
  load("weight.bin", weight, sizeof weight);
  load("expected.bin", expected, sizeof expected);
  load("saved.bin", saved, sizeof saved);
  load("end.bin", end, sizeof end);
  for (uint32_t level = 0; level < 5; level++) {
    for (uint32_t threads = 1; threads < 4; threads++) right_use(level, threads);
  }
  wrong_use();
  return verdict();
}
