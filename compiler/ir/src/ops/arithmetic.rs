//! Element-wise arithmetic, spelt once for everything that builds operators.
//!
//! In: a type that has `op`, which adds an operator of one result, `ty`, the type of a value, and `constant`, which adds elements that are known. Out: its
//! methods for arithmetic. Values broadcast as operators do.

/// Methods over values of type `$value`, whose errors are `$error`.
macro_rules! arithmetic {
    ($value:ty, $error:ty) => {
        /// A constant without axes, of the element type of `like`.
        pub fn number(&mut self, like: $value, value: f64) -> $value {
            let ty = $crate::types::TensorType::new(self.ty(like).dtype, []);
            self.constant($crate::ops::literal::Literal::new_float(ty, vec![value]).to_constant())
        }

        /// Zeros of the type of `like`.
        pub fn zeros(&mut self, like: $value) -> Result<$value, $error> {
            let (zero, shape) = (self.number(like, 0.0), self.ty(like).shape.to_vec());
            self.op($crate::ops::Expand { shape }, &[zero])
        }

        /// A function of one value.
        pub fn unary(&mut self, function: $crate::scalar::UnaryFn, a: $value) -> Result<$value, $error> {
            self.op($crate::ops::Unary { function }, &[a])
        }

        /// A function of two values.
        pub fn binary(&mut self, function: $crate::scalar::BinaryFn, a: $value, b: $value) -> Result<$value, $error> {
            self.op($crate::ops::Binary { function }, &[a, b])
        }

        /// `a + b`
        pub fn add(&mut self, a: $value, b: $value) -> Result<$value, $error> {
            self.binary($crate::scalar::BinaryFn::Add, a, b)
        }

        /// `a - b`
        pub fn sub(&mut self, a: $value, b: $value) -> Result<$value, $error> {
            self.binary($crate::scalar::BinaryFn::Sub, a, b)
        }

        /// `a * b`
        pub fn mul(&mut self, a: $value, b: $value) -> Result<$value, $error> {
            self.binary($crate::scalar::BinaryFn::Mul, a, b)
        }

        /// `a / b`
        pub fn div(&mut self, a: $value, b: $value) -> Result<$value, $error> {
            self.binary($crate::scalar::BinaryFn::Div, a, b)
        }

        /// `factor * a`; `a` itself if the factor is 1.
        pub fn times(&mut self, a: $value, factor: f64) -> Result<$value, $error> {
            if factor == 1.0 {
                return Ok(a);
            }
            let factor = self.number(a, factor);
            self.mul(a, factor)
        }

        /// `a` in another shape; itself if it has that.
        pub fn reshape(&mut self, a: $value, shape: &[usize]) -> Result<$value, $error> {
            if self.ty(a).shape[..] == *shape {
                Ok(a)
            } else {
                self.op($crate::ops::Reshape { shape: shape.to_vec() }, &[a])
            }
        }
    };
}

pub(crate) use arithmetic;
