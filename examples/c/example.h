/* What the examples share: memory, a .npy file of f32, the best class. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT = 3 * 96 * 96, CLASSES = 12 }; /* of signs.onnx: see the bindings in its header */

static inline void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* A block for an arena: a multiple of 64 that begins at one. */
static inline void *aligned(size_t bytes) {
  void *block = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!block) fail("memory", "not enough");
  return block;
}

/* The `count` values of a .npy file of version 1: magic, version, u16 length of the header, header, values. */
static inline float *read_npy(const char *path, size_t count) {
  unsigned char begin[10];
  char header[65536];
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened");
  if (fread(begin, 1, 10, file) != 10 || memcmp(begin, "\x93NUMPY\x01", 7)) fail(path, "not a .npy file of version 1");
  size_t length = begin[8] | (size_t)begin[9] << 8;
  if (fread(header, 1, length, file) != length) fail(path, "ends in its header");
  header[length] = 0;
  if (!strstr(header, "'<f4'") || !strstr(header, "'fortran_order': False")) fail(path, "not f32 in C order");
  float *values = aligned(count * sizeof *values);
  if (fread(values, sizeof *values, count, file) != count || fgetc(file) != EOF) fail(path, "another number of values");
  fclose(file);
  return values;
}

/* Prints the best class, and writes all scores to a file if there is a path. */
static inline void report(const float *scores, const char *path) {
  int best = 0;
  for (int i = 1; i < CLASSES; i++)
    if (scores[i] > scores[best]) best = i;
  printf("class %d, score %.9g\n", best, scores[best]);
  if (!path) return;
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(scores, sizeof *scores, CLASSES, file) != CLASSES || fclose(file)) fail(path, "cannot be written");
}

#endif
