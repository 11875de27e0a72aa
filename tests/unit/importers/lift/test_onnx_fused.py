"""Fused operators of ONNX are written out as ONNX Runtime computes them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitedge.importers.lift.onnx_fused import write_out

RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


MICROSOFT = "com.microsoft"
X = array(2, 5, 8)
CASES = {
    "attention": (MICROSOFT, "Attention", [X, array(8, 24), array(24)], {"num_heads": 2}),
    "attention of its own scale": (
        MICROSOFT,
        "Attention",
        [X, array(8, 24), array(24)],
        {"num_heads": 2, "scale": 0.3},
    ),
    "multi-head": (MICROSOFT, "MultiHeadAttention", [X, X + 1, X - 1], {"num_heads": 4}),
    "multi-head with bias": (
        MICROSOFT,
        "MultiHeadAttention",
        [X, X + 1, X - 1, array(24)],
        {"num_heads": 2},
    ),
    "opset 23, three axes": ("", "Attention", [X, X + 1, X], {"q_num_heads": 2, "kv_num_heads": 2}),
    "multi-head with a bias of the scores": (
        MICROSOFT,
        "MultiHeadAttention",
        [X, X + 1, X - 1, array(24), None, array(1, 2, 5, 5)],
        {"num_heads": 2},
    ),
    "attention with a bias of the scores": (
        MICROSOFT,
        "Attention",
        [X, array(8, 24), array(24), None, None, array(2, 2, 5, 5)],
        {"num_heads": 2},
    ),
    "opset 23, bias of every head": (
        "",
        "Attention",
        [X, X + 1, X, array(2, 5, 5)],
        {"q_num_heads": 2, "kv_num_heads": 2},
    ),
    "opset 23, mask": (
        "",
        "Attention",
        [X, X + 1, X, np.tri(5, dtype=bool)],
        {"q_num_heads": 2, "kv_num_heads": 2},
    ),
    "opset 23, four axes": (
        "",
        "Attention",
        [array(2, 3, 5, 4), array(2, 3, 5, 4), array(2, 3, 5, 4)],
        {"scale": 0.7},
    ),
    "product": (MICROSOFT, "FusedMatMul", [X, array(2, 8, 3)], {"alpha": 0.5}),
    "product of transposed": (
        MICROSOFT,
        "FusedMatMul",
        [array(2, 8, 5), array(2, 3, 8)],
        {"transA": 1, "transB": 1},
    ),
    "product of batches": (
        MICROSOFT,
        "FusedMatMul",
        [array(5, 2, 3, 8), array(2, 3, 8, 4)],
        {"transBatchA": 1},
    ),
    "layer and activation": (
        MICROSOFT,
        "FusedGemm",
        [array(2, 8), array(3, 8), array(3)],
        {"transB": 1, "activation": "Relu"},
    ),
    "convolution and activation": (
        MICROSOFT,
        "FusedConv",
        [array(1, 3, 8, 8), array(4, 3, 2, 2), array(4)],
        {"strides": [2, 2], "activation": "Relu"},
    ),
    "gelu": (MICROSOFT, "Gelu", [X], {}),
    "gelu of a sum": (MICROSOFT, "BiasGelu", [X, array(8)], {}),
    "fast gelu": (MICROSOFT, "FastGelu", [X, array(8)], {}),
    "quick gelu": (MICROSOFT, "QuickGelu", [X], {"alpha": 1.5}),
    "skip norm": (
        MICROSOFT,
        "SkipLayerNormalization",
        [X, X * 2, array(8), array(8), array(8)],
        {},
    ),
    "skip rms norm": (MICROSOFT, "SkipSimplifiedLayerNormalization", [X, X * 2, array(8)], {}),
}


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x0": image})[0])


@pytest.mark.parametrize("name", CASES)
def test_an_operator_that_is_written_out_computes_the_same(name: str) -> None:
    domain, kind, inputs, attributes = CASES[name]
    names = [f"x{index}" if each is not None else "" for index, each in enumerate(inputs)]
    outputs = ["y", "", "", "sum"] if kind.startswith("Skip") else ["y"]
    nodes = [helper.make_node(kind, names, outputs, domain=domain, **attributes)]
    if len(outputs) > 1:
        nodes.append(helper.make_node("Add", ["y", "sum"], ["z"]))
    image = helper.make_tensor_value_info("x0", TensorProto.FLOAT, inputs[0].shape)
    weights = [
        numpy_helper.from_array(each, f"x{n}")
        for n, each in enumerate(inputs)
        if n and each is not None
    ]
    graph = helper.make_graph(nodes, "g", [image], [onnx.ValueInfoProto(name=nodes[-1].output[0])])
    graph.initializer.extend(weights)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    expected = run(model, inputs[0])
    assert write_out(model)
    assert not any(node.op_type == kind and node.domain == domain for node in model.graph.node)
    np.testing.assert_allclose(run(model, inputs[0]), expected, rtol=1e-4, atol=1e-5)


def test_an_attention_that_says_more_than_the_rule_knows_is_left_alone() -> None:
    attributes = {"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1}
    node = helper.make_node("Attention", ["x0", "x0", "x0"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph)
    assert not write_out(model)
    assert [each.op_type for each in model.graph.node] == ["Attention"]
