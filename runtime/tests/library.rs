//! Opens a hand-made library: whole, damaged in every way, and other files in its place.

#[path = "support/library.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fornax_runtime::artifact::{
    Binding, Head, Note, StateTable, Step, StepTable, Variable, WeightsHead, selftest_bits,
};
use fornax_runtime::{DType, Error, Library, LibraryOptions, Pool, Program, Session, Tensor};
use support::{CHUNK, CHUNKS, File, Image, LEVELS, MANIFEST, weights};
use tempfile::TempDir;

/// A folder with a library in it.
struct Folder {
    dir: TempDir,
    library: PathBuf,
}

impl Folder {
    fn new(bytes: &[u8]) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("net.so");
        fs::write(&library, bytes).unwrap();
        Folder { dir, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Opens the bytes as a library and makes every program of it.
fn open_all(path: &Path, bytes: &[u8]) -> Result<Vec<Program>, Error> {
    fs::write(path, bytes).unwrap();
    let library = Library::open(path)?;
    let levels = library.levels();
    let each = |binding| levels.iter().map(move |level| (binding, level.number));
    let supported = |program: &Result<Program, Error>| !matches!(program, Err(Error::MissingFeatures { .. }));
    let programs = (0..library.bindings()).flat_map(each).map(|(binding, level)| library.program(binding, level));
    programs.filter(supported).collect()
}

fn error(image: &Image) -> String {
    error_of(&image.file(true))
}

/// What is wrong with a library, without its path.
fn error_of(file: &File) -> String {
    let folder = Folder::new(&[]);
    let message = open_all(&folder.library, &file.bytes).map(|_| ()).unwrap_err().to_string();
    message.replace(&format!("{}: ", folder.library.display()), "")
}

fn is_typed(error: &Error) -> bool {
    use Error::{BadStep, Damaged, NoWeights, NotALibrary, Weights};
    matches!(error, NotALibrary { .. } | Damaged { .. } | Weights { .. } | NoWeights { .. } | BadStep { .. })
}

fn check_weights() -> LibraryOptions {
    LibraryOptions { check_weights: true, ..LibraryOptions::default() }
}

/// Runs a session of binding `binding`, whose constants are multiples of `factor`.
fn check_session(session: &mut Session, binding: usize, factor: f32) {
    let elements = CHUNKS[binding] * CHUNK;
    let mut outputs = session.outputs().unwrap();
    for seed in 0..20 {
        let data: Vec<f32> = (0..elements).map(|i| (i * 31 % 17 + seed) as f32).collect();
        let x = Tensor::from_f32([elements], &data).unwrap();
        session.run(&[&x], &mut outputs).unwrap();
        let y = outputs[0].as_f32().unwrap();
        assert!(data.iter().zip(y).enumerate().all(|(i, (x, y))| *y == 2.0 * x + i as f32 * factor));
    }
}

fn check(library: &Library, factor: f32) {
    for threads in [1, 2] {
        let pool = Arc::new(Pool::new(threads, false).unwrap());
        for binding in 0..CHUNKS.len() {
            let program = Arc::new(library.program(binding, 0).unwrap());
            check_session(&mut Session::new(program, Arc::clone(&pool)).unwrap(), binding, factor);
        }
    }
}

#[test]
fn runs_with_weights_inside_and_apart() {
    let image = Image::new();
    let folder = Folder::new(&image.file(true).bytes);
    check(&Library::open(&folder.library).unwrap(), 1.0);
    check(&Library::open_with(&folder.library, &check_weights()).unwrap(), 1.0);

    let folder = Folder::new(&image.file(false).bytes);
    fs::write(folder.path("net.weights"), &image.weights).unwrap();
    check(&Library::open(&folder.library).unwrap(), 1.0);
}

#[test]
fn a_session_outlives_library_and_file() {
    let folder = Folder::new(&Image::new().file(true).bytes);
    let mut session = Session::open(&folder.library).unwrap();
    assert_eq!(session.pool().threads(), fornax_runtime::available_threads());
    drop(folder);
    check_session(&mut session, 0, 1.0);
}

#[test]
fn weights_can_be_replaced() {
    let image = Image::new();
    let folder = Folder::new(&image.file(true).bytes);
    let other = folder.path("other");
    fs::write(&other, weights(3.0)).unwrap();
    let options = LibraryOptions { weights: Some(other), ..LibraryOptions::default() };
    check(&Library::open_with(&folder.library, &options).unwrap(), 3.0);
    check(&Library::open(&folder.library).unwrap(), 1.0);
    fs::write(&folder.library, image.file(false).bytes).unwrap();
    check(&Library::open_with(&folder.library, &options).unwrap(), 3.0);
}

/// A process replaces weights and library, in this order, while the weights are locked.
#[test]
fn a_library_is_not_paired_with_weights_published_with_another() {
    let (mut old, mut new) = (Image::new(), Image::new());
    for (image, factor, manifest) in [(&mut old, 1.0, "old"), (&mut new, 3.0, "new")] {
        image.weights = weights(factor);
        image.head.weights_hash = WeightsHead::read(&image.weights).unwrap().hash;
        image.signature = manifest.as_bytes().to_vec();
    }
    let folder = Folder::new(&old.file(false).bytes);
    let beside = folder.path("net.weights");
    fs::write(&beside, &old.weights).unwrap();
    let published = |name: &str, bytes: &[u8]| {
        let file = fs::File::create_new(folder.path(name)).unwrap();
        fs::write(folder.path(name), bytes).unwrap();
        file.lock().unwrap();
        file
    };
    let weights_file = published("a.tmp", &new.weights);
    let library_file = published("b.tmp", &new.file(false).bytes);
    assert_eq!(Library::open(&folder.library).unwrap().manifest(), "old");
    fs::rename(folder.path("a.tmp"), &beside).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| Library::open(&folder.library).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!reader.is_finished(), "new weights behind the old library");
        fs::rename(folder.path("b.tmp"), &folder.library).unwrap();
        drop((weights_file, library_file));
        let library = reader.join().unwrap();
        assert_eq!(library.manifest(), "new");
        check(&library, 3.0);
    });
    // Weights replaced by themselves are what was asked for.
    fs::write(&beside, &old.weights).unwrap();
    let library = Library::open(&folder.library).unwrap();
    assert_eq!(library.manifest(), "new");
    check(&library, 1.0);
}

