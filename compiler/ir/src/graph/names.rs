//! Unique names of values: a base, and a numeric suffix where the base is taken.

use std::collections::HashMap;

use super::nodes::Graph;

/// The names in use in a graph, and for each base the next suffix to try.
#[derive(Clone, Debug, Default)]
pub struct Names {
    used: HashMap<String, usize>,
}

impl Names {
    /// The names of every value of `graph`.
    pub fn of(graph: &Graph) -> Self {
        let names = |id| graph.node(id).results().map(|(name, _)| (name.to_owned(), 1));
        Self { used: graph.ids().flat_map(names).collect() }
    }

    /// A name that nothing has yet: `base`, or `base_1`, `base_2`, … An empty base becomes `value`. The name is taken
    /// from now on.
    pub fn fresh(&mut self, base: &str) -> String {
        let base = if base.is_empty() { "value" } else { base };
        let Some(mut suffix) = self.used.get(base).copied() else {
            self.used.insert(base.to_owned(), 1);
            return base.to_owned();
        };
        let name = loop {
            let name = format!("{base}_{suffix}");
            suffix += 1;
            if !self.used.contains_key(&name) {
                break name;
            }
        };
        self.used.insert(base.to_owned(), suffix);
        self.used.insert(name.clone(), 1);
        name
    }

    /// Gives a name back.
    pub fn release(&mut self, name: &str) {
        self.used.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_skip_names_that_are_taken() {
        let mut names = Names::default();
        let got: Vec<String> = ["relu", "relu_1", "relu", "relu", "", ""].iter().map(|b| names.fresh(b)).collect();
        assert_eq!(got, ["relu", "relu_1", "relu_2", "relu_3", "value", "value_1"]);
    }
}
