//! Images: from a photo to the tensor a network expects.
//!
//! ```text
//! file ── decode ──▶ Image ── crop, resample (pillow or TensorFlow's way) ──▶ normalise ──▶ Tensor
//!                                  └ Preprocess: from metadata, a convention, or the caller
//! ```
//!
//! Decoding image files is the Cargo feature `images`; all else works on pixels from anywhere.

mod conventions;
#[cfg(feature = "images")]
mod decode;
#[cfg(feature = "images")]
mod exif;
mod filter;
mod fingerprint;
mod image;
mod input;
mod pillow;
mod preprocess;
mod resample;
#[cfg(feature = "images")]
mod thumbnail;

pub use conventions::ImageConvention;
pub use filter::Interpolation;
pub use image::Image;
pub use input::ImageInput;
pub use preprocess::{ChannelOrder, Crop, Layout, Preprocess, Resize};
pub use resample::Resampler;
#[cfg(feature = "train")]
pub(crate) use resample::resize;
