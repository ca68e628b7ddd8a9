//! A hand-made library: `y[i] = 2 x[i] + c[i]` in two steps through the arena, four elements a chunk, for two shapes.
#![allow(dead_code, reason = "each test program uses a part")]

use std::ops::Range;

use fornax_runtime::artifact::{
    BASE_ARENA, BASE_NULL, BASE_PORTS, BASE_SHIFT, BASE_WEIGHTS, Binding, FORMAT_VERSION, FORMAT_WITH_STATE,
    FORMAT_WITH_STEP, Head, NOTE_NAME, NOTE_TYPE, Note, Plan, Port, StateTable, Status, Step, StepTable, TABLES_MAGIC,
    Variable, WEIGHTS_MAGIC, WeightsHead,
};
use fornax_runtime::{Arch, DType, StateParts, VariableKind};
use xxhash_rust::xxh64::{Xxh64, xxh64};

/// Elements of a chunk.
pub const CHUNK: usize = 4;
/// Chunks of the bindings.
pub const CHUNKS: [usize; 2] = [33, 5];
pub const MANIFEST: &str = "{\"name\":\"tést\"}";
/// Levels in the library: the code is the same.
pub const LEVELS: &[u32] = if cfg!(target_arch = "x86_64") { &[1, 3, 4] } else { &[1] };
/// What the constants are a layout of.
const LAYOUT: u64 = 0x1234_5678_9abc_def0;
const PAGE: usize = 4096;

/// `y = 2 x` by way of scratch, then `y = a + c`, with the convention of `KernelFn`.
#[cfg(target_arch = "x86_64")]
const KERNELS: [&[u8]; 2] = [
    &[
        0x48, 0x8b, 0x07, // mov rax, [rdi]
        0x4c, 0x8b, 0x47, 0x08, // mov r8, [rdi+8]
        0x39, 0xd6, // 1: cmp esi, edx
        0x73, 0x1e, // jae 2f
        0x41, 0x89, 0xf1, // mov r9d, esi
        0x49, 0xc1, 0xe1, 0x04, // shl r9, 4
        0x42, 0x0f, 0x10, 0x04, 0x08, // movups xmm0, [rax+r9]
        0x0f, 0x58, 0xc0, // addps xmm0, xmm0
        0x0f, 0x11, 0x01, // movups [rcx], xmm0
        0x0f, 0x10, 0x01, // movups xmm0, [rcx]
        0x43, 0x0f, 0x11, 0x04, 0x08, // movups [r8+r9], xmm0
        0xff, 0xc6, // inc esi
        0xeb, 0xde, // jmp 1b
        0xc3, // 2: ret
    ],
    &[
        0x48, 0x8b, 0x07, // mov rax, [rdi]
        0x4c, 0x8b, 0x47, 0x08, // mov r8, [rdi+8]
        0x4c, 0x8b, 0x57, 0x10, // mov r10, [rdi+16]
        0x39, 0xd6, // 1: cmp esi, edx
        0x73, 0x1d, // jae 2f
        0x41, 0x89, 0xf1, // mov r9d, esi
        0x49, 0xc1, 0xe1, 0x04, // shl r9, 4
        0x42, 0x0f, 0x10, 0x04, 0x08, // movups xmm0, [rax+r9]
        0x43, 0x0f, 0x10, 0x0c, 0x08, // movups xmm1, [r8+r9]
        0x0f, 0x58, 0xc1, // addps xmm0, xmm1
        0x43, 0x0f, 0x11, 0x04, 0x0a, // movups [r10+r9], xmm0
        0xff, 0xc6, // inc esi
        0xeb, 0xdf, // jmp 1b
        0xc3, // 2: ret
    ],
];
#[cfg(target_arch = "aarch64")]
const KERNELS: [&[u8]; 2] = [
    &[
        0x04, 0x00, 0x40, 0xf9, // ldr x4, [x0]
        0x05, 0x04, 0x40, 0xf9, // ldr x5, [x0, #8]
        0x3f, 0x00, 0x02, 0x6b, // 1: cmp w1, w2
        0x22, 0x01, 0x00, 0x54, // b.hs 2f
        0x26, 0x7c, 0x7c, 0xd3, // ubfiz x6, x1, #4, #32
        0x80, 0x68, 0xe6, 0x3c, // ldr q0, [x4, x6]
        0x00, 0xd4, 0x20, 0x4e, // fadd v0.4s, v0.4s, v0.4s
        0x60, 0x00, 0x80, 0x3d, // str q0, [x3]
        0x60, 0x00, 0xc0, 0x3d, // ldr q0, [x3]
        0xa0, 0x68, 0xa6, 0x3c, // str q0, [x5, x6]
        0x21, 0x04, 0x00, 0x11, // add w1, w1, #1
        0xf7, 0xff, 0xff, 0x17, // b 1b
        0xc0, 0x03, 0x5f, 0xd6, // 2: ret
    ],
    &[
        0x04, 0x00, 0x40, 0xf9, // ldr x4, [x0]
        0x05, 0x04, 0x40, 0xf9, // ldr x5, [x0, #8]
        0x07, 0x08, 0x40, 0xf9, // ldr x7, [x0, #16]
        0x3f, 0x00, 0x02, 0x6b, // 1: cmp w1, w2
        0x02, 0x01, 0x00, 0x54, // b.hs 2f
        0x26, 0x7c, 0x7c, 0xd3, // ubfiz x6, x1, #4, #32
        0x80, 0x68, 0xe6, 0x3c, // ldr q0, [x4, x6]
        0xa1, 0x68, 0xe6, 0x3c, // ldr q1, [x5, x6]
        0x00, 0xd4, 0x21, 0x4e, // fadd v0.4s, v0.4s, v1.4s
        0xe0, 0x68, 0xa6, 0x3c, // str q0, [x7, x6]
        0x21, 0x04, 0x00, 0x11, // add w1, w1, #1
        0xf8, 0xff, 0xff, 0x17, // b 1b
        0xc0, 0x03, 0x5f, 0xd6, // 2: ret
    ],
];

