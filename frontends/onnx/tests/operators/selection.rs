//! What chooses by data: results at their bound, and a further output with the count.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, random_values};

use crate::node::{Node, f32s, i64s, index, iota, of};

/// The outputs of a node, cut to their extents: of `outputs` that it has, all are live along the axes given, but for `None`.
fn cut(node: Node, axes: &[Option<usize>]) -> Vec<(Vec<usize>, Vec<f64>)> {
    let found = node.run().unwrap();
    let counts: Vec<usize> = found[axes.len()..].iter().map(|count| count.to_f64()[0] as usize).collect();
    assert_eq!(counts.len(), axes.iter().flatten().count());
    let mut counts = counts.into_iter();
    let cut = |(value, axis): (&Literal, &Option<usize>)| {
        let (mut shape, all) = (value.ty.shape.to_vec(), value.to_f64());
        let Some(axis) = *axis else { return (shape, all) };
        let inner: usize = shape[axis + 1..].iter().product();
        let (full, count) = (shape[axis], counts.next().unwrap());
        shape[axis] = count;
        let kept = (0..all.len()).filter(|i| i / inner % full < count).map(|i| all[i]).collect();
        (shape, kept)
    };
    found.iter().zip(axes).map(cut).collect()
}

#[test]
fn non_zero_lists_indices_by_axis() {
    let x = || f32s(&[2, 3], &[1.0, 0.0, -2.0, 0.0, f32::NAN, -0.0]);
    let rows = cut(Node::new("NonZero", 13).input(x()), &[Some(1)]);
    assert_eq!(rows, [(vec![2, 3], vec![0.0, 0.0, 1.0, 0.0, 2.0, 1.0])]);
    // What is known has a known extent.
    Node::new("NonZero", 13).constant(x()).gives(of(DType::I64, &[2, 3], &[0, 0, 1, 0, 2, 1]));
    Node::new("NonZero", 13).input(f32s(&[0, 2], &[])).gives(of(DType::I64, &[2, 0], &[]));
    let flags = of(DType::Bool, &[3], &[0, 1, 1]);
    assert_eq!(cut(Node::new("NonZero", 9).input(flags), &[Some(1)]), [(vec![1, 2], vec![1.0, 2.0])]);
    assert_eq!(cut(Node::new("NonZero", 9).input(index(7)), &[Some(1)]), [(vec![1, 1], vec![0.0])]);
}

#[test]
fn compress_keeps_slices_or_elements() {
    let flags = |values: &[i64]| of(DType::Bool, &[values.len()], values);
    let node = |values: &[i64]| Node::new("Compress", 11).input(iota(&[3, 2])).input(flags(values));
    assert_eq!(cut(node(&[0, 1, 1]).int("axis", 0), &[Some(0)]), [(vec![2, 2], vec![2.0, 3.0, 4.0, 5.0])]);
    assert_eq!(cut(node(&[0, 1]).int("axis", -1), &[Some(1)]), [(vec![3, 1], vec![1.0, 3.0, 5.0])]);
    assert_eq!(cut(node(&[0, 1, 0, 0, 1]), &[Some(0)]), [(vec![2], vec![1.0, 4.0])]);
    assert_eq!(cut(node(&[1, 0, 0, 1]).int("axis", 0), &[Some(0)]), [(vec![1, 2], vec![0.0, 1.0])]);
    let known = Node::new("Compress", 11).input(iota(&[3, 2])).constant(flags(&[1, 0, 1])).int("axis", 0);
    known.gives(f32s(&[2, 2], &[0.0, 1.0, 4.0, 5.0]));
    node(&[1, 1]).int("axis", 2).refused("axis");
}

#[test]
fn unique_sorts_or_keeps_the_order() {
    let x = || f32s(&[6], &[2.0, 1.0, 1.0, 3.0, 4.0, 3.0]);
    let node = || Node::new("Unique", 11).input(x()).outputs(4);
    let axes = [Some(0), Some(0), None, Some(0)];
    let expected = |y: &[f64], firsts: &[f64], inverse: &[f64], counts: &[f64]| {
        [y, firsts, inverse, counts].map(|values| (vec![values.len()], values.to_vec())).to_vec()
    };
    let sorted = expected(&[1., 2., 3., 4.], &[1., 0., 3., 4.], &[1., 0., 0., 2., 3., 2.], &[2., 1., 2., 1.]);
    assert_eq!(cut(node(), &axes), sorted);
    let in_order = expected(&[2., 1., 3., 4.], &[0., 1., 3., 4.], &[0., 1., 1., 2., 3., 2.], &[1., 2., 2., 1.]);
    assert_eq!(cut(node().int("sorted", 0), &axes), in_order);
    let rows = f32s(&[3, 3], &[1., 0., 0., 1., 0., 0., 2., 3., 4.]);
    let found = cut(Node::new("Unique", 11).input(rows.clone()).int("axis", 0).outputs(4), &axes);
    assert_eq!(found[0], (vec![2, 3], vec![1., 0., 0., 2., 3., 4.]));
    assert_eq!((&found[1].1, &found[2].1, &found[3].1), (&vec![0., 2.], &vec![0., 0., 1.], &vec![2., 1.]));
    let found = cut(Node::new("Unique", 11).input(rows).int("axis", 1), &[Some(1)]);
    assert_eq!(found, [(vec![3, 3], vec![0., 0., 1., 0., 0., 1., 3., 4., 2.])]);
    let flags = of(DType::Bool, &[3], &[1, 0, 1]);
    assert_eq!(cut(Node::new("Unique", 11).input(flags), &[Some(0)]), [(vec![2], vec![0., 1.])]);
    Node::new("Unique", 11).input(iota(&[2, 70])).int("axis", 0).refused("slices of 70 elements");
}

