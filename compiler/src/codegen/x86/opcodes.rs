//! Which encoding an operation has for 256 bits (VEX) and for 512 bits (EVEX).

use fornax_runtime::levels::Vectors;
use iced_x86::Code;

use crate::codegen::{Lane, VOp};

/// Encodings of a machine's whole vectors: a column of the table.
#[derive(Clone, Copy, Debug)]
pub enum Opcodes {
    /// VEX, 256 bits: no masks, no broadcast of an operand.
    Vex256,
    /// EVEX, 512 bits.
    Evex512,
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $vex:ident | $evex:ident;)*) => {
        impl Opcodes {
            $($(#[$doc])* pub fn $name(self) -> Code { match self { Opcodes::Vex256 => Code::$vex, Opcodes::Evex512 => Code::$evex } })*
        }
    };
}

table! {
    add = VEX_Vaddps_ymm_ymm_ymmm256 | EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er;
    sub = VEX_Vsubps_ymm_ymm_ymmm256 | EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er;
    mul = VEX_Vmulps_ymm_ymm_ymmm256 | EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er;
    div = VEX_Vdivps_ymm_ymm_ymmm256 | EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er;
    min = VEX_Vminps_ymm_ymm_ymmm256 | EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae;
    max = VEX_Vmaxps_ymm_ymm_ymmm256 | EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae;
    and = VEX_Vandps_ymm_ymm_ymmm256 | EVEX_Vandps_zmm_k1z_zmm_zmmm512b32;
    or = VEX_Vorps_ymm_ymm_ymmm256 | EVEX_Vorps_zmm_k1z_zmm_zmmm512b32;
    xor = VEX_Vxorps_ymm_ymm_ymmm256 | EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32;
    add_int = VEX_Vpaddd_ymm_ymm_ymmm256 | EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32;
    sub_int = VEX_Vpsubd_ymm_ymm_ymmm256 | EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32;
    mul_int = VEX_Vpmulld_ymm_ymm_ymmm256 | EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32;
    min_int = VEX_Vpminsd_ymm_ymm_ymmm256 | EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32;
    max_int = VEX_Vpmaxsd_ymm_ymm_ymmm256 | EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32;
    fma231 = VEX_Vfmadd231ps_ymm_ymm_ymmm256 | EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    fma213 = VEX_Vfmadd213ps_ymm_ymm_ymmm256 | EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    fma132 = VEX_Vfmadd132ps_ymm_ymm_ymmm256 | EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er;
    fnma231 = VEX_Vfnmadd231ps_ymm_ymm_ymmm256 | EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    fnma213 = VEX_Vfnmadd213ps_ymm_ymm_ymmm256 | EVEX_Vfnmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    fnma132 = VEX_Vfnmadd132ps_ymm_ymm_ymmm256 | EVEX_Vfnmadd132ps_zmm_k1z_zmm_zmmm512b32_er;
    sqrt = VEX_Vsqrtps_ymm_ymmm256 | EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
    shift_left = VEX_Vpslld_ymm_ymm_imm8 | EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8;
    shift_right = VEX_Vpsrld_ymm_ymm_imm8 | EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8;
    compare = VEX_Vcmpps_ymm_ymm_ymmm256_imm8 | EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
    /// 256 bits take the mask as a fourth operand, 512 bits as a mask register.
    blend = VEX_Vblendvps_ymm_ymm_ymmm256_ymm | EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
    int_to_float = VEX_Vcvtdq2ps_ymm_ymmm256 | EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er;
    float_to_int = VEX_Vcvttps2dq_ymm_ymmm256 | EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae;
    broadcast = VEX_Vbroadcastss_ymm_m32 | EVEX_Vbroadcastss_zmm_k1z_xmmm32;
    load = VEX_Vmovups_ymm_ymmm256 | EVEX_Vmovups_zmm_k1z_zmmm512;
    store = VEX_Vmovups_ymmm256_ymm | EVEX_Vmovups_zmmm512_k1z_zmm;
    copy = VEX_Vmovaps_ymm_ymmm256 | EVEX_Vmovaps_zmm_k1z_zmmm512;
    /// The lower half of a zmm register, the rest zero.
    load_ymm = VEX_Vmovups_ymm_ymmm256 | EVEX_Vmovups_ymm_k1z_ymmm256;
    store_ymm = VEX_Vmovups_ymmm256_ymm | EVEX_Vmovups_ymmm256_k1z_ymm;
    load_xmm = VEX_Vmovups_xmm_xmmm128 | EVEX_Vmovups_xmm_k1z_xmmm128;
    store_xmm = VEX_Vmovups_xmmm128_xmm | EVEX_Vmovups_xmmm128_k1z_xmm;
}

impl Opcodes {
    /// The column for vectors of a level, if there is one.
    pub fn new(vectors: Vectors) -> Option<Self> {
        match (vectors.lanes, vectors.masks) {
            (8, false) => Some(Opcodes::Vex256),
            (16, true) => Some(Opcodes::Evex512),
            _ => None,
        }
    }

    /// The encoding of a two-operand operation; vectors of integers have no division.
    pub fn op(self, op: VOp, lane: Lane) -> Option<Code> {
        Some(match (op, lane) {
            (VOp::Add, Lane::F32) => self.add(),
            (VOp::Sub, Lane::F32) => self.sub(),
            (VOp::Mul, Lane::F32) => self.mul(),
            (VOp::Div, Lane::F32) => self.div(),
            (VOp::Min, Lane::F32) => self.min(),
            (VOp::Max, Lane::F32) => self.max(),
            (VOp::And, _) => self.and(),
            (VOp::Or, _) => self.or(),
            (VOp::Xor, _) => self.xor(),
            (VOp::Add, Lane::I32) => self.add_int(),
            (VOp::Sub, Lane::I32) => self.sub_int(),
            (VOp::Mul, Lane::I32) => self.mul_int(),
            (VOp::Min, Lane::I32) => self.min_int(),
            (VOp::Max, Lane::I32) => self.max_int(),
            (VOp::Div, Lane::I32) => return None,
        })
    }
}
