//! Everything unsupported in a model, gathered into one error.

use std::collections::BTreeMap;

use crate::attributes::node_name;
use crate::domain::{show_domain, standard_domain};
use crate::error::{Error, Result, short, variant};
use crate::proto::NodeProto;
use crate::schema::{self, Found};

/// How many nodes are named for each unsupported operator.
const NAMED: usize = 8;

/// The unsupported operators and variants met so far.
#[derive(Default)]
pub(crate) struct Refusals {
    operators: BTreeMap<String, Vec<String>>,
    initializers: BTreeMap<String, Vec<String>>,
    /// Nodes by operator type and what of it is refused.
    variants: BTreeMap<(String, String), Vec<String>>,
}

impl Refusals {
    /// Adds a node whose operator has no import function at this opset version.
    pub fn operator(&mut self, node: &NodeProto, version: i64) {
        let domain = standard_domain(&node.domain);
        let note = match schema::of(domain, &node.op_type, version) {
            Found::Since(since) => format!(", which has it since {since}"),
            Found::Removed(at) => format!(", which has it no longer since {at}"),
            Found::Schema(_) | Found::Unknown => String::new(),
        };
        let operator = format!("{} of {} opset {version}{note}", short(&node.op_type), show_domain(domain));
        self.operators.entry(operator).or_default().push(short(node_name(node)));
    }

    /// Adds an initializer that a node reads and that is not known, once.
    pub fn initializer(&mut self, name: &str, why: &[String]) {
        self.initializers.insert(name.to_string(), why.to_vec());
    }

    /// Adds variants of its operator that the import function of `node` refused.
    pub fn variants(&mut self, node: &NodeProto, why: Vec<String>) {
        let (op, name) = (short(&node.op_type), short(node_name(node)));
        let prefix = variant(&op, &name, "");
        for why in why {
            let why = why.strip_prefix(&prefix).map_or(why.clone(), str::to_string);
            self.variants.entry((op.clone(), why)).or_default().push(name.clone());
        }
    }

    /// Fails if there is anything.
    pub fn finish(&mut self) -> Result<()> {
        let operators = std::mem::take(&mut self.operators)
            .into_iter()
            .map(|(operator, nodes)| format!("{operator} ({})", named(&nodes)));
        let initializers = std::mem::take(&mut self.initializers).into_values().flatten();
        let variants = std::mem::take(&mut self.variants);
        let variants = variants.into_iter().map(|((op, why), nodes)| variant(&op, &named(&nodes), &why));
        let all: Vec<String> = operators.chain(initializers).chain(variants).collect();
        if all.is_empty() { Ok(()) } else { Err(Error::Unsupported(all)) }
    }
}

/// The first nodes, and how many more there are.
fn named(nodes: &[String]) -> String {
    let first = nodes[..nodes.len().min(NAMED)].join(", ");
    match nodes.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
