//! A model inside a program: open once, run many times, one session per thread.
//!
//! `cargo run --release --example embed -- examples/signs.onnx examples/photos/*.jpg`

use std::error::Error;
use std::thread;

use fornax::{Image, Model, SessionOptions, classify};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: embed MODEL.onnx PHOTO…")?;
    let photos: Vec<String> = arguments.collect();

    // The model is a handle: clones share the file and the code, which is compiled once.
    let model = Model::open(path)?;
    let preprocess = model.preprocess()?.ok_or("the model does not say how to prepare photos")?;
    let labels = model.labels()?;

    let classify = |photo: &String| -> Result<String, fornax::Error> {
        // A session owns its memory and threads; several run at once.
        let mut session = model.session(&SessionOptions { threads: 1, ..Default::default() })?;
        let input = preprocess.tensor(&[Image::open(photo)?])?;
        let outputs = session.run(&[&input])?;
        let compiled = model.bind(&Default::default())?;
        let scores = classify::probabilities(&outputs[0], model.scores(&compiled)?)?;
        let best = classify::top(&scores[0], 1, labels.as_deref());
        let label = best[0].label.clone().unwrap_or_else(|| format!("class {}", best[0].index));
        Ok(format!("{photo}: {label} {:.1} %", best[0].score * 100.0))
    };

    let lines: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = photos.iter().map(|photo| scope.spawn(|| classify(photo))).collect();
        running.into_iter().map(|thread| thread.join()).collect()
    });
    for line in lines {
        println!("{}", line.map_err(|_| "a thread panicked")??);
    }
    Ok(())
}
