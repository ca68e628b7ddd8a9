//! What an operator sees while it is lowered: its operands as views or constants, and a plan to add steps to.
//!
//! In: the operands of one node. Out: steps, and a view for each of the node's results that something reads (through
//! [`Lowering::output`], [`Lowering::output_of`] or [`Lowering::alias`]).

use crate::kernels::{Kernel, Loops, Spec};
use crate::plan::builder::PlanBuilder;
use crate::plan::{AxisOrder, Generated, Operand, PackedConstant, ViewId};
use crate::target::Target;
use fornax_ir::graph::Part;
use fornax_ir::types::{Constant, DType, Payload, TensorType};
use fornax_ir::{OpError, Remark, Verdict};
use fornax_runtime::packing::Packing;

/// A value on its way through a plan: known at compile time, or in one view per order it was needed in.
#[derive(Clone, Debug)]
pub struct LoweredValue {
    pub ty: TensorType,
    /// The elements, if known.
    pub constant: Option<Constant>,
    /// Views that hold it, first the one it was computed in; of `f32` also rounded to `bf16`, where the plan's precision lets it.
    pub views: Vec<ViewId>,
}

/// A result of a node on its way into a plan.
#[derive(Clone, Debug)]
pub struct Pending<'a> {
    /// Name of the value.
    pub name: &'a str,
    /// Type of the value.
    pub ty: TensorType,
    /// Whether anything reads it.
    pub used: bool,
    /// Its view, once there is one.
    pub view: Option<ViewId>,
}

/// The lowering of one node.
pub struct Lowering<'a> {
    /// The plan so far.
    pub plan: &'a mut PlanBuilder,
    /// Name of the node.
    pub node: &'a str,
    /// Names of the model's nodes that it computes.
    pub origins: &'a [String],
    /// Which of them its parts compute, where that is known.
    pub parts: &'a [Part],
    /// Those that the steps compute which are added next; see [`Self::part`].
    pub current: Vec<String>,
    /// Values of the operands, by view; the same operand may stand twice.
    pub operands: Vec<LoweredValue>,
    /// Type of the node's first result.
    pub ty: TensorType,
    /// All results of the node.
    pub results: Vec<Pending<'a>>,
    /// Whether the plan shall compute everything as it is defined.
    pub exact: bool,
    /// Whether convolutions and maps may be rounded to `bf16`.
    pub narrow: bool,
    /// Whether a discontinuous function reads one of them: see [`super::discrete`].
    pub discrete: bool,
}

