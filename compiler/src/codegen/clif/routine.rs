//! Entry functions over Cranelift: arithmetic on 64-bit words, memory, loops, calls.
//!
//! In: what a function does, said on [`Val`]s. Out: its machine code and the references it makes to other parts of an artifact,
//! all of them relative to the program counter. Every parameter and result is a 64-bit word; of one that C declares
//! narrower, the upper half is undefined and [`Val::low`] drops it.

use std::cell::RefCell;
use std::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, ExtFuncData, ExternalName, Function, GlobalValueData, InstBuilder, MemFlagsData,
    Signature, StackSlotData, StackSlotKind, UserExternalName, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_codegen::{FinalizedMachReloc, FinalizedRelocTarget};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::memory;
use crate::error::{Error, Result};

/// How a reference is written into the code; the names of ELF's relocations for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relocation {
    /// `R_X86_64_PC32`: 32 bits, relative to their own address.
    X86Pc32,
    /// `R_AARCH64_CALL26`: distance of a branch.
    ArmCall26,
    /// `R_AARCH64_ADR_PREL_PG_HI21`: distance between pages of 4096 bytes.
    ArmPage21,
    /// `R_AARCH64_ADD_ABS_LO12_NC`: position in a page.
    ArmLow12,
}

/// A place in the code that depends on where another part lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Offset in the code.
    pub offset: u32,
    /// Form.
    pub relocation: Relocation,
    /// The other part, by the number its user gave it.
    pub symbol: u32,
    /// Added to its address.
    pub addend: i64,
}

/// A function as bytes.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Machine code.
    pub bytes: Vec<u8>,
    /// What it refers to.
    pub references: Vec<Reference>,
}

/// A function under construction.
pub struct Routine<'f>(RefCell<FunctionBuilder<'f>>);

/// A word that the function computes. A condition is 0 or 1.
#[derive(Clone, Copy)]
pub struct Val<'r, 'f> {
    routine: &'r Routine<'f>,
    value: Value,
}

/// A word that changes.
#[derive(Clone, Copy)]
pub struct Var<'r, 'f> {
    routine: &'r Routine<'f>,
    variable: Variable,
}

/// Compiles the function of `params` parameters that `write` describes; what that returns is the result.
///
/// # Errors
/// [`Error::Codegen`] if Cranelift refuses it, or it refers to another part in a form that is not relative.
pub fn assemble(
    isa: &dyn TargetIsa,
    name: &str,
    params: usize,
    write: &dyn for<'r, 'f> Fn(&'r Routine<'f>, &[Val<'r, 'f>]) -> Val<'r, 'f>,
) -> Result<Assembled> {
    let fail = |message: String| Error::Codegen { function: name.into(), message };
    let mut context = FunctionBuilderContext::new();
    let mut function = Function::with_name_signature(UserFuncName::default(), signature(params));
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let values = builder.block_params(entry).to_vec();
    let routine = Routine(RefCell::new(builder));
    let params: Vec<Val<'_, '_>> = values.into_iter().map(|value| routine.val(value)).collect();
    let result = write(&routine, &params).value;
    drop(params);
    let mut builder = routine.0.into_inner();
    builder.ins().return_(&[result]);
    builder.finalize(isa.frontend_config());
    let compiled = super::compile(isa, function.clone()).map_err(|e| fail(e.to_string()))?;
    let references = compiled.buffer.relocs().iter().map(|reloc| reference(&function, reloc));
    let references = references.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let kinds: Vec<_> = compiled.buffer.relocs().iter().map(|reloc| reloc.kind).collect();
        fail(format!("relocations {kinds:?}: expected relative ones to parts of the artifact"))
    })?;
    Ok(Assembled { bytes: compiled.code_buffer().to_vec(), references })
}

fn reference(function: &Function, reloc: &FinalizedMachReloc) -> Option<Reference> {
    let relocation = match reloc.kind {
        Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => Relocation::X86Pc32,
        Reloc::Arm64Call => Relocation::ArmCall26,
        Reloc::Aarch64AdrPrelPgHi21 => Relocation::ArmPage21,
        Reloc::Aarch64AddAbsLo12Nc => Relocation::ArmLow12,
        _ => return None,
    };
    let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = reloc.target else { return None };
    let symbol = function.params.user_named_funcs().get(name)?.index;
    Some(Reference { offset: reloc.offset, relocation, symbol, addend: reloc.addend })
}

fn signature(params: usize) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend(std::iter::repeat_n(AbiParam::new(types::I64), params));
    signature.returns.push(AbiParam::new(types::I64));
    signature
}

impl<'f> Routine<'f> {
    fn val(&self, value: Value) -> Val<'_, 'f> {
        Val { routine: self, value }
    }

