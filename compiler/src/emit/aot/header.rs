//! The C header of a library.
//!
//! In: plans and prefix. Out: the declarations of the exported functions, the types they take, the numbers of codes and
//! levels, and the sizes of the tensors of each binding. It compiles as C99 and as C++, and together with the headers of other libraries.

mod step;

use std::fmt::Write;

use fornax_runtime::artifact::{STEP_BINDINGS, StateHead, Status};
use fornax_runtime::{ABI_VERSION, LiveOutput, live_outputs};

use super::{Memory, Network};
use crate::plan::{Plan, Port, Variable};
use fornax_ir::types::DType;

/// Whether `run_simple` fits: one input and one output of f32.
pub fn simple(plan: &Plan) -> bool {
    let one = |ports: &[Port]| matches!(ports, [port] if port.ty.dtype == DType::F32);
    one(&plan.inputs) && one(&plan.outputs)
}

/// Types of every library, declared once.
const TYPES: &str = "\
#ifndef FORNAX_TYPES
#define FORNAX_TYPES

/* The host's threads. parallel_for calls body(ctx, chunk, worker) once for each chunk below `chunks`, in any order and on
 * any thread, and returns when all calls have returned. Two calls under way at the same time have different workers,
 * all below `count`. */
typedef struct fornax_threads {
  uint32_t size; /* sizeof(fornax_threads) */
  uint32_t count;
  void *self; /* first argument of parallel_for */
  void (*parallel_for)(void *self, uint32_t chunks, void (*body)(void *ctx, uint32_t chunk, uint32_t worker), void *ctx);
} fornax_threads;

typedef struct fornax_call {
  uint32_t size; /* sizeof(fornax_call) */
  uint32_t abi;  /* FORNAX_ABI */
  uint32_t binding;
  uint32_t n_inputs;
  uint32_t n_outputs;
  const void *const *inputs; /* dense, row-major, little-endian, at any address; apart from the outputs */
  const size_t *input_bytes;
  void *const *outputs;
  const size_t *output_bytes;
  void *arena; /* initialised; used by one call at a time */
  size_t arena_bytes;
  const fornax_threads *threads; /* NULL: run on the calling thread */
} fornax_call;

#endif /* FORNAX_TYPES */
";

