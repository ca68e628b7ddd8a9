//! A training step as a library: the bits of the one in memory, through the loader and through C.

use std::process::Command;
use std::sync::Arc;

use fornax::ir::training::Optimiser;
use fornax::runtime::artifact::{STEP_GRADIENTS, STEP_PREDICT, STEP_UPDATE};
use fornax::train::library::artifacts;
use fornax::train::recipe::Recipe;
use fornax::train::scope::Scope;
use fornax::train::step::{Rates, Step};

use super::*;

const STEPS: u64 = 20;
const IMAGES: usize = 4;
const RATE: f32 = 0.003;
const DECAY: f64 = 0.05;

/// One after the other: three channels of 96 x 96.
fn images() -> Vec<f32> {
    random_values(5, IMAGES * 3 * 96 * 96)
}

/// Smoothed, over the number of images.
fn targets() -> Vec<f32> {
    let target = |at: usize| f32::from(u8::from(at % 12 == at / 12 * 3)) * 0.9 + 0.1 / 12.0;
    (0..IMAGES * 12).map(|at| target(at) / IMAGES as f32).collect()
}

fn recipe(optimiser: Optimiser) -> Recipe {
    Recipe { scope: Scope::All, optimiser, weight_decay: DECAY }
}

/// The demo's training step in memory, and what it has after twenty steps: losses, and itself.
fn in_memory(optimiser: Optimiser, threads: usize) -> (Vec<f32>, Step) {
    let mut step = recipe(optimiser).step(&signs(), &Bindings::default(), threads).unwrap();
    let mut losses = Vec::new();
    for number in 1..=STEPS {
        for (image, target) in tensors_of(&step.inputs()[0].shape.clone(), &step.inputs()[1].shape.clone()) {
            losses.push(step.gradients(&[&image, &target]).unwrap().0[0]);
        }
        step.update(&Rates::new(f64::from(RATE), number)).unwrap();
    }
    (losses, step)
}

/// Each image with its targets.
fn tensors_of(image: &[usize], target: &[usize]) -> Vec<(Tensor, Tensor)> {
    let (images, targets) = (images(), targets());
    let sizes = [image, target].map(|shape| shape.iter().product::<usize>());
    let pair = |at: usize| {
        let image = Tensor::from_f32(image.to_vec(), &images[at * sizes[0]..][..sizes[0]]).unwrap();
        (image, Tensor::from_f32(target.to_vec(), &targets[at * sizes[1]..][..sizes[1]]).unwrap())
    };
    (0..IMAGES).map(pair).collect()
}

fn library(optimiser: Optimiser, targets: Vec<Target>, kinds: &[Emit]) -> Folder {
    let folder = Folder(tempfile::tempdir().unwrap());
    let options = ArtifactOptions { targets, ..ArtifactOptions::new("net") };
    for file in artifacts(&signs(), &recipe(optimiser), &options, kinds).unwrap().files {
        std::fs::write(folder.path("net", file.kind), file.parts.concat()).unwrap();
    }
    folder
}

const ADAMW: Optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// The inputs of an update.
fn rates(ports: &[fornax::Port], number: u64) -> Vec<Tensor> {
    let rate = |port: &fornax::Port| match port.name.as_str() {
        "lr" => RATE,
        "correction1" => fornax::ir::training::correction(0.9, number) as f32,
        _ => fornax::ir::training::correction(0.999, number) as f32,
    };
    ports.iter().map(|port| Tensor::from_f32([1], &[rate(port)]).unwrap()).collect()
}

#[test]
fn the_loader_runs_the_parts_of_a_step_over_one_state() {
    let folder = library(ADAMW, Target::all().filter(|target| target.arch() == Arch::HOST).collect(), &[Emit::So]);
    let (losses, step) = in_memory(ADAMW, 1);
    let library = Library::open(folder.path("net", Emit::So)).unwrap();
    assert!(library.is_step() && library.bindings() == 1);
    for target in Target::runnable().into_iter().filter(Target::fma) {
        let program = |part| Arc::new(library.program(part, target.level.number).unwrap());
        let parts = [STEP_PREDICT, STEP_GRADIENTS, STEP_UPDATE].map(program);
        assert!(parts[STEP_GRADIENTS].prologue() > 0, "what depends on parameters alone runs once an update");
        for threads in [1, 2] {
            let mut session = Session::of(parts.to_vec(), Arc::new(Pool::new(threads, false).unwrap())).unwrap();
            let zeros = |part: usize| -> Vec<Tensor> {
                let ports = parts[part].outputs().iter();
                ports.map(|port| Tensor::zeros(port.dtype, port.shape.clone()).unwrap()).collect()
            };
            let mut outputs = zeros(STEP_GRADIENTS);
            let [image, target_of] = [0, 1].map(|at: usize| parts[STEP_GRADIENTS].inputs()[at].shape.to_vec());
            let pairs = tensors_of(&image, &target_of);
            let mut found = Vec::new();
            for number in 1..=STEPS {
                for (image, target) in &pairs {
                    session.run_program(STEP_GRADIENTS, &[image, target], &mut outputs).unwrap();
                    found.push(outputs[0].as_f32().unwrap()[0]);
                }
                let rates = rates(parts[STEP_UPDATE].inputs(), number);
                session.run_program(STEP_UPDATE, &rates.iter().collect::<Vec<_>>(), &mut []).unwrap();
            }
            assert_eq!(found, losses, "{target} on {threads} threads");
            assert!(session.save_state() == step.save_state(), "{target} on {threads} threads: another state");
        }
    }
}

