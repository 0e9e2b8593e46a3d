//! Strided elements of a storage, gathered into a dense tensor.

use crate::error::Error;
use crate::limits;
use crate::value::{Dtype, Tensor};

/// A tensor as a view into a storage; offset and strides count elements.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strided {
    pub dtype: Dtype,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

impl Strided {
    /// A whole array in row-major order, or in column-major order.
    pub fn whole(dtype: Dtype, shape: Vec<usize>, column_major: bool) -> Self {
        let mut stride = vec![0; shape.len()];
        let mut step = 1usize;
        let mut set = |dim: usize| {
            stride[dim] = step;
            // Beyond the integer nothing fits any storage, which `gather` finds out.
            step = step.saturating_mul(shape[dim]);
        };
        if column_major {
            (0..shape.len()).for_each(&mut set);
        } else {
            (0..shape.len()).rev().for_each(&mut set);
        }
        Self { dtype, offset: 0, shape, stride }
    }

    /// Bytes of the dense tensor; `None` beyond the integer.
    pub fn size(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.size(), |bytes, &n| bytes.checked_mul(n))
    }

    /// The dense tensor of what `storage` holds; `key` is the storage's name in errors.
    pub fn gather(&self, storage: &[u8], key: &str) -> Result<Tensor, Error> {
        let wrong = |what: String| Error::Storage { key: key.to_owned(), what };
        if self.shape.len() != self.stride.len() || self.shape.len() > limits::DIMENSIONS {
            return Err(wrong(format!("has a shape of {} and strides of {}", self.shape.len(), self.stride.len())));
        }
        let size = self.dtype.size();
        let bytes = self.size().ok_or_else(|| wrong(format!("has the shape {:?}", self.shape)))?;
        let mut data = Vec::new();
        if bytes > 0 {
            let last = self
                .shape
                .iter()
                .zip(&self.stride)
                .try_fold(self.offset, |last, (&n, &stride)| last.checked_add((n - 1).checked_mul(stride)?));
            let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
            if end.is_none_or(|end| end > storage.len()) {
                return Err(wrong(format!(
                    "has {} bytes, too few for the shape {:?} at {} with strides {:?}",
                    storage.len(),
                    self.shape,
                    self.offset,
                    self.stride
                )));
            }
            data.reserve_exact(bytes);
            let dense = Self::whole(self.dtype, self.shape.clone(), false);
            if same_order(&self.shape, &self.stride, &dense.stride) {
                data.extend_from_slice(&storage[self.offset * size..][..bytes]);
            } else {
                self.walk(|element| data.extend_from_slice(&storage[element * size..][..size]));
            }
        }
        Ok(Tensor { dtype: self.dtype, shape: self.shape.clone(), data })
    }

    /// Calls `visit` with every element's place, row-major.
    fn walk(&self, mut visit: impl FnMut(usize)) {
        let mut index = vec![0usize; self.shape.len()];
        loop {
            visit(self.offset + index.iter().zip(&self.stride).map(|(i, s)| i * s).sum::<usize>());
            let mut dim = self.shape.len();
            loop {
                if dim == 0 {
                    return;
                }
                dim -= 1;
                index[dim] += 1;
                if index[dim] < self.shape[dim] {
                    break;
                }
                index[dim] = 0;
            }
        }
    }
}

/// Strides of dimensions of size 1 mean nothing.
fn same_order(shape: &[usize], a: &[usize], b: &[usize]) -> bool {
    shape.iter().zip(a.iter().zip(b)).all(|(&n, (a, b))| n <= 1 || a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(shape: &[usize], stride: &[usize], offset: usize) -> Result<Vec<u8>, Error> {
        let view = Strided { dtype: Dtype::U8, offset, shape: shape.to_vec(), stride: stride.to_vec() };
        view.gather(&[0, 1, 2, 3, 4, 5], "0").map(|tensor| tensor.data)
    }

    #[test]
    fn strided_view_becomes_dense() {
        assert_eq!(bytes(&[2, 3], &[3, 1], 0).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(bytes(&[3, 2], &[1, 3], 0).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(bytes(&[2, 2], &[0, 2], 1).unwrap(), [1, 3, 1, 3]);
        assert_eq!(bytes(&[2], &[2], 3).unwrap(), [3, 5]);
        assert_eq!(bytes(&[], &[], 5).unwrap(), [5]);
        assert_eq!(bytes(&[1, 2, 1], &[77, 1, 99], 2).unwrap(), [2, 3]);
        assert!(bytes(&[0, 9], &[9, 1], 99).unwrap().is_empty());
        let columns = Strided::whole(Dtype::U8, vec![2, 3], true);
        assert_eq!(columns.gather(&[0, 1, 2, 3, 4, 5], "0").unwrap().data, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn view_beyond_storage_is_refused() {
        for (shape, stride, offset) in [
            (vec![7], vec![1], 0),
            (vec![2, 3], vec![3, 1], 1),
            (vec![2], vec![6], 0),
            (vec![1], vec![1], 6),
            (vec![2], vec![usize::MAX], 1),
            (vec![usize::MAX, 2], vec![1, 1], 0),
            (vec![2], vec![1, 1], 0),
            (vec![1; 40], vec![1; 40], 0),
        ] {
            assert!(bytes(&shape, &stride, offset).is_err(), "{shape:?} {stride:?} {offset}");
        }
    }
}
