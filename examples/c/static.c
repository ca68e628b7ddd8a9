/* A network linked into the program; no library to ship.
 *
 *   fornax compile examples/signs.onnx -o target/examples/signs.so --emit so,a,obj,header
 *   cc -O2 -static -Itarget/examples examples/c/static.c target/examples/signs.a -o target/examples/static
 *   target/examples/static examples/signs.input.npy target/examples/static.f32
 *
 * signs.o in place of signs.a does the same, and -static may go.
 */
#include "example.h"
#include "signs.h"

int main(int argc, char **argv) {
  if (argc < 2) fail("usage", "static INPUT.npy [OUTPUT]");
  float *input = read_npy(argv[1], INPUT), scores[CLASSES];
  size_t bytes = signs_arena_bytes(0, 1);
  void *arena = aligned(bytes);
  int code = signs_init(arena, bytes, NULL, 0, 0);
  if (code == SIGNS_OK) code = signs_run_simple(input, scores, arena);
  if (code != SIGNS_OK) fail("signs", signs_strerror(code));
  report(scores, argc > 2 ? argv[2] : NULL);
  free(arena);
  free(input);
  return 0;
}
