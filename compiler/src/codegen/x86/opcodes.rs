//! Which encoding an operation has for 256 bits (VEX) and for 512 bits (EVEX).

use fornax_runtime::levels::Vectors;
use iced_x86::Code;

use crate::codegen::{Element, VOp};

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
    dot = VEX_Vpmaddwd_ymm_ymm_ymmm256 | EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512;
    min_int = VEX_Vpminsd_ymm_ymm_ymmm256 | EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32;
    max_int = VEX_Vpmaxsd_ymm_ymm_ymmm256 | EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32;
    fma231 = VEX_Vfmadd231ps_ymm_ymm_ymmm256 | EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    fma213 = VEX_Vfmadd213ps_ymm_ymm_ymmm256 | EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    fma132 = VEX_Vfmadd132ps_ymm_ymm_ymmm256 | EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er;
    fnma231 = VEX_Vfnmadd231ps_ymm_ymm_ymmm256 | EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    fnma213 = VEX_Vfnmadd213ps_ymm_ymm_ymmm256 | EVEX_Vfnmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    fnma132 = VEX_Vfnmadd132ps_ymm_ymm_ymmm256 | EVEX_Vfnmadd132ps_zmm_k1z_zmm_zmmm512b32_er;
    add_double = VEX_Vaddpd_ymm_ymm_ymmm256 | EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er;
    sub_double = VEX_Vsubpd_ymm_ymm_ymmm256 | EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er;
    mul_double = VEX_Vmulpd_ymm_ymm_ymmm256 | EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er;
    div_double = VEX_Vdivpd_ymm_ymm_ymmm256 | EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er;
    min_double = VEX_Vminpd_ymm_ymm_ymmm256 | EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae;
    max_double = VEX_Vmaxpd_ymm_ymm_ymmm256 | EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae;
    and_64 = VEX_Vandpd_ymm_ymm_ymmm256 | EVEX_Vandpd_zmm_k1z_zmm_zmmm512b64;
    or_64 = VEX_Vorpd_ymm_ymm_ymmm256 | EVEX_Vorpd_zmm_k1z_zmm_zmmm512b64;
    xor_64 = VEX_Vxorpd_ymm_ymm_ymmm256 | EVEX_Vxorpd_zmm_k1z_zmm_zmmm512b64;
    add_int_64 = VEX_Vpaddq_ymm_ymm_ymmm256 | EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64;
    sub_int_64 = VEX_Vpsubq_ymm_ymm_ymmm256 | EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64;
    unpack_low = VEX_Vunpcklps_ymm_ymm_ymmm256 | EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32;
    unpack_high = VEX_Vunpckhps_ymm_ymm_ymmm256 | EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32;
    unpack_low_64 = VEX_Vunpcklpd_ymm_ymm_ymmm256 | EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64;
    unpack_high_64 = VEX_Vunpckhpd_ymm_ymm_ymmm256 | EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64;
    /// 128-bit blocks of two vectors, by an immediate.
    blocks = VEX_Vperm2f128_ymm_ymm_ymmm256_imm8 | EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
    shift_left_64 = VEX_Vpsllq_ymm_ymm_imm8 | EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8;
    shift_right_64 = VEX_Vpsrlq_ymm_ymm_imm8 | EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8;
    compare_double = VEX_Vcmppd_ymm_ymm_ymmm256_imm8 | EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae;
    blend_64 = VEX_Vblendvpd_ymm_ymm_ymmm256_ymm | EVEX_Vblendmpd_zmm_k1z_zmm_zmmm512b64;
    promote = VEX_Vcvtps2pd_ymm_xmmm128 | EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae;
    demote = VEX_Vcvtpd2ps_xmm_ymmm256 | EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er;
    insert_half = VEX_Vinsertf128_ymm_ymm_xmmm128_imm8 | EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8;
    extract_half = VEX_Vextractf128_xmmm128_ymm_imm8 | EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8;
    /// The second 128-bit block of a 256-bit register, and a permutation of 128 bits by an immediate.
    extract_block = VEX_Vextractf128_xmmm128_ymm_imm8 | EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8;
    permute = VEX_Vpermilps_xmm_xmmm128_imm8 | EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8;
    widen_u8 = VEX_Vpmovzxbd_ymm_xmmm64 | EVEX_Vpmovzxbd_zmm_k1z_xmmm128;
    widen_i8 = VEX_Vpmovsxbd_ymm_xmmm64 | EVEX_Vpmovsxbd_zmm_k1z_xmmm128;
    widen_u16 = VEX_Vpmovzxwd_ymm_xmmm128 | EVEX_Vpmovzxwd_zmm_k1z_ymmm256;
    widen_i16 = VEX_Vpmovsxwd_ymm_xmmm128 | EVEX_Vpmovsxwd_zmm_k1z_ymmm256;
    first_bits = VEX_Vmovd_rm32_xmm | EVEX_Vmovd_rm32_xmm;
    first_bits_64 = VEX_Vmovq_rm64_xmm | EVEX_Vmovq_rm64_xmm;
    first_from_int = VEX_Vcvtsi2ss_xmm_xmm_rm64 | EVEX_Vcvtsi2ss_xmm_xmm_rm64_er;
    first_to_int = VEX_Vcvttss2si_r64_xmmm32 | EVEX_Vcvttss2si_r64_xmmm32_sae;
    broadcast_64 = VEX_Vbroadcastsd_ymm_m64 | EVEX_Vbroadcastsd_zmm_k1z_xmmm64;
    /// By an immediate: [`NEAREST`].
    round = VEX_Vroundps_ymm_ymmm256_imm8 | EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae;
    sqrt = VEX_Vsqrtps_ymm_ymmm256 | EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
    sqrt_double = VEX_Vsqrtpd_ymm_ymmm256 | EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er;
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

