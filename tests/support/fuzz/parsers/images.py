"""Photos, and sets of images."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.support.cifar_files import write_batch
from tests.support.fuzz.mutate.archive import mutate_archive
from tests.support.fuzz.mutate.npy import mutate_npy_member
from tests.support.fuzz.mutate.raw import mutate_bytes
from tests.support.fuzz.mutate.text import mutate_table
from tests.support.fuzz.parser import Parser, from_files
from vitedge.errors import VitedgeError
from vitedge.images.image_sets import open_images
from vitedge.images.preprocess import Preprocessing, open_image

_KINDS = (
    *(("PNG", {}), ("JPEG", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {}), ("PPM", {})),
    *(("WEBP", {"lossless": True}), ("PCX", {}), ("TGA", {}), ("SGI", {}), ("JPEG2000", {})),
    *(("ICO", {}), ("AVIF", {}), ("DDS", {}), ("ICNS", {}), ("MPO", {}), ("EPS", {}), ("PDF", {})),
    *(("TIFF", {"compression": f"tiff_{name}"}) for name in ("lzw", "adobe_deflate", "jpeg")),
    *(("JPEG", {"progressive": True}), ("IM", {})),
)
_MODES = ("P", "L", "LA", "RGBA", "1", "I;16", "I", "CMYK", "LAB", "YCbCr", "F")
_ORIENTATION, _DESCRIPTION = 0x0112, 0x010E

_PREPARE = (
    Preprocessing((16, 16), 3),
    Preprocessing((16, 16), 1, None, mean=(0.5,), std=(0.5,)),
    Preprocessing((24, 24), 3, resize=28),
)

_CLASSES = ((), ("cat", "dog"), tuple("abcdef"))


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[_ORIENTATION], exif[_DESCRIPTION] = 6, "x" * 50
    known = [_encoded(picture, kind, **options) for kind, options in _KINDS]
    known += [_encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")] * 2
    for mode in _MODES:
        grey = picture.convert("L")
        other = Image.new("LAB", (9, 9)) if mode == "LAB" else grey.convert(mode)
        known += [_encoded(other, kind) for kind in ("PNG", "TIFF", "JPEG", "GIF")]
    return [each for each in known if each]


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Empty where Pillow, as it was built here, does not write this."""
    content = io.BytesIO()
    try:
        picture.save(content, kind, **options)
    except (OSError, KeyError, ValueError):
        return b""
    return content.getvalue()


def _prepare(path: Path) -> None:
    for prepare in _PREPARE:
        prepare(path)


def _read_set(path: Path) -> None:
    """Opens a set for models of other classes, and decodes the first images."""
    refusals = []
    for names in _CLASSES:
        try:
            for sample in open_images(path, names).samples[:4]:
                open_image(sample.image)
        except VitedgeError as error:
            refusals.append(error)
    if len(refusals) == len(_CLASSES):
        raise refusals[0]


def _make_table(rng: Random, folder: Path) -> Path:
    for name in ("0", "1", "2"):
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
    table = b"file,label\n0.png,cat\n1.png,dog\n2.png,cat\n0.png,1\n"
    (folder / "labels.csv").write_bytes(mutate_table(table, rng))
    return rng.choice((folder, folder / "labels.csv"))


def _arrays() -> list[bytes]:
    values = {
        "images": np.zeros((6, 8, 8, 3), np.uint8),
        "labels": np.arange(6),
        "classes": np.array(list("abcdef")),
    }
    plain, compressed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **values)
    np.savez_compressed(compressed, **values)
    return [plain.getvalue(), compressed.getvalue()]


def _make_cifar(rng: Random, folder: Path) -> Path:
    path = folder / "data_batch.bin"
    coarse = rng.random() < 0.5
    write_batch(path, [3, 9], seed=0, coarse=coarse)
    if rng.random() < 0.8:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    if rng.random() < 0.7:
        names = "".join(f"class {number}\n" for number in range(100 if coarse else 10)).encode()
        beside = "fine_label_names.txt" if coarse else "batches.meta.txt"
        (folder / beside).write_bytes(mutate_bytes(names, rng))
    return path


def _mutate_arrays(data: bytes, rng: Random) -> bytes:
    return mutate_archive(data, rng, mutate_npy_member)


PARSERS = (
    Parser("image", from_files("photo.jpg", _pictures, mutate_bytes), _prepare),
    Parser("images-csv", _make_table, _read_set),
    Parser("images-npz", from_files("images.npz", _arrays, _mutate_arrays), _read_set),
    Parser("images-cifar", _make_cifar, _read_set),
)
