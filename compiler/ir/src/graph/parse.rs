//! Reads the text form of a graph; the inverse of [`super::print`].
//!
//! ```text
//! graph     = "graph" @name "(" [%name ":" type {"," …}] ")" "{" {node} return {update} "}"
//! return    = "return" [%name "as" "name" {"," …}]
//! update    = "update" %name "<-" %name
//! node      = %name "=" (constant | variable) [origins] | %name {"," %name} "=" op [origins]
//! constant  = "constant" elements
//! variable  = ("parameter" | "state") "name" elements
//! elements  = type (list | "random" "(" seed ")" | "hash" "(" hex ")")
//! op        = mnemonic [%name {"," %name}] ["{" attribute "=" value {"," …} "}"] [":" type {"," type}]
//! type      = element "[" [extent {"," extent}] "]"
//! ```
//!
//! A node without types gets those its shape rule gives. Written types are taken as they are: [`super::verify()`]
//! judges them. Operands must be defined before their use.

use std::collections::HashMap;

use super::lex::{Token, tokens};
use super::nodes::{Graph, Node, Part, ValueId, Variable};
use crate::error::{Error, OpError, Result};
use crate::ops::Op;
use crate::ops::attributes::{Attr, AttrReader};
use crate::types::{Constant, DType, Payload, TensorType};

/// Deepest nesting of attribute lists.
const MAX_DEPTH: usize = 4;
/// Most elements of a `random(…)` constant, so that a line of text cannot ask for all memory.
const MAX_RANDOM: usize = 1 << 28;

/// Reads a graph.
///
/// # Errors
/// [`Error::Parse`] with the line, what the grammar allows and what stands there.
pub fn parse(text: &str) -> Result<Graph> {
    let tokens = tokens(text)?;
    Parser { tokens, at: 0, graph: Graph::default(), values: HashMap::new() }.graph()
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    graph: Graph,
    values: HashMap<String, ValueId>,
}

impl Parser {
    fn graph(mut self) -> Result<Graph> {
        self.keyword("graph")?;
        self.graph.name = match self.next() {
            Token::Symbol(name) => name,
            other => return Err(self.error("@name", other)),
        };
        self.punct('(')?;
        if !self.eat(')') {
            self.separated(')', |p| {
                let name = p.new_value()?;
                p.punct(':')?;
                let ty = p.tensor_type()?;
                let id = p.graph.add_input(name.clone(), ty);
                p.values.insert(name, id.into());
                Ok(())
            })?;
        }
        self.punct('{')?;
        while matches!(self.peek(), Token::Value(_)) {
            self.node()?;
        }
        self.keyword("return")?;
        if matches!(self.peek(), Token::Value(_)) {
            self.output()?;
            while self.eat(',') {
                self.output()?;
            }
        }
        while matches!(self.peek(), Token::Word(word) if word == "update") {
            self.update()?;
        }
        self.punct('}')?;
        match self.next() {
            Token::End => Ok(self.graph),
            other => Err(self.error("the end of the text", other)),
        }
    }

    fn output(&mut self) -> Result<()> {
        let value = self.value()?;
        self.keyword("as")?;
        match self.next() {
            Token::Quoted(name) => self.graph.add_output(name, value),
            other => return Err(self.error("an output name in quotes", other)),
        }
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        self.keyword("update")?;
        let variable = self.value()?;
        self.punct('<')?;
        self.keyword("-")?;
        let value = self.value()?;
        self.graph.add_update(variable.node, value);
        Ok(())
    }

    fn node(&mut self) -> Result<()> {
        let mut names = vec![self.new_value()?];
        while self.eat(',') {
            let name = self.new_value()?;
            if names.contains(&name) {
                return Err(self.error("a name that is not taken", format!("%{name}")));
            }
            names.push(name);
        }
        self.punct('=')?;
        match (self.word("an operator, `constant`, `parameter` or `state`")?.as_str(), &names[..]) {
            ("constant", [name]) => {
                let constant = self.constant()?;
                let id = self.graph.add_constant(name, constant);
                self.values.insert(name.clone(), id.into());
                Ok(())
            }
            (kind @ ("parameter" | "state"), [name]) => {
                let variable = match self.next() {
                    Token::Quoted(name) => Variable::new(name, self.constant()?),
                    other => return Err(self.error("a name in quotes", other)),
                };
                let add = if kind == "parameter" { Graph::add_parameter } else { Graph::add_state };
                let id = add(&mut self.graph, name.clone(), variable);
                self.values.insert(name.clone(), id.into());
                Ok(())
            }
            (kind @ ("constant" | "parameter" | "state"), _) => {
                Err(self.error(&format!("one name for a {kind}"), names.len()))
            }
            (mnemonic, _) => self.op(names, mnemonic),
        }
    }

