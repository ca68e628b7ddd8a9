//! Sliding windows: the extents of convolution and pooling, and the elements that each tap of a kernel meets.
//!
//! In: extents and attributes, one entry per spatial axis. Out: one [`Window`] per axis, checked: strides and dilations at
//! least 1, every attribute at most [`LIMIT`], so that coordinates fit `i64`.

use std::ops::Range;

use super::shapes::{check, expect_len};
use crate::error::OpError;

/// Largest stride, dilation, padding or kernel extent.
pub const LIMIT: usize = i32::MAX as usize;

/// One spatial axis under a sliding window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Extent of the operand.
    pub input: usize,
    /// Number of window positions.
    pub output: usize,
    /// Taps of the window.
    pub kernel: usize,
    /// Distance of two positions.
    pub stride: usize,
    /// Distance of two taps.
    pub dilation: usize,
    /// Padding before the operand; negative: elements that no window sees.
    pub begin: i64,
    /// Padding after the operand.
    pub end: i64,
}

impl Window {
    /// Coordinate in the operand of `tap` at position `at`; negative or past the end in the padding.
    pub fn coordinate(&self, at: usize, tap: usize) -> i64 {
        (at as i64) * (self.stride as i64) + (tap as i64) * (self.dilation as i64) - self.begin
    }

    /// The taps that meet an element of the operand at position `at`.
    pub fn taps_at(&self, at: usize) -> Range<usize> {
        let first = self.coordinate(at, 0);
        let from = (-first).max(0).unsigned_abs() as usize;
        let to = (self.input as i64 - first).max(0) as usize;
        let to = to.div_ceil(self.dilation).min(self.kernel);
        from.div_ceil(self.dilation).min(to)..to
    }

    /// The taps that meet an element of the operand at some position, ascending.
    pub fn taps(&self) -> Vec<usize> {
        let (mut out, mut next) = (Vec::new(), 0);
        // Both ends of the range fall as the position rises.
        for range in (0..self.output).rev().map(|at| self.taps_at(at)) {
            out.extend(range.start.max(next)..range.end);
            next = next.max(range.end);
        }
        out
    }

    /// The positions at which `tap` meets an element of the operand.
    pub fn positions(&self, tap: usize) -> Range<usize> {
        let first = self.coordinate(0, tap);
        let from = (-first).max(0).unsigned_abs() as usize;
        let to = (self.input as i64 - first).max(0) as usize;
        let to = to.div_ceil(self.stride).min(self.output);
        from.div_ceil(self.stride).min(to)..to
    }
}

/// A run of window positions along the last axis and the elements that one tap meets there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first position, as an element of the plane of positions.
    pub position: usize,
    /// The element of the operand's plane that the tap meets there; the next ones follow at the stride of the last axis.
    pub element: usize,
    /// Number of positions.
    pub len: usize,
}

/// One tap of the kernel and where it meets the operand rather than padding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tap {
    /// Row-major index in the kernel.
    pub index: usize,
    /// Where it meets the operand.
    pub runs: Vec<Run>,
}

/// The taps of a kernel over `windows`, row-major, without those that meet padding only.
pub fn taps(windows: &[Window]) -> Vec<Tap> {
    let mut out = Vec::new();
    let start = Run { position: 0, element: 0, len: 1 };
    extend(windows, Tap { index: 0, runs: vec![start] }, &mut out);
    out
}

/// Appends to `out` every tap that continues `prefix`, which fixes the axes before `windows`.
fn extend(windows: &[Window], prefix: Tap, out: &mut Vec<Tap>) {
    let Some((window, rest)) = windows.split_first() else {
        out.push(prefix);
        return;
    };
    for tap in window.taps() {
        let positions = window.positions(tap);
        if positions.is_empty() {
            continue;
        }
        let mut runs: Vec<Run> = Vec::new();
        for outer in &prefix.runs {
            let (position, element) = (outer.position * window.output, outer.element * window.input);
            let run = |at: usize, len| Run {
                position: position + at,
                element: element + window.coordinate(at, tap) as usize,
                len,
            };
            if !rest.is_empty() {
                runs.extend(positions.clone().map(|at| run(at, 1)));
                continue;
            }
            let next = run(positions.start, positions.len());
            match runs.last_mut() {
                Some(run) if window.stride == 1 && run.is_followed_by(&next) => run.len += next.len,
                _ => runs.push(next),
            }
        }
        extend(rest, Tap { index: prefix.index * window.kernel + tap, runs }, out);
    }
}

impl Run {
    fn is_followed_by(&self, next: &Self) -> bool {
        self.position + self.len == next.position && self.element + self.len == next.element
    }
}

