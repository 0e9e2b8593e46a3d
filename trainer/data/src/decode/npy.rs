//! Arrays of NumPy (`.npy`), `[height, width]` or `[height, width, channels]`.
//!
//! The format is that of `numpy/lib/format.py`, versions 1 to 3: a mark, the length of a header, the header as a Python
//! dict of `descr`, `fortran_order` and `shape`, then the values. The header is read here: of the crates that do, each
//! brings a parser of all Python literals and an array type.

use super::format::Format;
use super::refusal::Refusal;
use super::samples::{Colour, Samples, Values, check_samples};
use crate::image::{MAX_CHANNELS, RGB};

/// The first bytes of every file.
pub(super) const MARK: &[u8] = b"\x93NUMPY";

#[derive(Debug, Default)]
pub(super) struct NpyDecoder;

impl Format for NpyDecoder {
    /// Bytes after the last value are ignored, as NumPy ignores them.
    fn samples(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), Refusal> {
        let Header { descr, fortran, shape, data } = header(bytes).ok_or_else(|| broken("its header is damaged"))??;
        let (height, width, channels) = match shape[..] {
            [height, width] => (height, width, 1),
            [height, width, channels] if (1..=MAX_CHANNELS).contains(&channels) => (height, width, channels),
            _ => {
                return Err(broken(&format!(
                    "its shape is {shape:?}; expected [height, width] or [height, width, channels] with 1 to {MAX_CHANNELS} channels"
                )));
            }
        };
        let type_size = descr.get(2..).and_then(|size| size.parse::<usize>().ok()).unwrap_or(1);
        check_samples(width, height, channels, type_size)?;
        let length = width * height * channels * type_size;
        let Some(data) = data.get(..length) else {
            return Err(broken(&format!("it has {} bytes of values instead of {length}", data.len())));
        };
        let places = Places { height, width, channels, fortran };
        let mut levels = samples.values.take_bytes();
        let values = match descr {
            "|u1" | "<u1" | ">u1" => {
                levels.extend_from_slice(data);
                Values::U8(places.in_c_order(levels))
            }
            "<u2" => Values::U16(places.read(data, u16::from_le_bytes)),
            ">u2" => Values::U16(places.read(data, u16::from_be_bytes)),
            "<i2" => Values::I16(places.read(data, i16::from_le_bytes)),
            ">i2" => Values::I16(places.read(data, i16::from_be_bytes)),
            "<u4" => Values::U32(places.read(data, u32::from_le_bytes)),
            ">u4" => Values::U32(places.read(data, u32::from_be_bytes)),
            "<i4" => Values::I32(places.read(data, i32::from_le_bytes)),
            ">i4" => Values::I32(places.read(data, i32::from_be_bytes)),
            "<f4" => Values::F32(places.read(data, f32::from_le_bytes)),
            ">f4" => Values::F32(places.read(data, f32::from_be_bytes)),
            "<f8" => Values::F64(places.read(data, f64::from_le_bytes)),
            ">f8" => Values::F64(places.read(data, f64::from_be_bytes)),
            other => {
                return Err(broken(&format!(
                    "its type is {other:?}; expected u1, u2, u4, i2, i4, f4 or f8: convert it by array.astype"
                )));
            }
        };
        let colour = match channels {
            1 => Colour::Gray,
            RGB => Colour::Rgb,
            _ => Colour::Bands,
        };
        *samples = Samples { width, height, channels, colour, values, ..Samples::default() };
        Ok(())
    }
}

fn broken(reason: &str) -> Refusal {
    Refusal::Broken(reason.to_owned())
}

/// What a file's header says.
struct Header<'a> {
    /// Byte order and type, such as `<f4`.
    descr: &'a str,
    /// Whether the first index changes fastest.
    fortran: bool,
    shape: Vec<usize>,
    /// All after the header.
    data: &'a [u8],
}

/// The header; `None` where it is not as NumPy writes it.
fn header(bytes: &[u8]) -> Option<Result<Header<'_>, Refusal>> {
    let (version, rest) = bytes.strip_prefix(MARK)?.split_first_chunk::<2>()?;
    let (length, rest) = match version {
        [1, _] => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        [2 | 3, _] => {
            let (length, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        [major, minor] => return Some(Err(broken(&format!("it is of version {major}.{minor}; expected 1 to 3")))),
    };
    let (text, data) = rest.split_at_checked(length)?;
    let text = std::str::from_utf8(text).ok()?;
    let descr = value_of(text, "descr")?;
    if descr.starts_with('[') {
        return Some(Err(broken("its values are records; expected an array of numbers")));
    }
    let descr = descr.strip_prefix('\'')?.split_once('\'')?.0;
    let fortran = match value_of(text, "fortran_order")? {
        value if value.starts_with("True") => true,
        value if value.starts_with("False") => false,
        _ => return None,
    };
    let (sizes, _) = value_of(text, "shape")?.strip_prefix('(')?.split_once(')')?;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.trim_end_matches('L').parse().ok()).collect::<Option<Vec<usize>>>()?;
    Some(Ok(Header { descr, fortran, shape, data }))
}

/// What follows `'key':` in the text of a dict.
fn value_of<'a>(dict: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = dict.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// Where an array's values are.
struct Places {
    height: usize,
    width: usize,
    channels: usize,
    /// Whether the row changes fastest, then the column, instead of the channel.
    fortran: bool,
}

impl Places {
    /// Values of `N` bytes each, with those of a pixel together and rows from the top.
    fn read<T: Copy, const N: usize>(&self, data: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = data.as_chunks::<N>();
        self.in_c_order(chunks.iter().map(|bytes| value(*bytes)).collect())
    }

