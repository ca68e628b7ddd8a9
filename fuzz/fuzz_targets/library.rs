//! Compiled libraries: a damaged file is an error. Its code is never run, since hashes cover it.
#![no_main]

use std::io::Write;

use fornax_runtime::Library;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("room for the input");
    if let Ok(library) = Library::open(file.path()) {
        let _ = library.manifest();
        for binding in 0..library.bindings() {
            for level in library.levels() {
                let _ = library.program(binding, level.number);
            }
        }
    }
});
