"""Sets of images, labelled or not, read one at a time.

Nothing here holds a set in memory: an ``ImageSet`` knows names and labels, and each image is
decoded by whoever asks for it. The exceptions say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import DataError, missing_package
from vitedge.files.npz_arrays import read_arrays
from vitedge.images import cifar
from vitedge.images.cifar import Part
from vitedge.images.class_matching import checked_labels, match_classes, renumbered
from vitedge.images.labels_file import LABELS_FILE, read_labels_file
from vitedge.images.samples import ArraySamples, JoinedSamples, RelabelledSamples, Sample

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"),
    *(".tga", ".tif", ".tiff", ".webp"),
)
PLUGIN_SUFFIXES = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
"""Pictures that Pillow decodes once a package of this name has registered itself."""

_COMPANIONS = (".csv", ".html", ".json", ".md", ".toml", ".txt", ".xml", ".yaml", ".yml")
"""Files that lie beside images to say something about them."""

HELD_OUT_SHARE = 0.2
_SPLIT_SEED = 0


@dataclass(frozen=True)
class ImageSet:
    """A set of images.

    Attributes:
        name: Name of the folder or file.
        samples: Its images, in a stable order.
        class_names: Names of the classes that labels index, or empty when unknown.
        left_out: The files beside them that were not taken, a line each with the reason.
    """

    name: str
    samples: Sequence[Sample]
    class_names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def open_images(
    path: str | Path | ImageSet, class_names: Sequence[str] = (), *, part: Part = Part.HELD_OUT
) -> ImageSet:
    """Opens a set of images in whichever form it comes.

    * an ``ImageSet``, which is open already;
    * a folder of one folder per class;
    * a folder with ``labels.csv``, or such a file itself; see ``images.labels_file``;
    * a folder of images, or one image, without labels;
    * an ``.npz`` with ``images`` uint8 ``(N, H, W)`` or ``(N, H, W, C)`` and, optionally,
      ``labels`` integers ``(N,)`` and ``classes`` names. What NumPy saved uncompressed is
      memory-mapped; what it compressed is read whole;
    * the folder of CIFAR-10 or CIFAR-100 in binary form, or one of its ``.bin`` files.

    In a folder, files that are not images by their extension are left out, which the set says.
    No image is decoded.

    Args:
        path: The folder or file, or a set.
        class_names: The model's labels. When given, the set's classes are matched to them, by
            name or by index; when not, the set's own classes are numbered in order.
        part: The part of CIFAR's folder: the one that models are measured on, or the one that they
            are trained and calibrated on.

    Raises:
        DataError: The path is missing, holds no images, is unreadable, a pickle, or names a class
            that the model does not have.
    """
    if isinstance(path, ImageSet):
        return _in_classes(path, tuple(class_names))
    path = Path(path)
    try:
        if path.is_dir():
            batches = cifar.batches_in(path, part)
            if batches:
                found = _open_batches(batches, tuple(class_names))
            else:
                found = _open_folder(path, tuple(class_names))
        elif not path.exists():
            raise DataError(f"there are no images '{path}'")
        elif path.suffix.lower() == ".csv":
            found = _of_labels_file(path, tuple(class_names))
        elif path.suffix.lower() == ".npz":
            found = _open_npz(path, tuple(class_names))
        elif path.suffix.lower() == cifar.SUFFIX:
            found = _open_batches([path], tuple(class_names))
        elif is_image(path):
            found = ImageSet(path.name, (Sample(path.name, str(path), None),), tuple(class_names))
        else:
            cifar.refuse_pickle(path)
            raise DataError(
                f"'{path}' is not a set of images: give a folder, a .csv, an .npz, a .bin of CIFAR "
                "or an image"
            )
    except OSError as error:
        raise DataError(f"cannot read '{path}' ({error.strerror or error})") from error
    if not found.samples:
        left_out = "".join(f"; {words}" for words in found.left_out)
        raise DataError(f"'{path}' holds no images ({' '.join(IMAGE_SUFFIXES)}){left_out}")
    return found


def _in_classes(images: ImageSet, class_names: tuple[str, ...]) -> ImageSet:
    """A set whose labels index the names given, if any are given."""
    labels = [-1 if sample.label is None else sample.label for sample in images.samples]
    if not class_names or images.class_names == class_names or max(labels, default=-1) < 0:
        return images
    known = np.array([label for label in labels if label >= 0])
    if images.class_names:
        changed = renumbered(known, images.class_names, class_names, images.name)
    else:
        changed = checked_labels(known, len(known), class_names, Path(images.name))
    numbers = iter(changed.tolist())
    relabelled = [next(numbers) if label >= 0 else None for label in labels]
    samples = RelabelledSamples(images.samples, relabelled)
    return replace(images, samples=samples, class_names=class_names)


def is_image(path: Path) -> bool:
    """Whether a file is a picture that can be decoded, by its extension."""
    suffix = path.suffix.lower()
    known = suffix in IMAGE_SUFFIXES or (suffix in PLUGIN_SUFFIXES and _has_plugin(suffix))
    return known and not path.name.startswith(".")


def _has_plugin(suffix: str) -> bool:
    from PIL import Image

    return suffix in Image.registered_extensions()


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())


def _left_out_below(folder: Path) -> tuple[str, ...]:
    """Files that are neither images nor said to be about them, counted by extension."""
    others = Counter(
        path.suffix.lower()
        for path in folder.rglob("*")
        if path.is_file()
        and not is_image(path)
        and path.suffix.lower() not in _COMPANIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return tuple(_why_left_out(suffix, count) for suffix, count in sorted(others.items()))


def _why_left_out(suffix: str, count: int) -> str:
    files = f"{count} {suffix or 'nameless'} file{'s' if count != 1 else ''}"
    if suffix in PLUGIN_SUFFIXES:
        return f"{files} (Pillow has no decoder for them: save them as JPEG)"
    return f"{files} (not a picture by the extension)"


def _open_folder(folder: Path, class_names: tuple[str, ...]) -> ImageSet:
    if (folder / LABELS_FILE).is_file():
        return _of_labels_file(folder / LABELS_FILE, class_names)
    left_out = _left_out_below(folder)
    loose = sorted(path for path in folder.iterdir() if is_image(path) and path.is_file())
    below = {
        path.name: _images_below(path)
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__"))
    }
    folders = {name: images for name, images in sorted(below.items()) if images}
    if loose and folders:
        raise DataError(
            f"'{folder}' holds both images ('{loose[0].name}') and folders of images "
            f"('{next(iter(folders))}'): keep one of the two"
        )
    if loose:
        samples = tuple(Sample(path.name, str(path), None) for path in loose)
        return ImageSet(folder.name, samples, class_names, left_out)
    empty = [name for name in sorted(below) if not below[name]]
    left_out += tuple(f"the folder '{name}' (it holds no images)" for name in empty)
    names, index_of = match_classes(folders, class_names, str(folder))
    samples = tuple(
        Sample(str(path.relative_to(folder)), str(path), index_of[name])
        for name in sorted(folders, key=index_of.__getitem__)
        for path in folders[name]
    )
    return ImageSet(folder.name, samples, names, left_out)


def _of_labels_file(path: Path, class_names: tuple[str, ...]) -> ImageSet:
    samples, class_names = read_labels_file(path, class_names)
    return ImageSet(path.parent.resolve().name, samples, class_names)


def _open_npz(path: Path, class_names: tuple[str, ...]) -> ImageSet:
    arrays = read_arrays(path, ("images", "labels", "classes"))
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None:
        raise DataError(f"'{path}' has no array 'images'")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"'images' in '{path}' must be uint8 (N, H, W) or (N, H, W, C), "
            f"not {images.dtype} {images.shape}"
        )
    own_names = _names_in(path, arrays["classes"]) if "classes" in arrays else ()
    if labels is not None:
        known = own_names or class_names
        labels = checked_labels(labels.reshape(-1), len(images), known, path)
        if own_names and class_names:
            labels = renumbered(labels, own_names, class_names, str(path))
    return ImageSet(path.name, ArraySamples(images, labels), class_names or own_names)


def _names_in(path: Path, classes: npt.NDArray[Any]) -> tuple[str, ...]:
    """The names of classes in an array of texts or numbers ``(N,)``."""
    if classes.ndim != 1 or classes.dtype.kind not in "USiu":
        raise DataError(
            f"'classes' in '{path}' must be texts (N,), not {classes.dtype} {classes.shape}"
        )
    try:
        names = tuple(str(name) for name in classes)
        "".join(names).encode()
    except (SystemError, ValueError) as error:  # code points that Unicode has not
        raise DataError(f"'classes' in '{path}' holds what is not text") from error
    return names


def _open_batches(paths: Sequence[Path], class_names: tuple[str, ...]) -> ImageSet:
    batches = [cifar.read_batch(path) for path in paths]
    own_names = batches[0].class_names
    samples = JoinedSamples(
        [
            ArraySamples(
                batch.pixels,
                renumbered(batch.labels, own_names, class_names, str(path))
                if class_names
                else batch.labels,
            )
            for path, batch in zip(paths, batches, strict=True)
        ]
    )
    name = paths[0].name if len(paths) == 1 else paths[0].parent.resolve().name
    return ImageSet(name, samples, class_names or own_names)


def digits() -> tuple[ImageSet, ImageSet]:
    """The 1,797 handwritten digits of scikit-learn: grey scans of 8 x 8 pixels, ten classes.

    Returns:
        The training set and the held-out set: a fifth of each class, the same at every call.

    Raises:
        UnavailableError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_package("scikit-learn", "train") from error
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    rng = np.random.default_rng(_SPLIT_SEED)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(HELD_OUT_SHARE * len(members))]] = True
    names = tuple(str(name) for name in bunch.target_names)
    return (
        ImageSet("digits (training)", ArraySamples(pixels[~held_out], labels[~held_out]), names),
        ImageSet("digits (held out)", ArraySamples(pixels[held_out], labels[held_out]), names),
    )
