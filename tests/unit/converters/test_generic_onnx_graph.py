"""What is mended in ONNX graphs, against NumPy and ONNX Runtime."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitedge.converters.generic.onnx_graph import mended, with_half_weights
from vitedge.errors import ConversionError

FLOAT = TensorProto.FLOAT


def model_of(nodes, inputs, constants=None) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, x.shape) for name, x in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, inputs) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("constant", [False, True], ids=["two tensors", "a weight"])
@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("abc,cde->abde", (2, 3, 4), (4, 5, 6)),
        ("abcd,cde->abe", (2, 3, 4, 5), (4, 5, 6)),
        ("aecd,abcd->acbe", (2, 3, 4, 5), (2, 6, 4, 5)),
        ("acbe,aecd->abcd", (2, 3, 4, 5), (2, 5, 3, 6)),
        ("ab,bc->ca", (2, 3), (3, 4)),
        ("ab,cd->abcd", (2, 3), (4, 5)),
        ("abc,c->ab", (2, 3, 4), (4,)),
        ("abc,bcd->abd", (2, 3, 4), (3, 4, 5)),
    ],
)
def test_an_einsum_becomes_a_matrix_product(equation, left, right, constant) -> None:
    inputs = {"a": random(*left), "b": random(*right)}
    wanted = np.einsum(equation, *inputs.values())
    constants = {"b": inputs.pop("b")} if constant else {}
    node = helper.make_node("Einsum", ["a", "b"], ["y"], "einsum", equation=equation)
    model = mended(model_of([node], inputs, constants))
    operators = {node.op_type for node in model.graph.node}
    assert operators <= {"MatMul", "Reshape", "Transpose"}
    assert sum(node.op_type == "MatMul" for node in model.graph.node) == 1
    # Float32 sums of some twenty products, in another order.
    np.testing.assert_allclose(run(model, inputs), wanted, atol=1e-5)


@pytest.mark.parametrize("equation", ["ii,ij->ij", "ab,bc->c", "...ab,bc->...ac"])
def test_what_one_product_cannot_compute_stays_an_einsum(equation) -> None:
    inputs = {"a": random(3, 3), "b": random(3, 3)}
    node = helper.make_node("Einsum", ["a", "b"], ["y"], "einsum", equation=equation)
    model = mended(model_of([node], inputs))
    assert [node.op_type for node in model.graph.node] == ["Einsum"]
    np.testing.assert_allclose(run(model, inputs), np.einsum(equation, *inputs.values()), atol=1e-5)


def test_erfc_which_onnx_lacks_is_spelled_out() -> None:
    inputs = {"x": np.linspace(-6, 6, 101, dtype=np.float32)}
    model = mended(model_of([helper.make_node("Erfc", ["x"], ["y"], "erfc")], inputs))
    wanted = [math.erfc(x) for x in inputs["x"]]
    np.testing.assert_allclose(run(model, inputs), wanted, atol=1e-6)


def test_an_operator_that_onnx_lacks_is_named_with_its_node() -> None:
    inputs = {"x": random(3)}
    with pytest.raises(ConversionError, match=r"no operator Bessel \(node 'layer/bessel'\)"):
        mended(model_of([helper.make_node("Bessel", ["x"], ["y"], "layer/bessel")], inputs))


def test_nodes_and_constants_that_nothing_needs_are_dropped() -> None:
    inputs = {"x": random(3)}
    nodes = [
        helper.make_node("Add", ["x", "used"], ["y"]),
        helper.make_node("Mul", ["x", "unused"], ["z"]),
    ]
    model = mended(model_of(nodes, inputs, {"used": random(3), "unused": random(3)}))
    assert [node.op_type for node in model.graph.node] == ["Add"]
    assert [item.name for item in model.graph.initializer] == ["used"]


def test_large_weights_are_stored_in_half_and_what_half_cannot_hold_is_not() -> None:
    inputs = {"x": random(8, 16)}
    huge = np.full((16, 16), 1e6, np.float32)
    constants = {"w": random(16, 16), "scale": np.asarray(0.5, np.float32), "huge": huge}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("MatMul", ["b", "huge"], ["y"]),
    ]
    model = model_of(nodes, inputs, constants)
    half = with_half_weights(model)
    types = {item.name: item.data_type for item in half.graph.initializer}
    assert types == {"w half": TensorProto.FLOAT16, "scale": FLOAT, "huge": FLOAT}
    wanted = run(model, inputs)
    # Half has 11 bits.
    assert np.abs(run(half, inputs) - wanted).max() <= 2**-10 * np.ptp(wanted)
