//! What lies inside a compiled library: one description for the compiler that writes it, the entry code inside it that
//! reads it, and the loader of this crate.
//!
//! ```text
//! ELF header, notes, symbols │ tables │ kernels, entry functions │ .dynamic │ weights (a page of their own) │ sections
//!            Note ───────────▶ Head ─▶ bindings × levels ─▶ plans ─▶ steps ─▶ arguments
//!                               └─▶ ports, text, signature, messages          WeightsHead, constants
//! ```
//!
//! Everything is little-endian. Offsets into the tables count from [`Head`], those of kernels from the first kernel, those of
//! constants from [`WeightsHead`]. Records hold u32 and u64 fields only, without padding, so a record has the same layout
//! as a file's bytes, as a Rust value and as loads of generated code. Weights may lie in a file of their own: its bytes
//! are those that would be embedded.

/// First bytes of the tables.
pub const TABLES_MAGIC: u64 = u64::from_le_bytes(*b"FRNXTABL");
/// First bytes of the weights.
pub const WEIGHTS_MAGIC: u64 = u64::from_le_bytes(*b"FRNXWGHT");
/// First bytes of an initialised arena.
pub const ARENA_MAGIC: u64 = u64::from_le_bytes(*b"FRNXARNA");
/// First bytes of a state: parameters and what is carried from run to run.
pub const STATE_MAGIC: u64 = u64::from_le_bytes(*b"FRNXSTAT");
/// Version of [`StateHead`] and what follows it.
pub const STATE_VERSION: u32 = 1;
/// Name of the ELF note, without its terminating zero.
pub const NOTE_NAME: &str = "Fornax";
/// Type of the ELF note.
pub const NOTE_TYPE: u32 = 1;
/// Version of these records. The entry functions carry [`crate::ABI_VERSION`].
pub const FORMAT_VERSION: u32 = 1;
/// Version of note and tables of a library that has parameters or states: a [`StateTable`] follows the [`Head`].
pub const FORMAT_WITH_STATE: u32 = 2;

/// Version of note and tables of a library that holds a training step: a [`StepTable`] follows the [`StateTable`].
pub const FORMAT_WITH_STEP: u32 = 3;

/// The binding of a training step that computes logits with what the parameters hold.
pub const STEP_PREDICT: usize = 0;
/// The binding of a training step that adds the gradients of some images to sums.
pub const STEP_GRADIENTS: usize = 1;
/// The binding of a training step that moves the parameters along the sums, and clears these.
pub const STEP_UPDATE: usize = 2;
/// Names of the bindings of a training step, which are all that its library has.
pub const STEP_BINDINGS: [&str; 3] = ["predict", "gradients", "update"];

/// Base of a kernel argument that is null.
pub const BASE_NULL: u64 = 0;
/// Base of the arena.
pub const BASE_ARENA: u64 = 1;
/// Base of the weights.
pub const BASE_WEIGHTS: u64 = 2;
/// Base of the first input; the other inputs follow, then the outputs, then the first variable where there is a state.
pub const BASE_PORTS: u64 = 3;
/// An argument is a base in the bits from here on, and a byte offset below.
pub const BASE_SHIFT: u32 = 48;
/// The most inputs, outputs and states of a binding: each has a base of its own.
pub const MAX_PORTS: u64 = (1 << (u64::BITS - BASE_SHIFT)) - BASE_PORTS;

/// Declares records of u32 and u64 fields, and how they are read from and appended to bytes.
macro_rules! records {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ident,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

        impl $name {
            /// Size of the record, bytes.
            pub const SIZE: usize = size_of::<$name>();

            /// The record at the beginning of `bytes`, or nothing if they are too few.
            pub fn read(bytes: &[u8]) -> Option<$name> {
                $(
                    const _: () = assert!(std::mem::offset_of!($name, $field).is_multiple_of(size_of::<$ty>()));
                    let at = std::mem::offset_of!($name, $field);
                    let $field = $ty::from_le_bytes(bytes.get(at..at + size_of::<$ty>())?.try_into().ok()?);
                )*
                (bytes.len() >= $name::SIZE).then_some($name { $($field,)* })
            }

            /// Appends the record to `bytes`.
            pub fn write(&self, bytes: &mut Vec<u8>) {
                const _: () = assert!($name::SIZE == 0 $(+ size_of::<$ty>())*, "no padding");
                $(bytes.extend_from_slice(&self.$field.to_le_bytes());)*
            }
        }
    )*};
}

