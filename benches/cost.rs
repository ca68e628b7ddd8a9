//! Predicted next to measured: `cargo bench --bench cost -- [model]…`
//!
//! Each model (a preset, spec or ONNX file; EfficientNet-B0 by default) runs on one thread. For every kernel: the calls, the time that
//! [`Kernel::cost`] predicts of them on the machine of the target, the time measured, and the quotient of both; then the same by kind of
//! layer. Predictions are for a nominal clock, so quotients are to be compared with each other.

use std::collections::HashMap;
use std::time::Duration;

use fornax::report::{Kind, profile};
use fornax::{Bindings, DType, Model, SessionOptions, Tensor};
use fornax_compiler::Kernel;

/// Time of a measurement, and its fewest runs.
const LENGTH: (Duration, usize) = (Duration::from_secs(1), 20);

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let models = if given.is_empty() { vec!["efficientnet-b0".to_string()] } else { given };
    for name in models {
        compare(&name, &Model::open(&name).expect("a model"));
    }
}

/// Calls, predicted and measured microseconds.
#[derive(Clone, Copy, Default)]
struct Times {
    calls: usize,
    predicted: f64,
    measured: f64,
}

impl Times {
    fn add(&mut self, predicted: f64, measured: f64) {
        let Times { calls, predicted: p, measured: m } = *self;
        *self = Times { calls: calls + 1, predicted: p + predicted, measured: m + measured };
    }

    fn print(&self, name: &str) {
        let Times { calls, predicted, measured } = self;
        println!("{calls:5} {predicted:11.1} {measured:11.1} {:9.2}  {name}", measured / predicted);
    }
}

fn compare(name: &str, model: &Model) {
    let plan = model.plan(&Bindings::default()).expect("a plan");
    let machine = plan.target.machine();
    let options = SessionOptions { threads: 1, pin: false, bindings: Bindings::default() };
    let mut session = model.session(&options).expect("a session");
    let inputs: Vec<Tensor> =
        plan.inputs.iter().map(|port| Tensor::zeros(DType::F32, port.ty.shape.clone()).expect("memory")).collect();
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let measured = profile::measure(&mut session, &inputs, LENGTH.0, LENGTH.1).expect("a run");
    assert_eq!(measured.steps.len(), plan.steps.len(), "the program is that of the plan");
    let (mut kernels, mut kinds): (HashMap<&Kernel, Times>, HashMap<Kind, Times>) = Default::default();
    for (step, time) in plan.steps.iter().zip(&measured.steps) {
        let predicted = step.kernel.cost(&machine).microseconds(&machine);
        kernels.entry(&step.kernel).or_default().add(predicted, time.ns / 1e3);
        kinds.entry(step.kernel.kind).or_default().add(predicted, time.ns / 1e3);
    }
    println!("{name} for {}, microseconds\ncalls   predicted    measured  quotient", plan.target);
    let kernels = kernels.into_iter().map(|(kernel, times)| (kernel.name.as_str(), times));
    let kinds = kinds.into_iter().map(|(kind, times)| (kind.name(), times));
    for mut rows in [kernels.collect::<Vec<_>>(), kinds.collect()] {
        rows.sort_by(|(_, a), (_, b)| b.measured.total_cmp(&a.measured));
        rows.iter().for_each(|(name, times)| times.print(name));
        println!();
    }
}
