//! What a network says of photos: its first output, one image at a time.
//!
//! In: a model and images. Out: the values of the first output for each, in order. Every thread has a session and images of its
//! own, so that the values are those of a single image, whatever the number of threads.

use fornax_ir::inputs::Bindings;
use fornax_runtime::Tensor;

use super::logistic::Samples;
use super::parallel::try_map;
use super::photos::Photos;
use crate::classify;
use crate::error::{Error, Result};
use crate::facade::{Model, SessionOptions};

/// The first output of `model` for the input `tensor(i)` of every image `i` below `count`, all of one shape, on at most `threads` threads;
/// `done` is called after each. `bindings` are those for that shape.
///
/// # Errors
/// As [`Model::bind`] and [`crate::Session::run`], and of `tensor`; [`Error::Input`] if the output is not one row of `f32`.
pub fn rows(
    model: &Model,
    bindings: &Bindings,
    (count, threads): (usize, usize),
    tensor: &(dyn Fn(usize) -> Result<Tensor> + Sync),
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Vec<f32>>> {
    // Compiled once: the sessions share the program.
    model.bind(bindings)?;
    let session = || model.session(&SessionOptions { threads: 1, pin: false, bindings: bindings.clone() });
    try_map(threads, count, session, |session, at| {
        let row = row(&session.run(&[&tensor(at)?])?)?;
        done();
        Ok(row)
    })
}

/// The first output of `model` for every photo, as [`rows`].
///
/// # Errors
/// As there; [`Error::Input`] if the model has several inputs.
pub fn outputs(model: &Model, photos: &Photos, threads: usize) -> Result<Vec<Vec<f32>>> {
    if photos.is_empty() {
        return Ok(Vec::new());
    }
    rows(model, &bindings(model, photos)?, (photos.len(), threads), &|at| photos.tensor(at), &|| {})
}

/// What a feature extractor makes of photos of `classes` classes, as [`outputs`].
///
/// # Errors
/// As there; [`Error::Input`] if there are no photos, or a feature is not finite.
pub fn features_of(model: &Model, photos: &Photos, classes: usize, threads: usize) -> Result<Samples> {
    samples(outputs(model, photos, threads)?, photos, classes)
}

/// [`features_of`] the mirror images of photos.
///
/// # Errors
/// As there.
pub fn features_of_mirrored(model: &Model, photos: &Photos, classes: usize, threads: usize) -> Result<Samples> {
    if photos.is_empty() {
        return samples(Vec::new(), photos, classes);
    }
    let bindings = bindings(model, photos)?;
    let rows = rows(model, &bindings, (photos.len(), threads), &|at| photos.mirrored(at), &|| {})?;
    samples(rows, photos, classes)
}

/// Rows of features with the classes of their photos.
fn samples(rows: Vec<Vec<f32>>, photos: &Photos, classes: usize) -> Result<Samples> {
    let labels = photos.photos().iter().map(|photo| photo.class).collect();
    Samples::new(rows.concat(), rows.first().map_or(0, Vec::len), labels, classes)
}

/// The probabilities of a classifier for every photo, on at most `threads` threads.
///
/// # Errors
/// As [`outputs`]; [`Error::Input`] if there are no photos, or the output is not one score per class.
pub fn probabilities(model: &Model, photos: &Photos, threads: usize) -> Result<Vec<Vec<f64>>> {
    let rows = outputs(model, photos, threads)?;
    let Some(width) = rows.first().map(Vec::len) else {
        return Err(Error::input("photos", "at least one", "none"));
    };
    let scores = model.scores(&*model.bind(&bindings(model, photos)?)?)?;
    classify::probabilities(&Tensor::from_f32([rows.len(), width], &rows.concat())?, scores)
}

/// The shape of the one input that a photo makes.
fn bindings(model: &Model, photos: &Photos) -> Result<Bindings> {
    let [input] = model.inputs() else {
        return Err(Error::input("model", "one input, of photos", format!("{} inputs", model.inputs().len())));
    };
    let mut bindings = Bindings::default();
    bindings.shapes.insert(input.name.clone(), photos.tensor(0)?.shape().to_vec());
    Ok(bindings)
}

fn row(outputs: &[Tensor]) -> Result<Vec<f32>> {
    let first = outputs.first().filter(|output| output.shape().first() == Some(&1)).and_then(Tensor::as_f32);
    let found = || outputs.first().map_or("none".into(), |output| format!("{}{}", output.dtype(), output.shape()));
    first.map(<[f32]>::to_vec).ok_or_else(|| Error::input("output", "a row of f32 for one image", found()))
}
