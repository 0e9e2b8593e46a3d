//! DICOM (PS3.10 files), the first frame: uncompressed, run-length encoded or baseline JPEG.
//!
//! Values are those after the rescale slope and intercept: Hounsfield units in computed tomography. Black and white are
//! the ends of the file's first window, or else of the range that the stored bits can hold. `elements.rs` reads the data
//! set, by crates of dicom-rs; the pixels are decoded here, since the crate for them decodes every frame and takes memory
//! by what a header says.

mod elements;
mod pixels;
mod rle;
mod unsupported;

use dicom_dictionary_std::tags;

use super::format::Format;
use super::jpeg::JpegDecoder;
use super::refusal::{Refusal, check_size};
use super::samples::{Colour, Samples, Values};
use super::ycbcr;
use elements::{Dataset, syntax};
use pixels::Layout;
use unsupported::unsupported;

/// Reads DICOM files; JPEG frames by the decoder of JPEG files.
#[derive(Debug, Default)]
pub(super) struct DicomDecoder {
    jpeg: JpegDecoder,
}

impl Format for DicomDecoder {
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let dataset = Dataset::read(bytes)?;
        let layout = Layout::of(&dataset)?;
        let photometric = dataset.text(tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
        check_size(layout.width, layout.height)?;
        let (colour, inverted) = match (photometric.as_str(), layout.channels) {
            ("MONOCHROME1", 1) => (Colour::Gray, true),
            ("MONOCHROME2", 1) => (Colour::Gray, false),
            ("RGB" | "YBR_FULL" | "YBR_FULL_422", 3) => (Colour::Rgb, false),
            (other, channels) => return Err(unsupported(&format!("{channels} samples of {other:?}"))),
        };
        if dataset.syntax == syntax::JPEG_BASELINE {
            let frame = dataset.frame.concat();
            self.jpeg.samples(&frame, samples)?;
            if (samples.width, samples.height) != (layout.width, layout.height) {
                let Layout { width, height, .. } = layout;
                let reason = format!("its frame has {}x{} pixels, not {width}x{height}", samples.width, samples.height);
                return Err(Refusal::Broken(format!("DICOM: {reason}")));
            }
            samples.inverted = inverted;
            return Ok(());
        }
        let unpacked;
        let (frame, big_endian) = match dataset.syntax {
            syntax::RLE => {
                unpacked = rle::unpack(&dataset.frame.concat(), &layout)?;
                (&unpacked[..], false)
            }
            syntax => (dataset.frame.first().copied().unwrap_or_default(), syntax == syntax::BIG_ENDIAN),
        };
        let (mut values, stored) = layout.values(frame, big_endian)?;
        let mut limits = None;
        match &mut values {
            Values::U8(pixels) if photometric.starts_with("YBR") => ycbcr::to_rgb(pixels),
            _ if photometric.starts_with("YBR") => return Err(unsupported("YCbCr of more than 8 bits")),
            Values::U8(_) => {}
            wide => {
                let (slope, intercept) = dataset.rescale();
                limits = Some(dataset.window().unwrap_or_else(|| ordered(stored.map(|v| v * slope + intercept))));
                if (slope, intercept) != (1.0, 0.0) {
                    *wide = wide.rescaled(slope, intercept);
                }
            }
        }
        let Layout { width, height, channels, .. } = layout;
        *samples = Samples { width, height, channels, colour, limits, inverted, values };
        Ok(())
    }
}

/// A negative slope turns a range around.
fn ordered([a, b]: [f64; 2]) -> (f64, f64) {
    (a.min(b), a.max(b))
}
