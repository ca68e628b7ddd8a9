//! The graph under construction: the compiler's builder behind the importer's names and limits.
//!
//! In: operators over values already added. Out: their ids. Established: every value is within the limits on rank and
//! size before anything of that size is made. The builder evaluates shape arithmetic at once. Elements of 16 bits are computed in `f32` and
//! rounded after every operator.

use std::collections::{BTreeMap, BTreeSet};

use fornax_ir::graph::{Graph, GraphBuilder, Kind, ValueId};
use fornax_ir::ops::{Cast, Op, only};
use fornax_ir::types::{Constant, DType, TensorType};

use crate::attributes::node_name;
use crate::error::{Error, Result, short, variant};
use crate::limits::Limits;
use crate::live::{Entry, Extent, Live};
use crate::names::cut;
use crate::proto::NodeProto;

/// The graph under construction.
pub(crate) struct Assembly {
    builder: GraphBuilder,
    limits: Limits,
    written: u64,
    /// Whether what is emitted looks after extents that depend on data.
    pub carries: bool,
    /// Values with an extent that depends on data.
    pub live: BTreeMap<ValueId, Live>,
    /// Integers among whose elements are such extents.
    pub entries: BTreeMap<ValueId, Vec<Entry>>,
    /// All such extents, each once.
    extents: Vec<Extent>,
    /// Positions of what is not zero, and their number, by the values that were looked at.
    pub positions: BTreeMap<ValueId, (ValueId, ValueId)>,
}

impl Assembly {
    /// An empty graph; `reserved` are names that only [`Self::rename`], [`Self::input`] and [`Self::parameter`] give
    /// out.
    pub fn new<'n>(name: &str, limits: Limits, reserved: impl IntoIterator<Item = &'n str>) -> Self {
        let mut builder = GraphBuilder::new(name).with_fold_limit(limits.fold_elements);
        for name in reserved {
            builder.fresh(name);
        }
        let (live, entries, extents, positions) = Default::default();
        Self { builder, limits, written: 0, carries: false, live, entries, extents, positions }
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        self.builder.graph()
    }

    /// A name that no other value has: `base`, or `base` with a number.
    pub fn fresh(&mut self, base: &str) -> String {
        self.builder.fresh(base)
    }

    /// Gives a value a name that is reserved or fresh.
    pub fn rename(&mut self, id: ValueId, name: String) {
        self.builder.graph_mut().rename(id, name);
    }

    /// Adds an input under a reserved name.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.builder.graph_mut().add_input(name, ty).into()
    }

    /// Adds a constant under a reserved name.
    pub fn parameter(&mut self, name: &str, constant: Constant) -> ValueId {
        self.builder.graph_mut().add_constant(name, constant).into()
    }

    /// Adds a constant under a name made from `base`.
    pub fn constant(&mut self, base: &str, constant: Constant) -> ValueId {
        self.builder.constant(cut(base), constant)
    }

    /// Counts elements that an import function is about to write out, over the whole import.
    pub fn charge(&mut self, place: &str, elements: u64) -> Result<()> {
        self.written = self.written.saturating_add(elements);
        Limits::check(place, "fold_elements", self.limits.fold_elements, self.written)
    }

    /// Adds `op`, or the constants that it evaluates to; one value for each result.
    pub fn emit(&mut self, op: Op, operands: &[ValueId], node: &NodeProto) -> Result<Vec<ValueId>> {
        let origin = node_name(node);
        let refused = |field, expected, found| Error::Node {
            node: short(origin),
            op: short(&node.op_type),
            field,
            expected,
            found,
        };
        if let Some(live) = operands.iter().find_map(|id| self.live.get(id)).filter(|_| !self.carries) {
            let why = format!("an operand whose axis {} has an extent that depends on data", live.axis);
            return Err(Error::Unsupported(vec![variant(&short(&node.op_type), &short(origin), &why)]));
        }
        let types: Vec<&TensorType> = operands.iter().map(|id| self.builder.ty(*id)).collect();
        let results = op.infer(&types).map_err(|e| refused(e.field, e.expected, e.found))?;
        for ty in &results {
            self.limits.check_shape(origin, &ty.shape)?;
        }
        if types.iter().any(|ty| is_half(ty.dtype)) && !moves(&op) {
            return self.widened(op, operands, &results, node);
        }
        Limits::check(origin, "nodes", self.limits.nodes, self.graph().len() as u64 + 1)?;
        Ok(self.builder.ops_from(&[cut(origin)], op, operands, vec![origin.to_string()])?)
    }

    /// An operator over elements of 16 bits, in `f32`: its operands widened, its results rounded once each.
    fn widened(
        &mut self,
        op: Op,
        operands: &[ValueId],
        results: &[TensorType],
        node: &NodeProto,
    ) -> Result<Vec<ValueId>> {
        let mut wide = Vec::with_capacity(operands.len());
        for operand in operands {
            wide.push(match is_half(self.builder.ty(*operand).dtype) {
                true => self.cast(*operand, DType::F32, node)?,
                false => *operand,
            });
        }
        let found = self.emit(op, &wide, node)?;
        let mut rounded = Vec::with_capacity(found.len());
        for (value, ty) in found.into_iter().zip(results) {
            rounded.push(if self.builder.ty(value).dtype == ty.dtype {
                value
            } else {
                self.cast(value, ty.dtype, node)?
            });
        }
        Ok(rounded)
    }

    fn cast(&mut self, value: ValueId, to: DType, node: &NodeProto) -> Result<ValueId> {
        let values = self.emit(Cast { to }.into(), &[value], node)?;
        only(values).map_err(|e| Error::model(short(node_name(node)), e.field, e.expected, e.found))
    }

    /// The extent that is known to be the same, if there is one: computed alike from the same values. So what goes together is known to.
    pub fn canonical(&mut self, extent: Extent) -> Extent {
        let same = |known: &&Extent| known.bound == extent.bound && self.same_value(known.count, extent.count);
        if self.extents.contains(&extent) {
            return extent;
        }
        if let Some(known) = self.extents.iter().find(same) {
            return *known;
        }
        self.extents.push(extent);
        extent
    }

    /// Whether two values are computed alike from the same values.
    fn same_value(&self, a: ValueId, b: ValueId) -> bool {
        let (graph, mut seen, mut pairs) = (self.graph(), BTreeSet::new(), vec![(a, b)]);
        while let Some((a, b)) = pairs.pop() {
            if a == b || !seen.insert((a, b)) {
                continue;
            }
            let (first, second) = (graph.producer(a), graph.producer(b));
            let alike = match (&first.kind, &second.kind) {
                (Kind::Op(first), Kind::Op(second)) => first == second && a.result == b.result,
                (Kind::Constant(first), Kind::Constant(second)) => {
                    first.ty == second.ty && first.bytes().is_some() && first.bytes() == second.bytes()
                }
                _ => false,
            };
            let (operands, others) = (graph.operands(a.node), graph.operands(b.node));
            if !alike || operands.len() != others.len() {
                return false;
            }
            pairs.extend(operands.into_iter().zip(others));
        }
        true
    }

    /// Names a value as the next output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.builder.output(name, value);
    }

    /// The finished graph, without nodes that no output depends on.
    pub fn finish(self) -> Graph {
        self.builder.finish()
    }
}

/// Whether elements are floats of 16 bits, which are stored so and computed in `f32`.
fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether an operator moves elements as they are, or converts them itself.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Cast(_)
            | Op::Concat(_)
            | Op::Expand(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::Identity(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::Slice(_)
            | Op::Split(_)
            | Op::Tile(_)
            | Op::Transpose(_)
    )
}
