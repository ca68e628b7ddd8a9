/* One run on the host's own threads: a small pool as parallel_for. The bits do not depend on it.
 *
 *   fornax compile examples/signs.onnx -o target/examples/signs.so --emit so,a,header
 *   cc -O2 -pthread -Itarget/examples examples/c/parallel.c target/examples/signs.a -o target/examples/parallel
 *   target/examples/parallel examples/signs.input.npy 2 1000 target/examples/parallel.f32
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "example.h"
#include "signs.h"

typedef void body_fn(void *ctx, uint32_t chunk, uint32_t worker);

/* Worker 0 is the caller. Another takes part in a job if it is awake before the chunks are gone. */
typedef struct pool {
  uint32_t workers, born, active; /* active: of workers 1.. in the job */
  int stop;
  pthread_t *threads;
  body_fn *body;
  void *ctx;
  uint32_t chunks;
  atomic_uint next; /* chunk */
  atomic_int open;  /* chunks are left */
  pthread_mutex_t lock;
  pthread_cond_t wake, idle;
} pool;

static void take_chunks(pool *p, uint32_t worker) {
  for (uint32_t chunk; (chunk = atomic_fetch_add(&p->next, 1)) < p->chunks;) p->body(p->ctx, chunk, worker);
}

static void *work(void *self) {
  pool *p = self;
  pthread_mutex_lock(&p->lock);
  uint32_t worker = ++p->born;
  while (!p->stop) {
    if (!p->open) {
      pthread_cond_wait(&p->wake, &p->lock);
      continue;
    }
    p->active++;
    pthread_mutex_unlock(&p->lock);
    take_chunks(p, worker);
    pthread_mutex_lock(&p->lock);
    p->open = 0;
    if (!--p->active) pthread_cond_signal(&p->idle);
    pthread_mutex_unlock(&p->lock);
    /* The steps of a run follow each other within microseconds: look for the next before sleeping. */
    for (int spins = 0; spins < 20000 && !p->open; spins++) continue;
    pthread_mutex_lock(&p->lock);
  }
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

static void parallel_for(void *self, uint32_t chunks, body_fn *body, void *ctx) {
  pool *p = self;
  pthread_mutex_lock(&p->lock);
  p->body = body;
  p->ctx = ctx;
  p->chunks = chunks;
  p->next = 0;
  p->open = 1;
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->lock);
  take_chunks(p, 0);
  pthread_mutex_lock(&p->lock);
  p->open = 0; /* who comes now is too late */
  while (p->active) pthread_cond_wait(&p->idle, &p->lock);
  pthread_mutex_unlock(&p->lock);
}

static void pool_open(pool *p, uint32_t workers) {
  *p = (pool){.workers = workers, .threads = calloc(workers, sizeof(pthread_t))};
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->wake, NULL);
  pthread_cond_init(&p->idle, NULL);
  for (uint32_t i = 1; i < workers; i++)
    if (pthread_create(&p->threads[i], NULL, work, p)) fail("pthread_create", "refused");
}

static void pool_close(pool *p) {
  pthread_mutex_lock(&p->lock);
  p->stop = 1;
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->lock);
  for (uint32_t i = 1; i < p->workers; i++) pthread_join(p->threads[i], NULL);
  pthread_cond_destroy(&p->idle);
  pthread_cond_destroy(&p->wake);
  pthread_mutex_destroy(&p->lock);
  free(p->threads);
}

/* Runs `runs` times, returns microseconds per run. */
static double run(const float *input, float *scores, const fornax_threads *threads, unsigned long runs) {
  size_t bytes = signs_arena_bytes(0, threads ? threads->count : 1);
  void *arena = aligned(bytes);
  const void *inputs[] = {input};
  void *outputs[] = {scores};
  const size_t input_bytes[] = {INPUT * sizeof(float)}, output_bytes[] = {CLASSES * sizeof(float)};
  const fornax_call call = {
      .size = sizeof call, .abi = FORNAX_ABI, .binding = 0, .n_inputs = 1, .n_outputs = 1,
      .inputs = inputs, .input_bytes = input_bytes, .outputs = outputs, .output_bytes = output_bytes,
      .arena = arena, .arena_bytes = bytes, .threads = threads,
  };
  struct timespec begin, end;
  int code = signs_init(arena, bytes, NULL, 0, 0);
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (unsigned long i = 0; i < runs && code == SIGNS_OK; i++) code = signs_run(&call);
  clock_gettime(CLOCK_MONOTONIC, &end);
  if (code != SIGNS_OK) fail("signs", signs_strerror(code));
  free(arena);
  return (1e6 * (double)(end.tv_sec - begin.tv_sec) + 1e-3 * (double)(end.tv_nsec - begin.tv_nsec)) / (double)runs;
}

int main(int argc, char **argv) {
  if (argc < 2) fail("usage", "parallel INPUT.npy [THREADS [RUNS [OUTPUT]]]");
  unsigned long workers = argc > 2 ? strtoul(argv[2], NULL, 10) : 2, runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;
  if (workers < 1 || workers > 1024 || runs < 1) fail("usage", "1 to 1024 threads, 1 run or more");
  float *input = read_npy(argv[1], INPUT), alone[CLASSES], together[CLASSES];

  pool p;
  pool_open(&p, (uint32_t)workers);
  const fornax_threads threads = {
      .size = sizeof threads, .count = p.workers, .self = &p, .parallel_for = parallel_for};
  double one = run(input, alone, NULL, runs), all = run(input, together, &threads, runs);
  pool_close(&p);

  int same = !memcmp(alone, together, sizeof alone);
  report(together, argc > 4 ? argv[4] : NULL);
  printf("1 thread: %.0f us, %lu threads: %.0f us, %s bits\n", one, workers, all, same ? "the same" : "OTHER");
  free(input);
  return !same;
}
