//! A training step as a library: the bits of the one in memory, through the loader and through C.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::Arc;

use fornax::ir::training::Optimiser;
use fornax::runtime::Program;
use fornax::runtime::artifact::{STEP_GRADIENTS, STEP_PREDICT, STEP_UPDATE};
use fornax::train::library::artifacts;
use fornax::train::recipe::{Norms, Recipe};
use fornax::train::scope::Scope;
use fornax::train::step::Step;

use super::*;

const STEPS: u64 = 20;
const IMAGES: usize = 4;
const RATE: f32 = 0.003;
const DECAY: f64 = 0.05;
/// What is dropped goes by this, and by these numbers of the images.
const SEED: u64 = 0xfeed_0000_0000_0007;
const KEYS: [u64; IMAGES] = [11, 0, u64::MAX, 1 << 40];

/// The pass over the images to which a step belongs.
fn epoch(number: u64) -> u64 {
    number / 3
}

/// One after the other: three channels of 96 x 96.
fn images() -> Vec<f32> {
    random_values(5, IMAGES * 3 * 96 * 96)
}

/// Smoothed, over the number of images.
fn targets() -> Vec<f32> {
    let target = |at: usize| f32::from(u8::from(at % 12 == at / 12 * 3)) * 0.9 + 0.1 / 12.0;
    (0..IMAGES * 12).map(|at| target(at) / IMAGES as f32).collect()
}

const ADAMW: Optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
const RMSPROP: Optimiser = Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 };

fn recipe(optimiser: Optimiser) -> Recipe {
    Recipe { optimiser, weight_decay: DECAY, ..Recipe::default() }
}

/// Everything that a step can have besides, batch norms fixed: gradients are cut in some steps.
fn rich() -> Recipe {
    let dropped = Recipe { dropout: 0.3, drop_path: 0.4, ..recipe(ADAMW) };
    Recipe { scope: Scope::Top(4), layer_decay: 0.8, clip: Some(6.0), ema: Some(0.6), ..dropped }
}

/// Batch norms that follow the batch, averages of what follows, and features that are dropped.
fn following() -> Recipe {
    let sgd = Optimiser::Sgd { momentum: 0.9, nesterov: true };
    Recipe { norms: Norms::Trained, ema: Some(0.9), dropout: 0.5, ..recipe(sgd) }
}

/// So many images for each run: one, unless statistics are of all of them.
fn together(recipe: &Recipe) -> usize {
    if recipe.norms == Norms::Trained { IMAGES } else { 1 }
}

fn bindings(recipe: &Recipe) -> Bindings {
    let mut bindings = Bindings::default();
    bindings.shapes.insert(signs().inputs()[0].name.clone(), vec![together(recipe), 3, 96, 96]);
    bindings
}

/// What a recipe comes to in memory after twenty steps.
struct InMemory {
    losses: Vec<f32>,
    /// Of each step, -1 where nothing is clipped.
    norms: Vec<f32>,
    step: Step,
}

fn in_memory(recipe: &Recipe, threads: usize) -> InMemory {
    let mut step = recipe.step(&signs(), &bindings(recipe), threads).unwrap();
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for number in 1..=STEPS {
        for inputs in calls(recipe, &step, number) {
            losses.extend(step.gradients(&inputs.iter().collect::<Vec<_>>()).unwrap().0);
        }
        norms.push(step.update(&recipe.rates(RATE.into(), number)).unwrap().unwrap_or(-1.0));
    }
    InMemory { losses, norms, step }
}

/// The inputs of each call of the gradients of a step: images, targets, factors of what is dropped.
fn calls(recipe: &Recipe, step: &Step, number: u64) -> Vec<Vec<Tensor>> {
    let [image, target] = [0, 1].map(|at: usize| step.inputs()[at].shape.to_vec());
    let masks = |keys: &[u64]| recipe.masks(step, SEED, epoch(number), keys).unwrap();
    let pairs = tensors_of(&image, &target).into_iter().zip(KEYS.chunks(together(recipe)));
    pairs.map(|((image, target), keys)| [vec![image, target], masks(keys)].concat()).collect()
}

