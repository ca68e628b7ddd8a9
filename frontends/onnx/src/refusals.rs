//! Everything unsupported in a model, gathered into one error.

use std::collections::BTreeMap;

use crate::attributes::node_name;
use crate::domain::{show_domain, standard_domain};
use crate::error::{Error, Result, short};
use crate::proto::NodeProto;
use crate::schema::{self, Found};

/// How many nodes are named for each unsupported operator.
const NAMED: usize = 8;

/// The unsupported operators and variants met so far.
#[derive(Default)]
pub(crate) struct Refusals {
    operators: BTreeMap<String, Vec<String>>,
    variants: Vec<String>,
}

impl Refusals {
    /// Adds a node whose operator has no import function at this opset version.
    pub fn operator(&mut self, node: &NodeProto, version: i64) {
        let domain = standard_domain(&node.domain);
        let note = match schema::of(&node.op_type, version) {
            _ if !domain.is_empty() => String::new(),
            Found::Since(since) => format!(", which has it since {since}"),
            Found::Removed(at) => format!(", which has it no longer since {at}"),
            Found::Schema(_) | Found::Unknown => String::new(),
        };
        let operator = format!("{} of {} opset {version}{note}", short(&node.op_type), show_domain(domain));
        self.operators.entry(operator).or_default().push(short(node_name(node)));
    }

    /// Adds variants that an import function refused.
    pub fn variants(&mut self, why: Vec<String>) {
        self.variants.extend(why);
    }

    /// Fails if there is anything.
    pub fn finish(&mut self) -> Result<()> {
        let operators = std::mem::take(&mut self.operators).into_iter().map(|(operator, nodes)| {
            let more = nodes.len().saturating_sub(NAMED);
            let named = nodes.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{operator} ({named}{more})")
        });
        let all: Vec<String> = operators.chain(std::mem::take(&mut self.variants)).collect();
        if all.is_empty() { Ok(()) } else { Err(Error::Unsupported(all)) }
    }
}
