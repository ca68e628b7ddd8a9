//! What a stage of the compiler says about a node: what it made of it, or why it did not.
//!
//! In: one remark for each choice and each refusal, from graph passes, lowering and plan passes alike. Out: a line each, or, with
//! [`summary`], a line for all that say the same of several nodes.

use std::fmt::{self, Write};

use crate::graph::print::name;

/// What became of the node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// The stage did what the text says.
    Made,
    /// The stage left the node as it was: the text is the obstacle.
    Declined,
    /// Nothing changed; worth knowing.
    Note,
}

impl Verdict {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Declined => "declined",
            Self::Note => "note",
        }
    }
}

/// A remark of a stage about a node.
#[derive(Clone, PartialEq, Debug)]
pub struct Remark {
    /// The stage: a pass, or `lower`.
    pub stage: &'static str,
    /// Name of the node.
    pub node: String,
    /// Names of the model file's nodes that it computes.
    pub origins: Vec<String>,
    /// What became of it.
    pub verdict: Verdict,
    /// What was done, or what stood in the way. Names of other nodes begin with `%`.
    pub text: String,
    /// The numbers that decided, each with its name and unit (`gain`, `map KiB`).
    pub figures: Vec<(&'static str, f64)>,
}

impl Remark {
    /// Whether it repeats a refusal: the same of the same node, whatever the stage.
    pub fn repeats(&self, other: &Self) -> bool {
        let said = |remark: &Self| remark.verdict == Verdict::Declined;
        said(self) && said(other) && self.node == other.node && self.text == other.text
    }

    /// The text without names of nodes: equal for remarks of one kind.
    fn kind(&self) -> String {
        let (mut out, mut rest) = (String::new(), self.text.as_str());
        while let Some(at) = rest.find('%') {
            let (before, named) = rest.split_at(at);
            out.push_str(before);
            out.push_str("%…");
            let end = if named[1..].starts_with('"') {
                named[2..].find('"').map_or(named.len(), |end| end + 3)
            } else {
                let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '+');
                named[1..].find(|c| !word(c)).map_or(named.len(), |end| end + 1)
            };
            rest = &named[end..];
        }
        out + rest
    }
}

/// A figure as it reads: whole numbers as they are, others with two decimals.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.verdict == Verdict::Declined { "declined: " } else { "" };
        write!(f, "{}: %{}: {verb}{}", self.stage, name(&self.node), self.text)?;
        for (i, (name, value)) in self.figures.iter().enumerate() {
            write!(f, "{}{name} {}", if i == 0 { " (" } else { ", " }, figure(*value))?;
        }
        f.write_str(if self.figures.is_empty() { "" } else { ")" })
    }
}

/// Nodes that a line of [`summary`] names.
const NAMED: usize = 4;

/// A line for each kind of remark, in order of the first of the kind; one that stands alone as it prints, others with how many nodes
/// they are about, the first of them, and the range of each figure.
pub fn summary(remarks: &[Remark]) -> String {
    let mut kinds: Vec<(String, Vec<&Remark>)> = Vec::new();
    for remark in remarks {
        let kind = remark.kind();
        let alike = |(text, list): &&mut (String, Vec<&Remark>)| {
            *text == kind && (list[0].stage, list[0].verdict) == (remark.stage, remark.verdict)
        };
        match kinds.iter_mut().find(alike) {
            Some((_, list)) => list.push(remark),
            None => kinds.push((kind, vec![remark])),
        }
    }
    let mut out = String::new();
    // Writing to a string does not fail.
    for (kind, list) in kinds {
        let first = list[0];
        if list.len() == 1 {
            _ = writeln!(out, "{first}");
            continue;
        }
        let verb = if first.verdict == Verdict::Declined { "declined: " } else { "" };
        let text = if list.iter().all(|remark| remark.text == first.text) { &first.text } else { &kind };
        _ = write!(out, "{}: {verb}{text}", first.stage);
        for (i, (name, _)) in first.figures.iter().enumerate() {
            let values = list.iter().filter_map(|remark| remark.figures.get(i)).map(|(_, value)| *value);
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
            let range = if low == high { figure(low) } else { format!("{} to {}", figure(low), figure(high)) };
            _ = write!(out, "{}{name} {range}", if i == 0 { " (" } else { ", " });
        }
        out.push_str(if first.figures.is_empty() { "" } else { ")" });
        let names: Vec<String> = list.iter().take(NAMED).map(|remark| format!("%{}", name(&remark.node))).collect();
        let more = if list.len() > NAMED { ", …" } else { "" };
        _ = writeln!(out, ": {} nodes: {}{more}", list.len(), names.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(node: &str, verdict: Verdict, text: &str, gain: Option<f64>) -> Remark {
        let figures = gain.into_iter().map(|gain| ("gain", gain)).collect();
        Remark { stage: "fuse", node: node.into(), origins: Vec::new(), verdict, text: text.into(), figures }
    }

    #[test]
    fn remarks_of_a_kind_are_one_line() {
        let list = [
            remark("a", Verdict::Made, "conv adds %x", Some(1.5)),
            remark("b", Verdict::Declined, "%\"n 1\" is a graph output", None),
            remark("c", Verdict::Made, "conv adds %y", Some(2.0)),
            remark("d", Verdict::Declined, "%n2 is a graph output", None),
            remark("e", Verdict::Note, "alone with %z", Some(0.25)),
        ];
        let expected = "fuse: conv adds %… (gain 1.50 to 2): 2 nodes: %a, %c\n\
            fuse: declined: %… is a graph output: 2 nodes: %b, %d\n\
            fuse: %e: alone with %z (gain 0.25)\n";
        assert_eq!(summary(&list), expected);
        let same: Vec<Remark> = (0..6).map(|i| remark(&format!("n{i}"), Verdict::Made, "gemm", None)).collect();
        assert_eq!(summary(&same), "fuse: gemm: 6 nodes: %n0, %n1, %n2, %n3, …\n");
    }

    #[test]
    fn a_refusal_is_repeated_whatever_the_stage() {
        let first = remark("a", Verdict::Declined, "%x has other users", None);
        assert!(Remark { stage: "later", ..first.clone() }.repeats(&first));
        assert!(!remark("b", Verdict::Declined, "%x has other users", None).repeats(&first));
        assert!(!remark("a", Verdict::Made, "%x has other users", None).repeats(&first));
    }
}
