//! A kernel by itself, ready to run: what the benches of kernels share.

use std::sync::Arc;

use fornax_compiler::internals::{Access, AxisOrder, Operand, PlanBuilder};
use fornax_compiler::{Kernel, Port, Target, jit};
use fornax_ir::types::{TensorType, random_values};
use fornax_runtime::{Pool, Session, Tensor};

/// A session of one thread whose program is one kernel, and seeded inputs for it.
pub fn session(kernel: &Kernel, target: &Target) -> (Session, Vec<Tensor>) {
    let mut builder = PlanBuilder::new(target.clone());
    let (mut operands, mut inputs, mut outputs) = (Vec::<Operand>::new(), Vec::new(), Vec::new());
    for argument in &kernel.arguments {
        let ty = TensorType::f32([argument.bytes / 4]);
        let port = Port { name: argument.name.into(), ty: ty.clone() };
        if argument.access == Access::Read {
            inputs.push(Tensor::from_f32(ty.shape.clone(), &random_values(1, ty.shape.numel())).expect("memory"));
            operands.push(builder.input(port).into());
        } else {
            let slot = builder.temp(argument.name.into(), ty, AxisOrder::RowMajor);
            outputs.push((port, slot));
            operands.push(slot.into());
        }
    }
    builder.step(kernel.clone(), operands, (&kernel.name, &[]));
    let plan = builder.finish("bench".into(), outputs, &[]).expect("a plan");
    let program = Arc::new(jit::compile(&plan).expect("code"));
    let session = Session::new(program, Arc::new(Pool::new(1, false).expect("a pool"))).expect("memory");
    (session, inputs)
}
