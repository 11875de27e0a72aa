"""A folder as transformers.js and Optimum load it: configs, and ONNX files under ``onnx/``.

These clients normalize and transpose images themselves, and call tensors by names of their own:
``pixel_values`` in NCHW, ``logits``, ``pooler_output``. The configs tell them to leave raw pixels
alone, as the network normalizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import CHANNELS_FIRST_PIXELS
from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.converters.onnx.any_batch import with_any_batch
from vitedge.converters.onnx.converter import OnnxDraft
from vitedge.errors import UsageError
from vitedge.files.staging import write_whole
from vitedge.images.preprocess import Preprocessing
from vitedge.network.summary import Summary
from vitedge.network.tasks import Task
from vitedge.pipeline.layouts.hugging_face_configs import (
    client_of,
    config_of,
    preprocessor_config,
    usage,
)
from vitedge.pipeline.layouts.model_card import front_matter, model_card
from vitedge.rewrite.features import FEATURES
from vitedge.rewrite.further_outputs import EMBEDDING, TOKENS
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

_CARD, _CONFIG, _PREPROCESSOR = "README.md", "config.json", "preprocessor_config.json"

POOLED, STATES, EMBEDS = "pooler_output", "last_hidden_state", "image_embeds"
LOGITS, DEPTH = "logits", "predicted_depth"


@dataclass(frozen=True)
class HuggingFace:
    """See ``FolderLayout``."""

    name: Layout = Layout.HUGGING_FACE
    format: Format = Format.ONNX
    files: Mapping[Precision, str] = field(
        default_factory=lambda: {
            Precision.FP32: "onnx/model.onnx",
            Precision.FP16: "onnx/model_fp16.onnx",
            Precision.INT8: "onnx/model_quantized.onnx",
            Precision.INT4: "onnx/model_q4.onnx",
        }
    )
    beside: tuple[str, ...] = (_CARD, _CONFIG, _PREPROCESSOR)

    def demand_fit(self, *, probabilities: bool, batch: int) -> None:
        """See ``FolderLayout``."""
        if probabilities:
            raise UsageError(
                "transformers.js and Optimum make probabilities of logits themselves; leave out "
                "--probabilities"
            )
        if batch != 1:
            raise UsageError(
                f"the files of --layout {self.name} take as many images at a time as they are "
                "given; leave out --batch"
            )

    def demand_model(
        self,
        task: Task,
        shape: Sequence[int],
        labels: Sequence[str],
        preprocessing: Preprocessing,
    ) -> None:
        """See ``FolderLayout``."""
        if task not in (Task.CLASSES, Task.EMBEDDING, Task.MAP):
            raise UsageError(
                f"transformers.js and Optimum take a softmax of what names classes, and the model "
                f"gives {task.words}; leave out --layout"
            )
        if task is Task.MAP and len(shape) == 3 and not labels:
            raise UsageError(
                f"the model gives {shape[-1]} numbers for each place, and its clients want to know "
                "the class of each; give --labels, or leave out --layout"
            )
        if task is Task.MAP and preprocessing.resize is not None:
            raise UsageError(
                "transformers.js lays a map over the whole picture, and the model sees the middle "
                "of it; give --resize 0, or leave out --layout"
            )

    def adapted(self, draft: Draft) -> Draft:
        """See ``FolderLayout``."""
        assert isinstance(draft, OnnxDraft)
        named = with_client_names(draft.model)
        return OnnxDraft(with_any_batch(named) if draft.batch_leads else named)

    def describe(self, folder: Path, written: Sequence[Written], model: Summary | None) -> None:
        """See ``FolderLayout``."""
        metadata = written[0].metadata
        client = client_of(metadata)
        config = config_of(metadata, _channels(written[0].path), model)
        _write_json(folder / _CONFIG, config)
        _write_json(folder / _PREPROCESSOR, preprocessor_config(metadata))
        matter = front_matter("transformers.js", "onnx", metadata)
        use = usage(client, folder.resolve().name, written[0])
        write_whole(folder / _CARD, model_card(matter, folder, written, use))


def with_client_names(model: Any) -> Any:
    """An ONNX model that reads ``pixel_values`` in NCHW, and whose outputs have clients' names."""
    import onnx

    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    graph = renamed.graph
    (pixels,) = graph.input
    batch, height, width, channels = _sizes(pixels)
    taken = onnx.helper.make_tensor_value_info(
        CHANNELS_FIRST_PIXELS,
        pixels.type.tensor_type.elem_type,
        (batch, channels, height, width),
    )
    transposed = onnx.helper.make_node(
        "Transpose", [taken.name], [pixels.name], f"{pixels.name}/channels_last", perm=(0, 2, 3, 1)
    )
    graph.input[0].CopyFrom(taken)
    graph.node.insert(0, transposed)
    names = _client_names([(output.name, len(_sizes(output))) for output in graph.output])
    if names.get(graph.output[0].name) == LOGITS:
        _turn_map(graph)
    for output in graph.output:
        output.name = names.get(output.name, output.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(each, each) for each in tensors]
    return renamed


def _client_names(outputs: Sequence[tuple[str, int]]) -> dict[str, str]:
    """The clients' names of outputs, by ours; the first output is the main one.

    Args:
        outputs: The name of each output, and the number of its axes with the batch.
    """
    (main, axes), *others = outputs
    further = {FEATURES: POOLED, EMBEDDING: POOLED, TOKENS: STATES}
    found = {name: further.get(name, name) for name, _ in others}
    if main == Task.EMBEDDING.output:
        # A pipeline gives the states where there are some, and the pooled output where asked for.
        vector = POOLED if TOKENS in found else EMBEDS
        found[main] = vector if axes == 2 else STATES
    elif main == Task.MAP.output:
        found[main] = DEPTH if axes == 3 else LOGITS
    return found


def _turn_map(graph: Any) -> None:
    """Gives the main output, a map of classes, its channels first."""
    import onnx

    output = graph.output[0]
    last, inner = output.name, f"{output.name}/channels_last"
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [inner if each == last else each for each in tensors]
    turned = onnx.helper.make_node(
        "Transpose", [inner], [last], f"{last}/channels_first", perm=(0, 3, 1, 2)
    )
    graph.node.append(turned)
    batch, height, width, channels = _sizes(output)
    element = output.type.tensor_type.elem_type
    shape = (batch, channels, height, width)
    output.CopyFrom(onnx.helper.make_tensor_value_info(last, element, shape))


def _sizes(value: Any) -> list[int]:
    return [int(each.dim_value) for each in value.type.tensor_type.shape.dim]


def _channels(path: Path) -> int:
    """The number of channels that the main output of an artefact has: the classes of logits."""
    import onnx

    return _sizes(onnx.load(path, load_external_data=False).graph.output[0])[1]


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(values, ensure_ascii=False, indent=2) + "\n")