/// Attributes of a sliding window, one entry per spatial axis.
#[derive(Clone, Copy, Debug)]
pub struct WindowAttrs<'a> {
    /// Taps.
    pub kernel: &'a [usize],
    /// Strides.
    pub strides: &'a [usize],
    /// Padding: all begins, then all ends.
    pub pads: &'a [usize],
    /// Dilations.
    pub dilations: &'a [usize],
    /// Whether a last, partial window counts.
    pub ceil_mode: bool,
}

impl WindowAttrs<'_> {
    /// The windows over an operand of spatial extents `input`.
    pub fn windows(&self, input: &[usize]) -> Result<Vec<Window>, OpError> {
        let rank = input.len();
        expect_steps(self.kernel, self.strides, self.dilations, rank)?;
        expect_len("pads", 2 * rank, self.pads.len())?;
        expect_bounded("pads", self.pads, 0)?;
        (0..rank).map(|axis| self.window(input[axis], axis)).collect()
    }

    fn window(&self, input: usize, axis: usize) -> Result<Window, OpError> {
        let rank = self.kernel.len();
        let (begin, end) = (self.pads[axis], self.pads[axis + rank]);
        let (kernel, stride, dilation) = (self.kernel[axis], self.strides[axis], self.dilations[axis]);
        let reach = dilation * (kernel - 1) + 1;
        let padded = input.checked_add(begin + end);
        let room = padded.filter(|_| input <= LIMIT).and_then(|padded| padded.checked_sub(reach));
        let expected = || format!("an extent of {reach} to {LIMIT} on axis {} for its window", axis + 2);
        let Some(room) = room else {
            return Err(OpError::new("x", expected(), format!("{input} and padding {begin}, {end}")));
        };
        let mut output = if self.ceil_mode { room.div_ceil(stride) } else { room / stride } + 1;
        if self.ceil_mode && (output - 1) * stride >= input + begin {
            output -= 1;
        }
        Ok(Window { input, output, kernel, stride, dilation, begin: begin as i64, end: end as i64 })
    }
}

/// Fails unless kernel, strides and dilations have `rank` entries between 1 and [`LIMIT`].
pub fn expect_steps(kernel: &[usize], strides: &[usize], dilations: &[usize], rank: usize) -> Result<(), OpError> {
    for (field, list) in [("kernel", kernel), ("strides", strides), ("dilations", dilations)] {
        expect_len(field, rank, list.len())?;
        expect_bounded(field, list, 1)?;
    }
    Ok(())
}

