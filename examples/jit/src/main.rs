//! An ONNX file compiled into memory by the program that runs it, with the default features of `fornax` off: no command
//! line, no image decoders, no archives are built.
//!
//!     cargo run --release --locked --manifest-path examples/jit/Cargo.toml --target-dir target/examples/jit -- examples/signs.onnx examples/signs.input.npy target/examples/jit.f32

use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use fornax::{Model, SessionOptions, classify, tensors};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signs-jit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [model, input, output @ ..] = &arguments[..] else {
        return Err("usage: signs-jit MODEL.onnx INPUT.npy [OUTPUT]".into());
    };
    let model = Model::open(model)?;
    let input = tensors::load(input)?.pop().ok_or("the file has no tensor")?.tensor;
    let mut session = model.session(&SessionOptions { threads: 1, ..Default::default() })?;
    let outputs = session.run(&[&input])?;

    let scores = classify::probabilities(&outputs[0], classify::Scores::Logits)?;
    let best = classify::top(&scores[0], 1, model.labels()?.as_deref());
    println!("{}", best[0].label.clone().unwrap_or_else(|| format!("class {}", best[0].index)));
    if let Some(path) = output.first() {
        fs::write(path, outputs[0].bytes())?;
    }
    Ok(())
}
