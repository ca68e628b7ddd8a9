//! Programs and libraries of kernels that multiply by tile registers: the bits of the levels without, and when the operating system is asked.

#[path = "support/c.rs"]
mod c;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use c::succeed;
use fornax_compiler::internals::{Conv, Epilogue, plain};
use fornax_compiler::{Kernel, Plan, Target, Times, aot, jit, parse_plan};
use fornax_ir::types::DType;
use fornax_runtime::{Arch, FloatMode, Library, Pool, Program, Session, Tensor};

const PIXELS: usize = 150;
const CHANNELS: usize = 96;
const FILTERS: usize = 40;
/// Filters of whole panels.
const PADDED: usize = 48;

/// A matrix product of `bf16` in runs, or of `f32`, all of whose operands are inputs, twice: on its way it goes through the arena.
fn plan(element: DType, target: &Target) -> Plan {
    let run = (element == DType::BF16).then_some(32);
    let product = Conv { element, run, ..Conv::pointwise(PIXELS, CHANNELS, FILTERS, Epilogue::default()) };
    let kernel = Kernel::new(product, target);
    let flushed = if element == DType::BF16 { ", subnormals flushed" } else { "" };
    let (name, bytes) = (&kernel.name, PIXELS * FILTERS * element.size());
    let step = |to: &str| {
        format!(
            "{name}(x=in0, weights=in1, bias=in2, y={to}) chunks={} {}  ; product\n",
            kernel.chunks, kernel.schedule
        )
    };
    let text = format!(
        "plan @product for {target}\narena {bytes} bytes, scratch 0 bytes, constants 0 bytes{flushed}\n{}{}\
         in0 = \"x\" : {element}[{PIXELS},{CHANNELS}]\nin1 = \"weights\" : {element}[{PADDED},{CHANNELS}]\n\
         in2 = \"bias\" : f32[{PADDED}]\nout0 = \"y\" : {element}[{PIXELS},{FILTERS}]\n",
        step("arena+0"),
        step("out0"),
    );
    plain(&parse_plan(&text).unwrap_or_else(|e| panic!("{e}\n{text}")), |_, _| unreachable!("no constants"))
}

/// Elements of an input: ordinary numbers and subnormal ones.
fn elements(seed: u64, element: DType, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::new();
    for i in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (state >> 32) as u32;
        let exponent = if i % 17 == 0 { 0 } else { 120 + random % 8 };
        let bits = (random & 0x807f_0000 | exponent << 23).to_le_bytes();
        bytes.extend_from_slice(if element == DType::BF16 { &bits[2..] } else { &bits });
    }
    bytes
}

fn inputs(element: DType) -> Vec<Tensor> {
    let tensor = |seed, element, shape: &[usize]| {
        Tensor::from_bytes(element, shape.to_vec(), &elements(seed, element, shape.iter().product())).unwrap()
    };
    vec![
        tensor(1, element, &[PIXELS, CHANNELS]),
        tensor(2, element, &[PADDED, CHANNELS]),
        tensor(3, DType::F32, &[PADDED]),
    ]
}

fn run(program: Program, threads: usize) -> Vec<u8> {
    let inputs = inputs(program.inputs()[0].dtype);
    let mut session = Session::new(Arc::new(program), Arc::new(Pool::new(threads, false).unwrap())).unwrap();
    let mut outputs = session.outputs().unwrap();
    session.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs).unwrap();
    outputs[0].bytes().to_vec()
}

/// The best level of this process that has tile registers, if it has one.
fn tiles() -> Option<Target> {
    let found = Target::all().find(|target| target.vectors().tiles && target.level.usable_here());
    if found.is_none() {
        eprintln!("NOT RUN: this machine has no tile registers");
    }
    found
}

struct Files {
    library: Vec<u8>,
    header: String,
}

fn library(element: DType, targets: &[Target]) -> (Vec<Target>, Files) {
    let plans = vec![targets.iter().map(|target| plan(element, target)).collect()];
    let plans = aot::distinct_levels(plans);
    let compiled = aot::compile(&plans, None, 2, &mut Times::default()).unwrap();
    let library = aot::write_shared_library(&compiled.image("net", "{}", true).unwrap()).unwrap();
    let bytes = [&library.head[..], &library.weights[..], &library.tail[..]].concat();
    let levels = plans[0].iter().map(|plan| plan.target.clone()).collect();
    (levels, Files { library: bytes, header: aot::write_header("net", &plans, true) })
}

#[test]
fn programs_have_the_same_bits_on_every_level() {
    let mut found = BTreeMap::new();
    for target in Target::runnable().into_iter().filter(Target::fma) {
        for threads in [1, 3] {
            let program = jit::compile(&plan(DType::BF16, &target)).unwrap();
            assert_eq!(program.float_mode(), FloatMode::Flush);
            found.insert(format!("{target} on {threads} threads"), run(program, threads));
        }
    }
    let (first, expected) = found.first_key_value().expect("a level with fused multiply-add");
    for (level, bits) in &found {
        assert!(bits == expected, "{level} gives other bits than {first}");
    }
}

