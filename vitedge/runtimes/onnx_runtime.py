"""ONNX Runtime and its execution providers: see ``_onnx_providers`` for the targets.

A device other than the CPU gets the whole graph or an error: ONNX Runtime would otherwise run on
the CPU what the device refuses, and retry there what fails, while it goes on to name the device.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.integer_values import dequantize_output
from vitedge.artifacts.metadata import (
    CHANNELS_FIRST_PIXELS,
    LOGITS_SCALE_KEY,
    LOGITS_ZERO_POINT_KEY,
    files_of,
    read_metadata,
)
from vitedge.errors import (
    ModelError,
    PlacementError,
    UnavailableError,
    first_line,
    load_remedy,
    missing_package,
)
from vitedge.files.weights_digest import unreplaced
from vitedge.machine.processor import has_exact_products, processor_flags
from vitedge.runtimes import Availability, Placement, Readiness, no_features, only_input
from vitedge.runtimes._onnx_placement import assigned_nodes, placement_on
from vitedge.runtimes._onnx_providers import PROVIDERS
from vitedge.runtimes._qnn import SOC_MODELS, compile_context
from vitedge.targets.fits import Fit
from vitedge.targets.formats import Format
from vitedge.terminal.silence import quiet, stdout_on_stderr

# Where products with 4-bit weights are faster on float inputs than on inputs that are quantized to
# 8 bits when they run, which is ONNX Runtime's own choice: made for one token, not for two hundred.
# Measured on one processor with VNNI (docs/decisions/0026), which is what favours integers most.
_FASTER_IN_FLOAT = ("x86_64", "AMD64")

_REFUSED_FALLBACK = "fallback to CPU EP has been explicitly disabled"


@dataclass(frozen=True)
class OnnxRuntime:
    """The adapter to ``onnxruntime``."""

    name: str = "onnx"
    format: Format = Format.ONNX
    devices: tuple[str, ...] = tuple(PROVIDERS)

    def fit(self, device: str) -> Fit | None:
        """See ``SaysWhatFits``."""
        return PROVIDERS[device].fit

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        try:
            import onnxruntime
        except ImportError as error:
            remedy = load_remedy(str(error), PROVIDERS["cpu"].remedy)
            return Availability(Readiness.MISSING, first_line(error), remedy)
        return PROVIDERS[device].availability(onnxruntime)

    def open(self, path: Path, device: str, *, threads: int | None = None) -> OnnxSession:
        """See ``Runtime``."""
        self._demand(device)
        start = partial(_start, path, device, threads)
        files = files_of(path)
        with unreplaced(files):
            if len(files) > 1:
                read_metadata(path)  # refuses weights that are not its own
            try:
                session = start()
            except Exception as error:  # onnxruntime's errors share no base of their own
                raise _refusal(path, device, start, error) from error
        return OnnxSession(session, path, device, start)

    def compiled_forms(self, device: str) -> tuple[str, ...]:
        """See ``AheadOfTime``."""
        return tuple(SOC_MODELS) if device == "qnn" else ()

    def compiler(self, device: str) -> Availability:
        """See ``AheadOfTime``."""
        return self.availability(device)

    def compile(self, path: Path, device: str, form: str, output: Path) -> None:
        """See ``AheadOfTime``."""
        onnxruntime = self._demand(device)
        try:
            with quiet(), stdout_on_stderr():
                compile_context(onnxruntime, path, form, output)
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise _refusal(path, device, partial(_start, path, device, None), error) from error

    def _demand(self, device: str) -> Any:
        """The engine, on which the device can be used."""
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_package("onnxruntime", "onnx") from error
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(f"onnx-{device} cannot run here: {state.detail}", state.remedy)
        return onnxruntime


def multiply_exactly(options: Any) -> None:
    """Makes a session on the CPU compute integer products without saturation.

    On x86 without VNNI the product of uint8 and int8 saturates in 16 bits: DeiT-tiny's int8 file
    then has 10 dB in place of 27. With this option the product is exact, and takes 1.1 of the time.
    With VNNI the product is exact without it; with AMX the option also makes products take several
    times as long (docs/decisions/0051), so it is set only where VNNI is not known to be there.
    Arm has no such option.
    """
    if not has_exact_products(processor_flags()):
        options.add_session_config_entry("session.x64quantprecision", "1")


def _start(
    path: Path, device: str, threads: int | None, *, strict: bool = True, profile: str = ""
) -> Any:
    """An ``InferenceSession``.

    Args:
        path: The artefact.
        device: A key of ``PROVIDERS``.
        threads: CPU threads, or None.
        strict: Nodes that the device cannot run are an error.
        profile: Begin of the name of a trace file to write, or empty.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4 if strict else 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if device != "cpu" and strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if device == "cpu":
        multiply_exactly(options)
    if device == "cpu" and platform.machine() in _FASTER_IN_FLOAT:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    with quiet(), stdout_on_stderr():
        providers = PROVIDERS[device].add_to(options, onnxruntime)
        # enable_fallback=0: a run that fails on the device is not repeated on the CPU.
        return onnxruntime.InferenceSession(
            str(path), options, providers=providers or None, enable_fallback=0
        )


