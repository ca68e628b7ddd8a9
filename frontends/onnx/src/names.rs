//! Names of the model as names of the graph: cut, joined and made plain.

/// The name of something inside an inlined body.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    format!("{prefix}/{}", cut(name))
}

/// A name cut to a length at which copies of it, in nested bodies and node by node, cannot add up to much.
pub(crate) fn cut(name: &str) -> &str {
    const LONGEST: usize = 128;
    name.char_indices().nth(LONGEST).map_or(name, |(end, _)| &name[..end])
}

/// A graph name of letters, digits, `_`, `-` and `.`.
pub(crate) fn plain_name(name: &str) -> String {
    const LONGEST: usize = 64;
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    let name: String = name.chars().take(LONGEST).map(plain).collect();
    if name.is_empty() { "model".into() } else { name }
}
