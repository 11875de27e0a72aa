"""OpenVINO drafts: its own frontends, and NNCF."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import Metadata
from vitedge.converters.generic.candidate import Alternative, CalibrationImages
from vitedge.converters.generic.model import GenericModel
from vitedge.converters.openvino.converter import describe
from vitedge.errors import ConversionError, first_line, missing_package
from vitedge.targets.precisions import Precision
from vitedge.terminal.silence import overheard


@dataclass(frozen=True)
class OpenVINODraft:
    """A converted model; see ``Draft``.

    Attributes:
        model: The network.
        half: Store weights in half; they are widened when the model is compiled.
    """

    model: Any
    half: bool

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        import openvino

        describe(self.model, metadata)
        try:
            openvino.save_model(self.model, path, compress_to_fp16=self.half)
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO cannot write '{path}': {error}") from error


def openvino_candidates(
    model: GenericModel, precision: Precision, batch: int, images: CalibrationImages
) -> Iterator[Alternative]:
    """The only draft.

    Raises:
        ConversionError: OpenVINO cannot express the model, or NNCF fails.
    """
    network = model.network.to_openvino(model.taken, batch)
    if precision is not Precision.INT8:
        half = precision is Precision.FP16
        words = {"weights": "float16"} if half else {}
        yield Alternative(OpenVINODraft(network, half), words, False, ("openvino",))
        return
    quantized = _quantized(network, model.attends, batch, images)
    words = {"convolutions and dense layers": "8-bit with calibrated ranges, by NNCF"}
    yield Alternative(OpenVINODraft(quantized, False), words, True, ("openvino", "nncf"))


def _quantized(network: Any, attends: bool, batch: int, images: CalibrationImages) -> Any:
    try:
        with redirect_stdout(io.StringIO()):  # it logs there, and so it does with its bars below
            import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
        )
    except ImportError as error:
        raise missing_package("nncf", "generic") from error
    # SmoothQuant's multiplications cost time, and its default strength costs ViTs accuracy: 14 dB
    # with it, 20 dB without, on DeiT-tiny.
    off = AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
    try:
        with overheard(), redirect_stdout(io.StringIO()):
            return nncf.quantize(
                network,
                nncf.Dataset(_Batches(images, batch)),
                subset_size=-(-len(images) // batch),
                model_type=nncf.ModelType.TRANSFORMER if attends else None,
                advanced_parameters=AdvancedQuantizationParameters(smooth_quant_alphas=off),
            )
    except Exception as error:  # NNCF raises whatever its parts do
        raise ConversionError(f"NNCF cannot quantize the model: {first_line(error)}") from error


@dataclass(frozen=True)
class _Batches:
    """Calibration batches as NNCF asks for them: from the start, several times."""

    images: CalibrationImages
    size: int

    def __iter__(self) -> Iterator[Any]:
        return self.images.batches(self.size)