records! {
    /// The description of the ELF note: where the parts are in the file, and the hash that guards them.
    struct Note {
        /// [`FORMAT_VERSION`], [`FORMAT_WITH_STATE`] or [`FORMAT_WITH_STEP`].
        version: u32,
        /// Zero.
        reserved: u32,
        /// File offset of the tables.
        tables: u64,
        /// Size of the tables.
        tables_bytes: u64,
        /// File offset of the first kernel: a multiple of 4096.
        kernels: u64,
        /// Size of the kernels.
        kernels_bytes: u64,
        /// File offset of the weights, a multiple of 4096; 0 if they are in a file of their own.
        weights: u64,
        /// Size of the weights in this file; 0 if they are in a file of their own.
        weights_bytes: u64,
        /// Size of their beginning that `hash` covers: the [`WeightsHead`] and the constants that kernels compute addresses from.
        guarded_bytes: u64,
        /// XXH64 (seed 0) of the file, with this field zero, without the weights after their guarded beginning.
        hash: u64,
    }

    /// What a state begins with, at a multiple of 64. The variables follow, at their offsets from here on.
    struct StateHead {
        /// [`STATE_MAGIC`].
        magic: u64,
        /// [`STATE_VERSION`].
        version: u32,
        /// Zero.
        reserved: u32,
        /// Size of the state, this header included.
        bytes: u64,
        /// Hash of the names, types and offsets of the variables.
        layout: u64,
        /// XXH64 (seed 0) of everything from byte 64 on where the state is saved; zero in one that runs use.
        hash: u64,
        /// Zero.
        reserved_a: u64,
        /// Zero.
        reserved_b: u64,
        /// Zero.
        reserved_c: u64,
    }

    /// What follows the [`Head`] in a library of [`FORMAT_WITH_STATE`] or [`FORMAT_WITH_STEP`].
    struct StateTable {
        /// [`StateHead::layout`] that a state has.
        layout: u64,
        /// Size of a state without its header.
        bytes: u64,
        /// Offset in the weights of what a state begins with.
        initial: u64,
        /// Offset of the [`Variable`]s.
        variables_at: u32,
        /// Number of variables.
        variables: u32,
    }

    /// What follows the [`StateTable`] in a library of [`FORMAT_WITH_STEP`].
    struct StepTable {
        /// How much of a state without its header the weights hold; the rest begins with zeros.
        initial_bytes: u64,
        /// Size of the file that `export` writes.
        export_bytes: u64,
        /// Offset of what that file begins with.
        export_head_at: u32,
        /// Size of what that file begins with.
        export_head_bytes: u32,
        /// Offset of the numbers, u32 each, of the variables that follow in that file.
        exported_at: u32,
        /// Number of these variables.
        exported: u32,
        /// Offset of a number for each plan, u32 each: how many of its first steps depend on variables alone, of which it writes none. Run
        /// once, they need not run again until a variable has been written or the arena was used otherwise.
        prologues_at: u32,
        /// Images that a run of `predict` and `gradients` takes.
        images: u32,
    }

    /// A parameter or state.
    struct Variable {
        /// Size.
        bytes: u64,
        /// Offset after the [`StateHead`], a multiple of 64.
        offset: u64,
        /// Name: an offset into the text.
        name: u32,
        /// Position in [`crate::DType::ALL`].
        dtype: u32,
        /// Number of extents.
        rank: u32,
        /// Index of its first extent.
        first_dim: u32,
        /// Position in [`crate::VariableKind::ALL`].
        kind: u32,
        /// Zero.
        reserved: u32,
    }

    /// What the weights begin with, padded to 64 bytes. Constants follow, each at a multiple of 64.
    struct WeightsHead {
        /// [`WEIGHTS_MAGIC`].
        magic: u64,
        /// [`FORMAT_VERSION`].
        version: u32,
        /// Zero.
        reserved: u32,
        /// Size of the weights, this header included.
        bytes: u64,
        /// Hash of what the kernels expect where: equal for models that differ in the values of their weights only.
        layout: u64,
        /// XXH64 (seed 0) of everything from byte 64 on.
        hash: u64,
        /// Zero.
        reserved_a: u64,
        /// Zero.
        reserved_b: u64,
        /// Zero.
        reserved_c: u64,
    }

    /// The beginning of the tables.
    struct Head {
        /// [`TABLES_MAGIC`].
        magic: u64,
        /// That of the note.
        version: u32,
        /// [`crate::Arch::number`].
        arch: u32,
        /// Size that the weights have.
        weights_bytes: u64,
        /// [`WeightsHead::layout`] that the weights have.
        layout: u64,
        /// [`WeightsHead::hash`] of the weights that `selftest_hash` is for.
        weights_hash: u64,
        /// Hash of the outputs of a selftest on levels with fused multiply-add; see [`mix`].
        selftest_hash: u64,
        /// Bytes that `selftest` needs.
        selftest_bytes: u64,
        /// 1 if `selftest_hash` and the samples hold values.
        selftest: u32,
        /// Offset of the [`Sample`]s.
        samples: u32,
        /// Number of samples.
        samples_len: u32,
        /// Number of bindings.
        bindings: u32,
        /// Offset of the [`Binding`]s.
        bindings_at: u32,
        /// Number of levels.
        levels: u32,
        /// Offset of the numbers of the levels, u32 each, ascending.
        levels_at: u32,
        /// Offset of the [`Plan`]s, one per level for the first binding, then for the next.
        plans_at: u32,
        /// Offset of the [`Step`]s.
        steps_at: u32,
        /// Number of steps of all plans.
        steps: u32,
        /// Offset of the arguments, u64 each.
        args_at: u32,
        /// Number of arguments of all steps.
        args: u32,
        /// Offset of the [`Port`]s.
        ports_at: u32,
        /// Number of ports of all bindings.
        ports: u32,
        /// Offset of the extents, u64 each.
        dims_at: u32,
        /// Number of extents.
        dims: u32,
        /// Offset of the text.
        text_at: u32,
        /// Size of the text.
        text_bytes: u32,
        /// Offset of the signature, which ends in a zero byte.
        signature_at: u32,
        /// Size of the signature without the zero.
        signature_bytes: u32,
        /// Offset of the offsets, u32 each, of one message per [`Status`]; each ends in a zero byte.
        messages_at: u32,
        /// Bytes of [`ArenaHead`], bases and pointers, a multiple of 64: where the rest of an arena begins.
        front_bytes: u32,
    }

    /// One set of shapes.
    struct Binding {
        /// What `arena_bytes` gives without scratch.
        fixed_bytes: u64,
        /// What each thread adds to it.
        scratch_stride: u64,
        /// Bytes after the front that hold copies of inputs and outputs whose size is no multiple of 64.
        staging_bytes: u64,
        /// Index of its first port: inputs, then outputs.
        first_port: u32,
        /// Number of inputs.
        inputs: u32,
        /// Number of outputs.
        outputs: u32,
        /// 1 if kernels run with subnormals as zeros ([`crate::FloatMode::Flush`]), 0 if not; the same in every binding, as the entry
        /// functions set one mode.
        flush: u32,
    }

    /// One binding on one level.
    struct Plan {
        /// Size of the plan's own arena.
        arena_bytes: u64,
        /// Scratch of a worker.
        scratch_bytes: u64,
        /// Index of its first step.
        first_step: u32,
        /// Number of steps.
        steps: u32,
    }

    /// One kernel call.
    struct Step {
        /// Floating-point operations.
        flops: u64,
        /// Bytes read and written.
        bytes: u64,
        /// Offset of the kernel.
        kernel: u32,
        /// Size of the kernel.
        kernel_bytes: u32,
        /// Index of its first argument.
        first_arg: u32,
        /// Number of arguments.
        args: u32,
        /// Number of chunks.
        chunks: u32,
        /// Fewest chunks to claim at once.
        grain: u32,
        /// Name of the kernel: an offset into the text.
        name: u32,
        /// Name of the node, and names of the model's nodes; see [`node_text`]: an offset into the text.
        node: u32,
    }

    /// An input or output. A text is a u32 length and as many bytes.
    struct Port {
        /// Size.
        bytes: u64,
        /// Offset of its copy in the staging area; unused if its size is a multiple of 64.
        staging: u64,
        /// Name: an offset into the text.
        name: u32,
        /// Position in [`crate::DType::ALL`].
        dtype: u32,
        /// Number of extents.
        rank: u32,
        /// Index of its first extent.
        first_dim: u32,
    }

    /// A value of a selftest's output, for levels that round differently.
    struct Sample {
        /// Byte offset in the output.
        offset: u64,
        /// Index of the output.
        output: u32,
        /// The f32, as bits.
        value: u32,
        /// The largest difference, an f32 as bits.
        tolerance: u32,
        /// Zero.
        reserved: u32,
    }

    /// What `init` writes at the beginning of an arena. The bases (u64: null, arena, weights, inputs, outputs, variables) follow, then
    /// the pointers of a step.
    struct ArenaHead {
        /// [`ARENA_MAGIC`].
        magic: u64,
        /// Address of the weights.
        weights: u64,
        /// Index of the level.
        level: u32,
        /// Set when a host's worker or chunk had an impossible number.
        failed: u32,
        /// The step under way: address of the kernel.
        kernel: u64,
        /// Address of the pointers.
        pointers: u64,
        /// Address of the first worker's scratch.
        scratch: u64,
        /// Distance to the next worker's scratch.
        stride: u64,
        /// Number of chunks of the step under way.
        chunks: u64,
        /// How many of them a worker runs at once.
        grain: u64,
        /// Number of workers.
        workers: u64,
    }
}

