//! The text form: what parses and verifies prints to a text that parses to the same graph.
#![no_main]

use fornax_ir::graph::{parse, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(graph) = parse(text) else { return };
    if verify(&graph).is_ok() {
        let again = parse(&graph.to_string()).expect("the printed graph parses");
        assert!(again.same_as(&graph), "{graph}\n{again}");
    }
});
