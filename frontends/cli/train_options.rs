//! The options that say how photos are read.

use clap::Args;
use fornax::train::dataset::Photo;
use fornax::train::photos::{BadImages, Photos};
use fornax::{Error, Preprocess, Result};

use crate::output::Output;
use crate::progress;

/// How photos are read.
#[derive(Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoArgs {
    /// What to do about photos that cannot be read: refuse, or skip them; both list them.
    #[arg(long, value_name = "NAME", default_value = "refuse", value_parser = bad_images)]
    bad_images: BadImages,
    /// Bytes of decoded photos to keep, such as 512MiB; what does not fit is read again when it is needed.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    photo_cache: u64,
    /// Threads; all processors by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl PhotoArgs {
    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(fornax::runtime::available_threads, usize::from)
    }

    /// Decodes photos, and says which are left out.
    pub fn load(&self, photos: Vec<Photo>, preprocess: &Preprocess, out: &Output<'_>) -> Result<Photos> {
        let what = format!("reading {} photos", photos.len());
        let load = || Photos::load(photos, preprocess, self.bad_images, self.photo_cache, self.threads());
        let photos = progress::during(&what, load)?;
        photos.skipped.iter().for_each(|(_, why)| out.warn(&format!("left out: {why}")));
        if photos.is_empty() {
            return Err(Error::usage("photos", "at least one that can be read", "none"));
        }
        Ok(photos)
    }
}

fn bad_images(text: &str) -> Result<BadImages, String> {
    match text {
        "refuse" => Ok(BadImages::Refuse),
        "skip" => Ok(BadImages::Skip),
        _ => Err("expected refuse or skip".into()),
    }
}

/// A number of bytes: `300000000`, `64MiB`, `2GB`.
pub fn size(text: &str) -> Result<u64, String> {
    let units =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let unit = units.iter().find(|(name, _)| text.ends_with(name));
    let (number, factor) = unit.map_or((text, 1), |(name, factor)| (&text[..text.len() - name.len()], *factor));
    let bytes = number.trim().parse::<f64>().ok().map(|n| n * factor as f64).filter(|n| *n >= 0.0 && *n < 1e18);
    bytes.map(|n| n as u64).ok_or_else(|| "expected a number of bytes such as 300000000, 64MiB or 2GB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(["7", "1.5KiB", "2 GB", "1GiB"].map(size), [Ok(7), Ok(1536), Ok(2_000_000_000), Ok(1 << 30)]);
        assert!(["", "MiB", "-1", "1e30", "inf", "nan", "3 bytes"].into_iter().all(|text| size(text).is_err()));
    }
}
