"""What the formats' own quantizers make of a model: the artefacts to beat."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from reference.zoo.family import STOCK_TFLITE_FILE
from vitedge.artifacts.metadata import Metadata, Source
from vitedge.converters.generic.candidate import CalibrationImages
from vitedge.converters.generic.model import open_generic
from vitedge.converters.tools import tools_of
from vitedge.errors import ConversionError
from vitedge.images.synthetic import synthetic_images
from vitedge.importers import ImportOptions
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.terminal.progress import silent

LITERT_TORCH = "litert-torch"
"""The stock road from torch to TFLite, as results name it."""


def stock_artifacts(
    source: Path,
    options: ImportOptions,
    target: Format,
    ours: Path | None,
    folder: Path,
    images: int,
) -> Iterator[tuple[Path, str]]:
    """The format's stock int8 artefacts of a graph, and how each was made, in words.

    The generic path has the stock quantizers of each format. It makes no TFLite of ONNX, because no
    converter does: there the stock quantizer gets the file that litert-torch made of the torch
    model, or our float32 artefact where there is none.

    Args:
        source: ONNX or Keras.
        options: What is said of it.
        target: The format.
        ours: Our float32 artefact of the format, or None.
        folder: Where the artefacts go.
        images: How many synthetic ones ranges are measured on.

    Raises:
        ConversionError: No tool makes one.
    """
    if target is Format.TFLITE and source.suffix == Format.ONNX.suffix:
        folder.mkdir(parents=True, exist_ok=True)
        converted = source.parent / STOCK_TFLITE_FILE
        if converted.exists():
            yield _quantized_tflite(converted, folder / "stock.tflite"), LITERT_TORCH
        elif ours is not None:
            yield _quantized_tflite(ours, folder / "quantizer.tflite"), "quantizer on our graph"
        else:
            raise ConversionError("there is no float32 TFLite artefact to quantize")
        return
    model = open_generic(source, options)
    shown = synthetic_images(model.preprocessing, images, seed=0)
    calibration = CalibrationImages(shown, "synthetic", model.preprocessing, silent)
    draft = tools_of(target).generic
    assert draft is not None
    metadata = Metadata(
        format=target,
        precision=Precision.INT8,
        labels=model.labels,
        preprocessing=model.preprocessing,
        source=Source(source.name, "", "generic: stock"),
        quantization={},
        calibration=None,
        versions={},
        parameters=model.network.parameters,
        task=model.task,
    )
    for number, made in enumerate(draft(model, Precision.INT8, 1, calibration)):
        place = folder / f"{number}"  # weights lie beside some artefacts under a fixed name
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"stock{target.suffix}"
        made.draft.save(path, metadata)
        yield path, next(iter(made.description.values()), "stock")


def _quantized_tflite(ours: Path, path: Path) -> Path:
    from ai_edge_quantizer import quantizer, recipe

    with contextlib.redirect_stdout(sys.stderr):  # it tells of itself
        work = quantizer.Quantizer(str(ours))
        work.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        work.quantize().export_model(str(path), overwrite=True)
    return path
