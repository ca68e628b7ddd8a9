//! Random numbers that depend on what they are for, not on what was drawn before.
//!
//! In: a seed, and the purpose, epoch and photo of a draw. Out: a sequence of its own. Nothing has to be kept between
//! epochs, so a run that is resumed, or whose photos are prepared on other threads, draws the same numbers.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a number of SplitMix64 is further than the one before.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is drawn. The numbers are part of every sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The order of the photos of an epoch.
    Order = 0,
    /// Crop, flip and colours of a photo.
    Augment = 2,
    /// Which features are dropped.
    Dropout = 3,
    /// Which branches of residual blocks are skipped.
    DropPath = 4,
    /// How a photo is mixed with another.
    Mix = 5,
    /// Which photos an epoch has, where that is not all of them.
    Sample = 6,
    /// The order in which photos are looked at before training.
    Look = 7,
}

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The sequence for one purpose, of photo `item` in `epoch`.
    pub fn new(seed: u64, purpose: Purpose, epoch: u64, item: u64) -> Self {
        let key: Vec<u8> = [purpose as u64, epoch, item].iter().flat_map(|part| part.to_le_bytes()).collect();
        Self { state: xxh3_64_with_seed(&key, seed) }
    }

    /// The same sequence without its next `count` numbers of [`Draw::bits`].
    pub fn after(mut self, count: u64) -> Self {
        self.state = self.state.wrapping_add(INCREMENT.wrapping_mul(count));
        self
    }

    /// 64 random bits: SplitMix64 (Steele, Lea, Flood 2014).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(INCREMENT);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1, of 53 bits, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number below `count`, which is at least 1.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * libm::log(radius)).sqrt() * libm::cos(std::f64::consts::TAU * angle)
    }

    /// A number of the beta distribution with both parameters `a`, above 0.
    pub fn beta(&mut self, a: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(a));
        // Both may vanish where `a` is tiny: the distribution is then a toss of a coin.
        if x + y > 0.0 { x / (x + y) } else { (self.bits() >> 63) as f64 }
    }

    /// A number of the gamma distribution of shape `a`, above 0 (Marsaglia, Tsang 2000).
    fn gamma(&mut self, a: f64) -> f64 {
        if a < 1.0 {
            let more = self.gamma(a + 1.0);
            return more * libm::pow(1.0 - self.unit(), 1.0 / a);
        }
        let d = a - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
            let u = 1.0 - self.unit();
            if v > 0.0 && libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Puts `items` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_depend_on_every_part_of_their_purpose() {
        let first = |seed, purpose, epoch, item| Draw::new(seed, purpose, epoch, item).bits();
        let all = [
            first(0, Purpose::Order, 0, 0),
            first(1, Purpose::Order, 0, 0),
            first(0, Purpose::Dropout, 0, 0),
            first(0, Purpose::Order, 1, 0),
            first(0, Purpose::Order, 0, 1),
        ];
        let mut distinct = all.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(first(7, Purpose::Augment, 3, 9), first(7, Purpose::Augment, 3, 9));
    }

    #[test]
    fn the_beta_distribution_has_its_moments() {
        for a in [0.05, 0.2, 0.8, 1.0, 4.0] {
            let mut draw = Draw::new(8, Purpose::Mix, 0, 0);
            let all: Vec<f64> = (0..20_000).map(|_| draw.beta(a)).collect();
            let mean = all.iter().sum::<f64>() / 20_000.0;
            let variance = all.iter().map(|x| (x - 0.5) * (x - 0.5)).sum::<f64>() / 20_000.0;
            assert!(all.iter().all(|x| (0.0..=1.0).contains(x)));
            assert!(
                (mean - 0.5).abs() < 0.015 && (variance - 0.25 / (2.0 * a + 1.0)).abs() < 0.005,
                "{a}: {mean} {variance}"
            );
        }
        // So small that powers vanish.
        let mut draw = Draw::new(8, Purpose::Mix, 0, 1);
        assert!((0..100).map(|_| draw.beta(1e-9)).all(|x| x == 0.0 || x == 1.0));
    }

    #[test]
    fn numbers_are_where_they_should_be() {
        let mut draw = Draw::new(5, Purpose::Order, 0, 0);
        let (mut sum, mut square, mut seen) = (0.0, 0.0, [0usize; 7]);
        for _ in 0..20_000 {
            let unit = draw.unit();
            assert!((0.0..1.0).contains(&unit));
            seen[draw.below(7)] += 1;
            let normal = draw.normal();
            sum += normal;
            square += normal * normal;
        }
        assert!(seen.iter().all(|count| (2600..3120).contains(count)), "{seen:?}");
        assert!((sum / 20_000.0).abs() < 0.03 && (square / 20_000.0 - 1.0).abs() < 0.05, "{sum} {square}");
        let mut items: Vec<usize> = (0..50).collect();
        draw.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
