/* One library, many threads: each has an arena of its own, all compute the same bytes.
 *
 *   fornax compile examples/signs.onnx -o target/examples/signs.so --emit so,header
 *   cc -O2 -pthread -Itarget/examples examples/c/dlopen.c -ldl -o target/examples/dlopen
 *   target/examples/dlopen target/examples/signs.so examples/signs.input.npy 8 1000 target/examples/dlopen.f32
 */
#include <dlfcn.h>
#include <pthread.h>
#include <time.h>

#include "example.h"
#include "signs.h"

/* The library's functions, with the types that the header gives them. */
#define FUNCTIONS(F) F(arena_bytes) F(init) F(run) F(strerror)
#define FIELD(name) __typeof__(&signs_##name) name;
static struct { FUNCTIONS(FIELD) } signs;

static float *input, expected[CLASSES];
static unsigned long runs;

static void *arena_new(size_t *bytes) {
  *bytes = signs.arena_bytes(0, 1);
  void *arena = aligned(*bytes);
  int code = signs.init(arena, *bytes, NULL, 0, 0);
  if (code != SIGNS_OK) fail("init", signs.strerror(code));
  return arena;
}

static void run(void *arena, size_t arena_bytes, float *scores) {
  const void *inputs[] = {input};
  void *outputs[] = {scores};
  const size_t input_bytes[] = {INPUT * sizeof(float)}, output_bytes[] = {CLASSES * sizeof(float)};
  const fornax_call call = {
      .size = sizeof call, .abi = FORNAX_ABI, .binding = 0, .n_inputs = 1, .n_outputs = 1,
      .inputs = inputs, .input_bytes = input_bytes, .outputs = outputs, .output_bytes = output_bytes,
      .arena = arena, .arena_bytes = arena_bytes, .threads = NULL,
  };
  int code = signs.run(&call);
  if (code != SIGNS_OK) fail("run", signs.strerror(code));
}

/* Returns how many runs gave other bytes. */
static void *work(void *unused) {
  (void)unused;
  size_t bytes;
  uintptr_t different = 0;
  void *arena = arena_new(&bytes);
  for (unsigned long i = 0; i < runs; i++) {
    float scores[CLASSES];
    run(arena, bytes, scores);
    different += memcmp(scores, expected, sizeof scores) != 0;
  }
  free(arena);
  return (void *)different;
}

int main(int argc, char **argv) {
  if (argc < 3) fail("usage", "dlopen LIBRARY INPUT.npy [THREADS [RUNS [OUTPUT]]]");
  unsigned long threads = argc > 3 ? strtoul(argv[3], NULL, 10) : 8;
  runs = argc > 4 ? strtoul(argv[4], NULL, 10) : 1000;
  if (threads < 1 || threads > 1024 || runs < 1) fail("usage", "1 to 1024 threads, 1 run or more");

  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) fail("dlopen", dlerror());
#define LOAD(name) \
  if (!(*(void **)&signs.name = dlsym(library, "signs_" #name))) fail("dlsym", dlerror());
  FUNCTIONS(LOAD)

  input = read_npy(argv[2], INPUT);
  size_t bytes;
  void *arena = arena_new(&bytes);
  run(arena, bytes, expected);
  free(arena);

  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  pthread_t *all = calloc(threads, sizeof *all);
  for (unsigned long i = 0; i < threads; i++)
    if (pthread_create(&all[i], NULL, work, NULL)) fail("pthread_create", "refused");
  uintptr_t different = 0;
  for (unsigned long i = 0; i < threads; i++) {
    void *result;
    pthread_join(all[i], &result);
    different += (uintptr_t)result;
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);

  report(expected, argc > 5 ? argv[5] : NULL);
  printf("%lu threads x %lu runs: %lu different, %.0f runs/s\n", threads, runs, (unsigned long)different,
         (double)(threads * runs) / seconds);
  free(all);
  free(input);
  dlclose(library);
  return different != 0;
}