#[test]
fn more_ports_than_bases_are_refused() {
    let image = |inputs: u32| {
        let mut image = Image::new();
        let first_port = image.ports.len() as u32;
        image.ports.extend(vec![image.ports[0]; inputs as usize + 1]);
        image.bindings[0] = Binding { first_port, inputs, ..image.bindings[0] };
        image.file(true)
    };
    let folder = Folder::new(&image(65_532).bytes);
    assert_eq!(Library::open(&folder.library).unwrap().inputs(0).len(), 65_532);
    let expected = "ports: expected at most 65533 with a base of their own in a binding, found 65534";
    assert!(error_of(&image(65_533)).contains(expected), "{}", error_of(&image(65_533)));
}

#[test]
fn says_what_is_inside() {
    let folder = Folder::new(&Image::new().file(true).bytes);
    let library = Library::open(&folder.library).unwrap();
    assert_eq!(library.manifest(), MANIFEST);
    let names = if cfg!(target_arch = "x86_64") { &["x86-64", "x86-64-v3", "x86-64-v4"][..] } else { &["aarch64"] };
    assert!(library.levels().iter().map(|level| level.name).eq(names.iter().copied()));
    assert!(LEVELS.contains(&library.best_level().unwrap().number));
    assert_eq!(library.bindings(), 2);
    for (binding, chunks) in CHUNKS.into_iter().enumerate() {
        let (inputs, outputs) = (library.inputs(binding), library.outputs(binding));
        assert_eq!((inputs.len(), outputs.len()), (1, 1));
        assert_eq!((inputs[0].name.as_str(), outputs[0].name.as_str()), ("x", "y"));
        assert_eq!((inputs[0].dtype, &inputs[0].shape), (DType::F32, &[chunks * CHUNK].into()));
    }
    assert!(library.inputs(2).is_empty() && library.outputs(2).is_empty());
    let program = library.program(0, 1).unwrap();
    let map = program.perf_map();
    assert!(map.lines().count() == 2 && map.contains(" double\n") && map.contains(" add\n"), "{map}");
    assert_eq!(program.steps()[1].node, "second node");
    assert_eq!(program.constants().len(), weights(1.0).len());
    assert!(format!("{library:?}").contains("net.so"));
}

