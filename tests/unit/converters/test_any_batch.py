"""A graph of one image computes the same of each of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.contract.test_converters import quantized
from tests.support.merged_networks import grouped_tokens, merged_tokens
from tests.support.models import random_images
from tests.support.random_networks import assembled_network
from vitedge.converters.onnx.any_batch import with_any_batch
from vitedge.converters.tools import converter_for
from vitedge.network.network import Network
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

NETWORKS = {f"random {seed}": assembled_network(seed) for seed in range(12)} | {
    "merged tokens": merged_tokens(),
    "the same tokens merged": grouped_tokens(),
}


def outputs(model: Any, pixels: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"pixels": pixels.astype(np.float32)})


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_each_image_of_a_batch_gets_what_it_gets_alone(network: Network) -> None:
    pixels = random_images(network, 3)
    for precision in (Precision.FP32, Precision.INT8):
        converter = converter_for(Format.ONNX, precision)
        made = quantized(network, converter, precision)
        model = converter.convert(made.network, made.recipe).model
        before = model.SerializeToString()
        widened = with_any_batch(model)
        assert model.SerializeToString() == before
        onnx.checker.check_model(widened, full_check=True)
        # Integers of int8 files are fitted to all images of a batch together.
        given = pixels if precision is Precision.FP32 else np.repeat(pixels[:1], 3, axis=0)
        alone = [outputs(model, each[None]) for each in given]
        for found, *each in zip(outputs(widened, given), *alone, strict=True):
            # Products of more rows are summed in another order.
            np.testing.assert_allclose(found, np.concatenate(each), rtol=1e-4, atol=1e-4)
