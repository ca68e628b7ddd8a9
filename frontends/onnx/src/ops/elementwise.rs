//! Element-wise functions of two or more values, with broadcasting, and Cast.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Where;
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;
use crate::narrow::Narrow;

use super::narrow;
use super::support::{axis, binary, cast, dtype, reshape, with_scalar};

/// Import of a function of two operands.
macro_rules! plain {
    ($($name:ident = $function:ident),* $(,)?) => {$(
        #[doc = concat!("`", stringify!($function), "`, element by element with broadcasting.")]
        pub(crate) fn $name(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
            let (a, b) = operands(cx)?;
            Ok(vec![binary(cx, BinaryFn::$function, a, b)?])
        }
    )*};
}
plain! {
    add = Add, sub = Sub, mul = Mul, div = Div, and = And, or = Or, xor = Xor, equal = Equal, less = Less,
    less_or_equal = LessOrEqual, greater = Greater, greater_or_equal = GreaterOrEqual,
}

/// The two operands. Before version 7, `broadcast` and `axis` say how the second one is aligned with the first.
pub(crate) fn operands(cx: &mut Context<'_>) -> Result<(ValueId, ValueId)> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if cx.version() >= 7 {
        return Ok((a, b));
    }
    let aligned = legacy_operand(cx, a, b)?;
    Ok((a, aligned))
}

/// The second operand of a function from before version 7, shaped so that NumPy broadcasting aligns it.
fn legacy_operand(cx: &mut Context<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (a_shape, b_shape) = (cx.shape(a).clone(), cx.shape(b).clone());
    if !cx.attrs().flag("broadcast", false)? {
        if a_shape != b_shape {
            return Err(cx.error("B", format!("shape {a_shape}, as A, without broadcast"), b_shape.to_string()));
        }
        return Ok(b);
    }
    let (rank, given) = (a_shape.rank(), b_shape.rank());
    if given > rank {
        return Err(cx.error("B", format!("rank {rank} or less"), b_shape.to_string()));
    }
    let start = match cx.attrs().int("axis", i64::MIN)? {
        i64::MIN => rank - given,
        value => axis(cx, "axis", value, rank)?,
    };
    if start + given > rank {
        return Err(cx.error("axis", format!("{given} axes of {a_shape}"), start.to_string()));
    }
    let mut shape = b_shape.to_vec();
    shape.resize(rank - start, 1);
    reshape(cx, b, shape)
}

/// `Mod`: the remainder has the divisor's sign, or the dividend's where `fmod` is set.
pub(crate) fn modulo(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let fmod = match cx.attrs().int("fmod", 0)? {
        0 => false,
        1 => true,
        other => return Err(cx.error("fmod", "0 or 1", other.to_string())),
    };
    if fmod || !cx.ty(a).dtype.is_float() {
        return Ok(vec![binary(cx, if fmod { BinaryFn::Fmod } else { BinaryFn::Mod }, a, b)?]);
    }
    if cx.version() < 28 {
        return Err(cx.error("fmod", "1 for floating-point elements", "0"));
    }
    // From the truncated remainder, so that infinite divisors come out as ONNX says.
    let remainder = binary(cx, BinaryFn::Fmod, a, b)?;
    let raised = binary(cx, BinaryFn::Add, remainder, b)?;
    let negative = with_scalar(cx, BinaryFn::Less, remainder, 0.0)?;
    let positive = with_scalar(cx, BinaryFn::Greater, remainder, 0.0)?;
    let below = with_scalar(cx, BinaryFn::Less, b, 0.0)?;
    let above = with_scalar(cx, BinaryFn::Greater, b, 0.0)?;
    let fall = binary(cx, BinaryFn::And, positive, below)?;
    let rise = binary(cx, BinaryFn::And, negative, above)?;
    let differ = binary(cx, BinaryFn::Or, fall, rise)?;
    Ok(vec![cx.emit(Where {}, &[differ, raised, remainder])?])
}

/// Import of a function of any number of operands.
macro_rules! variadic {
    ($($name:ident = $function:ident),* $(,)?) => {$(
        #[doc = concat!("`", stringify!($function), "` of one or more operands, with broadcasting.")]
        pub(crate) fn $name(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
            Ok(vec![chain(cx, BinaryFn::$function)?])
        }
    )*};
}
variadic! { min = Min, max = Max, sum = Add }

/// Folds the operands from the left. Before version 8 their shapes must agree.
fn chain(cx: &mut Context<'_>, function: BinaryFn) -> Result<ValueId> {
    let mut y = cx.input(0)?;
    for slot in 1..cx.input_count() {
        let x = cx.input(slot)?;
        if cx.version() < 8 && cx.shape(x) != cx.shape(y) {
            return Err(cx.error(format!("input {slot}"), cx.ty(y).to_string(), cx.ty(x).to_string()));
        }
        y = binary(cx, function, y, x)?;
    }
    Ok(y)
}

/// `Mean` of one or more operands, with broadcasting.
pub(crate) fn mean(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let sum = chain(cx, BinaryFn::Add)?;
    let count = cx.input_count();
    Ok(vec![if count == 1 { sum } else { with_scalar(cx, BinaryFn::Div, sum, count as f64)? }])
}