#[test]
fn code_is_mapped_from_the_file_and_never_writable() {
    let folder = Folder::new(&Image::new().file(true).bytes);
    let library = Library::open(&folder.library).unwrap();
    let address = library.program(0, 0).unwrap().steps()[0].kernel as usize;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| {
        let ends = line.split([' ', '-']).take(2).map(|end| usize::from_str_radix(end, 16).unwrap());
        matches!(ends.collect::<Vec<_>>()[..], [begin, end] if (begin..end).contains(&address))
    });
    let line = line.unwrap();
    assert!(line.contains(" r-x") && line.ends_with(&folder.library.display().to_string()), "{line}");
}

#[test]
fn absent_levels_and_bindings_are_named() {
    let folder = Folder::new(&Image::new().file(true).bytes);
    let library = Library::open(&folder.library).unwrap();
    let message = library.program(0, 7).map(|_| ()).unwrap_err().to_string();
    let levels =
        library.levels().iter().map(|level| format!("{} ({level})", level.number)).collect::<Vec<_>>().join(", ");
    assert!(
        message.ends_with(&format!("net.so: level: expected 0 (the best) or one of {levels}, found 7")),
        "{message}"
    );
    let message = library.program(2, 0).map(|_| ()).unwrap_err().to_string();
    assert!(message.ends_with("net.so: binding: expected one below 2, found 2"), "{message}");
    assert!(matches!(library.program(usize::MAX, 1), Err(Error::NoBinding { .. })));
}