impl Lowering<'_> {
    /// The machine the plan is for.
    pub fn target(&self) -> &Target {
        &self.plan.target
    }

    pub fn count(&self) -> usize {
        self.operands.len()
    }

    /// Type of operand `i`.
    pub fn operand_type(&self, i: usize) -> &TensorType {
        &self.operands[i].ty
    }

    /// Operand `i`, if it is known at compile time.
    pub fn constant(&self, i: usize) -> Option<&Constant> {
        self.operands[i].constant.as_ref()
    }

    /// Operand `i` in whatever order it is; a constant is stored row-major.
    pub fn operand(&mut self, i: usize) -> Result<ViewId, OpError> {
        let dtype = self.operands[i].ty.dtype;
        let views = &self.operands[i].views;
        if let Some(view) = views.iter().find(|view| self.plan.view(**view).ty.dtype == dtype) {
            return Ok(*view);
        }
        match views.first().copied() {
            Some(first) => self.operand_stored(i, self.plan.view(first).order, dtype),
            None => self.materialise(i),
        }
    }

    /// Operand `i` in `order`, copied if it is in another one.
    pub fn operand_as(&mut self, i: usize, order: AxisOrder) -> Result<ViewId, OpError> {
        self.operand_stored(i, order, self.operands[i].ty.dtype)
    }

    /// Operand `i` in `order` with elements of type `dtype`, which is its own or what its elements may be rounded to.
    pub fn operand_stored(&mut self, i: usize, order: AxisOrder, dtype: DType) -> Result<ViewId, OpError> {
        let first = match self.operands[i].views.first() {
            Some(first) => *first,
            None => self.materialise(i)?,
        };
        let fits = |view: &&ViewId| {
            let view = self.plan.view(**view);
            view.order == order && view.ty.dtype == dtype
        };
        if let Some(view) = self.operands[i].views.iter().find(fits) {
            return Ok(*view);
        }
        // A copy of one that has the elements already, if there is one: it loses nothing.
        let alike = self.operands[i].views.iter().find(|view| self.plan.view(**view).ty.dtype == dtype);
        let view = self.stored(alike.copied().unwrap_or(first), order, dtype);
        self.operands[i].views.push(view);
        Ok(view)
    }

    /// The type of the elements that operand `i` is stored in first.
    pub fn stored_type(&self, i: usize) -> DType {
        self.operands[i].views.first().map_or(self.operands[i].ty.dtype, |view| self.plan.view(*view).ty.dtype)
    }

    /// The view's value in `order` with elements of type `dtype`: as [`Self::convert`], or rounded or widened.
    pub fn stored(&mut self, view: ViewId, order: AxisOrder, dtype: DType) -> ViewId {
        let from = self.plan.view(view).clone();
        if from.ty.dtype == dtype {
            return self.convert(view, order);
        }
        let to = TensorType::new(dtype, from.ty.shape.clone());
        let to = self.plan.temp(format!("{}.{}", from.name, dtype.name()), to, order);
        let strides = [from.order, order].map(|order| order.strides(&from.ty.shape));
        let convert = Loops::convert([from.ty.dtype, dtype], &from.ty.shape, &strides[0], &strides[1]);
        self.step(convert, &[view.into(), to.into()]);
        to
    }

    /// The view's value in `order`: itself, a view where both orders coincide, or a copy.
    pub fn convert(&mut self, view: ViewId, order: AxisOrder) -> ViewId {
        let from = self.plan.view(view).clone();
        if from.order == order {
            return view;
        }
        if AxisOrder::coincide(&from.ty.shape) {
            return self.plan.reinterpret(view, from.ty, order);
        }
        let to = self.plan.temp(format!("{}.{}", from.name, order_suffix(order)), from.ty.clone(), order);
        let strides = from.order.strides(&from.ty.shape);
        self.step(
            Loops::copy(from.ty.dtype, &from.ty.shape, &strides, &order.strides(&from.ty.shape)),
            &[view.into(), to.into()],
        );
        to
    }

    /// The order operand `i` is in.
    pub fn order(&self, i: usize) -> AxisOrder {
        self.operands[i].views.first().map_or(AxisOrder::RowMajor, |view| self.plan.view(*view).order)
    }

    /// The view of the node's first result, in `order`. Called once, or [`Self::alias`] is.
    pub fn output(&mut self, order: AxisOrder) -> ViewId {
        self.output_of(0, order)
    }

    /// The view of the node's first result, in `order` with elements of type `dtype`, which is its own or what its elements may be rounded to.
    pub fn output_stored(&mut self, order: AxisOrder, dtype: DType) -> ViewId {
        let result = &mut self.results[0];
        let ty = TensorType::new(dtype, result.ty.shape.clone());
        let view = self.plan.temp(result.name.to_string(), ty, order);
        result.view = Some(view);
        view
    }

    /// The view of result `i`, in `order`. Called once for each result that is used, and may be for others.
    pub fn output_of(&mut self, i: usize, order: AxisOrder) -> ViewId {
        let result = &mut self.results[i];
        let view = self.plan.temp(result.name.to_string(), result.ty.clone(), order);
        result.view = Some(view);
        view
    }

    /// Makes the node's first result a view of `view`'s memory: the same bytes under the node's type.
    pub fn alias(&mut self, view: ViewId, order: AxisOrder) -> ViewId {
        let view = self.plan.reinterpret(view, self.ty.clone(), order);
        self.results[0].view = Some(view);
        view
    }

    /// A view for an intermediate value.
    pub fn temp(&mut self, suffix: &str, ty: TensorType, order: AxisOrder) -> ViewId {
        self.plan.temp(format!("{}.{suffix}", self.node), ty, order)
    }

    /// Adds a kernel call. `operands` are the kernel's arguments, in order.
    pub fn step(&mut self, spec: impl Into<Spec>, operands: &[Operand]) {
        let kernel = Kernel::new(spec, &self.plan.target);
        self.plan.step(kernel, operands.to_vec(), (self.node, &self.current));
    }

    /// A constant of `bytes` zero bytes: what padding reads.
    pub fn zeros(&mut self, bytes: usize) -> Operand {
        self.plan.constant(Generated::Zeros(bytes)).into()
    }

    /// Says that the steps added next compute these parts of the node. Parts of which nothing is known stand for the whole node.
    pub fn part(&mut self, names: &[&str]) {
        let of = |name: &&str| self.parts.iter().find(|(part, _)| part == name).map(|(_, origins)| origins);
        let found: Option<Vec<&Vec<String>>> = names.iter().map(of).collect();
        self.current =
            found.map_or_else(|| self.origins.to_vec(), |lists| lists.into_iter().flatten().cloned().collect());
    }

    /// Notes a choice, for `inspect --remarks`.
    pub fn remark(&mut self, verdict: Verdict, text: impl Into<String>, figures: &[(&'static str, f64)]) {
        let (node, origins) = (self.node.to_string(), self.current.clone());
        self.plan.remarks.push(Remark {
            stage: "lower",
            node,
            origins,
            verdict,
            text: text.into(),
            figures: figures.to_vec(),
        });
    }

    fn materialise(&mut self, i: usize) -> Result<ViewId, OpError> {
        let constant = self.operands[i].constant.clone().ok_or_else(|| OpError::new("operand", "a value", "none"))?;
        if matches!(constant.payload, Payload::Hash(_)) {
            return Err(OpError::new("constant", "known elements", "only a hash"));
        }
        let ty = constant.ty.clone();
        let packing = Packing::plain(ty.shape.numel());
        let id = self.plan.constant(PackedConstant::packed(constant, packing));
        let view = self.plan.constant_view(id, ty, AxisOrder::RowMajor);
        self.operands[i].views.push(view);
        Ok(view)
    }
}

fn order_suffix(order: AxisOrder) -> &'static str {
    match order {
        AxisOrder::RowMajor => "rows",
        AxisOrder::ChannelsLast => "last",
    }
}