    /// Type, elements and origins.
    fn constant(&mut self) -> Result<Constant> {
        let ty = self.tensor_type()?;
        let count = ty.shape.numel();
        let payload = match self.next() {
            Token::Punct('[') => Payload::Bytes(self.elements(&ty)?.into()),
            Token::Word(word) if word == "random" => {
                if ty.dtype != DType::F32 || count > MAX_RANDOM {
                    return Err(self.error(&format!("random elements of f32, at most {MAX_RANDOM}"), ty));
                }
                Payload::Random(self.argument()?)
            }
            Token::Word(word) if word == "hash" => Payload::Hash(self.argument()?),
            other => return Err(self.error("[elements], random(seed) or hash(0x…)", other)),
        };
        let (origins, _) = self.origins();
        Ok(Constant::new(ty, payload).with_origins(origins))
    }

    /// The bytes of a list of elements, after its bracket.
    fn elements(&mut self, ty: &TensorType) -> Result<Vec<u8>> {
        let (mut out, mut count) = (Vec::new(), 0usize);
        if !self.eat(']') {
            self.separated(']', |p| {
                let word = p.word("an element")?;
                let nan = if word == "nan" && *p.peek() == Token::Punct('(') { Some(p.argument()?) } else { None };
                count += 1;
                match nan.or_else(|| element_bits(ty.dtype, &word)) {
                    Some(bits) => out.extend(&bits.to_le_bytes()[..ty.dtype.size()]),
                    None => return Err(p.error(&format!("an element of type {}", ty.dtype), word)),
                }
                Ok(())
            })?;
        }
        if ty.shape.checked_numel() != Some(count) {
            return Err(self.error(&format!("{} elements of {ty}", ty.shape.numel()), count));
        }
        Ok(out)
    }

    fn op(&mut self, names: Vec<String>, mnemonic: &str) -> Result<()> {
        let line = self.line();
        let mut operands = Vec::new();
        if matches!(self.peek(), Token::Value(_)) {
            operands.push(self.value()?);
            while self.eat(',') {
                operands.push(self.value()?);
            }
        }
        let mut attrs = Vec::new();
        if self.eat('{') {
            self.separated('}', |p| {
                let name = p.word("an attribute")?;
                p.punct('=')?;
                let value = p.attr(0)?;
                attrs.push((name, value));
                Ok(())
            })?;
        }
        let op = match Op::parse(mnemonic, AttrReader::new(attrs)) {
            Some(Ok(op)) => op,
            Some(Err(e)) => {
                return Err(Error::Parse { line, expected: format!("{}: {}", e.field, e.expected), found: e.found });
            }
            None => return Err(Error::Parse { line, expected: "an operator".into(), found: mnemonic.into() }),
        };
        let types = if self.eat(':') { Some(self.tensor_types()?) } else { None };
        let (origins, parts) = self.origins();
        let refused =
            |e: OpError| Error::Parse { line, expected: format!("{}: {}", e.field, e.expected), found: e.found };
        let types = match types {
            Some(types) => types,
            None => {
                let operands: Vec<&TensorType> = operands.iter().map(|value| self.graph.ty(*value)).collect();
                op.infer(&operands).map_err(refused)?
            }
        };
        if types.len() != names.len() {
            return Err(refused(OpError::new("results", types.len().to_string(), names.len().to_string())));
        }
        let none = || refused(OpError::new("results", "at least one", "none"));
        let node = Node::of_op(op, types, names.clone(), origins).ok_or_else(none)?;
        let node = Node { parts, ..node };
        let id = self.graph.add_node(node, &operands);
        self.values.extend(names.into_iter().zip(self.graph.values(id)));
        Ok(())
    }

    fn tensor_types(&mut self) -> Result<Vec<TensorType>> {
        let mut types = vec![self.tensor_type()?];
        while self.eat(',') {
            types.push(self.tensor_type()?);
        }
        Ok(types)
    }

    fn attr(&mut self, depth: usize) -> Result<Attr> {
        match self.next() {
            Token::Punct('[') if depth < MAX_DEPTH => {
                let mut items = Vec::new();
                if !self.eat(']') {
                    self.separated(']', |p| {
                        items.push(p.attr(depth + 1)?);
                        Ok(())
                    })?;
                }
                Ok(Attr::List(items))
            }
            Token::Word(word) => match scalar_attr(&word) {
                Attr::Word(word, mut args) => {
                    if self.eat('(') {
                        self.separated(')', |p| {
                            let text = p.word("a number")?;
                            args.push(text.parse().map_err(|_| p.error("a number", text))?);
                            Ok(())
                        })?;
                    }
                    Ok(Attr::Word(word, args))
                }
                attr => Ok(attr),
            },
            other => Err(self.error("an attribute value", other)),
        }
    }

