//! Seeded initialisation as timm's: what a network is before training.
//!
//! In: a [`Parameter`]. Out: its elements. Convolutions are normal with variance `2 / fan_out`, `fan_out = k k out / groups`;
//! the classifier is uniform within `1 / sqrt(classes)`; scales and variances are 1, all else 0. Invariant: the elements
//! depend on the seed and the canonical name only, and are the same bits on every machine.

use fornax_ir::types::{Constant, TensorType};

use super::{Error, Weights};
use crate::parameters::{Parameter, Role};

/// Most elements of a parameter that are made.
const ELEMENTS: usize = 1 << 30;

/// Weights made from a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Random {
    /// The seed.
    pub seed: u64,
}

impl Weights for Random {
    fn constant(&self, parameter: &Parameter) -> Result<Constant, Error> {
        let needed = parameter.numel();
        if needed > ELEMENTS {
            return Err(Error::TooLarge { parameter: parameter.name.clone(), allowed: ELEMENTS, needed });
        }
        let bytes: Vec<u8> = self.values(parameter).into_iter().flat_map(f32::to_le_bytes).collect();
        let ty = TensorType::f32(parameter.shape.clone());
        Ok(Constant::from_bytes(ty, bytes).with_origins(vec![parameter.name.clone()]))
    }
}

impl Random {
    /// The elements of `parameter`.
    pub fn values(&self, parameter: &Parameter) -> Vec<f32> {
        let count = parameter.numel();
        let mut stream = Stream::new(self.seed, &parameter.name);
        match parameter.role {
            Role::ConvWeight { group } => {
                let window = parameter.shape.iter().skip(2).fold(1, |n: usize, d| n.saturating_mul(*d));
                let filters = parameter.shape.first().copied().unwrap_or(1);
                let fan_out = (window.saturating_mul(filters) / group.max(1)).max(1);
                stream.normal(count, (2.0 / fan_out as f64).sqrt())
            }
            Role::LinearWeight => {
                let classes = parameter.shape.first().copied().unwrap_or(1).max(1);
                stream.uniform(count, 1.0 / (classes as f64).sqrt())
            }
            Role::Gamma | Role::Variance => vec![1.0; count],
            Role::Bias | Role::Beta | Role::Mean => vec![0.0; count],
        }
    }
}

/// splitmix64.
struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of `seed` and `name`: the FNV-1a hash of the name, mixed with the seed.
    fn new(seed: u64, name: &str) -> Self {
        let hash = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3));
        let mut seeded = Self { state: seed };
        Self { state: seeded.next() ^ hash }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `(0, 1]`.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn uniform(&mut self, count: usize, limit: f64) -> Vec<f32> {
        (0..count).map(|_| ((2.0 * self.unit() - 1.0) * limit) as f32).collect()
    }

    /// Box-Muller, two values a turn.
    fn normal(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let mut out = Vec::with_capacity(count + 1);
        while out.len() < count {
            let radius = (-2.0 * libm::log(self.unit())).sqrt() * deviation;
            let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.unit());
            out.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        out.truncate(count);
        out
    }
}