/// C's `fornax_threads`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// `sizeof(fornax_threads)`.
    pub size: u32,
    /// Number of workers, the caller included.
    pub count: u32,
    /// First argument of `parallel_for`.
    pub this: u64,
    /// Calls `body(ctx, chunk, worker)` once for each chunk and returns when all have returned.
    pub parallel_for: u64,
}

/// C's `fornax_call`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// `sizeof(fornax_call)`.
    pub size: u32,
    /// [`crate::ABI_VERSION`].
    pub abi: u32,
    /// Index of the binding.
    pub binding: u32,
    /// Number of inputs.
    pub n_inputs: u32,
    /// Number of outputs.
    pub n_outputs: u32,
    /// Zero.
    pub reserved: u32,
    /// Their addresses.
    pub inputs: u64,
    /// Their sizes.
    pub input_bytes: u64,
    /// Their addresses.
    pub outputs: u64,
    /// Their sizes.
    pub output_bytes: u64,
    /// An initialised arena.
    pub arena: u64,
    /// Its size.
    pub arena_bytes: u64,
    /// A [`Threads`], or null.
    pub threads: u64,
}

/// C's `fornax_step`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StepCall {
    /// `sizeof(fornax_step)`.
    pub size: u32,
    /// [`crate::ABI_VERSION`].
    pub abi: u32,
    /// Number of images, a multiple of [`StepTable::images`].
    pub images: u32,
    /// Number of the update, from 1.
    pub number: u32,
    /// The learning rate, the bits of an f32.
    pub rate: u32,
    /// Zero.
    pub reserved: u32,
    /// What is dropped depends on this, on `epoch` and on an image's key.
    pub seed: u64,
    /// The pass over the images under way.
    pub epoch: u64,
    /// A u64 for each image, or null for 0, 1, 2, ….
    pub keys: u64,
    /// The images, one after the other.
    pub input: u64,
    /// A weight of each class of each image.
    pub targets: u64,
    /// Where the loss of each image goes.
    pub loss: u64,
    /// Where the logits of each image go.
    pub logits: u64,
    /// Where the norm of the gradients before they were clipped goes, or null.
    pub norm: u64,
    /// A filled state.
    pub state: u64,
    /// Its size.
    pub state_bytes: u64,
    /// An initialised arena.
    pub arena: u64,
    /// Its size.
    pub arena_bytes: u64,
    /// A [`Threads`], or null.
    pub threads: u64,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident, $c:literal, $message:literal;)*) => {
        /// What the functions of a compiled library return.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Status { $($(#[$doc])* $name,)* }

        impl Status {
            /// Every status with its name in C, after the prefix, and what `strerror` says.
            pub const ALL: &[(Status, &str, &str)] = &[$((Status::$name, $c, $message),)*];

            /// The statuses that a library of a version of the format returns: those about states and steps only where there are any.
            pub fn of_format(version: u32) -> &'static [(Status, &'static str, &'static str)] {
                let known = match version {
                    FORMAT_VERSION => Status::StateMissing as usize,
                    FORMAT_WITH_STATE => Status::Step as usize,
                    _ => Status::ALL.len(),
                };
                &Status::ALL[..known]
            }
        }
    };
}

