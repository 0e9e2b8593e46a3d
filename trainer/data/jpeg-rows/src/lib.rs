//! Decodes a part of a JPEG image, at full or reduced size, through libjpeg-turbo.
//!
//! The crate `turbojpeg` builds and links the library and wraps it safely, but its wrapper has no cropping region
//! (`tj3SetCroppingRegion`), and so this crate calls the same C functions itself. They catch libjpeg's own errors
//! (`setjmp`) before they return, so that nothing jumps or unwinds through Rust.
//!
//! ```no_run
//! use simsiam_jpeg::{Jpeg, Region, Request, Scale};
//!
//! let bytes = std::fs::read("photo.jpg")?;
//! let jpeg = Jpeg::open(&bytes, 100)?;
//! let (width, height) = (jpeg.header().width.div_ceil(2), 16);
//! let region = Some(Region { left: 0, top: 0, width, height });
//! let mut pixels = vec![0; width * height * 3];
//! jpeg.decode(&Request { region, scale: Scale::Half, ..Request::default() }, &mut pixels)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use turbojpeg::raw;

/// What libjpeg-turbo said of a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library's message. After a warning all pixels are there, though some may be wrong.
    #[error("{message}")]
    Library {
        /// As the library words it.
        message: String,
        /// Whether decoding continued to the end.
        warning: bool,
    },
    /// The region is outside the image, or the buffer is too small for it.
    #[error("{what} (image {width}x{height})")]
    Request {
        /// What is wrong with the request.
        what: &'static str,
        /// The scaled image's width.
        width: usize,
        /// The scaled image's height.
        height: usize,
    },
}

impl Error {
    /// Whether the library only warned and continued: every pixel is there, as Pillow shows it too.
    ///
    /// The library keeps the first warning alone, so the file's end must be checked apart from this; and it says
    /// "warning" of a fatal error that follows one, so the message decides.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        const WARNINGS: [&str; 5] = [
            "Corrupt JPEG data",
            "Unknown Adobe color transform code",
            "Invalid SOS parameters",
            "Inconsistent progression",
            "unknown JFIF revision number",
        ];
        let Self::Library { message, warning: true } = self else { return false };
        WARNINGS.iter().any(|warning| message.contains(warning))
    }

    /// Whether the library only warned that the file ended before its end mark.
    #[must_use]
    pub fn is_premature_end(&self) -> bool {
        matches!(self, Self::Library { message, warning: true } if message.contains("Premature end of JPEG file"))
    }
}

/// How many times smaller than the file's the decoded image is, by a smaller inverse transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Full size.
    #[default]
    One,
    /// Half the width and height.
    Half,
    /// A quarter.
    Quarter,
    /// An eighth: one pixel for each block.
    Eighth,
}

impl Scale {
    /// The divisor of width and height.
    #[must_use]
    pub fn divisor(self) -> usize {
        match self {
            Self::One => 1,
            Self::Half => 2,
            Self::Quarter => 4,
            Self::Eighth => 8,
        }
    }
}

/// A file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Width in pixels at full size.
    pub width: usize,
    /// Height in pixels at full size.
    pub height: usize,
    /// Whether the file holds four inks, CMYK or YCCK.
    pub inks: bool,
    /// Width in pixels of the smallest unit that is decoded at once; none where only whole images can be decoded.
    pub unit: Option<usize>,
}

/// A rectangle of the scaled image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Leftmost column; a multiple of [`Header::unit`] divided by the scale's divisor.
    pub left: usize,
    /// Topmost row.
    pub top: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

/// What to decode, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// The part to decode; none is the whole image.
    pub region: Option<Region>,
    /// Full or reduced size.
    pub scale: Scale,
    /// Repeats colour samples where the file has fewer than pixels, rather than interpolating between them.
    pub plain_upsampling: bool,
    /// Four inks a pixel instead of red, green and blue.
    pub inks: bool,
}

/// A TurboJPEG instance.
#[derive(Debug)]
struct Handle(NonNull<std::ffi::c_void>);

// SAFETY: an instance has no ties to the thread that made it, and `Handle` is not `Sync` or `Clone`, so that only one
// thread at a time uses it.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the instance is live and is destroyed once, here.
        unsafe { raw::tj3Destroy(self.0.as_ptr()) }
    }
}

impl Handle {
    fn new() -> Result<Self, Error> {
        // SAFETY: takes no pointer; null is checked below.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as c_int) };
        NonNull::new(handle)
            .map(Self)
            .ok_or_else(|| Error::Library { message: "cannot make a decoder".to_owned(), warning: false })
    }

    fn check(&self, status: c_int) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the instance is live; the message is NUL-terminated and stays until the instance's next call, which
        // comes after the copy.
        let (message, code) = unsafe {
            let text = CStr::from_ptr(raw::tj3GetErrorStr(self.0.as_ptr()));
            (text.to_string_lossy().into_owned(), raw::tj3GetErrorCode(self.0.as_ptr()))
        };
        Err(Error::Library { message, warning: code == raw::TJERR_TJERR_WARNING as c_int })
    }

    fn set(&mut self, parameter: raw::TJPARAM, value: c_int) -> Result<(), Error> {
        // SAFETY: the instance is live; the library checks the parameter and its value.
        let status = unsafe { raw::tj3Set(self.0.as_ptr(), parameter as c_int, value) };
        self.check(status)
    }

    fn get(&self, parameter: raw::TJPARAM) -> c_int {
        // SAFETY: the instance is live; an unknown parameter gives -1.
        unsafe { raw::tj3Get(self.0.as_ptr(), parameter as c_int) }
    }
}