    /// A constant.
    pub fn int(&self, n: u64) -> Val<'_, 'f> {
        let value = self.0.borrow_mut().ins().iconst(types::I64, n.cast_signed());
        self.val(value)
    }

    /// A variable that holds `first`.
    pub fn var(&self, first: impl Word<'f>) -> Var<'_, 'f> {
        let first = first.on(self);
        let mut builder = self.0.borrow_mut();
        let variable = builder.declare_var(types::I64);
        builder.def_var(variable, first);
        Var { routine: self, variable }
    }

    /// Address of `bytes` bytes on the stack, a multiple of 16.
    pub fn stack(&self, bytes: u32) -> Val<'_, 'f> {
        let mut builder = self.0.borrow_mut();
        let slot = builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4));
        let value = builder.ins().stack_addr(types::I64, slot, 0);
        self.val(value)
    }

    /// `yes` where `condition` holds, else `no`.
    pub fn select(&self, condition: Val<'_, 'f>, yes: impl Word<'f>, no: impl Word<'f>) -> Val<'_, 'f> {
        let (yes, no) = (yes.on(self), no.on(self));
        let value = self.0.borrow_mut().ins().select(condition.value, yes, no);
        self.val(value)
    }

    /// The quotient of two words, unsigned; the divisor is not 0.
    pub fn divide(&self, word: Val<'_, 'f>, by: Val<'_, 'f>) -> Val<'_, 'f> {
        let value = self.0.borrow_mut().ins().udiv(word.value, by.value);
        self.val(value)
    }

    /// Runs `then` where `condition` holds.
    pub fn when(&self, condition: Val<'_, 'f>, then: impl FnOnce()) {
        let (yes, no) = self.branch(condition);
        self.enter(yes);
        then();
        self.0.borrow_mut().ins().jump(no, &[]);
        self.enter(no);
    }

    /// Returns `result` where `condition` holds.
    pub fn return_if(&self, condition: Val<'_, 'f>, result: impl Word<'f>) {
        let (yes, no) = self.branch(condition);
        self.enter(yes);
        let result = result.on(self);
        self.0.borrow_mut().ins().return_(&[result]);
        self.enter(no);
    }

    /// Runs `body` for 0, 1, … below `count`.
    pub fn repeat<'r>(&'r self, count: impl Word<'f>, body: impl FnOnce(Val<'r, 'f>)) {
        let count = count.on(self);
        let (head, inside, exit) = {
            let mut builder = self.0.borrow_mut();
            (builder.create_block(), builder.create_block(), builder.create_block())
        };
        let index = {
            let mut builder = self.0.borrow_mut();
            let index = builder.append_block_param(head, types::I64);
            let zero = builder.ins().iconst(types::I64, 0);
            builder.ins().jump(head, &[BlockArg::Value(zero)]);
            builder.switch_to_block(head);
            let more = builder.ins().icmp(IntCC::UnsignedLessThan, index, count);
            builder.ins().brif(more, inside, &[], exit, &[]);
            index
        };
        self.enter(inside);
        body(self.val(index));
        {
            let mut builder = self.0.borrow_mut();
            let next = builder.ins().iadd_imm_s(index, 1);
            builder.ins().jump(head, &[BlockArg::Value(next)]);
            builder.seal_block(head);
        }
        self.enter(exit);
    }

    fn branch(&self, condition: Val<'_, 'f>) -> (Block, Block) {
        let mut builder = self.0.borrow_mut();
        let (yes, no) = (builder.create_block(), builder.create_block());
        builder.ins().brif(condition.value, yes, &[], no, &[]);
        (yes, no)
    }

    /// Goes on in `block`, to which every jump has been written.
    fn enter(&self, block: Block) {
        let mut builder = self.0.borrow_mut();
        builder.seal_block(block);
        builder.switch_to_block(block);
    }

    /// Address of another part.
    pub fn address(&self, symbol: u32) -> Val<'_, 'f> {
        let mut builder = self.0.borrow_mut();
        let name = builder.func.declare_imported_user_function(UserExternalName::new(0, symbol));
        let data =
            GlobalValueData::Symbol { name: ExternalName::user(name), offset: 0.into(), colocated: true, tls: false };
        let global = builder.create_global_value(data);
        let value = builder.ins().symbol_value(types::I64, global);
        self.val(value)
    }

    /// Calls another routine.
    pub fn call<const N: usize>(&self, symbol: u32, args: [Val<'_, 'f>; N]) -> Val<'_, 'f> {
        let mut builder = self.0.borrow_mut();
        let name = builder.func.declare_imported_user_function(UserExternalName::new(0, symbol));
        let signature = builder.import_signature(signature(N));
        let data = ExtFuncData { name: ExternalName::user(name), signature, colocated: true, patchable: false };
        let function = builder.import_function(data);
        let call = builder.ins().call(function, &args.map(|arg| arg.value));
        let value = builder.inst_results(call)[0];
        self.val(value)
    }

    /// Calls the function at an address. Its result means something only if it returns one.
    pub fn call_at<const N: usize>(&self, address: Val<'_, 'f>, args: [Val<'_, 'f>; N]) -> Val<'_, 'f> {
        let mut builder = self.0.borrow_mut();
        let signature = builder.import_signature(signature(N));
        let call = builder.ins().call_indirect(signature, address.value, &args.map(|arg| arg.value));
        let value = builder.inst_results(call)[0];
        self.val(value)
    }
}

