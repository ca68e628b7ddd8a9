//! The order in which a nest is walked, and its cut into chunks.
//!
//! In: a simplified [`LoopNest`]. Out: the same points in an order that meets memory better where the written order meets it badly, and blocks of
//! one of its axes. Both are functions of the shape alone, so that every machine and thread count computes the same.

use super::{Combine, Input, Inst, LoopNest, Split};
use crate::kernels::work_units;

/// Points of the nest that one chunk should have at least: a few microseconds of scalar code.
const CHUNK: usize = 8192;

/// The block of the innermost output axis is a multiple of this: whole unrolled vectors of any back end.
const VECTORS: usize = 64;

/// Rows of a strip of a transposing copy come in multiples of this: whole squares of any back end.
const SQUARE: usize = 16;

/// Least rows and columns that are worth a square.
const SIDE: usize = 4;

/// Largest stride of the lines of a square: displacements of all its lines fit an instruction.
const REACH: u64 = 1 << 24;

/// Indices of an axis that are walked before the axis outside of it moves, where that is the one that lies dense.
const BAND: usize = 8;

/// Steps from which on an axis is cut into bands, bytes: eight lines.
const FAR_STEP: u64 = 512;

impl LoopNest {
    /// The nest with its output axes in another order, if it is a copy of 32-bit elements that is dense along one output axis where it
    /// is read and along another where it is written: the axis that is read along second innermost, the one that is written along
    /// innermost.
    pub fn transposed(&self) -> Option<Self> {
        let [input] = &self.inputs[..] else { return None };
        let columns = self.outputs() - 1;
        let copy = (self.reduced, self.combine) == (0, Combine::Last)
            && self.body == [Inst::Load(0)]
            && (self.tables.is_empty() && self.guards.is_empty() && self.finish.is_empty())
            && (input.dtype.size(), self.output.dtype.size()) == (4, 4);
        let rows = (0..columns).find(|axis| input.at.strides[*axis] == 1 && self.extents[*axis] >= SIDE)?;
        // Displacements within a square.
        let near = |stride: i64| stride.unsigned_abs() < REACH;
        let (across, down) = (input.at.strides[columns], self.output.at.strides[rows]);
        let crosses = self.output.at.strides[columns] == 1 && across != 1 && self.extents[columns] >= SIDE;
        if !(copy && crosses && near(across) && near(down)) {
            return None;
        }
        let mut nest = self.clone();
        nest.extents[rows..columns].rotate_left(1);
        nest.affines_mut().for_each(|a| a.strides[rows..columns].rotate_left(1));
        Some(nest)
    }

    /// The nest with its second innermost output axis cut into bands and the axes that an operand has inside of it moved between: `a, b, run`
    /// becomes `b / BAND, a, b % BAND, run`. For operands that lie `b, a, run` by long steps: every step of `b` is another page, and lines of many pages
    /// displace each other in the L1 before all of a page's are read.
    fn banded(&self) -> Option<Self> {
        let (outputs, axis) = (self.outputs(), self.outputs().checked_sub(2)?);
        let crosses = |x: &Input| {
            let step = |axis: usize| x.at.strides[axis].unsigned_abs().saturating_mul(x.dtype.size() as u64);
            let inside = axis.checked_sub(1).is_some_and(|outer| (1..step(axis)).contains(&step(outer)));
            inside && step(axis) >= FAR_STEP && x.at.strides[axis + 1] == 1
        };
        let whole = self.extents[axis].is_multiple_of(BAND) && self.extents[axis] > BAND;
        if self.reduced > 0 || outputs < 3 || !whole || !self.inputs.iter().any(crosses) {
            return None;
        }
        let mut nest = self.clone();
        nest.extents[axis] = BAND;
        nest.extents.insert(axis - 1, self.extents[axis] / BAND);
        for a in nest.affines_mut() {
            // A plan that was read may hold any stride.
            let band = a.strides[axis].checked_mul(BAND as i64)?;
            a.strides.insert(axis - 1, band);
        }
        Some(nest)
    }

    /// The nest in the order in which it is walked, if that is not its own: [`Self::transposed`] or [`Self::banded`].
    pub fn arranged(&self) -> Option<Self> {
        self.transposed().or_else(|| self.banded())
    }

