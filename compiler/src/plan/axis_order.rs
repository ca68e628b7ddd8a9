//! The orders that values are computed in.
//!
//! In: a shape. Out: strides. Kernels and loop nests agree on two orders of whole axes; everything else, blocks and padding, is for
//! constants and for what a step packs, and is said in full by a [`packing::Layout`].

use fornax_runtime::packing;

/// Physical order of a view's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AxisOrder {
    /// Logical axes outer to inner.
    RowMajor,
    /// Axis 0, then axes 2 and up, then axis 1 innermost. Equals row-major below rank 3.
    ChannelsLast,
}

impl AxisOrder {
    /// The order as data, for a tensor of `rank` axes.
    pub fn of_rank(self, rank: usize) -> packing::Layout {
        match self {
            Self::RowMajor => packing::Layout::row_major(rank),
            Self::ChannelsLast => packing::Layout::channels_last(rank),
        }
    }

    /// Element stride of each logical axis for a dense tensor of `shape`.
    pub fn strides(self, shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![0; shape.len()];
        let mut step = 1usize;
        for axis in self.of_rank(shape.len()).order().iter().rev() {
            strides[*axis] = step;
            step = step.saturating_mul(shape[*axis]);
        }
        strides
    }

    /// Whether both orders put the elements of `shape` in the same order: one channel, or one pixel.
    pub fn coincide(shape: &[usize]) -> bool {
        shape.len() < 3 || shape[1] == 1 || shape[2..].iter().all(|extent| *extent == 1)
    }
}
