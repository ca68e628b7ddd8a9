//! The functions of a model, by name.

use std::collections::HashMap;

use crate::domain::standard_domain;
use crate::error::{Error, Result, short};
use crate::proto::{FunctionProto, NodeProto};

/// The functions of a model by domain, name and overload.
pub(crate) struct Functions(HashMap<[String; 3], usize>);

impl Functions {
    /// Fails if two functions have one name.
    pub fn new(functions: &[FunctionProto]) -> Result<Self> {
        let mut map = HashMap::with_capacity(functions.len());
        for (index, f) in functions.iter().enumerate() {
            let key = [standard_domain(&f.domain), &f.name, &f.overload].map(str::to_string);
            if map.insert(key, index).is_some() {
                return Err(Error::model("model", "function", "unique names", format!("{} twice", short(&f.name))));
            }
        }
        Ok(Self(map))
    }

    /// The function that a node calls, if it calls one. A function of the model goes before an operator of the same
    /// name.
    pub fn find(&self, node: &NodeProto) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let key = [standard_domain(&node.domain), &node.op_type, &node.overload].map(str::to_string);
        self.0.get(&key).copied()
    }
}
