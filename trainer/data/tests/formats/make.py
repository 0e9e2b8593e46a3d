#!/usr/bin/env python3
"""Makes the images beside this file in formats other than JPEG and PNG, and writes down the RGB pixels they must have.

    python3 make.py        # needs Pillow, tifffile, pydicom and numpy

Every line of `cases.txt` is a file, a range (`auto`, `pillow`, `fixed:LOW:HIGH` or `percentiles:LOW:HIGH`) and the
SHA-256 of `<width>x<height>` and the RGB pixels. Those of 8-bit images and of range `pillow` are what Pillow makes of
the file; those of the other ranges follow from the values by `levels` below. What Pillow makes of a file compressed
with loss, or with 5 bits per sample, is in a PNG named after it. The images are drawn here; nothing is taken from anywhere.
"""

import hashlib
import io
import struct
import warnings
from pathlib import Path

import numpy as np
import PIL
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit,
    RLELossless, SecondaryCaptureImageStorage,
)

warnings.simplefilter("ignore")
HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
lines = [
    f"# Pillow {PIL.__version__}, tifffile {tifffile.__version__}, pydicom {pydicom.__version__}; made by make.py"
]
RANGES = ["auto", "fixed:100:3000.5", "percentiles:2:99.5"]


WIDTH, HEIGHT = 25, 19


def picture(width=WIDTH, height=HEIGHT, seed=1):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + seed), np.cos(y / 7 - x / 11), np.sin((x + y) / 9)]
    base = np.stack([127 + 110 * wave for wave in waves], axis=-1)
    return np.clip(base + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8)


RGB = picture()
GRAY = RGB[..., 0]
WIDE = GRAY.astype(np.uint16) * 211 + RGB[..., 1]


def levels(values, low, high):
    """Values to 8 bits, as `decode/rgb.rs` does."""
    with np.errstate(all="ignore"):
        scaled = (values.astype(np.float64) - low) / (high - low) * 255 + 0.5
    return np.clip(np.floor(np.nan_to_num(scaled, nan=0, posinf=1e9, neginf=-1e9)), 0, 255).astype(np.uint8)


def limits(values, text, own):
    mode, *numbers = text.split(":")
    if mode == "auto":
        return own
    low, high = map(float, numbers)
    return (low, high) if mode == "fixed" else tuple(np.nanpercentile(values.astype(np.float64), [low, high]))


def expect(name, text, pixels):
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, -1)
    digest = hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]}".encode() + pixels.tobytes()).hexdigest()
    lines.append(f"{name} {text} {digest}")


def by_pillow(name, text="auto"):
    folder = HERE if (HERE / name).exists() else FIXTURES
    expect(name, text, np.asarray(Image.open(folder / name).convert("RGB")))


def by_values(name, values, own, inverted=False, ranges=RANGES):
    """`values`: what the file holds, without alpha."""
    for text in ranges:
        pixels = levels(values, *limits(values, text, own))
        expect(name, text, 255 - pixels if inverted else pixels)


def of_type(values):
    if values.dtype.kind == "f":
        return (0.0, 1.0)
    info = np.iinfo(values.dtype)
    return (float(info.min), float(info.max))


# --- TIFF -------------------------------------------------------------------------------------------------------------