#[test]
fn foreign_files_are_told() {
    let folder = Folder::new(&[]);
    let field = |bytes: &[u8]| match open_all(&folder.library, bytes) {
        Err(Error::NotALibrary { field, .. }) => field,
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert_eq!(field(b""), "first bytes");
    assert_eq!(field(b"weights of a network"), "first bytes");
    assert_eq!(field(b"\x7fELF"), "ELF header");
    assert_eq!(field(&fs::read("/proc/self/exe").unwrap()), "notes");
    let file = Image::new().file(true);
    let changed = |at: usize, byte: u8| {
        let mut bytes = file.bytes.clone();
        bytes[at] = byte;
        field(&bytes)
    };
    assert_eq!(changed(4, 1), "ELF class");
    assert_eq!(changed(5, 2), "ELF byte order");
    assert_eq!(changed(16, 2), "ELF type");
    assert_eq!(changed(18, if cfg!(target_arch = "x86_64") { 183 } else { 62 }), "ELF machine");
    assert_eq!(changed(54, 57), "size of an ELF program header");
    assert_eq!(changed(57, 255), "ELF program headers");
    assert_eq!(changed(39, 255), "ELF program headers");
    assert_eq!(changed(file.note.start - 2, b'?'), "notes");
    assert_eq!(changed(file.note.start, 4), "version of the format");
    assert_eq!(changed(file.note.start - 16, 60), "description of the note");
    assert!(matches!(Library::open("/dev/zero"), Err(Error::NotAFile { .. })));
    assert!(matches!(Library::open(folder.path("absent")), Err(Error::Io { .. })));
}

#[test]
fn libraries_are_recognised_without_waiting() {
    let folder = Folder::new(&Image::new().file(true).bytes);
    assert!(Library::is_library(&folder.library));
    let pipe = folder.path("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let text = folder.path("text");
    fs::write(&text, "\x7fEL").unwrap();
    for other in [pipe.as_path(), text.as_path(), folder.dir.path(), Path::new("/dev/zero"), Path::new("absent")] {
        assert!(!Library::is_library(other), "{}", other.display());
    }
}

#[test]
fn limits_on_size_hold() {
    let image = Image::new();
    let folder = Folder::new(&image.file(false).bytes);
    fs::write(folder.path("net.weights"), &image.weights).unwrap();
    let with = |file_bytes| Library::open_with(&folder.library, &LibraryOptions { file_bytes, ..check_weights() });
    assert!(matches!(with(100), Err(Error::FileTooLarge { limit: 100, .. })));
    assert!(with(1 << 20).is_ok());
}

#[test]
fn every_truncation_is_found() {
    let folder = Folder::new(&[]);
    for (embed, image) in
        [(true, Image::new()), (false, Image::new()), (true, Image::with_state()), (true, Image::with_step())]
    {
        let file = image.file(embed);
        let lengths =
            (0..400).chain((400..file.bytes.len()).step_by(97)).chain(file.bytes.len() - 40..file.bytes.len());
        for len in lengths {
            let error = open_all(&folder.library, &file.bytes[..len]).map(|_| ()).unwrap_err();
            assert!(is_typed(&error), "{len} bytes: {error}");
        }
    }
}

#[test]
fn every_changed_bit_is_found() {
    let folder = Folder::new(&[]);
    for file in [Image::new().file(true), Image::with_state().file(true), Image::with_step().file(true)] {
        let mut bytes = file.bytes.clone();
        let constants = file.weights.start + 64..file.weights.end;
        for at in (0..bytes.len()).filter(|at| !constants.contains(at)) {
            let bit = 1 << (selftest_bits(at as u64) % 8);
            bytes[at] ^= bit;
            let error = open_all(&folder.library, &bytes).map(|_| ()).unwrap_err();
            assert!(is_typed(&error), "byte {at}: {error}");
            bytes[at] ^= bit;
        }
    }
}

#[test]
fn changed_weights_are_found_when_asked() {
    let image = Image::new();
    let mut file = image.file(true);
    for at in (file.weights.start + 64..file.weights.end).step_by(17) {
        file.bytes[at] ^= 0x10;
        let folder = Folder::new(&file.bytes);
        assert!(Library::open(&folder.library).is_ok());
        let checked = Library::open_with(&folder.library, &check_weights());
        assert!(matches!(checked, Err(Error::Weights { field: "hash", .. })), "byte {at}");
        file.bytes[at] ^= 0x10;
    }
    // In a file of their own every bit counts.
    let folder = Folder::new(&image.file(false).bytes);
    for at in 0..image.weights.len() {
        let mut weights = image.weights.clone();
        weights[at] ^= 1 << (selftest_bits(at as u64) % 8);
        fs::write(folder.path("net.weights"), weights).unwrap();
        assert!(matches!(Library::open(&folder.library), Err(Error::Weights { .. })), "byte {at}");
    }
}

#[test]
fn other_weights_are_refused() {
    let mut image = Image::new();
    let folder = Folder::new(&image.file(false).bytes);
    let beside = folder.path("net.weights");
    match Library::open(&folder.library) {
        Err(error @ Error::NoWeights { .. }) => assert!(error.to_string().contains(&beside.display().to_string())),
        other => panic!("{other:?}"),
    }
    let options = LibraryOptions { weights: Some(folder.path("absent")), ..LibraryOptions::default() };
    assert!(
        matches!(Library::open_with(&folder.library, &options), Err(Error::Io { path, .. }) if path.ends_with("absent"))
    );
    let field = |weights: &[u8]| {
        fs::write(&beside, weights).unwrap();
        match Library::open(&folder.library) {
            Err(Error::Weights { path, field, .. }) if path == beside => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(&[]), "size");
    assert_eq!(field(&image.weights[..63]), "size");
    assert_eq!(field(&image.weights[..64]), "size");
    assert_eq!(field(&[&image.weights[..], &[0; 64]].concat()), "size");
    assert_eq!(field(&fs::read(&folder.library).unwrap()), "magic");
    image.weights[24] ^= 1;
    assert_eq!(field(&image.weights), "layout");
    assert!(error(&image).starts_with("unusable weights: layout: expected 123456789abcdef0, found 123456789abcdef1"));
    image.weights[24] ^= 1;
    image.head.weights_bytes += 64;
    assert_eq!(error(&image), "unusable weights: size: expected 704, found 640");
}

#[test]
fn ranges_of_the_parts_are_checked() {
    let file = Image::new().file(true);
    let len = file.bytes.len() as u64;
    let changed = |change: &dyn Fn(&mut Note)| {
        let (mut file, mut note) = (file.clone(), file.get_note());
        change(&mut note);
        file.set_note(&note);
        error_of(&file)
    };
    let found = format!("inside the file of {len} bytes, found 4096 bytes at {}", u64::MAX);
    let message = changed(&|note| (note.tables, note.tables_bytes) = (u64::MAX, 4096));
    assert_eq!(message, format!("damaged library: tables: expected {found}"));
    assert!(changed(&|note| note.tables_bytes = u64::MAX).contains("tables: expected inside"));
    assert!(changed(&|note| note.kernels_bytes = len).contains("kernels: expected inside"));
    assert!(changed(&|note| note.weights_bytes = len).contains("weights: expected inside"));
    assert!(changed(&|note| note.kernels += 64).contains("offset of the kernels: expected a multiple of 4096"));
    assert!(changed(&|note| note.weights -= 64).contains("offset of the weights: expected a multiple of 4096"));
    assert!(changed(&|note| note.weights_bytes = 0).contains("offset of the weights: expected 0"));
    assert!(changed(&|note| note.weights_bytes -= 8).contains("size of the weights: expected a multiple of 64"));
    assert!(changed(&|note| note.kernels = note.weights).contains("offset of the"));
    assert!(changed(&|note| note.weights = note.kernels).contains("offset of the"));
    assert!(changed(&|note| (note.weights, note.weights_bytes) = (0, 8192)).contains("the end of the"));
    assert!(changed(&|note| note.tables = 64).contains("offset of the"));
    assert!(changed(&|note| note.kernels_bytes = 1).contains("kernel: expected code inside the kernels of 1 bytes"));
    assert!(changed(&|note| note.kernels_bytes = 0).contains("kernel: expected code inside the kernels of 0 bytes"));
    assert!(changed(&|note| note.tables_bytes = 8).contains("size of the tables: expected at least"));
}

#[test]
fn lying_counts_and_offsets_are_found() {
    let file = Image::new().file(true);
    let folder = Folder::new(&[]);
    let unused = [std::mem::offset_of!(Head, selftest), std::mem::offset_of!(Head, front_bytes)];
    let fields = (std::mem::offset_of!(Head, selftest)..Head::SIZE).step_by(4).filter(|at| !unused.contains(at));
    for at in fields {
        for value in [u32::MAX, u32::MAX / 2, 1 << 24] {
            let mut file = file.clone();
            file.bytes[file.tables.start + at..][..4].copy_from_slice(&value.to_le_bytes());
            file.rehash();
            let error = open_all(&folder.library, &file.bytes).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "field at {at}: {error}");
        }
    }
}

#[test]
fn contradictions_in_the_tables_are_named() {
    let changed = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::new();
        change(&mut image);
        error(&image)
    };
    assert_eq!(
        changed(&|image| image.args[0] = 5 << 48),
        "damaged library: step 0 (double): argument: expected a base of the binding with an offset that it can have, found 0x5000000000000"
    );
    let arg = |value: u64| changed(&|image| image.args[0] = value);
    for value in [1, 3 << 48 | 4, 2 << 48 | 63, u64::MAX] {
        assert!(arg(value).contains("argument: expected a base"), "{value:#x}");
    }
    assert!(arg(1 << 48 | 1 << 40).contains("arena offset: expected at most"));
    assert!(arg(2 << 48 | 641).contains("constant offset: expected at most 640"));
    let step = |change: fn(&mut Step)| changed(&|image| change(&mut image.steps[1]));
    assert!(step(|step| step.kernel = 4096).contains("step 1 (add): kernel: expected code inside the kernels of"));
    assert!(step(|step| step.kernel_bytes = 0).contains("kernel: expected code inside"));
    assert!(step(|step| step.grain = 0).contains("grain: expected at least 1"));
    assert!(step(|step| step.args = 1000).contains("arguments: expected"));
    assert!(step(|step| step.node = 1 << 20).contains("name: expected UTF-8 inside"));
    assert!(changed(&|image| image.text[5] = 0xff).contains("name: expected UTF-8 inside"));
    assert!(changed(&|image| image.signature[1] = 0xff).contains("manifest: expected UTF-8"));
    assert!(changed(&|image| image.levels[0] = 9).contains("levels: expected known ones, ascending, found 9"));
    assert!(changed(&|image| image.levels.insert(1, 1)).contains("levels: expected known ones, ascending, found 1"));
    assert!(changed(&|image| image.levels.clear()).contains("levels: expected at least one"));
    assert!(changed(&|image| image.ports[0].dtype = 13).contains("port x: element type: expected below 13"));
    assert!(changed(&|image| image.ports[0].rank = 65).contains("port x: rank: expected at most 64"));
    assert!(changed(&|image| image.dims[0] += 1).contains("port x: size: expected that of f32[133], found 528"));
    assert!(changed(&|image| image.dims[0] = u64::MAX).contains("port x: size"));
    assert!(changed(&|image| image.head.arch = 3).contains("architecture: expected"));
    assert!(changed(&|image| image.head.magic = 2).contains("magic of the tables: expected"));
    assert!(changed(&|image| image.head.version = 2).contains("version of the tables: expected 1, found 2"));
}

#[test]
fn parameters_and_states_are_the_sessions_own() {
    let folder = Folder::new(&Image::with_state().file(true).bytes);
    let library = Library::open(&folder.library).unwrap();
    check(&library, 1.0);
    let names = library.variables().iter().map(|variable| variable.port.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["c", "n"]);
    let pool = Arc::new(Pool::new(2, false).unwrap());
    let session = |binding| Session::new(Arc::new(library.program(binding, 0).unwrap()), Arc::clone(&pool)).unwrap();
    let (mut first, mut second) = (session(0), session(0));
    let elements = CHUNKS[0] * CHUNK;
    let tripled: Vec<f32> = (0..elements).map(|i| i as f32 * 3.0).collect();
    first.set_parameter("c", &Tensor::from_f32([elements], &tripled).unwrap()).unwrap();
    check_session(&mut first, 0, 3.0);
    check_session(&mut second, 0, 1.0);
    second.restore_state(&first.save_state()).unwrap();
    check_session(&mut second, 0, 3.0);
    assert_eq!(second.parameter("c").unwrap().as_f32(), Some(&tripled[..]));
    assert_eq!(second.state_bytes(), 64 + 640);
    // The other binding of the same library understands the state.
    let mut other = session(1);
    other.copy_state(&first).unwrap();
    check_session(&mut other, 1, 3.0);
}

#[test]
fn the_parts_of_a_step_share_a_state() {
    let mut image = Image::with_step();
    // The first kernel reads the input, so it is no prologue; that of the second binding's plans is none at all.
    let folder = Folder::new(&image.file(true).bytes);
    let library = Library::open(&folder.library).unwrap();
    assert!(library.is_step() && library.bindings() == 1 && library.inputs(2).len() == 1);
    let programs = [0, 1, 2].map(|part| Arc::new(library.program(part, 0).unwrap()));
    let session = Session::of(programs.to_vec(), Arc::new(Pool::new(2, false).unwrap())).unwrap();
    assert_eq!(session.parameter("n").unwrap().as_f32(), Some(&[0.0][..]), "what the weights do not hold");
    assert_ne!(session.parameter("c").unwrap().as_f32().unwrap()[1], 0.0);
    image.step.as_mut().unwrap().1[0] = 1;
    let folder = Folder::new(&image.file(true).bytes);
    let error = Library::open(&folder.library).unwrap().program(0, LEVELS[0]).unwrap_err().to_string();
    assert!(error.contains("prologue") && error.contains("no input"), "{error}");
}

#[test]
fn contradictions_in_a_step_are_named() {
    let changed = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::with_step();
        change(&mut image);
        error(&image)
    };
    let table = |change: fn(&mut StepTable)| changed(&|image| change(&mut image.step.as_mut().unwrap().0));
    for bytes in [32, 704, u64::MAX - 63] {
        let message = changed(&|image| image.step.as_mut().unwrap().0.initial_bytes = bytes);
        assert!(message.contains("first elements"), "{bytes}: {message}");
    }
    assert!(table(|step| step.prologues_at = 1 << 30).contains("prologues: expected inside the tables"));
    assert!(table(|step| step.exported = 1 << 30).contains("exported variables: expected inside the tables"));
    assert!(table(|step| step.export_head_bytes = 1 << 30).contains("export: expected inside the tables"));
    let bindings = changed(&|image| {
        image.bindings.pop();
    });
    assert!(bindings.contains("bindings of a step: expected 3, found 2"), "{bindings}");
}

