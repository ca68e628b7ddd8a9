//! Kinds of values: whether the programs of a nest compute with floats where floats are asked for, and with integers elsewhere.
//!
//! In: a nest, as a lowering wrote it or as it was read from text. Out: the first instruction that breaks what the emission of programs
//! relies on. Invariant of what passes: operands of an instruction are of the kinds that it takes, an accumulated value is of one kind
//! from its start to the result, and the result is of the kind that is stored.

use super::{Combine, Inst, Kind, LoopNest, Program};
use crate::codegen::elements::widens;
use crate::codegen::math::wide::computes;
use fornax_ir::scalar::BinaryFn::{And, Or, Xor};
use fornax_ir::scalar::UnaryFn::{Abs, Clip, IsNan, Neg, Not, Relu, Sign};
use fornax_ir::types::DType;

/// A kind; else what was expected and found, as one text.
type Found<T> = Result<T, String>;

impl Kind {
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self::Double,
            DType::U64 => Self::Unsigned,
            dtype if widens(dtype) => Self::Float,
            _ => Self::Int,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Float => "a float",
            Self::Double => "a double",
            Self::Int => "an integer",
            Self::Unsigned => "an unsigned integer",
        }
    }
}

impl LoopNest {
    /// Holds the programs to their kinds.
    ///
    /// # Errors
    /// The instruction, what was expected there and what was found.
    pub fn check_kinds(&self) -> Found<()> {
        for (i, table) in self.tables.iter().enumerate() {
            if !matches!(table.dtype, DType::I32 | DType::I64) {
                return Err(format!("table {i}: expected i32 or i64 entries, found {}", table.dtype));
            }
        }
        let body = self.kinds("body", &self.body, None)?;
        let Some(&term) = body.last() else { return Err("body: expected an instruction, found none".into()) };
        if self.combine == Combine::SumProduct {
            let Some(&factor) = body.iter().rev().nth(1) else {
                return Err("body: expected two factors, found one value".into());
            };
            same("combine", factor, term)?;
        }
        if self.combine == Combine::Last && !self.skips() && self.reduced == 0 {
            return self.stores(term);
        }
        // Without a start the accumulated value begins as a float.
        let start = self.kinds("init", &self.init, None)?.last().copied().unwrap_or(Kind::Float);
        same("combine", start, term)?;
        let finish = self.kinds("finish", &self.finish, Some(start))?;
        self.stores(finish.last().copied().unwrap_or(start))
    }

    /// Holds a result to the kind that is stored. An `f64` is rounded to 16 bits where it is stored, so that it is rounded once.
    fn stores(&self, result: Kind) -> Found<()> {
        let narrow = matches!(self.output.dtype, DType::F16 | DType::BF16);
        if narrow && result == Kind::Double { Ok(()) } else { same("output", Kind::of(self.output.dtype), result) }
    }

    /// The kind of each value of a program.
    fn kinds(&self, name: &str, program: &Program, accumulated: Option<Kind>) -> Found<Vec<Kind>> {
        let mut kinds = Vec::with_capacity(program.len());
        for (id, inst) in program.iter().enumerate() {
            let kind = self.kind(inst, &kinds, accumulated).map_err(|fault| format!("{name} %{id}: {fault}"))?;
            kinds.push(kind);
        }
        Ok(kinds)
    }

    fn kind(&self, inst: &Inst, kinds: &[Kind], accumulated: Option<Kind>) -> Found<Kind> {
        let of = |id: &usize| kinds.get(*id).copied().ok_or_else(|| format!("expected an earlier value, found %{id}"));
        let expect = |id: &usize, kind: Kind| match of(id)? {
            found if found == kind => Ok(kind),
            found => Err(format!("expected %{id} to be {}, found {}", kind.name(), found.name())),
        };
        match inst {
            Inst::Load(input) => {
                let input = self.inputs.get(*input).ok_or_else(|| format!("expected an input, found {input}"))?;
                Ok(Kind::of(input.dtype))
            }
            Inst::Float(_) => Ok(Kind::Float),
            Inst::Double(_) => Ok(Kind::Double),
            Inst::Int(_) => Ok(Kind::Int),
            Inst::Unsigned(_) => Ok(Kind::Unsigned),
            Inst::Accumulated => accumulated.ok_or_else(|| "expected a term, found the accumulated value".into()),
            Inst::Position if accumulated.is_some() && matches!(self.combine, Combine::Arg { .. }) => Ok(Kind::Int),
            Inst::Position => Err("expected a value, found the position of a combination that has none".into()),
            Inst::Unary(function, a) => match (of(a)?, function) {
                (Kind::Float | Kind::Double, IsNan) => Ok(Kind::Int),
                (Kind::Int | Kind::Unsigned, Relu | Clip(..) | Abs | Neg | Sign | Not) | (Kind::Float, _) => of(a),
                (Kind::Double, f) if computes(*f) => of(a),
                _ => expect(a, Kind::Float),
            },
            Inst::Binary(function, a, b) => {
                expect(b, of(a)?)?;
                match function {
                    And | Or | Xor if of(a)? == Kind::Unsigned => of(a),
                    And | Or | Xor => expect(a, Kind::Int),
                    function if function.is_comparison() => Ok(Kind::Int),
                    _ => of(a),
                }
            }
            Inst::Fma(a, b, c) => expect(b, of(a)?).and_then(|kind| expect(c, kind)),
            Inst::Select(condition, a, b) => expect(condition, Kind::Int).and(expect(b, of(a)?)),
            Inst::ToFloat(a) if matches!(of(a)?, Kind::Double | Kind::Unsigned) => Ok(Kind::Float),
            Inst::ToFloat(a) => expect(a, Kind::Int).map(|_| Kind::Float),
            Inst::ToDouble(a) if of(a)? != Kind::Double => Ok(Kind::Double),
            Inst::ToDouble(a) => expect(a, Kind::Float),
            Inst::ToInt(dtype, a) if of(a)? == Kind::Double => Ok(Kind::of(*dtype)),
            Inst::ToInt(dtype, a) => expect(a, Kind::Float).map(|_| Kind::of(*dtype)),
            Inst::Wrap(dtype, a) if of(a)? == Kind::Unsigned => Ok(Kind::of(*dtype)),
            Inst::Wrap(dtype, a) => expect(a, Kind::Int).map(|_| Kind::of(*dtype)),
        }
    }
}

