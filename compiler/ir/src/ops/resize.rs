//! Resampling. The result's shape is given; `scales` are ONNX's (given, or out / in), which the coordinate rule uses.

use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::{Data, Literal};
use super::reduce::int_range;
use super::shapes::{around_axis, check, checked, expect_len, expect_number, expect_operands, offsets, strides};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{DType, TensorType};

/// Interpolation between samples.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResizeMode {
    /// Nearest sample.
    Nearest,
    /// Linear along each axis.
    Linear,
    /// Cubic along each axis.
    Cubic,
}
word_attr!(ResizeMode { Nearest = "nearest", Linear = "linear", Cubic = "cubic" });

/// From an output coordinate to an input coordinate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CoordinateMode {
    /// `(x + 0.5) / scale - 0.5`
    HalfPixel,
    /// As `half_pixel`, with the origin kept symmetric when the scaled extent is not an integer.
    HalfPixelSymmetric,
    /// As `half_pixel`, 0 where the output extent is 1.
    PytorchHalfPixel,
    /// `x (in - 1) / (out - 1)`
    AlignCorners,
    /// `x / scale`
    Asymmetric,
    /// `(x + 0.5) / scale` (ONNX 10's `tf_half_pixel_for_nn`)
    TfHalfPixelForNn,
    /// The region of interest is stretched over the output.
    TfCropAndResize,
}
word_attr!(CoordinateMode {
    HalfPixel = "half_pixel", HalfPixelSymmetric = "half_pixel_symmetric", PytorchHalfPixel = "pytorch_half_pixel",
    AlignCorners = "align_corners", Asymmetric = "asymmetric", TfHalfPixelForNn = "tf_half_pixel_for_nn",
    TfCropAndResize = "tf_crop_and_resize",
});

/// Rounding of `nearest`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NearestMode {
    /// Halves go down.
    RoundPreferFloor,
    /// Halves go up.
    RoundPreferCeil,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}
word_attr!(NearestMode {
    RoundPreferFloor = "round_prefer_floor", RoundPreferCeil = "round_prefer_ceil", Floor = "floor", Ceil = "ceil",
});

/// Distance from a half, in samples, that rounding of coordinates may leave of one; as in onnxruntime.
const TIE: f64 = 1e-6;

attributes! {
    /// Attributes of a resampling; lists have one entry per axis of the operand.
    pub struct Resize {
        /// Interpolation.
        pub mode: ResizeMode = ResizeMode::Nearest,
        /// Coordinate rule.
        pub coordinates: CoordinateMode = CoordinateMode::HalfPixel,
        /// Rounding of `nearest`.
        pub nearest: NearestMode = NearestMode::RoundPreferFloor,
        /// Shape of the result.
        pub shape: Vec<usize> = vec![],
        /// Scale of each axis.
        pub scales: Vec<f64> = vec![],
        /// Region of interest: all starts, then all ends, normalised (only `tf_crop_and_resize`).
        pub roi: Vec<f32> = vec![],
        /// Coefficient a of `cubic`.
        pub cubic_a: f32 = -0.75,
        /// Leave samples outside the input out of the weights.
        pub exclude_outside: bool = false,
        /// Stretch the filter when scaling down.
        pub antialias: bool = false,
        /// Value outside the region of interest.
        pub extrapolation: f32 = 0.0,
    }
}

impl Resize {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Resize {
    /// Whether `axis` is left as it is.
    pub fn keeps(&self, x: &TensorType, axis: usize) -> bool {
        let rank = x.shape.rank();
        let whole = self.coordinates != CoordinateMode::TfCropAndResize
            || (self.roi[axis] == 0.0 && self.roi[axis + rank] == 1.0);
        whole && self.scales[axis] == 1.0 && self.shape[axis] == x.shape[axis]
    }