/// The immediate of a rounding to the nearest integer, ties to even, without exceptions.
pub const NEAREST: u8 = 8;

/// Where there are masks: lanes to bytes and to pairs of bytes, a general register to every lane, a comparison of integers.
pub const NARROW_8: Code = Code::EVEX_Vpmovdb_xmmm128_k1z_zmm;
pub const NARROW_16: Code = Code::EVEX_Vpmovdw_ymmm256_k1z_zmm;
pub const SPLAT_INT: Code = Code::EVEX_Vpbroadcastd_zmm_k1z_r32;
pub const SPLAT_INT_64: Code = Code::EVEX_Vpbroadcastq_zmm_k1z_r64;
pub const COMPARE_INT: Code = Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8;

/// Where there are none: an order of bytes in each block, the first lane to every lane, comparisons of integers.
pub const ORDER_BYTES: Code = Code::VEX_Vpshufb_ymm_ymm_ymmm256;
pub const SPLAT_FIRST: Code = Code::VEX_Vpbroadcastd_ymm_xmmm32;
pub const SPLAT_FIRST_64: Code = Code::VEX_Vpbroadcastq_ymm_xmmm64;
pub const EQUAL_INT: Code = Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256;
pub const GREATER_INT: Code = Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256;

impl Opcodes {
    /// The column for vectors of a level, if there is one.
    pub fn new(vectors: Vectors) -> Option<Self> {
        match (vectors.lanes, vectors.masks) {
            (8, false) => Some(Opcodes::Vex256),
            (16, true) => Some(Opcodes::Evex512),
            _ => None,
        }
    }

    /// The encoding of a two-operand operation, if vectors of the element have it.
    pub fn op(self, op: VOp, element: Element) -> Option<Code> {
        use Element::{F32, F64, I32, I64};
        Some(match (op, element) {
            (VOp::Add, F32) => self.add(),
            (VOp::Sub, F32) => self.sub(),
            (VOp::Mul, F32) => self.mul(),
            (VOp::Div, F32) => self.div(),
            (VOp::Min, F32) => self.min(),
            (VOp::Max, F32) => self.max(),
            (VOp::And, F32 | I32) => self.and(),
            (VOp::Or, F32 | I32) => self.or(),
            (VOp::Xor, F32 | I32) => self.xor(),
            (VOp::Add, I32) => self.add_int(),
            (VOp::Sub, I32) => self.sub_int(),
            (VOp::Mul, I32) => self.mul_int(),
            (VOp::Min, I32) => self.min_int(),
            (VOp::Max, I32) => self.max_int(),
            (VOp::Add, F64) => self.add_double(),
            (VOp::Sub, F64) => self.sub_double(),
            (VOp::Mul, F64) => self.mul_double(),
            (VOp::Div, F64) => self.div_double(),
            (VOp::Min, F64) => self.min_double(),
            (VOp::Max, F64) => self.max_double(),
            (VOp::And, F64 | I64) => self.and_64(),
            (VOp::Or, F64 | I64) => self.or_64(),
            (VOp::Xor, F64 | I64) => self.xor_64(),
            (VOp::Add, I64) => self.add_int_64(),
            (VOp::Sub, I64) => self.sub_int_64(),
            (VOp::UnpackLow, F32 | I32) => self.unpack_low(),
            (VOp::UnpackHigh, F32 | I32) => self.unpack_high(),
            (VOp::UnpackLow, F64 | I64) => self.unpack_low_64(),
            (VOp::UnpackHigh, F64 | I64) => self.unpack_high_64(),
            (VOp::EvenBlocks | VOp::OddBlocks, _) => self.blocks(),
            (VOp::Dot, I32) => self.dot(),
            (VOp::Div, I32 | I64) | (VOp::Mul | VOp::Min | VOp::Max, I64) | (VOp::Dot, _) => return None,
        })
    }

    /// The immediate of an operation that has one.
    pub fn immediate(self, op: VOp) -> Option<u32> {
        match (op, self) {
            (VOp::EvenBlocks, Opcodes::Evex512) => Some(0x88),
            (VOp::OddBlocks, Opcodes::Evex512) => Some(0xDD),
            (VOp::EvenBlocks, Opcodes::Vex256) => Some(0x20),
            (VOp::OddBlocks, Opcodes::Vex256) => Some(0x31),
            _ => None,
        }
    }
}
