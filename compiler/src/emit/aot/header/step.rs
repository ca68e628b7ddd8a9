//! What the header of a training step says besides that of a network with a state.

use fornax_runtime::artifact::{STEP_GRADIENTS, STEP_PREDICT};

use super::{comment, put};
use crate::emit::aot::StepSpec;
use crate::plan::Plan;

/// The struct that every function of a step takes, declared once.
const TYPE: &str = "\
#ifndef FORNAX_STEP
#define FORNAX_STEP

/* Some images and all that a step needs besides. Images lie one after the other; so do targets, losses and logits. */
typedef struct fornax_step {
  uint32_t size;   /* sizeof(fornax_step) */
  uint32_t abi;    /* FORNAX_ABI */
  uint32_t images; /* how many; update reads none */
  uint32_t number; /* of the update, from 1 */
  float rate;      /* the learning rate */
  uint32_t reserved;
  uint64_t seed;        /* what is dropped of an image depends on seed, epoch and key, and on nothing else */
  uint64_t epoch;       /* the pass over the images under way */
  const uint64_t *keys; /* of each image, by which it is known in every epoch; NULL: 0, 1, 2, ... */
  const void *input;    /* at any address, like targets, losses and logits */
  const float *targets; /* a weight for each class of each image */
  float *loss;          /* of each image: minus the sum of target times log softmax */
  float *logits;        /* a score for each class of each image */
  float *norm;          /* of all gradients before update clips them; NULL: not wanted */
  void *state; /* filled; used by one call at a time */
  size_t state_bytes;
  void *arena; /* initialised; used by one call at a time */
  size_t arena_bytes;
  const fornax_threads *threads; /* NULL: run on the calling thread */
} fornax_step;

#endif /* FORNAX_STEP */

";

const FUNCTIONS: &str = "\
/* This network learns: its parameters, which lie in the state, are moved along gradients of the cross-entropy of images with known
 * classes, by {about}.
 * A batch is one call of {prefix}_step with all its images. Targets are 1 for the class that an image shows and 0 for the others, divided by the
 * number of images in the batch; smoothed or soft ones are as good. Bits depend on images, their order, targets, rates and numbers, what
 * is dropped on seed, epoch and keys: not on threads, level, or how the images of a batch are dealt to calls of {prefix}_gradients, but for batch norms
 * by the statistics of a run. */

/* Size of an arena that serves every call of a step, at a multiple of 64. */
size_t {prefix}_step_arena_bytes(uint32_t threads);

/* Logits of images as the network has them that {prefix}_export would write now; reads neither targets nor losses, and changes nothing. */
int {prefix}_predict(const fornax_step *step);

/* Adds the gradients of images to the sums in the state; losses and logits are those before the update. */
int {prefix}_gradients(const fornax_step *step);

/* Moves the parameters along the sums, and clears these; reads neither images nor targets. Gradients that are clipped have their norm
 * left in norm. */
int {prefix}_update(const fornax_step *step);

/* gradients, then update. */
int {prefix}_step(const fornax_step *step);

/* Writes the trained parameters, or their averages if there are any, as a safetensors file of {upper}_EXPORT_BYTES bytes, under the names of the model they came from. */
int {prefix}_export(const void *state, size_t n, void *file, size_t bytes);

";

/// Sizes, the struct, and the functions of a step.
pub fn write(out: &mut String, prefix: &str, plans: &[Vec<Plan>], step: &StepSpec) {
    let upper = prefix.to_uppercase();
    let first = |binding: usize| plans.get(binding).and_then(|levels| levels.first());
    let (Some(predict), Some(gradients)) = (first(STEP_PREDICT), first(STEP_GRADIENTS)) else { return };
    out.push_str(TYPE);
    let each = |bytes: usize| bytes / step.images.max(1);
    let input = predict.inputs.first().map_or(0, |port| each(port.ty.bytes()));
    let classes = gradients.inputs.get(1).map_or(0, |port| each(port.ty.shape.iter().product()));
    put(out, "/* Bytes and classes of an image; images of a call are a multiple of the last number. */");
    put(out, &format!("#define {upper}_IMAGE_BYTES ((size_t){input}u)"));
    put(out, &format!("#define {upper}_CLASSES {classes}"));
    put(out, &format!("#define {upper}_STEP_IMAGES {}", step.images));
    put(out, &format!("#define {upper}_EXPORT_BYTES ((size_t){}u)\n", step.export(predict).1));
    let functions = FUNCTIONS.replace("{prefix}", prefix).replace("{upper}", &upper);
    out.push_str(&functions.replace("{about}", &comment(&step.about)));
}
