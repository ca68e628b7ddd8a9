//! A compiled library from Rust, without the compiler: `fornax-runtime` is the only dependency.
//!
//!     fornax compile examples/signs.onnx -o target/examples/signs.so
//!     cargo run --release --locked --manifest-path examples/rust/Cargo.toml --target-dir target/examples/rust -- target/examples/signs.so examples/signs.input.npy target/examples/rust.f32

use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use fornax_runtime::{Session, Tensor};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [library, input, output @ ..] = &arguments[..] else {
        return Err("usage: signs LIBRARY INPUT [OUTPUT]: the input is a .npy file, or its bytes alone".into());
    };
    let mut session = Session::open(library)?;
    let port = session.program().inputs().first().ok_or("the network has no input")?;
    let input = Tensor::from_bytes(port.dtype, port.shape.clone(), values(&fs::read(input)?))?;
    let mut outputs = session.outputs()?;
    session.run(&[&input], &mut outputs)?;

    let scores = outputs.first().and_then(Tensor::as_f32).ok_or("the network's first output is not f32")?;
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).ok_or("the network has no classes")?;
    println!("class {}, score {}", best.0, best.1);
    if let Some(path) = output.first() {
        fs::write(path, outputs[0].bytes())?;
    }
    Ok(())
}

/// The values of a .npy file of version 1 follow a header, whose length is a u16 at byte 8.
fn values(file: &[u8]) -> &[u8] {
    match file {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, low, high, rest @ ..] => {
            rest.get(usize::from(u16::from_le_bytes([*low, *high]))..).unwrap_or_default()
        }
        raw => raw,
    }
}
