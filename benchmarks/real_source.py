"""The model of ``real_map.py`` and its photos; what a run does not need is not read."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from contenders import open_on_one_thread, say
from stock_routes import Workbench

from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions, read_model
from vitedge.network.network import Network
from vitedge.network.tasks import Task
from vitedge.targets.formats import Format


class Model:
    """A source of maps, and photos.

    Args:
        arguments: The command line's.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments, self._folder = arguments, arguments.folder
        self.importing = ImportOptions(task=Task.MAP, logits=(arguments.tensor,))

    @cached_property
    def network(self) -> Network:
        """As we read it."""
        say("reading the source")
        return read_model(self._arguments.model, self.importing).network

    @cached_property
    def graph(self) -> Path:
        """The source as stock tools get it."""
        path: Path = self._folder / "source.onnx"
        if not path.exists():
            tensor, preprocessing = self._arguments.tensor, self.network.preprocessing
            write_with_pixels(self._arguments.model, tensor, preprocessing, path)
        return path

    @cached_property
    def calibration(self) -> ImageSet:
        """The first photos of those to calibrate on."""
        found = open_images(self._arguments.photos / "calibration")
        count = self._arguments.calibrate_on
        return ImageSet(found.name, found.samples[:count], found.class_names)

    @cached_property
    def bench(self) -> Workbench:
        """Where the stock tools work."""
        photos = [self.network.preprocessing(each.image) for each in self.calibration.samples]
        ours = self._folder / f"{self._arguments.model.stem}.fp32.xml"
        return Workbench(self.network, photos, self._folder, ours, self.graph)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The photos to measure on, ``(N, H, W, C)``; on the disk, as they are many."""
        path, n = self._folder / "pixels.npy", self._arguments.n
        if not path.exists():
            samples = open_images(self._arguments.photos / "validation").samples
            np.save(path, self.network.preprocessing.batch([each.image for each in samples]))
        kept: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")[:n]
        return kept

    def maps(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The source's own maps, a row for each photo; on the disk, too."""
        path = self._folder / "float32.npy"
        if not path.exists() or len(np.load(path, mmap_mode="r")) < len(pixels):
            say("running the source")
            np.save(path, np.stack(list(run(Format.ONNX, self.graph, pixels))))
        kept: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")[: len(pixels)]
        return kept


def run(
    target: Format, path: Path, pixels: Iterable[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.float32]]:
    """The flat map that a file gives of each photo ``(H, W, C)``, on one thread."""
    session = open_on_one_thread(target, path)
    for each in pixels:
        yield session.run(each[None]).reshape(-1)
    session.close()


def write_with_pixels(source: Path, tensor: str, preprocessing: Preprocessing, path: Path) -> None:
    """The source up to a tensor, for one image, with the normalisation of pixels in front.

    Args:
        source: An ONNX file of one input ``(N, C, H, W)``.
        tensor: What is to be its output.
        preprocessing: How pixels are normalised.
        path: The file to write; it takes pixels ``(1, H, W, C)``, 0 to 255.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    (given,) = graph.input
    height, width = preprocessing.size
    mean, std = (np.asarray(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    graph.initializer.extend(
        [
            numpy_helper.from_array(255 * mean, "pixels/mean"),
            numpy_helper.from_array(1 / (255 * std), "pixels/scale"),
        ]
    )
    front = [
        helper.make_node("Sub", ["pixels", "pixels/mean"], ["pixels/centred"]),
        helper.make_node("Mul", ["pixels/centred", "pixels/scale"], ["pixels/normalized"]),
        helper.make_node("Transpose", ["pixels/normalized"], [given.name], perm=(0, 3, 1, 2)),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    shape = (1, height, width, len(mean))
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape))
    graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    whole = path.with_name(f"whole-{path.name}")
    onnx.save(model, whole)
    onnx.utils.extract_model(whole, path, ["pixels"], [tensor], check_model=False)
    whole.unlink()
