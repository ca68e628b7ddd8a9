//! Packings that several families read.

use fornax_runtime::packing::{Layout, Packing, Transform};

/// A matrix `[N, K]` (`by_output`) or `[K, N]` of `[inputs, outputs]`, times `factor`, in panels of `width` outputs: `[panel][input][width]`.
pub fn panels([inputs, outputs]: [usize; 2], by_output: bool, factor: f32, width: usize) -> Packing {
    let (extents, n) = if by_output { ([outputs, inputs], 0) } else { ([inputs, outputs], 1) };
    Packing::new(extents, Transform::scale(factor), Layout::new([n, 1 - n]).block(n, width))
}