    fn tensor_type(&mut self) -> Result<TensorType> {
        let word = self.word("an element type")?;
        let dtype: DType = word.parse().map_err(|_| self.error("an element type", word))?;
        self.punct('[')?;
        let mut shape = Vec::new();
        if !self.eat(']') {
            self.separated(']', |p| {
                let extent = p.word("an extent")?;
                shape.push(extent.parse().map_err(|_| p.error("an extent", extent))?);
                Ok(())
            })?;
        }
        let ty = TensorType::new(dtype, shape);
        match ty.shape.checked_bytes(dtype) {
            Some(_) => Ok(ty),
            None => Err(self.error("an addressable size", ty)),
        }
    }

    /// A parenthesised number, decimal or after `0x`.
    fn argument(&mut self) -> Result<u64> {
        self.punct('(')?;
        let word = self.word("a number")?;
        let value = match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        let value = value.map_err(|_| self.error("an unsigned number", word))?;
        self.punct(')')?;
        Ok(value)
    }

    fn origins(&mut self) -> (Vec<String>, Vec<Part>) {
        match self.peek().clone() {
            Token::Origins(origins, parts) => {
                self.at += 1;
                (origins, parts)
            }
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// One or more items between commas, up to and including `close`.
    fn separated(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            item(self)?;
            match self.next() {
                Token::Punct(',') => {}
                Token::Punct(c) if c == close => return Ok(()),
                other => return Err(self.error(&format!("`,` or `{close}`"), other)),
            }
        }
    }

    fn new_value(&mut self) -> Result<String> {
        match self.next() {
            Token::Value(name) if !self.values.contains_key(&name) => Ok(name),
            Token::Value(name) => Err(self.error("a name that is not taken", format!("%{name}"))),
            other => Err(self.error("%name", other)),
        }
    }

    fn value(&mut self) -> Result<ValueId> {
        match self.next() {
            Token::Value(name) => match self.values.get(&name) {
                Some(value) => Ok(*value),
                None => Err(self.error("a value defined above", format!("%{name}"))),
            },
            other => Err(self.error("%name", other)),
        }
    }

    fn word(&mut self, expected: &str) -> Result<String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(self.error(expected, other)),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<()> {
        let word = self.word(keyword)?;
        if word == keyword { Ok(()) } else { Err(self.error(keyword, word)) }
    }

    fn punct(&mut self, c: char) -> Result<()> {
        match self.next() {
            Token::Punct(found) if found == c => Ok(()),
            other => Err(self.error(&format!("`{c}`"), other)),
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let found = *self.peek() == Token::Punct(c);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// Line of the token read last.
    fn line(&self) -> usize {
        self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)].1
    }

    fn error(&self, expected: &str, found: impl ToString) -> Error {
        Error::Parse { line: self.line(), expected: expected.into(), found: found.to_string() }
    }
}

/// An integer, a number, a boolean or a bare word.
fn scalar_attr(word: &str) -> Attr {
    if word == "true" || word == "false" {
        Attr::Bool(word == "true")
    } else if let Ok(v) = word.parse::<i64>() {
        if v == 0 && word.starts_with('-') { Attr::Float(-0.0) } else { Attr::Int(v) }
    } else if let Ok(v) = word.parse::<f64>() {
        Attr::Float(v)
    } else {
        Attr::Word(word.into(), Vec::new())
    }
}

/// The bits of one element, or `None` if the word is not of the type.
fn element_bits(dtype: DType, word: &str) -> Option<u64> {
    macro_rules! integer {
        ($t:ty) => {
            word.parse::<$t>().ok().map(|v| v as u64)
        };
    }
    match dtype {
        DType::F64 => word.parse::<f64>().ok().map(|v| if v.is_nan() { 0x7ff8 << 48 } else { v.to_bits() }),
        DType::F32 => word.parse::<f32>().ok().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits().into() }),
        DType::F16 => {
            word.parse().ok().map(|v: f32| if v.is_nan() { 0x7e00 } else { half::f16::from_f32(v).to_bits().into() })
        }
        DType::BF16 => {
            word.parse().ok().map(|v: f32| if v.is_nan() { 0x7fc0 } else { half::bf16::from_f32(v).to_bits().into() })
        }
        DType::I8 => integer!(i8),
        DType::I16 => integer!(i16),
        DType::I32 => integer!(i32),
        DType::I64 => integer!(i64),
        DType::U8 => integer!(u8),
        DType::U16 => integer!(u16),
        DType::U32 => integer!(u32),
        DType::U64 => integer!(u64),
        DType::Bool => match word {
            "true" => Some(1),
            "false" => Some(0),
            _ => integer!(u8),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> Graph {
        let graph = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let printed = graph.to_string();
        let again = parse(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert!(graph.same_as(&again), "{text}\n{printed}");
        assert_eq!(printed, again.to_string());
        graph
    }

    #[test]
    fn text_reads_back_to_the_same_graph() {
        round_trip(
            r#"; a comment
            graph @"g 1"(%x: f32[1,8,4,4], %"a \"b\"": i64[]) {
              %w = constant f32[8,8,1,1] random(7)  ; from "p.weight", "q \u{a}"
              %c = conv %x, %w {pads=[1, 1, 1, 1], activation=clip(-inf, 0.1)} : f32[1,8,6,6]  ; from "/conv"
              %y = clip %c {p=[0, 6]} : f32[1,8,6,6]
              return %y as "out 0", %"a \"b\"" as "n"
            }"#,
        );
        round_trip("graph @empty() { return }");
        round_trip(
            r#"graph @results(%x: f32[2,3]) {
              %a, %"b c" = split %x {axis=1, sizes=[1, 2]}  ; from "/split"
              %c = neg %"b c"
              return %c as "c", %"b c" as "b"
            }"#,
        );
        round_trip(
            r#"graph @step(%x: f32[2]) {
              %"a w" = parameter "layer \"0\".weight" f32[2] [1, 2]  ; from "w"
              %m = state "moment" f32[2] random(3)
              %big = state "" f32[99] hash(0x0000000000000001)
              %y = add %x, %"a w"
              return
              update %m<-%y
              update %"a w" <- %m
            }"#,
        );
    }

