//! General matrix product: `y = then(alpha op(a) op(b) + beta c)`. Operands: `a`, `b` (rank 2), then `c` if `bias`
//! (broadcast to the result).

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::error_bound::over_absolutes;
use super::literal::{Data, Literal};
use super::matmul::multiply_add;
use super::shapes::{
    broadcast, broadcast_offsets, check, checked, expect_activation, expect_dtype, expect_number, expect_operands,
};
use super::{Decomposition, GradientContext, OneResult, Unary, UnaryGradient};
use crate::error::OpError;
use crate::scalar::UnaryFn;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a general matrix product.
    pub struct Gemm {
        /// Factor of the product.
        pub alpha: f32 = 1.0,
        /// Factor of `c`.
        pub beta: f32 = 1.0,
        /// Transpose `a`.
        pub trans_a: bool = false,
        /// Transpose `b`.
        pub trans_b: bool = false,
        /// Whether `c` is given.
        pub bias: bool = false,
        /// Activation of the result.
        pub activation: Option<UnaryFn> = None,
    }
}

impl Gemm {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// Rows, summed extent and columns of the product, for operands of types `a` and `b`.
    pub fn extents(&self, a: &TensorType, b: &TensorType) -> Result<(usize, usize, usize), OpError> {
        let matrix = |field, ty: &TensorType, transpose: bool| match (&ty.shape[..], transpose) {
            ([rows, columns], false) | ([columns, rows], true) => Ok((*rows, *columns)),
            _ => Err(OpError::new(field, "rank 2", ty.to_string())),
        };
        let (m, k) = matrix("a", a, self.trans_a)?;
        let (rows, n) = matrix("b", b, self.trans_b)?;
        check(rows == k, "b", || format!("a summed extent of {k}"), || rows.to_string())?;
        Ok((m, k, n))
    }
}

impl OneResult for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 2 + usize::from(self.bias))?;
        let (a, b) = (inputs[0], inputs[1]);
        expect_number("a", a)?;
        expect_dtype("b", a.dtype, b)?;
        expect_activation("activation", self.activation, a.dtype)?;
        for (field, factor) in [("alpha", self.alpha), ("beta", self.beta)] {
            let exact = a.dtype.is_float() || factor == factor.trunc();
            check(exact, field, || format!("an integer for {} elements", a.dtype), || factor.to_string())?;
        }
        let (m, _, n) = self.extents(a, b)?;
        if self.bias {
            let c = inputs[2];
            expect_dtype("c", a.dtype, c)?;
            let fits = broadcast(&c.shape, &[m, n]).is_ok_and(|shape| shape[..] == [m, n]);
            check(fits, "c", || format!("a shape that broadcasts to [{m}, {n}]"), || c.to_string())?;
        }
        checked(a.dtype, vec![m, n])
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let positive = Self { alpha: self.alpha.abs(), beta: self.beta.abs(), activation: None, ..self.clone() };
        over_absolutes(inputs, |inputs| positive.evaluate(inputs))
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        self.infer(inputs)?;
        Ok(inputs[0].shape[usize::from(!self.trans_a)] + usize::from(self.bias))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        let (m, k, n) = self.extents(types[0], types[1])?;
        let a = if self.trans_a { transposed(inputs[0]) } else { inputs[0].clone() };
        let b = if self.trans_b { transposed(inputs[1]) } else { inputs[1].clone() };
        let c = self.bias.then(|| (inputs[2], broadcast_offsets(&types[2].shape, &ty.shape)));
        if let (Data::Float(a), Data::Float(b)) = (&a.data, &b.data) {
            let mut out = vec![0.0; m * n];
            multiply_add(&mut out, a, b, k, n, |sum, x, y| sum + x * y);
            out.iter_mut().for_each(|v| *v *= f64::from(self.alpha));
            if let Some((c, at)) = c {
                let c = c.floats("c")?;
                out.iter_mut().zip(at).for_each(|(v, at)| *v += f64::from(self.beta) * c[at]);
            }
            out.iter_mut().for_each(|v| *v = self.activation.map_or(*v, |function| function.eval(*v)));
            return Ok(Literal::new_float(ty, out));
        }
        let mut out = vec![0i64; m * n];
        multiply_add(&mut out, a.ints("a")?, b.ints("b")?, k, n, |sum, x, y| sum.wrapping_add(x.wrapping_mul(y)));
        out.iter_mut().for_each(|v| *v = v.wrapping_mul(self.alpha as i64));
        if let Some((c, at)) = c {
            let c = c.ints("c")?;
            out.iter_mut().zip(at).for_each(|(v, at)| *v = v.wrapping_add(c[at].wrapping_mul(self.beta as i64)));
        }
        Ok(Literal::new_int(ty, out))
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        let k = inputs.first().and_then(|a| a.shape.get(usize::from(!self.trans_a))).copied().unwrap_or(0);
        (output.shape.numel() as u64).saturating_mul(k as u64)
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (mut dy, a, b) = (cx.dy()?, cx.operand(0), cx.operand(1));
        if let Some(function) = self.activation {
            dy = cx.op(UnaryGradient { function }, &[dy, cx.result(0)])?;
        }
        let product = Self { alpha: self.alpha, ..Self::default() };
        if cx.wanted(0) {
            let da = match self.trans_a {
                false => cx.op(Self { trans_b: !self.trans_b, ..product.clone() }, &[dy, b])?,
                true => cx.op(Self { trans_a: self.trans_b, trans_b: true, ..product.clone() }, &[b, dy])?,
            };
            cx.set(0, da)?;
        }
        if cx.wanted(1) {
            let db = match self.trans_b {
                false => cx.op(Self { trans_a: !self.trans_a, ..product }, &[a, dy])?,
                true => cx.op(Self { trans_a: true, trans_b: self.trans_a, ..product }, &[dy, a])?,
            };
            cx.set(1, db)?;
        }
        if self.bias && cx.wanted(2) {
            let shape = cx.shape(cx.operand(2));
            let sum = cx.sum_to(dy, &shape)?;
            let dc = cx.times(sum, self.beta.into())?;
            cx.set(2, dc)?;
        }
        Ok(())
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let Some(function) = self.activation.filter(|function| !function.derivative_is_of_value()) else {
            return Ok(None);
        };
        let mut parts = Decomposition::over(inputs);
        let operands: Vec<usize> = (0..inputs.len()).collect();
        let product = parts.step(Self { activation: None, ..self.clone() }, &operands)?;
        let result = parts.step(Unary { function }, &[product])?;
        Ok(Some(parts.with_results([result])))
    }
}

