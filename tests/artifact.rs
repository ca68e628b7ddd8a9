//! Libraries compiled ahead of time: the bits of the JIT, through the loader and through C; the form of the file; wrong use.

#[path = "artifact/extents.rs"]
mod extents;
#[path = "artifact/step.rs"]
mod step;
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use fornax::runtime::levels::{LEVELS, Level};
use fornax::runtime::{Arch, Library, LibraryOptions, Pool, Session};
use fornax::{
    ArtifactOptions, Artifacts, Bindings, Emit, LibrarySource, Model, Options, ScaledOptions, SessionOptions, Target,
    Tensor, tensors,
};
use fornax_compiler::pipeline::plan_of;
use fornax_compiler::{Plan, Times, aot};
use fornax_ir::types::random_values;
use object::{Object, ObjectSection, ObjectSymbol};
use support::efficientnet::{Exporter, Padding, b0_seeded};
use support::onnx::{Value, Writer};
use xxhash_rust::xxh3::xxh3_64;

/// Side of the pictures of the networks made here.
const SIDE: usize = 64;

fn signs() -> Model {
    Model::open(support::examples().join("signs.onnx")).unwrap()
}

fn signs_input() -> Tensor {
    tensors::load(support::examples().join("signs.input.npy")).unwrap().remove(0).tensor
}

fn b0(seed: u64) -> Model {
    let bytes = b0_seeded(seed, Exporter::Dynamo, Padding::Symmetric, SIDE, 10);
    Model::from_bytes(bytes, &Options::default()).unwrap()
}

/// A network whose steps read and write parts of larger values.
fn mixnet(seed: u64) -> Model {
    let scaled = ScaledOptions { seed, side: Some((SIDE, SIDE)), ..ScaledOptions::default() };
    Model::open_with("mixnet-s", &Options { scaled, ..Options::default() }).unwrap()
}

fn picture(batch: usize) -> Tensor {
    Tensor::from_f32([batch, 3, SIDE, SIDE], &random_values(7, batch * 3 * SIDE * SIDE)).unwrap()
}

/// The bytes of one file.
fn bytes_of(artifacts: &Artifacts, kind: Emit) -> Vec<u8> {
    artifacts.files.iter().find(|file| file.kind == kind).unwrap().parts.concat()
}

/// A folder with the files that a model was compiled to.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(model: &Model, options: &ArtifactOptions, emit: &[Emit]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.add(model, options, emit);
        folder
    }

    fn add(&self, model: &Model, options: &ArtifactOptions, emit: &[Emit]) {
        for file in model.artifacts(options, emit).unwrap().files {
            std::fs::write(self.path(&options.name, file.kind), file.parts.concat()).unwrap();
        }
    }

    fn path(&self, name: &str, kind: Emit) -> PathBuf {
        self.0.path().join(format!("{name}.{}", kind.suffix()))
    }
}

/// The table of levels in the documentation is the table of levels.
#[test]
fn the_documentation_has_every_level() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/artifact.md")).unwrap();
    let (_, section) = text.split_once("\n## Levels\n").unwrap();
    let documented: Vec<&str> =
        section.lines().filter(|line| line.starts_with("| ")).skip(2).take(LEVELS.len()).collect();
    let row = |level: &Level| {
        let (aliases, vectors) = (level.aliases.iter().map(|alias| format!("`{alias}`")), level.vectors);
        let aliases = aliases.collect::<Vec<_>>().join(", ");
        let (needs, bits) = (level.features.names().join(", "), 32 * vectors.lanes);
        let multi = if level.multi { "yes" } else { "no" };
        format!(
            "| {} | `{level}` | {aliases} | {needs} | {} of {bits} bits | {multi} |",
            level.number, vectors.registers
        )
    };
    assert_eq!(documented, LEVELS.map(row));
}

/// Outputs of a model opened from a file.
fn outputs(path: &Path, target: Option<Target>, threads: usize, input: &Tensor) -> Vec<Tensor> {
    let model = Model::open_with(path, &Options { target, ..Options::default() }).unwrap();
    run(&model, threads, input)
}