/// What a library is written from.
#[derive(Clone)]
pub struct Image {
    pub head: Head,
    pub levels: Vec<u32>,
    pub bindings: Vec<Binding>,
    pub plans: Vec<Plan>,
    pub steps: Vec<Step>,
    pub args: Vec<u64>,
    pub ports: Vec<Port>,
    pub dims: Vec<u64>,
    pub text: Vec<u8>,
    pub signature: Vec<u8>,
    pub weights: Vec<u8>,
    /// Parameters and states; where there are any, the library is of the second format.
    pub state: StateTable,
    pub variables: Vec<Variable>,
    /// Of a training step: its table, and the length of each plan's prologue.
    pub step: Option<(StepTable, Vec<u32>)>,
}

/// The bytes of a library, and where its parts are.
#[derive(Clone)]
pub struct File {
    pub bytes: Vec<u8>,
    /// The description of the note.
    pub note: Range<usize>,
    pub tables: Range<usize>,
    /// Empty if they are not in the file.
    pub weights: Range<usize>,
}

/// Weights whose constant for element `i` is `i * factor`.
pub fn weights(factor: f32) -> Vec<u8> {
    let elements = CHUNKS[0] * CHUNK;
    let mut constants: Vec<u8> = (0..elements).flat_map(|i| (i as f32 * factor).to_le_bytes()).collect();
    constants.resize(constants.len().next_multiple_of(64), 0);
    let head = WeightsHead {
        magic: WEIGHTS_MAGIC,
        version: FORMAT_VERSION,
        bytes: 64 + constants.len() as u64,
        layout: LAYOUT,
        hash: xxh64(&constants, 0),
        ..WeightsHead::default()
    };
    let mut bytes = Vec::new();
    head.write(&mut bytes);
    bytes.extend(constants);
    bytes
}

