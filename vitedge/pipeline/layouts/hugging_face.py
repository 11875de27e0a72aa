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

from vitedge.artifacts.metadata import CHANNELS_FIRST_PIXELS, Metadata
from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.converters.onnx.converter import OnnxDraft
from vitedge.errors import UsageError
from vitedge.files.staging import write_whole
from vitedge.images.interpolation import Interpolation
from vitedge.images.label_names import names_for_people
from vitedge.images.preprocess import Preprocessing
from vitedge.network.summary import Summary
from vitedge.pipeline.layouts.model_card import model_card
from vitedge.rewrite.features import FEATURES
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision

_CARD, _CONFIG, _PREPROCESSOR = "README.md", "config.json", "preprocessor_config.json"

_POOLED = "pooler_output"

# Pillow's numbers of its filters.
_RESAMPLING = {
    Interpolation.NEAREST: 0,
    Interpolation.LANCZOS: 1,
    Interpolation.BILINEAR: 2,
    Interpolation.BICUBIC: 3,
}

_USE = """\
```js
import {{ pipeline }} from "@huggingface/transformers";

const classify = await pipeline("image-classification", "{folder}", {{ dtype: "{dtype}" }});
console.log(await classify("photo.jpg"));
```

```python
from optimum.onnxruntime import ORTModelForImageClassification
from transformers import AutoImageProcessor, pipeline

model = ORTModelForImageClassification.from_pretrained(
    "{folder}", subfolder="onnx", file_name="{file}"
)
processor = AutoImageProcessor.from_pretrained("{folder}")
classify = pipeline("image-classification", model=model, image_processor=processor)
print(classify("photo.jpg"))
```"""

# What transformers.js calls the file of each precision.
_DTYPES = {
    Precision.FP32: "fp32",
    Precision.FP16: "fp16",
    Precision.INT8: "q8",
    Precision.INT4: "q4",
}


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
                "transformers.js and Optimum send as many images as they are given, one as a rule, "
                f"and a file of batch {batch} takes no other number; leave out --batch"
            )

    def adapted(self, draft: Draft) -> Draft:
        """See ``FolderLayout``."""
        assert isinstance(draft, OnnxDraft)
        return OnnxDraft(with_client_names(draft.model))

    def describe(self, folder: Path, written: Sequence[Written], model: Summary | None) -> None:
        """See ``FolderLayout``."""
        metadata = written[0].metadata
        _write_json(folder / _CONFIG, config_of(metadata, _classes(written[0].path), model))
        _write_json(folder / _PREPROCESSOR, preprocessor_config(metadata.preprocessing))
        front_matter = {
            "library_name": "transformers.js",
            "pipeline_tag": "image-classification",
            "tags": ["vision", "image-classification", "onnx", "vitedge"],
        }
        usage = _USE.format(
            folder=folder.resolve().name,
            dtype=_DTYPES[metadata.precision],
            file=written[0].path.name,
        )
        write_whole(folder / _CARD, model_card(front_matter, folder, written, usage))


def with_client_names(model: Any) -> Any:
    """An ONNX model that reads ``pixel_values`` in NCHW, and calls features ``pooler_output``."""
    import onnx

    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    graph = renamed.graph
    (pixels,) = graph.input
    batch, height, width, channels = (each.dim_value for each in pixels.type.tensor_type.shape.dim)
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
    names = {FEATURES: _POOLED}
    for output in graph.output:
        output.name = names.get(output.name, output.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(each, each) for each in tensors]
    return renamed


def _classes(path: Path) -> int:
    """The number of logits that an artefact gives."""
    import onnx

    logits = onnx.load(path, load_external_data=False).graph.output[0]
    return int(logits.type.tensor_type.shape.dim[-1].dim_value)


def config_of(metadata: Metadata, classes: int, model: Summary | None) -> dict[str, Any]:
    """The content of ``config.json``.

    ``model_type`` is the class of these clients that runs the file. All of their classes for image
    classification run an ONNX file alike, and ``vit`` is the one whose sizes a transformer has.

    Args:
        metadata: The metadata of the artefacts.
        classes: The number of classes.
        model: The sizes of the network, or None.
    """
    labels = names_for_people(metadata.labels) or tuple(f"LABEL_{i}" for i in range(classes))
    height, width = metadata.preprocessing.size
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": height if height == width else [height, width],
        "num_channels": metadata.preprocessing.channels,
        "num_labels": classes,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    } | ({} if model is None else _sizes(model))


def _sizes(model: Summary) -> dict[str, Any]:
    """The sizes of a transformer; no client computes with them."""
    found: dict[str, Any] = {
        "hidden_size": model.dim,
        "num_hidden_layers": model.depth,
        "intermediate_size": model.mlp_dim,
    }
    if model.heads:
        found["num_attention_heads"] = model.heads[0]
    if model.patch_size is not None:
        found["patch_size"] = model.patch_size[0]
    return found


def preprocessor_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """The content of ``preprocessor_config.json``: resize and crop as ours, and raw pixels."""
    height, width = preprocessing.size
    size = {"height": height, "width": width}
    found: dict[str, Any] = {
        "do_resize": True,
        "resample": _RESAMPLING[preprocessing.interpolation],
        "do_rescale": False,
        "do_normalize": False,
        "do_convert_rgb": preprocessing.channels == 3,
    }
    if preprocessing.channels == 1:
        found["do_convert_grayscale"] = True
    if preprocessing.resize is None:
        return {"image_processor_type": "ViTImageProcessor", "size": size, **found}
    return {
        # The class of that library that resizes the shorter side.
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": preprocessing.resize},
        "do_center_crop": True,
        "crop_size": size,
        **found,
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(values, ensure_ascii=False, indent=2) + "\n")
