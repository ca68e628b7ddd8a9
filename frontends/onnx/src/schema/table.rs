//! The table of schemas, read from its text.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use fornax_ir::types::DType;

use crate::proto::attribute_type as kind;

/// An operator at one version.
#[derive(Clone, Default, Debug)]
pub(crate) struct Schema {
    pub inputs: Vec<Operand>,
    pub outputs: Vec<Operand>,
    pub attributes: Vec<Attribute>,
    types: BTreeMap<&'static str, Vec<DType>>,
}

/// An input or output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Operand {
    pub name: &'static str,
    /// Whether its position must be there.
    pub required: bool,
    /// Whether it stands for any number of operands.
    pub several: bool,
    /// Whether these may be of different types.
    pub mixed: bool,
    /// A type variable, or an element type.
    pub kind: &'static str,
}

/// An attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attribute {
    pub name: &'static str,
    pub required: bool,
    /// Code of its type.
    pub kind: i32,
}

/// The versions of an operator in order; a version that removed it has no schema.
pub(crate) type Versions = Vec<(i64, Option<Schema>)>;

/// The table: the versions by operator.
type Table = BTreeMap<&'static str, Versions>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = read(include_str!("microsoft.txt")).unwrap_or_default();
    table.extend(read(include_str!("table.txt")).unwrap_or_default());
    table
});

/// The versions of an operator of a domain, the default one as the empty name.
pub(crate) fn versions(domain: &str, op_type: &str) -> Option<&'static [(i64, Option<Schema>)]> {
    let versions = match domain {
        "" => TABLE.get(op_type),
        _ => TABLE.get(format!("{domain}.{op_type}").as_str()),
    };
    versions.map(Vec::as_slice)
}

impl Schema {
    /// The element types that an operand may have.
    pub fn types_of(&self, operand: &Operand) -> Vec<DType> {
        match self.types.get(operand.kind) {
            Some(types) => types.clone(),
            None => operand.kind.parse().into_iter().collect(),
        }
    }

    /// Applies a piece of a row: a key, and what it is from this version on.
    fn apply(&mut self, piece: &'static str, sets: &BTreeMap<&str, Vec<DType>>) -> Result<(), String> {
        let (key, rest) = piece.trim().split_once(' ').ok_or_else(|| format!("{piece}: expected a key and a list"))?;
        let words = rest.split_whitespace().filter(|word| *word != "-");
        match key {
            "in" => self.inputs = words.map(operand).collect::<Result<_, _>>()?,
            "out" => self.outputs = words.map(operand).collect::<Result<_, _>>()?,
            "attr" => self.attributes = words.map(attribute).collect::<Result<_, _>>()?,
            variable if rest.trim() == "-" => _ = self.types.remove(variable),
            variable => _ = self.types.insert(variable, element_types(rest, sets)?),
        }
        Ok(())
    }
}

/// The table that the text describes.
fn read(text: &'static str) -> Result<Table, String> {
    let mut sets = BTreeMap::new();
    let mut table = Table::new();
    let mut operator = "";
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
        let words = line.trim();
        if let Some((name, members)) = words.strip_prefix("set ").and_then(|set| set.split_once(' ')) {
            sets.insert(name, element_types(members, &BTreeMap::new())?);
        } else if line.starts_with(' ') {
            let (version, pieces) = words.split_once(' ').unwrap_or((words, ""));
            let version = version.parse().map_err(|_| format!("{line}: expected a version"))?;
            let versions: &mut Versions = table.entry(operator).or_default();
            let mut schema = versions.last().and_then(|(_, schema)| schema.clone()).unwrap_or_default();
            if pieces.trim() == "removed" {
                versions.push((version, None));
                continue;
            }
            for piece in pieces.split(';').filter(|piece| !piece.trim().is_empty()) {
                schema.apply(piece, &sets)?;
            }
            versions.push((version, Some(schema)));
        } else if !words.is_empty() {
            operator = words;
        }
    }
    Ok(table)
}

/// `name:type`, with a mark behind the name.
fn operand(word: &'static str) -> Result<Operand, String> {
    let (name, kind) = word.split_once(':').ok_or_else(|| format!("{word}: expected a name and a type"))?;
    let plain = name.trim_end_matches(['?', '*']);
    let (required, several, mixed) = (plain == name, name.ends_with('*'), name.ends_with("**"));
    Ok(Operand { name: plain, required, several, mixed, kind })
}

fn attribute(word: &'static str) -> Result<Attribute, String> {
    let (name, kind) = word.split_once(':').ok_or_else(|| format!("{word}: expected a name and a type"))?;
    let plain = name.trim_end_matches('!');
    let kind = kind::code(kind).ok_or_else(|| format!("{word}: expected a type of an attribute"))?;
    Ok(Attribute { name: plain, required: plain != name, kind })
}

/// Names of element types and of sets of them; with `+` bf16 is among the members.
fn element_types(words: &str, sets: &BTreeMap<&str, Vec<DType>>) -> Result<Vec<DType>, String> {
    let mut types = Vec::new();
    for word in words.split_whitespace().filter(|word| *word != "none") {
        let plain = word.trim_end_matches('+');
        match (sets.get(plain), plain.parse()) {
            (Some(set), _) => types.extend_from_slice(set),
            (None, Ok(dtype)) => types.push(dtype),
            (None, Err(_)) => return Err(format!("{word}: expected an element type or a set")),
        }
        if plain != word {
            types.push(DType::BF16);
        }
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let table = read(include_str!("table.txt")).unwrap();
        assert_eq!(table.len(), 208);
        for (name, versions) in &table {
            assert!(versions.is_sorted_by(|a, b| a.0 < b.0) && !versions.is_empty(), "{name}");
            for schema in versions.iter().filter_map(|(_, schema)| schema.as_ref()) {
                for operand in schema.inputs.iter().chain(&schema.outputs) {
                    let known = schema.types.contains_key(operand.kind) || operand.kind.parse::<DType>().is_ok();
                    assert!(known || operand.kind == "none", "{name}: {operand:?}");
                }
            }
        }
    }

    #[test]
    fn rows_give_what_differs_from_the_row_before() {
        let table = read(
            "set float f32\nOp # why\n  1  in x:T y?:i64; out z*:T; attr a!:INT; T float+\n  3  attr -; T -\n  5  removed\n",
        );
        let table = table.unwrap();
        let [(1, Some(first)), (3, Some(second)), (5, None)] = &table["Op"][..] else { panic!("{table:?}") };
        assert_eq!(first.attributes, [Attribute { name: "a", required: true, kind: kind::INT }]);
        assert_eq!(first.types_of(&first.inputs[0]), [DType::F32, DType::BF16]);
        assert_eq!(second.types_of(&second.inputs[1]), [DType::I64]);
        assert!(second.outputs[0].several && !second.inputs[1].required);
        assert!(second.attributes.is_empty() && second.types.is_empty());
        assert!(read("Op\n  x  in y:T\n").is_err() && read("Op\n  1  attr a:WORD\n").is_err());
    }
}