/// `BitwiseNot`: exclusive or with all ones.
pub(crate) fn bitwise_not(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let ones = super::support::int_constant(cx, cx.ty(x).dtype, Vec::new(), &[-1]);
    Ok(vec![binary(cx, BinaryFn::Xor, x, ones)?])
}

/// `Where`.
pub(crate) fn select(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (condition, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    Ok(vec![cx.emit(Where {}, &[condition, a, b])?])
}

/// `Cast`: the type is a number, before version 6 its name.
pub(crate) fn cast_to(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let code = match cx.version() {
        ..6 => type_code_of(cx, cx.attrs().string("to", "")?)?,
        _ => cx.attrs().require_int("to")?,
    };
    let x = narrow::numbers(cx, 0, x)?;
    if let Some(kind) = i32::try_from(code).ok().and_then(Narrow::of) {
        return narrow::converted(cx, x, kind).map(|y| vec![y]);
    }
    let to = dtype(cx, "to", code)?;
    Ok(vec![cast(cx, x, to)?])
}

/// `CastLike`: to the type of the second operand.
pub(crate) fn cast_like(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let x = narrow::numbers(cx, 0, x)?;
    if let Some(kind) = cx.narrow(1) {
        return narrow::converted(cx, x, kind).map(|y| vec![y]);
    }
    let to = cx.ty(like).dtype;
    Ok(vec![cast(cx, x, to)?])
}

/// `BitCast` between integers of one width, and of `bool` to them: the bits stay as they are. Those of floats are refused, since their NaNs would not.
pub(crate) fn bit_cast(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let code = cx.attrs().require_int("to")?;
    if let Some(kind) = cx.narrow(0) {
        if i32::try_from(code).ok().and_then(Narrow::of) != Some(kind) {
            return Err(cx.unsupported(format!("the bits of {} as another type", kind.name())));
        }
        cx.gives = Some(kind);
        return Ok(vec![x]);
    }
    let (from, to) = (cx.ty(x).dtype, dtype(cx, "to", code)?);
    if from.size() != to.size() {
        return Err(cx.error("to", format!("a type of {} bytes", from.size()), to.name()));
    }
    if from != to && (from.is_float() || to.is_float() || to == DType::Bool) {
        return Err(cx.unsupported(format!("the bits of {from} as {to}")));
    }
    Ok(vec![cast(cx, x, to)?])
}

/// The code of an element type by its name in `TensorProto.DataType`.
fn type_code_of(cx: &Context<'_>, name: &str) -> Result<i64> {
    const NAMES: [&str; 14] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
    ];
    let code = NAMES.iter().position(|known| *known == name).filter(|code| *code > 0);
    code.map(|code| code as i64).ok_or_else(|| cx.error("to", "the name of an element type", name))
}

/// `BitShift`. Integers of up to 32 bits are shifted in 64; to the right it is a division by a power of two that rounds down. Of 64 bits nothing is left
/// from a shift by 64 on, as the power is 0 and so is a quotient by it.
pub(crate) fn bit_shift(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, by) = operands(cx)?;
    let given = cx.ty(x).dtype;
    if given == DType::U64 {
        let two = cx.scalar_like(by, 2.0)?;
        let power = binary(cx, BinaryFn::Pow, two, by)?;
        let function = match cx.attrs().string("direction", "")? {
            "LEFT" => BinaryFn::Mul,
            "RIGHT" => BinaryFn::Div,
            other => return Err(cx.error("direction", "LEFT or RIGHT", other)),
        };
        return Ok(vec![binary(cx, function, x, power)?]);
    }
    let (x, by) = (cast(cx, x, DType::I64)?, cast(cx, by, DType::I64)?);
    // Below 0, or from the number of bits on, nothing is left, or the sign only.
    let below = with_scalar(cx, BinaryFn::Less, by, 0.0)?;
    let beyond = with_scalar(cx, BinaryFn::GreaterOrEqual, by, 8.0 * given.size() as f64)?;
    let outside = binary(cx, BinaryFn::Or, below, beyond)?;
    let whole = cx.scalar_like(by, 63.0)?;
    let by = cx.emit(Where {}, &[outside, whole, by])?;
    let two = cx.scalar_like(by, 2.0)?;
    let y = match cx.attrs().string("direction", "")? {
        "LEFT" => {
            let factor = binary(cx, BinaryFn::Pow, two, by)?;
            let product = binary(cx, BinaryFn::Mul, x, factor)?;
            let zero = cx.scalar_like(x, 0.0)?;
            cx.emit(Where {}, &[outside, zero, product])?
        }
        "RIGHT" => {
            // In two steps, so that no power has the sign.
            let first = with_scalar(cx, BinaryFn::Div, by, 2.0)?;
            let second = binary(cx, BinaryFn::Sub, by, first)?;
            let mut y = x;
            for step in [first, second] {
                let divisor = binary(cx, BinaryFn::Pow, two, step)?;
                let rest = binary(cx, BinaryFn::Mod, y, divisor)?;
                let whole = binary(cx, BinaryFn::Sub, y, rest)?;
                y = binary(cx, BinaryFn::Div, whole, divisor)?;
            }
            y
        }
        other => return Err(cx.error("direction", "LEFT or RIGHT", other)),
    };
    Ok(vec![cast(cx, y, given)?])
}
