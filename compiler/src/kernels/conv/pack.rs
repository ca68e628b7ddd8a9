//! Weights in the order the tiles read them: `[group][panel][row][column][channel][width]`, the same for every target.
//!
//! All panels of a convolution have one [`width`], so that the weights of one input channel for neighbouring output channels
//! are a constant apart whichever panels they are in. What the last panel has beyond the filters is zero.
//!
//! Where products are of pairs ([`Conv::together`]), two channels lie together for each filter: `[…][pair][width][2]`. The last of an odd
//! number of channels has a zero beside it.

use fornax_runtime::packing::{Layout, Packing, Transform};

use super::Conv;

/// Output channels of a panel: one cache line of `f32`.
pub const PANEL: usize = 16;
/// Width of the only panel of a group with that many filters at most.
const NARROW: usize = 8;

/// Output channels that each panel of a group of `filters` stores.
pub fn width(filters: usize) -> usize {
    if filters <= NARROW { NARROW } else { PANEL }
}

/// Output channels with the last panel's padding: how many a group's packed weights and bias hold.
pub fn padded(filters: usize) -> usize {
    filters.next_multiple_of(width(filters))
}

impl Conv {
    /// How weights `[groups * filters, channels, rows, columns]` are packed; those of a transposed convolution are
    /// `[groups * channels, filters, rows, columns]`.
    pub fn weight_packing(&self) -> Packing {
        let taps = self.rows.kernel * self.columns.kernel;
        if self.transposed {
            let layout = Layout::new([0, 2, 3, 1]).block(2, width(self.filters));
            return Packing::new([self.groups, self.channels, self.filters, taps], Transform::None, layout);
        }
        let panels = Layout::new([0, 1, 3, 2]).block(1, width(self.filters));
        let layout = if self.together() > 1 { panels.block(2, self.together()) } else { panels };
        Packing::new([self.groups, self.filters, self.channels, taps], Transform::None, layout)
    }

    /// How a matrix `[channels, filters]` is packed, whose product with pairs this is.
    pub fn matrix_packing(&self) -> Packing {
        let layout = Layout::new([1, 0]).block(1, width(self.filters)).block(0, self.together());
        Packing::new([self.channels, self.filters], Transform::None, layout)
    }

    /// How a bias `[groups * filters]` is packed.
    pub fn bias_packing(&self) -> Packing {
        let (groups, filters) = (self.groups, self.filters);
        if groups == 1 {
            return Packing::padded(filters, padded(filters));
        }
        let layout = Layout::row_major(2).block(1, padded(filters));
        Packing::new([groups, filters], Transform::None, layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;
    use fornax_ir::types::DType;

    #[test]
    fn panels_have_one_width() {
        let packing = |groups, filters| Conv { groups, ..Conv::pointwise(1, 3, filters, Epilogue::default()) };
        let pairs = |groups, filters| Conv { element: DType::I16, ..packing(groups, filters) };
        assert_eq!(pairs(1, 18).weight_packing().to_string(), "[1,18,3,1] aBdC16b2c");
        assert_eq!(packing(1, 18).weight_packing().to_string(), "[1,18,3,1] aBdc16b");
        assert_eq!(packing(2, 5).weight_packing().to_string(), "[2,5,3,1] aBdc8b");
        assert_eq!(packing(2, 18).bias_packing().to_string(), "[2,18] aB32b");
        for (groups, filters) in [(1, 18), (2, 5), (1, 0), (3, 8), (2, 40)] {
            let conv = packing(groups, filters);
            assert_eq!(conv.weight_packing().len(), groups * padded(filters) * 3);
            assert_eq!(conv.bias_packing().len(), groups * padded(filters));
            assert_eq!(pairs(groups, filters).weight_packing().len(), groups * padded(filters) * 4);
        }
        assert_eq!([0, 1, 8, 9, 16, 24].map(padded), [0, 8, 8, 16, 16, 32]);
    }
}
