//! Specs: what reads as a spec resolves to a network or to an error with its place.
#![no_main]

use fornax_scaling::spec::Spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(spec) = Spec::parse(text, "fuzz.toml") {
        let _ = spec.resolve();
    }
});
