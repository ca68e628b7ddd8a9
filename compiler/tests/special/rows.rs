//! Tables of graphs in text, compared on all processors.

use std::thread;

use fornax_ir::graph::parse;
use fornax_ir::ops::literal::Literal;

use crate::agree::{Case, Limit};

/// The limit of an element, as of [`Case::limit`].
pub type Limits = Box<dyn Fn(usize, usize, usize, f64) -> Limit + Send + Sync>;

/// A graph in text, and the limits of its outputs.
pub struct Row {
    pub text: String,
    pub inputs: Vec<Vec<Literal>>,
    pub limit: Limits,
}

/// Fails with every row that does not agree with the evaluator, or that no kernel computes; how many elements were compared.
pub fn check(rows: &[Row]) -> usize {
    let half = rows.len().div_ceil(thread::available_parallelism().map_or(1, usize::from)).max(1);
    let part = |rows: &[Row]| {
        let (mut count, mut wrong) = (0, Vec::new());
        for row in rows {
            let graph = parse(&row.text).unwrap_or_else(|e| panic!("{e}\n{}", row.text));
            let compared = Case { graph: &graph, inputs: &row.inputs, limit: &row.limit }.compared();
            match compared.and_then(|compared| compared.map_err(|refusal| format!("refused: {refusal}"))) {
                Ok(elements) => count += elements,
                Err(error) => wrong.push(format!("{}\n{error}", row.text)),
            }
        }
        (count, wrong)
    };
    let parts: Vec<(usize, Vec<String>)> = thread::scope(|scope| {
        let parts: Vec<_> = rows.chunks(half).map(|rows| scope.spawn(|| part(rows))).collect();
        parts.into_iter().map(|part| part.join().expect("a test that ends")).collect()
    });
    let wrong: Vec<String> = parts.iter().flat_map(|(_, wrong)| wrong.clone()).collect();
    assert!(wrong.is_empty(), "{} of {} rows\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    parts.iter().map(|(count, _)| count).sum()
}

/// Makes a test of each table, which is a function that gives rows and the least number of elements to be compared, and
/// lists them for [`coverage`](crate::coverage).
macro_rules! tables {
    ($($table:ident: $least:literal,)*) => {
        /// Every table of this file.
        pub const TABLES: &[fn() -> Vec<Row>] = &[$($table),*];

        mod tests {
            $(#[test]
            fn $table() {
                let count = crate::rows::check(&super::$table());
                assert!(count >= $least, "{count}");
            })*
        }
    };
}
pub(crate) use tables;
