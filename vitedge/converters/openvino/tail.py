"""Puts the source's own last nodes behind a converted trunk, in one OpenVINO file.

OpenVINO's own ONNX frontend reads the tail. The trunk's outputs remain outputs of the file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vitedge.converters.converter import Draft
from vitedge.converters.openvino.converter import OpenVINODraft
from vitedge.converters.openvino.emitter import GROUP_SIZE
from vitedge.converters.source_tail import Joint, Tail, tail_behind
from vitedge.errors import ConversionError, first_line


def with_tail(draft: Draft, tail: Tail) -> OpenVINODraft:
    """Appends the source's nodes to an artefact's outputs.

    Args:
        draft: The artefact of the trunk; it is left unchanged.
        tail: The nodes to append.

    Raises:
        ConversionError: The tail also reads the image directly, or OpenVINO lacks one of its
            operators.
    """
    import openvino

    assert isinstance(draft, OpenVINODraft)
    trunk = draft.model.clone()
    (pixels,) = trunk.get_parameters()
    behind, joints = tail_behind(tail, int(pixels.shape[0]))
    try:
        read = openvino.Core().read_model(behind.SerializeToString())
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO cannot read the tail: {first_line(error)}") from error
    made = {name: each for each in trunk.outputs for name in each.names}
    taken = {name for each in read.outputs for name in each.names} & set(made)
    if taken:
        raise ConversionError(
            f"the tail's output '{min(taken)}' is also the name of a trunk's tensor"
        )
    given = {name: each for each in read.get_parameters() for name in each.output(0).names}
    for joint in joints:
        result = made[joint.output].node
        joined = _joined(result.input_value(0), joint)
        for reader in given[joint.tensor].output(0).get_target_inputs():
            reader.replace_source_output(joined)
    results = [*trunk.get_results(), *read.get_results()]
    model = openvino.Model(results, [pixels], trunk.get_friendly_name())
    if trunk.has_rt_info(GROUP_SIZE):
        model.set_rt_info(trunk.get_rt_info(GROUP_SIZE).astype(str), GROUP_SIZE)
    return OpenVINODraft(model)


def _joined(made: Any, joint: Joint) -> Any:
    """The output of the trunk in the shape and layout that the tail reads."""
    from openvino import opset13

    joint.demand(math.prod(made.shape))
    if joint.is_turned:
        return opset13.transpose(made, np.asarray([0, 3, 1, 2])).output(0)
    shape = np.asarray(joint.shape, np.int64)
    return opset13.reshape(made, shape, special_zero=False).output(0)
