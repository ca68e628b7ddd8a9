//! Bounds: whether a nest reads and writes inside of its operands.
//!
//! In: a nest, as a lowering wrote it or as it was read from text, and the entries of its index tables. Out: the first operand or table
//! that a point of the nest could leave. Invariant of what passes: every element that is read or written is one that the operand has, so
//! that addresses do not overflow either. Nothing is promised of a nest that does not pass but that this could not be shown.

use super::{Affine, Entry, Guard, Inst, LoopNest};

/// Smallest and largest value.
type Range = (i128, i128);

impl LoopNest {
    /// Holds operands and tables to their bounds. `entries`: the smallest and largest entry of a table, by its number; `None` where they
    /// are not known, which says nothing of the operands that it moves.
    ///
    /// # Errors
    /// The operand, the elements that it has, and those that are touched.
    pub fn check_bounds(&self, entries: impl Fn(usize) -> Option<(i64, i64)>) -> Result<(), String> {
        let axes = |at: &Affine| at.strides.len() == self.extents.len();
        if !self.affines().all(axes) || self.reduced > self.extents.len() {
            return Err(format!("expected {} strides of each operand, found others", self.extents.len()));
        }
        if self.extents[..self.outputs()].contains(&0) {
            return Ok(());
        }
        let inside = |what: &str, (low, high): Range, elements: usize| match low >= 0 && high < elements as i128 {
            true => Ok(()),
            false => Err(format!("{what}: expected elements of {elements}, found {low} to {high}")),
        };
        inside("output", self.range(&self.output.at, &[]), self.output.elements)?;
        let no_terms = self.extents[self.outputs()..].contains(&0);
        let in_terms = |at: &Affine| at.strides[self.outputs()..].iter().any(|stride| *stride != 0);
        for (number, table) in self.tables.iter().enumerate().filter(|(_, table)| !(no_terms && in_terms(&table.at))) {
            inside(&format!("table {number}"), self.range(&table.at, &[]), table.elements)?;
        }
        for (number, input) in self.inputs.iter().enumerate() {
            // What is loaded around the terms is loaded where no test is made.
            let load = Inst::Load(number);
            let tested = !self.init.contains(&load) && !self.finish.contains(&load);
            if tested && no_terms {
                continue;
            }
            let mut range = self.range(&input.at, if tested { &self.guards } else { &[] });
            let mut known = true;
            for (table, factor) in &input.lookups {
                let entry = self.tables.get(*table).ok_or_else(|| format!("expected a table, found {table}"))?.entry;
                let found = match entry {
                    Entry::Wrap(extent) => Some((0, extent as i128 - 1)),
                    Entry::Skip => entries(*table).map(|(low, high)| {
                        let low = if tested { low.max(0) } else { low };
                        (low.into(), i128::from(high).max(low.into()))
                    }),
                };
                known &= found.is_some();
                range = sum(range, times(found.unwrap_or((0, 0)), (*factor).into()));
            }
            if known {
                inside(input.name, range, input.elements)?;
            }
        }
        Ok(())
    }

    /// The values of `at` over the points at which `guards` hold. A test bounds the axes that it moves along where `at` moves along
    /// them as it does, times a factor.
    fn range(&self, at: &Affine, guards: &[Guard]) -> Range {
        let base = i128::from(at.base);
        let (mut strides, mut range) = (at.strides.clone(), (base, base));
        for guard in guards {
            let moved = || (0..strides.len()).filter(|axis| guard.at.strides[*axis] != 0);
            let Some(factor) = moved().next().map(|axis| strides[axis] / guard.at.strides[axis]) else { continue };
            let times_factor = |axis: usize| guard.at.strides[axis].checked_mul(factor) == Some(strides[axis]);
            if factor == 0 || !moved().all(times_factor) {
                continue;
            }
            let (low, high) = self.range(&guard.at, &[]);
            let (low, high) = (low.max(0), high.min(guard.below as i128 - 1));
            let offset = i128::from(guard.at.base);
            range = sum(range, times((low - offset, (high - offset).max(low - offset)), factor.into()));
            (0..strides.len()).filter(|axis| guard.at.strides[*axis] != 0).for_each(|axis| strides[axis] = 0);
        }
        for (stride, extent) in strides.iter().zip(&self.extents) {
            range = sum(range, times((0, extent.saturating_sub(1) as i128), (*stride).into()));
        }
        range
    }
}

