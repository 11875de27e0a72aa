"""Small ViTs as artefacts, and graphs that devices are known to choke on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.bench.reference import ModelReference, reference_from_network
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.converters.tflite.model import TFLiteModel
from vitedge.converters.tools import converter_for
from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import ArraySamples
from vitedge.network.network import Network
from vitedge.quantize import Activations
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.report.results import Row
from vitedge.rewrite import apply_rewrites
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target

SIZE = 8


def small_vit() -> Network:
    """64 pixels, two blocks: enough for every operator of a Network."""
    return random_network(
        3,
        image_size=(64, 64),
        patch_size=(16, 16),
        dim=48,
        heads=3,
        head_dim=16,
        mlp_dim=96,
    )


def small_artifact(folder: Path, target: Format, precision: Precision) -> Path:
    """``small_vit`` as an artefact."""
    network = small_vit()
    rewritten, _ = apply_rewrites(network)
    converter = converter_for(target, precision)
    pixels = random_images(network, 16, seed=1)
    made = quantize(
        rewritten,
        precision,
        calibrate(rewritten, pixels),
        activations=Activations.STATIC if precision.all_integer else converter.activations,
        images=lambda: iter(pixels),
        groups=converter.groups,
    )
    path = folder / f"small.{precision}{target.suffix}"
    metadata = Metadata(
        format=target,
        precision=precision,
        labels=network.labels,
        preprocessing=network.preprocessing,
        source=Source("small.keras", "0" * 64, "by name: test"),
    )
    converter.convert(made.network, made.recipe).save(path, metadata)
    return path


def small_images(n: int = 6) -> ImageSet:
    """Images for ``small_vit``, with labels of no meaning."""
    network = small_vit()
    pixels = random_images(network, n, seed=7)
    return ImageSet("noise", ArraySamples(pixels, np.arange(n) % 10), network.labels)


def small_reference() -> ModelReference:
    """What ``small_vit`` computes in float32."""
    return reference_from_network(small_vit(), "small")


def bench_one(artifact: Path, target: str, *, timeout_seconds: float = 120) -> Row:
    """The row of one artefact on one target, without images."""
    options = BenchOptions(threads=1, runs=3, timeout_seconds=timeout_seconds)
    (row,) = run_bench([artifact], [Target.parse(target)], options=options).rows
    return row


def bench_small(artifact: Path, target: str) -> Row:
    """The row of an artefact of ``small_vit`` against its float32 logits."""
    (row,) = run_bench(
        [artifact],
        [Target.parse(target)],
        data=small_images(),
        reference=small_reference(),
        options=BenchOptions(threads=1, runs=3, timeout_seconds=120),
    ).rows
    return row


def save_tflite(path: Path, emit: Callable[[TFLiteModel, int], int]) -> Path:
    """Writes a graph on pixels ``(1, 8, 8, 3)`` that ``emit`` adds."""
    model = TFLiteModel()
    output = emit(model, model.input("pixels", (1, SIZE, SIZE, 3)))
    metadata = Metadata(
        format=Format.TFLITE,
        precision=Precision.FP32,
        labels=(),
        preprocessing=Preprocessing(size=(SIZE, SIZE)),
        source=Source("by hand", "0" * 64, "by hand"),
    )
    path.write_bytes(model.to_bytes({"logits": output}, "by hand", metadata))
    return path


def slice_that_drops_an_axis(model: TFLiteModel, pixels: int) -> int:
    """``x[:, 0]`` as TensorFlow writes it: GPU delegates refuse the mask."""
    rows = _reshape(model, pixels, (1, SIZE * SIZE, 3), "rows")
    bounds = [
        model.constant(f"bounds/{name}", np.asarray(values, np.int32))
        for name, values in {"begin": (0, 0), "end": (1, 1), "strides": (1, 1)}.items()
    ]
    return model.operator(
        "STRIDED_SLICE",
        [rows, *bounds],
        (1, 3),
        name="first_token",
        options={"table": "StridedSliceOptions", "beginMask": 1, "endMask": 1, "shrinkAxisMask": 2},
    )


def product_with_itself(model: TFLiteModel, pixels: int) -> int:
    """A BATCH_MATMUL with one tensor on both inputs: LiteRT's GPU accelerator aborts."""
    rows = _reshape(model, pixels, (1, SIZE * SIZE, 3), "rows")
    product = model.operator(
        "BATCH_MATMUL",
        [rows, rows],
        (1, SIZE * SIZE, SIZE * SIZE),
        name="gram",
        options={"table": "BatchMatMulOptions", "adjY": True},
    )
    return _reshape(model, product, (1, SIZE**4), "logits")


def _reshape(model: TFLiteModel, x: int, shape: tuple[int, ...], name: str) -> int:
    wanted = np.asarray(shape, np.int32)
    options = {"table": "ReshapeOptions", "newShape": wanted}
    return model.operator(
        "RESHAPE", [x, model.constant(f"{name}/shape", wanted)], shape, name=name, options=options
    )


def save_small_images(folder: Path, n: int = 6) -> Path:
    """``small_images`` as files in one folder, for the command line."""
    from PIL import Image

    folder.mkdir()
    for sample in small_images(n).samples:
        Image.fromarray(np.asarray(sample.image)).save(folder / f"{sample.name}.png")
    return folder
