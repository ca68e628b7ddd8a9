//! What a network says of photos: its first output, one image at a time.
//!
//! In: a model and photos in memory. Out: the values of the first output for each, in order. Every thread has a session and photos of its
//! own, so that the values are those of a single image, whatever the number of threads.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fornax_ir::inputs::Bindings;
use fornax_runtime::Tensor;

use super::photos::Photos;
use crate::classify;
use crate::error::{Error, Result};
use crate::facade::{Model, SessionOptions};

/// The first output of `model` for every photo, on at most `threads` threads; `done` is called after each.
///
/// # Errors
/// As [`Model::bind`] and [`crate::Session::run`]; [`Error::Input`] if the model has several inputs, or the output is not one row of `f32`.
pub fn outputs(model: &Model, photos: &Photos, threads: usize, done: &(dyn Fn() + Sync)) -> Result<Vec<Vec<f32>>> {
    let Some(first) = photos.photos().first().map(|_| tensor(model, photos, 0)).transpose()? else {
        return Ok(Vec::new());
    };
    let mut bindings = Bindings::default();
    bindings.shapes.insert(model.inputs()[0].name.clone(), first.shape().to_vec());
    // Compiled once: the sessions share the program.
    model.bind(&bindings)?;
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let run = || -> Result<()> {
        let mut session = model.session(&SessionOptions { threads: 1, pin: false, bindings: bindings.clone() })?;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= photos.len() {
                return Ok(());
            }
            let ran = session.run(&[&tensor(model, photos, at)?])?;
            let row = row(&ran)?;
            rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(at, row);
            done();
        }
    };
    // After an error nobody begins another photo.
    let work = || run().inspect_err(|_| next.store(photos.len(), Ordering::Relaxed));
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        // Where the system gives no more threads, those that there are do it all.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let workers: Vec<_> = (1..threads.min(photos.len())).map_while(start).collect();
        let own = work();
        let others = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    Ok(rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect())
}

/// The probabilities of a classifier for every photo, on at most `threads` threads.
///
/// # Errors
/// As [`outputs`]; [`Error::Input`] if there are no photos, or the output is not one score per class.
pub fn probabilities(model: &Model, photos: &Photos, threads: usize) -> Result<Vec<Vec<f64>>> {
    let rows = outputs(model, photos, threads, &|| {})?;
    let Some(width) = rows.first().map(Vec::len) else {
        return Err(Error::input("photos", "at least one", "none"));
    };
    let mut bindings = Bindings::default();
    bindings.shapes.insert(model.inputs()[0].name.clone(), tensor(model, photos, 0)?.shape().to_vec());
    let scores = model.scores(&*model.bind(&bindings)?)?;
    classify::probabilities(&Tensor::from_f32([rows.len(), width], &rows.concat())?, scores)
}

/// A photo as the input of the network.
fn tensor(model: &Model, photos: &Photos, at: usize) -> Result<Tensor> {
    let [input] = model.inputs() else {
        return Err(Error::input("model", "one input, of photos", format!("{} inputs", model.inputs().len())));
    };
    photos.tensor(at).map_err(|error| match error {
        Error::Input { what, expected, found } => Error::input(format!("{} for {}", what, input.name), expected, found),
        other => other,
    })
}

fn row(outputs: &[Tensor]) -> Result<Vec<f32>> {
    let first = outputs.first().filter(|output| output.shape().first() == Some(&1)).and_then(Tensor::as_f32);
    let found = || outputs.first().map_or("none".into(), |output| format!("{}{}", output.dtype(), output.shape()));
    first.map(<[f32]>::to_vec).ok_or_else(|| Error::input("output", "a row of f32 for one image", found()))
}
