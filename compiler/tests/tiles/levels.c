/* Initialises an arena for the levels of its arguments, in order, and runs the network where that succeeds. Of each it prints: the level, the code of
 * init, the index of the level that was chosen, whether the process may use tile registers. "small" first sets up an alternate stack of signals that is
 * too small for them. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net.h"

static void *aligned(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 64, bytes ? bytes : 64) != 0) exit(2);
  memset(memory, 0, bytes);
  return memory;
}

static size_t size_of(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END) != 0) exit(2);
  size_t bytes = (size_t)ftell(file);
  fclose(file);
  return bytes;
}

static void *content(const char *path) {
  size_t bytes = size_of(path);
  void *memory = aligned((bytes + 63) / 64 * 64);
  FILE *file = fopen(path, "rb");
  if (!file || fread(memory, 1, bytes, file) != bytes) exit(2);
  fclose(file);
  return memory;
}

static int permitted(void) {
  uint64_t bits = 0;
  syscall(SYS_arch_prctl, 0x1022 /* ARCH_GET_XCOMP_PERM */, &bits);
  return (int)(bits >> 18 & 1);
}

static unsigned control(void) { return __builtin_ia32_stmxcsr(); }

int main(int argc, char **argv) {
  const char *names[3] = {"x.bin", "weights.bin", "bias.bin"};
  const void *inputs[3];
  size_t input_bytes[3], output_bytes[1] = {NET_BINDING_0_OUTPUT_0_BYTES};
  for (int i = 0; i < 3; i++) {
    inputs[i] = content(names[i]);
    input_bytes[i] = size_of(names[i]);
  }
  void *outputs[1] = {aligned(output_bytes[0] + 64)};
  size_t n = net_arena_bytes(0, 1);
  void *arena = aligned(n);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "small") == 0) {
      stack_t small = {.ss_sp = aligned(4096), .ss_size = 4096};
      if (sigaltstack(&small, NULL) != 0) exit(3);
      continue;
    }
    memset(arena, 0, n);
    int code = net_init(arena, n, NULL, 0, (uint32_t)strtoul(argv[i], NULL, 10));
    if (code != NET_OK) {
      printf("%s %d - %d\n", argv[i], code, permitted());
      continue;
    }
    uint32_t level;
    memcpy(&level, (char *)arena + 16, sizeof level);
    printf("%s %d %u %d\n", argv[i], code, level, permitted());
    memset(outputs[0], 0xff, output_bytes[0]);
    unsigned before = control() & ~0x3fu;
    fornax_call call = {sizeof call, FORNAX_ABI, 0, 3, 1, inputs, input_bytes, outputs, output_bytes, arena, n, NULL};
    if ((code = net_run(&call)) != NET_OK) {
      fprintf(stderr, "run: %s\n", net_strerror(code));
      return 1;
    }
    if ((control() & ~0x3fu) != before) return 4;
    char path[64];
    snprintf(path, sizeof path, "y%s.bin", argv[i]);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(outputs[0], 1, output_bytes[0], file) != output_bytes[0] || fclose(file) != 0) return 5;
  }
  return 0;
}