fn sum(a: Range, b: Range) -> Range {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

fn times((low, high): Range, by: i128) -> Range {
    let (a, b) = (low.saturating_mul(by), high.saturating_mul(by));
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::super::tests::copy;
    use super::super::{IndexTable, Input};
    use super::*;
    use fornax_ir::types::DType;

    /// A copy of 4x5 elements of as many, whose rows are 5 apart.
    fn rows() -> LoopNest {
        let mut nest = copy(&[4, 5], &[5, 1], &[5, 1]);
        (nest.inputs[0].elements, nest.output.elements) = (20, 20);
        nest
    }

    fn checked(nest: &LoopNest) -> Result<(), String> {
        nest.check_bounds(|_| None)
    }

    #[test]
    fn every_point_lies_inside() {
        assert_eq!(checked(&rows()), Ok(()));
        let faults: [fn(&mut LoopNest); 7] = [
            |nest| nest.inputs[0].elements = 19,
            |nest| nest.output.elements = 19,
            |nest| nest.inputs[0].at.base = 1,
            |nest| nest.inputs[0].at.base = -1,
            |nest| nest.inputs[0].at.strides[0] = i64::MAX,
            |nest| nest.inputs[0].at.strides[1] = i64::MIN,
            |nest| nest.output.at.strides = vec![5],
        ];
        for (i, fault) in faults.iter().enumerate() {
            let mut nest = rows();
            fault(&mut nest);
            assert!(checked(&nest).is_err(), "fault {i}");
        }
        let mut backwards = rows();
        backwards.inputs[0].at = Affine::new(19, [-5, -1]);
        assert_eq!(checked(&backwards), Ok(()));
    }

    #[test]
    fn tests_bound_the_axes_that_they_move_along() {
        // Padding by 1: coordinates -1 to 4 of an axis of 4, positions and taps of a window of 3.
        let mut nest = copy(&[4, 3], &[1, 1], &[1, 0]);
        nest.reduced = 1;
        (nest.inputs[0].elements, nest.output.elements, nest.inputs[0].at.base) = (4, 4, -1);
        assert!(checked(&nest).is_err());
        nest.guards.push(Guard { at: Affine::new(-1, [1, 1]), below: 4 });
        assert_eq!(checked(&nest), Ok(()));
        nest.guards[0].below = 5;
        assert_eq!(checked(&nest).unwrap_err(), "x: expected elements of 4, found 0 to 4");
        nest.guards[0].below = 4;
        nest.init = vec![Inst::Load(0)];
        assert!(checked(&nest).is_err(), "a start is read where the test does not hold");
    }

    #[test]
    fn what_is_read_never_may_be_anywhere() {
        let mut nest = copy(&[2, 0], &[1, 1], &[1, 0]);
        (nest.reduced, nest.inputs[0].elements, nest.output.elements) = (1, 0, 2);
        nest.init = vec![Inst::Float(0)];
        assert_eq!(checked(&nest), Ok(()));
        nest.init = vec![Inst::Load(0)];
        assert!(checked(&nest).is_err());
        nest.extents = vec![0, 2];
        assert_eq!(checked(&nest), Ok(()));
    }

    #[test]
    fn tables_lead_inside() {
        let mut nest = rows();
        nest.inputs[0].at.strides[0] = 0;
        let at = Affine::new(0, [1, 0]);
        nest.tables.push(IndexTable { name: "t", dtype: DType::I32, elements: 4, at, entry: Entry::Skip });
        nest.inputs[0] = Input { lookups: vec![(0, 5)], ..nest.inputs[0].clone() };
        let with = |nest: &LoopNest, low, high| nest.check_bounds(|_| Some((low, high)));
        assert_eq!(with(&nest, -1, 3), Ok(()));
        assert!(with(&nest, 0, 4).is_err());
        nest.tables[0].entry = Entry::Wrap(4);
        assert_eq!(with(&nest, -100, 100), Ok(()));
        nest.tables[0].entry = Entry::Wrap(5);
        assert!(with(&nest, 0, 0).is_err());
        nest.tables[0].elements = 3;
        assert!(with(&nest, 0, 0).unwrap_err().starts_with("table 0"));
        nest.inputs[0].lookups[0].0 = 1;
        nest.tables[0].elements = 4;
        assert!(with(&nest, 0, 0).is_err());
    }
}
