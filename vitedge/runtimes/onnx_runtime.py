"""ONNX Runtime: CPU and CUDA."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.errors import ModelError, UnavailableError, first_line, missing_package
from vitedge.runtimes import Availability, Placement, Readiness
from vitedge.spec import Format

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_REMEDIES = {
    "cpu": "Run: pip install 'vitedge[onnx]'",
    "cuda": "On a machine with an NVIDIA GPU run: pip install onnxruntime-gpu",
}


@dataclass(frozen=True)
class OnnxRuntime:
    """The adapter to ``onnxruntime``."""

    name: str = "onnx"
    format: Format = Format.ONNX
    devices: tuple[str, ...] = tuple(_PROVIDERS)

    def availability(self, device: str) -> Availability:
        """See ``Runtime``."""
        try:
            import onnxruntime
        except ImportError as error:
            return Availability(Readiness.MISSING, str(error), _REMEDIES["cpu"])
        found = onnxruntime.get_available_providers()
        if _PROVIDERS[device] not in found:
            detail = f"onnxruntime {onnxruntime.__version__} has only {', '.join(found)}"
            return Availability(Readiness.MISSING, detail, _REMEDIES[device])
        return Availability(Readiness.READY, f"onnxruntime {onnxruntime.__version__}")

    def open(self, path: Path, device: str, *, threads: int | None = None) -> OnnxSession:
        """See ``Runtime``."""
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_package("onnxruntime", "onnx") from error
        state = self.availability(device)
        if state.readiness is Readiness.MISSING:
            raise UnavailableError(f"onnx-{device} cannot run here: {state.detail}", state.remedy)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if device != "cpu":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=[_PROVIDERS[device]]
            )
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelError(
                f"ONNX Runtime cannot load '{path}' on {device}: {first_line(error)}"
            ) from error
        return OnnxSession(session, path, _PROVIDERS[device])


class OnnxSession:
    """A model in ONNX Runtime; see ``Session``."""

    def __init__(self, session: Any, path: Path, provider: str) -> None:
        self._session, self._path, self._provider = session, path, provider
        (self._input,) = session.get_inputs()
        self._outputs = [session.get_outputs()[0].name]
        self._dtype = np.uint8 if "uint8" in self._input.type else np.float32
        shape = self._input.shape
        if len(shape) != 4 or not all(isinstance(size, int) for size in shape):
            raise ModelError(f"'{path}' takes {shape}; vitedge runs static (N, H, W, C) inputs")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """See ``Session``."""
        n, height, width, channels = self._input.shape
        return n, height, width, channels

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See ``Session``."""
        feeds = {self._input.name: np.ascontiguousarray(pixels, self._dtype)}
        try:
            (logits,) = self._session.run(self._outputs, feeds)
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise ModelError(
                f"ONNX Runtime failed on '{self._path}': {first_line(error)}"
            ) from error
        return np.asarray(logits, np.float32)

    def placement(self) -> Placement | None:
        """See ``Session``."""
        try:
            assigned = self._session.get_provider_graph_assignment_info()
        except (AttributeError, RuntimeError):  # before onnxruntime 1.24
            return None
        counts: Counter[str] = Counter()
        for part in assigned:
            counts[part.ep_name] += len(part.get_nodes())
        return Placement(counts[self._provider], counts.total())

    def close(self) -> None:
        """See ``Session``."""
        self._session = None


PLUGIN = OnnxRuntime()