    fn in_c_order<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        let &Self { height, width, channels, fortran } = self;
        if !fortran {
            return values;
        }
        let at = |y: usize, x: usize, channel: usize| values[y + height * (x + width * channel)];
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        pixels
            .flat_map(|(y, x)| (0..channels).map(move |channel| (y, x, channel)))
            .map(|(y, x, c)| at(y, x, c))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of version `major`.
    fn file(major: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let length = header.len();
        let length =
            if major == 1 { (length as u16).to_le_bytes().to_vec() } else { (length as u32).to_le_bytes().to_vec() };
        [MARK, &[major, 0], &length, header.as_bytes(), data].concat()
    }

    fn dict(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}    \n")
    }

    fn read(bytes: &[u8]) -> Result<Samples, String> {
        let mut samples = Samples::default();
        match NpyDecoder.samples(bytes, &mut samples) {
            Ok(()) => Ok(samples),
            Err(Refusal::Broken(reason)) => Err(reason),
            Err(Refusal::TooLarge { width, height }) => Err(format!("{width}x{height} is too large")),
        }
    }

    fn doubles(samples: &Samples) -> Vec<f64> {
        match &samples.values {
            Values::U8(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::U16(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::I16(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::U32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::I32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Values::F64(v) => v.clone(),
        }
    }

    #[test]
    fn values_of_each_type_and_byte_order_are_read() {
        let numbers = [1.0f64, 2.0, 3.0, 100.0];
        let little: [(&str, Vec<u8>); 6] = [
            ("u2", numbers.iter().flat_map(|n| (*n as u16).to_le_bytes()).collect()),
            ("i2", numbers.iter().flat_map(|n| (*n as i16).to_le_bytes()).collect()),
            ("u4", numbers.iter().flat_map(|n| (*n as u32).to_le_bytes()).collect()),
            ("i4", numbers.iter().flat_map(|n| (*n as i32).to_le_bytes()).collect()),
            ("f4", numbers.iter().flat_map(|n| (*n as f32).to_le_bytes()).collect()),
            ("f8", numbers.iter().flat_map(|n| n.to_le_bytes()).collect()),
        ];
        for (kind, data) in little {
            let size = kind[1..].parse().unwrap();
            let big: Vec<u8> = data.chunks_exact(size).flat_map(|value| value.iter().rev().copied()).collect();
            for (order, data) in [("<", data), (">", big)] {
                let samples = read(&file(1, &dict(&format!("{order}{kind}"), "False", "(2, 2)"), &data)).unwrap();
                assert_eq!(doubles(&samples), numbers, "{order}{kind}");
                assert_eq!((samples.width, samples.height, samples.channels), (2, 2, 1));
                assert_eq!(samples.colour, Colour::Gray);
            }
        }
        for major in [1, 2, 3] {
            let samples = read(&file(major, &dict("|u1", "False", "(1, 1, 3)"), &[7, 8, 9, 0])).unwrap();
            assert_eq!((doubles(&samples), samples.colour), (vec![7.0, 8.0, 9.0], Colour::Rgb));
        }
    }

    /// Row 2y, column 3x, channel 5c in a different place each.
    #[test]
    fn fortran_order_is_transposed() {
        let (height, width, channels) = (2, 3, 5);
        let value = |y: usize, x: usize, c: usize| (100 * y + 10 * x + c) as u8;
        let mut data = Vec::new();
        for c in 0..channels {
            for x in 0..width {
                data.extend((0..height).map(|y| value(y, x, c)));
            }
        }
        let samples = read(&file(1, &dict("|u1", "True", "(2, 3, 5)"), &data)).unwrap();
        let mut expected = Vec::new();
        for y in 0..height {
            for x in 0..width {
                expected.extend((0..channels).map(|c| f64::from(value(y, x, c))));
            }
        }
        assert_eq!(doubles(&samples), expected);
        assert_eq!((samples.width, samples.height, samples.colour), (3, 2, Colour::Bands));
    }

    #[test]
    fn array_that_is_no_image_is_refused() {
        let refusal = |header: &str, data: &[u8]| read(&file(1, header, data)).unwrap_err();
        for (descr, shape, why) in [
            ("|u1", "(4,)", "its shape is [4]; expected [height, width]"),
            ("|u1", "(1, 1, 1, 4)", "its shape is [1, 1, 1, 4]"),
            ("|u1", "(1, 1, 33)", "1 to 32 channels"),
            ("|u1", "(0, 4)", "its size is 4x0"),
            ("|u1", "(99999, 99999)", "too large"),
            ("|u1", "(2, 3)", "it has 4 bytes of values instead of 6"),
            ("<f8", "(1, 1)", "it has 4 bytes of values instead of 8"),
            ("<i8", "(1, 0)", "its size is 0x1"),
            ("<c8", "(1, 1)", "it has 4 bytes of values instead of 8"),
            ("|b1", "(2, 2)", "its type is \"|b1\"; expected u1"),
            ("<U1", "(2, 2)", "its type is \"<U1\""),
            ("|O", "(2, 2)", "its type is \"|O\""),
            ("|u1", "(2, -2)", "header is damaged"),
            ("|u1", "(99999999999999999999, 1)", "header is damaged"),
        ] {
            let message = refusal(&dict(descr, "False", shape), &[0; 4]);
            assert!(message.contains(why), "{descr} {shape}: {message}");
        }
        let records = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1), }\n";
        assert!(refusal(records, &[0; 4]).contains("records"));
        assert!(refusal("{'descr': '|u1', 'shape': (1, 1), }", &[0]).contains("header is damaged"));
        assert!(read(&file(9, &dict("|u1", "False", "(2, 2)"), &[0; 4])).unwrap_err().contains("version 9.0"));
        let whole = file(1, &dict("|u1", "False", "(2, 2)"), &[0; 4]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
