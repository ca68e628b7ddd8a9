//! Every packing that occurs, against the definition of its layout, there and back.

use super::winograd::{TAPS, Tile};
use super::{Layout, Packing, Transform};

/// What the compiler asks for, and what other elements will.
const PACKINGS: [&str; 28] = [
    "[12] a",
    "[1] A16a",
    "[7] A32a",
    "[0] A16a",
    "[3,5] aB8b",
    "[3,20] aB32b",
    "[1,32,3,9] aBdc16b",
    "[1,18,4,1] aBdc16b",
    "[2,5,7,3] aBdc8b",
    "[3,33,17,4] aBdc16b",
    "[40,37] Ab16a",
    "[33,37] Ab32a",
    "[8,3] Ab8a",
    "[37,40] Ba16b",
    "[5,33] Ba32b",
    "[2,3,20] aCb16c",
    "[19,9] Ab48a",
    "[20,25] bA16a",
    "[2,3,4,5] acdb",
    "[2,3,4,5] cdba",
    "[2,0,4] cba",
    "[6,4] ba",
    "[18,6] AB16a2b",
    "[17,7] BA4b16a2b",
    "[40,5] times 0.5 Ab32a",
    "[20,6] times -4.0 Ba16b",
    "[40,3,25] Acb16:8a",
    "[3,20,4] aBc16:4b",
];

/// Place of the element at `index` by the definition: one digit per loop, outer to inner. Ragged blocks are spelt out.
fn place(text: &str, layout: &Layout, extents: &[usize], index: &[usize]) -> usize {
    let panel = |at: usize, stored: usize| (at / 16 * 16, (stored - at / 16 * 16).min(16), at % 16);
    match (text, index) {
        ("[40,3,25] Acb16:8a", &[a, b, c]) => {
            let (first, width, lane) = panel(a, 40);
            return first * 75 + (c * 3 + b) * width + lane;
        }
        ("[3,20,4] aBc16:4b", &[a, b, c]) => {
            let (first, width, lane) = panel(b, 20);
            return (a * 20 + first) * 4 + c * width + lane;
        }
        _ => {}
    }
    let blocks = layout.blocks().unwrap_or_default();
    let within = |axis: usize, from: usize| -> usize {
        blocks[from..].iter().filter(|(of, _)| *of == axis).map(|(_, size)| size).product()
    };
    let outer = layout.order().iter().map(|axis| {
        let unit = within(*axis, 0);
        (index[*axis] / unit, extents[*axis].div_ceil(unit))
    });
    let inner = blocks.iter().enumerate().map(|(i, (axis, size))| (index[*axis] / within(*axis, i + 1) % size, *size));
    outer.chain(inner).fold(0, |at, (digit, extent)| at * extent + digit)
}

fn parse(text: &str) -> Packing {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn floats(count: usize) -> Vec<f32> {
    (1..=count).map(|i| i as f32 * 0.25 - 3.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn every_element_has_the_place_that_the_text_says() {
    for text in PACKINGS {
        let packing = parse(text);
        let extents = packing.extents().to_vec();
        let count: usize = extents.iter().product();
        let factor = match packing.transform() {
            Transform::Scale(bits) => f32::from_bits(bits),
            _ => 1.0,
        };
        let values = floats(count);
        let mut expected = vec![0.0f32; packing.len()];
        for (i, value) in values.iter().enumerate() {
            let mut rest = i;
            let mut index = vec![0; extents.len()];
            for (axis, extent) in extents.iter().enumerate().rev() {
                (index[axis], rest) = (rest % extent, rest / extent);
            }
            let at = place(text, packing.layout(), &extents, &index);
            assert_eq!(expected[at], 0.0, "{text}: two elements at {at}");
            expected[at] = value * factor;
        }
        let mut packed = vec![0; packing.len() * 4];
        packing.pack(4, &bytes(&values), &mut packed);
        assert_eq!(packed, bytes(&expected), "{text}");
    }
}

#[test]
fn what_was_packed_comes_back() {
    for text in PACKINGS {
        let packing = parse(text);
        let count: usize = packing.extents().iter().product();
        for size in [1, 2, 4, 8] {
            if size != 4 && packing.transform() != Transform::None {
                continue;
            }
            let source: Vec<u8> =
                if size == 4 { bytes(&floats(count)) } else { (0..count * size).map(|i| i as u8).collect() };
            let (mut packed, mut back) = (vec![0; packing.len() * size], vec![0xA5; count * size]);
            packing.pack(size, &source, &mut packed);
            packing.unpack(size, &packed, &mut back);
            assert_eq!(back, source, "{text}, elements of {size} bytes");
        }
    }
}

#[test]
fn filters_come_back_as_well_as_rounding_allows() {
    for tile in [Tile::Two, Tile::Four] {
        let (filters, channels) = (19, 3);
        let layout = Layout::new([0, 2, 1]).ragged(0, 16, 8);
        let packing = Packing::new([filters, channels, TAPS], Transform::Winograd(tile), layout);
        assert_eq!(packing.len(), 24 * channels * tile.positions());
        let values = floats(filters * channels * TAPS);
        let (mut packed, mut back) = (vec![0; packing.len() * 4], vec![0; values.len() * 4]);
        packing.pack(4, &bytes(&values), &mut packed);
        packing.unpack(4, &packed, &mut back);
        for (value, back) in values.iter().zip(back.as_chunks::<4>().0) {
            let back = f32::from_le_bytes(*back);
            assert!((value - back).abs() <= 1e-4, "{packing}: {value} became {back}");
        }
    }
}

#[test]
fn one_element_stands_for_all() {
    let packing = Packing::new([5], Transform::scale(2.0), Layout::row_major(1).block(0, 8));
    let (mut packed, mut back) = (vec![0; 32], vec![0; 4]);
    packing.pack(4, &bytes(&[1.5]), &mut packed);
    assert_eq!(packed, bytes(&[3.0, 3.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0]));
    packing.unpack(4, &packed, &mut back);
    assert_eq!(back, bytes(&[1.5]));
}

#[test]
fn texts_read_back() {
    for text in PACKINGS.into_iter().chain(["[64,64,9] winograd 4x4 Acb16:8a", "[8,4,9] winograd 2x2 Acb16:8a"]) {
        assert_eq!(parse(text).to_string(), text);
    }
    assert_eq!(Layout::channels_last(4).to_string(), "acdb");
    assert_eq!(Layout::channels_last(2).to_string(), "ab");
}

#[test]
fn other_texts_are_refused() {
    for (text, word) in [
        ("", "extents"),
        ("[3] b", "every axis once"),
        ("[3,x] ab", "extents"),
        ("[3] ab", "as many extents"),
        ("[3] a16a", "a layout"),
        ("[3] A16", "a layout"),
        ("[3] A16b", "a block of an axis"),
        ("[3] A16:0a", "a block of an axis"),
        ("[3] A16:5a", "a block of an axis"),
        ("[3] A2a16:8a", "a layout"),
        ("[3] times x a", "a factor"),
        ("[3,8] winograd 4x4 ab", "9 taps"),
        ("[3,9] winograd 3x3 ab", "2x2 or 4x4"),
        ("[3] twice a", "perhaps `times`"),
    ] {
        let error = text.parse::<Packing>().map(|packing| packing.to_string()).unwrap_err();
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}