    /// The coordinate along `axis` of operand `x` that coordinate `i` of the result samples; `None` outside the region of
    /// interest. Where the scaled extent has a fraction, the rules that divide by it keep the fraction, as ONNX's own tests do.
    ///
    /// Which sample is nearest is a decision: there every step is rounded to `f32`, as in the exporters and runtimes that models were
    /// trained and tested with. At a scale of 4/3, as `f32` has it, coordinate 4 samples 3 in `f32` and less than that in `f64`.
    pub fn source(&self, x: &TensorType, axis: usize, i: usize) -> Option<f64> {
        if self.keeps(x, axis) {
            return Some(i as f64);
        }
        let exact = self.coordinate(x, axis, i, |v| v);
        let decided = || match self.coordinates {
            CoordinateMode::HalfPixelSymmetric => self.symmetric(x, axis, i),
            _ => self.coordinate(x, axis, i, |v| f64::from(v as f32)),
        };
        let at = if self.mode == ResizeMode::Nearest { decided() } else { exact };
        if self.coordinates == CoordinateMode::TfCropAndResize {
            let last = x.shape[axis] as f64 - 1.0;
            return (0.0..=last).contains(&exact).then_some(at.clamp(0.0, last));
        }
        Some(at)
    }

    /// [`Self::source`] by the coordinate rule alone, each step rounded by `r`.
    fn coordinate(&self, x: &TensorType, axis: usize, i: usize, r: impl Fn(f64) -> f64) -> f64 {
        let (input, output, scale) = (x.shape[axis] as f64, self.shape[axis] as f64, r(self.scales[axis]));
        let i = i as f64;
        let scaled = if (input * scale - output).abs() < 1e-4 { output } else { r(input * scale) };
        let half_pixel = r(r((i + 0.5) / scale) - 0.5);
        match self.coordinates {
            CoordinateMode::HalfPixel => half_pixel,
            CoordinateMode::HalfPixelSymmetric => r(r(input / 2.0 * r(1.0 - r(output / scaled))) + half_pixel),
            CoordinateMode::PytorchHalfPixel | CoordinateMode::AlignCorners if output <= 1.0 => 0.0,
            CoordinateMode::PytorchHalfPixel => half_pixel,
            CoordinateMode::AlignCorners => r(r(i * (input - 1.0)) / r(scaled - 1.0)),
            CoordinateMode::Asymmetric => r(i / scale),
            CoordinateMode::TfHalfPixelForNn => r((i + 0.5) / scale),
            CoordinateMode::TfCropAndResize => {
                let (start, end) = (f64::from(self.roi[axis]), f64::from(self.roi[axis + x.shape.rank()]));
                let last = input - 1.0;
                match output <= 1.0 {
                    true => r(r(0.5 * r(start + end)) * last),
                    false => r(r(start * last) + r(r(r(i * r(end - start)) * last) / (scaled - 1.0))),
                }
            }
        }
    }

    /// The coordinate of [`CoordinateMode::HalfPixelSymmetric`] as onnxruntime decides by it, which alone runs the rule: the offset of the
    /// origin in `f32`, from a scaled extent that is not taken for the whole one, and the rest rounded once.
    fn symmetric(&self, x: &TensorType, axis: usize, i: usize) -> f64 {
        let (input, output, scale) = (x.shape[axis] as f32, self.shape[axis] as f32, self.scales[axis] as f32);
        let offset = input / 2.0 * (1.0 - output / (scale * input));
        let at = f64::from(offset) + (i as f64 + 0.5) / f64::from(scale) - 0.5;
        f64::from(at as f32)
    }

    /// The sample of an axis of `extent` that is nearest to coordinate `at`; what is within a millionth of a half counts as one.
    pub fn pick(&self, at: f64, extent: usize) -> usize {
        let tie = (at - (at.floor() + 0.5)).abs() < TIE;
        let rounded = match self.nearest {
            NearestMode::RoundPreferFloor if tie => at.floor(),
            NearestMode::RoundPreferCeil if tie => at.floor() + 1.0,
            NearestMode::RoundPreferFloor | NearestMode::RoundPreferCeil => at.round(),
            NearestMode::Floor => at.floor(),
            NearestMode::Ceil => at.ceil(),
        };
        (rounded.max(0.0) as usize).min(extent - 1)
    }

