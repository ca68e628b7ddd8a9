//! The error function of `f64` lanes: FreeBSD's, in four pieces by the size of the argument, within 1 ulp.

use super::Doubles;
use crate::codegen::{Cmp, V, VOp};

/// Quotients of polynomials, lowest power first: near zero in the square, about 1 in the distance from it, beyond in the inverse square.
const NEAR: [&[f64]; 2] = [
    &[
        1.283_791_670_955_125_6e-1,
        -3.250_421_072_470_015e-1,
        -2.848_174_957_559_851e-2,
        -5.770_270_296_489_442e-3,
        -2.376_301_665_665_016_3e-5,
    ],
    &[
        1.0,
        3.979_172_239_591_553_5e-1,
        6.502_224_998_876_73e-2,
        5.081_306_281_875_766e-3,
        1.324_947_380_043_216_4e-4,
        -3.960_228_278_775_368e-6,
    ],
];
const ABOUT_ONE: [&[f64]; 2] = [
    &[
        -2.362_118_560_752_659_4e-3,
        4.148_561_186_837_483_3e-1,
        -3.722_078_760_357_013e-1,
        3.183_466_199_011_617_5e-1,
        -1.108_946_942_823_966_8e-1,
        3.547_830_432_561_823_6e-2,
        -2.166_375_594_868_791e-3,
    ],
    &[
        1.0,
        1.064_208_804_008_442_3e-1,
        5.403_979_177_021_71e-1,
        7.182_865_441_419_627e-2,
        1.261_712_198_087_616_4e-1,
        1.363_708_391_202_905e-2,
        1.198_449_984_679_910_7e-2,
    ],
];
const MIDDLE: [&[f64]; 2] = [
    &[
        -9.864_944_034_847_148e-3,
        -6.938_585_727_071_818e-1,
        -1.055_862_622_532_329_1e1,
        -6.237_533_245_032_600_6e1,
        -1.623_966_694_625_734_7e2,
        -1.846_050_929_067_110_4e2,
        -8.128_743_550_630_66e1,
        -9.814_329_344_169_145,
    ],
    &[
        1.0,
        1.965_127_166_743_925_7e1,
        1.376_577_541_435_190_4e2,
        4.345_658_774_752_292_3e2,
        6.453_872_717_332_679e2,
        4.290_081_400_275_678_3e2,
        1.086_350_055_417_794_4e2,
        6.570_249_770_319_282,
        -6.042_441_521_485_81e-2,
    ],
];
const FAR: [&[f64]; 2] = [
    &[
        -9.864_942_924_700_1e-3,
        -7.992_832_376_805_23e-1,
        -1.775_795_491_775_475_2e1,
        -1.606_363_848_558_219_2e2,
        -6.375_664_433_683_896e2,
        -1.025_095_131_611_077_2e3,
        -4.835_191_916_086_514e2,
    ],
    &[
        1.0,
        3.033_806_074_348_246e1,
        3.257_925_129_965_739e2,
        1.536_729_586_084_437e3,
        3.199_858_219_508_595_5e3,
        2.553_050_406_433_164_4e3,
        4.745_285_412_069_553_7e2,
        -2.244_095_244_658_582e1,
    ],
];
/// About `erf(1)`, in few bits.
const ONE: f64 = 8.450_629_115_104_675e-1;

impl Doubles<'_> {
    fn quotient(&mut self, x: V, [above, below]: [&[f64]; 2]) -> V {
        let (above, below) = (self.polynomial(x, above), self.polynomial(x, below));
        self.div(above, below)
    }

    /// `erf(x)`: odd; infinities give 1 and -1.
    pub(super) fn erf(&mut self, x: V) -> V {
        let (size, one) = (self.abs(x), self.number(1.0));
        let square = self.mul(x, x);
        let near = self.quotient(square, NEAR);
        let near = self.mul(size, near);
        let near = self.add(size, near);
        let distance = self.sub(size, one);
        let about = self.quotient(distance, ABOUT_ONE);
        let about = self.with(VOp::Add, ONE, about);
        // Beyond: 1 - exp(-z^2 - 9/16) exp((z - x) (z + x) + quotient) / x, where z is x in fewer bits.
        let bounded = self.with(VOp::Min, 8.0, size);
        let z = self.mask(bounded, !0 << 32);
        let inverse = self.mul(bounded, bounded);
        let inverse = self.div(one, inverse);
        let (middle, far) = (self.quotient(inverse, MIDDLE), self.quotient(inverse, FAR));
        let border = self.number(1.0 / 0.35);
        let rest = self.select([bounded, border], Cmp::Less, middle, far);
        let (less, more) = (self.sub(z, bounded), self.add(z, bounded));
        let difference = self.mul(less, more);
        let rest = self.add(difference, rest);
        let first = self.mul(z, z);
        let first = self.neg(first);
        let first = self.with(VOp::Add, -0.5625, first);
        let (first, second) = (self.exp(first), self.exp(rest));
        let beyond = self.mul(first, second);
        let beyond = self.div(beyond, bounded);
        let beyond = self.sub(one, beyond);
        let (small, large, end) = (self.number(0.84375), self.number(1.25), self.number(6.0));
        let value = self.select([size, large], Cmp::Less, about, beyond);
        let value = self.select([end, size], Cmp::LessOrEqual, one, value);
        let value = self.select([size, small], Cmp::Less, near, value);
        let value = self.select([x, x], Cmp::Unordered, size, value);
        self.signed(value, x)
    }
}
