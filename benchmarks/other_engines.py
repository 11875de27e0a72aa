"""Other engines, one thread each: what makes them run an ONNX graph of float32 planes.

Each function takes the graph and a folder for what the engine's own converter writes, and gives a
function from planes ``(1, 3, H, W)`` to logits ``(1, classes)``. Engines are imported inside. The
folder has planes to calibrate on (``CALIBRATION``).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from engine_graph import INPUT, OUTPUT

CALIBRATION = "calibration.npy"

# ExecuTorch's export takes half a minute of a core, and as much again for its imports.
_EXPORT_SECONDS = 3600.0

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]


def _mnn(graph: Path, folder: Path, *, bits: int | None = None) -> Run:
    """MNN's converter and its module API; 8-bit weights compute in int8 with `memory: low`."""
    from MNN import expr, nn

    path = folder / f"mnn{bits or ''}.mnn"
    if not path.exists():
        words = ["-f", "ONNX", "--modelFile", str(graph), "--MNNModel", str(path), "--bizCode", "x"]
        words += [] if bits is None else ["--weightQuantBits", str(bits)]
        _call(str(Path(sys.executable).with_name("mnnconvert")), *words)
    config: dict[str, Any] = {"precision": "high", "backend": "CPU", "numThread": 1}
    if bits is not None:
        config["memory"] = "low"
    manager = nn.create_runtime_manager((config,))
    module = nn.load_module_from_file(str(path), [INPUT], [OUTPUT], runtime_manager=manager)

    def run(planes: Floats) -> Floats:
        given = expr.const(planes, list(planes.shape), expr.NCHW)
        return np.array(module.forward([given])[0].read())

    return run


def _ncnn(graph: Path, folder: Path) -> Run:
    """pnnx, ncnn's converter, of a ViT in torch, then ncnn without half precision."""
    import ncnn

    made = folder / "ncnn"
    if not (made / "planes.ncnn.param").exists():
        made.mkdir(exist_ok=True)
        own, side = made / "planes.pt", _side(graph)
        _write_trace(graph, side, own)
        _call(str(_pnnx()), str(own), "fp16=0", f"inputshape=[1,3,{side},{side}]")
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(made / "planes.ncnn.param"))
    net.load_model(str(made / "planes.ncnn.bin"))

    def run(planes: Floats) -> Floats:
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(planes[0]))
            code, found = extractor.extract("out0")
            if code:
                raise RuntimeError(f"ncnn's extractor gives {code}")
            return np.array(found, np.float32).reshape(1, -1)

    return run


def _write_trace(graph: Path, side: int, path: Path) -> None:
    """The ViT in TorchScript, where pnnx finds attention and linear layers.

    Of the ONNX graph, whose attention is products of its own, ncnn takes seven times as long.
    """
    import torch
    from torch_vit import vit_of

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # tracing is what pnnx reads
        torch.jit.trace(vit_of(graph, fused=True), torch.zeros(1, 3, side, side)).save(str(path))


def _pnnx() -> Path:
    """The program inside pnnx's package, whose Python half wants torch."""
    from importlib.util import find_spec

    spec = find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise ImportError("pnnx is not installed")
    return Path(spec.origin).with_name("pnnx")


def _tract(graph: Path, folder: Path) -> Run:
    """ONNX is what tract reads; it computes in one thread."""
    import tract

    model = tract.onnx().load(graph)
    side = _side(graph)
    model.set_input_fact(0, f"1,3,{side},{side},f32")
    runnable = model.into_model().into_runnable()
    return lambda planes: runnable.run([planes])[0].to_numpy()


def _executorch(graph: Path, folder: Path, *, int8: str = "") -> Run:
    """A ViT in torch, exported for XNNPACK; int8 is ``dynamic`` or ``static``."""
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    path = folder / f"executorch{int8}.pte"
    if not path.exists():
        program = str(Path(__file__).with_name("executorch_export.py"))
        words = [program, str(graph), str(path), *([f"--{int8}"] if int8 else [])]
        words += [str(folder / CALIBRATION)] if int8 == "static" else []
        said = _call(sys.executable, *words, seconds=_EXPORT_SECONDS)
        print(f"executorch {int8}: {said}", file=sys.stderr)
    # The package has no other way, and starts as many threads as there are cores.
    _unsafe_reset_threadpool(1)
    method = Runtime.get().load_program(str(path)).load_method("forward")
    return lambda planes: method.execute([torch.from_numpy(planes)])[0].numpy()


def _side(graph: Path) -> int:
    import onnx

    model = onnx.load(graph, load_external_data=False)
    return model.graph.input[0].type.tensor_type.shape.dim[2].dim_value


def _call(program: str, *words: str, seconds: float | None = None) -> str:
    """The last line that a converter prints; if it refuses, its own words say why."""
    command = [program, *words]
    with tempfile.TemporaryDirectory() as own:  # mnnconvert leaves a file where it runs
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, cwd=own
        )
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
    return (done.stdout.strip().splitlines() or [""])[-1]


ENGINES: dict[str, Callable[[Path, Path], Run]] = {
    "MNN fp32": _mnn,
    "MNN int8 weights, dynamic": lambda graph, folder: _mnn(graph, folder, bits=8),
    "ncnn fp32": _ncnn,
    "tract fp32": _tract,
    "ExecuTorch fp32": _executorch,
    "ExecuTorch int8, dynamic": lambda graph, folder: _executorch(graph, folder, int8="dynamic"),
    "ExecuTorch int8, static": lambda graph, folder: _executorch(graph, folder, int8="static"),
}
"""How to open each engine."""
