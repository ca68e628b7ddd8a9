/* What C programs that test a library share: checks that are counted, blocks of memory, files, a host's threads.
 *
 * The library is called `net`, and its header lies in the folder of the program. */
#include "net.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(int found, int code, const char *what) {
  if (found != code) {
    printf("%s: expected %d (%s), found %d (%s)\n", what, code, net_strerror(code), found, net_strerror(found));
    failures++;
  }
}

static void hold(int condition, const char *what) {
  if (!condition) {
    printf("%s\n", what);
    failures++;
  }
}

/* What a program ends with. */
static int verdict(void) {
  if (failures == 0) printf("all checks hold\n");
  return failures != 0;
}

static void *block(size_t bytes) {
  void *p = NULL;
  if (posix_memalign(&p, 64, bytes) != 0) abort();
  memset(p, 0xff, bytes); /* NaNs: nothing may be read before it is written */
  return p;
}

/* A file of exactly that size. */
static void load(const char *path, void *to, size_t bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fread(to, 1, bytes, file) != bytes || fgetc(file) != EOF) abort();
  fclose(file);
}

#ifdef NET_STATE_BYTES
/* Initialises an arena for a level, and fills a state; 0 where the processor does not run the level. */
static int prepared(void *arena, size_t bytes, void *state, size_t n, uint32_t level) {
  int code = net_init(arena, bytes, NULL, 0, level);
  if (level != 0 && (code == NET_E_CPU || code == NET_E_LEVEL)) return 0;
  expect(code, NET_OK, "init");
  expect(net_state_init(state, n, arena), NET_OK, "state_init");
  return 1;
}
#endif

/* A host's parallel_for: threads of its own for every call. It lies about workers by `offset` and about chunks by `extra`. */
struct host {
  uint32_t count, offset, extra;
};
struct share {
  uint32_t first, step, chunks, worker;
  void (*body)(void *, uint32_t, uint32_t);
  void *ctx;
};

static void *some(void *argument) {
  struct share *share = argument;
  for (uint32_t k = share->first; k < share->chunks; k += share->step) share->body(share->ctx, k, share->worker);
  return NULL;
}

static void parallel_for(void *self, uint32_t chunks, void (*body)(void *, uint32_t, uint32_t), void *ctx) {
  struct host *host = self;
  pthread_t threads[8];
  struct share shares[8];
  for (uint32_t t = 0; t < host->count; t++) {
    struct share share = {t, host->count, chunks + host->extra, t + host->offset, body, ctx};
    shares[t] = share;
    if (pthread_create(&threads[t], NULL, some, &shares[t]) != 0) abort();
  }
  for (uint32_t t = 0; t < host->count; t++) pthread_join(threads[t], NULL);
}
