//! Strips: consecutive vectors of output channels that a tile computes at once.
//!
//! The vectors of a group are split evenly into strips. A strip may begin within a panel and end in another: its vectors are at
//! constant distances from the weights of the panel it begins in, since all panels are equally large.

use super::{Conv, PANEL, padded, width};
use crate::codegen::REACH;

/// One vector of a strip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// Bytes from the strip's weights to its own.
    pub weights: usize,
    /// Lanes that packed weights and bias have.
    pub stored: usize,
    /// Lanes that the output has.
    pub lanes: usize,
}

/// What a tile needs to know of its output channels when its code is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strip {
    /// The vectors; each begins as many channels after the one before as a vector has lanes.
    pub vectors: Vec<Vector>,
    /// Bytes from the weights of one input channel, or pair of them, to those of the next.
    pub step: usize,
}

/// Units that run the same code. A unit is a number of strips after which the position within a panel is the same again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StripGroup {
    /// First unit.
    pub first: usize,
    /// Number of units.
    pub units: usize,
    /// Strips of a unit.
    pub strips: usize,
    /// First output channel.
    pub start: usize,
    /// Vectors of a strip.
    pub vectors: usize,
    /// Lanes of a vector.
    pub lanes: usize,
}

impl StripGroup {
    /// Output channels of a strip; the last strip of a group may have fewer.
    pub fn channels(&self) -> usize {
        self.vectors * self.lanes
    }

    /// Whether a unit lies within one panel, so that its strips differ in their first channel only.
    pub fn alike(&self) -> bool {
        self.start % PANEL + self.strips * self.channels() <= PANEL
    }

    /// Panels from the first of one unit to the first of the next.
    pub fn panels(&self) -> usize {
        (self.start % PANEL + self.strips * self.channels()) / PANEL
    }
}

impl Conv {
    /// Bytes of a panel's weights.
    pub fn panel_bytes(&self) -> usize {
        self.lane() * width(self.filters) * self.depth_in_steps()
    }

    /// The filters of a group as strips of at most `most` vectors.
    pub fn spans(&self, lanes: usize, most: usize) -> Vec<StripGroup> {
        // Weights beyond the reach of a displacement: none of a strip's is in another panel than its first.
        let reach = self.panel_bytes().saturating_mul(most * lanes / PANEL + 2);
        let most = if reach < REACH / 2 { most } else { 1 };
        let total = self.filters.div_ceil(lanes);
        let count = total.div_ceil(most);
        if count == 0 {
            return Vec::new();
        }
        let (vectors, longer) = (total / count, total % count);
        // A last vector with lanes beyond the filters needs code of its own.
        let partial = usize::from(!self.filters.is_multiple_of(lanes));
        let mut spans = Vec::new();
        let (mut first, mut start) = (0, 0);
        for (vectors, number) in [(vectors + 1, longer), (vectors, count - longer - partial), (vectors, partial)] {
            let period = PANEL >> (vectors * lanes).trailing_zeros().min(PANEL.trailing_zeros());
            for (strips, units) in [(period, number / period), (number % period, 1)] {
                if strips * units > 0 {
                    spans.push(StripGroup { first, units, strips, start, vectors, lanes });
                    first += units;
                    start += units * strips * vectors * lanes;
                }
            }
        }
        spans
    }

    /// Strip `index` of the first unit of `span`, for weights that begin at the unit's first panel.
    pub fn strip(&self, span: &StripGroup, index: usize) -> Strip {
        let (width, lane) = (width(self.filters), self.lane());
        let from = span.start + index * span.channels();
        let vector = |i: usize| {
            let channel = from + i * span.lanes;
            let panel = channel / PANEL - span.start / PANEL;
            Vector {
                weights: panel * self.panel_bytes() + lane * (channel % PANEL),
                stored: (padded(self.filters) - channel).min(span.lanes),
                lanes: (self.filters - channel).min(span.lanes),
            }
        };
        Strip { vectors: (0..span.vectors).map(vector).collect(), step: lane * width }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;

    /// Vectors of each strip in order.
    fn sizes(filters: usize, lanes: usize, most: usize) -> Vec<usize> {
        let spans = Conv::pointwise(1, 3, filters, Epilogue::default()).spans(lanes, most);
        spans.iter().flat_map(|span| vec![span.vectors; span.units * span.strips]).collect()
    }

    #[test]
    fn vectors_are_split_evenly() {
        assert_eq!(sizes(112, 16, 4), [4, 3]);
        assert_eq!(sizes(160, 16, 4), [4, 3, 3]);
        assert_eq!(sizes(24, 4, 2), [2, 2, 2]);
        assert_eq!(sizes(17, 16, 5), [2]);
        assert_eq!(sizes(0, 8, 3), [0; 0]);
    }

    #[test]
    fn every_vector_has_its_weights() {
        for lanes in [4, 8, 16] {
            for (filters, most) in [(1, 1), (5, 2), (8, 3), (12, 3), (24, 1), (40, 3), (100, 5), (240, 3)] {
                let conv = Conv::pointwise(1, 3, filters, Epilogue::default());
                let mut channel = 0;
                for span in conv.spans(lanes, most) {
                    for unit in 0..span.units {
                        let panel = span.start / PANEL + unit * span.panels();
                        for vector in (0..span.strips).flat_map(|i| conv.strip(&span, i).vectors) {
                            let weights = panel * conv.panel_bytes() + vector.weights;
                            let own = channel / PANEL * conv.panel_bytes() + size_of::<f32>() * (channel % PANEL);
                            assert_eq!(weights, own, "channel {channel} of {filters}, {lanes} lanes");
                            channel += vector.lanes;
                        }
                    }
                }
                assert_eq!(channel, filters);
            }
        }
    }

    #[test]
    fn strips_of_one_vector_reach_any_weights() {
        let conv = Conv::pointwise(1, 1 << 24, 64, Epilogue::default());
        let spans = conv.spans(16, 4);
        assert_eq!(spans, [StripGroup { first: 0, units: 4, strips: 1, start: 0, vectors: 1, lanes: 16 }]);
    }
}