for name, image, options in [
    ("gray8.tif", GRAY, {}),
    ("gray8-lzw.tif", GRAY, {"compression": "tiff_lzw"}),
    ("rgb8-lzw.tif", RGB, {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
    ("rgb8-deflate.tif", RGB, {"compression": "tiff_adobe_deflate"}),
    ("rgb8-packbits.tif", RGB, {"compression": "packbits"}),
]:
    Image.fromarray(image).save(HERE / name, **options)
    by_pillow(name)
for name, mode, options in [
    ("palette8.tif", "P", {}),
    ("bilevel.tif", "1", {}),
    ("bilevel-group4.tif", "1", {"compression": "group4"}),
    ("cmyk8.tif", "CMYK", {"compression": "tiff_lzw"}),
    ("rgba8.tif", "RGBA", {}),
    ("grayalpha8.tif", "LA", {}),
]:
    Image.fromarray(RGB).convert(mode).save(HERE / name, **options)
    by_pillow(name)


def tiff(name, values, **options):
    options = {"software": None, "metadata": None} | options
    tifffile.imwrite(HERE / name, values, **options)


tiff("rgb8-tiled.tif", RGB, photometric="rgb", tile=(16, 16), compression="zlib")
tiff("rgb8-planar.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")
tiff("gray8-white.tif", GRAY, photometric="miniswhite")
tiff("rgb8-strips.tif", RGB, photometric="rgb", rowsperstrip=4, byteorder=">")
tiff("gray8-big.tif", GRAY, bigtiff=True)
for name in ["rgb8-tiled.tif", "rgb8-planar.tif", "gray8-white.tif", "rgb8-strips.tif", "gray8-big.tif"]:
    by_pillow(name)
# Four bits a sample, written here, since tifffile leaves that to others.
nibbles = np.pad(GRAY >> 4, ((0, 0), (0, 1)))
rows = (nibbles[:, 0::2] << 4 | nibbles[:, 1::2]).astype(np.uint8).tobytes()
entries = {256: WIDTH, 257: HEIGHT, 258: 4, 259: 1, 262: 1, 273: 8, 277: 1, 278: HEIGHT, 279: len(rows)}.items()
directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIHH", tag, 3, 1, n, 0) for tag, n in entries)
rows += b"\0" * (len(rows) % 2)
(HERE / "gray4.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(rows)) + rows + directory + b"\0" * 4)
by_pillow("gray4.tif")

floats = WIDE.astype(np.float32) / 40000 - 0.1
floats[3, 4:7] = [np.nan, np.inf, -np.inf]
for name, values, options in [
    ("u16.tif", WIDE, {}),
    ("u16-be.tif", WIDE, {"byteorder": ">"}),
    ("u16-deflate.tif", WIDE, {"compression": "zlib", "tile": (16, 16)}),
    ("i16.tif", (WIDE.astype(np.int32) - 20000).astype(np.int16), {}),
    ("u32.tif", WIDE.astype(np.uint32) * 70001, {}),
    ("i32.tif", WIDE.astype(np.int32) - 9000, {}),
    ("f16.tif", floats.astype(np.float16), {}),
    ("f32.tif", floats, {}),
    ("f64.tif", floats.astype(np.float64) * 1.5, {"byteorder": ">"}),
    ("rgb16.tif", RGB.astype(np.uint16) * 250 + 17, {"photometric": "rgb"}),
    ("rgb16-planar.tif", RGB.astype(np.uint16) * 200 + 17, {"photometric": "rgb", "planarconfig": "separate"}),
    ("rgb-f32.tif", RGB.astype(np.float32) / 200, {"photometric": "rgb"}),
]:
    stored = np.moveaxis(values, -1, 0) if options.get("planarconfig") == "separate" else values
    tiff(name, stored, **options)
    by_values(name, values, of_type(values))
for name in ["u16.tif", "u16-be.tif", "i16.tif", "u32.tif", "i32.tif", "f32.tif", "rgb16.tif"]:
    by_pillow(name, "pillow")
tiff("u16-white.tif", WIDE, photometric="miniswhite")
by_values("u16-white.tif", WIDE, of_type(WIDE), inverted=True)
by_pillow("u16-white.tif", "pillow")
with tifffile.TiffWriter(HERE / "pages.tif") as file:
    for page in range(3):
        file.write(WIDE // (page + 1), metadata=None, software=None, compression="zlib")
        # A reduced copy is no page.
        file.write(WIDE[::4, ::4] // (page + 1), metadata=None, software=None, subfiletype=1)
by_values("pages.tif", WIDE, of_type(WIDE), ranges=["auto"])
tiff("bands5.tif", np.stack([GRAY] * 5, -1), photometric="minisblack", planarconfig="contig", compression="zlib")

# --- PNG of 16 bits, from the parity fixtures -------------------------------------------------------------------------

small = np.asarray(Image.open(FIXTURES / "gray16.png")).astype(np.uint16)
by_values("gray16.png", small, of_type(small))
by_pillow("gray16.png", "pillow")

# --- BMP --------------------------------------------------------------------------------------------------------------

for name, mode in {"rgb24": "RGB", "rgb32": "RGBA", "palette8": "P", "gray8": "L", "bilevel": "1"}.items():
    name += ".bmp"
    Image.fromarray(RGB).convert(mode).save(HERE / name)
    by_pillow(name)


def bmp(name, width, height, bits, compression, palette, pixels, exact=True):
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 2835, 2835, 0, 0)
    file = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    (HERE / name).write_bytes(file + header + palette + pixels)
    if exact:
        by_pillow(name)


def runs(rows, pack):
    """Run-length encoding from the lowest row up."""
    out = b""
    for row in rows[::-1]:
        at = 0
        while at < len(row):
            count = 1
            while at + count < len(row) and row[at + count] == row[at] and count < 255:
                count += 1
            out += bytes([count, pack(int(row[at]))])
            at += count
        out += b"\0\0"
    return out[:-2] + b"\0\1"


colours = np.random.default_rng(2).integers(0, 256, (256, 4)).astype(np.uint8)
colours[:, 3] = 0
bmp("rle8.bmp", WIDTH, HEIGHT, 8, 1, colours.tobytes(), runs(GRAY // 9, lambda index: index))
bmp("rle4.bmp", WIDTH, HEIGHT, 4, 2, colours[:16].tobytes(), runs(GRAY >> 4, lambda index: index << 4 | index))
below = RGB[..., ::-1].reshape(HEIGHT, -1)
bmp("topdown24.bmp", WIDTH, -HEIGHT, 24, 0, b"", np.pad(below, ((0, 0), (0, -below.shape[1] % 4))).tobytes())
five = (RGB >> 3).astype(np.uint16)
sixteen = five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]
bmp("rgb555.bmp", WIDTH, HEIGHT, 16, 0, b"", np.pad(sixteen, ((0, 0), (0, 1)))[::-1].astype("<u2").tobytes(), False)

# --- WebP -------------------------------------------------------------------------------------------------------------

alpha = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
rgba = np.concatenate([RGB, alpha[..., None].astype(np.uint8)], -1)
Image.fromarray(RGB).save(HERE / "lossless.webp", lossless=True)
Image.fromarray(rgba).save(HERE / "lossless-alpha.webp", lossless=True, exact=True)
still = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
still[0].save(HERE / "animated.webp", save_all=True, append_images=still[1:], lossless=True)
for name in ["lossless.webp", "lossless-alpha.webp", "animated.webp"]:
    by_pillow(name)
Image.fromarray(RGB).save(HERE / "lossy.webp", quality=80)
Image.fromarray(rgba).save(HERE / "lossy-alpha.webp", quality=60)
Image.fromarray(RGB).save(HERE / "jpeg.tif", compression="jpeg", quality=90)
for name in ["lossy.webp", "lossy-alpha.webp", "jpeg.tif", "rgb555.bmp"]:
    Image.open(HERE / name).convert("RGB").save(HERE / f"{name}.png", optimize=True)

# --- DICOM ------------------------------------------------------------------------------------------------------------

UID = "1.2.826.0.1.3680043.8.498.1"


def dicom(name, values, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian, pixels=None, stored=None, **elements):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID
    meta.TransferSyntaxUID = syntax
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID, file.PatientName = SecondaryCaptureImageStorage, UID, "Nobody"
    bits = values.dtype.itemsize * 8
    file.Rows, file.Columns = values.shape[:2]
    file.SamplesPerPixel = 3 if values.ndim == 3 else 1
    file.PhotometricInterpretation = photometric
    if values.ndim == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated, file.BitsStored = bits, stored or bits
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    # Pixel data of a nested image, which is not that of the file.
    icon = pydicom.Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.PixelData = 1, 2, 8, b"\1\2"
    icon["PixelData"].VR = "OB"
    file.IconImageSequence = [icon]
    for key, value in elements.items():
        setattr(file, key, value)
    little = values.astype(values.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<"))
    file.PixelData = little.tobytes() if pixels is None else pixels
    file["PixelData"].VR = "OW" if bits > 8 else "OB"
    if syntax == RLELossless:
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.compress(RLELossless, generate_instance_uid=False)
    elif pixels is not None and syntax.is_encapsulated:
        file["PixelData"].is_undefined_length = True
    big = syntax == ExplicitVRBigEndian
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(HERE / name, file, enforce_file_format=True, little_endian=not big, implicit_vr=implicit)


twelve = (WIDE // 16).astype(np.uint16)
hounsfield = (WIDE.astype(np.int32) // 20 - 500).astype(np.int16)
window = (-160.0 - 0.5 - (400.0 - 1) / 2, -160.0 - 0.5 + (400.0 - 1) / 2)
dicom("u12.dcm", twelve, stored=12)
by_values("u12.dcm", twelve, (0.0, 4095.0))
dicom("white.dcm", twelve, "MONOCHROME1", stored=12)
by_values("white.dcm", twelve, (0.0, 4095.0), inverted=True)
dicom("rescaled.dcm", hounsfield, RescaleSlope="2", RescaleIntercept="-1024.5")
by_values("rescaled.dcm", hounsfield * 2.0 - 1024.5, (-32768 * 2 - 1024.5, 32767 * 2 - 1024.5))
dicom("window.dcm", hounsfield, WindowCenter=["-160", "40"], WindowWidth=["400", "80"])
by_values("window.dcm", hounsfield, window)
dicom("implicit.dcm", twelve, syntax=ImplicitVRLittleEndian, stored=12)
dicom("big-endian.dcm", twelve, syntax=ExplicitVRBigEndian, stored=12)
dicom("rle.dcm", twelve, syntax=RLELossless, stored=12)
for name in ["implicit.dcm", "big-endian.dcm", "rle.dcm"]:
    by_values(name, twelve, (0.0, 4095.0), ranges=["auto"])
dicom("rgb.dcm", RGB, "RGB")
dicom("rgb-planar.dcm", RGB, "RGB", pixels=np.moveaxis(RGB, -1, 0).tobytes() + b"\0", PlanarConfiguration=1)
dicom("rgb-rle.dcm", RGB, "RGB", syntax=RLELossless)
frames = np.stack([GRAY, 255 - GRAY])
dicom("frames.dcm", GRAY, pixels=frames.tobytes(), NumberOfFrames="2")
for name, values in [("rgb.dcm", RGB), ("rgb-planar.dcm", RGB), ("rgb-rle.dcm", RGB), ("frames.dcm", GRAY)]:
    expect(name, "auto", values)
    read = pydicom.dcmread(HERE / name).pixel_array
    assert np.array_equal(read[0] if name == "frames.dcm" else read, values), name
for name in ["u12.dcm", "implicit.dcm", "big-endian.dcm", "rle.dcm"]:
    assert np.array_equal(pydicom.dcmread(HERE / name).pixel_array, twelve), name
jpeg = io.BytesIO()
Image.fromarray(RGB).save(jpeg, "JPEG", quality=90)
dicom("jpeg.dcm", RGB, "YBR_FULL_422", syntax=JPEGBaseline8Bit, pixels=encapsulate([jpeg.getvalue()]))
expect("jpeg.dcm", "auto", np.asarray(Image.open(io.BytesIO(jpeg.getvalue()))))
dicom("jpeg2000.dcm", GRAY, syntax=JPEG2000Lossless, pixels=encapsulate([b"\0" * 20]))

(HERE / "cases.txt").write_text("\n".join(lines) + "\n")