fn same(field: &str, expected: Kind, found: Kind) -> Found<()> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{field}: expected {}, found {}", expected.name(), found.name()))
}

#[cfg(test)]
mod tests {
    use super::super::{Affine, Output};
    use super::*;
    use fornax_ir::scalar::{BinaryFn, UnaryFn};

    /// A nest over an `f32` and an `i64` input that stores elements of `dtype`.
    fn nest(dtype: DType, body: Program) -> LoopNest {
        let at = || Affine::new(0, [1]);
        let mut nest = LoopNest::map(&[4], Output { dtype, elements: 4, at: at() }, body);
        nest.input("x", DType::F32, 4, at());
        nest.input("i", DType::I64, 4, at());
        nest
    }

    fn fault(dtype: DType, body: Program) -> String {
        nest(dtype, body).check_kinds().unwrap_err()
    }

    #[test]
    fn each_instruction_takes_its_kinds() {
        use DType::{F32, I64};
        use Inst::{Binary, Fma, Load, Select, ToFloat, ToInt, Unary, Wrap};
        let mixed = |inst| fault(F32, vec![Load(0), Load(1), inst]);
        assert_eq!(mixed(Binary(BinaryFn::Add, 0, 1)), "body %2: expected %1 to be a float, found an integer");
        assert_eq!(mixed(Binary(BinaryFn::And, 0, 0)), "body %2: expected %0 to be an integer, found a float");
        assert_eq!(mixed(Unary(UnaryFn::Exp, 1)), "body %2: expected %1 to be a float, found an integer");
        assert_eq!(mixed(Fma(1, 1, 0)), "body %2: expected %0 to be an integer, found a float");
        assert_eq!(mixed(Select(0, 0, 0)), "body %2: expected %0 to be an integer, found a float");
        assert_eq!(mixed(Select(1, 0, 1)), "body %2: expected %1 to be a float, found an integer");
        assert_eq!(mixed(ToFloat(0)), "body %2: expected %0 to be an integer, found a float");
        assert_eq!(mixed(ToInt(I64, 1)), "body %2: expected %1 to be a float, found an integer");
        assert_eq!(mixed(Wrap(I64, 0)), "body %2: expected %0 to be an integer, found a float");
        assert_eq!(
            mixed(Inst::Position),
            "body %2: expected a value, found the position of a combination that has none"
        );
        assert_eq!(mixed(Binary(BinaryFn::Less, 0, 0)), "output: expected a float, found an integer");
        assert_eq!(nest(I64, vec![Load(0), Binary(BinaryFn::Less, 0, 0)]).check_kinds(), Ok(()));
        assert_eq!(nest(F32, vec![Load(1), ToFloat(0), Unary(UnaryFn::Exp, 1)]).check_kinds(), Ok(()));
    }

    #[test]
    fn an_accumulated_value_has_one_kind() {
        let sum = |init: Program, body: Program, finish: Program| {
            let nest = LoopNest { init, finish, combine: Combine::Sum, ..nest(DType::F32, body) };
            nest.check_kinds()
        };
        assert_eq!(sum(vec![Inst::Float(0)], vec![Inst::Load(0)], Vec::new()), Ok(()));
        let wrong = Err("combine: expected a float, found an integer".to_string());
        assert_eq!(sum(vec![Inst::Float(0)], vec![Inst::Load(1)], Vec::new()), wrong);
        assert_eq!(sum(Vec::new(), vec![Inst::Load(1)], Vec::new()), wrong, "a sum without start begins as a float");
        let integers = sum(vec![Inst::Int(0)], vec![Inst::Load(1)], vec![Inst::Accumulated]);
        assert_eq!(integers, Err("output: expected a float, found an integer".into()));
        let product = LoopNest { combine: Combine::SumProduct, ..nest(DType::F32, vec![Inst::Load(0), Inst::Load(1)]) };
        assert_eq!(product.check_kinds(), Err("combine: expected a float, found an integer".into()));
    }
}