impl<'r, 'f> Var<'r, 'f> {
    /// Its value here.
    pub fn get(self) -> Val<'r, 'f> {
        let value = self.routine.0.borrow_mut().use_var(self.variable);
        self.routine.val(value)
    }

    /// Gives it another value.
    pub fn set(self, word: impl Word<'f>) {
        let value = word.on(self.routine);
        self.routine.0.borrow_mut().def_var(self.variable, value);
    }
}

/// A value or a constant.
pub trait Word<'f> {
    #[doc(hidden)]
    fn on(self, routine: &Routine<'f>) -> Value;
}

impl<'f> Word<'f> for Val<'_, 'f> {
    fn on(self, _: &Routine<'f>) -> Value {
        self.value
    }
}

impl<'f> Word<'f> for u64 {
    fn on(self, routine: &Routine<'f>) -> Value {
        routine.int(self).value
    }
}

impl<'f> Word<'f> for usize {
    fn on(self, routine: &Routine<'f>) -> Value {
        routine.int(self as u64).value
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $instruction:ident;)*) => {$(
        impl<'r, 'f, W: Word<'f>> $trait<W> for Val<'r, 'f> {
            type Output = Val<'r, 'f>;

            fn $method(self, other: W) -> Self {
                let other = other.on(self.routine);
                let value = self.routine.0.borrow_mut().ins().$instruction(self.value, other);
                self.routine.val(value)
            }
        }
    )*};
}

operators! {
    Add add iadd;
    Sub sub isub;
    Mul mul imul;
    BitAnd bitand band;
    BitOr bitor bor;
    BitXor bitxor bxor;
    Shl shl ishl;
    Shr shr ushr;
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $method:ident $condition:ident;)*) => {
        impl<'r, 'f> Val<'r, 'f> {$(
            $(#[$doc])*
            pub fn $method(self, other: impl Word<'f>) -> Val<'r, 'f> {
                let other = other.on(self.routine);
                let mut builder = self.routine.0.borrow_mut();
                let flag = builder.ins().icmp(IntCC::$condition, self.value, other);
                let value = builder.ins().uextend(types::I64, flag);
                self.routine.val(value)
            }
        )*}
    };
}

comparisons! {
    /// Whether they are equal, a condition.
    is Equal;
    /// Whether they differ, a condition.
    is_not NotEqual;
    /// Whether it is less, unsigned; a condition.
    below UnsignedLessThan;
}

