//! Whether photos may be mirrored, on drawn ones of which that is known.

use std::path::Path;

use fornax::Model;
use fornax::train::dataset::Photo;
use fornax::train::finetune::{Event, FinetuneOptions, Flip, Flow, finetune};
use fornax::train::mirrored::{Mirrored, Verdict};
use fornax::train::photos::{BadImages, Photos};
use fornax::train::random::{Draw, Purpose};

use crate::{say, support};

const SIDE: usize = 96;
const PHOTOS: usize = 48;

/// Draws a shape in the middle of a picture: whether a point, in shares of the shape's size, is in it.
fn picture(path: &Path, draw: &mut Draw, shape: impl Fn(f64, f64) -> bool) {
    let mut colour = |least: usize| [0; 3].map(|_: u8| (least + draw.below(100)) as u8);
    let (ground, ink) = (colour(100), colour(0));
    let (x, y, size) = (draw.between(44.0, 52.0), draw.between(44.0, 52.0), draw.between(24.0, 34.0));
    // BMP: 24 bits, without compression, rows from below; a row of 96 pixels is a multiple of four bytes.
    let mut bytes = b"BM".to_vec();
    let words = [(54 + SIDE * SIDE * 3) as u32, 0, 54, 40, SIDE as u32, SIDE as u32, 1 | 24 << 16, 0, 0, 0, 0, 0, 0];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    for row in (0..SIDE).rev() {
        for column in 0..SIDE {
            let inside = shape((column as f64 - x) / size, (row as f64 - y) / size);
            bytes.extend(if inside { ink } else { ground }.map(|value| value.saturating_add(draw.below(12) as u8)));
        }
    }
    std::fs::write(path, bytes).expect("a picture");
}

/// What is found of photos of two classes, and whether they are mirrored then.
fn judged(classes: [&dyn Fn(f64, f64) -> bool; 2]) -> Mirrored {
    let folder = tempfile::tempdir().expect("a folder");
    let mut draw = Draw::new(11, Purpose::Order, 0, 0);
    let mut photo = |at: usize| {
        let (path, class) = (folder.path().join(format!("{at}.bmp")), at % 2);
        picture(&path, &mut draw, classes[class]);
        Photo { path, class }
    };
    let photos: Vec<Photo> = (0..PHOTOS).map(&mut photo).collect();
    let model = Model::open(support::examples().join("signs.onnx")).expect("a model");
    let preprocess = model.preprocess().expect("metadata").expect("how photos are prepared");
    let found = [1, 2].map(|threads| {
        let photos = Photos::load(photos.clone(), &preprocess, BadImages::Refuse, 1 << 24, threads).expect("photos");
        let options = FinetuneOptions { threads, ..FinetuneOptions::default() };
        assert_eq!(options.flip, Flip::Auto, "what nobody has decided");
        let mut found = None;
        let tell = &mut |event: Event<'_>| match event {
            Event::Mirrored(mirrored) => {
                found = Some(mirrored.clone());
                Flow::Stop
            }
            _ => Flow::Continue,
        };
        finetune(&model, (&photos, &photos), &["a", "b"].map(String::from), &options, None, tell).expect("a run");
        found.expect("a finding")
    });
    assert_eq!(found[0], found[1], "threads change nothing");
    say(&found[0].line(&["a", "b"].map(String::from)));
    found[0].clone()
}

#[test]
fn arrows_are_not_mirrored_and_discs_are() {
    let arrow = |x: f64, y: f64| if x < 0.1 { x > -1.0 && y.abs() < 0.3 } else { y.abs() < 0.65 * (1.0 - x) };
    let found = judged([&arrow, &|x, y| arrow(-x, y)]);
    assert!(matches!(found.verdict, Verdict::Changes { chance, .. } if chance < 1e-3), "{found:?}");
    assert!(found.mirrored < 0.5 && found.accuracy > 0.7, "{found:?}");
    let found = judged([&|x, y| x * x + y * y < 1.0, &|x, y| x.abs() < 0.25 || (y.abs() < 0.25 && x.abs() < 1.0)]);
    assert!(found.flips(), "{found:?}");
}