/// Boxes with corners in any order.
fn boxes(seed: u64, images: usize, count: usize) -> Literal {
    let values: Vec<f32> = random_values(seed, images * count * 4);
    let corner = |i: usize| values[i] + if i % 4 > 1 { values[i] * 0.3 } else { 0.0 };
    f32s(&[images, count, 4], &(0..values.len()).map(corner).collect::<Vec<_>>())
}

/// The choice as the standard says it, box by box.
fn plainly(boxes: &Literal, scores: &Literal, [most, center]: [usize; 2], iou: f32, least: Option<f32>) -> Vec<f64> {
    let (all, values): (Vec<f32>, Vec<f32>) =
        (boxes.to_f64().iter().map(|v| *v as f32).collect(), scores.to_f64().iter().map(|v| *v as f32).collect());
    let [images, classes, count] = scores.ty.shape[..] else { unreachable!() };
    let corners = |image: usize, i: usize| {
        let b = &all[(image * count + i) * 4..][..4];
        match center {
            1 => [b[0] - b[2] / 2.0, b[1] - b[3] / 2.0, b[0] + b[2] / 2.0, b[1] + b[3] / 2.0],
            _ => [b[1].min(b[3]), b[0].min(b[2]), b[1].max(b[3]), b[0].max(b[2])],
        }
    };
    let area = |b: [f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let suppresses = |a: [f32; 4], b: [f32; 4]| {
        let (w, h) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
        w > 0.0 && h > 0.0 && w * h / (area(a) + area(b) - w * h) > iou
    };
    let mut rows = Vec::new();
    for (image, class) in (0..images).flat_map(|i| (0..classes).map(move |c| (i, c))) {
        let score = |i: usize| values[(image * classes + class) * count + i];
        let mut order: Vec<usize> = (0..count).filter(|i| least.is_none_or(|least| score(*i) > least)).collect();
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            if kept.len() < most && !kept.iter().any(|k| suppresses(corners(image, *k), corners(image, i))) {
                kept.push(i);
                rows.extend([image, class, i].map(|v| v as f64));
            }
        }
    }
    rows
}

#[test]
fn non_max_suppression_is_the_plain_one() {
    for (seed, images, classes, count, most, center, iou, least) in [
        (1, 1, 1, 50, 50, 0, 0.3, None),
        (2, 1, 3, 50, 20, 0, 0.2, Some(0.1)),
        (3, 2, 3, 37, 5, 1, 0.5, Some(-0.5)),
        (4, 2, 1, 16, 100, 0, 0.0, None),
        (5, 1, 3, 50, 50, 0, 0.4, Some(2.0)),
    ] {
        let boxes = boxes(seed, images, count);
        // In steps, so that some are equal.
        let scores = random_values(seed + 100, images * classes * count);
        let scores: Vec<f32> = scores.iter().map(|v| (v * 16.0).round() / 16.0).collect();
        let scores = f32s(&[images, classes, count], &scores);
        let scalar = |v: f32| f32s(&[1], &[v]);
        let mut node = Node::new("NonMaxSuppression", 11).input(boxes.clone()).input(scores.clone());
        node = node.constant(i64s(&[most as i64])).constant(scalar(iou)).int("center_point_box", center as i64);
        if let Some(least) = least {
            node = node.constant(scalar(least));
        }
        let expected = plainly(&boxes, &scores, [most, center], iou, least);
        let found = cut(node, &[Some(0)]);
        assert_eq!(found, [(vec![expected.len() / 3, 3], expected)], "case {seed}");
    }
}

#[test]
fn non_max_suppression_of_nothing_and_wrong_operands() {
    let node = |shape: &[usize]| Node::new("NonMaxSuppression", 11).input(iota(&[1, 2, 4])).input(iota(shape));
    node(&[1, 1, 2]).gives(of(DType::I64, &[0, 3], &[]));
    node(&[1, 1, 2]).constant(i64s(&[0])).gives(of(DType::I64, &[0, 3], &[]));
    node(&[1, 1, 3]).refused("boxes: expected shape [1,3,4]");
    node(&[1, 2]).refused("scores: expected rank 3");
    node(&[1, 1, 2]).input(i64s(&[1])).refused("max_output_boxes_per_class");
    node(&[1, 1, 2]).constant(i64s(&[1])).constant(f32s(&[1], &[1.5])).refused("iou_threshold: expected 0 to 1");
    node(&[1, 1, 2]).constant(i64s(&[1])).int("center_point_box", 2).refused("center_point_box");
}