/// The images of each call with their targets.
fn tensors_of(image: &[usize], target: &[usize]) -> Vec<(Tensor, Tensor)> {
    let (images, targets) = (images(), targets());
    let sizes = [image, target].map(|shape| shape.iter().product::<usize>());
    let pair = |at: usize| {
        let image = Tensor::from_f32(image.to_vec(), &images[at * sizes[0]..][..sizes[0]]).unwrap();
        (image, Tensor::from_f32(target.to_vec(), &targets[at * sizes[1]..][..sizes[1]]).unwrap())
    };
    (0..images.len() / sizes[0]).map(pair).collect()
}

fn library(recipe: &Recipe, targets: Vec<Target>, kinds: &[Emit]) -> Folder {
    let folder = Folder(tempfile::tempdir().unwrap());
    let options = ArtifactOptions { targets, bindings: vec![bindings(recipe)], ..ArtifactOptions::new("net") };
    for file in artifacts(&signs(), recipe, &options, kinds).unwrap().files {
        std::fs::write(folder.path("net", file.kind), file.parts.concat()).unwrap();
    }
    folder
}

/// The inputs of an update.
fn rates(recipe: &Recipe, ports: &[fornax::Port], number: u64) -> Vec<Tensor> {
    let rates = recipe.rates(RATE.into(), number);
    let rate = |port: &fornax::Port| match port.name.as_str() {
        "lr" => rates.lr,
        "clip" => rates.clip,
        "ema" => rates.ema,
        "correction1" => fornax::ir::training::correction(0.9, number),
        _ => fornax::ir::training::correction(0.999, number),
    };
    ports.iter().map(|port| Tensor::from_f32([1], &[rate(port) as f32]).unwrap()).collect()
}

#[test]
fn the_loader_runs_the_parts_of_a_step_over_one_state() {
    let levels: Vec<Target> = Target::all().filter(|target| target.arch() == Arch::HOST).collect();
    for recipe in [recipe(ADAMW), rich(), following()] {
        let folder = library(&recipe, levels.clone(), &[Emit::So]);
        let expected = in_memory(&recipe, 1);
        let library = Library::open(folder.path("net", Emit::So)).unwrap();
        assert!(library.is_step() && library.bindings() == 1);
        let held = |target: &Target| target.fma() && library.levels().contains(&target.level);
        for target in Target::runnable().into_iter().filter(held) {
            let program = |part| Arc::new(library.program(part, target.level.number).unwrap());
            let parts = [STEP_PREDICT, STEP_GRADIENTS, STEP_UPDATE].map(program);
            assert!(parts[STEP_GRADIENTS].prologue() > 0, "what depends on parameters alone runs once an update");
            for threads in [1, 2] {
                let (losses, norms, state) = loaded(&recipe, &parts, threads, &expected.step);
                let what = format!("{recipe:?}: {target} on {threads} threads");
                assert_eq!((losses, norms), (expected.losses.clone(), expected.norms.clone()), "{what}");
                assert!(state == expected.step.save_state(), "{what}: another state");
            }
        }
    }
}

/// Losses, norms and the state at the end of twenty steps with the programs of a library.
fn loaded(recipe: &Recipe, parts: &[Arc<Program>; 3], threads: usize, like: &Step) -> (Vec<f32>, Vec<f32>, Vec<u8>) {
    let mut session = Session::of(parts.to_vec(), Arc::new(Pool::new(threads, false).unwrap())).unwrap();
    let zeros = |part: usize| -> Vec<Tensor> {
        let ports = parts[part].outputs().iter();
        ports.map(|port| Tensor::zeros(port.dtype, port.shape.clone()).unwrap()).collect()
    };
    let (mut outputs, mut norm) = (zeros(STEP_GRADIENTS), zeros(STEP_UPDATE));
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for number in 1..=STEPS {
        for inputs in calls(recipe, like, number) {
            session.run_program(STEP_GRADIENTS, &inputs.iter().collect::<Vec<_>>(), &mut outputs).unwrap();
            losses.extend(outputs[0].as_f32().unwrap());
        }
        let rates = rates(recipe, parts[STEP_UPDATE].inputs(), number);
        session.run_program(STEP_UPDATE, &rates.iter().collect::<Vec<_>>(), &mut norm).unwrap();
        norms.push(norm.first().map_or(-1.0, |norm| norm.as_f32().unwrap()[0]));
    }
    (losses, norms, session.save_state())
}