/// A plan without `bf16` neither needs the features of tile registers nor a level of a library for them.
#[test]
fn what_keeps_subnormals_is_code_of_the_level_below() {
    let multi = Target::multi(Arch::X86_64);
    let (last, below) = multi.split_last().unwrap();
    assert!(last.vectors().tiles && last.level.below() == below.last().map(|target| target.level));
    let single = plan(DType::F32, last);
    assert_eq!((&single.target, &single.code_target()), (last, below.last().unwrap()));
    if below.last().unwrap().runs_here() {
        let program = jit::compile(&single).unwrap();
        assert_eq!((program.features(), program.float_mode()), (below.last().unwrap().level.features, FloatMode::Ieee));
    }
    let (levels, all) = library(DType::F32, &multi);
    let (_, known) = library(DType::F32, below);
    assert!(levels == below && all.library == known.library && all.header == known.header);
    assert!(!all.header.contains("tile registers"));
    assert_eq!(library(DType::F32, std::slice::from_ref(last)).0, below[below.len() - 1..]);
    let (levels, narrow) = library(DType::BF16, &multi);
    assert!(levels == multi && narrow.header.contains("asks the operating system for these"), "{}", narrow.header);
}

#[test]
fn plans_of_two_modes_make_no_library() {
    let target = Target::multi(Arch::X86_64).swap_remove(0);
    let plans = [DType::F32, DType::BF16].map(|element| vec![plan(element, &target)]);
    let error = aot::compile(&plans[..], None, 1, &mut Times::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("expected one precision of all plans, found 1 with bf16 of 2"), "{error}");
}

#[test]
fn libraries_have_the_same_bits_on_every_level() {
    let Some(best) = tiles() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_, files) = library(DType::BF16, &Target::multi(Arch::X86_64));
    std::fs::write(folder.path().join("net.so"), &files.library).unwrap();
    let library = Library::open(folder.path().join("net.so")).unwrap();
    assert_eq!((library.best_level().unwrap(), library.float_mode()), (best.level, FloatMode::Flush));
    let expected = run(jit::compile(&plan(DType::BF16, &best)).unwrap(), 1);
    for level in library.levels().iter().filter(|level| level.vectors.fma) {
        let program = library.program(0, level.number).unwrap();
        assert_eq!((program.features(), program.float_mode()), (level.features, FloatMode::Flush));
        assert!(run(program, 2) == expected, "{level}");
    }
}

/// `init` chooses tile registers where the system gives them, is refused them where an alternate stack of signals is too small for them, and asks
/// for none where the caller wants another level.
#[test]
fn c_programs_choose_among_the_levels() {
    if tiles().is_none() {
        return eprintln!("SKIPPED: there are no tile registers");
    }
    let Some(mut cc) = c::compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (_, files) = library(DType::BF16, &Target::multi(Arch::X86_64));
    std::fs::write(dir.join("net.so"), &files.library).unwrap();
    std::fs::write(dir.join("net.h"), &files.header).unwrap();
    for (name, input) in ["x.bin", "weights.bin", "bias.bin"].iter().zip(inputs(DType::BF16)) {
        std::fs::write(dir.join(name), input.bytes()).unwrap();
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiles/levels.c");
    let strict = ["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-O1"];
    cc.args(strict).arg("-I").arg(dir).arg(source).arg(dir.join("net.so")).arg("-o").arg(dir.join("levels"));
    succeed(&mut cc);
    let run = |arguments: &[&str]| {
        succeed(Command::new(dir.join("levels")).args(arguments).current_dir(dir).env("LD_LIBRARY_PATH", dir))
    };
    // Asked, answer, index of the level chosen, whether the process may use tile registers then.
    assert_eq!(run(&["4", "3", "1", "2", "5", "0"]), "4 0 2 0\n3 0 1 0\n1 0 0 0\n2 4 - 0\n5 0 3 1\n0 0 3 1\n");
    let outputs = ["4", "3", "5", "0"].map(|level| std::fs::read(dir.join(format!("y{level}.bin"))).unwrap());
    let expected = self::run(jit::compile(&plan(DType::BF16, &tiles().unwrap())).unwrap(), 1);
    assert!(outputs.iter().all(|output| *output == expected));
    assert_eq!(
        run(&["small", "5", "0", "4", "69", "4294967295"]),
        "5 5 - 0\n0 0 2 0\n4 0 2 0\n69 4 - 0\n4294967295 4 - 0\n"
    );
    assert_eq!(std::fs::read(dir.join("y0.bin")).unwrap(), expected);
}