    /// The samples of an axis of `extent` that interpolate coordinate `at`, with their weights. Samples outside repeat the
    /// edge, or have no weight where `exclude_outside`.
    pub fn taps(&self, at: f64, extent: usize, axis: usize) -> Vec<(usize, f64)> {
        let squeeze = if self.antialias { self.scales[axis].min(1.0) } else { 1.0 };
        let reach = if self.mode == ResizeMode::Cubic { 2.0 } else { 1.0 } / squeeze;
        let last = extent as i64 - 1;
        // Farther out every tap is on the same edge.
        let at = at.clamp(-reach - 1.0, last as f64 + reach + 1.0);
        let (from, to) = ((at - reach).floor() as i64 + 1, (at + reach).ceil() as i64);
        let weight = |i: i64| match self.exclude_outside && !(0..=last).contains(&i) {
            true => 0.0,
            false => self.filter((i as f64 - at) * squeeze),
        };
        let sum: f64 = (from..to).map(weight).sum();
        let sum = if (self.antialias || self.exclude_outside) && sum != 0.0 { sum } else { 1.0 };
        (from..to).map(|i| (i.clamp(0, last) as usize, weight(i) / sum)).collect()
    }

    /// The interpolating filter at distance `t`.
    fn filter(&self, t: f64) -> f64 {
        let (t, a) = (t.abs(), f64::from(self.cubic_a));
        match self.mode {
            ResizeMode::Cubic if t <= 1.0 => ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0,
            ResizeMode::Cubic if t < 2.0 => ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a,
            ResizeMode::Cubic => 0.0,
            _ => (1.0 - t).max(0.0),
        }
    }
}

/// `x` of `shape` with coordinate `i` of `axis` replaced by the weighted sum of the samples `taps[i]`.
fn resample(x: &[f64], shape: &[usize], axis: usize, taps: &[Vec<(usize, f64)>]) -> Vec<f64> {
    let (outer, inner) = around_axis(shape, axis);
    let mut out = Vec::with_capacity(outer * taps.len() * inner);
    for (o, taps) in (0..outer).flat_map(|o| taps.iter().map(move |taps| (o, taps))) {
        let line = |k: usize| taps.iter().map(|(i, weight)| weight * x[(o * shape[axis] + i) * inner + k]).sum::<f64>();
        out.extend((0..inner).map(line));
    }
    out
}

/// `v` rounded to the nearest element of an integer type, halves to even.
fn saturated(dtype: DType, v: f64) -> i64 {
    let v = v.round_ties_even();
    if dtype == DType::U64 {
        return v as u64 as i64;
    }
    let (least, most) = int_range(dtype);
    (v as i64).clamp(least, most)
}

impl OneResult for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let (x, rank) = (inputs[0], inputs[0].shape.rank());
        if self.mode != ResizeMode::Nearest {
            expect_number("x", x)?;
        }
        expect_len("shape", rank, self.shape.len())?;
        expect_len("scales", rank, self.scales.len())?;
        let scales = self.scales.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        check(scales, "scales", || "positive numbers".into(), || format!("{:?}", self.scales))?;
        if self.coordinates == CoordinateMode::TfCropAndResize {
            expect_len("roi", 2 * rank, self.roi.len())?;
            check(self.roi.iter().all(|v| v.is_finite()), "roi", || "numbers".into(), || format!("{:?}", self.roi))?;
        }
        // A fraction is dropped or rounded half up; what is far from both would make filters of any length.
        let scaled = x.shape.iter().zip(&self.shape).zip(&self.scales).all(|((input, output), scale)| {
            let (scaled, output) = (scale * *input as f64, *output as f64);
            output == 0.0 || ((scaled - output).abs() <= 1.0 + 1e-3 * output && scaled >= 0.25)
        });
        let found = || format!("{:?} for {:?}", self.shape, self.scales);
        check(scaled, "shape", || format!("{x} times scales"), found)?;
        let smooth = self.mode != ResizeMode::Nearest || !self.antialias;
        check(smooth, "antialias", || "false with nearest".into(), || "true".into())?;
        let sampled = x.shape.iter().zip(&self.shape).all(|(input, output)| *input > 0 || *output == 0);
        check(sampled, "shape", || format!("no samples of the empty axes of {x}"), || format!("{:?}", self.shape))?;
        checked(x.dtype, self.shape.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let x = inputs[0];
        let ty = self.infer(&[&x.ty])?;
        if ty.shape.contains(&0) {
            return Literal::from_bytes(ty, &[]);
        }
        let shape = &ty.shape;
        // For each axis and coordinate of the result, the coordinate of the operand; `None` outside the region of interest.
        let sources: Vec<Vec<_>> =
            (0..shape.rank()).map(|axis| (0..shape[axis]).map(|i| self.source(&x.ty, axis, i)).collect()).collect();
        if self.mode == ResizeMode::Nearest {
            let own = strides(&x.ty.shape);
            let nearest = |axis: usize, i: usize| Some(self.pick(sources[axis][i]?, x.ty.shape[axis]) * own[axis]);
            let at = offsets(shape, nearest);
            return Ok(x.gather_elements(shape.clone(), f64::from(self.extrapolation), |i| at[i]));
        }
        let mut values = x.to_f64();
        let mut extents = x.ty.shape.to_vec();
        for axis in (0..shape.rank()).filter(|axis| !self.keeps(&x.ty, *axis)) {
            let taps: Vec<_> = sources[axis].iter().map(|s| self.taps(s.unwrap_or(0.0), extents[axis], axis)).collect();
            values = resample(&values, &extents, axis, &taps);
            extents[axis] = shape[axis];
        }
        let inside = offsets(shape, |axis, i| sources[axis][i].map(|_| 0));
        let outside = values.iter_mut().zip(inside).filter(|(_, inside)| inside.is_none());
        outside.for_each(|(v, _)| *v = f64::from(self.extrapolation));
        Ok(match x.data {
            Data::Float(_) => Literal::new_float(ty, values),
            Data::Int(_) => {
                let integers = values.iter().map(|v| saturated(ty.dtype, *v)).collect();
                Literal::new_int(ty, integers)
            }
        })
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (mut dx, x) = (cx.dy()?, cx.operand(0));
        let ty = cx.ty(x).clone();
        for (axis, extent) in ty.shape.iter().enumerate().filter(|(axis, _)| !self.keeps(&ty, *axis)) {
            let row = |i: usize| match (self.source(&ty, axis, i), self.mode) {
                (None, _) => Vec::new(),
                (Some(at), ResizeMode::Nearest) => vec![(self.pick(at, *extent), 1.0)],
                (Some(at), _) => self.taps(at, *extent, axis),
            };
            let rows: Vec<_> = (0..self.shape[axis]).map(row).collect();
            dx = cx.spread(dx, axis, *extent, &rows)?;
        }
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(op: &Resize, scale: f64, out: usize, x: &[f32]) -> Vec<f64> {
        let op = Resize { shape: vec![out], scales: vec![scale], ..op.clone() };
        op.evaluate(&[&Literal::from_f32([x.len()], x)]).unwrap().to_f64()
    }

    #[test]
    fn nearest_rounds_as_asked() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let op = |coordinates, nearest| Resize { coordinates, nearest, ..Resize::default() };
        use {CoordinateMode::*, NearestMode::*};
        assert_eq!(line(&op(Asymmetric, Floor), 1.5, 6, &x), [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
        assert_eq!(line(&op(Asymmetric, Ceil), 1.5, 6, &x), [1.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
        assert_eq!(line(&op(HalfPixel, RoundPreferFloor), 0.5, 2, &x), [1.0, 3.0]);
        assert_eq!(line(&op(HalfPixel, RoundPreferCeil), 0.5, 2, &x), [2.0, 4.0]);
        assert_eq!(line(&op(TfHalfPixelForNn, Floor), 0.5, 2, &x), [2.0, 4.0]);
    }

    #[test]
    fn nearest_decides_in_f32() {
        let x: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let floor =
            Resize { coordinates: CoordinateMode::Asymmetric, nearest: NearestMode::Floor, ..Resize::default() };
        // Scales as `f32` has them: every third, fourth or eleventh sample falls on one of the operand's.
        for (scale, out) in [(1.0f32 / 3.0, 20), (4.0 / 3.0, 80), (2.2, 132)] {
            let expected: Vec<f64> = (0..out).map(|i| f64::from((i as f32 / scale).floor())).collect();
            let found = line(&floor, f64::from(scale), out, &x);
            assert_eq!(found, expected, "{scale}");
            let whole = (0..out).filter(|i| (*i as f32 / scale).fract() == 0.0).count();
            assert!(whole >= 12, "{whole} of scale {scale}");
        }
        // By extents: 13.500001 in `f32`, a half but for the rounding.
        let op = Resize { coordinates: CoordinateMode::TfCropAndResize, roi: vec![0.3, 1.1], ..Resize::default() };
        let found = line(&op, 103.0 / 46.0, 103, &x[..46]);
        assert_eq!(found[0], 13.0);
        let op = Resize { nearest: NearestMode::RoundPreferCeil, coordinates: CoordinateMode::Asymmetric, ..op };
        assert_eq!(line(&op, f64::from(1.2f32), 61, &x[..51])[9], 8.0, "7.4999995");
    }

    #[test]
    fn a_crop_decides_ties_in_f32() {
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let op = Resize { coordinates: CoordinateMode::TfCropAndResize, extrapolation: -1.0, ..Resize::default() };
        let op = |start: f32, end: f32| Resize { roi: vec![start, end], ..op.clone() };
        assert_eq!(line(&op(0.1, 0.8), 7.0 / 6.0, 7, &x[..6]), [0.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
        // The last coordinate is 7, 7.0000005 in `f32`.
        assert_eq!(line(&op(0.2, 1.0), 0.5, 4, &x), [1.0, 3.0, 5.0, 7.0]);
    }

    #[test]
    fn linear_weighs_two_samples() {
        let op = |coordinates| Resize { mode: ResizeMode::Linear, coordinates, ..Resize::default() };
        use CoordinateMode::*;
        assert_eq!(line(&op(HalfPixel), 2.0, 4, &[0.0, 8.0]), [0.0, 2.0, 6.0, 8.0]);
        assert_eq!(line(&op(AlignCorners), 2.0, 4, &[0.0, 3.0]), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(line(&op(AlignCorners), 0.5, 1, &[5.0, 3.0]), [5.0]);
        assert_eq!(line(&op(Asymmetric), 2.0, 4, &[0.0, 8.0]), [0.0, 4.0, 8.0, 8.0]);
        assert_eq!(line(&op(PytorchHalfPixel), 0.25, 1, &[5.0, 1.0, 1.0, 1.0]), [5.0]);
        // The scaled extent 2.4 keeps its fraction: i * 3 / 1.4.
        let y = line(&op(AlignCorners), f64::from(0.6f32), 2, &[1.0, 2.0, 3.0, 4.0]);
        assert!((y[1] - 3.142857).abs() < 1e-5);
        // Output 1 of a scaled extent of 1.2 sits in the middle of the input.
        let y = line(&op(HalfPixelSymmetric), f64::from(0.6f32), 1, &[1.0, 3.0]);
        assert!((y[0] - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_symmetric_origin_decides_as_onnxruntime_does() {
        // What its rule gives in its types of numbers; in f64 the first three would be 1, 1 and 2.
        let floor = Resize {
            coordinates: CoordinateMode::HalfPixelSymmetric,
            nearest: NearestMode::Floor,
            ..Resize::default()
        };
        let ceil = Resize { nearest: NearestMode::Ceil, ..floor.clone() };
        let third = |out: f32| f64::from(out / 3.0);
        for (op, scale, (input, output), i, expected) in [
            (&floor, third(1.0), (3, 1), 0, 0.0),
            (&floor, third(11.0), (3, 11), 5, 0.0),
            (&floor, f64::from(0.6f32), (5, 3), 1, 1.0),
            (&floor, f64::from(1.5f32), (3, 4), 3, 2.0),
            (&ceil, f64::from(1.05f32), (5, 5), 2, 2.0),
        ] {
            let x: Vec<f32> = (0..input).map(|v| v as f32).collect();
            assert_eq!(line(op, scale, output, &x)[i], expected, "{input} to {output} by {scale}");
        }
    }

    #[test]
    fn cubic_reaches_past_its_neighbours() {
        let op = Resize { mode: ResizeMode::Cubic, ..Resize::default() };
        let x = [0.0, 0.0, 1.0, 0.0, 0.0];
        let y = line(&op, 2.0, 10, &x);
        // The filter at distances 1.75, 1.25, 0.75 and 0.25, mirrored.
        let expected = [-0.0351562, -0.1054688, 0.2617188, 0.8789062];
        let mirrored = expected.iter().chain(expected.iter().rev());
        y[1..9].iter().zip(mirrored).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{y:?}"));
        let op = Resize { exclude_outside: true, ..op };
        assert_eq!(line(&op, 2.0, 4, &[3.0, 3.0]), [3.0; 4]);
    }

    #[test]
    fn antialiasing_stretches_the_filter() {
        let op = Resize { mode: ResizeMode::Linear, antialias: true, ..Resize::default() };
        // Weights 1, 3, 3, 1 over 8 around 0.5, the sample before the first repeated.
        assert_eq!(line(&op, 0.5, 2, &[8.0, 0.0, 0.0, 16.0]), [4.0, 8.0]);
        assert_eq!(line(&op, 2.0, 4, &[0.0, 8.0]), [0.0, 2.0, 6.0, 8.0]);
    }

    #[test]
    fn outside_the_region_of_interest_is_extrapolated() {
        let op = Resize {
            mode: ResizeMode::Linear,
            coordinates: CoordinateMode::TfCropAndResize,
            roi: vec![0.5, 1.5],
            extrapolation: 9.0,
            ..Resize::default()
        };
        assert_eq!(line(&op, 1.0, 3, &[0.0, 2.0, 4.0]), [2.0, 4.0, 9.0]);
        let op = Resize { mode: ResizeMode::Nearest, ..op };
        assert_eq!(line(&op, 1.0, 3, &[0.0, 2.0, 4.0]), [2.0, 4.0, 9.0]);
    }

    #[test]
    fn integers_are_rounded_and_saturate() {
        let x = Literal::new_int(TensorType::new(DType::U8, [4]), vec![0, 0, 255, 255]);
        // 255 times 0.2617188 - 0.0351562 in the fourth place; the second and third are below zero.
        let op = Resize { mode: ResizeMode::Cubic, shape: vec![8], scales: vec![2.0], ..Resize::default() };
        let y = op.evaluate(&[&x]).unwrap();
        assert_eq!(y.ints("y").unwrap(), [0, 0, 0, 58, 197, 255, 255, 255]);
        let x = Literal::new_int(TensorType::new(DType::I64, [1]), vec![i64::MAX]);
        let op = Resize { shape: vec![2], scales: vec![2.0], ..Resize::default() };
        assert_eq!(op.evaluate(&[&x]).unwrap().ints("y").unwrap(), [i64::MAX; 2]);
    }

    #[test]
    fn attributes_that_disagree_are_errors() {
        let x = TensorType::f32([2, 4]);
        let op = Resize { shape: vec![2, 8], scales: vec![1.0, 2.0], ..Resize::default() };
        assert_eq!(op.infer(&[&x]).unwrap().to_string(), "f32[2,8]");
        let field = |op: Resize| op.infer(&[&x]).unwrap_err().field;
        assert_eq!(field(Resize { shape: vec![2], ..op.clone() }), "shape");
        assert_eq!(field(Resize { shape: vec![2, 80], ..op.clone() }), "shape");
        assert_eq!(field(Resize { scales: vec![2.0], ..op.clone() }), "scales");
        assert_eq!(field(Resize { scales: vec![1.0, f64::NAN], ..op.clone() }), "scales");
        assert_eq!(field(Resize { scales: vec![1.0, 1e-300], shape: vec![2, 1], ..op.clone() }), "shape");
        assert_eq!(field(Resize { antialias: true, ..op.clone() }), "antialias");
        assert_eq!(field(Resize { coordinates: CoordinateMode::TfCropAndResize, ..op.clone() }), "roi");
        let empty = TensorType::f32([2, 0]);
        assert_eq!(op.infer(&[&empty]).unwrap_err().field, "shape");
        let op = Resize { shape: vec![4, 0], scales: vec![2.0, 2.0], ..op };
        assert!(op.evaluate(&[&Literal::from_f32([2, 0], &[])]).unwrap().to_f64().is_empty());
    }
}
