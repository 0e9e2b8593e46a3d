//! Pickles as we write them.

use crate::error::Error;
use crate::limits;
use crate::value::{Tensor, Value};

/// The pickle of a `torch.save` file, protocol 2, and the bytes of its storages in the order of their keys.
pub(crate) fn with_storages(value: &Value) -> Result<(Vec<u8>, Vec<&[u8]>), Error> {
    let mut storages = Vec::new();
    let pickle = pickled(2, value, &mut |pickle, tensor| {
        pickle.storage(tensor, storages.len())?;
        storages.push(tensor.data.as_slice());
        Ok(())
    })?;
    Ok((pickle, storages))
}

/// A pickle of protocol 3, which has bytes, with tensors as NumPy arrays.
pub(crate) fn with_arrays(value: &Value) -> Result<Vec<u8>, Error> {
    pickled(3, value, &mut |pickle, tensor| pickle.array(tensor))
}

/// Writes a tensor into a pickle.
type Tensors<'f, 'v> = &'f mut dyn FnMut(&mut Pickle, &'v Tensor) -> Result<(), Error>;

fn pickled<'v>(protocol: u8, value: &'v Value, tensors: Tensors<'_, 'v>) -> Result<Vec<u8>, Error> {
    let mut pickle = Pickle(vec![0x80, protocol]);
    pickle.value(value, 0, tensors)?;
    pickle.0.push(b'.');
    Ok(pickle.0)
}

struct Pickle(Vec<u8>);

impl Pickle {
    /// Recurses, but no deeper than `limits::DEPTH`.
    fn value<'v>(&mut self, value: &'v Value, depth: usize, tensors: Tensors<'_, 'v>) -> Result<(), Error> {
        if depth > limits::DEPTH {
            return Err(Error::Unwritable(format!("values nested deeper than {}", limits::DEPTH)));
        }
        match value {
            Value::None => self.0.push(b'N'),
            Value::Bool(value) => self.bool(*value),
            Value::Int(value) => self.int(*value),
            Value::Float(value) => {
                self.0.push(b'G');
                self.0.extend(value.to_be_bytes());
            }
            Value::Str(text) => self.text(text)?,
            Value::List(items) => {
                self.0.extend(b"](");
                for item in items {
                    self.value(item, depth + 1, tensors)?;
                }
                self.0.push(b'e');
            }
            Value::Tuple(items) => {
                self.0.push(b'(');
                for item in items {
                    self.value(item, depth + 1, tensors)?;
                }
                self.0.push(b't');
            }
            Value::Dict(entries) => {
                self.0.extend(b"}(");
                for (key, value) in entries {
                    if matches!(key, Value::List(_) | Value::Dict(_) | Value::Tensor(_)) {
                        return Err(Error::Unwritable(format!("a {} as a key", key.kind())));
                    }
                    self.value(key, depth + 1, tensors)?;
                    self.value(value, depth + 1, tensors)?;
                }
                self.0.push(b'u');
            }
            Value::Tensor(tensor) => {
                if tensor.shape.iter().try_fold(tensor.dtype.size(), |n, &d| n.checked_mul(d))
                    != Some(tensor.data.len())
                {
                    return Err(Error::Unwritable(format!("{tensor:?} of {} bytes", tensor.data.len())));
                }
                tensors(self, tensor)?;
            }
        }
        Ok(())
    }

    fn bool(&mut self, value: bool) {
        self.0.push(if value { 0x88 } else { 0x89 });
    }

    fn int(&mut self, value: i64) {
        if let Ok(byte) = u8::try_from(value) {
            self.0.extend([b'K', byte]);
        } else if let Ok(int) = i32::try_from(value) {
            self.0.push(b'J');
            self.0.extend(int.to_le_bytes());
        } else {
            self.0.extend([0x8a, 8]);
            self.0.extend(value.to_le_bytes());
        }
    }

    fn size(&mut self, size: usize) -> Result<(), Error> {
        let size = i64::try_from(size).map_err(|_| Error::Unwritable(format!("a size of {size}")))?;
        self.int(size);
        Ok(())
    }

    fn sizes(&mut self, sizes: impl IntoIterator<Item = usize>) -> Result<(), Error> {
        self.0.push(b'(');
        for size in sizes {
            self.size(size)?;
        }
        self.0.push(b't');
        Ok(())
    }

    fn length(&mut self, opcode: u8, bytes: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(bytes.len());
        let length = length.map_err(|_| Error::Unwritable(format!("{} bytes in one piece", bytes.len())))?;
        self.0.push(opcode);
        self.0.extend(length.to_le_bytes());
        self.0.extend(bytes);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.length(b'X', text.as_bytes())
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    /// `torch._utils._rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())`.
    fn storage(&mut self, tensor: &Tensor, key: usize) -> Result<(), Error> {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage")?;
        self.global("torch", tensor.dtype.storage());
        self.text(&key.to_string())?;
        self.text("cpu")?;
        self.size(tensor.elements())?;
        self.0.extend(b"tQ");
        self.int(0);
        self.sizes(tensor.shape.iter().copied())?;
        // PyTorch counts a dimension of size 0 as 1.
        let mut stride = vec![1; tensor.shape.len()];
        for dim in (1..stride.len()).rev() {
            stride[dim - 1] = stride[dim] * tensor.shape[dim].max(1);
        }
        self.sizes(stride)?;
        self.bool(false);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR");
        Ok(())
    }

    /// `numpy.ndarray((0,))`, and its state `(1, shape, numpy.dtype("<f4"), False, bytes)`.
    fn array(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let code = tensor.dtype.numpy();
        let code = code.ok_or_else(|| Error::Unwritable(format!("NumPy has no {:?}", tensor.dtype)))?;
        self.global("numpy", "ndarray");
        self.0.extend(b"((");
        self.int(0);
        self.0.extend(b"ttR(");
        self.int(1);
        self.sizes(tensor.shape.iter().copied())?;
        self.global("numpy", "dtype");
        self.0.push(b'(');
        self.text(&format!("<{code}"))?;
        self.0.extend(b"tR");
        self.bool(false);
        self.length(b'B', &tensor.data)?;
        self.0.extend(b"tb");
        Ok(())
    }
}