/// Opened as any model, it says what the network says that it was made of.
#[test]
fn a_step_is_a_model() {
    let folder = library(ADAMW, Target::multi(Arch::HOST), &[Emit::So]);
    let found = outputs(&folder.path("net", Emit::So), None, 2, &signs_input());
    assert!(close(&run(&signs(), 2, &signs_input())[0], &found[0]));
    assert_eq!(Model::open(folder.path("net", Emit::So)).unwrap().labels().unwrap(), signs().labels().unwrap());
}

#[test]
fn c_programs_train() {
    if c_compiler("cc").is_none() {
        return;
    }
    let rmsprop = Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 };
    // Linked in other ways and with another optimiser, on the best level.
    for (optimiser, libraries) in
        [(ADAMW, &[("net.so", &[][..]), ("net.o", &["best"])][..]), (rmsprop, &[("net.o", &["best"])])]
    {
        let kinds = [Emit::So, Emit::Object, Emit::Header];
        let folder = library(optimiser, Target::multi(Arch::HOST), &kinds);
        let (losses, step) = in_memory(optimiser, 2);
        let dir = folder.0.path();
        let write = |name: &str, values: &[f32]| {
            std::fs::write(dir.join(name), values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
                .unwrap();
        };
        write("images.bin", &images());
        write("targets.bin", &targets());
        write("losses.bin", &losses);
        write("scores.bin", &predicted(&folder, &step));
        std::fs::write(dir.join("end.bin"), step.save_state()).unwrap();
        let [_, shared] = abi_source();
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/artifact/step.c");
        for (library, arguments) in libraries {
            let program = dir.join(format!("with {library}"));
            let strict =
                ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1"];
            let mut cc = Command::new("cc");
            cc.args(strict).arg("-I").arg(dir).arg("-I").arg(&shared).arg(&source);
            succeed(cc.arg(dir.join(library)).args(["-pthread", "-o"]).arg(&program));
            let mut command = Command::new(&program);
            let text = succeed(command.args(*arguments).current_dir(dir).env("LD_LIBRARY_PATH", dir));
            assert!(text.ends_with("all checks hold\n"), "{library}: {text}");
        }
        exported_as(&dir.join("exported.safetensors"), &step);
    }
}

/// What the library's network says of the images with the parameters of `step`.
fn predicted(folder: &Folder, step: &Step) -> Vec<f32> {
    let program = Library::open(folder.path("net", Emit::So)).unwrap().program(STEP_PREDICT, 0).unwrap();
    let shape = program.inputs()[0].shape.to_vec();
    let mut session = Session::new(Arc::new(program), Arc::new(Pool::new(1, false).unwrap())).unwrap();
    session.restore_state(&step.save_state()).unwrap();
    let mut outputs = session.outputs().unwrap();
    let mut say = |(image, _): (Tensor, Tensor)| {
        session.run(&[&image], &mut outputs).unwrap();
        outputs[0].as_f32().unwrap().to_vec()
    };
    tensors_of(&shape, &[1, 12]).into_iter().flat_map(&mut say).collect()
}

/// The file holds every trained parameter under the name of the model's, with its bits.
fn exported_as(path: &Path, step: &Step) {
    let found = tensors::load(path).unwrap();
    assert_eq!(found.len(), step.parameters().len());
    for one in found {
        let name = one.name.unwrap();
        let own = step.variable(&name).unwrap();
        assert!(own.shape() == one.tensor.shape() && own.bytes() == one.tensor.bytes(), "{name}");
    }
}

#[test]
fn the_header_of_a_step_is_c_and_cpp() {
    let folder = library(ADAMW, Target::multi(Arch::HOST), &[Emit::Header]);
    let source =
        "#include \"net.h\"\n#include \"net.h\"\nint main(void) { return NET_OK + (int)sizeof(fornax_step) * 0; }\n";
    for (compiler, name) in [("cc", "main.c"), ("c++", "main.cc")] {
        let Some(mut command) = c_compiler(compiler) else { continue };
        std::fs::write(folder.0.path().join(name), source).unwrap();
        let strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"];
        succeed(command.args(strict).arg(name).current_dir(folder.0.path()));
    }
}