impl Gemm {}

/// The transpose of a matrix.
fn transposed(matrix: &Literal) -> Literal {
    let (rows, columns) = (matrix.ty.shape[0], matrix.ty.shape[1]);
    matrix.gather_elements(Shape::from([columns, rows]), 0.0, |i| Some(i % rows * columns + i / rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    #[test]
    fn transposes_factors_and_bias() {
        let a = Literal::from_f32([2, 1], &[1.0, 2.0]);
        let b = Literal::from_f32([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let c = Literal::from_f32([3], &[10.0, 20.0, 30.0]);
        let op = Gemm { trans_a: true, trans_b: true, alpha: 2.0, beta: 0.5, bias: true, ..Gemm::default() };
        let y = op.evaluate(&[&a, &b, &c]).unwrap();
        assert_eq!((y.ty.to_string(), y.to_f64()), ("f32[1,3]".into(), vec![15.0, 32.0, 49.0]));
        let types = [&a.ty, &b.ty, &c.ty];
        assert_eq!(op.macs(&types, &y.ty), 6);
    }

    #[test]
    fn the_activation_comes_last() {
        let a = Literal::from_f32([1, 1], &[-3.0]);
        let b = Literal::from_f32([1, 1], &[1.0]);
        let c = Literal::from_f32([], &[2.0]);
        let op = Gemm { bias: true, activation: Some(UnaryFn::Relu), ..Gemm::default() };
        assert_eq!(op.evaluate(&[&a, &b, &c]).unwrap().to_f64(), [0.0]);
    }

    #[test]
    fn integers_take_whole_factors() {
        let ty = TensorType::new(DType::I64, [1, 1]);
        let [a, b, c] = [3, -4, 100].map(|v| Literal::new_int(ty.clone(), vec![v]));
        let op = Gemm { alpha: 2.0, beta: -1.0, bias: true, ..Gemm::default() };
        assert_eq!(op.evaluate(&[&a, &b, &c]).unwrap().ints("y").unwrap(), [-124]);
        let op = Gemm { alpha: 0.5, ..op };
        assert_eq!(op.infer(&[&ty, &ty, &ty]).unwrap_err().field, "alpha");
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let f = |shape: &[usize]| TensorType::f32(shape);
        let plain = Gemm::default();
        let field = |op: &Gemm, inputs: &[&TensorType]| op.infer(inputs).unwrap_err().field;
        assert_eq!(field(&plain, &[&f(&[2, 3]), &f(&[2, 3])]), "b");
        assert_eq!(field(&plain, &[&f(&[3]), &f(&[3, 3])]), "a");
        assert_eq!(field(&plain, &[&f(&[1, 1]), &f(&[1, 1]), &f(&[1, 1])]), "operands");
        let biased = Gemm { bias: true, ..Gemm::default() };
        let (a, b) = (f(&[1, 3]), f(&[3, 2]));
        assert_eq!(field(&biased, &[&a, &b, &f(&[3])]), "c");
        assert_eq!(field(&biased, &[&a, &b, &f(&[4, 2])]), "c");
        assert_eq!(field(&biased, &[&a, &b, &f(&[1, 1, 2])]), "c");
    }
}