#[test]
fn contradictions_in_the_state_are_named() {
    let changed = |change: &dyn Fn(&mut Image)| {
        let mut image = Image::with_state();
        change(&mut image);
        error(&image)
    };
    let table = |change: fn(&mut StateTable)| changed(&|image| change(&mut image.state));
    assert!(table(|state| state.layout ^= 1).contains("layout of the state: expected"));
    assert!(table(|state| state.bytes = 639).contains("variable all: size of the state: expected a multiple of 64"));
    assert!(table(|state| state.bytes = 576).contains("variable n: offset: expected"));
    for initial in [0, 63, 128, u64::MAX, u64::MAX - 63, 1 << 63] {
        let message = changed(&|image| image.state.initial = initial);
        assert!(message.contains("first elements"), "{initial}: {message}");
    }
    assert!(table(|state| state.bytes = 1 << 63).contains("first elements"));
    assert!(table(|state| state.bytes = u64::MAX - 63).contains("first elements"));
    let variable = |change: fn(&mut Variable)| changed(&|image| change(&mut image.variables[1]));
    assert!(variable(|variable| variable.offset = 512).contains("variable n: offset: expected"), "overlaps");
    assert!(variable(|variable| variable.offset = 580).contains("variable n: offset: expected a multiple of 64"));
    assert!(variable(|variable| variable.offset = 640).contains("variable n: offset: expected"));
    assert!(variable(|variable| variable.offset = u64::MAX - 63).contains("variable n: offset: expected"));
    assert!(variable(|variable| variable.kind = 2).contains("variable n: kind: expected below 2, found 2"));
    assert!(variable(|variable| variable.dtype = 13).contains("element type: expected below 13"));
    assert!(variable(|variable| variable.bytes = 8).contains("size: expected that of f32[1]"));
    assert!(variable(|variable| variable.rank = 65).contains("rank: expected at most 64"));
    assert!(variable(|variable| variable.first_dim = u32::MAX).contains("extents: expected"));
    assert!(variable(|variable| variable.name = 1 << 20).contains("name: expected UTF-8 inside"));
    assert!(changed(&|image| image.variables[1].name = image.variables[0].name).contains("variable c: name: expected"));
    assert!(changed(&|image| image.head.version = 1).contains("version of the tables: expected 2, found 1"));
    assert!(changed(&|image| image.variables.clear()).contains("version of the tables: expected 1, found 2"));
    let arg = |value: u64| changed(&|image| image.args[0] = value);
    assert!(arg(6 << 48).contains("argument: expected a base"));
    assert!(arg(5 << 48 | 641).contains("state offset: expected at most 640"));
}

