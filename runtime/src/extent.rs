//! Outputs of which data decides how much is there.
//!
//! Such an output has memory for the most that may be, and the program has one more output, an `i64` scalar called `<output>.extent.<axis>`, which
//! says how many slices along that axis are there: the first ones. In: ports, and tensors as a run has left them. Out: tensors cut to their extents.

use crate::dtype::DType;
use crate::error::Error;
use crate::port::Port;
use crate::tensor::Tensor;

/// An output with an extent that depends on data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveOutput {
    /// Its number.
    pub output: usize,
    /// The axis.
    pub axis: usize,
    /// Number of the output that says the extent.
    pub count: usize,
}

/// Name of the output that says the extent of an axis of the output `name`.
pub fn extent_name(name: &str, axis: usize) -> String {
    format!("{name}.extent.{axis}")
}

/// The outputs with an extent that depends on data, by the names of all.
pub fn live_outputs(ports: &[Port]) -> Vec<LiveOutput> {
    let of = |(count, port): (usize, &Port)| {
        let (name, axis) = port.name.rsplit_once(".extent.")?;
        let axis = axis.parse().ok()?;
        let output = ports[..count].iter().position(|port| port.name == name)?;
        let scalar = port.dtype == DType::I64 && port.shape.rank() == 0;
        (scalar && axis < ports[output].shape.rank()).then_some(LiveOutput { output, axis, count })
    };
    ports.iter().enumerate().filter_map(of).collect()
}

/// The tensors of all outputs, cut to what is there; those that say extents are left out.
///
/// # Errors
/// If memory cannot be had.
pub fn cut_outputs(mut tensors: Vec<Tensor>, live: &[LiveOutput]) -> Result<Vec<Tensor>, Error> {
    for entry in live {
        let count = tensors[entry.count].as_i64().and_then(|values| values.first().copied()).unwrap_or(0);
        tensors[entry.output] = first_slices(&tensors[entry.output], entry.axis, usize::try_from(count).unwrap_or(0))?;
    }
    let said = |at: usize| live.iter().any(|entry| entry.count == at);
    Ok(tensors.into_iter().enumerate().filter(|(at, _)| !said(*at)).map(|(_, tensor)| tensor).collect())
}

/// The first `count` slices along an axis, or all.
fn first_slices(tensor: &Tensor, axis: usize, count: usize) -> Result<Tensor, Error> {
    let mut shape = tensor.shape().to_vec();
    let full = shape[axis];
    let count = count.min(full);
    let slice = shape[axis + 1..].iter().product::<usize>() * tensor.dtype().size();
    shape[axis] = count;
    let blocks = tensor.bytes().chunks(slice.saturating_mul(full).max(1));
    let bytes: Vec<u8> = blocks.flat_map(|block| &block[..slice * count]).copied().collect();
    Tensor::from_bytes(tensor.dtype(), shape, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, dtype: DType, shape: &[usize]) -> Port {
        Port { name: name.into(), dtype, shape: shape.into() }
    }

    #[test]
    fn extents_are_found_by_name_and_type() {
        let ports = [
            port("y", DType::F32, &[2, 3]),
            port("z", DType::F32, &[2]),
            port("y.extent.1", DType::I64, &[]),
            port("z.extent.1", DType::I64, &[]),
            port("z.extent.0", DType::I32, &[]),
            port("w.extent.0", DType::I64, &[]),
        ];
        assert_eq!(live_outputs(&ports), [LiveOutput { output: 0, axis: 1, count: 2 }]);
        assert_eq!(extent_name("y", 1), ports[2].name);
    }

    #[test]
    fn what_is_not_there_is_cut_off() -> Result<(), Error> {
        let y = Tensor::from_f32([2, 3], &[1., 2., 3., 4., 5., 6.])?;
        let cut = |axis, count| -> Result<(Vec<usize>, Vec<f64>), Error> {
            let tensors = vec![y.clone(), Tensor::from_i64([], &[count])?];
            let cut = cut_outputs(tensors, &[LiveOutput { output: 0, axis, count: 1 }])?;
            assert_eq!(cut.len(), 1);
            Ok((cut[0].shape().to_vec(), cut[0].to_f64_vec()))
        };
        assert_eq!(cut(1, 2)?, (vec![2, 2], vec![1., 2., 4., 5.]));
        assert_eq!(cut(0, 1)?, (vec![1, 3], vec![1., 2., 3.]));
        assert_eq!(cut(1, 0)?, (vec![2, 0], vec![]));
        assert_eq!(cut(0, 9)?.0, [2, 3]);
        assert_eq!(cut(0, -1)?.0, [0, 3]);
        Ok(())
    }
}
