//! Compiled libraries of networks with parameters and states, through the loader and through C.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fornax_compiler::pipeline::plan_of;
use fornax_compiler::{Plan, Target, Times, aot};
use fornax_ir::graph::{Graph, parse};
use fornax_runtime::artifact::{FORMAT_VERSION, FORMAT_WITH_STATE, Note};
use fornax_runtime::{Arch, Library, LibraryOptions, Pool, Session, Tensor, VariableKind};

use super::c::{compiler, succeed};
use super::network::{REWRITE, RUNS, SAVED, SIZES, check, expected, input, network, network_of, rewritten, tensor};

/// Every level of x86-64, or of another host.
fn levels() -> Vec<Target> {
    Target::all().filter(|target| target.arch() == Arch::HOST).collect()
}

struct Files {
    library: Vec<u8>,
    object: Vec<u8>,
    header: String,
    weights: Vec<u8>,
}

/// A library of bindings, one graph each.
fn compile(bindings: &[Graph], targets: &[Target], embed: bool) -> Result<Files, fornax_compiler::Error> {
    let plans = |graph: &Graph| targets.iter().map(|target| plan_of(graph, target)).collect::<Result<Vec<Plan>, _>>();
    let plans = aot::distinct_levels(bindings.iter().map(plans).collect::<Result<Vec<_>, _>>()?);
    let compiled = aot::compile(&plans, None, 2, &mut Times::default())?;
    let image = compiled.image("net", "{}", embed)?;
    let library = aot::write_shared_library(&image)?;
    Ok(Files {
        library: [&library.head[..], &library.weights[..], &library.tail[..]].concat(),
        object: aot::write_object(&image)?,
        header: aot::write_header("net", &plans, embed),
        weights: compiled.weights().bytes.to_vec(),
    })
}

/// A folder with the files of a library.
fn folder(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("net.so"), &files.library).unwrap();
    std::fs::write(folder.path().join("net.o"), &files.object).unwrap();
    std::fs::write(folder.path().join("net.h"), &files.header).unwrap();
    std::fs::write(folder.path().join("net.weights"), &files.weights).unwrap();
    folder
}

#[test]
fn a_library_keeps_the_evaluators_state_on_every_level() {
    for embed in [true, false] {
        let folder = folder(&compile(&[network()], &levels(), embed).unwrap());
        let library = Library::open(folder.path().join("net.so")).unwrap();
        let names = library.variables().iter().map(|variable| (variable.kind, variable.port.name.as_str()));
        let (parameter, state) = (VariableKind::Parameter, VariableKind::State);
        let wanted =
            [(parameter, "layer.weight"), (state, "sum"), (state, "previous"), (state, "all"), (state, "runs")];
        assert_eq!(names.collect::<Vec<_>>(), wanted);
        let mut ends = Vec::new();
        for level in library.levels() {
            let program = match library.program(0, level.number) {
                Err(fornax_runtime::Error::MissingFeatures { .. }) => continue,
                program => Arc::new(program.unwrap()),
            };
            for threads in [1, 2, 3] {
                ends.push(check(&program, threads, &format!("{} on {threads} threads", level.name)));
            }
        }
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]) && !ends.is_empty());
    }
}

#[test]
fn bindings_share_a_state() {
    let files = compile(&[network(), network_of(1)], &levels(), true).unwrap();
    let folder = folder(&files);
    let library = Library::open(folder.path().join("net.so")).unwrap();
    let pool = Arc::new(Pool::new(2, false).unwrap());
    let session = |binding| Session::new(Arc::new(library.program(binding, 0).unwrap()), Arc::clone(&pool)).unwrap();
    let run = |session: &mut Session, rows: usize| {
        let x = Tensor::from_f32([rows, SIZES[1]], &input(3)[..rows * SIZES[1]]).unwrap();
        let mut outputs = session.outputs().unwrap();
        session.run(&[&x], &mut outputs).unwrap();
        outputs[0].bytes().to_vec()
    };
    let (mut three, mut one) = (session(0), session(1));
    run(&mut three, 3);
    one.copy_state(&three).unwrap();
    run(&mut one, 1);
    three.restore_state(&one.save_state()).unwrap();
    assert_eq!(three.parameter("runs").unwrap().as_i64(), Some(&[9][..]));
}

