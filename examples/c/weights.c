/* Weights in a file of their own, mapped: processes share its pages, and another file of the same network can replace it.
 *
 *   fornax compile examples/signs.onnx -o target/examples/apart.so --weights file --emit a,header
 *   cc -O2 -Itarget/examples examples/c/weights.c target/examples/apart.a -o target/examples/weights
 *   target/examples/weights target/examples/apart.weights examples/signs.input.npy target/examples/weights.f32
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apart.h"
#include "example.h"

int main(int argc, char **argv) {
  if (argc < 3) fail("usage", "weights WEIGHTS INPUT.npy [OUTPUT]");
  struct stat status;
  int file = open(argv[1], O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &status)) fail(argv[1], "cannot be opened");
  size_t weights_bytes = (size_t)status.st_size;
  /* A mapping begins at a page, so at a multiple of 64. It must stay until the last run. */
  void *weights = mmap(NULL, weights_bytes, PROT_READ, MAP_PRIVATE, file, 0);
  if (weights == MAP_FAILED) fail(argv[1], "cannot be mapped");
  close(file);

  float *input = read_npy(argv[2], INPUT), scores[CLASSES];
  size_t bytes = apart_arena_bytes(0, 1);
  void *arena = aligned(bytes);
  int code = apart_init(arena, bytes, weights, weights_bytes, 0); /* reads and hashes all of them */
  if (code == APART_OK) code = apart_run_simple(input, scores, arena);
  if (code != APART_OK) fail(argv[1], apart_strerror(code));
  report(scores, argc > 3 ? argv[3] : NULL);
  free(arena);
  free(input);
  munmap(weights, weights_bytes);
  return 0;
}
