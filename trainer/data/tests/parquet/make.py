#!/usr/bin/env python3
"""Makes the Parquet files beside this file, and the same images as a folder.

    python3 make.py        # needs datasets, pyarrow and Pillow

`images/train` and `images/test` have class folders. `data` has the same images as `datasets` saves them, `forms/*` the
images of `images/train` in the other forms that Parquet permits, and `bad/*` files that must be refused or noted.
The images are drawn here; nothing is taken from anywhere.
"""

import io
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).resolve().parent
# Not sorted: the numbers of the labels are not those of the classes in a folder.
CLASSES = ["dog", "cat", "bird"]


def picture(label, number):
    """The bytes and the file name of an image of 16 by 16 pixels."""
    image = Image.new("RGB", (16, 16))
    image.putdata([(x * 16, y * 16, (label * 90 + number * 7) % 256) for y in range(16) for x in range(16)])
    out = io.BytesIO()
    if number % 3 == 0:
        image.save(out, "JPEG", quality=90)
        return out.getvalue(), f"{number:02}.jpg"
    image.save(out, "PNG")
    return out.getvalue(), f"{number:02}.png"


def rows(numbers):
    """Rows of all classes in turn."""
    found = []
    for number in numbers:
        for label in range(len(CLASSES)):
            content, path = picture(label, number)
            found.append({"image": {"bytes": content, "path": path}, "label": label})
    return found


TRAIN, TEST = rows(range(8)), rows(range(8, 10))


def folder(split, of):
    for row in of:
        path = HERE / "images" / split / CLASSES[row["label"]] / row["image"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])


def by_datasets(path, of):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    datasets.Dataset.from_list(of, features=features).to_parquet(path)


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(name, columns, **options):
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def images(of):
    return pa.array([row["image"] for row in of], IMAGE)


def words(of):
    return [CLASSES[row["label"]] for row in of]


def main():
    for old in ["images", "data", "forms", "bad"]:
        shutil.rmtree(HERE / old, ignore_errors=True)
    folder("train", TRAIN)
    folder("test", TEST)
    (HERE / "data").mkdir()
    by_datasets(HERE / "data/train-00000-of-00002.parquet", TRAIN[:13])
    by_datasets(HERE / "data/train-00001-of-00002.parquet", TRAIN[13:])
    by_datasets(HERE / "data/test-00000-of-00001.parquet", TEST)

    # Small pages and row groups: several of each in a file.
    small = {"row_group_size": 10, "data_page_size": 1000, "write_batch_size": 1}
    struct = {"image": images(TRAIN), "label": words(TRAIN)}
    write("forms/indexed.parquet", struct, use_dictionary=False, write_page_index=True, **small)
    write("forms/scanned.parquet", struct, use_dictionary=False, write_page_index=False, **small)
    write("forms/dictionary.parquet", struct, compression="zstd", write_page_index=True, **small)
    # The dictionary is full after a few images; the pages after that do without it.
    write("forms/fallback.parquet", struct, compression="gzip", dictionary_pagesize_limit=1500, **small)
    # Uncompressed, so that a test finds the images in the file.
    write(
        "forms/pages2.parquet",
        struct,
        compression="none",
        data_page_version="2.0",
        write_page_checksum=True,
        **small,
    )
    plain = {"id": list(range(len(TRAIN))), "png": [row["image"]["bytes"] for row in TRAIN], "class": words(TRAIN)}
    write("forms/plain.parquet", plain, compression="none")
    write(
        "forms/delta.parquet",
        plain,
        use_dictionary=False,
        column_encoding={"png": "DELTA_LENGTH_BYTE_ARRAY", "class": "DELTA_BYTE_ARRAY", "id": "DELTA_BINARY_PACKED"},
        **small,
    )

    few = TRAIN[:6]
    labels = [row["label"] for row in few]
    write("bad/unlabelled.parquet", {"image": images(few), "label": [-1] * 6})
    write("bad/mixed.parquet", {"image": images(few), "label": [0, -1, None, 1, 0, 1]})
    lost = [{"image": {"bytes": None, "path": "x.png"}}, {"image": None}]
    write("bad/nulls.parquet", {"image": images(few + lost), "label": labels + [0, 1]}, write_page_checksum=True)
    write("bad/paths-only.parquet", {"image": images([lost[0]] * 6), "label": labels})
    write("bad/several.parquet", {"left": images(few), "right": images(few), "a_label": labels, "b_label": labels})
    write("bad/no-images.parquet", {"url": ["x"] * 6, "label": labels})
    write("bad/lists.parquet", {"image": images(few), "labels": [[n] for n in labels]})
    write("bad/brotli.parquet", {"image": images(few), "label": labels}, compression="brotli")
    write("bad/no-rows.parquet", {"image": images([]), "label": pa.array([], pa.int64())})


main()