#[test]
fn bindings_of_other_variables_are_refused() {
    let other =
        parse("graph @g(%x: f32[2]) { %w = state \"w\" f32[2] [1, 2] %y = add %x, %w return %y as \"y\" }").unwrap();
    let none = parse("graph @g(%x: f32[2]) { %y = neg %x return %y as \"y\" }").unwrap();
    let host = [Target::host().unwrap()];
    for (bindings, found) in [([other.clone(), none.clone()], "none"), ([none, other], "state \"w\" f32[2]")] {
        let error = compile(&bindings, &host, true).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("parameters and states of a library: expected ") && error.contains(found), "{error}");
    }
}

/// The ELF note of a library.
fn note(library: &[u8]) -> Note {
    let at = library.windows(8).position(|bytes| bytes == b"Fornax\0\0").unwrap() + 8;
    Note::read(&library[at..]).unwrap()
}

#[test]
fn only_networks_with_variables_have_the_second_format() {
    let none = parse("graph @g(%x: f32[2]) { %y = neg %x return %y as \"y\" }").unwrap();
    let plain = compile(&[none], &levels(), true).unwrap();
    let stateful = compile(&[network()], &levels(), true).unwrap();
    assert_eq!(note(&plain.library).version, FORMAT_VERSION);
    assert_eq!(note(&stateful.library).version, FORMAT_WITH_STATE);
    let text = format!("{} {}", plain.header, String::from_utf8_lossy(&plain.library));
    for name in ["state_", "parameter_", "with_state", "_STATE"] {
        assert!(!text.contains(name), "{name}");
    }
    for name in
        ["state_bytes", "state_init", "state_save", "state_load", "parameter_get", "parameter_set", "run_with_state"]
    {
        assert!(stateful.header.contains(&format!("net_{name}(")), "{name}: {}", stateful.header);
    }
    assert!(stateful.header.contains("parameter layer.weight, f32[40,24], 3840 bytes"), "{}", stateful.header);
    assert!(!stateful.header.contains("run_simple"));
}

#[test]
fn damage_is_noticed() {
    let files = compile(&[network()], &levels(), true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.so");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Library::open_with(&path, &LibraryOptions { check_weights: true, ..Default::default() })
    };
    assert!(open(&files.library).is_ok());
    for k in 0..64 {
        let cut = files.library.len() * k / 64;
        assert!(open(&files.library[..cut]).is_err(), "{cut} bytes");
    }
    for k in 0..256 {
        let bit = files.library.len() * 8 * k / 256 + k % 8;
        let mut bytes = files.library.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes).is_err(), "bit {bit}");
    }
}

fn floats(path: &Path, values: impl Iterator<Item = f32>) {
    std::fs::write(path, values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
}

/// Every function of the C interface on the same runs: right use gives the evaluator's bits and Rust's saved states, wrong use its code.
#[test]
fn c_programs_keep_the_same_state() {
    if compiler().is_none() {
        return;
    }
    let folder = folder(&compile(&[network()], &Target::multi(Arch::HOST), true).unwrap());
    let dir = folder.path();
    floats(&dir.join("inputs.bin"), (0..RUNS).flat_map(input));
    floats(&dir.join("weight.bin"), rewritten().into_iter());
    let (outputs, _) = expected();
    std::fs::write(dir.join("expected.bin"), outputs.concat().concat()).unwrap();
    let program = Arc::new(Library::open(dir.join("net.so")).unwrap().program(0, 0).unwrap());
    let mut session = Session::new(program, Arc::new(Pool::new(1, false).unwrap())).unwrap();
    let (mut results, mut saved) = (session.outputs().unwrap(), Vec::new());
    for run in 0..RUNS {
        if run == SAVED {
            saved = session.save_state();
        }
        if run == REWRITE {
            session.set_parameter("layer.weight", &tensor(&SIZES[1..], &rewritten())).unwrap();
        }
        session.run(&[&tensor(&SIZES[..2], &input(run))], &mut results).unwrap();
    }
    std::fs::write(dir.join("saved.bin"), saved).unwrap();
    std::fs::write(dir.join("end.bin"), session.save_state()).unwrap();
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = tests.join("state/state.c");
    for library in ["net.so", "net.o"] {
        let program = dir.join(format!("with {library}"));
        let strict = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1"];
        let mut cc = Command::new("cc");
        cc.args(strict).arg("-I").arg(dir).arg("-I").arg(tests.join("support"));
        cc.arg(&source).arg(dir.join(library)).args(["-pthread", "-o"]);
        succeed(cc.arg(&program));
        let text = succeed(Command::new(&program).current_dir(dir).env("LD_LIBRARY_PATH", dir));
        assert!(text.ends_with("all checks hold\n"), "{library}: {text}");
    }
}
