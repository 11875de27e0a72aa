"""ONNX Runtime's sessions as vitedge starts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vitedge.runtimes.onnx_runtime import _start


def test_products_of_large_integers_do_not_saturate_on_any_processor(tmp_path: Path) -> None:
    # 2 x 255 x 127 is beyond 16 bits, in which x86 without VNNI adds two products by default.
    size = 64
    weight = numpy_helper.from_array(np.full((size, size), 127, np.int8), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, size))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (1, size))],
        [weight],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    path = tmp_path / "product.onnx"
    onnx.save(model, path)
    (found,) = _start(path, "cpu", 1).run(None, {"x": np.full((1, size), 255, np.uint8)})
    assert (found == size * 255 * 127).all()