statuses! {
    /// Success.
    Ok, "OK", "success";
    /// A pointer is null.
    Null, "E_NULL", "a pointer that must lead somewhere is NULL";
    /// Another version, or another size of a struct.
    Abi, "E_ABI", "the abi version or the size of a struct is not that of this library's header";
    /// No such binding.
    Binding, "E_BINDING", "the library has no binding of this number";
    /// No such level.
    Level, "E_LEVEL", "the library has no code for this level";
    /// The processor cannot run it.
    Cpu, "E_CPU", "the processor cannot run the code of this level, or of any level of the library";
    /// Fewer bytes than `arena_bytes` says.
    ArenaSize, "E_ARENA_SIZE", "the arena is smaller than arena_bytes says";
    /// Not a multiple of 64.
    ArenaAlign, "E_ARENA_ALIGN", "the arena does not begin at a multiple of 64";
    /// `init` has not been called.
    ArenaInit, "E_ARENA_INIT", "the arena was not initialised by this library's init";
    /// Weights are neither embedded nor given.
    WeightsMissing, "E_WEIGHTS_MISSING", "the library has no weights of its own, and none were given";
    /// Not weights, or of the wrong size.
    WeightsFormat, "E_WEIGHTS_FORMAT", "the weights are not a Fornax weights file of the expected length, at a multiple of 64";
    /// Of another network.
    WeightsLayout, "E_WEIGHTS_LAYOUT", "the weights are those of another network or of another version of the compiler";
    /// Damaged.
    WeightsHash, "E_WEIGHTS_HASH", "the weights are damaged: their hash is not the one they state";
    /// Wrong number of inputs or outputs.
    TensorCount, "E_TENSOR_COUNT", "the number of inputs or outputs is not that of the binding";
    /// Wrong size of an input or output.
    TensorBytes, "E_TENSOR_BYTES", "the size of an input or output is not that of the binding";
    /// Nonsense in `fornax_threads`.
    Threads, "E_THREADS", "the number of threads is 0, parallel_for is NULL, or it called with a chunk or worker beyond their numbers";
    /// Wrong results.
    Selftest, "E_SELFTEST", "the self test computed something else than the compiler did";
    /// Nothing to compare with.
    SelftestUnknown, "E_SELFTEST_UNKNOWN", "the library has no self-test values for these weights";
    /// `run` of a network with parameters or states.
    StateMissing, "E_STATE_MISSING", "the network has a state: run it with run_with_state";
    /// Fewer bytes than `state_bytes` says.
    StateSize, "E_STATE_SIZE", "the state is smaller than state_bytes says, or a saved one has another size";
    /// Not a state, or of other variables.
    StateFormat, "E_STATE_FORMAT", "not a state of this network at a multiple of 64, or a saved one that is damaged";
    /// No such variable.
    StateName, "E_STATE_NAME", "the network has no parameter or state of this name";
    /// Nonsense in `fornax_step`.
    Step, "E_STEP", "a step of no images or of a part of a run, an update with the number 0, or a learning rate that is not finite";
}

