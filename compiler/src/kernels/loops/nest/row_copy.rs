//! Nests that copy rows of elements between a dense matrix and columns of a larger one: what splitting and joining the channels of a
//! channel-last map comes to.
//!
//! In: a simplified nest. Out: the rows and both places, or that it does something else.

use super::{Affine, Combine, Inst, LoopNest};

/// A copy of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowCopy {
    /// Rows.
    pub rows: usize,
    /// Elements of each.
    pub columns: usize,
    /// Bytes of an element.
    pub size: usize,
    /// Where they are read.
    pub from: Rows,
    /// Where they are written.
    pub to: Rows,
}

/// Where the rows of a copy lie in an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// First element.
    pub first: usize,
    /// Elements from one row to the next.
    pub pitch: usize,
    /// Whether the operand has no other elements.
    pub whole: bool,
}

impl LoopNest {
    /// What it copies, if it moves rows of elements as they are and that is all it does.
    pub fn row_copy(&self) -> Option<RowCopy> {
        let ([input], &[rows, columns]) = (&self.inputs[..], &self.extents[..]) else { return None };
        let plain = (self.reduced, self.combine) == (0, Combine::Last)
            && self.body == [Inst::Load(0)]
            && self.finish.is_empty()
            && (self.tables.is_empty() && self.guards.is_empty() && input.lookups.is_empty())
            && input.dtype == self.output.dtype;
        let place = |at: &Affine, elements: usize| {
            let &[pitch, 1] = &at.strides[..] else { return None };
            let (first, pitch) = (usize::try_from(at.base).ok()?, usize::try_from(pitch).ok()?);
            let end = pitch.checked_mul(rows.checked_sub(1)?)?.checked_add(first)?.checked_add(columns)?;
            let whole = first == 0 && pitch == columns && end == elements;
            (pitch >= columns && end <= elements).then_some(Rows { first, pitch, whole })
        };
        let (from, to) = (place(&input.at, input.elements)?, place(&self.output.at, self.output.elements)?);
        plain.then_some(RowCopy { rows, columns, size: input.dtype.size(), from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::copy;
    use super::*;

    #[test]
    fn rows_are_found_and_nothing_else() {
        // Channels 8 to 12 of 20, channel-last, two images of 3 by 5 pixels.
        let mut nest = copy(&[2, 4, 3, 5], &[300, 1, 100, 20], &[60, 1, 20, 4]);
        nest.inputs[0].at.base = 8;
        nest.output.elements = 120;
        let from = Rows { first: 8, pitch: 20, whole: false };
        let to = Rows { first: 0, pitch: 4, whole: true };
        assert_eq!(nest.clone().simplify().row_copy(), Some(RowCopy { rows: 30, columns: 4, size: 4, from, to }));
        // Every other channel; overlapping rows; a value that is no copy; before the operand.
        assert_eq!(copy(&[30, 4], &[20, 2], &[4, 1]).simplify().row_copy(), None);
        assert_eq!(copy(&[30, 4], &[2, 1], &[4, 1]).simplify().row_copy(), None);
        let mut other = nest.clone();
        other.body.push(Inst::Unary(super::super::Neg, 0));
        assert_eq!(other.simplify().row_copy(), None);
        nest.inputs[0].at.base = -8;
        assert_eq!(nest.simplify().row_copy(), None);
    }
}
