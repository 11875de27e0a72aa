"""What ``arm64_instructions.py`` runs under emulation: ``arm64_program.py FILE SIDE RUNS``.

It needs NumPy and the one engine that takes the file, on one thread.
"""

import sys
from pathlib import Path

import numpy as np

INPUT, OUTPUT = "planes", "logits"  # of other engines' graphs; see engine_graph


def opened(path: Path, side: int):  # noqa: ANN201
    """A function that runs the file once."""
    pixels = np.full((1, side, side, 3), 128, np.float32)
    planes = np.full((1, 3, side, side), 0.5, np.float32)
    match path.suffix:
        case ".tflite":
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
            return interpreter.invoke
        case ".onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            session = onnxruntime.InferenceSession(str(path), options)
            return lambda: session.run(None, {session.get_inputs()[0].name: pixels})
        case ".mnn":
            from MNN import expr, nn

            config = {"precision": "high", "backend": "CPU", "numThread": 1}
            if path.stem != "mnn":
                config["memory"] = "low"
            manager = nn.create_runtime_manager((config,))
            module = nn.load_module_from_file(str(path), [INPUT], [OUTPUT], runtime_manager=manager)
            given = expr.const(planes, list(planes.shape), expr.NCHW)
            return lambda: np.array(module.forward([given])[0].read())
        case ".param":
            return ncnn_run(path, planes)
    raise SystemExit(f"no engine for {path}")


def ncnn_run(path: Path, planes: np.ndarray):  # noqa: ANN201
    """Opens ncnn without half precision, as ``other_engines`` does."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))

    def run() -> None:
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(planes[0]))
            code, _ = extractor.extract("out0")
            if code:
                raise RuntimeError(f"ncnn's extractor gives {code}")

    return run


if __name__ == "__main__":
    run = opened(Path(sys.argv[1]), int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        run()