/// What the text of a step's node holds: its name, and where the model's nodes that the step computes are others, their names, each
/// after a zero byte.
pub fn node_text(node: &str, origins: &[String]) -> String {
    // A text ends nowhere else, so a zero byte in a name is replaced.
    let plain = |name: &str| name.replace('\0', "\u{fffd}");
    let mut text = plain(node);
    if origins != [node] {
        let names = origins.iter().map(|name| plain(name)).collect::<Vec<_>>();
        text = format!("{text}\0{}", names.join("\0"));
    }
    text
}

/// The name of a step's node and those of the model's nodes from a text that [`node_text`] gave, or from a name alone, as libraries before
/// it hold.
pub fn node_names(text: &str) -> (&str, Vec<&str>) {
    match text.split_once('\0') {
        Some((node, names)) => (node, names.split('\0').filter(|name| !name.is_empty()).collect()),
        None => (text, vec![text]),
    }
}

/// Bits of element `index`, counted over all inputs, of a selftest: SplitMix64 of its position.
pub fn selftest_bits(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The f32 that a selftest makes of [`selftest_bits`]: a multiple of 2^-23 in -1..1.
pub fn selftest_f32(bits: u64) -> f32 {
    ((bits >> 40) as i32 - (1 << 23)) as f32 / (1 << 23) as f32
}

/// A selftest's hash after one more element of an output. A NaN counts as 0x7fc00000, whatever its bits.
pub fn mix(hash: u64, element: u64) -> u64 {
    (hash ^ element).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let step = Step {
            flops: 1,
            bytes: 2,
            kernel: 3,
            kernel_bytes: 4,
            first_arg: 5,
            args: 6,
            chunks: 7,
            grain: 8,
            name: 9,
            node: 10,
        };
        let mut bytes = Vec::new();
        step.write(&mut bytes);
        assert_eq!(bytes.len(), Step::SIZE);
        assert_eq!(Step::read(&bytes), Some(step));
        assert_eq!(Step::read(&bytes[1..]), None);
        assert_eq!((WeightsHead::SIZE, StateHead::SIZE, Head::SIZE % 8), (64, 64, 0));
    }

    #[test]
    fn names_of_nodes_read_back() {
        let origins = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (node, names) in [("a", &["a"][..]), ("a", &["b"]), ("a", &["b", "a"]), ("a", &[])] {
            assert_eq!(node_names(&node_text(node, &origins(names))), (node, names.to_vec()));
        }
        assert_eq!(node_text("a", &origins(&["a"])), "a", "the text that libraries always held");
        assert_eq!(node_names(&node_text("a\0b", &origins(&["c\0d"]))), ("a\u{fffd}b", vec!["c\u{fffd}d"]));
    }

    #[test]
    fn codes_count_from_zero() {
        for (position, (code, ..)) in Status::ALL.iter().enumerate() {
            assert_eq!(*code as usize, position);
        }
    }

    #[test]
    fn selftest_values() {
        let values: Vec<f32> = (0..1000).map(|i| selftest_f32(selftest_bits(i))).collect();
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!(values.iter().sum::<f32>().abs() < 100.0);
        assert_ne!(mix(mix(0, 1), 2), mix(mix(0, 2), 1));
    }
}
