//! ONNX bytes: whatever they are, the importer gives a graph that verifies or an error.
#![no_main]

use bytes::Bytes;
use fornax_ir::graph::verify;
use fornax_ir::inputs::Bindings;
use fornax_onnx::{Limits, OnnxFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Without a folder, external data is refused: nothing outside the bytes is read.
    let Ok(file) = OnnxFile::from_bytes(Bytes::copy_from_slice(data), None, &Limits::default()) else { return };
    if let Ok(graph) = file.import(&Bindings::default()) {
        verify(&graph).expect("an imported graph verifies");
    }
});
