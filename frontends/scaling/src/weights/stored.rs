//! A parameter on its way back into a state dict.
//!
//! In: a parameter's elements in PyTorch's order. Out: name, shape and elements as a file of a scheme holds them: what binding the file makes the
//! same parameter of.

use bytes::Bytes;

use super::elements::permuted;
use super::schemes::Scheme;
use crate::architecture::Architecture;
use crate::parameters::Parameter;

impl Scheme {
    /// Name, shape, and `elements`, row-major `f32`, of a parameter of `architecture` in a file of this scheme.
    pub fn stored(
        self,
        architecture: &Architecture,
        parameter: &Parameter,
        elements: &Bytes,
    ) -> (String, Vec<usize>, Bytes) {
        let names = self.names(architecture, parameter);
        let name = names.into_iter().next().unwrap_or_else(|| parameter.name.clone());
        let shape = self.stored_shape(parameter);
        let Some(axes) = self.permutation(parameter) else { return (name, shape, elements.clone()) };
        // Axis `axes[i]` of the file is axis `i` of the parameter.
        let mut back = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(axis, stored)| back[*stored] = axis);
        (name, shape, permuted(elements, &parameter.shape, &back))
    }
}