fn expect_bounded(field: &str, list: &[usize], least: usize) -> Result<(), OpError> {
    let fits = list.iter().all(|v| (least..=LIMIT).contains(v));
    check(fits, field, || format!("entries from {least} to {LIMIT}"), || format!("{list:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs<'a>(
        kernel: &'a [usize],
        strides: &'a [usize],
        pads: &'a [usize],
        dilations: &'a [usize],
    ) -> WindowAttrs<'a> {
        WindowAttrs { kernel, strides, pads, dilations, ceil_mode: false }
    }

    #[test]
    fn extents_follow_the_formula() {
        let output = |input, kernel, stride, pads: [usize; 2], dilation, ceil_mode| {
            let (kernel, strides, dilations) = ([kernel], [stride], [dilation]);
            let attrs = WindowAttrs { ceil_mode, ..attrs(&kernel, &strides, &pads, &dilations) };
            attrs.windows(&[input]).map(|windows| windows[0].output)
        };
        assert_eq!(output(224, 3, 2, [1, 1], 1, false), Ok(112));
        assert_eq!(output(7, 3, 2, [0, 1], 1, false), Ok(3));
        assert_eq!(output(1, 1, 5, [0, 0], 1, false), Ok(1));
        assert_eq!(output(5, 2, 4, [0, 0], 2, false), Ok(1));
        assert_eq!(output(5, 2, 2, [0, 0], 1, false), Ok(2));
        assert_eq!(output(5, 2, 2, [0, 0], 1, true), Ok(3));
        // A third window would start in the end padding.
        assert_eq!(output(3, 2, 3, [0, 2], 1, true), Ok(1));
        assert_eq!(output(0, 1, 1, [1, 1], 1, false), Ok(2));
    }

    #[test]
    fn windows_that_do_not_fit_are_errors() {
        let field = |attrs: WindowAttrs<'_>, input: &[usize]| attrs.windows(input).unwrap_err().field;
        assert_eq!(field(attrs(&[4], &[1], &[0, 0], &[1]), &[3]), "x");
        assert_eq!(field(attrs(&[2], &[1], &[0, 0], &[3]), &[3]), "x");
        assert_eq!(field(attrs(&[1], &[1], &[0, 0], &[1]), &[usize::MAX]), "x");
        assert_eq!(field(attrs(&[1], &[1], &[0, 0], &[1]), &[0]), "x");
        assert_eq!(field(attrs(&[0], &[1], &[0, 0], &[1]), &[3]), "kernel");
        assert_eq!(field(attrs(&[1], &[0], &[0, 0], &[1]), &[3]), "strides");
        assert_eq!(field(attrs(&[1], &[1], &[0, usize::MAX], &[1]), &[3]), "pads");
        assert_eq!(field(attrs(&[1], &[1], &[0], &[1]), &[3]), "pads");
        assert_eq!(field(attrs(&[2], &[1], &[0, 0], &[usize::MAX]), &[3]), "dilations");
        assert_eq!(field(attrs(&[1], &[1, 1], &[0, 0], &[1]), &[3]), "strides");
    }

    #[test]
    fn runs_are_the_pairs_inside_the_operand() {
        let shapes = [([5, 4], [3, 2], [2, 1], [1, 0, 1, 1], [1, 2]), ([1, 3], [3, 3], [1, 1], [1, 1, 1, 1], [1, 1])];
        for (input, kernel, strides, pads, dilations) in shapes {
            let windows = attrs(&kernel, &strides, &pads, &dilations).windows(&input).unwrap();
            let mut expected = Vec::new();
            for tap in 0..kernel[0] * kernel[1] {
                for at in 0..windows[0].output * windows[1].output {
                    let row = windows[0].coordinate(at / windows[1].output, tap / kernel[1]);
                    let column = windows[1].coordinate(at % windows[1].output, tap % kernel[1]);
                    if (0..input[0] as i64).contains(&row) && (0..input[1] as i64).contains(&column) {
                        expected.push((tap, at, row as usize * input[1] + column as usize));
                    }
                }
            }
            let mut found = Vec::new();
            for tap in taps(&windows) {
                for run in &tap.runs {
                    let pair = |i| (tap.index, run.position + i, run.element + i * windows[1].stride);
                    found.extend((0..run.len).map(pair));
                }
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn extreme_attributes_do_not_overflow() {
        let values = [0, 1, 2, LIMIT - 1, LIMIT, LIMIT + 1, usize::MAX];
        let pick = |code: usize, place: u32| values[code / 7usize.pow(place) % 7];
        for code in 0..7usize.pow(6) {
            let (kernel, strides, dilations) = ([pick(code, 0)], [pick(code, 1)], [pick(code, 2)]);
            let pads = [pick(code, 3), pick(code, 4)];
            let attrs = WindowAttrs { ceil_mode: code % 2 == 1, ..attrs(&kernel, &strides, &pads, &dilations) };
            let Ok(windows) = attrs.windows(&[pick(code, 5)]) else { continue };
            let [window] = windows[..] else { panic!("one window per axis") };
            let Some(last) = window.output.checked_sub(1) else { continue };
            let reach = window.coordinate(last, window.kernel - 1);
            assert!(reach < window.input as i64 + window.end || attrs.ceil_mode, "{window:?}");
            assert!(window.taps_at(last).end <= window.kernel && window.positions(0).end <= window.output);
        }
    }

    #[test]
    fn sparse_taps_are_found_without_a_search() {
        let windows = attrs(&[LIMIT], &[LIMIT - 1], &[LIMIT - 1, LIMIT - 1], &[1]).windows(&[2]).unwrap();
        assert_eq!((windows[0].output, windows[0].taps()), (2, vec![0, 1, LIMIT - 1]));
    }

    #[test]
    fn rows_without_padding_join() {
        let windows = attrs(&[1, 1], &[1, 1], &[0, 0, 0, 0], &[1, 1]).windows(&[7, 7]).unwrap();
        assert_eq!(taps(&windows), [Tap { index: 0, runs: vec![Run { position: 0, element: 0, len: 49 }] }]);
    }

    #[test]
    fn taps_in_the_padding_are_left_out() {
        let wide = LIMIT;
        let windows = attrs(&[wide], &[1], &[wide - 1, 0], &[1]).windows(&[2]).unwrap();
        assert_eq!(windows[0].output, 2);
        let found: Vec<_> = taps(&windows).iter().map(|tap| tap.index).collect();
        assert_eq!(found, [wide - 2, wide - 1]);
        assert_eq!((windows[0].taps_at(0).len(), windows[0].taps_at(1).len()), (1, 2));
    }
}
