//! Families over phi, bases under the constraint, and the members that no other one beats.
//!
//! In: a spec, or costs. Out: specs of the family, bases, or indices. Nothing here predicts accuracy.

use crate::spec::{Scaling, Spec};

/// The member of a spec's family at `phi`. A spec without scaling grows by the published bases: width 1.1, depth 1.2, side 1.15.
pub fn grow(spec: &Spec, phi: f64) -> Spec {
    let mut grown = spec.clone();
    // Those of the member at hand.
    grown.weights = None;
    grown.scaling.get_or_insert_default().phi = phi;
    grown
}

/// Bases on a grid in 1 to 2 whose cost, depth x width^2 x resolution^2, is within `tolerance` of `k`, at phi 1. The published
/// search is `bases(20, 2.0, 0.1)`: steps of 0.05, 108 candidates; depth 1.9 alone lies on the bound, which `f64` puts outside.
/// Ordered by depth, width, side.
pub fn bases(steps: usize, k: f64, tolerance: f64) -> Vec<Scaling> {
    let grid: Vec<f64> = (0..=steps).map(|i| (steps + i) as f64 / steps.max(1) as f64).collect();
    let mut found = Vec::new();
    for &depth_base in &grid {
        for &width_base in &grid {
            for &resolution_base in &grid {
                let scaling = Scaling { phi: 1.0, width_base, depth_base, resolution_base, side_multiple: 8 };
                if (scaling.growth() - k).abs() <= tolerance {
                    found.push(scaling);
                }
            }
        }
    }
    found
}

/// Indices of the points that no other point beats: at most equal in every coordinate and less in one. Negate a coordinate of
/// which more is better.
pub fn pareto<const N: usize>(points: &[[f64; N]]) -> Vec<usize> {
    let beats = |a: &[f64; N], b: &[f64; N]| a.iter().zip(b).all(|(a, b)| a <= b) && a != b;
    (0..points.len()).filter(|&i| !points.iter().any(|other| beats(other, &points[i]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_grid_has_108_candidates() {
        let found = bases(20, 2.0, 0.1);
        assert_eq!(found.len(), 108);
        let published = Scaling { phi: 1.0, ..Scaling::default() };
        assert!(found.contains(&published));
    }

    #[test]
    fn beaten_points_are_left_out() {
        let points = [[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [3.0, 1.0], [3.0, 1.0]];
        assert_eq!(pareto(&points), [0, 1, 3, 4]);
    }
}