/// The same weights with 64 more bytes.
fn padded(weights: &[u8]) -> Vec<u8> {
    let constants = [&weights[WeightsHead::SIZE..], &[0; 64]].concat();
    let (bytes, hash) = ((WeightsHead::SIZE + constants.len()) as u64, xxh64(&constants, 0));
    let head = WeightsHead { bytes, hash, ..WeightsHead::read(weights).unwrap() };
    let mut padded = Vec::new();
    head.write(&mut padded);
    padded.extend(constants);
    padded
}

impl Image {
    pub fn new() -> Image {
        let weights = weights(1.0);
        let mut image = Image {
            head: Head {
                magic: TABLES_MAGIC,
                version: FORMAT_VERSION,
                arch: Arch::HOST.number(),
                weights_bytes: weights.len() as u64,
                layout: LAYOUT,
                ..Head::default()
            },
            levels: LEVELS.to_vec(),
            bindings: Vec::new(),
            plans: Vec::new(),
            steps: Vec::new(),
            args: Vec::new(),
            ports: Vec::new(),
            dims: Vec::new(),
            text: Vec::new(),
            signature: MANIFEST.as_bytes().to_vec(),
            weights,
            state: StateTable::default(),
            variables: Vec::new(),
            step: None,
        };
        let names = ["double", "add", "first node", "second node", "x", "y"].map(|name| image.add_text(name));
        CHUNKS.into_iter().for_each(|chunks| image.add_binding(chunks, names));
        image
    }

    /// The same with the constants of `add` as a parameter, which begins with what the weights hold, and a state of one number.
    pub fn with_state() -> Image {
        let mut image = Image::new();
        let elements = CHUNKS[0] * CHUNK;
        let port = |name: &str, elements: usize| fornax_runtime::Port {
            name: name.to_owned(),
            dtype: DType::F32,
            shape: [elements].into(),
        };
        let known = [(VariableKind::Parameter, port("c", elements), 0), (VariableKind::State, port("n", 1), 576)];
        let variables = known.map(|(kind, port, offset)| fornax_runtime::Variable { kind, port, offset });
        for (variable, kind) in variables.iter().zip(0..) {
            let first_dim = image.dims.len() as u32;
            let elements = variable.port.shape.numel() as u64;
            image.dims.push(elements);
            let name = image.add_text(&variable.port.name);
            let (bytes, offset) = (elements * 4, variable.offset as u64);
            image.variables.push(Variable { bytes, offset, name, rank: 1, first_dim, kind, ..Variable::default() });
        }
        let layout = StateParts { variables: variables.to_vec(), ..StateParts::default() }.layout();
        image.state = StateTable { layout, bytes: 640, initial: 64, ..StateTable::default() };
        image.weights = padded(&image.weights);
        image.head.weights_bytes = image.weights.len() as u64;
        image.head.version = FORMAT_WITH_STATE;
        for arg in image.args.iter_mut().filter(|arg| **arg >> BASE_SHIFT == BASE_WEIGHTS) {
            *arg = (BASE_PORTS + 2) << BASE_SHIFT;
        }
        image
    }

    /// The same as the parts of a training step, whose state begins with zeros after the parameter.
    pub fn with_step() -> Image {
        let mut image = Image::with_state();
        let names = ["double", "add", "first node", "second node", "x", "y"].map(|name| image.add_text(name));
        image.add_binding(CHUNKS[0], names);
        for arg in image.args.iter_mut().filter(|arg| **arg >> BASE_SHIFT == BASE_WEIGHTS) {
            *arg = (BASE_PORTS + 2) << BASE_SHIFT;
        }
        image.head.version = FORMAT_WITH_STEP;
        let table = StepTable { initial_bytes: 576, images: 1, ..StepTable::default() };
        image.step = Some((table, vec![0; image.plans.len()]));
        image
    }

    pub fn add_text(&mut self, text: &str) -> u32 {
        let offset = self.text.len() as u32;
        self.text.extend((text.len() as u32).to_le_bytes());
        self.text.extend(text.as_bytes());
        offset
    }