def _refusal(path: Path, device: str, start: Callable[..., Any], error: Exception) -> Exception:
    """Names the nodes that a device cannot run: ONNX Runtime says only that there are some."""
    refused = ModelError(f"ONNX Runtime cannot load '{path}' on {device}: {first_line(error)}")
    if _REFUSED_FALLBACK not in str(error):
        return refused
    try:
        assigned = assigned_nodes(start(strict=False))
    except Exception:  # the first error says more than whatever failed now
        return refused
    left = [node for provider, node in assigned if provider != PROVIDERS[device].name]
    if not left:
        return refused
    names = ", ".join(f"{node.op_type} '{node.name}'" for node in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    count = f"{len(left)} node{'s' if len(left) > 1 else ''}"
    return PlacementError(f"{count} of '{path}' cannot run on {device}: {names}{more}")


class OnnxSession:
    """A model in ONNX Runtime; see ``Session``."""

    def __init__(self, session: Any, path: Path, device: str, start: Callable[..., Any]) -> None:
        self._session, self._path, self._device, self._start = session, path, device, start
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self._input = only_input(path, inputs, outputs)
        try:
            self._outputs = [outputs[0].name]
            self._is_channels_first = self._input.name == CHANNELS_FIRST_PIXELS
            described = session.get_modelmeta().custom_metadata_map
            self._scale = float(described.get(LOGITS_SCALE_KEY, 1.0))
            self._zero_point = int(described.get(LOGITS_ZERO_POINT_KEY, 0))
        except (ValueError, OverflowError) as error:  # names that are not UTF-8, too
            raise ModelError(f"'{path}' is damaged: {first_line(error)}") from error
        self._dtype = np.uint8 if "uint8" in self._input.type else np.float32
        shape = self._input.shape
        if self._is_channels_first and len(shape) == 4 and isinstance(shape[0], str):
            shape = [1, *shape[1:]]  # it takes any number of images; vitedge gives it one
        if len(shape) != 4 or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ModelError(f"'{path}' takes {shape}; vitedge runs static (N, H, W, C) inputs")
        self._shape = tuple(shape)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = self._shape
        if self._is_channels_first:
            n, channels, height, width = self._shape
        return n, height, width, channels

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        return self._run(self._session, pixels)

    def _run(self, session: Any, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        try:
            (logits,) = session.run(self._outputs, self._feeds(pixels))
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelError(
                f"ONNX Runtime failed on '{self._path}': {first_line(error)}"
            ) from error
        if self._is_channels_first and logits.ndim == 4:  # a map of classes
            logits = logits.transpose(0, 2, 3, 1)
        return dequantize_output(logits, self._scale, self._zero_point)

    def _feeds(self, pixels: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        laid = pixels.transpose(0, 3, 1, 2) if self._is_channels_first else pixels
        return {self._input.name: np.ascontiguousarray(laid, self._dtype)}

    def features(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``FeatureSession``."""
        names = [output.name for output in self._session.get_outputs()]
        if len(names) < 2:
            raise no_features(self._path)
        return self._further(names[1], pixels)

    def _further(self, name: str, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        try:
            (made,) = self._session.run([name], self._feeds(pixels))
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelError(
                f"ONNX Runtime failed on '{self._path}': {first_line(error)}"
            ) from error
        return np.asarray(made, np.float32)

    @property
    def outputs(self) -> tuple[str, ...]:
        """See ``NamedSession``."""
        return tuple(str(output.name) for output in self._session.get_outputs())

    def output(self, name: str, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``NamedSession``."""
        return self._further(name, pixels)

    def placement(self) -> Placement | None:
        """See ``Session``."""
        pixels = np.zeros(self.input_shape, np.uint8)
        return placement_on(
            PROVIDERS[self._device].name,
            self._session,
            self._start,
            lambda session: self._run(session, pixels),
        )

    def close(self) -> None:
        """See ``Session``."""
        self._session = None


PLUGIN = OnnxRuntime()