#[test]
fn sharing_does_not_multiply_allocations() {
    let mut image = Image::new();
    image.bindings = vec![image.bindings[0]; 1000];
    image.plans = vec![image.plans[0]; 1000 * LEVELS.len()];
    assert!(error(&image).contains("ports: expected 4 in all bindings"));
    let mut image = Image::new();
    let long = image.add_text(&"x".repeat(1 << 20));
    image.steps = vec![Step { node: long, ..image.steps[0] }; 1000];
    image.plans.iter_mut().for_each(|plan| plan.steps = 1000);
    image.plans.iter_mut().for_each(|plan| plan.first_step = 0);
    image.args.resize(2000, 0);
    assert!(error(&image).contains("name: expected UTF-8 inside"));
}

/// The most address space that this process had, bytes.
fn peak_address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn random_tables_with_the_right_hash_cannot_hurt() {
    let folder = Folder::new(&[]);
    let originals = [Image::new().file(true), Image::with_state().file(true)];
    let before = peak_address_space();
    let mut accepted = 0;
    for round in 0..10_000u64 {
        let mut random = (0..).map(|i| selftest_bits(round * 64 + i));
        let mut next = || random.next().unwrap();
        let mut file = originals[(round % 2) as usize].clone();
        for _ in 0..1 + next() % 3 {
            let part = if next().is_multiple_of(8) { file.note.clone() } else { file.tables.clone() };
            let at = part.start + (next() as usize % (part.len() / 4 - 1)) * 4;
            let old = u64::from_le_bytes(file.bytes[at..at + 8].try_into().unwrap());
            let value = match next() % 6 {
                0 => u64::MAX >> (next() % 64),
                1 => next(),
                2 => 1 << (next() % 64),
                3 => old.wrapping_add(next() % 9).wrapping_sub(4),
                4 => old ^ 1 << (next() % 64),
                _ => next() % 256,
            };
            let width = if next().is_multiple_of(2) { 4 } else { 8 };
            file.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        file.rehash();
        match open_all(&folder.library, &file.bytes) {
            Ok(_) => accepted += 1,
            Err(error) => assert!(is_typed(&error), "round {round}: {error}"),
        }
    }
    assert!((500..9_500).contains(&accepted), "{accepted} accepted");
    assert!(peak_address_space() - before < 1 << 30);
}