/// The header of a library.
pub fn write_header<'a>(prefix: &str, network: impl Into<Network<'a>>, embedded: bool) -> String {
    let network = network.into();
    let Network { plans, step } = network;
    let upper = prefix.to_uppercase();
    let mut out = String::new();
    let first = plans.first().and_then(|levels| levels.first());
    let name = first.map_or(String::new(), |plan| comment(&plan.name));
    put(&mut out, &format!("/* {name}, compiled by Fornax {}. */", env!("CARGO_PKG_VERSION")));
    put(&mut out, &format!("#ifndef {upper}_FORNAX_H\n#define {upper}_FORNAX_H\n"));
    put(&mut out, "#include <stddef.h>\n#include <stdint.h>\n");
    put(&mut out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n");
    put(&mut out, &format!("#ifndef FORNAX_ABI\n#define FORNAX_ABI {ABI_VERSION}u\n#endif\n"));
    put(&mut out, TYPES);
    put(&mut out, "/* What the functions return. */\nenum {");
    for (number, (_, code, message)) in Status::of_format(network.format_version()).iter().enumerate() {
        put(&mut out, &format!("  {upper}_{code} = {number}, /* {message} */"));
    }
    put(&mut out, "};\n");
    levels(&mut out, &upper, plans);
    let tiles = plans.iter().flatten().any(|plan| plan.target.vectors().tiles);
    bindings(&mut out, &upper, network);
    if let Some(plan) = first.filter(|plan| !plan.variables.is_empty()) {
        variables(&mut out, &upper, plan);
        functions(&mut out, prefix, [false, embedded, tiles]);
        out.push_str(&STATE_FUNCTIONS.replace("{prefix}", prefix));
        if let Some(step) = step {
            step::write(&mut out, prefix, plans, step);
        }
    } else {
        functions(&mut out, prefix, [first.is_some_and(simple), embedded, tiles]);
    }
    put(&mut out, "#ifdef __cplusplus\n}\n#endif\n");
    put(&mut out, &format!("#endif /* {upper}_FORNAX_H */"));
    out
}

/// Text that neither ends a comment nor begins one, and shows what it is.
fn comment(text: &str) -> String {
    text.escape_default().to_string().replace("*/", "* /").replace("/*", "/ *")
}

fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn levels(out: &mut String, upper: &str, plans: &[Vec<Plan>]) {
    put(out, "/* Levels that the library holds code for; 0 asks init for the best that the processor runs. */\nenum {");
    for level in plans.iter().take(1).flatten().map(|plan| plan.target.level) {
        let name = level.name.to_uppercase().replace('-', "_");
        put(out, &format!("  {upper}_LEVEL_{name} = {}, /* {} */", level.number, level.about));
    }
    put(out, "};\n");
}

fn bindings(out: &mut String, upper: &str, Network { plans, step }: Network<'_>) {
    let memory = Memory::of(plans);
    put(
        out,
        if step.is_some() { "/* Bindings: the parts of a training step." } else { "/* Bindings: sets of shapes." },
    );
    for (number, (plan, memory)) in plans.iter().filter_map(|levels| levels.first()).zip(&memory).enumerate() {
        let name =
            STEP_BINDINGS.get(number).filter(|_| step.is_some()).map_or(String::new(), |name| format!(" {name},"));
        put(out, &format!(" * {number}:{name} arena of {} bytes on one thread", memory.arena_bytes(1)));
        for (kind, ports) in [("input", &plan.inputs), ("output", &plan.outputs)] {
            for (index, port) in ports.iter().enumerate() {
                let name = comment(&port.name);
                put(out, &format!(" *    {kind} {index}: {name}, {}, {} bytes", port.ty, port.ty.bytes()));
            }
        }
        for LiveOutput { output, axis, count } in live_outputs(&plan.outputs.iter().map(port).collect::<Vec<_>>()) {
            put(
                out,
                &format!(
                    " *    of output {output} the first slices along axis {axis} are there, output {count} says how many"
                ),
            );
        }
    }
    put(out, " */");
    put(out, &format!("#define {upper}_BINDINGS {}", plans.len()));
    for (number, plan) in plans.iter().filter_map(|levels| levels.first()).enumerate() {
        for (kind, ports) in [("INPUT", &plan.inputs), ("OUTPUT", &plan.outputs)] {
            for (index, port) in ports.iter().enumerate() {
                let bytes = port.ty.bytes();
                put(out, &format!("#define {upper}_BINDING_{number}_{kind}_{index}_BYTES ((size_t){bytes}u)"));
            }
        }
    }
    put(out, "");
}

/// An output as programs have it.
fn port(port: &Port) -> fornax_runtime::Port {
    fornax_runtime::Port { name: port.name.clone(), dtype: port.ty.dtype, shape: port.ty.shape.clone() }
}

/// The parameters and states, and the size of the block that holds them.
fn variables(out: &mut String, upper: &str, plan: &Plan) {
    put(out, "/* Parameters and states, by the names that parameter_get and parameter_set take.");
    for Variable { kind, name, initial, .. } in &plan.variables {
        put(out, &format!(" *    {kind} {}, {}, {} bytes", comment(name), initial.ty, initial.ty.bytes()));
    }
    put(out, " */");
    put(out, &format!("#define {upper}_STATE_BYTES ((size_t){}u)\n", StateHead::SIZE + plan.state_bytes()));
}

/// Functions of a network that has a state.
const STATE_FUNCTIONS: &str = "\
/* This network has a state: the parameters, which may be written between runs, and what a run leaves for the next. It lies in a
 * block of the caller's of n bytes, at least {prefix}_state_bytes(), at a multiple of 64. One block serves every binding, one
 * run at a time; blocks are independent, and may be moved. {prefix}_run refuses this network. */
size_t {prefix}_state_bytes(void);

/* Fills a state with what the weights of an initialised arena hold. */
int {prefix}_state_init(void *state, size_t n, const void *arena);

/* Runs the network once, and leaves its updates in the state. */
int {prefix}_run_with_state(const fornax_call *call, void *state, size_t n);

/* Reads or writes a parameter or state between two runs; bytes is its exact size. */
int {prefix}_parameter_get(const void *state, size_t n, const char *name, void *data, size_t bytes);
int {prefix}_parameter_set(void *state, size_t n, const char *name, const void *data, size_t bytes);

/* Copies a state to or from saved_n bytes at any address, exactly {prefix}_state_bytes(), with a hash that state_load checks. The
 * saved bytes are those of Session::save_state in Rust, on every level and architecture. */
int {prefix}_state_save(const void *state, size_t n, void *saved, size_t saved_n);
int {prefix}_state_load(void *state, size_t n, const void *saved, size_t saved_n);

";

fn functions(out: &mut String, prefix: &str, [simple, embedded, tiles]: [bool; 3]) {
    let asks = if tiles {
        "\n * With level 0 or that of tile registers the process asks the operating system for these, where the processor has them: it has the\n\
         \x20* permission from then on, and so have its children. Refused, level 0 is the next best level."
    } else {
        ""
    };
    let weights = if embedded {
        "weights is NULL for those in the library, or leads to a weights file of the same network"
    } else {
        "weights leads to the library's weights file"
    };
    _ = write!(
        out,
        "\
/* Size of the arena, a block of the caller's at a multiple of 64, one per concurrent call; 0 if there is no such binding. */
size_t {prefix}_arena_bytes(uint32_t binding, uint32_t threads);

/* Prepares an arena. {weights}: weights_n bytes at a multiple
 * of 64, checked by hash, which must stay while the arena is used.{asks} */
int {prefix}_init(void *arena, size_t n, const void *weights, size_t weights_n, uint32_t level);

/* Runs the network once. Calls with arenas of their own may run at the same time. */
int {prefix}_run(const fornax_call *call);

"
    );
    if simple {
        _ = write!(
            out,
            "\
/* Runs binding 0 once on the calling thread; the arena has {prefix}_arena_bytes(0, 1) bytes. */
int {prefix}_run_simple(const float *input, float *output, void *arena);

"
        );
    }
    _ = write!(
        out,
        "\
/* Runs binding 0 on synthetic (pseudo-random) inputs and compares the outputs with the compiler's. The arena is initialised and has n bytes, at
 * least {prefix}_selftest_bytes(). */
int {prefix}_selftest(void *arena, size_t n);
size_t {prefix}_selftest_bytes(void);

/* JSON: inputs, outputs, preprocessing, labels, versions. */
const char *{prefix}_signature(void);

/* What a code means. */
const char *{prefix}_strerror(int code);

"
    );
}