    fn add_binding(&mut self, chunks: usize, [double, add, first, second, x, y]: [u32; 6]) {
        let bytes = (chunks * CHUNK * 4) as u64;
        let first_port = self.ports.len() as u32;
        self.bindings.push(Binding { first_port, inputs: 1, outputs: 1, ..Binding::default() });
        let first_dim = self.dims.len() as u32;
        self.dims.push((chunks * CHUNK) as u64);
        self.ports.extend([x, y].map(|name| Port { bytes, name, rank: 1, first_dim, ..Port::default() }));
        let arena = BASE_ARENA << BASE_SHIFT | 64;
        let args = [
            BASE_PORTS << BASE_SHIFT,
            arena,
            arena,
            BASE_WEIGHTS << BASE_SHIFT | 64,
            (BASE_PORTS + 1) << BASE_SHIFT,
            BASE_NULL,
        ];
        for _ in 0..self.levels.len() {
            let (first_step, first_arg) = (self.steps.len() as u32, self.args.len() as u32);
            self.plans.push(Plan { arena_bytes: 64 + bytes, scratch_bytes: 16, first_step, steps: 2 });
            self.args.extend(args);
            let step = Step { flops: 1, bytes: 2, chunks: chunks as u32, grain: 1, ..Step::default() };
            let kernel_bytes = KERNELS.map(|code| code.len() as u32);
            self.steps.extend([
                Step { kernel_bytes: kernel_bytes[0], first_arg, args: 2, name: double, node: first, ..step },
                Step {
                    kernel: 64,
                    kernel_bytes: kernel_bytes[1],
                    first_arg: first_arg + 2,
                    args: 4,
                    name: add,
                    node: second,
                    ..step
                },
            ]);
        }
    }

    pub fn tables(&self) -> Vec<u8> {
        let mut head = self.head;
        let mut rest = Vec::new();
        let at = |rest: &Vec<u8>| (Head::SIZE + rest.len()) as u32;
        macro_rules! section {
            ($records:ident, $at:ident, $len:ident, $write:expr) => {
                (head.$at, head.$len) = (at(&rest), self.$records.len() as u32);
                self.$records.iter().for_each(|record| $write(record, &mut rest));
            };
        }
        if !self.variables.is_empty() {
            let mut step = Vec::new();
            if let Some((table, prologues)) = &self.step {
                let prologues_at = (Head::SIZE + StateTable::SIZE + StepTable::SIZE) as u32 + table.prologues_at;
                StepTable { prologues_at, ..*table }.write(&mut step);
                prologues.iter().for_each(|prologue| step.extend(prologue.to_le_bytes()));
                step.resize(step.len().next_multiple_of(8), 0);
            }
            let state = StateTable {
                variables_at: (Head::SIZE + StateTable::SIZE + step.len()) as u32,
                variables: self.variables.len() as u32,
                ..self.state
            };
            state.write(&mut rest);
            rest.extend(step);
            self.variables.iter().for_each(|variable| variable.write(&mut rest));
        }
        section!(bindings, bindings_at, bindings, Binding::write);
        head.plans_at = at(&rest);
        self.plans.iter().for_each(|plan| plan.write(&mut rest));
        section!(steps, steps_at, steps, Step::write);
        section!(ports, ports_at, ports, Port::write);
        let write = |value: &u64, rest: &mut Vec<u8>| rest.extend(value.to_le_bytes());
        section!(args, args_at, args, write);
        section!(dims, dims_at, dims, write);
        section!(levels, levels_at, levels, |level: &u32, rest: &mut Vec<u8>| rest.extend(level.to_le_bytes()));
        head.messages_at = at(&rest);
        rest.resize(rest.len() + 4 * Status::ALL.len(), 0);
        section!(text, text_at, text_bytes, |byte: &u8, rest: &mut Vec<u8>| rest.push(*byte));
        section!(signature, signature_at, signature_bytes, |byte: &u8, rest: &mut Vec<u8>| rest.push(*byte));
        rest.push(0);
        let mut tables = Vec::new();
        head.write(&mut tables);
        tables.extend(rest);
        tables
    }

