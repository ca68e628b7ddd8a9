//! The first frame of a GIF, as Pillow shows it: colours of the palette, transparent ones too; around the frame the transparent colour, or the
//! first one where there is none.

use std::io::Cursor;

use ::gif::{ColorOutput, DecodeOptions, MemoryLimit};
use ::image::RgbImage;
use ::image::metadata::Orientation;

use super::{Decoded, LIMIT};

const COLOUR: usize = 3;

/// The pixels of the first frame.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(LIMIT.try_into().map_err(|_| "no limit of memory")?));
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.next_frame_info().map_err(|e| e.to_string())?.ok_or("a GIF without a frame")?;
    let [left, top, columns, rows] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    // A frame that goes beyond the screen enlarges it.
    let (width, height) = (width.max(left + columns), height.max(top + rows));
    if (width * height * COLOUR) as u64 > LIMIT {
        return Err(format!("{width}x{height} pixels, more than {LIMIT} bytes"));
    }
    let mut indices = vec![0; columns * rows];
    if indices.is_empty() {
        return Err("a GIF with an empty frame".into());
    }
    let (transparent, own) = (frame.transparent, frame.palette.clone());
    decoder.read_into_buffer(&mut indices).map_err(|e| e.to_string())?;
    let palette = palette(own.or(global).as_deref().unwrap_or_default());
    let around = palette[usize::from(transparent.unwrap_or(0))];
    let mut pixels = around.repeat(width * height);
    for (y, row) in indices.chunks_exact(columns).enumerate() {
        let start = ((top + y) * width + left) * COLOUR;
        let to = pixels[start..][..columns * COLOUR].as_chunks_mut::<COLOUR>().0;
        to.iter_mut().zip(row).for_each(|(pixel, index)| *pixel = palette[usize::from(*index)]);
    }
    let size = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    let image = size.and_then(|(width, height)| RgbImage::from_raw(width, height, pixels));
    Ok((image.ok_or("an image without pixels")?.into(), Orientation::NoTransforms))
}

/// The colour of every index, as bytes give them; black beyond these.
fn palette(bytes: &[u8]) -> [[u8; COLOUR]; 256] {
    let mut colours = [[0; COLOUR]; 256];
    colours.iter_mut().zip(bytes.as_chunks::<COLOUR>().0).for_each(|(colour, own)| *colour = *own);
    colours
}
