//! Whether the tables have every operator.

use std::collections::BTreeSet;

use fornax_ir::graph::parse;
use fornax_ir::ops::Op;

use crate::{elements, gradients, maps};

/// A row is about the operators whose results it compares: what only prepares operands has not been looked at.
#[test]
fn every_operator_is_compared_at_special_values() {
    let tables = [elements::TABLES, gradients::TABLES, maps::TABLES].concat();
    let mut compared = BTreeSet::new();
    for row in tables.iter().flat_map(|table| table()) {
        let graph = parse(&row.text).unwrap_or_else(|e| panic!("{e}\n{}", row.text));
        compared.extend(graph.outputs().iter().filter_map(|(_, value)| Some(graph.node(value.node).op()?.name())));
    }
    let missing: Vec<_> = Op::mnemonics().into_iter().filter(|mnemonic| !compared.contains(mnemonic)).collect();
    assert!(missing.is_empty(), "no table of compiler/tests/special has a row for {missing:?}");
}
