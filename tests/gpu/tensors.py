"""Reads safetensors files with torch alone; the package of that name may be missing on a GPU machine."""

import json
import struct

import torch

DTYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}


def read(path) -> dict[str, torch.Tensor]:
    """Name to tensor, on the CPU."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        # Copied, since offsets need not be aligned for the type.
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype) if end > begin else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The norm of a - b over the norm of b, in f64."""
    a, b = a.double(), b.double()
    return ((a - b).norm() / b.norm()).item()