macro_rules! memory {
    ($($(#[$doc:meta])* $load:ident $load_instruction:ident, $(#[$store_doc:meta])* $store:ident $store_instruction:ident;)*) => {
        impl<'r, 'f> Val<'r, 'f> {$(
            $(#[$doc])*
            pub fn $load(self, offset: usize) -> Val<'r, 'f> {
                let value = self.routine.0.borrow_mut().ins().$load_instruction(types::I64, memory(), self.value, offset as i32);
                self.routine.val(value)
            }

            $(#[$store_doc])*
            pub fn $store(self, offset: usize, word: impl Word<'f>) {
                let value = word.on(self.routine);
                self.routine.0.borrow_mut().ins().$store_instruction(memory(), value, self.value, offset as i32);
            }
        )*}
    };
}

memory! {
    /// The word at an offset from this address.
    u64 load,
    /// Writes a word.
    set_u64 store;
    /// The byte at an offset from this address.
    u8 uload8,
    /// Writes the low byte.
    set_u8 istore8;
}

impl<'r, 'f> Val<'r, 'f> {
    /// The 32 bits at an offset from this address.
    pub fn u32(self, offset: usize) -> Val<'r, 'f> {
        let value = self.routine.0.borrow_mut().ins().uload32(memory(), self.value, offset as i32);
        self.routine.val(value)
    }

    /// Writes the low 32 bits.
    pub fn set_u32(self, offset: usize, word: impl Word<'f>) {
        let value = word.on(self.routine);
        self.routine.0.borrow_mut().ins().istore32(memory(), value, self.value, offset as i32);
    }

    /// Its low 32 bits.
    pub fn low(self) -> Val<'r, 'f> {
        self & 0xffff_ffff_u64
    }

    /// Its bits, rotated to the left.
    pub fn rotl(self, bits: u64) -> Val<'r, 'f> {
        let bits = bits.on(self.routine);
        let value = self.routine.0.borrow_mut().ins().rotl(self.value, bits);
        self.routine.val(value)
    }

    /// The upper 64 bits of the product with another word, both unsigned.
    pub fn high_of_product(self, other: Val<'r, 'f>) -> Val<'r, 'f> {
        let value = self.routine.0.borrow_mut().ins().umulhi(self.value, other.value);
        self.routine.val(value)
    }

    /// The bits of the f64 nearest to it, a signed number.
    pub fn to_f64(self) -> Val<'r, 'f> {
        let mut builder = self.routine.0.borrow_mut();
        let double = builder.ins().fcvt_from_sint(types::F64, self.value);
        let value = builder.ins().bitcast(types::I64, MemFlagsData::new(), double);
        self.routine.val(value)
    }

    /// The bits of the f32 nearest to it, a signed number.
    pub fn to_f32(self) -> Val<'r, 'f> {
        let mut builder = self.routine.0.borrow_mut();
        let float = builder.ins().fcvt_from_sint(types::F32, self.value);
        let bits = builder.ins().bitcast(types::I32, MemFlagsData::new(), float);
        let value = builder.ins().uextend(types::I64, bits);
        self.routine.val(value)
    }

    /// The bits of the product with a constant, both f32.
    pub fn times_f32(self, factor: f32) -> Val<'r, 'f> {
        let float = self.float();
        let mut builder = self.routine.0.borrow_mut();
        let factor = builder.ins().f32const(factor);
        let product = builder.ins().fmul(float, factor);
        let bits = builder.ins().bitcast(types::I32, MemFlagsData::new(), product);
        let value = builder.ins().uextend(types::I64, bits);
        self.routine.val(value)
    }

    /// Whether it is within `tolerance` of `other`, all f32 by their bits; a condition, false for a NaN.
    pub fn near_f32(self, other: Val<'r, 'f>, tolerance: Val<'r, 'f>) -> Val<'r, 'f> {
        let (a, b, tolerance) = (self.float(), other.float(), tolerance.float());
        let mut builder = self.routine.0.borrow_mut();
        let difference = builder.ins().fsub(a, b);
        let difference = builder.ins().fabs(difference);
        let flag = builder.ins().fcmp(FloatCC::LessThanOrEqual, difference, tolerance);
        let value = builder.ins().uextend(types::I64, flag);
        self.routine.val(value)
    }

    /// The bits of the product with another word, both f64.
    pub fn times_f64(self, other: Val<'r, 'f>) -> Val<'r, 'f> {
        self.of_doubles(other, |builder, a, b| builder.ins().fmul(a, b))
    }

    /// The bits of the difference from another word, both f64.
    pub fn minus_f64(self, other: Val<'r, 'f>) -> Val<'r, 'f> {
        self.of_doubles(other, |builder, a, b| builder.ins().fsub(a, b))
    }

    /// The bits of the quotient by another word, both f64.
    pub fn over_f64(self, other: Val<'r, 'f>) -> Val<'r, 'f> {
        self.of_doubles(other, |builder, a, b| builder.ins().fdiv(a, b))
    }

    /// The bits of the f32 nearest to it, an f64.
    pub fn f64_to_f32(self) -> Val<'r, 'f> {
        let mut builder = self.routine.0.borrow_mut();
        let double = builder.ins().bitcast(types::F64, MemFlagsData::new(), self.value);
        let float = builder.ins().fdemote(types::F32, double);
        let bits = builder.ins().bitcast(types::I32, MemFlagsData::new(), float);
        let value = builder.ins().uextend(types::I64, bits);
        self.routine.val(value)
    }

    fn of_doubles(
        self,
        other: Val<'r, 'f>,
        operation: impl FnOnce(&mut FunctionBuilder<'f>, Value, Value) -> Value,
    ) -> Val<'r, 'f> {
        let mut builder = self.routine.0.borrow_mut();
        let [a, b] = [self.value, other.value].map(|bits| builder.ins().bitcast(types::F64, MemFlagsData::new(), bits));
        let result = operation(&mut builder, a, b);
        let value = builder.ins().bitcast(types::I64, MemFlagsData::new(), result);
        self.routine.val(value)
    }

    fn float(self) -> Value {
        let mut builder = self.routine.0.borrow_mut();
        let bits = builder.ins().ireduce(types::I32, self.value);
        builder.ins().bitcast(types::F32, MemFlagsData::new(), bits)
    }
}
