//! The Winograd transform of 3x3 filters, and the way back.
//!
//! In: 9 taps. Out: `G g Gt`, one value per transformed position, computed in `f64` and rounded once. F(m, 3) evaluates polynomials at
//! `m + 1` points and at infinity; its first row, the rows of `±a` and the last one give `g` back.

use std::fmt;
use std::str::FromStr;

use super::{ParseError, expected};

/// Taps of a filter.
pub const TAPS: usize = 9;
/// The smaller pair of points of F(4, 3).
pub const A: f32 = 0.625;
/// The larger pair.
pub const B: f32 = 1.5;

/// The pixels of an output tile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tile {
    /// 2x2 outputs from 4x4 inputs.
    Two,
    /// 4x4 outputs from 6x6 inputs.
    Four,
}

impl Tile {
    /// Outputs along an axis.
    pub fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Inputs along an axis.
    pub fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Transformed positions.
    pub fn positions(self) -> usize {
        self.inputs() * self.inputs()
    }

    /// Bound of the error for random values, in units of `2^-24` times the largest sum of magnitudes of a tile: half as much again as the
    /// largest measured.
    pub fn error(self) -> f64 {
        match self {
            Self::Two => 4.0,
            Self::Four => 12.0,
        }
    }

    /// `G`, one row per position of an axis.
    fn matrix(self) -> Vec<[f64; 3]> {
        match self {
            Self::Two => vec![[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
            Self::Four => {
                let (a, b) = (f64::from(A), f64::from(B));
                let (a2, b2) = (a * a, b * b);
                let row = |point: f64, n: f64| [1.0 / n, point / n, point * point / n];
                let (near, far) = (2.0 * a2 * (a2 - b2), 2.0 * b2 * (b2 - a2));
                vec![row(0.0, a2 * b2), row(a, near), row(-a, near), row(b, far), row(-b, far), [0.0, 0.0, 1.0]]
            }
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}x{0}", self.outputs())
    }
}

impl FromStr for Tile {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "2x2" => Ok(Self::Two),
            "4x4" => Ok(Self::Four),
            _ => expected("2x2 or 4x4", text),
        }
    }
}

/// The transform of filters for one kind of tile.
pub(super) struct Filter {
    tile: Tile,
    matrix: Vec<[f64; 3]>,
}

impl Filter {
    pub fn new(tile: Tile) -> Self {
        Self { tile, matrix: tile.matrix() }
    }

    /// `G g Gt`, row-major.
    pub fn transform(&self, taps: &[[u8; 4]; TAPS]) -> impl Iterator<Item = [u8; 4]> {
        let taps: [f64; TAPS] = taps.map(|tap| f64::from(f32::from_le_bytes(tap)));
        let dot = |row: &[f64; 3], v: [f64; 3]| row[0] * v[0] + row[1] * v[1] + row[2] * v[2];
        let mut rows = [[0.0; 3]; 6];
        for (row, matrix) in rows.iter_mut().zip(&self.matrix) {
            *row = [0, 1, 2].map(|column| dot(matrix, [0, 3, 6].map(|at| taps[at + column])));
        }
        let inputs = self.tile.inputs();
        let value = move |at: usize| dot(&self.matrix[at % inputs], rows[at / inputs]);
        (0..self.tile.positions()).map(move |at| (value(at) as f32).to_le_bytes())
    }

    /// The taps `g` of `G g Gt`, as well as its rounding allows.
    pub fn restore(&self, values: &[[u8; 4]]) -> [[u8; 4]; TAPS] {
        let n = self.tile.inputs();
        let value = |row: usize, column: usize| f64::from(f32::from_le_bytes(values[row * n + column]));
        // The first row knows the first tap alone, the last one the last; half the difference of the two between the middle one.
        let axis = |at: &dyn Fn(usize) -> f64| {
            let middle = (at(1) - at(2)) / (2.0 * self.matrix[1][1]);
            [at(0) / self.matrix[0][0], middle, at(n - 1)]
        };
        let rows: Vec<[f64; 3]> = (0..n).map(|row| axis(&|column| value(row, column))).collect();
        let columns = [0, 1, 2].map(|column| axis(&|row| rows[row][column]));
        std::array::from_fn(|at| (columns[at % 3][at / 3] as f32).to_le_bytes())
    }
}