fn run(model: &Model, threads: usize, input: &Tensor) -> Vec<Tensor> {
    let bindings = Bindings::default();
    model.session(&SessionOptions { threads, pin: false, bindings }).unwrap().run(&[input]).unwrap()
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    let most = a.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * most)
}

#[test]
fn a_library_has_the_bits_of_the_jit_on_every_level() {
    for (model, input) in [(signs(), signs_input()), (b0(1), picture(1)), (mixnet(1), picture(1))] {
        let expected = run(&model, 2, &input);
        let options = ArtifactOptions {
            targets: Target::all().filter(|target| target.arch() == Arch::X86_64).collect(),
            ..ArtifactOptions::new("net")
        };
        let folder = Folder::new(&model, &options, &[Emit::So]);
        let path = folder.path("net", Emit::So);
        // Nothing here is computed in bf16, so code for tile registers is that of the level below.
        let (left_out, held): (Vec<&Target>, Vec<&Target>) =
            options.targets.iter().partition(|target| target.vectors().tiles);
        let library = fornax_runtime::Library::open(&path).unwrap();
        assert!(library.levels().iter().eq(held.iter().map(|target| &target.level)) && !left_out.is_empty());
        for target in held {
            if !target.runs_here() {
                eprintln!("NOT RUN: {target}: this machine cannot");
                continue;
            }
            for threads in [1, 2, 3] {
                let found = outputs(&path, Some(target.clone()), threads, &input);
                match target.fma() {
                    true => assert_eq!(found[0].bytes(), expected[0].bytes(), "{target} on {threads} threads"),
                    false => assert!(close(&expected[0], &found[0]), "{target} on {threads} threads"),
                }
            }
        }
        let best = outputs(&path, None, 1, &input);
        assert!(Target::host().is_ok_and(|host| !host.fma()) || best[0].bytes() == expected[0].bytes());
    }
}

/// Libraries and the JIT tell the same of each step: kernel, node, and the model's nodes that it computes.
#[test]
fn steps_know_the_models_nodes() {
    let Ok(host) = Target::host() else { return };
    let model = b0(1);
    let options = ArtifactOptions { targets: vec![host.clone()], ..ArtifactOptions::new("net") };
    let folder = Folder::new(&model, &options, &[Emit::So]);
    let library = Library::open(folder.path("net", Emit::So)).unwrap().program(0, 0).unwrap();
    let plan = model.plan(&Bindings::default()).unwrap();
    let kept = library.steps().iter().map(|step| (&step.name, &step.node, &step.origins));
    assert!(kept.eq(plan.steps.iter().map(|step| (&step.kernel.name, &step.node, &step.origins))));
    assert!(library.steps().iter().any(|step| step.origins.len() > 1), "a fused step has several names");
}

#[test]
fn the_runtime_alone_runs_it() {
    let folder = Folder::new(&signs(), &ArtifactOptions::new("signs"), &[Emit::So]);
    let mut session = Session::open(folder.path("signs", Emit::So)).unwrap();
    let mut outputs = session.outputs().unwrap();
    session.run(&[&signs_input()], &mut outputs).unwrap();
    assert_eq!(outputs[0].bytes(), run(&signs(), 1, &signs_input())[0].bytes());
}

