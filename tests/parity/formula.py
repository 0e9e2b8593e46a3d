"""Closed formulas for tensor contents, exact in any language.

Element `i` (row-major) of the tensor called `name` gets

    h = fmix32((crc32(name) + i * 0x9E3779B9) mod 2^32)      MurmurHash3's 32-bit finaliser
    u = h / 2^31 - 1                                          in [-1, 1), exact in f64

and from `u`, by one multiplication and one addition in f64 and one rounding to f32, the value. Only integer
arithmetic, no library function is involved, so that Rust and Python agree bit for bit. (A sine of `i` would
make every weight matrix of rank two and hide permuted channels.)
"""

import math
import zlib

import numpy as np
import torch


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers `u` for the tensor `name`: float64, of `shape`, in [-1, 1)."""
    count = math.prod(shape)
    h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(zlib.crc32(name.encode()))
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return (h.astype(np.float64) / 2.0**31 - 1.0).reshape(shape)


def he_bound(shape: tuple[int, ...]) -> float:
    """The bound of a uniform distribution with variance 2 / fan_in, for a weight `[out, in, ...]`."""
    return math.sqrt(6.0 / math.prod(shape[1:]))


def affine(name: str, shape: tuple[int, ...], offset: float, scale: float) -> torch.Tensor:
    """`offset + scale * u`, computed in f64, rounded to f32."""
    return torch.from_numpy((offset + scale * uniform(name, shape)).astype(np.float32))
