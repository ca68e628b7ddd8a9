//! Training with the loop in the program: gradients, updates, checkpoints, and what the network says in between.
//!
//! `cargo run --release --example train -- examples/signs.onnx examples/transfer target/examples/trained`

use std::error::Error;
use std::path::Path;

use fornax::train::dataset::{Dataset, DatasetOptions};
use fornax::train::outputs::probabilities;
use fornax::train::photos::{BadImages, Photos};
use fornax::train::random::{Draw, Purpose};
use fornax::train::recipe::Recipe;
use fornax::train::schedule::{Schedule, Shape};
use fornax::train::scope::Scope;
use fornax::train::step::Rates;
use fornax::{ArtifactOptions, Bindings, Emit, Model, Tensor, write_file};

const EPOCHS: usize = 6;
const BATCH: usize = 12;
const SEED: u64 = 0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, photos, output] = &arguments[..] else { return Err("usage: train MODEL PHOTOS OUTPUT".into()) };
    train(Path::new(model), Path::new(photos), Path::new(output))
}

/// Trains the model of a file on the photos in a folder, and writes a checkpoint, the network and a library of it into another.
pub fn train(model: &Path, photos: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(output)?;

    let dataset = Dataset::open(photos, &DatasetOptions::default())?;
    let classes = dataset.classes.len();
    let model = Model::open(model)?.for_classes(classes, Some(&dataset.classes))?;
    let preprocess = model.preprocess()?.ok_or("the model does not say how to prepare photos")?;
    let threads = fornax::runtime::available_threads();
    let load = |photos| Photos::load(photos, &preprocess, BadImages::Refuse, 1 << 30, threads);
    let (train, val) = (load(dataset.training)?, load(dataset.validation)?);

    // What is trained, and by what. A step takes one image at a time: memory does not grow with the batch.
    let recipe = Recipe { scope: Scope::Top(2), weight_decay: 0.02, ..Recipe::default() };
    let mut step = recipe.step(&model, &Bindings::default(), threads)?;
    let checkpoint = output.join("checkpoint");
    let per_epoch = train.len().div_ceil(BATCH);
    let schedule = Schedule { shape: Shape::Cosine, peak: 2e-3, warmup: per_epoch, steps: EPOCHS * per_epoch };

    let mut number = 0;
    for epoch in 0..EPOCHS {
        let mut order: Vec<usize> = (0..train.len()).collect();
        Draw::new(SEED, Purpose::Order, epoch as u64, 0).shuffle(&mut order);
        let mut total = 0.0;
        for batch in order.chunks(BATCH) {
            for photo in batch {
                // Over the batch, so that the sum of the losses is their mean.
                let mut targets = vec![0.0; classes];
                targets[train.photos()[*photo].class] = 1.0 / batch.len() as f32;
                let targets = Tensor::from_f32([1, classes], &targets)?;
                let (loss, _logits) = step.gradients(&[&train.tensor(*photo)?, &targets])?;
                total += f64::from(loss[0]);
            }
            step.update(&Rates::new(schedule.rate(number), number as u64 + 1))?;
            number += 1;
        }
        // What `restore_state` goes on from: parameters, moments, sums.
        write_file(&checkpoint, &step.save_state())?;

        let trained = model.with_weights(step.constants(false)?)?;
        let said = probabilities(&trained, &val, threads)?;
        let best =
            |row: &[f64]| (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        let right = val.photos().iter().zip(&said).filter(|(photo, row)| best(row) == photo.class).count();
        println!("epoch {}: loss {:.4}, {right} of {} right", epoch + 1, total / per_epoch as f64, val.len());
    }

    // The network, and a library of it for C, Rust and Python.
    let trained = model.with_weights(step.constants(false)?)?;
    write_file(output.join("model.onnx"), &trained.export(&Bindings::default(), false, true)?)?;
    for file in trained.artifacts(&ArtifactOptions::new("net"), &[Emit::So, Emit::Header])?.files {
        write_file(output.join(format!("net.{}", file.kind.suffix())), &file.parts.concat())?;
    }
    Ok(())
}