#[test]
fn the_same_bytes_every_time() {
    let kinds = [Emit::So, Emit::Object, Emit::Archive, Emit::Header, Emit::Weights];
    let hashes = |threads: usize, model: Model| {
        let options = ArtifactOptions { threads, ..ArtifactOptions::new("net") };
        let artifacts = model.artifacts(&options, &kinds).unwrap();
        kinds.map(|kind| xxh3_64(&bytes_of(&artifacts, kind)))
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy of signs.onnx");
    std::fs::copy(support::examples().join("signs.onnx"), &copy).unwrap();
    assert_eq!(hashes(1, signs()), hashes(3, Model::open(copy).unwrap()));
}

#[test]
fn several_batches_share_the_weights() {
    let model = signs();
    let batch = |n: usize| Bindings { dims: [("batch".to_string(), n)].into(), ..Bindings::default() };
    let one = ArtifactOptions::new("one");
    let two = ArtifactOptions { bindings: vec![batch(1), batch(8)], ..ArtifactOptions::new("two") };
    let folder = Folder::new(&model, &one, &[Emit::So]);
    folder.add(&model, &two, &[Emit::So]);
    let size = |name: &str| std::fs::metadata(folder.path(name, Emit::So)).unwrap().len();
    let weights = model.artifacts(&one, &[Emit::Weights]).unwrap().weights_bytes as u64;
    assert!(size("two") < size("one") + weights / 2, "{} {} {weights}", size("one"), size("two"));

    let library = Model::open(folder.path("two", Emit::So)).unwrap();
    let mut session = library.session(&SessionOptions { threads: 2, ..Default::default() }).unwrap();
    for n in [8, 1] {
        let input = Tensor::from_f32([n, 3, 96, 96], &random_values(3, n * 3 * 96 * 96)).unwrap();
        let found = session.run(&[&input]).unwrap();
        assert_eq!(found[0].bytes(), run(&model, 2, &input)[0].bytes(), "batch {n}");
    }
    let input = Tensor::from_f32([2, 3, 96, 96], &[0.0; 2 * 3 * 96 * 96]).unwrap();
    let error = session.run(&[&input]).unwrap_err().to_string();
    assert!(error.contains("image [1,3,96,96]; image [8,3,96,96]") && error.contains("[2, 3, 96, 96]"), "{error}");
}

/// A network that counts its runs, for two sets of shapes: the state goes with the session. No model file says such a network yet,
/// so the library has the manifest of another one.
#[test]
fn a_session_carries_its_state_from_one_set_of_shapes_to_the_next() {
    let batch = |n: usize| Bindings { dims: [("batch".to_string(), n)].into(), ..Bindings::default() };
    let options = ArtifactOptions { bindings: vec![batch(1), batch(2)], ..ArtifactOptions::new("signs") };
    let folder = Folder::new(&signs(), &options, &[Emit::So]);
    let manifest = Library::open(folder.path("signs", Emit::So)).unwrap().manifest().to_string();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let manifest = serde_json::json!({"scores": manifest["scores"], "bindings": manifest["bindings"]}).to_string();
    let plans = |rows: usize| -> Vec<Plan> {
        let text = format!(
            "graph @count(%x: f32[{rows},2]) {{
               %n = state \"runs\" f32[2] [0, 0]
               %one = constant f32[] [1]
               %next = add %n, %one
               %y = add %x, %n
               return %y as \"y\"
               update %n <- %next
             }}"
        );
        vec![plan_of(&fornax_ir::graph::parse(&text).unwrap(), &Target::host().unwrap()).unwrap()]
    };
    let plans = [plans(1), plans(2)];
    let compiled = aot::compile(&plans, None, 1, &mut Times::default()).unwrap();
    let library = aot::write_shared_library(&compiled.image("count", &manifest, true).unwrap()).unwrap();
    let path = folder.path("count", Emit::So);
    std::fs::write(&path, [&library.head[..], &library.weights[..], &library.tail[..]].concat()).unwrap();

    let model = Model::open(&path).unwrap();
    let mut session = model.session(&SessionOptions { threads: 1, ..Default::default() }).unwrap();
    let run = |session: &mut fornax::Session, rows: usize| {
        session.run(&[&Tensor::from_f32([rows, 2], &vec![0.0; rows * 2]).unwrap()]).unwrap()[0].as_f32().unwrap()[0]
    };
    for (count, rows) in [1, 1, 2, 1, 2, 2].into_iter().enumerate() {
        assert_eq!(run(&mut session, rows), count as f32);
    }
    let current = session.current_mut().unwrap();
    assert_eq!(current.parameter("runs").unwrap().as_f32(), Some(&[6.0, 6.0][..]));
    current.set_parameter("runs", &Tensor::from_f32([2], &[100.0, 100.0]).unwrap()).unwrap();
    assert_eq!([run(&mut session, 1), run(&mut session, 2)], [100.0, 101.0]);
    assert_eq!(session.current().unwrap().states().count(), 1);
}

