//! What TfIdfVectorizer refuses; its values are those of `values.txt`.

use crate::node::{Node, i64s};

#[test]
fn pools_are_checked() {
    let node = |counts: &[i64], columns: &[i64]| {
        let node = Node::new("TfIdfVectorizer", 9).input(i64s(&[1, 2])).string("mode", "TF");
        let node = node.int("min_gram_length", 1).int("max_gram_length", 2).int("max_skip_count", 0);
        node.ints("ngram_counts", counts).ints("ngram_indexes", columns)
    };
    let pool = |counts, columns| node(counts, columns).ints("pool_int64s", &[1, 2, 1, 2]);
    pool(&[0, 2], &[0, 1, 2]).gives(crate::node::f32s(&[3], &[1.0, 1.0, 1.0]));
    pool(&[0, 3], &[0, 1, 2]).refused("ngram_counts: expected ascending, in steps of 2");
    pool(&[0, 2], &[0, 1]).refused("ngram_indexes: expected one for each n-gram");
    pool(&[0, 2], &[0, 1, 9]).refused("ngram_indexes: expected numbers below 4");
    pool(&[0, 2], &[0, 1, 2]).floats("weights", &[1.0]).string("mode", "IDF").refused("mode");
    node(&[0, 1], &[0]).strings("pool_strings", &["a"]).refused("pool_strings");
}