    /// The library, with its weights or without.
    pub fn file(&self, embed: bool) -> File {
        let mut bytes = elf_header();
        let notes = bytes.len();
        add_note(&mut bytes, b"GNU\0", 3, &[1, 2, 3, 4, 5]);
        let note = add_note(&mut bytes, format!("{NOTE_NAME}\0").as_bytes(), NOTE_TYPE, &[0; Note::SIZE]);
        let notes_bytes = (bytes.len() - notes) as u64;
        bytes[64 + 32..64 + 40].copy_from_slice(&notes_bytes.to_le_bytes());
        let tables = add_part(&mut bytes, 64, &self.tables());
        let mut code = KERNELS[0].to_vec();
        code.resize(64, 0);
        code.extend(KERNELS[1]);
        let kernels = add_part(&mut bytes, PAGE, &code);
        let weights = if embed { add_part(&mut bytes, PAGE, &self.weights) } else { 0..0 };
        bytes.extend(b"sections that only debuggers read");
        let description = Note {
            version: match (self.variables.is_empty(), &self.step) {
                (true, _) => FORMAT_VERSION,
                (_, None) => FORMAT_WITH_STATE,
                (_, Some(_)) => FORMAT_WITH_STEP,
            },
            tables: tables.start as u64,
            tables_bytes: tables.len() as u64,
            kernels: kernels.start as u64,
            kernels_bytes: kernels.len() as u64,
            weights: weights.start as u64,
            weights_bytes: weights.len() as u64,
            guarded_bytes: weights.len().min(64) as u64,
            ..Note::default()
        };
        let mut file = File { bytes, note, tables, weights };
        file.set_note(&description);
        file
    }
}

impl File {
    pub fn get_note(&self) -> Note {
        Note::read(&self.bytes[self.note.clone()]).unwrap()
    }

    /// Replaces the note, with the right hash.
    pub fn set_note(&mut self, note: &Note) {
        let mut description = Vec::new();
        note.write(&mut description);
        self.bytes[self.note.clone()].copy_from_slice(&description);
        self.rehash();
    }

    /// Makes the hash right, as long as the ranges in the note are.
    pub fn rehash(&mut self) {
        let Note { weights, weights_bytes, .. } = self.get_note();
        let field = self.note.end - 8..self.note.end;
        self.bytes[field.clone()].fill(0);
        let len = self.bytes.len() as u64;
        let end = weights.saturating_add(weights_bytes).min(len);
        let begin = if weights_bytes == 0 { len } else { weights.saturating_add(64).min(end) };
        let mut hash = Xxh64::new(0);
        hash.update(&self.bytes[..begin as usize]);
        if weights_bytes != 0 {
            hash.update(&self.bytes[end as usize..]);
        }
        self.bytes[field].copy_from_slice(&hash.digest().to_le_bytes());
    }
}

/// An ELF header and a program header for notes after it, whose size is to be filled in.
fn elf_header() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let machine = if cfg!(target_arch = "x86_64") { 62u16 } else { 183 };
    [3, machine].iter().for_each(|half| bytes.extend(half.to_le_bytes()));
    bytes.extend(1u32.to_le_bytes());
    [0, 64, 0].iter().for_each(|word: &u64| bytes.extend(word.to_le_bytes()));
    bytes.extend(0u32.to_le_bytes());
    [64, 56, 2, 64, 0, 0].iter().for_each(|half: &u16| bytes.extend(half.to_le_bytes()));
    let headers = 64 + 2 * 56;
    for (kind, offset, size) in [(4u32, headers, 0u64), (1, 0, 64)] {
        [kind, 4].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        [offset, offset, offset, size, size, 4].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    }
    assert_eq!(bytes.len() as u64, headers);
    bytes
}

/// Appends a note and says where its description is.
fn add_note(bytes: &mut Vec<u8>, name: &[u8], kind: u32, description: &[u8]) -> Range<usize> {
    [name.len() as u32, description.len() as u32, kind].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    add_part(bytes, 4, name);
    let range = add_part(bytes, 4, description);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    range
}

fn add_part(bytes: &mut Vec<u8>, align: usize, part: &[u8]) -> Range<usize> {
    bytes.resize(bytes.len().next_multiple_of(align), 0);
    let begin = bytes.len();
    bytes.extend(part);
    begin..bytes.len()
}