#[test]
fn weights_are_replaced_without_compiling() {
    let (first, second) = (b0(1), b0(2));
    let options = ArtifactOptions { embed: false, ..ArtifactOptions::new("net") };
    let folder = Folder::new(&first, &options, &[Emit::So, Emit::Weights]);
    let path = folder.path("net", Emit::So);
    assert_eq!(outputs(&path, None, 2, &picture(1))[0].bytes(), run(&first, 1, &picture(1))[0].bytes());

    // `compile --emit weights` of the other network; no code is generated.
    let other = ArtifactOptions { name: "other".into(), ..options };
    folder.add(&second, &other, &[Emit::Weights]);
    let library = LibrarySource { weights: Some(folder.path("other", Emit::Weights)), check_weights: false };
    let replaced = Model::open_with(&path, &Options { library: library.clone(), ..Options::default() }).unwrap();
    let found = run(&replaced, 1, &picture(1));
    assert_eq!(found[0].bytes(), run(&second, 1, &picture(1))[0].bytes());
    assert_ne!(found[0].bytes(), run(&first, 1, &picture(1))[0].bytes());

    // Those of another network.
    folder.add(&signs(), &other, &[Emit::Weights]);
    let error = Model::open_with(&path, &Options { library, ..Options::default() }).unwrap_err().to_string();
    assert!(error.contains("other.weights"), "{error}");
    // None.
    std::fs::remove_file(folder.path("net", Emit::Weights)).unwrap();
    let error = Model::open(&path).unwrap_err().to_string();
    assert!(error.contains("net.weights"), "{error}");
}

/// Every byte before the constants, and many beyond, decides: a file that differs is refused, or, in the constants, with `check_weights`.
#[test]
fn damage_is_noticed() {
    let artifacts = signs().artifacts(&ArtifactOptions::new("signs"), &[Emit::So]).unwrap();
    let whole = bytes_of(&artifacts, Emit::So);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signs.so");
    let open = |bytes: &[u8], check_weights: bool| {
        std::fs::write(&path, bytes).unwrap();
        Library::open_with(&path, &LibraryOptions { check_weights, ..Default::default() })
    };
    assert!(open(&whole, true).is_ok());
    for k in 0..64 {
        let cut = whole.len() * k / 64;
        assert!(open(&whole[..cut], false).is_err(), "{cut} bytes of {}", whole.len());
    }
    let constants = whole.len() - artifacts.weights_bytes..whole.len();
    for k in 0..256 {
        let bit = whole.len() * 8 * k / 256 + k % 8;
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes, true).is_err(), "bit {bit}");
        assert!(
            constants.contains(&(bit / 8))
                || bit / 8 >= whole.len() - artifacts.weights_bytes - 65536
                || open(&bytes, false).is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn a_library_needs_nothing_and_exports_its_functions_only() {
    let artifacts = signs().artifacts(&ArtifactOptions::new("signs"), &[Emit::So, Emit::Object]).unwrap();
    let bytes = bytes_of(&artifacts, Emit::So);
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&bytes[..]).unwrap();
    assert!(file.imports().unwrap().is_empty() && file.dynamic_relocations().is_none_or(|list| list.count() == 0));
    let exports: Vec<String> =
        file.exports().unwrap().iter().map(|export| String::from_utf8_lossy(export.name()).into_owned()).collect();
    let expected = ["arena_bytes", "init", "run", "run_simple", "selftest", "selftest_bytes", "signature", "strerror"];
    assert_eq!(exports, expected.map(|name| format!("signs_{name}")));
    let section = |name: &str| file.section_by_name(name).unwrap_or_else(|| panic!("{name}"));
    let dynamic = section(".dynamic").data().unwrap();
    // DT_NEEDED, DT_REL, DT_RELA, DT_TEXTREL, DT_JMPREL, DT_FLAGS.
    let tags: Vec<u64> = dynamic.chunks(16).map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap())).collect();
    assert!([1, 17, 7, 22, 23, 30].iter().all(|tag| !tags.contains(tag)), "{tags:?}");
    assert!(file.symbols().any(|symbol| symbol.name().is_ok_and(|name| name.ends_with(".x86-64-v3"))));
    for program in file.elf_program_headers() {
        let flags = program.p_flags.get(object::LittleEndian);
        assert_ne!(flags & 3, 3, "writable and executable");
    }

    let bytes = bytes_of(&artifacts, Emit::Object);
    let file = object::File::parse(&bytes[..]).unwrap();
    assert!(file.symbols().all(|symbol| !symbol.is_undefined() || symbol.name() == Ok("")));
    let globals: Vec<_> = file.symbols().filter(|symbol| symbol.is_global() && symbol.is_definition()).collect();
    assert!(
        globals.len() == expected.len() && globals.iter().all(|symbol| symbol.name().unwrap().starts_with("signs_"))
    );
}

