//! What a checkpoint is made of.

use std::fmt;

/// A value of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Str(String),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A `dict` or `OrderedDict`, in its order. Of duplicate keys the last one counts.
    Dict(Vec<(Value, Value)>),
    /// A tensor or NumPy array.
    Tensor(Tensor),
}

impl Value {
    /// The value under a text key of a dict.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries()?;
        entries.iter().rev().find(|(k, _)| matches!(k, Self::Str(k) if k == key)).map(|(_, value)| value)
    }

    /// A dict's entries.
    #[must_use]
    pub fn entries(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// A list's or tuple's values.
    #[must_use]
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) | Self::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A number, whether integer or not.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A truth value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A tensor.
    #[must_use]
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// What it is, in Python's words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Tensor(_) => "tensor",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// A dense tensor on the host.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Size of each dimension; none for a scalar.
    pub shape: Vec<usize>,
    /// The elements in row-major order, little-endian.
    pub data: Vec<u8>,
}

impl Tensor {
    /// Number of elements, as the shape says.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether no element is infinite or NaN; always true of integers.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        // An exponent of all ones is an infinity or NaN.
        let all = |size: usize, finite: &dyn Fn(&[u8]) -> bool| self.data.chunks_exact(size).all(finite);
        let high = |element: &[u8], mask: u16| {
            let high = element.last_chunk().map_or(0, |two| u16::from_le_bytes(*two));
            high & mask != mask
        };
        match self.dtype {
            Dtype::F16 => all(2, &|element| high(element, 0x7C00)),
            Dtype::BF16 => all(2, &|element| high(element, 0x7F80)),
            Dtype::F32 => all(4, &|element| high(element, 0x7F80)),
            Dtype::F64 => all(8, &|element| high(element, 0x7FF0)),
            _ => true,
        }
    }

    /// The same values in single precision, for a tensor in half precision or bfloat16; any other unchanged.
    #[must_use]
    pub fn widened(&self) -> Self {
        let bits: fn(u16) -> u32 = match self.dtype {
            Dtype::F16 => f32_bits_of_half,
            Dtype::BF16 => |bits| u32::from(bits) << 16,
            _ => return self.clone(),
        };
        let wide = |element: &[u8]| element.first_chunk().map_or(0, |two| bits(u16::from_le_bytes(*two))).to_le_bytes();
        Self { dtype: Dtype::F32, shape: self.shape.clone(), data: self.data.chunks_exact(2).flat_map(wide).collect() }
    }
}

/// IEEE half precision as single precision; every value is exact.
fn f32_bits_of_half(half: u16) -> u32 {
    let (sign, exponent, fraction) = (u32::from(half >> 15) << 31, (half >> 10) & 0x1F, u32::from(half & 0x3FF));
    match exponent {
        0 => sign | (fraction as f32 * 2f32.powi(-24)).to_bits(),
        0x1F => sign | 0x7F80_0000 | fraction << 13,
        _ => sign | (u32::from(exponent) + 112) << 23 | fraction << 13,
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.dtype, self.shape)
    }
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 16-bit integer.
    I16,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    pub(crate) const ALL: [Self; 10] =
        [Self::F16, Self::BF16, Self::F32, Self::F64, Self::U8, Self::I8, Self::I16, Self::I32, Self::I64, Self::Bool];

    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Is it a floating-point type?
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Name in `torch` of the storage class.
    pub(crate) fn storage(self) -> &'static str {
        match self {
            Self::F16 => "HalfStorage",
            Self::BF16 => "BFloat16Storage",
            Self::F32 => "FloatStorage",
            Self::F64 => "DoubleStorage",
            Self::U8 => "ByteStorage",
            Self::I8 => "CharStorage",
            Self::I16 => "ShortStorage",
            Self::I32 => "IntStorage",
            Self::I64 => "LongStorage",
            Self::Bool => "BoolStorage",
        }
    }

    /// NumPy's code without the byte order; it has no bfloat16.
    pub(crate) fn numpy(self) -> Option<&'static str> {
        match self {
            Self::F16 => Some("f2"),
            Self::BF16 => None,
            Self::F32 => Some("f4"),
            Self::F64 => Some("f8"),
            Self::U8 => Some("u1"),
            Self::I8 => Some("i1"),
            Self::I16 => Some("i2"),
            Self::I32 => Some("i4"),
            Self::I64 => Some("i8"),
            Self::Bool => Some("b1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dtype: Dtype, bits: &[u16]) -> Tensor {
        Tensor { dtype, shape: vec![bits.len()], data: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect() }
    }

    #[test]
    fn half_precision_widens_exactly() {
        // By IEEE 754: one, minus two, the largest, the smallest normal and subnormal numbers, zero, infinity.
        let halves = [0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x03FF, 0x0000, 0x8000, 0x7C00];
        let expected =
            [1.0, -2.0, 65504.0, 2f32.powi(-14), 2f32.powi(-24), 1023.0 * 2f32.powi(-24), 0.0, -0.0, f32::INFINITY];
        let wide = tensor(Dtype::F16, &halves).widened();
        assert_eq!(wide.dtype, Dtype::F32);
        assert_eq!(wide.data, expected.iter().flat_map(|x: &f32| x.to_le_bytes()).collect::<Vec<_>>());
        let wide = tensor(Dtype::BF16, &[0x3F80, 0xC000]).widened();
        assert_eq!(wide.data, [1f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    }

    #[test]
    fn infinity_and_nan_are_found_in_every_precision() {
        for (dtype, finite, bad) in [
            (Dtype::F16, 0x7BFF, 0x7C00),
            (Dtype::F16, 0xFBFF, 0xFE01),
            (Dtype::BF16, 0x7F7F, 0x7F80),
            (Dtype::BF16, 0xFF7F, 0xFFC1),
        ] {
            assert!(tensor(dtype, &[0, finite]).is_finite(), "{dtype:?} {finite:#x}");
            assert!(!tensor(dtype, &[0, bad]).is_finite(), "{dtype:?} {bad:#x}");
        }
        let of = |dtype, data: Vec<u8>| Tensor { dtype, shape: vec![], data };
        for (value, finite) in [(f64::MAX, true), (f64::NEG_INFINITY, false), (f64::NAN, false)] {
            assert_eq!(of(Dtype::F64, value.to_le_bytes().into()).is_finite(), finite, "{value}");
            assert_eq!(
                of(Dtype::F32, (value as f32).to_le_bytes().into()).is_finite(),
                finite && value as f32 <= f32::MAX
            );
        }
        assert!(of(Dtype::I64, (-1i64).to_le_bytes().into()).is_finite());
    }
}