    #[test]
    fn elements_of_every_type_keep_their_bits() {
        for (dtype, text) in [
            ("f32", "0.1, -0, nan, inf, -inf, 1e-45, 3.4028235e38, nan(0x7fc00001), 16777216"),
            ("f64", "0.1, -0, nan, inf, 5e-324, nan(0xfff8000000000000)"),
            ("f16", "0.1, -0, nan, inf, 65504, 6e-8"),
            ("bf16", "0.1, -0, nan, -inf, 1e38"),
            ("i8", "-128, 127"),
            ("u64", "18446744073709551615"),
            ("i64", "-9223372036854775808"),
            ("bool", "true, false, 2"),
        ] {
            let count = text.split(", ").count();
            let text = format!("graph @g() {{ %k = constant {dtype}[{count}] [{text}] return %k as \"k\" }}");
            let graph = round_trip(&text);
            let constant = graph.ids().find_map(|id| graph.node(id).constant().cloned());
            assert!(constant.is_some_and(|c| c.bytes().is_some_and(|b| b.len() == c.ty.bytes())));
        }
    }

    #[test]
    fn large_constants_read_back_as_hashes_that_compare() {
        let mut graph = Graph::new("g");
        let k = graph.add_constant("k", Constant::from_f32([17], &[0.5; 17]));
        graph.add_output("k", k);
        let again = round_trip(&graph.to_string());
        assert!(graph.same_as(&again));
    }

    #[test]
    fn errors_carry_the_line() {
        for (text, message) in [
            ("graph g", "line 1: expected @name, found g"),
            ("graph @g(%x: f32[2]) {\n %x = neg %x\n}", "line 2: expected a name that is not taken, found %x"),
            ("graph @g() {\n %y = neg %x\n}", "line 2: expected a value defined above, found %x"),
            ("graph @g(%x: f32[2]) {\n %a = split %x {sizes=[1, 1]}", "line 2: expected results: 2, found 1"),
            ("graph @g(%x: f32[2]) {\n %a, %a = split %x", "line 2: expected a name that is not taken, found %a"),
            ("graph @g() {\n %a, %b = constant", "line 2: expected one name for a constant, found 2"),
            (
                "graph @g(%x: u8[4294967296, 0, 4294967296]",
                "line 1: expected an addressable size, found u8[4294967296,0,4294967296]",
            ),
            ("graph @g() {\n\n %y = frob\n}", "line 3: expected an operator, found frob"),
            ("graph @g() {\n %k = constant i8[1] [200]", "line 2: expected an element of type i8, found 200"),
            ("graph @g() {\n %k = constant i8[2] [1]", "line 2: expected 2 elements of i8[2], found 1"),
            (
                "graph @g() {\n %k = constant f32[99999999999] random(1)",
                "line 2: expected random elements of f32, at most 268435456, found f32[99999999999]",
            ),
            (
                "graph @g(%x: f32[2]) {\n %y = clip %x {p=[0]} : f32[2]",
                "line 2: expected p: the parameters of the function, found [0.0]",
            ),
            ("graph @g() {\n %y = reshape {shape=[[[[[[1]]]]]]}", "line 2: expected an attribute value, found `[`"),
            ("graph @g() {\n %\"y", "line 2: expected a closing quote, found \"y"),
        ] {
            assert_eq!(parse(text).map_err(|e| e.to_string()).err().as_deref(), Some(message));
        }
    }
}
