use super::*;

/// Heights, widths and patterns of the photos below.
const PHOTOS: [(usize, usize, &str); 5] =
    [(23, 17, "rough"), (40, 31, "smooth"), (5, 9, "flat"), (1, 1, "rough"), (64, 2, "smooth")];

fn photo((height, width, pattern): (usize, usize, &str)) -> Pixels {
    let value = |i: usize| {
        let (pixel, channel) = (i / 3, i % 3);
        match pattern {
            "rough" => (i * i * 31 + i * 7 + 11) % 251,
            "smooth" => 40 + (pixel / width * 5 + pixel % width * 3 + channel * 20) % 150,
            _ => 77,
        }
    };
    Pixels { size: (height, width), values: (0..height * width * 3).map(|i| value(i) as u8).collect() }
}

fn named(name: &str, photo: &Pixels) -> Pixels {
    match name {
        "shear_x" => photo.affine([1.0, 0.09, 0.0, 0.0, 1.0, 0.0]),
        "shear_x_neg" => photo.affine([1.0, -0.09, 0.0, 0.0, 1.0, 0.0]),
        "shear_y" => photo.affine([1.0, 0.0, 0.0, 0.09, 1.0, 0.0]),
        "translate_x" => photo.affine([1.0, 0.0, -3.0, 0.0, 1.0, 0.0]),
        "translate_y" => photo.affine([1.0, 0.0, 0.0, 0.0, 1.0, 2.0]),
        "rotate" => photo.rotate(9.0),
        "rotate_neg" => photo.rotate(-9.0),
        "rotate_far" => photo.rotate(28.0),
        "brightness" => photo.brightness(1.27),
        "darker" => photo.brightness(0.73),
        "color" => photo.color(1.27),
        "grayer" => photo.color(0.73),
        "contrast" => photo.contrast(1.27),
        "flatter" => photo.contrast(0.73),
        "sharpness" => photo.sharpness(1.27),
        "blurred" => photo.sharpness(0.73),
        "posterize" => photo.posterize(7),
        "posterize4" => photo.posterize(4),
        "solarize" => photo.solarize(178.5),
        "autocontrast" => photo.autocontrast(),
        _ => photo.equalize(),
    }
}

/// The lower half of xxh3 of what Pillow 13.0 makes of each photo: `Image.transform(AFFINE, NEAREST)`, `Image.rotate`, `ImageEnhance`,
/// `ImageOps`.
#[rustfmt::skip]
const PILLOW: [(&str, [u32; 5]); 21] = [
    ("shear_x", [0x9e491a6c, 0x0507dd41, 0x982ac9fb, 0x47bf8375, 0xb05df2bb]),
    ("shear_x_neg", [0xb01ca494, 0xaa51e03c, 0x982ac9fb, 0x47bf8375, 0x3f3ac1b2]),
    ("shear_y", [0x69b31367, 0xcf2667c7, 0xce7bb7bc, 0x47bf8375, 0x8272ee4f]),
    ("translate_x", [0x2b620750, 0x3420bee0, 0x5ef325f4, 0xb22f286b, 0xf8980617]),
    ("translate_y", [0x610c629c, 0x9b29c93b, 0x8ea2674a, 0xb22f286b, 0x887f1720]),
    ("rotate", [0x6e390de7, 0x8133326f, 0xe6b80fd6, 0x47bf8375, 0x2542813d]),
    ("rotate_neg", [0x3f617473, 0x904ef754, 0x2656b651, 0x47bf8375, 0x4d0b054f]),
    ("rotate_far", [0xdcf21a84, 0xc1c782e7, 0xc60d12a1, 0x47bf8375, 0x42483124]),
    ("brightness", [0xda50e61f, 0xd7c828ff, 0xdce882f3, 0x9de48ec7, 0xd17e801e]),
    ("darker", [0x23cbae79, 0x600638f6, 0x4939f7e4, 0xd1bcd823, 0xc78c5201]),
    ("color", [0xb4aee041, 0xe3832bcb, 0x982ac9fb, 0x9f54f2f9, 0x10df2e58]),
    ("grayer", [0x011b7d83, 0xec0919ca, 0x982ac9fb, 0x397ffb96, 0x1a4c4bee]),
    ("contrast", [0x9bae42e0, 0xbc90d65a, 0x982ac9fb, 0x9f54f2f9, 0xa558a7a3]),
    ("flatter", [0x75bfc984, 0x6d85c968, 0x982ac9fb, 0x397ffb96, 0x5eb969ca]),
    ("sharpness", [0xd67d194b, 0x504c022e, 0x982ac9fb, 0x47bf8375, 0x8272ee4f]),
    ("blurred", [0x1fd63ffd, 0xdc68edc5, 0x982ac9fb, 0x47bf8375, 0x8272ee4f]),
    ("posterize", [0x72d0b72b, 0xf451e14e, 0xe23c18a0, 0x013a2571, 0xcc6b5dbd]),
    ("posterize4", [0x8047b8c2, 0xaf743446, 0x716e8cb7, 0xb6c218f2, 0x1f36636f]),
    ("solarize", [0x19244054, 0x7e54f199, 0x982ac9fb, 0x47bf8375, 0xff05ddde]),
    ("autocontrast", [0x7afdaeec, 0x59ef6228, 0x982ac9fb, 0x47bf8375, 0xd4c1008b]),
    ("equalize", [0x43064249, 0xd488d08c, 0x982ac9fb, 0x47bf8375, 0x8272ee4f]),
];

#[test]
fn operations_are_pillows() {
    for (name, expected) in PILLOW {
        for (about, expected) in PHOTOS.into_iter().zip(expected) {
            let found = named(name, &photo(about));
            assert_eq!(xxhash_rust::xxh3::xxh3_64(&found.values) as u32, expected, "{name} of {about:?}");
        }
    }
}

#[test]
fn the_smallest_photos_are_fine() {
    for size in [(1, 3, "rough"), (3, 1, "rough"), (2, 2, "flat")] {
        for (name, _) in PILLOW {
            assert_eq!(named(name, &photo(size)).values.len(), size.0 * size.1 * 3, "{name}");
        }
    }
}
