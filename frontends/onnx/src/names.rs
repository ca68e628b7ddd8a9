//! Names of the model as names of the graph: cut, joined, told apart and made plain.

use std::collections::{HashMap, HashSet};

/// The name of something inside an inlined body.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    format!("{prefix}/{}", cut(name))
}

/// A name cut to a length at which copies of it, in nested bodies and node by node, cannot add up to much.
pub(crate) fn cut(name: &str) -> &str {
    const LONGEST: usize = 128;
    name.char_indices().nth(LONGEST).map_or(name, |(end, _)| &name[..end])
}

/// Each name as it is, or with a number where it has been before.
pub(crate) fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let names: Vec<&str> = names.collect();
    let mut taken: HashSet<String> = names.iter().map(|name| name.to_string()).collect();
    let (mut times, mut out) = (HashMap::new(), Vec::with_capacity(names.len()));
    for name in names {
        let count: &mut usize = times.entry(name).or_default();
        let mut own = name.to_string();
        *count += 1;
        if *count > 1 {
            own = format!("{name}_{count}");
            while !taken.insert(own.clone()) {
                *count += 1;
                own = format!("{name}_{count}");
            }
        }
        out.push(own);
    }
    out
}

/// A graph name of letters, digits, `_`, `-` and `.`.
pub(crate) fn plain_name(name: &str) -> String {
    const LONGEST: usize = 64;
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    let name: String = name.chars().take(LONGEST).map(plain).collect();
    if name.is_empty() { "model".into() } else { name }
}