/// Opened as any model, it says what the network says that it was made of.
#[test]
fn a_step_is_a_model() {
    let folder = library(&recipe(ADAMW), Target::multi(Arch::HOST), &[Emit::So]);
    let found = outputs(&folder.path("net", Emit::So), None, 2, &signs_input());
    assert!(close(&run(&signs(), 2, &signs_input())[0], &found[0]));
    assert_eq!(Model::open(folder.path("net", Emit::So)).unwrap().labels().unwrap(), signs().labels().unwrap());
}

#[test]
fn c_programs_train() {
    if c_compiler("cc").is_none() {
        return;
    }
    // Linked in other ways and with other recipes, on the best level.
    let best: &[&str] = &["best"];
    for (recipe, libraries) in [
        (recipe(ADAMW), &[("net.so", &[][..]), ("net.o", best)][..]),
        (recipe(RMSPROP), &[("net.o", best)]),
        (rich(), &[("net.so", &[][..])]),
        (following(), &[("net.o", best)]),
    ] {
        let kinds = [Emit::So, Emit::Object, Emit::Header];
        let folder = library(&recipe, Target::multi(Arch::HOST), &kinds);
        let InMemory { losses, norms, step } = in_memory(&recipe, 2);
        let dir = folder.0.path();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(dir.join(name), bytes).unwrap();
        let clip = recipe.clip.unwrap_or(0.0) as f32;
        let cut = norms.iter().filter(|norm| **norm > clip).count();
        assert!(recipe.clip.is_none() || (1..norms.len()).contains(&cut), "clipped in some steps: {norms:?}");
        let scores = predicted(&folder, &step);
        predicts_what_is_exported(&recipe, &step, &scores);
        let files = [("images", images()), ("targets", targets()), ("losses", losses), ("norms", norms)];
        for (name, values) in files.into_iter().chain([("scores", scores)]) {
            write(&format!("{name}.bin"), values.iter().flat_map(|value| value.to_le_bytes()).collect());
        }
        write("keys.bin", [&[SEED], &KEYS[..]].concat().iter().flat_map(|key| key.to_le_bytes()).collect());
        write("end.bin", step.save_state());
        for (library, arguments) in libraries {
            run_c(dir, "step.c", library, &arguments.iter().map(OsStr::new).collect::<Vec<_>>());
        }
        exported_as(&dir.join("exported.safetensors"), &step, recipe.ema.is_some());
    }
}

/// The network with what a step has learnt says what its library predicts.
fn predicts_what_is_exported(recipe: &Recipe, step: &Step, scores: &[f32]) {
    let learnt = signs().with_weights(step.constants(recipe.ema.is_some()).unwrap()).unwrap();
    let found = tensors_of(&[1, 3, 96, 96], &[1, 12]).into_iter();
    let found = found.flat_map(|(image, _)| run(&learnt, 1, &image)[0].as_f32().unwrap().to_vec());
    let most = scores.iter().fold(0f32, |most, score| most.max(score.abs()));
    assert!(found.zip(scores).all(|(a, b)| (a - b).abs() <= 2e-5 * most), "{recipe:?}");
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
    tensors_of(&shape, &[shape[0], 12]).into_iter().flat_map(&mut say).collect()
}

/// The file holds every trained parameter and running average, or the average of each, under the name of the model's, with its bits.
fn exported_as(path: &Path, step: &Step, average: bool) {
    let found = tensors::load(path).unwrap();
    assert_eq!(found.len(), step.parameters().len() + step.running().len());
    for one in found {
        let name = one.name.unwrap();
        let own = step.variable(&if average { format!("ema.{name}") } else { name.clone() }).unwrap();
        assert!(own.shape() == one.tensor.shape() && own.bytes() == one.tensor.bytes(), "{name}");
    }
}

#[test]
fn the_header_of_a_step_is_c_and_cpp() {
    let folder = library(&recipe(ADAMW), Target::multi(Arch::HOST), &[Emit::Header]);
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