/// A new last layer begins at zero, so every class is as likely; a library of the head alone keeps little besides.
#[test]
fn a_step_for_other_classes() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let (recipe, options) = (Recipe { scope: Scope::Head, ..Recipe::default() }, ArtifactOptions::new("net"));
    let five = signs().for_classes(5, None).unwrap();
    for file in artifacts(&five, &recipe, &options, &[Emit::So]).unwrap().files {
        std::fs::write(folder.path("net", file.kind), file.parts.concat()).unwrap();
    }
    let model = Model::open(folder.path("net", Emit::So)).unwrap();
    assert_eq!(model.labels().unwrap(), None, "labels of other classes");
    assert_eq!(run(&model, 1, &signs_input())[0].as_f32().unwrap(), [0.0; 5]);
    let library = Library::open(folder.path("net", Emit::So)).unwrap();
    let parameters = library.variables().iter().filter(|v| v.kind == fornax::runtime::VariableKind::Parameter);
    let shapes: Vec<Vec<usize>> = parameters.map(|variable| variable.port.shape.to_vec()).collect();
    assert_eq!(shapes, [vec![5, 448], vec![5]]);
    let refused = |recipe: Recipe, options: &ArtifactOptions| {
        artifacts(&signs(), &recipe, options, &[Emit::So]).unwrap_err().to_string()
    };
    let one = signs().for_classes(1, None).unwrap_err().to_string();
    assert!(one.contains("--classes: expected at least two"), "{one}");
    let decay = refused(Recipe { weight_decay: f64::NAN, ..recipe }, &options);
    assert!(decay.contains("--weight-decay: expected a number from 0"), "{decay}");
    let two = ArtifactOptions { bindings: vec![Bindings::default(); 2], ..options };
    assert!(refused(recipe, &two).contains("expected one set of shapes"));
}

#[test]
fn a_step_takes_the_weights_of_another_network() {
    let (recipe, folder) = (Recipe { scope: Scope::Head, ..Recipe::default() }, Folder(tempfile::tempdir().unwrap()));
    let write = |model: &Model, name: &str, kinds: &[Emit]| {
        let options = ArtifactOptions { embed: false, ..ArtifactOptions::new(name) };
        for file in artifacts(model, &recipe, &options, kinds).unwrap().files {
            std::fs::write(folder.path(name, file.kind), file.parts.concat()).unwrap();
        }
    };
    let (first, second) = (b0(1), b0(2));
    write(&first, "net", &[Emit::So, Emit::Weights]);
    write(&second, "other", &[Emit::Weights]);
    let path = folder.path("net", Emit::So);
    let library = LibrarySource { weights: Some(folder.path("other", Emit::Weights)), check_weights: false };
    let replaced = Model::open_with(&path, &Options { library, ..Options::default() }).unwrap();
    let found = [Model::open(&path).unwrap(), replaced].map(|model| run(&model, 1, &picture(1)).remove(0));
    let expected = [first, second].map(|model| run(&model, 1, &picture(1)).remove(0));
    assert!(close(&expected[0], &found[0]) && close(&expected[1], &found[1]) && !close(&found[0], &found[1]));
}

/// The program that the page on fine-tuning names, built as its first lines say.
#[test]
fn the_example_learns_on_the_device() {
    let Some(mut cc) = c_compiler("cc") else { return };
    let folder = Folder(tempfile::tempdir().unwrap());
    let (recipe, options) = (Recipe { scope: Scope::Head, ..Recipe::default() }, ArtifactOptions::new("adapt"));
    let two = signs().for_classes(2, None).unwrap();
    for file in artifacts(&two, &recipe, &options, &[Emit::Archive, Emit::Header]).unwrap().files {
        std::fs::write(folder.path("adapt", file.kind), file.parts.concat()).unwrap();
    }
    let (program, exported) = (folder.0.path().join("adapt"), folder.0.path().join("adapt.safetensors"));
    cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(folder.0.path())
        .arg(support::examples().join("c/adapt.c"));
    succeed(cc.arg(folder.path("adapt", Emit::Archive)).arg("-o").arg(&program));
    let said = succeed(Command::new(&program).arg(support::examples().join("signs.input.npy")).arg(&exported));
    assert!(said.ends_with("8 of 8 new pictures right\n"), "{said}");
    let learnt = two.with_weights(
        tensors::load(&exported)
            .unwrap()
            .into_iter()
            .map(|one| {
                let ty = fornax_ir::types::TensorType::new(one.tensor.dtype(), one.tensor.shape().clone());
                let constant = fornax_ir::types::Constant::from_bytes(ty, one.tensor.bytes().to_vec());
                (one.name.unwrap(), constant)
            })
            .collect(),
    );
    // The sign is not upside down.
    let scores = run(&learnt.unwrap(), 1, &signs_input())[0].as_f32().unwrap().to_vec();
    assert!(scores[0] > scores[1], "{scores:?}");
}