/// A JPEG file in memory whose header has been read.
#[derive(Debug)]
pub struct Jpeg<'a> {
    handle: Handle,
    bytes: &'a [u8],
    header: Header,
}

impl<'a> Jpeg<'a> {
    /// Reads the header of `bytes`. A progressive file with more than `max_scans` scans will not decode.
    ///
    /// # Errors
    /// [`Error::Library`] when there is no readable header.
    pub fn open(bytes: &'a [u8], max_scans: u32) -> Result<Self, Error> {
        let mut handle = Handle::new()?;
        handle.set(raw::TJPARAM_TJPARAM_SCANLIMIT, c_int::try_from(max_scans).unwrap_or(c_int::MAX))?;
        // SAFETY: the instance is live; the pointer and the length are those of `bytes`.
        let status = unsafe { raw::tj3DecompressHeader(handle.0.as_ptr(), bytes.as_ptr(), bytes.len() as raw::size_t) };
        // What is odd about a header (a revision, an ICC profile, junk between segments) changes no pixel.
        handle.check(status).or_else(|error| if error.is_recoverable() { Ok(()) } else { Err(error) })?;
        let size = |parameter| usize::try_from(handle.get(parameter)).unwrap_or(0);
        let colours = handle.get(raw::TJPARAM_TJPARAM_COLORSPACE);
        let whole = handle.get(raw::TJPARAM_TJPARAM_LOSSLESS) != 0;
        let header = Header {
            width: size(raw::TJPARAM_TJPARAM_JPEGWIDTH),
            height: size(raw::TJPARAM_TJPARAM_JPEGHEIGHT),
            inks: [raw::TJCS_TJCS_CMYK, raw::TJCS_TJCS_YCCK].iter().any(|inks| *inks as c_int == colours),
            unit: unit(handle.get(raw::TJPARAM_TJPARAM_SUBSAMP)).filter(|_| !whole),
        };
        Ok(Self { handle, bytes, header })
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Decodes into `pixels`, row by row from the top without padding: three bytes a pixel, or four inks.
    ///
    /// Rows and columns next to a region's edge take part in the interpolation of colours but are not in the region's
    /// pixels; those at its left and right edge may differ from the whole image's by that.
    ///
    /// # Errors
    /// [`Error::Request`] for a region that is empty or outside, or a buffer of another size; [`Error::Library`] for
    /// what the library finds, also where it only warns.
    pub fn decode(mut self, request: &Request, pixels: &mut [u8]) -> Result<(), Error> {
        let divisor = request.scale.divisor();
        let (width, height) = (self.header.width.div_ceil(divisor), self.header.height.div_ceil(divisor));
        let refused = |what| Error::Request { what, width, height };
        let region = request.region.unwrap_or(Region { left: 0, top: 0, width, height });
        let fits =
            |start: usize, count: usize, all| count > 0 && start.checked_add(count).is_some_and(|end| end <= all);
        if !fits(region.left, region.width, width) || !fits(region.top, region.height, height) {
            return Err(refused("the region is empty or reaches outside"));
        }
        let channels = if request.inks { 4 } else { 3 };
        let bytes = region.width.checked_mul(region.height).and_then(|count| count.checked_mul(channels));
        if bytes != Some(pixels.len()) {
            return Err(refused("the buffer does not match the region"));
        }
        self.handle.set(raw::TJPARAM_TJPARAM_FASTUPSAMPLE, c_int::from(request.plain_upsampling))?;
        let factor = raw::tjscalingfactor { num: 1, denom: divisor as c_int };
        // SAFETY: the instance is live; the library checks the factor.
        let status = unsafe { raw::tj3SetScalingFactor(self.handle.0.as_ptr(), factor) };
        self.handle.check(status)?;
        if request.region.is_some() {
            let part = |value: usize| c_int::try_from(value).unwrap_or(-1);
            let region = raw::tjregion {
                x: part(region.left),
                y: part(region.top),
                w: part(region.width),
                h: part(region.height),
            };
            // SAFETY: the instance is live; the library checks the region.
            let status = unsafe { raw::tj3SetCroppingRegion(self.handle.0.as_ptr(), region) };
            self.handle.check(status)?;
        }
        let format = if request.inks { raw::TJPF_TJPF_CMYK } else { raw::TJPF_TJPF_RGB };
        // SAFETY: the instance is live and `bytes` are those whose header it read. It writes the region's rows, or the
        // whole scaled image's, of `width * channels` bytes each (a pitch of 0), and `pixels` has room for all of them:
        // the sizes come from the same header, for neither `bytes` nor the scale has changed since.
        let status = unsafe {
            raw::tj3Decompress8(
                self.handle.0.as_ptr(),
                self.bytes.as_ptr(),
                self.bytes.len() as raw::size_t,
                pixels.as_mut_ptr(),
                0,
                format as c_int,
            )
        };
        self.handle.check(status)
    }
}

/// Width of the unit by the kind of subsampling, as the library's `tjMCUWidth` has it.
fn unit(subsampling: c_int) -> Option<usize> {
    let widths = [
        (raw::TJSAMP_TJSAMP_444, 8),
        (raw::TJSAMP_TJSAMP_422, 16),
        (raw::TJSAMP_TJSAMP_420, 16),
        (raw::TJSAMP_TJSAMP_GRAY, 8),
        (raw::TJSAMP_TJSAMP_440, 8),
        (raw::TJSAMP_TJSAMP_411, 32),
        (raw::TJSAMP_TJSAMP_441, 8),
    ];
    widths.iter().find(|(kind, _)| *kind as c_int == subsampling).map(|(_, width)| *width)
}
