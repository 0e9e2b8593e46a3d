#!/usr/bin/env python3
"""Makes the images beside this file, each with one fault, and writes down what Pillow makes of it.

    python3 make.py        # needs Pillow

Every line of `cases.txt` is a file, then `ok` and the SHA-256 of `<width>x<height>` and the RGB pixels, or `refused`.
"""

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import PIL
from PIL import Image

warnings.simplefilter("ignore")
HERE = Path(__file__).resolve().parent
lines = [f"# Pillow {PIL.__version__}; made by make.py"]


def picture(width=40, height=24):
    pixels = bytes(
        (x * 6 + (y // 5) * 40 * (c == 1) + (255 if (x // 7 + y // 6 + c) % 3 == 0 else 0)) % 256
        for y in range(height) for x in range(width) for c in range(3)
    )
    return Image.frombytes("RGB", (width, height), pixels)


def case(name, data):
    (HERE / name).write_bytes(data)
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        digest = hashlib.sha256(f"{image.width}x{image.height}".encode() + image.tobytes()).hexdigest()
        lines.append(f"{name} ok {digest}")
    except Exception:
        lines.append(f"{name} refused")


def jpeg(**options):
    out = io.BytesIO()
    picture().save(out, "JPEG", quality=85, **options)
    return out.getvalue()


def segment(mark, data):
    return bytes([0xFF, mark]) + struct.pack(">H", len(data) + 2) + data


def after_jfif(data, more):
    end = 4 + struct.unpack(">H", data[4:6])[0]
    return data[:end] + more + data[end:]


def revision(data, major, minor):
    at = data.index(b"JFIF\0") + 5
    return data[:at] + bytes([major, minor]) + data[at + 2:]


def scan_start(data):
    at = data.index(b"\xff\xda")
    return at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]


base = jpeg()
progressive = jpeg(progressive=True)
middle = scan_start(base) + (len(base) - scan_start(base)) // 2
icc = b"ICC_PROFILE\0"
case("jfif-0.00.jpg", revision(base, 0, 0))
case("jfif-2.01.jpg", revision(base, 2, 1))
case("jfif-0.00-progressive.jpg", revision(progressive, 0, 0))
case("jfif-0.00-cut.jpg", revision(base, 0, 0)[:middle])
case("jfif-0.00-no-end.jpg", revision(base, 0, 0)[:-2])
case("junk-in-header.jpg", after_jfif(base, b"\0\x01\x02"))
case("junk-in-header-cut.jpg", after_jfif(base, b"\0\x01\x02")[:middle])
case("icc-missing-part.jpg", after_jfif(base, segment(0xE2, icc + b"\x01\x02" + b"x" * 40)))
case("icc-part-0.jpg", after_jfif(base, segment(0xE2, icc + b"\x00\x01" + b"x" * 40)))
case("icc-doubled.jpg", after_jfif(base, segment(0xE2, icc + b"\x01\x01" + b"x" * 40) * 2))
case("icc-missing-part-cut.jpg", after_jfif(base, segment(0xE2, icc + b"\x01\x02" + b"x" * 40))[:middle])
case("adobe-transform-7.jpg", after_jfif(base, segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07")))
case("three-warnings.jpg", after_jfif(revision(base, 0, 0), b"\0\x01" + segment(0xE2, icc + b"\x01\x02" + b"x" * 40)))
case("data-ends-early.jpg", base[:middle] + base[-2:])
case("bad-codes.jpg", base[:middle] + b"\xfe" * 40 + base[middle + 40:])
case("bad-codes-cut.jpg", (base[:middle] + b"\xfe" * 40 + base[middle + 40:])[:-30])
sos = base.index(b"\xff\xda")
case("sos-parameters.jpg", base[:scan_start(base) - 3] + b"\x00\x3e\x00" + base[scan_start(base):])
case("after-the-end.jpg", base + b"more")
case("no-end.jpg", base[:-2])
case("half.jpg", base[:middle])


def chunk(kind, data, fault=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ fault)


def png(*, ihdr=0, plte=0, text=0, idat=0, iend=0, adler=0, palette=False, before=b"", tail=b"", parts=1):
    image = picture()
    if palette:
        image = image.quantize(16)
        rows = b"".join(b"\0" + image.tobytes()[y * 40:(y + 1) * 40] for y in range(24))
        colours = bytes(image.getpalette()[:48])
    else:
        rows = b"".join(b"\0" + image.tobytes()[y * 120:(y + 1) * 120] for y in range(24))
    data = zlib.compress(rows, 9)
    data = data[:-1] + bytes([data[-1] ^ adler])
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 24, 8, 3 if palette else 2, 0, 0, 0), ihdr)
    out += before + chunk(b"tEXt", b"Comment\0made by make.py", text)
    if palette:
        out += chunk(b"PLTE", colours, plte)
    step = -(-len(data) // parts)
    for start in range(0, len(data), step):
        out += chunk(b"IDAT", data[start:start + step], idat)
    return out + tail + chunk(b"IEND", b"", iend)


case("idat-checksum.png", png(idat=1))
case("idat-checksum-parts.png", png(idat=1, parts=3))
case("idat-checksum-palette.png", png(idat=1, palette=True))
case("adler-checksum.png", png(adler=1))
case("idat-and-adler-checksum.png", png(adler=1, idat=1))
case("ihdr-checksum.png", png(ihdr=1))
case("plte-checksum.png", png(plte=1, palette=True))
case("iend-checksum.png", png(iend=1))
case("iccp-garbage.png", png(before=chunk(b"iCCP", b"x\0\0not deflated")))
case("no-iend.png", png()[:-12])
case("after-idat-garbage.png", png(tail=b"\0\0\0\x04junk"))
case("half.png", png()[:300])
case("idat-checksum-half.png", png(idat=1)[:300])

(HERE / "cases.txt").write_text("\n".join(lines) + "\n")
