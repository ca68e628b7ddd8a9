//! State dicts: what reads as one binds to a network or says why not.
#![no_main]

use fornax_scaling::spec::Spec;
use fornax_scaling::weights::{Classifier, StateDict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(state) = StateDict::from_bytes("fuzz.pth", bytes::Bytes::copy_from_slice(data)) else { return };
    let Ok(scheme) = state.scheme() else { return };
    let architecture = Spec::preset("efficientnet_b0").and_then(|spec| spec.resolve()).expect("a preset").architecture;
    let _ = state.bind(&architecture, scheme, Classifier::File);
});