    /// The cut into chunks: a function of the shape alone.
    pub fn split(&self) -> Split {
        match (self.transposed(), self.banded()) {
            (Some(nest), _) => nest.cut(self.outputs() - 2, SQUARE),
            (None, Some(nest)) => nest.cut(nest.outputs() - 1, VECTORS),
            (None, None) => self.cut(self.outputs() - 1, VECTORS),
        }
    }

    /// Blocks of one of the axes up to `last`; of that, of a multiple of `whole` indices.
    fn cut(&self, last: usize, whole: usize) -> Split {
        let inner = |axis: usize| self.extents[axis + 1..].iter().fold(1usize, |p, e| p.saturating_mul(*e));
        let outer = (0..last).find(|axis| inner(*axis) <= CHUNK).unwrap_or(last);
        let mut block = CHUNK.div_ceil(inner(outer).max(1));
        if outer == last {
            block = block.next_multiple_of(whole);
        }
        Split { outer, block: block.min(self.extents[outer]).max(1) }
    }

    /// Number of chunks of a cut; 0 if there is nothing to write.
    pub fn chunks(&self, split: Split) -> u32 {
        if self.extents[..self.outputs()].contains(&0) {
            return 0;
        }
        let extents = self.arranged().map_or_else(|| self.extents.clone(), |nest| nest.extents);
        let outer: usize = extents[..split.outer].iter().product();
        work_units(outer.saturating_mul(extents[split.outer].div_ceil(split.block)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::copy;
    use super::*;

    #[test]
    fn far_steps_are_walked_in_bands() {
        // The two middle axes of [4, 32, 32, 32] exchanged.
        let nest = copy(&[4, 32, 32, 32], &[32768, 32, 1024, 1], &[32768, 1024, 32, 1]);
        let banded = nest.arranged().unwrap();
        assert_eq!(banded.extents, [4, 4, 32, 8, 32]);
        assert_eq!(banded.inputs[0].at.strides, [32768, 8192, 32, 1024, 1]);
        assert_eq!(banded.output.at.strides, [32768, 256, 1024, 32, 1]);
        // In order, by short steps, not in whole bands, or the innermost axis is not dense.
        assert!(copy(&[4, 32, 32, 32], &[32768, 1024, 32, 1], &[32768, 1024, 32, 1]).arranged().is_none());
        assert!(copy(&[4, 32, 32, 3], &[3072, 3, 96, 1], &[3072, 96, 3, 1]).arranged().is_none());
        assert!(copy(&[4, 32, 31, 32], &[31744, 32, 1024, 1], &[31744, 992, 32, 1]).arranged().is_none());
        assert!(copy(&[4, 32, 32, 3], &[32768, 32, 1024, 2], &[3072, 96, 3, 1]).arranged().is_none());
    }

    #[test]
    fn strides_of_any_size_are_read() {
        for stride in [i64::MIN, i64::MIN + 1, i64::MAX / 4, i64::MAX] {
            let nest = copy(&[4, 32, 32, 32], &[32768, 32, stride, 1], &[32768, 1024, 32, 1]);
            assert!(nest.arranged().is_none(), "{stride}");
            let nest = copy(&[4, 32, 32, 32], &[stride, stride, stride, 1], &[stride, 1, 32, stride]).simplify();
            assert!(nest.chunks(nest.split()) > 0, "{stride}");
        }
    }

    #[test]
    fn chunks_cover_every_index_once() {
        for extents in [vec![1], vec![5], vec![70000], vec![300, 70], vec![7, 1, 9000], vec![3, 100, 100], vec![0, 3]] {
            let strides: Vec<i64> =
                (0..extents.len()).map(|d| extents[d + 1..].iter().product::<usize>() as i64).collect();
            let nest = copy(&extents, &vec![0; extents.len()], &strides);
            let split = nest.split();
            let outer: usize = extents[..split.outer].iter().product();
            let blocks = extents[split.outer].div_ceil(split.block);
            assert_eq!(nest.chunks(split) as usize, if nest.points() == 0 { 0 } else { outer * blocks }, "{extents:?}");
            assert!(nest.points() <= CHUNK || nest.chunks(split) > 1, "{extents:?} {split:?}");
        }
    }
}
