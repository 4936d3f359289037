//! The guest's screen: pictures kept when something changed.
//!
//! QEMU writes a screendump as PPM (no compression to wait for); a picture is kept, as PNG, when any tile
//! differs from the last kept one. Perceptual hashes are too weak on flat screens (findings: a dialog on a
//! plain background vanishes in them), so the comparison is exact, tile by tile.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use crate::image::Sha256Hex;

/// Side of a comparison tile, pixels.
const TILE: usize = 32;

/// The largest picture accepted from QEMU, pixels: 4096 x 4096. The guest chooses its resolution.
const MAX_PIXELS: usize = 4096 * 4096;

/// A picture of 8-bit RGB pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Why bytes are not a picture.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a binary PPM picture of at most {MAX_PIXELS} pixels: {0}")]
pub struct NotAPicture(&'static str);

impl Picture {
    /// Reads QEMU's PPM: `P6`, width, height, 255, then the pixels.
    pub fn from_ppm(bytes: &[u8]) -> Result<Picture, NotAPicture> {
        let mut rest = bytes;
        let mut word = || -> Option<&[u8]> {
            let start = rest.iter().position(|b| !b.is_ascii_whitespace())?;
            let tail = rest.get(start..)?;
            let end = tail.iter().take(12).position(u8::is_ascii_whitespace)?;
            rest = tail.get(end + 1..)?;
            tail.get(..end)
        };
        if word() != Some(b"P6") {
            return Err(NotAPicture("no P6 header"));
        }
        let mut number =
            || word().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse::<usize>().ok());
        let (Some(width), Some(height), Some(255)) = (number(), number(), number()) else {
            return Err(NotAPicture("no size or another depth"));
        };
        if width == 0 || height == 0 || width.checked_mul(height).is_none_or(|n| n > MAX_PIXELS) {
            return Err(NotAPicture("size out of bounds"));
        }
        let rgb = rest.get(..width * height * 3).ok_or(NotAPicture("cut"))?.to_vec();
        Ok(Picture { width, height, rgb })
    }

    /// Reads what a screendump wrote: QEMU's PPM, or the PNG that libvirt asks QEMU 7.1 and newer for.
    pub fn from_screendump(bytes: &[u8]) -> Result<Picture, NotAPicture> {
        if bytes.starts_with(b"\x89PNG") { Picture::from_png(bytes) } else { Picture::from_ppm(bytes) }
    }

    fn from_png(bytes: &[u8]) -> Result<Picture, NotAPicture> {
        let broken = |_| NotAPicture("a broken PNG");
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_limits(png::Limits { bytes: MAX_PIXELS * 4 });
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(broken)?;
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        if width == 0 || height == 0 || width.checked_mul(height).is_none_or(|n| n > MAX_PIXELS) {
            return Err(NotAPicture("size out of bounds"));
        }
        let size = reader.output_buffer_size().ok_or(NotAPicture("size out of bounds"))?;
        let mut pixels = vec![0; size];
        let frame = reader.next_frame(&mut pixels).map_err(broken)?;
        let samples = frame.color_type.samples();
        let rgb: Vec<u8> = match samples {
            3 | 4 => pixels.chunks_exact(samples).filter_map(|p| p.get(..3)).flatten().copied().collect(),
            // Shades of grey, with or without transparency.
            _ => pixels.chunks_exact(samples).filter_map(|p| p.first()).flat_map(|grey| [*grey; 3]).collect(),
        };
        if rgb.len() != width * height * 3 {
            return Err(NotAPicture("cut"));
        }
        Ok(Picture { width, height, rgb })
    }

    /// Share of tiles, 0 to 1, that differ from `before`; 1 when the size changed.
    pub fn changed_since(&self, before: &Picture) -> f32 {
        if (self.width, self.height) != (before.width, before.height) {
            return 1.0;
        }
        let (columns, rows) = (self.width.div_ceil(TILE), self.height.div_ceil(TILE));
        let differs = |column: usize, row: usize| {
            let lines = row * TILE..((row + 1) * TILE).min(self.height);
            let (left, right) = (column * TILE, ((column + 1) * TILE).min(self.width));
            lines.into_iter().any(|y| {
                let range = (y * self.width + left) * 3..(y * self.width + right) * 3;
                self.rgb.get(range.clone()) != before.rgb.get(range)
            })
        };
        let changed = (0..rows)
            .flat_map(|r| (0..columns).map(move |c| (c, r)))
            .filter(|(c, r)| differs(*c, *r))
            .count();
        changed as f32 / (columns * rows) as f32
    }

    /// Whether nothing but black is on it.
    pub fn is_dark(&self) -> bool {
        self.rgb.iter().all(|byte| *byte < 8)
    }

    /// A name for its content.
    pub fn hash(&self) -> Sha256Hex {
        Sha256Hex::of_bytes(&self.rgb)
    }

    /// Writes it as PNG.
    pub fn write_png(&self, path: &Path) -> anyhow::Result<()> {
        let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(width: usize, height: usize, colour: u8) -> Picture {
        Picture { width, height, rgb: vec![colour; width * height * 3] }
    }

    fn ppm(picture: &Picture) -> Vec<u8> {
        let mut bytes = format!("P6\n{} {}\n255\n", picture.width, picture.height).into_bytes();
        bytes.extend(&picture.rgb);
        bytes
    }

    #[test]
    fn one_changed_pixel_changes_one_tile() {
        let before = flat(64, 64, 7);
        let mut after = before.clone();
        assert_eq!(after.changed_since(&before), 0.0);
        after.rgb[0] = 8;
        assert_eq!(after.changed_since(&before), 0.25);
        assert_eq!(flat(65, 64, 7).changed_since(&before), 1.0);
    }

    #[test]
    fn a_picture_survives_png() {
        let mut picture = flat(40, 33, 7);
        picture.rgb[0] = 200;
        let file = tempfile::NamedTempFile::new().unwrap();
        picture.write_png(file.path()).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(Picture::from_screendump(&bytes).unwrap(), picture);
        assert_eq!(Picture::from_screendump(&ppm(&picture)).unwrap(), picture);
        assert!(Picture::from_screendump(&bytes[..bytes.len() / 2]).is_err());
    }

    #[test]
    fn a_picture_survives_ppm_and_becomes_a_png() {
        let picture = flat(33, 5, 200);
        assert_eq!(Picture::from_ppm(&ppm(&picture)), Ok(picture.clone()));
        let file = tempfile::NamedTempFile::new().unwrap();
        picture.write_png(file.path()).unwrap();
        let info =
            png::Decoder::new(std::io::BufReader::new(File::open(file.path()).unwrap())).read_info().unwrap();
        assert_eq!((info.info().width, info.info().height), (33, 5));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_refused_not_believed(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), header in any::<bool>()) {
            if header {
                bytes.splice(0..0, *b"P6 99999999 99999999 255\n");
            }
            let _ = Picture::from_ppm(&bytes);
        }

        #[test]
        fn a_cut_picture_is_refused(cut in 1usize..30) {
            let whole = ppm(&flat(3, 3, 1));
            prop_assert!(Picture::from_ppm(&whole[..whole.len() - cut.min(27)]).is_err());
        }
    }
}