/// The C compiler, or nothing, loudly.
fn c_compiler(name: &str) -> Option<Command> {
    let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: there is no {name}");
    }
    found.then(|| Command::new(name))
}

/// Runs a command that must succeed; what it prints.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The folders of the C programs here, and of what C programs that test a library share.
fn c_sources() -> [PathBuf; 2] {
    ["tests/artifact", "compiler/tests/support"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
}

/// Links the C program `source` of this folder with a library in `dir`, and runs it there: all its checks hold.
fn run_c(dir: &Path, source: &str, library: &str, arguments: &[&OsStr]) {
    let [folder, shared] = c_sources();
    let program = dir.join(format!("{source} with {library}"));
    let strict = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1"];
    let mut cc = Command::new("cc");
    cc.args(strict).arg("-I").arg(dir).arg("-I").arg(shared).arg(folder.join(source));
    succeed(cc.arg(dir.join(library)).args(["-pthread", "-o"]).arg(&program));
    let mut command = Command::new(&program);
    let text = succeed(command.current_dir(dir).env("LD_LIBRARY_PATH", dir).args(arguments));
    assert!(text.ends_with("all checks hold\n"), "{source} with {library}: {text}");
}

/// Every function of the C interface: right use gives the JIT's bits, wrong use gives its code.
#[test]
fn c_programs_call_it() {
    if c_compiler("cc").is_none() {
        return;
    }
    let batch = |n: usize| Bindings { dims: [("batch".to_string(), n)].into(), ..Bindings::default() };
    let options = ArtifactOptions { bindings: vec![batch(1), batch(2)], ..ArtifactOptions::new("net") };
    let folder = Folder::new(&signs(), &options, &[Emit::So, Emit::Archive, Emit::Object, Emit::Header, Emit::Weights]);
    let dir = folder.0.path();
    std::fs::write(dir.join("input.bin"), signs_input().bytes()).unwrap();
    std::fs::write(dir.join("expected.bin"), run(&signs(), 1, &signs_input())[0].bytes()).unwrap();
    let weights = folder.path("net", Emit::Weights);
    for library in ["net.so", "net.a", "net.o"] {
        run_c(dir, "abi.c", library, &[weights.as_os_str()]);
    }
    // Into a shared library of the host's, where every symbol may be another file's.
    let mut cc = Command::new("cc");
    succeed(cc.args(["-shared", "-Wl,-z,text", "-o"]).arg(dir.join("wrap.so")).arg(dir.join("net.o")));
}

#[test]
fn the_header_is_c_and_cpp() {
    let model = signs();
    let folder = Folder::new(&model, &ArtifactOptions::new("one"), &[Emit::Header]);
    folder.add(&model, &ArtifactOptions::new("two"), &[Emit::Header]);
    let source = "#include \"one.h\"\n#include \"two.h\"\nint main(void) { return ONE_OK + TWO_OK; }\n";
    for (compiler, name) in [("cc", "main.c"), ("c++", "main.cc")] {
        let Some(mut command) = c_compiler(compiler) else { continue };
        std::fs::write(folder.0.path().join(name), source).unwrap();
        let strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"];
        succeed(command.args(strict).arg(name).current_dir(folder.0.path()));
    }
}

/// Written here, run under qemu where it and a cross compiler are installed (`examples/install-qemu`).
#[test]
fn aarch64_computes_the_same_bits() {
    let options = ArtifactOptions { targets: Target::multi(Arch::Aarch64), ..ArtifactOptions::new("net") };
    let batch = |n: usize| Bindings { dims: [("batch".to_string(), n)].into(), ..Bindings::default() };
    let options = ArtifactOptions { bindings: vec![batch(1), batch(2)], ..options };
    let folder = Folder::new(&signs(), &options, &[Emit::So, Emit::Object, Emit::Header, Emit::Weights]);
    let dir = folder.0.path();
    let bytes = std::fs::read(folder.path("net", Emit::So)).unwrap();
    assert_eq!(object::File::parse(&bytes[..]).unwrap().architecture(), object::Architecture::Aarch64);
    if cfg!(target_arch = "x86_64") {
        let error = Library::open(folder.path("net", Emit::So)).unwrap_err().to_string();
        assert!(error.contains("machine"), "{error}");
    }
    let tools = [c_compiler("aarch64-linux-gnu-gcc"), c_compiler("qemu-aarch64")];
    let [Some(mut cc), Some(mut qemu)] = tools else { return };
    std::fs::write(dir.join("input.bin"), signs_input().bytes()).unwrap();
    std::fs::write(dir.join("expected.bin"), run(&signs(), 1, &signs_input())[0].bytes()).unwrap();
    let program = dir.join("program");
    let [sources, shared] = c_sources();
    let source = sources.join("abi.c");
    cc.args(["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-static", "-O1", "-I"]).arg(dir).arg("-I").arg(&shared);
    cc.arg(&source).arg(folder.path("net", Emit::Object)).args(["-pthread", "-o"]);
    succeed(cc.arg(&program));
    let text = succeed(qemu.current_dir(dir).arg(&program).arg(folder.path("net", Emit::Weights)));
    assert!(text.ends_with("all checks hold\n"), "{text}");
    // The dynamic loader's view of the shared library.
    let program = dir.join("dynamic");
    let mut cc = Command::new("aarch64-linux-gnu-gcc");
    cc.args(["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O1", "-I"]).arg(dir).arg("-I").args([&shared, &source]);
    succeed(cc.arg(folder.path("net", Emit::So)).args(["-pthread", "-o"]).arg(&program));
    let mut qemu = Command::new("qemu-aarch64");
    qemu.args(["-L", "/usr/aarch64-linux-gnu", "-E"]).arg(format!("LD_LIBRARY_PATH={}", dir.display()));
    let text = succeed(qemu.current_dir(dir).arg(&program).arg(folder.path("net", Emit::Weights)));
    assert!(text.ends_with("all checks hold\n"), "{text}");
}

#[test]
fn threads_of_the_pool_share_a_library() {
    let folder = Folder::new(&signs(), &ArtifactOptions::new("signs"), &[Emit::So]);
    let library = Library::open(folder.path("signs", Emit::So)).unwrap();
    let program = std::sync::Arc::new(library.program(0, 0).unwrap());
    let expected = run(&signs(), 1, &signs_input());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let pool = std::sync::Arc::new(Pool::new(1, false).unwrap());
                let mut session = Session::new(std::sync::Arc::clone(&program), pool).unwrap();
                let mut outputs = session.outputs().unwrap();
                for _ in 0..20 {
                    session.run(&[&signs_input()], &mut outputs).unwrap();
                    assert_eq!(outputs[0].bytes(), expected[0].bytes());
                }
            });
        }
    });
}

/// A network that only tells the empty shape: no step, no kernel, no weight.
#[test]
fn a_network_without_steps() {
    let mut net = Writer::new("nothing", 19);
    net.input("x", &[2, 3]);
    net.node("Shape", &["x"], "shape", &[("start", Value::Int(1)), ("end", Value::Int(1))]);
    net.node("Cast", &["shape"], "y", &[("to", Value::Int(1))]);
    net.output("y", &[0]);
    let model = Model::from_bytes(net.finish(), &Options::default()).unwrap();
    let kinds = [Emit::So, Emit::Object, Emit::Archive, Emit::Header];
    let folder = Folder::new(&model, &ArtifactOptions::new("net"), &kinds);
    let input = Tensor::from_f32([2, 3], &[0.0; 6]).unwrap();
    let found = outputs(&folder.path("net", Emit::So), None, 1, &input);
    assert_eq!((found.len(), found[0].shape().to_vec()), (1, vec![0]));
}
